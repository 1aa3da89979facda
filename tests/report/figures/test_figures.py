from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex

from pclhd.data.records import Modality
from pclhd.report import figures
from pclhd.report.inline_svg import inline_svg
from pclhd.runs.records import EpochRecord, read_epochs
from tests.report.fixtures import make_metrics, make_results


def _epochs(tmp_path: Path, lines: list[dict[str, Any]] | None = None) -> list[EpochRecord]:
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in (make_metrics() if lines is None else lines)))
    return read_epochs(path)


def test_cmc_has_a_panel_per_search_and_a_curve_per_weights() -> None:
    results = make_results(searches=("a", "b", "c"))
    figure = figures.cmc_figure(results)
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b", "c", ""]
    first = figure.axes[0].get_lines()
    assert [line.get_label() for line in first] == ["start", "stage1", "final"]
    np.testing.assert_allclose(np.asarray(first[0].get_ydata())[0], 26.0)
    np.testing.assert_array_equal(first[0].get_xdata(), np.arange(1, 21))
    assert not figure.axes[3].axison
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["start", "stage I", "final"]


def test_cmc_without_curves_is_none() -> None:
    results = make_results()
    for row in results["rows"]:
        del row["cmc"]
    assert figures.cmc_figure(results) is None


def test_curves_show_the_logged_numbers(tmp_path: Path) -> None:
    epochs = _epochs(tmp_path)
    noise = figures.noise_figure(epochs)
    assert noise is not None
    visible, infrared, joint, *_ = noise.axes[0].get_lines()
    logged = np.array([100 * epoch.visible.noise for epoch in epochs if epoch.visible])
    np.testing.assert_allclose(np.asarray(visible.get_ydata(), dtype=float), logged)
    assert len(np.asarray(infrared.get_ydata())) == 12
    assert np.isnan(np.asarray(joint.get_ydata(), dtype=float)[:4]).all()
    assert noise.axes[0].get_ylim()[0] == 0
    assert any("stage 2" in text.get_text() for text in noise.axes[0].texts)


def test_every_curve_figure_has_units(tmp_path: Path) -> None:
    epochs = _epochs(tmp_path)
    drawn = [
        figures.loss_figure(epochs),
        figures.cluster_count_figure(epochs),
        figures.cluster_size_figure(epochs),
        figures.noise_figure(epochs),
        figures.matched_figure(epochs),
        figures.agreement_figure(epochs, "ari"),
        figures.agreement_figure(epochs, "nmi"),
        figures.speed_figure(epochs),
        figures.seconds_figure(epochs),
    ]
    for figure in drawn:
        assert figure is not None
        assert figure.axes[0].get_xlabel() == "epoch"
        assert figure.axes[0].get_ylabel()
        assert figure.axes[0].get_legend() is None


def test_nothing_logged_nothing_drawn(tmp_path: Path) -> None:
    bare = [{"kind": "epoch", "stage": 1, "epoch": 1, "loss": {"total": float("nan")}}]
    for epochs in ([], _epochs(tmp_path, bare)):
        assert figures.loss_figure(epochs) is None
        assert figures.cluster_count_figure(epochs) is None
        assert figures.matched_figure(epochs) is None
        assert figures.agreement_figure(epochs, "ari") is None
        assert figures.speed_figure(epochs) is None


def test_epoch_numbers_that_restart_continue_the_axis(tmp_path: Path) -> None:
    lines = make_metrics(2, 0)
    again = [{**line, "stage": 2} for line in lines]
    assert figures.epoch_places(_epochs(tmp_path, lines + again)) == [1, 2, 3, 4]
    assert figures.epoch_places(_epochs(tmp_path, lines[2:])) == [2]
    assert figures.epoch_places([]) == []


def test_negative_agreement_is_not_cut_off(tmp_path: Path) -> None:
    lines = make_metrics(1, 0)
    lines[1]["labels"] = {"ari_visible": -0.2}
    figure = figures.agreement_figure(_epochs(tmp_path, lines), "ari")
    assert figure is not None
    assert figure.axes[0].get_ylim()[0] < -0.2


def test_figures_leave_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figure = figures.loss_figure(_epochs(tmp_path))
    assert figure is not None
    figures.to_svg(figure)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", ["$x_{", "<script>alert(1)</script>", "\\frac", "a&b"])
def test_hostile_names_are_text(tmp_path: Path, name: str) -> None:
    lines = make_metrics(2, 0)
    for line in lines:
        line["loss"][name] = 1.0
    figure = figures.loss_figure(_epochs(tmp_path, lines))
    assert figure is not None
    assert "<script>" not in inline_svg(figure, "loss", name)


def test_svg_is_deterministic_and_fit_for_a_page(tmp_path: Path) -> None:
    drawn = []
    for _ in range(2):
        figure = figures.cluster_count_figure(_epochs(tmp_path))
        assert figure is not None
        drawn.append(inline_svg(figure, "count", "what & where"))
    assert drawn[0] == drawn[1]
    svg = drawn[0]
    assert "http" not in svg
    assert "metadata" not in svg
    assert "xlink" not in svg
    assert 'aria-label="what &amp; where"' in svg
    assert ' id="count-' in svg
    assert 'href="#count-' in svg
    assert "url(#count-" in svg
    assert figures.INK not in svg
    assert figures.BLUE not in svg
    assert ">clusters</text>" in svg


def test_tsne_has_circles_and_stars_in_one_colour_per_identity() -> None:
    points = np.arange(12, dtype=np.float64).reshape(6, 2)
    people = [5, 5, 5, 9, 9, 9]
    kinds = [Modality.VISIBLE, Modality.INFRARED, Modality.VISIBLE, Modality.INFRARED] + [Modality.VISIBLE] * 2
    figure = figures.tsne_figure(points, people, kinds)
    drawn = figure.axes[0].collections
    assert [collection.get_label() for collection in drawn] == ["visible", "infrared", "visible", "infrared"]
    colours = [to_hex(np.asarray(collection.get_facecolor())[0]) for collection in drawn]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    np.testing.assert_array_equal(np.asarray(drawn[0].get_offsets()), points[[0, 2]])
    # A circle's path has curves; a five-pointed star has ten corners and its closing point.
    assert np.asarray(drawn[1].get_paths()[0].vertices).shape == (11, 2)
    assert figures.to_svg(figure) == figures.to_svg(figures.tsne_figure(points, people, kinds))


def test_tsne_of_many_and_of_none() -> None:
    many = figures.tsne_figure(np.zeros((30, 2)), list(range(30)), ["infrared"] * 30)
    colours = {to_hex(np.asarray(collection.get_facecolor())[0]) for collection in many.axes[0].collections}
    assert len(colours) == 30
    assert len(many.legends[0].get_texts()) == 2
    none = figures.tsne_figure(np.zeros((0, 2)), [], [])
    assert len(none.axes[0].collections) == 0


@pytest.mark.parametrize(
    ("shape", "people", "kinds", "message"),
    [
        ((2, 3), 2, ["visible"] * 2, r"\(N, 2\)"),
        ((2, 2), 1, ["visible"] * 2, "1 identities"),
        ((2, 2), 2, ["visible"], "1 modalities"),
        ((1, 2), 1, ["thermal"], "thermal"),
    ],
)
def test_tsne_refuses_what_does_not_fit(shape: tuple[int, int], people: int, kinds: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figures.tsne_figure(np.zeros(shape), [0] * people, kinds)
