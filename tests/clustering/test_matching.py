from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.clustering import matching as matching_module
from pclhd.clustering.matching import Matching, MatchingMethod, match_by_costs, match_clusters, matching_costs

counts = st.integers(0, 5)
METHODS: list[MatchingMethod] = ["progressive", "mutual", "released_sysu", "released_regdb", "transport"]
BY_CANDIDATES: list[MatchingMethod] = ["progressive", "mutual", "transport"]


def assert_same(one: Matching, other: Matching) -> None:
    np.testing.assert_array_equal(one.visible_to_infrared, other.visible_to_infrared)
    np.testing.assert_array_equal(one.infrared_to_visible, other.infrared_to_visible)


def centres(number: int, seed: int, width: int = 4) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((number, width)).astype(np.float32)


def slow_costs(visible: NDArray[np.float32], infrared: NDArray[np.float32]) -> NDArray[np.float64]:
    costs = np.empty((len(visible), len(infrared)))
    for i, v in enumerate(visible.astype(np.float64)):
        for j, r in enumerate(infrared.astype(np.float64)):
            costs[i, j] = np.exp(-(v @ r) / (np.sqrt(v @ v) * np.sqrt(r @ r)))
    return costs


def slow_pairs(costs: NDArray[np.float64], allowed: NDArray[np.bool_]) -> dict[int, int]:
    """Of all one-to-one pairings along allowed pairs: as many pairs as possible, then the least total cost."""
    rows, columns = costs.shape
    for size in range(min(rows, columns), 0, -1):
        best: tuple[float, dict[int, int]] | None = None
        for chosen in combinations(range(rows), size):
            for partners in permutations(range(columns), size):
                pairs = dict(zip(chosen, partners, strict=True))
                if all(allowed[i, j] for i, j in pairs.items()):
                    total = sum(costs[i, j] for i, j in pairs.items())
                    if best is None or total < best[0]:
                        best = (total, pairs)
        if best is not None:
            return best[1]
    return {}


def slow_progressive(costs: NDArray[np.float64], max_cost: float) -> dict[int, int]:
    """Visible to infrared: rounds of one-to-one pairings, all infrared clusters free again in each."""
    allowed = costs <= max_cost
    partners: dict[int, int] = {}
    while True:
        left = [i for i in range(len(costs)) if i not in partners]
        found = slow_pairs(costs[left], allowed[left])
        if not found:
            return partners
        partners |= {left[i]: j for i, j in found.items()}


@settings(max_examples=60, deadline=None)
@given(visible=counts, infrared=counts, max_cost=st.one_of(st.none(), st.floats(0.3, 2.8)), seed=st.integers(0, 10_000))
def test_progressive_like_trying_all_pairings(visible: int, infrared: int, max_cost: float | None, seed: int) -> None:
    a, b = centres(visible, seed), centres(infrared, seed + 1)
    matching = match_clusters(a, b, method="progressive", max_cost=max_cost)
    costs = slow_costs(a, b)
    limit = np.inf if max_cost is None else max_cost
    forward, backward = slow_progressive(costs, limit), slow_progressive(costs.T, limit)
    assert matching.visible_to_infrared.tolist() == [forward.get(i, -1) for i in range(visible)]
    assert matching.infrared_to_visible.tolist() == [backward.get(j, -1) for j in range(infrared)]


@pytest.mark.parametrize(("visible", "infrared"), [(40, 25), (25, 25), (20, 25), (85, 25), (1, 30), (30, 1)])
def test_progressive_gives_everyone_a_partner(visible: int, infrared: int) -> None:
    matching = match_clusters(centres(visible, 0), centres(infrared, 1))
    assert (matching.visible_to_infrared >= 0).all()
    assert (matching.infrared_to_visible >= 0).all()
    shared = np.bincount(matching.visible_to_infrared, minlength=infrared)
    assert shared.max() - shared.min() <= 1  # rounds are one-to-one


@pytest.mark.parametrize(("visible", "infrared"), [(6, 4), (4, 6), (5, 5)])
def test_progressive_does_not_prefer_a_modality(visible: int, infrared: int) -> None:
    a, b = centres(visible, 2), centres(infrared, 3)
    one, other = match_clusters(a, b), match_clusters(b, a)
    np.testing.assert_array_equal(one.visible_to_infrared, other.infrared_to_visible)
    np.testing.assert_array_equal(one.infrared_to_visible, other.visible_to_infrared)


@settings(max_examples=30, deadline=None)
@given(visible=counts, infrared=counts, seed=st.integers(0, 10_000))
def test_mutual_like_its_definition(visible: int, infrared: int, seed: int) -> None:
    a, b = centres(visible, seed), centres(infrared, seed + 1)
    costs = slow_costs(a, b)
    pairs = {
        (i, j)
        for i in range(visible)
        for j in range(infrared)
        if costs[i, j] == costs[i].min() and costs[i, j] == costs[:, j].min()
    }
    found = match_clusters(a, b, method="mutual")
    assert {(i, j) for i, j in enumerate(found.visible_to_infrared.tolist()) if j >= 0} == pairs
    assert {(i, j) for j, i in enumerate(found.infrared_to_visible.tolist()) if i >= 0} == pairs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("visible", "infrared"), [(0, 0), (0, 3), (3, 0)])
