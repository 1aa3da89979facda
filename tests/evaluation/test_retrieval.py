from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.data.records import ImageInfo, Modality
from pclhd.errors import UserError
from pclhd.evaluation import retrieval
from pclhd.evaluation.metrics import CmcOver, ExclusionRule, excluded_pairs, measure_ranking
from pclhd.evaluation.retrieval import RankedResults, rank_gallery, unit_length


def rank_slowly(
    queries: NDArray[np.float64], gallery: NDArray[np.float64], top_n: int, excluded: NDArray[np.bool_]
) -> list[list[int]]:
    """Grid vectors keep equal cosines equal in whole numbers, so the twin can order them without rounding."""
    ranked = []
    for q, query in enumerate(queries):

        def key(g: int, query: NDArray[np.float64] = query) -> tuple[float, int]:
            cosine = float(query @ gallery[g]) / float(np.linalg.norm(query) * np.linalg.norm(gallery[g]))
            return (round(1 - cosine, 5), g)

        seen = sorted((g for g in range(len(gallery)) if not excluded[q, g]), key=key)[:top_n]
        ranked.append(seen + [-1] * (min(top_n, len(gallery)) - len(seen)))
    return ranked


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    queries=st.integers(1, 5),
    gallery=st.integers(1, 12),
    top_n=st.integers(1, 14),
    share=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_rank_gallery__equals_the_loop(seed: int, queries: int, gallery: int, top_n: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    # Axis directions: many exact ties, and cosines of exactly -1, 0 and 1.
    directions = np.concatenate([np.eye(3), -np.eye(3)])
    asking, answering = directions[rng.integers(0, 6, queries)], directions[rng.integers(0, 6, gallery)]
    excluded = rng.random((queries, gallery)) < share
    ranked = rank_gallery(asking, answering, top_n=top_n, excluded=excluded)
    assert ranked.index.tolist() == rank_slowly(asking, answering, top_n, excluded)
    assert len(ranked) == queries


def test_rank_gallery__distance_is_one_minus_cosine() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.standard_normal((4, 8)), rng.standard_normal((9, 8))
    ranked = rank_gallery(queries, gallery, top_n=5)
    cosine = (queries @ gallery.T) / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(gallery, axis=1))
    np.testing.assert_allclose(ranked.distance, np.sort(1 - cosine, axis=1)[:, :5], atol=1e-6)
    np.testing.assert_array_equal(ranked.index, np.argsort(1 - cosine, axis=1)[:, :5])


def test_rank_gallery__does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    queries, gallery = rng.standard_normal((7, 5)), rng.standard_normal((11, 5))
    excluded = rng.random((7, 11)) < 0.3
    whole = rank_gallery(queries, gallery, top_n=4, excluded=excluded)
    monkeypatch.setattr(retrieval, "_BLOCK_ELEMENTS", 23)
    blocks = rank_gallery(queries, gallery, top_n=4, excluded=excluded)
    np.testing.assert_array_equal(blocks.index, whole.index)
    np.testing.assert_allclose(blocks.distance, whole.distance, atol=1e-6)


def test_rank_gallery__an_image_finds_itself_at_distance_zero_or_more() -> None:
    images = np.random.default_rng(2).standard_normal((50, 64))
    ranked = rank_gallery(images, images, top_n=1)
    np.testing.assert_array_equal(ranked.index[:, 0], np.arange(50))
    assert np.all(ranked.distance >= 0)
    np.testing.assert_allclose(ranked.distance, 0, atol=1e-6)


def test_rank_gallery__refuses_what_does_not_fit() -> None:
    one = np.ones((2, 3))
    with pytest.raises(ValueError, match="3 dimensions, the gallery 4"):
        rank_gallery(one, np.ones((2, 4)), top_n=1)
    with pytest.raises(ValueError, match="not 0"):
        rank_gallery(one, one, top_n=0)
    with pytest.raises(ValueError, match=r"not \(2, 2\)"):
        rank_gallery(one, one, top_n=1, excluded=np.zeros((1, 2), dtype=np.bool_))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_unit_length__refuses_a_row_without_direction(bad: float) -> None:
    with pytest.raises(ValueError, match="embedding 1 "):
        unit_length(np.array([[1.0, 2.0], [bad, 0.0]]))


def test_unit_length__refuses_a_single_vector() -> None:
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        unit_length(np.ones(3))


