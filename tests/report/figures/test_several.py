from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pclhd.report.figures.several import (
    AgreementPoint,
    Spread,
    ValuePoint,
    ari_figure,
    parts_figure,
    value_figure,
    value_places,
)
from pclhd.report.figures.style import to_svg


def agreement(method: str, modality: str, *values: tuple[float, float | None]) -> list[AgreementPoint]:
    return [
        AgreementPoint(method, modality, epoch, Spread(mean, std, 1 if std is None else 3))
        for epoch, (mean, std) in enumerate(values, start=1)
    ]


def test_ari_has_a_panel_per_modality_and_a_line_per_method() -> None:
    points = [
        *agreement("one", "visible", (0.2, 0.1), (0.4, 0.1)),
        *agreement("two", "visible", (0.3, None), (0.5, None)),
        *agreement("one", "infrared", (0.1, None), (0.2, None)),
    ]
    figure = ari_figure(points, boundary=1.5)
    visible, infrared = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["visible clusters", "infrared clusters"]
    one, two, stage = visible.get_lines()
    np.testing.assert_array_equal(one.get_xydata(), [[1, 0.2], [2, 0.4]])
    np.testing.assert_array_equal(two.get_xydata(), [[1, 0.3], [2, 0.5]])
    assert (one.get_linestyle(), one.get_marker()) != (two.get_linestyle(), two.get_marker())
    assert stage.get_xdata() == [1.5, 1.5]
    assert len(np.asarray(infrared.get_lines()[0].get_xydata())) == 2
    # The band of the first method lies a standard deviation to either side.
    heights = np.asarray(visible.collections[0].get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == (pytest.approx(0.1), pytest.approx(0.5))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_negative_agreement_is_not_cut() -> None:
    figure = ari_figure(agreement("one", "visible", (-0.2, None), (0.1, None)))
    assert figure.axes[0].get_ylim()[0] < -0.2


def points(measure: str, *means: float, values: tuple[str, ...] = ("0", "0.5", "1")) -> list[ValuePoint]:
    return [
        ValuePoint(value, measure, Spread(mean, 2.0, 2), (mean - 1, mean + 1), own=value == "0.5")
        for value, mean in zip(values, means, strict=True)
    ]


def test_a_curve_shows_means_deviations_seeds_and_the_own_value() -> None:
    figure = value_figure([*points("rank-1", 50, 60, 55), *points("mAP", 40, 45, 42)], "λ")
    axes = figure.axes[0]
    assert len(axes.containers) == 2
    drawn: Any = axes.containers[0]
    np.testing.assert_array_equal(drawn.lines[0].get_xydata(), [[0, 50], [0.5, 60], [1, 55]])
    bars = drawn.lines[2][0].get_segments()
    np.testing.assert_array_equal(bars[1], [[0.5, 58], [0.5, 62]])
    rings = [line for line in axes.get_lines() if line.get_fillstyle() == "none" and line.get_markersize() == 9]
    assert [tuple(np.asarray(line.get_xydata())[0]) for line in rings] == [(0.5, 60), (0.5, 45)]
    dots = [line for line in axes.get_lines() if line.get_marker() == "."]
    np.testing.assert_array_equal(dots[0].get_ydata(), [49, 51])
    assert axes.get_xlabel() == "λ"


def test_values_stand_at_their_place_only_if_evenly_spaced() -> None:
    assert value_places(["0", "0.25", "0.5"]) == {"0": 0, "0.25": 0.25, "0.5": 0.5}
    assert value_places(["1", "2", "4", "8"]) == {"1": 0, "2": 1, "4": 2, "8": 3}
    assert value_places(["own", "auto"]) == {"own": 0, "auto": 1}
    assert value_places(["3"]) == {"3": 0}
    assert value_places(["2", "1", "0"]) == {"2": 0, "1": 1, "0": 2}


def test_one_value_and_one_seed_can_be_drawn() -> None:
    lonely = [ValuePoint("1", name, Spread(50, None, 1), (50,)) for name in ("rank-1", "mAP")]
    for figure in (value_figure(lonely, "k"), parts_figure(lonely), ari_figure(agreement("a", "visible", (0.5, None)))):
        assert to_svg(figure).startswith("<?xml")


def test_parts_are_from_top_to_bottom() -> None:
    names = ("the floor", "+ hard", "+ both")
    figure = parts_figure([*points("rank-1", 1, 2, 3, values=names), *points("mAP", 1, 2, 3, values=names)])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(names)
    assert axes.yaxis_inverted()
    containers: list[Any] = axes.containers
    assert [one.lines[0].get_xdata()[0] for one in containers] == [1, 2, 3, 1, 2, 3]
