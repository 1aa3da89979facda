"""Maps of embeddings: of some test people before and after training, and of the training images.

The latter is a still picture, and one to hover and zoom where scripts run.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pclhd.report.album import Album
from pclhd.report.figures import BLUE, VERMILLION, style
from pclhd.report.figures.maps import maps_figure, separation_text
from pclhd.report.inline_svg import inline_svg
from pclhd.report.sections.parts import ReportedRun, Values, chart
from pclhd.runs.survey import Survey

_WIDTH, _HEIGHT, _ACROSS = 32, 64, 40
_LOOKS = {"visible": (BLUE, "o", 10), "infrared": (VERMILLION, "*", 26)}


def embedding_map(run: ReportedRun) -> Values | None:
    """The map, and the data of its interactive form; None without a survey."""
    album, survey = run.album, run.survey
    if album is None or survey is None or album.places is None or len(survey.map_rows) < 4:
        return None
    library = plotly_script()
    still = inline_svg(
        _still(album, survey),
        "map",
        f"Map of {len(survey.map_rows):,} embeddings; images that the model finds similar are near each other.",
    )
    return {
        "still": still,
        "images": len(survey.map_rows),
        "of": len(album.pictures),
        "library": library,
        "points": None if library is None else _points(album, survey),
        "sprite": None if library is None else album.map_sprite(width=_WIDTH, height=_HEIGHT, across=_ACROSS),
        "people": all(picture.identity is not None for picture in album.pictures),
    }


def stages(run: ReportedRun) -> Values | None:
    """Maps of the same test people by the start and the final weights; None where they cannot be made."""
    if run.album is None or run.album.stages is None:
        return None
    maps = run.album.stages
    if isinstance(maps, str):
        return {"problem": maps, "charts": [], "caption": ""}
    people = [f"identity {owner}" for owner in maps.people]
    charts = [
        chart(
            maps_figure([panel], people, maps.modality),
            f"stage{number}",
            f"Map of some people by the {panel.title}; {separation_text(panel.separation)}.",
            f"With the {panel.title}.",
        )
        for number, panel in enumerate(maps.panels)
    ]
    return {"problem": None, "charts": charts, "caption": maps.caption}


def plotly_script() -> Markup | None:
    """The plotting library as text for a `<script>` element; None if it is not installed."""
    found = find_spec("plotly")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "package_data" / "plotly.min.js"
    if not path.is_file():
        return None
    # The element would end at the first of these, also within a string.
    return Markup(re.sub(r"</(script)", r"<\\/\1", path.read_text("utf-8"), flags=re.IGNORECASE))


def _still(album: Album, survey: Survey) -> Figure:
    places = album.places
    assert places is not None
    kinds = [album.pictures[row].modality for row in survey.map_rows.tolist()]
    with style():
        figure = Figure(figsize=(5.6, 4.6), layout="constrained")
        axes = figure.subplots()
        handles = []
        for modality, (colour, marker, size) in _LOOKS.items():
            rows = [place for place, kind in enumerate(kinds) if kind == modality]
            axes.scatter(
                places[rows, 0], places[rows, 1], s=size, marker=marker, color=colour, linewidths=0, alpha=0.75
            )
            handles.append(Line2D([], [], linestyle="", marker=marker, color=colour, label=modality))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("t-SNE 1 (no unit)")
        axes.set_ylabel("t-SNE 2 (no unit)")
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def _points(album: Album, survey: Survey) -> Values:
    """Columns for the script; the template writes them as JSON."""
    places = album.places
    assert places is not None
    rows = survey.map_rows.tolist()
    pictures = [album.pictures[row] for row in rows]
    visible = len(survey.visible)
    clusters = [int(survey.visible[row] if row < visible else survey.infrared[row - visible]) for row in rows]
    return {
        "x": [round(float(x), 2) for x in places[:, 0]],
        "y": [round(float(y), 2) for y in places[:, 1]],
        "infrared": [int(picture.modality == "infrared") for picture in pictures],
        "cluster": clusters,
        "person": [None if picture.identity is None else str(picture.identity) for picture in pictures],
        "camera": [None if picture.camera is None else str(picture.camera) for picture in pictures],
        "name": [picture.path for picture in pictures],
        "partner": survey.visible_partners.tolist(),
        "cell": [_WIDTH, _HEIGHT, _ACROSS],
    }