@pytest.mark.parametrize(
    ("index", "distance", "message"),
    [
        ([[0, 1]], [[0.2, 0.1]], "row 0 is not sorted"),
        ([[0, 1], [2, 1]], [[0.1, 0.2], [0.3, 0.1]], "row 1 is not sorted"),
        ([[0, 1]], [[0.1]], "shape"),
        ([[0, 1]], [[0.1, np.nan]], "NaN"),
        ([[0, -1]], [[0.1, 0.2]], "same positions"),
        ([[0, 1]], [[0.1, np.inf]], "same positions"),
        ([[0, -2]], [[0.1, np.inf]], "same positions"),
    ],
)
def test_ranked_results__refuses(index: list[list[int]], distance: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankedResults(np.array(index), np.array(distance))


def test_ranked_results__takes_equal_distances_and_empty_places() -> None:
    assert len(RankedResults(np.array([[3, 1, -1]]), np.array([[0.5, 0.5, np.inf]]))) == 1


def infos(identities: Sequence[int | None], modality: Modality = Modality.VISIBLE) -> tuple[ImageInfo, ...]:
    """An image per identity."""
    return tuple(
        ImageInfo(Path(f"{number}.png"), modality, number % 2, identity) for number, identity in enumerate(identities)
    )


def ranked(identities: Sequence[int | None] = (7, 8, 7, 9)) -> RankedResults:
    """Two queries of the people 7 and 9; the second sees two images only."""
    random = np.random.default_rng(0)
    queries, gallery = random.standard_normal((2, 5)), random.standard_normal((4, 5))
    excluded = np.array([[False] * 4, [True, False, True, False]])
    return rank_gallery(
        queries,
        gallery,
        top_n=4,
        excluded=excluded,
        queries=infos([7, 9], Modality.INFRARED),
        gallery=infos(identities),
    )


def test_hits_know_their_images() -> None:
    results = ranked()
    for query, hits in enumerate(results):
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        assert [hit.row for hit in hits] == [row for row in results.index[query] if row >= 0]
        for hit in hits:
            assert hit.path == Path(f"{hit.row}.png")
            assert hit.camera == hit.row % 2
            assert hit.similarity == 1 - results.distance[query, hit.rank - 1]
            assert hit.image is not None
            assert hit.correct == (hit.image.identity == (7, 9)[query])
    assert [len(hits) for hits in results] == [4, 2]


def test_correct_images() -> None:
    results, people = ranked(), (7, 8, 7, 9)
    assert results.correct is not None
    for query, identity in enumerate((7, 9)):
        expected = [row >= 0 and people[row] == identity for row in results.index[query]]
        assert results.correct[query].tolist() == expected
    unknown = ranked((7, None, 7, 9))
    assert unknown.correct is None
    assert [hit.correct for hit in unknown[0]] == [None] * 4


def test_ranked_results_as_json() -> None:
    results = ranked()
    entries = json.loads(json.dumps(results.to_dict()))
    assert [entry["query"]["path"] for entry in entries] == ["0.png", "1.png"]
    assert entries[1]["query"] == {"row": 1, "path": "1.png", "modality": "infrared", "camera": 1, "identity": 9}
    assert [hit["row"] for hit in entries[0]["hits"]] == results.index[0].tolist()
    assert entries[0]["hits"][0].keys() == {
        "rank",
        "row",
        "similarity",
        "path",
        "modality",
        "camera",
        "identity",
        "correct",
    }
    plain = rank_gallery(np.eye(3), np.eye(3), top_n=1)
    assert plain.to_dict()[2] == {"query": {"row": 2}, "hits": [{"rank": 1, "row": 2, "similarity": 1.0}]}


def test_ranked_results_as_a_table() -> None:
    pandas = pytest.importorskip("pandas")
    table = ranked().to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 6
    assert table["query_path"].tolist() == ["0.png"] * 4 + ["1.png"] * 2
    assert table["rank"].tolist() == [1, 2, 3, 4, 1, 2]


def test_one_description_per_image() -> None:
    with pytest.raises(ValueError, match="1 queries are described"):
        rank_gallery(np.eye(2), np.eye(2), top_n=1, queries=infos([1]))
    with pytest.raises(ValueError, match="of 1 described"):
        rank_gallery(np.eye(2), np.eye(2), top_n=2, gallery=infos([1]))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rule=st.sampled_from(list(ExclusionRule)),
    over=st.sampled_from(["identities", "images"]),
)
def test_metrics_of_ranked_results_are_those_of_the_distances(seed: int, rule: ExclusionRule, over: CmcOver) -> None:
    random = np.random.default_rng(seed)
    people, cameras = random.integers(0, 4, 12), random.integers(1, 4, 12)
    asking = tuple(
        ImageInfo(None, Modality.INFRARED, int(c), int(p)) for p, c in zip(people[:5], cameras, strict=False)
    )
    seen = tuple(
        ImageInfo(None, Modality.VISIBLE, int(c), int(p)) for p, c in zip(people[5:], cameras[5:], strict=True)
    )
    features = random.standard_normal((12, 6))
    excluded = excluded_pairs(rule, people[:5], people[5:], cameras[:5], cameras[5:])
    results = rank_gallery(features[:5], features[5:], top_n=7, excluded=excluded, queries=asking, gallery=seen)
    distance = -(unit_length(features[:5]) @ unit_length(features[5:]).T)
    try:
        expected = measure_ranking(distance, people[:5], people[5:], cameras[:5], cameras[5:], rule=rule, cmc_over=over)
    except UserError:
        with pytest.raises(UserError):
            results.metrics(rule=rule, cmc_over=over)
        return
    measured = results.metrics(rule=rule, cmc_over=over)
    assert measured.cmc.tolist() == expected.cmc.tolist()
    assert (measured.mAP, measured.mINP) == (expected.mAP, expected.mINP)


def test_a_list_that_was_cut_has_no_metrics() -> None:
    cut = rank_gallery(np.eye(3), np.eye(3), top_n=2, queries=infos([1, 2, 3]), gallery=infos([1, 2, 3]))
    with pytest.raises(ValueError, match="whole gallery"):
        cut.metrics()
    with pytest.raises(ValueError, match="identities"):
        rank_gallery(np.eye(3), np.eye(3), top_n=3).metrics()
