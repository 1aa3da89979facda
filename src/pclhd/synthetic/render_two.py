"""One image of generator version 2: a frame of a passage, as one camera records it and a detector cuts it out."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pclhd.data.records import Modality
from pclhd.synthetic.cameras import blurred, toned, with_noise
from pclhd.synthetic.draw import Figure
from pclhd.synthetic.outfit import Outfit, as_worn, draw_outfit
from pclhd.synthetic.palette import Palette, make_palette
from pclhd.synthetic.passage import Passage, draw_passage, passage_length, walk_on
from pclhd.synthetic.person import Person, draw_person
from pclhd.synthetic.pose import Placement, Point, Pose
from pclhd.synthetic.seeds import Population, Stream, generator, modality_code
from pclhd.synthetic.site import Site, make_site
from pclhd.synthetic.variation import WRONG_CROPS
from pclhd.synthetic.world import Shot, World

_OUTFIT = 1
"""Further key of the generator of a person's outfit."""


class SeenFromAbove(Figure):
    """A figure before a camera that looks down: the upper body larger, the legs shorter.

    Args:
        tilt: How steeply the camera looks down, 0 to about 0.5; the others are those of `Figure`.
    """

    def __init__(
        self, image: Image.Image, person: Person, palette: Palette, pose: Pose, place: Placement, tilt: float
    ) -> None:
        super().__init__(image, person, palette, pose, place)
        self._tilt = tilt

    def _at(self, point: Point) -> Point:
        x, y = point
        return super()._at((x * (1 + self._tilt * (0.5 - y)), y * (1 + self._tilt * (1 - y))))


def render_two(world: World, shot: Shot) -> Image.Image:
    """Render one image of version 2; see `pclhd.synthetic.render.render`."""
    height, width = world.shrink * world.height, world.shrink * world.width
    site = _site(world, shot.modality, shot.camera)
    cell = (shot.identity, modality_code(shot.modality), shot.camera)
    number, frame = divmod(shot.index, _length(world.seed, world.population, *cell))
    passage, worn = _passage(world, shot.modality, shot.identity, shot.camera, number)
    random = generator(world.seed, world.population, Stream.IMAGE, *cell, shot.index, version=2)
    pose = walk_on(random, passage.pose, frame)
    _, palette = _outfit_and_palette(world.seed, world.population, shot.identity, shot.modality, world.gap)
    place = _place(random, passage, site, worn.stature, height, width)
    canvas = _backdrop(random, passage, site, height, width)
    other = passage.passer_by
    if other is not None and not other.in_front:
        _draw_passer_by(world, shot.modality, canvas, passage, site, place)
    SeenFromAbove(canvas, worn, palette, pose, place, site.tilt).draw()
    if other is not None and other.in_front:
        _draw_passer_by(world, shot.modality, canvas, passage, site, place)
    _draw_obstacle(random, passage, site, canvas)
    return Image.fromarray(_record(random, passage, site, _with_detail(canvas.reduce(world.shrink), passage.detail)))


def _place(
    random: np.random.Generator, passage: Passage, site: Site, stature: float, height: int, width: int
) -> Placement:
    """Where the detector's box puts the person: a few pixels off, and now and then quite wrong."""
    scale = height * site.camera.distance * (0.55 + 0.45 * stature) * passage.size * math.exp(random.normal(0, 0.025))
    middle = width * (0.5 + passage.aside + random.normal(0, 0.025))
    top = (height - scale) * random.uniform(0.2, 0.8) + height * (0.01 + random.normal(0, 0.012))
    if random.random() < WRONG_CROPS:
        kind = random.random()
        if kind < 0.6:
            scale *= random.uniform(1.3, 1.7)
            top = random.choice([0.02 * height, height - 1.02 * scale])
        elif kind < 0.8:
            middle += width * random.choice([-1, 1]) * random.uniform(0.25, 0.4)
        else:
            scale *= random.uniform(0.55, 0.75)
            top = (height - scale) * random.uniform(0.1, 0.9)
    return Placement(scale=float(scale), middle=float(middle), top=float(top))


def _backdrop(random: np.random.Generator, passage: Passage, site: Site, height: int, width: int) -> Image.Image:
    strip = site.camera.background
    left = passage.backdrop * (strip.width - width) + width * random.normal(0, 0.06)
    left = int(np.clip(left, 0, strip.width - width))
    return strip.crop((left, 0, left + width, height))


