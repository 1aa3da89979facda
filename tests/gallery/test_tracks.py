from __future__ import annotations

from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.gallery.tracks import Box, read_boxes

EXPECTED = [Box(0, "7", 10, 20, 40, 80), Box(1, "7", 11, 20, 41, 80), Box(1, "8", 0.5, 0, 10.5, 30)]


@pytest.mark.parametrize(
    "text",
    [
        "1,7,10,20,30,60,1,-1,-1,-1\n2,7,11,20,30,60,1,-1,-1,-1\n2,8,0.5,0,10,30,0.3,-1,-1,-1\n",
        "2 7 11 20 30 60\n2 8 0.5 0 10 30\n\n1 7.0 10 20 30 60\n",
        "frame,id,bb_left,bb_top,bb_width,bb_height\n1,7,10,20,30,60\n2,7,11,20,30,60\n2,8,0.5,0,10,30\n",
        "conf;y2;x2;y1;x1;Track_ID;Frame\n.9;80;40;20;10;7;1\n.9;80;41;20;11;7;2\n.9;30;10.5;0;.5;8;2\n",
    ],
)
def test_formats(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text(text)
    assert read_boxes(path) == EXPECTED


def test_names_of_tracks_and_first_frames(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("frame,track,x,y,w,h\n0,Ann,1,1,2,2\n")
    assert read_boxes(path, first_frame=0) == [Box(0, "Ann", 1, 1, 3, 3)]
    with pytest.raises(UserError, match=r"line 2: frame 0 is not a number from 1 on; state with `first_frame`"):
        read_boxes(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no boxes"),
        ("frame,track,x,y,w,h\n", "has no boxes"),
        ("frame,track,x,y,w\n1,2,3,4,5\n", "no column width and height, or right and bottom"),
        ("name,x\n", "no column frame, top, track"),
        ("1,2,3,4,5\n", "line 1: is not a box"),
        ("1,2,3,4,5,6\n1,2,nan,4,5,6\n", "line 2: is not a box"),
        ("1,2,3,4,x,6\n", "line 1: is not a box"),
        ("1.5,2,3,4,5,6\n", "line 1: frame 1.5"),
        ("1,2,3,4,0,6\n", "line 1: has no track or no size"),
        ("1,2,3,4,-5,6\n", "line 1: has no track or no size"),
        ("1,,3,4,5,6\n", "line 1: has no track or no size"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_boxes(path)
