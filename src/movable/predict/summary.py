"""Everything one screen or one report says about a machine, and what to do next."""

from dataclasses import asdict, dataclass
from typing import Final

from movable.frames.frames import Frames
from movable.frames.movability import KIND_NAMES
from movable.frames.survey import Survey, survey_of
from movable.mm.constants import PAGE_SIZE, PAGEBLOCK_NR_PAGES
from movable.mm.doubt import Doubt
from movable.mm.kinds import PageKind
from movable.predict.blockers import Blocker, Blockers, blockers_of
from movable.predict.forecast import Forecast


@dataclass(frozen=True, slots=True)
class Summary:
    """A machine, what compaction would do to it, what is in the way, and what to do next.

    `doubts` are those of all parts, each once.  `blockers` are counted on the map after the
    predicted compaction.
    """

    frames: Frames
    survey: Survey
    forecast: Forecast
    blockers: Blockers
    advice: tuple[str, ...]
    doubts: tuple[Doubt, ...]

    def to_json(self) -> dict[str, object]:
        """Return the form that ``--json`` prints: the forecast's, and what goes beyond it."""
        return {
            **self.forecast.to_json(),
            "source": self.survey.source,
            "release": self.survey.release,
            "blockers": self.blockers.to_json(),
            "advice": self.advice,
            "doubts": [asdict(doubt) for doubt in self.doubts],
        }


def summary_of(frames: Frames, forecast: Forecast) -> Summary:
    """Put together what is known of the machine of `frames` and of its compaction."""
    survey = survey_of(frames)
    blockers = blockers_of(frames, forecast.kinds_after)
    doubts = {d.code: d for d in (*forecast.doubts, *frames.doubts, *blockers.doubts)}
    return Summary(
        frames=frames,
        survey=survey,
        forecast=forecast,
        blockers=blockers,
        advice=advice(survey, forecast, blockers),
        doubts=tuple(doubts.values()),
    )


_WHAT_TO_DO: Final = {
    PageKind.SLAB: "`slabtop` names the caches; `echo 2 > /proc/sys/vm/drop_caches` frees the "
    "unused inodes and dentries among them",
    PageKind.KERNEL: "booting with `page_owner=on` names the drivers they belong to",
    PageKind.COMPOUND: "booting with `page_owner=on` names the drivers they belong to",
    PageKind.PGTABLE: "larger folios or fewer sparse mappings need fewer of them",
    PageKind.OFFLINE: "deflating the balloon, or a balloon driver with migrate callbacks, "
    "frees their pageblocks",
    PageKind.HUGETLB: "lowering vm.nr_hugepages gives them back if they are unused",
    PageKind.FILE_STUCK: "moving these files from ramfs to tmpfs makes them movable",
    PageKind.BLOCKDEV: "`sync` writes them out; then their journal lets go of them, in time",
    PageKind.ANON_MLOCKED: "setting vm.compact_unevictable_allowed to 1 lets compaction move them",
    PageKind.PINNED: "the process that pins them (RDMA, VFIO, io_uring buffers) must let go",
}


def advice(survey: Survey, forecast: Forecast, blockers: Blockers) -> tuple[str, ...]:
    """Return what to do next, the most useful first, a sentence each; commands in backquotes."""
    top = [row for row in blockers.rows if row.nr_huge_if_movable > 0]
    return (
        _compact_now(forecast, blockers),
        *(_about_blocker(row) for row in top[:2]),
        *_about_pcp(survey),
        *_about_uninitialised(survey),
    )


def counted(number: int, noun: str) -> str:
    """Return ``1 pageblock`` or ``2 pageblocks``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _compact_now(forecast: Forecast, blockers: Blockers) -> str:
    totals = forecast.totals
    gain = totals.nr_huge_after - totals.nr_huge_before
    if gain > 0:
        moved_mib = totals.nr_migrated * PAGE_SIZE >> 20
        return (
            f"`echo 1 > /proc/sys/vm/compact_memory` would add {counted(gain, 'huge page')}, at "
            f"the price of moving {counted(totals.nr_migrated, 'page')} ({moved_mib} MiB)."
        )
    if blockers.nr_huge_room == 0:
        return (
            "Compacting would add nothing: what is free outside huge pages would not fill one; "
            "free memory first."
        )
    return (
        "Compacting would add nothing, although the free pages could fill "
        f"{counted(blockers.nr_huge_room, 'huge page')}: other pages stand in the way."
    )


def _about_blocker(row: Blocker) -> str:
    kind = f"{KIND_NAMES[row.kind]}{', in large folios' if row.is_large else ''}"
    todo = _WHAT_TO_DO.get(row.kind)
    if row.is_large:
        todo = "Linux 6.9 and later move them"
    pages = counted(row.nr_pages_alone, "page")
    blocked = counted(row.nr_pageblocks_alone, "pageblock")
    sentence = f"{pages} ({kind}), and nothing else, keep {blocked} from becoming huge pages"
    return f"{sentence}: {todo}." if todo else f"{sentence}."


def _about_pcp(survey: Survey) -> list[str]:
    nr_pcp = sum(cpu.count for zone in survey.zones for cpu in zone.pagesets)
    if nr_pcp < 8 * PAGEBLOCK_NR_PAGES:
        return []
    return [
        f"{nr_pcp} free pages sit on per-CPU lists, where neither compaction nor huge pages reach "
        "them; they return under memory pressure."
    ]


def _about_uninitialised(survey: Survey) -> list[str]:
    nr_pages = survey.nr_pages_by_kind.get(PageKind.UNINIT, 0)
    if nr_pages == 0:
        return []
    return [
        f"{nr_pages} pages are not initialised yet (deferred_init): this machine has more memory "
        "than it has touched, and figures will change as it does."
    ]
