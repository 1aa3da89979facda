"""Rendering of a person by a camera as one image, or of many as an array."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pclhd.data.records import Modality
from pclhd.synthetic.palette import DEFAULT_GAP
from pclhd.synthetic.render_one import render_one
from pclhd.synthetic.render_two import render_two
from pclhd.synthetic.seeds import Population, Version
from pclhd.synthetic.workers import worker_pool
from pclhd.synthetic.world import INFRARED_CAMERAS, VISIBLE_CAMERAS, Shot, World
from pclhd.threads import usable_cpus

JPEG_QUALITY = 88
_POOL_WORTHWHILE = 1200


def render(world: World, shot: Shot) -> Image.Image:
    """Render one image; it depends only on the arguments.

    Returns:
        An RGB image for visible, a grey (mode L) one for infrared.
    """
    return render_one(world, shot) if world.version == 1 else render_two(world, shot)


def encode(image: Image.Image, extension: str) -> bytes:
    """The bytes of an image file with three equal channels if it is grey.

    Args:
        image: The image.
        extension: ``.jpg`` or ``.bmp``.
    """
    buffer = io.BytesIO()
    colour = image.convert("RGB")
    if extension == ".jpg":
        colour.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    elif extension == ".bmp":
        colour.save(buffer, format="BMP")
    else:
        raise ValueError(f"extension must be .jpg or .bmp, got {extension!r}")
    return buffer.getvalue()


def render_images(world: World, shots: Sequence[Shot], workers: int | None = None) -> NDArray[np.uint8]:
    """Render many images in memory, with the JPEG loss that files would have.

    Args:
        world: The common parameters.
        shots: The images to render.
        workers: Number of processes; None means one per usable processor, or a single one for few images. It does not
            affect the result. A script that uses several must guard its entry point with ``if __name__ == "__main__"``.

    Returns:
        (N, 3, H, W) pixels, rows in the order of `shots`.
    """
    pixels = np.empty((len(shots), 3, world.height, world.width), dtype=np.uint8)
    pieces = [(world, shots[start : start + 64]) for start in range(0, len(shots), 64)]
    row = 0
    with worker_pool(choose_workers(workers, len(shots))) as pool:
        for block in pool.map(_render_block, pieces) if pool else map(_render_block, pieces):
            pixels[row : row + len(block)] = block
            row += len(block)
    return pixels


def draw_population(
    people: int,
    images_per_person: int,
    *,
    modality: Modality,
    seed: int,
    population: str = Population.STARTER,
    gap: float | None = None,
    height: int = 96,
    width: int = 48,
    cameras: Sequence[int] | None = None,
    workers: int | None = None,
    version: Version = 1,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Labelled images of people 1..`people`, in memory, distributed over the cameras of one modality (ours).

    Args:
        people: Number of people.
        images_per_person: Number of images of each person, distributed over the cameras in turn.
        modality: Visible or infrared.
        seed: Another seed gives other people and cameras.
        population: ``benchmark`` or ``starter``; their people and cameras are disjoint for all seeds.
        gap: Independence of infrared brightness from colour, 0..1; None for that of the generator's version.
        height: Height in pixels.
        width: Width in pixels.
        cameras: Camera numbers; by default 1, 2, 4, 5 for visible and 3, 6 for infrared.
        workers: See `render_images`.
        version: Version of the generator; the starter weights are made with 1.

    Returns:
        Pixels (N, 3, H, W) and identities (N,), N = people · images_per_person, ordered by person.
    """
    numbers = tuple(cameras or (VISIBLE_CAMERAS if modality is Modality.VISIBLE else INFRARED_CAMERAS))
    shots = [
        Shot(identity, modality, numbers[index % len(numbers)], index // len(numbers))
        for identity in range(1, people + 1)
        for index in range(images_per_person)
    ]
    gap = DEFAULT_GAP[version] if gap is None else gap
    world = World(seed, Population(population), gap, height, width, version)
    identities = np.array([shot.identity for shot in shots], dtype=np.int64)
    return render_images(world, shots, workers), identities


def choose_workers(workers: int | None, images: int) -> int:
    """Number of processes: as given; otherwise one for few images and one per usable processor for many."""
    if workers is not None:
        return max(1, workers)
    if images < _POOL_WORTHWHILE:
        return 1
    return usable_cpus()


def _render_block(piece: tuple[World, Sequence[Shot]]) -> NDArray[np.uint8]:
    """Images of one task, (n, 3, H, W)."""
    world, shots = piece
    pictures = [Image.open(io.BytesIO(encode(render(world, shot), ".jpg"))).convert("RGB") for shot in shots]
    return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])
