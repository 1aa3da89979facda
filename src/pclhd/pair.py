"""The same thing for both modalities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Literal, NamedTuple, TypeVar

Part = TypeVar("Part")
Other = TypeVar("Other")

ModalityName = Literal["visible", "infrared"]


class Pair(NamedTuple, Generic[Part]):
    """What there is for the visible and for the infrared modality; it unpacks in this order.

    Attributes:
        visible: The visible part.
        infrared: The infrared part.
    """

    visible: Part
    infrared: Part

    def items(self) -> Iterator[tuple[ModalityName, Part]]:
        """Each part with the name of its modality, visible first."""
        yield "visible", self.visible
        yield "infrared", self.infrared

    def of(self, modality: ModalityName) -> Part:
        """The part of a modality."""
        return self.visible if modality == "visible" else self.infrared

    def map(self, function: Callable[[Part], Other]) -> Pair[Other]:
        """The results of a function for both parts; it is called for the visible part first."""
        return Pair(function(self.visible), function(self.infrared))
