"""The folder of a study: names of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pclhd.runs.folder import RunFolder


@dataclass(frozen=True)
class StudyFolder:
    """A folder made by `pclhd study run`.

    Attributes:
        path: The folder.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def record_file(self) -> Path:
        """What is searched, how, and in which database, as YAML; without a password."""
        return self.path / "study.yaml"

    @property
    def database_file(self) -> Path:
        """The trials, where no server keeps them."""
        return self.path / "study.db"

    @property
    def trials_file(self) -> Path:
        """The trials as CSV."""
        return self.path / "trials.csv"

    @property
    def page_file(self) -> Path:
        """All plots as one HTML page."""
        return self.path / "plots.html"

    def picture_file(self, plot: str) -> Path:
        """A plot as PNG."""
        return self.path / f"{plot}.png"

    def run(self, trial: int, seed: int) -> RunFolder:
        """The run folder of a trial's training."""
        return RunFolder(self.path / f"trial-{trial:04d}-seed-{seed}")

    def claim(self, trial: int) -> Path:
        """What the one process that runs a trial claims; see `pclhd.files.claiming`."""
        return self.path / f"trial-{trial:04d}"
