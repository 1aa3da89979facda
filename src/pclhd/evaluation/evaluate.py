"""Results from embeddings: every search of a protocol, averaged over its trials.

The trials of a search draw different galleries from the same images, and searches share their queries. So the
similarities are computed once, for a block of queries and all images of any gallery, and each trial selects its rows
from that table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import NOBODY, ImageInfo, LabelledImages, Names
from pclhd.errors import UserError
from pclhd.evaluation.metrics import Metrics, RankingMeter, excluded_pairs
from pclhd.evaluation.protocols import Search, Trial
from pclhd.evaluation.retrieval import Hit, rank_gallery, unit_length
from pclhd.text_tables import escaped_bytes

REPORTED_RANKS = (1, 5, 10, 20)
MAX_RANK = 20

# Similarities in memory at once: 64 MiB in single precision.
_BLOCK_ELEMENTS = 1 << 24


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The measures of one search.

    Attributes:
        search: The search.
        trials: The measures of each trial.
    """

    search: Search
    trials: tuple[Metrics, ...]

    def to_dict(self) -> dict[str, Any]:
        """One row of the results: fractions; mean and standard deviation over trials.

        The deviation is that of these trials (divisor n), so a single trial has deviation 0. Sizes are those of the
        first trial; within a protocol, they are the same in all. A CMC shorter than 20 is padded with its last value.
        """
        first, metrics = self.search.trials[0], self.trials
        return {
            "search": self.search.name,
            "trials": len(metrics),
            **{f"rank{k}": _mean_and_std([m.rank(k) for m in metrics]) for k in REPORTED_RANKS},
            "mAP": _mean_and_std([m.mAP for m in metrics]),
            "mINP": _mean_and_std([m.mINP for m in metrics]),
            "cmc": [float(np.mean([m.rank(k) for m in metrics])) for k in range(1, MAX_RANK + 1)],
            "queries": len(first.query),
            "valid_queries": int(metrics[0].valid.sum()),
            "gallery": len(first.gallery),
            "per_trial": [{"rank1": m.rank(1), "mAP": m.mAP, "mINP": m.mINP} for m in metrics],
        }


def evaluate_embeddings(
    embeddings: NDArray[np.floating[Any]], test: LabelledImages, searches: Sequence[Search]
) -> list[SearchResult]:
    """Run searches over test embeddings.

    Ranked by the negative dot product of unit vectors, as in the released code, but in single precision (ours).

    Args:
        embeddings: (N, D) one row per test image, of any length except zero.
        test: The N test images.
        searches: The searches, see `protocols.searches_for`.

    Returns:
        One result per search, in their order.

    Raises:
        UserError: A search needs cameras that are unknown, or none of its queries has a correct gallery image.
        ValueError: There is not one embedding per image, or one has length zero or is not finite.
    """
    if len(embeddings) != len(test):
        raise ValueError(f"{len(embeddings)} embeddings for {len(test)} test images")
    unit = unit_length(embeddings)
    identities = np.array(test.identities, dtype=np.int64)
    cameras = [_cameras(test, search) for search in searches]
    meters = [
        [
            RankingMeter(
                identities[trial.gallery],
                None if known is None else known[trial.gallery],
                rule=search.rule,
                cmc_over=search.cmc_over,
                max_rank=MAX_RANK,
            )
            for trial in search.trials
        ]
        for search, known in zip(searches, cameras, strict=True)
    ]
    jobs = [
        _Job(trial, meter, known)
        for search, known, of_search in zip(searches, cameras, meters, strict=True)
        for trial, meter in zip(search.trials, of_search, strict=True)
    ]
    for together in _with_the_same_queries(jobs):
        _measure_together(unit, identities, together)
    return [
        SearchResult(search, tuple(_result(meter, search) for meter in of_search))
        for search, of_search in zip(searches, meters, strict=True)
    ]


def is_answerable(search: Search, test: LabelledImages) -> bool:
    """Whether a query of a search has a correct gallery image that its rule does not exclude.

    The trials of a search draw from the same people and cameras, so the first speaks for all.

    Raises:
        UserError: The search needs cameras that are unknown.
    """
    identities = np.array(test.identities, dtype=np.int64)
    return bool(len(_example_queries(search.trials[0], search, identities, _cameras(test, search), 1)))


