"""MLflow: settings as parameters, the numbers of the log as metrics, in a folder or on a server."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pclhd.config import Settings
from pclhd.data.datasets import TrainingImages
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.position import Position
from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import flatten
from pclhd.runs.tracking import read_tracking, write_tracking
from pclhd.sinks.observing import Ending, place, scalars

EXPERIMENT = "pclhd"
#: The server's own limits.
_PARAMETERS, _LONGEST = 100, 500

_ENDINGS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow:
    """Records a training as a run of the experiment `pclhd`. A resumed training continues its run.

    Args:
        settings: Name the folder or the server, and are recorded.
        run: The run folder, which keeps the number of MLflow's run.

    Raises:
        UserError: MLflow is not installed.
    """

    name = "MLflow"

    def __init__(self, settings: Settings, run: RunFolder) -> None:
        # It would report to its makers how it is used, wait minutes for a server that is away, and refuse folders.
        for variable, value in {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
            "MLFLOW_ALLOW_FILE_STORE": "true",
        }.items():
            os.environ.setdefault(variable, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise UserError("engine.mlflow needs MLflow: pip install mlflow-skinny") from error
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._settings, self._run, self._make = settings, run, MlflowClient
        self._client: Any = None
        self._id = ""

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """Find the run of a resumed training, or begin one with the settings as parameters."""
        where = str(self._settings.engine.mlflow)
        address = where if "://" in where else Path(where).absolute().as_uri()
        self._client = self._make(tracking_uri=address)
        known = read_tracking(self._run.tracking_file).get("mlflow")
        if known is not None:
            self._id = known
            self._client.update_run(self._id, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        number = self._client.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
        made = self._client.create_run(number, run_name=self._run.path.absolute().name)
        self._id = made.info.run_id
        write_tracking(self._run.tracking_file, {"mlflow": self._id})
        from mlflow.entities import Param

        parameters = [
            Param(_word(key), str(value)[:_LONGEST])
            for key, value in flatten(self._settings.model_dump(mode="json")).items()
        ]
        for start in range(0, len(parameters), _PARAMETERS):
            self._client.log_batch(self._id, params=parameters[start : start + _PARAMETERS])

    def logged(self, record: Mapping[str, Any]) -> None:
        """Write the numbers."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(
            self._id,
            metrics=[Metric(_word(name), value, now, place(record)) for name, value in scalars(record).items()],
        )

    def labelled(self, position: Position, labels: EpochLabels) -> None:
        """Do nothing: pseudo labels stay in the run folder."""

    def finished(self, model: Path) -> None:
        """Do nothing: the weights stay in the run folder."""

    def close(self, ending: Ending) -> None:
        """Say how the training ended."""
        if self._id:
            self._client.set_terminated(self._id, status=_ENDINGS[ending])


def _word(name: str) -> str:
    """A name in the letters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)
