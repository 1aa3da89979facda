"""The whole training: two stages of epochs, a checkpoint after each epoch, and calls to an observer.

The loop over the epochs is `_Training.run`; an epoch is `_Training._run_epoch`; a step is `pclhd.engine.steps`. Neither
this module nor anything that this package imports handles identities or test images: `TrainingSet` has no field for
them. A caller that has identities may measure the clusters in `Observer.epoch_ended`; its result is logged, but not
used for training.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from pclhd.config import Settings
from pclhd.data.datasets import load_training_images
from pclhd.data.image_cache import ImageCache
from pclhd.data.near_copies import image_hashes
from pclhd.data.records import Modality, TrainingSet
from pclhd.data.values import measure_stretches
from pclhd.distributed.processes import Processes, join_processes
from pclhd.engine.calibrating import measure_calibration
from pclhd.engine.checkpoint import (
    Checkpoint,
    load_latest_checkpoint,
    rewind_to_epoch,
    save_checkpoint,
)
from pclhd.engine.diagnosis import NotFinite, explaining_memory, first_not_finite, refuse_broken_network
from pclhd.engine.duration import plan_epochs
from pclhd.engine.epoch import begin_epoch, embed_and_label, end_epoch
from pclhd.engine.interruption import Interrupted, Interruption
from pclhd.engine.labelling import EpochLabels, Features, Labeller, label_epoch
from pclhd.engine.memory_needed import check_memory, memory_needed
from pclhd.engine.networks import make_networks, resolve_precision, runs_on_gpu
from pclhd.engine.observer import Observer, Silent
from pclhd.engine.position import Position, position_of
from pclhd.engine.progress import Progress
from pclhd.engine.resuming import changed_settings
from pclhd.engine.selection import Selection
from pclhd.engine.session import Session
from pclhd.engine.steps import StepObserver, run_steps
from pclhd.engine.surveying import survey_session
from pclhd.errors import ArgumentError, UserError
from pclhd.files import UNFINISHED, make_new_folder, making_folder, putting_aside, write_durably
from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.models.weights import load_model, save_model
from pclhd.pair import Pair
from pclhd.parsing import read_text
from pclhd.runs.decline import decline_warning
from pclhd.runs.folder import RunFolder, owning_run
from pclhd.runs.metrics_log import MetricsLog
from pclhd.runs.provenance import provenance_json, provenance_resumed
from pclhd.streams import Streams


def train(
    settings: Settings,
    training_set: TrainingSet,
    run: Path,
    observer: Observer | None = None,
    *,
    resume: bool = False,
    replace: bool = False,
    labeller: Labeller | None = None,
    interruption: Interruption | None = None,
) -> Path:
    """Train a network and write a run folder; without labels, unless the given labeller uses them.

    Args:
        settings: Everything except the images.
        training_set: The unlabelled images.
        run: The run folder; new, or the one to resume.
        observer: Called during the training; None for no calls.
        resume: Continue from the newest checkpoint of `run`.
        replace: Replace an existing run folder once everything is ready to begin.
        labeller: The labeller of a recipe that trains with identities; None for all others.
        interruption: Saves a checkpoint and ends the training on a signal; None for Python's default actions.

    Returns:
        The model file: the momentum network after the last epoch, or after the epoch that ``selection`` chose.

    Raises:
        UserError: The settings, the images or the folder are unusable; nothing is overwritten.
        ValueError: A labeller was given for a recipe without labels, or is missing for one with labels.
        Interrupted: A signal arrived; a checkpoint contains all completed steps.
    """
    # The saved settings must state correctly whether labels were used.
    if (labeller is None) != (settings.method.labels == "clusters"):
        raise ValueError(f"method.labels={settings.method.labels} with{'out' if labeller is None else ''} a labeller")
    settings = _with_sizes_for(resolve_precision(settings), training_set)
    processes = join_processes(on_gpu=runs_on_gpu(settings))
    with processes.raise_once():
        _refuse_shares_without_images(settings, processes)
    with ExitStack() as owned:
        # A second training with this folder is refused before it begins.
        processes.by_the_first(lambda: owned.enter_context(owning_run(RunFolder(run))))
        needed = memory_needed(settings, _count(training_set), processes=processes.count)
        with processes.raise_once():
            may_not_fit = check_memory(needed, settings)
        networks = make_networks(settings, processes)
        with explaining_memory("decoding the images", "lower data.height and data.width"):
            stretches = measure_stretches(training_set.images, workers=settings.data.workers)
            images = load_training_images(
                training_set,
                settings.data.height,
                settings.data.width,
                workers=settings.data.workers,
                cache=ImageCache.of(settings.data.cache, settings.data.cache_gib),
                stretches=stretches,
            )
        session = Session(settings, images, networks, Streams(settings.seed), labeller or label_epoch)
        if interruption is not None:
            interruption.agree = processes.largest
        if observer is None or not processes.is_first:
            observer = Silent()
        preprocessing = Preprocessing(
            settings.data.height,
            settings.data.width,
            mean=networks.online.image_mean,
            std=networks.online.image_std,
            visible_stretch=stretches.get(Modality.VISIBLE),
            infrared_stretch=stretches.get(Modality.INFRARED),
        )
        writer = _Writer(session, training_set, run, observer, preprocessing)
        training = _Training(session, writer, observer, interruption)
        if resume:
            training.resume()
        else:
            training.start(replace=replace)
        try:
            observer.loaded(images, settings.epochs)
            observer.estimated(needed.total, lambda: plan_epochs(session, training.progress.next_epoch))
            if may_not_fit is not None:
                observer.warned(may_not_fit)
            return training.run()
        except Exception as error:
            writer.note_failure(training.progress, error)
            raise


class _Training:
    """The epochs of a training and their progress."""

    def __init__(
        self, session: Session, writer: _Writer, observer: Observer, interruption: Interruption | None
    ) -> None:
        self.session, self.settings, self.networks = session, session.settings, session.networks
        self.writer, self.observer, self.interruption = writer, observer, interruption
        self.progress = Progress(Selection(self.settings.selection))

    def start(self, *, replace: bool) -> None:
        """Make the run folder, with the first checkpoint.

        Args:
            replace: Replace an existing folder.
        """
        make_run = self.writer.replace_run if replace else self.writer.make_run
        self.networks.processes.by_the_first(lambda: make_run(self.progress))

    def resume(self) -> None:
        """Continue from the newest complete checkpoint."""
        saved = self.writer.newest_checkpoint()
        changed: dict[str, Any] = {}
        if saved.settings:  # older versions did not keep them
            within = saved.state is not None
            changed = changed_settings(saved.settings, self.settings, next_epoch=saved.next_epoch, within_epoch=within)
        self.progress.restore(saved, self.session)
        self.progress.restarts = saved.restarts
        self.writer.resume(self.progress, changed)

    def run(self) -> Path:
        """Run the remaining epochs, and save the model."""
        progress, settings, processes = self.progress, self.settings, self.networks.processes
        while progress.next_epoch < settings.epochs:
            position = position_of(settings, progress.next_epoch, restarts=progress.restarts)
            try:
                with explaining_memory(f"training epoch {position.epoch + 1}", _how_to_save_memory(settings)):
                    self._run_epoch(position)
            except NotFinite as error:
                if progress.restarts == settings.schedule.restarts:
                    with processes.raise_once():
                        raise
                self._restart(error)
        if settings.selection != "last" or settings.engine.keep_weights:
            self._judge_the_last_epoch()
        # All processes wait until the model is saved.
        model = processes.by_the_first(lambda: self.writer.finish(progress))
        if processes.is_first and self.settings.selection == "last":
            warning = decline_warning(self.writer.run.epochs())
            if warning is not None:
                self.observer.warned(warning)
        self._calibrate(model)
        self.observer.finished(model)
        return model

    def _calibrate(self, model: Path) -> None:
        """Measure what similarities of the final model mean, and describe the images as it sees them, for the report.

        The model is saved by then, and does not change.
        """
        processes = self.networks.processes
        network = processes.by_the_first(lambda: load_model(model))
        encoder = Encoder(network, self.writer.preprocessing, device=self.networks.fabric.device)
        try:
            calibration = measure_calibration(self.session, encoder, partial(self._describe_images, network))
            processes.by_the_first(lambda: self.writer.run.write_calibration(calibration))
        except UserError as error:
            self.observer.warned(f"the model is saved, but has no calibration: {error}")

    def _describe_images(self, network: TwoStreamNetwork, features: Pair[Features], labels: EpochLabels) -> None:
        checksum = self.writer.training_set.checksum
        self.writer.run.write_survey(survey_session(self.session, network, features, labels, checksum))

    def _run_epoch(self, position: Position) -> None:
        """Label images and build memories, unless that was done before an interruption; run the steps; save."""
        session, progress, writer, observer = self.session, self.progress, self.writer, self.observer
        lengths, epoch = self.settings.schedule.numbers(), position.epoch
        if self.networks.optimiser is None or (epoch == lengths.stage1_epochs and progress.state is None):
            self.networks.begin_stage(self.settings)
        for group in self.networks.optimiser.param_groups:
            group["lr"] = position.learning_rate
        observer.epoch_started(position, lengths.iterations)
        if progress.state is None:
            progress.state = begin_epoch(session, position, progress.previous)
            self._consider(epoch, progress.state.criteria)
            first = [] if progress.previous is not None else progress.state.labels.neighbourhood_warnings()
            for warning in (*first, *progress.state.labels.warnings()):
                observer.warned(f"epoch {epoch + 1}: {warning}")
        state = progress.state
        try:
            run_steps(session, position, state, self._on_step(position), self.interruption)
        except Interrupted:
            writer.save(progress)
            raise
        for network in (self.networks.online, self.networks.momentum.network):
            refuse_broken_network(network, where=f"epoch {epoch + 1}", learning_rate=position.learning_rate)
        record = end_epoch(session, position, state)
        measured = observer.epoch_ended(position, state.labels, record)
        labels = {"labels": measured} if measured else {}
        writer.log({"kind": "epoch", "epoch": epoch, "stage": position.stage, **record, **labels})
        progress.next_epoch, progress.previous, progress.state = epoch + 1, state.labels.own, None
        writer.save_weights_of_epoch(progress)
        writer.save(progress)

    def _on_step(self, position: Position) -> StepObserver:
        """The function to call after each step: logs, calls the observer, and saves a checkpoint when due."""
        iterations, engine = self.settings.schedule.numbers().iterations, self.settings.engine
        where = {"epoch": position.epoch, "stage": position.stage}

        def on_step(step: int, losses: dict[str, float]) -> None:
            if step % engine.log_every == 0:
                global_step = position.epoch * iterations + step
                at = {"step": step, "global_step": global_step, "lr": position.learning_rate}
                self.writer.log({"kind": "step", **where, **at, "loss": losses})
            self.observer.stepped(position, step, losses)
            if time.monotonic() - self.writer.saved_at > 60 * engine.checkpoint_minutes:
                self.writer.save(self.progress)

        return on_step

    def _restart(self, error: NotFinite) -> None:
        """Begin the epoch again with a lower learning rate.

        It does not restart from the newest checkpoint, whose step depends on the clock or a signal: an interrupted run
        would then differ from an uninterrupted one. If the process is killed here at any point, the resumed run raises
        the same error again, or continues after the restart.
        """
        progress = self.progress
        saved = self.networks.processes.by_the_first(self.writer.checkpoint_of_epoch)
        progress.restore(saved, self.session)
        self.writer.open_log(progress)
        progress.restarts += 1
        rate = position_of(self.settings, progress.next_epoch, restarts=progress.restarts).learning_rate
        self.observer.warned(
            f"{error.reason}; epoch {progress.next_epoch + 1} begins again with the learning rate {rate:g} (restart "
            f"{progress.restarts} of {self.settings.schedule.restarts})"
        )
        reached = {"epoch": progress.next_epoch, "restarts": progress.restarts, "lr": rate, "reason": error.reason}
        self.writer.log({"kind": "restart", **reached})
        self.writer.save(progress)

    def _judge_the_last_epoch(self) -> None:
        progress = self.progress
        _, _, criteria = embed_and_label(self.session, progress.previous, epoch=progress.next_epoch, joint=False)
        self._consider(progress.next_epoch, criteria)
        selected = {"by": progress.selection.by, "epoch": progress.selection.epoch}
        self.writer.log({"kind": "selection", "epoch": progress.next_epoch, "criteria": criteria, "selected": selected})

    def _consider(self, epochs: int, criteria: dict[str, float]) -> None:
        """Keep the weights after `epochs` epochs if the selection prefers them to those before."""
        schedule = self.settings.schedule.numbers()
        first = schedule.stage1_epochs + 1 if schedule.stage2_epochs else 1
        if self.settings.selection == "last" or epochs < first:
            return
        if self.progress.selection.consider(epochs, criteria):
            self.writer.save_weights(self.writer.run.selected_weights_file, epochs)


class _Writer:
    """Writes the run folder; with several processes, only the first one writes.

    Args:
        session: Settings and networks to save.
        training_set: For the records.
        run: The run folder.
        observer: Gets the warnings.
        preprocessing: Saved in the model files.
    """

    def __init__(
        self,
        session: Session,
        training_set: TrainingSet,
        run: Path,
        observer: Observer,
        preprocessing: Preprocessing,
    ) -> None:
        self.session, self.settings, self.networks = session, session.settings, session.networks
        self.training_set, self.observer = training_set, observer
        self.processes = session.networks.processes
        self.run = RunFolder(run)
        self.preprocessing = preprocessing
        self.saved_at = time.monotonic()
        self._log: MetricsLog | None = None

    def make_run(self, progress: Progress) -> None:
        """Make the folder, with the first checkpoint."""
        # An incomplete run folder could neither be resumed nor be used for a new run.
        with making_folder(self.run.path):
            self.run.write_settings(self.settings)
            device = self.networks.fabric.device
            write_durably(self.run.provenance_file, provenance_json(self.settings, self.training_set, device))
            self.run.write_training_images(self._training_images())
            make_new_folder(self.run.checkpoints_folder)
            start, facts = self.run.weights_file("start"), {"weights": "start"}
            save_model(start, self.networks.online, facts, preprocessing=self.preprocessing)
            self.save(progress)
            self.open_log(progress)

    def replace_run(self, progress: Progress) -> None:
        """As `make_run`, replacing another run."""
        with putting_aside(self.run.path, self.run.settings_file.name):
            self.make_run(progress)

    def newest_checkpoint(self) -> Checkpoint:
        """The newest complete checkpoint."""
        saved = load_latest_checkpoint(self.run.checkpoints_folder, warn=self.observer.warned)
        _refuse_other_images(saved, self.training_set)
        return saved

    def checkpoint_of_epoch(self) -> Checkpoint:
        """The checkpoint at the start of the newest epoch; later ones are removed."""
        return rewind_to_epoch(self.run.checkpoints_folder, warn=self.observer.warned)

    def resume(self, progress: Progress, changed: dict[str, Any]) -> None:
        """Open the log, and record in the provenance where the run resumes."""
        self.open_log(progress)
        if self.processes.is_first:
            (self.run.path / UNFINISHED).unlink(missing_ok=True)  # the kill came after the first checkpoint
            if not self.run.training_images_file.exists():  # the run was begun by an older version
                self.run.write_training_images(self._training_images())
        self.processes.by_the_first(lambda: self._note_session(progress, changed))

    def _training_images(self) -> dict[str, str | None]:
        """The record of the training images: hash by digest."""
        record: dict[str, str | None] = {}
        pairs = list(zip(self.training_set.images, self.training_set.digests, strict=True))
        for modality, loaded in zip(Modality, self.session.images, strict=True):
            digests = [digest for image, digest in pairs if image.modality is modality]
            hashes = image_hashes(loaded.images.numpy())
            record |= {digest: row.tobytes().hex() for digest, row in zip(digests, hashes, strict=True)}
        return record

    def _note_session(self, progress: Progress, changed: dict[str, Any]) -> None:
        """Record in the provenance where the run resumes. Nothing is computed from it: a damaged one is no error."""
        path = self.run.provenance_file
        try:
            saved = read_text(path, "restore it")
            device = self.networks.fabric.device
            noted = provenance_resumed(saved, self.settings, device, epoch=progress.next_epoch, changed=changed)
        except (OSError, ValueError, UserError) as error:
            self.observer.warned(f"{path}: cannot be updated ({error}); this session is not recorded there")
        else:
            write_durably(path, noted)

    def open_log(self, progress: Progress) -> None:
        """Open the log for the next step; later lines are dropped."""
        if not self.processes.is_first:
            return
        self._log = MetricsLog(
            self.run.log_file,
            first_epoch=progress.next_epoch,
            first_step=0 if progress.state is None else progress.state.step,
            restarts=progress.restarts,
        )

    def log(self, record: dict[str, Any]) -> None:
        """Write a line of the log."""
        if self._log is not None:
            self._log.write(record)
            self.observer.logged(record)

    def note_failure(self, progress: Progress, error: Exception) -> None:
        """Log the error that ends the training, so that others see why; not one that the log cannot take."""
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        if not isinstance(error, UserError):
            reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        if self._log is not None:
            with suppress(UserError):  # the disk may be full
                self._log.write({"kind": "failure", "epoch": progress.next_epoch, "reason": reason})

    def save(self, progress: Progress) -> None:
        """Write a checkpoint."""
        if not self.processes.is_first:
            return
        if progress.state is not None and first_not_finite(self.networks.online) is not None:
            return  # the previous checkpoint stays the newest; the next loss, or the end of the epoch, raises the error
        save_checkpoint(self.run.checkpoints_folder, progress.checkpoint(self.session, self.training_set.checksum))
        self.saved_at = time.monotonic()

    def save_weights_of_epoch(self, progress: Progress) -> None:
        """Save the weights after an epoch: at the end of stage I, and after every epoch if the settings require it."""
        if progress.next_epoch == self.settings.schedule.numbers().stage1_epochs:
            self._save_network(self.run.weights_file("stage1"), {"weights": "stage1"})
        if self.settings.engine.keep_weights:
            self.save_weights(self.run.kept_weights_file(progress.next_epoch), progress.next_epoch)

    def save_weights(self, path: Path, epochs: int) -> None:
        """Save the momentum network as a model.

        Args:
            path: The file.
            epochs: Number of epochs trained.
        """
        self._save_network(path, {"weights": "final", "epoch": str(epochs), "selection": self.settings.selection})

    def finish(self, progress: Progress) -> Path:
        """Save the final model."""
        model = self.run.model_file
        if self.settings.selection == "last":
            self.save_weights(model, progress.next_epoch)
        else:
            write_durably(model, self.run.selected_weights_file.read_bytes())
        return model

    def _save_network(self, path: Path, facts: dict[str, str]) -> None:
        if self.processes.is_first:
            save_model(path, self.networks.momentum.network, facts, preprocessing=self.preprocessing)


def _with_sizes_for(settings: Settings, training_set: TrainingSet) -> Settings:
    return settings.with_sizes_for(*_count(training_set))


def _count(training_set: TrainingSet) -> Pair[int]:
    return Pair(*(sum(image.modality is modality for image in training_set.images) for modality in Modality))


def _how_to_save_memory(settings: Settings) -> str:
    batch, data = settings.batch, settings.data
    return (
        f"halve batch.clusters ({batch.clusters}) or batch.instances ({batch.instances}), or lower data.height and "
        f"data.width ({data.height} × {data.width}), in the run's settings file, and resume; the "
        "checkpoints are complete"
    )


def _refuse_shares_without_images(settings: Settings, processes: Processes) -> None:
    clusters, instances = settings.batch.numbers()
    batch = clusters * instances
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
