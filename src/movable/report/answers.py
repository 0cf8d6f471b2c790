"""The answers of `explain` and `diff` as text."""

import textwrap
from typing import Final

from movable.frames.compare import Difference
from movable.frames.movability import Fate
from movable.frames.owners import KIND_OWNERS
from movable.frames.pageblocks import Confidence
from movable.mm.constants import NR_PAGE_ORDERS
from movable.predict.explain import PageblockExplanation, PageExplanation
from movable.report.lines import Paint, doubt_lines, printable, table
from movable.report.palette import label

_TOP_OWNERS: Final = 20
CONFIDENCE_WORDS: Final = {
    Confidence.UNKNOWN: "a guess",
    Confidence.INDISTINGUISHABLE: "one of several that fit",
    Confidence.INFERRED: "inferred",
    Confidence.CERTAIN: "certain",
}


def page_text(page: PageExplanation, *, width: int, paint: Paint) -> str:
    """Return what a page is, and why compaction skips or moves it."""
    lines = [
        paint.bold(f"PFN {page.pfn:#x} ({page.pfn}): {label(page.kind)}, {_FATES[page.why.fate]}"),
        *textwrap.wrap(page.why.text, width),
        "",
        f"  flags      {page.flags_word:#018x} {', '.join(page.flags) or 'none'}"
        f" (as Linux {page.dialect} names them)",
        f"  part of    {_part_of(page)}",
        f"  held by    {printable(page.owner) or 'nobody'}",
    ]
    if page.mapcount is not None:
        lines.append(f"  map count  {page.mapcount}")
    if page.cgroup:
        lines.append(f"  charged to memory cgroup with inode {page.cgroup}")
    return "\n".join([*lines, "", pageblock_text(page.pageblock, width=width, paint=paint)])


_FATES: Final = {
    Fate.ABSENT: "no memory",
    Fate.FREE: "free",
    Fate.MOVES: "compaction moves it",
    Fate.STAYS: "stays in the way",
    Fate.HUGE: "a huge page in use",
}


def _part_of(page: PageExplanation) -> str:
    if page.order == 0:
        return "nothing larger: a single page"
    end_pfn = page.head_pfn + (1 << page.order)
    return f"an order-{page.order} block or folio, PFN {page.head_pfn:#x} to {end_pfn - 1:#x}"


def pageblock_text(block: PageblockExplanation, *, width: int, paint: Paint) -> str:
    """Return what a pageblock holds and what compaction makes of it."""
    where = "in no zone"
    if block.zone is not None:
        where = f"node {block.nid}, zone {printable(block.zone)}"
    rows = [
        (label(kind), nr) for kind, nr in sorted(block.nr_pages_by_kind.items(), key=_most_first)
    ]
    lines = [
        paint.bold(
            f"Pageblock {block.pageblock} (PFN {block.start_pfn:#x}), {where}: {block.migratetype} "
            f"({CONFIDENCE_WORDS[block.confidence]})"
        ),
        *textwrap.wrap(f"{block.text}  {block.as_target}", width),
        "",
        *table(["kind", "pages"], rows, paint=paint),
    ]
    if block.nr_stay_by_owner:
        must = [(printable(owner), nr) for owner, nr in block.nr_stay_by_owner.items()]
        lines += ["", *table(["must move before it can be free", "pages"], must, paint=paint)]
    return "\n".join(lines)


def _most_first(item: tuple[object, int]) -> int:
    return -item[1]


def difference_text(difference: Difference, *, width: int, paint: Paint) -> str:
    """Return what changed, kind by kind and order by order."""
    kinds = [
        (label(kind), old, new, f"{new - old:+d}")
        for kind, (old, new) in difference.nr_pages_by_kind.items()
    ]
    zones = [
        row
        for zone in difference.zones
        for row in (
            (
                f"{zone.nid} {printable(zone.name)}",
                "before",
                *zone.nr_free_blocks_before,
                zone.nr_huge_before,
            ),
            ("", "after", *zone.nr_free_blocks_after, zone.nr_huge_after),
        )
    ]
    head = ["zone", "", *map(str, range(NR_PAGE_ORDERS)), "huge"]
    d = difference
    lines = [
        paint.bold(printable(f"{d.before} to {d.after}")),
        "",
        paint.bold("Pages by kind"),
        *table(["kind", "before", "after", "change"], kinds, paint=paint),
        *_owner_lines(d, paint=paint),
        "",
        paint.bold("Free blocks by order"),
        *table(head, zones, paint=paint, nr_left=2),
        "",
        paint.bold("Pageblocks"),
        f"  {d.nr_pages_changed} pages changed, in {d.nr_pageblocks_changed} of {d.nr_pageblocks} "
        "pageblocks",
        f"  {d.nr_pageblocks_freed} became wholly free, {d.nr_pageblocks_used} no longer are",
        f"  {d.nr_pageblocks_retyped} changed their type, as far as types are known",
        *doubt_lines(d.doubts, width=width, paint=paint),
    ]
    return "\n".join(lines)


def _owner_lines(difference: Difference, *, paint: Paint) -> list[str]:
    """Return the owners whose pages became more or fewer, if they are known by more than kinds."""
    changed = [
        (printable(owner), old, new, f"{new - old:+d}")
        for owner, (old, new) in difference.nr_pages_by_owner.items()
        if old != new and owner not in KIND_OWNERS
    ]
    if not changed:
        return []
    changed.sort(key=lambda row: -abs(int(row[3])))
    head = ["owner", "before", "after", "change"]
    return ["", paint.bold("Pages by owner"), *table(head, changed[:_TOP_OWNERS], paint=paint)]
