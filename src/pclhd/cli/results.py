"""Verbs that measure runs and show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pclhd.cli.datasets import open_data
from pclhd.cli.options import Json, MovedData, Run, verb
from pclhd.cli.terminal import say
from pclhd.errors import UserError


@verb()
def evaluate(
    run: Run,
    data: MovedData = None,
    as_json: Json = False,
) -> None:
    """Measure a run's weights (start, stage I, final) by the protocol of its data; writes results.json into the run."""
    from pclhd.config import load_settings
    from pclhd.report.tables import results_text
    from pclhd.workflows.evaluate import evaluate_run

    settings = load_settings(run / "config.yaml")
    results = evaluate_run(run, settings, open_data(settings, data))
    if as_json:
        typer.echo(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        typer.echo(results_text(results))


@verb()
def combine(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Evaluated run folders, such as RegDB's ten trials.")
    ],
    as_json: Json = False,
) -> None:
    """Average the results of several runs: RegDB's ten trials, which are ten trainings, or several seeds."""
    from pclhd.evaluation.evaluate import combine as average
    from pclhd.report.tables import results_text
    from pclhd.runs.records import read_results

    trees = []
    for run in runs:
        tree = read_results(run / "results.json")
        if tree is None:
            raise UserError(f"{run / 'results.json'}: is missing; make it with: pclhd evaluate {run}")
        trees.append(tree.model_dump(by_alias=True, exclude={"ranked_examples"}))
    names = dict.fromkeys(tree["dataset"]["name"] for tree in trees)
    combined = {
        **trees[0],
        "dataset": {**trees[0]["dataset"], "name": ", ".join(names)},
        "rows": average([tree["rows"] for tree in trees]),
        "runs": [str(run) for run in runs],
    }
    if as_json:
        typer.echo(json.dumps(combined, indent=2, ensure_ascii=False))
    else:
        typer.echo(results_text(combined))


@verb()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run folders; the first is what the others are compared with."),
    ],
    as_json: Json = False,
) -> None:
    """Put runs side by side: settings and provenance that differ, results, clusters.

    Runs that differ only in their seed make a group: mean, standard deviation, and paired differences with a 95 %
    confidence interval.
    """
    from pclhd.report.compare.runs import compare_runs
    from pclhd.report.compare.text import comparison_text

    compared = compare_runs(runs)
    typer.echo(json.dumps(compared.to_dict(), indent=2, ensure_ascii=False) if as_json else comparison_text(compared))


@verb(quiet=True)
def report(
    run: Run,
    data: MovedData = None,
) -> None:
    """Write the run's report as one HTML page, report/index.html in the run folder."""
    from pclhd.config import load_settings
    from pclhd.report.page import write_report

    root = data or load_settings(run / "config.yaml").data.root
    say(f"report: {write_report(run, data_root=root)}")
