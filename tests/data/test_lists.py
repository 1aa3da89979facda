from __future__ import annotations

import os
import random
import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pclhd.data.lists import ListedImage, all_labels, missing_files, read_identity_list, read_image_list, require_files
from pclhd.data.records import NOBODY
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image, write_text


@settings(max_examples=25, deadline=None)
@given(identities=st.sets(st.integers(0, 99_999), min_size=1), shuffler=st.randoms(use_true_random=False))
def test_identities_come_sorted_from_any_order(
    tmp_path_factory: pytest.TempPathFactory, identities: set[int], shuffler: random.Random
) -> None:
    path = tmp_path_factory.mktemp("ids") / "ids.txt"
    written = list(identities)
    shuffler.shuffle(written)
    write_text(path, shuffler.choice([",", "\n", ",\n"]).join(map(str, written)))
    assert read_identity_list(path) == tuple(sorted(identities))


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("3,1", encoding="utf-8-sig")
    assert read_identity_list(tmp_path / "ids.txt") == (1, 3)


def test_binary_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match=r"ids\.txt: cannot be read as text"):
        read_identity_list(tmp_path / "ids.txt")


def test_lines_keep_their_order_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    write_text(path, "b/2.bmp 7\n\na/1.bmp 3\n")
    first, second = read_image_list(tmp_path, path)
    assert (first.line, first.relative, first.path, first.label) == (1, "b/2.bmp", tmp_path / "b/2.bmp", 7)
    assert (second.line, second.label) == (3, 3)
    assert all_labels((first, second), path) == [7, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list is empty"),
        ("\n \n", "the list is empty"),
        ("a.bmp 1\nb.bmp one\n", "line 2: label 'one'"),
        ("a b.bmp 1\n", "line 1: 3 fields"),
        ("../a.bmp 1\n", "line 1: '../a.bmp' leads out"),
        ("/a.bmp 1\n", "line 1: '/a.bmp' leads out"),
    ],
)
def test_faulty_lists(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.txt"
    write_text(path, text)
    with pytest.raises(UserError, match=message):
        read_image_list(tmp_path, path)


def _lines(root: Path, *lines: str) -> tuple[ListedImage, ...]:
    path = root / "idx" / "list.txt"
    write_text(path, "\n".join(lines))
    return read_image_list(root, path)


def test_paths_as_other_systems_write_them(tmp_path: Path) -> None:
    for name in ("v/1.bmp", "v/2.bmp", "v/my photo.bmp", "v/b 3.bmp", "v/4.bmp"):
        write_image(tmp_path / name, name)
    absolute = tmp_path / "v" / "2.bmp"
    images = _lines(tmp_path, "v\\1.bmp 5", f"{absolute} 6.0", "v/my photo.bmp 7", "v/b 3.bmp", "v/4.bmp\t-1")
    assert [image.relative for image in images] == ["v/1.bmp", "v/2.bmp", "v/my photo.bmp", "v/b 3.bmp", "v/4.bmp"]
    assert [image.label for image in images] == [5, 6, 7, None, NOBODY]
    assert missing_files(images) == []


def test_absolute_paths_through_a_link_to_the_root(tmp_path: Path) -> None:
    write_image(tmp_path / "real" / "v" / "1.bmp", "1")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    for written in ("real", "link"):
        (image,) = _lines(tmp_path / "link", f"{tmp_path / written / 'v' / '1.bmp'} 1")
        assert image.relative == "v/1.bmp"
        assert image.path.is_file()


@pytest.mark.parametrize(("stored", "listed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_in_another_form(tmp_path: Path, stored: Literal["NFC", "NFD"], listed: Literal["NFC", "NFD"]) -> None:
    name = "Zoë/über.bmp"
    write_image(tmp_path / unicodedata.normalize(stored, name), "1")
    (image,) = _lines(tmp_path, f"{unicodedata.normalize(listed, name)} 1")
    assert image.path.is_file()
    assert image.relative == unicodedata.normalize(stored, name)


def test_accents_that_leave_a_choice_are_refused(tmp_path: Path) -> None:
    for form in ("Å", "A\u030a"):
        write_image(tmp_path / f"{form}.bmp", form)
    if len(list(tmp_path.glob("*.bmp"))) < 2:
        pytest.skip("this file system keeps one form")
    images = _lines(tmp_path, "\u212b.bmp 1")  # the sign for angstrom, a third form of the same
    with pytest.raises(UserError, match="2 files differ from it only in how accents are stored"):
        require_files(images, tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("v\\2.bmp 1", "it has backslashes, and with / instead"),
        ("data/v/1.bmp 1", "it repeats the folder's own name; write v/1.bmp"),
        ("V/1.BMP 1", "there is .*v/1.bmp, with other upper and lower case"),
        ("v/2.bmp 1", "restore the images or take the lines out"),
        ("v/" + "x" * 300 + " 1", "restore the images or take the lines out"),
    ],
)
def test_the_likely_cause_of_a_missing_file(tmp_path: Path, line: str, cause: str) -> None:
    write_image(tmp_path / "data" / "v" / "1.bmp", "1")
    images = _lines(tmp_path / "data", "v/1.bmp 1", line)
    with pytest.raises(UserError, match=f"list.txt, line 2: no file .*{cause}"):
        require_files(images, tmp_path / "data" / "idx" / "list.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v/1.bmp,1", "separated by ','; write one space"),
        ("v/1.bmp;1", "separated by ';'; write one space"),
        ("v/1.bmp ; 1", "3 fields"),
        ("C:\\data\\v\\1.bmp 1", "is a Windows path from another machine"),
        ("v\\..\\..\\1.bmp 1", "leads out of the data"),
        ("v/1.bmp 1.5", "label '1.5' is not a whole number"),
        ("v/1.bmp 1_0", "label '1_0' is not a whole number"),
        ("v/1.bmp -2", "label '-2' is not a whole number"),
        ("v/1.bmp 12345678901234567890", "has more than 18 digits"),
        ("v/1.bmp " + "1" * 5000, "has more than 18 digits"),
    ],
)
def test_lines_that_are_not_understood(tmp_path: Path, line: str, message: str) -> None:
    write_image(tmp_path / "v" / "1.bmp", "1")
    with pytest.raises(UserError, match=f"list.txt, line 2: .*{message}"):
        _lines(tmp_path, "v/1.bmp 1", line)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2".encode("utf-16"), "it is UTF-16"),
        ("1,2".encode("utf-16-le"), "it is UTF-16 or no text at all"),
        ("1,2".encode("utf-32"), "it is UTF-32"),
        (
            "1,2\n3,é".encode("latin-1"),
            "line 2: cannot be read as text .byte 0xe9 is not UTF-8; probably it is Latin-1",
        ),
    ],
)
def test_other_encodings_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"ids\.txt.*{message}.*save it as UTF-8"):
        read_identity_list(tmp_path / "ids.txt")


