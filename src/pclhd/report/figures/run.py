"""Curves of one run over its epochs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import isfinite, nan
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pclhd.report.figures.style import AMBER, BLUE, DASHES, GREEN, GREY, INK, MARKERS, PALETTE, STREAMS, Line, style
from pclhd.runs.records import ClusterRecord, EpochRecord


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
            *STREAMS[stream],
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
        for stream, (colour, marker) in STREAMS.items()
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
    for stream, (colour, marker) in STREAMS.items():
        summaries: list[ClusterRecord | None] = [getattr(epoch, stream) for epoch in epochs]
        values = [nan if summary is None else measure(summary) for summary in summaries]
        lines.append(Line(stream, values, colour, marker))
    return lines


def _number(value: float | None) -> float:
    return nan if value is None else value


def _percent(share: float | None) -> float:
    return nan if share is None else 100 * share
