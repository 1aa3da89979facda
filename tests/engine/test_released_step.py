"""The recipe `released`, step by step, against a slow twin: losses, memories, both networks, Adam's state.

The engine trains as it always does, from the settings to the last step. Only three things are changed: the network is
tiny, the pseudo labels and the matching are given, and everything that is drawn at random is recorded for the twin
(`slow_released.Story`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pclhd.clustering.matching import Matching
from pclhd.config import Settings
from pclhd.data.samplers import endless_batches
from pclhd.engine import batches as batches_module
from pclhd.engine import epoch as epoch_module
from pclhd.engine import memories as memories_module
from pclhd.engine import steps as steps_module
from pclhd.engine import terms as terms_module
from pclhd.engine import trainer as trainer_module
from pclhd.engine.epoch import begin_epoch, end_epoch
from pclhd.engine.labelling import EpochLabels, LabelRequest
from pclhd.engine.memories import Memories
from pclhd.engine.networks import Networks
from pclhd.engine.observer import Silent
from pclhd.engine.position import Position
from pclhd.engine.session import Session
from pclhd.engine.state import EpochState
from pclhd.losses import released_hybrid
from pclhd.models import backbones as backbones_module
from pclhd.models.two_stream import Architecture, TwoStreamNetwork
from tests.engine.double import in_double_precision
from tests.engine.runs import SmallData
from tests.engine.slow_released import (
    Batch,
    Chapter,
    Half,
    HybridMemory,
    HybridPass,
    Numbers,
    Page,
    SlowTraining,
    Story,
    balanced_centres,
    centres,
    instance_loss,
    snapshot,
    through_unit,
    unit,
)
from tests.golden.helpers import golden_files


@pytest.fixture(autouse=True)
def _in_double_precision() -> Iterator[None]:
    """Everything in 64 bits, engine and twin."""
    with in_double_precision():
        yield


TINY = Architecture(block="basic", depths=(1, 1, 1, 1), widths=(6, 8, 10, 12), stem_channels=6)
STEPS = 2

Labels = NDArray[np.int64]


@dataclass
class Given:
    """The pseudo labels of an epoch, which do not come from clustering here."""

    visible: Labels
    infrared: Labels
    joint: Labels
    visible_to_infrared: Labels
    infrared_to_visible: Labels


def draw_labels(random: np.random.Generator, counts: tuple[int, int], *, matched: bool, alone: bool) -> Given:
    """Five visible clusters, four infrared ones, some noise, every cluster of several sizes.

    Three joint clusters hold both modalities. With `alone`, two more hold one modality each. One of these is the first
    cluster, so leaving it out changes the numbers of the others.
    """

    def some(count: int, clusters: int) -> Labels:
        drawn = random.integers(-1, clusters, count)
        drawn[: 2 * clusters] = np.tile(np.arange(clusters), 2)
        return random.permutation(drawn)

    visible, infrared = some(counts[0], 5), some(counts[1], 4)
    joint = np.concatenate([some(counts[0], 3), some(counts[1], 3)])
    if alone:
        joint[joint >= 0] += 1
        joint[: counts[0]][random.choice(counts[0], 5, replace=False)] = 0
        joint[counts[0] :][random.choice(counts[1], 5, replace=False)] = 4
    return Given(
        visible,
        infrared,
        joint,
        random.permutation(np.array([0, 1, 2, 3, 1])) if matched else np.full(5, -1),
        random.permutation(5)[:4] if matched else np.full(4, -1),
    )


@dataclass
class Diary(Silent):
    """What the engine did: everything that it drew, and the state after each step."""

    matched: Callable[[int], bool]
    alone: bool
    start: TwoStreamNetwork | None = None
    images: Any = None
    networks: Networks | None = None
    memories: Memories | None = None
    given: list[Given] = field(default_factory=list)
    rows: list[list[NDArray[np.int64]]] = field(default_factory=list)
    views: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    drawn: list[Tensor] = field(default_factory=list)
    chapters: list[Chapter] = field(default_factory=list)
    pages: list[list[Page]] = field(default_factory=list)
    averages: list[dict[str, Tensor]] = field(default_factory=list)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(backbones_module, "ARCHITECTURES", {"narrow": TINY})
        patch.setattr(trainer_module, "begin_epoch", self._begin_epoch)
        patch.setattr(trainer_module, "end_epoch", self._end_epoch)
        patch.setattr(trainer_module, "label_epoch", self._label_epoch)
        for module, name, keep in (
            (steps_module, "visible_views", lambda given, made: self.views.append((given.clone(), made.clone()))),
            (steps_module, "infrared_view", lambda given, made: self.views.append((given.clone(), made.clone()))),
            (memories_module, "draw_members", lambda given, made: self.drawn.append(made)),
            (epoch_module, "build_memories", lambda given, made: setattr(self, "memories", made)),
        ):
            patch.setattr(module, name, _watched(getattr(module, name), keep))
        patch.setattr(batches_module, "endless_batches", self._recorded(endless_batches))

    def _recorded(self, real: Callable[..., Iterator[NDArray[np.int64]]]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Iterator[NDArray[np.int64]]:
            drawn: list[NDArray[np.int64]] = []
            self.rows.append(drawn)
            # Appends and hands on.
            return (drawn.append(rows) or rows for rows in real(*given, **named))  # type: ignore[func-returns-value]

        return call

    def _begin_epoch(self, session: Session, *rest: Any) -> EpochState:
        networks = session.networks
        if self.start is None:
            self.start, self.images = copy.deepcopy(networks.online), session.images
        self.networks = networks
        self.rows, self.views, self.drawn = [], [], []
        self.pages.append([])
        return begin_epoch(session, *rest)

    def _end_epoch(self, session: Session, position: Position, state: EpochState) -> dict[str, Any]:
        record = end_epoch(session, position, state)
        self.averages.append(snapshot(session.networks.momentum.network))
        self.chapters.append(self._chapter(session.settings, position))
        return record

    def _label_epoch(self, request: LabelRequest) -> EpochLabels:
        number = len(self.given)
        given = draw_labels(
            np.random.default_rng(number),
            (len(request.features.visible), len(request.features.infrared)),
            matched=self.matched(number),
            alone=self.alone,
        )
        self.given.append(given)
        matching = Matching(given.visible_to_infrared, given.infrared_to_visible)
        return EpochLabels(given.visible, given.infrared, given.joint if request.joint else None, matching)

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        networks, memories = self.networks, self.memories
        assert networks is not None
        assert memories is not None
        held = {"visible": memories.own.visible.clusters, "infrared": memories.own.infrared.clusters}
        if memories.joint is not None:
            held["joint"] = memories.joint.held.clusters
        entries = {}
        for name, memory in held.items():
            entries[f"{name} centroids"], entries[f"{name} hard"] = memory.centroids.clone(), memory.hard.clone()
        for name, part in memories.own.items():
            if part.dynamic is not None:
                entries[f"{name} instances"] = part.dynamic.memory.instances.clone()
        names = [name for name, parameter in networks.online.named_parameters() if parameter.requires_grad]
        state = networks.optimiser.state_dict()["state"]
        self.pages[-1].append(
            Page(
                dict(losses),
                entries,
                snapshot(networks.online),
                snapshot(networks.momentum.network),
                {name: {key: value.clone() for key, value in state[place].items()} for place, name in enumerate(names)},
            )
        )

    def _chapter(self, settings: Settings, position: Position) -> Chapter:
        given, second = self.given[-1], position.stage == 2
        before = settings.schedule.numbers().stage1_epochs if second else 0
        views = iter(self.views)
        own, joint = [], []
        for step in range(settings.schedule.numbers().iterations):
            own.append(Batch(self._half(0, self.rows[0][step], views), self._half(1, self.rows[1][step], views)))
            if second:
                joint.append(Batch(self._half(0, self.rows[2][step], views), self._half(1, self.rows[3][step], views)))
        assert next(views, None) is None
        assert len(self.rows) == (4 if second else 2)
        assert len(self.drawn) == (2 if second else 0)
        return Chapter(
            stage=position.stage,
            number_in_stage=position.epoch - before,
            visible_labels=given.visible.tolist(),
            infrared_labels=given.infrared.tolist(),
            joint_labels=given.joint.tolist(),
            visible_to_infrared={c: int(p) for c, p in enumerate(given.visible_to_infrared) if p >= 0},
            infrared_to_visible={c: int(p) for c, p in enumerate(given.infrared_to_visible) if p >= 0},
            drawn_visible=self.drawn[0].tolist() if second else [],
            drawn_infrared=self.drawn[1].tolist() if second else [],
            own_batches=own,
            joint_batches=joint,
        )

    def _half(self, modality: int, rows: NDArray[np.int64], views: Any) -> Half:
        pixels, view = next(views)
        part = (self.images.visible, self.images.infrared)[modality]
        # The images whose labels the twin will use are the images that were augmented.
        assert torch.equal(pixels, part.images[torch.from_numpy(rows)])
        assert len(view) == len(rows) * (2 if modality == 0 else 1)
        return Half(rows.tolist(), view)


def _watched(real: Callable[..., Any], keep: Callable[[Any, Any], object]) -> Callable[..., Any]:
    def call(*given: Any, **named: Any) -> Any:
        made = real(*given, **named)
        keep(given[0] if given else None, made)
        return made

    return call


def train_both(
    small: SmallData,
    tmp_path: Path,
    patch: pytest.MonkeyPatch,
    *overrides: str,
    matched: Callable[[int], bool] = lambda number: True,
    alone: bool = False,
    change: Callable[[Chapter], Chapter] = lambda chapter: chapter,
) -> tuple[Diary, list[list[Page]]]:
    """Train with the engine, then give the twin what was drawn and let it do the same."""
    chosen = (
        "recipe=released",
        "model.weights=none",
        "engine.accelerator=cpu",
        "engine.precision=32-true",
        f"schedule.iterations={STEPS}",
        "schedule.stage1_epochs=2",
        "schedule.stage2_epochs=2",
        "schedule.learning_rate=0.002",
        "schedule.weight_decay=0.01",
        "schedule.decay_every=1",
        "schedule.decay_factor=0.5",
        "schedule.ema_decay=0.8",
        "method.dynamic_samples=3",
        *overrides,
    )
    diary = Diary(matched, alone)
    diary.install(patch)
    small.train(tmp_path / "run", *chosen, observer=diary)
    settings = small.settings(*chosen)
    assert diary.start is not None
    twin = SlowTraining(
        Story(
            diary.start,
            diary.images.visible.images,
            diary.images.infrared.images,
            [change(chapter) for chapter in diary.chapters],
            Numbers(
                rate=settings.schedule.learning_rate,
                decay_every=settings.schedule.decay_every,
                decay_factor=settings.schedule.decay_factor,
                weight_decay=settings.schedule.weight_decay,
                average_decay=settings.schedule.numbers().ema_decay,
                memory_momentum=settings.memory.momentum,
                temperature=settings.memory.temperature,
                cross=settings.method.cross,
            ),
        )
    )
    return diary, twin.run()


def close(ours: Tensor, twin: Tensor, what: str) -> None:
    torch.testing.assert_close(
        ours.double(), twin.double(), rtol=1e-8, atol=1e-9, msg=lambda message: f"{what}: {message}"
    )


def all_close(ours: Mapping[str, Tensor], twin: Mapping[str, Tensor], what: str) -> None:
    assert ours.keys() == twin.keys(), what
    for name, tensor in ours.items():
        close(tensor, twin[name], f"{what}, {name}")


def compare(diary: Diary, expected: list[list[Page]]) -> None:
    """Everything after every step."""
    for epoch, (chapter, ours, theirs) in enumerate(zip(diary.chapters, diary.pages, expected, strict=True)):
        assert len(ours) == STEPS
        for step, (mine, twin) in enumerate(zip(ours, theirs, strict=True)):
            where = f"epoch {epoch}, stage {chapter.stage}, step {step}"
            assert mine.losses == pytest.approx(twin.losses, rel=1e-8), where
            all_close(mine.memories, twin.memories, f"{where}, memory")
            all_close(mine.online, twin.online, f"{where}, online network")
            assert mine.optimiser.keys() == twin.optimiser.keys(), where
            for name, state in mine.optimiser.items():
                all_close(state, twin.optimiser[name], f"{where}, Adam's state of {name}")
            if chapter.stage == 2:
                assert twin.average is not None
                assert mine.average is not None
                all_close(mine.average, twin.average, f"{where}, averaged network")


def names(page: Page) -> set[str]:
    return set(page.losses)


STAGE_TWO = {"infrared_hybrid", "visible_hybrid", "infrared_joint", "visible_joint", "total"} | {
    "infrared_dynamic",
    "visible_dynamic",
}


def test_both_stages_step_by_step(small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diary, expected = train_both(small, tmp_path, monkeypatch)
    compare(diary, expected)
    # The comparison covers both directions of the cross term, one after the other.
    assert [names(pages[0]) for pages in diary.pages] == [
        {"infrared_hybrid", "visible_hybrid", "total"},
        {"infrared_hybrid", "visible_hybrid", "total"},
        STAGE_TWO | {"visible_cross"},
        STAGE_TWO | {"infrared_cross"},
    ]
    # In stage I the network that would be saved and evaluated is the online one.
    for average, pages in zip(diary.averages[:2], diary.pages[:2], strict=True):
        assert all(torch.equal(tensor, pages[-1].online[name]) for name, tensor in average.items())
    # Two steps of Adam per iteration in stage II, counted from 0 again at its start.
    counts = [int(page.optimiser["neck.weight"]["step"]) for pages in diary.pages for page in pages]
    assert counts == [1, 2, 3, 4, 2, 4, 6, 8]


def test_the_margin_and_no_match(small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses on both sides of the margin, which is raised to their size; and an epoch whose maps are empty."""
    means: list[float] = []
    real = HybridPass.__init__

    def watched(self: HybridPass, *given: Any) -> None:
        real(self, *given)
        means.append(self.centroid)

    monkeypatch.setattr(HybridPass, "margin", 1.4)
    monkeypatch.setattr(HybridPass, "__init__", watched)
    monkeypatch.setattr(terms_module, "released_hybrid", partial(released_hybrid, margin=1.4))
    diary, expected = train_both(
        small,
        tmp_path,
        monkeypatch,
        "schedule.stage1_epochs=0",
        "memory.temperature=0.1",
        "memory.momentum=0.6",
        matched=lambda number: number > 0,
    )
    compare(diary, expected)
    assert names(diary.pages[0][0]) == STAGE_TWO
    assert names(diary.pages[1][0]) == STAGE_TWO | {"infrared_cross"}
    assert min(means) < 1.4 < max(means)


