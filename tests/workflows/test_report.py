"""`pclhd report`: a run's own images, queries of one's choice, several runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from pclhd.runs.folder import RunFolder
from tests.commands import Call
from tests.engine.runs import HEIGHT, WIDTH, SmallData


@pytest.fixture(scope="module")
def mine(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the small images in two folders, as own images without labels."""
    root = tmp_path_factory.mktemp("mine")
    for image in small.training_set.images:
        target = root / "data" / str(image.modality) / f"camera{image.camera}-{image.path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image.path.read_bytes())
    words = [word for word in small.words if not word.startswith("data.height")]
    from pclhd.config import load_preset
    from pclhd.workflows.train import open_data, train_run

    settings = load_preset(
        "tiny", [*words, f"data.height={HEIGHT}", "data.layout=own", "schedule.stage2_epochs=1"], root=root / "data"
    )
    train_run(settings, open_data(settings, root / "data"), RunFolder(root / "run"))
    return root


def test_a_run_on_unlabelled_images_has_pictures_at_once(mine: Path, pclhd: Call) -> None:
    done = pclhd("report", mine / "run")
    assert done.code == 0, done.err
    page = (mine / "run" / "report" / "index.html").read_text("utf-8")
    for name in ("chosen", "sheets", "pairs", "prototypes", "map", "focus"):
        assert f'<section id="{name}"' in page
    assert 'class="absent"' not in page
    assert "pclhd evaluate" not in page


def test_queries_of_ones_choice(mine: Path, pclhd: Call, tmp_path: Path) -> None:
    own = sorted((mine / "data" / "visible").iterdir())[0]
    other = tmp_path / "someone.png"
    Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(other)
    done = pclhd("report", mine / "run", "--queries", own, "--queries", other, "--device", "cpu")
    assert done.code == 0, done.err
    page = (mine / "run" / "report" / "index.html").read_text("utf-8")
    section = re.findall(r'<section id="searches".*?</section>', page, flags=re.DOTALL)[0]
    assert re.findall(r'alt="query (\w+)[^"]*: ([^"]*)"', section) == [
        ("visible", f"visible/{own.name}"),
        ("infrared", str(other)),
    ]
    # The run's own image is compared with the other modality, and so is the stranger, who counts as infrared.
    first, second = section.split("<article")[1:]
    assert set(re.findall(r'alt="\d+\. (\w+)', first)) == {"infrared"}
    assert set(re.findall(r'alt="\d+\. (\w+)', second)) == {"visible"}
    assert len(re.findall(r'<li class="shot', first)) == 10


def test_data_that_have_moved_leave_their_part_out_unless_named(mine: Path, pclhd: Call, tmp_path: Path) -> None:
    moved = mine / "data"
    moved.rename(tmp_path / "elsewhere")
    try:
        done = pclhd("report", mine / "run")
        assert done.code == 0, done.err
        assert '<section id="sheets"' not in (mine / "run" / "report" / "index.html").read_text("utf-8")
        assert pclhd("report", mine / "run", "--queries", "x.png").code == 2
        assert pclhd("report", mine / "run", "--data", tmp_path / "nothing").code == 2
        done = pclhd("report", mine / "run", "--data", tmp_path / "elsewhere")
        assert done.code == 0, done.err
        assert '<section id="sheets"' in (mine / "run" / "report" / "index.html").read_text("utf-8")
    finally:
        (tmp_path / "elsewhere").rename(moved)


def test_other_images_are_not_shown_as_those_of_the_run(mine: Path, pclhd: Call, tmp_path: Path) -> None:
    for modality in ("visible", "infrared"):
        (tmp_path / modality).mkdir()
        for shade in range(4):
            Image.new("RGB", (WIDTH, HEIGHT), (60 * shade, 80, 90)).save(tmp_path / modality / f"{shade}.png")
    assert pclhd("report", mine / "run", "--data", tmp_path).code == 0
    page = (mine / "run" / "report" / "index.html").read_text("utf-8")
    assert '<section id="sheets"' not in page
    assert "data:image/" not in page  # a stranger's run folder may name any folder


def test_several_runs_on_one_page(mine: Path, pclhd: Call, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    for name in ("config.yaml", "metrics.jsonl", "provenance.json", "model.safetensors"):
        (twin / name).write_bytes((mine / "run" / name).read_bytes())
    (twin / "config.yaml").write_text((twin / "config.yaml").read_text("utf-8").replace("seed: 0", "seed: 1"), "utf-8")
    out = tmp_path / "comparison.html"
    done = pclhd("report", mine / "run", twin, "--out", out)
    assert done.code == 0, done.err
    page = out.read_text("utf-8")
    assert "Comparison of 2 runs" in page
    assert "Groups of runs that differ only in the seed" in page
    for words in (
        ("report", mine / "run", twin),
        ("report", mine / "run", twin, "--out", out),
        ("report", mine / "run", twin, "--out", tmp_path / "page.txt"),
        ("report", mine / "run", "--out", tmp_path / "one.html"),
        ("report", mine / "run", twin, "--out", out, "--force", "--queries", "x.png"),
    ):
        refused = pclhd(*words)
        assert refused.code == 2, words
        assert refused.err.count("\n") == 1
    assert pclhd("report", mine / "run", twin, "--out", out, "--force").code == 0


@pytest.mark.slow
def test_labelled_test_people_are_mapped_before_and_after_training(
    pclhd: Call, mine: Path, small: SmallData, tmp_path: Path
) -> None:
    """As the run saw them: the training images again, now with the names of their people as a test set."""
    lines = ["path,modality,camera,identity,split"]
    for path in sorted((mine / "data").rglob("*.png")):
        camera, person, *_ = path.stem.removeprefix("camera").split("-")
        for split in ("train", "test"):
            target = tmp_path / split / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as image:
                (image if split == "train" else image.point(lambda value: value // 2)).save(target)
            name = f"{split}/{path.parent.name}/{path.name},{path.parent.name},{camera},{split}{person},"
            lines.append(name if split == "train" else name + "test")
    (tmp_path / "images.csv").write_text("\n".join(lines))
    run = tmp_path / "run"
    words = [word for word in small.words if "data.workers" not in word]
    done = pclhd("train", "tiny", "--data", tmp_path / "images.csv", "--out", run, *words, "schedule.stage2_epochs=1")
    assert done.code == 0, done.err
    done = pclhd("report", run, "--device", "cpu")
    assert done.code == 0, done.err
    page = (run / "report" / "index.html").read_text("utf-8")
    (section,) = re.findall(r'<section id="stages".*?</section>', page, flags=re.DOTALL)
    assert len(re.findall(r'aria-label="Map of some people by the (start|final) weights;', section)) == 2
    assert "6 test people drawn at random among 6" in " ".join(section.split())
    # Without the start weights there is nothing to compare with.
    (run / "checkpoints" / "start.safetensors").unlink()
    assert pclhd("report", run, "--device", "cpu").code == 0
    assert '<section id="stages"' not in (run / "report" / "index.html").read_text("utf-8")
