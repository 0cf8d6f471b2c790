"""What the kernel is about to do by itself: proactive compaction, beside what is predicted."""

from collections.abc import Iterator

from movable.frames.frames import Frames
from movable.frames.indices import fragmentation_score, fragmentation_score_weighted
from movable.mm.doubt import Doubt
from movable.model.run import proactive_marks
from movable.predict.actions import DEFAULT_PROACTIVENESS


def doubts_of_kcompactd(frames: Frames, action: str) -> Iterator[Doubt]:
    """Yield the nodes that kcompactd compacts by itself now, whatever else is done.

    Source: kcompactd(), should_proactive_compact_node(), mm/compaction.c, v6.12.
    """
    percent = frames.snapshot.sysctls.get("vm.compaction_proactiveness", DEFAULT_PROACTIVENESS)
    if action != "compact_memory" or percent == 0:
        return
    _, high = proactive_marks(frames.rules.rules, percent)
    for nid in sorted({zone.nid for zone in frames.snapshot.populated_zones}):
        score = node_score(frames, nid)
        if score > high:
            yield Doubt(
                "proactive-due",
                f"node {nid} has a fragmentation score of {score}: above {high}, kcompactd, which "
                "looks twice a second, compacts it by itself; what it moves before or beside the "
                "run, the run does not",
            )


def node_score(frames: Frames, nid: int) -> int:
    """Return the fragmentation score of a node, per cent.

    Source: fragmentation_score_node(), mm/compaction.c, v6.12.
    """
    zones = [zone for zone in frames.snapshot.populated_zones if zone.nid == nid]
    present = sum(zone.present for zone in zones)
    return sum(
        fragmentation_score_weighted(
            score=fragmentation_score(frames.nr_free_blocks(zone)),
            present=zone.present,
            node_present=present,
        )
        for zone in zones
    )