def ranked_examples(
    embeddings: NDArray[np.floating[Any]],
    test: LabelledImages,
    search: Search,
    root: Path,
    *,
    count: int = 6,
    top: int = 10,
) -> list[dict[str, Any]]:
    """Some queries with their nearest gallery images, for the report; from the first trial of a search.

    The queries are spread evenly over the identities of the gallery; each is the first image of its identity. The
    choice depends on labels and cameras, never on how well a query is ranked, so it is the same before and after
    training.

    Args:
        embeddings: (N, D) one row per test image.
        test: The N test images.
        search: The search to show.
        root: Folder to which paths are relative.
        count: Number of queries.
        top: Number of gallery images for each.

    Returns:
        Entries for the results. ``first_correct_rank`` counts images, from 1, over the whole gallery.

    Raises:
        UserError: The search needs cameras that are unknown.
        ValueError: There is not one embedding per image, or a number is not positive.
    """
    if len(embeddings) != len(test):
        raise ValueError(f"{len(embeddings)} embeddings for {len(test)} test images")
    if count < 1 or top < 1:
        raise ValueError(f"at least one query and one image are needed, not {count} and {top}")
    trial = search.trials[0]
    identities = np.array(test.identities, dtype=np.int64)
    known = _cameras(test, search)
    query = _example_queries(trial, search, identities, known, count)
    excluded = excluded_pairs(
        search.rule,
        identities[query],
        identities[trial.gallery],
        None if known is None else known[query],
        None if known is None else known[trial.gallery],
    )
    ranked = rank_gallery(
        embeddings[query],
        embeddings[trial.gallery],
        top_n=len(trial.gallery),
        excluded=excluded,
        queries=test.infos(query.tolist()),
        gallery=test.infos(trial.gallery.tolist()),
    )
    return [
        _example(info, hits, root, top, test.names) for info, hits in zip(ranked.queries or (), ranked, strict=True)
    ]


def _example(query: ImageInfo, hits: Sequence[Hit], root: Path, top: int, names: Names) -> dict[str, Any]:
    return {
        "query": {**_describe(query, root, names), "modality": str(query.modality)},
        "gallery": [
            {**_describe(hit.image, root, names), "correct": hit.correct, "distance": hit.distance}
            for hit in hits[:top]
            if hit.image is not None
        ],
        "first_correct_rank": next(hit.rank for hit in hits if hit.correct),
    }


