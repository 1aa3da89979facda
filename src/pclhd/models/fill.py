"""Copy tensors from a state with other names into a network: all of them, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pclhd.errors import UserError
from pclhd.models.two_stream import TwoStreamNetwork


@dataclass(frozen=True)
class Source:
    """The source of one entry of the network's state.

    Attributes:
        key: Name of the entry in the foreign state.
        optional: Whether the network keeps its value if the foreign state does not have the entry.
    """

    key: str
    optional: bool = False


@torch.no_grad()
def fill_network(
    network: TwoStreamNetwork, sources: Mapping[str, Source], state: Mapping[str, Tensor], *, origin: str
) -> None:
    """Copy tensors of a foreign state into a network after checking that all of them fit.

    Args:
        network: The network to fill.
        sources: Sources by name in the network's state. Other entries keep their values.
        state: The foreign tensors.
        origin: Name of the foreign state in messages, usually its file.

    Raises:
        UserError: An entry is missing, or has another shape or data type.
    """
    copies: list[tuple[Tensor, Tensor]] = []
    own = network.state_dict()
    for name, source in sources.items():
        target = own[name]
        if source.key not in state:
            if source.optional:
                continue
            raise UserError(
                f"{origin}: the entry {source.key!r} is missing; expected a tensor of shape {_shape(target)} for "
                f"{name!r}; choose weights of the same architecture"
            )
        tensor = state[source.key]
        if not isinstance(tensor, Tensor) or tensor.shape != target.shape:
            found = f"shape {_shape(tensor)}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
            raise UserError(
                f"{origin}: the entry {source.key!r} has {found}; expected shape {_shape(target)} for {name!r}; choose "
                "weights of the same architecture"
            )
        if tensor.is_floating_point() != target.is_floating_point():
            raise UserError(
                f"{origin}: the entry {source.key!r} has type {tensor.dtype}; expected {target.dtype}; choose weights "
                "of the same architecture"
            )
        copies.append((target, tensor))
    for target, tensor in copies:
        target.copy_(tensor)


def _shape(tensor: Tensor) -> str:
    return "×".join(str(size) for size in tensor.shape) or "a single number"
