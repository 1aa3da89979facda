"""The benchmark of a busy machine computes fair shares and shows medians."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import busy
from benchmarks.busy import Measured, fair_share, table

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("threads", "beside", "nice", "cpus", "times"),
    [(2, 0, 0, 2, 1), (2, 2, 0, 2, 2), (2, 4, 0, 2, 3), (2, 4, 19, 2, 1), (1, 1, 0, 2, 1), (1, 3, 0, 2, 2)],
)
def test_the_fair_share(threads: int, beside: int, nice: int, cpus: float, times: float) -> None:
    assert fair_share(threads, beside, nice, cpus) == pytest.approx(times)


def test_the_table_shows_medians_and_ratios_to_the_same_way_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "usable_cpus", lambda: 2)
    rows = [Measured("spinning", 0, wall, 10.0) for wall in (4.0, 5.0, 90.0)]
    rows += [Measured("spinning", 2, 20.0, 40.0), Measured("sleeping", 0, 4.0, 8.0), Measured("sleeping", 2, 8.0, 10.0)]
    lines = table(rows, 2, 0).splitlines()
    assert lines[2:] == [
        "| spinning | 0 | 5 | 1 | 1 | 10 | 1 |",
        "| spinning | 2 | 20 | 4 | 2 | 40 | 4 |",
        "| sleeping | 0 | 4 | 1 | 1 | 8 | 1 |",
        "| sleeping | 2 | 8 | 2 | 2 | 10 | 1.25 |",
    ]


@pytest.mark.slow
def test_it_runs_in_its_quick_form() -> None:
    command = [sys.executable, "benchmarks/busy.py", "--quick"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.count("| spinning |") == ran.stdout.count("| sleeping |") == 2
