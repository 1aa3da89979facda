"""Verbs for data sets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pclhd.cli.options import Json, Trial, verb
from pclhd.cli.terminal import output, progress, say, show
from pclhd.config import Layout


@verb()
def check(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="The data set's folder, or a CSV file.")],
    layout: Annotated[Layout, typer.Option(help="Layout of the folder; auto detects it.")] = "auto",
    trial: Trial = 1,
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", help="Decode every image, or only check that its file exists.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Count a data set's images and people, compare with the published counts, and list missing or broken files.

    Exit code 1 if there is a problem. Example: pclhd check data/SYSU-MM01
    """
    from pclhd.data.check import check_dataset

    found = check_dataset(layout, data, trial=trial, decode=decode)
    show(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if as_json else found.render())
    if not found.ok:
        sys.exit(1)


@verb(quiet=True)
def synth(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Output folder; it must be new or empty (required).")
    ] = None,
    scale: Annotated[
        Literal["tiny", "small", "sysu"],
        typer.Option(help="Number of people and images: a few, a small benchmark, or about as many as in SYSU-MM01."),
    ] = "small",
    layout: Annotated[Literal["sysu", "regdb", "llcm"], typer.Option(help="Layout of the folder.")] = "sysu",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed; the same seed gives the same files, to the byte.")] = 0,
    gap: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            show_default="that of the generator's version",
            help="How much infrared brightness differs from visible brightness.",
        ),
    ] = None,
    unpaired: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Share of the training people with images in one modality only."
        ),
    ] = 0.0,
    generator: Annotated[
        int, typer.Option(min=1, max=2, help="Version of the generator; 1 draws the former pictures, which vary less.")
    ] = 2,
    held_out: Annotated[
        Literal["validation", "test"] | None,
        typer.Option(
            help="People of the test split: validation, to choose by (the default), or test, for final figures. "
            "Training images are the same. Not with --generator 1 or --layout regdb.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, max=1024, help="Processes; 0 means one per usable processor.")] = 0,
) -> None:
    """Draw the synthetic benchmark: images of invented people in the layout of a public data set.

    Example: pclhd synth --out build/small --scale small
    """
    from rich.progress import Progress

    from pclhd.synthetic import write_synthetic

    target = output(out, context.args, metavar="DIR")
    with Progress(console=progress, transient=True, disable=not progress.is_terminal) as bar:
        task = bar.add_task("drawing people", total=None)
        summary = write_synthetic(
            target,
            scale=scale,
            layout=layout,
            seed=seed,
            gap=gap,
            one_modality_share=unpaired,
            generator=generator,
            held_out=held_out,
            workers=workers or None,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    say(f"{summary.images:,} images of {summary.people} people in {target}, checksum {summary.checksum[:16]}")
