from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.markers import MarkerStyle

from pclhd.data.records import NOBODY, Dataset, ImageRecord, LabelledImages, Modality, Names
from pclhd.errors import UserError
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import load_model, save_model
from pclhd.report.figures.maps import MapPanel, Separation, maps_figure, separation_text
from pclhd.workflows.maps import Model, draw_images, map_drawing, people_in_both, project, separation_of
from tests.engine.runs import SmallData

V, N = Modality.VISIBLE, Modality.INFRARED


def labelled(*people: tuple[int, Modality, int], roles: tuple[str, ...] | None = None) -> LabelledImages:
    """Images of (person, modality, how many)."""
    records: list[ImageRecord] = []
    owners: list[int] = []
    for person, kind, count in people:
        for _ in range(count):
            records.append(ImageRecord(Path(f"{len(records)}.png"), kind))
            owners.append(person)
    return LabelledImages(tuple(records), tuple(owners), roles)


def test_only_people_in_both_modalities_are_drawn() -> None:
    test = labelled((3, V, 2), (3, N, 2), (5, V, 4), (1, N, 4), (9, V, 30), (9, N, 1))
    assert list(people_in_both(test)) == [3, 9]
    rows = draw_images(test, 10, 0)
    owners = [test.identities[row] for row in rows]
    assert owners == [3] * 4 + [9] * 21  # at most twenty of each person and modality
    assert rows[:4] == [0, 1, 2, 3]
    assert draw_images(test, 10, 0) == rows
    assert draw_images(test, 10, 1) != rows


def test_the_draw_depends_on_the_seed_and_not_on_other_draws() -> None:
    test = labelled(*((person, kind, 3) for person in range(30) for kind in (V, N)))
    drawn = {seed: {test.identities[row] for row in draw_images(test, 10, seed)} for seed in (0, 1)}
    assert len(drawn[0]) == len(drawn[1]) == 10
    assert drawn[0] != drawn[1]


