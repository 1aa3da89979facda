"""Cameras: their constant properties (background, gain, cast, blur, usual view) and the variation between images."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pclhd.data.records import Modality
from pclhd.synthetic.pose import Placement, Pose, View
from pclhd.synthetic.seeds import Population, Stream, Version, generator, modality_code

Fill = tuple[int, ...]

_PANORAMA_WIDTHS = 5
_VIEWS = (View.FRONT, View.BACK, View.LEFT, View.RIGHT)


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """Properties of a camera that affect all its images.

    Attributes:
        modality: Visible or infrared.
        background: A strip of scenery a few images wide, at drawing size, mode RGB or L.
        gain: Per-channel factor; three for visible, one for infrared.
        gamma: Exponent of the tone curve.
        blur: Radius of the Gaussian blur, in thousandths of the image height.
        noise: Standard deviation of the sensor noise, in grey levels.
        views: Share of front, back, left and right views.
        distance: Usual height of a person as a share of the image height.
        pole: Fill colour of objects that may occlude a person.
    """

    modality: Modality
    background: Image.Image
    gain: tuple[float, ...]
    gamma: float
    blur: float
    noise: float
    views: tuple[float, ...]
    distance: float
    pole: Fill


@lru_cache(maxsize=64)
def make_camera(
    seed: int,
    population: Population,
    modality: Modality,
    number: int,
    height: int,
    width: int,
    version: Version = 1,
) -> Camera:
    """Draw the properties of a camera; the same arguments give the same camera.

    Args:
        seed: The data set's seed.
        population: Benchmark and starter have different cameras.
        modality: Visible or infrared.
        number: The camera's number.
        height: Drawing height in pixels, before shrinking.
        width: Drawing width in pixels.
        version: Version of the generator.
    """
    random = generator(seed, population, Stream.CAMERA, modality_code(modality), number, version=version)
    channels = 3 if modality is Modality.VISIBLE else 1
    # Infrared cameras have lamps, so their exposure is brighter; they have no colour cast.
    low, high, spread = (0.82, 1.12, 0.1) if modality is Modality.VISIBLE else (1.05, 1.35, 0.0)
    gain = random.uniform(low, high) * random.uniform(1 - spread, 1 + spread, channels)
    views = random.dirichlet([5.0, 4.0, 2.5, 2.5])
    gamma, blur, noise = random.uniform(0.85, 1.2), random.uniform(0.0, 7.0), random.uniform(2.0, 6.0)
    distance = random.uniform(0.88, 0.95)
    return Camera(
        modality=modality,
        background=_scenery(random, modality, height, _PANORAMA_WIDTHS * width),
        gain=tuple(float(value) for value in gain),
        gamma=float(gamma),
        blur=float(blur),
        noise=float(noise),
        views=tuple(float(share) for share in views),
        distance=float(distance),
        pole=_scene_fill(random, modality),
    )


def choose_pose(random: np.random.Generator, camera: Camera) -> Pose:
    """Draw the pose of a person in one image of a camera."""
    return Pose(
        view=_VIEWS[int(random.choice(4, p=np.asarray(camera.views) / np.sum(camera.views)))],
        phase=float(random.uniform(0, 2 * np.pi)),
        stride=float(random.uniform(0.1, 1.0)),
        turn=float(random.uniform(-0.6, 0.6)),
        lean=float(random.normal(0, 0.03)),
    )


def choose_placement(random: np.random.Generator, camera: Camera, stature: float, height: int, width: int) -> Placement:
    """Draw size and position of a person in a crop of `height` × `width` pixels, as in a loose detector box."""
    scale = height * camera.distance * (0.55 + 0.45 * stature) * random.uniform(0.93, 1.04)
    slack = height - scale
    return Placement(
        scale=float(scale),
        middle=float(width * (0.5 + random.normal(0, 0.04))),
        top=float(slack * random.uniform(0.3, 0.7) + 0.01 * height),
    )


def cut_background(random: np.random.Generator, camera: Camera, height: int, width: int) -> Image.Image:
    """Cut a random piece of the camera's scenery, of the size of the drawing."""
    strip = camera.background
    left = int(random.integers(0, strip.width - width + 1))
    return strip.crop((left, 0, left + width, height))


def occlude(random: np.random.Generator, camera: Camera, image: Image.Image) -> None:
    """Sometimes draw a pole or a box in front of the person."""
    if random.random() >= 0.14:
        return
    pen = ImageDraw.Draw(image)
    width, height = image.size
    edge = tuple(round(0.6 * level) for level in camera.pole)
    if random.random() < 0.5:
        left = random.uniform(0.1, 0.8) * width
        pen.rectangle((left, 0, left + random.uniform(0.05, 0.11) * width, height), fill=camera.pole, outline=edge)
    else:
        left, upper = random.uniform(-0.2, 0.7) * width, random.uniform(0.7, 0.86) * height
        pen.rectangle((left, upper, left + random.uniform(0.35, 0.7) * width, height), fill=camera.pole, outline=edge)


