"""A run folder: what each file in it is called, and how it is read and written.

No other module spells these names. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from pclhd.config import Settings, load_settings
from pclhd.errors import UserError
from pclhd.files import write_durably
from pclhd.parsing import parse_json
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

WeightsName = Literal["start", "stage1", "final"]


def checkpoint_name(epoch: int, step: int) -> str:
    """What the checkpoint of a position in the schedule is called; names sort in the order of training."""
    return f"epoch-{epoch:04d}-step-{step:05d}.safetensors"


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("epoch-*-step-*.safetensors"))


@dataclass(frozen=True)
class RunFolder:
    """A folder that a training, or an import, left.

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
    def log_file(self) -> Path:
        """One JSON object a line: epochs, logged steps, restarts, the selection."""
        return self.path / "metrics.jsonl"

    @property
    def results_file(self) -> Path:
        """What an evaluation measured, as JSON."""
        return self.path / "results.json"

    @property
    def model_file(self) -> Path:
        """The final network with its architecture and preprocessing."""
        return self.path / "model.safetensors"

    @property
    def report_file(self) -> Path:
        """The page that `pclhd report` writes."""
        return self.path / "report" / "index.html"

    @property
    def tensorboard_folder(self) -> Path:
        """TensorBoard's events."""
        return self.path / "tensorboard"

    @property
    def checkpoints_folder(self) -> Path:
        """Checkpoints, and the weights of earlier moments."""
        return self.path / "checkpoints"

    @property
    def selected_weights_file(self) -> Path:
        """The weights that the selection prefers so far."""
        return self.checkpoints_folder / "selected.safetensors"

    def weights_file(self, name: WeightsName) -> Path:
        """The model file of the start, of the end of stage I, or the final one."""
        if name == "final":
            return self.model_file
        return self.checkpoints_folder / f"{name}.safetensors"

    def kept_weights_file(self, epochs: int) -> Path:
        """The model file after a number of epochs, where the settings keep one for each."""
        return self.checkpoints_folder / f"weights-{epochs:04d}.safetensors"

    # What is there.

    def is_run(self) -> bool:
        """Whether the folder holds settings, which every run folder does."""
        return self.settings_file.is_file()

    def is_begun(self) -> bool:
        """Whether a training has written to it."""
        return self.checkpoints_folder.is_dir()

    def require_run(self) -> None:
        """Check that this is a run folder.

        Raises:
            UserError: It is not.
        """
        if not self.is_run():
            raise UserError(
                f"{self.path}: is not a run folder (no {self.settings_file.name}); expected a folder that pclhd made"
            )

    def require_model(self) -> Path:
        """The final model file.

        Raises:
            UserError: This is no run folder, or its training is not finished.
        """
        if not self.model_file.is_file():
            self.require_run()
            raise UserError(
                f"{self.model_file}: is missing, the training is not finished; continue with: "
                f"pclhd train --resume {self.path}"
            )
        return self.model_file

    def weights(self) -> dict[WeightsName, Path]:
        """The model files that are there, in the order of training."""
        names: tuple[WeightsName, ...] = ("start", "stage1", "final")
        return {name: self.weights_file(name) for name in names if self.weights_file(name).exists()}

    # Reading.

    def settings(self) -> Settings:
        """The settings, checked.

        Raises:
            UserError: They are missing or do not fit this version.
        """
        return load_settings(self.settings_file)

    def saved_settings(self) -> tuple[str, dict[str, Any]] | None:
        """The settings as text and as a mapping, whichever version wrote them; None if there are none.

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

    def log(self) -> list[LogRecord]:
        """All records of the log in the order of its lines; empty if there is no log.

        Raises:
            UserError: A line is no record.
        """
        return read_log(self.log_file)

    def epochs(self) -> list[EpochRecord]:
        """The logged epochs in the order of training; empty if there is no log.

        Raises:
            UserError: A line is no record.
        """
        return read_epochs(self.log_file)

    def results(self) -> Results | None:
        """What the last evaluation measured; None if there was none.

        Raises:
            UserError: The file is unreadable, not JSON, or a value is missing or out of range.
        """
        return read_results(self.results_file)

    def require_results(self) -> Results:
        """As `results`, where they must be there.

        Raises:
            UserError: There are none, or as `results`.
        """
        results = self.results()
        if results is None:
            raise UserError(f"{self.results_file}: is missing; make it with: pclhd evaluate {self.path}")
        return results

    def data_root(self) -> Path | None:
        """The folder or list of the data that the settings name, or None."""
        saved = self.saved_settings()
        root = None if saved is None else find_setting(saved[1], "data.root")
        return Path(root) if isinstance(root, str) else None

    def model_metadata(self) -> Mapping[str, str]:
        """What the final model file says about itself; empty if there is none, or if it is not one of ours.

        Its tensors are not read.
        """
        try:
            with safe_open(self.model_file, framework="numpy") as file:
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

    def write_results(self, results: Results) -> None:
        """Save what an evaluation measured.

        Raises:
            UserError: The file cannot be written.
        """
        write_durably(self.results_file, results_json(results))


def trained_labels(run: RunFolder) -> str | None:
    """What a training used as labels, by its newest checkpoint: ``method.labels`` of that time.

    None if there is no checkpoint, or one of an older version, which did not keep it.
    """
    for path in reversed(checkpoint_files(run.checkpoints_folder)):
        try:
            with safe_open(path, framework="numpy") as file:
                labels = parse_json((file.metadata() or {})["facts"])["settings"]["method.labels"]
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            continue
        return labels if isinstance(labels, str) else None
    return None
