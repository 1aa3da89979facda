"""Weights of the released code and its family: the mapping of their 1025 state entries to our network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pclhd.errors import ArgumentError, UserError
from pclhd.models.fill import Source, fill_network
from pclhd.models.two_stream import RESNET50_AGW, TwoStreamNetwork

RELEASED_ARCHITECTURE = RESNET50_AGW
"""The network of the released code and its family."""

_STEMS = {"visible_stem": "visible_module.visible", "infrared_stem": "thermal_module.thermal"}
_STEM_PARTS = {"conv": "conv1", "norm": "bn1"}
_TRUNK = "base_resnet.base"
_NON_LOCAL_PARTS = {"query": "theta", "key": "phi", "value": "g.0", "output": "W.0", "norm": "W.1"}
_CLASSIFIER = "classifier.weight"
_CLASSIFIER_OUTPUTS = 1000

# Matches the prefix of a network's names, such as `state_dict.module.`.
_NETWORK = re.compile(r"(?:(.+)\.)?(?:visible_module|thermal_module|base_resnet)\.")
# The released network has three complete ResNet-50s, of which one is used, and an unused classifier.
_IDLE = re.compile(
    r"visible_module\.visible\.(layer\d|fc)\.|thermal_module\.thermal\.(layer\d|fc)\."
    r"|base_resnet\.base\.(conv1|bn1|fc)\.|classifier\w*\."
)


@dataclass(frozen=True)
class LoadReport:
    """Which entries of a foreign state were used.

    Attributes:
        used: Names of the entries that were loaded, sorted.
        unused: Names of the entries without a counterpart in the network, sorted. The released network has three
            complete ResNet-50s, of which one is used.
        non_local: Whether the state had the non-local blocks. If not, the network's blocks have no effect.
    """

    used: tuple[str, ...]
    unused: tuple[str, ...]
    non_local: bool = True

    @property
    def unknown(self) -> tuple[str, ...]:
        """Unused entries that the released network does not have; their part may affect embeddings."""
        return tuple(name for name in self.unused if not _IDLE.match(name))


def released_name(name: str) -> str:
    """The released code's name of one of our state entries.

    Args:
        name: A key of `TwoStreamNetwork.state_dict`, such as ``trunk.stage2.0.conv1.weight``.

    Returns:
        Its key in the released state, such as ``base_resnet.base.layer2.0.conv1.weight``.

    Raises:
        ValueError: Our network has no entry of this name.
    """
    match name.split("."):
        case ["visible_stem" | "infrared_stem" as stem, ("conv" | "norm") as part, *rest]:
            return ".".join([_STEMS[stem], _STEM_PARTS[part], *rest])
        case ["trunk", stage, *rest] if rest:
            return ".".join([_TRUNK, stage.replace("stage", "layer"), *rest])
        case ["non_local", stage, position, part, *rest] if part in _NON_LOCAL_PARTS:
            return ".".join([stage.replace("stage", "NL_"), position, _NON_LOCAL_PARTS[part], *rest])
        case ["neck", *rest] if rest:
            return ".".join(["bottleneck", *rest])
    raise ValueError(f"{name!r} is not an entry of a two-stream network's state")


def find_network(tensors: Mapping[str, Tensor], wanted: str | None = None, *, origin: str) -> str:
    """The place of a network of the family in a checkpoint.

    Args:
        tensors: All tensors of the checkpoint, by place.
        wanted: The place to use if there are several networks (such as a momentum copy).
        origin: Name of the checkpoint in messages, usually its file.

    Returns:
        The prefix of the released names without the last dot, such as ``state_dict.module``; may be empty. Of several
        networks, the one in ``state_dict`` is used, as in the released code.

    Raises:
        UserError: There is no network of the family, there are several without a preferred one, or not the wanted one.
    """
    places = sorted({match[1] or "" for match in map(_NETWORK.match, tensors) if match})
    if not places:
        if "visible_stem.conv.weight" in tensors:
            raise UserError(f"{origin}: is a model file of pclhd already; evaluate or embed with its run folder")
        raise UserError(
            f"{origin}: no network of the released family (visible_module, thermal_module, base_resnet); its "
            f"{len(tensors)} tensors have names like {min(tensors)!r}; for ImageNet weights use "
            "model.weights=imagenet:FILE"
        )
    listed = ", ".join(place or "(the file itself)" for place in places)
    if wanted is not None:
        if wanted not in places:
            raise UserError(f"{origin}: no network at {wanted!r}; it has: {listed}")
        return wanted
    preferred = [place for place in places if place.split(".")[0] == "state_dict"]
    for candidates in (places, preferred):
        if len(candidates) == 1:
            return candidates[0]
    raise ArgumentError("network", f"{origin} contains several networks: {listed}; choose one")


def load_released_state(
    network: TwoStreamNetwork, state: Mapping[str, Tensor], *, origin: str = "the released state"
) -> LoadReport:
    """Load a state with the released code's names into a network.

    Either the whole network is loaded, or nothing is. Two parts may be absent: batch counters (files from before torch
    0.4.1 have none), and all non-local blocks (the public code of ADCA builds its network without them); the network's
    blocks are then set to add exactly zero.

    Args:
        network: The network.
        state: Tensors by released name. Entries without a counterpart are ignored.
        origin: Name of the state in messages, usually its file.

    Returns:
        The names used and unused.

    Raises:
        UserError: An entry is missing, has the wrong shape, or contains NaN or infinity.
    """
    own = {name: released_name(name) for name in network.state_dict()}
    non_local = any(name.startswith("NL_") for name in state)
    sources = {
        name: Source(key, optional=key.endswith("num_batches_tracked") or (not non_local and key.startswith("NL_")))
        for name, key in own.items()
    }
    used = set(own.values()) & set(state)
    shapes = {own[name]: tensor.shape for name, tensor in network.state_dict().items()}
    _require_numbers(state, {name: shapes[name] for name in sorted(used)}, origin)
    fill_network(network, sources, state, origin=origin)
    if not non_local:
        _disable_non_local_blocks(network)
    return LoadReport(used=tuple(sorted(used)), unused=tuple(sorted(set(state) - used)), non_local=non_local)


def released_state(network: TwoStreamNetwork) -> dict[str, Tensor]:
    """A network's weights as the released code saves them: its names, its order, and its unused parts.

    The stages inside its two stem modules repeat the shared stages, the stem of the shared module repeats the visible
    one, and the classifier is zero: nothing uses them, but its loader requires them.

    Args:
        network: A network, on any device.

    Returns:
        Tensors by released name, on the CPU; repeated ones share their memory.
    """
    ours = {released_name(name): tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    visible, infrared = (_below(ours, place) for place in _STEMS.values())
    stages = _below(ours, _TRUNK)
    state: dict[str, Tensor] = {}
    for place, stem in ((_STEMS["infrared_stem"], infrared), (_STEMS["visible_stem"], visible), (_TRUNK, visible)):
        state |= {f"{place}.{name}": tensor for name, tensor in (stem | stages).items()}
    state |= {name: tensor for name, tensor in ours.items() if name not in state}
    state[_CLASSIFIER] = torch.zeros(_CLASSIFIER_OUTPUTS, network.embedding_size)
    return state


def _below(state: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    prefix = f"{place}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _require_numbers(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], origin: str) -> None:
    """Refuse what would make an embedding NaN: in 32 bits, in which the network keeps its weights.

    A tensor of another shape than the network's is left to `fill_network`: a kilobyte can stand for terabytes.
    """
    for name, shape in shapes.items():
        tensor = state[name]
        plain = tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_quantized or tensor.is_meta)
        if not plain or tensor.is_complex():
            raise UserError(f"{origin}: the entry {name!r} is not a plain tensor; save the weights dense, as float32")
        if tensor.shape != shape:
            continue
        numbers = tensor.float()
        if not torch.isfinite(numbers).all():
            raise UserError(
                f"{origin}: the entry {name!r} has NaN or infinity, or values beyond float32; use an earlier checkpoint"
            )
        if name.endswith("running_var") and (numbers < 0).any():
            raise UserError(f"{origin}: the entry {name!r} has a negative variance; fetch the checkpoint again")


@torch.no_grad()
def _disable_non_local_blocks(network: TwoStreamNetwork) -> None:
    """Make the blocks add zero: each ends with a batch norm and a sum, and the norm's weight and bias become zero."""
    for name, tensor in network.state_dict().items():
        if name.startswith("non_local.") and name.endswith((".norm.weight", ".norm.bias")):
            tensor.zero_()
