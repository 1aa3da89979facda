"""`pclhd search` and `pclhd.answer`: ranked lists with probabilities, or "no one here"."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pclhd
from pclhd.answers.calibration import Calibration
from pclhd.config import load_preset
from pclhd.errors import ArgumentError, UserError
from pclhd.features.embedded import read_embedded
from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import NARROW
from pclhd.models.weights import save_model
from pclhd.runs.folder import RunFolder
from tests.answers.test_calibration import DIRECTION
from tests.commands import Call, complaint
from tests.models.small import stirred


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_sysu: Path) -> Path:
    """A finished run with a network that was never trained; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    settings = load_preset("tiny", ["data.height=48", "data.width=24", "data.workers=1"], root=tiny_sysu)
    (folder / "config.yaml").write_text(settings.to_yaml())
    save_model(folder / "model.safetensors", stirred(NARROW), preprocessing=Preprocessing(48, 24))
    return folder


@pytest.fixture
def calibrated(run: Path, tmp_path: Path) -> Path:
    """The run with a calibration in which everything above 0 is sure."""
    copied = tmp_path / "calibrated"
    copied.mkdir()
    for name in ("config.yaml", "model.safetensors"):
        (copied / name).write_bytes((run / name).read_bytes())
    curve = {"similarity": [-1.0, 0.0, 1.0], "log_likelihood_ratio": [-9.0, 0.0, 9.0]}
    _calibrate(copied, **curve, thresholds=[[-0.9, -0.95], [-0.5, -0.6]])
    return copied


def _calibrate(run: Path, **changed: object) -> None:
    made = {"model_id": Encoder.load(run, device="cpu").model_id, "source": "pseudo labels"}
    RunFolder(run).write_calibration(Calibration.model_validate({**made, "directions": [{**DIRECTION, **changed}]}))


