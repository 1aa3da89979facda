"""Hits of both modalities in one list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd import Calibration, Gallery, GalleryFilter
from pclhd.data.records import Modality
from pclhd.evaluation.retrieval import unit_length
from pclhd.gallery.ranking import merged, order_of, with_probabilities
from pclhd.gallery.records import GalleryHit, GalleryRow
from pclhd.gallery.rows import NewRow, to_arrow
from pclhd.gallery.text import hits_text, verdict_text
from tests.gallery.photos import Photos

VISIBLE, INFRARED = Modality.VISIBLE, Modality.INFRARED
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# Infrared queries: a visible image with a cosine of 0.3 says more than an infrared one with 0.8.
STEEP = {VISIBLE: ([-1.0, 0.0, 1.0], [-9.0, 0.0, 9.0]), INFRARED: ([-1.0, 0.8, 1.0], [-9.0, 0.0, 2.0])}


def calibration(*lights: Modality, query: Modality = INFRARED, expected: float = 2.0) -> Calibration:
    """A calibration of the directions from a query to some modalities."""
    directions = [
        {
            "query": str(query), "gallery": str(light), "method": "isotonic", "log_loss": {}, "queries": 100,
            "same_pairs": 100, "different_pairs": 100, "same_per_query": expected, "similarity": STEEP[light][0],
            "log_likelihood_ratio": STEEP[light][1], "sizes": [1], "rates": [0.01, 0.5],
            "thresholds": [[{VISIBLE: 0.4, INFRARED: 0.9}[light], 0.1]],
        }
        for light in lights
    ]  # fmt: skip
    return Calibration.model_validate({"model_id": "m", "source": "labelled images", "directions": directions})


BOTH = calibration(VISIBLE, INFRARED)


def gallery_of(
    photos: Photos, path: Path, features: NDArray[np.float32], lights: Sequence[Modality], known: Calibration | None
) -> Gallery:
    """A gallery of embeddings; each is one passage of its own, an hour after the one before."""
    gallery = Gallery(path, encoder=photos.encoder)
    rows = [
        NewRow(str(number), light, f"camera {number % 3}", NOON + timedelta(hours=number))
        for number, light in enumerate(lights)
    ]
    with gallery._store.writing():
        gallery._found(photos.encoder)
        gallery._store.append(to_arrow(rows, features, first_number=1, model_id=photos.encoder.model_id))
    gallery.calibration = known
    return gallery


def at(*similarities: float, width: int = 16) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A query, and embeddings with these similarities to it."""
    query = np.zeros(width, np.float32)
    query[0] = 1
    features = np.zeros((len(similarities), width), np.float32)
    features[:, 0] = similarities
    for row, one in enumerate(similarities):
        features[row, 1 + row % (width - 1)] = np.sqrt(1 - one * one)
    return query, features


def numbers(hits: Sequence[GalleryHit]) -> list[int]:
    return [hit.row.number for hit in hits]


@contextmanager
def counted(gallery: Gallery) -> Iterator[dict[str, mock.Mock]]:
    """How often the table is searched and counted."""
    store = gallery._store
    with (
        mock.patch.object(store, "nearest", side_effect=store.nearest) as nearest,
        mock.patch.object(store, "count", side_effect=store.count) as count,
    ):
        yield {"nearest": nearest, "count": count}


def hits_of(light: Modality, similarities: Sequence[float], first: int) -> list[GalleryHit]:
    """Hits of one modality as a search finds them: by similarity, equal ones by number."""
    found = sorted(enumerate(similarities, start=first), key=lambda one: (-one[1], one[0]))
    return [
        GalleryHit(rank, value, GalleryRow(f"{number}", number, light, None, None, None, None, None, "", NOON))
        for rank, (number, value) in enumerate(found, start=1)
    ]


# Coarse values, so that there are equal ones.
SIMILARITIES = st.lists(st.integers(-4, 4).map(lambda one: one / 4), max_size=12)


