from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from pclhd.clustering import pipeline
from pclhd.clustering.matching import Matching
from pclhd.clustering.multi_memory import match_by_memories
from pclhd.clustering.neighbours import Neighbours
from pclhd.clustering.search import find_neighbours
from pclhd.config import Settings
from pclhd.data.images import load_images
from pclhd.data.near_copies import image_hashes
from pclhd.data.records import Modality, make_training_set
from pclhd.engine import labelling
from pclhd.engine.checkpoint import load_latest_checkpoint
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.position import Position
from pclhd.engine.trainer import train
from pclhd.errors import UserError
from pclhd.models.embed import embed_images
from pclhd.models.two_stream import Stem
from pclhd.models.weights import load_model
from pclhd.recipes import RECIPES, Recipe
from pclhd.runs.folder import RunFolder
from tests.engine.runs import HEIGHT, TOGETHER, WIDTH, SmallData, Watcher, digest, draw_people, records
from tests.readings import ABRUPT_WORDS

Trained = Callable[..., str]


@pytest.fixture(scope="module")
def trained(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Digest of the weights that some overrides lead to; each combination is trained once."""
    known: dict[tuple[str, ...], str] = {}

    def digest_of(*overrides: str) -> str:
        if overrides not in known:
            known[overrides] = small.train(tmp_path_factory.mktemp("run") / "run", *overrides)
        return known[overrides]

    return digest_of


@pytest.fixture(scope="module")
def blurred(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    """Data whose clusters depend on every setting of the clustering."""
    return SmallData(draw_people(tmp_path_factory.mktemp("blurred"), noise=90), small.start)


# Same run, same weights.


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_whatever_the_workers(
    small: SmallData, trained: Trained, tmp_path: Path
) -> None:
    # `trained` has one worker.
    assert {small.train(tmp_path / workers, f"data.workers={workers}") for workers in ("1", "2", "4")} == {trained()}


def test_another_seed_gives_other_weights(trained: Trained) -> None:
    assert trained("seed=1", "schedule.stage2_epochs=0") != trained("schedule.stage2_epochs=0")


def test_an_observer_changes_nothing(small: SmallData, trained: Trained, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (5, 3, HEIGHT, WIDTH), dtype=np.uint8)
    run = tmp_path / "run"

    def meddle(position: Position, step: int) -> None:
        torch.manual_seed(step)
        np.random.seed(step)  # noqa: NPY002  (the global generator is what is disturbed)
        embed_images(load_model(run / "checkpoints" / "start.safetensors"), pictures, Modality.VISIBLE)

    def nonsense(position: Position, labels: EpochLabels) -> dict[str, float]:
        with pytest.raises(ValueError, match="read-only"):
            labels.visible[:] = 0
        return {"ari_visible": float("nan"), "rubbish": -1e30}

    assert small.train(run, observer=Watcher(step=meddle, epoch=nonsense)) == trained()
    assert records(run)[0]["labels"]["rubbish"] == -1e30


def test_what_a_run_leaves_behind(small: SmallData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    path = train(small.settings("recipe=paper"), small.training_set, run, Watcher())
    assert path == run / "model.safetensors"
    assert {item.name for item in run.iterdir()} == {
        "config.yaml",
        "provenance.json",
        "training_images.txt",
        "metrics.jsonl",
        "checkpoints",
        "model.safetensors",
        "calibration.json",
        "survey.safetensors",
    }
    assert {item.name for item in (run / "checkpoints").iterdir()} == {
        "start.safetensors",
        "stage1.safetensors",
        "epoch-0002-step-00000.safetensors",
        "epoch-0003-step-00000.safetensors",
    }
    epochs = records(run)
    assert [(line["epoch"], line["stage"]) for line in epochs] == [(0, 1), (1, 2), (2, 2)]
    for line in epochs:
        assert line["loss"]["total"] == pytest.approx(
            sum(value for name, value in line["loss"].items() if name != "total")
        )
    assert "joint" not in epochs[0]
    assert epochs[1]["joint"]["shared_clusters"] > 1
    assert "labels" not in epochs[0]
    steps = records(run, "step")
    assert [line["global_step"] for line in steps] == list(range(6))
    for epoch in epochs:
        totals = [line["loss"]["total"] for line in steps if line["epoch"] == epoch["epoch"]]
        assert epoch["loss"]["total"] == pytest.approx(np.mean(totals))
    start = load_file(run / "checkpoints" / "start.safetensors")
    given = load_file(small.start)
    assert start.keys() == given.keys()
    assert all(torch.equal(start[name], given[name]) for name in given)
    assert len({digest(run / "checkpoints" / f"{name}.safetensors") for name in ("start", "stage1")}) == 2


# Interruptions.


def _interrupt(position: Position, step: int) -> None:
    if position.epoch == 2 and step == 1:
        raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_resumed_run_equals_an_uninterrupted_one(
    small: SmallData, trained: Trained, tmp_path: Path, recipe: str
) -> None:
    # Three epochs of stage II: the interrupted one is neither the first nor the last, so the optimiser has a state.
    overrides = (f"recipe={recipe}", "schedule.stage2_epochs=3")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = small.train(whole, *overrides)
    with pytest.raises(KeyboardInterrupt):
        small.train(parts, *overrides, observer=Watcher(step=_interrupt))
    assert not (parts / "model.safetensors").exists()
    assert small.train(parts, *overrides, resume=True) == expected
    assert records(parts) == records(whole)
    assert records(parts, "step") == records(whole, "step")
    noted = [json.loads((run / "provenance.json").read_text("utf-8"))["resumed"] for run in (whole, parts)]
    assert noted == [[], [{"epoch": 2}]]


AUTO = ("clustering.k1=auto", "clustering.k2=auto", "clustering.joint_k1=auto", "clustering.joint_k2=auto")


def test_sizes_that_follow_the_data_are_saved_as_numbers(small: SmallData, tmp_path: Path) -> None:
    run, by_hand, short = tmp_path / "run", tmp_path / "by_hand", "schedule.stage2_epochs=1"
    sizes = ("clustering.k1=6", "clustering.k2=3", "clustering.joint_k1=12", "clustering.joint_k2=4")
    assert small.train(run, *AUTO, short) == small.train(by_hand, *sizes, short)
    assert (run / "config.yaml").read_text() == (by_hand / "config.yaml").read_text()
    saved = RunFolder(run).settings().clustering
    assert (saved.k1, saved.k2, saved.joint_k1, saved.joint_k2) == (6, 3, 12, 4)


def test_degenerate_neighbourhoods_are_said_once(small: SmallData, tmp_path: Path) -> None:
    watcher = Watcher()
    small.train(tmp_path / "run", "clustering.k1=14", observer=watcher)
    about = [warning for warning in watcher.warnings if "takes in" in warning]
    assert len(about) == 2
    for name, line in zip(("visible", "infrared"), about, strict=True):
        assert line.startswith(f"epoch 1: {name}: k1 (14) takes in more than a third of the 36 rows")


def test_training_on_thinned_frames(small: SmallData, tmp_path: Path) -> None:
    # Each picture twice, the second time with hardly visible noise, as in a video.
    images, random = list(small.training_set.images), np.random.default_rng(0)
    (tmp_path / "frames").mkdir()
    for image in small.training_set.images:
        pixels = np.asarray(Image.open(image.path)).astype(np.int64)
        path = tmp_path / "frames" / image.path.name
        Image.fromarray(np.clip(pixels + random.integers(-1, 2, pixels.shape), 0, 255).astype(np.uint8)).save(path)
        images.append(replace(image, path=path))
    frames = SmallData(make_training_set(images)[0], small.start)
    seen: dict[str, EpochLabels] = {}

    def look(position: Position, labels: EpochLabels) -> dict[str, float]:
        seen.setdefault("labels", labels)
        return {}

    frames.train(tmp_path / "run", "clustering.near_copies=thin", observer=Watcher(epoch=look))
    groupings = seen["labels"].groupings
    for name in ("visible", "infrared"):
        neighbourhoods = groupings[name].neighbourhoods
        assert neighbourhoods is not None
        assert neighbourhoods.thinned >= 30
        assert neighbourhoods.rows + neighbourhoods.thinned == 72
    by_picture: dict[str, set[int]] = {}
    visible = [image for image in frames.training_set.images if image.modality is Modality.VISIBLE]
    for image, label in zip(visible, seen["labels"].visible.tolist(), strict=True):
        by_picture.setdefault(image.path.name, set()).add(label)
    assert sum(len(labels) == 1 for labels in by_picture.values()) >= 30


def test_a_run_records_its_training_images(small: SmallData, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    small.train(run.path, "schedule.stage2_epochs=0")
    images = small.training_set.images
    pixels = load_images([image.path for image in images], HEIGHT, WIDTH, resample="bicubic")
    hashes = [row.tobytes().hex() for row in image_hashes(pixels)]
    assert run.training_images() == dict(zip(small.training_set.digests, hashes, strict=True))
    # A run that an older version began gets the record when it is resumed.
    written = run.training_images_file.read_bytes()
    run.training_images_file.unlink()
    small.train(run.path, "schedule.stage2_epochs=0", resume=True)
    assert run.training_images_file.read_bytes() == written


@pytest.mark.slow
def test_a_run_with_a_damaged_provenance_can_be_resumed(small: SmallData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    expected = small.train(run, "recipe=baseline")
    (run / "provenance.json").write_text("{")
    watcher = Watcher()
    assert small.train(run, "recipe=baseline", resume=True, observer=watcher) == expected
    (warning,) = watcher.warnings
    assert warning.startswith(f"{run / 'provenance.json'}: cannot be updated")
    assert (run / "provenance.json").read_text() == "{"


@pytest.mark.slow
def test_resuming_between_and_after_the_epochs(small: SmallData, tmp_path: Path) -> None:
    overrides = ("recipe=baseline", "schedule.stage2_epochs=1", "schedule.iterations=1")
    run = tmp_path / "run"
    expected = small.train(run, *overrides)
    # Nothing left to do: the model is written once more.
    (run / "model.safetensors").unlink()
    assert small.train(run, *overrides, resume=True) == expected
    assert len(records(run)) == 2
    # From the boundary of the stages.
    (run / "checkpoints" / "epoch-0002-step-00000.safetensors").unlink()
    assert small.train(run, *overrides, resume=True) == expected
    assert [line["epoch"] for line in records(run)] == [0, 1]


def test_a_used_folder_is_left_alone(small: SmallData, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").write_text("mine")
    with pytest.raises(UserError, match="already holds files"):
        small.train(tmp_path / "run")
    assert [item.name for item in (tmp_path / "run").iterdir()] == ["something"]


def test_other_images_are_refused_on_resuming(small: SmallData, tmp_path: Path) -> None:
    overrides = ("schedule.stage2_epochs=0", "schedule.iterations=1")
    run = tmp_path / "run"
    small.train(run, *overrides)
    other = SmallData(draw_people(tmp_path / "others", seed=1), small.start)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(UserError, match="not those the run began with"):
        other.train(run, *overrides, resume=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_nothing_to_resume(small: SmallData, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        small.train(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


# Errors before anything is written.


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("model.weights=no-such-file.safetensors", "no such file"),
        ("model.architecture=resnet50", "same architecture"),
        ("model.weights=imagenet", "use model.weights=starter"),
    ],
)
def test_unusable_weights_leave_no_folder(small: SmallData, tmp_path: Path, override: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        small.train(tmp_path / "run", override)
    assert not (tmp_path / "run").exists()


def test_a_missing_accelerator_is_a_user_error(small: SmallData, tmp_path: Path) -> None:
    missing = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(UserError, match=f"engine.accelerator={missing}"):
        small.train(tmp_path / "run", f"engine.accelerator={missing}")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_explodes_names_the_setting(small: SmallData, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lower schedule\.learning_rate"):
        small.train(tmp_path / "run", "schedule.learning_rate=1e30", "schedule.iterations=3")
    assert not (tmp_path / "run" / "model.safetensors").exists()


# Every choice reaches the weights. One epoch of stage II keeps each run short; a choice about stage I, or about how
# epochs differ, brings the epochs it needs.

PLAIN = ("recipe=paper", *ABRUPT_WORDS)
SHORT = (*PLAIN, "schedule.stage1_epochs=0", "schedule.stage2_epochs=1")
TWO = (*PLAIN, "schedule.stage1_epochs=0", "schedule.stage2_epochs=2")
BOTH_STAGES = (*PLAIN, "schedule.stage1_epochs=1", "schedule.stage2_epochs=1")
STAGE1 = (*PLAIN, "schedule.stage1_epochs=1", "schedule.stage2_epochs=0")
ODD_PASSES = (*SHORT, "batch.clusters=4")  # six people: the second batch is where a pass ends
BASELINE_SHORT = ("recipe=baseline", "schedule.stage1_epochs=0", "schedule.stage2_epochs=1")
SPLIT = (*SHORT, "method.joint_memory=split")
WRITTEN_IN_BACKWARD = (*SHORT, "method.memory_update=in_backward")

CHOICES: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "stage1": (STAGE1, ["hybrid"]),
    "stage2": (SHORT, ["centroid", "hybrid", "hard", "dynamic"]),
    "sub_prototypes": (SHORT, ["3"]),
    "hard_share": (SHORT, ["0.9"]),
    "centroid_share": (SHORT, ["0.5"]),
    "centroid_margin": (BASELINE_SHORT, ["3"]),
    "progressive": (TWO, ["ramp"]),
    "hard_samples": (SHORT, ["3"]),
    "hard_batch_samples": (SHORT, ["3"]),
    "hard_start": (SHORT, ["centroid"]),
    "dynamic_samples": (SHORT, ["2"]),
    "dynamic_gradient": (SHORT, ["false"]),
    "dynamic_similarity": (SHORT, ["mean", "pooled"]),
    "dynamic_redraw": (SHORT, ["step", "batch"]),
    "batch_passes": (ODD_PASSES, ["drop"]),
    "loss_order": (WRITTEN_IN_BACKWARD, ["visible_first"]),
    "memory_update": (SHORT, ["in_backward"]),
    "cross": (SHORT, ["0", "0.5"]),
    "cross_direction": (SHORT, ["both"]),
    "cross_contrast": (SHORT, ["hard", "hybrid", "own"]),
    "cross_form": (SHORT, ["unified"]),
    "cross_progressive": (TWO, ["ramp"]),
    "distillation": (SHORT, ["0.5"]),
    "cross_stage1": (STAGE1, ["true"]),
    "joint": (SHORT, ["0", "0.5"]),
    "joint_memory": (SHORT, ["split"]),
    "joint_contrast": (SHORT, ["hard", "hybrid", "own"]),
    "joint_negatives": (SPLIT, ["1"]),
    "joint_step": (SHORT, ["shared"]),
    "centre_features": (SHORT, ["modality", "camera"]),
    "renormalise": (SHORT, ["false"]),
    "momentum_from": (BOTH_STAGES, ["stage2"]),
    "momentum_buffers": (SHORT, ["own"]),
}
ON_BLURRED_DATA = {
    "whitening",
    "matching",
    "neighbourhood",
    "modality_balance",
    "balanced_neighbours",
    "balanced_order",
    "joint_batches",
    "joint_labels",
    "joint_means",
    "joint_prototypes",
    "clustering",
    "outliers",
    "confidence",
}
WITH_IDENTITIES = {"labels"}  # tests/supervised/test_labeller.py
ON_UNEVEN_DATA = {"larger_share"}  # tests/engine/test_subset.py


def test_no_choice_of_a_recipe_is_forgotten_here() -> None:
    assert CHOICES.keys() | ON_BLURRED_DATA | WITH_IDENTITIES | ON_UNEVEN_DATA == Recipe.model_fields.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "choice"),
    [
        pytest.param(base, f"method.{name}={value}", id=f"{name}={value}")
        for name, (base, values) in CHOICES.items()
        for value in values
    ],
)
def test_every_choice_of_a_recipe_reaches_the_weights(trained: Trained, base: tuple[str, ...], choice: str) -> None:
    assert trained(*base, choice) != trained(*base)


REACH_THE_WEIGHTS = [
    "schedule.iterations=1",
    "schedule.learning_rate=0.002",
    "schedule.weight_decay=0.1",
    "schedule.ema_decay=0.5",
    "batch.clusters=2",
    "batch.instances=3",
    "batch.sampler=blind",
    "memory.momentum=0.5",
    "memory.temperature=0.1",
    "data.height=40",
    "data.width=20",
    "engine.precision=bf16-mixed",
]
DECAYS = ["schedule.decay_every=1", "schedule.decay_factor=0.5"]
MUST_NOT_REACH_THE_WEIGHTS = ["engine.log_every=2", "data.workers=2"]


@pytest.mark.slow
@pytest.mark.parametrize("change", REACH_THE_WEIGHTS)
def test_every_setting_reaches_the_weights(trained: Trained, change: str) -> None:
    assert trained(*SHORT, change) != trained(*SHORT)


@pytest.mark.slow
def test_the_decay_of_the_rate_reaches_the_weights(trained: Trained) -> None:
    assert len({trained(*TWO), trained(*TWO, DECAYS[0]), trained(*TWO, *DECAYS)}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("change", MUST_NOT_REACH_THE_WEIGHTS)
def test_some_settings_must_not_reach_the_weights(trained: Trained, change: str) -> None:
    assert trained(*SHORT, change) == trained(*SHORT)


BLURRED = ("recipe=paper", "schedule.stage1_epochs=0", "schedule.stage2_epochs=1", "method.cross_direction=both")


@pytest.fixture(scope="module")
def blurred_weights(blurred: SmallData, tmp_path_factory: pytest.TempPathFactory) -> str:
    return blurred.train(tmp_path_factory.mktemp("blurred") / "run", *BLURRED)


CLUSTERING = [
    "clustering.k1=8",
    "clustering.k2=3",
    "clustering.joint_k1=10",
    "clustering.joint_k2=5",
    "clustering.eps=0.5",
    "clustering.eps_infrared=0.5",
    "clustering.eps_joint=0.5",
    "clustering.eps=auto",
    "clustering.min_samples=3",
    "method.clustering=hdbscan",
    "method.clustering=agglomerative",
    "method.clustering=community",
    "method.outliers=rescue",
    "method.outliers=drop",
    "method.outliers=both",
    "method.confidence=weight",
    "method.joint_labels=matching",
    "method.joint_means=plain",
    "method.joint_prototypes=all",
    "method.balanced_neighbours=true",
    "method.matching=mutual",
    "method.matching=transport",
    "method.matching=votes",
    "method.matching=released_regdb",
    "method.neighbourhood=released",
    "method.modality_balance=false",
]

BY_THEMSELVES = {"clustering.resolution", "clustering.search"}  # in tests below


@pytest.mark.slow
@pytest.mark.parametrize("change", CLUSTERING)
def test_every_setting_of_the_clustering_reaches_the_weights(
    blurred: SmallData, blurred_weights: str, tmp_path: Path, change: str
) -> None:
    assert blurred.train(tmp_path / "run", *BLURRED, change) != blurred_weights


@pytest.mark.slow
def test_whitening_reaches_the_weights(blurred: SmallData, tmp_path: Path) -> None:
    words = (*BLURRED, "method.centre_features=camera")
    expected = blurred.train(tmp_path / "base", *words)
    assert blurred.train(tmp_path / "changed", *words, "method.whitening=1") != expected


@pytest.mark.slow
def test_the_order_of_balanced_neighbours_reaches_the_weights(blurred: SmallData, tmp_path: Path) -> None:
    words = (*BLURRED, "clustering.joint_k1=11", "method.balanced_neighbours=true")
    expected = blurred.train(tmp_path / "base", *words)
    assert blurred.train(tmp_path / "changed", *words, "method.balanced_order=similarity") != expected


@pytest.mark.slow
def test_batches_of_joint_clusters_of_one_modality_reach_the_weights(small: SmallData, tmp_path: Path) -> None:
    # Two people appear in visible images only, so their joint clusters have one modality.
    kept = [
        image
        for image in small.training_set.images
        if image.modality is Modality.VISIBLE or not image.path.name.startswith(("0-", "1-"))
    ]
    lonely = SmallData(make_training_set(kept)[0], small.start)
    words = (*SHORT, "method.joint_prototypes=all")
    assert lonely.train(tmp_path / "base", *words) != lonely.train(
        tmp_path / "changed", *words, "method.joint_batches=all"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_several_ideas_without_any_partner(
    small: SmallData, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*TOGETHER[name], "schedule.stage1_epochs=0", "schedule.stage2_epochs=1")
    real = labelling._match

    def unmatched(*rest: Any) -> Matching:
        return Matching(*(np.full_like(partners, -1) for partners in vars(real(*rest)).values()))

    monkeypatch.setattr(labelling, "_match", unmatched)
    small.train(tmp_path / "run", *words)
    (line,) = records(tmp_path / "run")
    assert line["matched"] == {"visible": 0, "infrared": 0}
    assert np.isfinite(line["loss"]["total"])


@pytest.mark.slow
def test_with_one_memory_per_cluster_mmm_is_the_baseline(trained: Trained) -> None:
    epochs = ("schedule.stage1_epochs=1", "schedule.stage2_epochs=1")
    assert trained("recipe=mmm", "method.sub_prototypes=1", *epochs) == trained("recipe=baseline", *epochs)
    assert trained("recipe=mmm", *epochs) != trained("recipe=baseline", *epochs)


@pytest.mark.slow
def test_several_memories_per_cluster_reach_the_matching(
    blurred: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On data this small the partners are the same as those of the centres, so the call itself is watched.
    asked = []

    def watched(*arguments: Any, most: int) -> Matching:
        asked.append(most)
        return match_by_memories(*arguments, most=most)

    monkeypatch.setattr(labelling, "match_by_memories", watched)
    blurred.train(tmp_path / "run", *BLURRED, "method.sub_prototypes=3", "method.matching=multi_memory")
    assert set(asked) == {3}  # once an epoch, and once for the calibration


@pytest.mark.slow
def test_the_resolution_reaches_the_weights_of_communities(blurred: SmallData, tmp_path: Path) -> None:
    both = [
        blurred.train(tmp_path / f"run{resolution}", *BLURRED, "method.clustering=community", resolution)
        for resolution in ("clustering.resolution=0.2", "clustering.resolution=0.4")
    ]
    assert both[0] != both[1]


@pytest.mark.slow
def test_the_search_reaches_the_neighbours(blurred: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    found = find_neighbours

    def watched(*arguments: Any, **options: Any) -> Neighbours:
        asked.append(options["method"])
        return found(*arguments, **options)

    monkeypatch.setattr(pipeline, "find_neighbours", watched)
    blurred.train(tmp_path / "run", *BLURRED, "clustering.search=approximate")
    assert asked
    assert set(asked) == {"approximate"}


# Precision and devices.


def test_half_precision_trains(small: SmallData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small.train(run, "recipe=baseline", "engine.precision=bf16-mixed", "schedule.stage2_epochs=0")
    assert records(run)[0]["loss"]["total"] > 0
    weights = load_file(run / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} <= {torch.float32, torch.int64}
    start = load_file(small.start)
    moved = [name for name, tensor in weights.items() if not torch.equal(tensor, start[name])]
    assert len(moved) > len(weights) / 2


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "kind"), [("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)])
def test_both_networks_run_in_half_precision(
    small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, kind: torch.dtype
) -> None:
    seen, forward = set(), Stem.forward

    def watched(self: Stem, images: torch.Tensor) -> torch.Tensor:
        features = forward(self, images)
        seen.add((self.training, torch.is_grad_enabled(), features.dtype))
        return features

    monkeypatch.setattr(Stem, "forward", watched)
    small.train(tmp_path / "run", f"engine.precision={precision}", "schedule.stage1_epochs=0")
    steps, momentum, embedding = (True, True), (True, False), (False, False)
    # The activation maps of the report, at the end, are computed in 32 bits.
    assert seen == {*((*passes, kind) for passes in (steps, momentum, embedding)), (*embedding, torch.float32)}


@pytest.mark.slow
def test_sixteen_bits_without_a_wide_exponent_scale_the_loss(small: SmallData, tmp_path: Path) -> None:
    half, full = tmp_path / "half", tmp_path / "full"
    shorter = ("schedule.stage2_epochs=0", "schedule.iterations=6")
    small.train(half, "engine.precision=16-mixed", *shorter)
    small.train(full, *shorter)
    first = [records(run, "step")[0]["loss"]["total"] for run in (half, full)]
    assert first[0] == pytest.approx(first[1], abs=0.01)
    assert first[0] != first[1]
    # The scale starts at 2¹⁶; if gradients overflow, the step is skipped and the scale halved.
    scale = load_latest_checkpoint(half / "checkpoints", pytest.fail).loss_scale
    assert scale["scale"] < 2**16
    assert 0 < scale["_growth_tracker"] < 6
    assert load_latest_checkpoint(full / "checkpoints", pytest.fail).loss_scale == {}


@pytest.mark.slow
def test_compiled_networks_train_alike(small: SmallData, tmp_path: Path) -> None:
    compiled, plain = tmp_path / "compiled", tmp_path / "plain"
    torch.compiler.reset()
    counters.clear()
    small.train(compiled, "engine.compile=true", "engine.precision=32-true")
    # Both networks, in training and while embedding, with one modality and with both.
    assert counters["stats"]["unique_graphs"] >= 4
    small.train(plain, "engine.precision=32-true")
    first = [records(run, "step")[0]["loss"]["total"] for run in (compiled, plain)]
    assert first[0] == pytest.approx(first[1], abs=1e-3)
    weights = [load_file(run / "model.safetensors") for run in (compiled, plain)]
    assert {name: tensor.shape for name, tensor in weights[0].items()} == {
        name: tensor.shape for name, tensor in weights[1].items()
    }


@pytest.mark.slow
def test_without_a_compiler_nothing_is_written(
    small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/nowhere/g++"))
    with pytest.raises(UserError, match=r"engine\.compile=true does not work .* install a C\+\+ compiler"):
        small.train(tmp_path / "run", "engine.compile=true")
    assert not (tmp_path / "run").exists()


def test_provenance_records_seed_and_images(small: SmallData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings: Settings = small.settings("seed=5", "schedule.stage2_epochs=0", "schedule.iterations=1")
    train(settings, small.training_set, run, Watcher())
    facts = json.loads((run / "provenance.json").read_text("utf-8"))
    assert facts["seed"] == 5
    assert facts["data"] == {
        "training_checksum": small.training_set.checksum,
        "training_images": {"visible": 36, "infrared": 36},
    }


def test_images_too_small_for_a_backbone(small: SmallData, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    patches = "model_type: vit, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32"
    choice = f"model.backbone={{{patches}, image_size: 32, patch_size: 32}}"
    with pytest.raises(UserError, match=r"images of 48 × 24 do not go through .* raise data\.height and data\.width"):
        small.train(tmp_path / "run", "model.architecture=backbone", "model.weights=none", choice)
    assert not (tmp_path / "run").exists()
