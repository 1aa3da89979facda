"""Bags, before and behind a person."""

from __future__ import annotations

from pclhd.synthetic.brush import Brush
from pclhd.synthetic.pose import Point, View
from pclhd.synthetic.traits import Part


class Bags(Brush):
    """Draws the bag of a person."""

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
