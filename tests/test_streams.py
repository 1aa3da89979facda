from __future__ import annotations

import numpy as np
import pytest
import torch

from pclhd.streams import Streams


def _draws(streams: Streams, *name: str | int) -> tuple[list[float], list[float]]:
    return (
        torch.rand(3, generator=streams.torch(*name)).tolist(),
        streams.numpy(*name).random(3).tolist(),
    )


def test_a_stream_depends_on_seed_and_name_alone() -> None:
    streams = Streams(7)
    first = _draws(streams, "augment", 3)
    np.random.seed(0)  # noqa: NPY002  (the global generator must not matter)
    torch.manual_seed(0)
    streams.torch("something else").seed()
    assert _draws(streams, "augment", 3) == first
    assert _draws(Streams(7), "augment", 3) == first


@pytest.mark.parametrize(
    ("streams", "name"),
    [
        (Streams(8), ("augment", 3)),
        (Streams(7), ("augment", 4)),
        (Streams(7), ("batches", 3)),
        (Streams(7), ("augment",)),
        (Streams(7), ("augment", 3, 0)),
    ],
)
def test_another_seed_or_name_is_another_stream(streams: Streams, name: tuple[str | int, ...]) -> None:
    theirs, ours = _draws(streams, *name), _draws(Streams(7), "augment", 3)
    assert theirs[0] != ours[0]
    assert theirs[1] != ours[1]


def test_seeds_of_many_streams_are_distinct_and_uncorrelated() -> None:
    first = [
        float(torch.rand((), generator=Streams(seed).torch("x", epoch))) for seed in range(20) for epoch in range(20)
    ]
    assert len(set(first)) == len(first)
    assert np.mean(first) == pytest.approx(0.5, abs=0.06)


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    Streams(0).torch("a").seed()
    Streams(0).numpy("a").random(5)
    assert torch.equal(torch.rand(2), expected)
