"""Drawing of a person: flat shapes on a canvas, from back to front, independent of the modality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pclhd.synthetic.palette import Palette
from pclhd.synthetic.patterns import Pattern, PatternKind, Print, pattern_mask
from pclhd.synthetic.person import Bag, BottomCut, Collar, Hair, Hat, Part, Person, Shoes, Sleeve, TopCut

Point = tuple[float, float]
Fill = tuple[int, ...]

_SHOULDER = 0.185
_WAIST = 0.44
_ANKLE = 0.955
_TORSO_LENGTH = 0.36
_CLOTH_HALF_WIDTH = 0.12


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


_OPEN_TOPS = (TopCut.OPEN_JACKET, TopCut.OPEN_COAT)
_LONG_TOPS = (TopCut.COAT, TopCut.OPEN_COAT, TopCut.DRESS)
_SKIRTS = (BottomCut.SKIRT, BottomCut.LONG_SKIRT)
_SLEEVE_END = {Sleeve.NONE: 0.0, Sleeve.SHORT: 0.38, Sleeve.HALF: 0.62, Sleeve.LONG: 0.94}
_LEG_WIDTHS = {
    BottomCut.SLIM: (0.088, 0.062, 0.046),
    BottomCut.STRAIGHT: (0.095, 0.082, 0.072),
    BottomCut.WIDE: (0.105, 0.11, 0.115),
    BottomCut.FLARED: (0.09, 0.064, 0.118),
    BottomCut.CROPPED: (0.093, 0.078, 0.07),
    BottomCut.SHORTS: (0.105, 0.105, 0.1),
}
_BARE_LEG_WIDTHS = (0.08, 0.056, 0.04)


class Figure:
    """Draws one person on one canvas.

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

    def draw(self) -> None:
        """Draw everything, from back to front."""
        view, bag, person = self._pose.view, self._person.bag, self._person
        if bag is Bag.TROLLEY:
            self._trolley()
        self._arm(-1, far=True)
        for leg in (-1, 1):
            self._leg(leg)
        if person.bottom in _SKIRTS and person.top is not TopCut.DRESS:
            self._skirt()
        if bag is Bag.BACKPACK and view is not View.BACK:
            self._backpack_behind()
        if person.hair is Hair.LONG and view is View.FRONT:
            self._box(Part.HAIR, (-0.07, 0.05), (0.07, 0.25))
        self._torso()
        if person.collar is Collar.HOOD and view is not View.BACK:
            self._hood_behind()
        self._head()
        if view is View.BACK and person.collar is Collar.HOOD:
            self._polygon(Part.TOP, [(-0.075, 0.15), (0.075, 0.15), (0.05, 0.235), (0.0, 0.26), (-0.05, 0.235)])
        if bag is Bag.BACKPACK and view is View.FRONT:
            for x in (-0.075, 0.075):
                self._polygon(
                    Part.STRAP, [(x - 0.014, 0.17), (x + 0.014, 0.17), (x * 1.1 + 0.014, 0.36), (x * 1.1 - 0.014, 0.36)]
                )
        if bag is Bag.BACKPACK and view is View.BACK:
            self._bag_box(-person.bag_width * 0.75, 0.2, person.bag_width * 0.75, 0.22 + person.bag_height)
        if bag is Bag.SHOULDER:
            self._shoulder_bag()
        self._arm(1, far=False)
        if bag is Bag.HANDBAG:
            self._handbag()

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

    def _print(self, shape: Print) -> None:
        side = len(shape.cells)
        cell = shape.size / side
        left = -shape.size / 2 + 0.03 * self._pose.turn
        upper = _SHOULDER + shape.centre * 0.26 - shape.size / 2 + 0.03
        for row, cells in enumerate(shape.cells):
            for column, printed in enumerate(cells):
                if printed:
                    x0, y0 = self._at((left + column * cell, upper + row * cell))
                    x1, y1 = self._at((left + (column + 1) * cell, upper + (row + 1) * cell))
                    self._pen.rectangle((x0, y0, x1, y1), fill=self._fills[Part.PRINT])

    # The parts of a body, roughly from the ground up.

    def _hip_x(self, leg: int) -> float:
        return 0.018 * leg if self._side else 0.048 * leg * self._person.build

    def _leg(self, leg: int) -> None:
        """One leg: bare or in tights, then shoes, then trousers."""
        person, swing = self._person, self._swing * leg
        hip = (self._hip_x(leg), person.hip)
        if self._side:
            foot_x = self._ahead * 0.125 * swing
            knee = (hip[0] + 0.55 * (foot_x - hip[0]) + self._ahead * 0.012, 0.72)
            ankle = (foot_x, _ANKLE - 0.02 * max(0.0, -swing))
        else:
            knee = (hip[0] * 1.08, 0.72)
            ankle = (hip[0] * 1.12 + 0.01 * self._pose.turn, _ANKLE - 0.025 * max(0.0, swing))
        line = (hip, knee, ankle)
        skin = Part.TIGHTS if person.tights else Part.SKIN
        self._polygon(skin, _tube(line, _BARE_LEG_WIDTHS, ankle[1]))
        tall = {Shoes.BOOTS: 0.87, Shoes.HIGH_BOOTS: 0.76}.get(person.shoes)
        under = tall is not None and person.bottom in (BottomCut.STRAIGHT, BottomCut.WIDE, BottomCut.FLARED)
        if under:
            self._boot(line, tall)
        if person.bottom not in _SKIRTS and person.top is not TopCut.DRESS:
            widths = tuple(width * (0.6 + 0.4 * person.build) for width in _LEG_WIDTHS[person.bottom])
            outline = _tube(line, (widths[0], widths[1], widths[2]), min(person.bottom_hem, ankle[1]))
            self._cloth([outline], person.bottom_pattern, Part.BOTTOM, Part.BOTTOM_ACCENT, person.hip - 0.04)
            if person.side_stripe and person.bottom_pattern.kind is PatternKind.PLAIN:
                self._side_stripe(line, widths, leg)
        if not under:
            self._boot(line, tall)
        self._shoe(ankle, leg)

    def _side_stripe(self, line: tuple[Point, Point, Point], widths: Sequence[float], leg: int) -> None:
        """A stripe down the outer seam."""
        aside = 0.0 if self._side else 0.28 * leg
        shifted = [(x + aside * width, y) for (x, y), width in zip(line, widths, strict=True)]
        tube = _tube((shifted[0], shifted[1], shifted[2]), (0.024, 0.022, 0.022), self._person.bottom_hem - 0.01)
        self._pen.polygon([self._at(point) for point in tube], fill=self._fills[Part.BOTTOM_ACCENT])

    def _boot(self, line: tuple[Point, Point, Point], tall: float | None) -> None:
        if tall is None:
            return
        outline = _tube(line, (0.08, 0.07, 0.062), line[2][1] + 0.01)
        outline = [(x, max(y, tall)) for x, y in outline]
        self._polygon(Part.SHOES, outline)

    def _shoe(self, ankle: Point, leg: int) -> None:
        chunky = self._person.shoes in (Shoes.CHUNKY, Shoes.BOOTS)
        depth = 0.028 if chunky else 0.02
        if self._side:
            toe = self._ahead * 0.035
            self._ellipse(Part.SHOES, (ankle[0] + toe * 0.6, ankle[1] + 0.018), (0.055, depth))
        else:
            self._ellipse(Part.SHOES, (ankle[0] + 0.008 * leg, ankle[1] + 0.02), (0.036 if chunky else 0.03, depth))

    def _half_widths(self) -> tuple[float, float]:
        """Half widths of shoulders and waist as seen."""
        build = 0.55 + 0.45 * self._person.build
        return (0.068 * build, 0.066 * build) if self._side else (0.118 * build, 0.098 * build * build)

    def _skirt(self) -> None:
        person = self._person
        waist = self._half_widths()[1]
        hem = person.bottom_hem
        flare = waist + (0.035 if person.bottom is BottomCut.LONG_SKIRT else 0.055)
        outline = [(-waist, _WAIST), (waist, _WAIST), (flare, hem), (-flare, hem)]
        self._cloth([outline], person.bottom_pattern, Part.BOTTOM, Part.BOTTOM_ACCENT, person.hip - 0.04)

    def _torso(self) -> None:
        person, view = self._person, self._pose.view
        shoulder, waist = self._half_widths()
        hem = person.top_hem
        hem_half = waist * 1.06
        if person.top in _LONG_TOPS:
            hem_half = waist + (0.25 if person.top is TopCut.DRESS else 0.16) * (hem - _WAIST)
        outline = [(-0.045, 0.15), (0.045, 0.15), (shoulder, _SHOULDER), (waist, _WAIST), (hem_half, hem)]
        outline += [(-hem_half, hem), (-waist, _WAIST), (-shoulder, _SHOULDER)]
        self._cloth([outline], person.top_pattern, Part.TOP, Part.TOP_ACCENT, _SHOULDER - 0.02)
        shape = {View.FRONT: person.chest_print, View.BACK: person.back_print}.get(view)
        if view is View.FRONT and person.top in _OPEN_TOPS:
            gap = person.opening
            self._polygon(Part.INNER, [(-gap, 0.155), (gap, 0.155), (gap * 1.4, hem - 0.01), (-gap * 1.4, hem - 0.01)])
        elif view is View.FRONT and person.zip_line and person.top in (TopCut.JACKET, TopCut.COAT, TopCut.VEST):
            self._pen.line(
                [self._at((0, 0.16)), self._at((0, hem))], fill=self._fills[Part.INNER], width=3 * self._line
            )
        if view is View.FRONT and person.top not in _OPEN_TOPS:
            if person.collar is Collar.V:
                self._polygon(Part.SKIN, [(-0.045, 0.15), (0.045, 0.15), (0.0, 0.235)])
            elif person.collar is Collar.ROUND:
                self._ellipse(Part.SKIN, (0, 0.155), (0.045, 0.028))
        if shape is not None:
            self._print(shape)
        if person.scarf:
            self._box(Part.SCARF, (-0.06, 0.135), (0.06, 0.185))
            if view is not View.BACK:
                x = 0.02 * self._hand
                self._box(Part.SCARF, (x, 0.17), (x + 0.04, 0.33))

    def _arm(self, arm: int, *, far: bool) -> None:
        """Draw the far or near arm in profile; otherwise the far call draws nothing and the near call draws both."""
        if self._side:
            self._one_arm(0.0, self._ahead * -arm * self._swing, arm)
        elif not far:
            for side in (-1, 1):
                self._one_arm(float(side), 0.4 * side * self._swing, side)

    def _arm_line(self, side: float, swing: float) -> tuple[Point, Point, Point]:
        shoulder = self._half_widths()[0] - 0.012
        if self._side:
            return (0.0, _SHOULDER + 0.02), (0.07 * swing, 0.34), (0.07 * swing + 0.06 * max(swing, -0.5), 0.485)
        return (
            (side * shoulder, _SHOULDER + 0.02),
            (side * (shoulder + 0.03), 0.34),
            (side * (shoulder + 0.035 - 0.02 * abs(swing)), 0.49 - 0.03 * abs(swing)),
        )

    def _one_arm(self, side: float, swing: float, arm: int) -> None:
        person = self._person
        start, elbow, hand = self._arm_line(side, swing)
        width = person.sleeve_width
        self._ellipse(Part.SKIN, hand, (0.02, 0.024))
        bare = (0.04, 0.034, 0.028)
        self._polygon(Part.SKIN, _tube((start, elbow, hand), bare, hand[1]))
        reach = _SLEEVE_END[person.sleeve]
        if reach == 0:
            return
        end = start[1] + reach * (hand[1] - start[1])
        outline = _tube((start, elbow, hand), (width, width, 0.9 * width), end)
        if person.sleeve_accent:
            self._polygon(Part.TOP_ACCENT, outline)
        elif person.top_pattern.kind in (PatternKind.HALVES, PatternKind.PANEL, PatternKind.HEM):
            self._polygon(Part.TOP, outline)
        else:
            self._cloth([outline], person.top_pattern, Part.TOP, Part.TOP_ACCENT, _SHOULDER - 0.02)
        if person.cuff:
            part = Part.TOP if person.sleeve_accent else Part.TOP_ACCENT
            cuff = _tube((start, elbow, hand), (width, width, width), end)
            self._polygon(part, [(x, max(y, end - 0.035)) for x, y in cuff])

    # Head, hair and hat.

    def _head(self) -> None:
        person, view = self._person, self._pose.view
        size = person.head
        wide, tall = (0.05 if self._side else 0.046) * size, 0.064 * size
        centre = (0.012 * self._ahead if self._side else 0.0, 0.085)
        self._box(Part.SKIN, (-0.024, 0.1), (0.024, 0.165))
        if person.collar is Collar.HIGH:
            self._box(Part.TOP, (-0.04, 0.135), (0.04, 0.17))
        self._ellipse(Part.SKIN, centre, (wide, tall))
        self._hair(centre, wide, tall)
        if person.glasses and view is not View.BACK:
            shift = 0.025 * self._ahead if self._side else 0.0
            self._box(Part.GLASSES, (centre[0] + shift - 0.034, 0.078), (centre[0] + shift + 0.034, 0.095))
        self._hat(centre, wide)

    def _hair(self, centre: Point, wide: float, tall: float) -> None:
        hair, view = self._person.hair, self._pose.view
        x, y = centre
        back = -self._ahead
        if hair is Hair.BALD:
            return
        if hair is Hair.AFRO:
            if view is View.BACK:
                self._ellipse(Part.HAIR, (x, y - 0.015), (wide * 1.65, tall * 1.15))
            else:
                aside = back * 0.02 if self._side else 0.0
                self._ellipse(Part.HAIR, (x + aside, y - 0.025), (wide * 1.6, tall * 1.1), 170, 370)
            return
        if hair is Hair.BUN:
            self._ellipse(Part.HAIR, (x + (0.06 * back if self._side else 0.0), 0.012), (0.03, 0.026))
        if view is View.BACK:
            self._ellipse(Part.HAIR, centre, (wide * 1.08, tall * 1.02))
        elif self._side:
            self._ellipse(Part.HAIR, (x + back * 0.012, y - 0.012), (wide * 1.05, tall), 160, 380)
            self._box(Part.HAIR, (x + back * 0.01, y - 0.02), (x + back * wide * 1.1, y + 0.035))
        else:
            self._ellipse(Part.HAIR, (x, y - 0.01), (wide * 1.1, tall), 175, 365)
        if hair is Hair.BOB:
            self._locks(x, wide, 0.15)
        elif hair is Hair.LONG:
            self._locks(x, wide, 0.26)
        elif hair is Hair.TAIL and view is not View.FRONT:
            aside = back * (wide + 0.012) if self._side else 0.0
            self._box(Part.HAIR, (x + aside - 0.02, 0.07), (x + aside + 0.02, 0.27))

    def _locks(self, x: float, wide: float, end: float) -> None:
        """Hair hanging down to height `end`."""
        if self._pose.view is View.BACK:
            self._box(Part.HAIR, (-wide * 1.2, 0.07), (wide * 1.2, end))
        elif self._side:
            back = -self._ahead
            self._box(Part.HAIR, (x + back * 0.012, 0.07), (x + back * (wide + 0.022), end))
        else:
            for side in (-1, 1):
                self._box(Part.HAIR, (x + side * wide * 0.8, 0.06), (x + side * (wide + 0.02), min(end, 0.22)))

    def _hat(self, centre: Point, wide: float) -> None:
        hat, x = self._person.hat, centre[0]
        if hat is Hat.NONE:
            return
        self._ellipse(Part.HAT, (x, 0.058), (wide * 1.16, 0.062), 180, 360)
        if hat is Hat.BEANIE:
            self._box(Part.HAT_ACCENT, (x - wide * 1.16, 0.045), (x + wide * 1.16, 0.068))
        elif hat is Hat.BRIM:
            self._box(Part.HAT, (x - 0.105, 0.052), (x + 0.105, 0.07))
            self._box(Part.HAT_ACCENT, (x - wide * 1.1, 0.032), (x + wide * 1.1, 0.05))
        elif self._side:
            self._box(Part.HAT_ACCENT, (x + self._ahead * wide * 0.6, 0.048), (x + self._ahead * (wide + 0.05), 0.064))
        elif self._pose.view is View.FRONT:
            self._box(Part.HAT_ACCENT, (x - wide * 1.05, 0.05), (x + wide * 1.05, 0.07))

    def _hood_behind(self) -> None:
        if self._side:
            back = -self._ahead
            self._polygon(Part.TOP, [(0.0, 0.14), (back * 0.09, 0.13), (back * 0.1, 0.2), (back * 0.03, 0.22)])
        else:
            self._ellipse(Part.TOP, (0, 0.15), (0.085, 0.035))

    # Bags.

    def _bag_box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        outline = [(x0, y0 + 0.02), (x0 + 0.02, y0), (x1 - 0.02, y0), (x1, y0 + 0.02), (x1, y1), (x0, y1)]
        self._cloth([outline], self._person.bag_pattern, Part.BAG, Part.BAG_ACCENT, y0)

    def _backpack_behind(self) -> None:
        person = self._person
        shoulder = self._half_widths()[0]
        if self._side:
            back = -self._ahead
            x0, x1 = sorted((back * 0.04, back * (0.075 + 0.55 * person.bag_width)))
            self._bag_box(x0, 0.2, x1, 0.22 + person.bag_height)
        else:
            half = max(shoulder, person.bag_width * 0.75) + 0.012
            self._box(Part.BAG, (-half, 0.23), (half, 0.2 + person.bag_height))

    def _shoulder_bag(self) -> None:
        """A strap across the body and the bag at the hip; in profile, only a bag on the near side is fully visible."""
        person = self._person
        side = person.bag_side * self._hand
        shoulder, waist = self._half_widths()
        y = 0.5
        if self._side:
            near = person.bag_side == (1 if self._pose.view is View.LEFT else -1)
            self._strap((-0.01, 0.165), (0.02, y))
            if near:
                self._bag_box(
                    -person.bag_width * 0.6, y - 0.02, person.bag_width * 0.6, y + 0.08 + person.bag_height / 4
                )
            return
        self._strap((-side * shoulder * 0.6, 0.165), (side * waist, y))
        centre = side * (waist + 0.015)
        half = person.bag_width * 0.5
        self._bag_box(centre - half, y - 0.02, centre + half, y + 0.08 + person.bag_height / 4)

    def _strap(self, start: Point, end: Point) -> None:
        width = max(2, round(0.024 * self._place.scale))
        self._pen.line([self._at(start), self._at(end)], fill=self._fills[Part.STRAP], width=width)

    def _handbag(self) -> None:
        person = self._person
        side = person.bag_side * self._hand
        if self._side:
            near = person.bag_side == (1 if self._pose.view is View.LEFT else -1)
            x, y = self._arm_line(0.0, self._ahead * (-1 if near else 1) * self._swing)[2]
        else:
            x, y = self._arm_line(float(side), 0.4 * side * self._swing)[2]
        half = person.bag_width * 0.55
        for edge in (-0.6, 0.6):
            ends = [self._at((x, y)), self._at((x + edge * half, y + 0.06))]
            self._pen.line(ends, fill=self._fills[Part.STRAP], width=2 * self._line)
        self._bag_box(x - half, y + 0.05, x + half, y + 0.09 + person.bag_height * 0.6)

    def _trolley(self) -> None:
        """A wheeled case behind the person, or beside it when seen from the front or back."""
        person = self._person
        x = -self._ahead * 0.19 if self._side else person.bag_side * self._hand * 0.19
        self._pen.line(
            [self._at((x * 0.8, 0.5)), self._at((x, 0.7))], fill=self._fills[Part.STRAP], width=2 * self._line
        )
        half = person.bag_width * 0.5
        self._bag_box(x - half, 0.84 - person.bag_height, x + half, 0.95)
        for edge in (-0.7, 0.7):
            self._ellipse(Part.STRAP, (x + edge * half, 0.965), (0.014, 0.014))


def _tube(line: tuple[Point, Point, Point], widths: tuple[float, float, float], end: float) -> list[Point]:
    """The outline of a limb along three points downwards, cut off at height `end`."""
    centres, spans = [line[0]], [widths[0]]
    for (upper, wide), (lower, narrow) in zip(
        zip(line[:2], widths[:2], strict=True), zip(line[1:], widths[1:], strict=True), strict=True
    ):
        share = 1.0 if lower[1] <= end else (end - upper[1]) / max(lower[1] - upper[1], 1e-6)
        if share <= 0:
            break
        centres.append((upper[0] + share * (lower[0] - upper[0]), upper[1] + share * (lower[1] - upper[1])))
        spans.append(wide + share * (narrow - wide))
    right = [(x + span / 2, y) for (x, y), span in zip(centres, spans, strict=True)]
    left = [(x - span / 2, y) for (x, y), span in zip(centres, spans, strict=True)]
    return right + left[::-1]


def _edge_level(level: int) -> int:
    """Seams and outlines: darker than the cloth, or lighter where the cloth is nearly black."""
    return round(level * 0.62) if level > 40 else level + 28
