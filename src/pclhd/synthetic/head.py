"""Head, hair and hat."""

from __future__ import annotations

from pclhd.synthetic.brush import Brush
from pclhd.synthetic.pose import Point, View
from pclhd.synthetic.traits import Collar, Hair, Hat, Part


class Heads(Brush):
    """Draws the head of a person."""

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
