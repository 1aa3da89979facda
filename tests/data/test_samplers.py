from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pclhd.data.samplers import cluster_batches

Labels = NDArray[np.int64]


def draw(
    labels: Labels,
    cameras: Labels | None = None,
    *,
    batches: int = 3,
    clusters: int = 2,
    instances: int = 4,
    seed: int = 0,
    drop: bool = False,
) -> Labels:
    return cluster_batches(
        labels,
        cameras,
        batches=batches,
        clusters=clusters,
        instances=instances,
        generator=np.random.default_rng(seed),
        drop_incomplete=drop,
    )


@st.composite
def situations(draw_: st.DrawFn) -> tuple[Labels, Labels | None, int, int, int, int]:
    count = draw_(st.integers(1, 30))
    labels = np.array(draw_(st.lists(st.integers(-1, 6), min_size=count, max_size=count)), dtype=np.int64)
    labels[draw_(st.integers(0, count - 1))] = draw_(st.integers(0, 6))
    cameras = np.array(draw_(st.lists(st.integers(1, 3), min_size=count, max_size=count)), dtype=np.int64)
    sizes = [draw_(st.integers(1, top)) for top in (5, 5, 6)]
    return labels, cameras if draw_(st.booleans()) else None, sizes[0], sizes[1], sizes[2], draw_(st.integers(0, 99))


@settings(max_examples=150, deadline=None)
@given(situations())
def test_what_holds_for_every_epoch(situation: tuple[Labels, Labels | None, int, int, int, int]) -> None:
    labels, cameras, batches, clusters, instances, seed = situation
    drawn = draw(labels, cameras, batches=batches, clusters=clusters, instances=instances, seed=seed)
    assert drawn.shape == (batches, clusters * instances)
    assert drawn.dtype == np.int64
    groups = drawn.reshape(-1, instances)
    of_group = labels[groups]
    assert (of_group == of_group[:, :1]).all(), "a group is of one cluster"
    assert (of_group >= 0).all(), "noise is never drawn"
    # Pass after pass over all clusters, each a permutation; the last one may be cut short.
    known = np.unique(labels[labels >= 0])
    visits = of_group[:, 0]
    for start in range(0, len(visits), len(known)):
        one_pass = visits[start : start + len(known)]
        assert len(set(one_pass.tolist())) == len(one_pass)
    for group in groups:
        _check_group(group, labels, cameras)
    again = draw(labels, cameras, batches=batches, clusters=clusters, instances=instances, seed=seed)
    np.testing.assert_array_equal(drawn, again)


def _check_group(group: Labels, labels: Labels, cameras: Labels | None) -> None:
    """The rule for one anchor, spelled out: which images may join it, and which may do so twice."""
    anchor, others = int(group[0]), group[1:].tolist()
    members = np.flatnonzero(labels == labels[anchor]).tolist()
    candidates = [member for member in members if member != anchor]
    if cameras is not None:
        elsewhere = [member for member in members if cameras[member] != cameras[anchor]]
        candidates = elsewhere or candidates
    if not candidates:
        assert others == [anchor] * len(others), "a cluster of one image repeats it"
        return
    assert set(others) <= set(candidates)
    if len(candidates) >= len(group):
        assert len(set(others)) == len(others), "no image twice where there are enough"


# Passes that end within a batch.


def slow_visits(known: list[int], batches: int, clusters: int, generator: np.random.Generator) -> list[int]:
    """Pass after pass dealt out to batches; a batch that a pass leaves incomplete is thrown away.

    With fewer clusters than a batch takes, no batch would be left, so none is thrown away.
    """
    visits: list[int] = []
    while len(visits) < batches * clusters:
        one_pass = [known[place] for place in generator.permutation(len(known))]
        if len(known) >= clusters:
            whole = [one_pass[start : start + clusters] for start in range(0, len(known), clusters)]
            one_pass = [cluster for batch in whole if len(batch) == clusters for cluster in batch]
        visits += one_pass
    return visits[: batches * clusters]


@settings(max_examples=100, deadline=None)
@given(situations())
def test_dropping_like_dealing_out_passes(situation: tuple[Labels, Labels | None, int, int, int, int]) -> None:
    labels, cameras, batches, clusters, _, seed = situation
    # One image per cluster: then the draws are those of the passes, up to the anchor's, which is drawn from one.
    known, first = np.unique(labels, return_index=True)
    single = np.full_like(labels, -1)
    single[first[known >= 0]] = known[known >= 0]
    drawn = draw(single, cameras, batches=batches, clusters=clusters, instances=1, seed=seed, drop=True)
    expected = slow_visits(known[known >= 0].tolist(), batches, clusters, np.random.default_rng(seed))
    assert single[drawn].ravel().tolist() == expected


