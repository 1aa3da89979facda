"""A training that is killed again and again ends with the same bits as one that never was."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.killing import AT_RANDOM, CHOSEN, PLACES, plan_lives

ROOT = Path(__file__).parent.parent.parent


def test_every_place_is_planned() -> None:
    lives = plan_lives(random.Random(0), 1.0)
    assert len(lives) == CHOSEN + AT_RANDOM >= 50
    assert {life.place for life in lives} == {*PLACES, None}


@pytest.mark.slow
def test_fifty_kills_change_nothing(tmp_path: Path) -> None:
    # One thread: a process with a single thread can be forked at any time.
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.engine.killing", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=alone,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["different"] == [], "runs whose weights or log differ from those of the uninterrupted one"
    assert result["unreadable"] == [], "checkpoints that cannot be read, or files left behind"
    kills = result["kills"]
    assert len(kills) >= 50
    assert set(kills) == {*PLACES, "by the clock"}, "each place was hit"
    assert sum("checkpoint" in place or "file" in place for place in kills) >= 8, "while files are written"
    assert result["runs"] >= 2
