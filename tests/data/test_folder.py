from __future__ import annotations

from pathlib import Path

import pytest

from pclhd.data.folder import read_csv, read_folders, read_own
from pclhd.data.passed_over import Reason
from pclhd.data.records import NOBODY, Modality
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image, write_text


def _images(root: Path, *names: str) -> None:
    for name in names:
        write_image(root / name, name)


def _csv(root: Path, text: str, images: tuple[str, ...] = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")) -> Path:
    _images(root, *images)
    path = root / "images.csv"
    write_text(path, text)
    return path


def test_folders_are_read_to_any_depth(tmp_path: Path) -> None:
    _images(tmp_path, "v/1.jpg", "v/deep/er/2.PNG", "i/x/3.bmp", "i/.hidden.jpg", "v/no_extension")
    write_text(tmp_path / "v" / "note.txt", "no image")
    dataset = read_folders(tmp_path / "v", tmp_path / "i")
    found = {(image.path.relative_to(tmp_path).as_posix(), image.modality.value) for image in dataset.train.images}
    names = {"v/1.jpg": "visible", "v/deep/er/2.PNG": "visible", "v/no_extension": "visible", "i/x/3.bmp": "infrared"}
    assert found == set(names.items())
    assert {image.camera for image in dataset.train.images} == {None}
    assert dataset.train_identities is None
    assert dataset.test is None
    assert dataset.name == "own"
    assert dataset.root == tmp_path


def test_folders_in_different_places_have_their_common_root(tmp_path: Path) -> None:
    _images(tmp_path, "one/v/1.jpg", "two/i/2.jpg")
    assert read_folders(tmp_path / "one" / "v", tmp_path / "two" / "i").root == tmp_path


def test_folder_faults(tmp_path: Path) -> None:
    _images(tmp_path, "v/1.jpg", "v/i/2.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="gone: no such folder; expected the infrared images"):
        read_folders(tmp_path / "v", tmp_path / "gone")
    with pytest.raises(UserError, match="no infrared training image"):
        read_folders(tmp_path / "v", tmp_path / "empty")
    with pytest.raises(UserError, match="one lies in the other"):
        read_folders(tmp_path / "v", tmp_path / "v" / "i")


def test_own_in_its_three_forms(tmp_path: Path) -> None:
    _images(tmp_path, "visible/1.jpg", "infrared/2.jpg", "infrared/3.jpg")
    assert len(read_own(tmp_path).train) == 3
    write_text(tmp_path / "images.csv", "path,modality\nvisible/1.jpg,visible\ninfrared/2.jpg,infrared\n")
    assert len(read_own(tmp_path).train) == 2
    assert read_own(tmp_path / "images.csv").train == read_own(tmp_path).train
    with pytest.raises(UserError, match="nowhere: no such file or folder; layout own expects"):
        read_own(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="bare: not layout own"):
        read_own(tmp_path / "bare")


@pytest.mark.parametrize("name", ["images.csv", "mine.CSV", ""])
def test_the_root_reads_the_same_again(tmp_path: Path, name: str) -> None:
    _csv(tmp_path, "path,modality\na.jpg,visible\nb.jpg,infrared\n").rename(tmp_path / (name or "images.csv"))
    dataset = read_own(tmp_path / name)
    assert dataset.root == tmp_path / name
    assert read_own(dataset.root) == dataset


def test_csv_with_paths_and_modalities_only(tmp_path: Path) -> None:
    dataset = read_csv(_csv(tmp_path, "path,modality\na.jpg,visible\n\nsub/b.jpg,infrared\n", ("a.jpg", "sub/b.jpg")))
    assert [(image.path.name, image.modality, image.camera) for image in dataset.train.images] == [
        ("a.jpg", Modality.VISIBLE, None),
        ("b.jpg", Modality.INFRARED, None),
    ]
    assert dataset.train_identities is None
    assert dataset.test is None


def test_csv_with_all_columns_in_another_order(tmp_path: Path) -> None:
    text = (
        "split,time,identity,camera,modality,path\n"
        "train,2024-05-17T14:03:00+02:00,4,2,visible,a.jpg\n"
        ",2024-05-17,5,3,infrared,b.jpg\n"
        "query,,8,1,infrared,c.jpg\n"
        "gallery,,8,,visible,d.jpg\n"
    )
    dataset = read_csv(_csv(tmp_path, text))
    assert [image.camera for image in dataset.train.images] == [2, 3]
    assert dataset.train_identities == (4, 5)
    assert dataset.test is not None
    assert [image.path.name for image in dataset.test.images] == ["c.jpg", "d.jpg"]
    assert dataset.test.identities == (8, 8)
    assert dataset.test.roles == ("query", "gallery")


def test_split_test_has_no_roles(tmp_path: Path) -> None:
    text = "path,modality,identity,split\na.jpg,visible,,\nb.jpg,infrared,,train\n"
    test = read_csv(_csv(tmp_path, text + "c.jpg,visible,1,test\nd.jpg,infrared,1,test\n")).test
    assert test is not None
    assert test.roles is None
    assert test.identities == (1, 1)


def test_without_a_split_the_labelled_images_are_the_test(tmp_path: Path) -> None:
    text = "path,modality,identity\na.jpg,visible,3\nb.jpg,infrared,\nc.jpg,infrared,3\nd.jpg,visible,\n"
    dataset = read_csv(_csv(tmp_path, text))
    assert len(dataset.train) == 4
    assert dataset.train_identities is None
    assert dataset.test is not None
    assert [image.path.name for image in dataset.test.images] == ["a.jpg", "c.jpg"]
    assert dataset.test.identities == (3, 3)


def test_labels_in_one_modality_make_no_test(tmp_path: Path) -> None:
    text = "path,modality,identity\na.jpg,visible,3\nb.jpg,infrared,\n"
    assert read_csv(_csv(tmp_path, text)).test is None


def test_absolute_paths_quotes_and_byte_order_mark(tmp_path: Path) -> None:
    _images(tmp_path, "elsewhere/a, b.jpg", "data/b.jpg")
    path = tmp_path / "data" / "images.csv"
    text = f'path,modality\n"{tmp_path}/elsewhere/a, b.jpg",visible\nb.jpg,infrared\n'
    path.write_text(text, encoding="utf-8-sig")
    assert len(read_csv(path).train) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("path,modality\n", "no rows below the header"),
        ("path;modality\na.jpg;visible\n", "row 1: columns are not split by commas"),
        ("path,modalty\n", "row 1: unknown column 'modalty'; did you mean 'modality'"),
        ("path,colour,modality\n", "row 1: unknown column 'colour'; known: path, "),
        ("path,path,modality\n", "row 1: column 'path' is there twice"),
        ("path,camera\n", "row 1: no column 'modality'"),
        ("modality\n", "row 1: no column 'path'"),
        ("path,modality\na.jpg,visible\nb.jpg,thermal\n", "row 3: modality 'thermal'; expected visible or infrared"),
        ("path,modality\na.jpg,\n", "row 2: modality ''"),
        ("path,modality\n,visible\n", "row 2: path is empty"),
        ("path,modality\na.jpg,visible\n\ngone.jpg,infrared\n", r"row 4: no file .*gone\.jpg"),
        ("path,modality\na.jpg\n", "row 2: 1 cells, but the header has 2"),
        ("path,modality\na.jpg,visible,x\n", "row 2: 3 cells"),
        ("path,modality,camera\na.jpg,visible,1e3\n", "row 2: camera '1e3'"),
        ("path,modality,camera\na.jpg,visible,-1\n", "row 2: camera '-1'"),
        ("path,modality,identity\na.jpg,visible,1.5\n", "row 2: identity '1.5'"),
        ("path,modality,time\na.jpg,visible,yesterday\n", "row 2: time 'yesterday'; expected ISO 8601"),
        ("path,modality,split\na.jpg,visible,galery\n", "row 2: split 'galery'; did you mean 'gallery'"),
        ("path,modality\na.jpg,visible\n", "no infrared training image"),
        ("path,modality\na.jpg,infrared\n", "no visible training image"),
        ('path,modality\n"a.jpg"x,visible\n', "cannot be read as CSV"),
    ],
)
def test_csv_faults(tmp_path: Path, text: str, message: str) -> None:
    path = _csv(tmp_path, text)
    with pytest.raises(UserError, match=rf"images\.csv.*{message}") as caught:
        read_csv(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("c.jpg,visible,,test\n", "row 4: split is test but identity is empty"),
        ("c.jpg,visible,1,test\n", "no infrared test image"),
        ("c.jpg,visible,1,query\nd.jpg,infrared,1,query\n", "no row with split gallery"),
        ("c.jpg,visible,1,gallery\nd.jpg,infrared,1,gallery\n", "no row with split query"),
    ],
)
def test_csv_test_part_faults(tmp_path: Path, rows: str, message: str) -> None:
    path = _csv(tmp_path, "path,modality,identity,split\na.jpg,visible,,\nb.jpg,infrared,,\n" + rows)
    with pytest.raises(UserError, match=message):
        read_csv(path)


