"""Candidates, re-ranking and the index, on embeddings without images."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pclhd import Gallery, GalleryFilter
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.data.records import Modality
from pclhd.evaluation.retrieval import unit_length
from pclhd.gallery.counting import share_left
from pclhd.gallery.indexing import index_facts, update_index
from pclhd.gallery.records import IndexFacts
from pclhd.gallery.rows import NewRow, to_arrow
from pclhd.gallery.searching import reranked
from pclhd.gallery.text import stats_text
from tests.gallery.photos import Photos

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def filled(photos: Photos, path: Path, features: NDArray[np.float32], seconds: list[float]) -> Gallery:
    """A gallery of embeddings of two cameras."""
    gallery = Gallery(path, encoder=photos.encoder)
    rows = [
        NewRow(f"{row}", Modality.VISIBLE, f"camera {row % 2}", NOON + timedelta(seconds=second))
        for row, second in enumerate(seconds)
    ]
    with gallery._store.writing():
        gallery._found(photos.encoder)
        gallery._store.append(to_arrow(rows, features, first_number=1, model_id=photos.encoder.model_id))
    return gallery


def drawn(number: int, width: int = 16, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    people = random.standard_normal((max(1, number // 20), width))
    return unit_length(people[random.integers(0, len(people), number)] + 0.3 * random.standard_normal((number, width)))


def test_a_long_passage_does_not_hide_others(photos: Photos, tmp_path: Path) -> None:
    query = unit_length(np.ones((1, 16)))[0]
    random = np.random.default_rng(0)
    passage = unit_length(query + 0.01 * random.standard_normal((400, 16)))
    others = unit_length(query + 0.3 * random.standard_normal((3, 16)))
    seconds = [0.0] * 400 + [10_000.0, 20_000.0, 30_000.0]
    gallery = filled(photos, tmp_path / "gallery", np.concatenate([passage, others]), seconds)
    hits = gallery.search_embedding(query, modality="visible", top=5)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert {hit.row.number for hit in hits[2:]} == {401, 402, 403}
    assert sorted(hit.sighting.frames for hit in hits if hit.sighting) == [1, 1, 1, 200, 200]
    frames = gallery.search_embedding(query, modality="visible", top=5, group=False)
    assert all(hit.row.number <= 400 and hit.sighting is None for hit in frames)
    best = hits[0].to_dict()["sighting"]
    assert (best["frames"], len(best["others"]), best["first"]) == (200, 199, NOON.isoformat())


def test_reranking_is_that_of_the_paper() -> None:
    features = drawn(60)
    query, candidates = features[0], features[1:][np.argsort(-(features[1:] @ features[0]), kind="stable")]
    similarity = jaccard_similarity(np.concatenate([query[None], candidates]), 20, 6).toarray()[0, 1:]
    expected = 0.7 * (1 - similarity) + 0.3 * (1 - candidates @ query)
    order = reranked(query, candidates)
    assert sorted(order) == list(range(59))
    assert np.all(np.diff(expected[order]) >= -1e-6)
    assert reranked(query, candidates[:0]).tolist() == []
    assert reranked(query, candidates[:1]).tolist() == [0]


def test_reranking_a_search(photos: Photos, tmp_path: Path) -> None:
    features = drawn(60)
    gallery = filled(photos, tmp_path / "gallery", features, [0.0] * 60)
    hits = gallery.search_embedding(features[0], modality="visible", top=60, group=False, rerank=True)
    plain = gallery.search_embedding(features[0], modality="visible", top=60, group=False)
    assert {hit.row.number for hit in hits} == {hit.row.number for hit in plain}
    assert [hit.row.number for hit in hits] != [hit.row.number for hit in plain]
    similar = {hit.row.number: hit.similarity for hit in plain}
    assert all(hit.similarity == similar[hit.row.number] for hit in hits)


def test_equal_embeddings_come_in_the_order_of_adding(photos: Photos, tmp_path: Path) -> None:
    features = np.repeat(drawn(1), 9, axis=0)
    gallery = filled(photos, tmp_path / "gallery", features, [0.0] * 9)
    hits = gallery.search_embedding(features[0], modality="visible", top=9, group=False)
    assert [hit.row.number for hit in hits] == list(range(1, 10))


def test_the_index(photos: Photos, tmp_path: Path) -> None:
    features = drawn(2_000)
    gallery = filled(photos, tmp_path / "gallery", features, [0.0] * 2_000)
    store = gallery._store
    with store.writing():
        assert update_index(store, least=2_001) is None
        facts = update_index(store, least=2_000)
    assert facts is not None
    assert gallery.stats().index == facts == index_facts(store)
    assert (facts.rows, facts.partitions) == (2_000, 44)
    assert facts.recall >= 0.99
    assert 1 <= facts.probes <= 45
    assert "of the ten nearest images, measured with 200 images" in stats_text(gallery.stats())
    exact = np.argsort(-(features[:50] @ features.T), axis=1)[:, :10]
    found = [gallery.search_embedding(one, modality="visible", top=10, group=False) for one in features[:50]]
    shares = [len({hit.row.number - 1 for hit in hits} & set(row)) / 10 for hits, row in zip(found, exact, strict=True)]
    assert np.mean(shares) > 0.95
    # The index has as many parts as it was built with, also after it was tidied: one part is a few rows.
    assert len(store.nearest(features[0], 2_000, probes=1)) < 300
    assert facts.filtered_recall is not None
    assert facts.filtered_recall >= 0.99
    assert facts.filtered_probes is not None
    assert facts.probes <= facts.filtered_probes <= 44
    one_camera = GalleryFilter(camera="camera 1")
    hits = gallery.search_embedding(features[0], modality="visible", top=10, where=one_camera, group=False)
    assert [hit.row.number % 2 for hit in hits] == [0] * 10
    # Images that are added afterwards are found at once.
    gallery.add(photos.night, modality="infrared")
    vector = photos.encoder.embed(photos.night / "n0.png", modality="infrared").features[0]
    assert gallery.search_embedding(vector, modality="infrared", top=1)[0].similarity == pytest.approx(1, abs=1e-5)
    with store.writing():
        assert update_index(store, least=2_000) == facts, "it is built again only when the gallery has grown much"


def test_facts_of_an_older_index_are_read(photos: Photos, tmp_path: Path) -> None:
    features = drawn(300)
    gallery = filled(photos, tmp_path / "gallery", features, [0.0] * 300)
    with gallery._store.writing():
        update_index(gallery._store, least=300)
        old = {"rows": 300, "partitions": 17, "probes": 17, "recall": 1.0, "queries": 200}
        gallery._store.write_fact("index", old)
    assert index_facts(gallery._store) == IndexFacts(300, 17, 17, 1.0, 200)
    assert "with a filter" not in stats_text(gallery.stats())
    where = GalleryFilter(camera="camera 0")
    for wanted, first in ((None, 1), (where, 1)):
        hits = gallery.search_embedding(features[0], modality="visible", top=10, where=wanted, group=False)
        assert (len(hits), hits[0].row.number) == (10, first)


def test_parts_looked_into_follow_what_a_filter_leaves() -> None:
    facts = IndexFacts(1_000_000, 1_000, 157, 0.99, 200, filtered_probes=308, filtered_recall=0.99)
    assert facts.probes_for(1.0) == 157
    assert facts.probes_for(1 / 20) == facts.probes_for(1 / 10_000) == facts.probes_for(None) == 308
    shares = np.linspace(0.04, 1, 50)
    probes = [facts.probes_for(share) for share in shares]
    assert probes == sorted(probes, reverse=True)
    # A straight line between logarithms: half of the way in share is half of the way in parts.
    assert facts.probes_for(20**-0.5) == round((157 * 308) ** 0.5)
    assert IndexFacts(300, 17, 8, 1.0, 200).probes_for(0.3) == 8, "of an older version"


def test_share_that_a_filter_leaves() -> None:
    sizes = {Modality.VISIBLE: 300, Modality.INFRARED: 100}
    assert share_left(sizes, GalleryFilter()) == 1
    assert share_left(sizes, GalleryFilter(modality="infrared")) == 0.25
    assert share_left(sizes, GalleryFilter(camera="gate")) is None
    assert share_left(sizes, GalleryFilter(modality="infrared", track="1")) is None
    assert share_left({Modality.VISIBLE: 300}, GalleryFilter(modality="infrared")) is None
    assert share_left({}, GalleryFilter()) is None


def test_removing_from_an_indexed_gallery_leaves_no_byte(photos: Photos, tmp_path: Path) -> None:
    features = drawn(600)
    gallery = filled(photos, tmp_path / "gallery", features, [0.0] * 600)
    with gallery._store.writing():
        update_index(gallery._store, least=600)
    needle = struct.pack("<8f", *features[7, :8])
    # The index holds each number in 8 bits: 0 for the lowest of all, 255 for the highest.
    rounded = 255 * (features[7].astype(np.float64) - features.min()) / (features.max() - features.min())

    def holds(content: bytes) -> bool:
        padded = np.frombuffer(content + bytes(len(rounded)), np.uint8)
        windows = sliding_window_view(padded, len(rounded))
        return needle in content or bool((np.abs(windows - rounded).max(axis=1) <= 1).any())

    def holders() -> list[str]:
        return sorted(path.suffix for path in gallery.path.rglob("*") if path.is_file() and holds(path.read_bytes()))

    assert holders() == [".idx", ".lance"], "the index and the table"
    (row,) = (row for row in gallery.rows() if row.number == 8)
    assert gallery.remove(GalleryFilter(ids=[row.id])).removed == 1
    assert holders() == []
    assert gallery.stats().index is None
    assert len(gallery.search_embedding(features[7], modality="visible", top=599, group=False)) == 599
