"""Every setting and every option that a verb accepts reaches the result, or is refused.

A new setting or option without an entry in a table here fails a test. Settings whose effect on the weights is measured
in `tests/engine/test_trainer.py` are counted, not tried again.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.main
from safetensors.numpy import save_file

from pclhd.cli import app
from pclhd.config import Settings, load_preset
from pclhd.engine import labelling
from pclhd.models.released import released_state
from pclhd.models.weights import save_model
from pclhd.workflows import exchange
from tests.commands import Outcome, call
from tests.data.fake_layouts import write_regdb
from tests.engine import test_trainer as trainer
from tests.engine.runs import SmallData, digest, records
from tests.models.small import SMALL_BOTTLENECK, stirred

VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


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
}


def test_no_setting_is_forgotten() -> None:
    tried = {
        *(f"method.{name}" for name in trainer.CHOICES.keys() | trainer.ON_BLURRED_DATA),
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


# Options of the verbs.

_SYNTH = "synth --out out/drawn --scale tiny --workers 1"
_STARTER = "starter --out out/x.safetensors --people 3 --images 2 --steps 1"
_CLUSTER = "cluster features.npy --out out/l.csv --modality modality.txt --k1 8 --k2 3"
_TRAIN = "train tiny --data own --out out/run schedule.stage2_epochs=0 {words}"
_IMPORT = "import theirs.pth --layout sysu --out out/imported"
_EMBED = "embed run --out out/e.npy --device cpu"

#: For each verb and option: a command, and the same with the option in another way. The two must differ in exit code,
#: in what they print, or in what they write to `out` and `run`.
OPTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "train": {
        "--data": (_TRAIN, f"{_TRAIN} --data listed.csv"),
        "--out": (_TRAIN, f"{_TRAIN} --out out/other"),
        "--recipe": (_TRAIN, f"{_TRAIN} --recipe baseline"),
        "--seed": (_TRAIN, f"{_TRAIN} --seed 1"),
        "--device": (_TRAIN, f"{_TRAIN} --device cuda:99"),
        "--resume": ("train --resume run", "train --resume nowhere"),
        "--force": (f"{_TRAIN} --out run", f"{_TRAIN} --out run --force"),
        "--quiet": (_TRAIN, f"{_TRAIN} --quiet"),
    },
    "evaluate": {
        "--data": ("evaluate run --device cpu", "evaluate run --device cpu --data nowhere"),
        "--device": ("evaluate run --data listed.csv", "evaluate run --data listed.csv --device cuda:99"),
        "--force": ("evaluate run --data leaky.csv", "evaluate run --data leaky.csv --force"),
        "--json": ("evaluate run --data listed.csv", "evaluate run --data listed.csv --json"),
    },
    "combine": {
        "--force": ("combine run run", "combine run run --force"),
        "--json": ("combine run", "combine run --json"),
    },
    "compare": {"--json": ("compare run second", "compare run second --json")},
    "verify": {
        "--data": ("verify run", "verify run --data nowhere"),
        "--device": ("verify run", "verify run --device cuda:99"),
    },
    "report": {
        "--quiet": ("report run", "report run --quiet"),
    },
    "cluster": {
        "--out": (_CLUSTER, f"{_CLUSTER} --out out/m.csv"),
        "--modality": (_CLUSTER, _CLUSTER.replace("--modality modality.txt", "")),
        "--per-modality": (_CLUSTER, f"{_CLUSTER} --per-modality"),
        "--matching": (f"{_CLUSTER} --per-modality", f"{_CLUSTER} --per-modality --matching mutual"),
        "--normalise": (_CLUSTER, f"{_CLUSTER} --as-they-are"),
        "--identities": (_CLUSTER, f"{_CLUSTER} --identities people.txt"),
        "--key": ("cluster two.safetensors --out out/l.csv --key a", "cluster two.safetensors --out out/l.csv --key b"),
        "--device": (_CLUSTER, f"{_CLUSTER} --device cuda:99"),
        "--force": (f"{_CLUSTER} --out there.csv", f"{_CLUSTER} --out there.csv --force"),
        "--json": (_CLUSTER, f"{_CLUSTER} --json"),
        "--clustering": (_CLUSTER, f"{_CLUSTER} --clustering hdbscan"),
        "--outliers": (_CLUSTER, f"{_CLUSTER} --outliers both"),
        "--neighbourhood": (_CLUSTER, f"{_CLUSTER} --neighbourhood paper"),
        "--modality-balance": (f"{_CLUSTER} --k2 8", f"{_CLUSTER} --k2 8 --no-modality-balance"),
        "--balanced-neighbours": (_CLUSTER, f"{_CLUSTER} --balanced-neighbours"),
        "--k1": (_CLUSTER, f"{_CLUSTER} --k1 20"),
        "--k2": (_CLUSTER, f"{_CLUSTER} --k2 8"),
        "--eps": (_CLUSTER, f"{_CLUSTER} --eps 0.2"),
        "--min-samples": (_CLUSTER, f"{_CLUSTER} --min-samples 12"),
        "--resolution": (f"{_CLUSTER} --clustering community", f"{_CLUSTER} --clustering community --resolution 0.8"),
        "--search": (_CLUSTER, f"{_CLUSTER} --search approximate"),
        "--near-copies": (_CLUSTER, f"{_CLUSTER} --near-copies thin"),
        "--quiet": (_CLUSTER, f"{_CLUSTER} --quiet"),
        "--method": (_CLUSTER, f"{_CLUSTER} --method hdbscan"),
        "--match": (f"{_CLUSTER} --per-modality", f"{_CLUSTER} --per-modality --match mutual"),
    },
    "import": {
        "--layout": (_IMPORT, f"{_IMPORT} --layout regdb"),
        "--out": (_IMPORT, f"{_IMPORT} --out out/other"),
        "--data": (_IMPORT, f"{_IMPORT} --data own"),
        "--trial": (f"{_IMPORT} --layout regdb", f"{_IMPORT} --layout regdb --trial 2"),
        "--network": (_IMPORT, f"{_IMPORT} --network nowhere"),
        "--force": (f"{_IMPORT} --out run", f"{_IMPORT} --out run --force"),
        "--quiet": (_IMPORT, f"{_IMPORT} --quiet"),
    },
    "export": {
        "--out": ("export theirs --out out/x.pth", "export theirs --out out/x.safetensors"),
        "--format": ("export theirs --out out/x.pth", "export theirs --out out/x.pth --format other"),
        "--force": ("export theirs --out there.pth", "export theirs --out there.pth --force"),
        "--quiet": ("export theirs --out out/x.pth", "export theirs --out out/x.pth --quiet"),
    },
    "embed": {
        "--out": (_EMBED, f"{_EMBED} --out out/f.npy"),
        "--data": (_EMBED, f"{_EMBED} --data nowhere"),
        "--layout": (_EMBED, f"{_EMBED} --layout sysu"),
        "--split": (f"{_EMBED} --data listed.csv", f"{_EMBED} --data listed.csv --split test"),
        "--images": (f"{_EMBED}", f"{_EMBED} --images own/visible --modality visible"),
        "--modality": (
            f"{_EMBED} --images own/visible --modality visible",
            f"{_EMBED} --images own/visible --modality infrared",
        ),
        "--device": (_EMBED, f"{_EMBED} --device cuda:99"),
        "--force": (f"{_EMBED} --out there.npy", f"{_EMBED} --out there.npy --force"),
        "--quiet": (_EMBED, f"{_EMBED} --quiet"),
    },
    "check": {
        "--layout": ("check own", "check own --layout sysu"),
        "--trial": ("check regdb", "check regdb --trial 2"),
        "--decode": ("check broken", "check broken --no-decode"),
        "--json": ("check own", "check own --json"),
    },
    "synth": {
        "--out": (_SYNTH, f"{_SYNTH} --out out/other"),
        "--scale": (_SYNTH, f"{_SYNTH} --scale huge"),
        "--layout": (_SYNTH, f"{_SYNTH} --layout llcm"),
        "--seed": (_SYNTH, f"{_SYNTH} --seed 1"),
        "--gap": (_SYNTH, f"{_SYNTH} --gap 0.1"),
        "--one-modality": (_SYNTH, f"{_SYNTH} --one-modality 0.5"),
        "--quiet": (_SYNTH, f"{_SYNTH} --quiet"),
    },
    "starter": {
        "--out": (_STARTER, f"{_STARTER} --out out/y.safetensors"),
        "--people": (_STARTER, f"{_STARTER} --people 4"),
        "--images": (_STARTER, f"{_STARTER} --images 3"),
        "--steps": (_STARTER, f"{_STARTER} --steps 2"),
        "--seed": (_STARTER, f"{_STARTER} --seed 2"),
        "--preset": (_STARTER, f"{_STARTER} --preset small.yaml"),
        "--learning-rate": (_STARTER, f"{_STARTER} --learning-rate 0.01"),
        "--device": (_STARTER, f"{_STARTER} --device cuda:99"),
        "--force": (f"{_STARTER} --out there.safetensors", f"{_STARTER} --out there.safetensors --force"),
        "--quiet": (_STARTER, f"{_STARTER} --quiet"),
    },
    "fetch-imagenet": {"--out": ("fetch-imagenet --out features.npy", "fetch-imagenet")},
    "settings": {
        "--preset": ("settings", "settings --preset tiny"),
        "--recipe": ("settings", "settings --recipe paper"),
        "--json": ("settings", "settings --json"),
        "--markdown": ("settings", "settings --markdown"),
        "--schema": ("settings", "settings --schema"),
    },
    "recipes": {
        "--against": ("recipes pclhd", "recipes pclhd --against paper"),
        "--json": ("recipes", "recipes --json"),
    },
    "help": {},
    "upper-bound": {},
}
#: Options that by design change no result here, and where their effect is looked at.
NO_RESULT = {
    ("evaluate", "--quiet"): "only a progress bar on a terminal",
    ("verify", "--quiet"): "only a spinner on a terminal",
    ("report", "--data"): "tests/report/test_page.py: images come from the settings unless named",
    ("synth", "--workers"): "tests/synthetic/test_write.py: the same bytes",
    ("fetch-imagenet", "--quiet"): "only the note after a download",
}


def test_no_option_is_forgotten() -> None:
    accepted = {
        (verb, parameter.opts[0])
        for verb, command in VERBS.items()
        for parameter in command.params
        if parameter.opts[0].startswith("--") and parameter.name not in ("help", "debug")
    }
    tried = {(verb, option) for verb, options in OPTIONS.items() for option in options}
    assert tried | NO_RESULT.keys() == accepted
    assert not tried & NO_RESULT.keys()


@pytest.fixture(scope="module")
def stage(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    _features(root)
    write_regdb(root / "regdb")
    shutil.copytree(root / "own", root / "broken")
    (root / "broken" / "visible" / "0-1-0.png").write_bytes(b"broken")
    for name in ("there.csv", "there.pth", "there.npy", "there.safetensors"):
        (root / name).write_bytes(b"old")
    return root


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


_CLOCK = re.compile(r"[\d.]+ ?(ms|s|min|h)\b|seconds [\d.]+ of these clustering [\d.]+|\"seconds\": ({[^}]*}|[\d.]+)")
_TELLING = {".csv", ".npy", ".pth", ".safetensors", ".jpg", ".yaml"}


@pytest.fixture
def shows(
    stage: Path, small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[int, str]]:
    """The exit code of a command, and all that it prints and leaves, without what depends on the clock."""
    monkeypatch.setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)
    root = tmp_path / "stage"

    def signature(text: str) -> tuple[int, str]:
        shutil.rmtree(root, ignore_errors=True)  # the same name each time: paths are printed
        shutil.copytree(stage, root, ignore=shutil.ignore_patterns("run[0-9]*"))
        (root / "out").mkdir()
        monkeypatch.chdir(root)
        ended = call(*text.replace("{words}", " ".join([*small.words, "engine.accelerator=cpu"])).split())
        files = sorted([*root.glob("out/**/*"), *root.glob("run/*"), *root.glob("there.*")])
        # The metadata of a checkpoint come in any order.
        files = [path for path in files if path.suffix in _TELLING and path.parent.name != "checkpoints"]
        digests = [f"{path.relative_to(root)} {digest(path)}" for path in files]
        text = _CLOCK.sub("", " ".join((ended.out + ended.err).split()))  # columns follow the width of a duration
        return ended.code, "\n".join([text, *digests])

    return signature


@pytest.mark.slow
@pytest.mark.parametrize("verb", [verb for verb, options in OPTIONS.items() if options])
def test_the_same_words_show_the_same(shows: Callable[[str], tuple[int, str]], verb: str) -> None:
    first = next(iter(OPTIONS[verb].values()))[0]
    assert shows(first) == shows(first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "option"), [(verb, option) for verb, options in OPTIONS.items() for option in options]
)
def test_every_option_shows(shows: Callable[[str], tuple[int, str]], verb: str, option: str) -> None:
    without, given = map(shows, OPTIONS[verb][option])
    assert without != given
    # One of the two is no mistake, or there would be nothing to reach.
    assert verb == "fetch-imagenet" or 0 in (without[0], given[0]) or option in ("--decode", "--trial"), (
        without,
        given,
    )
