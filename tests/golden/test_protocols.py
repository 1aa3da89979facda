"""The drawn queries and galleries equal those of the released code, through the readers and without them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pclhd.data.llcm import llcm_test_images
from pclhd.data.records import ImageRecord, LabelledImages, Modality
from pclhd.data.regdb import read_regdb
from pclhd.data.sysu import sysu_test_images
from pclhd.evaluation.protocols import Search, Trial, llcm_searches, regdb_searches, sysu_searches
from tests.golden.helpers import golden_files


def load(path: Path) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(path.read_text())
    return recorded


def write_tree(root: Path, tree: dict[str, list[str]]) -> None:
    for folder, names in tree.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).touch()


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def from_tree(recorded: dict[str, Any], listed: str, infrared: tuple[str, ...]) -> LabelledImages:
    """The listed people's images in a random order: a protocol may not depend on the order it is given."""
    identities = {int(number) for number in recorded[listed].splitlines()[0].split(",")}
    pairs = [
        (ImageRecord(Path(folder, name), modality, int(camera.rpartition("cam")[2])), int(identity))
        for folder, names in recorded["tree"].items()
        for camera, _, identity in [folder.rpartition("/")]
        for modality in [Modality.INFRARED if camera.startswith(infrared) else Modality.VISIBLE]
        for name in names
        if int(identity) in identities
    ]
    random.Random(0).shuffle(pairs)
    return LabelledImages(tuple(image for image, _ in pairs), tuple(identity for _, identity in pairs))


def side(test: LabelledImages, trial: Trial, name: str, root: Path) -> dict[str, list[Any]]:
    rows = (trial.query if name == "query" else trial.gallery).tolist()
    return {
        "files": [test.images[row].path.relative_to(root).as_posix() for row in rows],
        "pids": [test.identities[row] for row in rows],
        "camids": [test.images[row].camera for row in rows],
    }


def by_name(searches: tuple[Search, ...]) -> dict[str, Search]:
    return {search.name: search for search in searches}


def check_sysu(recorded: dict[str, Any], test: LabelledImages, root: Path) -> None:
    searches = by_name(sysu_searches(test))
    assert set(recorded["gallery"]) == {"all", "indoor"}
    for mode, galleries in recorded["gallery"].items():
        search = searches[f"{mode}/single-shot"]
        assert [trial.name for trial in search.trials] == sorted(galleries, key=int)
        for trial in search.trials:
            assert side(test, trial, "query", root) == recorded["query"][mode]
            assert side(test, trial, "gallery", root) == galleries[trial.name]


def check_llcm(recorded: dict[str, Any], test: LabelledImages, root: Path) -> None:
    searches = by_name(llcm_searches(test))
    for asking, answering in (("visible", "infrared"), ("infrared", "visible")):
        search = searches[f"{asking}→{answering}"]
        galleries = recorded["gallery"][answering]
        assert [trial.name for trial in search.trials] == sorted(galleries, key=int)
        for trial in search.trials:
            assert side(test, trial, "query", root) == recorded["query"][asking]
            assert side(test, trial, "gallery", root) == galleries[trial.name]


@pytest.mark.parametrize("path", golden_files("protocol_sysu*.json"), ids=lambda p: p.stem)
def test_sysu__files_on_disk(path: Path, tmp_path: Path) -> None:
    recorded = load(path)
    write_tree(tmp_path, recorded["tree"])
    write_text(tmp_path / "exp" / "test_id.txt", recorded["exp_test_id_txt"])
    check_sysu(recorded, sysu_test_images(tmp_path), tmp_path)


@pytest.mark.parametrize("path", golden_files("protocol_sysu*.json"), ids=lambda p: p.stem)
def test_sysu__any_order(path: Path) -> None:
    recorded = load(path)
    check_sysu(recorded, from_tree(recorded, "exp_test_id_txt", ("cam3", "cam6")), Path())


@pytest.mark.parametrize("path", golden_files("protocol_llcm*.json"), ids=lambda p: p.stem)
def test_llcm__files_on_disk(path: Path, tmp_path: Path) -> None:
    recorded = load(path)
    write_tree(tmp_path, recorded["tree"])
    write_text(tmp_path / "idx" / "test_id.txt", recorded["idx_test_id_txt"])
    check_llcm(recorded, llcm_test_images(tmp_path), tmp_path)


@pytest.mark.parametrize("path", golden_files("protocol_llcm*.json"), ids=lambda p: p.stem)
def test_llcm__any_order_and_with_the_infrared_camera_3(path: Path) -> None:
    recorded = load(path)
    assert any(folder.startswith("test_nir/cam3/") for folder in recorded["tree"]), "the record shows nothing"
    check_llcm(recorded, from_tree(recorded, "idx_test_id_txt", ("test_nir",)), Path())


@pytest.mark.parametrize("path", golden_files("protocol_regdb*.json"), ids=lambda p: p.stem)
def test_regdb__files_on_disk(path: Path, tmp_path: Path) -> None:
    recorded = load(path)
    for name, text in recorded["idx"].items():
        write_text(tmp_path / "idx" / name, text)
        for line in text.splitlines():
            write_text(tmp_path / line.split(" ")[0], "")
    trials = {int(number) for trials in recorded["directions"].values() for number in trials}
    assert trials
    for number in sorted(trials):
        test = read_regdb(tmp_path, number).test
        assert test is not None
        searches = by_name(regdb_searches(test))
        for name, asking, answering in (
            ("visible→infrared", "visible", "thermal"),
            ("infrared→visible", "thermal", "visible"),
        ):
            expected = recorded["directions"][f"{asking}_to_{answering}"][str(number)]
            (trial,) = searches[name].trials
            for which, modal in (("query", asking), ("gallery", answering)):
                found = side(test, trial, which, tmp_path)
                assert found["files"] == expected[which]["files"]
                assert found["pids"] == expected[which]["pids"]
                # The network's branch: 1 for visible images, 2 for infrared ones.
                rows = trial.query if which == "query" else trial.gallery
                branches = {1 if test.images[row].modality is Modality.VISIBLE else 2 for row in rows.tolist()}
                assert branches == {expected[which]["network_modal"]} == {1 if modal == "visible" else 2}
