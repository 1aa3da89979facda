"""Where a run's numbers come from: versions, machine, seed, images."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from pclhd import __version__
from pclhd.config import Settings
from pclhd.data.records import Modality, TrainingSet


def provenance_json(settings: Settings, training_set: TrainingSet, device: torch.device) -> str:
    """Everything that a run should say about itself, as JSON.

    Args:
        settings: The run's.
        training_set: Its images, of which counts and a checksum are kept.
        device: Where it trains.
    """
    counts = {str(modality): sum(image.modality is modality for image in training_set.images) for modality in Modality}
    facts = {
        "pclhd": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("torch", "lightning-fabric", "numpy", "scipy", "scikit-learn")},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "seed": settings.seed,
        "data": {"training_checksum": training_set.checksum, "training_images": counts},
    }
    return json.dumps(facts, indent=2) + "\n"


def _commit() -> str | None:
    """The commit of the package's own checkout; None for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
