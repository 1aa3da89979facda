"""How a person appears in one image: the side that is seen, the pose, and the place on the canvas."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Point = tuple[float, float]


class View(StrEnum):
    """The side of the person that the camera sees."""

    FRONT = "front"
    BACK = "back"
    LEFT = "left"
    RIGHT = "right"

    @property
    def from_the_side(self) -> bool:
        """Whether the person is seen in profile."""
        return self in (View.LEFT, View.RIGHT)


@dataclass(frozen=True, slots=True)
class Pose:
    """Pose of a person in one image.

    Attributes:
        view: The visible side.
        phase: Point in the walking cycle, radians.
        stride: Length of the step, 0 (standing) to 1.
        turn: Sideways shift of patterns on the cloth from a slight turn, -1..1.
        lean: Sideways lean of the upper body, body heights.
    """

    view: View
    phase: float
    stride: float
    turn: float
    lean: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Position of a person on the canvas: pixels per body height, middle column, row of the top of the head."""

    scale: float
    middle: float
    top: float
