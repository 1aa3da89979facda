"""Terminal output of a training: a progress bar during an epoch, one line after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pclhd.data.datasets import TrainingImages
from pclhd.engine.duration import Plan, TimeLeft
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.position import Position
from pclhd.text_tables import duration, printable

_LONG = 7 * 86_400

Measure = Callable[[EpochLabels], dict[str, float]]


class ConsoleObserver:
    """Prints the progress of a training; measures the clusters if `measure` is given.

    Args:
        console: Console for output.
        measure: Function from pseudo labels to measures by name, or None.
        warnings: Console for warnings; by default `console`.
    """

    def __init__(self, console: Console, measure: Measure | None, *, warnings: Console | None = None) -> None:
        self._console, self._measure, self._warnings = console, measure, warnings or console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            # In a log file, a bar cannot be redrawn and would only leave blank lines.
            disable=not console.is_terminal or console.quiet,
        )
        self._epochs = 0
        self._left: TimeLeft | None = None
        self._stage = 0

    def __enter__(self) -> ConsoleObserver:
        """Start the progress display."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the progress display."""
        self._progress.stop()

    def loaded(self, images: TrainingImages, epochs: int) -> None:
        """Print the numbers of images and epochs."""
        self._epochs = epochs
        self._print(f"{len(images.visible):,} visible and {len(images.infrared):,} infrared images, {epochs} epochs")

    def estimated(self, memory: int, plan: Callable[[], Plan]) -> None:
        """Print how long the training will take, and how much memory."""
        expected = plan()
        self._left = TimeLeft(expected)
        parts = []
        if expected.epochs and expected.measured:
            long = "; the epochs and schedule.iterations decide over it" if expected.seconds > _LONG else ""
            parts.append(f"about {duration(expected.seconds)} on this machine{long}")
        parts.append(f"about {memory / 2**30:.1f} GiB of memory")
        self._print("; ".join(parts))

    def epoch_started(self, position: Position, steps: int) -> None:
        """Start a new progress bar."""
        if (self._stage, position.stage) == (1, 2):
            self._print("stage II has other loss terms, so the loss jumps here; compare losses only within a stage")
        self._stage = position.stage
        if self._left is not None:
            self._left.epoch_started(position.epoch)
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        epoch = f"epoch {position.epoch + 1}/{self._epochs} (stage {position.stage})"
        self._progress.add_task(epoch, total=steps, left=self._time_left())

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """Advance the bar."""
        if self._left is not None:
            self._left.stepped(step)
        self._progress.update(self._progress.task_ids[-1], advance=1, left=self._time_left())

    def epoch_ended(self, position: Position, labels: EpochLabels, record: Mapping[str, Any]) -> dict[str, float]:
        """Print a line about the epoch; return the clusters' agreement with identities, if these are known."""
        measured = {} if self._measure is None else self._measure(labels)
        parts = [
            f"epoch {position.epoch + 1:>3}/{self._epochs} stage {position.stage}",
            f"loss {record['loss']['total']:6.3f}",
            *(
                f"{name} {record[name]['clusters']} clusters, {record[name]['noise']:.0%} noise"
                for name in ("visible", "infrared")
            ),
        ]
        if measured:
            parts.append(
                f"ARI {measured['ari_visible']:.2f} / {measured['ari_infrared']:.2f}, "
                f"correct matches {measured['match_precision']:.0%}"
            )
        parts.append(f"{record['seconds']:.1f} s")
        parts += [self._time_left()] if self._time_left() else []
        self._print("  ".join(parts))
        return measured

    def logged(self, record: Mapping[str, Any]) -> None:
        """Do nothing: what is printed of a record is printed where it arises."""

    def finished(self, model: Path) -> None:
        """Do nothing: the verb prints where the model is."""

    def warned(self, message: str) -> None:
        """Print the warning."""
        self._print(f"warning: {message}", self._warnings)

    def _time_left(self) -> str:
        seconds = None if self._left is None else self._left.seconds()
        return f"about {duration(seconds)} left" if seconds else ""

    def _print(self, line: str, console: Console | None = None) -> None:
        # Not wrapped: where there is no terminal to measure, a line is a line.
        (console or self._console).print(printable(line), highlight=False, markup=False, soft_wrap=True)
