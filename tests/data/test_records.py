from __future__ import annotations

import hashlib
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pclhd.data.records import (
    NOBODY,
    ImageRecord,
    LabelledImages,
    Modality,
    Names,
    digest_file,
    digest_files,
    make_training_set,
)
from pclhd.errors import UserError

RECORD = ImageRecord(Path("a.jpg"), Modality.VISIBLE, 1)


def _files(folder: Path, contents: list[bytes]) -> list[Path]:
    paths = [folder / f"{number}.jpg" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_order_is_modality_then_camera_then_digest(tmp_path: Path) -> None:
    paths = _files(tmp_path, [bytes([number]) for number in range(8)])
    cameras = [2, 1, None, 3, 2, 1, 1, 6]
    kinds = [Modality.INFRARED if number % 2 else Modality.VISIBLE for number in range(8)]
    records = [ImageRecord(p, k, c) for p, k, c in zip(paths, kinds, cameras, strict=True)]
    training_set, identities = make_training_set(records, range(8))

    def slow_key(number: int) -> tuple[int, int, str]:
        digest = hashlib.sha256(bytes([number])).hexdigest()
        return ("visible", "infrared").index(kinds[number]), cameras[number] or -1, digest

    expected = sorted(range(8), key=slow_key)
    assert identities == tuple(expected)
    assert training_set.images == tuple(records[i] for i in expected)
    assert training_set.digests == tuple(hashlib.sha256(bytes([i])).hexdigest() for i in expected)


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_the_input_does_not_matter(shuffler: random.Random) -> None:
    folder = Path(__file__).parent
    paths = sorted(folder.glob("*.py"))
    records = [ImageRecord(path, Modality.VISIBLE, 1) for path in paths]
    once, _ = make_training_set(records)
    shuffler.shuffle(records)
    again, _ = make_training_set(records)
    assert once == again
    assert once.checksum == again.checksum


def test_checksum_follows_camera_modality_and_content(tmp_path: Path) -> None:
    paths = _files(tmp_path, [b"a", b"b"])
    checksums = {
        make_training_set([ImageRecord(path, modality, camera)])[0].checksum
        for path in paths
        for modality in Modality
        for camera in (1, 2, None)
    }
    assert len(checksums) == 12


def test_checksum_of_labelled_images_follows_all_that_an_evaluation_reads(tmp_path: Path) -> None:
    paths = _files(tmp_path, [b"a", b"b"])
    one, other = (ImageRecord(path, Modality.VISIBLE, 1) for path in paths)
    base = LabelledImages((one, other), (1, 2))
    changed = [
        base,
        LabelledImages((other, one), (1, 2)),
        LabelledImages((one, other), (2, 1)),
        LabelledImages((one, replace(other, camera=2)), (1, 2)),
        LabelledImages((one, replace(other, modality=Modality.INFRARED)), (1, 2)),
        LabelledImages((one, other), (1, 2), roles=("query", "gallery")),
    ]
    checksums = [images.checksum() for images in changed]
    assert len(set(checksums)) == len(changed)
    # Neither the files' names nor saying what holds anyway changes it.
    moved = ImageRecord(paths[0].rename(tmp_path / "moved"), Modality.VISIBLE, 1)
    assert LabelledImages((moved, other), (1, 2), roles=("test", "test")).checksum() == checksums[0]
    paths[1].write_bytes(b"c")
    assert LabelledImages((moved, other), (1, 2)).checksum() != checksums[0]


def test_empty_training_set() -> None:
    training_set, identities = make_training_set([], [])
    assert len(training_set) == 0
    assert identities == ()
    assert make_training_set([])[1] is None


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="1 images but 2 identities"):
        make_training_set([RECORD], [1, 2])
    with pytest.raises(ValueError, match="1 images but 0 identities"):
        LabelledImages((RECORD,), ())
    with pytest.raises(ValueError, match="1 images but 2 roles"):
        LabelledImages((RECORD,), (1,), roles=("query", "gallery"))


def test_digests_in_order_and_of_content(tmp_path: Path) -> None:
    contents = [bytes([number]) * 1000 for number in range(50)]
    paths = _files(tmp_path, contents)
    assert digest_files(paths) == [hashlib.sha256(content).hexdigest() for content in contents]
    assert digest_files([]) == []


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "gone.jpg"
    with pytest.raises(UserError, match=r"gone\.jpg: cannot be read"):
        digest_file(missing)
    with pytest.raises(UserError, match=r"gone\.jpg"):
        digest_files([*_files(tmp_path, [b"a"]), missing])


def test_roles_are_checked() -> None:
    with pytest.raises(ValueError, match="role 'galery' is unknown"):
        LabelledImages((RECORD,), (1,), ("galery",))


def test_who_is_known() -> None:
    test = LabelledImages((RECORD,) * 5, (1, 1, NOBODY, NOBODY, 2), ("query", "gallery", "unknown", "junk", "test"))
    assert test.known() == [0, 1, 4]
    assert LabelledImages((RECORD,), (1,)).known() == [0]


def test_numbers_and_what_they_are_called() -> None:
    plain, named = Names(), Names(("anna", "bo"), ("door",))
    assert (plain.identity(7), plain.camera(3), plain.camera(None)) == (7, 3, None)
    assert (named.identity(1), named.identity(NOBODY), named.camera(0), named.camera(None)) == (
        "bo",
        NOBODY,
        "door",
        None,
    )


def test_the_checksum_follows_names_not_their_numbers(tmp_path: Path) -> None:
    (path,) = _files(tmp_path, [b"a"])
    record = ImageRecord(path, Modality.VISIBLE, 0)
    sums = {LabelledImages((record,), (0,), names=Names((name,), None)).checksum() for name in ("anna", "bo")}
    assert len(sums) == 2
    assert LabelledImages((record,), (7,)).checksum() == LabelledImages((record,), (0,), names=Names(("7",))).checksum()


def test_a_pipe_is_not_digested(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: not a regular file"):
        digest_file(tmp_path / "a.png")
