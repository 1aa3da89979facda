from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pclhd.clustering.transport import TransportPlan, default_dustbin, match_by_transport, transport_plan

Array = NDArray[np.float64]


def random_scores(rows: int, columns: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def random_centres(number: int, seed: int, width: int = 16) -> Array:
    return np.random.default_rng(seed).standard_normal((number, width))


def as_sparse(scores: Array, allowed: NDArray[np.bool_] | None = None) -> csr_matrix:
    """All pairs stored, zeros too, or the allowed ones."""
    rows, columns = np.nonzero(np.ones_like(scores) if allowed is None else allowed)
    starts = np.searchsorted(rows, np.arange(len(scores) + 1))
    return csr_matrix((scores[rows, columns], columns, starts), shape=scores.shape)


def slow_plan(scores: Array, dustbin: float, regularisation: float, rounds: int = 3000) -> Array:
    """Rows and columns are brought to their totals in turn, entry by entry, on logarithms; −inf is forbidden."""
    rows, columns = scores.shape
    whole = [[float(score) / regularisation for score in row] + [dustbin / regularisation] for row in scores]
    whole.append([dustbin / regularisation] * columns + [dustbin / regularisation + math.log(min(rows, columns))])
    row_totals, column_totals = [1.0] * rows + [columns], [1.0] * columns + [rows]

    def logarithm_of_sum(values: list[float]) -> float:
        largest = max(values)
        return largest + math.log(sum(math.exp(value - largest) for value in values))

    for _ in range(rounds):
        moved = 0.0
        for i in range(rows + 1):
            shift = math.log(row_totals[i]) - logarithm_of_sum(whole[i])
            whole[i] = [value + shift for value in whole[i]]
            moved = max(moved, abs(shift))
        for j in range(columns + 1):
            shift = math.log(column_totals[j]) - logarithm_of_sum([row[j] for row in whole])
            for row in whole:
                row[j] += shift
        if moved < 1e-13:
            break
    mass: Array = np.exp(np.array(whole))
    return mass


def exact(scores: csr_matrix, dustbin: float, regularisation: float) -> TransportPlan:
    return transport_plan(scores, dustbin=dustbin, regularisation=regularisation, iterations=20_000, tolerance=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    dustbin=st.floats(-2, 3),
    regularisation=st.floats(0.3, 2),
    seed=st.integers(0, 10_000),
)
def test_plan_like_plain_loops(rows: int, columns: int, dustbin: float, regularisation: float, seed: int) -> None:
    scores = random_scores(rows, columns, seed)
    found = exact(as_sparse(scores), dustbin, regularisation).mass.toarray()
    np.testing.assert_allclose(found, slow_plan(scores, dustbin, regularisation), atol=1e-9)


def test_forbidden_pairs_get_nothing_and_pairs_of_score_zero_are_not_forbidden() -> None:
    scores = random_scores(4, 5, 0)
    allowed = random_scores(4, 5, 1) > 0
    allowed[2], allowed[:, 1] = False, False  # no partner for row 2, none for column 1
    allowed[0, 0], scores[0, 0] = True, 0.0
    found = exact(as_sparse(scores, allowed), 0.5, 0.5).mass.toarray()
    np.testing.assert_allclose(found, slow_plan(np.where(allowed, scores, -np.inf), 0.5, 0.5), atol=1e-9)
    assert found[0, 0] > 0
    assert found[2, -1] == pytest.approx(1)
    assert found[-1, 1] == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    regularisation=st.sampled_from([0.05, 0.4, 2.0]),
    seed=st.integers(0, 10_000),
)
def test_totals_hold_and_the_stated_error_is_true(rows: int, columns: int, regularisation: float, seed: int) -> None:
    found = transport_plan(as_sparse(random_scores(rows, columns, seed)), dustbin=0.7, regularisation=regularisation)
    mass = found.mass.toarray()
    expected = np.append(np.ones(rows), columns)
    assert np.abs(mass.sum(axis=1) / expected - 1).max() == pytest.approx(found.error, abs=1e-9)
    assert found.error <= 1e-3 or found.iterations == 300
    np.testing.assert_allclose(mass.sum(axis=0), np.append(np.ones(columns), rows), rtol=1e-9)
    assert mass.min() >= 0


def test_stops_when_asked_and_early_when_done() -> None:
    scores = as_sparse(random_scores(8, 8, 3))
    once = transport_plan(scores, dustbin=0.7, regularisation=0.4, iterations=1)
    more = transport_plan(scores, dustbin=0.7, regularisation=0.4)
    assert once.iterations == 1
    assert 1 < more.iterations < 300
    assert more.error <= 1e-3 < once.error


