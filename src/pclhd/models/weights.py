"""Model files, and the initial weights of a network.

A model file is a safetensors file with its architecture and preprocessing, so the file alone is enough to embed images.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from pclhd.errors import UserError
from pclhd.files import expanded, replacing
from pclhd.models.architecture import NARROW, AnyArchitecture, Architecture, first_difference, read_architecture
from pclhd.models.backbones import BackboneNetwork, load_backbone, new_network
from pclhd.models.efficientnet_lite import LiteNetwork, load_lite0_imagenet
from pclhd.models.fill import Source, fill_network
from pclhd.models.imagenet import load_imagenet
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.parsing import open_tensors, parse_json
from pclhd.weights import LITE0_NAME, starter_path

# One entry contains everything: safetensors writes several entries in an order that changes from run to run.
_HEADER = "pclhd"
_FORMAT = 1


def save_model(
    path: Path,
    network: TwoStreamNetwork,
    metadata: Mapping[str, str] | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    replace: bool = True,
) -> None:
    """Write a model file. Equal weights and metadata give equal bytes; on a failure, the old file is unchanged.

    Args:
        path: The file, by convention ``….safetensors``.
        network: The network, on any device. It is not changed.
        metadata: Whatever else a reader should know, such as the preset and the version that trained it.
        preprocessing: How images become its input; without it the file alone cannot embed images.
        replace: Whether it may replace a file.

    Raises:
        UserError: The file cannot be written.
    """
    header: dict[str, Any] = {
        "architecture": asdict(network.architecture),
        "format": _FORMAT,
        "metadata": dict(metadata or {}),
    }
    if preprocessing is not None:
        header["preprocessing"] = preprocessing.to_dict()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.state_dict().items())}
    content = safetensors_bytes(tensors, {_HEADER: json.dumps(header, sort_keys=True)})
    with replacing(path, replace=replace) as file:
        file.write(content)


def load_model(path: Path) -> TwoStreamNetwork:
    """Rebuild a network from its model file, on the CPU and in evaluation mode.

    Raises:
        UserError: There is no such file, or it is damaged, incomplete or not a model file.
    """
    return load_model_with_preprocessing(path)[0]


def load_model_with_preprocessing(path: Path) -> tuple[TwoStreamNetwork, Preprocessing | None]:
    """As `load_model`, with the preprocessing in the file; None for files of older versions.

    Raises:
        UserError: As `load_model`.
    """
    model = _read_model(path)
    network = new_network(model.header.architecture, origin=str(path))
    _fill(network, model)
    return network.eval(), model.header.preprocessing


def model_metadata(path: Path) -> dict[str, str]:
    """The metadata passed to `save_model`.

    Raises:
        UserError: As `load_model`.
    """
    return _read_header(path).metadata


def initialise(network: TwoStreamNetwork, weights: str) -> None:
    """Load the initial weights that the settings name.

    Args:
        network: The network.
        weights: ``none`` (keep the random weights), ``starter`` (shipped with the package), ``imagenet:PATH``
            (torchvision's names), or the path of a model file of ours or of an ImageNet file. For a backbone: ``none``,
            a model file of ours, or its transformers' ``model.safetensors``. For EfficientNet-Lite0: ``none``,
            ``lite0-imagenet`` (an installed package), ``imagenet:PATH`` (that package's file), or a model file.

    Raises:
        UserError: The file is missing, damaged, or of another architecture. The network is then unchanged.
    """
    if weights == "none":
        return
    if isinstance(network, BackboneNetwork):
        _initialise_backbone(network, weights)
        return
    if isinstance(network, LiteNetwork):
        _initialise_lite(network, weights)
        return
    if weights == LITE0_NAME:
        raise UserError(
            f"model.weights={LITE0_NAME} fits EfficientNet-Lite0 only; set model.architecture=efficientnet_lite0, or "
            "choose weights of this network"
        )
    if weights == "starter":
        if not starter_path().is_file():
            raise UserError(f"{starter_path()}: the starter weights are missing; reinstall pclhd or use weights=none")
        _fill(network, _read_model(starter_path()))
        return
    if weights == "imagenet" and network.architecture == NARROW:
        raise UserError(
            "model.weights=imagenet is for ResNet-50, but model.architecture is narrow; use model.weights=starter for "
            "the weights that ship with pclhd and fit it"
        )
    if weights == "imagenet":
        raise UserError(
            "model.weights=imagenet names no file; use model.weights=imagenet:FILE with torchvision's ResNet-50 "
            "weights, which `pclhd fetch-imagenet --out DIR` downloads"
        )
    if weights.startswith("imagenet:"):
        load_imagenet(network, expanded(Path(weights.removeprefix("imagenet:"))))
        return
    path = expanded(Path(weights))
    if not path.is_file():
        raise UserError(
            f"weights={weights}: no such file; expected none, starter, imagenet:PATH or the path of a model file"
        )
    if path.suffix == ".safetensors" and _has_header(path):
        _fill(network, _read_model(path))
    else:
        load_imagenet(network, path)


def _initialise_lite(network: LiteNetwork, weights: str) -> None:
    if weights == LITE0_NAME:
        load_lite0_imagenet(network)
    elif weights.startswith("imagenet:"):
        load_lite0_imagenet(network, expanded(Path(weights.removeprefix("imagenet:"))))
    elif weights in ("starter", "imagenet"):
        raise UserError(
            f"model.weights={weights} does not fit model.architecture=efficientnet_lite0; use model.weights="
            f"{LITE0_NAME}, the ImageNet weights of the extra photos"
        )
    else:
        path = expanded(Path(weights))
        if not path.is_file():
            raise UserError(f"weights={weights}: no such file; expected {LITE0_NAME}, none, or a model file of pclhd")
        _fill(network, _read_model(path))


def _initialise_backbone(network: BackboneNetwork, weights: str) -> None:
    if weights in ("starter", "imagenet") or weights.startswith("imagenet:"):
        raise UserError(
            f"model.weights={weights} is a ResNet, but model.architecture is backbone; expected backbone (the "
            "weights in its folder), none, or the path of a model file"
        )
    path = expanded(Path(weights))
    if path.suffix == ".safetensors" and path.is_file() and _has_header(path):
        _fill(network, _read_model(path))
    else:
        load_backbone(network, path)


@dataclass(frozen=True)
class _Header:
    architecture: AnyArchitecture
    metadata: dict[str, str]
    preprocessing: Preprocessing | None


@dataclass(frozen=True)
class _Model:
    path: Path
    header: _Header
    tensors: dict[str, Tensor]


def _read_model(path: Path) -> _Model:
    header = _read_header(path)
    with open_tensors(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    architecture, weights = header.architecture, sum(tensor.numel() for tensor in tensors.values())
    if isinstance(architecture, Architecture) and weights < architecture.fewest_weights:
        # Before a network is built that memory may not hold.
        raise UserError(
            f"{path}: holds {weights:,} numbers, but the network of its header has at least "
            f"{architecture.fewest_weights:,}; fetch or train the model again"
        )
    return _Model(path, header, tensors)


def _read_header(path: Path) -> _Header:
    text = _header_text(path)
    if text is None:
        raise UserError(
            f"{path}: a safetensors file, but not a model of pclhd; expected one that pclhd wrote; for ImageNet "
            "weights use imagenet:PATH"
        )
    try:
        header = parse_json(text)
        if header["format"] != _FORMAT:
            raise UserError(
                f"{path}: a model file of format {header['format']}; expected {_FORMAT}; use the pclhd that wrote it"
            )
        return _Header(
            read_architecture(header["architecture"]),
            {str(name): str(value) for name, value in header["metadata"].items()},
            Preprocessing.from_dict(header["preprocessing"]) if "preprocessing" in header else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: the header is damaged ({error}); fetch or train the model again") from error


def _has_header(path: Path) -> bool:
    return _header_text(path) is not None


def _header_text(path: Path) -> str | None:
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a model file (.safetensors)")
    if not os.access(path, os.R_OK):  # safetensors would report that there is no such file
        raise UserError(f"{path}: cannot be read; check the file's permissions")
    try:
        with open_tensors(path, "pt") as file:
            return (file.metadata() or {}).get(_HEADER)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: not a readable safetensors file ({error}); expected a model file; fetch or train the model again"
        ) from error


def _fill(network: TwoStreamNetwork, model: _Model) -> None:
    difference = first_difference(network.architecture, model.header.architecture)
    if difference is not None:
        field, ours, theirs = difference
        raise UserError(
            f"{model.path}: has a network with {field} = {theirs}; expected {field} = {ours}; choose "
            "weights of the same architecture, or the architecture of these weights"
        )
    unknown = sorted(model.tensors.keys() - network.state_dict().keys())
    if unknown:
        raise UserError(f"{model.path}: the entry {unknown[0]!r} does not belong to its architecture; fetch it again")
    fill_network(network, {name: Source(name) for name in network.state_dict()}, model.tensors, origin=str(model.path))
