"""Maps of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pclhd.report.figures.style import GRID, INK, style

# Ten people: Paul Tol's colour-blind-safe "muted" scheme, its palest colours darkened for a white background.
_PEOPLE = (
    *("#332288", "#d55e00", "#44aa99", "#cc6677", "#117733"),
    *("#58b2de", "#882255", "#b59a1e", "#6b717a", "#aa4499"),
)
_MOST_NAMED = 20


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
    owner = np.searchsorted(identities_shown, people)
    names = [f"identity {person}" for person in identities_shown]
    colours = _colours(len(names))
    with style():
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        axes = figure.subplots()
        _scatter(axes, points, owner, kinds, colours)
        axes.set_xlabel("t-SNE 1 (no unit)")
        axes.set_ylabel("t-SNE 2 (no unit)")
        figure.legend(handles=_legend(names, colours), loc="outside right upper")
    return figure


@dataclass(frozen=True)
class Separation:
    """How far an embedding separates people, over pairs of a visible and an infrared image (ours).

    Attributes:
        same: Mean cosine similarity of pairs of one person; None if there are none.
        different: The same for two people.
        right: Share of all comparisons of a pair of one person with a pair of two in which the former is more similar,
            ties counting half; 0.5 is chance.
    """

    same: float | None
    different: float | None
    right: float | None


@dataclass(frozen=True)
class MapPanel:
    """The map of one model.

    Attributes:
        title: Of the panel.
        points: (N, 2) positions, without a unit.
        separation: Measured on the embeddings themselves, not on the map.
    """

    title: str
    points: NDArray[np.floating[Any]]
    separation: Separation


@dataclass(frozen=True)
class PeopleMaps:
    """Maps of the same images of some people by several models.

    Attributes:
        panels: One per model.
        people: The name of the person in each image.
        modality: ``visible`` or ``infrared`` for each image.
        paths: The name of each image.
        caption: What the maps show, in a few sentences.
    """

    panels: tuple[MapPanel, ...]
    people: tuple[str, ...]
    modality: tuple[str, ...]
    paths: tuple[str, ...]
    caption: str


def maps_figure(
    panels: Sequence[MapPanel], people: Sequence[str], modality: Sequence[str], *, across: int = 3
) -> Figure:
    """Maps of the same images by several models, side by side, each with its separation (paper, t-SNE figure).

    Args:
        panels: One per model.
        people: The name of the person in each image.
        modality: ``visible`` or ``infrared`` for each image.
        across: Panels in a row at most.

    Raises:
        ValueError: There is no panel, or lengths differ.
    """
    if not panels:
        raise ValueError("no panel to draw")
    names = list(dict.fromkeys(people))
    colours = _colours(len(names))
    owner, kinds = np.asarray([names.index(name) for name in people]), np.asarray(modality)
    columns = min(across, len(panels))
    rows = -(-len(panels) // columns)
    with style():
        figure = Figure(figsize=(3.5 * columns + 1.1, 3.7 * rows), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, panel in zip(places, panels, strict=False):
            if not len(panel.points) == len(people) == len(modality):
                raise ValueError(f"{len(panel.points)} points, {len(people)} people and {len(modality)} modalities")
            _scatter(axes, panel.points, owner, kinds, colours)
            axes.set_title(panel.title, loc="left")
            axes.set_xlabel(separation_text(panel.separation), fontsize=8)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        figure.legend(handles=_legend(names, colours), loc="outside right upper")
    return figure


def separation_text(separation: Separation) -> str:
    """The separation in two lines, for under a map."""
    same, different = map(_similarity, (separation.same, separation.different))
    share = "–" if separation.right is None else f"{100 * separation.right:.0f} %"
    return f"similarity across modalities: same person {same},\ndifferent people {different}; rightly ordered {share}"


def _similarity(value: float | None) -> str:
    # Plus 0.0, so that no rounded value is a negative zero.
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _colours(number: int) -> list[Any]:
    """Colours of people. Beyond the palette, hues at steps of the golden ratio, so that consecutive ones differ."""
    beyond = [mpl.colormaps["hsv"]((0.618034 * k) % 1) for k in range(number - len(_PEOPLE))]
    return [*_PEOPLE[:number], *beyond]


def _scatter(
    axes: Axes, points: NDArray[np.floating[Any]], owner: NDArray[Any], kinds: NDArray[Any], colours: Sequence[Any]
) -> None:
    """Circles of visible and stars of infrared images, in the colour of their person."""
    for person, colour in enumerate(colours):
        for kind, marker, size in (("visible", "o", 22), ("infrared", "*", 52)):
            rows = (owner == person) & (kinds == kind)
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
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=GRID)


def _legend(names: Sequence[str], colours: Sequence[Any]) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=INK, markersize=size, label=kind)
        for kind, marker, size in (("visible", "o", 5), ("infrared", "*", 8))
    ]
    if len(names) <= _MOST_NAMED:
        handles += [
            Line2D([], [], linestyle="", marker="s", color=colour, markersize=6, label=name)
            for name, colour in zip(names, colours, strict=True)
        ]
    return handles
