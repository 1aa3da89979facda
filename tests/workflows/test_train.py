from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pclhd.config import load_preset
from pclhd.data.open import open_dataset
from pclhd.data.records import Dataset
from pclhd.errors import ArgumentError, UserError
from pclhd.runs.folder import RunFolder
from pclhd.supervised.labeller import IdentityLabeller
from pclhd.workflows.train import (
    default_run_folder,
    labeller_for,
    measure_for,
    on_device,
    open_data,
    train_run,
    with_data_root,
)


@pytest.fixture(scope="module")
def dataset(tiny_sysu: Path) -> Dataset:
    return open_dataset("sysu", tiny_sysu)


def test_the_named_data_go_before_those_of_the_settings(tiny_sysu: Path, tiny_regdb: Path) -> None:
    settings = load_preset("tiny", [], root=tiny_sysu)
    assert open_data(settings).name == "sysu"
    assert open_data(settings, tiny_regdb).name == "regdb-1"
    with pytest.raises(ArgumentError, match=r"data: is missing"):
        open_data(load_preset("tiny", []))


def test_where_a_training_goes() -> None:
    settings = load_preset("tiny", ["recipe=paper", "seed=7"])
    assert default_run_folder(settings).path == Path("runs/tiny-paper-7")


def test_the_data_root_becomes_absolute(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset.root.parent)
    relative = replace(dataset, root=Path(dataset.root.name))
    assert with_data_root(load_preset("tiny", []), relative).data.root == dataset.root


@pytest.mark.parametrize(
    ("labels", "kind"),
    [("clusters", type(None)), ("identities", IdentityLabeller), ("visible_identities", IdentityLabeller)],
)
def test_only_recipes_with_labels_get_identities(dataset: Dataset, labels: str, kind: type) -> None:
    assert isinstance(labeller_for(load_preset("tiny", [f"method.labels={labels}"]), dataset), kind)


def test_a_recipe_with_labels_needs_them(dataset: Dataset) -> None:
    bare = replace(dataset, train_identities=None)
    assert measure_for(bare) is None
    assert measure_for(dataset) is not None
    with pytest.raises(UserError, match="have no identities"):
        labeller_for(load_preset("tiny", ["recipe=supervised"]), bare)


def test_on_another_device() -> None:
    settings = load_preset("tiny", [])
    moved = on_device(settings, "cpu")
    assert moved.engine.accelerator == "cpu"
    assert moved.model_copy(update={"engine": settings.engine}) == settings
    with pytest.raises(ArgumentError, match="device=nonsense"):
        on_device(settings, "nonsense")


@pytest.mark.slow
def test_a_training_leaves_a_run(dataset: Dataset, tmp_path: Path) -> None:
    words = ["schedule.stage1_epochs=1", "schedule.stage2_epochs=0", "schedule.iterations=1"]
    settings = load_preset("tiny", words)
    run = train_run(settings, dataset, RunFolder(tmp_path / "run"))
    assert run.settings().data.root == dataset.root.resolve()
    assert list(run.weights()) == ["start", "stage1", "final"]
    first = run.model_file.read_bytes()
    with pytest.raises(UserError, match="already holds files"):
        train_run(settings, dataset, run)
    other = settings.model_copy(update={"seed": 1})
    train_run(other, dataset, run, replace=True)
    assert run.settings().seed == 1
    assert run.model_file.read_bytes() != first
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
