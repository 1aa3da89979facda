"""Verbs about weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pclhd.cli.terminal import print_step


def import_weights(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pth, .pth.tar or .safetensors file.")],
    layout: Annotated[Literal["sysu", "regdb", "llcm", "own"], typer.Option(help="The data it was trained on.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run folder to make.")],
    data: Annotated[Path | None, typer.Option(help="The data set's folder, to be remembered in the run.")] = None,
    trial: Annotated[int, typer.Option(help="RegDB's split that it was trained on, 1 to 10.")] = 1,
    network: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Which network, where the file holds several.")
    ] = None,
) -> None:
    """Make a run folder of a checkpoint of the released code or its family (PCLHD, ADCA, PGM, AGW).

    Example: pclhd import model_best.pth.tar --layout sysu --data DIR --out runs/theirs
    """
    from pclhd.workflows.exchange import import_checkpoint

    report = import_checkpoint(checkpoint, layout, out, data=data, trial=trial, network=network)
    typer.echo(report.text())
    typer.echo(f"wrote {out}; next: pclhd evaluate {out}{'' if data else ' --data DIR'}")


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="File to make: .pth.tar, .pth or .safetensors.")],
    form: Annotated[Literal["released"], typer.Option("--format", help="Whose names and layout.")] = "released",
) -> None:
    """Write a run's final weights as a checkpoint that the released code loads.

    Example: pclhd export RUN --out model_best.pth.tar
    """
    from pclhd.workflows.exchange import export_released

    typer.echo(f"wrote {out}: {export_released(run, out)} entries in the {form} code's names")


def starter(
    out: Annotated[Path, typer.Argument(help="Model file to write.")],
    people: Annotated[int, typer.Option(help="Synthetic people to draw.")] = 500,
    images: Annotated[int, typer.Option(help="Images of each.")] = 16,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the people and the training.")] = 1,
    preset: Annotated[
        str | None,
        typer.Option(help="Preset (or YAML file) whose network to train.", show_default="the shipped weights' network"),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default="0.002")] = None,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu or cuda.")] = "cpu",
) -> None:
    """Remake the shipped starter weights: trained with labels on other synthetic people, visible images only.

    With --preset, make such weights for another network. Example: pclhd starter vit.safetensors --preset vit
    """
    from pclhd.config import load_preset

    settings = None if preset is None else load_preset(preset, [])
    from pclhd.supervised.starter import make_starter

    make_starter(
        out,
        people=people,
        images_per_person=images,
        steps=steps,
        seed=seed,
        preset=settings,
        learning_rate=learning_rate,
        device=device,
        on_step=print_step,
    )
    typer.echo(f"wrote {out}")


def fetch_imagenet(
    folder: Annotated[Path, typer.Argument(help="Existing folder for the file.")],
) -> None:
    """Download torchvision's ResNet-50 ImageNet weights, check their hash, and say how to use them."""
    from pclhd.models.imagenet import download_imagenet

    path = download_imagenet(folder)
    typer.echo(f"{path}; use it with model.weights=imagenet:{path}")
