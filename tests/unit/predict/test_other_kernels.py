"""Kernels beside 6.1, 6.12 and 6.17: what forecasts say of them, on recordings of their own."""

from movable.predict.forecast import Forecast, predict
from recorded import recorded


def doubts_of(forecast: Forecast) -> dict[str, str]:
    return {doubt.code: doubt.text for doubt in forecast.doubts}


def test_rules_put_together_for_6_16_were_checked_against_it() -> None:
    forecast = predict(recorded("lab-616-256m-anon"))

    assert forecast.rules == "6.16"
    assert forecast.totals.nr_migrated == 8236  # What the kernel moved.
    assert not {"rules-composed", "rules-unchecked"} & doubts_of(forecast).keys()


def test_pages_that_every_fault_marks_referenced_are_not_taken_to_be_pinned() -> None:
    forecast = predict(recorded("lab-73-256m-anon"))

    assert doubts_of(forecast)["pins-invisible"] == (
        "extra references (pins) do not show in /proc; no page is taken to be pinned"
    )
    low, high = forecast.totals.nr_huge_after_range
    assert (low, high) == (57, 59)
    assert low <= 58 <= high  # What the kernel left.


def test_what_requests_do_since_then_is_a_doubt_of_requests_alone() -> None:
    frames = recorded("lab-73-256m-anon")

    assert "rules-gap" not in doubts_of(predict(frames))
    assert (
        "scan Movable pageblocks" in doubts_of(predict(frames, action="hugepages:4"))["rules-gap"]
    )
