"""Average the results of several runs: RegDB's ten trials, which are ten trainings, or several seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pclhd.data.records import digest_file
from pclhd.errors import UserError
from pclhd.evaluation.evaluate import combine
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import Results, flatten

#: Settings in which runs that are averaged may differ: the draw, the trial, the place, and what changes no result.
_MAY_DIFFER = frozenset({"seed", "preset", "data.root", "data.trial", "data.layout", "data.workers"})
_MAY_DIFFER_SECTIONS = ("engine.", "data.cache")


@dataclass(frozen=True)
class _Measured:
    """An evaluated run."""

    run: RunFolder
    results: Results

    @property
    def data(self) -> tuple[object, ...]:
        """What it was trained and tested on."""
        dataset = self.results.dataset
        return dataset.name, dataset.checksum, dataset.test_checksum

    @cached_property
    def model(self) -> str | None:
        """The digest of its final weights, if they are there."""
        file = self.run.model_file
        return digest_file(file) if file.is_file() else None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What must be the same in all runs; empty where the run has no settings, or they describe no training."""
        saved = self.run.saved_settings()
        if saved is None or self.results.training == "imported":
            return {}
        return {
            key: value
            for key, value in flatten(saved[1]).items()
            if key not in _MAY_DIFFER and not key.startswith(_MAY_DIFFER_SECTIONS)
        }


def combine_runs(runs: Sequence[RunFolder], *, force: bool = False) -> Results:
    """Average what was measured of each run; each counts once.

    Runs belong together if they differ in seed, trial and machine only. The same training twice would make the mean no
    better and the deviation too small.

    Args:
        runs: Evaluated run folders.
        force: Average runs that do not belong together, or one twice, all the same.

    Returns:
        Means and deviations over the runs. Data, training and recipe are those of the first; test images that runs
        were trained on are added up.

    Raises:
        UserError: One was not evaluated, they were not evaluated alike, they do not belong together, or two are the
            same.
    """
    measured = [_Measured(run, run.require_results()) for run in runs]
    if not force:
        for number, one in enumerate(measured):
            for other in measured[:number]:
                _refuse_twice(other, one)
            _refuse_apart(measured[0], one)
    trees = [one.results.to_dict() for one in measured]
    rows = combine([tree["rows"] for tree in trees])
    names = dict.fromkeys(one.results.dataset.name for one in measured)
    of_one = ("ranked_examples", "near_copies", "people_in_both_splits")
    first = {key: value for key, value in trees[0].items() if key not in of_one}
    trained_on = [one.results.trained_on_test_images for one in measured]
    if any(trained_on):
        first["trained_on_test_images"] = sum(number or 0 for number in trained_on)
    dataset = {**trees[0]["dataset"], "name": ", ".join(names)}
    combined = {**first, "dataset": dataset, "rows": rows, "runs": [str(run) for run in runs]}
    return Results.model_validate(combined, extra="forbid")


def _refuse_twice(one: _Measured, other: _Measured) -> None:
    same_model = one.model is not None and one.model == other.model
    same_trial = one.data == other.data and None not in one.data and one.results.seed == other.results.seed
    # Of imported weights the seed is not known; only the weights say whether they are the same.
    if same_model or (same_trial and one.results.seed is not None):
        what = "have the same weights" if same_model else f"have the same data and seed ({one.results.seed})"
        raise UserError(
            f"{one.run} and {other.run} {what}, so one of them would count twice; name each training once, or average "
            "them all the same with --force"
        )


def _refuse_apart(first: _Measured, other: _Measured) -> None:
    reason = next(_differences(first, other), None)
    if reason is not None:
        raise UserError(
            f"{other.run} does not belong together with {first.run}: {reason}; name runs that differ in seed or trial "
            "only, or average them all the same with --force"
        )


def _differences(first: _Measured, other: _Measured) -> Iterator[str]:
    """Why two runs must not be averaged."""
    ours, theirs = first.results, other.results
    for what, before, now in (
        ("data", ours.dataset.name.partition("-")[0], theirs.dataset.name.partition("-")[0]),
        ("synthetic", ours.dataset.synthetic, theirs.dataset.synthetic),
        ("labels", ours.training, theirs.training),
        ("recipe", ours.recipe, theirs.recipe),
    ):
        if before != now and None not in (before, now):
            yield f"{what} {_plain(now)}, not {_plain(before)}"
    if ours.dataset.name == theirs.dataset.name:
        for what, before, now in (
            ("training", ours.dataset.checksum, theirs.dataset.checksum),
            ("test", ours.dataset.test_checksum, theirs.dataset.test_checksum),
        ):
            if before != now and None not in (before, now):
                yield f"its {what} images are others"
    if first.settings and other.settings:
        for key in sorted(first.settings.keys() | other.settings.keys()):
            before, now = first.settings.get(key), other.settings.get(key)
            if before != now:
                yield f"{key}={_plain(now)}, not {_plain(before)}"


def _plain(value: object) -> str:
    """As a settings file has it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
