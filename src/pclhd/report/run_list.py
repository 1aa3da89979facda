"""The list of run folders as text."""

from __future__ import annotations

from collections.abc import Sequence

from pclhd.runs.listing import ListedRun
from pclhd.text_tables import text_table

_HEADINGS = ("run", "state", "method", "preset", "data", "seed", "epochs", "rank-1", "mAP", "best", "disk")


def runs_text(listed: Sequence[ListedRun]) -> str:
    """A table of the runs, then a line for each that failed or is damaged, and the total size."""
    if not listed:
        return "no run folders"
    whole = [run for run in listed if run.state != "damaged"]
    lines = [text_table([_cells(run) for run in whole], headings=_HEADINGS, right={5, 6, 7, 8, 10})] if whole else []
    lines += [f"failed: {run.path}: {run.problem}" for run in whole if run.problem is not None]
    lines += [f"damaged: {run.problem}" for run in listed if run.state == "damaged"]
    count = f"{len(listed):,} run" + ("" if len(listed) == 1 else "s")
    notes = [f"{count}, {as_size(sum(run.bytes for run in listed))}"]
    searches = sorted({run.search for run in whole if run.search is not None})
    if searches:
        notes.append(
            f"rank-1 and mAP in percent, of the final weights in the first search ({', '.join(searches)}); best: the "
            "best rank-1 of start, stage I and final weights"
        )
    return "\n".join([*lines, "", *notes])


def as_size(size: int) -> str:
    """Bytes in their largest unit."""
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} bytes"


def _cells(run: ListedRun) -> list[str]:
    data = "" if run.data is None else run.data.replace("\\", "/").rstrip("/").rpartition("/")[2]
    epochs = "" if run.epochs is None else f"{run.epochs}" if run.of is None else f"{run.epochs}/{run.of}"
    return [
        run.path,
        run.state,
        run.recipe or "",
        run.preset or "",
        data,
        "" if run.seed is None else str(run.seed),
        epochs,
        _percent(run.rank1),
        _percent(run.mAP),
        "" if run.best is None else f"{_percent(run.best)} {run.best_weights}",
        as_size(run.bytes),
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
