from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

from pclhd.data.layouts import LAYOUTS, has_layout
from pclhd.data.open import guess_layout, open_dataset, resolve_layout
from pclhd.errors import UserError
from tests.data.fake_layouts import write_image, write_llcm, write_regdb, write_sysu


def _write_own(root: Path) -> None:
    write_image(root / "visible" / "a.jpg", "a")
    write_image(root / "infrared" / "b.jpg", "b")


WRITERS: dict[str, Callable[[Path], None]] = {
    "sysu": write_sysu,
    "regdb": write_regdb,
    "llcm": write_llcm,
    "own": _write_own,
}


def test_there_is_a_writer_for_every_layout() -> None:
    assert set(WRITERS) == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_opens_by_name_and_by_itself(tmp_path: Path, layout: str) -> None:
    WRITERS[layout](tmp_path)
    assert guess_layout(tmp_path) == layout
    dataset = open_dataset(layout, tmp_path)
    assert dataset.name.partition("-")[0] == layout
    assert dataset.root == tmp_path
    assert open_dataset("auto", tmp_path) == dataset


@pytest.mark.parametrize(("layout", "other"), list(permutations(LAYOUTS, 2)))
def test_a_wrong_layout_is_refused_with_the_right_one(tmp_path: Path, layout: str, other: str) -> None:
    WRITERS[layout](tmp_path)
    assert has_layout(tmp_path, layout)
    with pytest.raises(UserError, match=f"not layout {other}, .*looks like {layout}"):
        open_dataset(other, tmp_path)


def test_unknown_layout_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="layout 'sisu' is unknown; did you mean 'sysu'"):
        open_dataset("sisu", tmp_path)
    with pytest.raises(UserError, match="known: sysu, regdb, llcm, own, auto"):
        open_dataset("market", tmp_path)
    with pytest.raises(ValueError, match="market"):
        has_layout(tmp_path, "market")


def test_auto_needs_something_known(tmp_path: Path) -> None:
    assert guess_layout(tmp_path) is None
    with pytest.raises(UserError, match="the layout is none of those known"):
        resolve_layout("auto", tmp_path)
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        resolve_layout("auto", tmp_path / "nowhere")


@pytest.mark.parametrize("layout", ["auto", "own"])
@pytest.mark.parametrize(
    ("folders", "hint"),
    [
        (("Visible", "ir"), "if these are your own images, rename Visible to visible and ir to infrared"),
        (("RGB", "infrared"), "if these are your own images, rename RGB to visible"),
        (("day", "night", "other"), "if these are your own images, rename day to visible and night to infrared"),
    ],
)
def test_misnamed_folders_of_own_images(tmp_path: Path, layout: str, folders: tuple[str, ...], hint: str) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{hint}$"):
        open_dataset(layout, tmp_path)


def test_one_folder_alone_gets_no_hint(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    with pytest.raises(UserError) as refused:
        resolve_layout("auto", tmp_path)
    assert "rename" not in str(refused.value)


def test_trial_reaches_regdb_and_is_refused_elsewhere(tmp_path: Path) -> None:
    write_regdb(tmp_path / "regdb", trial=4)
    write_sysu(tmp_path / "sysu")
    assert open_dataset("regdb", tmp_path / "regdb", trial=4).name == "regdb-4"
    with pytest.raises(UserError, match="trial 4: layout sysu has no trials"):
        open_dataset("sysu", tmp_path / "sysu", trial=4)
