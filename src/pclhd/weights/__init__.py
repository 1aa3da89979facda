"""The weights that ship with the package."""

from __future__ import annotations

from pathlib import Path


def starter_path() -> Path:
    """The starter weights: a narrow network trained on the visible images of synthetic people (ours)."""
    return Path(__file__).parent / "starter.safetensors"