def test_missing_csv(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.csv: no such file; expected a CSV file with columns path, modality"):
        read_csv(tmp_path / "gone.csv")


ROLES = (
    "path,modality,camera,identity,split\n"
    "a.jpg,visible,,,train\n"
    "b.jpg,infrared,,,train\n"
    "c.jpg,infrared,door,{query},query\n"
    "d.jpg,visible,hall,{query},gallery\n"
    "e.jpg,visible,hall,{other},gallery\n"
)
FIVE = ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")


@pytest.mark.parametrize(
    ("other", "role"),
    [
        ("", "unknown"),
        ("nan", "unknown"),
        ("unknown", "unknown"),
        ("0000", "unknown"),
        ("-1", "junk"),
        ("-1.0", "junk"),
        ("junk", "junk"),
        ("0", "gallery"),
        ("someone", "gallery"),
    ],
)
@pytest.mark.parametrize("query", ["7", "17000000000000000001", "anna"])
def test_roles(tmp_path: Path, query: str, other: str, role: str) -> None:
    dataset = read_csv(_csv(tmp_path, ROLES.format(query=query, other=other), FIVE))
    assert dataset.test is not None
    assert dataset.test.roles == ("query", "gallery", role)
    first, second, third = dataset.test.identities
    assert first == second != third
    assert (third == NOBODY) == (role != "gallery")
    assert str(dataset.names.identity(first)) == query
    assert [dataset.names.camera(image.camera) for image in dataset.test.images] == ["door", "hall", "hall"]
    assert dataset.passed_over.counts.get(Reason.JUNK, 0) == (role == "junk")


def test_a_person_may_be_called_0000(tmp_path: Path) -> None:
    test = read_csv(_csv(tmp_path, ROLES.format(query="0000", other="0001"), FIVE)).test
    assert test is not None
    assert test.roles == ("query", "gallery", "gallery")


@pytest.mark.parametrize("split", ["query", "test"])
def test_who_asks_must_be_known(tmp_path: Path, split: str) -> None:
    text = ROLES.format(query="7", other="").replace(",,gallery", f",,{split}")
    with pytest.raises(UserError, match=f"row 6: split is {split} but identity is empty; a test needs it"):
        read_csv(_csv(tmp_path, text, FIVE))


def test_unknown_training_images_stay_in_training(tmp_path: Path) -> None:
    text = "path,modality,identity\na.jpg,visible,3\nb.jpg,infrared,3\nc.jpg,visible,-1\nd.jpg,visible,unknown\n"
    dataset = read_csv(_csv(tmp_path, text))
    assert len(dataset.train) == 4
    assert dataset.train_identities is None
    assert dataset.test is not None
    assert len(dataset.test) == 2


def test_a_repeated_row_counts_once_and_a_contradiction_is_refused(tmp_path: Path) -> None:
    text = "path,modality,identity\na.jpg,visible,3\nb.jpg,infrared,3\na.jpg,visible,{}\n"
    dataset = read_csv(_csv(tmp_path, text.format("3.0"), ("a.jpg", "b.jpg")))
    assert len(dataset.train) == 2
    assert dataset.passed_over.counts == {Reason.DOUBLE: 1}
    with pytest.raises(UserError, match=r"row 4: .*a\.jpg is in row 2 too, with another"):
        read_csv(_csv(tmp_path, text.format("4")))


def test_csv_paths_as_other_systems_write_them(tmp_path: Path) -> None:
    text = f"path,modality\nsub\\a.jpg,visible\n{tmp_path}/sub/b.jpg,infrared\nZoe\u0308.jpg,visible\n"
    dataset = read_csv(_csv(tmp_path, text, ("sub/a.jpg", "sub/b.jpg", "Zo\u00eb.jpg")))
    assert len(dataset.train) == 3
    with pytest.raises(UserError, match=r"row 2: no file .*; it has backslashes"):
        read_csv(_csv(tmp_path, "path,modality\nsub\\gone.jpg,visible\n"))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_csv_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    path = _csv(tmp_path, "")
    path.write_text("path,modality\nä.jpg,visible\n", encoding=encoding)
    with pytest.raises(UserError, match="save it as UTF-8"):
        read_csv(path)


def test_own_images_are_read_upright(tmp_path: Path) -> None:
    _images(tmp_path, "visible/1.jpg", "infrared/2.jpg")
    assert {image.upright for image in read_own(tmp_path).train.images} == {True}
    write_text(tmp_path / "images.csv", "path,modality\nvisible/1.jpg,visible\ninfrared/2.jpg,infrared\n")
    assert {image.upright for image in read_own(tmp_path).train.images} == {True}
