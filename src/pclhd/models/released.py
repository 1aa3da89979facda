"""Weights of the released code: which of its 1025 state entries belongs to which part of our network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pclhd.models.fill import Source, fill_network
from pclhd.models.two_stream import TwoStreamNetwork

_STEMS = {"visible_stem": "visible_module.visible", "infrared_stem": "thermal_module.thermal"}
_STEM_PARTS = {"conv": "conv1", "norm": "bn1"}
_NON_LOCAL_PARTS = {"query": "theta", "key": "phi", "value": "g.0", "output": "W.0", "norm": "W.1"}


@dataclass(frozen=True)
class LoadReport:
    """What became of the entries of a foreign state.

    Attributes:
        used: Names of the entries that now fill the network, sorted.
        unused: Names of the entries for which the network has no part, sorted. The released network carries three whole
            ResNet-50s, of which one is in use.
    """

    used: tuple[str, ...]
    unused: tuple[str, ...]


def released_name(name: str) -> str:
    """The released code's name of one of our state entries.

    Args:
        name: A key of `TwoStreamNetwork.state_dict`, such as ``trunk.stage2.0.conv1.weight``.

    Returns:
        Its key in the released state, such as ``base_resnet.base.layer2.0.conv1.weight``.

    Raises:
        ValueError: No part of our network has this name.
    """
    match name.split("."):
        case ["visible_stem" | "infrared_stem" as stem, ("conv" | "norm") as part, *rest]:
            return ".".join([_STEMS[stem], _STEM_PARTS[part], *rest])
        case ["trunk", stage, *rest] if rest:
            return ".".join(["base_resnet.base", stage.replace("stage", "layer"), *rest])
        case ["non_local", stage, position, part, *rest] if part in _NON_LOCAL_PARTS:
            return ".".join([stage.replace("stage", "NL_"), position, _NON_LOCAL_PARTS[part], *rest])
        case ["neck", *rest] if rest:
            return ".".join(["bottleneck", *rest])
    raise ValueError(f"{name!r} is no entry of a two-stream network's state")


def load_released_state(
    network: TwoStreamNetwork, state: Mapping[str, Tensor], *, origin: str = "the released state"
) -> LoadReport:
    """Fill a network from a state in the released code's names.

    Either every part of the network is filled, or none is.

    Args:
        network: The network to fill.
        state: Tensors by released name. Entries for which we have no part are left out.
        origin: How messages call the state, usually its file.

    Returns:
        The names used and unused.

    Raises:
        UserError: An entry is missing or has another shape than the network's part.
    """
    sources = {name: Source(released_name(name)) for name in network.state_dict()}
    fill_network(network, sources, state, origin=origin)
    used = {source.key for source in sources.values()}
    return LoadReport(used=tuple(sorted(used)), unused=tuple(sorted(set(state) - used)))
