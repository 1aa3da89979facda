"""Every setting reaches the result, or is refused.

A new setting without an entry in a table here fails a test. Settings whose effect on the weights is measured in
`tests/engine/test_trainer.py` are counted, not tried again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pclhd.config import Settings
from pclhd.engine import labelling
from tests.commands import Outcome, call
from tests.data.fake_layouts import write_regdb
from tests.engine import test_trainer as trainer
from tests.engine.runs import SmallData, digest, records


def setting_names() -> set[str]:
    """All settings, by dotted name."""
    names = set()
    for name, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        names |= {name} if inner is None else {f"{name}.{key}" for key in inner}
    return names


class Place:
    """A folder with data and a training on it.

    Args:
        root: An empty folder.
        small: Data of the training.
    """

    def __init__(self, root: Path, small: SmallData) -> None:
        self.root = root
        self.own = root / "own"
        for image in small.training_set.images:
            target = self.own / image.modality / image.path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image.path, target)
        self._words = [*small.words, "engine.accelerator=cpu", "schedule.stage2_epochs=0"]
        self._count = 0
        self._known: dict[tuple[str, ...], tuple[Path, Outcome]] = {}

    def train(self, *words: str, preset: str = "tiny") -> tuple[Path, Outcome]:
        """A training of one epoch with some words; each is made once."""
        if (preset, *words) not in self._known:
            self._count += 1
            run = self.root / f"run{self._count}"
            ended = call("train", preset, *self._words, *words, "--data", self.own, "--out", run)
            self._known[preset, *words] = run, ended
        return self._known[preset, *words]

    def run(self, *words: str, preset: str = "tiny") -> Path:
        """The run folder of a training that must end well."""
        run, ended = self.train(*words, preset=preset)
        assert ended.code == 0, ended.err
        return run

    def weights(self, *words: str) -> str:
        """Digest of the weights."""
        return digest(self.run(*words) / "model.safetensors")

    def refusal(self, *words: str) -> str:
        """The message about words that must be refused."""
        _, ended = self.train(*words)
        assert ended.code == 2, ended
        return ended.err


@pytest.fixture(scope="module")
def place(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("settings"), small)


# Settings of a training.


def _other_weights(*words: str) -> Callable[[Place], None]:
    def check(place: Place) -> None:
        assert place.weights(*words) != place.weights()

    return check


def _refused(word: str, said: str) -> Callable[[Place], None]:
    def check(place: Place) -> None:
        assert said in place.refusal(word)

    return check


def _preset(place: Place) -> None:
    path = place.root / "mine.yaml"
    path.write_text("model: {architecture: narrow}\n")
    saved = (place.run(preset=str(path)) / "config.yaml").read_text()
    assert "preset: mine" in saved


def _selection(place: Place) -> None:
    run = place.run("selection=silhouette")
    assert (run / "checkpoints" / "selected.safetensors").is_file()
    assert len(records(run, "selection")) == 1


def _epochs(name: str) -> Callable[[Place], None]:
    def check(place: Place) -> None:
        stages = [record["stage"] for record in records(place.run(f"schedule.{name}_epochs=2"))]
        assert stages == ([1, 1] if name == "stage1" else [1, 2, 2])

    return check


def _trial(place: Place) -> None:
    root = place.root / "regdb"
    write_regdb(root)
    assert call("check", root).code in (0, 1)
    assert "idx/train_visible_2.txt" in call("train", "regdb", "data.trial=2", "--data", root).err


def _same_camera_rule(place: Place) -> None:
    # Of each query, only its own camera has images of its person.
    lines = ["path,modality,camera,identity,split"]
    for path in sorted(place.own.glob("*/*.png")):
        person, _, number = map(int, path.stem.split("-"))
        lines.append(
            f"{path.parent.name}/{path.name},{path.parent.name},1,{person},{'test' if number == 2 else 'train'}"
        )
    (place.own / "listed.csv").write_text("\n".join(lines))
    said = []
    for word in ("data.same_camera_rule=false", "data.same_camera_rule=true"):
        run = place.run(word)
        said.append(call("evaluate", run, "--data", place.own / "listed.csv", "--device", "cpu", "--force"))
    assert said[0].code == 0, said[0].err
    assert (said[1].code, "none of the" in said[1].err) == (2, True)


def _cache(place: Place) -> None:
    folder = place.root / "cache"
    assert place.weights(f"data.cache={folder}") == place.weights()
    assert len(list(folder.glob("*.npy"))) == 2


def _cache_gib(place: Place) -> None:
    said = place.refusal(f"data.cache={place.root / 'full'}", "data.cache_gib=1e-9")
    assert "data.cache_gib" in said


EXPLODES = "schedule.learning_rate=1e30"


def _restarts(place: Place) -> None:
    assert "no longer finite" in place.refusal(EXPLODES)
    run, ended = place.train(EXPLODES, "schedule.restarts=2", "schedule.restart_factor=1e-33")
    assert ended.code == 0, ended.err
    assert len(records(run, "restart")) == 1


def _restart_factor(place: Place) -> None:
    words = (EXPLODES, "schedule.restarts=1")
    runs = [place.run(*words, f"schedule.restart_factor={factor}") for factor in ("1e-33", "1e-34")]
    assert digest(runs[0] / "model.safetensors") != digest(runs[1] / "model.safetensors")


def _loosen(place: Place) -> None:
    real: Callable[..., Any] = getattr(labelling, "cluster_features")  # noqa: B009

    def clustered(features: Any, options: Any, **more: Any) -> Any:
        found = real(features, options, **more)
        return replace(found, labels=np.full_like(found.labels, -1)) if options.eps < 0.42 else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelling, "cluster_features", clustered)
        place.refusal("clustering.eps=0.3")  # all noise in the first epoch
        (record,) = records(place.run("clustering.eps=0.3", "clustering.loosen=0.6"))
    assert record["visible"]["loosened"]


def _near_copies(place: Place) -> None:
    (kept,) = records(place.run())
    (thinned,) = records(place.run("clustering.near_copies=thin"))
    assert thinned != kept


def _compile(place: Place) -> None:
    asked = []
    real = torch.compile

    def watched(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        return real(*arguments, backend="eager", **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", watched)
        place.run("engine.compile=true", "seed=7")
    assert asked


def _log_every(place: Place) -> None:
    assert len(records(place.run("engine.log_every=2"), "step")) < len(records(place.run(), "step"))


def _checkpoint_minutes(place: Place) -> None:
    run = place.run("engine.checkpoint_minutes=0", "schedule.iterations=4")
    within = [path for path in (run / "checkpoints").glob("epoch-*") if not path.stem.endswith("-step-00000")]
    assert within
    assert digest(run / "model.safetensors") == place.weights("schedule.iterations=4")


def _keep_weights(place: Place) -> None:
    run = place.run("engine.keep_weights=true")
    assert [path.name for path in (run / "checkpoints").glob("weights-*")] == ["weights-0001.safetensors"]


def _tensorboard(place: Place) -> None:
    pytest.importorskip("tensorboard")
    run = place.run("engine.tensorboard=true")
    assert digest(run / "model.safetensors") == place.weights()
    assert list((run / "tensorboard").iterdir())


def _mlflow(place: Place) -> None:
    pytest.importorskip("mlflow")
    assert "would be saved" in place.refusal("engine.mlflow=http://me:secret@host")
    run = place.run(f"engine.mlflow={place.root / 'records'}")
    assert digest(run / "model.safetensors") == place.weights()
    assert list((place.root / "records").glob("*/*/metrics"))


def _wandb(place: Place) -> None:
    pytest.importorskip("wandb")
    run = place.run("engine.wandb=demo")
    assert digest(run / "model.safetensors") == place.weights()
    assert list((run / "wandb").glob("offline-run-*"))


def _labels(place: Place) -> None:
    assert "no identities" in place.refusal("method.labels=identities")


def _backbone(place: Place) -> None:
    assert "model.backbone" in place.refusal("model.backbone={hidden_size: 8}")
    assert "model.backbone=DIR" in place.refusal("model.architecture=backbone")


def _data_root(place: Place) -> None:
    ended = call("train", "tiny", f"data.root={place.root / 'nowhere'}", "--out", place.root / "none")
    assert (ended.code, "nowhere" in ended.err) == (2, True)


#: Each setting that `tests/engine/test_trainer.py` does not try, and how it shows.
ELSEWHERE: dict[str, Callable[[Place], None]] = {
    "preset": _preset,
    "seed": _other_weights("seed=1"),
    "selection": _selection,
    "recipe": _other_weights("recipe=baseline"),
    "method.labels": _labels,
    "data.layout": _refused("data.layout=sysu", "it looks like own"),
    "data.root": _data_root,
    "data.trial": _trial,
    "data.same_camera_rule": _same_camera_rule,
    "data.cache": _cache,
    "data.cache_gib": _cache_gib,
    "model.architecture": _refused("model.architecture=resnet50", "same architecture"),
    "model.backbone": _backbone,
    "model.weights": _other_weights("model.weights=none"),
    "schedule.stage1_epochs": _epochs("stage1"),
    "schedule.stage2_epochs": _epochs("stage2"),
    "schedule.restarts": _restarts,
    "schedule.restart_factor": _restart_factor,
    "clustering.loosen": _loosen,
    "clustering.near_copies": _near_copies,
    "engine.accelerator": _refused("engine.accelerator=cuda:99", "cuda:99"),
    "engine.compile": _compile,
    "engine.log_every": _log_every,
    "engine.checkpoint_minutes": _checkpoint_minutes,
    "engine.keep_weights": _keep_weights,
    "engine.tensorboard": _tensorboard,
    "engine.mlflow": _mlflow,
    "engine.wandb": _wandb,
}


def test_no_setting_is_forgotten() -> None:
    tried = {
        *(f"method.{name}" for name in trainer.CHOICES.keys() | trainer.ON_BLURRED_DATA | trainer.ON_UNEVEN_DATA),
        *(word.partition("=")[0] for word in trainer.REACH_THE_WEIGHTS),
        *(word.partition("=")[0] for word in trainer.DECAYS),
        *(word.partition("=")[0] for word in trainer.MUST_NOT_REACH_THE_WEIGHTS),
        *(word.partition("=")[0] for word in trainer.CLUSTERING),
        *trainer.BY_THEMSELVES,
    }
    assert tried | ELSEWHERE.keys() == setting_names()


@pytest.mark.slow
@pytest.mark.parametrize("name", ELSEWHERE)
def test_every_setting_shows(place: Place, name: str) -> None:
    ELSEWHERE[name](place)
