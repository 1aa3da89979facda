"""The cases: which command reads which files, and what of that is damaged."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from sqlite3 import Error as SqlError
from typing import Any

from pclhd.config import Settings
from tests.commands import all_verbs, call
from tests.fuzz import damage
from tests.fuzz.damage import Inapplicable, Random
from tests.fuzz.targets import ALL, SPOKEN, Target
from tests.fuzz.verb import Command, Ended, Runner, faults, words_text
from tests.fuzz.world import World, states

_VERBS: dict[str, Any] = all_verbs()


@dataclass(frozen=True)
class Case:
    """What is done.

    Attributes:
        command: The command.
        damage: What was damaged, in words.
    """

    command: Command
    damage: str


@dataclass(frozen=True)
class Chosen:
    """The commands that cases are drawn from.

    Attributes:
        targets: Those whose files are damaged.
        spoken: Those whose words are changed.
        named: The options of the fuzzer that choose them.
    """

    targets: tuple[Target, ...] = ALL
    spoken: tuple[Command, ...] = SPOKEN
    named: str = ""

    @classmethod
    def of_verbs(cls, verbs: Sequence[str]) -> Chosen:
        """Those of some verbs.

        Raises:
            ValueError: There is no command of a verb.
        """
        missing = set(verbs) - {target.command.words[0] for target in ALL}
        if missing:
            raise ValueError(f"no command of {', '.join(sorted(missing))}")
        targets = tuple(target for target in ALL if target.command.words[0] in verbs)
        spoken = tuple(command for command in SPOKEN if command.words[0] in verbs)
        return cls(targets, spoken, f" --verbs {','.join(verbs)}")


def make_case(draw: Random, world: World, chosen_from: Chosen) -> Case:
    """Damage something in the world; the current folder must be the world's.

    Raises:
        Inapplicable: The drawn damage does not fit the drawn file.
    """
    alone = draw.random() < 0.003
    if draw.random() < 0.25 and chosen_from.spoken:
        command = draw.choice(chosen_from.spoken)
        words, what = other_words(command.words, draw)
        return Case(replace(command, words=words, alone=alone), what)
    targets = chosen_from.targets
    (target,) = draw.choices(targets, [target.weight for target in targets])
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
    except (ValueError, KeyError, TypeError, RecursionError, OSError, RuntimeError, UnpicklingError, SqlError) as error:
        # Such as an image that no file of the drawn kind can hold.
        raise Inapplicable(f"{chosen.__name__}: {type(error).__name__}") from error
    as_nobody = chosen in damage.AS_NOBODY
    # A process of its own would have to read the libraries, perhaps in the home folder of root.
    return Case(replace(target.command, alone=alone and not as_nobody, as_nobody=as_nobody), what)


def warm(world: World) -> None:
    """Run each command undamaged in this process, so that a forked one finds all libraries loaded.

    Galleries are left out: LanceDB starts threads when it is imported, which a forked process would lack.

    Raises:
        RuntimeError: One fails.
    """
    for words in dict.fromkeys(target.command.words for target in ALL):
        if words[0] not in {"synth", "starter", "fetch-imagenet", "gallery", "serve"}:
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
#: Words that start processes of their own, which a case does not wait for: a cluster, or a process per processor.
_NOT_GIVEN |= {"--ray-workers", "--quick"}


def other_words(words: tuple[str, ...], draw: Random) -> tuple[tuple[str, ...], str]:
    """A command line with one word changed, removed or added."""
    changed = list(words)
    text = draw.choice(_TEXTS)
    how = draw.choice(["value", "value", "option", "option", "setting", "setting", "drop", "double"])
    if how == "setting" and words[0] == "train" and "--resume" not in words:
        text = f"{draw.choice(_setting_names())}={draw.choice(_TEXTS)}"
        changed.append(text)
    elif how in {"option", "setting"} and (verb := _verb_of(words)) is not None:
        options = [parameter for parameter in verb.params if parameter.opts[0].startswith("--")]
        not_given = _NOT_GIVEN | ({"--quiet"} if words[0] == "serve" else set())  # it would not say when it serves
        option = draw.choice([option for option in options if option.opts[0] not in not_given] or options)
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


def _verb_of(words: tuple[str, ...]) -> Any:
    """The parsed verb of a command line, the inner one of a group; None if there is none."""
    return _VERBS.get(" ".join(words[:2]), _VERBS.get(words[0]) if words else None)


def random_source(seed: int, number: int) -> Random:
    """The draws of one case."""
    return random.Random(f"{seed}/{number}")


__all__ = ["Case", "Inapplicable", "describe", "make_case", "random_source", "try_case"]
