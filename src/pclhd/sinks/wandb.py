"""Weights & Biases: settings as configuration, the numbers of the log as a history; offline unless asked otherwise."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pclhd.config import Settings
from pclhd.data.datasets import TrainingImages
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.position import Position
from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder
from pclhd.runs.tracking import read_tracking, write_tracking
from pclhd.sinks.observing import Ending, place, scalars


class WeightsAndBiases:
    """Records a training as a run of a project. A resumed training continues its run.

    Args:
        settings: Name the project, and are recorded.
        run: The run folder, which keeps the run's number and, offline, its files.

    Raises:
        UserError: The package is not installed.
    """

    name = "Weights & Biases"

    def __init__(self, settings: Settings, run: RunFolder) -> None:
        # It would report its own errors to its makers.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError as error:
            raise UserError("engine.wandb needs Weights & Biases: pip install wandb") from error
        self._settings, self._run, self._wandb = settings, run, wandb
        self._open: Any = None

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """Begin a run, or continue that of a resumed training."""
        known = read_tracking(self._run.tracking_file).get("wandb")
        number = known or secrets.token_hex(4)
        if known is None:
            write_tracking(self._run.tracking_file, {"wandb": number})
        self._open = self._wandb.init(
            project=self._settings.engine.wandb,
            id=number,
            name=self._run.path.absolute().name,
            dir=str(self._run.path),
            config=self._settings.model_dump(mode="json"),
            mode=cast(Any, os.environ.get("WANDB_MODE", "offline")),
            resume="allow",
            reinit="create_new",
            # Nothing about this machine, its files or its output, and nothing printed.
            settings=self._wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                disable_job_creation=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )
        for kind in ("epoch", "step", "restart", "selection"):
            self._open.define_metric(f"{kind}/at", hidden=True)
            self._open.define_metric(f"{kind}/*", step_metric=f"{kind}/at")

    def logged(self, record: Mapping[str, Any]) -> None:
        """Write the numbers."""
        self._open.log({f"{record['kind']}/at": place(record), **scalars(record)})

    def labelled(self, position: Position, labels: EpochLabels) -> None:
        """Do nothing: pseudo labels stay in the run folder."""

    def finished(self, model: Path) -> None:
        """Do nothing: the weights stay in the run folder."""

    def close(self, ending: Ending) -> None:
        """Say how the training ended."""
        if self._open is not None:
            self._open.finish(exit_code=0 if ending == "finished" else 1)
