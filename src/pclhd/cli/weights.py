"""Verbs for weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pclhd.cli.options import Data, Device, Force, Run, Trial, verb
from pclhd.cli.terminal import output, print_step, say, show


@verb(quiet=True)
def import_weights(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pth, .pth.tar or .safetensors file.")],
    layout: Annotated[
        Literal["sysu", "regdb", "llcm", "own"], typer.Option(help="Layout of the data it was trained on.")
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run folder to create.")],
    data: Data = None,
    trial: Trial = 1,
    network: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Place of the network in the file, if there are several.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run folder if it exists.")] = False,
) -> None:
    """Create a run folder from a checkpoint of the released code or its family (PCLHD, ADCA, PGM, AGW).

    Example: pclhd import model_best.pth.tar --layout sysu --data DIR --out runs/theirs
    """
    from pclhd.workflows.exchange import import_checkpoint

    report = import_checkpoint(checkpoint, layout, out, data=data, trial=trial, network=network, force=force)
    show(report.text())
    say(f"wrote {out}; next: pclhd evaluate {out}{'' if data else ' --data DIR'}")


@verb(quiet=True)
def export(
    run: Run,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Output file: .pth.tar, .pth or .safetensors; .onnx for --format onnx.")
    ],
    form: Annotated[
        Literal["released", "onnx"],
        typer.Option("--format", help="A checkpoint in the released code's names, or an ONNX file with a model card."),
    ] = "released",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --format onnx: the data set, if it has moved; its images compare the file with torch.",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="With --format onnx: 8-bit integers; the loss of accuracy is measured.")
    ] = False,
    force: Force = False,
) -> None:
    """Write a run's final weights for other programs.

    Example: pclhd export RUN --format onnx --out model.onnx
    """
    if form == "onnx":
        from pclhd.workflows.export import export_onnx, export_text

        report = export_onnx(run, out, data=data, int8=int8, force=force)
        show(export_text(report))
        say(f"wrote {out} and {report.card}")
        return
    from pclhd.errors import ArgumentError
    from pclhd.workflows.exchange import export_released

    for name, given in (("data", data is not None), ("int8", int8)):
        if given:
            raise ArgumentError(name, "applies only to --format onnx; leave it out")
    say(f"wrote {out}: {export_released(run, out, force=force)} entries in the {form} code's names")


@verb(quiet=True)
def starter(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Output model file, such as vit.safetensors (required).")
    ] = None,
    people: Annotated[int, typer.Option(min=1, metavar="N", help="Synthetic people to draw.")] = 500,
    images: Annotated[int, typer.Option(min=1, metavar="N", help="Images per person.")] = 16,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Optimiser steps.")] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the people and of the training.")] = 1,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET",
            help="Preset (or YAML file) that defines the network.",
            show_default="the shipped weights' network",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Peak learning rate.", show_default="0.002")
    ] = None,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Create start weights: train a network with labels on visible images of synthetic people who are in no benchmark.

    Without --preset, this creates the weights shipped with the package. Example: pclhd starter --out vit.safetensors
    --preset vit
    """
    from pclhd.config import load_preset
    from pclhd.files import check_output

    path = output(out, context.args, metavar="FILE")
    check_output(path, (".safetensors",), "a model", force=force)
    settings = None if preset is None else load_preset(preset, [])
    from pclhd.supervised.starter import make_starter

    make_starter(
        path,
        people=people,
        images_per_person=images,
        steps=steps,
        seed=seed,
        preset=settings,
        learning_rate=learning_rate,
        device=device,
        force=force,
        on_step=print_step,
    )
    say(f"wrote {path}")


@verb(quiet=True)
def fetch_imagenet(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the file; created if it does not exist (required).")
    ] = None,
) -> None:
    """Download torchvision's ResNet-50 ImageNet weights (about 100 MB), check their hash, and print how to use them.

    Example: pclhd fetch-imagenet --out weights
    """
    from pclhd.models.imagenet import download_imagenet

    path = download_imagenet(output(out, context.args, metavar="DIR"))
    say(f"{path}; use it with model.weights=imagenet:{path}")