def test_a_modality_without_clusters(method: MatchingMethod, visible: int, infrared: int) -> None:
    found = match_clusters(centres(visible, 0), centres(infrared, 1), method=method)
    np.testing.assert_array_equal(found.visible_to_infrared, np.full(visible, -1))
    np.testing.assert_array_equal(found.infrared_to_visible, np.full(infrared, -1))
    assert found.visible_to_infrared.dtype == found.infrared_to_visible.dtype == np.int64


def test_released_sysu_swaps_roles_with_more_infrared_clusters() -> None:
    few, many = centres(25, 0), centres(60, 1)
    expected = match_clusters(many, few, method="released_sysu")
    found = match_clusters(few, many, method="released_sysu")
    np.testing.assert_array_equal(found.infrared_to_visible, expected.visible_to_infrared)
    np.testing.assert_array_equal(found.visible_to_infrared, expected.infrared_to_visible)
    assert (found.visible_to_infrared >= 0).all()


def test_released_versions_leave_clusters_without_partner_where_progressive_does_not() -> None:
    many, few = centres(85, 0), centres(25, 1)
    missing = [np.sum(match_clusters(many, few, method=method).visible_to_infrared < 0) for method in METHODS]
    assert missing[0] == 0
    assert missing[2] == 85 - 3 * 25
    assert missing[3] == 85 - 2 * 25


@pytest.mark.parametrize("method", METHODS)
def test_no_pair_above_the_highest_cost(method: MatchingMethod) -> None:
    a, b = centres(40, 4), centres(25, 5)
    costs = matching_costs(a, b)
    free = match_clusters(a, b, method=method)
    strict = match_clusters(a, b, method=method, max_cost=0.4)

    def spent(matching: Matching) -> NDArray[np.float64]:
        rows = np.flatnonzero(matching.visible_to_infrared >= 0)
        columns = np.flatnonzero(matching.infrared_to_visible >= 0)
        forward = costs[rows, matching.visible_to_infrared[rows]]
        return np.concatenate([forward, costs[matching.infrared_to_visible[columns], columns]])

    assert spent(free).max() > 0.4
    assert len(spent(strict)) > 0
    assert spent(strict).max() <= 0.4


def test_the_least_sum_of_exponentials_not_of_cosines() -> None:
    differing = 0
    for seed in range(50):
        a, b = centres(4, seed), centres(4, seed + 1000)
        costs = slow_costs(a, b)
        everything = np.ones_like(costs, dtype=bool)
        by_cost, by_cosine = slow_pairs(costs, everything), slow_pairs(np.log(costs), everything)
        if by_cost != by_cosine:
            differing += 1
            found = match_clusters(a, b).visible_to_infrared
            assert dict(enumerate(found.tolist())) == by_cost
    assert differing > 0


def test_costs_ignore_length_and_a_zero_centre_has_cosine_zero() -> None:
    a, b = centres(3, 6), centres(2, 7)
    np.testing.assert_allclose(matching_costs(5 * a, 0.1 * b), slow_costs(a, b), rtol=1e-6)
    np.testing.assert_array_equal(matching_costs(np.zeros((1, 4)), b), np.ones((1, 2)))


@settings(max_examples=20, deadline=None)
@given(few=st.integers(1, 25), share=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 10_000))
def test_progressive_like_released_sysu_where_its_second_round_is_its_last(few: int, share: float, seed: int) -> None:
    """From as many clusters up to just below twice as many, in either modality."""
    many = few + int(share * few)
    a, b = centres(many, seed), centres(few, seed + 1)
    assert_same(match_clusters(a, b), match_clusters(a, b, method="released_sysu"))
    assert_same(match_clusters(b, a), match_clusters(b, a, method="released_sysu"))


@settings(max_examples=30, deadline=None)
@given(
    visible=st.integers(0, 12),
    infrared=st.integers(0, 12),
    max_cost=st.one_of(st.none(), st.floats(0.3, 2.8)),
    seed=st.integers(0, 10_000),
)
@pytest.mark.parametrize("method", BY_CANDIDATES)
def test_with_all_pairs_as_candidates_the_same_answer(
    method: MatchingMethod, visible: int, infrared: int, max_cost: float | None, seed: int
) -> None:
    a, b = centres(visible, seed, width=8), centres(infrared, seed + 1, width=8)
    everything = match_clusters(a, b, method=method, max_cost=max_cost)
    among = match_clusters(a, b, method=method, max_cost=max_cost, candidates=12)
    assert_same(everything, among)


