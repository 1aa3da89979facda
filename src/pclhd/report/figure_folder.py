"""A folder of figures and tables, with a page that lists them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pclhd.errors import ArgumentError
from pclhd.files import is_unused, making_folder, owning_folder, putting_aside, write_durably
from pclhd.report.drawings import Drawing, NamedRows, NamedTable, save_drawing, save_rows, save_table
from pclhd.report.table_formats import table_markdown
from pclhd.text_tables import printable

LIST = "figures.md"
FRAMEWORK = "framework.svg"


@dataclass(frozen=True)
class Contents:
    """What a folder of figures holds.

    Attributes:
        drawings: Figures with their numbers.
        tables: Tables.
        rows: Numbers without a figure.
        notes: What was left out, and why.
    """

    drawings: Sequence[Drawing]
    tables: Sequence[NamedTable]
    rows: Sequence[NamedRows] = ()
    notes: Sequence[str] = ()


def check_figure_folder(folder: Path, *, force: bool) -> None:
    """Check that a folder of figures can be made.

    Raises:
        ArgumentError: It holds other files, or figures that are not to be replaced.
    """
    if is_unused(folder):
        return
    if not (folder / LIST).is_file():
        raise ArgumentError("out", f"holds other files (it has no {LIST}); name a new folder", value=folder)
    if not force:
        raise ArgumentError("out", "already holds figures; choose another, or replace them with `force`", value=folder)


def write_figure_folder(contents: Contents, folder: Path, *, force: bool = False) -> list[Path]:
    """Write all figures and tables, our drawing of the framework, and a list of them in Markdown.

    Args:
        contents: What to write.
        folder: A new folder.
        force: Whether to replace a folder of figures.

    Returns:
        The files.

    Raises:
        UserError: The folder is in use or cannot be written; it is then as before.
    """
    check_figure_folder(folder, force=force)
    with ExitStack() as stack:
        stack.enter_context(owning_folder(folder))
        if force:
            stack.enter_context(putting_aside(folder, LIST))
        stack.enter_context(making_folder(folder))
        paths = [path for drawing in contents.drawings for path in save_drawing(drawing, folder)]
        paths += [path for table in contents.tables for path in save_table(table, folder)]
        paths += [path for rows in contents.rows for path in save_rows(rows, folder)]
        for name, text in ((FRAMEWORK, framework_svg()), (LIST, "\n".join(_list(contents)))):
            write_durably(folder / name, text)
            paths.append(folder / name)
    return paths


def framework_svg() -> str:
    """Our drawing of the method: one epoch, from images to losses."""
    return resources.files("pclhd.report").joinpath(FRAMEWORK).read_text("utf-8")


def _list(contents: Contents) -> Iterator[str]:
    yield "# Figures and tables\n"
    if contents.notes:
        yield "".join(f"* {printable(note)}\n" for note in contents.notes)
    for drawing in contents.drawings:
        files = ", ".join(f"[{kind.upper()}]({drawing.name}.{kind})" for kind in ("png", "svg", "pdf", "csv"))
        picture = f"![{drawing.name}]({drawing.name}.png)"
        yield f"## {drawing.name}\n\n{picture}\n\n{printable(drawing.caption)} Files: {files}.\n"
    for named in contents.tables:
        files = ", ".join(f"[{name}]({named.name}.{kind})" for name, kind in (("CSV", "csv"), ("LaTeX", "tex")))
        yield f"## {named.name}\n\n{table_markdown(named.table)}\nFiles: {files}.\n"
    for rows in contents.rows:
        yield f"## {rows.name}\n\n{rows.about} File: [CSV]({rows.name}.csv).\n"
    yield f"## framework\n\n![The method]({FRAMEWORK})\n\nThe method of the paper, drawn by us.\n"
