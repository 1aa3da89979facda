from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pclhd.data.check import CheckReport, Comparison, check_dataset
from pclhd.data.open import open_dataset
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image, write_llcm, write_regdb, write_sysu, write_text


def _found(report: CheckReport) -> dict[str, tuple[int, int | None]]:
    return {comparison.what: (comparison.expected, comparison.found) for comparison in report.expected}


def test_sound_sysu(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    report = check_dataset("sysu", tmp_path)
    assert report.ok
    assert report.problems == ()
    assert report.notes == ()
    assert report.checksum == open_dataset("sysu", tmp_path).train.checksum
    counts = {(row.split, row.camera, row.modality): row for row in report.counts}
    assert len(counts) == 2 * (2 + 6)
    whole = counts["train", "all", "visible"]
    assert (whole.images, whole.people, whole.images_per_person) == (24, 3, (8, 8.0, 8))
    one = counts["test", "6", "infrared"]
    assert (one.images, one.people, one.images_per_person) == (4, 2, (2, 2.0, 2))
    assert _found(report) == {
        "training people": (395, 3),
        "visible training images": (22_258, 24),
        "infrared training images": (11_909, 12),
        "test people": (96, 2),
        "queries (infrared test images)": (3_803, 8),
        "gallery images a trial (person and visible camera)": (301, 8),
    }


def test_report_as_text_and_json(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    report = check_dataset("sysu", tmp_path, decode=False)
    text = report.render()
    assert "differs from the published SYSU-MM01: 22,258 expected, 24 found; fine for a subset" in text
    assert text.endswith("no problem found")
    values = json.loads(json.dumps(report.to_dict()))
    assert values["ok"] is True
    assert values["root"] == str(tmp_path)
    assert values["counts"][0]["images"] == 24


def test_drawn_people_are_not_compared_with_the_published_ones(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    lines = check_dataset("sysu", tmp_path, decode=False).render().splitlines()
    assert lines[0] == f"SYSU-MM01: {tmp_path}"
    (tmp_path / "synthetic.json").write_text("{}")
    report = check_dataset("sysu", tmp_path, decode=False)
    lines = report.render().splitlines()
    assert lines[0] == f"drawn people in SYSU-MM01's layout: {tmp_path}"
    assert "not compared with the published SYSU-MM01: the people are drawn" in lines
    assert not any("differs from" in line for line in lines)
    assert len(report.expected) == 6


def test_comparisons_are_worded_by_what_was_found(tmp_path: Path) -> None:
    expected = (Comparison("a", 1_000, 1_000), Comparison("b", 1_000, 3), Comparison("c", 1_000, None))
    text = CheckReport("regdb", "regdb-1", tmp_path, "", (), expected, (), ()).render().splitlines()
    assert "a: 1,000, as in the published RegDB" in text
    assert "b: differs from the published RegDB: 1,000 expected, 3 found; fine for a subset" in text
    assert "c: 1,000 in the published RegDB, not counted without identities" in text


def test_regdb_counts(tmp_path: Path) -> None:
    write_regdb(tmp_path, people=1, images=10)
    assert _found(check_dataset("regdb", tmp_path, decode=False)) == {
        "people, training and test": (412, 2),
        "training people": (206, 1),
        "training people with ten images of each kind": (206, 1),
        "test people": (206, 1),
        "test people with ten images of each kind": (206, 1),
    }


def test_ten_of_each_kind_means_each(tmp_path: Path) -> None:
    write_regdb(tmp_path, people=2, images=10)
    path = tmp_path / "idx" / "test_thermal_1.txt"
    write_text(path, "\n".join(path.read_text().splitlines()[1:]))
    assert _found(check_dataset("regdb", tmp_path, decode=False))["test people with ten images of each kind"][1] == 1


def test_broken_images_are_all_named(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    (tmp_path / "cam1" / "0001" / "0001.jpg").write_bytes(b"")
    (tmp_path / "cam3" / "0012" / "0002.jpg").write_bytes(b"no image")
    report = check_dataset("sysu", tmp_path)
    assert not report.ok
    assert len(report.problems) == 2
    assert "cam1/0001/0001.jpg" in report.problems[0]
    assert "cam3/0012/0002.jpg" in report.problems[1]
    assert report.render().endswith("lines with problems: 2")
    assert check_dataset("sysu", tmp_path, decode=False).ok


def test_doubles_are_named(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    shutil.copy(tmp_path / "cam1" / "0001" / "0001.jpg", tmp_path / "cam2" / "0003" / "0009.jpg")
    shutil.copy(tmp_path / "cam1" / "0007" / "0001.jpg", tmp_path / "cam4" / "0012" / "0009.jpg")
    problems = check_dataset("sysu", tmp_path, decode=False).problems
    assert len(problems) == 2
    within = next(problem for problem in problems if "0003/0009" in problem)
    across = next(problem for problem in problems if "0012/0009" in problem)
    assert "cam1/0001/0001.jpg" in within
    assert "cam1/0007/0001.jpg" in across
    assert "in training and test" in across
    assert "in training and test" not in within


def test_same_file_listed_twice_and_in_both_splits(tmp_path: Path) -> None:
    write_regdb(tmp_path)
    path = tmp_path / "idx" / "train_visible_1.txt"
    first = path.read_text().splitlines()[0]
    with path.open("a") as file:
        file.write(f"{first}\nVisible/3/visible_0.bmp 5\n")
    problems = check_dataset("regdb", tmp_path).problems
    assert len(problems) == 2
    assert "Visible/1/visible_0.bmp: training images name this file 2 times" in problems[0]
    assert "Visible/3/visible_0.bmp: in training and test" in problems[1]


def test_missing_images_of_lists_are_all_named(tmp_path: Path) -> None:
    write_regdb(tmp_path)
    (tmp_path / "Visible" / "1" / "visible_1.bmp").unlink()
    (tmp_path / "Thermal" / "4" / "thermal_0.bmp").unlink()
    report = check_dataset("regdb", tmp_path)
    assert [problem.partition("idx/")[2].partition(": ")[0] for problem in report.problems] == [
        "train_visible_1.txt, line 2",
        "test_thermal_1.txt, line 3",
    ]
    assert report.counts == ()
    assert not report.ok


def test_long_lists_of_problems_are_cut(tmp_path: Path) -> None:
    write_regdb(tmp_path, images=15)
    shutil.rmtree(tmp_path / "Visible" / "1")
    shutil.rmtree(tmp_path / "Thermal" / "1")
    problems = check_dataset("regdb", tmp_path).problems
    assert len(problems) == 21
    assert problems[-1] == "and 10 more missing images"


def test_empty_folders_and_unseen_people(tmp_path: Path) -> None:
    write_sysu(tmp_path, test=(5, 12, 400))
    for camera in range(1, 7):
        shutil.rmtree(tmp_path / f"cam{camera}" / "0400")
    for camera in (3, 6):
        shutil.rmtree(tmp_path / f"cam{camera}" / "0012")
    (tmp_path / "cam3" / "0012").mkdir()
    report = check_dataset("sysu", tmp_path)
    assert report.problems == (f"{tmp_path / 'cam3' / '0012'}: the folder holds no image and is skipped",)
    assert report.notes == (
        "listed test people without any image: 1 (400)",
        "test people without any infrared image: 1 (12)",
    )


def test_llcm_and_unlabelled_training(tmp_path: Path) -> None:
    write_llcm(tmp_path, labelled=False)
    report = check_dataset("auto", tmp_path)
    assert report.layout == "llcm"
    assert report.ok
    assert _found(report)["training people"] == (713, None)
    assert report.counts[0].people is None
    assert "not counted without identities" in report.render()


def test_own_tested_on_its_labelled_images_is_a_note(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / name, name)
    write_text(tmp_path / "images.csv", "path,modality,identity\na.jpg,visible,1\nb.jpg,infrared,1\n")
    report = check_dataset("own", tmp_path)
    assert report.ok
    assert report.expected == ()
    assert "consists of training images" in report.notes[0]
    assert report.counts[1].camera == "unknown"


def test_reader_errors_become_problems(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    write_text(tmp_path / "exp" / "val_id.txt", "seven\n")
    report = check_dataset("sysu", tmp_path)
    assert len(report.problems) == 1
    assert "'seven'" in report.problems[0]


def test_wrong_layout_and_missing_root_are_errors(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    with pytest.raises(UserError, match="looks like sysu"):
        check_dataset("regdb", tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        check_dataset("sysu", tmp_path / "nowhere")
    with pytest.raises(UserError, match="is unknown"):
        check_dataset("market", tmp_path)


def test_what_was_passed_over_is_printed_in_one_line_and_in_the_json(tmp_path: Path) -> None:
    write_sysu(tmp_path)
    write_image(tmp_path / "cam7" / "0001" / "1.png", "7")
    write_image(tmp_path / "cam1" / "0099" / "1.png", "99")
    report = check_dataset("sysu", tmp_path)
    assert report.ok
    lines = report.render().splitlines()
    at = lines.index("passed over: 2 files (1 in no list, 1 of another camera)")
    assert lines[at + 1 : at + 3] == ["  in no list: cam1/0099/1.png", "  of another camera: cam7/0001/1.png"]
    passed = json.loads(json.dumps(report.to_dict()))["passed_over"]
    assert passed["counts"] == {"in no list": 1, "of another camera": 1}
    assert passed["examples"]["in no list"] == [str(tmp_path / "cam1" / "0099" / "1.png")]


def _own_csv(root: Path, *rows: str) -> Path:
    for row in rows:
        write_image(root / row.partition(",")[0], row)
    write_text(root / "images.csv", "\n".join(["path,modality,camera,identity,split", *rows]))
    return root


TRAINED = ("a.jpg,visible,hall,{},", "b.jpg,infrared,door,{},")


def test_roles_and_names_are_counted(tmp_path: Path) -> None:
    rows = ["c.jpg,infrared,door,anna,query", "d.jpg,visible,hall,anna,gallery"]
    rows += ["e.jpg,visible,hall,,gallery", "f.jpg,visible,hall,-1,gallery"]
    report = check_dataset("own", _own_csv(tmp_path, *(row.format("bo") for row in TRAINED), *rows))
    assert report.ok, report.problems
    counts = {(row.split, row.modality, row.camera): (row.images, row.people) for row in report.counts}
    assert counts["test", "visible", "hall"] == (1, 1)
    assert counts["test, unknown", "visible", "hall"] == (1, None)
    assert counts["test, junk", "visible", "all"] == (1, None)
    assert "passed over: 1 file (1 junk)" in report.render().splitlines()


def test_people_in_training_and_test_are_named(tmp_path: Path) -> None:
    rows = ("c.jpg,infrared,door,17000000000000000001,query", "d.jpg,visible,hall,17000000000000000001,gallery")
    trained = (row.format("17000000000000000001") for row in TRAINED)
    report = check_dataset("own", _own_csv(tmp_path, *trained, *rows))
    assert report.problems == ("people in both training and test: 1 (17000000000000000001)",)


def test_lists_of_images_that_are_missing_say_why(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_regdb(root)
    path = root / "idx" / "train_visible_1.txt"
    write_text(path, path.read_text().replace("Visible/1/visible_0", "data/Visible/1/visible_0"))
    (problem,) = check_dataset("regdb", root).problems
    assert problem.endswith("it repeats the folder's own name; write Visible/1/visible_0.bmp")


def test_training_images_saved_again_in_the_gallery(tmp_path: Path, tiny_sysu: Path) -> None:
    visible = sorted(tiny_sysu.glob("cam1/*/*.jpg"))[:8]
    infrared = sorted(tiny_sysu.glob("cam3/*/*.jpg"))[:8]
    rows = ["path,modality,identity,split"]
    for number, (one, other) in enumerate(zip(visible, infrared, strict=True)):
        split = ("train", "train") if number < 4 else ("gallery", "query")
        for path, modality, part in zip((one, other), ("visible", "infrared"), split, strict=True):
            shutil.copy(path, tmp_path / f"{modality}{number}.jpg")
            rows.append(f"{modality}{number}.jpg,{modality},{number},{part}")
    for number, (suffix, scale) in enumerate(((".png", 1), (".jpg", 2), (".webp", 3))):
        with Image.open(visible[number]) as image:
            image.resize((image.width * scale, image.height * scale)).save(tmp_path / f"again{number}{suffix}")
        rows.append(f"again{number}{suffix},visible,4,gallery")
    write_text(tmp_path / "images.csv", "\n".join(rows) + "\n")
    report = check_dataset("own", tmp_path)
    (note,) = (note for note in report.notes if "near-copies" in note)
    assert note.startswith("3 test images are near-copies of training images")
    assert f"{tmp_path}/again1.jpg (of {tmp_path}/visible1.jpg)" in note
    shutil.copy(visible[0], tmp_path / "again0.png")  # an equal file is a double, and a problem
    report = check_dataset("own", tmp_path)
    assert any("same content" in problem for problem in report.problems)
    assert any(note.startswith("2 test images are near-copies") for note in report.notes)
