"""Terminal output of a training: a progress bar during an epoch, one line after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pclhd.data.datasets import TrainingImages
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.position import Position
from pclhd.text_tables import printable

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
            console=console,
            transient=True,
            # In a log file, a bar cannot be redrawn and would only leave blank lines.
            disable=not console.is_terminal or console.quiet,
        )
        self._epochs = 0

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

    def epoch_started(self, position: Position, steps: int) -> None:
        """Start a new progress bar."""
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        self._progress.add_task(f"epoch {position.epoch + 1}/{self._epochs} (stage {position.stage})", total=steps)

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """Advance the bar."""
        self._progress.advance(self._progress.task_ids[-1])

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
        self._print("  ".join(parts))
        return measured

    def warned(self, message: str) -> None:
        """Print the warning."""
        self._print(f"warning: {message}", self._warnings)

    def _print(self, line: str, console: Console | None = None) -> None:
        # Not wrapped: where there is no terminal to measure, a line is a line.
        (console or self._console).print(printable(line), highlight=False, markup=False, soft_wrap=True)
