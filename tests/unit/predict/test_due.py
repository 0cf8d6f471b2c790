"""What the kernel is about to do by itself is told."""

from dataclasses import replace

from movable.frames.frames import Frames
from movable.predict.due import doubts_of_kcompactd, node_score
from recorded import recorded


def with_proactiveness(frames: Frames, percent: int) -> Frames:
    sysctls = {**frames.snapshot.sysctls, "vm.compaction_proactiveness": percent}
    return replace(frames, snapshot=replace(frames.snapshot, sysctls=sysctls))


def test_a_node_above_the_high_mark_is_compacted_anyway() -> None:
    frames = recorded("zram-612-512m")
    assert node_score(frames, 0) == 98

    (doubt,) = doubts_of_kcompactd(with_proactiveness(frames, 20), "compact_memory")

    assert doubt.code == "proactive-due"
    assert "node 0 has a fragmentation score of 98: above 90" in doubt.text


def test_no_doubt_where_nobody_else_compacts() -> None:
    frames = recorded("zram-612-512m")
    assert not list(doubts_of_kcompactd(with_proactiveness(frames, 0), "compact_memory"))
    assert not list(doubts_of_kcompactd(with_proactiveness(frames, 20), "hugepages:4"))
    low = recorded("lab-61-512m-zram")
    assert node_score(low, 0) == 75
    assert not list(doubts_of_kcompactd(with_proactiveness(low, 20), "compact_memory"))
