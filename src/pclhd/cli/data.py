"""Verbs about data sets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pclhd.cli.terminal import console


def check(
    data: Annotated[Path, typer.Argument(help="The data set's folder, or a CSV file.")],
    layout: Annotated[str, typer.Option(help="sysu, regdb, llcm, own, or auto.")] = "auto",
    trial: Annotated[int, typer.Option(help="RegDB's split, 1 to 10.")] = 1,
    decode: Annotated[bool, typer.Option(help="Open every image, not only its file.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count a data set's images and people, compare with the published counts, and name what is wrong with it."""
    from pclhd.data.check import check_dataset

    found = check_dataset(layout, data, trial=trial, decode=decode)
    typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if as_json else found.render())
    if not found.ok:
        sys.exit(1)


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    scale: Annotated[Literal["tiny", "small", "sysu"], typer.Option(help="How much.")] = "small",
    layout: Annotated[Literal["sysu", "regdb", "llcm"], typer.Option(help="Laid out like which data set.")] = "sysu",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    gap: Annotated[float, typer.Option(help="How far infrared brightness leaves luminance, 0..1.")] = 0.55,
    one_modality: Annotated[
        float, typer.Option(help="Share of the training people who are seen in one modality only.")
    ] = 0.0,
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one per core.")] = 0,
) -> None:
    """Draw the synthetic benchmark: invented people in a real layout, for everyone without the gated data sets."""
    from rich.progress import Progress

    from pclhd.synthetic import write_synthetic

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("drawing people", total=None)
        summary = write_synthetic(
            out,
            scale=scale,
            layout=layout,
            seed=seed,
            gap=gap,
            one_modality_share=one_modality,
            workers=workers or None,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"{summary.images:,} images of {summary.people} people in {out}, checksum {summary.checksum[:16]}")
