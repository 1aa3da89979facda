"""A comparison of runs as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pclhd import __version__
from pclhd.files import claiming, replacing
from pclhd.report.compare.comparison import RunComparison
from pclhd.report.compare.text import comparison_tables
from pclhd.report.figures import BLUE, GREY, MARKERS, PALETTE, style
from pclhd.report.inline_svg import inline_svg
from pclhd.report.methods import MethodsOfData, methods_of_groups
from pclhd.report.page import templates
from pclhd.report.paper import agreement_points, ari_drawing
from pclhd.report.sections.parts import Chart, chart
from pclhd.report.tables import percent, weights_name

# Weights and measure of the figure.
_SHOWN = ("final", "rank1")


def write_comparison(compared: RunComparison, out: Path, *, force: bool = False) -> None:
    """Write the page.

    Args:
        compared: The comparison.
        out: The file.
        force: Whether to replace it if it exists.

    Raises:
        UserError: The file exists, or cannot be written.
    """
    with claiming(out, replace=force), replacing(out, replace=force) as file:
        file.write(comparison_html(compared).encode())


def comparison_html(compared: RunComparison) -> str:
    """The whole page."""
    figure = comparison_figure(compared)
    tables = comparison_tables(compared)
    first = [title for title in tables if title.startswith("Results")]
    folded = [title for title in tables if title not in first]
    drawn = None
    if figure is not None:
        drawn = inline_svg(figure, "rank1", f"Rank-1 of the final weights. {_words(compared)}")
    return (
        templates()
        .get_template("comparison.html.j2")
        .render(
            version=__version__,
            names=[group.name for group in compared.groups],
            runs=len(compared.runs),
            warnings=compared.warnings,
            notes=compared.notes,
            figure=drawn,
            curves=_curves(compared),
            first={title: tables[title] for title in first},
            folded={title: tables[title] for title in folded},
        )
    )


def _curves(compared: RunComparison) -> list[Chart]:
    """The ARI over the epochs, a figure for each data set; the colours are those of the first figure."""
    names = [group.name for group in compared.groups]
    found: list[Chart] = []
    for number, of_data in enumerate(methods_of_groups(compared.groups, by_name=True), start=1):
        drawing = ari_drawing(of_data, f"ari{number}", colours_of=names)
        if drawing is not None:
            found += filter(None, [chart(drawing.figure, drawing.name, _last_words(of_data), drawing.caption)])
    return found


def _last_words(of_data: MethodsOfData) -> str:
    """The end of each curve, for those who do not see it."""
    ends = {
        (point.method, point.modality): point.ari.mean
        for method in of_data.methods
        for point in agreement_points(method)
    }
    words = [f"{method}, {modality}: {value:.2f}" for (method, modality), value in ends.items()]
    return f"Adjusted Rand index over the epochs. Last epoch: {'; '.join(words)}."


def comparison_figure(compared: RunComparison) -> Figure | None:
    """Rank-1 of the final weights: a row per group in each search, a mark per training, a line at the mean."""
    searches = [search for search, weights, measure in compared.result_keys() if (weights, measure) == _SHOWN]
    if not searches:
        return None
    with style():
        height = 0.32 * len(compared.groups) + 0.55
        figure = Figure(figsize=(5.6, height * len(searches) + 0.5), layout="constrained")
        panels = figure.subplots(len(searches), 1, squeeze=False, sharex=True)[:, 0]
        for axes, search in zip(panels, searches, strict=True):
            for row, group in enumerate(compared.groups):
                values = [100 * value for value in group.by_seed((search, *_SHOWN)).values()]
                look = {"color": PALETTE[row % len(PALETTE)], "marker": MARKERS[row % len(MARKERS)]}
                axes.plot(values, [row] * len(values), linestyle="", markersize=6, alpha=0.8, **look)
                if len(values) > 1:
                    axes.vlines(sum(values) / len(values), row - 0.3, row + 0.3, color=look["color"])
            axes.set_yticks(range(len(compared.groups)), [group.name for group in compared.groups])
            axes.set_ylim(len(compared.groups) - 0.5, -0.5)
            axes.set_title(search, loc="left")
            axes.grid(True, axis="x", linewidth=0.6)
            axes.set_axisbelow(True)
        panels[-1].set_xlabel("rank-1 of the final weights (%)")
        if compared.grouped:
            mark = Line2D([], [], linestyle="", marker="o", color=GREY, label="one training")
            line = Line2D([], [], linestyle="", marker="|", markersize=10, color=BLUE, label="mean")
            figure.legend(handles=[mark, line], loc="outside upper left", ncols=2)
    return figure


def _words(compared: RunComparison) -> str:
    parts = []
    for search, weights, measure in compared.result_keys():
        if (weights, measure) == _SHOWN:
            for group in compared.groups:
                values = list(group.by_seed((search, weights, measure)).values())
                if values:
                    mean = percent(sum(values) / len(values))
                    parts.append(f"{search}, {group.name}, {weights_name(weights)}: {mean} %")
    return "; ".join(parts) + "."
