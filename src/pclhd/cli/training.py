"""Verbs that train."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pclhd.cli.terminal import console, errors, print_step, say, say_passed_over, status
from pclhd.errors import UserError


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PRESET [KEY=VALUE]...", help="Preset (or YAML file), then settings to change."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The data set's folder, or a CSV file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to make; default runs/PRESET-RECIPE-SEED.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a stopped run.")] = None,
) -> None:
    """Train without labels; leaves a run folder. Only recipe=supervised and semi-supervised use labels.

    Presets: synthetic, tiny, vit, sysu, regdb, llcm, own.
    Example: pclhd train synthetic --data build/small recipe=paper
    """
    from pclhd.config import load_preset
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.train import default_run_folder, measure_for, open_data, train_run

    words = arguments or []
    if resume is not None:
        if words or out is not None:
            raise UserError("--resume takes its settings from the run; leave out the preset, key=value and --out")
        run = RunFolder(resume)
        settings = run.settings()
    else:
        if not words:
            raise UserError("which preset? For example: pclhd train synthetic --data DIR (see pclhd train --help)")
        settings = load_preset(words[0], words[1:], root=data)
        run = default_run_folder(settings) if out is None else RunFolder(out)
    dataset = open_data(settings, data)
    # The slow imports come last, so that a mistake in the settings or in the data is answered at once.
    from pclhd.cli.training_console import ConsoleObserver
    from pclhd.engine.interruption import Interrupted, Interruption

    say(f"training {settings.recipe} on {dataset.name} into {run}")
    say_passed_over(dataset.passed_over)
    interruption = Interruption()
    try:
        with ConsoleObserver(console, measure_for(dataset)) as observer, interruption.handling():
            train_run(settings, dataset, run, observer=observer, resume=resume is not None, interruption=interruption)
    except Interrupted as stop:
        begun = f"interrupted; continue with: pclhd train --resume {run}"
        message = begun if run.is_begun() else "interrupted before the start"
        errors.print(message, highlight=False, markup=False, soft_wrap=True)
        sys.exit(stop.exit_code)
    say(f"done: {run}; next: pclhd evaluate {run}")


def verify(
    run: Annotated[Path, typer.Argument(help="Run folder, finished or interrupted.")],
    data: Annotated[Path | None, typer.Option(help="The data, if it has moved since training.")] = None,
) -> None:
    """Train a run's first epoch again, elsewhere, and compare with what it logged; exit code 1 if it differs."""
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.train import open_data
    from pclhd.workflows.verify import read_logged_epoch, verify_run

    settings = RunFolder(run).settings()
    logged = read_logged_epoch(run)
    dataset = open_data(settings, data)
    try:
        with status("training the first epoch again"):
            found = verify_run(logged, settings, dataset)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was written", highlight=False)
        sys.exit(130)
    typer.echo(found.text())
    if not found.agrees:
        sys.exit(1)


def upper_bound(
    arguments: Annotated[list[str], typer.Argument(metavar="PRESET [KEY=VALUE]...", help="As for train.")],
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    data: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
) -> None:
    """Train the same network with labels: what the unsupervised methods are measured against."""
    from pclhd.config import load_preset
    from pclhd.workflows.train import open_data, with_data_root

    settings = load_preset(arguments[0], arguments[1:], root=data)
    _refuse_unread(arguments[1:])
    dataset = open_data(settings, data)
    from pclhd.supervised.starter import train_upper_bound

    train_upper_bound(with_data_root(settings, dataset), dataset, out, on_step=print_step)
    typer.echo(f"done: {out}; next: pclhd evaluate {out}")


def _refuse_unread(words: list[str]) -> None:
    for word in words:
        if word.partition("=")[0].partition(".")[0] in ("recipe", "method", "selection", "clustering", "memory"):
            raise UserError(
                f"'{word}' reaches nothing here: upper-bound has no clusters and no prototypes, and keeps the last "
                "step's weights; leave it out"
            )
