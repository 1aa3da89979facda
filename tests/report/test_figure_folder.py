from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.report.drawings import Drawing, NamedRows, NamedTable, save_drawing
from pclhd.report.figure_folder import Contents, framework_svg, write_figure_folder
from pclhd.report.figures.several import Spread, ValuePoint, value_figure
from pclhd.report.tables import Column, Table

ROOT = Path(__file__).parents[2]
TABLE = NamedTable("parts", Table("About it.", (Column("a"), Column("b", "right")), (("x", "1.0"),)))
ROWS = NamedRows("runs", "A row for each run.", ("seed",), [(0,)])


def drawing(name: str = "k") -> Drawing:
    points = [ValuePoint(value, "rank-1", Spread(50, 1, 2), (49, 51)) for value in ("1", "2")]
    return Drawing(name, "What it shows.", value_figure(points, "k"), ("value", "mean"), [("1", 50.0), ("2", 50.0)])


def test_a_drawing_has_four_files_that_do_not_change(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert [path.suffix for path in save_drawing(drawing(), tmp_path / name)] == [".svg", ".csv", ".png", ".pdf"]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert (tmp_path / "one" / "k.csv").read_text() == "value,mean\n1,50.0\n2,50.0\n"
    assert (tmp_path / "one" / "k.pdf").read_bytes().startswith(b"%PDF")
    ET.parse(tmp_path / "one" / "k.svg")


def test_the_list_names_every_file_and_nothing_else(tmp_path: Path) -> None:
    paths = write_figure_folder(Contents([drawing()], [TABLE], [ROWS], ["something was left out"]), tmp_path / "out")
    assert set(paths) == set((tmp_path / "out").iterdir())
    text = paths[-1].read_text()
    assert paths[-1].name == "figures.md"
    named = set(re.findall(r"\]\(([^)]+)\)", text))
    assert named | {"figures.md", "parts.md"} == {path.name for path in paths}
    assert "* something was left out" in text
    assert "| x | 1.0 |" in text


def test_nothing_is_overwritten_unless_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_figure_folder(Contents([drawing("old")], []), out)
    with pytest.raises(UserError, match="already holds figures; choose another, or replace them with `force`"):
        write_figure_folder(Contents([], []), out)
    write_figure_folder(Contents([], [TABLE]), out, force=True)
    assert not (out / "old.png").exists()
    assert (out / "parts.tex").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(UserError, match=r"holds other files \(it has no figures.md\)"):
            write_figure_folder(Contents([], []), other, force=force)
    assert [path.name for path in other.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_the_old_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_figure_folder(Contents([], [TABLE]), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(
        "pclhd.report.figure_folder.save_drawing", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(UserError, match="cannot be written"):
        write_figure_folder(Contents([drawing()], []), out, force=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(UserError, match="cannot be written"):
        write_figure_folder(Contents([drawing()], []), tmp_path / "new")
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def test_the_framework_is_well_formed_described_and_that_of_the_documentation() -> None:
    root = ET.fromstring(framework_svg())
    names = {child.tag.rpartition("}")[2] for child in root}
    assert {"title", "desc"} <= names
    texts = " ".join(text.strip() for element in root.iter() for text in (element.text or "", element.tail or ""))
    assert {"centroid", "hard", "dynamic"} <= set(re.findall(r"\w+", texts))
    assert framework_svg() == (ROOT / "docs" / "pictures" / "framework.svg").read_text("utf-8")
    # Nothing is loaded from elsewhere.
    assert not re.findall(r"(?:href|src)=\"(?!#)", framework_svg())
