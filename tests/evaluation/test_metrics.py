from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.errors import UserError
from pclhd.evaluation import metrics
from pclhd.evaluation.metrics import CmcOver, ExclusionRule, Metrics, RankingMeter, excluded_pairs, measure_ranking

Case = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

RULES = list(ExclusionRule)
KINDS: list[CmcOver] = ["identities", "images"]


# --- the slow twin: one query at a time, one list at a time, straight from the definitions


def is_excluded(rule: ExclusionRule, query: tuple[int, int], image: tuple[int, int]) -> bool:
    (query_id, query_camera), (image_id, image_camera) = query, image
    if rule is ExclusionRule.SYSU:
        return query_camera == 3 and image_camera == 2
    if rule is ExclusionRule.SAME_CAMERA_SAME_IDENTITY:
        return query_id == image_id and query_camera == image_camera
    return False


def measure_slowly(case: Case, rule: ExclusionRule, cmc_over: CmcOver, max_rank: int) -> Metrics | None:
    distance, query_ids, gallery_ids, query_cameras, gallery_cameras = case
    aps, inps, first_positions, most_identities = [], [], [], 0
    for q, query in enumerate(zip(query_ids.tolist(), query_cameras.tolist(), strict=True)):
        gallery = list(zip(gallery_ids.tolist(), gallery_cameras.tolist(), strict=True))
        left = [g for g in range(len(gallery)) if not is_excluded(rule, query, gallery[g])]
        left.sort(key=lambda g: (distance[q, g], g))
        ranked = [gallery[g][0] for g in left]
        distinct = list(dict.fromkeys(ranked))
        most_identities = max(most_identities, len(distinct))
        places = [place for place, identity in enumerate(ranked, start=1) if identity == query[0]]
        if not places:
            aps.append(math.nan)
            inps.append(math.nan)
            continue
        aps.append(sum(hits / place for hits, place in enumerate(places, start=1)) / len(places))
        inps.append(len(places) / places[-1])
        first_positions.append(1 + (distinct if cmc_over == "identities" else ranked).index(query[0]))
    if not first_positions:
        return None
    length = min(max_rank, len(gallery_ids))
    if cmc_over == "identities":
        length = min(length, most_identities)
    return Metrics(
        cmc=np.array([np.mean([place <= k for place in first_positions]) for k in range(1, length + 1)]),
        mAP=float(np.nanmean(aps)),
        mINP=float(np.nanmean(inps)),
        valid=~np.isnan(aps),
        per_query_ap=np.array(aps),
        per_query_inp=np.array(inps),
    )


def measure(case: Case, rule: ExclusionRule, cmc_over: CmcOver, max_rank: int = 20) -> Metrics:
    return measure_ranking(*case, rule=rule, cmc_over=cmc_over, max_rank=max_rank)


def assert_same(fast: Metrics, slow: Metrics) -> None:
    np.testing.assert_array_equal(fast.valid, slow.valid)
    np.testing.assert_allclose(fast.per_query_ap, slow.per_query_ap, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.per_query_inp, slow.per_query_inp, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.cmc, slow.cmc, rtol=0, atol=1e-12)
    assert fast.mAP == pytest.approx(slow.mAP, abs=1e-12)
    assert fast.mINP == pytest.approx(slow.mINP, abs=1e-12)


def random_case(
    seed: int, queries: int, gallery: int, people: int, levels: int | None, dtype: type[np.floating[Any]] = np.float64
) -> Case:
    """With `levels`, distances are whole numbers below it: the fewer, the more ties."""
    rng = np.random.default_rng(seed)
    shape = (queries, gallery)
    distance = rng.random(shape) if levels is None else rng.integers(0, levels, shape)
    return (
        distance.astype(dtype),
        rng.integers(0, people + 1, queries),
        rng.integers(0, people, gallery),
        rng.integers(1, 7, queries),
        rng.integers(1, 7, gallery),
    )


