"""How similar pairs of images are: of one person, and of two people."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from pclhd.report.figures import BLUE, VERMILLION, style
from pclhd.report.tables import weights_name
from pclhd.runs.records import PairSimilarities


def similarity_figure(measured: Mapping[str, PairSimilarities]) -> Figure | None:
    """Two curves for each set of weights, one panel each; None if there are no pairs.

    Args:
        measured: Numbers of pairs in equal bins of the cosine from −1 to 1, by weights.
    """
    shown = {name: pairs for name, pairs in measured.items() if sum(pairs.same) and sum(pairs.different)}
    if not shown:
        return None
    totals = [np.array(part) for pairs in shown.values() for part in (pairs.same, pairs.different)]
    used = np.flatnonzero(np.sum([part / part.sum() > 0.0005 for part in totals], axis=0))
    edges = np.linspace(-1, 1, len(totals[0]) + 1)
    with style():
        figure = Figure(figsize=(4.6, 2.1 * len(shown) + 0.5), layout="constrained")
        panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (name, pairs) in zip(panels, shown.items(), strict=True):
            for part, label, colour, dash, hatch in (
                (pairs.different, "two people", VERMILLION, "--", None),
                (pairs.same, "one person", BLUE, "-", "////"),
            ):
                density = np.array(part) / sum(part) / (edges[1] - edges[0])
                axes.stairs(density, edges, color=colour, linestyle=dash, label=label)
                axes.stairs(density, edges, fill=True, color=colour, alpha=0.2, hatch=hatch, linewidth=0)
            axes.set_title(weights_name(name), loc="left")
            axes.set_yticks([])
            axes.set_xlim(edges[used[0]] - 0.02, edges[used[-1] + 1] + 0.02)
        panels[-1].set_xlabel("similarity (cosine) of a visible and an infrared image")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def overlap(pairs: PairSimilarities) -> float | None:
    """The share of comparisons in which the pair of one person is more similar; ties in a bin count half.

    It is the area under the ROC curve, as far as bins can tell; 0.5 is chance. None if there are no pairs to compare.
    """
    same, different = np.array(pairs.same, dtype=np.float64), np.array(pairs.different, dtype=np.float64)
    if not same.sum() or not different.sum():
        return None
    below = np.cumsum(different) - different
    return float((same * (below + different / 2)).sum() / (same.sum() * different.sum()))