def combine(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Average the rows of several runs, for example RegDB's ten trials, which are ten models.

    Each run counts once, regardless of its number of trials. Mean and deviation (divisor n) are over runs, sizes are
    rounded means.

    Args:
        runs: The ``rows`` of each run's results.

    Returns:
        Rows of the same format, in the order of the first run.

    Raises:
        UserError: There are no runs, or they do not have the same rows.
    """
    tables = [{(str(row.get("weights", "")), str(row["search"])): row for row in run} for run in runs]
    if not tables:
        raise UserError("there are no results to combine; name at least one run")
    for number, table in enumerate(tables[1:], start=2):
        odd = sorted(set(tables[0]) ^ set(table))
        if odd:
            weights, search = odd[0]
            raise UserError(
                f"results 1 and {number} cannot be combined: only one of them has weights '{weights}', search "
                f"'{search}'; combine runs of the same preset, evaluated in the same way"
            )
    combined: list[dict[str, Any]] = []
    for key, first in tables[0].items():
        rows = [table[key] for table in tables]
        # Files of other versions may lack what is optional in the schema.
        everywhere = set.intersection(*(set(row) for row in rows))
        measures = [name for name in (*(f"rank{k}" for k in REPORTED_RANKS), "mAP", "mINP") if name in everywhere]
        cmcs = [row.get("cmc", []) for row in rows]
        sizes: dict[str, int] = {
            str(name): round(np.mean([row[name] for row in rows]))
            for name in ("queries", "valid_queries", "gallery")
            if name in everywhere and all(row[name] is not None for row in rows)
        }
        combined.append(
            {
                **({"weights": first["weights"]} if "weights" in first else {}),
                "search": first["search"],
                "trials": len(rows),
                **{name: _mean_and_std([float(row[name]["mean"]) for row in rows]) for name in measures},
                "cmc": np.mean(cmcs, axis=0).tolist() if len(set(map(len, cmcs))) == 1 and cmcs[0] else [],
                **sizes,
                "per_trial": [{name: float(row[name]["mean"]) for name in ("rank1", "mAP", "mINP")} for row in rows],
            }
        )
    return combined


@dataclass(frozen=True, eq=False)
class _Job:
    """A trial, its meter, and the cameras of all test images if its rule needs them."""

    trial: Trial
    meter: RankingMeter
    cameras: NDArray[np.int64] | None


def _with_the_same_queries(jobs: Iterable[_Job]) -> list[list[_Job]]:
    groups: dict[bytes, list[_Job]] = {}
    for job in jobs:
        groups.setdefault(job.trial.query.tobytes(), []).append(job)
    return list(groups.values())


def _measure_together(unit: NDArray[np.float32], identities: NDArray[np.int64], jobs: list[_Job]) -> None:
    """Measure trials that share their queries with one table of similarities."""
    query = jobs[0].trial.query
    searched = np.unique(np.concatenate([job.trial.gallery for job in jobs]))
    places = [np.searchsorted(searched, job.trial.gallery) for job in jobs]
    gallery = _take_rows(unit, searched)
    step = max(1, _BLOCK_ELEMENTS // max(1, len(searched)))
    for first in range(0, len(query), step):
        asking = query[first : first + step]
        # (all galleries, queries): a trial's gallery is a subset of the rows, and each row is contiguous.
        distance = gallery @ -unit[asking].T
        for job, place in zip(jobs, places, strict=True):
            job.meter.add(
                _take_rows(distance, place).T,
                identities[asking],
                None if job.cameras is None else job.cameras[asking],
            )


def _take_rows(table: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows, without a copy where they are consecutive."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return table[rows[0] : rows[0] + len(rows)]
    return table[rows]


def _cameras(test: LabelledImages, search: Search) -> NDArray[np.int64] | None:
    """Camera of each test image, or None if the search's rule does not need them."""
    if not search.rule.needs_cameras:
        return None
    used = np.unique(np.concatenate([rows for trial in search.trials for rows in (trial.query, trial.gallery)]))
    numbers = np.full(len(test), -1, dtype=np.int64)
    for row in used.tolist():
        camera = test.images[row].camera
        if camera is None:
            raise UserError(
                f"{test.images[row].path}: search {search.name} needs the camera of every test image, and this one has "
                "none; add it or choose a protocol without a camera rule"
            )
        numbers[row] = camera
    return numbers


def _result(meter: RankingMeter, search: Search) -> Metrics:
    try:
        return meter.result()
    except UserError as error:
        raise UserError(f"search {search.name}: {error}") from error


def _example_queries(
    trial: Trial, search: Search, identities: NDArray[np.int64], cameras: NDArray[np.int64] | None, count: int
) -> NDArray[np.int64]:
    """First valid query of each of `count` identities, evenly spaced among all identities with one."""
    firsts: dict[int, int] = {}
    for row in trial.query.tolist():
        identity = int(identities[row])
        if identity in firsts:
            continue
        same = trial.gallery[identities[trial.gallery] == identity]
        if not len(same):
            continue
        dropped = excluded_pairs(
            search.rule,
            identities[[row]],
            identities[same],
            None if cameras is None else cameras[[row]],
            None if cameras is None else cameras[same],
        )
        if not dropped.all():
            firsts[identity] = row
    people = sorted(firsts)
    if not people:
        return np.array([], dtype=np.int64)
    chosen = np.linspace(0, len(people) - 1, min(count, len(people))).round().astype(int)
    return np.array([firsts[people[i]] for i in chosen], dtype=np.int64)


def _describe(image: ImageInfo, root: Path, names: Names) -> dict[str, Any]:
    path = image.path or Path()
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    identity = None if image.identity in (None, NOBODY) else names.identity(image.identity)
    return {"path": escaped_bytes(shown.as_posix()), "identity": identity, "camera": names.camera(image.camera)}


def _mean_and_std(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "std": float(np.std(values))}
