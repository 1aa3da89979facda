"""Conventions of any command line: completion, --help, --quiet, --force, one spelling for each thing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pclhd.cli.terminal import as_options
from pclhd.config import preset_names
from pclhd.errors import ArgumentError, UserError
from pclhd.models.weights import model_metadata
from pclhd.recipes import RECIPES
from pclhd.workflows.settings import all_settings
from tests.commands import Call, all_verbs, complaint

VERBS = all_verbs()
SHOWN = sorted(name for name, verb in VERBS.items() if not verb.hidden)
STARTER = ("starter", "--people", 4, "--images", 2, "--steps", 1)


# Help and completion.


@pytest.mark.parametrize("verb", SHOWN)
def test_every_verb_explains_itself(pclhd: Call, verb: str) -> None:
    words = verb.split()
    shown = pclhd(*words, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert "--debug" in shown.out
    assert pclhd("help", *words) == shown
    assert pclhd(*words, "-h") == shown


@pytest.mark.parametrize("verb", SHOWN)
def test_every_option_and_argument_has_a_help_text(verb: str) -> None:
    for parameter in VERBS[verb].params:
        assert getattr(parameter, "hidden", False) or parameter.help, parameter.name


def test_the_help_of_pclhd(pclhd: Call) -> None:
    shown = pclhd("--help")
    assert shown.code == 0
    assert "--install-completion" in shown.out
    assert pclhd("help") == pclhd() == shown


def test_train_lists_presets_recipes_and_settings_that_exist(pclhd: Call) -> None:
    shown = " ".join(pclhd("train", "--help").out.split())
    assert "pclhd settings" in shown
    assert "pclhd recipes" in shown
    lists = {
        name: re.search(rf"{name}: (.+?)[.;] ", shown) for name in ("Presets", "Recipes", "Settings often changed")
    }
    named = {name: re.sub(r" \([^)]*\)", "", found[1]).split(", ") for name, found in lists.items() if found}
    assert set(named["Presets"]) == set(preset_names())
    assert set(named["Recipes"]) == set(RECIPES)
    assert set(named["Settings often changed"]) <= {setting.key for setting in all_settings()}


def test_one_way_to_name_a_thing() -> None:
    options = {
        verb: {parameter.name: parameter for parameter in VERBS[verb].params if parameter.opts[0].startswith("--")}
        for verb in SHOWN
    }
    for name, spelling in {"out": "--out", "device": "--device", "seed": "--seed", "force": "--force"}.items():
        found = [verb for verb in SHOWN if name in options[verb]]
        assert len(found) > 1
        assert {options[verb][name].opts[0] for verb in found} == {spelling}
    devices = {options[verb]["device"].metavar for verb in SHOWN if "device" in options[verb]}
    assert devices == {"auto|cpu|cuda[:N]|mps"}


def completed(*words: str) -> list[str]:
    environment = {
        **os.environ,
        "_PCLHD_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("pclhd", *words)),
        "COMP_CWORD": str(len(words)),
    }
    code = "import sys; sys.argv = ['pclhd']; from pclhd.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ver",), ["verify"]),
        (("train", "ti"), ["tiny"]),
        (("train", "tiny", "clustering.eps"), ["clustering.eps=", "clustering.eps_infrared=", "clustering.eps_joint="]),
        (("train", "tiny", "--recipe", "pa"), ["paper"]),
        (("cluster", "--outliers", "re"), ["rescue"]),
    ],
)
def test_completion(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


# Mistakes in the arguments.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trian",), "pclhd: No such command 'trian'. Did you mean 'train'?; see pclhd --help"),
        (
            ("check", "DIR", "--trail", "1"),
            "pclhd: No such option: --trail (Possible options: --trial); see pclhd check",
        ),
        (("check",), "pclhd: Missing argument 'DIR'; see pclhd check --help"),
        (
            ("check", "DIR", "--trial", "11"),
            "pclhd: Invalid value for '--trial': Input should be less than or equal to 10; see pclhd check",
        ),
        (("check", "DIR", "--layout", "sisu"), "pclhd: Invalid value for '--layout': 'sisu' is not one of 'auto'"),
        (("check", "DIR", "more"), "pclhd: Got unexpected extra argument"),
        (("help", "trian"), "pclhd: No such command 'trian'"),
        (("gallery", "serach"), "pclhd: No such command 'serach'. Did you mean 'search'?; see pclhd gallery --help"),
        (("gallery", "search", "G"), "pclhd: Missing argument 'IMAGE'; see pclhd gallery search --help"),
        (("synth",), "pclhd: --out is missing: name the output with --out DIR"),
        (("fetch-imagenet",), "pclhd: --out is missing"),
    ],
)
def test_a_mistake_takes_one_line(pclhd: Call, words: tuple[str, ...], said: str) -> None:
    assert complaint(pclhd(*words)).startswith(said)


def test_arguments_are_named_as_options() -> None:
    error = ArgumentError("per_modality", "goes with `modality`, not `k1`; run `pip install x`", value=3)
    assert str(error) == "per_modality=3: goes with `modality`, not `k1`; run `pip install x`"
    assert as_options(error) == "--per-modality 3: goes with --modality, not --k1; run `pip install x`"
    assert as_options(UserError("leave out `this`")) == "leave out `this`"


# Settings that have an option of their own.


@pytest.mark.parametrize(
    ("option", "setting"),
    [
        (("--seed", 3), "seed=4"),
        (("--recipe", "paper"), "recipe=baseline"),
        (("--device", "cpu"), "engine.accelerator=cuda"),
    ],
)
def test_an_option_and_a_setting_that_contradict(
    pclhd: Call, tmp_path: Path, option: tuple[object, ...], setting: str
) -> None:
    said = complaint(pclhd("train", "tiny", setting, *option, "--data", tmp_path))
    assert f"{option[0]} {option[1]} and {setting} contradict each other" in said
    # The same value given twice is not a contradiction; the error is then about the data.
    same = f"{setting.partition('=')[0]}={option[1]}"
    assert "layout" in complaint(pclhd("train", "tiny", same, *option, "--data", tmp_path))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--recipe", "papr"), "did you mean 'paper'?"),
        (("--seed", -1), "setting 'seed' = -1"),
        (("--device", "abacus"), "setting 'engine.accelerator' = 'abacus'"),
    ],
)
def test_an_option_is_checked_as_the_setting(
    pclhd: Call, tmp_path: Path, option: tuple[object, ...], said: str
) -> None:
    assert said in complaint(pclhd("train", "tiny", "--data", tmp_path, *option))


@pytest.mark.parametrize("option", [("--seed", 1), ("--recipe", "paper"), ("--device", "cpu"), ("--force",)])
def test_a_resumed_run_has_its_settings(pclhd: Call, tmp_path: Path, option: tuple[object, ...]) -> None:
    assert "leave out everything except" in complaint(pclhd("train", "--resume", tmp_path, *option))


def test_the_narrow_network_needs_the_starter_weights(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    said = complaint(
        pclhd("train", "own", "model.architecture=narrow", "data.layout=sysu", "data.height=32", "data.width=16",
              "--data", tiny_sysu, "--out", tmp_path / "run")
    )  # fmt: skip
    assert "use model.weights=starter" in said
    assert not (tmp_path / "run").exists()


# Old spellings.


def test_old_positional_arguments(pclhd: Call, tmp_path: Path) -> None:
    old = pclhd("synth", tmp_path / "set", "--scale", "tiny", "--workers", 1)
    assert old.code == 0
    assert old.err == f"note: the argument DIR is an old spelling; use --out {tmp_path / 'set'}\n"
    twice = complaint(pclhd("synth", tmp_path / "one", "--out", tmp_path / "two"))
    assert f"'{tmp_path / 'one'}' is one argument too many" in twice
    made = pclhd(*STARTER, tmp_path / "start.safetensors")
    assert made.code == 0
    assert "use --out" in made.err


def test_old_names_of_methods(pclhd: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.eye(12, dtype=np.float32))
    words = ("cluster", tmp_path / "features.npy", "--out")
    old = pclhd(*words, tmp_path / "old.npy", "--method", "agglomerative")
    assert old.code == 0
    assert old.err == "note: --method is an old spelling; use --clustering agglomerative\n"
    new = pclhd(*words, tmp_path / "new.npy", "--clustering", "agglomerative")
    assert (new.code, new.err) == (0, "")
    assert new.out.splitlines()[2:4] == old.out.splitlines()[2:4]


# --quiet and --force.


def test_quiet(pclhd: Call, tmp_path: Path) -> None:
    quiet = pclhd("synth", "--out", tmp_path / "set", "--scale", "tiny", "--workers", 1, "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert pclhd("synth", "--out", tmp_path / "set", "--scale", "tiny", "--workers", 1).out != ""
    np.save(tmp_path / "features.npy", np.eye(12, dtype=np.float32))
    words = ("cluster", tmp_path / "features.npy", "--out")
    loud, quiet = pclhd(*words, tmp_path / "a.npy"), pclhd(*words, tmp_path / "b.npy", "-q")
    assert "wrote" in loud.out
    assert "wrote" not in quiet.out
    assert "clusters" in quiet.out  # the result stays


def test_force_replaces_a_file(pclhd: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.eye(12, dtype=np.float32))
    words = ("cluster", tmp_path / "features.npy", "--out", tmp_path / "labels.npy")
    (tmp_path / "labels.npy").write_text("old")
    assert "replace the file with --force" in complaint(pclhd(*words))
    assert "--k1 0" in complaint(pclhd(*words, "--force", "--k1", 0))
    assert (tmp_path / "labels.npy").read_text() == "old"
    assert pclhd(*words, "--force").code == 0
    assert np.load(tmp_path / "labels.npy").shape == (12,)
    (tmp_path / "folder.npy").mkdir()
    assert "is a folder" in complaint(pclhd(*words[:-1], tmp_path / "folder.npy", "--force"))


def test_force_replaces_start_weights(pclhd: Call, tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    path.write_text("old")
    assert "replace the file with --force" in complaint(pclhd(*STARTER, "--out", path))
    assert path.read_text() == "old"
    assert pclhd(*STARTER, "--out", path, "--force", "-q", "--seed", 7).code == 0
    assert model_metadata(path)["seed"] == "7"


@pytest.mark.slow
def test_a_training_with_the_options(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("train", "tiny", "--data", tiny_sysu, "--out", run, "schedule.iterations=1", "schedule.stage2_epochs=0",
             "data.height=48", "data.width=24")  # fmt: skip
    options = ("--recipe", "paper", "--seed", 3, "--device", "cpu", "--quiet")
    quiet = pclhd(*words, *options)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert (settings["recipe"], settings["seed"], settings["engine"]["accelerator"]) == ("paper", 3, "cpu")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    # The old run is kept if the new training cannot start …
    assert "replace a run with --force" in complaint(pclhd(*words))
    assert "no such file" in complaint(pclhd(*words, "--force", "model.weights=nothing.safetensors"))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    # … and removed completely if it can.
    (run / "mine.txt").write_text("mine")
    assert pclhd(*words, "--force", "--seed", 4).code == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["seed"] == 4
    assert not (run / "mine.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    # A folder that does not hold a run is not replaced.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    said = complaint(pclhd(*words[:5], tmp_path / "other", "--force"))
    assert "is not a run folder (it has no config.yaml)" in said
    assert (tmp_path / "other" / "mine.txt").read_text() == "mine"
