"""What a forecast says of 6.1's scan counter."""

from handmade import machine, pageblocks_of
from movable.mm.kinds import PageKind
from movable.predict.forecast import predict

PAGES = [(PageKind.ANON, 100)]


def doubts_of(rules: str) -> dict[str, str]:
    forecast = predict(machine(pageblocks_of(PAGES, PAGES), rules=rules))
    return {doubt.code: doubt.text for doubt in forecast.doubts}


def test_until_6_4_a_batch_taken_to_a_per_cpu_list_is_in_doubt() -> None:
    assert "a batch of 63 that the kernel takes" in doubts_of("6.1")["scan-count"]


def test_since_6_4_free_blocks_count_by_their_pages() -> None:
    assert "scan-count" not in doubts_of("6.12")
