"""A whole compact_memory run in one zone (specification, appendix A)."""

from dataclasses import dataclass, field

from movable.mm.constants import PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER
from oracle.scan import Scanners
from oracle.zone import Folio, Layout


@dataclass(slots=True)
class Compaction:
    """What a run did: `moves` are (source, destination, order), in order; `freed` went nowhere."""

    zone: Scanners
    splits_upward: bool
    moves: list[tuple[int, int, int]] = field(default_factory=list)
    freed: list[int] = field(default_factory=list)
    nr_migrated: int = 0
    nr_failed: int = 0
    nr_sources: int = 0
    result: str = "complete"

    @property
    def isolated(self) -> int:
        """Pages isolated as sources or targets, as vmstat counts them."""
        return self.zone.nr_isolated


def compact(layout: Layout, *, is_new: bool, splits_upward: bool) -> Compaction:
    """Compact the zone by 6.12's rules, or by 6.1's.

    Args:
        splits_upward: whether a split folio's pages are queued from the second to the last, and
            then the first, as since 6.15.
    """
    run = Compaction(Scanners(layout, is_new), splits_upward)
    zone = run.zone
    last = 0
    while zone.free_pfn >> PAGEBLOCK_ORDER > zone.migrate_pfn >> PAGEBLOCK_ORDER:
        zone.fin = last >> PAGEBLOCK_ORDER == zone.migrate_pfn >> PAGEBLOCK_ORDER
        start = zone.migrate_pfn
        _isolate_sources(zone)
        if not zone.sources:
            continue
        block = (zone.migrate_pfn - 1) & -PAGEBLOCK_NR_PAGES
        last = max(layout.start_pfn, block) if is_new else start
        run.nr_sources += zone.needed
        ran_out = _migrate_batch(run) if is_new else _migrate_each(run)
        zone.sources = []
        zone.needed = 0
        met = zone.free_pfn >> PAGEBLOCK_ORDER <= zone.migrate_pfn >> PAGEBLOCK_ORDER
        if ran_out and not met:
            run.result = "contended"
            break
    zone.release()
    return run


def _isolate_sources(zone: Scanners) -> None:
    low = zone.migrate_pfn
    end = (low // PAGEBLOCK_NR_PAGES + 1) * PAGEBLOCK_NR_PAGES
    while end <= zone.free_pfn:
        if not _is_in_huge(zone, max(low & -PAGEBLOCK_NR_PAGES, zone.layout.start_pfn)):
            zone.scan_sources(low, end)
            return
        zone.migrate_pfn = low = end
        end += PAGEBLOCK_NR_PAGES


def _is_in_huge(zone: Scanners, pfn: int) -> bool:
    """Whether the pageblock starts in a compound page of pageblock order or more."""
    return any(
        folio.order >= PAGEBLOCK_ORDER and first <= pfn < first + (1 << folio.order)
        for first, folio in zone.folios.items()
    )


def _migrate_each(run: Compaction) -> bool:
    """Migrate page by page, last isolated first (6.1); return whether destinations ran out."""
    zone = run.zone
    for src in reversed(zone.sources):
        dst = zone.draw(0)
        if dst is None:
            run.nr_failed += 1
            return True
        if zone.folios[src].what == "stuck":
            run.nr_failed += 1
            zone.give_back(dst, 0)
        else:
            _move(run, src, dst)
    return False


def _migrate_batch(run: Compaction) -> bool:
    """Draw all destinations, then move all (6.12); return whether destinations ran out."""
    zone = run.zone
    drawn: list[tuple[int, int]] = []
    pieces: list[int] = []
    ran_out = False
    for src in reversed(zone.sources):
        folio = zone.folios[src]
        if folio.order > 1 and folio.unmapped:
            pieces += _split(run, src)
            continue
        dst = zone.draw(folio.order)
        if dst is None and folio.order > 0:
            pieces += _split(run, src)
        elif dst is None:
            run.nr_failed += 1
            ran_out = True
            break
        else:
            drawn.append((src, dst))
    for src, dst in drawn:
        folio = zone.folios[src]
        if folio.what == "stuck":
            run.nr_failed += 1 << folio.order
            zone.give_back(dst, folio.order)
        else:
            _move(run, src, dst)
    _put_back_pieces(run, pieces if ran_out else _migrate_pieces(run, pieces))
    return ran_out


def _split(run: Compaction, pfn: int) -> list[int]:
    """Split a folio; return its pages as they are queued: the tails, then the first."""
    folio = run.zone.folios.pop(pfn)
    tails = list(range(pfn + 1, pfn + (1 << folio.order)))
    pages = [*(tails if run.splits_upward else reversed(tails)), pfn]
    for page in pages:
        is_unmapped = page - pfn in folio.unmapped
        run.zone.folios[page] = Folio(folio.what, 0, frozenset({0}) if is_unmapped else frozenset())
    return pages


def _put_back_pieces(run: Compaction, pieces: list[int]) -> None:
    """Put pages of split folios back; one that no process maps is freed by that."""
    zone = run.zone
    for src in pieces:
        if zone.folios[src].unmapped:
            del zone.folios[src]
            run.freed.append(src)
            zone.pcp.free_page(src, 0)


def _migrate_pieces(run: Compaction, pieces: list[int]) -> list[int]:
    """Try the pages of split folios once; one that no process maps is simply freed.

    Returns those that were not tried, since destinations ran out.
    """
    zone = run.zone
    drawn: list[tuple[int, int]] = []
    left: list[int] = []
    for number, src in enumerate(pieces):
        folio = zone.folios[src]
        if folio.unmapped:
            del zone.folios[src]
            run.freed.append(src)
            run.nr_migrated += 1
            zone.pcp.free_page(src, 0)
            continue
        if folio.what == "stuck":
            continue
        dst = zone.draw(0)
        if dst is None:
            run.nr_failed += 1
            left = pieces[number:]
            break
        drawn.append((src, dst))
    for src, dst in drawn:
        _move(run, src, dst)
    return left


def _move(run: Compaction, src: int, dst: int) -> None:
    zone = run.zone
    folio = zone.folios.pop(src)
    zone.folios[dst] = folio
    run.moves.append((src, dst, folio.order))
    run.nr_migrated += 1 << folio.order
    zone.pcp.free_page(src, folio.order)
