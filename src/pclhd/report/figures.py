"""Figures as functions from saved numbers to a matplotlib `Figure`.

The functions open no window and change matplotlib's global state only while drawing. Lines differ in colour, dash and
marker, so that they can be distinguished without colour; legends are outside the data.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pclhd.report.tables import order_weights, weights_name
from pclhd.runs.records import ClusterRecord, EpochRecord, Results, parse_results

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

# The t-SNE figure shows ten people; colours beyond the palette differ in lightness.
_PEOPLE = (*PALETTE, "#6e1423", "#322a7d", "#a3bf2f")
_STREAMS: dict[str, tuple[str, str]] = {"visible": (BLUE, "o"), "infrared": (VERMILLION, "*"), "joint": (GREEN, "s")}
_WEIGHTS: dict[str, tuple[str, str]] = {"start": (GREY, "o"), "stage1": (AMBER, "s"), "final": (BLUE, "^")}
MARKERS = "os^Dv*P"
DASHES = ("-", "--", "-.", ":")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pclhd",
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


def cmc_figure(results: Mapping[str, Any] | Results) -> Figure | None:
    """Cumulative matching characteristics: one panel per search, one curve per set of weights.

    Args:
        results: The results.

    Returns:
        The figure, or None if no row has a curve.

    Raises:
        ValueError: A value is missing or out of range.
    """
    rows = [row for row in parse_results(results).rows if row.cmc]
    if not rows:
        return None
    searches = list(dict.fromkeys(row.search for row in rows))
    names = order_weights([row.weights for row in rows])
    looks = {name: _WEIGHTS.get(name, (PALETTE[3 + k % 4], "D")) for k, name in enumerate(names)}
    with style():
        across = min(2, len(searches))
        down = -(-len(searches) // across)
        figure = Figure(figsize=(4.6 * across, 3.0 * down + 0.4), layout="constrained")
        figure.subplots(down, across, squeeze=False, sharey=True)
        panels = figure.axes
        for axes, search in zip(panels, searches, strict=False):
            for row in rows:
                if row.search == search:
                    colour, marker = looks[row.weights]
                    ranks = np.arange(1, len(row.cmc) + 1)
                    axes.plot(ranks, 100 * np.asarray(row.cmc), color=colour, marker=marker, label=row.weights)
            axes.set_title(search, loc="left")
            axes.set_xlabel("rank")
            axes.set_xticks([1, *range(5, 1 + max(len(row.cmc) for row in rows), 5)])
            axes.grid(True, linewidth=0.6)
            axes.set_axisbelow(True)
        for axes in panels[len(searches) :]:
            axes.set_axis_off()
        for axes in panels[::across]:
            axes.set_ylabel("queries matched up to rank (%)")
        handles = [
            Line2D([], [], color=looks[name][0], marker=looks[name][1], label=weights_name(name)) for name in names
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
    return figure


def loss_figure(epochs: Sequence[EpochRecord]) -> Figure | None:
    """The losses by name, averaged over each epoch; None if none was logged."""
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.loss))
    lines = [
        Line(
            name.replace("_", " ").strip() or name,
            [_number(epoch.loss.get(name)) for epoch in epochs],
            INK if name == "total" else PALETTE[k % len(PALETTE)],
            MARKERS[k % len(MARKERS)],
            DASHES[(k // len(PALETTE)) % len(DASHES)],
        )
        for k, name in enumerate(names)
    ]
    return _curves(epochs, lines, "loss (mean of the epoch)", wide=True)


def cluster_count_figure(epochs: Sequence[EpochRecord]) -> Figure | None:
    """The number of clusters per modality; None if no epoch has any."""
    return _curves(epochs, _cluster_lines(epochs, lambda summary: summary.clusters), "clusters", from_zero=True)


def cluster_size_figure(epochs: Sequence[EpochRecord]) -> Figure | None:
    """The median number of images in a cluster, per modality; None if no epoch has it."""
    lines = _cluster_lines(epochs, lambda summary: _number(summary.size_median))
    return _curves(epochs, lines, "median cluster size (images)", from_zero=True)


def noise_figure(epochs: Sequence[EpochRecord]) -> Figure | None:
    """The share of images that clustering left out, per modality; None if no epoch has it."""
    lines = _cluster_lines(epochs, lambda summary: 100 * summary.noise)
    return _curves(epochs, lines, "images left out as noise (%)", from_zero=True)


def matched_figure(epochs: Sequence[EpochRecord]) -> Figure | None:
    """The share of clusters with a partner in the other modality, and of correct partners; None if not logged."""
    lines = [
        Line(
            stream,
            [_percent((epoch.matched or {}).get(stream)) for epoch in epochs],
            *_STREAMS[stream],
        )
        for stream in ("visible", "infrared")
    ]
    precision = [_percent((epoch.labels or {}).get("match_precision")) for epoch in epochs]
    lines.append(Line("correct partners", precision, GREEN, "s", "--"))
    return _curves(epochs, lines, "clusters with a partner (%)", from_zero=True)


def agreement_figure(epochs: Sequence[EpochRecord], measure: Literal["ari", "nmi"]) -> Figure | None:
    """Agreement of the pseudo labels with identities that training does not use; None if not measured."""
    lines = [
        Line(stream, [_number((epoch.labels or {}).get(f"{measure}_{stream}")) for epoch in epochs], colour, marker)
        for stream, (colour, marker) in _STREAMS.items()
    ]
    return _curves(epochs, lines, f"{measure.upper()} (1 = perfect)", from_zero=True)


def speed_figure(epochs: Sequence[EpochRecord]) -> Figure | None:
    """Training speed in images per second; None if not logged."""
    speed = [_number(epoch.images_per_second) for epoch in epochs]
    return _curves(epochs, [Line("training", speed, BLUE, "o")], "images per second", from_zero=True)


def seconds_figure(epochs: Sequence[EpochRecord]) -> Figure | None:
    """The duration of each epoch and of its clustering; None if not logged."""
    lines = [
        Line("whole epoch", [_number(epoch.seconds) for epoch in epochs], BLUE, "o"),
        Line("clustering", [_number(epoch.seconds_clustering) for epoch in epochs], AMBER, "s"),
    ]
    return _curves(epochs, lines, "time (s)", from_zero=True)


def tsne_figure(points: NDArray[np.floating[Any]], identities: Sequence[int], modality: Sequence[str]) -> Figure:
    """A map of embeddings: one colour per identity, circles visible, five-pointed stars infrared (paper, t-SNE figure).

    Args:
        points: (N, 2) positions on the map, without a unit.
        identities: N identities.
        modality: N values `visible` or `infrared`.

    Raises:
        ValueError: The lengths differ, the points are not (N, 2), or a modality is unknown.
    """
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must have shape (N, 2), not {points.shape}")
    if not len(points) == len(identities) == len(modality):
        raise ValueError(f"{len(points)} points, {len(identities)} identities and {len(modality)} modalities")
    kinds = np.array([str(kind) for kind in modality], dtype=object)
    unknown = set(kinds) - {"visible", "infrared"}
    if unknown:
        raise ValueError(f"modality must be visible or infrared, not {sorted(unknown)}")
    people = np.asarray(identities, dtype=np.int64)
    identities_shown = sorted(set(people.tolist()))
    # Beyond the palette, hues at steps of the golden ratio, so that consecutive colours differ clearly.
    colours: list[Any] = list(_PEOPLE[: len(identities_shown)])
    colours += [mpl.colormaps["hsv"]((0.618034 * k) % 1) for k in range(len(identities_shown) - len(colours))]
    with style():
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.subplots()
        for person, colour in zip(identities_shown, colours, strict=True):
            for kind, marker, size in (("visible", "o", 22), ("infrared", "*", 52)):
                rows = (people == person) & (kinds == kind)
                if rows.any():
                    axes.scatter(
                        points[rows, 0],
                        points[rows, 1],
                        s=size,
                        marker=marker,
                        color=[colour],
                        linewidths=0,
                        alpha=0.85,
                        label=kind,
                    )
        axes.set_xlabel("t-SNE 1 (no unit)")
        axes.set_ylabel("t-SNE 2 (no unit)")
        axes.set_xticks([])
        axes.set_yticks([])
        handles = [
            Line2D([], [], linestyle="", marker=marker, color=INK, markersize=size, label=kind)
            for kind, marker, size in (("visible", "o", 5), ("infrared", "*", 8))
        ]
        if len(identities_shown) <= 20:
            handles += [
                Line2D([], [], linestyle="", marker="s", color=colour, markersize=6, label=f"identity {person}")
                for person, colour in zip(identities_shown, colours, strict=True)
            ]
        figure.legend(handles=handles, loc="outside right upper")
    return figure


def _curves(
    epochs: Sequence[EpochRecord], lines: Sequence[Line], unit: str, *, from_zero: bool = False, wide: bool = False
) -> Figure | None:
    """Lines over the epochs, with a dotted line between the stages; lines without a single number are left out."""
    lines = [line for line in lines if any(isfinite(value) for value in line.values)]
    if not lines:
        return None
    place = epoch_places(epochs)
    with style():
        figure = Figure(figsize=(9.4, 3.4) if wide else (4.6, 3.0), layout="constrained")
        axes = figure.subplots()
        for line in lines:
            values = [value if isfinite(value) else nan for value in line.values]
            few = len(values) <= 40
            axes.plot(
                place,
                values,
                color=line.colour,
                linestyle=line.dash,
                marker=line.marker,
                markevery=1 if few else max(1, len(values) // 20),
                label=line.name,
            )
        if from_zero:
            values = [value for line in lines for value in line.values if isfinite(value)]
            bottom = min(0.0, 1.06 * min(values))
            axes.set_ylim(bottom, max(1.06 * max(values), bottom + 1e-3))
        axes.set_xlabel("epoch")
        axes.set_ylabel(unit)
        axes.set_xlim(place[0] - 0.5, place[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(True, linewidth=0.6)
        axes.set_axisbelow(True)
        _mark_stages(axes, epochs, place)
        if len(lines) > 1:
            handles, names = axes.get_legend_handles_labels()
            if wide:
                figure.legend(handles, names, loc="outside right upper")
            else:
                figure.legend(handles, names, loc="outside upper left", ncols=3)
    return figure


def epoch_places(epochs: Sequence[EpochRecord]) -> list[int]:
    """Each epoch's position on the axis: its number if the numbers are ascending, otherwise its place from 1."""
    numbers = [epoch.epoch for epoch in epochs]
    growing = all(before < after for before, after in itertools.pairwise(numbers))
    return numbers if growing else list(range(1, len(epochs) + 1))


def _mark_stages(axes: Axes, epochs: Sequence[EpochRecord], place: Sequence[int]) -> None:
    for before, after in itertools.pairwise(range(len(epochs))):
        if epochs[before].stage != epochs[after].stage:
            boundary = (place[before] + place[after]) / 2
            axes.axvline(boundary, color=GREY, linewidth=1, linestyle=":")
            axes.annotate(
                f"stage {epochs[after].stage} →",
                (boundary, 1),
                xycoords=axes.get_xaxis_transform(),
                xytext=(2, 2),
                textcoords="offset points",
                fontsize=8,
            )


def _cluster_lines(epochs: Sequence[EpochRecord], measure: Callable[[ClusterRecord], float]) -> list[Line]:
    lines = []
    for stream, (colour, marker) in _STREAMS.items():
        summaries: list[ClusterRecord | None] = [getattr(epoch, stream) for epoch in epochs]
        values = [nan if summary is None else measure(summary) for summary in summaries]
        lines.append(Line(stream, values, colour, marker))
    return lines


def _number(value: float | None) -> float:
    return nan if value is None else value


def _percent(share: float | None) -> float:
    return nan if share is None else 100 * share
