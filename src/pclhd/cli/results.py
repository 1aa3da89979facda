"""Verbs that measure runs and report results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from pclhd.cli.options import Device, Force, Json, MovedData, Run, verb
from pclhd.cli.terminal import embedding_progress, say, say_passed_over, show
from pclhd.errors import ArgumentError


@verb(quiet=True)
def evaluate(
    run: Run,
    data: MovedData = None,
    device: Device = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Measure even if the run was trained on some of the test images.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure how well a run's weights find test people: at the start, after stage I, and at the end.

    The protocol of the data says which images are queries, and which are searched. The results are saved in the run.
    """
    from pclhd.report.tables import results_text
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.evaluate import evaluate_run
    from pclhd.workflows.train import open_data

    folder = RunFolder(run)
    dataset = open_data(folder.settings(), data)
    say_passed_over(dataset.passed_over)
    with embedding_progress() as on_progress:
        results = evaluate_run(folder, dataset, device=device, on_progress=on_progress, force=force, write=True)
    if as_json:
        show(json.dumps(results.to_dict(), indent=2, ensure_ascii=False))
    else:
        show(results_text(results))
        say(f"saved in {folder.results_file}; next: pclhd report {run}")


@verb()
def combine(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Evaluated run folders, such as RegDB's ten trials.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Average even runs that do not belong together, or one run twice.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Average the results of several runs: the ten trials of RegDB, or several seeds."""
    from pclhd.report.tables import results_text
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.combine import combine_runs

    combined = combine_runs([RunFolder(run) for run in runs], force=force)
    if as_json:
        show(json.dumps(combined.to_dict(), indent=2, ensure_ascii=False))
    else:
        show(results_text(combined))


@verb()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run folders; the others are compared with the first."),
    ],
    as_json: Json = False,
) -> None:
    """Compare runs: settings and provenance that differ, results, clusters.

    Runs that differ only in their seed form a group: mean, standard deviation, and paired differences with a 95 %
    confidence interval.
    """
    from pclhd.report.compare.comparison import compare_runs
    from pclhd.report.compare.text import comparison_text

    compared = compare_runs(runs)
    show(json.dumps(compared.to_dict(), indent=2, ensure_ascii=False) if as_json else comparison_text(compared))


@verb(quiet=True)
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run folder made by pclhd train; with several, they are compared."),
    ],
    data: MovedData = None,
    queries: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="IMAGE",
            help="Image, or folder of images, to search for among the run's images of the other modality; repeatable.",
        ),
    ] = None,
    query_modality: Annotated[
        Literal["visible", "infrared"], typer.Option(help="Modality of queries that are not images of the run.")
    ] = "infrared",
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(metavar="HTML", help="Where to write the page of several runs.")] = None,
    force: Force = False,
) -> None:
    """Write a report with pictures as one HTML page: of one run, or of several side by side.

    The report of one run lies in its folder. With labelled test people it also has maps of some of them before and
    after training, for which their images are embedded.

    Example: pclhd report runs/first runs/second --out comparison.html
    """
    from pclhd.data.records import Modality
    from pclhd.files import check_output
    from pclhd.report.compare.comparison import compare_runs
    from pclhd.report.compare.page import write_comparison
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.report import ReportRequest, report_run

    if len(runs) == 1:
        if out is not None:
            raise ArgumentError("out", "is for several runs; the report of one run is written into its folder")
        request = ReportRequest(RunFolder(runs[0]), data, tuple(queries or ()), Modality(query_modality), device)
        with embedding_progress() as on_progress:
            say(f"report: {report_run(request, on_progress)}")
        return
    if queries or data is not None:
        raise ArgumentError("queries" if queries else "data", "is for the report of one run; leave it out")
    if out is None:
        raise ArgumentError("out", "is missing: name the HTML file for the comparison of several runs")
    check_output(out, (".html",), "a comparison", force=force)
    write_comparison(compare_runs(runs), out, force=force)
    say(f"report: {out}")


@verb()
def runs(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Folders with run folders in or below them.", show_default="runs"),
    ] = None,
    as_json: Json = False,
) -> None:
    """List run folders: state, method, epochs, results of the last evaluation, and disk used.

    The state is finished, training, interrupted (pclhd train --resume RUN continues), failed (by an error, which is
    printed), unfinished (it ended before the first checkpoint), in use, or damaged. Nothing is written.
    """
    from pclhd.report.run_list import runs_text
    from pclhd.runs.listing import list_runs

    listed = list_runs(folders or [Path("runs")])
    show(json.dumps([run.to_dict() for run in listed], indent=2, ensure_ascii=False) if as_json else runs_text(listed))
