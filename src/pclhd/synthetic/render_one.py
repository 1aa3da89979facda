"""One image of generator version 1: every image has a pose, a place and a background of its own."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image

from pclhd.data.records import Modality
from pclhd.synthetic.cameras import choose_placement, choose_pose, cut_background, expose, make_camera, occlude
from pclhd.synthetic.draw import Figure
from pclhd.synthetic.palette import Palette, make_palette
from pclhd.synthetic.person import Person, draw_person
from pclhd.synthetic.seeds import Population, Stream, generator, modality_code
from pclhd.synthetic.world import Shot, World


def render_one(world: World, shot: Shot) -> Image.Image:
    """Render one image of version 1; see `pclhd.synthetic.render.render`."""
    height, width = world.shrink * world.height, world.shrink * world.width
    person, palette = _person_and_palette(world.seed, world.population, shot.identity, shot.modality, world.gap)
    camera = make_camera(world.seed, world.population, shot.modality, shot.camera, height, width)
    key = (shot.identity, modality_code(shot.modality), shot.camera, shot.index)
    random = generator(world.seed, world.population, Stream.IMAGE, *key)
    canvas = cut_background(random, camera, height, width)
    pose = choose_pose(random, camera)
    place = choose_placement(random, camera, person.stature, height, width)
    Figure(canvas, person, palette, pose, place).draw()
    occlude(random, camera, canvas)
    return Image.fromarray(expose(random, camera, canvas.reduce(world.shrink)))


@lru_cache(maxsize=256)
def _person_and_palette(
    seed: int, population: Population, identity: int, modality: Modality, gap: float
) -> tuple[Person, Palette]:
    person = draw_person(seed, population, identity)
    return person, make_palette(person, modality, gap)
