"""Two commands that write to one place: the second is refused by name, and the first ends as if it were alone."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pclhd.config import load_preset
from pclhd.engine.observer import Observer
from pclhd.files import owning_folder
from pclhd.models.released import released_state
from pclhd.models.two_stream import NARROW
from pclhd.models.weights import save_model
from pclhd.supervised import starter
from pclhd.synthetic import write
from pclhd.workflows import cluster, embed, evaluate, exchange
from tests.commands import Call, complaint
from tests.engine.runs import SmallData, Watcher, digest, records
from tests.models.small import SMALL_BOTTLENECK, stirred

SIZE = ["data.height=48", "data.width=24", "data.workers=1"]
OWNED = rf"is being written by another pclhd \(process {os.getpid()}\); wait"


@pytest.fixture
def place(tiny_sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two runs, a checkpoint and features."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)
    for name, architecture in (("run", NARROW), ("theirs", SMALL_BOTTLENECK)):
        Path(name).mkdir()
        Path(name, "config.yaml").write_text(load_preset("tiny", SIZE, root=tiny_sysu).to_yaml())
        save_model(Path(name, "model.safetensors"), stirred(architecture))
    torch.save(released_state(stirred(SMALL_BOTTLENECK, 1)), "theirs.pth")
    np.save("features.npy", np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32))
    return tmp_path


#: By verb: its words, what it calls while it works, and the file or folder that it makes.
FILES: dict[str, tuple[tuple[str, ...], Any, str, str]] = {
    "cluster": (("features.npy", "--out", "OUT.csv", "--k1", "4", "--k2", "2"), cluster, "_cluster", "OUT.csv"),
    "embed": (("run", "--out", "OUT.npy", "--split", "test", "--device", "cpu"), embed, "embed_records", "OUT.npy"),
    "export": (("theirs", "--out", "OUT.pth"), exchange, "released_state", "OUT.pth"),
    "starter": (
        ("--out", "OUT.safetensors", "--people", "4", "--images", "1", "--steps", "1"),
        starter,
        "train_starter",
        "OUT.safetensors",
    ),
}
FOLDERS: dict[str, tuple[tuple[str, ...], Any, str, str]] = {
    "import": (("theirs.pth", "--layout", "sysu", "--out", "OUT"), exchange, "load_released_state", "OUT"),
    "synth": (("--out", "OUT", "--scale", "tiny", "--workers", "1"), write, "_write_all", "OUT"),
}
IN_RUN: dict[str, tuple[tuple[str, ...], Any, str, str]] = {
    "evaluate": (("run", "--device", "cpu"), evaluate, "embed_records", "run/results.json"),
}


def meanwhile(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], None]) -> None:
    """Do something in the middle of a verb, once."""
    real = getattr(owner, name)
    done: list[bool] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        if not done:
            done.append(True)
            act()
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, watched)


@pytest.mark.parametrize(
    ("verb", "force"),
    [*((verb, False) for verb in (*FILES, *FOLDERS, *IN_RUN)), *((verb, True) for verb in (*FILES, "import"))],
)
def test_the_second_of_two_commands(
    pclhd: Call, place: Path, monkeypatch: pytest.MonkeyPatch, verb: str, force: bool
) -> None:
    words, owner, name, out = {**FILES, **FOLDERS, **IN_RUN}[verb]
    given = (verb, *words, *(["--force"] if force else []))
    said: list[str] = []
    meanwhile(monkeypatch, owner, name, lambda: said.append(complaint(pclhd(*given))))
    before = set(place.iterdir()) | set(Path("run").iterdir())
    first = pclhd(*given)
    assert first.code == 0, first.err
    assert re.search(OWNED, said[0])
    after = set(place.iterdir()) | set(Path("run").iterdir())
    assert {path.name for path in after - before} == {Path(out).name}, "no lock is left"


def _write_precious(path: Path) -> None:
    path.write_text("precious")


@pytest.mark.parametrize("verb", FILES)
def test_a_file_that_appears_while_a_command_works(
    pclhd: Call, place: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    words, owner, name, out = FILES[verb]
    meanwhile(monkeypatch, owner, name, partial(_write_precious, Path(out)))
    assert f"--out {out}: already exists" in complaint(pclhd(verb, *words))
    assert Path(out).read_text() == "precious"
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []
    forced = pclhd(verb, *words, "--force")
    assert forced.code == 0, forced.err
    assert Path(out).read_bytes() != b"precious"


def test_a_report_of_a_run_that_is_being_written(pclhd: Call, place: Path) -> None:
    with owning_folder(Path("run")):
        assert re.search(OWNED, complaint(pclhd("report", "run")))
    assert sorted(path.name for path in Path("run").iterdir()) == ["config.yaml", "model.safetensors"]


# Training.


class _Loading(Watcher):
    """Acts when the images are loaded and the run folder is made, before the first epoch."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act = act

    def loaded(self, *_: object) -> None:
        self.act()


