"""How the benchmarks show their figures: tables in Markdown, files in JSON, curves with their names beside them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pclhd.files import write_durably
from pclhd.report.figures import PALETTE, style


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A table whose first `words` columns are words and whose others are numbers."""
    lines = [titles, ["---"] * words + ["---:"] * (len(titles) - words), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def short(value: object) -> str:
    """A value for a table: a number with three significant figures, "–" for an unknown one."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_json(path: Path, content: object) -> None:
    """Write figures to a file, which is complete or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, json.dumps(content, indent=1) + "\n")


def read_rows(path: Path | None, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that an earlier run wrote to a file; none if there is no file.

    Raises:
        SystemExit: It was measured with other settings.
    """
    if path is None or not path.exists():
        return []
    content = json.loads(path.read_text("utf-8"))
    if content.get("settings") != dict(settings):
        sys.exit(f"{path}: was measured with {content.get('settings')}, expected {dict(settings)}; name another file")
    rows: list[dict[str, Any]] = content["rows"]
    return rows


def write_png(figure: Figure, path: Path) -> None:
    """Save a figure for a page: 160 dots per inch, on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure.savefig(path, dpi=160, facecolor="white", metadata={"Software": None})


def colour_of(number: int) -> str:
    """Colours of the report, one after the other."""
    return PALETTE[number % len(PALETTE)]


def name_the_ends(
    figure: Figure, axes: Axes, ends: Sequence[tuple[str, float, float, str]], *, apart: float = 10.0
) -> None:
    """Write names beside the right ends of curves, moved up or down so that no two overlap.

    Args:
        figure: With all its curves drawn.
        axes: The panel that they are in, with its scales set.
        ends: (name, x, y, colour) of each curve.
        apart: Points between the middles of two names.
    """
    figure.draw_without_rendering()
    ordered = sorted(ends, key=lambda end: end[2])
    points = [float(axes.transData.transform((x, y))[1]) * 72.0 / figure.dpi for _, x, y, _ in ordered]
    for (name, x, y, colour), at, wanted in zip(ordered, points, spread_out(points, apart), strict=True):
        moved = abs(wanted - at) > 1
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 0}
        axes.annotate(
            name,
            (x, y),
            xytext=(14 if moved else 6, wanted - at),
            textcoords="offset points",
            color=colour,
            fontsize=8.5,
            verticalalignment="center",
            arrowprops=leader if moved else None,
            annotation_clip=False,
        )


def spread_out(places: Sequence[float], apart: float) -> list[float]:
    """Move sorted places until neighbours are at least `apart` from each other; their order stays."""
    groups: list[tuple[float, int]] = []  # middle and number of names of each group
    for place in places:
        middle, count = place, 1
        while groups and middle - groups[-1][0] < apart * (count + groups[-1][1]) / 2:
            below, others = groups.pop()
            middle = (middle * count + below * others) / (count + others)
            count += others
        groups.append((middle, count))
    return [middle + apart * (rank - (count - 1) / 2) for middle, count in groups for rank in range(count)]