@settings(deadline=None)
@given(SIMILARITIES, SIMILARITIES, st.integers(1, 30), st.floats(0.1, 20))
def test_the_order_is_that_of_all_probabilities_sorted(
    visible: list[float], infrared: list[float], top: int, expected: float
) -> None:
    known = calibration(VISIBLE, INFRARED, expected=expected)
    sizes = {VISIBLE: len(visible) + 50, INFRARED: len(infrared) + 5}
    lists = [hits_of(VISIBLE, visible, 1), hits_of(INFRARED, infrared, 1 + len(visible))]
    found = merged([with_probabilities(hits, known, INFRARED, sizes) for hits in lists], top)

    prior = min(0.5, 2 * expected / sum(sizes.values()))
    everything = []
    for number, (light, similarity) in enumerate(
        [(VISIBLE, one) for one in visible] + [(INFRARED, one) for one in infrared], start=1
    ):
        odds = np.exp(np.interp(similarity, *STEEP[light])) * prior / (1 - prior)
        everything.append((odds / (1 + odds), similarity, number))
    everything.sort(key=lambda one: (-round(one[0], 12), -one[1], one[2]))
    assert numbers(found) == [number for _, _, number in everything[:top]]
    assert [hit.probability for hit in found] == pytest.approx([one for one, _, _ in everything[:top]])
    assert [hit.rank for hit in found] == list(range(1, len(found) + 1))


@given(SIMILARITIES, SIMILARITIES, st.randoms())
def test_the_order_within_a_modality_stays(visible: list[float], infrared: list[float], random: Random) -> None:
    sizes = {VISIBLE: 99, INFRARED: 99}
    lists = [
        with_probabilities(hits_of(light, values, first), BOTH, INFRARED, sizes)
        for light, values, first in ((VISIBLE, visible, 1), (INFRARED, infrared, 100))
    ]
    in_order = merged(lists, 99)
    for hits in lists:
        random.shuffle(hits)  # as re-ranking may
    found = merged(lists, 99)
    assert [hit.row.modality for hit in found] == [hit.row.modality for hit in in_order]
    for light, hits in zip((VISIBLE, INFRARED), lists, strict=True):
        assert [hit.row for hit in found if hit.row.modality is light] == [hit.row for hit in hits]


def test_a_probable_visible_image_stands_above_a_similar_infrared_one(photos: Photos, tmp_path: Path) -> None:
    query, features = at(0.7, 0.3, 0.75, 0.2)
    lights = [INFRARED, VISIBLE, INFRARED, VISIBLE]
    gallery = gallery_of(photos, tmp_path / "gallery", features, lights, BOTH)
    hits = gallery.search_embedding(query, modality="infrared")
    assert numbers(hits) == [2, 4, 3, 1]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    probabilities = [hit.probability or 0 for hit in hits]
    assert probabilities == sorted(probabilities, reverse=True)
    order = gallery.order(modality="infrared")
    assert (order.by, order.modalities, order.note) == ("probability", (VISIBLE, INFRARED), "")
    # Each modality has its place, though all ten of the most similar are of the other one.
    many = np.repeat(features[:1], 20, axis=0)
    gallery = gallery_of(photos, tmp_path / "many", np.concatenate([many, features[1:2]]), [INFRARED] * 20 + [VISIBLE],
                         BOTH)  # fmt: skip
    assert numbers(gallery.search_embedding(query, modality="infrared", group=False)) == [21, *range(1, 10)]
    gallery.calibration = None
    assert numbers(gallery.search_embedding(query, modality="infrared", group=False)) == list(range(1, 11))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("group", [False, True])
def test_a_search_finds_what_comparing_everything_finds(photos: Photos, tmp_path: Path, seed: int, group: bool) -> None:
    random = np.random.default_rng(seed)
    features = unit_length(random.standard_normal((40, 16)).astype(np.float32))
    lights = [VISIBLE if one else INFRARED for one in random.random(40) < (0.5, 0.9, 0.1)[seed]]
    gallery = gallery_of(photos, tmp_path / "gallery", features, lights, BOTH)
    prior = 4 / 40
    odds = np.array([
        np.interp(one @ features[0], *STEEP[light]) + np.log(prior / (1 - prior))
        for one, light in zip(features, lights, strict=True)
    ])  # fmt: skip
    expected = 1 + np.argsort(-odds, kind="stable")
    for top in (1, 7, 40, 60):
        hits = gallery.search_embedding(features[0], modality="infrared", top=top, group=group)
        assert numbers(hits) == expected[:top].tolist()
        assert [hit.probability for hit in hits] == pytest.approx(1 / (1 + np.exp(-odds[expected[:top] - 1])), abs=1e-5)


