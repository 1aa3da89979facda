"""The page on reproducing published tables: its commands are accepted, its sequence for RegDB runs, its sums add up."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from string import Template
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml
from benchmarks import full_size

from pclhd.cli import app
from pclhd.config import Settings, load_preset
from pclhd.data.layouts import LAYOUTS
from pclhd.data.samplers import cluster_batches
from pclhd.errors import UserError
from pclhd.models.imagenet import IMAGENET_URL
from pclhd.recipes import RECIPES
from tests.commands import Call

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reproduce.md").read_text("utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
TRIALS = "1 2 3 4 5 6 7 8 9 10"

# What the released code has, for SYSU-MM01 and RegDB; the loop's defaults included.
PUBLISHED: dict[str, tuple[object, object]] = {
    "model.architecture": ("resnet50", "resnet50"),
    "data.height": (288, 288),
    "data.width": (144, 144),
    "batch.clusters": (8, 8),
    "batch.instances": (16, 16),
    "schedule.stage1_epochs": (50, 50),
    "schedule.stage2_epochs": (50, 50),
    "schedule.iterations": (200, 100),
    "schedule.learning_rate": (3.5e-4, 3.5e-4),
    "schedule.weight_decay": (5e-4, 5e-4),
    "schedule.decay_every": (20, 20),
    "schedule.decay_factor": (0.1, 0.1),
    "schedule.ema_decay": (0.999, 0.999),
    "clustering.k1": (30, 30),
    "clustering.k2": (6, 6),
    "clustering.joint_k1": (40, 40),
    "clustering.joint_k2": (32, 32),
    "clustering.eps": (0.6, 0.3),
    "clustering.eps_infrared": (None, None),
    "clustering.eps_joint": (None, None),
    "clustering.min_samples": (4, 4),
    "memory.temperature": (0.05, 0.05),
    "memory.momentum": (0.1, 0.1),
}


def expand(block: str) -> list[list[str]]:
    """The commands that a shell would run for a block with loops, as words; file patterns are kept."""

    def run(lines: Iterator[str], values: dict[str, str]) -> Iterator[list[str]]:
        for line in lines:
            loop = re.fullmatch(r"\s*for (\w+) in (.+); do", line)
            if loop:
                body = list(_body(lines))
                for value in loop[2].split():
                    yield from run(iter(body), {**values, loop[1]: value})
            elif line.strip():
                yield shlex.split(Template(line).substitute(values), comments=True)

    return [words for words in run(iter(block.splitlines()), {}) if words]


def _body(lines: Iterator[str]) -> Iterator[str]:
    depth = 1
    for line in lines:
        depth += line.strip().startswith("for ") - (line.strip() == "done")
        if depth == 0:
            return
        yield line
    raise ValueError("a loop without an end")


def calls(block: str) -> list[list[str]]:
    """The words after ``pclhd`` of each call in a block."""
    return [words[1:] for words in expand(block) if words[0] == "pclhd"]


@dataclass(frozen=True)
class Parsed:
    """A call as the command line sees it."""

    verb: str
    values: dict[str, Any]
    settings: Settings | None


def parse(words: list[str]) -> Parsed:
    """Parse a call for real, settings and layout included, without running the verb."""
    verb, *arguments = words
    values = VERBS[verb].make_context(verb, list(arguments)).params
    settings = None
    if values.get("arguments"):
        preset, *overrides = values["arguments"]
        settings = load_preset(preset, overrides, root=values.get("data"))
    if values.get("layout") is not None and values["layout"] not in LAYOUTS:
        raise LookupError(f"there is no layout {values['layout']}")
    return Parsed(verb, values, settings)


ALL_CALLS = [words for block in BLOCKS for words in calls(block)]


def test_loops_are_expanded_as_a_shell_does() -> None:
    block = "a  # why\nfor x in 1 2; do\n  b $x\n  for y in c d; do\n    e-$y ${x}f\n  done\ndone\ng 'h i' *\n"
    expected = ["a", "b 1", "e-c 1f", "e-d 1f", "b 2", "e-c 2f", "e-d 2f", "g h i *"]
    assert [" ".join(words) for words in expand(block)] == expected
    with pytest.raises(ValueError, match="without an end"):
        expand("for x in 1; do\n  b\n")
    with pytest.raises(KeyError):
        expand("b $unknown\n")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_are_good_shell(block: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_call_is_accepted() -> None:
    parsed = [parse(words) for words in ALL_CALLS]
    assert len(parsed) > 100
    trained = [call for call in parsed if call.verb == "train"]
    assert {call.settings.data.layout for call in trained if call.settings} == {"sysu", "regdb", "llcm"}
    for call in trained:
        assert call.settings is not None
        assert call.values["arguments"][0] == call.settings.data.layout
        assert call.settings.model.weights == f"imagenet:weights/{IMAGENET_URL.rpartition('/')[2]}"
    assert {call.verb for call in parsed} >= {"fetch-imagenet", "check", "train", "evaluate", "report", "combine"}
    checked = [call.values["layout"] for call in parsed if call.verb == "check"]
    assert checked == ["sysu", "regdb", "llcm"]


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ("pclhd train sysu --dat X", Exception, "No such option: --dat"),
        ("pclhd train sisu --data X", UserError, "unknown preset 'sisu'"),
        ("pclhd train sysu --data X recipe=papers", UserError, "recipe 'papers' is unknown"),
        ("pclhd train regdb --data X method.matching=released", UserError, "'method.matching' = 'released'"),
        ("pclhd check X --layout sisu", Exception, "'sisu' is not one of"),
        ("pclhd import A --layout sisu --out B", Exception, "'sisu' is not one of"),
        ("pclhd evaluat A", KeyError, "evaluat"),
    ],
)
def test_a_wrong_call_would_be_noticed(wrong: str, error: type[Exception], reason: str) -> None:
    (words,) = calls(wrong)
    with pytest.raises(error, match=reason):
        parse(words)


def test_what_is_evaluated_was_trained_or_imported_and_no_run_comes_twice() -> None:
    made: list[str] = []
    for words in ALL_CALLS:
        call = parse(words)
        if call.verb in {"train", "import"}:
            assert str(call.values["out"]) not in made
            made.append(str(call.values["out"]))
        elif call.verb in {"evaluate", "report"}:
            runs = call.values.get("runs") or [call.values["run"]]
            assert {str(run) for run in runs} <= set(made)
        elif call.verb == "combine":
            (pattern,) = map(str, call.values["runs"])
            assert len(fnmatch.filter(made, pattern)) == 10


def _trainings(layout: str) -> list[Settings]:
    parsed = [parse(words) for words in ALL_CALLS if words[:2] == ["train", layout]]
    return [call.settings for call in parsed if call.settings is not None and call.settings.batch.sampler == "camera"]


def test_every_recipe_is_trained_on_every_data_set() -> None:
    wanted = {"baseline", "paper", "released", "pclhd"}
    assert wanted <= set(RECIPES)
    for layout in ("sysu", "llcm"):
        assert sorted(settings.recipe for settings in _trainings(layout)) == sorted(wanted)
    regdb = _trainings("regdb")
    assert {(s.recipe, s.data.trial) for s in regdb} == {(name, trial) for name in wanted for trial in range(1, 11)}
    assert len(regdb) == 40
    for settings in regdb:
        assert (settings.method.matching == "released_regdb") == (settings.recipe == "released")


def test_trainings_differ_from_the_presets_in_nothing_else() -> None:
    for layout in ("sysu", "regdb", "llcm"):
        plain = load_preset(layout, []).model_dump()
        for settings in _trainings(layout):
            tree = settings.model_dump()
            differing = {key for key in tree if tree[key] != plain[key]}
            assert differing <= {"recipe", "method", "data", "model"}
            assert {key for key in tree["data"] if tree["data"][key] != plain["data"][key]} <= {"root", "trial"}
            assert {key for key in tree["model"] if tree["model"][key] != plain["model"][key]} == {"weights"}
            recipe = RECIPES[settings.recipe].model_dump()
            method = {key for key in recipe if tree["method"][key] != recipe[key]}
            assert method <= ({"matching"} if settings.recipe == "released" else set())


def _value(settings: Settings, key: str) -> object:
    section, name = key.split(".")
    value: object = getattr(getattr(settings, section), name)
    return value


@pytest.mark.parametrize(("layout", "place"), [("sysu", 0), ("regdb", 1), ("llcm", 0)])
def test_presets_hold_the_published_settings(layout: str, place: int) -> None:
    settings = load_preset(layout, [])
    assert {key: _value(settings, key) for key in PUBLISHED} == {key: pair[place] for key, pair in PUBLISHED.items()}
    assert settings.engine.precision == "32-true"


def test_the_page_shows_the_presets() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert {row[0] for row in rows} == {key for key, values in PUBLISHED.items() if values != (None, None)}
    for key, *cells in rows:
        for layout, cell in zip(("sysu", "regdb", "llcm"), cells, strict=True):
            assert yaml.safe_load(cell) == _value(load_preset(layout, []), key), (key, layout)


def test_with_one_camera_both_samplers_draw_the_same() -> None:
    labels = np.array([0] * 7 + [1] * 3 + [2] + [-1] * 4)
    drawn = [
        cluster_batches(
            labels, cameras, batches=5, clusters=2, instances=4, generator=np.random.default_rng(0)
        ).tolist()
        for cameras in (None, np.full(len(labels), 2), np.arange(len(labels)) % 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_bytes_on_the_page_add_up() -> None:
    preset = load_preset("sysu", [])
    image = 3 * preset.data.height * preset.data.width
    sysu = full_size.VISIBLE + full_size.INFRARED
    for number in (image, sysu, sysu * image, 206 * 10 * 2 * image, sysu * 2048 * 4):
        assert f"{number:,}" in PAGE


def test_hours_on_the_page_add_up() -> None:
    sums = re.findall(
        r"stage (\d): (\d+) epochs × \(embedding ([\d,]+) s \+ clustering (\d+) s "
        r"\+ (\d+) steps × ([\d.]+) s\) = ([\d,]+) h",
        PAGE,
    )
    hours = []
    for stage, *cells in sums:
        epochs, embedding, clustering, steps, seconds, stated = (float(cell.replace(",", "")) for cell in cells)
        schedule = load_preset("sysu", []).schedule
        assert (epochs, steps) == (
            {"1": schedule.stage1_epochs, "2": schedule.stage2_epochs}[stage],
            schedule.iterations,
        )
        hours.append(epochs * (embedding + clustering + steps * seconds) / 3600)
        assert hours[-1] == pytest.approx(stated, abs=1)
    together = re.findall(r"together ([\d,]+) h, which is ([\d.]+) days", PAGE)
    assert len(hours) == 2 * len(together) == 4
    for place, (stated, days) in enumerate(together):
        assert sum(hours[2 * place : 2 * place + 2]) == pytest.approx(float(stated.replace(",", "")), abs=2)
        assert float(stated.replace(",", "")) / 24 == pytest.approx(float(days), abs=0.1)


def _step(stage: int, images: int, seconds: float, gib: float | None) -> dict[str, Any]:
    return {"stage": stage, "precision": "32-true", "images": images, "seconds": seconds, "peak_gib": gib}


def test_a_training_is_extrapolated_along_a_line() -> None:
    assert full_size.line_at(384, [(24, 1.0), (48, 2.0), (96, 4.0)]) == pytest.approx(16)
    assert full_size.line_at(0, [(1, 3.0), (2, 5.0)]) == pytest.approx(1)
    steps = [_step(1, 24, 2.0, 1.0), _step(1, 48, 3.0, 2.0), _step(2, 24, 4.0, None), _step(2, 48, 8.0, None)]
    embedding = [{"precision": "32-true", "images_per_second": 100.0}]
    training = full_size.extrapolate(steps, embedding, {"seconds": {"1": 10.0, "2": 30.0}})["32-true"]
    first, second = training["stages"]["1"], training["stages"]["2"]
    assert first["step_seconds"] == pytest.approx(1 + 384 / 24)
    assert first["step_gib"] == pytest.approx(16)
    assert second["step_gib"] is None
    assert first["hours"] == pytest.approx(50 * (341.67 + 10 + 200 * 17) / 3600)
    assert second["hours"] == pytest.approx(50 * (341.67 + 30 + 200 * 64) / 3600)
    assert training["hours"] == pytest.approx(first["hours"] + second["hours"])
    text = "\n".join(full_size.arithmetic({"32-true": training}, "32-true"))
    assert "200 steps × 17.0 s" in text
    assert "a step takes – GiB" in text


def _sequence() -> list[list[str]]:
    """The page's calls for RegDB, with two trials instead of ten and one recipe instead of three."""
    section = PAGE.split("\n## RegDB\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert [block.count(TRIALS) for block in blocks] == [1, 1]
    assert blocks[0].count("baseline paper pclhd") == 1
    return [
        words
        for block in blocks
        for words in calls(block.replace(TRIALS, "1 2").replace("baseline paper pclhd", "pclhd"))
    ]


def _small(words: list[str]) -> list[str]:
    """Turn a training with the page's preset into one with the preset `tiny`; everything else stays."""
    if words[0] != "train":
        return words
    kept = [word for word in words[2:] if not word.startswith("model.weights=")]
    return ["train", "tiny", *kept, "data.layout=regdb"]


@pytest.mark.slow
def test_the_sequence_for_regdb_runs(
    pclhd: Call, tiny_regdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data", "runs"):
        Path(folder).mkdir()
    Path("data/RegDB").symlink_to(tiny_regdb, target_is_directory=True)
    printed: dict[str, str] = {}
    for words in _sequence():
        paths = [str(path) for word in words for path in (sorted(Path().glob(word)) if "*" in word else [word])]
        outcome = pclhd(*_small(paths))
        assert outcome.code == 0, outcome
        if words[0] == "combine":
            printed[words[1]] = outcome.out
    assert list(printed) == ["runs/regdb-pclhd-*", "runs/regdb-released-*"]
    for pattern, table in printed.items():
        runs = [json.loads((run / "results.json").read_text("utf-8")) for run in sorted(Path().glob(pattern))]
        assert [run["dataset"]["name"] for run in runs] == ["regdb-1", "regdb-2"]
        assert all(run["dataset"]["synthetic"] and run["training"] == "unsupervised" for run in runs)
        assert runs[0]["dataset"]["checksum"] != runs[1]["dataset"]["checksum"]
        assert table.startswith("drawn people in RegDB's layout, trials 1, 2, percent")
        for row, other in zip(runs[0]["rows"], runs[1]["rows"], strict=True):
            assert f"{100 * fmean([row['mAP']['mean'], other['mAP']['mean']]):.1f} ±" in table
    released = yaml.safe_load(Path("runs/regdb-released-2/config.yaml").read_text("utf-8"))
    assert (released["recipe"], released["method"]["matching"]) == ("released", "released_regdb")
    page = Path("runs/regdb-pclhd-1/report/index.html").read_text("utf-8")
    assert 'id="results"' in page
    assert 'id="published"' not in page


@pytest.mark.slow
def test_full_size_in_its_quick_form(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    command = [sys.executable, "benchmarks/full_size.py", "--quick", "--steps", "1", "--json", str(path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Preset sysu, 32-true:" in finished.stdout
    figures = json.loads(path.read_text())
    assert [(row["stage"], row["images"]) for row in figures["steps"]] == [(1, 24), (1, 48), (2, 24), (2, 48)]
    assert all(row["seconds"] > 0 for row in figures["steps"])
    assert figures["machine"]["threads"] == 1
