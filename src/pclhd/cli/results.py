"""Verbs that measure runs and show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pclhd.cli.terminal import embedding_progress, say_passed_over


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[Path | None, typer.Option(help="The data, if it has moved since training.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute; auto takes a GPU where there is one.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")] = False,
) -> None:
    """Measure a run's weights (start, stage I, final) by the protocol of its data; saves the results in the run."""
    from pclhd.report.tables import results_text
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.evaluate import evaluate_run
    from pclhd.workflows.train import open_data

    folder = RunFolder(run)
    dataset = open_data(folder.settings(), data)
    say_passed_over(dataset.passed_over)
    with embedding_progress() as on_progress:
        results = evaluate_run(folder, dataset, device=device, on_progress=on_progress)
    folder.write_results(results)
    if as_json:
        typer.echo(json.dumps(results.to_dict(), indent=2, ensure_ascii=False))
    else:
        typer.echo(results_text(results))


def combine(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated run folders, such as RegDB's ten trials.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Average the results of several runs: RegDB's ten trials are ten trainings, and seeds are worth averaging too."""
    from pclhd.report.tables import results_text
    from pclhd.runs.folder import RunFolder
    from pclhd.workflows.combine import combine_runs

    combined = combine_runs([RunFolder(run) for run in runs])
    if as_json:
        typer.echo(json.dumps(combined.to_dict(), indent=2, ensure_ascii=False))
    else:
        typer.echo(results_text(combined))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first is what the others are compared with.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Put runs side by side: settings and provenance that differ, results, clusters.

    Runs that differ only in their seed make a group: mean, standard deviation, and paired differences with a 95 %
    confidence interval.
    """
    from pclhd.report.compare.runs import compare_runs
    from pclhd.report.compare.text import comparison_text

    compared = compare_runs(runs)
    typer.echo(json.dumps(compared.to_dict(), indent=2, ensure_ascii=False) if as_json else comparison_text(compared))


def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[Path | None, typer.Option(help="The data, if it has moved since training.")] = None,
) -> None:
    """Write the run's one-page report, report/index.html."""
    from pclhd.report.page import write_report
    from pclhd.runs.folder import RunFolder

    root = data or RunFolder(run).settings().data.root
    typer.echo(f"report: {write_report(run, data_root=root)}")
