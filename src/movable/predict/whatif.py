"""What compaction would recover if some owner's pages could move: the question behind a patch.

Two forecasts of one machine are compared: as it is, and with the owner's pages treated as pages
whose driver has isolate, migrate and putback callbacks.  "Moved where they are": nothing about
their placement changes before the compaction starts.

A driver cannot move a page that its device is using.  So a fraction of the pages can be taken as
movable at the time of the compaction, in two ways: scattered, each page by itself, which is the
worst that can happen; and clustered, whole pageblocks' worth of pages at once, which is close to
the best.  What real drivers do lies between.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from movable.errors import UsageError
from movable.frames.frames import Frames
from movable.frames.movability import FIXED_KINDS, Fate, page_fates, unevictable_allowed
from movable.frames.owners import BY_KIND, Owners
from movable.frames.truth import Truth
from movable.mm.constants import PAGEBLOCK_ORDER
from movable.mm.doubt import Doubt
from movable.mm.kinds import KIND_MASK, TAIL, PageKind
from movable.mm.rules import LinuxRules
from movable.predict.actions import perform_once
from movable.predict.cma import CmaArea, with_cma_area
from movable.predict.forecast import Forecast, nr_huge_of, predict
from movable.predict.from_boot import FromBoot, from_boot
from movable.predict.regroup import Grouping, check_pageblock_order, grouping_of

SENSITIVITY: Final = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Fractions of the owner's pages for which the result is given beside the one asked for."""

_FEW_POINTS: Final = (0.0, 0.5, 0.9, 1.0)
_LARGE_PAGES: Final = 1 << 25
"""From 128 GiB on, a compaction takes seconds, and the line has fewer points."""

