"""The cases: which command reads which files, and what of that is damaged."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import typer.main

from pclhd.cli import app
from pclhd.config import Settings
from tests.commands import call
from tests.fuzz import damage
from tests.fuzz.damage import Inapplicable, Random
from tests.fuzz.verb import NEW, Command, Ended, Runner, faults, words_text
from tests.fuzz.world import SIZES, World, states


@dataclass(frozen=True)
class Target:
    """A command and the files that it reads.

    Attributes:
        command: The command.
        inputs: Patterns of the files to damage.
        weight: How often it is chosen.
    """

    command: Command
    inputs: tuple[str, ...]
    weight: int = 4


def _target(words: str, *inputs: str, writes: tuple[str, ...] = (), weight: int = 4, **about: Any) -> Target:
    return Target(Command(tuple(words.split()), writes, **about), inputs, weight)


_CHECKS = (0, 1, 2)
_OUT = (r"out/.+", r"out")
_RUN = ("runs/one/config.yaml", "runs/one/*.safetensors", "runs/one/*.json*", "runs/one/*.txt")
_CACHE = (r"cache(/.*)?",)
_RESUMED = (r"runs/stopped(/.*)?",)
_TRAIN = f"train tiny {' '.join(SIZES)} schedule.stage2_epochs=0"
_IMPORTED = "--layout sysu --out out/imported"

TARGETS: tuple[Target, ...] = (
    _target("check data/sysu", "data/sysu/**/*", codes=_CHECKS),
    _target("check data/regdb", "data/regdb/**/*", codes=_CHECKS),
    _target("check data/llcm", "data/llcm/**/*", codes=_CHECKS),
    _target("check data/own --json", "data/own/**/*", "data/own/images.csv", codes=_CHECKS),
    _target("check data/folders --layout own", "data/folders/**/*", codes=_CHECKS),
    _target("check data/own/images.csv", "data/own/images.csv", codes=_CHECKS),
    *(
        _target(f"{_TRAIN} --data {data} --out out/run", *inputs, writes=_OUT, weight=weight)
        for data, inputs, weight in (
            ("data/sysu", ("data/sysu/**/*",), 2),
            ("data/regdb", ("data/regdb/**/*",), 2),
            ("data/llcm", ("data/llcm/**/*",), 2),
            ("data/own", ("data/own/images.csv", "data/own/**/*"), 4),
            ("data/folders", ("data/folders/**/*", "start.safetensors"), 4),
        )
    ),
    _target(f"{_TRAIN} --data data/sysu --out out/run data.cache=cache", "cache/*", writes=(*_OUT, *_CACHE)),
    _target("train preset.yaml --out out/run", "preset.yaml", writes=_OUT, weight=6, may_be_long=True),
    _target("train --resume runs/stopped", "runs/stopped/checkpoints/epoch*", writes=_RESUMED, weight=6),
    _target("train --resume runs/stopped", "runs/stopped/*", writes=_RESUMED, weight=8, may_be_long=True),
    _target(
        f"{_TRAIN} --out runs/one --force --data data/folders",
        "runs/one/*",
        "runs/one/**/*",
        writes=("runs.*",),
        weight=1,
    ),
    _target("evaluate runs/one --device cpu", *_RUN, "runs/one/checkpoints/st*", writes=(r"runs/one/results\.json",)),
    _target("evaluate runs/one --device cpu", "data/sysu/**/*", writes=(r"runs/one/results\.json",)),
    _target("combine runs/one runs/two --force", *_RUN, "runs/two/*", weight=6),
    _target("compare runs/one runs/two", *_RUN, "runs/two/*", weight=6),
    _target("compare runs/one runs/two --json", "runs/two/*"),
    _target("runs runs", *_RUN, "runs/two/*", "runs/stopped/*", weight=2),
    _target("report runs/one", *_RUN, "data/sysu/cam*/*/*", writes=(r"runs/one/report(/.*)?",), weight=2),
    _target("report runs/one", "runs/one/*.json*", writes=(r"runs/one/report(/.*)?",), weight=2),
    _target(
        "verify runs/one", *_RUN, "runs/one/checkpoints/*", "start.safetensors", writes=_CACHE, codes=_CHECKS, weight=2
    ),
    _target("verify runs/one", "runs/one/config.yaml", writes=_CACHE, codes=_CHECKS, weight=2, may_be_long=True),
    _target("export runs/theirs --out out/x.pth", "runs/theirs/*", writes=_OUT),
    _target("export runs/theirs --out out/x.safetensors", "runs/theirs/model.safetensors", writes=_OUT),
    _target("embed runs/one --out out/x.npy --device cpu", *_RUN, "data/sysu/**/*", writes=_OUT),
    _target("embed runs/one --out out/x.parquet --device cpu", "data/sysu/**/*", writes=_OUT),
    _target(
        "embed runs/one --out out/x.safetensors --device cpu --modality infrared --images data/folders/infrared",
        "data/folders/infrared/*",
        writes=_OUT,
    ),
    _target("cluster features.npy --out out/x.csv --k1 4", "features.npy", writes=_OUT, weight=6),
    _target("cluster features.safetensors --key features --out out/x.npy --k1 4", "features.safetensors", writes=_OUT),
    _target(
        "cluster features.safetensors --key features --modality modality --out out/x.csv --k1 4",
        "features.safetensors",
        writes=_OUT,
    ),
    _target(
        "cluster features.parquet --modality modality --identities person --per-modality --out out/x.parquet --k1 4",
        "features.parquet",
        writes=_OUT,
        weight=6,
    ),
    _target(
        "cluster features.npy --modality modality.txt --identities people.txt --out out/x.csv --k1 4 --json",
        *("modality.txt", "people.txt"),
        writes=_OUT,
    ),
    _target(
        "cluster features.npy --modality modality.csv --identities people.npy --out out/x.csv --k1 4",
        *("modality.csv", "people.npy"),
        writes=_OUT,
    ),
    *(
        _target(f"import {name} {_IMPORTED}", name, writes=_OUT, weight=6)
        for name in ("theirs.pth", "nested.pth.tar", "theirs.safetensors")
    ),
    _target("synth --out drawn --scale tiny --workers 1", "drawn/*", writes=(r"drawn(/.*)?",), weight=1),
    _target("settings --preset preset.yaml", "preset.yaml", weight=6),
    _target("settings model --preset preset.yaml --json", "preset.yaml", weight=1),
    _target(
        "starter --out out/x.safetensors --people 2 --images 2 --steps 1 --preset preset.yaml",
        "preset.yaml",
        writes=_OUT,
        weight=1,
    ),
    _target("fetch-imagenet --out out/weights", "out/weights/*", writes=_OUT, weight=1),
)

#: Commands whose words are changed, instead of their files.
SPOKEN: tuple[Command, ...] = (
    *(
        replace(target.command, may_be_long=True, writes=(*target.command.writes, NEW))
        for target in TARGETS
        if target.command.words[0] not in {"synth", "starter", "report"} and "--force" not in target.command.words
    ),
    Command(("synth", "--out", "out/x", "--scale", "tiny", "--workers", "1"), (*_OUT, NEW), may_be_long=True),
    Command(
        ("starter", "--out", "out/x.safetensors", "--people", "2", "--images", "2", "--steps", "1"),
        (*_OUT, NEW),
        may_be_long=True,
    ),
    Command(("recipes", "pclhd", "--against", "paper"), _OUT),
    Command(("settings", "clustering", "--preset", "tiny"), _OUT),
    Command(("help", "train"), _OUT),
)

_VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Case:
    """What is done.

    Attributes:
        command: The command.
        damage: What was damaged, in words.
    """

    command: Command
    damage: str


def make_case(draw: Random, world: World) -> Case:
    """Damage something in the world; the current folder must be the world's.

    Raises:
        Inapplicable: The drawn damage does not fit the drawn file.
    """
    alone = draw.random() < 0.003
    if draw.random() < 0.25:
        command = draw.choice(SPOKEN)
        words, what = other_words(command.words, draw)
        return Case(replace(command, words=words, alone=alone), what)
    (target,) = draw.choices(TARGETS, [target.weight for target in TARGETS])
    pattern = draw.choice(target.inputs)
    files = sorted(path for path in Path().glob(pattern) if path.is_file())
    if not files:  # what the world does not have: some file takes its place
        place = Path(pattern).parent
        place.mkdir(parents=True, exist_ok=True)
        source = draw.choice(["facts.json", "theirs.pth", "modality.txt"])
        path = place / draw.choice(["synthetic.json", "resnet50-0676ba61.pth", "x.txt"])
        path.write_bytes(Path(source).read_bytes())
        files = [path]
    path = draw.choice(files)
    chosen = damage.choose(path, draw)
    try:
        what = f"{path}: {chosen(path, draw)}"
    except (ValueError, KeyError, TypeError, RecursionError, OSError, RuntimeError, UnpicklingError) as error:
        # Such as an image that no file of the drawn kind can hold.
        raise Inapplicable(f"{chosen.__name__}: {type(error).__name__}") from error
    as_nobody = chosen in damage.AS_NOBODY
    # A process of its own would have to read the libraries, perhaps in the home folder of root.
    return Case(replace(target.command, alone=alone and not as_nobody, as_nobody=as_nobody), what)


def warm(world: World) -> None:
    """Run each command undamaged in this process, so that a forked one finds all libraries loaded.

    Raises:
        RuntimeError: One fails.
    """
    for words in dict.fromkeys(target.command.words for target in TARGETS):
        if words[0] not in {"synth", "starter", "fetch-imagenet"}:
            ended = call(*words)
            # The images of two layouts are noise; training on them ends after its first clustering.
            if ended.code != 0 and "nothing to contrast" not in ended.err:
                raise RuntimeError(f"pclhd {words_text(words)}: exit code {ended.code}, {ended.err}")
        world.restore()


def try_case(case: Case, world: World, runner: Runner) -> tuple[Ended, list[str]]:
    """Run a case whose damage is done.

    Returns:
        How it ended, and what was wrong with that.
    """
    damaged = World(world.root, world.pristine, states(world.root))
    ended = runner.run(case.command)
    return ended, list(faults(case.command, ended, damaged))


def describe(case: Case) -> str:
    """A case in one line."""
    return f"pclhd {words_text(case.command.words)}   [{case.damage}]"


# Words.

_TEXTS = (
    *(
        "",
        " ",
        "x",
        "-1",
        "0",
        "1",
        "2",
        "0.5",
        "-0.5",
        "1e308",
        "1e400",
        "nan",
        "inf",
        "null",
        "true",
        "~",
        "[]",
        "{}",
    ),
    *(
        f"{2**31}",
        f"{2**63}",
        "9" * 5000,
        "[" * 300,
        "{a: {b: c}}",
        "\x1b[31m",
        "\udcff",
        "é",
        "a\nb",
        "=",
        "a=b",
        "'",
        '"',
    ),
    *(
        "~nosuchuser/x",
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/",
        ".",
        "..",
        "no/such/place",
        "features.npy",
        "runs/one",
    ),
    *(
        "auto",
        "none",
        "cpu",
        "cuda",
        "cuda:7",
        "mps",
        "meta",
        "cpu:99",
        "--",
        "-h",
        "!!python/object:x",
        "010",
        "1:30",
        "x" * 5000,
    ),
)
_SETTING = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


def _setting_names() -> list[str]:
    names = []
    for name, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        names += [name] if inner is None else [f"{name}.{key}" for key in inner]
    return names


#: Words that would only make a command long, or write elsewhere by right.
_NOT_GIVEN = {"--install-completion", "--show-completion", "--debug"}


def other_words(words: tuple[str, ...], draw: Random) -> tuple[tuple[str, ...], str]:
    """A command line with one word changed, removed or added."""
    changed = list(words)
    text = draw.choice(_TEXTS)
    how = draw.choice(["value", "value", "option", "option", "setting", "setting", "drop", "double"])
    if how == "setting" and words[0] == "train" and "--resume" not in words:
        text = f"{draw.choice(_setting_names())}={draw.choice(_TEXTS)}"
        changed.append(text)
    elif how in {"option", "setting"} and words[0] in _VERBS:
        options = [parameter for parameter in _VERBS[words[0]].params if parameter.opts[0].startswith("--")]
        option = draw.choice([option for option in options if option.opts[0] not in _NOT_GIVEN] or options)
        name = draw.choice([*option.opts, *option.secondary_opts])
        changed += [name] if option.is_flag else [name, text]
        text = f"{name} {text}"
    elif how == "drop" and len(words) > 1:
        text = changed.pop(draw.randrange(1, len(words)))
    elif how == "double":
        text = draw.choice(words)
        changed.insert(draw.randrange(1, len(words) + 1), text)
    else:
        changed[draw.randrange(min(1, len(words) - 1), len(words))] = text
    return tuple(word.replace("\0", "") for word in changed), f"words, {how}: {text[:60]!r}"


def random_source(seed: int, number: int) -> Random:
    """The draws of one case."""
    return random.Random(f"{seed}/{number}")


__all__ = ["Case", "Inapplicable", "describe", "make_case", "random_source", "try_case"]
