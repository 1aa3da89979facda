"""Drawing of a person: flat shapes on a canvas, from back to front, independent of the modality."""

from __future__ import annotations

from collections.abc import Sequence

from pclhd.synthetic.bags import Bags
from pclhd.synthetic.brush import SHOULDER
from pclhd.synthetic.head import Heads
from pclhd.synthetic.patterns import PatternKind, Print
from pclhd.synthetic.pose import Point, View
from pclhd.synthetic.traits import Bag, BottomCut, Collar, Hair, Part, Shoes, Sleeve, TopCut

_WAIST = 0.44
_ANKLE = 0.955
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


class Figure(Heads, Bags):
    """Draws one person on one canvas; the arguments are those of `Brush`."""

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

    def _print(self, shape: Print) -> None:
        side = len(shape.cells)
        cell = shape.size / side
        left = -shape.size / 2 + 0.03 * self._pose.turn
        upper = SHOULDER + shape.centre * 0.26 - shape.size / 2 + 0.03
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
        outline = [(-0.045, 0.15), (0.045, 0.15), (shoulder, SHOULDER), (waist, _WAIST), (hem_half, hem)]
        outline += [(-hem_half, hem), (-waist, _WAIST), (-shoulder, SHOULDER)]
        self._cloth([outline], person.top_pattern, Part.TOP, Part.TOP_ACCENT, SHOULDER - 0.02)
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
            self._cloth([outline], person.top_pattern, Part.TOP, Part.TOP_ACCENT, SHOULDER - 0.02)
        if person.cuff:
            part = Part.TOP if person.sleeve_accent else Part.TOP_ACCENT
            cuff = _tube((start, elbow, hand), (width, width, width), end)
            self._polygon(part, [(x, max(y, end - 0.035)) for x, y in cuff])


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
