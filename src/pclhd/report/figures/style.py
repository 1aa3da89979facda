"""Colours, markers and the style that all figures share, and a figure as SVG text."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

# The page replaces these by style variables that have a light and a dark value.
INK = "#1d2025"
GRID = "#d9dce1"
# Okabe and Ito's colour-blind-safe palette, with the light colours darkened for a white background.
BLUE, VERMILLION, GREEN, PURPLE, AMBER, SKY, GREY = (
    "#0072b2",
    "#d55e00",
    "#00865f",
    "#b0568c",
    "#ad7400",
    "#3795cf",
    "#6b717a",
)
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, AMBER, SKY, GREY)

STREAMS: dict[str, tuple[str, str]] = {"visible": (BLUE, "o"), "infrared": (VERMILLION, "*"), "joint": (GREEN, "s")}
MARKERS = "os^Dv*P"
DASHES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pclhd",
    "pdf.fonttype": 42,  # the kind of fonts that publishers accept
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
}


@dataclass(frozen=True)
class Line:
    """One curve: its name in the legend, its style, its values (NaN is a gap)."""

    name: str
    values: Sequence[float]
    colour: str
    marker: str
    dash: str = "-"


@contextmanager
def style() -> Iterator[None]:
    """The style of all figures within the block; afterwards, the user's settings are restored."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def to_svg(figure: Figure) -> str:
    """The figure as SVG text; equal figures give equal bytes, and text stays text."""
    target = io.StringIO()
    with style():
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return target.getvalue()