cases = st.builds(
    random_case,
    seed=st.integers(0, 2**31),
    queries=st.integers(1, 9),
    gallery=st.integers(1, 30),
    people=st.integers(1, 8),
    levels=st.sampled_from([None, 1, 2, 5]),
    dtype=st.sampled_from([np.float32, np.float64]),
)


@settings(max_examples=200, deadline=None)
@given(
    case=cases,
    rule=st.sampled_from(RULES),
    cmc_over=st.sampled_from(KINDS),
    max_rank=st.sampled_from([1, 3, 20]),
    few_ties=st.sampled_from([0, 1, 3, 16]),
)
def test_measure_ranking__equals_the_loop_over_queries(
    case: Case, rule: ExclusionRule, cmc_over: CmcOver, max_rank: int, few_ties: int
) -> None:
    slow = measure_slowly(case, rule, cmc_over, max_rank)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_FEW_TIES", few_ties)
        compare(case, rule, cmc_over, max_rank, slow)


def compare(case: Case, rule: ExclusionRule, cmc_over: CmcOver, max_rank: int, slow: Metrics | None) -> None:
    if slow is None:
        with pytest.raises(UserError, match="none of the"):
            measure(case, rule, cmc_over, max_rank)
    else:
        assert_same(measure(case, rule, cmc_over, max_rank), slow)


@settings(max_examples=40, deadline=None)
@given(case=cases, rule=st.sampled_from(RULES), cmc_over=st.sampled_from(KINDS), seed=st.integers(0, 1000))
def test_measure_ranking__does_not_depend_on_the_order_of_queries(
    case: Case, rule: ExclusionRule, cmc_over: CmcOver, seed: int
) -> None:
    assume(measure_slowly(case, rule, cmc_over, 20) is not None)
    distance, query_ids, gallery_ids, query_cameras, gallery_cameras = case
    order = np.random.default_rng(seed).permutation(len(query_ids))
    straight = measure(case, rule, cmc_over)
    shuffled = measure(
        (distance[order], query_ids[order], gallery_ids, query_cameras[order], gallery_cameras), rule, cmc_over
    )
    np.testing.assert_array_equal(shuffled.per_query_ap, straight.per_query_ap[order])
    np.testing.assert_allclose(shuffled.cmc, straight.cmc, rtol=0, atol=1e-15)


@settings(max_examples=40, deadline=None)
@given(
    case=cases, rule=st.sampled_from(RULES), cmc_over=st.sampled_from(KINDS), nearer=st.sampled_from([0.1, 1.0, 9.0])
)
def test_measure_ranking__bringing_correct_images_nearer_never_hurts(
    case: Case, rule: ExclusionRule, cmc_over: CmcOver, nearer: float
) -> None:
    assume(measure_slowly(case, rule, cmc_over, 20) is not None)
    distance, query_ids, gallery_ids, *_ = case
    before = measure(case, rule, cmc_over)
    correct = query_ids[:, None] == gallery_ids[None, :]
    after = measure((distance - nearer * correct, *case[1:]), rule, cmc_over)
    assert np.all(np.diff(after.cmc) >= 0)
    assert np.all(after.cmc >= before.cmc)
    assert np.all(after.per_query_ap[after.valid] >= before.per_query_ap[before.valid])
    assert np.all(after.per_query_inp[after.valid] >= before.per_query_inp[before.valid])
    if nearer > 5:
        # All distances are below five, so every correct image now comes before every wrong one.
        np.testing.assert_allclose([after.cmc[0], after.mAP, after.mINP], 1)


