"""What a calibration says: probabilities, priors, thresholds, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pclhd.answers.calibration import Calibration, percent
from pclhd.errors import ArgumentError, UserError

DIRECTION = {
    "query": "infrared",
    "gallery": "visible",
    "method": "logistic",
    "log_loss": {"logistic": 0.1},
    "queries": 100,
    "same_pairs": 300,
    "different_pairs": 9700,
    "same_per_query": 3.0,
    "similarity": [-0.5, 0.0, 0.5],
    "log_likelihood_ratio": [-4.0, 0.0, 6.0],
    "sizes": [1, 100],
    "rates": [0.01, 0.1],
    "thresholds": [[0.2, 0.1], [0.6, 0.4]],
}


def calibration(**changed: object) -> Calibration:
    return Calibration.model_validate(
        {"model_id": "a" * 64, "source": "pseudo labels", "directions": [{**DIRECTION, **changed}]}
    )


def test_bayes_by_hand() -> None:
    known = calibration()
    # Odds 1:99 before; a ratio of e^3 half way between two knots.
    expected = np.exp(3) / 99 / (1 + np.exp(3) / 99)
    assert known.probability(0.25, "infrared", "visible", 0.01) == pytest.approx(expected)
    assert known.probability([[0.0]], "infrared", "visible", 0.2) == pytest.approx(np.array([[0.2]]))
    # Beyond the knots nothing is claimed that was not seen.
    assert known.probability(1.0, "infrared", "visible", 0.5) == known.probability(0.5, "infrared", "visible", 0.5)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 0.999))
def test_more_similar_is_never_less_probable(first: float, second: float, prior: float) -> None:
    low, high = calibration().probability(sorted((first, second)), "infrared", "visible", prior)
    assert 0 < low <= high < 1


def test_the_prior_falls_with_the_gallery_and_stays_at_most_a_half() -> None:
    known = calibration()
    assert known.prior("infrared", "visible", 300) == pytest.approx(0.01)
    assert known.prior("infrared", "visible", 1) == 0.5
    with pytest.raises(ValueError, match="at least 1"):
        known.prior("infrared", "visible", 0)


def test_one_prior_for_the_modalities_of_a_gallery() -> None:
    other = {**DIRECTION, "gallery": "infrared", "same_per_query": 7.0}
    known = Calibration.model_validate({"model_id": "m", "source": "pseudo labels", "directions": [DIRECTION, other]})
    assert known.prior_among("infrared", {"visible": 300, "infrared": 200}) == pytest.approx((3 + 7) / 500)
    assert known.prior_among("infrared", {"visible": 300, "infrared": 0}) == known.prior("infrared", "visible", 300)
    assert known.prior_among("infrared", {"infrared": 9}) == 0.5
    assert (known.covers("infrared", "visible"), known.covers("visible", "infrared")) == (True, False)
    with pytest.raises(ValueError, match="no gallery image"):
        known.prior_among("infrared", {"visible": 0})
    with pytest.raises(UserError, match="no calibration for visible queries"):
        known.prior_among("visible", {"visible": 5})


def test_thresholds_between_and_beyond_what_was_measured() -> None:
    known = calibration()

    def at(rate: float, size: int) -> float:
        return known.threshold(rate, "infrared", "visible", gallery_size=size)

    assert at(0.01, 1) == pytest.approx(0.2)
    assert at(0.1, 100) == pytest.approx(0.4)
    assert at(0.01, 10) == pytest.approx(0.4)  # half way between 1 and 100 in factors
    assert at(0.1, 10_000) == pytest.approx(0.7)  # as much again for another factor of 100
    assert at(0.01, 10**9) == 1.0
    for rate in (0.005, 0.2, float("nan")):
        with pytest.raises(ArgumentError, match=r"expected 0\.01 to 0\.1, as the calibration has 100 queries"):
            at(rate, 1)


def test_what_it_cannot_say() -> None:
    known = calibration()
    with pytest.raises(UserError, match="no calibration for visible queries among infrared images"):
        known.prior("visible", "infrared", 10)
    for prior in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match="above 0 and below 1"):
            known.probability(0.1, "infrared", "visible", prior)
    known.require_model("a" * 64)
    with pytest.raises(UserError, match="another encoder"):
        known.require_model("b" * 64)


@pytest.mark.parametrize(
    "changed",
    [
        {"similarity": [0.0, 0.0, 0.5]},
        {"similarity": [0.0, 0.5]},
        {"log_likelihood_ratio": [0.0, -1.0, 2.0]},
        {"log_likelihood_ratio": [0.0, float("nan"), 2.0]},
        {"thresholds": [[0.2, 0.1]]},
        {"thresholds": [[0.2], [0.1]]},
        {"rates": [0.0, 0.1]},
        {"same_per_query": 0.0},
        {"query": "thermal"},
    ],
)
def test_impossible_records_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        calibration(**changed)


def test_percent() -> None:
    assert [percent(value) for value in (0.0, 0.004, 0.126, 0.99, 0.999)] == ["<1 %", "<1 %", "13 %", "99 %", ">99 %"]


def of_rates(*rates: float) -> Calibration:
    direction = {**DIRECTION, "rates": list(rates), "thresholds": [[0.2] * len(rates), [0.6] * len(rates)]}
    return Calibration.model_validate({"model_id": "m", "source": "labelled images", "directions": [direction]})


@pytest.mark.parametrize(
    ("rates", "usual"), [((0.001, 0.5), 0.01), ((0.05, 0.5), 0.05), ((0.0001, 0.005), 0.005), ((0.01, 0.1), 0.01)]
)
def test_the_usual_rate_is_one_that_few_queries_can_measure(rates: tuple[float, float], usual: float) -> None:
    calibration = of_rates(*rates)
    assert calibration.usual_rate("infrared", "visible") == usual
    assert calibration.threshold(usual, "infrared", "visible") == pytest.approx(0.2)
