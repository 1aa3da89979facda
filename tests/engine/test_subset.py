"""Epochs with a part of the larger modality."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pclhd.clustering.matching import Matching
from pclhd.config import load_preset
from pclhd.data.records import Modality, make_training_set
from pclhd.engine.epoch_record import describe_labels
from pclhd.engine.labelling import EpochLabels, Grouping, LabelRequest, label_epoch
from pclhd.engine.position import Position
from pclhd.engine.subset import draw_rows, narrowed, widened
from pclhd.errors import UserError
from pclhd.pair import Pair
from pclhd.recipes import BASELINE
from tests.engine.runs import SmallData, Watcher, records

HALF = "method.larger_share=0.5"


def drawn(visible: int, infrared: int, share: float, seed: int = 0) -> Pair[np.ndarray | None]:
    settings = load_preset("tiny", [f"method.larger_share={share}"])
    return draw_rows(settings, Pair(visible, infrared), np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ((10, 4), 0.5, (5, 4)),
        ((4, 10), 0.5, (4, 5)),
        ((10, 9), 0.33, (4, 9)),
        ((7, 7), 0.5, (7, 7)),
        ((10, 4), 1.0, (10, 4)),
        ((2, 1), 0.01, (1, 1)),
    ],
)
def test_a_share_of_the_larger_modality(counts: tuple[int, int], share: float, expected: tuple[int, int]) -> None:
    for count, number, rows in zip(counts, expected, drawn(*counts, share), strict=True):
        assert (rows is None) == (number == count)
        if rows is not None:
            assert len(rows) == number
            assert (np.diff(rows) > 0).all()
            assert rows.min() >= 0
            assert rows.max() < count


def test_each_epoch_draws_again() -> None:
    first, second = (drawn(40, 4, 0.5, seed).visible for seed in (0, 1))
    assert first is not None
    assert second is not None
    assert not np.array_equal(first, second)
    assert np.array_equal(first, drawn(40, 4, 0.5).visible)  # type: ignore[arg-type]


def request(generator: np.random.Generator, *, joint: bool = True) -> LabelRequest:
    centres = generator.standard_normal((4, 8))
    features = [centres[np.arange(count) % 4] + 0.05 * generator.standard_normal((count, 8)) for count in (48, 20)]
    unit = [(part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float32) for part in features]
    settings = load_preset("tiny", ["clustering.k1=5", "clustering.k2=2"])
    cameras = Pair(np.arange(48) % 3, None)
    return LabelRequest(Pair(*unit), settings.clustering, BASELINE, joint, cameras)


def test_the_labels_of_the_drawn_images_are_those_of_a_set_without_the_others() -> None:
    whole = request(np.random.default_rng(0))
    chosen = np.arange(0, 48, 2) + np.arange(24) % 2
    rows = Pair(chosen, None)
    part = narrowed(replace(whole, previous=Pair(np.arange(48) // 12, np.zeros(20, dtype=np.int64))), rows)
    assert part.previous is not None
    assert len(part.previous.visible) == len(part.features.visible) == 24
    assert part.cameras.visible is not None
    assert part.cameras.visible.tolist() == (chosen % 3).tolist()
    small = label_epoch(part)
    wide = widened(small, rows, Pair(48, 20))
    assert wide.visible[chosen].tolist() == small.visible.tolist()
    assert (np.delete(wide.visible, chosen) == -1).all()
    assert wide.infrared is small.infrared
    assert wide.joint is not None
    assert small.joint is not None
    assert np.concatenate([wide.joint[:48][chosen], wide.joint[48:]]).tolist() == small.joint.tolist()
    assert describe_labels(wide) == describe_labels(small)
    assert not wide.visible.flags.writeable


def test_all_noise_one_cluster_and_confidence() -> None:
    rows = Pair(None, np.array([1, 3]))
    noise = np.full(2, -1)
    labels = EpochLabels(
        np.zeros(3, dtype=np.int64),
        noise,
        None,
        Matching(np.array([-1]), np.zeros(0, dtype=np.int64)),
        {"infrared": Grouping(noise, confidence=np.array([0.5, 0.25]), rows=np.array([1]))},
    )
    wide = widened(labels, rows, Pair(3, 5))
    assert wide.visible.tolist() == [0, 0, 0]
    assert wide.infrared.tolist() == [-1] * 5
    grouping = wide.groupings["infrared"]
    assert grouping.confidence is not None
    assert grouping.confidence.tolist() == [0, 0.5, 0, 0.25, 0]
    assert grouping.rows is not None
    assert grouping.rows.tolist() == [3]
    assert [part.tolist() for part in wide.of_drawn().values()] == [[0, 0, 0], [-1, -1]]
    assert widened(labels, Pair(None, None), Pair(3, 2)) is labels


@pytest.fixture
def uneven(small: SmallData) -> SmallData:
    """Half as many infrared images as visible ones."""
    kept = [image for image in small.training_set.images if image.modality is Modality.VISIBLE or image.camera == 3]
    return SmallData(make_training_set(kept)[0], small.start)


def test_a_training_uses_other_images_each_epoch(uneven: SmallData, tmp_path: Path) -> None:
    seen: list[EpochLabels] = []

    def look(position: Position, labels: EpochLabels) -> dict[str, float]:
        seen.append(labels)
        return {}

    run = tmp_path / "run"
    uneven.train(run, "recipe=pclhd", "schedule.stage2_epochs=1", HALF, observer=Watcher(epoch=look))
    chosen = [set(np.flatnonzero(labels.visible >= 0).tolist()) for labels in seen]
    assert all(0 < len(rows) <= 18 for rows in chosen)
    assert chosen[0] != chosen[1]
    assert [line["visible"]["images"] for line in records(run)] == [18, 18]
    assert [line["infrared"]["images"] for line in records(run)] == [18, 18]
    assert all(line["visible"]["noise"] < 0.5 for line in records(run))


@pytest.mark.slow
def test_resumed_within_an_epoch(uneven: SmallData, tmp_path: Path) -> None:
    words = ("recipe=pclhd", HALF, "selection=cycle")

    def interrupt(position: Position, step: int) -> None:
        if position.epoch == 1 and step == 0:
            raise KeyboardInterrupt

    expected = uneven.train(tmp_path / "whole", *words)
    assert expected != uneven.train(tmp_path / "all", "recipe=pclhd", "selection=cycle")
    with pytest.raises(KeyboardInterrupt):
        uneven.train(tmp_path / "parts", *words, "engine.checkpoint_minutes=0", observer=Watcher(step=interrupt))
    again = (*words, "engine.checkpoint_minutes=0")
    assert uneven.train(tmp_path / "parts", *again, resume=True) == expected
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_sizes_follow_the_images_of_an_epoch() -> None:
    auto = load_preset("own", [HALF])
    assert auto.images_of_an_epoch(200, 100) == (100, 100)
    assert (
        auto.with_sizes_for(800, 100).clustering.joint_k1
        == load_preset("own", []).with_sizes_for(400, 100).clustering.joint_k1
    )


def test_identities_are_for_all_images() -> None:
    with pytest.raises(UserError, match=r"method\.larger_share=0\.5 leaves images out"):
        load_preset("tiny", ["recipe=supervised", HALF])
