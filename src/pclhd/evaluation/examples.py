"""Examples of an evaluation for the report: ranked lists, people who are confused, similarities of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import NOBODY, ImageInfo, LabelledImages, Modality, Names
from pclhd.errors import UserError
from pclhd.evaluation.metrics import excluded_pairs
from pclhd.evaluation.protocols import Search, Trial
from pclhd.evaluation.retrieval import Hit, rank_gallery, unit_length
from pclhd.text_tables import escaped_bytes

_CHOSEN = 3
_CONFUSED = 8
_PAIRED = 1500
_BINS = 80
_BLOCK = 256


def cameras_of(test: LabelledImages, search: Search) -> NDArray[np.int64] | None:
    """Camera of each test image, or None if the search's rule does not need them.

    Raises:
        UserError: The search needs the camera of an image that has none.
    """
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


def is_answerable(search: Search, test: LabelledImages) -> bool:
    """Whether a query of a search has a correct gallery image that its rule does not exclude.

    The trials of a search draw from the same people and cameras, so the first speaks for all.

    Raises:
        UserError: The search needs cameras that are unknown.
    """
    identities = np.array(test.identities, dtype=np.int64)
    return bool(len(_example_queries(search.trials[0], search, identities, cameras_of(test, search), 1)))


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
    query = _example_queries(trial, search, identities, cameras_of(test, search), count)
    return _lists(embeddings, test, search, root, query, top)


def chosen_examples(
    embeddings: NDArray[np.floating[Any]], test: LabelledImages, search: Search, root: Path, *, top: int = 10
) -> dict[str, list[dict[str, Any]]]:
    """The queries that a search answers best and worst, and some drawn at random; for the report.

    By the lead of the nearest right image over the nearest wrong one, in the first trial. A person is shown once in
    each kind, so that one person's images do not fill it.

    Args:
        embeddings: (N, D) one row per test image.
        test: The N test images.
        search: The search to show.
        root: Folder to which paths are relative.
        top: Number of gallery images for each.

    Returns:
        Entries for the results, by ``best``, ``worst`` and ``random``.

    Raises:
        UserError: The search needs cameras that are unknown.
    """
    leads = _leads(unit_length(embeddings), test, search)
    rows = leads.query[np.isfinite(leads.lead)]
    by_lead = rows[np.argsort(leads.lead[np.isfinite(leads.lead)], kind="stable")]
    orders = {"best": by_lead[::-1], "worst": by_lead, "random": np.random.default_rng(0).permutation(rows)}
    return {
        kind: _lists(embeddings, test, search, root, _each_person_once(order, test, _CHOSEN), top)
        for kind, order in orders.items()
    }


def confused_people(
    embeddings: NDArray[np.floating[Any]], test: LabelledImages, search: Search, root: Path
) -> list[dict[str, Any]]:
    """The pairs of people who are most often taken for each other in the first trial; for the report.

    Args:
        embeddings: (N, D) one row per test image.
        test: The N test images.
        search: The search.
        root: Folder to which paths are relative.

    Returns:
        Entries for the results: the number of queries of either person whose first image shows the other, and the
        query among them whose first image is nearest, with that image. People whose identity is unknown are left out.
    """
    leads = _leads(unit_length(embeddings), test, search)
    identities = np.array(test.identities, dtype=np.int64)
    found: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    for query, wrong, similarity, lead in zip(
        leads.query, leads.wrong, leads.wrong_similarity, leads.lead, strict=True
    ):
        if np.isfinite(lead) and lead < 0 and identities[wrong] != NOBODY:
            first, second = sorted((int(identities[query]), int(identities[wrong])))
            found.setdefault((first, second), []).append((-float(similarity), int(query), int(wrong)))
    most = sorted(found.items(), key=lambda one: (-len(one[1]), one[0]))[:_CONFUSED]
    entries = []
    for _, cases in most:
        similarity, query, wrong = min(cases)
        asked, shown = test.infos([query, wrong])
        entries.append(
            {
                "queries": len(cases),
                "query": {**_describe(asked, root, test.names), "modality": str(asked.modality)},
                "found": {**_describe(shown, root, test.names), "correct": False, "distance": 1 + similarity},
            }
        )
    return entries


def pair_similarities(embeddings: NDArray[np.floating[Any]], test: LabelledImages) -> dict[str, Any]:
    """How similar images of the same and of different people are across the modalities; for the report.

    Args:
        embeddings: (N, D) one row per test image.
        test: The N test images. Of each modality at most 1,500 are drawn; people who are unknown are left out.

    Returns:
        Numbers of pairs in equal bins of the cosine from −1 to 1.
    """
    unit = unit_length(embeddings)
    random = np.random.default_rng(0)
    known = np.array(test.known(), dtype=np.int64)
    infrared = np.array([test.images[row].modality is Modality.INFRARED for row in known.tolist()], dtype=bool)
    visible, other = (random.permutation(known[part])[:_PAIRED] for part in (~infrared, infrared))
    identities = np.array(test.identities, dtype=np.int64)
    same, different = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    for start in range(0, len(visible), _BLOCK):
        rows = visible[start : start + _BLOCK]
        place = np.clip(((unit[rows] @ unit[other].T + 1) * (_BINS / 2)).astype(np.int64), 0, _BINS - 1)
        equal = identities[rows][:, None] == identities[other][None]
        same += np.bincount(place[equal], minlength=_BINS)
        different += np.bincount(place[~equal], minlength=_BINS)
    return {"same": same.tolist(), "different": different.tolist()}


@dataclass(frozen=True, eq=False)
class _Leads:
    """For each query of a trial: its row, the row of the nearest wrong image and its cosine, and the lead of the
    nearest right image over it; infinite or NaN where there is no right or no wrong image."""

    query: NDArray[np.int64]
    wrong: NDArray[np.int64]
    wrong_similarity: NDArray[np.float32]
    lead: NDArray[np.float32]


def _leads(unit: NDArray[np.float32], test: LabelledImages, search: Search) -> _Leads:
    trial, known = search.trials[0], cameras_of(test, search)
    identities = np.array(test.identities, dtype=np.int64)
    gallery = trial.gallery
    wrong = np.empty(len(trial.query), np.int64)
    similarity, lead = np.empty(len(trial.query), np.float32), np.empty(len(trial.query), np.float32)
    for start in range(0, len(trial.query), _BLOCK):
        rows = trial.query[start : start + _BLOCK]
        cosine = unit[rows] @ unit[gallery].T
        dropped = excluded_pairs(
            search.rule,
            identities[rows],
            identities[gallery],
            None if known is None else known[rows],
            None if known is None else known[gallery],
        )
        equal = identities[rows][:, None] == identities[gallery][None]
        against = np.where(dropped | equal, -np.inf, cosine)
        block = slice(start, start + len(rows))
        wrong[block] = gallery[against.argmax(axis=1)]
        similarity[block] = against.max(axis=1)
        # Without a right image −∞, without a wrong one ∞.
        right = np.where(dropped | ~equal, -np.inf, cosine).max(axis=1)
        lead[block] = np.where(np.isfinite(right), right - similarity[block], -np.inf)
    return _Leads(trial.query, wrong, similarity, lead)


def _each_person_once(rows: NDArray[np.int64], test: LabelledImages, most: int) -> NDArray[np.int64]:
    firsts: dict[int, int] = {}
    for row in rows.tolist():
        firsts.setdefault(test.identities[row], row)
        if len(firsts) == most:
            break
    return np.array(list(firsts.values()), dtype=np.int64)


def _lists(
    embeddings: NDArray[np.floating[Any]],
    test: LabelledImages,
    search: Search,
    root: Path,
    query: NDArray[np.int64],
    top: int,
) -> list[dict[str, Any]]:
    """The ranked lists of some queries, each of which has a right image in the first trial's gallery."""
    if not len(query):
        return []
    trial, known = search.trials[0], cameras_of(test, search)
    identities = np.array(test.identities, dtype=np.int64)
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
