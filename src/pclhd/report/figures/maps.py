"""Maps of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pclhd.report.figures.style import INK, PALETTE, style

# The t-SNE figure shows ten people; colours beyond the palette differ in lightness.
_PEOPLE = (*PALETTE, "#6e1423", "#322a7d", "#a3bf2f")


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
