from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from pclhd.clustering.confidence import silhouettes, stability
from pclhd.clustering.cycle import cycle_consistency
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.matching import Matching
from pclhd.config import Settings
from pclhd.engine.labelling import EpochLabels, Grouping
from pclhd.engine.selection import Criterion, Selection, measure_criteria
from pclhd.models.weights import model_metadata
from pclhd.pair import Pair
from tests.engine.runs import SmallData, records

CRITERIA: tuple[Criterion, ...] = ("silhouette", "stability", "cycle")


def labels(visible: list[int], infrared: list[int], silhouettes: tuple[float, float] = (0.5, 0.7)) -> EpochLabels:
    own = np.array(visible), np.array(infrared)
    groupings = {
        name: Grouping(part, silhouette=value)
        for name, part, value in zip(("visible", "infrared"), own, silhouettes, strict=True)
    }
    return EpochLabels(*own, None, Matching(np.array([0, 1]), np.array([0, 1])), groupings)


FEATURES = Pair(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32))


def test_what_the_criteria_are() -> None:
    now = labels([0, 0, 1, -1], [0, 0, 1, 1])
    before = Pair(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    found = measure_criteria(FEATURES, now, before)
    assert found["silhouette"] == pytest.approx((0.75 * 0.5 + 1 * 0.7) / 2)
    # Visible: the cluster of two overlaps by 2 of 3 with the old one of three, that of one by 1 of 3.
    assert found["stability"] == pytest.approx((0.75 * (2 / 3 * 2 / 3 + 1 / 3 * 1 / 3) + 1) / 2)
    assert found["cycle"] == pytest.approx((0.75 + 1) / 2)


def test_stability_is_measured_on_the_images_that_were_clustered() -> None:
    now = labels([0, 0, 1, 1], [0, 0, 1, 1])
    before = Pair(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    everything = measure_criteria(FEATURES, now, before)["stability"]
    # The second and the last infrared image are near-copies of the ones before them.
    thinned = replace(now.groupings["infrared"], rows=np.array([0, 2]))
    found = measure_criteria(FEATURES, replace(now, groupings={**now.groupings, "infrared": thinned}), before)
    assert found["stability"] == pytest.approx((1 + 1 / 2) / 2)
    assert everything == pytest.approx((1 + (2 / 3 + 1 / 2) / 2) / 2)


def test_labels_that_were_kept_count_as_noise() -> None:
    now = labels([0, 0, 1, 1], [0, 0, 1, 1])
    kept = replace(now, groupings={**now.groupings, "infrared": replace(now.groupings["infrared"], kept=True)})
    before = now.own
    found = measure_criteria(FEATURES, kept, before)
    assert found == pytest.approx({"silhouette": 0.5 / 2, "stability": 1 / 2, "cycle": 1 / 2})


def test_at_the_start_nothing_can_be_stable() -> None:
    assert "stability" not in measure_criteria(FEATURES, labels([0, 0, 1, 1], [0, 0, 1, 1]), None)


def test_giving_up_on_images_is_not_rewarded() -> None:
    before = Pair(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    all_of_them = measure_criteria(FEATURES, labels([0, 0, 1, 1], [0, 0, 1, 1]), before)
    half_of_them = measure_criteria(FEATURES, labels([0, 0, -1, -1], [0, 0, -1, -1]), before)
    for name in CRITERIA:
        assert half_of_them[name] < all_of_them[name]


def test_identities_as_labels_have_no_silhouette() -> None:
    given = EpochLabels(np.array([0, 1]), np.array([0, 1]), None, Matching(np.array([0, 1]), np.array([0, 1])))
    assert measure_criteria(FEATURES.map(lambda part: part[:2]), given, None)["silhouette"] == 0


def test_the_best_so_far() -> None:
    selection = Selection("cycle")
    taken = [selection.consider(epoch, {"cycle": value}) for epoch, value in enumerate((0.5, 0.4, 0.6, 0.6, 0.1), 1)]
    assert taken == [True, False, True, True, False]
    assert (selection.epoch, selection.value) == (4, 0.6)


def test_the_last_needs_no_criterion() -> None:
    selection = Selection("last")
    assert [selection.consider(epoch, {}) for epoch in (1, 2)] == [True, True]
    assert selection.epoch == 2


OVERRIDES = ("schedule.iterations=1", "schedule.stage1_epochs=2", "schedule.stage2_epochs=3")


@pytest.mark.parametrize("by", CRITERIA)
def test_a_run_ends_with_the_weights_that_were_selected(small: SmallData, tmp_path: Path, by: Criterion) -> None:
    run = tmp_path / "run"
    small.train(run, *OVERRIDES, f"selection={by}", "engine.keep_weights=true")
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    criteria = {line["epoch"]: line["criteria"] for line in records(run)} | {5: last["criteria"]}
    # Only epochs of the second stage count, here 3, 4 and 5; of equals the later one.
    best = max((criteria[epoch][by], epoch) for epoch in (3, 4, 5))[1]
    assert last["selected"] == {"by": by, "epoch": best}
    assert model_metadata(run / "model.safetensors")["epoch"] == str(best)
    kept = load_file(run / "checkpoints" / f"weights-{best:04d}.safetensors")
    final = load_file(run / "model.safetensors")
    assert all((kept[name] == final[name]).all() for name in kept)


@pytest.mark.slow
def test_selecting_does_not_disturb_training(small: SmallData, tmp_path: Path) -> None:
    small.train(tmp_path / "plain", *OVERRIDES)
    small.train(tmp_path / "chosen", *OVERRIDES, "selection=silhouette", "engine.keep_weights=true")
    last = load_file(tmp_path / "chosen" / "checkpoints" / "weights-0005.safetensors")
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    assert all((last[name] == plain[name]).all() for name in plain)
    assert len(list((tmp_path / "chosen" / "checkpoints").glob("weights-*"))) == 5
    assert not list((tmp_path / "plain" / "checkpoints").glob("weights-*"))


def test_the_setting_and_the_criteria_agree() -> None:
    assert Settings(preset="x").selection == "last"
    for by in CRITERIA:
        assert Settings(preset="x", selection=by).selection == by


def test_only_the_silhouette_sees_that_one_cluster_of_all_images_means_nothing() -> None:
    """Why studies maximise it by default: settings may lead to such a clustering (docs/studies.md)."""
    random = np.random.default_rng(0)
    rows = np.repeat(random.normal(size=(12, 16)), 10, axis=0) + 0.1 * random.normal(size=(120, 16))
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    one, right = np.zeros(120, dtype=np.int64), np.repeat(np.arange(12), 10)
    similarity = jaccard_similarity(features, 8, 3)
    assert stability(one, one) == 1.0
    assert cycle_consistency(features, one, features[::-1].copy(), one) == 1.0
    assert silhouettes(similarity, right).mean() > 0.7
    assert silhouettes(similarity, one).mean() < 0.2
