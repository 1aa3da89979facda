from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pclhd.errors import UserError
from pclhd.report.methods import data_name, mean_and_std, methods_of_runs, methods_of_table
from pclhd.runs.folder import RunFolder
from pclhd.runs.saved import read_run
from tests.report.ablations import METHODS, make_ablation
from tests.report.fixtures import write_run


def make(root: Path, name: str, seed: int, *, recipe: str = "pclhd", data: str = "5f", **settings: object) -> Path:
    run = write_run(root / name)
    tree = {"preset": "tiny", "seed": seed, "recipe": recipe, **settings}
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    (run / "provenance.json").write_text(json.dumps({"pclhd": "1", "data": {"training_checksum": data * 32}}))
    results = json.loads((run / "results.json").read_text())
    results["dataset"] = {"name": "sysu", "checksum": data * 32, "synthetic": True}
    (run / "results.json").write_text(json.dumps(results))
    return run


def test_seeds_of_a_method_have_one_label(tmp_path: Path) -> None:
    runs = [make(tmp_path, f"{recipe}-{seed}", seed, recipe=recipe) for recipe in ("pgm", "pclhd") for seed in (1, 0)]
    (found,) = methods_of_runs(runs)
    assert [(method.label, [run.folder.path.name for run in method.runs]) for method in found.methods] == [
        ("pgm", ["pgm-0", "pgm-1"]),
        ("pclhd", ["pclhd-0", "pclhd-1"]),
    ]
    assert found.data == "drawn people in SYSU-MM01's layout"


def test_two_methods_of_one_recipe_are_told_apart(tmp_path: Path) -> None:
    runs = [make(tmp_path, "plain-0", 0), make(tmp_path, "more-0", 0, method={"cross": 1})]
    (found,) = methods_of_runs(runs)
    assert [method.label for method in found.methods] == ["pclhd (plain-0)", "pclhd (more-0)"]


def test_data_sets_are_kept_apart(tmp_path: Path) -> None:
    runs = [make(tmp_path, "a", 0), make(tmp_path, "b", 1, data="6a"), make(tmp_path, "c", 1)]
    first, second = methods_of_runs(runs)
    assert (first.data, second.data) == (
        "drawn people in SYSU-MM01's layout (1)",
        "drawn people in SYSU-MM01's layout (2)",
    )
    assert [run.folder.path.name for run in first.methods[0].runs] == ["a", "c"]


def test_the_trials_of_regdb_are_one_method(tmp_path: Path) -> None:
    runs = []
    for recipe in ("pgm", "pclhd"):
        for trial in (2, 1):
            run = make(tmp_path, f"{recipe}-{trial}", 0, recipe=recipe, data=f"{trial}f")
            settings = yaml.safe_load((run / "config.yaml").read_text())
            settings["data"] = {"layout": "regdb", "trial": trial, "root": "/regdb"}
            (run / "config.yaml").write_text(yaml.safe_dump(settings))
            (run / "results.json").write_text((run / "results.json").read_text().replace('"sysu"', f'"regdb-{trial}"'))
            runs.append(run)
    (found,) = methods_of_runs(runs)
    assert found.data == "drawn people in RegDB's layout, trials 2, 1"
    assert [(method.label, [run.folder.path.name for run in method.runs]) for method in found.methods] == [
        ("pgm", ["pgm-1", "pgm-2"]),
        ("pclhd", ["pclhd-1", "pclhd-2"]),
    ]


def test_nothing_and_the_same_run_twice(tmp_path: Path) -> None:
    assert methods_of_runs([]) == []
    run = make(tmp_path, "a", 0)
    with pytest.raises(UserError, match="is named twice"):
        methods_of_runs([run, tmp_path / "." / "a"])
    with pytest.raises(UserError, match="is not a run folder"):
        methods_of_runs([tmp_path])


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ({"name": "sysu", "synthetic": True}, "drawn people in SYSU-MM01's layout"),
        ({"name": "sysu", "synthetic": False}, "SYSU-MM01"),
        ({"name": "sysu"}, "SYSU-MM01 or drawn people in its layout"),
        ({"name": "regdb-3", "synthetic": False}, "RegDB, trial 3"),
        ({"name": "own", "synthetic": False}, "own images"),
        ({"name": "elsewhere", "synthetic": True}, "drawn people"),
    ],
)
def test_drawn_people_never_have_the_name_of_a_benchmark(tmp_path: Path, dataset: dict[str, object], name: str) -> None:
    run = write_run(tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, "dataset": dataset}))
    assert data_name(read_run(RunFolder(run))) == name


def test_data_of_a_run_that_was_not_evaluated(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "results.json").unlink()
    assert data_name(read_run(RunFolder(run))) == "images in the layout sysu, not evaluated"


def test_entries_of_an_ablation_begin_with_their_stage_one(tmp_path: Path) -> None:
    folder = make_ablation(tmp_path, {"methods": METHODS}, seeds=(0, 3))
    found = methods_of_table(folder, METHODS, (0, 1, 3))
    assert [method.label for method in found.methods] == ["baseline", "pclhd"]
    first = found.methods[1].first
    assert [(epoch.epoch, epoch.stage) for epoch in first.epochs()] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]
    start = folder.start(METHODS.entries[1], 0)
    start.checkpoints_folder.mkdir()
    start.weights_file("start").touch()
    folder.run(METHODS.entries[1], 0).checkpoints_folder.mkdir()
    folder.run(METHODS.entries[1], 0).weights_file("start").touch()  # that of stage II, which is the end of stage I
    assert first.weights() == {
        "start": start.weights_file("start"),
        "stage1": start.model_file,
        "final": first.folder.model_file,
    }
    assert len(found.methods[0].runs) == 2


def test_mean_and_std() -> None:
    assert mean_and_std([3.0]) == (3.0, None)
    mean, std = mean_and_std(iter([1.0, 3.0]))
    assert mean == 2.0
    assert std == pytest.approx(2**0.5)