def expose(random: np.random.Generator, camera: Camera, image: Image.Image) -> NDArray[np.uint8]:
    """Apply blur, tone curve, exposure and noise of the camera.

    Args:
        random: Generator of the image.
        camera: The camera.
        image: The scene at its final size, mode RGB or L.

    Returns:
        (H, W, 3) pixels for visible, (H, W) for infrared.
    """
    pixels = blurred(random, camera, image)
    exposure = random.uniform(0.88, 1.12)
    levels = toned(pixels, camera.gamma) * np.asarray(camera.gain, dtype=np.float32) * np.float32(exposure)
    return with_noise(random, camera, levels)


def blurred(random: np.random.Generator, camera: Camera, image: Image.Image) -> NDArray[np.uint8]:
    """The image through the camera's lens: (H, W, 3) or (H, W)."""
    radius = camera.blur * image.height / 1000 * random.uniform(0.6, 1.4)
    if radius > 0.25:
        image = image.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image)


def toned(pixels: NDArray[np.uint8], gamma: float) -> NDArray[np.float32]:
    """Brightness 0..1 of the pixels after a tone curve, of the same shape.

    NumPy's own powers differ in the last bit between kinds of processors; these do not.
    """
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    exponent = float(np.float32(gamma))
    return np.array([math.pow(level, exponent) for level in levels.tolist()], dtype=np.float32)[pixels]


def with_noise(random: np.random.Generator, camera: Camera, levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pixels of brightness `levels` (0..1, cut off outside) with the noise of the camera's sensor."""
    noise = random.standard_normal(levels.shape, dtype=np.float32) * np.float32(camera.noise)
    return np.clip(levels * 255 + noise + 0.5, 0, 255).astype(np.uint8)


def _scene_fill(random: np.random.Generator, modality: Modality) -> Fill:
    """A muted colour for objects in the background."""
    if modality is Modality.INFRARED:
        return (int(random.integers(40, 200)),)
    hue, saturation, value = random.random(), random.uniform(0.0, 0.45), random.uniform(0.2, 0.8)
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(float(hue), float(saturation), float(value)))


def _scenery(random: np.random.Generator, modality: Modality, height: int, width: int) -> Image.Image:
    """Draw indoor scenery (a wall with pillars and panels over a floor) or outdoor scenery (sky, hedges and a path)."""
    mode = "RGB" if modality is Modality.VISIBLE else "L"
    horizon = random.uniform(0.55, 0.78) * height
    outdoors = random.random() < 0.5
    ground = _scene_fill(random, modality)
    upper = _scene_fill(random, modality)
    if outdoors:
        # The sky is bright in visible and dark in infrared light; leaves are the opposite.
        upper = (172, 196, 224) if modality is Modality.VISIBLE else (62,)
    image = Image.new(mode, (width, height), upper)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, horizon, width, height), fill=ground)
    for _ in range(int(random.integers(14, 26))):
        _object(random, modality, pen, height, width, horizon, outdoors)
    if random.random() < 0.6:
        _floor_lines(random, pen, ground, height, width, horizon)
    return image.filter(ImageFilter.GaussianBlur(0.008 * height))


def _object(
    random: np.random.Generator,
    modality: Modality,
    pen: ImageDraw.ImageDraw,
    height: int,
    width: int,
    horizon: float,
    outdoors: bool,
) -> None:
    """Draw an object of the scenery: a bush or trunk outdoors, a pillar, panel or lamp indoors."""
    x = random.uniform(0, width)
    fill = _scene_fill(random, modality)
    if outdoors and random.random() < 0.7:
        leaf = random.uniform(0.6, 1.2)
        green = tuple(round(leaf * level) for level in (62, 96, 48))
        fill = green if modality is Modality.VISIBLE else (min(255, round(leaf * 175)),)
        radius = random.uniform(0.06, 0.2) * height
        y = horizon - random.uniform(-0.02, 0.25) * height
        pen.ellipse((x - radius, y - 0.8 * radius, x + radius, y + 0.8 * radius), fill=fill)
    elif random.random() < 0.5:
        pen.rectangle((x, 0, x + random.uniform(0.03, 0.12) * height, horizon + 0.05 * height), fill=fill)
    else:
        upper = random.uniform(0.05, 0.5) * height
        lower = min(horizon, upper + random.uniform(0.1, 0.4) * height)
        pen.rectangle((x, min(upper, lower), x + random.uniform(0.1, 0.4) * height, lower), fill=fill)


def _floor_lines(
    random: np.random.Generator, pen: ImageDraw.ImageDraw, ground: Fill, height: int, width: int, horizon: float
) -> None:
    """Draw tiles or boards on the ground."""
    shade = tuple(round(0.82 * level) for level in ground)
    for y in np.arange(horizon, height, random.uniform(0.05, 0.12) * height):
        pen.line([(0, float(y)), (width, float(y))], fill=shade, width=max(1, height // 140))
    for x in np.arange(0, width, random.uniform(0.15, 0.5) * height):
        pen.line([(float(x), horizon), (float(x) + 0.1 * height, height)], fill=shade, width=max(1, height // 140))
