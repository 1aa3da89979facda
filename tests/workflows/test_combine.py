from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import parse_results
from pclhd.workflows.combine import combine_runs
from tests.runs.test_round_trip import RESULTS


def write(path: Path, rank1: float, name: str = "regdb-1") -> RunFolder:
    """An evaluated run, with one measure of its own."""
    tree: dict[str, Any] = copy.deepcopy(RESULTS)
    tree["rows"][0]["rank1"] = {"mean": rank1, "std": 0.0}
    tree["dataset"]["name"] = name
    del tree["runs"]
    run = RunFolder(path)
    run.path.mkdir()
    run.write_results(parse_results(tree))
    return run


def test_each_run_counts_once(tmp_path: Path) -> None:
    shares = (0.25, 0.5, 0.75)
    runs = [write(tmp_path / str(number), share, f"regdb-{number}") for number, share in enumerate(shares)]
    combined = combine_runs(runs)
    (row,) = combined.rows
    assert (row.rank1.mean, row.trials) == (0.5, 3)
    assert row.rank1.std == pytest.approx((0.125 / 3) ** 0.5)
    assert combined.dataset.name == "regdb-0, regdb-1, regdb-2"
    assert combined.runs == [str(run) for run in runs]
    assert (combined.training, combined.recipe) == ("unsupervised", "pclhd")
    assert combined.ranked_examples.weights == {}
    assert parse_results(combined.to_dict()) == combined


def test_a_run_that_was_not_evaluated(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make it with: pclhd evaluate"):
        combine_runs([write(tmp_path / "one", 0.5), RunFolder(tmp_path / "two")])
