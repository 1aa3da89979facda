"""A figure together with the numbers that it shows, saved for a page, for a paper, and to be drawn again."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pclhd.files import write_durably
from pclhd.report.figures.style import style, to_svg
from pclhd.report.table_formats import csv_text, table_csv, table_latex, table_markdown
from pclhd.report.tables import Table

DOTS_PER_INCH = 160


@dataclass(frozen=True)
class Drawing:
    """A figure and its numbers.

    Attributes:
        name: Of its files, without an ending.
        caption: What it shows, in a few sentences.
        figure: The figure.
        columns: Names of the numbers.
        rows: The numbers, as they are drawn.
    """

    name: str
    caption: str
    figure: Figure
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class NamedTable:
    """A table and the name of its files."""

    name: str
    table: Table


@dataclass(frozen=True)
class NamedRows:
    """Numbers for a CSV file of their own.

    Attributes:
        name: Of the file.
        about: What a row is, in a sentence.
        columns: Names of the numbers.
        rows: The numbers.
    """

    name: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def save_rows(named: NamedRows, folder: Path) -> list[Path]:
    """Write numbers as CSV.

    Raises:
        UserError: The file cannot be written.
    """
    return _write(folder, named.name, {"csv": csv_text(named.columns, named.rows)})


def save_drawing(drawing: Drawing, folder: Path) -> list[Path]:
    """Write a figure as PNG, SVG and PDF, and its numbers as CSV; equal figures give equal bytes.

    Raises:
        UserError: A file cannot be written.
    """
    contents: dict[str, bytes | str] = {"svg": to_svg(drawing.figure), "csv": csv_text(drawing.columns, drawing.rows)}
    for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Creator": None})):
        target = io.BytesIO()
        with style():
            drawing.figure.savefig(
                target, format=kind, dpi=DOTS_PER_INCH, facecolor="white", metadata=metadata, bbox_inches="tight"
            )
        contents[kind] = target.getvalue()
    return _write(folder, drawing.name, contents)


def save_table(named: NamedTable, folder: Path) -> list[Path]:
    """Write a table as CSV, Markdown and LaTeX.

    Raises:
        UserError: A file cannot be written.
    """
    table = named.table
    contents = {"csv": table_csv(table), "md": table_markdown(table), "tex": table_latex(table, named.name)}
    return _write(folder, named.name, contents)


def _write(folder: Path, name: str, contents: dict[str, bytes | str] | dict[str, str]) -> list[Path]:
    paths = [folder / f"{name}.{ending}" for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_durably(path, content)
    return paths