def test_control_characters_are_refused(tmp_path: Path) -> None:
    for sign in ("\x1b[31m", "\x0c", "\x7f", "\x9b"):
        with pytest.raises(UserError, match=r"list\.txt, line 2: holds the control character '.*'; save") as caught:
            _lines(tmp_path, "v/1.bmp 1", f"v/{sign}1.bmp 1")
        assert sign not in str(caught.value)


def test_long_entries_are_cut_in_messages(tmp_path: Path) -> None:
    write_text(tmp_path / "ids.txt", "1," + "2" * 5000)
    with pytest.raises(UserError, match="has more than 18 digits") as caught:
        read_identity_list(tmp_path / "ids.txt")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_pipe_is_no_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ids.txt")
    with pytest.raises(UserError, match="not a regular file"):
        read_identity_list(tmp_path / "ids.txt")


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    write_image(tmp_path / "a.bmp", "a")
    write_text(path, "a.bmp 1\nb.bmp 1\nc.bmp 1\n")
    images = read_image_list(tmp_path, path)
    assert [image.relative for image in missing_files(images)] == ["b.bmp", "c.bmp"]
    with pytest.raises(UserError, match=r"list\.txt, line 2: no file .*b\.bmp \(and 1 more lines\)"):
        require_files(images, path)
    require_files(images[:1], path)


def test_labels_for_all_or_none(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    write_text(path, "a.bmp\nb.bmp\n")
    assert all_labels(read_image_list(tmp_path, path), path) is None
    write_text(path, "a.bmp 1\nb.bmp\n")
    with pytest.raises(UserError, match="line 2: no label"):
        all_labels(read_image_list(tmp_path, path), path)
