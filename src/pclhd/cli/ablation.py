"""Verbs that train a grid and draw the figures of several runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pclhd.cli.options import Data, Device, MovedData, complete_recipes, complete_settings, verb
from pclhd.cli.terminal import complain, embedding_progress, say, show
from pclhd.errors import ArgumentError, UserError


@verb(quiet=True)
def ablate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PRESET [KEY=VALUE]...",
            help="A preset (or a YAML file), then settings of all trainings; pclhd settings lists them.",
            autocompletion=complete_settings,
        ),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the runs: a new one, or that of the same ablation, which is then continued."
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="parts|lambda|k|methods",
            help="What to compare; may be repeated.",
            show_default="all four, unless --setting is given",
        ),
    ] = None,
    floor: Annotated[
        Literal["pgm", "baseline"], typer.Option(help="The recipe to which the table `parts` adds the method's parts.")
    ] = "pgm",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,VALUE", help="Any setting over some values, as a table and a curve; may be repeated."
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="The method that --setting varies.", autocompletion=complete_recipes)
    ] = "pclhd",
    methods: Annotated[
        str,
        typer.Option(metavar="NAME,NAME", help="Recipes of the table `methods`; the others are compared to the first."),
    ] = "baseline,adca,pgm,mmm,paper,pclhd",
    both_stages: Annotated[
        bool,
        typer.Option("--both-stages", help="Train stage I with each value of --setting too, not once for all values."),
    ] = False,
    seeds: Annotated[
        str, typer.Option(metavar="N,N", help="Seeds; each training is done with each of them.")
    ] = "0,1,2",
    test_data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Data whose test people are searched, such as a validation drawing.",
            show_default="the test people of --data",
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The search whose figures are shown, such as all/single-shot.",
            show_default="the first",
        ),
    ] = None,
    entry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Train only this row and what it is compared with; may be repeated.",
            show_default="all",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Trainings at a time, each with one thread.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the trainings with an estimate of their time, and train nothing.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Show in minutes that all works: tiny drawn data, a few rows, two seeds.")
    ] = False,
) -> None:
    """Train a method with and without each part, over several seeds, and write all tables and figures of the paper.

    Four tables are made by default: the parts of the method (parts), the share λ of hard prototypes (lambda), the
    number k of hard samples (k), and whole methods (methods). Stage I is trained once for each seed, and all rows
    continue from its weights. The figures go to DIR/figures; open figures.md there.

    The same command continues an interrupted ablation and trains only what is missing. Start it several times, also on
    several machines with one folder, to share the work.

    Examples:
    pclhd ablate synthetic --data build/small --out runs/ablation --dry-run
    pclhd ablate synthetic --data build/small --out runs/eps --setting clustering.eps=0.4,0.5,0.6
    """
    words = arguments or (["tiny"] if quick else [])
    if not words:
        raise UserError(
            "which preset? For example: pclhd ablate synthetic --data DIR --out DIR (see pclhd ablate --help)"
        )
    if out is None:
        raise ArgumentError("out", "is missing: name the folder of the runs")
    from pclhd.text_tables import duration, text_table
    from pclhd.workflows.ablate import AblationRequest, plan
    from pclhd.workflows.ablate import ablate as run

    request = AblationRequest(
        preset=words[0],
        settings=tuple(words[1:]),
        data=data,
        out=out,
        tables=tuple(table or ()),
        floor=floor,
        varied=tuple(setting or ()),
        recipe=recipe,
        methods=tuple(name.strip() for name in methods.split(",") if name.strip()),
        both_stages=both_stages,
        seeds=_numbers(seeds),
        test_data=test_data,
        search=search,
        entries=tuple(entry or ()),
        jobs=jobs,
        quick=quick,
    )
    if dry_run:
        planned = plan(request)
        rows = [(one.name, one.state, f"about {duration(one.seconds)}" if one.seconds else "") for one in planned]
        show(text_table(rows, headings=("Training", "State", "Time with one thread"), right={2}))
        total = sum(one.seconds for one in planned)
        left = sum(one.state in ("begun", "to do") for one in planned)
        trained = sum(one.state == "to evaluate" for one in planned)
        measured = f", {trained} to evaluate" if trained else ""
        show(f"\n{left} of {len(planned)} trainings left{measured}; about {duration(total / jobs)} with --jobs {jobs}")
        return
    try:
        with embedding_progress() as on_progress:
            made = run(request, on_start=lambda task: say(_started(task.run.folder)), on_progress=on_progress)
    except KeyboardInterrupt:
        complain("interrupted; the same command continues")
        sys.exit(130)
    for shown in made.tables:
        show(f"{shown.to_text()}\n{shown.caption}\n")
    for note in made.notes:
        say(f"note: {note}")
    if made.files:
        say(f"wrote {len(made.files)} files; begin with {made.files[-1]}")
    for failed in made.failed:
        complain(f"pclhd: {failed}")
    if made.failed:
        sys.exit(2)


@verb(quiet=True)
def figures(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Run folders of any methods and seeds, and folders of pclhd ablate.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the figures to create.")] = None,
    published: Annotated[
        bool,
        typer.Option("--published", help="The table of published figures too; without --out it is only printed."),
    ] = False,
    data: MovedData = None,
    people: Annotated[int, typer.Option(min=1, metavar="N", help="People on the t-SNE maps.")] = 10,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the draw of these people.")] = 0,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a folder of figures.")] = False,
) -> None:
    """Draw the figures and tables of the paper from your own runs, as PNG, SVG, PDF and CSV.

    Runs that differ only in their seed are one method: mean and standard deviation. Drawn are the ARI over the epochs,
    the comparison table, t-SNE maps of people drawn at random, the framework, and of an ablation its tables and curves.

    Example: pclhd figures runs/baseline-0 runs/pclhd-0 runs/pclhd-1 --out figures
    """
    from pclhd.workflows.figures import FiguresRequest, make_figures, published_text

    if published and not runs and out is None:
        show(published_text())
        return
    if out is None:
        raise ArgumentError("out", "is missing: name the folder of the figures")
    request = FiguresRequest(tuple(runs or ()), out, published, data, people, seed, device, force)
    try:
        with embedding_progress() as on_progress:
            files, notes = make_figures(request, on_progress)
    except KeyboardInterrupt:
        complain("interrupted; nothing was written")
        sys.exit(130)
    for note in notes:
        say(f"note: {note}")
    say(f"wrote {len(files)} files; begin with {files[-1]}")


def _started(folder: Path) -> str:
    import time

    return f"{time.strftime('%H:%M:%S')} {folder.name}"


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
        if min(found) < 0:
            raise ValueError(text)
    except ValueError:
        raise ArgumentError("seeds", "expected whole numbers such as 0,1,2", value=text) from None
    return found