@settings(max_examples=100, deadline=None)
@given(situations())
def test_with_dropping_every_batch_lies_within_one_pass(
    situation: tuple[Labels, Labels | None, int, int, int, int],
) -> None:
    labels, cameras, batches, clusters, instances, seed = situation
    drawn = draw(labels, cameras, batches=batches, clusters=clusters, instances=instances, seed=seed, drop=True)
    assert drawn.shape == (batches, clusters * instances)
    count = len(np.unique(labels[labels >= 0]))
    visits = labels[drawn.reshape(batches, clusters, instances)[:, :, 0]]
    if whole := count // clusters:  # fewer clusters than P fill the batches all the same, some of them twice
        for start in range(0, batches, whole):
            one_pass = visits[start : start + whole].ravel().tolist()
            assert len(set(one_pass)) == len(one_pass)
    for group in drawn.reshape(-1, instances):
        _check_group(group, labels, cameras)


@pytest.mark.parametrize(("count", "clusters"), [(6, 2), (6, 3), (6, 6), (3, 6), (1, 4), (5, 1)])
def test_where_passes_end_with_a_batch_nothing_is_dropped(count: int, clusters: int) -> None:
    labels = np.tile(np.arange(count), 4)
    kept, dropped = (draw(labels, batches=7, clusters=clusters, drop=drop) for drop in (False, True))
    np.testing.assert_array_equal(kept, dropped)


@pytest.mark.parametrize(("count", "clusters"), [(5, 2), (7, 3), (4, 3)])
def test_dropping_leaves_clusters_out(count: int, clusters: int) -> None:
    labels = np.tile(np.arange(count), 4)
    whole = count // clusters
    kept, dropped = (draw(labels, batches=whole + 1, clusters=clusters, drop=drop) for drop in (False, True))
    # The first pass is the same as far as it goes; the batch in which it ends is not.
    np.testing.assert_array_equal(kept[:whole], dropped[:whole])
    seen, left = set(labels[kept].ravel().tolist()), set(labels[dropped[:whole]].ravel().tolist())
    assert len(left) == whole * clusters < count == len(seen)


def test_fewer_clusters_than_asked_for_are_drawn_all_the_same() -> None:
    labels = np.array([0, 0, -1, 1, 1])
    drawn = draw(labels, batches=4, clusters=5, instances=2, drop=True)
    assert drawn.shape == (4, 10)
    assert np.bincount(labels[drawn[:, ::2]].ravel()).tolist() == [10, 10]


# Who is drawn.


def test_fewer_clusters_than_asked_for() -> None:
    drawn = draw(np.array([0, 0, -1, 1, 1]), clusters=5, instances=2)
    assert drawn.shape == (3, 10)
    assert set(drawn.ravel().tolist()) == {0, 1, 3, 4}


def test_other_cameras_are_preferred() -> None:
    labels, cameras = np.zeros(6, dtype=np.int64), np.array([1, 1, 1, 1, 2, 3])
    groups = draw(labels, cameras, batches=50, clusters=1, instances=3)
    assert {anchor for anchor, *_ in groups.tolist()} == set(range(6))
    for anchor, *others in groups.tolist():
        assert all(cameras[other] != cameras[anchor] for other in others)
    blind = draw(labels, None, batches=50, clusters=1, instances=3)
    assert any(cameras[other] == cameras[anchor] for anchor, *others in blind.tolist() for other in others)


def test_every_member_is_drawn_sooner_or_later() -> None:
    drawn = draw(np.array([0] * 5 + [3] * 7), batches=100)
    counts = np.bincount(drawn.ravel(), minlength=12)
    assert (counts > 0.5 * counts.mean()).all()


def test_another_generator_draws_otherwise() -> None:
    labels = np.repeat(np.arange(5), 6)
    assert not np.array_equal(draw(labels, seed=0), draw(labels, seed=1))


def test_read_only_labels_do_not_raise() -> None:
    labels = np.repeat(np.arange(3), 2)
    labels.setflags(write=False)
    draw(labels)


@pytest.mark.parametrize("labels", [np.array([-1, -1]), np.array([], dtype=np.int64)])
def test_nothing_to_draw_from(labels: Labels) -> None:
    with pytest.raises(ValueError, match="every sample is noise"):
        draw(labels)


@pytest.mark.parametrize("zero", ["batches", "clusters", "instances"])
def test_counts_must_be_positive(zero: str) -> None:
    counts: dict[str, Any] = {"batches": 1, "clusters": 1, "instances": 1, zero: 0}
    with pytest.raises(ValueError, match=r"must be positive, not .*0"):
        cluster_batches(np.array([0, 0]), None, generator=np.random.default_rng(0), **counts)