@pytest.mark.parametrize("block", [1, 40, 97, 1000])
@pytest.mark.parametrize("levels", [None, 3])
def test_measure_ranking__does_not_depend_on_the_block(
    block: int, levels: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = random_case(3, 50, 40, 7, levels)
    whole = measure(case, ExclusionRule.SYSU, "identities")
    monkeypatch.setattr(metrics, "_MOST_BLOCK_ELEMENTS", block)
    assert_same(measure(case, ExclusionRule.SYSU, "identities"), whole)


@pytest.mark.parametrize("gallery", [1, 100, 3_000, 1_000_000, 50_000_000])
def test_queries_per_block__bounds_memory_but_always_goes_on(gallery: int) -> None:
    queries = metrics._queries_per_block(gallery)
    assert queries >= 1
    assert queries == 1 or queries * gallery <= metrics._MOST_BLOCK_ELEMENTS


def test_measure_ranking__known_by_hand() -> None:
    # Ranked: B, B, A, C, A. The correct images are at 3 and 5; over identities A is second.
    distance = np.array([[0.9, 0.1, 0.5, 0.2, 0.7]])
    gallery_ids = np.array([1, 2, 1, 2, 3])
    by_image = measure_ranking(distance, [1], gallery_ids, rule=ExclusionRule.NONE, cmc_over="images")
    by_identity = measure_ranking(distance, [1], gallery_ids, rule=ExclusionRule.NONE, cmc_over="identities")
    assert by_image.cmc.tolist() == [0, 0, 1, 1, 1]
    assert by_identity.cmc.tolist() == [0, 1, 1]
    for result in (by_image, by_identity):
        assert result.mAP == pytest.approx((1 / 3 + 2 / 5) / 2)
        assert result.mINP == pytest.approx(2 / 5)


def test_measure_ranking__equal_distances_go_by_gallery_index() -> None:
    distance = np.zeros((3, 4))
    result = measure_ranking(distance, [7, 8, 9], [9, 8, 7, 8], rule=ExclusionRule.NONE, cmc_over="images")
    np.testing.assert_allclose(result.per_query_ap, [1 / 3, (1 / 2 + 2 / 4) / 2, 1])
    over_identities = measure_ranking(distance, [7, 8, 9], [9, 8, 7, 8], rule=ExclusionRule.NONE, cmc_over="identities")
    np.testing.assert_allclose(over_identities.cmc, [1 / 3, 2 / 3, 1])


def test_measure_ranking__rows_of_different_length_do_not_stop_it() -> None:
    """The released code fails when queries keep different numbers of identities, as they do here."""
    distance = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    result = measure_ranking(
        distance, [3, 3], [1, 2, 3], [3, 6], [2, 1, 1], rule=ExclusionRule.SYSU, cmc_over="identities"
    )
    assert result.cmc.tolist() == [0, 0.5, 1]


def test_measure_ranking__single_identity_and_single_image() -> None:
    result = measure_ranking(np.array([[0.4]]), [5], [5], rule=ExclusionRule.NONE, cmc_over="identities")
    assert (result.cmc.tolist(), result.mAP, result.mINP) == ([1.0], 1.0, 1.0)


def test_measure_ranking__invalid_queries_count_nowhere() -> None:
    distance = np.array([[0.1, 0.2], [0.1, 0.2]])
    result = measure_ranking(distance, [1, 99], [1, 2], rule=ExclusionRule.NONE, cmc_over="images")
    assert result.valid.tolist() == [True, False]
    assert result.cmc.tolist() == [1, 1]
    assert result.mAP == 1
    assert np.isnan(result.per_query_ap[1])
    assert np.isnan(result.per_query_inp[1])


def test_measure_ranking__no_valid_query_says_what_took_the_matches() -> None:
    distance = np.zeros((3, 2))
    with pytest.raises(UserError) as caught:
        measure_ranking(distance, [1, 1, 50], [1, 2], [3, 3, 3], [2, 2], rule=ExclusionRule.SYSU, cmc_over="identities")
    message = str(caught.value)
    assert "none of the 3 queries" in message
    assert "1 have no gallery image of their identity" in message
    assert "the exclusion rule 'sysu' removes all correct images of 2" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_measure_ranking__refuses_a_distance_that_is_not_finite(bad: float) -> None:
    distance = np.array([[0.1, 0.2], [0.3, bad]])
    with pytest.raises(ValueError, match="NaN or infinite"):
        measure_ranking(distance, [1, 2], [1, 2], rule=ExclusionRule.NONE, cmc_over="images")


def test_measure_ranking__leaves_the_distance_as_it_was() -> None:
    case = random_case(1, 6, 9, 3, None)
    for distance in (case[0], np.asfortranarray(case[0])):
        before = distance.copy()
        measure((distance, *case[1:]), ExclusionRule.SAME_CAMERA_SAME_IDENTITY, "identities")
        np.testing.assert_array_equal(distance, before)


def test_measure_ranking__takes_whole_numbers() -> None:
    result = measure_ranking(np.array([[2, 1]]), [1], [1, 2], rule=ExclusionRule.NONE, cmc_over="images")
    assert result.mAP == 0.5


def test_measure_ranking__refuses_what_does_not_fit() -> None:
    plain: dict[str, Any] = {"rule": ExclusionRule.NONE, "cmc_over": "images"}
    with pytest.raises(ValueError, match=r"\(1, 2\), but there are 1 queries and 3"):
        measure_ranking(np.zeros((1, 2)), [1], [1, 2, 3], **plain)
    with pytest.raises(ValueError, match="gallery is empty"):
        measure_ranking(np.zeros((1, 0)), [1], [], **plain)
    with pytest.raises(ValueError, match="no queries"):
        measure_ranking(np.zeros((0, 1)), [], [1], **plain)
    with pytest.raises(ValueError, match="row of integers, not float64"):
        measure_ranking(np.zeros((1, 1)), [1.5], [1], **plain)
    with pytest.raises(ValueError, match="not 'people'"):
        measure_ranking(np.zeros((1, 1)), [1], [1], rule=ExclusionRule.NONE, cmc_over="people")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not 0"):
        measure_ranking(np.zeros((1, 1)), [1], [1], max_rank=0, **plain)
    with pytest.raises(ValueError, match="needs gallery cameras"):
        measure_ranking(np.zeros((1, 1)), [1], [1], [1], rule=ExclusionRule.SYSU, cmc_over="images")
    with pytest.raises(ValueError, match="needs query cameras"):
        measure_ranking(np.zeros((1, 1)), [1], [1], None, [1], rule=ExclusionRule.SYSU, cmc_over="images")
    with pytest.raises(ValueError, match="1 query identities but 2 query cameras"):
        measure_ranking(np.zeros((1, 1)), [1], [1], [1, 2], [1], rule=ExclusionRule.SYSU, cmc_over="images")


def test_ranking_meter__portions_give_the_same_as_the_whole() -> None:
    case = random_case(5, 23, 31, 6, 4)
    distance, query_ids, gallery_ids, query_cameras, gallery_cameras = case
    meter = RankingMeter(gallery_ids, gallery_cameras, rule=ExclusionRule.SYSU, cmc_over="identities")
    for rows in (slice(0, 1), slice(1, 15), slice(15, 23)):
        meter.add(distance[rows], query_ids[rows], query_cameras[rows])
    assert_same(meter.result(), measure(case, ExclusionRule.SYSU, "identities"))


@pytest.mark.parametrize("rule", RULES)
def test_excluded_pairs__equals_the_rule_in_words(rule: ExclusionRule) -> None:
    _, query_ids, gallery_ids, query_cameras, gallery_cameras = random_case(2, 20, 25, 3, None)
    found = excluded_pairs(rule, query_ids, gallery_ids, query_cameras, gallery_cameras)
    queries = list(zip(query_ids.tolist(), query_cameras.tolist(), strict=True))
    gallery = list(zip(gallery_ids.tolist(), gallery_cameras.tolist(), strict=True))
    assert found.tolist() == [[is_excluded(rule, q, g) for g in gallery] for q in queries]
    assert found.any() == rule.needs_cameras


def test_metrics_rank__goes_on_after_the_end_of_a_short_curve() -> None:
    result = measure_ranking(np.array([[0.2, 0.1]]), [1], [1, 2], rule=ExclusionRule.NONE, cmc_over="images")
    assert [result.rank(k) for k in (1, 2, 3, 20)] == [0, 1, 1, 1]
    with pytest.raises(ValueError, match="not 0"):
        result.rank(0)
