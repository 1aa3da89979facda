"""Drawing in body coordinates: the base of everything that draws a part of a person."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pclhd.synthetic.palette import Palette
from pclhd.synthetic.patterns import Pattern, PatternKind, pattern_mask
from pclhd.synthetic.person import Person
from pclhd.synthetic.pose import Placement, Point, Pose, View
from pclhd.synthetic.traits import Part

SHOULDER = 0.185
_TORSO_LENGTH = 0.36
_CLOTH_HALF_WIDTH = 0.12


class Brush:
    """Draws shapes of one person on one canvas.

    Args:
        image: The canvas, of mode RGB or L, changed in place.
        person: The person.
        palette: Channel values of every part; as many channels as the canvas has.
        pose: Pose of the person.
        place: Position of the person.
    """

    def __init__(self, image: Image.Image, person: Person, palette: Palette, pose: Pose, place: Placement) -> None:
        self._image = image
        self._pen = ImageDraw.Draw(image)
        self._person = person
        self._pose = pose
        self._place = place
        self._fills = {part: tuple(round(255 * value) for value in values) for part, values in palette.items()}
        self._edges = {part: tuple(_edge_level(level) for level in fill) for part, fill in self._fills.items()}
        self._line = max(1, round(0.007 * place.scale))
        self._side = pose.view.from_the_side
        # From behind, the person's left and right are swapped in the image.
        self._hand = -1 if pose.view in (View.BACK, View.RIGHT) else 1
        self._ahead = -1 if pose.view is View.LEFT else 1
        self._swing = pose.stride * math.sin(pose.phase)

    # Drawing in body coordinates.

    def _at(self, point: Point) -> Point:
        """A body point (x sideways from the middle, y down from the head, body heights) in pixels."""
        x, y = point
        lean = self._pose.lean * max(0.0, 0.5 - y)
        return self._place.middle + (x + lean) * self._place.scale, self._place.top + y * self._place.scale

    def _polygon(self, part: Part, points: Sequence[Point]) -> None:
        corners = [self._at(point) for point in points]
        self._pen.polygon(corners, fill=self._fills[part])
        self._pen.line([*corners, corners[0]], fill=self._edges[part], width=self._line)

    def _box(self, part: Part, low: Point, high: Point) -> None:
        (x0, x1), (y0, y1) = sorted((low[0], high[0])), sorted((low[1], high[1]))
        self._polygon(part, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])

    def _ellipse(self, part: Part, centre: Point, radii: Point, start: float = 0, end: float = 360) -> None:
        (x, y), (across, along) = self._at(centre), radii
        across, along = across * self._place.scale, along * self._place.scale
        box = (x - across, y - along, x + across, y + along)
        if end - start >= 360:
            self._pen.ellipse(box, fill=self._fills[part], outline=self._edges[part], width=self._line)
        else:
            self._pen.chord(box, start, end, fill=self._fills[part], outline=self._edges[part], width=self._line)

    def _cloth(
        self, outlines: Sequence[Sequence[Point]], pattern: Pattern, main: Part, accent: Part, top: float
    ) -> None:
        """Fill polygons with a pattern that hangs from height `top`, and outline them."""
        if pattern.kind is PatternKind.PLAIN:
            for outline in outlines:
                self._polygon(main, outline)
            return
        polygons = [[self._at(point) for point in outline] for outline in outlines]
        columns = [x for polygon in polygons for x, _ in polygon]
        rows = [y for polygon in polygons for _, y in polygon]
        left, right = max(0, math.floor(min(columns))), min(self._image.width, math.ceil(max(columns)) + 1)
        upper, lower = max(0, math.floor(min(rows))), min(self._image.height, math.ceil(max(rows)) + 1)
        if right <= left or lower <= upper:
            return
        stencil = Image.new("L", (right - left, lower - upper))
        cutter = ImageDraw.Draw(stencil)
        for polygon in polygons:
            cutter.polygon([(x - left, y - upper) for x, y in polygon], fill=255)
        scale = self._place.scale
        shift = 0.35 * self._pose.turn + (0.5 * self._ahead if self._side else 0.0)
        u = (np.arange(left, right, dtype=np.float32) - self._place.middle) / (_CLOTH_HALF_WIDTH * scale) - shift
        v = ((np.arange(upper, lower, dtype=np.float32) - self._place.top) / scale - top) / _TORSO_LENGTH
        accent_mask = pattern_mask(pattern, self._hand * u, v)
        self._image.paste(self._two_tone(accent_mask, main, accent), (left, upper), stencil)
        for polygon in polygons:
            self._pen.line([*polygon, polygon[0]], fill=self._edges[main], width=self._line)

    def _two_tone(self, accent_mask: NDArray[np.bool_], main: Part, accent: Part) -> Image.Image:
        """An image of the main material with the accent where `accent_mask`."""
        colours = np.array([self._fills[main], self._fills[accent]], dtype=np.uint8)
        pixels = colours[accent_mask.astype(np.uint8)]
        return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)

    # Measures of the body.

    def _half_widths(self) -> tuple[float, float]:
        """Half widths of shoulders and waist as seen."""
        build = 0.55 + 0.45 * self._person.build
        return (0.068 * build, 0.066 * build) if self._side else (0.118 * build, 0.098 * build * build)

    def _arm_line(self, side: float, swing: float) -> tuple[Point, Point, Point]:
        shoulder = self._half_widths()[0] - 0.012
        if self._side:
            return (0.0, SHOULDER + 0.02), (0.07 * swing, 0.34), (0.07 * swing + 0.06 * max(swing, -0.5), 0.485)
        return (
            (side * shoulder, SHOULDER + 0.02),
            (side * (shoulder + 0.03), 0.34),
            (side * (shoulder + 0.035 - 0.02 * abs(swing)), 0.49 - 0.03 * abs(swing)),
        )


def _edge_level(level: int) -> int:
    """Seams and outlines: darker than the cloth, or lighter where the cloth is nearly black."""
    return round(level * 0.62) if level > 40 else level + 28
