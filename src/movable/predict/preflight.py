"""Will an allocation of some blocks succeed: now, after compaction, or not at all?

Three figures are compared with the number of blocks asked for:

* now: free blocks of that order or larger, in zones that such a request may use, as far as the
  watermarks let them go (the min watermark and the zone's lowmem reserve stay);
* after ``echo 1 > /proc/sys/vm/compact_memory``: the same, on the machine that the
  forecast predicts;
* directly: what the request would obtain by itself, with the compaction the kernel does on its
  way.  That is less than a whole compaction as a rule, and what ``echo N > nr_hugepages`` shows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Final

from movable.errors import UsageError
from movable.frames.available import check_order, nr_in_zone
from movable.frames.frames import Frames
from movable.frames.truth import Truth
from movable.mm.constants import MIGRATE_MOVABLE, PAGEBLOCK_ORDER
from movable.mm.doubt import Doubt
from movable.mm.snapshot import Snapshot
from movable.model.gfp import parse_gfp
from movable.predict.actions import has_lists, perform_once
from movable.predict.forecast import Forecast, predict

MAX_COUNT: Final = 100_000_000


class Answer(Enum):
    """Whether the allocation succeeds; the values are exit codes."""

    NOW = 0
    NO = 3
    AFTER_COMPACTION = 4


@dataclass(frozen=True, slots=True)
class Preflight:
    """The answer, the three figures behind it (blocks of `order`), and one sentence.

    `nr_after_range` is None for orders other than a pageblock's.  `nr_directly` is None where
    blocks are free already: nothing needs to be compacted.
    """

    order: int
    count: int
    gfp: str
    answer: Answer
    nr_now: int
    nr_after: int
    nr_after_range: tuple[int, int] | None
    nr_directly: int | None
    sentence: str
    doubts: tuple[Doubt, ...]

    @property
    def exit_code(self) -> int:
        """0 yes now, 3 no, 4 yes after compaction."""
        return self.answer.value

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints."""
        return {
            "schema": 1,
            "order": self.order,
            "count": self.count,
            "gfp": self.gfp,
            "answer": self.answer.name.lower(),
            "exit_code": self.exit_code,
            "nr_now": self.nr_now,
            "nr_after": self.nr_after,
            "nr_after_range": self.nr_after_range,
            "nr_directly": self.nr_directly,
            "sentence": self.sentence,
            "doubts": [asdict(doubt) for doubt in self.doubts],
        }


def preflight(
    frames: Frames,
    *,
    order: int = PAGEBLOCK_ORDER,
    count: int = 1,
    gfp: str | None = None,
    truth: Truth | None = None,
) -> Preflight:
    """Return whether `count` blocks of `order` can be allocated from the machine of `frames`.

    Args:
        gfp: "movable" or "kernel", with modifiers as in ``movable predict --action order:…``;
            default: movable for huge pages, kernel for smaller blocks.

    Raises:
        UsageError: an order above the largest, a count below 1, or GFP flags that are not known.
    """
    gfp = gfp or ("movable" if order >= PAGEBLOCK_ORDER else "kernel")
    check_request(order=order, count=count, gfp=gfp)
    is_movable = parse_gfp(gfp).migratetype == MIGRATE_MOVABLE
    rows = [frames.nr_free_blocks(z) for z in frames.snapshot.populated_zones]
    nr_now = nr_available(frames.snapshot, rows, order=order, is_movable=is_movable)
    forecast = predict(frames)
    after = [zone.nr_free_blocks_after for zone in forecast.zones]
    nr_after = nr_available(frames.snapshot, after, order=order, is_movable=is_movable)
    draft = Preflight(
        order=order,
        count=count,
        gfp=gfp,
        answer=Answer.NOW if nr_now >= count else Answer.NO,
        nr_now=nr_now,
        nr_after=nr_after,
        nr_after_range=_range_of(forecast, nr_after) if order == PAGEBLOCK_ORDER else None,
        nr_directly=None,
        sentence="",
        doubts=forecast.doubts,
    )
    if draft.answer is not Answer.NOW:
        draft = _with_direct(frames, draft, truth)
    return replace(draft, sentence=_sentence(draft))


def check_request(*, order: int, count: int, gfp: str | None) -> None:
    """Refuse what no kernel can be asked for.

    Raises:
        UsageError: an order above the largest, a count below 1, or GFP flags that are not known.
    """
    check_order(order)
    if not 1 <= count <= MAX_COUNT:
        raise UsageError(f"count {count}: a whole number from 1 to {MAX_COUNT}")
    if gfp is not None:
        parse_gfp(gfp)


def nr_available(
    snapshot: Snapshot, rows: Iterable[Sequence[int]], *, order: int, is_movable: bool
) -> int:
    """Return how many blocks of `order` can be taken before watermarks or blocks run out.

    Args:
        rows: free blocks per order of each populated zone.
        is_movable: whether the request may use ZONE_MOVABLE.
    """
    return sum(
        nr_in_zone(zone, row, order=order, is_movable=is_movable)
        for zone, row in zip(snapshot.populated_zones, rows, strict=True)
    )


def _range_of(forecast: Forecast, nr_after: int) -> tuple[int, int]:
    """Return the forecast's range for all zones, moved to the blocks that the request may take."""
    totals = forecast.totals
    low, high = totals.nr_huge_after_range
    return (
        max(0, nr_after - (totals.nr_huge_after - low)),
        nr_after + high - totals.nr_huge_after,
    )


def _with_direct(frames: Frames, draft: Preflight, truth: Truth | None) -> Preflight:
    is_hugepages = draft.order == PAGEBLOCK_ORDER and draft.gfp == "movable"
    action = (
        f"hugepages:{draft.count}"
        if is_hugepages
        else f"order:{draft.order}:{draft.count}:{draft.gfp}"
    )
    nr_directly = None
    if has_lists(frames):
        nr_directly = perform_once(frames, action, truth).nr_obtained
        assert nr_directly is not None, "an action with a goal says what it obtained"
    answer = Answer.AFTER_COMPACTION if draft.nr_after >= draft.count else Answer.NO
    return replace(draft, nr_directly=nr_directly, answer=answer)


def _sentence(found: Preflight) -> str:
    size = f"order {found.order}"
    if found.answer is Answer.NOW:
        needed = "1 is" if found.count == 1 else f"{found.count} are"
        return f"yes: {found.nr_now} blocks of {size} can be had now, {needed} needed"
    spread = ""
    if found.nr_after_range is not None and len(set(found.nr_after_range)) > 1:
        spread = f" ({found.nr_after_range[0]} to {found.nr_after_range[1]})"
    figures = (
        f"{found.nr_now} blocks of {size} can be had now, {found.nr_after}{spread} after "
        "compact_memory"
    )
    if found.nr_directly is not None:
        figures += f"; the request alone would obtain {found.nr_directly} of {found.count}"
    low, high = found.nr_after_range or (found.nr_after, found.nr_after)
    sure = ", but not surely" if low < found.count <= high else ""
    if found.answer is Answer.NO:
        return f"no, not even after compaction{sure}: {figures}"
    return f"yes after compaction{sure}: {figures}"
