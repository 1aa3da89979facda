"""Mistakes on the command line: one line on stderr, exit code 2, and nothing left half-written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pclhd import __version__
from pclhd.cli import main
from pclhd.errors import UserError
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.streams import Streams
from tests.commands import Call, complaint
from tests.data.fake_layouts import write_image, write_llcm, write_regdb, write_sysu
from tests.models.small import SMALL_BASIC, stirred

QUICK = (
    "model.weights=none",
    "data.height=48",
    "data.width=24",
    "schedule.iterations=1",
    "schedule.stage1_epochs=1",
    "schedule.stage2_epochs=0",
    "clustering.eps=0.8",
)


@pytest.fixture
def sysu(tmp_path: Path) -> Path:
    root = tmp_path / "sysu"
    write_sysu(root)
    return root


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Two folders of six images each."""
    root = tmp_path / "own"
    for modality in ("visible", "infrared"):
        for number in range(6):
            write_image(root / modality / f"{number}.png", f"{modality} {number}")
    return root


@pytest.fixture
def refused(pclhd: Call, tmp_path: Path) -> Callable[..., str]:
    """The error message of a training that must not start."""

    def train(data: object, *words: object, preset: str = "tiny") -> str:
        run = tmp_path / "run"
        before = set(tmp_path.iterdir())
        said = complaint(pclhd("train", preset, "--data", data, "--out", run, *QUICK, *words))
        assert set(tmp_path.iterdir()) == before, "nothing is left behind"
        return said

    return train


# The folder of the data.


