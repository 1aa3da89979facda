from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pclhd.data.records import Modality
from pclhd.synthetic.draw import Figure
from pclhd.synthetic.palette import infrared_brightness, luminance, make_palette
from pclhd.synthetic.patterns import Pattern, PatternKind, draw_pattern, draw_print, pattern_mask
from pclhd.synthetic.person import Person, draw_person
from pclhd.synthetic.pose import Placement, Pose, View
from pclhd.synthetic.render import draw_population, encode, render
from pclhd.synthetic.seeds import VERSIONS, Population, Stream, Version, generator
from pclhd.synthetic.traits import LIES_UPON, Bag, BottomCut, Collar, Hair, Hat, Part, Shoes, Sleeve, TopCut
from pclhd.synthetic.world import Shot, World


def person_of(identity: int, *, seed: int = 0, population: Population = Population.BENCHMARK) -> Person:
    return draw_person(seed, population, identity)


def correlation(first: list[float], second: list[float]) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def test_a_person_is_the_same_every_time_and_unlike_any_other() -> None:
    assert person_of(7) == person_of(7)
    others = [person_of(8), person_of(7, seed=1), person_of(7, population=Population.STARTER)]
    assert all(person_of(7) != other for other in others)


def test_the_generator_of_each_thing_is_its_own() -> None:
    keys = [
        (0, Population.BENCHMARK, Stream.PERSON, 3),
        (0, Population.BENCHMARK, Stream.CAMERA, 3),
        (0, Population.STARTER, Stream.PERSON, 3),
        (1, Population.BENCHMARK, Stream.PERSON, 3),
        (0, Population.BENCHMARK, Stream.PERSON, 4),
    ]
    firsts = [float(generator(*key).random()) for key in keys]
    assert len(set(firsts)) == len(keys)
    assert firsts[0] == float(generator(*keys[0]).random())


def shape_of(person: Person) -> str:
    """All traits but colours and brightness."""
    return repr([getattr(person, field.name) for field in fields(person) if field.name != "materials"])


def coarse_shape_of(person: Person) -> tuple[str, ...]:
    """What can be seen of a person at a glance in any light."""
    return (person.top, person.top_pattern.kind, person.sleeve, person.bottom, person.bag, person.hair, person.hat)


def test_shapes_alone_distinguish_people() -> None:
    people = [person_of(identity) for identity in range(1, 201)]
    assert len({shape_of(person) for person in people}) == 200
    assert len({coarse_shape_of(person) for person in people}) > 190


def test_every_kind_of_trait_occurs() -> None:
    people = [person_of(identity) for identity in range(1, 401)]
    kinds = [(p.top, p.bottom, p.sleeve, p.collar, p.hair, p.hat, p.bag, p.shoes) for p in people]
    for column, enum in zip(
        zip(*kinds, strict=True), (TopCut, BottomCut, Sleeve, Collar, Hair, Hat, Bag, Shoes), strict=True
    ):
        assert set(column) == set(enum)
    assert {person.top_pattern.kind for person in people} == set(PatternKind)
    assert 0.1 < np.mean([person.chest_print is not None for person in people]) < 0.6


# Infrared brightness.


def test_without_a_gap_infrared_is_the_luminance() -> None:
    for identity in range(1, 30):
        person = person_of(identity)
        infrared = make_palette(person, Modality.INFRARED, 0.0)
        for part, material in person.materials.items():
            red, green, blue = material.rgb
            assert infrared[part] == pytest.approx((0.299 * red + 0.587 * green + 0.114 * blue,))


def test_with_a_full_gap_infrared_knows_nothing_of_the_colour() -> None:
    people = [person_of(identity) for identity in range(1, 401)]
    grey = [luminance(person.materials[Part.TOP].rgb) for person in people]

    def top_brightness(gap: float) -> list[float]:
        return [make_palette(person, Modality.INFRARED, gap)[Part.TOP][0] for person in people]

    assert abs(correlation(grey, top_brightness(1.0))) < 0.15
    assert 0.4 < correlation(grey, top_brightness(0.5)) < 0.9
    assert correlation(grey, top_brightness(0.0)) > 0.999