def test_nothing_overflows_with_a_tiny_regularisation() -> None:
    scores = random_scores(6, 4, 4)
    found = transport_plan(as_sparse(scores), dustbin=-100.0, regularisation=1e-4)
    assert np.isfinite(found.mass.data).all()
    assert np.isfinite(found.error)


def test_the_dustbin_is_what_a_pair_must_exceed_whatever_the_counts() -> None:
    for number in (1, 2, 5, 60):
        for excess in (-0.2, 0.2):
            scores = np.full((number, number), -50.0)
            np.fill_diagonal(scores, 1.5 + excess)
            forward, backward = exact(as_sparse(scores), 1.5, 0.4).partners()
            expected = np.arange(number) if excess > 0 else np.full(number, -1)
            np.testing.assert_array_equal(forward, expected)
            np.testing.assert_array_equal(backward, expected)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"regularisation": 0.0}, "regularisation must be above 0, got 0"),
        ({"regularisation": math.nan}, "regularisation must be above 0, got nan"),
        ({"iterations": 0}, "iterations must be above 0, got 0"),
        ({"tolerance": -1.0}, "tolerance must be above 0, got -1"),
        ({"dustbin": math.inf}, "got dustbin inf"),
    ],
)
def test_wrong_parameters_are_refused(values: dict[str, float], named: str) -> None:
    parameters: dict[str, float] = {"dustbin": 1.0, "regularisation": 0.4, **values}
    with pytest.raises(ValueError, match=named):
        transport_plan(as_sparse(np.ones((2, 2))), **parameters)  # type: ignore[arg-type]


def test_scores_must_be_there_and_finite() -> None:
    with pytest.raises(ValueError, match=r"\(0, 3\)"):
        transport_plan(csr_matrix((0, 3)), dustbin=1.0, regularisation=0.4)
    with pytest.raises(ValueError, match="finite"):
        transport_plan(as_sparse(np.array([[1.0, math.nan]])), dustbin=1.0, regularisation=0.4)


def slow_relative_cosines(visible: Array, infrared: Array) -> Array:
    def directions(centres: Array) -> list[Array]:
        unit = [row / math.sqrt(row @ row) for row in centres]
        if min(len(visible), len(infrared)) == 1:
            return unit
        mean = sum(unit[1:], unit[0]) / len(unit)
        return [(row - mean) / math.sqrt((row - mean) @ (row - mean)) for row in unit]

    ours, theirs = directions(visible), directions(infrared)
    cosines = np.array([[a @ b for b in theirs] for a in ours])
    spread = cosines.std()
    return (cosines - cosines.mean()) / spread if spread > 1e-6 else np.zeros_like(cosines)


def slow_partners(mass: Array) -> list[int]:
    found = []
    for row in mass[:-1]:
        best = max(range(len(row)), key=lambda j: (row[j], -j))
        found.append(-1 if best == len(row) - 1 else best)
    return found


@settings(max_examples=15, deadline=None)
@given(visible=st.integers(1, 5), infrared=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_partners_like_plain_loops(visible: int, infrared: int, seed: int) -> None:
    a, b = random_centres(visible, seed, width=4), random_centres(infrared, seed + 1, width=4)
    scores = slow_relative_cosines(a, b)
    dustbin = min(2.0, 2 / 3 * max(median(row.max() for row in table) for table in (scores, scores.T)))
    mass = slow_plan(scores, dustbin, 0.4)
    # Where the two best of a row are almost equal, the tolerance decides.
    for table in (mass[:-1], mass.T[:-1]):
        ordered = np.sort(table, axis=1)
        assume((ordered[:, -1] - ordered[:, -2] >= 0.02).all())
    forward, backward = match_by_transport(a, b)
    assert forward.tolist() == slow_partners(mass)
    assert backward.tolist() == slow_partners(mass.T)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 30])
def test_identical_centres_find_each_other(number: int) -> None:
    centres = random_centres(number, 5, width=64)
    order = np.random.default_rng(6).permutation(number)
    forward, backward = match_by_transport(centres, 3.0 * centres[order])
    np.testing.assert_array_equal(forward, np.argsort(order))
    np.testing.assert_array_equal(backward, order)


@pytest.mark.parametrize("number", [2, 3, 10, 40])
def test_no_cluster_has_a_partner_when_all_are_equally_far(number: int) -> None:
    axes = np.eye(2 * number)
    forward, backward = match_by_transport(axes[:number], axes[number:])
    np.testing.assert_array_equal(forward, np.full(number, -1))
    np.testing.assert_array_equal(backward, np.full(number, -1))


