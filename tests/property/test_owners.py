"""The counts by owner, and the scan of page_owner's text, beside slow and obvious ones."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from movable.compiled.costs import NR_ALONE, NR_BLOCKS, NR_PAGES, NR_PAGES_ALONE, count_costs
from movable.compiled.page_owner import DONE, Records, Stacks, paint_owners, scan_records
from oracle.owners import costs, records

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NR_OWNERS = 5
TYPES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")

RUN = st.tuples(st.integers(0, NR_OWNERS - 1), st.sampled_from([0, 1, 2, 3, 3, 4]), st.booleans())


@given(runs=st.lists(RUN, min_size=1, max_size=8), order=st.integers(0, 5), nr=st.integers(1, 20))
@SETTINGS
def test_costs_are_those_of_a_count_block_by_block(
    runs: list[tuple[int, int, bool]], order: int, nr: int
) -> None:
    nr_pages = nr << order
    tiled = [runs[(page * 7 // 3) % len(runs)] for page in range(nr_pages)]
    codes = np.array([run[0] for run in tiled], dtype=np.uint16)
    fates = np.array([run[1] for run in tiled], dtype=np.uint8)
    is_free = np.array([run[2] for run in tiled], dtype=np.bool_)
    counts, totals = np.zeros((NR_OWNERS, 5), dtype=np.int64), np.zeros(4, dtype=np.int64)
    here, touched = np.zeros((2, NR_OWNERS), dtype=np.int64)

    count_costs(codes, fates, is_free, order, here, touched, counts, totals)

    slow = costs(codes.tolist(), fates.tolist(), is_free.tolist(), order)
    for owner in range(NR_OWNERS):
        assert counts[owner, NR_PAGES] == slow.nr_pages[owner]
        assert counts[owner, NR_BLOCKS] == slow.nr_blocks[owner]
        assert counts[owner, NR_ALONE] == slow.nr_alone[owner]
        assert counts[owner, NR_PAGES_ALONE] == slow.nr_pages_alone[owner]
    assert totals.tolist() == [slow.nr_whole, slow.nr_blocked, slow.nr_shared, slow.nr_free_pages]
    assert not here.any(), "the work array is left as it was found"


STACK = st.lists(st.sampled_from([" a+0x1", " b+0x2 [m]", " 0xff", " c"]), max_size=4)
RECORD = st.tuples(
    st.integers(0, 10),
    st.integers(0, 1 << 40),
    st.booleans(),
    st.sampled_from(TYPES),
    st.sampled_from(TYPES),
    STACK,
    st.lists(st.sampled_from(["Page has been migrated", "Charged to memcg x"]), max_size=2),
)


def text_of(drawn: list[tuple[int, int, bool, str, str, list[str], list[str]]]) -> str:
    text = ""
    for order, pfn, is_hex, migratetype, block_type, stack, more in drawn:
        number = hex(pfn) if is_hex else str(pfn)
        lines = [
            f"Page allocated via order {order}, mask 0x1(GFP), pid 1, ts 2 ns",
            f"PFN {number} type {migratetype} Block {pfn >> 9} type {block_type} Flags 0x0()",
            *stack,
            *more,
        ]
        text += "\n".join(lines) + "\n\n"
    return text


@given(drawn=st.lists(RECORD, min_size=1, max_size=12))
@SETTINGS
def test_a_scan_finds_what_a_plain_reading_finds(
    drawn: list[tuple[int, int, bool, str, str, list[str], list[str]]],
) -> None:
    text = text_of(drawn)
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    room = len(data) // 64 + 1
    order, migratetype, block_type = np.zeros((3, room), dtype=np.uint8)
    out = Records(
        np.zeros(room, np.int64), order, migratetype, block_type, np.zeros(room, np.int32)
    )
    table = Stacks(np.zeros(64, np.uint64), np.zeros(64, np.int32), *np.zeros((2, 64), np.int64))

    scanned = scan_records(data, len(data), out, table, 0)

    slow = records(text)
    assert (scanned.status, scanned.at, scanned.nr_lines) == (DONE, len(data), text.count("\n"))
    assert scanned.nr_records == len(slow) == len(drawn)
    stacks = [text[a:b] for a, b in zip(table.starts, table.ends, strict=True)]
    for index, record in enumerate(slow):
        assert out.pfn[index] == record.pfn
        assert out.order[index] == record.order
        assert TYPES[out.migratetype[index]] == record.migratetype
        assert TYPES[out.block_type[index]] == record.block_type
        number = int(out.stack[index])
        assert (stacks[number - 1] if number else "") == record.stack
    assert scanned.nr_stacks == len({record.stack for record in slow} - {""})


@given(
    records_drawn=st.lists(
        st.tuples(st.integers(0, 80), st.integers(0, 4), st.integers(0, 9)), max_size=10
    )
)
@SETTINGS
def test_painting_stays_inside_the_machine(records_drawn: list[tuple[int, int, int]]) -> None:
    codes = np.zeros(64, dtype=np.uint16)
    expected = [0] * 64
    for pfn, order, owner in records_drawn:
        for page in range(pfn, min(pfn + (1 << order), 64)):
            expected[page] = owner
    pfns, orders, owners = (
        (np.array(column) for column in zip(*records_drawn, strict=True))
        if (records_drawn)
        else (np.zeros(0),) * 3
    )

    paint_owners(pfns.astype(np.int64), orders.astype(np.uint8), owners.astype(np.uint16), codes)

    assert codes.tolist() == expected
