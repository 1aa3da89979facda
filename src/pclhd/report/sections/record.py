"""The data at a glance, the settings, and where the numbers come from."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from pclhd import __version__
from pclhd.report.album import Album, Tile, tile
from pclhd.report.sections.parts import Absent, ReportedRun, Values

_SAMPLES = 12


def data(run: ReportedRun) -> Values:
    """The data at a glance: numbers, cameras, and images drawn at random."""
    facts = [("name", run.data_name or "not recorded yet")]
    results, album = run.saved.results, run.album
    if album is not None and album.pictures:
        facts += _album_facts(album)
    else:
        if results is not None and results.dataset.train_images is not None:
            facts.append(("training images", f"{results.dataset.train_images:,}"))
        for stream in ("visible", "infrared"):
            summary = getattr(run.saved.epochs[-1], stream) if run.saved.epochs else None
            if summary is not None and summary.images is not None:
                facts.append((f"{stream} training images", f"{summary.images:,}"))
    if results is not None and results.dataset.test_images is not None:
        facts.append(("test images", f"{results.dataset.test_images:,}"))
    return {"facts": facts, "samples": [] if album is None else _samples(album)}


def _album_facts(album: Album) -> list[tuple[str, str]]:
    facts = [("training images", f"{len(album.pictures):,}")]
    for modality in ("visible", "infrared"):
        part = [picture for picture in album.pictures if picture.modality == modality]
        cameras = Counter(picture.camera for picture in part)
        each = ", ".join(f"{camera}: {count:,}" for camera, count in sorted(cameras.items(), key=str))
        known = "" if None in cameras or not part else f" (camera {each})"
        facts.append((f"{modality} training images", f"{len(part):,}{known}"))
    people = {picture.identity for picture in album.pictures}
    if None not in people and people:
        facts.append(("training people, unknown to the training", f"{len(people):,}"))
    return facts


def _samples(album: Album) -> list[tuple[str, list[Tile]]]:
    """Some images of each modality, the same each time the page is made."""
    random, samples = np.random.default_rng(0), []
    for modality in ("visible", "infrared"):
        part = [picture for picture in album.pictures if picture.modality == modality]
        drawn = np.sort(random.permutation(len(part))[:_SAMPLES])
        if len(drawn):
            samples.append((modality, [tile(part[place]) for place in drawn.tolist()]))
    return samples


def settings(run: ReportedRun) -> Values | Absent:
    """The text of the settings file."""
    if not run.saved.settings_text:
        return Absent("No settings in this run", "pclhd train PRESET --out RUN")
    return {"text": run.saved.settings_text.strip()}


def provenance(run: ReportedRun) -> Values:
    """Provenance of the numbers: versions, machine, checksums."""
    saved = run.saved
    facts = [("this page made by", f"pclhd {__version__}")]
    for name in ("preset",) if saved.imported else ("preset", "recipe", "seed"):
        value = saved.setting(name)
        if value is not None:
            facts.append((name, str(value)))
    if saved.results is not None and saved.results.dataset.checksum:
        facts.append(("checksum of the training images", saved.results.dataset.checksum))
    if saved.results is not None and saved.results.dataset.test_checksum:
        facts.append(("checksum of the test images", saved.results.dataset.test_checksum))
    facts += [(f"training: {key}", value) for key, value in saved.facts.items() if key != "seed"]
    folder = saved.folder
    for file in (folder.settings_file, folder.log_file, folder.results_file, folder.model_file):
        digest = _digest(file)
        if digest is not None:
            facts.append((f"SHA-256 of {file.name}", digest))
    return {"facts": facts}


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
