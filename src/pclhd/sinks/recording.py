"""The sinks of a training, as its settings name them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pclhd.config import Settings
from pclhd.engine.observer import Observer, Silent
from pclhd.runs.folder import RunFolder
from pclhd.sinks.mlflow import MLflow
from pclhd.sinks.observing import Ending, Sink, Watched
from pclhd.sinks.tensorboard import TensorBoard
from pclhd.sinks.wandb import WeightsAndBiases


@contextmanager
def recording(settings: Settings, run: RunFolder, observer: Observer | None) -> Iterator[Observer | None]:
    """An observer of a training that also feeds the sinks of its settings; the given one if there are none.

    Args:
        settings: Say which sinks.
        run: The run folder, which need not exist yet.
        observer: Called as ever; None for no calls.

    Raises:
        UserError: The package of a sink is not installed.
    """
    sinks: list[Sink] = []
    if settings.engine.tensorboard:
        sinks.append(TensorBoard(run))
    if settings.engine.mlflow is not None:
        sinks.append(MLflow(settings, run))
    if settings.engine.wandb is not None:
        sinks.append(WeightsAndBiases(settings, run))
    if not sinks:
        yield observer
        return
    watched = Watched(observer or Silent(), sinks)
    ending: Ending = "interrupted"
    try:
        yield watched
        ending = "finished"
    except Exception:
        ending = "failed"
        raise
    finally:
        watched.close(ending)