def test_equal_hits_come_in_the_order_of_adding(photos: Photos, tmp_path: Path) -> None:
    query, features = at(-1.0, -1.0, -1.0, -1.0)  # both curves agree there
    lights = [INFRARED, VISIBLE, VISIBLE, INFRARED]
    gallery = gallery_of(photos, tmp_path / "gallery", features, lights, BOTH)
    assert numbers(gallery.search_embedding(query, modality="infrared", group=False)) == [1, 2, 3, 4]


def test_without_a_calibration_of_both_directions_similarity_decides(photos: Photos, tmp_path: Path) -> None:
    query, features = at(0.7, 0.3)
    gallery = gallery_of(photos, tmp_path / "gallery", features, [INFRARED, VISIBLE], None)
    for known, probable in ((None, set()), (calibration(VISIBLE), {VISIBLE}), (calibration(INFRARED), {INFRARED})):
        gallery.calibration = known
        with counted(gallery) as calls:
            hits = gallery.search_embedding(query, modality="infrared")
        assert calls["nearest"].call_count == 1
        assert numbers(hits) == [1, 2]
        assert {hit.row.modality for hit in hits if hit.probability is not None} == probable
        order = gallery.order(modality="infrared")
        assert order.by == "similarity"
        assert "cannot be compared" in order.note
        assert "pclhd calibrate" in order.note
        # One modality by itself can be compared.
        only = gallery.order(modality="infrared", where=GalleryFilter(modality="visible"))
        assert (only.by, only.note) == ("probability" if VISIBLE in probable else "similarity", "")
    # The other direction of the query does not help.
    gallery.calibration = BOTH
    assert gallery.order(modality="visible").by == "similarity"


def test_one_modality_is_searched_once(photos: Photos, tmp_path: Path) -> None:
    query, features = at(0.7, 0.3, 0.5)
    gallery = gallery_of(photos, tmp_path / "gallery", features, [VISIBLE] * 3, BOTH)
    with counted(gallery) as calls:
        assert numbers(gallery.search_embedding(query, modality="infrared")) == [1, 3, 2]
        (first,) = calls["nearest"].call_args_list
        assert first.args[2] is None, "no filter, so that an index looks into as few parts as possible"
        assert calls["count"].call_count == 2
        gallery.search_embedding(query, modality="infrared")
        assert calls["count"].call_count == 2, "counted again only after a change"
    assert gallery.order(modality="infrared").modalities == (VISIBLE,)


def test_both_modalities_are_searched_once_each_and_counted_again_after_a_change(
    photos: Photos, tmp_path: Path
) -> None:
    query, features = at(0.7, 0.3, 0.5)
    gallery = gallery_of(photos, tmp_path / "gallery", features, [VISIBLE, INFRARED, VISIBLE], BOTH)
    with counted(gallery) as calls:
        gallery.search_embedding(query, modality="infrared")
        assert calls["nearest"].call_count == 2
        gallery.search_embedding(query, modality="infrared", where=GalleryFilter(modality="infrared"))
        assert calls["nearest"].call_count == 3
        assert calls["count"].call_count == 2
    gallery.remove(GalleryFilter(modality="infrared"))
    with counted(gallery) as calls:
        assert numbers(gallery.search_embedding(query, modality="infrared")) == [1, 3]
        assert calls["nearest"].call_count == 1
    gallery.remove(GalleryFilter(modality="visible"))
    assert gallery.search_embedding(query, modality="infrared") == []
    assert gallery.order(modality="infrared").modalities == ()


def test_filters(photos: Photos, tmp_path: Path) -> None:
    query, features = at(0.9, 0.8, 0.3, 0.2)
    lights = [INFRARED, INFRARED, VISIBLE, VISIBLE]
    gallery = gallery_of(photos, tmp_path / "gallery", features, lights, BOTH)
    for where, expected in (
        (GalleryFilter(modality="infrared"), [1, 2]),
        (GalleryFilter(modality=VISIBLE), [3, 4]),
        (GalleryFilter(camera="camera 1"), [2]),  # one modality only
        (GalleryFilter(camera=["camera 1", "camera 2"]), [3, 2]),
        (GalleryFilter(camera="nowhere"), []),
        (GalleryFilter(since=NOON + timedelta(hours=1)), [3, 4, 2]),
    ):
        assert numbers(gallery.search_embedding(query, modality="infrared", where=where)) == expected
    # What is said of an image does not depend on the filter.
    alone = gallery.search_embedding(query, modality="infrared", where=GalleryFilter(modality="visible"))
    together = gallery.search_embedding(query, modality="infrared")
    assert [hit.probability for hit in alone] == [hit.probability for hit in together if hit.row.modality is VISIBLE]


