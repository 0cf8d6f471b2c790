import os
import subprocess
import sys
from pathlib import Path

import pytest

USE = """
from movable.compiled.migrate import migrate_each, move_drawn
from movable.mm.state import record_of
from movable.model.zone import new_control, new_pages, new_zone, roles_of
from recorded import recorded

frames = recorded("anon-61-256m-k60-r4")
pages = new_pages(
    frames.kinds.copy(), frames.orders.copy(), frames.pageblocks.types,
    roles_of(unevictable_allowed=True),
)
rules = frames.rules.rules
zone = new_zone(frames.snapshot.populated_zones[-1], pages, rules, has_lists=False)
cc = new_control()
move_drawn(pages, zone.record, record_of(rules), cc, 0, 0)
migrate_each(pages, zone.record, record_of(rules), cc, 0, 0)
for function in (move_drawn, migrate_each):
    assert not function.stats.cache_misses, (function, function.signatures)
    assert function.stats.cache_hits, function
"""


@pytest.mark.large
def test_what_is_compiled_ahead_is_what_a_prediction_calls(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)

    for words in (["-P", "-m", "movable.compiled.ahead"], ["-c", USE]):
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