@pytest.mark.parametrize("moment", ["at the start", "at a step"])
@pytest.mark.parametrize("resume", [False, True])
def test_the_second_of_two_trainings(small: SmallData, tmp_path: Path, moment: str, resume: bool) -> None:
    """The first ends with the weights and the log of one that was alone."""
    short = ("schedule.stage2_epochs=0",)
    alone = small.train(tmp_path / "alone", *short)
    run = tmp_path / "run"
    refused: list[str] = []

    def second(*_: object) -> None:
        with pytest.raises(Exception, match=OWNED) as caught:
            small.train(run, *short, resume=resume)
        refused.append(str(caught.value))

    observer: Observer = _Loading(second) if moment == "at the start" else Watcher(step=second)
    assert small.train(run, *short, observer=observer) == alone
    assert len(refused) == (1 if moment == "at the start" else 2)
    assert records(run, "step") == records(tmp_path / "alone", "step")
    assert _names(run) == _names(tmp_path / "alone")


def test_two_that_resume_one_run(small: SmallData, tmp_path: Path) -> None:
    alone = small.train(tmp_path / "alone")
    run = tmp_path / "run"

    class _Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise _Stop

    with pytest.raises(_Stop):
        small.train(run, observer=Watcher(step=stop))

    def second(*_: object) -> None:
        with pytest.raises(Exception, match=OWNED):
            small.train(run, resume=True)

    assert small.train(run, resume=True, observer=Watcher(step=second)) == alone
    assert records(run, "epoch") == records(tmp_path / "alone", "epoch")


def _names(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*")}


@pytest.mark.slow
def test_two_processes_with_one_run_folder(tiny_sysu: Path, tmp_path: Path) -> None:
    """Neither is given the folder's name, so both take the default one."""
    settings = [*SIZE, "schedule.iterations=1", "schedule.stage1_epochs=1", "schedule.stage2_epochs=0"]
    words = ["train", "tiny", "--data", str(tiny_sysu), *settings, "clustering.eps=0.9"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "pclhd", *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], said
    first, second = codes.index(0), codes.index(2)
    assert re.search(
        rf"pclhd: \S+: is being written by another pclhd( \(process {both[first].pid}\))?; wait", said[second]
    )
    (run,) = (tmp_path / "runs").iterdir()
    assert {"config.yaml", "model.safetensors", "checkpoints/start.safetensors"} <= _names(run)
    assert not [name for name in _names(run) if name.rpartition("/")[2].startswith(".")]


# Permissions.


def mode(path: Path | str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_results_and_report_keep_their_permissions(pclhd: Call, place: Path) -> None:
    files = {"evaluate": Path("run/results.json"), "report": Path("run/report/index.html")}
    for verb, file in files.items():
        assert pclhd(verb, "run").code == 0
        file.chmod(0o600)
        before = file.stat()
        assert pclhd(verb, "run").code == 0
        assert file.stat().st_ino != before.st_ino, "it is another file"
        assert mode(file) == 0o600


@pytest.mark.parametrize("verb", FOLDERS)
def test_an_empty_folder_keeps_its_permissions(pclhd: Call, place: Path, verb: str) -> None:
    Path("OUT").mkdir(mode=0o700)
    made = pclhd(verb, *FOLDERS[verb][0])
    assert made.code == 0, made.err
    assert mode("OUT") == 0o700


def test_a_run_that_is_replaced_keeps_its_permissions(pclhd: Call, place: Path) -> None:
    Path("run").chmod(0o700)
    before = digest(Path("run/model.safetensors"))
    made = pclhd("import", "theirs.pth", "--layout", "sysu", "--out", "run", "--force")
    assert made.code == 0, made.err
    assert mode("run") == 0o700
    assert digest(Path("run/model.safetensors")) != before
    assert not list(place.rglob(".*"))


def test_a_run_is_whole_again_if_its_replacement_fails(
    pclhd: Call, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exchange, "save_model", full)
    words = ("import", "theirs.pth", "--layout", "sysu", "--out", "run", "--force")
    assert "run: cannot be written (No space left on device)" in complaint(pclhd(*words))
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    assert not list(place.rglob(".*"))
