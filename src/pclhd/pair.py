"""Pairs of values for the two modalities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Literal, NamedTuple, TypeVar

Part = TypeVar("Part")
Other = TypeVar("Other")

ModalityName = Literal["visible", "infrared"]


class Pair(NamedTuple, Generic[Part]):
    """A value for the visible and one for the infrared modality; it unpacks in this order.

    Attributes:
        visible: The value of the visible modality.
        infrared: The value of the infrared modality.
    """

    visible: Part
    infrared: Part

    def items(self) -> Iterator[tuple[ModalityName, Part]]:
        """Each value with the name of its modality, visible first."""
        yield "visible", self.visible
        yield "infrared", self.infrared

    def of(self, modality: ModalityName) -> Part:
        """The value of a modality."""
        return self.visible if modality == "visible" else self.infrared

    def map(self, function: Callable[[Part], Other]) -> Pair[Other]:
        """The results of a function for both values; it is called for the visible one first."""
        return Pair(function(self.visible), function(self.infrared))
