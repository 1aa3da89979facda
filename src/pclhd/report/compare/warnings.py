"""Reasons why numbers of two runs must not be compared, and what is missing from a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pclhd.report.compare.groups import Group
from pclhd.report.compare.runs import ComparedRun


def find_warnings(runs: Sequence[ComparedRun], groups: Sequence[Group]) -> Iterator[str]:
    """Reasons why numbers of a run must not be compared with those of the first, one line each."""
    first_group = next(group for group in groups if runs[0] in group.runs)
    for place, run in enumerate(runs[1:], start=1):
        # A trial of RegDB is compared with the same trial of another method, and other trials of a method belong to it.
        first = next((one for one in runs[:place] if one.trial == run.trial), runs[0])
        if first.trial == run.trial or run not in first_group.runs:
            yield from _data_warnings(first, run)
            yield from _search_warnings(first, run)
    for run in runs:
        if run.saved.labels != "none":
            which = "the visible images" if run.saved.labels == "visible_identities" else "all training images"
            yield (
                f"{run.name} was trained with the identities of {which}; it is a bound for methods without labels, "
                "not one of them"
            )
        if run.saved.imported:
            yield (
                f"{run.name} was imported: how it was trained, and on what, is unknown; its settings do not describe it"
            )


def find_notes(runs: Sequence[ComparedRun]) -> Iterator[str]:
    """What is missing from each run, and the command that creates it, one line each."""
    for run in runs:
        if run.results is None:
            yield f"{run.name} was not evaluated; evaluate it with: pclhd evaluate {run.saved.folder}"
        if not run.facts:
            yield f"{run.name} has no provenance, so its versions and its machine are unknown"
        planned = [run.settings.get(f"schedule.stage{stage}_epochs") for stage in (1, 2)]
        total = sum(number for number in planned if isinstance(number, int))
        logged = len(run.saved.epochs)
        if 0 < logged < total:
            yield (
                f"{run.name} logged {logged} of {total} epochs; continue with: pclhd train --resume {run.saved.folder}"
            )


def _data_warnings(first: ComparedRun, run: ComparedRun) -> Iterator[str]:
    if first.results is not None and run.results is not None:
        ours, theirs = first.results.dataset, run.results.dataset
        if ours.name != theirs.name:
            yield f"not comparable: {run.name} was tested on {theirs.name}, {first.name} on {ours.name}"
            return
        # Older files have no checksum of the test images; for them, the training images identify the data set.
        known = None not in (ours.test_checksum, theirs.test_checksum)
        for what, before, now in (
            ("test images with checksum {}", _short(ours.test_checksum), _short(theirs.test_checksum)),
            ("data with checksum {}", None if known else _short(ours.checksum), _short(theirs.checksum)),
            ("{} images", ours.test_images, theirs.test_images),
        ):
            if None not in (before, now) and before != now:
                tested = what.format(now), what.format(before)
                yield f"not comparable: {run.name} was tested on {tested[0]}, {first.name} on {tested[1]}"
                return
    if first.saved.imported or run.saved.imported:
        return
    before, now = (_short(one.facts.get("data.training_checksum")) for one in (first, run))
    if None not in (before, now) and before != now:
        yield f"{run.name} was trained on other images (checksum {now}) than {first.name} ({before})"


def _search_warnings(first: ComparedRun, run: ComparedRun) -> Iterator[str]:
    if first.results is None or run.results is None:
        return
    ours = {row.search: (row.queries, row.gallery, row.trials) for row in first.results.rows}
    theirs = {row.search: (row.queries, row.gallery, row.trials) for row in run.results.rows}
    if ours.keys() != theirs.keys():
        apart = ", ".join(sorted(ours.keys() ^ theirs.keys()))
        yield f"{run.name} and {first.name} were evaluated in different searches; only one of them has: {apart}"
    for search in ours.keys() & theirs.keys():
        for what, before, now in zip(
            ("queries", "gallery images", "trials"), ours[search], theirs[search], strict=True
        ):
            if None not in (before, now) and before != now:
                yield f"not comparable: {search} had {now:,} {what} in {run.name}, and {before:,} in {first.name}"
    rules = [run.settings.get("data.same_camera_rule", False) for run in (first, run)]
    if rules[0] != rules[1]:
        yield f"not comparable: {run.name} and {first.name} differ in data.same_camera_rule, a rule of the search"


def _short(checksum: str | None) -> str | None:
    return None if checksum is None else checksum[:12]
