"""Verbs that search images and measure what similarities mean."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pclhd.cli.options import AnyModel, Device, FalseMatchRate, Force, Json, Run, Runtime, verb
from pclhd.cli.terminal import complain, embedding_progress, say, say_passed_over, show


@verb(quiet=True)
def search(
    run: AnyModel,
    query: Annotated[list[Path], typer.Argument(metavar="QUERY", help="Images to look for, or folders of them.")],
    modality: Annotated[Literal["visible", "infrared"], typer.Option(help="Modality of the images that are searched.")],
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder (or image) to search; may be repeated."),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .parquet or .safetensors file of pclhd embed to search instead."),
    ] = None,
    query_modality: Annotated[
        Literal["visible", "infrared"] | None,
        typer.Option(help="Modality of the queries.", show_default="the other one"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Images to list per query.")] = 10,
    false_match_rate: FalseMatchRate = None,
    expected: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Number of images that show the person, if they are there; sets the prior of the probabilities.",
            show_default="as in the images of the calibration",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the lists as .csv.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a sheet of pictures, .html or .png.")
    ] = None,
    device: Device = "auto",
    runtime: Runtime = "torch",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List the images that look most like each query, or say that none of them is similar enough.

    Example: pclhd search RUN night/0031.jpg --images day --modality visible --sheet found.html
    """
    from pclhd.data.records import Modality
    from pclhd.workflows.search import SearchRequest, found_text, run_search

    request = SearchRequest(
        run=run,
        queries=tuple(query),
        modality=Modality(modality),
        images=tuple(images or ()),
        features=features,
        query_modality=None if query_modality is None else Modality(query_modality),
        top=top,
        false_match_rate=false_match_rate,
        expected=expected,
        csv=csv,
        sheet=sheet,
        device=device,
        runtime=runtime,
        force=force,
    )
    try:
        with embedding_progress() as on_progress:
            found = run_search(request, on_progress)
    except KeyboardInterrupt:
        complain("interrupted; nothing was written")
        sys.exit(130)
    say_passed_over(found.passed_over)
    if as_json:
        show(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return
    show(found_text(found))
    for path in (csv, sheet):
        if path is not None:
            say(f"wrote {path}")


@verb(quiet=True)
def calibrate(
    run: Run,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Labelled images of people that the run was not trained on.",
            show_default="the run's test images",
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Only measure the run's calibration on these people; write nothing.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Learn from labelled images what similarities mean, and measure it on other people; saved in the run.

    Training does this without labels; labelled images are more reliable. Example: pclhd calibrate RUN --data DIR
    """
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.calibrate import calibrate_run, calibrated_text

    folder = RunFolder(run)
    with embedding_progress() as on_progress:
        found = calibrate_run(folder, data=data, measure_only=measure, device=device, on_progress=on_progress)
    show(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if as_json else calibrated_text(found))
    if not measure:
        say(f"wrote {folder.calibration_file}")
