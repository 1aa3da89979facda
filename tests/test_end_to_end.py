"""From drawing data to a report on the command line, for every layout; and labels never reach the weights."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pclhd.data.records import Modality
from pclhd.data.sysu import read_sysu
from tests.commands import Call, complaint

#: A small training that is over in a moment; the pictures are smaller than drawn.
QUICK = (
    "model.weights=none",
    "data.height=48",
    "data.width=24",
    "schedule.iterations=1",
    "schedule.stage2_epochs=1",
    "clustering.eps=0.7",
    "clustering.eps_joint=0.9",
)
SEARCHES = {
    "sysu": {"all/single-shot", "all/multi-shot", "indoor/single-shot", "indoor/multi-shot"},
    "regdb": {"visible→infrared", "infrared→visible"},
    "llcm": {"visible→infrared", "infrared→visible"},
    "own": {"visible→infrared", "infrared→visible"},
}


def check_results(run: Path, layout: str) -> dict[str, Any]:
    """The form of ``results.json``, which reports and other programs rely on."""
    results: dict[str, Any] = json.loads((run / "results.json").read_text("utf-8"))
    assert results["schema"] == 1
    assert results["dataset"].keys() >= {"name", "checksum", "train_images", "test_images"}
    assert results["recipe"] == "pclhd"
    rows = results["rows"]
    assert {(row["weights"], row["search"]) for row in rows} == {
        (weights, search) for weights in ("start", "stage1", "final") for search in SEARCHES[layout]
    }
    for row in rows:
        for name in ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP"):
            assert 0 <= row[name]["mean"] <= 1
            assert row[name]["std"] >= 0
        assert row["rank1"]["mean"] <= row["rank5"]["mean"] <= row["rank10"]["mean"] <= row["rank20"]["mean"]
        assert len(row["cmc"]) == 20
        assert row["cmc"][0] == pytest.approx(row["rank1"]["mean"])
        assert 0 < row["valid_queries"] <= row["queries"]
        assert row["gallery"] > 0
        assert len(row["per_trial"]) == row["trials"]
    examples = results["ranked_examples"]["weights"]
    assert examples.keys() == {"start", "final"}
    for example in examples["final"]:
        assert not Path(example["query"]["path"]).is_absolute()
        assert all(isinstance(found["correct"], bool) for found in example["gallery"])
    return results


def run_all(pclhd: Call, data: Path, run: Path, layout: str, *overrides: str) -> None:
    """Check, train, evaluate, report."""
    trained = pclhd("train", "tiny", "--data", data, "--out", run, *QUICK, *overrides)
    assert trained.code == 0, trained
    assert trained.err == ""
    assert f"next: pclhd evaluate {run}" in trained.out
    # None is wrapped. Two epochs cannot train anything, so there may be a warning that the weights got worse.
    lines = [
        line for line in trained.out.splitlines() if not line.startswith("warning: the final weights may be worse")
    ]
    begins = ("training ", "", "about ", "epoch ", "stage II ", "epoch ", "done: ")
    assert len(lines) == len(begins), trained.out
    for line, begin in zip(lines, begins, strict=True):
        assert line.startswith(begin), line
    assert "images, 2 epochs" in lines[1]
    evaluated = pclhd("evaluate", run)
    assert evaluated.code == 0, evaluated
    assert "mAP" in evaluated.out
    results = check_results(run, layout)
    printed = pclhd("evaluate", run, "--json")
    assert json.loads(printed.out) == results
    reported = pclhd("report", run)
    assert reported.code == 0, reported
    page = (run / "report" / "index.html").read_text("utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "<script src" not in page
    assert 'src="http' not in page


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["sysu", "regdb", "llcm"])
def test_from_nothing_to_a_report(pclhd: Call, tmp_path: Path, layout: str) -> None:
    data, run = tmp_path / "data", tmp_path / "a run with spaces and ümlauts [1]"
    drawn = pclhd("synth", "--out", data, "--scale", "tiny", "--layout", layout, "--workers", 1)
    assert drawn.code == 0
    assert "images of" in drawn.out
    checked = pclhd("check", data, "--layout", layout)
    assert "visible" in checked.out
    assert "Traceback" not in checked.err
    run_all(pclhd, data, run, layout, "model.weights=starter")
    assert "would count twice" in complaint(pclhd("combine", run, run))
    combined = pclhd("combine", run, run, "--json", "--force")
    assert combined.code == 0
    single = json.loads((run / "results.json").read_text("utf-8"))["rows"]
    for row, alone in zip(json.loads(combined.out)["rows"], single, strict=True):
        assert (row["weights"], row["search"], row["trials"]) == (alone["weights"], alone["search"], 2)
        assert row["rank1"] == {"mean": pytest.approx(alone["rank1"]["mean"]), "std": pytest.approx(0)}
    assert "pclhd evaluate" in complaint(pclhd("combine", run, tmp_path / "none"))


def copy_as_folders(source: Path, target: Path) -> Path:
    """Training images of a SYSU layout in two folders, under names without information."""
    for modality in Modality:
        (target / modality).mkdir(parents=True)
    for number, image in enumerate(read_sysu(source).train.images):
        shutil.copy(image.path, target / image.modality / f"bild_{number:03d}_ü.JPG")
    return target


def write_own_csv(source: Path, path: Path, *, identities: bool = True, splits: bool = True) -> Path:
    """A CSV that points into a SYSU layout: by relative paths if it is next to the images, else by absolute ones."""
    dataset = read_sysu(source)
    assert dataset.train_identities is not None
    assert dataset.test is not None
    parts = [("train", dataset.train.images, dataset.train_identities)]
    if splits:
        parts.append(("test", dataset.test.images, dataset.test.identities))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "modality", "camera", "identity", "split"])
        for split, images, people in parts:
            for image, person in zip(images, people, strict=True):
                shown = person if identities or split == "test" else ""
                inside = image.path.is_relative_to(path.parent)
                name = image.path.relative_to(path.parent) if inside else image.path
                writer.writerow([name, image.modality, image.camera, shown, split])
    return path


@pytest.mark.slow
def test_own_images_in_a_csv(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_sysu, tmp_path / "pictures")
    (tmp_path / "pictures" / "contact_sheet.png").unlink()  # it is in no list, which would give a note
    data = write_own_csv(tmp_path / "pictures", tmp_path / "mine.csv")
    assert pclhd("check", data).code == 0
    run_all(pclhd, data, tmp_path / "run", "own", "data.same_camera_rule=true")


@pytest.mark.slow
def test_own_folders_train_but_cannot_be_evaluated(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    data, run = copy_as_folders(tiny_sysu, tmp_path / "mine"), tmp_path / "run"
    assert pclhd("check", data).code == 0
    trained = pclhd("train", "own", "--data", data, "--out", run, *QUICK, *SMALL_NETWORK)
    assert trained.code == 0, trained
    assert "ARI" not in trained.out
    assert "no labelled test images" in complaint(pclhd("evaluate", run))
    assert not (run / "results.json").exists()
    reported = pclhd("report", run)
    assert reported.code == 0, reported
    assert (run / "report" / "index.html").is_file()
    # The run can still be measured on other data.
    labelled = write_own_csv(tiny_sysu, tmp_path / "labelled.csv")
    assert pclhd("evaluate", run, "--data", labelled).code == 0


#: What makes the preset `own` as small as `tiny`.
SMALL_NETWORK = (
    "model.architecture=narrow",
    "schedule.stage1_epochs=1",
    "batch.clusters=4",
    "batch.instances=4",
    "clustering.k1=8",
    "clustering.k2=3",
    "clustering.joint_k1=10",
    "clustering.joint_k2=4",
    "clustering.min_samples=2",
)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_and_resumed(
    pclhd: Call, tiny_sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    from pclhd.cli.training_console import ConsoleObserver

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert pclhd("train", "tiny", "--data", tiny_sysu, "--out", whole, *QUICK).code == 0
    real = ConsoleObserver.stepped

    def interrupted(self: ConsoleObserver, position: Any, step: int, losses: Any) -> None:
        if position.epoch == 1:
            os.kill(os.getpid(), number)
        real(self, position, step, losses)

    with monkeypatch.context() as patch:
        patch.setattr(ConsoleObserver, "stepped", interrupted)
        stopped = pclhd("train", "tiny", "--data", tiny_sysu, "--out", parts, *QUICK)
    assert stopped.code == code
    assert stopped.err.strip() == f"interrupted; continue with: pclhd train --resume {parts}"
    assert "not finished" in complaint(pclhd("evaluate", parts))
    resumed = pclhd("train", "--resume", parts)
    assert resumed.code == 0, resumed
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_interrupted_before_anything_was_written(
    pclhd: Call, tiny_sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pclhd.engine import trainer

    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trainer, "load_training_images", interrupted)
    stopped = pclhd("train", "tiny", "--data", tiny_sysu, "--out", tmp_path / "run", *QUICK)
    assert stopped.code == 130
    assert "--resume" not in stopped.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_installed_command_in_a_process_of_its_own(tiny_sysu: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pclhd.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "40"}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], capture_output=True, text=True, env=environment, check=False)

    run = tmp_path / ("a-long-name-" * 8)
    ran = call("train", "tiny", "--data", str(tiny_sysu), "--out", str(run), *QUICK, "schedule.stage2_epochs=0")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert ran.stdout.splitlines()[-1] == f"done: {run}; next: pclhd evaluate {run}"
    missing = call("train", "tiny", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "other"))
    assert missing.returncode == 2
    assert missing.stdout == ""
    assert len(missing.stderr.splitlines()) == 1
    assert missing.stderr.startswith("pclhd: ")
    shown = call("train", "tiny", "--debug", "--data", str(tmp_path / "nowhere"))
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr


# Labels never reach the weights.


def weights_after(pclhd: Call, data: Path, run: Path) -> str:
    trained = pclhd("train", "tiny", "--data", data, "--out", run, *QUICK)
    assert trained.code == 0, trained
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def training_people(root: Path) -> list[str]:
    listed = [(root / "exp" / f"{part}_id.txt").read_text().strip().split(",") for part in ("train", "val")]
    return [f"{int(person):04d}" for person in [*listed[0], *listed[1]]]


def shuffle_sysu(root: Path) -> None:
    """Every training image moves to a random training person of the same camera, under a new name."""
    draw = random.Random(0)
    people = training_people(root)
    for camera in sorted(root.glob("cam?")):
        images = [path for person in people for path in sorted((camera / person).glob("*"))]
        contents = [path.read_bytes() for path in images]
        for path in images:
            path.unlink()
        for number, content in enumerate(contents):
            folder = camera / draw.choice(people)
            folder.mkdir(exist_ok=True)
            (folder / f"{number:04d}.jpg").write_bytes(content)


def strip_sysu(root: Path) -> None:
    """Move training images directly below their camera, so that no person is named."""
    people = training_people(root)
    for camera in sorted(root.glob("cam?")):
        images = [path for person in people for path in sorted((camera / person).glob("*"))]
        random.Random(1).shuffle(images)
        for number, path in enumerate(images):
            path.rename(camera / f"{number:04d}.jpg")
        for person in people:
            shutil.rmtree(camera / person, ignore_errors=True)


def _training_lists(root: Path) -> list[Path]:
    return sorted(root.glob("idx/train_*_1.txt")) or sorted(root.glob("idx/train_*.txt"))


def shuffle_lists(root: Path) -> None:
    """Shuffle labels among lines, and lines among each other."""
    for number, path in enumerate(_training_lists(root)):
        pairs = [line.split() for line in path.read_text().splitlines()]
        labels = [label for _, label in pairs]
        draw = random.Random(number)
        draw.shuffle(labels)
        lines = [f"{name} {label}" for (name, _), label in zip(pairs, labels, strict=True)]
        draw.shuffle(lines)
        path.write_text("\n".join(lines) + "\n")


def strip_lists(root: Path) -> None:
    """Lists without labels, of files whose names say nothing except, in LLCM, the camera."""
    for path in _training_lists(root):
        lines = []
        names = [line.split()[0] for line in path.read_text().splitlines()]
        random.Random(2).shuffle(names)
        for number, name in enumerate(names):
            old = root / name
            middle = f"_{old.stem.split('_')[1]}_" if path.stem in {"train_vis", "train_nir"} else "_"
            new = Path(name).parent.parent / f"x{number:04d}{middle}s1{old.suffix}"
            old.rename(root / new)
            lines.append(new.as_posix())
        path.write_text("\n".join(lines) + "\n")


CHANGES: dict[str, dict[str, Callable[[Path], None]]] = {
    "sysu": {"shuffled": shuffle_sysu, "deleted": strip_sysu},
    "regdb": {"shuffled": shuffle_lists, "deleted": strip_lists},
    "llcm": {"shuffled": shuffle_lists, "deleted": strip_lists},
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", CHANGES)
def test_shuffled_and_deleted_labels_give_the_same_weights(
    pclhd: Call, tmp_path: Path, layout: str, request: pytest.FixtureRequest
) -> None:
    original: Path = request.getfixturevalue(f"tiny_{layout}")
    expected = weights_after(pclhd, original, tmp_path / "run")
    for name, change in CHANGES[layout].items():
        changed = tmp_path / name
        shutil.copytree(original, changed)
        change(changed)
        assert weights_after(pclhd, changed, tmp_path / f"run-{name}") == expected, name
    lines = [json.loads(line) for line in (tmp_path / "run-deleted" / "metrics.jsonl").read_text().splitlines()]
    assert not any("labels" in line for line in lines)
    shuffled = [json.loads(line) for line in (tmp_path / "run-shuffled" / "metrics.jsonl").read_text().splitlines()]
    assert any("labels" in line for line in shuffled)


@pytest.mark.slow
def test_identities_in_a_csv_give_the_same_weights(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    named = write_own_csv(tiny_sysu, tmp_path / "named.csv")
    nameless = write_own_csv(tiny_sysu, tmp_path / "nameless.csv", identities=False)
    expected = weights_after(pclhd, named, tmp_path / "run-named")
    assert weights_after(pclhd, nameless, tmp_path / "run-nameless") == expected
    # The same pictures read as SYSU-MM01: the layout does not matter either.
    assert weights_after(pclhd, tiny_sysu, tmp_path / "run-sysu") == expected
