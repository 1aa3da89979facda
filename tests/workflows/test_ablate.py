from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pclhd.cli import ablation as verbs
from pclhd.errors import UserError
from pclhd.runs.ablation import AblationFolder
from pclhd.weights import starter_path
from pclhd.workflows import ablate as workflow
from pclhd.workflows.ablate import AblationRequest, ablate, plan, tables_of
from pclhd.workflows.ablation_tables import FLOORS, METHODS
from tests.commands import Call, all_verbs, complaint

WORDS = ("schedule.iterations=1", "schedule.stage2_epochs=1", "data.height=48", "data.width=24", "data.workers=1")


@pytest.fixture
def request_of(tiny_sysu: Path, tmp_path: Path) -> AblationRequest:
    return AblationRequest("tiny", tmp_path / "ab", WORDS, tiny_sysu, seeds=(0,))


def entries(request: AblationRequest) -> dict[str, list[str]]:
    return {name: [entry.name for entry in table.entries] for name, table in tables_of(request).items()}


def test_the_tables_that_are_asked_for(request_of: AblationRequest) -> None:
    assert list(entries(request_of)) == ["parts-pgm", "lambda", "k", "methods"]
    assert list(entries(replace(request_of, tables=("parts", "k"), floor="baseline"))) == ["parts-baseline", "k"]
    varied = replace(request_of, varied=("clustering.eps=0.5,0.6", "method.cross=1"), recipe="pgm")
    assert entries(varied) == {
        "pgm-clustering.eps": ["pgm", "pgm-eps-0.5"],  # 0.6 is the preset's own
        "pgm-method.cross": ["pgm", "pgm-cross-1"],
    }
    assert list(entries(replace(varied, tables=("lambda",)))) == ["lambda", "pgm-clustering.eps", "pgm-method.cross"]
    own = tables_of(replace(varied, varied=("schedule.stage1_epochs=2",), both_stages=True))
    assert [entry.start for entry in own["pgm-schedule.stage1_epochs"].entries] == [
        *("own-pgm", "own-pgm-stage1_epochs-2")
    ]
    assert entries(replace(request_of, entries=("pgm-hard",))) == {"parts-pgm": ["pgm", "pgm-hard"]}
    quick = entries(replace(request_of, quick=True))
    assert quick["parts-pgm"] == ["pgm", "pgm-ramp"]
    assert quick["methods"] == ["baseline", "pclhd"]
    assert entries(replace(request_of, tables=("methods",), methods=("dcl", "mmm"))) == {"methods": ["dcl", "mmm"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tables": ("prats",)}, "expected parts, lambda, k, methods"),
        ({"methods": ("papre",)}, "is no recipe"),
        ({"varied": ("clustering.eps",)}, "expected KEY=VALUE,VALUE"),
        ({"varied": ("data.height=50,60",)}, "add `both_stages`"),
        ({"entries": ("none",)}, "is no entry; expected pgm"),
        ({"data": None}, "data is missing|data: is missing"),
        ({"settings": ("recipe=pgm",)}, "an ablation compares recipes"),
        ({"settings": ("schedule.iteration=1",)}, "schedule.iterations"),
        ({"search": "indoors"}, "is no search of .*; expected all/single-shot"),
        ({"data": Path("nowhere")}, "nowhere"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(
    request_of: AblationRequest, changes: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "run_ablation", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(UserError, match=said):
        ablate(replace(request_of, **changes))  # type: ignore[arg-type]
    assert not request_of.out.exists()


def test_data_without_labelled_test_images(tmp_path: Path, request_of: AblationRequest) -> None:
    root = tmp_path / "own"
    for place in ("visible", "infrared"):
        (root / place).mkdir(parents=True)
        for number, image in enumerate(sorted(Path(request_of.data or "").rglob("*.jpg"))[:3]):
            shutil.copy(image, root / place / f"{number}.jpg")
    with pytest.raises(UserError, match="has no labelled test images, and an ablation compares trainings by them"):
        plan(replace(request_of, data=root))


def test_the_plan_trains_nothing_and_knows_what_is_there(request_of: AblationRequest) -> None:
    wanted = replace(request_of, tables=("k",))
    planned = plan(wanted)
    assert [one.name for one in planned] == [
        *("start-centroid-0", "paper-furthest-0"),
        *(f"paper-furthest-hard_samples-{value}-0" for value in (2, 4, 8)),
    ]
    assert {one.state for one in planned} == {"to do"}
    assert all(one.seconds > 0 for one in planned)
    assert not request_of.out.exists()
    start = AblationFolder(request_of.out).start(tables_of(wanted)["k"].entries[0], 0)
    start.path.mkdir(parents=True)
    shutil.copy(starter_path(), start.model_file)
    assert [one.state for one in plan(replace(wanted, entries=("paper-furthest",)))] == ["finished", "to do"]


def test_the_defaults_of_the_verb_are_those_of_the_request() -> None:
    parameters = {parameter.name: parameter for parameter in all_verbs()["ablate"].params}
    assert parameters["methods"].default == ",".join(METHODS)
    assert parameters["recipe"].default == AblationRequest("tiny", Path()).recipe
    assert parameters["floor"].default == FLOORS[0]
    assert verbs._numbers(parameters["seeds"].default) == AblationRequest("tiny", Path()).seeds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which preset?"),
        (("tiny",), "--out: is missing"),
        (("tiny", "--out", "x"), "--data: is missing"),
        (("tiny", "--out", "x", "--seeds", "0,a"), "--seeds 0,a: expected whole numbers"),
        (("tiny", "--out", "x", "--seeds", "-1"), "--seeds -1: expected whole numbers"),
        (("tiny", "--out", "x", "--data", "x", "--table", "prats"), "--table prats: is no table"),
    ],
)
def test_mistakes_on_the_command_line(pclhd: Call, words: tuple[str, ...], said: str) -> None:
    assert said in complaint(pclhd("ablate", *words))


@pytest.mark.slow
def test_from_nothing_to_the_figures_and_again(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    out = tmp_path / "ab"
    words = ("ablate", "tiny", *WORDS, "--data", tiny_sysu, "--out", out, "--seeds", 0, "--jobs", 2)
    few = ("--table", "methods", "--methods", "baseline,pclhd")
    assert pclhd(*words, *few, "--dry-run").code == 0
    assert not out.exists()
    first = pclhd(*words, *few)
    assert first.code == 0, first.err
    trained = [line.split()[1] for line in first.out.splitlines() if line[:2].isdigit() and line[2] == ":"]
    assert sorted(trained) == ["baseline-0", "pclhd-0", "start-centroid-0", "start-pclhd-0"]
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {"ari.pdf", "tsne.png", "tsne-stages.svg", "comparison.md", "measured.tex", "framework.svg"} <= figures
    with (out / "figures" / "tsne-stages.csv").open() as file:
        assert {row["model"].rpartition(": ")[2] for row in csv.DictReader(file)} == {
            *("start weights", "after stage I", "final")
        }
    # Nothing is trained twice; a further row is trained alone, from the weights that are there.
    more = pclhd(*words, *few, "--entry", "pclhd", "--setting", "method.cross=0")
    assert more.code == 0, more.err
    trained = [line.split()[1] for line in more.out.splitlines() if line[:2].isdigit() and line[2] == ":"]
    assert trained == []
    again = pclhd(*words, "--setting", "method.cross=0")
    trained = [line.split()[1] for line in again.out.splitlines() if line[:2].isdigit() and line[2] == ":"]
    assert trained == ["pclhd-cross-0-0"]
    assert (out / "figures" / "pclhd-method.cross.png").exists()
    # Other test people are searched without training anything again.
    other = tmp_path / "other"
    assert pclhd("synth", "--out", other, "--scale", "tiny", "--seed", 5).code == 0
    before = {name: (out / f"{name}-0" / "results.json").read_text() for name in ("baseline", "pclhd")}
    planned = pclhd(*words, *few, "--test-data", other, "--dry-run")
    assert "to do" not in planned.out
    assert "0 of 4 trainings left, 2 to evaluate" in planned.out
    assert pclhd(*words, *few, "--test-data", other).code == 0
    after = {name: (out / f"{name}-0" / "results.json").read_text() for name in ("baseline", "pclhd")}
    checksums = [{json.loads(text)["dataset"]["test_checksum"] for text in one.values()} for one in (before, after)]
    assert [len(one) for one in checksums] == [1, 1]
    assert checksums[0] != checksums[1]
    # Another ablation does not go into the same folder.
    assert "holds an ablation with" in complaint(pclhd(*words, "engine.log_every=7", *few))
    shown = pclhd("figures", out / "pclhd-0", out / "baseline-0", "--out", tmp_path / "two", "--people", 3)
    assert shown.code == 0, shown.err
    assert (tmp_path / "two" / "tsne.pdf").exists()
