"""Every option that a verb accepts reaches the result, or is refused.

A new option without an entry in `tests/cli/option_table.py` fails a test.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import uvicorn
from optuna.trial import FrozenTrial
from safetensors.numpy import save_file

from pclhd.config import load_preset
from pclhd.gallery.gallery import Gallery
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.released import released_state
from pclhd.models.weights import load_model, save_model
from pclhd.service.access import Service
from pclhd.service.audit import AuditLog
from pclhd.service.tokens import Role, create_token
from pclhd.weights import starter_path
from pclhd.workflows import exchange
from tests.cli.option_table import NO_RESULT, OPTIONS
from tests.commands import all_verbs, call
from tests.data.fake_layouts import write_regdb
from tests.engine.runs import SmallData, digest, draw_people
from tests.gallery.photos import Photos
from tests.gallery.test_video import draw as draw_film
from tests.models.small import SMALL_BOTTLENECK, stirred
from tests.test_every_setting import Place


def test_no_option_is_forgotten() -> None:
    accepted = {
        (verb, parameter.opts[0])
        for verb, command in all_verbs().items()
        for parameter in command.params
        if parameter.opts[0].startswith("--") and parameter.name not in ("help", "debug")
    }
    tried = {(verb, option) for verb, options in OPTIONS.items() for option in options}
    assert tried | NO_RESULT.keys() == accepted
    assert not tried & NO_RESULT.keys()


@pytest.fixture(scope="module")
def stage(small: SmallData, photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with something for each verb to read."""
    root = tmp_path_factory.mktemp("options")
    place = Place(root, small)
    lines, leaky = ["path,modality,camera,identity,split"], ["path,modality,camera,identity,split"]
    for path in sorted((root / "own").glob("*/*.png")):
        person, camera, number = map(int, path.stem.split("-"))
        modality = path.parent.name
        row = f"own/{modality}/{path.name},{modality},{camera},{person}"
        lines.append(f"{row},{'train' if number < 2 else 'test'}")
        leaky.append(f"{row},{'train' if number < 1 else 'test'}")  # the run was trained on some of these test images
    (root / "listed.csv").write_text("\n".join(lines))
    (root / "leaky.csv").write_text("\n".join(leaky))
    place.own = root / "listed.csv"
    for name, word in (("run", "seed=0"), ("second", "seed=1")):
        place.run(word).rename(root / name)
        assert call("evaluate", root / name, "--device", "cpu").code == 0
    theirs = root / "theirs"
    theirs.mkdir()
    (theirs / "config.yaml").write_text(load_preset("tiny", []).to_yaml())
    save_model(theirs / "model.safetensors", stirred(SMALL_BOTTLENECK))
    torch.save(released_state(stirred(SMALL_BOTTLENECK, 1)), root / "theirs.pth")
    (root / "small.yaml").write_text("data: {height: 48, width: 24}\nmodel: {architecture: narrow, weights: none}\n")
    (root / "study.yaml").write_text("preset: tiny\nspace: {method.cross: {type: categorical, choices: [0.5, 1.0]}}\n")
    _features(root)
    write_regdb(root / "regdb")
    shutil.copytree(root / "own", root / "broken")
    (root / "broken" / "visible" / "0-1-0.png").write_bytes(b"broken")
    _calibrated(root)
    _people(root, photos)
    for name in ("there.csv", "there.pth", "there.npy", "there.safetensors", "there.parquet", "there.html"):
        (root / name).write_bytes(b"old")
    return root


def _calibrated(root: Path) -> None:
    """A run with a calibration, made from people in `strangers.csv`."""
    shutil.copytree(root / "run", root / "calibrated")
    drawn = draw_people(root / "strangers", people=48, per_camera=1, noise=60, seed=5)
    lines = ["path,modality,camera,identity,split"]
    for image in drawn.images:
        row = f"strangers/{image.path.name},{image.modality},{image.camera},{image.path.name.partition('-')[0]}"
        lines.append(f"{row},test")
    lines += [
        f"own/{path.parent.name}/{path.name},{path.parent.name},,0,train" for path in (root / "own").glob("*/0-*-0.png")
    ]
    (root / "strangers.csv").write_text("\n".join(lines))
    made = call("calibrate", root / "calibrated", "--data", root / "strangers.csv", "--device", "cpu")
    assert made.code == 0, made.err


def _people(root: Path, photos: Photos) -> None:
    """A gallery, a video with boxes, tokens and a log."""
    shutil.copytree(photos.root, root / "photos")
    days, gallery = sorted((root / "photos" / "day").glob("2026*")), root / "people"
    common = ("--model", root / "photos" / "model.safetensors", "--device", "cpu")
    for words in (
        (*days, "--modality", "visible", "--camera", "gate", "--time", "%Y%m%d_%H%M%S"),
        (root / "photos" / "night", "--modality", "infrared", "--camera", "yard", "--time", "2020-01-01T12:00",
         "--track", "walker"),
    ):  # fmt: skip
        made = call("gallery", "add", gallery, *words, *common)
        assert made.code == 0, made.err
    save_model(root / "shipped.safetensors", load_model(starter_path()), preprocessing=Preprocessing(96, 48))
    draw_film(root / "walk.mp4", {"1": (0, 20), "2": (5, 30)}, 30)
    # A box that stays, so that it shows something else whenever someone passes.
    (root / "walk.txt").write_text("\n".join(f"{frame + 1},1,60,8,20,48,1,-1,-1,-1" for frame in range(30)))
    for name in ("guard", "visitor"):
        create_token(root / "tokens.json", name, Role.SEARCH)
    log = AuditLog(root / "audit.jsonl")
    log.append("guard", "search")
    log.close()