ONE_EPOCH = ("schedule.stage1_epochs=0", "schedule.stage2_epochs=1")


def without_one_modality_clusters(chapter: Chapter) -> Chapter:
    """Make joint clusters of one modality noise, and renumber the others."""
    border = len(chapter.visible_labels)
    both = sorted(set(chapter.joint_labels[:border]) & set(chapter.joint_labels[border:]) - {-1})
    assert 0 < len(both) < max(chapter.joint_labels) + 1
    number = {c: place for place, c in enumerate(both)}
    return replace(chapter, joint_labels=[number.get(c, -1) for c in chapter.joint_labels])


def test_joint_clusters_of_one_modality_are_noise_if_only_shared_ones_have_prototypes(
    small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*ONE_EPOCH, "method.joint_prototypes=shared")
    diary, expected = train_both(small, tmp_path, monkeypatch, *words, alone=True, change=without_one_modality_clusters)
    compare(diary, expected)


def test_joint_clusters_of_one_modality_have_a_prototype(
    small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The released code gives joint clusters of one modality a centre, too: in no batch, but they repel others."""
    compare(*train_both(small, tmp_path, monkeypatch, *ONE_EPOCH, alone=True))


def test_the_cross_term_after_an_odd_first_stage(
    small: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The released code's second stage is a training of its own, whose first epoch pushes visible features."""
    compare(*train_both(small, tmp_path, monkeypatch, "schedule.stage1_epochs=1", "schedule.stage2_epochs=1"))


# The twin itself, against recordings of the released code.


def rows_of(array: NDArray[np.float32]) -> list[Tensor]:
    return [torch.tensor(row, dtype=torch.float64) for row in array]


def recorded_memory(recorded: Mapping[str, Any]) -> HybridMemory:
    rows, clusters = rows_of(recorded["features_before"]), int(recorded["num_classes"])
    return HybridMemory(rows[:clusters], rows[clusters:], float(recorded["momentum"]), float(recorded["temp"]))


def check_gradient(inputs: list[Tensor], gradients: list[Tensor], recorded: NDArray[np.float32]) -> None:
    ours = torch.stack([through_unit(row, gradient) for row, gradient in zip(inputs, gradients, strict=True)])
    np.testing.assert_allclose(ours.numpy(), recorded, rtol=0, atol=1e-5)


def check_memory(memory: HybridMemory, recorded: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(torch.stack(memory.centroids + memory.hard).numpy(), recorded, rtol=0, atol=1e-5)


def arrays_of(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def recorded_memories(*, hybrid: bool) -> list[Path]:
    """The files of hybrid memories, two rows per class, or else those of instance memories."""
    found = []
    for path in golden_files("memory_*.npz"):
        recorded = arrays_of(path)
        instances = "num_instances" in recorded
        twice = len(recorded["features_before"]) == 2 * int(recorded["num_classes"])
        if (twice and not instances) if hybrid else instances:
            found.append(path)
    return found


@pytest.mark.parametrize("path", recorded_memories(hybrid=True), ids=lambda path: path.stem)
def test_the_twin_equals_the_recorded_memory(path: Path) -> None:
    recorded = arrays_of(path)
    memory = recorded_memory(recorded)
    passes = []
    for end, weight in (("", None),) if "inputs" in recorded else (("_a", None), ("_b", "weight_b")):
        inputs = rows_of(recorded[f"inputs{end}"])
        share = 1.0 if weight is None else float(recorded[weight])
        through = HybridPass(memory, [unit(row) for row in inputs], recorded[f"targets{end}"].tolist(), share)
        assert through.loss == pytest.approx(share * float(recorded[f"loss{end}"]), abs=1e-5)
        passes.append((through, inputs, end))
    check_memory(memory, recorded["features_before"])
    for through, inputs, end in reversed(passes):
        check_gradient(inputs, through.backward(), recorded[f"grad_inputs{end}"])
    check_memory(memory, recorded["features_after"])


@pytest.mark.parametrize("path", recorded_memories(hybrid=False), ids=lambda path: path.stem)
def test_the_twin_equals_the_recorded_instance_loss(path: Path) -> None:
    recorded = arrays_of(path)
    clusters, rows = int(recorded["num_classes"]), rows_of(recorded["features_before"])
    instances = [rows[c::clusters] for c in range(clusters)]
    inputs = [unit(row) for row in rows_of(recorded["inputs"])]
    loss = instance_loss(inputs, recorded["targets"].tolist(), instances, float(recorded["temp"]))
    assert loss == pytest.approx(float(recorded["loss"]), abs=1e-5)


@pytest.mark.parametrize("path", golden_files("centers*.npz"), ids=lambda path: path.stem)
def test_the_twin_equals_the_recorded_centres(path: Path) -> None:
    recorded = arrays_of(path)
    features, labels, modality = rows_of(recorded["features"]), recorded["labels"], recorded["modality"]
    ours = torch.stack(centres(features, labels.tolist()))
    np.testing.assert_allclose(ours.numpy(), recorded["cluster_centers"], rtol=0, atol=1e-5)
    order = np.argsort(modality, kind="stable")
    parts = [[features[row] for row in order if modality[row] == which] for which in (0, 1)]
    ours = torch.stack(balanced_centres(parts[0], parts[1], labels[order].tolist()))
    np.testing.assert_allclose(ours.numpy(), recorded["modal_invariant_centers"], rtol=0, atol=1e-5)
