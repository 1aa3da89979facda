from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pclhd.report.compare.seeds import compare_seeds

values = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6)


@settings(max_examples=40, deadline=None)
@given(values)
def test_the_interval_is_that_of_a_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    first, other = (np.array(column) for column in zip(*pairs, strict=True))
    found = compare_seeds(dict(enumerate(first.tolist())), dict(enumerate(other.tolist())))
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    difference = other - first
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    reach = stats.t.ppf(0.975, len(difference) - 1) * error
    assert found.mean == pytest.approx(difference.mean(), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((difference.mean() - reach, difference.mean() + reach), abs=1e-9)
    assert found.distinguishable == (found.low > 0 or found.high < 0)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        seeds = random.normal(0, 3, 4)  # what a seed does to both alike
        first, other = seeds + random.normal(0, 1, 4), 0.5 + seeds + random.normal(0, 1, 4)
        found = compare_seeds(dict(enumerate(first.tolist())), dict(enumerate(other.tolist())))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.5 <= found.high
    assert 930 <= held <= 970


def test_no_seed_in_common() -> None:
    assert compare_seeds({}, {}) is None
    assert compare_seeds({0: 0.1}, {1: 0.2}) is None
    alone = compare_seeds({0: 0.25, 1: 0.3}, {0: 0.5})
    assert alone is not None
    assert (alone.mean, alone.low, alone.distinguishable) == (0.25, None, None)