@pytest.mark.parametrize(("visible_only", "infrared_only"), [(10, 10), (2, 25), (25, 2), (0, 15)])
def test_people_seen_by_one_kind_of_camera_stay_alone(visible_only: int, infrared_only: int) -> None:
    """Twelve people are seen by both. A modality gap shifts all infrared centres far from the visible ones."""
    generator = np.random.default_rng(7)
    people = np.eye(12 + visible_only + infrared_only)
    gap = generator.standard_normal(len(people))
    visible = people[: 12 + visible_only] + 0.05 * generator.standard_normal((12 + visible_only, len(people)))
    seen = np.append(np.arange(12), np.arange(12 + visible_only, len(people)))
    infrared = people[seen] + gap + 0.05 * generator.standard_normal((len(seen), len(people)))
    forward, backward = match_by_transport(visible, infrared)
    np.testing.assert_array_equal(forward, np.append(np.arange(12), np.full(visible_only, -1)))
    np.testing.assert_array_equal(backward, np.append(np.arange(12), np.full(infrared_only, -1)))


def test_one_cluster_among_many() -> None:
    many = random_centres(30, 8)
    forward, backward = match_by_transport(many, many[17:18] + 0.1)
    np.testing.assert_array_equal(backward, [17])
    np.testing.assert_array_equal(np.flatnonzero(forward == 0), [17])
    assert set(forward.tolist()) == {-1, 0}


def test_clusters_with_one_direction_have_no_partners() -> None:
    same = np.outer(np.arange(1.0, 5.0), np.ones(6))
    forward, backward = match_by_transport(same, same)
    np.testing.assert_array_equal(forward, np.full(4, -1))
    np.testing.assert_array_equal(backward, np.full(4, -1))


@settings(max_examples=15, deadline=None)
@given(visible=st.integers(1, 12), infrared=st.integers(1, 12), seed=st.integers(0, 10_000))
def test_the_order_of_the_clusters_does_not_matter(visible: int, infrared: int, seed: int) -> None:
    scores = random_scores(visible, infrared, seed)
    generator = np.random.default_rng(seed)
    rows, columns = generator.permutation(visible), generator.permutation(infrared)
    plain = exact(as_sparse(scores), 0.5, 0.5).mass.toarray()
    shuffled = exact(as_sparse(scores[rows][:, columns]), 0.5, 0.5).mass.toarray()
    np.testing.assert_allclose(
        shuffled, plain[np.append(rows, visible)][:, np.append(columns, infrared)], rtol=1e-6, atol=1e-12
    )


def test_neither_modality_is_preferred() -> None:
    scores = random_scores(7, 4, 9)
    one, other = exact(as_sparse(scores), 0.5, 0.5), exact(as_sparse(scores.T), 0.5, 0.5)
    np.testing.assert_allclose(one.mass.toarray(), other.mass.T.toarray(), rtol=1e-6, atol=1e-12)


def test_a_higher_dustbin_leaves_more_alone_and_a_common_shift_of_a_modality_none() -> None:
    people = random_centres(40, 10)
    visible = people + 0.5 * random_centres(40, 11)
    infrared = people[:30] + 0.5 * random_centres(30, 12)
    alone = [
        int((match_by_transport(visible, infrared, dustbin=dustbin)[0] < 0).sum()) for dustbin in (-2.0, 1.0, 2.0, 9.0)
    ]
    assert alone == sorted(alone)
    assert alone[0] < alone[2] < alone[3] == 40
    lengths = np.linalg.norm(infrared, axis=1, keepdims=True)
    plain = match_by_transport(visible, infrared / lengths)
    # Far along one more axis: all cosines shrink by the same factor, which dividing by the spread undoes.
    pad = np.zeros((40, 1))
    shifted = match_by_transport(np.hstack([visible, pad]), np.hstack([infrared / lengths, pad[:30] + 3.0]))
    for before, after in zip(plain, shifted, strict=True):
        np.testing.assert_array_equal(before, after)


def test_default_dustbin_counts_clusters_that_may_pair() -> None:
    scores = np.array([[3.0, -1.0, 0.0], [0.6, 0.3, 0.0], [0.0, 0.0, 0.0]])
    allowed = np.array([[True, True, False], [True, True, False], [False, False, False]])
    # Best of the rows 3 and 0.6, of the columns 3 and 0.3.
    assert default_dustbin(as_sparse(scores, allowed)) == pytest.approx(1.2)
    assert default_dustbin(as_sparse(scores.T, allowed.T)) == pytest.approx(1.2)
    assert default_dustbin(as_sparse(10 * scores, allowed)) == 2.0
    assert default_dustbin(csr_matrix((3, 3))) == 0.0


def test_all_pairs_as_candidates_are_all_pairs() -> None:
    a, b = random_centres(20, 13), random_centres(14, 14)
    for max_cost in (None, 0.8):
        every = match_by_transport(a, b, max_cost=max_cost)
        among = match_by_transport(a, b, candidates=20, max_cost=max_cost)
        np.testing.assert_array_equal(every[0], among[0])
        np.testing.assert_array_equal(every[1], among[1])
        assert (every[0] >= 0).any()
