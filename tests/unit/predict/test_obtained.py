"""How far what requests obtain can be off."""

from movable.predict.actions import doubted, parse_action
from movable.predict.forecast import predict, roles_for
from movable.report.lines import Paint
from movable.report.text import huge_page_lines
from recorded import recorded

STORM, REAL = "storm4-612-512m-movable", 1412


def test_the_range_includes_when_kcompactd_runs() -> None:
    frames = recorded(STORM)
    action = "order:4:4000:movable+noretry"
    runs = [
        perform(frames, roles_for(frames))
        for perform in doubted(parse_action(action, frames), knows_lists=True)
    ]
    too_late, in_turn = sorted(run.nr_obtained or 0 for run in runs)

    forecast = predict(frames, action=action)

    assert forecast.nr_obtained is not None
    assert forecast.nr_obtained_range is not None
    low, high = forecast.nr_obtained_range
    assert low <= too_late < forecast.nr_obtained < in_turn <= high
    assert low <= REAL <= high
    assert forecast.to_json()["nr_obtained_range"] == [low, high]
    *_, last = huge_page_lines(forecast, paint=Paint(is_on=False))
    assert last.split(None, 2) == [
        "Blocks",
        "obtained",
        f"{forecast.nr_obtained} ({low} to {high})",
    ]


def test_the_range_includes_other_orders_of_the_free_lists() -> None:
    frames = recorded("huge-61-512m-k40-r4")
    perform = parse_action("hugepages:250", frames)
    upward, downward = (
        other(frames, roles_for(frames)).nr_obtained or 0
        for other in doubted(perform, knows_lists=False)
    )

    forecast = predict(frames, action="hugepages:250")

    assert forecast.nr_obtained_range is not None
    low, high = forecast.nr_obtained_range
    assert downward < upward
    assert low < downward
    assert upward < high
    assert low <= 100 <= high  # What the kernel obtained.


def test_no_more_is_obtained_than_was_asked_for() -> None:
    forecast = predict(recorded("lab-612-512m-proactive60"), action="hugepages:3")

    assert forecast.nr_obtained == 3
    assert forecast.nr_obtained_range == (2, 3)


def test_nothing_is_doubted_in_that_way_where_nothing_is_obtained() -> None:
    frames = recorded("lab-612-512m-proactive60")

    assert list(doubted(parse_action("hugepages:9", frames), knows_lists=True)) == []
    assert list(doubted(parse_action("compact_memory", frames), knows_lists=False)) == []
    assert predict(frames).nr_obtained_range is None
