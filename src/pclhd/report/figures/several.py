"""Figures over several runs: agreement over the epochs, measures over the values of a setting, parts of a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pclhd.report.figures.style import BLUE, DASHES, GREY, INK, MARKERS, PALETTE, VERMILLION, style

_MEASURES = {"rank-1": (BLUE, "o", "-"), "mAP": (VERMILLION, "s", "--")}


@dataclass(frozen=True)
class Spread:
    """A number over the seeds of one method.

    Attributes:
        mean: Over the seeds.
        std: Standard deviation (n − 1); None of a single seed.
        seeds: How many.
    """

    mean: float
    std: float | None
    seeds: int


@dataclass(frozen=True)
class AgreementPoint:
    """The ARI of a method's clusters in one epoch.

    Attributes:
        method: Its label.
        modality: ``visible`` or ``infrared``.
        epoch: From 1, over both stages.
        ari: Over the seeds.
    """

    method: str
    modality: str
    epoch: int
    ari: Spread


@dataclass(frozen=True)
class ValuePoint:
    """A measure at a value of a setting, or of a part of a method.

    Attributes:
        value: As on the command line, or the name of the part.
        measure: ``rank-1`` or ``mAP``, in percent.
        reached: Over the seeds.
        by_seed: The measure of each seed.
        own: Whether the method has this value by itself.
    """

    value: str
    measure: str
    reached: Spread
    by_seed: tuple[float, ...]
    own: bool = False


def ari_figure(
    points: Sequence[AgreementPoint], boundary: float | None = None, *, methods: Sequence[str] = ()
) -> Figure:
    """The Adjusted Rand Index over the epochs, a panel per modality and a line per method (paper, third panel).

    The band about a line is a standard deviation over the seeds to either side.

    Args:
        points: In the order of the epochs.
        boundary: Where stage II begins, between two epochs; None if that differs.
        methods: All methods that have a colour on the page, also those without points here.
    """
    drawn = dict.fromkeys(point.method for point in points)
    looks = {method: number for number, method in enumerate(dict.fromkeys((*methods, *drawn)))}
    modalities = list(dict.fromkeys(point.modality for point in points))
    with style():
        figure = Figure(figsize=(4.6 * len(modalities), 3.5), layout="constrained")
        panels = figure.subplots(1, len(modalities), squeeze=False, sharey=True)[0]
        handles = []
        for method in drawn:
            number = looks[method]
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            dash = DASHES[number % len(DASHES)]
            handle = Line2D([], [], color=colour, marker=marker, label=method)
            handle.set_linestyle(dash)
            handles.append(handle)
            for axes, modality in zip(panels, modalities, strict=True):
                own = [point for point in points if (point.method, point.modality) == (method, modality)]
                epochs, means = [point.epoch for point in own], [point.ari.mean for point in own]
                every = max(1, len(own) // 15)
                axes.plot(epochs, means, color=colour, marker=marker, linestyle=dash, markevery=every, label=method)
                spread = [point for point in own if point.ari.std is not None]
                axes.fill_between(
                    [point.epoch for point in spread],
                    [point.ari.mean - (point.ari.std or 0) for point in spread],
                    [point.ari.mean + (point.ari.std or 0) for point in spread],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
        for axes, modality in zip(panels, modalities, strict=True):
            axes.set_title(f"{modality} clusters", loc="left")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.grid(True, linewidth=0.6)
            axes.set_axisbelow(True)
            if boundary is not None:
                _mark_stage_two(axes, boundary)
        panels[0].set_ylabel("Adjusted Rand Index (1 = perfect)")
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4))
    return figure


def value_figure(points: Sequence[ValuePoint], name: str) -> Figure:
    """Rank-1 and mAP over the values of a setting (paper, λ and k).

    Bars are a standard deviation over the seeds to either side, small dots single seeds, and a ring marks the value
    that the method has by itself. Values that are not evenly spaced numbers stand side by side at equal distances.

    Args:
        points: In the order of the values.
        name: Of the setting, for the axis.
    """
    values = list(dict.fromkeys(point.value for point in points))
    places = value_places(values)
    with style():
        figure = Figure(figsize=(4.6, 3.3), layout="constrained")
        axes = figure.subplots()
        for measure, (colour, marker, dash) in _MEASURES.items():
            own = [point for point in points if point.measure == measure]
            _draw_line(axes, own, [places[point.value] for point in own], colour, marker, dash, measure)
        axes.set_xticks([places[value] for value in values], values)
        axes.set_xlabel(name)
        axes.set_ylabel("percent")
        axes.grid(True, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.margins(x=0.08)
        handles, labels = axes.get_legend_handles_labels()
        if any(point.own for point in points):
            handles.append(Line2D([], [], linestyle="", marker="o", markersize=9, color=INK, fillstyle="none"))
            labels.append("the method's own value")
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def parts_figure(points: Sequence[ValuePoint]) -> Figure:
    """Rank-1 and mAP of each part of a method, from top to bottom; bars and dots as in `value_figure`."""
    names = list(dict.fromkeys(point.value for point in points))
    with style():
        figure = Figure(figsize=(5.6, 0.42 * len(names) + 1.2), layout="constrained")
        axes = figure.subplots()
        for shift, (measure, (colour, marker, _)) in zip((-0.14, 0.14), _MEASURES.items(), strict=True):
            for point in (point for point in points if point.measure == measure):
                y = names.index(point.value) + shift
                axes.plot(point.by_seed, [y] * len(point.by_seed), ".", color=colour, alpha=0.5, markersize=5)
                axes.errorbar(
                    point.reached.mean, y, xerr=point.reached.std, color=colour, marker=marker, capsize=2, markersize=5
                )
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel("percent")
        axes.grid(True, axis="x", linewidth=0.6)
        axes.set_axisbelow(True)
        handles = [
            Line2D([], [], linestyle="", color=colour, marker=marker, markersize=5, label=measure)
            for measure, (colour, marker, _) in _MEASURES.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def value_places(values: Sequence[str]) -> dict[str, float]:
    """Where values stand on an axis: at their own place if they are evenly spaced numbers, else at 0, 1, 2 …"""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    steps = [after - before for before, after in pairwise(numbers)]
    if len(steps) > 1 and all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps) and steps[0] > 0:
        return dict(zip(values, numbers, strict=True))
    return {value: float(place) for place, value in enumerate(values)}


def _draw_line(
    axes: Axes,
    points: Sequence[ValuePoint],
    places: Sequence[float],
    colour: str,
    marker: str,
    dash: str,
    label: str,
) -> None:
    means = [point.reached.mean for point in points]
    reach = [math.nan if point.reached.std is None else point.reached.std for point in points]
    axes.errorbar(
        places, means, yerr=reach, color=colour, marker=marker, linestyle=dash, capsize=2, elinewidth=0.9, label=label
    )
    for place, point in zip(places, points, strict=True):
        if len(point.by_seed) > 1:
            axes.plot([place] * len(point.by_seed), point.by_seed, ".", color=colour, alpha=0.5, markersize=5)
        if point.own:
            axes.plot(
                [place], [point.reached.mean], "o", color=INK, markersize=9, fillstyle="none", markeredgewidth=0.9
            )


def _mark_stage_two(axes: Axes, boundary: float) -> None:
    axes.axvline(boundary, color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        "stage II →",
        (boundary, 0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(3, 4),
        textcoords="offset points",
        fontsize=8,
        color=GREY,
    )
