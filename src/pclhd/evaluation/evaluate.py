"""Results from embeddings: every search of a protocol, averaged over its trials.

The trials of a search draw different galleries from the same images, and searches share their queries. So the
similarities are computed once, for a block of queries and all images of any gallery, and each trial selects its rows
from that table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import LabelledImages
from pclhd.errors import UserError
from pclhd.evaluation.examples import cameras_of
from pclhd.evaluation.metrics import Metrics, RankingMeter
from pclhd.evaluation.protocols import Search, Trial
from pclhd.evaluation.retrieval import unit_length

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
    cameras = [cameras_of(test, search) for search in searches]
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


def _result(meter: RankingMeter, search: Search) -> Metrics:
    try:
        return meter.result()
    except UserError as error:
        raise UserError(f"search {search.name}: {error}") from error


def _mean_and_std(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "std": float(np.std(values))}
