"""The provenance of a run's numbers: versions, machine, seed, images, start weights."""

from __future__ import annotations

import os
import platform
import subprocess
import tomllib
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pclhd import __version__
from pclhd.config import Settings
from pclhd.data.records import Modality, TrainingSet, digest_file
from pclhd.files import expanded
from pclhd.parsing import parse_json
from pclhd.runs.records import provenance_text
from pclhd.weights import LITE0_NAME, lite0_path, starter_path

if TYPE_CHECKING:
    import torch

LIBRARIES = (
    "torch",
    "lightning-fabric",
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "pillow",
    "safetensors",
    "faiss-cpu",
    "faiss-gpu",
    "scikit-network",
    "transformers",
)
"""Packages that can affect a number, by their distribution names; some are optional and may be missing."""


def provenance_json(settings: Settings, training_set: TrainingSet, device: torch.device) -> str:
    """The provenance of a run as JSON (ours).

    It contains no user name and no folder, because runs are shared.

    Args:
        settings: The run's settings, with precision resolved.
        training_set: The training images; their counts and checksum are recorded.
        device: Device of the training.

    Raises:
        UserError: The file with the start weights cannot be read.
    """
    counts = {str(modality): sum(image.modality is modality for image in training_set.images) for modality in Modality}
    facts = {
        **_describe_session(settings, device),
        "seed": settings.seed,
        "start_weights": _describe_start(settings.model.weights),
        "data": {"training_checksum": training_set.checksum, "training_images": counts},
        "cameras": _count_cameras(training_set),
        "resumed": [],
    }
    return provenance_text(facts)


def provenance_resumed(
    saved: str,
    settings: Settings,
    device: torch.device,
    *,
    epoch: int,
    changed: Mapping[str, Any] | None = None,
) -> str:
    """What `provenance_json` wrote, with one more session under ``resumed``: the epoch, and what is not as at first.

    Args:
        saved: The text of the file.
        settings: The run's, with its precision resolved.
        device: Where it goes on.
        epoch: The epoch that the session begins in, from 0.
        changed: Settings that are not those of the checkpoint, by dotted key.

    Raises:
        ValueError: The text is not provenance.
    """
    facts = parse_json(saved, finite=True)
    if not isinstance(facts, dict) or not isinstance(facts.setdefault("resumed", []), list):
        raise ValueError("is not provenance that training wrote")
    now = _describe_session(settings, device)
    others = {"settings": dict(changed)} if changed else {}
    facts["resumed"].append({"epoch": epoch, **others, **_changed(facts, now)})
    return provenance_text(facts)


def _describe_session(settings: Settings, device: torch.device) -> dict[str, Any]:
    """The facts that may have changed when a run is resumed."""
    # Imported here because reports read provenance without torch.
    import numba
    import torch

    return {
        "pclhd": __version__,
        **checkout_state(Path(__file__).resolve().parents[1]),
        "python": platform.python_version(),
        "libraries": _library_versions(),
        "machine": _describe_machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        # Numba and torch share OpenMP threads: after a numba kernel has run, torch uses numba's number of threads.
        "numba_threads": numba.config.NUMBA_NUM_THREADS,  # type: ignore[attr-defined]
        "processes": torch.distributed.get_world_size() if _is_one_of_several() else 1,
        "precision": settings.engine.precision,
    }


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """New and changed values, by section; None for values that are gone."""
    changed: dict[str, Any] = {}
    for key in now:
        old, new = before.get(key), now[key]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            gone = dict.fromkeys(old.keys() - new.keys())
            inner = _changed(old, {**new, **gone})
            changed |= {key: inner} if inner else {}
        elif old != new:
            changed[key] = new
    return changed


def checkout_state(package: Path) -> dict[str, Any]:
    """The commit of a package's code, if it runs from pclhd's own git checkout.

    The root of this checkout has ``src/pclhd`` and a ``pyproject.toml`` of pclhd. An installed copy may be inside
    another repository, or in a virtual environment inside ours; in both cases the commit does not identify its code.

    Args:
        package: The package's folder.

    Returns:
        ``commit`` and ``dirty``: whether files of the package have been changed, added or deleted since. Both None for
        any other package, and if git fails.
    """
    unknown = {"commit": None, "dirty": None}
    root = package.parents[1]
    if package != root / "src" / "pclhd" or _project_name(root / "pyproject.toml") != "pclhd":
        return unknown
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel").strip()).resolve() != root.resolve():
            return unknown
        commit = _git(root, "rev-parse", "HEAD").strip()
        changes = _git(root, "status", "--porcelain", "--untracked-files=all", "--", "src/pclhd")
    except (OSError, ValueError, subprocess.SubprocessError):
        return unknown
    return {"commit": commit, "dirty": bool(changes.strip())}


def _git(root: Path, *words: str) -> str:
    # The variables of a git hook would name another repository. Without optional locks, git only reads.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(root), *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5, env=environment)
    return ran.stdout


def _project_name(path: Path) -> object:
    try:
        return tomllib.loads(path.read_text("utf-8")).get("project", {}).get("name")
    except (OSError, ValueError, AttributeError):
        return None


def _is_one_of_several() -> bool:
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _describe_machine() -> dict[str, Any]:
    import torch

    return {
        "system": platform.system(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "model": processor_model(Path("/proc/cpuinfo")),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
    }


def processor_model(cpuinfo: Path) -> str | None:
    """The model name of the CPU.

    Args:
        cpuinfo: Linux's list of processors; on other systems, the name comes from Python.

    Returns:
        The name, or None if it is unknown.
    """
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    names = {key.strip().lower(): value.strip() for key, value in named.items()}
    return names.get("model name") or platform.processor() or None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _describe_start(weights: str) -> dict[str, str] | None:
    """Name and digest of the file that `model.weights` names; None for random weights, or if there is no file."""
    if weights == "none":
        return None
    named = {"starter": starter_path, LITE0_NAME: lite0_path}
    path = named[weights]() if weights in named else expanded(Path(weights.removeprefix("imagenet:")))
    return {"file": path.name, "sha256": digest_file(path)} if path is not None and path.is_file() else None


def _count_cameras(training_set: TrainingSet) -> dict[str, dict[str, int]]:
    """Images per camera of each modality; ``unknown`` where the data has no camera numbers."""
    counts = Counter((image.modality, image.camera) for image in training_set.images)
    return {
        str(modality): {
            "unknown" if camera is None else str(camera): number
            for (of, camera), number in sorted(
                counts.items(), key=lambda item: -1 if item[0][1] is None else item[0][1]
            )
            if of is modality
        }
        for modality in Modality
    }