def test_no_data(pclhd: Call, tmp_path: Path) -> None:
    assert "--data: is missing" in complaint(pclhd("train", "tiny", "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("layout", ["auto", "sysu", "regdb", "llcm", "own"])
def test_missing_root(refused: Callable[..., str], tmp_path: Path, layout: str) -> None:
    assert "nowhere" in refused(tmp_path / "nowhere", f"data.layout={layout}")


def test_an_unknown_layout(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: the layout is none of those known; expected one of: sysu: " in refused(tmp_path / "empty")
    assert "it looks like" not in refused(tmp_path / "empty", "data.layout=sysu")


def test_the_wrong_layout(refused: Callable[..., str], sysu: Path) -> None:
    assert "it looks like sysu" in refused(sysu, "data.layout=regdb")


@pytest.mark.parametrize("name", ["train", "val", "test"])
@pytest.mark.parametrize("content", ["", "\n", "1,x\n", "1;2\n"])
def test_broken_identity_lists(refused: Callable[..., str], sysu: Path, name: str, content: str) -> None:
    (sysu / "exp" / f"{name}_id.txt").write_text(content)
    assert f"{name}_id.txt" in refused(sysu)


def test_a_missing_identity_list(refused: Callable[..., str], sysu: Path) -> None:
    (sysu / "exp" / "val_id.txt").unlink()
    assert "val_id.txt" in refused(sysu)


def test_identities_without_images(refused: Callable[..., str], pclhd: Call, sysu: Path) -> None:
    (sysu / "exp" / "train_id.txt").write_text("100\n")
    (sysu / "exp" / "val_id.txt").write_text("101\n")
    assert "in the training lists has an image" in refused(sysu)
    # If only some are missing, training skips them, as the released code does, and `check` names them.
    (sysu / "exp" / "train_id.txt").write_text("3,1,100\n")
    (sysu / "exp" / "val_id.txt").write_text("7\n")
    checked = pclhd("check", sysu)
    assert "100" in checked.out
    assert checked.err == ""


def test_regdb_lists(refused: Callable[..., str], tmp_path: Path) -> None:
    root = tmp_path / "regdb"
    write_regdb(root)
    path = root / "idx" / "train_visible_1.txt"
    whole = path.read_text()
    path.write_text("")
    assert "train_visible_1.txt" in refused(root)
    path.write_text(whole + "Visible/99/none.bmp 9\n")
    assert "line 5" in refused(root)
    path.write_text(whole.replace(" 0", " zero", 1))
    assert "line 1" in refused(root)
    path.write_text(whole)
    assert "data.trial" in refused(root, "data.trial=12")
    assert "trials" in refused(root, "data.trial=7")


def test_llcm_lists(refused: Callable[..., str], tmp_path: Path) -> None:
    root = tmp_path / "llcm"
    write_llcm(root)
    (root / "idx" / "test_id.txt").write_text("\n")
    assert "test_id.txt" in refused(root)


# Images.


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_a_zero_byte_image(refused: Callable[..., str], own: Path, modality: str) -> None:
    (own / modality / "3.png").write_bytes(b"")
    said = refused(own)
    assert f"{modality}/3.png" in said
    assert "empty" in said


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_truncated_image(refused: Callable[..., str], own: Path, kind: str) -> None:
    path = own / "visible" / "3.png"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format=kind)
    path.write_bytes(path.read_bytes()[:-2000])
    assert "visible/3.png" in refused(own)


def test_text_instead_of_an_image(refused: Callable[..., str], own: Path) -> None:
    (own / "visible" / "3.png").write_text("hello")
    assert "not an image of a known format" in refused(own)


def test_one_modality_only(refused: Callable[..., str], own: Path) -> None:
    shutil.rmtree(own / "infrared")
    (own / "infrared").mkdir()
    assert "infrared" in refused(own)


@pytest.mark.slow
def test_unusual_images_train(pclhd: Call, own: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = own / "visible"
    for modality in ("visible", "infrared"):
        for number in range(6):
            pixels = random.integers(0, 256, (24, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(own / modality / f"more {number}.png")
    grey = random.integers(0, 256, (48, 24), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(np.dstack([grey] * 4)).save(folder / "rgba.png")
    Image.fromarray(grey).convert("P").save(folder / "palette.png")
    Image.fromarray(np.dstack([grey] * 4), mode="CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(grey).save(own / "infrared" / "UPPER.BMP")
    Image.fromarray(grey).save(own / "infrared" / "日本語 ü.Jpg", format="JPEG")
    (folder / "notes.txt").write_text("not an image, and not looked at")
    (folder / ".hidden.png").write_text("neither")
    ran = pclhd(
        "train", "tiny", "--data", own, "--out", tmp_path / "run", *QUICK, "clustering.k1=4", "clustering.eps=0.6"
    )
    assert ran.code == 0, ran
    assert "17 visible and 14 infrared images" in ran.out


# CSV files.


@pytest.mark.parametrize(
    ("header", "row", "complained"),
    [
        ("path,modality,colour", "visible/0.png,visible,red", "unknown column 'colour'"),
        ("path,modalty", "visible/0.png,visible", "did you mean 'modality'?"),
        ("path,modality", "visible/0.png,thermal", "modality 'thermal'"),
        ("path,modality", "visible/none.png,visible", "row 2"),
        ("path,modality,camera", "visible/0.png,visible,1.5", "camera '1.5'"),
        ("path;modality", "visible/0.png;visible", "split by commas"),
        ("path", "visible/0.png", "no column 'modality'"),
        ("path,modality", "visible/0.png,visible", "no infrared training image"),
        ("", "", "the file is empty"),
    ],
)
def test_csv_files(refused: Callable[..., str], own: Path, header: str, row: str, complained: str) -> None:
    (own / "images.csv").write_text(f"{header}\n{row}\n" if header else "")
    assert complained in refused(own / "images.csv")


# Settings.


@pytest.mark.parametrize(
    ("words", "complained"),
    [
        (["schedule.iteratons=3"], "did you mean 'schedule.iterations'?"),
        (["shedule.iterations=3"], "did you mean 'schedule'?"),
        (["recipe=papper"], "did you mean 'paper'?"),
        (["schedule.iterations=many"], "schedule.iterations"),
        (["iterations"], "key=value"),
        (["model.architecture=[b]"], "model.architecture"),
        (["engine.accelerator=mps", "engine.precision=32-true"], "engine.accelerator=mps"),
    ],
)
def test_settings(refused: Callable[..., str], own: Path, words: list[str], complained: str) -> None:
    if "engine.accelerator=mps" in words and torch.backends.mps.is_available():
        pytest.skip("this machine has that accelerator")
    assert complained in refused(own, *words)


def test_presets(refused: Callable[..., str], pclhd: Call, own: Path, tmp_path: Path) -> None:
    assert "did you mean 'tiny'?" in refused(own, preset="tinny")
    assert "cannot be read" in refused(own, preset=str(tmp_path / "none.yaml"))
    assert "which preset?" in complaint(pclhd("train"))


def test_all_noise_names_the_setting(pclhd: Call, own: Path, tmp_path: Path) -> None:
    words = ("clustering.min_samples=20",)
    said = complaint(pclhd("train", "tiny", "--data", own, "--out", tmp_path / "run", *QUICK, *words))
    assert "raise clustering.eps or lower clustering.min_samples" in said
    assert not (tmp_path / "run" / "model.safetensors").exists()


# Weights.


def text_file(path: Path) -> None:
    path.write_text("these are no weights")


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def foreign_file(path: Path) -> None:
    save_file({"layer.weight": torch.zeros(2)}, path)


def other_architecture(path: Path) -> None:
    save_model(path, stirred(SMALL_BASIC))


def cut_file(path: Path) -> None:
    save_model(path, TwoStreamNetwork(NARROW, generator=Streams(0).torch("x")))
    path.write_bytes(path.read_bytes()[:-100])


_UNREADABLE = "not a readable safetensors file"
_UNREADABLE_FOREIGN = "contains no readable weights"
_INCOMPLETE = "the entry 'conv1.weight' is missing"


@pytest.mark.parametrize(
    ("make", "prefix", "reason"),
    [
        (text_file, "", _UNREADABLE),
        (text_file, "imagenet:", _UNREADABLE_FOREIGN),
        (empty_file, "", _UNREADABLE),
        (empty_file, "imagenet:", _UNREADABLE_FOREIGN),
        (foreign_file, "", _INCOMPLETE),
        (foreign_file, "imagenet:", _INCOMPLETE),
        (other_architecture, "", "has a network with depths = (1, 2, 1, 1)"),
        (other_architecture, "imagenet:", _INCOMPLETE),
        (cut_file, "", _UNREADABLE),
        (cut_file, "imagenet:", _UNREADABLE_FOREIGN),
    ],
)
def test_wrong_weights(
    refused: Callable[..., str], own: Path, tmp_path: Path, make: Callable[[Path], None], prefix: str, reason: str
) -> None:
    path = tmp_path / "start.safetensors"
    make(path)
    assert f"start.safetensors: {reason}" in refused(own, f"model.weights={prefix}{path}")


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ("imagenet", "use model.weights=starter"),
        ("imagenet:none.pth", "none.pth: no such file"),
        ("none.safetensors", "none.safetensors: no such file"),
        ("starterr", "starterr: no such file"),
    ],
)
def test_missing_weights(refused: Callable[..., str], own: Path, weights: str, reason: str) -> None:
    assert reason in refused(own, f"model.weights={weights}")


def test_a_pickle_that_would_run_code(refused: Callable[..., str], own: Path, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
            return Path.touch, (tmp_path / "harm",)

    torch.save({"conv1.weight": Harmful()}, tmp_path / "weights.pth")
    assert "weights.pth" in refused(own, f"model.weights=imagenet:{tmp_path / 'weights.pth'}")
    assert not (tmp_path / "harm").exists()


# Run folders.


def test_a_folder_that_is_used(pclhd: Call, own: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    said = complaint(pclhd("train", "tiny", "--data", own, "--out", tmp_path / "run", *QUICK))
    assert "already holds files" in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_folder_that_is_a_file(pclhd: Call, own: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    assert "cannot be created" in complaint(pclhd("train", "tiny", "--data", own, "--out", tmp_path / "run", *QUICK))


def test_resuming_takes_no_settings(pclhd: Call, tmp_path: Path) -> None:
    assert "leave out" in complaint(pclhd("train", "tiny", "--resume", tmp_path / "run"))
    assert "config.yaml" in complaint(pclhd("train", "--resume", tmp_path / "run"))


@pytest.mark.parametrize("verb", ["evaluate", "report", "verify"])
def test_a_missing_run(pclhd: Call, tmp_path: Path, verb: str) -> None:
    assert "config.yaml" in complaint(pclhd(verb, tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


def test_evaluating_an_unfinished_run(pclhd: Call, sysu: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ran = pclhd("train", "tiny", "--data", sysu, "--out", run, *QUICK, "clustering.k1=4", "clustering.eps=0.6")
    assert ran.code == 0, ran
    model = run / "model.safetensors"
    model.rename(run / "aside")
    assert f"continue with: pclhd train --resume {run}" in complaint(pclhd("evaluate", run))
    model.write_text("damaged")
    assert f"model.safetensors: {_UNREADABLE}" in complaint(pclhd("evaluate", run))
    assert not (run / "results.json").exists()
    # Images other than those that it started with.
    (sysu / "cam1" / "0001" / "0001.jpg").unlink()
    assert "not those the run began with" in complaint(pclhd("train", "--resume", run))


@pytest.mark.parametrize("recipe", ["supervised", "semi-supervised"])
def test_recipes_with_labels_need_identities(refused: Callable[..., str], own: Path, recipe: str) -> None:
    said = refused(own, f"recipe={recipe}")
    assert f"{own}: the training images have no identities" in said
    assert "recipe=pclhd" in said


@pytest.mark.slow
def test_verifying_and_comparing_runs(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiny_sysu, tmp_path / "data")
    runs = [tmp_path / "one", tmp_path / "two"]
    words = ("clustering.eps=0.6", "model.weights=starter")
    for seed, run in enumerate(runs):
        ran = pclhd("train", "tiny", "--data", data, "--out", run, *QUICK, *words, f"seed={seed}")
        assert ran.code == 0, ran
    verified = pclhd("verify", runs[0])
    assert (verified.code, verified.err) == (0, "")
    assert verified.out.startswith("identical: ")
    assert pclhd("verify", runs[0], "--device", "cpu").out == verified.out
    assert "--device nonsense: cannot be used here" in complaint(pclhd("verify", runs[0], "--device", "nonsense"))
    # The data may have moved.
    moved = data.rename(tmp_path / "moved")
    assert str(data) in complaint(pclhd("verify", runs[0]))
    assert pclhd("verify", runs[0], "--data", moved).code == 0
    log = runs[0] / "metrics.jsonl"
    log.write_text(log.read_text().replace('"total": ', '"total": 1'))
    differs = pclhd("verify", runs[0], "--data", moved)
    assert (differs.code, differs.err) == (1, "")
    assert differs.out.startswith("differs: first at epoch 0 step 0, loss total 1")

    compared = pclhd("compare", *runs)
    assert compared.code == 0
    assert f"one was not evaluated; evaluate it with: pclhd evaluate {runs[0]}" in compared.out
    tree = json.loads(pclhd("compare", *runs, "--json").out)
    assert tree["settings"] == {"seed": [0, 1]}
    assert [group["seeds"] for group in tree["groups"]] == [[0, 1]]


def test_comparing_needs_two_run_folders(pclhd: Call, tmp_path: Path) -> None:
    assert "two or more run folders" in complaint(pclhd("compare", tmp_path / "one"))
    assert "is not a run folder" in complaint(pclhd("compare", tmp_path / "one", tmp_path / "two"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("synthetic", "--data", "DIR", "--out", "RUN", "seed=1")])
def test_upper_bound_points_to_the_recipe(pclhd: Call, words: tuple[str, ...]) -> None:
    said = complaint(pclhd("upper-bound", *words))
    assert said.endswith(
        "upper-bound was removed; train the recipe supervised instead: pclhd train PRESET recipe=supervised"
    )
    assert "upper-bound" not in pclhd("--help").out


def test_paths_that_are_too_long(pclhd: Call, tmp_path: Path) -> None:
    long = tmp_path / ("n" * 300)
    for words in (("compare", long, tmp_path), ("import", long, "--layout", "own", "--out", tmp_path / "run")):
        said = complaint(pclhd(*words))
        assert "File name too long; check the path and its permissions" in said
    assert list(tmp_path.iterdir()) == []


def test_starter_into_a_missing_folder(pclhd: Call, tmp_path: Path) -> None:
    assert "there is no folder" in complaint(pclhd("starter", "--out", tmp_path / "none" / "starter.safetensors"))


def test_synth_into_a_used_folder(pclhd: Call, own: Path) -> None:
    before = sorted(own.rglob("*"))
    assert str(own) in complaint(pclhd("synth", "--out", own, "--scale", "tiny", "--workers", 1))
    assert sorted(own.rglob("*")) == before


# The rest of the command line.


def test_version_and_help(pclhd: Call) -> None:
    assert pclhd("--version").out.strip() == f"pclhd {__version__}"
    shown = pclhd("train", "--help")
    assert shown.code == 0
    assert "--resume" in shown.out


def test_check_finds_faults(pclhd: Call, sysu: Path) -> None:
    (sysu / "cam1" / "0001" / "0001.jpg").write_bytes(b"")
    checked = pclhd("check", sysu)
    assert checked.code == 1
    assert "0001.jpg" in checked.out
    assert checked.err == ""
    assert "nowhere" in complaint(pclhd("check", sysu / "nowhere"))


def test_debug_shows_where_an_error_arose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pclhd", "train", "--debug"])
    with pytest.raises(UserError, match=r"which preset\?"):
        main()


def test_a_message_with_markup_is_printed_as_it_is(pclhd: Call, tmp_path: Path) -> None:
    odd = tmp_path / "[bold]dir[/bold] with [brackets]"
    assert str(odd) in complaint(pclhd("evaluate", odd))


def test_a_long_message_stays_on_one_line(pclhd: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert "config.yaml" in complaint(pclhd("evaluate", tmp_path / ("long" * 40)))


def test_a_wrong_setting_is_reported_before_anything_heavy_is_loaded(
    pclhd: Call, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A module that is None in sys.modules cannot be imported.
    monkeypatch.setitem(sys.modules, "pclhd.engine.trainer", None)
    monkeypatch.setitem(sys.modules, "pclhd.cli.training_console", None)
    assert "did you mean 'seed'?" in complaint(pclhd("train", "tiny", "--data", own, "sead=1"))
    assert "nowhere" in complaint(pclhd("train", "tiny", "--data", own / "nowhere"))
