"""What a person of generator version 2 shows from each side, and what changes between passages."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pclhd.synthetic.patterns import PatternKind, draw_pattern
from pclhd.synthetic.person import Person
from pclhd.synthetic.pose import View
from pclhd.synthetic.traits import Bag, TopCut
from pclhd.synthetic.variation import CHANGES, TWO_PATTERNS

_CLOSED = {TopCut.OPEN_JACKET: TopCut.JACKET, TopCut.OPEN_COAT: TopCut.COAT}
_OPENED = {closed: opened for opened, closed in _CLOSED.items()}


@dataclass(frozen=True, slots=True)
class Outfit:
    """One person as seen from the front and sides, and from behind; the cuts are the same."""

    front: Person
    back: Person


def draw_outfit(random: np.random.Generator, person: Person) -> Outfit:
    """Draw how front and back differ: another pattern or none, another print, a wide opening, more backpacks.

    Args:
        random: Generator of the person.
        person: The person as version 1 would have it.
    """
    bag = Bag.BACKPACK if person.bag is Bag.NONE and random.random() < 0.3 else person.bag
    front = replace(
        person,
        opening=float(random.uniform(0.035, 0.075)),
        bag=bag,
        bag_height=person.bag_height if bag is not Bag.BACKPACK else float(random.uniform(0.16, 0.26)),
        top=_OPENED.get(person.top, person.top) if random.random() < 0.4 else person.top,
    )
    back = front
    if front.top_pattern.kind is not PatternKind.PLAIN and random.random() < TWO_PATTERNS:
        back = replace(front, top_pattern=draw_pattern(random, plain_share=0.7))
    return Outfit(front, back)


def as_worn(random: np.random.Generator, outfit: Outfit, view: View) -> Person:
    """The person in one passage: a jacket may be closed, a bag may be in the other hand.

    Args:
        random: Generator of the passage.
        outfit: The outfit.
        view: The side that the camera sees.
    """
    person = outfit.back if view is View.BACK else outfit.front
    closed, swapped = random.random(2) < CHANGES
    return replace(
        person,
        top=_CLOSED.get(person.top, person.top) if closed else person.top,
        bag_side=-person.bag_side if swapped else person.bag_side,
    )
