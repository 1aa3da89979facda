"""Calibration error and open-set rates, against slow twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclhd.answers.measures import expected_calibration_error, open_set, reliability


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 12))
def test_the_calibration_error_answer_by_answer(answers: list[tuple[float, bool]], bins: int) -> None:
    probability = np.array([one for one, _ in answers])
    correct = np.array([right for _, right in answers])
    error = 0.0
    for number in range(bins):
        inside = [
            (p, right)
            for p, right in answers
            if number == min(int(p * bins), bins - 1)
        ]  # fmt: skip
        if inside:
            stated = sum(p for p, _ in inside) / len(inside)
            true = sum(right for _, right in inside) / len(inside)
            error += len(inside) / len(answers) * abs(stated - true)
    assert expected_calibration_error(probability, correct, bins=bins) == pytest.approx(error)
    assert sum(one.count for one in reliability(probability, correct, bins=bins)) == len(answers)


def test_no_answer_has_no_error() -> None:
    assert np.isnan(expected_calibration_error(np.array([]), np.array([], dtype=bool)))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability(value: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        reliability(np.array([value]), np.array([True]))


def test_open_set_search_by_search() -> None:
    random = np.random.default_rng(4)
    absent, present, correct = random.random(30), random.random(50), random.random(50) < 0.7
    for threshold in (0.0, 0.3, 0.9, 2.0):
        found = open_set(absent, present, correct, threshold)
        assert found.false_alarm_rate == sum(one >= threshold for one in absent) / 30
        hits = [right for best, right in zip(present, correct, strict=True) if best >= threshold and right]
        assert found.identification_rate == len(hits) / 50
        assert found.closed_set_rate == correct.mean()
    no_one = open_set(absent[:0], present[:0], correct[:0], 0.5)
    assert np.isnan(no_one.false_alarm_rate)
    assert np.isnan(no_one.identification_rate)
