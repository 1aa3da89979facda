"""Weights of the released code and its family: which of the 1025 state entries belongs to which part of our network."""

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
"""The one network of the released code and its family."""

_STEMS = {"visible_stem": "visible_module.visible", "infrared_stem": "thermal_module.thermal"}
_STEM_PARTS = {"conv": "conv1", "norm": "bn1"}
_TRUNK = "base_resnet.base"
_NON_LOCAL_PARTS = {"query": "theta", "key": "phi", "value": "g.0", "output": "W.0", "norm": "W.1"}
_CLASSIFIER = "classifier.weight"
_CLASSIFIER_OUTPUTS = 1000

# What comes before the names of a network, such as `state_dict.module.`.
_NETWORK = re.compile(r"(?:(.+)\.)?(?:visible_module|thermal_module|base_resnet)\.")
# The released network has three whole ResNet-50s, of which one is in use, and a classifier that is not.
_IDLE = re.compile(
    r"visible_module\.visible\.(layer\d|fc)\.|thermal_module\.thermal\.(layer\d|fc)\."
    r"|base_resnet\.base\.(conv1|bn1|fc)\.|classifier\w*\."
)


@dataclass(frozen=True)
class LoadReport:
    """What became of the entries of a foreign state.

    Attributes:
        used: Names of the entries that now fill the network, sorted.
        unused: Names of the entries for which the network has no part, sorted. The released network carries three whole
            ResNet-50s, of which one is in use.
        non_local: Whether the state had the non-local blocks. Without, they change nothing.
    """

    used: tuple[str, ...]
    unused: tuple[str, ...]
    non_local: bool = True

    @property
    def unknown(self) -> tuple[str, ...]:
        """Unused entries that the released network does not have: perhaps of a part that does something."""
        return tuple(name for name in self.unused if not _IDLE.match(name))


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
            return ".".join([_TRUNK, stage.replace("stage", "layer"), *rest])
        case ["non_local", stage, position, part, *rest] if part in _NON_LOCAL_PARTS:
            return ".".join([stage.replace("stage", "NL_"), position, _NON_LOCAL_PARTS[part], *rest])
        case ["neck", *rest] if rest:
            return ".".join(["bottleneck", *rest])
    raise ValueError(f"{name!r} is no entry of a two-stream network's state")


def find_network(tensors: Mapping[str, Tensor], wanted: str | None = None, *, origin: str) -> str:
    """Where in a checkpoint a network of the family lies.

    Args:
        tensors: All tensors of the checkpoint, by place.
        wanted: The place to take, where there are several networks (a momentum copy, say).
        origin: How messages call the checkpoint, usually its file.

    Returns:
        What stands before the released names, without the last dot: ``state_dict.module``, or nothing. Of several
        networks the one in ``state_dict`` is taken, which the released code would read.

    Raises:
        UserError: There is no network of the family, several with none to prefer, or not the wanted one.
    """
    found = sorted({match[1] or "" for match in map(_NETWORK.match, tensors) if match})
    if not found:
        if "visible_stem.conv.weight" in tensors:
            raise UserError(f"{origin}: is a model file of pclhd already; evaluate or embed with its run folder")
        raise UserError(
            f"{origin}: no network of the released family (visible_module, thermal_module, base_resnet); its "
            f"{len(tensors)} tensors have names like {min(tensors)!r}; for ImageNet weights say "
            "model.weights=imagenet:FILE"
        )
    listed = ", ".join(place or "(the file itself)" for place in found)
    if wanted is not None:
        if wanted not in found:
            raise UserError(f"{origin}: no network at {wanted!r}; it has: {listed}")
        return wanted
    preferred = [place for place in found if place.split(".")[0] == "state_dict"]
    for candidates in (found, preferred):
        if len(candidates) == 1:
            return candidates[0]
    raise ArgumentError("network", f"{origin} holds several networks: {listed}; choose one")


def load_released_state(
    network: TwoStreamNetwork, state: Mapping[str, Tensor], *, origin: str = "the released state"
) -> LoadReport:
    """Fill a network from a state in the released code's names.

    Either every part of the network is filled, or none is. Two things may be absent: counts of batches (files from
    before torch 0.4.1 have none), and the non-local blocks as a whole (the public code of ADCA builds its network
    without); these then add exactly nothing to what passes.

    Args:
        network: The network to fill.
        state: Tensors by released name. Entries for which we have no part are left out.
        origin: How messages call the state, usually its file.

    Returns:
        The names used and unused.

    Raises:
        UserError: An entry is missing, has another shape than the network's part, or holds NaN or infinity.
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
        _silence_non_local_blocks(network)
    return LoadReport(used=tuple(sorted(used)), unused=tuple(sorted(set(state) - used)), non_local=non_local)


def released_state(network: TwoStreamNetwork) -> dict[str, Tensor]:
    """A network's weights as the released code keeps them: its names, its order of parts, and all that it carries idle.

    The stages inside its two stem modules repeat the shared stages, the stem of the shared module repeats the visible
    one, and the classifier is zero: nothing reads them, but its loader wants each to be there.

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
            raise UserError(f"{origin}: the entry {name!r} is no plain tensor; save the weights dense, as float32")
        if tensor.shape != shape:
            continue
        numbers = tensor.float()
        if not torch.isfinite(numbers).all():
            raise UserError(
                f"{origin}: the entry {name!r} holds NaN or infinity, or more than float32 can hold; take a "
                "checkpoint of before that"
            )
        if name.endswith("running_var") and (numbers < 0).any():
            raise UserError(f"{origin}: the entry {name!r} holds a negative variance; fetch the checkpoint again")


@torch.no_grad()
def _silence_non_local_blocks(network: TwoStreamNetwork) -> None:
    """A block ends with a batch norm and a sum; a norm of weight and bias zero adds zero."""
    for name, tensor in network.state_dict().items():
        if name.startswith("non_local.") and name.endswith((".norm.weight", ".norm.bias")):
            tensor.zero_()
