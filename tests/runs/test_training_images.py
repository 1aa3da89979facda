from __future__ import annotations

from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder

ONE, TWO, HASH = "1" * 64, "2" * 64, "a" * 64


def test_there_and_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.training_images() is None
    run.write_training_images({TWO: None, ONE: HASH})
    assert run.training_images_file.read_text() == f"{ONE} {HASH}\n{TWO}\n"
    assert run.training_images() == {ONE: HASH, TWO: None}
    run.write_training_images({})
    assert run.training_images() == {}


@pytest.mark.parametrize("line", ["", ONE[1:], f"{ONE} {HASH} x", f"{ONE} name.png", ONE.replace("1", "A")])
def test_a_damaged_record(tmp_path: Path, line: str) -> None:
    run = RunFolder(tmp_path)
    run.training_images_file.write_text(f"{TWO}\n{line}\n")
    with pytest.raises(UserError, match=r"training_images.txt, line 2: expected a digest"):
        run.training_images()
    run.training_images_file.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 0\)"):
        run.training_images()