def test_reranking_orders_within_a_modality(photos: Photos, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    people = random.standard_normal((4, 16))
    features = unit_length((people[random.integers(0, 4, 60)] + 0.5 * random.standard_normal((60, 16))).astype("f4"))
    lights = [VISIBLE if one else INFRARED for one in random.random(60) < 0.5]
    gallery = gallery_of(photos, tmp_path / "gallery", features, lights, BOTH)

    def search(light: Modality | None, *, rerank: bool) -> list[GalleryHit]:
        where = GalleryFilter(modality=light)
        return gallery.search_embedding(features[0], modality="infrared", top=60, where=where, group=False,
                                        rerank=rerank)  # fmt: skip

    found = search(None, rerank=True)
    assert [hit.row.modality for hit in found] == [hit.row.modality for hit in search(None, rerank=False)]
    for light in Modality:
        apart = numbers(search(light, rerank=True))
        assert [hit.row.number for hit in found if hit.row.modality is light] == apart
        assert apart != numbers(search(light, rerank=False))


def test_a_sighting_is_of_one_modality(photos: Photos, tmp_path: Path) -> None:
    query, _ = at(1.0)
    features = np.repeat(query[None], 6, axis=0)
    gallery = Gallery(tmp_path / "gallery", encoder=photos.encoder)
    rows = [NewRow(str(row), (VISIBLE, INFRARED)[row % 2], "gate", NOON + timedelta(seconds=row)) for row in range(6)]
    with gallery._store.writing():
        gallery._found(photos.encoder)
        gallery._store.append(to_arrow(rows, features, first_number=1, model_id=photos.encoder.model_id))
    for known in (None, BOTH):
        gallery.calibration = known
        hits = gallery.search_embedding(query, modality="infrared")
        assert [hit.sighting.frames for hit in hits if hit.sighting] == [3, 3]
        for hit in hits:
            assert hit.sighting is not None
            assert {other.row.modality for other in hit.sighting.others} == {hit.row.modality}


def test_the_verdict_names_the_threshold_of_each_modality(photos: Photos, tmp_path: Path) -> None:
    query, features = at(0.85, 0.3)
    gallery = gallery_of(photos, tmp_path / "gallery", features, [INFRARED, VISIBLE], BOTH)
    hits = gallery.search_embedding(query, modality="infrared")
    verdict = gallery.judge(hits, modality="infrared")
    assert verdict.no_one_here is True
    assert verdict.thresholds == pytest.approx({VISIBLE: 0.4, INFRARED: 0.9})
    assert verdict.threshold == pytest.approx(0.4), "that of the first hit"
    expected = "thresholds 0.40 (visible) and 0.90 (infrared) for a false-match rate of 1 %"
    assert verdict_text(hits, verdict) == f"no one here: best 0.30 and 0.85 are below the {expected}"
    loose = gallery.judge(hits, modality="infrared", false_match_rate=0.5)
    assert loose.above == (True, True)
    assert verdict_text(hits, loose).startswith("2 of the 2 below at or above the thresholds 0.10 (visible) and")
    assert hits_text(hits).splitlines()[0].split() == [
        "similarity", "probability", "modality", "camera", "time", "frames", "id", "image",
    ]  # fmt: skip
    # An infrared hit above its threshold, and a visible one whose threshold is not known.
    gallery.calibration = calibration(INFRARED)
    one = gallery.judge(hits, modality="infrared", false_match_rate=0.5)
    assert one.no_one_here is False
    assert one.thresholds == pytest.approx({INFRARED: 0.1})
    assert verdict_text(hits, one).startswith("1 of the 2 below at or above the threshold 0.10 (infrared) for")


def test_nothing_is_ordered_without_rows() -> None:
    assert merged([], 5) == []
    assert merged([[], []], 5) == []
    assert with_probabilities([], BOTH, INFRARED, {}) == []
    assert order_of(None, INFRARED, []).note == ""
    assert order_of(BOTH, INFRARED, []).by == "probability"