@pytest.fixture
def photos(tmp_path: Path, tiny_sysu: Path) -> Path:
    """A folder with the visible images of a few people, and beside it an infrared one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, path in enumerate(sorted((tiny_sysu / "cam1").rglob("*.jpg"))[:8]):
        Image.open(path).save(folder / f"{number}.png")
    Image.open(sorted((tiny_sysu / "cam3").rglob("*.jpg"))[0]).save(tmp_path / "night.png")
    return folder


def words(run: Path, photos: Path) -> tuple[object, ...]:
    return ("search", run, photos.parent / "night.png", "--images", photos, "--modality", "visible", "--device", "cpu")


def test_the_list_is_that_of_the_python_functions(pclhd: Call, run: Path, photos: Path) -> None:
    outcome = pclhd(*words(run, photos), "--json", "--top", 5)
    assert outcome.code == 0, outcome.err
    shown = json.loads(outcome.out)
    encoder = _load(run)
    queries = encoder.embed(photos.parent / "night.png", modality="infrared")
    gallery = encoder.embed(photos, modality="visible")
    similarity = queries.features[0] @ gallery.features.T
    order = np.argsort(-similarity)[:5]
    (search,) = shown["searches"]
    assert search["query"]["path"] == (photos.parent / "night.png").as_posix()
    assert [hit["path"] for hit in search["hits"]] == [gallery.images[row].path.as_posix() for row in order]
    assert [hit["similarity"] for hit in search["hits"]] == pytest.approx(similarity[order].tolist(), abs=1e-5)
    assert shown["calibrated_with"] is None


def _load(run: Path) -> Encoder:
    return pclhd.load(run, device="cpu")


def test_a_direction_without_calibration_is_searched_without_probabilities(
    pclhd: Call, calibrated: Path, photos: Path
) -> None:
    words = ("search", calibrated, photos.parent / "night.png", "--images", photos, "--modality", "infrared")
    plain = pclhd(*words, "--query-modality", "infrared", "--top", 3)
    assert plain.code == 0, plain.err
    assert "no calibration for such a search" in plain.out
    assert "rank  similarity  image" in plain.out
    shown = json.loads(pclhd(*words, "--query-modality", "infrared", "--json").out)
    assert shown["calibrated_with"] is None


def test_text_for_people(pclhd: Call, run: Path, calibrated: Path, photos: Path) -> None:
    plain = pclhd(*words(run, photos), "--top", 3).out
    assert "night.png (infrared), compared with 8 visible images" in plain
    assert "rank  similarity  image" in plain
    assert "no calibration" in plain
    assert "probability\n" not in plain
    outcome = pclhd(*words(calibrated, photos), "--top", 3, "--false-match-rate", 0.05)
    assert outcome.code == 0, outcome.err
    assert "rank  similarity  probability  image" in outcome.out
    assert "3 images of the 3 below at or above the threshold" in outcome.out
    assert "for a false-match rate of 5 %" in outcome.out
    assert "if about 3 of the images show that person" in outcome.out


def test_no_one_here(pclhd: Call, calibrated: Path, photos: Path) -> None:
    _calibrate(calibrated, thresholds=[[0.99999, 0.99999], [1.0, 1.0]])
    outcome = pclhd(*words(calibrated, photos))
    assert "no one here: best " in outcome.out
    assert " is below the threshold 1.00 for a false-match rate of 1 %" in outcome.out
    shown = json.loads(pclhd(*words(calibrated, photos), "--json").out)
    assert shown["searches"][0]["no_one_here"] is True
    assert len(shown["searches"][0]["hits"]) == 8


def test_csv_and_sheets(pclhd: Call, calibrated: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "0.png").rename(photos / "=0.png")
    files = [tmp_path / name for name in ("found.csv", "found.html", "found.png")]
    outcome = pclhd(*words(calibrated, photos), "--top", 8, "--csv", files[0], "--sheet", files[1])
    assert outcome.code == 0, outcome.err
    assert pclhd(*words(calibrated, photos), "--sheet", files[2]).code == 0
    with files[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 9)]
    assert {row["above_threshold"] for row in rows} <= {"yes", "no"}
    page = files[1].read_text("utf-8")
    assert page.count("data:image/jpeg") == 9
    assert "<script" not in page
    with Image.open(files[2]) as picture:
        assert picture.width > 8 * 96
    # A second time only with --force, and a failure leaves nothing.
    assert "replace the file with --force" in complaint(pclhd(*words(calibrated, photos), "--csv", files[0]))
    assert pclhd(*words(calibrated, photos), "--csv", files[0], "--force").code == 0
    assert "--sheet" in complaint(pclhd(*words(calibrated, photos), "--sheet", tmp_path / "found.pdf"))


def test_the_query_itself_is_not_found(pclhd: Call, run: Path, photos: Path) -> None:
    outcome = pclhd("search", run, photos / "3.png", "--images", photos, "--modality", "visible",
                    "--query-modality", "visible", "--json", "--device", "cpu")  # fmt: skip
    hits = json.loads(outcome.out)["searches"][0]["hits"]
    assert len(hits) == 7
    assert not any(hit["path"].endswith("/3.png") for hit in hits)


@pytest.mark.parametrize("suffix", ["parquet", "safetensors"])
def test_a_file_of_embed_gives_the_same_list(pclhd: Call, run: Path, photos: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    file = photos.parent / f"features.{suffix}"
    embed = ("embed", run, "--images", photos, "--modality", "visible", "--out", file, "--device", "cpu")
    assert pclhd(*embed).code == 0
    assert len(read_embedded(file).paths) == 8
    from_file = pclhd("search", run, photos.parent / "night.png", "--features", file, "--modality", "visible",
                      "--json", "--device", "cpu", "--sheet", photos.parent / "s.html")  # fmt: skip
    assert from_file.code == 0, from_file.err
    from_folder = pclhd(*words(run, photos), "--json")
    assert json.loads(from_file.out) == json.loads(from_folder.out)
    assert (photos.parent / "s.html").read_text("utf-8").count("data:image/jpeg") == 9


def test_a_data_set_file_has_cameras(pclhd: Call, run: Path, photos: Path, tiny_sysu: Path) -> None:
    file = photos.parent / "all.safetensors"
    assert pclhd("embed", run, "--split", "test", "--out", file, "--device", "cpu").code == 0
    outcome = pclhd("search", run, photos.parent / "night.png", "--features", file, "--modality", "visible",
                    "--device", "cpu", "--sheet", photos.parent / "s.html", "--top", 2)  # fmt: skip
    assert "rank  similarity  camera  image" in outcome.out
    assert (photos.parent / "s.html").read_text("utf-8").count("data:image/jpeg") == 3  # found in the run's data


def test_mistakes(pclhd: Call, run: Path, calibrated: Path, photos: Path, tmp_path: Path) -> None:
    query = photos.parent / "night.png"
    assert "either folders with --images" in complaint(pclhd("search", run, query, "--modality", "visible"))
    (tmp_path / "empty").mkdir()
    assert "--query" in complaint(pclhd("search", run, tmp_path / "empty", "--images", photos, "--modality", "visible"))
    assert "expected 0.01 to 0.1" in complaint(pclhd(*words(calibrated, photos), "--false-match-rate", 0.9))
    assert "--expected 8" in complaint(pclhd(*words(calibrated, photos), "--expected", 8))
    assert "needs a calibration" in complaint(pclhd(*words(run, photos), "--expected", 2))
    np.save(tmp_path / "f.npy", np.eye(3, dtype=np.float32))
    features = ("search", run, query, "--modality", "visible", "--features")
    assert "names no images" in complaint(pclhd(*features, tmp_path / "f.npy"))
    save_model(calibrated / "model.safetensors", stirred(NARROW, 5), preprocessing=Preprocessing(48, 24))
    assert "another encoder" in complaint(pclhd(*words(calibrated, photos)))
    embed = ("embed", calibrated, "--images", photos, "--modality", "visible", "--device", "cpu", "--out")
    assert pclhd(*embed, tmp_path / "other.safetensors").code == 0
    assert "another encoder" in complaint(pclhd(*features, tmp_path / "other.safetensors"))


def test_answers_from_python(calibrated: Path, photos: Path) -> None:
    encoder = _load(calibrated)
    gallery = encoder.embed(photos, modality="visible")
    results = pclhd.search(encoder.embed(photos.parent / "night.png", modality="infrared"), gallery, top=3)
    calibration = pclhd.RunFolder(calibrated).calibration()
    assert calibration is not None
    (answer,) = pclhd.answer(results, calibration, expected=1)
    assert not answer.no_one_here
    first = answer.hits[0]
    assert first.probability == pytest.approx(
        float(calibration.probability(first.hit.similarity, "infrared", "visible", 1 / 8))
    )
    assert [one.probability for one in answer.hits] == sorted((one.probability for one in answer.hits), reverse=True)
    with pytest.raises(ArgumentError, match="expected"):
        pclhd.answer(results, calibration, expected=0)
    with pytest.raises(ValueError, match="no image descriptions"):
        pclhd.answer(pclhd.search(np.eye(3), np.eye(3)), calibration)
    visible = pclhd.search(gallery[:1], gallery)
    with pytest.raises(UserError, match="no calibration for visible"):
        pclhd.answer(visible, calibration)
