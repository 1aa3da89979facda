"""What generator version 2 adds: passages, sites, outfits, crops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pclhd.data.records import Modality
from pclhd.synthetic import render_two
from pclhd.synthetic.outfit import as_worn, draw_outfit
from pclhd.synthetic.palette import DEFAULT_GAP, make_palette
from pclhd.synthetic.passage import draw_passage, passage_length, walk_on
from pclhd.synthetic.patterns import PatternKind
from pclhd.synthetic.person import Person, draw_person
from pclhd.synthetic.pose import Placement, Pose, View
from pclhd.synthetic.render import render
from pclhd.synthetic.render_two import SeenFromAbove
from pclhd.synthetic.seeds import Population
from pclhd.synthetic.site import Site, make_site
from pclhd.synthetic.traits import Bag, Part, TopCut
from pclhd.synthetic.variation import FRAMES, VARIATION
from pclhd.synthetic.world import Shot, World

WORLD = World(0, Population.BENCHMARK, DEFAULT_GAP[2], 96, 48, 2)
BOTH = list(Modality)


def person_of(identity: int) -> Person:
    return draw_person(0, Population.BENCHMARK, identity, version=2)


def site_of(modality: Modality, camera: int) -> Site:
    return make_site(0, Population.BENCHMARK, modality, camera, (96, 48), (288, 144))


def pixels(shot: Shot) -> np.ndarray:
    return np.asarray(render(WORLD, shot).convert("RGB")).astype(np.float64)


def test_the_versions_have_other_people_and_cameras() -> None:
    assert person_of(3) != draw_person(0, Population.BENCHMARK, 3)
    shot = Shot(3, Modality.VISIBLE, 1, 0)
    assert (pixels(shot) != np.asarray(render(replace(WORLD, version=1), shot))).any()


@pytest.mark.parametrize("modality", BOTH)
def test_frames_of_a_passage_are_nearer_than_those_of_two(modality: Modality) -> None:
    within, between = [], []
    for identity in range(1, 25):
        first, second, later = (pixels(Shot(identity, modality, 1, index)) for index in (0, 1, FRAMES[1]))
        within.append(float(np.abs(first - second).mean()))
        between.append(float(np.abs(first - later).mean()))
    assert np.median(within) < 0.8 * np.median(between)


def test_a_passage_has_as_many_frames_as_calibrated() -> None:
    random = np.random.default_rng(0)
    assert {passage_length(random) for _ in range(200)} == set(range(FRAMES[0], FRAMES[1] + 1))


@pytest.mark.parametrize("modality", BOTH)
def test_what_differs_between_passages_is_drawn(modality: Modality) -> None:
    random = np.random.default_rng(1)
    passages = [draw_passage(random, site_of(modality, 1), modality, (96, 48)) for _ in range(400)]
    assert {passage.pose.view for passage in passages} == set(View)
    assert 0 < np.mean([passage.passer_by is not None for passage in passages]) < 0.2
    assert 0 < np.mean([passage.obstacle is not None for passage in passages]) < 0.3
    brightness = np.log([float(passage.light.tint.mean()) for passage in passages])
    assert brightness.std() == pytest.approx(VARIATION[modality].exposure, rel=0.2)
    assert all(passage.light.tint.shape == ((3,) if modality is Modality.VISIBLE else (1,)) for passage in passages)


def test_a_walk_goes_on_and_keeps_the_side() -> None:
    random = np.random.default_rng(2)
    pose = Pose(View.LEFT, phase=0.0, stride=0.5, turn=0.0, lean=0.0)
    third = walk_on(random, pose, 3)
    assert third.view is View.LEFT
    assert third.phase == pytest.approx(2.1, abs=0.5)
    assert abs(walk_on(random, replace(pose, turn=1.0), 1).turn) <= 1


@pytest.mark.parametrize("modality", BOTH)
def test_cameras_differ(modality: Modality) -> None:
    sites = [site_of(modality, camera) for camera in range(1, 9)]
    assert len({(site.tilt, site.detail, site.haze) for site in sites}) == 8
    channels = 3 if modality is Modality.VISIBLE else 1
    assert all(site.response.shape == (channels, channels) for site in sites)
    assert all(site.falloff.shape == (96, 48) for site in sites)
    responses = np.stack([site.response for site in sites])
    assert bool((responses.std(axis=0) > 0).all()) == (modality is Modality.VISIBLE)


def test_front_and_back_differ_for_some_people_only() -> None:
    outfits = [draw_outfit(np.random.default_rng(identity), person_of(identity)) for identity in range(1, 301)]
    patterned = [outfit for outfit in outfits if outfit.front.top_pattern.kind is not PatternKind.PLAIN]
    share = np.mean([outfit.front.top_pattern != outfit.back.top_pattern for outfit in patterned])
    assert 0.1 < share < 0.4
    assert all(outfit.front == outfit.back for outfit in outfits if outfit.front.top_pattern.kind is PatternKind.PLAIN)
    backpacks = np.mean([outfit.front.bag is Bag.BACKPACK for outfit in outfits])
    assert backpacks > np.mean([person_of(identity).bag is Bag.BACKPACK for identity in range(1, 301)])


def test_a_jacket_is_sometimes_closed_and_a_bag_sometimes_swapped() -> None:
    base = replace(person_of(1), top=TopCut.OPEN_JACKET, bag_side=1)
    outfit = draw_outfit(np.random.default_rng(0), base)
    random = np.random.default_rng(3)
    worn = [as_worn(random, outfit, View.FRONT) for _ in range(300)]
    assert 0.05 < np.mean([person.top is TopCut.JACKET for person in worn]) < 0.3
    assert 0.05 < np.mean([person.bag_side == -1 for person in worn]) < 0.3
    assert as_worn(random, outfit, View.BACK).top_pattern == outfit.back.top_pattern


def test_a_camera_from_above_shortens_the_legs() -> None:
    person, pose = person_of(2), Pose(View.FRONT, 0.0, 0.0, 0.0, 0.0)
    palette = dict.fromkeys(Part, (0.9,)) | dict.fromkeys((Part.BOTTOM, Part.BOTTOM_ACCENT, Part.SHOES), (0.4,))

    def rows_below_the_waist(tilt: float) -> int:
        canvas = Image.new("L", (144, 288))
        SeenFromAbove(canvas, person, palette, pose, Placement(270, 72, 9), tilt).draw()
        return int((np.asarray(canvas) == 102).any(axis=1).sum())

    assert rows_below_the_waist(0.4) < rows_below_the_waist(0.2) < rows_below_the_waist(0.0)


def test_some_crops_are_quite_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    shots = [Shot(identity, Modality.VISIBLE, 1, 0) for identity in range(1, 40)]
    monkeypatch.setattr(render_two, "WRONG_CROPS", 0.0)
    right = [pixels(shot) for shot in shots]
    monkeypatch.setattr(render_two, "WRONG_CROPS", 1.0)
    wrong = [pixels(shot) for shot in shots]
    assert np.median([np.abs(a - b).mean() for a, b in zip(right, wrong, strict=True)]) > 10


def test_infrared_stays_grey_and_depends_on_the_gap() -> None:
    shot = Shot(5, Modality.INFRARED, 3, 2)
    assert render(WORLD, shot).mode == "L"
    assert (np.asarray(render(replace(WORLD, gap=1.0), shot)) != np.asarray(render(WORLD, shot))).any()
    palette = make_palette(person_of(5), Modality.INFRARED, DEFAULT_GAP[2])
    assert all(len(levels) == 1 for levels in palette.values())
