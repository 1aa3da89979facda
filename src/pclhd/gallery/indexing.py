"""When a gallery gets an index, how it is built, and how well it finds what an exact search finds (ours).

The index (IVF) divides the embeddings into parts around centres, and a search looks only into the parts whose centres
are nearest to the query. In how many is chosen when the index is built: as few as reach the wanted recall on rows drawn
at random.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.gallery.facts import SavedIndex, checked_fact
from pclhd.gallery.filters import numbers_among
from pclhd.gallery.records import IndexFacts
from pclhd.gallery.rows import embeddings_of
from pclhd.gallery.store import VECTOR_INDEX, Store

#: Rows from which on there is an index; below, a search looks at all rows.
INDEX_FROM = 50_000
#: Share of the ten nearest rows that the index has to find.
WANTED_RECALL = 0.99

_TOP = 10
_QUERIES = 200
_SEED = 0
_STEP = 1.4  # the next number of parts that is tried
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
    partitions = max(1, round(math.sqrt(rows)))
    store.build_index(partitions)
    facts = _measured(store, rows, partitions)
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
    return IndexFacts(**checked_fact(SavedIndex, saved, store.path).model_dump())


def _measured(store: Store, rows: int, partitions: int) -> IndexFacts:
    """Choose how many parts to look into, and measure the recall with that.

    The rows that are searched for are drawn from the gallery; each one finds itself, which is left out.
    """
    first, last = _numbers(store)
    drawn = np.unique(np.random.default_rng(_SEED).integers(first, last + 1, 2 * _QUERIES))
    found = store.select(["number", "embedding"], numbers_among(drawn)).sort_by("number")
    queries = embeddings_of(found)[:_QUERIES]
    exact = _exact_neighbours(store, queries)
    probes, recall = 1, 0.0
    while True:
        recall = float(np.mean([_share(_neighbours(store, q, probes), e) for q, e in zip(queries, exact, strict=True)]))
        if recall >= WANTED_RECALL or probes >= partitions:
            return IndexFacts(rows, partitions, probes, recall, len(queries))
        probes = min(max(probes + 1, round(_STEP * probes)), partitions)


def _numbers(store: Store) -> tuple[int, int]:
    numbers = store.select(["number"])["number"].to_numpy()
    return int(numbers.min()), int(numbers.max())


def _neighbours(store: Store, query: NDArray[np.float32], probes: int) -> NDArray[np.int64]:
    """(10,) numbers of the nearest rows that the index finds, without the query itself."""
    found: Any = store.nearest(query, _TOP + 1, probes=probes, columns=["number"])
    numbers: NDArray[np.int64] = found["number"].to_numpy()
    return numbers[np.argsort(-(embeddings_of(found) @ query), kind="stable")][1:]


def _exact_neighbours(store: Store, queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """(Q, 10) numbers of the nearest rows, without the query itself: one pass over all rows for all queries."""
    best = np.full((len(queries), _TOP + 1), -np.inf, dtype=np.float32)
    numbers = np.zeros(best.shape, dtype=np.int64)
    for part in store.stream(["number", "embedding"]):
        alike = np.concatenate([best, queries @ embeddings_of(part).T], axis=1)
        own = np.broadcast_to(part["number"].to_numpy(), (len(queries), len(part)))
        known = np.concatenate([numbers, own], axis=1)
        nearest = np.argpartition(-alike, _TOP, axis=1)[:, : _TOP + 1]
        best, numbers = np.take_along_axis(alike, nearest, axis=1), np.take_along_axis(known, nearest, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")[:, 1:]
    return np.take_along_axis(numbers, order, axis=1)


def _share(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    return len(np.intersect1d(found, exact)) / max(1, len(exact))
