from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pclhd.data.lists import all_labels, missing_files, read_identity_list, read_image_list, require_files
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