_NR_DRAWS: Final = 5
_FEW_DRAWS: Final = 2
_CENSUS_PAGES: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Fraction:
    """Which share of the owner's pages can move when compaction asks: `low` to `high`, 0 to 1."""

    low: float = 1.0
    high: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Fraction":
        """Return the fraction that `text` gives: ``0.5``, or a range ``0.3-0.8``.

        Raises:
            UsageError: not a number, outside 0 to 1, or a range that runs backwards.
        """
        range_of = re.fullmatch(r"([0-9.]+)-([0-9.]+)", text)
        try:
            numbers = [float(word) for word in (range_of.groups() if range_of else (text,))]
        except ValueError:
            numbers = [-1.0]
        is_inside = all(0 <= number <= 1 for number in numbers)
        if not is_inside or numbers[0] > numbers[-1]:
            raise UsageError(
                f"--fraction {text}: a number from 0 to 1, or a range of two such as 0.3-0.8"
            )
        return cls(numbers[0], numbers[-1])

    @property
    def middle(self) -> float:
        """The fraction that stands for the range."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the sensitivity line: free huge pages after, or blocks that were obtained."""

    fraction: float
    nr_huge_scattered: int
    nr_huge_clustered: int


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A machine as it is, and with some owners' pages movable.

    `nr_pages` is how many pages those owners hold, `nr_pages_made_movable` how many of them do not
    move today and were made movable.  `nr_huge` is the gain: in free huge pages, or for
    an action with a goal in what it obtains; `nr_huge_range` its range.  `groupings` cut the
    machine as it is, and the other one, into pageblocks of another order, if that was asked;
    `cma` is the area that `movable` has from boot, if that was.
    """

    owners: tuple[str, ...]
    owners_from: str
    nr_pages: int
    nr_pages_made_movable: int
    fraction: Fraction
    as_is: Forecast
    movable: Forecast
    nr_huge: int
    nr_huge_range: tuple[int, int]
    sensitivity: tuple[Point, ...]
    from_boot: FromBoot | None
    mechanism: str
    doubts: tuple[Doubt, ...]
    groupings: tuple[Grouping, Grouping] | None = None
    cma: CmaArea | None = None

    @property
    def nr_obtained(self) -> tuple[int, int] | None:
        """What an action with a goal obtained, as it is and with the pages movable; else None."""
        if self.as_is.nr_obtained is None or self.movable.nr_obtained is None:
            return None
        return self.as_is.nr_obtained, self.movable.nr_obtained

    def to_json(self) -> dict[str, object]:
        """Return the fixed JSON form."""
        return {
            "schema": 1,
            "owners": list(self.owners),
            "as_is": self.as_is.totals.to_json(),
            "movable": self.movable.totals.to_json(),
            "gain": {"nr_huge": self.nr_huge, "nr_huge_range": list(self.nr_huge_range)},
            "nr_obtained": self.nr_obtained,
            "owners_from": self.owners_from,
            "nr_pages": self.nr_pages,
            "nr_pages_made_movable": self.nr_pages_made_movable,
            "fraction": [self.fraction.low, self.fraction.high],
            "sensitivity": [asdict(point) for point in self.sensitivity],
            "from_boot": None if self.from_boot is None else asdict(self.from_boot),
            "mechanism": self.mechanism,
            "pageblock_order": None
            if self.groupings is None
            else dict(zip(("as_is", "movable"), map(asdict, self.groupings), strict=True)),
            "cma": None if self.cma is None else asdict(self.cma),
            "rules": self.as_is.rules,
            "action": self.as_is.action,
            "doubts": [asdict(doubt) for doubt in self.doubts],
        }


def whatif(
    frames: Frames,
    owners: Owners,
    names: Sequence[str],
    *,
    fraction: Fraction | None = None,
    action: str = "compact_memory",
    truth: Truth | None = None,
    pageblock_order: int | None = None,
) -> WhatIf:
    """Predict `action` as things are, and with the pages of the owners called `names` movable.

    Args:
        names: whose pages; none where only the pageblocks are in question.
        fraction: which share of those pages can move at that moment; all of them by default.
        pageblock_order: cut both placements into pageblocks of that order as well.

    Raises:
        UsageError: no such owner, one whose pages nobody can make movable, or no such action.
    """
    share = fraction or Fraction()
    held = owners.pfns_of(names)
    stuck = _without_fixed(frames, _stuck_pfns(frames, held), names)
    as_is = predict(frames, action=action, truth=truth)
    line = _Line(frames, stuck, action, truth)
    chosen = line.choose(share.middle)
    changed = made_movable(frames, chosen) if len(chosen) else frames
    movable = predict(changed, action=action, truth=truth) if len(chosen) else as_is
    movable = line.with_range(movable, share)
    groupings = None
    if pageblock_order is not None:
        order = check_pageblock_order(pageblock_order)
        both = ((frames, as_is), (changed, movable))
        before, after = (grouping_of(machine, forecast, order) for machine, forecast in both)
        groupings = before, after
    return WhatIf(
        owners=tuple(names),
        owners_from=owners.source,
        nr_pages=len(held),
        nr_pages_made_movable=len(chosen),
        fraction=share,
        as_is=as_is,
        movable=movable,
        nr_huge=figure_of(movable) - figure_of(as_is),
        nr_huge_range=_gain_range(as_is, movable),
        sensitivity=line.points(as_is, movable, share),
        from_boot=from_boot(frames, stuck),
        mechanism=mechanism_of(frames.rules.rules) if names else REGROUPED,
        doubts=_doubts(frames, owners, as_is, movable, held, stuck, is_regrouped=bool(groupings)),
        groupings=groupings,
    )


def whatif_cma(frames: Frames, nr_mib: int, *, action: str = "compact_memory") -> WhatIf:
    """Predict `action` as things are, and had `nr_mib` MiB been a CMA area since boot.

    Raises:
        UsageError: no room for such an area, or no such action.
    """
    changed, area = with_cma_area(frames, nr_mib)
    as_is = predict(frames, action=action)
    with_area = predict(changed, action=action)
    gain = figure_of(with_area) - figure_of(as_is)
    noise = as_is.totals.noise + with_area.totals.noise
    return WhatIf(
        owners=(),
        owners_from=BY_KIND,
        nr_pages=area.nr_displaced,
        nr_pages_made_movable=0,
        fraction=Fraction(),
        as_is=as_is,
        movable=with_area,
        nr_huge=gain,
        nr_huge_range=(gain - noise, gain + noise),
        sensitivity=(),
        from_boot=None,
        mechanism=CMA_AREA,
        doubts=_unique((_CMA_DOUBT, *with_area.doubts, *as_is.doubts)),
        cma=area,
    )


REGROUPED: Final = (
    "assumed: the same pages where they are, cut into pageblocks of another order, and compacted "
    "with this kernel's pageblocks. A kernel built with the other order "
    "(CONFIG_PAGE_BLOCK_MAX_ORDER) would have placed pages otherwise: it groups them by pageblock"
)
CMA_AREA: Final = (
    "assumed: an area given by cma= on the kernel's command line (CONFIG_CMA, CONFIG_DMA_CMA), "
    "where the kernel puts it. Pages that stay were never allocated in it, and lie among others of "
    "their kind in the same zone instead; all other pages are where they are"
)
_CMA_DOUBT: Final = Doubt(
    "upper-bound",
    "an upper bound: the pages that stay are taken to be as well grouped outside of the area as "
    "they could be, one by one, and the area's user to hold none of it; only movable allocations "
    "can use its free pages",
)
_REGROUP_DOUBT: Final = Doubt(
    "same-placement",
    "what a kernel with other pageblocks would have placed where does not show in a snapshot; "
    "“at most” holds for any compaction of this placement, not for another placement",
)


def made_movable(frames: Frames, pfns: NDArray[np.int64]) -> Frames:
    """Return `frames` in which the pages at `pfns` move, each by itself."""
    kinds, orders = frames.kinds.copy(), frames.orders.copy()
    kinds[pfns], orders[pfns] = PageKind.WHATIF, 0
    return replace(frames, kinds=kinds, orders=orders)


def scattered(
    pfns: NDArray[np.int64], fraction: float, is_tail: NDArray[np.bool_], *, draw: int = 0
) -> NDArray[np.int64]:
    """Return about that fraction of `pfns`, each allocation chosen by itself.

    The same ones every time; what a smaller fraction chooses, a larger one does too.

    Args:
        is_tail: whether each of `pfns` belongs to the allocation of the page before it.
        draw: another number is another choice, as good as the first.
    """
    allocation = np.cumsum(~is_tail) - 1
    nr_allocations = int(allocation[-1]) + 1 if len(pfns) else 0
    rng = np.random.default_rng(seed=1 if draw == 0 else (1, draw))
    ranks = rng.permutation(max(nr_allocations, 1))[allocation]
    chosen: NDArray[np.int64] = pfns[ranks < round(fraction * nr_allocations)]
    return chosen


def clustered(pfns: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return about that fraction of `pfns`, all or none of a pageblock's; the same every time."""
    pageblocks, index = np.unique(pfns >> PAGEBLOCK_ORDER, return_inverse=True)
    ranks = np.random.default_rng(seed=2).permutation(len(pageblocks))[index]
    order = np.argsort(ranks, kind="stable")[: round(fraction * len(pfns))]
    return np.sort(pfns[order])


