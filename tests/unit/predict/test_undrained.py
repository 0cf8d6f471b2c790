"""The range where per-CPU lists were not drained before the snapshot."""

from dataclasses import replace

import numpy as np

from movable.mm.kinds import PageKind
from movable.predict.doubtful import Variant
from movable.predict.forecast import predict
from recorded import recorded

NODRAIN = "anon-612-512m-nodrain"


def test_lists_may_shrink_by_themselves_before_the_action() -> None:
    frames = recorded(NODRAIN)
    on_lists = np.flatnonzero(frames.kinds == PageKind.PCP)

    forecast = predict(frames)

    drained = predict(Variant(on_lists, PageKind.FREE).frames_of(frames))
    assert len(on_lists) > 12_000
    assert drained.totals.nr_huge_after > forecast.totals.nr_huge_after + 10
    assert forecast.totals.nr_huge_after_range[1] >= drained.totals.nr_huge_after


def test_whichever_cpu_compacts_keeps_what_it_frees() -> None:
    frames = recorded("lab-612-512m-nodrain-smp2")
    zones = tuple(replace(zone, pagesets=zone.pagesets[:1]) for zone in frames.snapshot.zones)
    alone = replace(frames, snapshot=replace(frames.snapshot, zones=zones))

    low, _ = predict(frames).totals.nr_huge_after_range

    assert low < predict(alone).totals.nr_huge_after_range[0]