def test_unknown_people_are_not_drawn() -> None:
    roles = ("test",) * 6 + ("unknown",) * 4
    test = labelled((3, V, 3), (3, N, 3), (NOBODY, V, 2), (NOBODY, N, 2), roles=roles)
    assert draw_images(test, 5, 0) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("people", "said"),
    [
        (((3, V, 9),), "no person of the test images is in both modalities"),
        (((3, V, 9), (4, N, 9)), "no person of the test images is in both modalities"),
        ((), "no person of the test images is in both modalities"),
        (((3, V, 2), (3, N, 2)), "only 4 test images"),
    ],
)
def test_too_few_people_are_refused(people: tuple[tuple[int, Modality, int], ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        draw_images(labelled(*people), 10, 0)


def slow_separation(rows: np.ndarray, owners: list[str], kinds: list[str]) -> Separation:
    """The definition, pair by pair."""
    same: list[float] = []
    different: list[float] = []
    for one, visible in enumerate(kinds):
        for other, infrared in enumerate(kinds):
            if (visible, infrared) == ("visible", "infrared"):
                (same if owners[one] == owners[other] else different).append(float(rows[one] @ rows[other]))
    wins = [1.0 if near > far else 0.5 if near == far else 0.0 for near in same for far in different]
    return Separation(
        sum(same) / len(same) if same else None,
        sum(different) / len(different) if different else None,
        sum(wins) / len(wins) if wins else None,
    )


@pytest.mark.parametrize("seed", range(3))
def test_separation_is_that_of_its_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(24, 4)).round(1).astype(np.float32)  # rounded, so that there are ties
    owners = [str(number) for number in random.integers(0, 4, 24)]
    kinds = ["visible" if number else "infrared" for number in random.integers(0, 2, 24)]
    found, slow = separation_of(rows, owners, kinds), slow_separation(rows, owners, kinds)
    assert found.same == pytest.approx(slow.same, abs=1e-6)
    assert found.different == pytest.approx(slow.different, abs=1e-6)
    assert found.right == pytest.approx(slow.right, abs=2e-3)  # ties of rounded sums


def test_separation_of_one_person_and_of_one_modality() -> None:
    rows = np.eye(3, dtype=np.float32)
    alone = separation_of(rows, ["a"] * 3, ["visible", "infrared", "infrared"])
    assert alone == Separation(0.0, None, None)
    assert separation_of(rows, ["a", "b", "c"], ["visible"] * 3) == Separation(None, None, None)
    assert "same person 0.00" in separation_text(alone)
    assert "different people –; rightly ordered –" in separation_text(alone)
    assert "−0.10" in separation_text(Separation(-0.1, -0.001, 0.5))
    assert "people 0.00;" in separation_text(Separation(-0.1, -0.001, 0.5))


def test_people_far_apart_stay_so_on_the_plane() -> None:
    random = np.random.default_rng(0)
    owners = np.repeat(np.arange(3), 10)
    rows = (10 * np.eye(3)[owners] + random.normal(0, 0.1, (30, 3))).astype(np.float32)
    points = project(rows, 0)
    assert points.shape == (30, 2)
    np.testing.assert_array_equal(points, project(rows, 0))
    centres = np.stack([points[owners == one].mean(axis=0) for one in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, owners)
    assert project(rows[:5], 0).shape == (5, 2)


def test_a_map_has_circles_and_stars_in_the_colour_of_their_person() -> None:
    points = np.arange(8.0).reshape(4, 2)
    panels = [MapPanel(name, points, Separation(0.5, 0.1, 0.9)) for name in ("one", "two", "three", "four")]
    figure = maps_figure(panels, ["p", "q", "p", "q"], ["visible", "visible", "infrared", "infrared"])
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == ["one", "two", "three", "four"]
    marks = shown[0].collections
    assert [mark.get_label() for mark in marks] == ["visible", "infrared"] * 2
    np.testing.assert_array_equal(np.concatenate([mark.get_offsets() for mark in marks]), points[[0, 2, 1, 3]])
    for mark, kind in zip(marks[:2], "o*", strict=True):
        shape = MarkerStyle(kind).get_path()
        assert len(np.asarray(mark.get_paths()[0].vertices)) == len(np.asarray(shape.vertices))
    colours = [tuple(np.asarray(mark.get_facecolor())[0, :3]) for mark in marks]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["visible", "infrared", "p", "q"]
    with pytest.raises(ValueError, match="no panel"):
        maps_figure([], [], [])
    with pytest.raises(ValueError, match="4 points, 1 people"):
        maps_figure(panels, ["p"], ["visible"])


def test_the_file_of_a_map_has_what_is_drawn(small: SmallData, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    save_model(model, load_model(small.start), preprocessing=Preprocessing(48, 24))
    images = small.training_set.images
    people = tuple(int(image.path.name.partition("-")[0]) for image in images)
    names = Names(tuple(f"number {number}" for number in range(6)))
    test = LabelledImages(images, people, names=names)
    dataset = Dataset("own", images[0].path.parent, small.training_set, None, test)
    seen: list[tuple[int, int]] = []
    models = [Model("one", model), Model("two", model)]
    drawing, table = map_drawing(
        "map", models, dataset, "some people", people=3, on_progress=lambda done, total: seen.append((done, total))
    )
    assert list(drawing.columns) == ["model", "path", "identity", "modality", "x", "y"]
    assert len(drawing.rows) == 2 * 3 * 12
    assert {row[2] for row in drawing.rows} <= {f"number {number}" for number in range(6)}
    assert len({row[2] for row in drawing.rows}) == 3
    for axes, name in zip(drawing.figure.axes, ("one", "two"), strict=True):
        drawn = {tuple(point) for mark in axes.collections for point in np.asarray(mark.get_offsets()).tolist()}
        assert drawn == {(row[4], row[5]) for row in drawing.rows if row[0] == name}
    assert seen[-1] == (72, 72)
    assert "3 test people drawn at random among 6" in drawing.caption
    assert [row[0] for row in table.table.rows] == ["one", "two"]
    assert table.table.rows[0][1:] == table.table.rows[1][1:]
    without = Dataset("own", dataset.root, small.training_set, None, None)
    with pytest.raises(UserError, match="has no labelled test images"):
        map_drawing("map", models, without, "some people")
