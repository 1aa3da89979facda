"""The whole training: two stages of epochs, a checkpoint after each, and hooks for whoever watches.

Nothing here, nor in anything this package imports, knows identities or test images: `TrainingSet` has no field for
them. Whoever has identities may measure the clusters in `Observer.epoch_ended`; what it returns is logged, not used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from lightning_fabric import Fabric

from pclhd.config import Settings
from pclhd.data.datasets import TrainingImages, load_training_images
from pclhd.data.records import TrainingSet
from pclhd.engine.checkpoint import (
    Checkpoint,
    load_latest_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from pclhd.engine.epoch import Moment, Trainee, run_epoch
from pclhd.engine.labelling import EpochLabels, Labeller, label_epoch
from pclhd.engine.log import MetricsLog, require_tensorboard
from pclhd.engine.provenance import provenance_json
from pclhd.errors import UserError
from pclhd.files import make_new_folder, write_durably
from pclhd.hardware import cpu_computes_bfloat16
from pclhd.models.momentum import MomentumNetwork
from pclhd.models.two_stream import ARCHITECTURES, TwoStreamNetwork, to_channels_last
from pclhd.models.weights import initialise, save_model
from pclhd.streams import Streams

START_WEIGHTS = "start.safetensors"
STAGE1_WEIGHTS = "stage1.safetensors"


class Observer(Protocol):
    """Who watches a training. Every method may do nothing."""

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """All images are decoded; so many epochs follow."""

    def epoch_started(self, moment: Moment, steps: int) -> None:
        """An epoch begins, with the embedding and the clustering."""

    def stepped(self, moment: Moment, step: int, losses: Mapping[str, float]) -> None:
        """A step was made."""

    def epoch_ended(self, moment: Moment, labels: EpochLabels, record: Mapping[str, object]) -> dict[str, float]:
        """An epoch is over. What is returned is logged as ``labels``, and has no influence on training."""


class Silent:
    """An observer that does nothing."""

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """Nothing."""

    def epoch_started(self, moment: Moment, steps: int) -> None:
        """Nothing."""

    def stepped(self, moment: Moment, step: int, losses: Mapping[str, float]) -> None:
        """Nothing."""

    def epoch_ended(self, moment: Moment, labels: EpochLabels, record: Mapping[str, object]) -> dict[str, float]:
        """Nothing."""
        return {}


def train(
    settings: Settings,
    training_set: TrainingSet,
    run: Path,
    observer: Observer,
    *,
    resume: bool = False,
    labeller: Labeller | None = None,
) -> Path:
    """Train a network, and leave a run folder: without labels, unless a labeller is handed in that has them.

    Args:
        settings: Everything but the images.
        training_set: The unlabelled images.
        run: The run folder; new, or the one to resume.
        observer: Who watches.
        resume: Go on after the newest checkpoint of `run`.
        labeller: For a recipe that trains with identities, what knows them; None for all others.

    Returns:
        ``model.safetensors``: the momentum network after the last epoch, which is the one to use.

    Raises:
        UserError: Something in the settings, the images or the folder does not fit; nothing is overwritten then.
        ValueError: A labeller was handed in for a recipe without labels, or is missing for one with.
    """
    # What the run's config.yaml says about labels has to be true.
    if (labeller is None) != (settings.method.labels == "clusters"):
        raise ValueError(f"method.labels={settings.method.labels} with{'out' if labeller is None else ''} a labeller")
    if settings.engine.tensorboard:
        require_tensorboard()
    settings = resolve_precision(settings)
    trainee = _make_trainee(settings)
    images = load_training_images(
        training_set, settings.data.height, settings.data.width, workers=settings.data.workers
    )
    checkpoints = run / "checkpoints"
    first_epoch = 0
    saved = None
    if resume:
        saved = load_latest_checkpoint(checkpoints)
        _refuse_other_images(saved, training_set)
        trainee.online.load_state_dict(saved.online)
        trainee.momentum.network.load_state_dict(saved.momentum)
        first_epoch = saved.next_epoch
    else:
        _open_run(run, settings, training_set, trainee)
    log = MetricsLog(
        run / "metrics.jsonl",
        first_epoch=first_epoch,
        tensorboard=run / "tensorboard" if settings.engine.tensorboard else None,
    )
    streams = Streams(settings.seed)
    observer.loaded(images, settings.epochs)

    for epoch in range(first_epoch, settings.epochs):
        moment = moment_of(settings, epoch)
        if epoch in (0, first_epoch, settings.schedule.stage1_epochs):
            state = saved.optimiser if saved is not None and epoch == first_epoch else None
            _begin_stage(trainee, settings, moment)
            if state is not None:
                restore_optimiser(trainee.optimiser, state)
        for group in trainee.optimiser.param_groups:
            group["lr"] = moment.learning_rate
        _run_and_record(trainee, images, settings, streams, moment, observer, log, labeller or label_epoch)
        if epoch + 1 == settings.schedule.stage1_epochs:
            save_model(checkpoints / STAGE1_WEIGHTS, trainee.momentum.network, {"weights": "stage1"})
        save_checkpoint(checkpoints, _checkpoint_of(trainee, settings, epoch + 1, training_set))

    model = run / "model.safetensors"
    save_model(model, trainee.momentum.network, {"weights": "final"})
    return model


def resolve_precision(settings: Settings) -> Settings:
    """The settings with ``auto`` precision replaced by what this machine computes fast."""
    if settings.engine.precision != "auto":
        return settings
    on_gpu = settings.engine.accelerator in {"auto", "cuda"} and torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported() if on_gpu else cpu_computes_bfloat16()
    engine = settings.engine.model_copy(update={"precision": "bf16-mixed" if fast else "32-true"})
    return settings.model_copy(update={"engine": engine})


def moment_of(settings: Settings, epoch: int) -> Moment:
    """Stage, progress and learning rate of an epoch; both restart with the stage."""
    schedule = settings.schedule
    stage = 1 if epoch < schedule.stage1_epochs else 2
    within = epoch if stage == 1 else epoch - schedule.stage1_epochs
    length = schedule.stage1_epochs if stage == 1 else schedule.stage2_epochs
    rate = schedule.learning_rate * schedule.decay_factor ** (within // schedule.decay_every)
    return Moment(epoch=epoch, stage=stage, progress=(within + 1) / length, learning_rate=rate, epoch_of_stage=within)


def _make_trainee(settings: Settings) -> Trainee:
    engine = settings.engine
    precision = engine.precision
    if precision == "auto":
        raise ValueError("precision is still 'auto'; resolve_precision comes first")
    # Fabric tells on every start which precision it uses; the run's config.yaml does.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(accelerator=engine.accelerator, devices=1, precision=precision)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"engine.accelerator={engine.accelerator} with engine.precision={engine.precision} does not run on this "
            f"machine ({error}); try engine.accelerator=auto"
        ) from error
    fabric.launch()
    generator = Streams(settings.seed).torch("network")
    network = TwoStreamNetwork(ARCHITECTURES[settings.model.architecture], generator=generator)
    initialise(network, settings.model.weights)
    to_channels_last(network, fabric.device)
    wrapped = fabric.setup_module(network)
    momentum = MomentumNetwork(network, buffers=settings.method.momentum_buffers)
    return Trainee(fabric, network, wrapped, None, momentum)


def _begin_stage(trainee: Trainee, settings: Settings, moment: Moment) -> None:
    """A new optimiser for each stage (released code)."""
    trainee.wrapped.train()
    optimiser = torch.optim.Adam(
        [parameter for parameter in trainee.online.parameters() if parameter.requires_grad],
        lr=moment.learning_rate,
        weight_decay=settings.schedule.weight_decay,
    )
    trainee.optimiser = trainee.fabric.setup_optimizers(optimiser)


def _run_and_record(
    trainee: Trainee,
    images: TrainingImages,
    settings: Settings,
    streams: Streams,
    moment: Moment,
    observer: Observer,
    log: MetricsLog,
    labeller: Labeller,
) -> None:
    steps = settings.schedule.iterations
    observer.epoch_started(moment, steps)
    where = {"epoch": moment.epoch, "stage": moment.stage}

    def on_step(step: int, losses: dict[str, float]) -> None:
        if step % settings.engine.log_every == 0:
            at = {"step": step, "global_step": moment.epoch * steps + step, "lr": moment.learning_rate}
            log.write({"kind": "step", **where, **at, "loss": losses})
        observer.stepped(moment, step, losses)

    labels, record = run_epoch(trainee, images, settings, streams, moment, on_step, labeller)
    measured = observer.epoch_ended(moment, labels, record)
    log.write({"kind": "epoch", **where, **record, **({"labels": measured} if measured else {})})


def _open_run(run: Path, settings: Settings, training_set: TrainingSet, trainee: Trainee) -> None:
    make_new_folder(run)
    write_durably(run / "config.yaml", settings.to_yaml())
    write_durably(run / "provenance.json", provenance_json(settings, training_set, trainee.fabric.device))
    checkpoints = run / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    save_model(checkpoints / START_WEIGHTS, trainee.online, {"weights": "start"})
    save_checkpoint(checkpoints, _checkpoint_of(trainee, settings, 0, training_set))


def _checkpoint_of(trainee: Trainee, settings: Settings, next_epoch: int, training_set: TrainingSet) -> Checkpoint:
    begins_stage = next_epoch in (0, settings.schedule.stage1_epochs)
    return Checkpoint(
        next_epoch=next_epoch,
        online=trainee.online.state_dict(),
        momentum=trainee.momentum.network.state_dict(),
        optimiser=None if begins_stage else optimiser_tensors(trainee.optimiser),
        data_checksum=training_set.checksum,
    )


def _refuse_other_images(saved: Checkpoint, training_set: TrainingSet) -> None:
    if saved.data_checksum != training_set.checksum:
        raise UserError(
            f"the training images are not those the run began with (checksum {training_set.checksum[:12]}, expected "
            f"{saved.data_checksum[:12]}); point --data at the same data, or start a new run"
        )