@pytest.mark.parametrize(("visible", "infrared"), [(150, 40), (40, 150), (60, 60), (3, 90)])
@pytest.mark.parametrize("candidates", [1, 5])
def test_progressive_among_few_candidates_gives_everyone_one_of_them(
    visible: int, infrared: int, candidates: int
) -> None:
    a, b = centres(visible, 0), centres(infrared, 1)
    found = match_clusters(a, b, candidates=candidates)
    costs = slow_costs(a, b)
    near = np.argsort(np.argsort(costs, axis=1), axis=1) < candidates
    near |= np.argsort(np.argsort(costs, axis=0), axis=0) < candidates
    assert near[np.arange(visible), found.visible_to_infrared].all()
    assert near[found.infrared_to_visible, np.arange(infrared)].all()


def test_mutual_needs_one_candidate() -> None:
    a, b = centres(60, 2), centres(45, 3)
    for max_cost in (None, 0.42):
        everything = match_clusters(a, b, method="mutual", max_cost=max_cost)
        assert_same(everything, match_clusters(a, b, method="mutual", max_cost=max_cost, candidates=1))


@pytest.mark.parametrize("method", BY_CANDIDATES)
def test_beyond_the_limit_no_table_of_all_pairs_is_made(
    method: MatchingMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("all pairs were asked for")

    people = centres(30, 4, width=32)
    visible, infrared = people + 0.1 * centres(30, 5, width=32), people[::-1] + 0.1 * centres(30, 6, width=32)
    monkeypatch.setattr(matching_module, "matching_costs", refuse)
    monkeypatch.setattr(matching_module, "DENSE_PAIRS", 30 * 30 - 1)
    monkeypatch.setattr(matching_module, "CANDIDATES", 3)
    found = match_clusters(visible, infrared, method=method)
    np.testing.assert_array_equal(found.visible_to_infrared, np.arange(30)[::-1])
    np.testing.assert_array_equal(found.infrared_to_visible, np.arange(30)[::-1])


def test_up_to_the_limit_all_pairs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = centres(20, 7), centres(15, 8)
    free = match_clusters(a, b)
    monkeypatch.setattr(matching_module, "CANDIDATES", 1)
    monkeypatch.setattr(matching_module, "DENSE_PAIRS", 300)
    assert_same(match_clusters(a, b), free)
    monkeypatch.setattr(matching_module, "DENSE_PAIRS", 299)
    few = match_clusters(a, b)
    assert (few.visible_to_infrared != free.visible_to_infrared).any()
    assert_same(match_clusters(a, b, candidates=15), free)


def test_released_methods_look_at_all_pairs_whatever_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = centres(20, 9), centres(15, 10)
    for method in METHODS[2:4]:
        free = match_clusters(a, b, method=method)
        with monkeypatch.context() as patched:
            patched.setattr(matching_module, "DENSE_PAIRS", 1)
            assert_same(match_clusters(a, b, method=method), free)


def test_transport_uses_its_parameters() -> None:
    a, b = centres(40, 11), centres(30, 12)
    plain = match_clusters(a, b, method="transport").visible_to_infrared
    assert 0 < (plain >= 0).sum() < 40
    assert (match_clusters(a, b, method="transport", dustbin=9.0).visible_to_infrared < 0).all()
    assert (match_clusters(a, b, method="transport", regularisation=0.05).visible_to_infrared != plain).any()


def test_wrong_arguments_are_refused() -> None:
    good = centres(3, 0)
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        match_clusters(good, good, candidates=0)
    with pytest.raises(ValueError, match="released_sysu compares all pairs, so candidates must be None, got 5"):
        match_clusters(good, good, method="released_sysu", candidates=5)
    with pytest.raises(ValueError, match="regularisation must be above 0, got 0"):
        match_clusters(good, good, method="transport", regularisation=0)
    with pytest.raises(ValueError, match="'hungarian'"):
        match_clusters(good, good, method="hungarian")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(3, 2\)"):
        match_clusters(good, good[:, :2])
    bad = good.copy()
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match="infrared centres must be finite, but row 1"):
        match_clusters(good, bad)


@settings(max_examples=30, deadline=None)
@given(visible=counts, infrared=counts, max_cost=st.one_of(st.none(), st.floats(0.0, 9.0)), seed=st.integers(0, 10_000))
def test_costs_found_elsewhere_are_matched_alike(
    visible: int, infrared: int, max_cost: float | None, seed: int
) -> None:
    costs = np.random.default_rng(seed).uniform(0, 9, (visible, infrared))
    found = match_by_costs(costs, max_cost=max_cost)
    limit = np.inf if max_cost is None else max_cost
    forward, backward = slow_progressive(costs, limit), slow_progressive(costs.T, limit)
    assert found.visible_to_infrared.tolist() == [forward.get(i, -1) for i in range(visible)]
    assert found.infrared_to_visible.tolist() == [backward.get(j, -1) for j in range(infrared)]


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [-0.1]])
def test_invalid_costs_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"finite and at least 0, got shape \(1, 1\)"):
        match_by_costs(np.array([bad]))
    with pytest.raises(ValueError, match=r"got shape \(1,\)"):
        match_by_costs(np.array([1.0]))
