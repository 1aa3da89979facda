"""Average the results of several runs: RegDB's ten trials, which are ten trainings, or several seeds."""

from __future__ import annotations

from collections.abc import Sequence

from pclhd.evaluation.evaluate import combine
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import Results


def combine_runs(runs: Sequence[RunFolder]) -> Results:
    """Average the results of several runs; each counts once.

    Args:
        runs: Evaluated run folders.

    Returns:
        Means and deviations over the runs. Data, training and recipe are those of the first run.

    Raises:
        UserError: A run was not evaluated, or they were evaluated differently.
    """
    saved = [run.require_results() for run in runs]
    trees = [results.to_dict() for results in saved]
    rows = combine([tree["rows"] for tree in trees])
    names = dict.fromkeys(results.dataset.name for results in saved)
    first = {key: value for key, value in trees[0].items() if key != "ranked_examples"}
    dataset = {**trees[0]["dataset"], "name": ", ".join(names)}
    combined = {**first, "dataset": dataset, "rows": rows, "runs": [str(run) for run in runs]}
    return Results.model_validate(combined, extra="forbid")
