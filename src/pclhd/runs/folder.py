"""The run folder: names of its files, and how they are read and written.

No other module contains these names. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError

from pclhd.answers.calibration import Calibration
from pclhd.config import Settings, load_settings
from pclhd.errors import UserError
from pclhd.files import owning_folder, remove_partial_files, write_durably
from pclhd.parsing import open_tensors, parse_json
from pclhd.runs.calibration import calibration_text, read_calibration
from pclhd.runs.records import (
    EpochRecord,
    LogRecord,
    Results,
    find_setting,
    read_epochs,
    read_facts,
    read_log,
    read_results,
    read_settings,
    results_json,
)
from pclhd.runs.survey import Survey, read_survey, survey_bytes
from pclhd.runs.training_images import TrainingImages, read_training_images, training_images_text

WeightsName = Literal["start", "stage1", "final"]


def checkpoint_name(epoch: int, step: int) -> str:
    """Name of the checkpoint at a position in the schedule; names sort in the order of training."""
    return f"epoch-{epoch:04d}-step-{step:05d}.safetensors"


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("epoch-*-step-*.safetensors"))


@dataclass(frozen=True)
class RunFolder:
    """A folder made by a training or an import.

    Attributes:
        path: The folder.

    Examples:
        >>> run = RunFolder("runs/first")
        >>> run.model_file.name
        'model.safetensors'
    """

    path: Path

    def __init__(self, path: Path | str | RunFolder) -> None:
        object.__setattr__(self, "path", path.path if isinstance(path, RunFolder) else Path(path))

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    # Names.

    @property
    def settings_file(self) -> Path:
        """The resolved settings, as YAML."""
        return self.path / "config.yaml"

    @property
    def provenance_file(self) -> Path:
        """Versions, machine, seed and images, as JSON."""
        return self.path / "provenance.json"

    @property
    def training_images_file(self) -> Path:
        """Digests of the training images, a line each."""
        return self.path / "training_images.txt"

    @property
    def log_file(self) -> Path:
        """One JSON object a line: epochs, logged steps, restarts, the selection."""
        return self.path / "metrics.jsonl"

    @property
    def results_file(self) -> Path:
        """The results of an evaluation, as JSON."""
        return self.path / "results.json"

    @property
    def model_file(self) -> Path:
        """The final model, with its architecture and preprocessing."""
        return self.path / "model.safetensors"

    @property
    def calibration_file(self) -> Path:
        """What similarities of the final model mean, as JSON."""
        return self.path / "calibration.json"

    @property
    def survey_file(self) -> Path:
        """What the final model makes of the training images."""
        return self.path / "survey.safetensors"

    @property
    def onnx_file(self) -> Path:
        """The final model as `pclhd export --format onnx` writes it by default."""
        return self.path / "model.onnx"

    @property
    def report_file(self) -> Path:
        """The report that `pclhd report` writes."""
        return self.path / "report" / "index.html"

    @property
    def tensorboard_folder(self) -> Path:
        """TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def tracking_file(self) -> Path:
        """Under which numbers MLflow and Weights & Biases record the run, as JSON."""
        return self.path / "tracking.json"

    @property
    def checkpoints_folder(self) -> Path:
        """Checkpoints and weights of earlier epochs."""
        return self.path / "checkpoints"

    @property
    def selected_weights_file(self) -> Path:
        """The weights that the selection has chosen so far."""
        return self.checkpoints_folder / "selected.safetensors"

    def weights_file(self, name: WeightsName) -> Path:
        """The model file at the start, after stage I, or at the end."""
        if name == "final":
            return self.model_file
        return self.checkpoints_folder / f"{name}.safetensors"

    def kept_weights_file(self, epochs: int) -> Path:
        """The model file after a number of epochs, if the settings keep the weights of each epoch."""
        return self.checkpoints_folder / f"weights-{epochs:04d}.safetensors"

    # What is there.

    def is_run(self) -> bool:
        """Whether the folder has a settings file, as every run folder does."""
        return self.settings_file.is_file()

    def is_begun(self) -> bool:
        """Whether a training has started in it."""
        return self.checkpoints_folder.is_dir()

    def require_run(self) -> None:
        """Check that this is a run folder.

        Raises:
            UserError: It is not a run folder.
        """
        if not self.is_run():
            raise UserError(
                f"{self.path}: is not a run folder (no {self.settings_file.name}); expected a folder that pclhd made"
            )

    def require_model(self) -> Path:
        """The final model file.

        Raises:
            UserError: This is not a run folder, or its training is not finished.
        """
        if not self.model_file.is_file():
            self.require_run()
            raise UserError(
                f"{self.model_file}: is missing, the training is not finished; continue with: "
                f"pclhd train --resume {self.path}"
            )
        return self.model_file

    def weights(self) -> dict[WeightsName, Path]:
        """The existing model files, in the order of training."""
        names: tuple[WeightsName, ...] = ("start", "stage1", "final")
        return {name: self.weights_file(name) for name in names if self.weights_file(name).exists()}

    def require_weights(self, name: WeightsName) -> Path:
        """The model file at the start, after stage I, or at the end.

        Raises:
            UserError: This is not a run folder, or has no such file.
        """
        if name == "final":
            return self.require_model()
        path = self.weights_file(name)
        if not path.is_file():
            self.require_run()
            there = ", ".join(self.weights()) or "none"
            raise UserError(f"{path}: is missing; weights of this run that are there: {there}")
        return path

    # Reading.

    def settings(self) -> Settings:
        """The validated settings.

        Raises:
            UserError: This is not a run folder, or its settings are invalid in this version.
        """
        if not self.settings_file.exists():
            self.require_run()
        return load_settings(self.settings_file)

    def saved_settings(self) -> tuple[str, dict[str, Any]] | None:
        """The settings as text and as a mapping, not validated; None if there are none.

        Raises:
            UserError: The file is unreadable, not YAML, or not a mapping.
        """
        return read_settings(self.settings_file)

    def facts(self) -> dict[str, str]:
        """The provenance by dotted key; see `pclhd.runs.records.read_facts`.

        Raises:
            UserError: The file is unreadable or not a JSON object.
        """
        return read_facts(self.provenance_file)

    def training_images(self) -> TrainingImages | None:
        """What the run was trained on; None where it has no record of that.

        Raises:
            UserError: The file is unreadable or damaged.
        """
        return read_training_images(self.training_images_file)

    def log(self) -> list[LogRecord]:
        """All records of the log in the order of its lines; empty if there is no log.

        Raises:
            UserError: A line is not a record.
        """
        return read_log(self.log_file)

    def epochs(self) -> list[EpochRecord]:
        """The logged epochs in the order of training; empty if there is no log.

        Raises:
            UserError: A line is not a record.
        """
        return read_epochs(self.log_file)

    def results(self) -> Results | None:
        """The results of the last evaluation; None if there was none.

        Raises:
            UserError: The file is unreadable, not JSON, or a value is missing or out of range.
        """
        return read_results(self.results_file)

    def require_results(self) -> Results:
        """The results of the last evaluation.

        Raises:
            UserError: There are none; or as `results`.
        """
        results = self.results()
        if results is None:
            raise UserError(f"{self.results_file}: is missing; make it with: pclhd evaluate {self.path}")
        return results

    def calibration(self) -> Calibration | None:
        """What similarities of the final model mean; None if it was not measured.

        Raises:
            UserError: The file is unreadable, or a value is missing or out of range.
        """
        return read_calibration(self.calibration_file)

    def survey(self) -> Survey | None:
        """What the final model makes of the training images; None if no training of this version wrote it.

        Raises:
            UserError: The file is unreadable or damaged.
        """
        return read_survey(self.survey_file)

    def data_root(self) -> Path | None:
        """The data folder or CSV file that the settings name, or None."""
        saved = self.saved_settings()
        root = None if saved is None else find_setting(saved[1], "data.root")
        return Path(root) if isinstance(root, str) else None

    def model_metadata(self) -> Mapping[str, str]:
        """The metadata of the final model file; empty if there is none, or if it is not one of ours.

        Its tensors are not read.
        """
        try:
            with open_tensors(self.model_file, "numpy") as file:
                header = parse_json((file.metadata() or {})["pclhd"])
            return {str(name): str(value) for name, value in header["metadata"].items()}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    # Writing.

    def write_settings(self, settings: Settings) -> None:
        """Save the settings.

        Raises:
            UserError: The file cannot be written.
        """
        write_durably(self.settings_file, settings.to_yaml())

    def write_training_images(self, images: TrainingImages) -> None:
        """Save what the run is trained on.

        Raises:
            UserError: The file cannot be written.
        """
        write_durably(self.training_images_file, training_images_text(images))

    def write_results(self, results: Results) -> None:
        """Save the results of an evaluation.

        Raises:
            UserError: The file cannot be written.
        """
        write_durably(self.results_file, results_json(results))

    def write_calibration(self, calibration: Calibration) -> None:
        """Save what similarities of the final model mean.

        Raises:
            UserError: The file cannot be written.
        """
        write_durably(self.calibration_file, calibration_text(calibration))

    def write_survey(self, survey: Survey) -> None:
        """Save what the final model makes of the training images.

        Raises:
            UserError: The file cannot be written.
        """
        write_durably(self.survey_file, survey_bytes(survey))


@contextmanager
def owning_run(run: RunFolder) -> Iterator[None]:
    """Be the only one who writes to a run folder in the block; see `pclhd.files.owning_folder`.

    What killed processes left of the run's files is removed.

    Raises:
        UserError: Another process writes to it, or it cannot be written.
    """
    with owning_folder(run.path):
        if run.is_run():
            for folder in (run.path, run.checkpoints_folder, run.report_file.parent):
                remove_partial_files(folder)
        yield


def trained_labels(run: RunFolder) -> str | None:
    """What a training used as labels, by its newest checkpoint: ``method.labels`` of that time.

    None if there is no checkpoint, or one of an older version, which did not keep it.
    """
    for path in reversed(checkpoint_files(run.checkpoints_folder)):
        try:
            with open_tensors(path, "numpy") as file:
                labels = parse_json((file.metadata() or {})["facts"])["settings"]["method.labels"]
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            continue
        return labels if isinstance(labels, str) else None
    return None
