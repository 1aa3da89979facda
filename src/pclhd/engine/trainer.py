"""The whole training: two stages of epochs, a checkpoint after each, and hooks for whoever watches.

Nothing here, nor in anything this package imports, knows identities or test images: `TrainingSet` has no field for
them. Whoever has identities may measure the clusters in `Observer.epoch_ended`; what it returns is logged, not used.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pclhd.config import Settings
from pclhd.data.datasets import TrainingImages, load_training_images
from pclhd.data.image_cache import ImageCache
from pclhd.data.records import TrainingSet
from pclhd.distributed.processes import Processes, join_processes
from pclhd.engine.checkpoint import (
    Checkpoint,
    begin_epoch_anew,
    load_latest_checkpoint,
    optimiser_tensors,
    remove_partial_files,
    restore_optimiser,
    save_checkpoint,
)
from pclhd.engine.diagnosis import NotFinite, explaining_memory, first_not_finite, refuse_broken_network
from pclhd.engine.epoch import Moment, begin_epoch, end_epoch, look, run_steps
from pclhd.engine.interruption import Interrupted, Interruption
from pclhd.engine.labelling import EpochLabels, Labeller, label_epoch
from pclhd.engine.selection import OwnLabels, Selection
from pclhd.engine.state import EpochState, assemble, dismantle
from pclhd.engine.trainee import Trainee, make_trainee, resolve_precision, runs_on_gpu
from pclhd.errors import ArgumentError, UserError
from pclhd.files import UNFINISHED, make_new_folder, making_folder, putting_aside, write_durably
from pclhd.models.weights import save_model
from pclhd.runs.metrics_log import MetricsLog, require_tensorboard
from pclhd.runs.provenance import provenance_json, provenance_resumed
from pclhd.streams import Streams

START_WEIGHTS = "start.safetensors"
STAGE1_WEIGHTS = "stage1.safetensors"
SELECTED_WEIGHTS = "selected.safetensors"
KEPT_WEIGHTS = "weights-{:04d}.safetensors"
MODEL = "model.safetensors"
PROVENANCE = "provenance.json"


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

    def warned(self, message: str) -> None:
        """Something went wrong that training could help itself out of."""


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

    def warned(self, message: str) -> None:
        """Nothing."""


def train(
    settings: Settings,
    training_set: TrainingSet,
    run: Path,
    observer: Observer,
    *,
    resume: bool = False,
    replace: bool = False,
    labeller: Labeller | None = None,
    interruption: Interruption | None = None,
) -> Path:
    """Train a network, and leave a run folder: without labels, unless a labeller is handed in that has them.

    Args:
        settings: Everything but the images.
        training_set: The unlabelled images.
        run: The run folder; new, or the one to resume.
        observer: Who watches.
        resume: Go on after the newest checkpoint of `run`.
        replace: Replace a run folder that is there already, once everything is ready to begin.
        labeller: For a recipe that trains with identities, what knows them; None for all others.
        interruption: Turns signals into a checkpoint and an end; without one, signals do what they do in Python.

    Returns:
        ``model.safetensors``: the momentum network after the last epoch, or after the one that ``selection`` chose.

    Raises:
        UserError: Something in the settings, the images or the folder does not fit; nothing is overwritten then.
        ValueError: A labeller was handed in for a recipe without labels, or is missing for one with.
        Interrupted: A signal came; a checkpoint holds all steps that were made.
    """
    # What the run's config.yaml says about labels has to be true.
    if (labeller is None) != (settings.method.labels == "clusters"):
        raise ValueError(f"method.labels={settings.method.labels} with{'out' if labeller is None else ''} a labeller")
    if settings.engine.tensorboard:
        require_tensorboard()
    settings = resolve_precision(settings)
    processes = join_processes(on_gpu=runs_on_gpu(settings))
    with processes.told_once():
        _refuse_shares_without_images(settings, processes)
    trainee = make_trainee(settings, processes)
    with explaining_memory("decoding the images", "lower data.height and data.width"):
        images = load_training_images(
            training_set,
            settings.data.height,
            settings.data.width,
            workers=settings.data.workers,
            cache=ImageCache.of(settings.data.cache, settings.data.cache_gib),
        )
    training = _Training(settings, training_set, run, observer, trainee, images, labeller or label_epoch, interruption)
    if resume:
        training.resume()
    else:
        training.open(replace=replace)
    training.observer.loaded(images, settings.epochs)
    return training.run_all()


class _Training:
    """A training under way: what it has, and how far it got."""

    def __init__(
        self,
        settings: Settings,
        training_set: TrainingSet,
        run: Path,
        observer: Observer,
        trainee: Trainee,
        images: TrainingImages,
        labeller: Labeller,
        interruption: Interruption | None,
    ) -> None:
        self.settings, self.training_set = settings, training_set
        self.processes = trainee.processes
        self.observer = observer if self.processes.is_first else Silent()
        self.trainee, self.images, self.labeller, self.interruption = trainee, images, labeller, interruption
        self.run, self.checkpoints = run, run / "checkpoints"
        self.streams = Streams(settings.seed)
        self.selection = Selection(settings.selection)
        self.next_epoch = 0
        self.previous: OwnLabels | None = None
        self.state: EpochState | None = None
        self.restarts = 0
        self.saved_at = time.monotonic()
        self.log: MetricsLog | None = None
        if interruption is not None:
            interruption.agree = self.processes.largest

    def open(self, *, replace: bool) -> None:
        """Make the run folder, with the first checkpoint."""
        self.processes.by_the_first(self._replace_run if replace else self._make_run)

    def _replace_run(self) -> None:
        with putting_aside(self.run, "config.yaml"):
            self._make_run()

    def _make_run(self) -> None:
        # Half a run could neither be resumed nor be trained into.
        with making_folder(self.run):
            write_durably(self.run / "config.yaml", self.settings.to_yaml())
            device = self.trainee.fabric.device
            write_durably(self.run / PROVENANCE, provenance_json(self.settings, self.training_set, device))
            make_new_folder(self.checkpoints)
            save_model(self.checkpoints / START_WEIGHTS, self.trainee.online, {"weights": "start"})
            self._save()
            self._open_log()

    def resume(self) -> None:
        """Go on after the newest checkpoint that is whole."""
        saved = load_latest_checkpoint(self.checkpoints, warn=self.observer.warned)
        _refuse_other_images(saved, self.training_set)
        self._restore(saved)
        self.restarts = saved.restarts
        self._open_log()
        if self.processes.is_first:
            (self.run / UNFINISHED).unlink(missing_ok=True)  # the kill came after the first checkpoint
            for folder in (self.run, self.checkpoints):
                remove_partial_files(folder)
        self.processes.by_the_first(self._note_session)

    def _note_session(self) -> None:
        """Say in the provenance where the run goes on. Nothing is computed from it, so a damaged one stops nobody."""
        path = self.run / PROVENANCE
        try:
            saved = path.read_text("utf-8")
            device = self.trainee.fabric.device
            noted = provenance_resumed(saved, self.settings, device, epoch=self.next_epoch)
        except (OSError, ValueError) as error:
            self.observer.warned(f"{path}: cannot be gone on with ({error}); this session is not noted in it")
        else:
            write_durably(path, noted)

    def _restore(self, saved: Checkpoint) -> None:
        self.trainee.online.load_state_dict(saved.online)
        self.trainee.momentum.network.load_state_dict(saved.momentum)
        self.next_epoch, self.previous = saved.next_epoch, saved.previous
        self.selection = saved.selection
        self.trainee.optimiser = None
        if saved.optimiser is not None:
            self.trainee.begin_stage(self.settings)
            restore_optimiser(self.trainee.optimiser, saved.optimiser)
        self.trainee.loss_scale = saved.loss_scale
        self.state = None
        if saved.state is not None:
            momentum = self.settings.memory.momentum
            self.state = assemble(*saved.state, momentum=momentum, device=self.trainee.fabric.device)

    def run_all(self) -> Path:
        """Run the epochs that are left, and save the model."""
        while self.next_epoch < self.settings.epochs:
            moment = moment_of(self.settings, self.next_epoch, restarts=self.restarts)
            try:
                with explaining_memory(f"training epoch {moment.epoch + 1}", _how_to_save_memory(self.settings)):
                    self._run_epoch(moment)
            except NotFinite as error:
                if self.restarts == self.settings.schedule.restarts:
                    with self.processes.told_once():
                        raise
                self._restart(error)
        if self.settings.selection != "last" or self.settings.engine.keep_weights:
            self._judge_the_last_epoch()
        # Everybody waits until the model is there.
        return self.processes.by_the_first(self._finish)

    def _finish(self) -> Path:
        model = self.run / MODEL
        if self.settings.selection == "last":
            self._save_weights(model)
        else:
            write_durably(model, (self.checkpoints / SELECTED_WEIGHTS).read_bytes())
        return model

    def _restart(self, error: NotFinite) -> None:
        """Begin the epoch anew with a lower learning rate.

        Not from the newest checkpoint, which stands where the clock or a signal put it: then a run that was
        interrupted would go another way than one that was not. A kill at any point of this leaves a run that comes to
        the same error again, or goes on after it.
        """
        self._restore(
            self.processes.by_the_first(lambda: begin_epoch_anew(self.checkpoints, warn=self.observer.warned))
        )
        self._open_log()
        self.restarts += 1
        rate = moment_of(self.settings, self.next_epoch, restarts=self.restarts).learning_rate
        self.observer.warned(
            f"{error.reason}; epoch {self.next_epoch + 1} begins anew with the learning rate {rate:g} (restart "
            f"{self.restarts} of {self.settings.schedule.restarts})"
        )
        reached = {"epoch": self.next_epoch, "restarts": self.restarts, "lr": rate, "reason": error.reason}
        self._write({"kind": "restart", **reached})
        self._save()

    def _run_epoch(self, moment: Moment) -> None:
        schedule, epoch = self.settings.schedule, moment.epoch
        if self.trainee.optimiser is None or (epoch == schedule.stage1_epochs and self.state is None):
            self.trainee.begin_stage(self.settings)
        for group in self.trainee.optimiser.param_groups:
            group["lr"] = moment.learning_rate
        self.observer.epoch_started(moment, schedule.iterations)
        if self.state is None:
            self.state = begin_epoch(
                self.trainee,
                self.images,
                self.settings,
                self.streams,
                moment,
                labeller=self.labeller,
                previous=self.previous,
            )
            self._consider(epoch, self.state.criteria)
            for mishap in self.state.labels.mishaps():
                self.observer.warned(f"epoch {epoch + 1}: {mishap}")
        state = self.state
        where = {"epoch": epoch, "stage": moment.stage}

        def on_step(step: int, losses: dict[str, float]) -> None:
            if step % self.settings.engine.log_every == 0:
                at = {"step": step, "global_step": epoch * schedule.iterations + step, "lr": moment.learning_rate}
                self._write({"kind": "step", **where, **at, "loss": losses})
            self.observer.stepped(moment, step, losses)
            if time.monotonic() - self.saved_at > 60 * self.settings.engine.checkpoint_minutes:
                self._save()

        try:
            run_steps(self.trainee, self.images, self.settings, self.streams, moment, state, on_step, self.interruption)
        except Interrupted:
            self._save()
            raise
        refuse_broken_network(self.trainee.online, where=f"epoch {epoch + 1}", learning_rate=moment.learning_rate)
        record = end_epoch(self.trainee, self.settings, moment, state)
        measured = self.observer.epoch_ended(moment, state.labels, record)
        self._write({"kind": "epoch", **where, **record, **({"labels": measured} if measured else {})})
        self.next_epoch, self.previous = epoch + 1, (state.labels.visible, state.labels.infrared)
        self.state = None
        if self.next_epoch == schedule.stage1_epochs:
            self._save_network(self.checkpoints / STAGE1_WEIGHTS, {"weights": "stage1"})
        if self.settings.engine.keep_weights:
            self._save_weights(self.checkpoints / KEPT_WEIGHTS.format(self.next_epoch))
        self._save()

    def _judge_the_last_epoch(self) -> None:
        _, _, criteria = look(self.trainee, self.images, self.settings, self.labeller, self.previous, joint=False)
        self._consider(self.next_epoch, criteria)
        chosen = {"by": self.selection.by, "epoch": self.selection.epoch}
        self._write({"kind": "selection", "epoch": self.next_epoch, "criteria": criteria, "selected": chosen})

    def _consider(self, epochs: int, criteria: dict[str, float]) -> None:
        """Keep the weights as they are after so many epochs, if the selection prefers them to those before."""
        schedule = self.settings.schedule
        first = schedule.stage1_epochs + 1 if schedule.stage2_epochs else 1
        if self.settings.selection == "last" or epochs < first:
            return
        if self.selection.consider(epochs, criteria):
            self._save_weights(self.checkpoints / SELECTED_WEIGHTS, epochs)

    def _save_weights(self, path: Path, epochs: int | None = None) -> None:
        facts = {"weights": "final", "epoch": str(self.next_epoch if epochs is None else epochs)}
        self._save_network(path, {**facts, "selection": self.settings.selection})

    def _save_network(self, path: Path, facts: dict[str, str]) -> None:
        if self.processes.is_first:
            save_model(path, self.trainee.momentum.network, facts)

    def _write(self, record: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(record)

    def _save(self) -> None:
        if not self.processes.is_first:
            return
        within = self.state is not None
        if within and first_not_finite(self.trainee.online) is not None:
            return  # the checkpoint before stays the newest; the next loss, or the end of the epoch, tells
        begins_stage = self.next_epoch in (0, self.settings.schedule.stage1_epochs) and not within
        redraws = self.settings.method.dynamic_redraw == "step"
        save_checkpoint(
            self.checkpoints,
            Checkpoint(
                next_epoch=self.next_epoch,
                online=self.trainee.online.state_dict(),
                momentum=self.trainee.momentum.network.state_dict(),
                optimiser=None if begins_stage else optimiser_tensors(self.trainee.optimiser),
                previous=self.previous,
                selection=self.selection,
                data_checksum=self.training_set.checksum,
                state=None if self.state is None else dismantle(self.state, redraws_each_step=redraws),
                restarts=self.restarts,
                loss_scale=self.trainee.loss_scale,
            ),
        )
        self.saved_at = time.monotonic()

    def _open_log(self) -> None:
        if not self.processes.is_first:
            return
        self.log = MetricsLog(
            self.run / "metrics.jsonl",
            first_epoch=self.next_epoch,
            first_step=0 if self.state is None else self.state.step,
            restarts=self.restarts,
            tensorboard=self.run / "tensorboard" if self.settings.engine.tensorboard else None,
        )


def moment_of(settings: Settings, epoch: int, *, restarts: int = 0) -> Moment:
    """Stage, progress and learning rate of an epoch; both restart with the stage.

    Args:
        settings: The run's.
        epoch: Counted from 0 over both stages.
        restarts: How often the training went back because of a loss that was not finite.
    """
    schedule = settings.schedule
    stage = 1 if epoch < schedule.stage1_epochs else 2
    within = epoch if stage == 1 else epoch - schedule.stage1_epochs
    length = schedule.stage1_epochs if stage == 1 else schedule.stage2_epochs
    rate = schedule.learning_rate * schedule.decay_factor ** (within // schedule.decay_every)
    rate *= schedule.restart_factor**restarts
    return Moment(epoch=epoch, stage=stage, progress=(within + 1) / length, learning_rate=rate, epoch_of_stage=within)


def _how_to_save_memory(settings: Settings) -> str:
    batch, data = settings.batch, settings.data
    return (
        f"halve batch.clusters ({batch.clusters}) or batch.instances ({batch.instances}), or lower data.height and "
        f"data.width ({data.height} × {data.width}), in the run's config.yaml, and resume; the checkpoints are whole"
    )


def _refuse_shares_without_images(settings: Settings, processes: Processes) -> None:
    batch = settings.batch.clusters * settings.batch.instances
    if batch < processes.count:
        raise UserError(
            f"a batch of {batch} images per modality cannot be shared by {processes.count} processes; raise "
            "batch.clusters or start fewer processes"
        )


def _refuse_other_images(saved: Checkpoint, training_set: TrainingSet) -> None:
    if saved.data_checksum != training_set.checksum:
        raise ArgumentError(
            "data",
            f"the training images are not those the run began with (checksum {training_set.checksum[:12]}, expected "
            f"{saved.data_checksum[:12]}); name the same data, or start a new run",
        )
