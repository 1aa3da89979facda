"""The figure of an evaluation: cumulative matching characteristics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pclhd.report.figures.style import AMBER, BLUE, GREY, PALETTE, style
from pclhd.report.tables import order_weights, weights_name
from pclhd.runs.records import Results, parse_results

_WEIGHTS: dict[str, tuple[str, str]] = {"start": (GREY, "o"), "stage1": (AMBER, "s"), "final": (BLUE, "^")}


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