def _draw_passer_by(
    world: World, modality: Modality, canvas: Image.Image, passage: Passage, site: Site, place: Placement
) -> None:
    other = passage.passer_by
    if other is None:
        return
    outfit, palette = _outfit_and_palette(world.seed, world.population, other.identity, modality, world.gap)
    scale = place.scale * other.size
    beside = Placement(scale, place.middle + other.aside * canvas.width, place.top + 0.97 * place.scale - 0.97 * scale)
    SeenFromAbove(canvas, outfit.front, palette, passage.pose, beside, site.tilt).draw()


def _draw_obstacle(random: np.random.Generator, passage: Passage, site: Site, canvas: Image.Image) -> None:
    if passage.obstacle is None:
        return
    left, upper, right, lower = passage.obstacle.box
    drift = float(random.normal(0, 0.06))
    edge = tuple(round(0.6 * level) for level in site.camera.pole)
    width, height = canvas.size
    box = ((left + drift) * width, upper * height, (right + drift) * width, lower * height)
    ImageDraw.Draw(canvas).rectangle(box, fill=site.camera.pole, outline=edge)


def _with_detail(image: Image.Image, detail: float) -> Image.Image:
    """The image as a sensor with fewer pixels gives it, enlarged to the same size."""
    if detail > 0.95:
        return image
    coarse = (max(1, round(detail * image.width)), max(1, round(detail * image.height)))
    return image.resize(coarse, Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)


def _record(random: np.random.Generator, passage: Passage, site: Site, image: Image.Image) -> NDArray[np.uint8]:
    """The pixels that the camera records of a scene: light, sensor, tone curve and noise.

    Returns:
        (H, W, 3) pixels for visible, (H, W) for infrared.
    """
    camera, light = site.camera, passage.light
    levels = toned(blurred(random, camera, image), camera.gamma * light.gamma)
    factor = light.tint * np.asarray(camera.gain, dtype=np.float32) * np.float32(random.uniform(0.97, 1.03))
    shade = light.shade * site.falloff
    if levels.ndim == 3:
        levels = _mixed(levels, site.response * factor[None, :]) * shade[:, :, None]
    else:
        levels = levels * (shade * factor[0])
    return with_noise(random, camera, site.haze + (1 - site.haze) * levels)


def _mixed(levels: NDArray[np.float32], response: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours (H, W, 3) as a sensor of that response (3, 3) records them.

    A product of matrices would add in an order, and with roundings, that depend on the kind of processor.
    """
    red, green, blue = (levels[:, :, channel, None] * response[:, channel] for channel in range(3))
    mixed: NDArray[np.float32] = red + green + blue
    return mixed


def _site(world: World, modality: Modality, camera: int) -> Site:
    size = (world.height, world.width)
    drawing = (world.shrink * world.height, world.shrink * world.width)
    return make_site(world.seed, world.population, modality, camera, size, drawing)


@lru_cache(maxsize=64)
def _passage(world: World, modality: Modality, identity: int, camera: int, number: int) -> tuple[Passage, Person]:
    """A passage of a person before a camera, and the person as dressed in it and seen from its side."""
    key = (identity, modality_code(modality), camera, number)
    random = generator(world.seed, world.population, Stream.PASSAGE, *key, version=2)
    passage = draw_passage(random, _site(world, modality, camera), modality, (world.height, world.width))
    outfit, _ = _outfit_and_palette(world.seed, world.population, identity, modality, world.gap)
    return passage, as_worn(random, outfit, passage.pose.view)


@lru_cache(maxsize=4096)
def _length(seed: int, population: Population, *cell: int) -> int:
    """Frames of each passage of a person before a camera."""
    return passage_length(generator(seed, population, Stream.PASSAGE, *cell, version=2))


@lru_cache(maxsize=256)
def _outfit_and_palette(
    seed: int, population: Population, identity: int, modality: Modality, gap: float
) -> tuple[Outfit, Palette]:
    person = draw_person(seed, population, identity, version=2)
    random = generator(seed, population, Stream.PERSON, identity, _OUTFIT, version=2)
    return draw_outfit(random, person), make_palette(person, modality, gap)
