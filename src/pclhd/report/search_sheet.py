"""The result of a search as pictures: one page without scripts and other files, or one PNG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pclhd import __version__
from pclhd.data.images import open_rgb
from pclhd.errors import ArgumentError, UserError
from pclhd.report.images import data_uri
from pclhd.report.page import templates

# A taller picture cannot be opened by many programs.
_MOST_ROWS = 60


@dataclass(frozen=True)
class SheetHit:
    """A gallery image on a sheet.

    Attributes:
        name: Its path, as shown.
        picture: Its file; None if it is not found.
        similarity: As shown.
        probability: As shown; empty if unknown.
        above: Whether it is similar enough to be an answer.
    """

    name: str
    picture: Path | None
    similarity: str
    probability: str
    above: bool


@dataclass(frozen=True)
class SheetRow:
    """A query on a sheet, with its answer.

    Attributes:
        name: Its path, as shown.
        picture: Its file; None if it is not found.
        sentence: The answer in a few words; empty without a calibration.
        nobody: Whether the answer is "nobody here".
        hits: The nearest images.
    """

    name: str
    picture: Path | None
    sentence: str
    nobody: bool
    hits: tuple[SheetHit, ...]


def sheet_html(rows: list[SheetRow]) -> str:
    """One HTML page with a strip of pictures per query."""
    places = {place for row in rows for place in _places(row) if place is not None}
    pictures = {place: data_uri(place.parent, place.name, width=128, height=256) for place in places}
    return templates().get_template("search.html.j2").render(version=__version__, rows=rows, pictures=pictures)


def sheet_png(rows: list[SheetRow]) -> bytes:
    """One PNG with a strip of pictures per query.

    Raises:
        ArgumentError: There are too many queries for a picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from pclhd.report.figures import GREY, INK, VERMILLION, style

    if len(rows) > _MOST_ROWS:
        raise ArgumentError("sheet", f"a picture holds at most {_MOST_ROWS} queries, not {len(rows)}; write .html")
    columns = 1 + max((len(row.hits) for row in rows), default=0)
    target = io.BytesIO()
    with style():
        figure = Figure(figsize=(max(4.0, 1.0 * columns + 0.3), 2.35 * len(rows) + 0.1), layout="constrained")
        cells = figure.subplots(len(rows), columns, squeeze=False)
        for row, line in zip(rows, cells, strict=True):
            for axes, place in zip(line, _places(row), strict=False):
                pixels = None if place is None else _pixels(place)
                if pixels is None:
                    axes.text(0.5, 0.5, "no picture", ha="center", va="center", fontsize=7, color=GREY)
                else:
                    axes.imshow(pixels, aspect="auto")
            for axes, hit in zip(line[1:], row.hits, strict=False):
                label = f"{hit.similarity}\n{hit.probability}" if hit.probability else hit.similarity
                axes.set_title(label, fontsize=7.5, color=INK if hit.above else GREY)
            line[0].set_title("query", fontsize=7.5)
            line[0].set_xlabel("nobody here" if row.nobody else "", fontsize=7.5, color=VERMILLION, fontweight="bold")
            for axes in line:
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
        FigureCanvasAgg(figure)
        # Without the version of matplotlib, equal results give equal bytes.
        figure.savefig(target, format="png", dpi=110, metadata={"Software": None})
    return target.getvalue()


def _places(row: SheetRow) -> list[Path | None]:
    return [row.picture, *(hit.picture for hit in row.hits)]


def _pixels(path: Path) -> Image.Image | None:
    try:
        picture = open_rgb(path)
    except (OSError, ValueError, UserError):
        return None
    return picture.resize((96, 192))
