"""Training: open the data, pass to the engine only the labels that the recipe allows, and write a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pclhd.config import Settings
from pclhd.data.open import open_dataset
from pclhd.data.records import Dataset, Modality
from pclhd.errors import ArgumentError
from pclhd.runs.folder import RunFolder

if TYPE_CHECKING:
    from pclhd.engine.interruption import Interruption
    from pclhd.engine.labelling import EpochLabels, Labeller
    from pclhd.engine.observer import Observer


def open_data(settings: Settings, data: Path | None = None) -> Dataset:
    """Open the data set `data`, or by default the one that the settings name.

    Raises:
        UserError: There is no data set, or it cannot be read.
    """
    root = data or settings.data.root
    if root is None:
        raise ArgumentError("data", "is missing: name the data set's folder, or its CSV file")
    return open_dataset(settings.data.layout, root, trial=settings.data.trial)


def default_run_folder(settings: Settings) -> RunFolder:
    """The default run folder of a training."""
    return RunFolder(Path("runs") / f"{settings.preset}-{settings.recipe}-{settings.seed}")


def with_data_root(settings: Settings, dataset: Dataset) -> Settings:
    """The settings with the absolute path of the data, so that the run can be evaluated from any working directory."""
    data = settings.data.model_copy(update={"root": dataset.root.resolve()})
    return settings.model_copy(update={"data": data})


def resolved_sizes(settings: Settings, dataset: Dataset) -> list[str]:
    """What ``auto`` stands for in clustering, batch and schedule, a line for each section that has any."""
    visible = sum(image.modality is Modality.VISIBLE for image in dataset.train.images)
    infrared = len(dataset.train) - visible
    resolved = settings.with_sizes_for(visible, infrared)
    lines = []
    for section in ("clustering", "batch", "schedule"):
        before, after = (getattr(one, section).model_dump() for one in (settings, resolved))
        chosen = " ".join(f"{section}.{name}={after[name]}" for name in before if before[name] != after[name])
        if chosen:
            lines.append(f"{chosen} (auto, from {visible:,} visible and {infrared:,} infrared images)")
    return lines


def on_device(settings: Settings, device: str) -> Settings:
    """The settings with another place to compute.

    Raises:
        ArgumentError: This machine cannot compute there.
    """
    from pclhd.devices import resolve_device

    resolve_device(device)
    return settings.model_copy(update={"engine": settings.engine.model_copy(update={"accelerator": device})})


def labeller_for(settings: Settings, dataset: Dataset) -> Labeller | None:
    """The labeller of a recipe that trains with identities; None for all others.

    Raises:
        UserError: The recipe needs identities, and the data set has none.
    """
    if settings.method.labels == "clusters":
        return None
    from pclhd.supervised.labeller import IdentityLabeller

    return IdentityLabeller(dataset, visible_only=settings.method.labels == "visible_identities")


def measure_for(dataset: Dataset) -> Callable[[EpochLabels], dict[str, float]] | None:
    """A function that measures pseudo labels against identities, if there are any; its results are only logged."""
    if dataset.train_identities is None:
        return None
    from pclhd.evaluation.clusters import ClusterMeter

    return ClusterMeter(dataset).measure


def train_run(
    settings: Settings,
    dataset: Dataset,
    run: RunFolder,
    *,
    observer: Observer | None = None,
    resume: bool = False,
    replace: bool = False,
    interruption: Interruption | None = None,
) -> RunFolder:
    """Train a network.

    Args:
        settings: Settings of the run.
        dataset: The data set. The engine gets only its unlabelled images, unless the recipe trains with identities.
        run: The run folder to make or to resume.
        observer: Called during the training; None for no calls.
        resume: Continue from the newest checkpoint.
        replace: Replace an existing run folder once everything is ready to begin.
        interruption: Saves a checkpoint and ends the training on a signal.

    Returns:
        The run folder.

    Raises:
        UserError: The settings, the data or the folder are unusable; nothing is overwritten.
    """
    from pclhd.devices import keep_freed_memory, limit_threads
    from pclhd.engine.networks import runs_on_gpu
    from pclhd.engine.trainer import train
    from pclhd.sinks.recording import recording

    labeller = labeller_for(settings, dataset)
    limit_threads()
    if not runs_on_gpu(settings):
        keep_freed_memory()
    with recording(settings, run, observer) as watching:
        train(
            with_data_root(settings, dataset),
            dataset.train,
            run.path,
            watching,
            resume=resume,
            replace=replace,
            labeller=labeller,
            interruption=interruption,
        )
    return run