def mechanism_of(rules: LinuxRules) -> str:
    """Return what a driver must implement for its pages to move, in that kernel."""
    if rules.page_type_movable:
        return (
            "assumed: the driver implements struct movable_operations. Since Linux 6.17 those "
            "belong to a page type, of which there are two (offline, zsmalloc): a driver of "
            "another kind needs a new page type in the kernel itself"
        )
    return (
        "assumed: the driver implements struct movable_operations and marks its pages with "
        "__SetPageMovable(), as kernels before 6.17 ask. Since 6.17 it needs a page type instead"
    )


def _stuck_pfns(frames: Frames, pfns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of `pfns` that are in the way today."""
    stays = np.zeros(len(frames.kinds), dtype=np.bool_)
    allowed = unevictable_allowed(frames.snapshot)
    for start in range(0, len(stays), _CENSUS_PAGES):
        part = slice(start, start + _CENSUS_PAGES)
        fates = page_fates(
            frames.kinds[part],
            frames.orders[part],
            frames.rules.rules,
            unevictable_allowed=allowed,
        )
        stays[part] = fates == Fate.STAYS
    stuck: NDArray[np.int64] = pfns[stays[pfns]]
    return stuck


def _without_fixed(
    frames: Frames, stuck: NDArray[np.int64], names: Sequence[str]
) -> NDArray[np.int64]:
    """Return `stuck` without pages that nobody can make movable; refuse if no others are left."""
    is_fixed = np.isin(frames.kinds[stuck] & KIND_MASK, list(FIXED_KINDS))
    if len(stuck) and is_fixed.all():
        raise UsageError(
            f"{', '.join(names)}: nobody can make these pages movable, whoever owns them: the "
            "kernel image, boot memory, and bad memory stay where they are"
        )
    others: NDArray[np.int64] = stuck[~is_fixed]
    return others


def figure_of(forecast: Forecast) -> int:
    """Return what counts: what an action with a goal obtained, else free huge pages afterwards."""
    if forecast.nr_obtained is not None:
        return forecast.nr_obtained
    return forecast.totals.nr_huge_after


def _gain_range(as_is: Forecast, movable: Forecast) -> tuple[int, int]:
    """Return how far the gain may be off.

    The range of the machine as it is includes that its driver pages move already.  That is not the
    question here, so only its noise counts.  What a request obtains has no range but the noise.
    """
    gain = figure_of(movable) - figure_of(as_is)
    noise = as_is.totals.noise
    if movable.nr_obtained is not None:
        noise += movable.totals.noise
        return gain - noise, gain + noise
    low, high = movable.totals.nr_huge_after_range
    now = as_is.totals.nr_huge_after
    return min(max(0, low - now - noise), gain), max(high - now + noise, gain)


@dataclass(slots=True)
class _Line:
    """The result for other fractions than the one that stands for the answer."""

    frames: Frames
    stuck: NDArray[np.int64]
    action: str
    truth: Truth | None

    def choose(self, fraction: float) -> NDArray[np.int64]:
        """Return which pages move where they are scattered."""
        return scattered(self.stuck, fraction, self.frames.kinds[self.stuck] & TAIL != 0)

    def with_range(self, movable: Forecast, share: Fraction) -> Forecast:
        """Widen the range to the ends of the fraction, scattered and clustered.

        Which pages a fraction means is chance, and the result with it: so it is drawn more often.
        """
        is_whole = share.low == share.high == 1
        if is_whole or not len(self.stuck) or movable.nr_obtained is not None:
            return movable
        points = [self._point(end) for end in {share.low, share.high}]
        seen = [n for p in points for n in (p.nr_huge_scattered, p.nr_huge_clustered)]
        seen += drawn_range(self._drawn, share.low, len(self.frames.kinds))
        low, high = movable.totals.nr_huge_after_range
        noise = movable.totals.noise
        wide = (max(0, min(low, min(seen) - noise)), max(high, max(seen) + noise))
        return replace(movable, totals=replace(movable.totals, nr_huge_after_range=wide))

    def points(self, as_is: Forecast, movable: Forecast, share: Fraction) -> tuple[Point, ...]:
        """Return the sensitivity line; nothing where no page was made movable."""
        if not len(self.stuck):
            return ()
        nr_pfns = len(self.frames.kinds)
        known = {0.0: figure_of(as_is)}
        if share.middle == 1:
            known[1.0] = figure_of(movable)
        return tuple(
            Point(fraction, known[fraction], known[fraction])
            if fraction in known
            else self._point(fraction)
            for fraction in (SENSITIVITY if nr_pfns < _LARGE_PAGES else _FEW_POINTS)
        )

    def _point(self, fraction: float) -> Point:
        return Point(
            fraction,
            self._nr_huge(self.choose(fraction)),
            self._nr_huge(clustered(self.stuck, fraction)),
        )

    def _drawn(self, fraction: float, draw: int) -> int:
        is_tail = self.frames.kinds[self.stuck] & TAIL != 0
        return self._nr_huge(scattered(self.stuck, fraction, is_tail, draw=draw))

    def _nr_huge(self, pfns: NDArray[np.int64]) -> int:
        run = perform_once(made_movable(self.frames, pfns), self.action, self.truth)
        if run.nr_obtained is not None:
            return run.nr_obtained
        return sum(nr_huge_of(zone.nr_free_after) for zone in run.zones)


def drawn_range(
    outcome: Callable[[float, int], int], fraction: float, nr_pfns: int
) -> tuple[int, int]:
    """Return where outcomes of a fraction lie, which pages it means being chance.

    From a few draws: their extremes, a standard deviation further out, as about 19 of 20 would be.

    Args:
        outcome: the result of a fraction by the number of a draw, counted from 1.
        nr_pfns: the machine's size: a large one is drawn less often.
    """
    if fraction in (0, 1):
        return outcome(fraction, 1), outcome(fraction, 1)
    nr_draws = _NR_DRAWS if nr_pfns < _LARGE_PAGES else _FEW_DRAWS
    drawn = np.array([outcome(fraction, draw) for draw in range(1, nr_draws + 1)])
    deviation = math.ceil(drawn.std(ddof=1))
    return max(0, int(drawn.min()) - deviation), int(drawn.max()) + deviation


def _doubts(
    frames: Frames,
    owners: Owners,
    as_is: Forecast,
    movable: Forecast,
    held: NDArray[np.int64],
    stuck: NDArray[np.int64],
    *,
    is_regrouped: bool,
) -> tuple[Doubt, ...]:
    found = [_REGROUP_DOUBT] if is_regrouped else []
    if len(held):
        found.append(
            Doubt(
                "upper-bound",
                "an upper bound where the fraction is 1: every page of the owner moves whenever it "
                "is asked to; pages that a device is using would stay, see the sensitivity line",
            )
        )
    if len(held) > len(stuck):
        found.append(
            Doubt(
                "moves-already",
                f"{len(held) - len(stuck)} of the owner's {len(held)} pages move already, or are "
                "huge pages in use: they are left as they are",
            )
        )
    nr_compound = int((frames.kinds[stuck] & KIND_MASK != PageKind.KERNEL).sum())
    if nr_compound:
        found.append(
            Doubt(
                "moved-one-by-one",
                f"{nr_compound} of the pages belong to slabs or larger allocations, or are of a "
                "kind that no mechanism moves today; they are taken to move one by one",
            )
        )
    by_owner = owners.doubts if len(held) else ()
    return _unique((*found, *by_owner, *movable.doubts, *as_is.doubts))


def _unique(all_doubts: Sequence[Doubt]) -> tuple[Doubt, ...]:
    """Return the first doubt of each code, in order."""
    return tuple({doubt.code: doubt for doubt in reversed(all_doubts)}.values())[::-1]
