"""A sink cannot disturb a training, whatever it does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from pclhd.config import Settings
from pclhd.engine.interruption import Interrupted
from pclhd.engine.observer import Observer
from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder
from pclhd.sinks import recording as module
from pclhd.sinks.observing import Sink, Watched, place, scalars
from pclhd.sinks.recording import recording
from pclhd.sinks.tensorboard import TensorBoard
from pclhd.workflows.train import train_run
from tests.engine.runs import SmallData, Watcher, digest

METHODS = ("loaded", "logged", "labelled", "finished", "close")
#: Dropout draws from the global generator, so this training would notice a sink that does.
SHORT = ("schedule.stage2_epochs=1", "schedule.iterations=1", "engine.accelerator=cpu")


class Broken:
    """A sink that uses all global generators and then fails, in one of its methods."""

    name = "a broken sink"

    def __init__(self, method: str) -> None:
        self.method, self.called = method, [""]

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in METHODS:
            raise AttributeError(name)

        def called(*_: object) -> None:
            self.called.append(name)
            torch.rand(7)
            np.random.rand(7)  # noqa: NPY002
            random.random()
            if name == self.method:
                raise OSError(28, "No space left on device")

        return called


def train(
    small: SmallData, run: Path, *words: str, sinks: tuple[Sink, ...] = (), watcher: Watcher | None = None
) -> str:
    @contextmanager
    def feeding(settings: Settings, run: RunFolder, observer: Observer) -> Iterator[Watched]:
        watched = Watched(observer, list(sinks))
        yield watched
        watched.close("finished")

    with pytest.MonkeyPatch.context() as patch:
        if sinks:
            patch.setattr(module, "recording", feeding)
        train_run(small.settings(*SHORT, *words), small.dataset(), RunFolder(run), observer=watcher or Watcher())
    return digest(run / "model.safetensors")


@pytest.fixture(scope="module")
def plain(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the weights without any sink."""
    return train(small, tmp_path_factory.mktemp("plain") / "run")


def test_a_sink_that_fails_changes_no_bit(small: SmallData, plain: str, tmp_path: Path) -> None:
    watcher = Watcher()
    sinks = [Broken(method) for method in METHODS]
    assert train(small, tmp_path / "run", sinks=tuple(sinks), watcher=watcher) == plain
    warnings = [warning for warning in watcher.warnings if "records no more" in warning]
    assert len(warnings) == len(METHODS)
    for sink, warning in zip(sinks, warnings, strict=True):
        assert warning.startswith("a broken sink records no more (OSError: [Errno 28] No space left on device)")
        # It is not called again.
        assert sink.called.index(sink.method) == len(sink.called) - 1
    assert set(sinks[-1].called[1:]) == set(METHODS)


def test_without_sinks_the_observer_is_the_given_one(small: SmallData, tmp_path: Path) -> None:
    watcher = Watcher()
    with recording(small.settings(), RunFolder(tmp_path), watcher) as watching:
        assert watching is watcher


@pytest.mark.parametrize(
    ("error", "ending"), [(None, "finished"), (Interrupted(15), "interrupted"), (UserError("no"), "failed")]
)
def test_sinks_know_how_it_ended(
    small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, ending: str
) -> None:
    endings: list[str] = []
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(TensorBoard, "close", lambda self, how: endings.append(how))
    settings = small.settings("engine.tensorboard=true")
    if error is None:
        with recording(settings, RunFolder(tmp_path), None):
            pass
    else:
        with pytest.raises(type(error)), recording(settings, RunFolder(tmp_path), None):
            raise error
    assert endings == [ending]


def test_numbers_of_a_record() -> None:
    record = {
        "kind": "step",
        "epoch": 2,
        "stage": 1,
        "step": 3,
        "global_step": 43,
        "lr": 0.5,
        "loss": {"total": 1.5, "cross": float("nan"), "joint": None},
    }
    found = scalars(record)
    assert found.pop("step/loss/cross") != found.get("nothing")
    assert found == {"step/stage": 1.0, "step/lr": 0.5, "step/loss/total": 1.5}
    assert place(record) == 43
    assert place({"kind": "epoch", "epoch": 2}) == 2


@pytest.mark.parametrize(
    ("word", "package", "extra"),
    [
        ("engine.mlflow=records", "mlflow", r"pip install mlflow-skinny"),
        ("engine.wandb=project", "wandb", r"pip install wandb"),
        ("engine.tensorboard=true", "torch.utils.tensorboard", "pip install tensorboard"),
    ],
)
def test_a_missing_package_is_noticed_before_anything_is_written(
    small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UserError, match=extra):
        train_run(small.settings(word), small.dataset(), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