@pytest.fixture(scope="module")
def values(stage: Path) -> dict[str, str]:
    """The values of the names in braces."""
    with socket.socket() as one, socket.socket() as two:
        for listener in (one, two):
            listener.bind(("127.0.0.1", 0))
        ports = [str(listener.getsockname()[1]) for listener in (one, two)]
    first = next(iter(Gallery(stage / "people").rows()))
    return {"{port}": ports[0], "{other}": ports[1], "{id}": first.id}


def _features(root: Path) -> None:
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(12), 12)
    rows = random.standard_normal((12, 8))[people] + 0.6 * random.standard_normal((144, 8))
    rows[::3] += 0.8 * random.standard_normal(8)
    rows[1] = rows[4] = rows[7]  # near-copies
    features = (rows * random.uniform(0.5, 2, (144, 1))).astype(np.float32)
    np.save(root / "features.npy", features)
    save_file({"a": features, "b": features[::-1].copy()}, root / "two.safetensors")
    (root / "people.txt").write_text("\n".join(map(str, people)))
    (root / "modality.txt").write_text("\n".join("infrared" if row % 3 == 0 else "visible" for row in range(144)))


_CHANGING = re.compile(
    r"[\d.]+ ?(ms|s|min|h)\b|-{3,}|seconds [\d.]+ of these clustering [\d.]+|\"seconds\": ({[^}]*}|[\d.]+)"
    r"|\"added\": \"[^\"]*\"|pclhd_[\w-]{20,}"
)
_TELLING = {".csv", ".html", ".npy", ".pth", ".safetensors", ".jpg", ".yaml", ".parquet"}


class Shows:
    """The exit code of commands, and all that they print and leave, without what depends on the clock or is secret."""

    def __init__(self, stage: Path, root: Path, inserted: dict[str, str]) -> None:
        self._stage, self._root, self._inserted = stage, root, inserted
        self._known: dict[str, tuple[int, str]] = {}

    def again(self, text: str) -> tuple[int, str]:
        """Run the commands."""
        root = self._root
        shutil.rmtree(root, ignore_errors=True)  # the same name each time: paths are printed
        shutil.copytree(self._stage, root, ignore=shutil.ignore_patterns("run[0-9]*"))
        (root / "out").mkdir()
        for name, value in self._inserted.items():
            text = text.replace(name, value)
        with contextlib.chdir(root):
            ended = [call(*command.split()) for command in text.split(" ; ")]
        files = sorted([*root.glob("out/**/*"), *root.glob("run/*"), *root.glob("run/report/*"), *root.glob("there.*")])
        # The metadata of a checkpoint come in any order.
        files = [path for path in files if path.suffix in _TELLING and path.parent.name != "checkpoints"]
        files = [path for path in files if path.name != "trials.csv"]  # it says how long each trial took
        digests = [f"{path.relative_to(root)} {_digest(path)}" for path in files]
        said = _without_clock(" ".join(one.out + one.err for one in ended))
        shutil.rmtree(root)  # hundreds of these would fill a disk
        return max(one.code for one in ended), "\n".join([said, *digests])

    def __call__(self, text: str) -> tuple[int, str]:
        """What the commands show. They run once: `test_the_same_words_show_the_same` is for the rest."""
        if text not in self._known:
            self._known[text] = self.again(text)
        return self._known[text]


def _without_clock(text: str) -> str:
    return " ".join(_CHANGING.sub("", " ".join(text.split())).split())  # columns follow the width of a duration


def _digest(path: Path) -> str:
    """The digest of a file; pages may say how long something took."""
    if path.suffix != ".html":
        return digest(path)
    return hashlib.sha256(_without_clock(path.read_text("utf-8")).encode()).hexdigest()


@pytest.fixture(scope="module")
def shows(
    stage: Path, small: SmallData, values: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shows]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)
        patch.setattr(uvicorn.Server, "run", _served)
        inserted = {**values, "{words}": " ".join([*small.words, "engine.accelerator=cpu"])}
        yield Shows(stage, tmp_path_factory.mktemp("shows") / "stage", inserted)


def _served(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
    """Print what would be served, and where."""
    service: Service = server.config.app.state.service  # type: ignore[union-attr]
    tokens = None if service.tokens is None else [one.name for one in service.tokens.all()]
    gallery = service.gallery
    facts = (
        gallery.encoder.model_id,
        len(gallery),
        tokens,
        service.audit.path,
        service.limits,
        service.false_match_rate,
    )
    sys.stdout.write(f"{sockets[0].getsockname()} {facts}\n")
    service.audit.close()


@pytest.mark.slow
@pytest.mark.parametrize("verb", [verb for verb, options in OPTIONS.items() if options])
def test_the_same_words_show_the_same(shows: Shows, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Also where everything takes ninety times as long."""
    first = next(iter(OPTIONS[verb].values()))[0]
    known = shows(first)
    clock, duration = time.perf_counter, vars(FrozenTrial)["duration"]
    monkeypatch.setattr(time, "perf_counter", lambda: 90 * clock())
    monkeypatch.setattr(FrozenTrial, "duration", property(lambda trial: 90 * duration.fget(trial)))
    assert shows.again(first) == known


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "option"), [(verb, option) for verb, options in OPTIONS.items() for option in options]
)
def test_every_option_shows(shows: Shows, verb: str, option: str) -> None:
    without, given = map(shows, OPTIONS[verb][option])
    assert without != given
    # One of the two is no mistake, or there would be nothing to reach.
    assert verb == "fetch-imagenet" or 0 in (without[0], given[0]) or option in ("--decode", "--trial"), (
        without,
        given,
    )
