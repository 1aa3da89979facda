from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclhd.config import load_preset
from pclhd.errors import UserError
from pclhd.sizes import BatchSize, Lengths, automatic_batch, automatic_decay, automatic_lengths


@pytest.mark.parametrize(
    ("images", "batch", "lengths"),
    [
        (1, (2, 6), (4, 6, 10, 0.9)),
        (72, (8, 6), (4, 6, 10, 0.9)),
        (1000, (8, 16), (11, 21, 16, 0.9702)),
        (22_258, (8, 16), (30, 30, 200, 0.9983)),
    ],
)
def test_known_sizes(images: int, batch: tuple[int, int], lengths: tuple[int, int, int, float]) -> None:
    assert automatic_batch(images) == BatchSize(*batch)
    assert automatic_lengths(images, BatchSize(*batch)) == Lengths(*lengths)


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_more_images_never_make_a_shorter_training(one: int, other: int) -> None:
    less, more = sorted([one, other])
    batch = automatic_batch(less)
    short, long = automatic_lengths(less, batch), automatic_lengths(more, batch)
    assert all(few <= many for few, many in zip(short, long, strict=True))
    assert all(few <= many for few, many in zip(batch, automatic_batch(more), strict=True))
    assert 0.9 <= automatic_decay(less) <= 0.999


def test_given_numbers_stay_and_the_average_follows_them() -> None:
    settings = load_preset("own-laptop", ["schedule.iterations=100", "schedule.stage2_epochs=20", "batch.clusters=3"])
    resolved = settings.with_sizes_for(72, 80)
    assert resolved.batch.numbers() == (3, 4)
    assert resolved.schedule.numbers() == (4, 20, 100, automatic_decay(2000))
    assert resolved.with_sizes_for(10, 10) is resolved


def test_unresolved_numbers_are_refused_where_they_are_used() -> None:
    settings = load_preset("own", [])
    for read in (settings.schedule.numbers, settings.batch.numbers, lambda: settings.epochs):
        with pytest.raises(ValueError, match="still 'auto'"):
            read()


@pytest.mark.parametrize(
    "override",
    [
        "schedule.iterations=0",
        "schedule.iterations=automatic",
        "schedule.stage1_epochs=-1",
        "schedule.stage2_epochs=1.5",
        "schedule.ema_decay=1",
        "schedule.ema_decay=-0.1",
        "batch.clusters=0",
        "batch.instances=true",
    ],
)
def test_refuses_other_values(override: str) -> None:
    with pytest.raises(UserError, match=override.partition("=")[0]):
        load_preset("own", [override])


def test_stages_may_be_left_out() -> None:
    resolved = load_preset("own", ["schedule.stage2_epochs=0"]).with_sizes_for(72, 72)
    assert resolved.schedule.numbers() == (4, 0, 10, 0.9)
