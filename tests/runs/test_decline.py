from __future__ import annotations

import pytest

from pclhd.runs.decline import decline_warning
from pclhd.runs.records import ClusterRecord, EpochRecord


def epoch(number: int, noise: float = 0.2, **criteria: float) -> EpochRecord:
    part = ClusterRecord(clusters=5, noise=noise)
    return EpochRecord(epoch=number, stage=1, criteria=criteria, visible=part, infrared=part)


START = epoch(0, silhouette=0.5, cycle=0.6)


@pytest.mark.parametrize(
    ("last", "signs"),
    [
        (epoch(1, silhouette=0.7, cycle=0.8, stability=0.9), 0),
        (epoch(1, silhouette=0.49, cycle=0.59, stability=0.9), 0),
        (epoch(1, silhouette=0.3, cycle=0.8, stability=0.9), 1),
        (epoch(1, silhouette=0.3, cycle=0.3, stability=0.9), 2),
        (epoch(1, 0.5, silhouette=0.6, cycle=0.8, stability=0.2), 2),
        (epoch(1, 0.5, silhouette=0.3, cycle=0.2, stability=0.2), 4),
    ],
)
def test_two_signs_make_a_warning(last: EpochRecord, signs: int) -> None:
    middle = epoch(1, silhouette=-1.0, cycle=0.0)
    warning = decline_warning([START, middle, last])
    assert (warning is not None) == (signs >= 2)
    if warning is not None:
        words = ("silhouette fell", "cycle fell", "noise rose", "stability is only")
        assert sum(word in warning for word in words) == signs
        assert "\n" not in warning


def test_nothing_to_compare() -> None:
    assert decline_warning([]) is None
    assert decline_warning([START]) is None
    assert decline_warning([EpochRecord(epoch=0, stage=1), EpochRecord(epoch=1, stage=2)]) is None


def test_the_numbers_are_said() -> None:
    warning = decline_warning([START, epoch(1, 0.5, silhouette=0.3, cycle=0.6)])
    assert warning is not None
    assert "silhouette fell from 0.50 to 0.30, noise rose from 20% to 50%" in warning
