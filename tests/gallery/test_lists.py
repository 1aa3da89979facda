from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.gallery.lists import read_list


def test_a_list(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(
        "\ufeffpath,Modality,camera,time,track,extra\na.jpg,infrared,gate,2026-03-01T12:00,7,x\n\nb/b.jpg,,,,,\n",
        "utf-8",
    )
    one, two = read_list(path, modality=Modality.VISIBLE, camera="yard", time="exif")
    assert one.source.path == tmp_path / "a.jpg"
    assert (one.modality, one.camera, one.time, one.track) == (Modality.INFRARED, "gate", datetime(2026, 3, 1, 12), "7")
    assert two.source.path == tmp_path / "b" / "b.jpg"
    assert (two.modality, two.camera, two.time, two.track) == (Modality.VISIBLE, "yard", "exif", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column path"),
        ("file,modality\na,visible\n", "no column path"),
        ("path\n", "lists no image"),
        ("path,modality\n,visible\n", "line 2: has no path"),
        ("path\na.jpg\n", "line 2: has no modality"),
        ("path,modality\na.jpg,visible\nb.jpg,red\n", "line 3: modality 'red' is neither"),
        ("path,modality,time\na.jpg,visible,noon\n", "line 2: time=noon: is not a time"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_list(path, modality=None, camera=None, time=None)
