"""What records a training for another program: an observer that is closed at the end, and that cannot disturb it.

The log in the run folder is the record of a training. A sink is a copy of it for people who look at many trainings in
one place. So a sink that fails is switched off with a warning, and draws nothing from the generators of the training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from pclhd.data.datasets import TrainingImages
from pclhd.engine.duration import Plan
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.observer import Observer
from pclhd.engine.position import Position
from pclhd.runs.records import flatten

Ending = Literal["finished", "interrupted", "failed"]


class Sink(Protocol):
    """An observer's methods that a sink may have a use for. It opens nothing before `loaded`."""

    name: str

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """All images are decoded, and the run folder is there, new or resumed."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """A line was written to the run's log: one of the models of `pclhd.runs.records.LogRecord`."""

    def labelled(self, position: Position, labels: EpochLabels) -> None:
        """An epoch with these pseudo labels is over."""

    def finished(self, model: Path) -> None:
        """The final model is saved."""

    def close(self, ending: Ending) -> None:
        """The training is over, or broke off."""


class Watched:
    """An observer that passes each call on to another observer and to the sinks.

    Args:
        observer: Its answers count; the sinks have none.
        sinks: Each is switched off when it fails.
    """

    def __init__(self, observer: Observer, sinks: list[Sink]) -> None:
        self._observer, self._sinks = observer, list(sinks)

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """Pass on."""
        self._observer.loaded(images, epochs)
        self._each(lambda sink: sink.loaded(images, epochs))

    def estimated(self, memory: int, plan: Callable[[], Plan]) -> None:
        """Pass on to the observer."""
        self._observer.estimated(memory, plan)

    def epoch_started(self, position: Position, steps: int) -> None:
        """Pass on to the observer."""
        self._observer.epoch_started(position, steps)

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """Pass on to the observer."""
        self._observer.stepped(position, step, losses)

    def epoch_ended(self, position: Position, labels: EpochLabels, record: Mapping[str, object]) -> dict[str, float]:
        """Pass on; the observer's measures are logged."""
        measured = self._observer.epoch_ended(position, labels, record)
        self._each(lambda sink: sink.labelled(position, labels))
        return measured

    def logged(self, record: Mapping[str, Any]) -> None:
        """Pass on."""
        self._observer.logged(record)
        self._each(lambda sink: sink.logged(record))

    def finished(self, model: Path) -> None:
        """Pass on."""
        self._observer.finished(model)
        self._each(lambda sink: sink.finished(model))

    def warned(self, message: str) -> None:
        """Pass on to the observer."""
        self._observer.warned(message)

    def close(self, ending: Ending) -> None:
        """Close the sinks that are left."""
        self._each(lambda sink: sink.close(ending))

    def _each(self, call: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                # Dropout draws from the global generator. The others that training uses are its own.
                with torch.random.fork_rng(devices=[]):
                    call(sink)
            except Exception as error:
                self._sinks.remove(sink)
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                self._observer.warned(f"{sink.name} records no more ({reason}); training goes on, and so does the log")


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a log record by name, such as ``epoch/loss/total``; those that say where it stands are left out.

    Args:
        record: A line of the log.
    """
    return {
        f"{record['kind']}/{name}": float(value)
        for name, value in flatten(record, "/").items()
        if isinstance(value, int | float) and name.rpartition("/")[2] not in {"epoch", "step", "global_step"}
    }


def place(record: Mapping[str, Any]) -> int:
    """Where a record stands on the axis of its kind: the step over all epochs, or the epoch."""
    return int(record.get("global_step", record["epoch"]))
