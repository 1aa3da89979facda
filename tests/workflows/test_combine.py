from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pclhd.config import load_preset
from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import parse_results
from pclhd.workflows.combine import combine_runs
from tests.runs.test_round_trip import RESULTS


def write(
    path: Path,
    rank1: float = 0.5,
    name: str = "regdb-1",
    *,
    settings: tuple[str, ...] = (),
    dataset: dict[str, Any] | None = None,
    **changes: Any,
) -> RunFolder:
    """An evaluated run, with one measure of its own."""
    tree: dict[str, Any] = copy.deepcopy(RESULTS)
    tree["rows"][0]["rank1"] = {"mean": rank1, "std": 0.0}
    tree["dataset"] |= {"name": name, "test_checksum": name, **(dataset or {})}
    tree |= changes
    del tree["runs"]
    run = RunFolder(path)
    run.path.mkdir()
    if settings:
        run.write_settings(load_preset("tiny", list(settings)))
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


def test_seeds_of_one_data_set_may_be_averaged(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / str(seed), seed / 4, seed=seed, settings=(f"seed={seed}", f"engine.log_every={seed + 1}"))
        for seed in (1, 2)
    ]
    assert combine_runs(runs).rows[0].rank1.mean == 0.375


def test_a_training_counts_once(tmp_path: Path) -> None:
    run = write(tmp_path / "one", 0.25)
    with pytest.raises(UserError, match=r"one and .*one have the same data and seed \(3\).*--force"):
        combine_runs([run, run])
    assert combine_runs([run, run], force=True).rows[0].trials == 2
    with pytest.raises(UserError, match="would count twice"):
        combine_runs([run, write(tmp_path / "other", 0.75, "regdb-2"), write(tmp_path / "copy", 0.25)])


def test_imported_weights_are_distinguished_by_the_weights_alone(tmp_path: Path) -> None:
    runs = [write(tmp_path / name, training="imported", seed=None, recipe=None) for name in ("one", "two")]
    assert combine_runs(runs).rows[0].trials == 2
    for run, weights in zip(runs, (b"a", b"b"), strict=True):
        run.model_file.write_bytes(weights)
    assert combine_runs(runs).rows[0].trials == 2
    runs[1].model_file.write_bytes(b"a")
    with pytest.raises(UserError, match="have the same weights"):
        combine_runs(runs)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "sysu"}, "data sysu, not regdb"),
        ({"name": "regdb-2", "training": "supervised"}, "labels supervised, not unsupervised"),
        ({"name": "regdb-2", "recipe": "paper"}, "recipe paper, not pclhd"),
        ({"name": "regdb-2", "dataset": {"synthetic": False}}, "synthetic false, not true"),
        ({"name": "regdb-1", "seed": 5, "dataset": {"test_checksum": "cc"}}, "its test images are others"),
        ({"name": "regdb-1", "seed": 5, "dataset": {"checksum": "cc"}}, "its training images are others"),
        ({"name": "regdb-2", "settings": ("schedule.iterations=7",)}, "schedule.iterations=7, not 3"),
        ({"name": "regdb-2", "settings": ("method.outliers=both",)}, "method.outliers=both, not "),
        ({"name": "regdb-2", "settings": ("clustering.k1=9",)}, "clustering.k1=9, not 8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_runs_that_do_not_belong_together(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    first = write(tmp_path / "first", settings=("seed=1",))
    other = write(tmp_path / "other", **{"settings": ("seed=2",), **changes})
    with pytest.raises(UserError, match=f"other does not belong together with .*first: {reason}"):
        combine_runs([first, other])
    assert combine_runs([first, other], force=True).rows[0].trials == 2


def test_test_images_that_were_trained_on_are_added_up(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / str(number), name=f"regdb-{number}", trained_on_test_images=trained)
        for number, trained in enumerate((None, 0, 5, 2))
    ]
    assert combine_runs(runs).trained_on_test_images == 7
    assert combine_runs(runs[:2]).trained_on_test_images is None
    combined = combine_runs(runs)
    assert combined.near_copies is None
    assert combined.people_in_both_splits == []
