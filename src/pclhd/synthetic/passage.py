"""Passages of generator version 2: a few frames of one person before one camera, one after the other.

The frames of a passage share the light, the side the person shows, the place and what is worn; from one to the next
the person walks on a little. Another passage of the same person before the same camera may differ in all of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import Modality
from pclhd.synthetic.cameras import choose_pose
from pclhd.synthetic.pose import Pose
from pclhd.synthetic.site import Site
from pclhd.synthetic.variation import FRAMES, PASSERS_BY, VARIATION

_STRANGERS = 20_000
"""Numbers from here on are passers-by, who are in no list."""


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """The light of one passage.

    Attributes:
        tint: Factor of each channel.
        gamma: Exponent, on top of the camera's.
        shade: (H, W) or broadcastable: a shadow or a window at one side.
    """

    tint: NDArray[np.float32]
    gamma: float
    shade: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something in front of the person, in shares of the image: left, upper, right and lower edge."""

    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PasserBy:
    """Another person near the edge of the image.

    Attributes:
        identity: Who it is; in no list.
        aside: Distance from the middle, in image widths.
        size: Height in heights of the person.
        in_front: Whether the person is partly hidden.
    """

    identity: int
    aside: float
    size: float
    in_front: bool


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """What the frames of a passage share.

    Attributes:
        pose: Pose in the first frame.
        light: The light.
        backdrop: Where in the camera's scenery, 0..1.
        size: Factor of the usual size.
        detail: Share of rows that the sensor resolves.
        aside: Sideways offset, in image widths.
        obstacle: What is in front, or None.
        passer_by: Who else is there, or None.
    """

    pose: Pose
    light: Light
    backdrop: float
    size: float
    detail: float
    aside: float
    obstacle: Obstacle | None
    passer_by: PasserBy | None


def passage_length(random: np.random.Generator) -> int:
    """Number of frames of each passage of one person before one camera."""
    return int(random.integers(FRAMES[0], FRAMES[1] + 1))


def draw_passage(random: np.random.Generator, site: Site, modality: Modality, size: tuple[int, int]) -> Passage:
    """Draw what the frames of a passage share.

    Args:
        random: Generator of the passage.
        site: The camera.
        modality: Visible or infrared.
        size: Height and width of the images.
    """
    return Passage(
        pose=choose_pose(random, site.camera),
        light=_light(random, modality, size),
        backdrop=float(random.random()),
        size=math.exp(random.normal(0, 0.04)),
        detail=float(np.clip(site.detail * math.exp(random.normal(0, 0.15)), 0.3, 1.0)),
        aside=float(random.normal(0, 0.035)),
        obstacle=_obstacle(random) if random.random() < site.clutter else None,
        passer_by=_passer_by(random) if random.random() < PASSERS_BY else None,
    )


def walk_on(random: np.random.Generator, pose: Pose, frame: int) -> Pose:
    """The pose `frame` frames later."""
    return replace(
        pose,
        phase=pose.phase + 0.7 * frame + float(random.normal(0, 0.1)),
        turn=float(np.clip(pose.turn + random.normal(0, 0.08), -1, 1)),
        lean=pose.lean + float(random.normal(0, 0.006)),
    )


def _light(random: np.random.Generator, modality: Modality, size: tuple[int, int]) -> Light:
    """Daylight or lamps, bright or dim, from one side or from all."""
    choice = VARIATION[modality]
    exposure = math.exp(random.normal(0, choice.exposure))
    warmth = random.normal(0, choice.warmth)
    casts = (warmth, 0.0, -warmth) if modality is Modality.VISIBLE else (0.0,)
    tint = exposure * np.array([math.exp(cast) for cast in casts])
    height, width = size
    slope = random.normal(0, choice.slope, 2)
    across, down = np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height)
    shade = 1 + slope[0] * across[None, :] + slope[1] * down[:, None]
    gamma = math.exp(random.normal(0, choice.contrast))
    return Light(tint.astype(np.float32), gamma, shade.astype(np.float32))


def _obstacle(random: np.random.Generator) -> Obstacle:
    """A pole, or a box, counter or railing before the legs."""
    if random.random() < 0.5:
        left = float(random.uniform(0.08, 0.8))
        return Obstacle((left, 0.0, left + float(random.uniform(0.05, 0.13)), 1.0))
    left, upper = float(random.uniform(-0.3, 0.6)), float(random.uniform(0.6, 0.86))
    return Obstacle((left, upper, left + float(random.uniform(0.35, 0.9)), 1.02))


def _passer_by(random: np.random.Generator) -> PasserBy:
    side = 1.0 if random.random() < 0.5 else -1.0
    return PasserBy(
        identity=_STRANGERS + int(random.integers(0, 500)),
        aside=side * float(random.uniform(0.38, 0.6)),
        size=float(random.uniform(0.75, 1.1)),
        in_front=bool(random.random() < 0.3),
    )