def test_a_full_gap_ignores_a_change_of_colour() -> None:
    person = person_of(5)
    recoloured = replace(
        person, materials={part: replace(m, rgb=(m.rgb[2], 0.5, m.rgb[0])) for part, m in person.materials.items()}
    )
    full = make_palette(person, Modality.INFRARED, 1.0)
    assert full == make_palette(recoloured, Modality.INFRARED, 1.0)
    assert make_palette(person, Modality.INFRARED, 0.5) != make_palette(recoloured, Modality.INFRARED, 0.5)


def test_the_visible_palette_is_the_colours_whatever_the_gap() -> None:
    person = person_of(2)
    assert make_palette(person, Modality.VISIBLE, 0.0) == make_palette(person, Modality.VISIBLE, 1.0)
    assert make_palette(person, Modality.VISIBLE, 1.0)[Part.TOP] == person.materials[Part.TOP].rgb


@given(identity=st.integers(1, 10_000), gap=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_infrared_keeps_the_least_contrast_and_stays_in_range(identity: int, gap: float) -> None:
    person = person_of(identity)
    palette = make_palette(person, Modality.INFRARED, gap)
    for part, (value,) in palette.items():
        assert 0 <= value <= 1
        floor = person.materials[part].floor * min(1.0, 2 * gap)
        if part in LIES_UPON:
            assert abs(value - palette[LIES_UPON[part]][0]) >= floor - 1e-9


def test_most_patterns_and_prints_stay_visible_in_infrared() -> None:
    contrasts = []
    for identity in range(1, 201):
        palette = make_palette(person_of(identity), Modality.INFRARED, 0.5)
        contrasts.append(abs(palette[Part.TOP_ACCENT][0] - palette[Part.TOP][0]))
    assert np.mean(np.array(contrasts) >= 0.15) > 0.85


def test_infrared_brightness_mixes_linearly() -> None:
    material = person_of(1).materials[Part.BAG]
    ends = infrared_brightness(material, 0.0), infrared_brightness(material, 1.0)
    assert infrared_brightness(material, 0.25) == pytest.approx(0.75 * ends[0] + 0.25 * ends[1])
    assert ends[1] == material.infrared


# Patterns.

AXIS = np.linspace(-1, 1, 41, dtype=np.float32)
LENGTH = np.linspace(0, 1, 61, dtype=np.float32)


@pytest.mark.parametrize("kind", list(PatternKind))
def test_a_pattern_covers_some_of_the_cloth_and_a_plain_one_none(kind: PatternKind) -> None:
    shown = pattern_mask(Pattern(kind, period=0.34, duty=0.5, phase=0.2, split=0.4), AXIS, LENGTH)
    assert shown.shape == (61, 41)
    assert shown.dtype == np.bool_
    assert (shown.mean() == 0) if kind is PatternKind.PLAIN else (0.05 < shown.mean() < 0.95)


def test_stripes_run_the_way_they_are_named() -> None:
    flat = pattern_mask(Pattern(PatternKind.HORIZONTAL), AXIS, LENGTH)
    upright = pattern_mask(Pattern(PatternKind.VERTICAL), AXIS, LENGTH)
    assert (flat == flat[:, :1]).all()
    assert (upright == upright[:1]).all()
    assert pattern_mask(Pattern(PatternKind.HORIZONTAL, duty=0.7), AXIS, LENGTH).mean() > flat.mean()


def slow_checks(pattern: Pattern, u: float, v: float) -> bool:
    along = (v / pattern.period + pattern.phase) % 1 < 0.5
    across = (u / (2 * pattern.period) + pattern.phase) % 1 < 0.5
    return along != across


def test_checks_follow_the_slow_formula() -> None:
    pattern = Pattern(PatternKind.CHECKS, period=0.31, phase=0.17)
    shown = pattern_mask(pattern, AXIS, LENGTH)
    expected = [[slow_checks(pattern, float(u), float(v)) for u in AXIS] for v in LENGTH]
    assert (shown == np.array(expected)).mean() > 0.995


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_invented_patterns_and_prints_are_usable(seed: int) -> None:
    random = np.random.default_rng(seed)
    assert draw_pattern(random, plain_share=0.0).kind is not PatternKind.PLAIN
    assert draw_pattern(random, plain_share=1.0).kind is PatternKind.PLAIN
    shape = draw_print(random)
    cells = np.array(shape.cells)
    assert cells.shape[0] == cells.shape[1]
    assert 0.3 < cells.mean() < 0.75


# Drawing.

STANDING = Pose(View.FRONT, phase=0.0, stride=0.0, turn=0.0, lean=0.0)
PLACE = Placement(scale=270, middle=72, top=9)


def drawn(person: Person, pose: Pose = STANDING, palette: Mapping[Part, tuple[float, ...]] | None = None) -> np.ndarray:
    """The figure alone on grey."""
    image = Image.new("L", (144, 288), 90)
    Figure(image, person, palette or make_palette(person, Modality.INFRARED, 1.0), pose, PLACE).draw()
    return np.asarray(image).astype(np.int64)


@pytest.mark.parametrize("view", list(View))
def test_both_modalities_share_one_outline(view: View) -> None:
    person = person_of(11)
    pose = replace(STANDING, view=view, stride=0.8, phase=1.0)
    one = dict.fromkeys(Part, (0.9,))
    two = dict.fromkeys(Part, (0.1,))
    background = np.full((288, 144), 90)
    bright, dark = drawn(person, pose, one) != background, drawn(person, pose, two) != background
    assert (bright == dark).all()
    assert 0.1 < bright.mean() < 0.7


def test_a_chest_print_is_seen_from_the_front_only() -> None:
    base = replace(person_of(3), top=TopCut.SHIRT, bag=Bag.NONE, scarf=False, top_pattern=Pattern(PatternKind.PLAIN))
    shape = draw_print(np.random.default_rng(0))
    plain, printed = replace(base, chest_print=None, back_print=None), replace(base, chest_print=shape, back_print=None)
    for view in View:
        pose = replace(STANDING, view=view)
        differs = bool((drawn(plain, pose) != drawn(printed, pose)).any())
        assert differs == (view is View.FRONT)


def test_a_backpack_covers_the_back() -> None:
    base = replace(person_of(3), bag_width=0.13, bag_height=0.2)
    changed = {}
    for view in View:
        pose = replace(STANDING, view=view)
        with_bag, without = drawn(replace(base, bag=Bag.BACKPACK), pose), drawn(replace(base, bag=Bag.NONE), pose)
        changed[view] = (with_bag != without).sum()
    assert changed[View.BACK] > changed[View.FRONT] > 0
    assert changed[View.LEFT] > 0


TRAITS: dict[str, object] = {
    "hat": Hat.BRIM,
    "hair": Hair.AFRO,
    "bottom": BottomCut.WIDE,
    "top": TopCut.COAT,
    "bag": Bag.TROLLEY,
    "shoes": Shoes.HIGH_BOOTS,
    "collar": Collar.V,
    "sleeve": Sleeve.NONE,
    "scarf": True,
    "glasses": True,
    "side_stripe": True,
}


@pytest.mark.parametrize("name", sorted(TRAITS))
def test_each_trait_reaches_the_picture(name: str) -> None:
    plain = Pattern(PatternKind.PLAIN)
    base = replace(
        person_of(4),
        hat=Hat.NONE,
        hair=Hair.SHORT,
        bottom=BottomCut.SHORTS,
        bottom_hem=0.65,
        bottom_pattern=plain,
        top=TopCut.SHIRT,
        top_hem=0.5,
        top_pattern=plain,
        chest_print=None,
        bag=Bag.NONE,
        shoes=Shoes.FLAT,
        collar=Collar.ROUND,
        sleeve=Sleeve.LONG,
        scarf=False,
        glasses=False,
        side_stripe=False,
        zip_line=True,
    )
    changed: Person = replace(base, **{name: TRAITS[name]})  # type: ignore[arg-type]
    assert (drawn(base) != drawn(changed)).sum() > 20


@given(
    identity=st.integers(1, 5000),
    camera=st.integers(1, 9),
    index=st.integers(0, 50),
    version=st.sampled_from(VERSIONS),
)
@settings(max_examples=60, deadline=None)
def test_any_shot_can_be_taken(identity: int, camera: int, index: int, version: Version) -> None:
    world = World(0, Population.BENCHMARK, 0.5, 96, 48, version)
    for modality, mode in ((Modality.VISIBLE, "RGB"), (Modality.INFRARED, "L")):
        picture = render(world, Shot(identity, modality, camera, index))
        assert (picture.size, picture.mode) == ((48, 96), mode)
        assert np.asarray(picture).std() > 4


@pytest.mark.parametrize("version", VERSIONS)
def test_a_shot_depends_on_all_that_names_it(version: Version) -> None:
    world = World(0, Population.BENCHMARK, 0.5, 96, 48, version)
    shot = Shot(1, Modality.VISIBLE, 1, 0)

    def pixels(world: World, shot: Shot) -> bytes:
        return render(world, shot).convert("RGB").tobytes()

    first = pixels(world, shot)
    assert first == pixels(world, shot)
    others = [replace(shot, identity=2), replace(shot, camera=2), replace(shot, index=1)]
    assert all(pixels(world, other) != first for other in others)
    assert pixels(replace(world, seed=1), shot) != first
    assert pixels(replace(world, population=Population.STARTER), shot) != first
    assert pixels(replace(world, gap=1.0), shot) == first
    infrared = replace(shot, modality=Modality.INFRARED)
    assert pixels(replace(world, gap=1.0), infrared) != pixels(world, infrared)


def test_an_unknown_extension_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\.png"):
        encode(Image.new("L", (4, 4)), ".png")


# Populations in memory.


def test_a_population_is_labelled_and_goes_round_the_cameras() -> None:
    pixels, identities = draw_population(3, 5, modality=Modality.INFRARED, seed=0, workers=1)
    assert pixels.shape == (15, 3, 96, 48)
    assert pixels.dtype == np.uint8
    assert identities.tolist() == [1] * 5 + [2] * 5 + [3] * 5
    assert (np.ptp(pixels.astype(np.int64), axis=1) <= 2).all()
    one_camera, _ = draw_population(1, 2, modality=Modality.INFRARED, seed=0, cameras=[3], workers=1)
    assert (one_camera[0] == pixels[0]).all()
    assert (one_camera[1] == pixels[2]).all()


def test_the_starter_population_differs_from_the_benchmark() -> None:
    starter, _ = draw_population(2, 2, modality=Modality.VISIBLE, seed=0, population="starter", workers=1)
    benchmark, _ = draw_population(2, 2, modality=Modality.VISIBLE, seed=0, population="benchmark", workers=1)
    assert all((a != b).any() for a in starter for b in benchmark)


def test_another_size_can_be_drawn() -> None:
    pixels, _ = draw_population(1, 1, modality=Modality.VISIBLE, seed=0, height=192, width=96, workers=1)
    assert pixels.shape == (1, 3, 192, 96)


def test_no_people_give_empty_arrays() -> None:
    pixels, identities = draw_population(0, 3, modality=Modality.VISIBLE, seed=0, workers=1)
    assert pixels.shape == (0, 3, 96, 48)
    assert identities.shape == (0,)
