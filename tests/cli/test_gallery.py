"""``pclhd gallery`` as a newcomer uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pclhd.answers.calibration import Calibration
from tests.commands import Call, complaint
from tests.gallery.photos import Photos


@pytest.fixture
def people(pclhd: Call, photos: Photos, tmp_path: Path) -> Path:
    """A gallery of five day and four night images."""
    path = tmp_path / "people"
    dated = sorted(photos.day.glob("2026*.png"))
    made = pclhd("gallery", "add", path, *dated, "--model", photos.model, "--modality", "visible",
                 "--camera", "gate", "--time", "%Y%m%d_%H%M%S")  # fmt: skip
    assert (made.code, made.err) == (0, "")
    assert made.out == f"{path}: 5 images added, 0 were there, 0 left out\n"
    assert pclhd("gallery", "add", path, photos.night, "--modality", "infrared", "--camera", "ya[r]d").code == 0
    return path


def test_from_adding_to_removing(pclhd: Call, photos: Photos, people: Path) -> None:
    again = pclhd("gallery", "add", people, photos.day, "--modality", "visible", "--json")
    assert json.loads(again.out) == {"added": 0, "present": 6, "broken": []}

    night = photos.night / "n1.png"
    found = pclhd("gallery", "search", people, night, "--modality", "infrared", "--top", 3)
    assert (found.code, found.err) == (0, "")
    heading, _, best, *_ = found.out.splitlines()
    assert heading.split() == ["similarity", "modality", "camera", "time", "frames", "id", "image"]
    assert best.split()[:4] == ["1", "1.000", "infrared", "ya[r]d"]
    assert best.endswith(str(night))
    hits = json.loads(pclhd("gallery", "search", people, night, "--modality", "infrared", "--frames", "--only",
                            "visible", "--json").out)  # fmt: skip
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5]
    assert {hit["modality"] for hit in hits} == {"visible"}
    no_one = pclhd("gallery", "search", people, night, "--modality", "infrared", "--camera", "elsewhere")
    assert no_one.out == "nothing found: no image of the gallery satisfies the filter\n"

    listed = pclhd("gallery", "list", people, "--first", 2, "--since", "2026-03-02")
    assert listed.out.splitlines()[2].split()[:4] == ["2", listed.out.splitlines()[2].split()[1], "visible", "gate"]
    assert listed.out.endswith("more may follow: --after 3\n")
    rows = json.loads(pclhd("gallery", "list", people, "--json").out)
    assert len(rows) == 9
    assert (
        pclhd("gallery", "list", people, "--id", rows[3]["id"][:8], "--first", 1)
        .out.splitlines()[2]
        .startswith("     4")
    )
    assert pclhd("gallery", "list", people, "--track", "x").out == "no images\n"

    stats = pclhd("gallery", "stats", people).out
    assert "cameras       gate 5, ya[r]d 4" in stats
    assert "search        exact" in stats
    assert json.loads(pclhd("gallery", "stats", people, "--json").out)["rows"] == 9

    said = complaint(pclhd("gallery", "remove", people, "--camera", "gate"))
    assert said == "pclhd: this would remove 5 of 9 images for good; repeat it with --yes"
    removed = pclhd("gallery", "remove", people, "--camera", "gate", "--until", "2026-03-02T12:00", "--yes")
    assert removed.out == "2 images removed, 7 left\n"
    like = ("--like", night, "--modality", "infrared", "--similarity", 0.9999)
    assert pclhd("gallery", "remove", people, *like, "--yes", "--json").out == '{\n  "removed": 1,\n  "left": 6\n}\n'
    assert pclhd("gallery", "expire", people, "--older-than", "30d").code == 0
    assert pclhd("gallery", "compact", people).out.endswith("a search is exact\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "NEW", "DAY", "--modality", "visible"), "--model: is missing"),
        (("add", "OLD", "DAY"), "--modality: is missing: state whether"),
        (("add", "OLD", "NONE", "--modality", "visible"), "no such file or folder"),
        (("add", "OLD", "DAY", "--modality", "visible", "--time", "noon"), "--time noon: is not a time"),
        (("search", "NEW", "DAY", "--modality", "visible"), "no gallery there; make one with"),
        (("search", "OLD", "DAY", "--modality", "visible"), "stands for 6 images"),
        (("search", "OLD", "NONE", "--modality", "visible", "--gap", "soon"), "--gap soon: is not a length of time"),
        (("search", "OLD", "NONE", "--modality", "visible", "--since", "soon"), "--since soon: is not a time"),
        (("list", "OLD", "--id", "x"), "--id x: is not 8 to 32 digits"),
        (("list", "OLD", "--camera", ""), "must be text that is not empty"),
        (("remove", "OLD"), "say which images: --camera"),
        (("remove", "OLD", "--yes"), "say which images: --camera"),
        (("remove", "OLD", "--like", "NONE"), "needs --modality, and --similarity"),
        (("remove", "OLD", "--camera", "x", "--similarity", "0.3"), "--similarity: goes with --like"),
        (("expire", "OLD", "--older-than", "30"), "--older-than 30: is not a length of time"),
        (("compact", "NEW"), "no gallery there"),
        (("stats", "DAY"), "is a folder of something else"),
    ],
)
def test_mistakes_take_one_line(
    pclhd: Call,
    photos: Photos,
    people: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
) -> None:
    places = {"NEW": tmp_path / "new", "OLD": people, "DAY": photos.day, "NONE": tmp_path / "none"}
    assert said in complaint(pclhd("gallery", *(places.get(word, word) for word in words)))
    assert not (tmp_path / "new").exists()
    assert json.loads(pclhd("gallery", "stats", people, "--json").out)["rows"] == 9


def test_a_search_says_whether_someone_is_here(
    pclhd: Call, photos: Photos, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("gallery", "search", people, photos.night / "n1.png", "--modality", "infrared")
    unknown = pclhd(*words).out.splitlines()
    assert unknown[-2].startswith("whether the person is here is not known: the gallery's model")
    assert unknown[-1].startswith("ordered by similarity, which cannot be compared between visible and infrared images")
    assert "ordered by" not in pclhd(*words, "--only", "visible").out
    direction = {
        "query": "infrared", "gallery": "infrared", "method": "logistic", "log_loss": {}, "queries": 10,
        "same_pairs": 10, "different_pairs": 10, "same_per_query": 2.0, "similarity": [-1.0, 1.0],
        "log_likelihood_ratio": [-9.0, 9.0], "sizes": [1], "rates": [0.001, 0.5], "thresholds": [[1.5, 0.5]],
    }  # fmt: skip
    model_id = json.loads(pclhd("gallery", "stats", people, "--json").out)["model_id"]
    calibration = Calibration.model_validate(
        {"model_id": model_id, "source": "labelled images", "directions": [direction]}
    )
    monkeypatch.setattr("pclhd.gallery.model.run_calibration", lambda place, model_id: calibration)
    no_one = pclhd(*words, "--only", "infrared", "--false-match-rate", 0.001).out.splitlines()
    assert no_one[0] == "no one here: best 1.00 is below the threshold 1.50 for a false-match rate of 0.1 %"
    assert no_one[1].split()[:2] == ["similarity", "probability"]
    someone = pclhd(*words, "--only", "infrared", "--false-match-rate", 0.5).out.splitlines()
    assert someone[0].endswith("below at or above the threshold 0.50 for a false-match rate of 50 %")
    assert someone[3].split()[:4] == ["1", "1.000", ">99", "%"]
    answered = pclhd(*words, "--false-match-rate", 0.5, "--json")
    hits = json.loads(answered.out)
    assert {hit["ordered_by"] for hit in hits} == {"similarity"}
    assert answered.err.startswith("note: ordered by similarity")
    assert (hits[0]["above_threshold"], hits[0]["probability"]) == (True, pytest.approx(1, abs=1e-3))
    assert {(hit["above_threshold"], hit["probability"]) for hit in hits if hit["modality"] == "visible"} == {
        (None, None)
    }
    # With a calibration of the other direction, too, the order is that of probabilities.
    other = {**direction, "gallery": "visible", "log_likelihood_ratio": [8.9, 9.1], "thresholds": [[1.5, 0.99]]}
    calibration = Calibration.model_validate(
        {"model_id": model_id, "source": "labelled images", "directions": [direction, other]}
    )
    answered = pclhd(*words, "--top", 6, "--frames", "--false-match-rate", 0.001, "--json")
    assert answered.err == ""
    hits = json.loads(answered.out)
    assert {hit["ordered_by"] for hit in hits} == {"probability"}
    assert [hit["modality"] for hit in hits] == ["visible"] * 5 + ["infrared"]
    assert hits[5]["similarity"] > hits[0]["similarity"]
    shown = pclhd(*words, "--top", 6, "--frames", "--false-match-rate", 0.001).out.splitlines()
    assert "thresholds 1.50 (visible) and 1.50 (infrared) for a false-match rate of 0.1 %" in shown[0]
    assert shown[1].split()[:3] == ["similarity", "probability", "modality"]
    assert "ordered by" not in shown[-1]
    assert "--false-match-rate 1.0: must be above 0" in complaint(pclhd(*words, "--false-match-rate", 1))


def test_broken_images_are_named(pclhd: Call, photos: Photos, people: Path, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / "broken").mkdir(exist_ok=True)
        (tmp_path / "broken" / f"{number:02}.png").write_bytes(b"\x89PNG")
    made = pclhd("gallery", "add", people, tmp_path / "broken", "--modality", "visible")
    assert made.out.endswith("0 images added, 0 were there, 12 left out\n")
    assert len(made.err.splitlines()) == 11
    assert "00.png: not an image" in made.err
    assert made.err.endswith("note: left out: 2 more\n")
