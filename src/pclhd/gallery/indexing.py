"""When a gallery gets an index, how it is built, and how well it finds what an exact search finds (ours).

The index (IVF) divides the embeddings into parts around centres, and a search looks only into the parts whose centres
are nearest to the query. In how many is chosen when the index is built: as few as reach the wanted recall on rows drawn
at random. With a filter the ten nearest of fewer rows are wanted, which lie further away: for that the number is chosen
separately, with a filter that leaves a twentieth of the rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.gallery.facts import SavedIndex, checked_fact
from pclhd.gallery.filters import numbers_among, numbers_between
from pclhd.gallery.records import FILTERED_SHARE, IndexFacts
from pclhd.gallery.rows import embeddings_of
from pclhd.gallery.searching import INDEXED_CANDIDATES
from pclhd.gallery.store import VECTOR_INDEX, Store

#: Rows from which on there is an index; below, a search looks at all rows.
INDEX_FROM = 50_000
#: Share of the ten nearest rows that the index has to find.
WANTED_RECALL = 0.99

_TOP = 10
_QUERIES = 200
_SEED = 0
_LEAST_PROBES, _STEP = 8, 1.4  # the number of parts that is tried first, and the factor to the next one
_GROWN = 2  # an index is built again when the gallery has grown by this factor


def update_index(store: Store, *, least: int = INDEX_FROM) -> IndexFacts | None:
    """Build the index if the gallery is large enough and has none, or one of a much smaller gallery.

    Args:
        store: A gallery that the caller is writing to.
        least: Rows from which on there is an index.

    Returns:
        Facts about the index that there is now; None without one.
    """
    rows = store.count()
    if rows < least:
        return None
    facts = index_facts(store)
    if facts is not None and rows < _GROWN * facts.rows:
        return facts
    store.write_fact("index", None)
    rows_per_part = round(math.sqrt(rows))
    store.build_index(rows_per_part)
    facts = _measured(store, rows, rows // rows_per_part)
    store.write_fact("index", facts.to_dict())
    return facts


def index_facts(store: Store) -> IndexFacts | None:
    """Facts about the index; None if there is none.

    Raises:
        UserError: They are damaged.
    """
    saved = store.fact("index")
    if saved is None or VECTOR_INDEX not in store.indices():
        return None
    return IndexFacts(**checked_fact(SavedIndex, saved, store.address).model_dump())


def _measured(store: Store, rows: int, partitions: int) -> IndexFacts:
    """Choose how many parts to look into, and measure the recall with that.

    The rows that are searched for are drawn from the gallery; each one finds itself, which is left out.
    """
    numbers = np.sort(store.select(["number"])["number"].to_numpy())
    drawn = np.sort(np.random.default_rng(_SEED).choice(numbers, min(_QUERIES, rows), replace=False))
    queries = embeddings_of(store.select(["number", "embedding"], numbers_among(drawn)).sort_by("number"))
    middle = numbers[rows // 2 : rows // 2 + max(1, round(FILTERED_SHARE * rows))]
    exact, exact_filtered = _exact_neighbours(store, drawn, queries, int(middle[0]), int(middle[-1]))

    def recall(probes: int, exact: NDArray[np.int64], where: str | None) -> float:
        found = [_neighbours(store, n, q, probes, where) for n, q in zip(drawn, queries, strict=True)]
        return float(np.mean([_share(one, e) for one, e in zip(found, exact, strict=True)]))

    def chosen(probes: int, exact: NDArray[np.int64], where: str | None) -> tuple[int, float]:
        while True:
            reached = recall(probes, exact, where)
            if reached >= WANTED_RECALL or probes >= partitions:
                return probes, reached
            probes = min(max(probes + 1, round(_STEP * probes)), partitions)

    probes, reached = chosen(min(_LEAST_PROBES, partitions), exact, None)
    within = numbers_between(middle[0], middle[-1])
    filtered_probes, filtered = chosen(probes, exact_filtered, within)
    return IndexFacts(rows, partitions, probes, reached, len(queries), filtered_probes, filtered)


def _neighbours(
    store: Store, number: int, query: NDArray[np.float32], probes: int, where: str | None
) -> NDArray[np.int64]:
    """(10,) numbers of the nearest rows that the index finds, without the row `number` itself."""
    found: Any = store.nearest(query, INDEXED_CANDIDATES * _TOP + 1, where, probes=probes, columns=["number"])
    numbers: NDArray[np.int64] = found["number"].to_numpy()
    nearest = numbers[np.argsort(-(embeddings_of(found) @ query), kind="stable")]
    others: NDArray[np.int64] = nearest[nearest != number][:_TOP]
    return others


def _exact_neighbours(
    store: Store, drawn: NDArray[np.int64], queries: NDArray[np.float32], first: int, last: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(Q, 10) numbers of the nearest rows of all, and of those from `first` to `last`, without the query itself.

    One pass over all rows for all queries. Fewer rows than ten are filled up with 0, which is no row's number.
    """
    best = [(np.full((len(queries), _TOP), -np.inf, np.float32), np.zeros((len(queries), _TOP), np.int64))] * 2
    for part in store.stream(["number", "embedding"]):
        numbers = part["number"].to_numpy()
        alike = queries @ embeddings_of(part).T
        alike[drawn[:, None] == numbers] = -np.inf
        within = (numbers >= first) & (numbers <= last)
        best = [_best_of(*best[0], alike, numbers), _best_of(*best[1], alike[:, within], numbers[within])]
    (_, everywhere), (_, filtered) = best
    return everywhere, filtered


def _best_of(
    best: NDArray[np.float32], known: NDArray[np.int64], alike: NDArray[np.float32], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ten best of those known and of some more: similarities and numbers, (Q, 10) each."""
    together = np.concatenate([best, alike], axis=1)
    names = np.concatenate([known, np.broadcast_to(numbers, alike.shape)], axis=1)
    nearest = np.argpartition(-together, _TOP - 1, axis=1)[:, :_TOP]
    return np.take_along_axis(together, nearest, axis=1), np.take_along_axis(names, nearest, axis=1)


def _share(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    wanted = exact[exact > 0]
    return len(np.intersect1d(found, wanted)) / max(1, len(wanted))
