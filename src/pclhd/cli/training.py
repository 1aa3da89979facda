"""Verbs that train."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pclhd.cli.options import DEVICES, Data, MovedData, complete_recipes, complete_settings, verb
from pclhd.cli.terminal import complain, console, errors, say, say_passed_over, show, status
from pclhd.errors import UserError


@verb(quiet=True)
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PRESET [KEY=VALUE]...",
            help="A preset (or a YAML file), then settings to change; pclhd settings lists them.",
            autocompletion=complete_settings,
        ),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Run folder to create.", show_default="runs/PRESET-RECIPE-SEED"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The method; pclhd recipes lists them. Short for recipe=NAME.",
            show_default="pclhd",
            autocompletion=complete_recipes,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of all random draws. Short for seed=N.", show_default="0")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar=DEVICES, help="Device for training. Short for engine.accelerator=DEVICE.", show_default="auto"
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue an interrupted run with the settings in its folder.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the run folder if it exists, once the new training begins.")
    ] = False,
) -> None:
    """Train without labels and create a run folder.

    Presets: synthetic, tiny, vit, sysu, regdb, llcm, own (a graphics card), own-laptop (a processor).

    Recipes: pclhd, released, paper, baseline, dcl, adca, pgm, mmm, bmil, posed,
    supervised, semi-supervised; pclhd recipes explains them. Only the last two use labels.

    Settings often changed: schedule.stage1_epochs, schedule.stage2_epochs,
    schedule.iterations, batch.instances, clustering.k1, clustering.eps,
    model.weights, data.cache; pclhd settings lists all.

    Example: pclhd train synthetic --data build/small --recipe paper schedule.iterations=20
    """
    from pclhd.config import load_preset
    from pclhd.files import check_replaceable
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.train import default_run_folder, measure_for, open_data, resolved_sizes, train_run

    words = arguments or []
    options = {"recipe": recipe, "seed": seed, "device": device}
    if resume is not None:
        given = [f"--{name}" for name, value in options.items() if value is not None]
        if words or out is not None or given or force:
            raise UserError("--resume uses the settings of the run; leave out everything except --data")
        run = RunFolder(resume)
        settings = run.settings()
    else:
        if not words:
            raise UserError("which preset? For example: pclhd train synthetic --data DIR (see pclhd train --help)")
        settings = load_preset(words[0], [*words[1:], *_as_settings(options, words[1:])], root=data)
        run = default_run_folder(settings) if out is None else RunFolder(out)
        if force:
            check_replaceable(run.path, run.settings_file.name)
    dataset = open_data(settings, data)
    # The slow imports come last, so that errors in the settings or in the data are reported immediately.
    from pclhd.cli.training_console import ConsoleObserver
    from pclhd.data.data_name import shown_data_name
    from pclhd.data.layouts import is_drawn
    from pclhd.engine.interruption import Interrupted, Interruption

    name = shown_data_name(dataset.name, drawn=is_drawn(dataset.folder))
    say(f"training {settings.recipe} on {name} into {run}")
    say_passed_over(dataset.passed_over)
    for line in resolved_sizes(settings, dataset):
        say(line)
    interruption = Interruption()
    warnings = errors if console.quiet else None
    try:
        with (
            ConsoleObserver(console, measure_for(dataset), warnings=warnings) as observer,
            interruption.handling(),
        ):
            train_run(
                settings,
                dataset,
                run,
                observer=observer,
                resume=resume is not None,
                replace=force,
                interruption=interruption,
            )
    except Interrupted as stop:
        message = f"interrupted; continue with: pclhd train --resume {run}"
        complain(message if run.is_begun() else "interrupted before the start")
        sys.exit(stop.exit_code)
    # Without labelled test images, an evaluation would refuse.
    say(f"done: {run}; next: pclhd {'report' if dataset.test is None else 'evaluate'} {run}")


@verb(quiet=True)
def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, finished or interrupted.")],
    data: MovedData = None,
    device: Annotated[
        str | None, typer.Option(metavar=DEVICES, help="Where to compute.", show_default="where the run was trained")
    ] = None,
) -> None:
    """Train a run's first epoch again in a temporary folder and compare it with the run's log.

    Exit code 1 if they differ.
    """
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.train import on_device, open_data
    from pclhd.workflows.verify import read_logged_epoch, verify_run

    settings = RunFolder(run).settings()
    if device is not None:
        settings = on_device(settings, device)
    logged = read_logged_epoch(run)
    dataset = open_data(settings, data)
    try:
        with status("training the first epoch again"):
            verification = verify_run(logged, settings, dataset)
    except KeyboardInterrupt:
        complain("interrupted; nothing was written")
        sys.exit(130)
    show(verification.text())
    if not verification.agrees:
        sys.exit(1)


@verb()
def upper_bound() -> None:
    """Report that this verb was removed."""
    raise UserError(
        "upper-bound was removed; train the recipe supervised instead: pclhd train PRESET recipe=supervised"
    )


def _as_settings(options: Mapping[str, object], words: Sequence[str]) -> list[str]:
    """Options that are short for settings, as ``key=value``; an option that contradicts a setting is refused."""
    keys = {"device": "engine.accelerator"}
    settings = []
    for name, value in options.items():
        if value is None:
            continue
        setting = f"{keys.get(name, name)}={value}"
        key = setting.partition("=")[0]
        other = next((word for word in words if word.partition("=")[0] == key and word != setting), None)
        if other is not None:
            raise UserError(f"--{name} {value} and {other} contradict each other; leave out one of them")
        settings.append(setting)
    return settings
