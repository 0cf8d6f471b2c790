"""The block analysis for mails: its counts, and its form."""

import re

import numpy as np
import pytest

from handmade import machine, pageblocks_of
from movable.frames.movability import Fate, page_fates
from movable.frames.owners import owners_of
from movable.frames.survey import survey_of
from movable.mm.constants import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE
from movable.mm.doubt import Doubt
from movable.mm.kinds import PageKind
from movable.predict.block_analysis import analyse_blocks
from movable.predict.costs import costs_of
from movable.predict.forecast import predict
from movable.report.lkml import COLUMNS, lkml_text
from recorded import recorded

ANON, SLAB = PageKind.ANON, PageKind.SLAB


def text_of(scenario: str, *doubts: Doubt) -> str:
    frames = recorded(scenario)
    owners = owners_of(frames)
    forecast = predict(frames)
    costs = costs_of(frames, owners, forecast.kinds_after)
    return lkml_text(survey_of(frames), forecast, analyse_blocks(frames, owners), costs, doubts)


@pytest.mark.parametrize("scenario", ["own-slab-512m", "gpu-61-1g-whatif-mixed"])
def test_it_fits_a_mail(scenario: str) -> None:
    text = text_of(scenario, Doubt("hostile", "a “name” \x1b[31m that is much too long " * 9))

    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert max(map(len, text.splitlines())) <= COLUMNS


def test_polluted_blocks_are_counted_as_by_hand() -> None:
    frames = recorded("own-slab-512m")
    text = " ".join(text_of("own-slab-512m").split())

    found = re.findall(r"movable blocks with pages that stay: (\d+)", text)

    fates = page_fates(frames.kinds, frames.orders, frames.rules.rules)
    nr_blocks = len(frames.kinds) >> 9
    blocks = fates[: nr_blocks << 9].reshape(-1, 512)
    whole = ~(blocks == Fate.ABSENT).any(axis=1)
    polluted = whole & (blocks == Fate.STAYS).any(axis=1)
    polluted &= frames.pageblocks.types[:nr_blocks] == MIGRATE_MOVABLE
    assert sum(map(int, found)) == int(polluted.sum())


def test_every_page_of_a_whole_block_is_counted_once() -> None:
    frames = machine(pageblocks_of([(SLAB, 5), (ANON, 100)], [(SLAB, 3)], [], [(PageKind.HOLE, 1)]))
    frames.pageblocks.types[1] = MIGRATE_UNMOVABLE

    (zone,) = analyse_blocks(frames, owners_of(frames))

    unmovable, movable = zone.types
    assert (unmovable.migratetype, movable.migratetype) == (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE)
    assert (movable.nr_pageblocks, movable.nr_pageblocks_free) == (2, 1)
    assert (movable.nr_moves, movable.nr_free) == (100, 512 + 407)
    assert movable.nr_stay_by_owner == {"slab": 5}
    assert unmovable.nr_stay_by_owner == {"slab": 3}
    assert (unmovable.nr_pageblocks_with_moves, movable.nr_pageblocks_with_moves) == (0, 1)


def test_counts_of_a_recording_add_up() -> None:
    frames = recorded("own-kmem-256m")

    zones = analyse_blocks(frames, owners_of(frames))

    costs = costs_of(frames, owners_of(frames))
    rows = [row for zone in zones for row in zone.types]
    assert sum(row.nr_pageblocks for row in rows) == costs.nr_blocks
    assert sum(row.nr_pageblocks_with_stay for row in rows) == costs.nr_blocks_blocked
    stay = sum(sum(row.nr_stay_by_owner.values()) for row in rows)
    assert stay == sum(row.nr_pages for row in costs.rows)
    assert stay + sum(row.nr_free + row.nr_moves for row in rows) <= np.int64(costs.nr_blocks << 9)
