from __future__ import annotations

import math
from dataclasses import asdict, fields, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pclhd.engine.memories import DynamicSource, Memories, ModalityMemories
from pclhd.engine.step import Losses, Queries, TermWeights, collect_losses, cross_loss, joint_losses, unit
from pclhd.prototypes import ClusterMemory, DynamicMemory
from pclhd.recipes import BASELINE, PAPER, RECIPES, RELEASED, Recipe

WIDTH, TAU = 5, 0.1
PARTNERS = (torch.tensor([1, -1, 0]), torch.tensor([2, 0]))  # three visible clusters, two infrared ones


def rows(count: int, seed: int) -> Tensor:
    return functional.normalize(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)))


def cluster_memory(count: int, seed: int) -> ClusterMemory:
    return ClusterMemory(rows(count, seed), rows(count, seed + 1), momentum=0.3)


def memories(*, dynamic: bool = True) -> Memories:
    parts = []
    for count, seed in ((3, 10), (2, 20)):
        source = None
        if dynamic:
            instances = rows(count * 4, seed + 5).view(count, 4, WIDTH)
            labels = torch.arange(count).repeat_interleave(4)
            source = DynamicSource(DynamicMemory(instances), instances.flatten(0, 1), labels)
        parts.append(ModalityMemories(cluster_memory(count, seed), source))
    return Memories(parts[0], parts[1], cluster_memory(2, 30))


def queries(labels: list[int], seed: int, *, momentum: bool = False) -> Queries:
    return Queries(
        rows(len(labels), seed).requires_grad_(),
        torch.tensor(labels),
        rows(len(labels), seed + 1) if momentum else None,
    )


def visible(*, momentum: bool = False) -> Queries:
    return queries([0, 0, 1, 2, 2, 2], 1, momentum=momentum)


def infrared(*, momentum: bool = False) -> Queries:
    return queries([1, 0, 1], 3, momentum=momentum)


def collect(
    recipe: Recipe, weights: TermWeights, held: Memories, *, epoch: int = 0, momentum: bool = False
) -> tuple[Losses, Queries, Queries]:
    first, second = visible(momentum=momentum), infrared(momentum=momentum)
    losses = collect_losses(first, second, held, PARTNERS, weights, epoch=epoch, recipe=recipe, temperature=TAU)
    return losses, first, second


def frozen(memory: ClusterMemory) -> tuple[Tensor, Tensor]:
    return memory.centroids.clone(), memory.hard.clone()


def changed(memory: ClusterMemory, before: tuple[Tensor, Tensor]) -> bool:
    return not (torch.equal(memory.centroids, before[0]) and torch.equal(memory.hard, before[1]))


# Weights.


@pytest.mark.parametrize(
    ("recipe", "stage", "progress", "expected"),
    [
        (BASELINE, 1, 0.5, TermWeights(centroid=1)),
        (BASELINE, 2, 0.5, TermWeights(centroid=1, cross=0.25, joint=1)),
        (PAPER, 1, 1.0, TermWeights(centroid=1)),
        (PAPER, 2, 0.1, TermWeights(hard=0.5, dynamic=0.5, cross=0.25, joint=1)),
        (RELEASED, 1, 0.5, TermWeights(hybrid=1)),
        (RELEASED, 2, 0.5, TermWeights(hybrid=1, cross=0.25, joint=1)),
        (PAPER.model_copy(update={"stage2": "hard"}), 2, 0.5, TermWeights(hard=1, cross=0.25, joint=1)),
        (PAPER.model_copy(update={"stage2": "dynamic"}), 2, 0.5, TermWeights(dynamic=1, cross=0.25, joint=1)),
        (
            PAPER.model_copy(update={"hard_share": 0.75}),
            2,
            0,
            TermWeights(hard=0.75, dynamic=0.25, cross=0.25, joint=1),
        ),
        (
            PAPER.model_copy(update={"centroid_share": 0.6, "hard_share": 0.25}),
            2,
            0,
            TermWeights(centroid=0.6, hard=0.1, dynamic=0.3, cross=0.25, joint=1),
        ),
        (
            BASELINE.model_copy(update={"centroid_share": 0.6}),
            2,
            0,
            TermWeights(centroid=1, cross=0.25, joint=1),
        ),
        (PAPER.model_copy(update={"cross_stage1": True}), 1, 0, TermWeights(centroid=1, cross=0.25)),
        (PAPER.model_copy(update={"joint": 0.0, "cross": 0.0}), 2, 0, TermWeights(hard=0.5, dynamic=0.5)),
    ],
)
def test_weights_of_each_stage(recipe: Recipe, stage: int, progress: float, expected: TermWeights) -> None:
    weights = TermWeights.at(recipe, stage=stage, progress=progress)
    assert asdict(weights) == pytest.approx(asdict(expected))


@pytest.mark.parametrize("stage2", ["centroid", "hybrid", "hard", "dynamic", "hard+dynamic"])
def test_a_ramp_goes_from_stage_one_to_stage_two(stage2: str) -> None:
    ramp = PAPER.model_copy(update={"stage2": stage2, "progressive": "ramp"})
    switch = PAPER.model_copy(update={"stage2": stage2})
    first, last = TermWeights.at(ramp, stage=1, progress=1), TermWeights.at(switch, stage=2, progress=1)
    for progress in (0.0, 0.25, 0.5, 1.0):
        weights = TermWeights.at(ramp, stage=2, progress=progress)
        for name in ("centroid", "hybrid", "hard", "dynamic"):
            between = (1 - progress) * getattr(first, name) + progress * getattr(last, name)
            assert getattr(weights, name) == pytest.approx(between)
        assert (weights.cross, weights.joint) == (last.cross, last.joint)
        assert weights.centroid + weights.hybrid + weights.hard + weights.dynamic == pytest.approx(1)


# A slow twin: every loss by its formula, one query at a time.


def slow_contrast(similarity: list[float], label: int) -> float:
    scores = [math.exp(value / TAU) for value in similarity]
    return -math.log(scores[label] / sum(scores))


def slow_mean(features: Tensor, labels: list[int], prototypes: Tensor) -> float:
    values = [
        slow_contrast([float(feature @ prototype) for prototype in prototypes], label)
        for feature, label in zip(features, labels, strict=True)
    ]
    return sum(values) / len(values)


def slow_hybrid(features: Tensor, labels: list[int], memory: ClusterMemory) -> float:
    hard = slow_mean(features, labels, memory.hard)
    return 0.5 * (hard + max(slow_mean(features, labels, memory.centroids) - 0.2, 0.0))


def slow_dynamic(features: Tensor, labels: list[int], instances: Tensor) -> float:
    values = []
    for feature, label in zip(features, labels, strict=True):
        hardest = []
        for cluster, members in enumerate(instances):
            own = [float(feature @ member) for member in members]
            hardest.append(min(own) if cluster == label else max(own))
        values.append(slow_contrast(hardest, label))
    return sum(values) / len(values)


def with_partner(queries_: Queries, partner: Tensor) -> tuple[Tensor, list[int]]:
    kept = [row for row, label in enumerate(queries_.labels.tolist()) if int(partner[label]) >= 0]
    return queries_.features.detach()[kept], [int(partner[int(queries_.labels[row])]) for row in kept]


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("stage", "progress"), [(1, 1.0), (2, 0.4)])
def test_losses_equal_their_formulas(recipe: str, stage: int, progress: float, epoch: int) -> None:
    method = RECIPES[recipe].model_copy(update={"progressive": "ramp"})
    weights = TermWeights.at(method, stage=stage, progress=progress)
    coupled = method.memory_update == "in_backward"
    with_dynamic = weights.dynamic > 0 or (coupled and stage == 2)
    held = memories(dynamic=with_dynamic)
    losses, first, second = collect(method, weights, held, epoch=epoch, momentum=coupled)
    expected: dict[str, float] = {}
    printed: dict[str, float] = {}
    for name, mine, partner, own, other in (
        ("visible", first, PARTNERS[0], held.visible, held.infrared),
        ("infrared", second, PARTNERS[1], held.infrared, held.visible),
    ):
        features, labels = mine.features.detach(), mine.labels.tolist()
        if weights.centroid:
            expected[f"{name}_centroid"] = weights.centroid * slow_mean(features, labels, own.clusters.centroids)
        if weights.hybrid:
            expected[f"{name}_hybrid"] = weights.hybrid * slow_hybrid(features, labels, own.clusters)
        if weights.hard:
            expected[f"{name}_hard"] = weights.hard * slow_mean(features, labels, own.clusters.hard)
        if own.dynamic is not None:
            instances = own.dynamic.memory.instances
            if method.dynamic_gradient:
                expected[f"{name}_dynamic"] = weights.dynamic * slow_dynamic(features, labels, instances)
            else:
                assert mine.momentum is not None
                printed[f"{name}_dynamic"] = slow_dynamic(mine.momentum, labels, instances)
        turn = epoch % 2 == (name == "infrared")
        if weights.cross and (turn or method.cross_direction == "both"):
            kept, targets = with_partner(mine, partner)
            plain = slow_mean(kept, targets, other.clusters.centroids)
            value = slow_hybrid(kept, targets, other.clusters) if coupled else plain
            expected[f"{name}_cross"] = weights.cross * value
    assert {name: float(value.detach()) for name, value in losses.terms.items()} == pytest.approx(
        expected, rel=1e-4, abs=1e-6
    )
    assert {name: float(value) for name, value in losses.printed.items()} == pytest.approx(printed, rel=1e-4)
    assert float(losses.total.detach()) == pytest.approx(sum(expected.values()), rel=1e-4)


@pytest.mark.parametrize("recipe", ["paper", "released"])
def test_joint_losses_equal_their_formulas(recipe: str) -> None:
    memory = cluster_memory(2, 30)
    halves = queries([0, 1, 1], 1), queries([1, 0], 2)
    losses = joint_losses(*halves, memory, 0.7, recipe=RECIPES[recipe], temperature=TAU)
    for name, half in zip(("visible_joint", "infrared_joint"), halves, strict=True):
        features, labels = half.features.detach(), half.labels.tolist()
        plain = slow_mean(features, labels, memory.centroids)
        value = slow_hybrid(features, labels, memory) if recipe == "released" else plain
        assert float(losses.terms[name].detach()) == pytest.approx(0.7 * value, rel=1e-4, abs=1e-6)


# Who is pushed.


def gradient_of(value: Tensor, queries_: Queries) -> Tensor | None:
    (gradient,) = torch.autograd.grad(value, [queries_.features], retain_graph=True, allow_unused=True)
    return gradient


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stage", [1, 2])
def test_every_term_pushes_its_own_modality_and_no_other(recipe: str, stage: int) -> None:
    method = RECIPES[recipe].model_copy(update={"cross_direction": "both"})
    weights = TermWeights.at(method, stage=stage, progress=0.5)
    losses, first, second = collect(method, weights, memories(dynamic=weights.dynamic > 0))
    assert losses.terms
    for name, value in losses.terms.items():
        mine, other = (first, second) if name.startswith("visible") else (second, first)
        # Looked at before any backward pass may write a memory: each term by itself.
        gradient = gradient_of(value, mine)
        assert gradient is not None, name
        assert float(gradient.abs().sum()) > 0, name
        assert gradient_of(value, other) is None, name


def test_the_dynamic_loss_trains_in_the_paper_and_is_only_printed_by_the_released_code() -> None:
    paper = TermWeights.at(PAPER, stage=2, progress=1)
    losses, first, _ = collect(PAPER, paper, memories(), momentum=True)
    assert losses.terms["visible_dynamic"].requires_grad
    assert gradient_of(losses.terms["visible_dynamic"], first) is not None
    assert losses.printed == {}
    released = TermWeights.at(RELEASED, stage=2, progress=1)
    losses, _, _ = collect(RELEASED, released, memories(), momentum=True)
    assert set(losses.printed) == {"visible_dynamic", "infrared_dynamic"}
    assert not any(value.requires_grad for value in losses.printed.values())
    assert not set(losses.printed) & set(losses.terms)


@pytest.mark.parametrize(("epoch", "name"), [(0, "visible_cross"), (1, "infrared_cross"), (2, "visible_cross")])
def test_the_cross_term_takes_turns(epoch: int, name: str) -> None:
    losses, *_ = collect(PAPER, TermWeights(centroid=1, cross=1), memories(), epoch=epoch)
    assert [term for term in losses.terms if "cross" in term] == [name]


def test_both_directions_at_once() -> None:
    both = PAPER.model_copy(update={"cross_direction": "both"})
    losses, *_ = collect(both, TermWeights(centroid=1, cross=1), memories())
    assert {term for term in losses.terms if "cross" in term} == {"visible_cross", "infrared_cross"}


@pytest.mark.parametrize("recipe", [PAPER, RELEASED])
def test_queries_without_a_partner_are_left_out(recipe: Recipe) -> None:
    mine, memory = visible(), cluster_memory(2, 20)
    losses = Losses()
    cross_loss("cross", mine, PARTNERS[0], memory, 1.0, recipe=recipe, temperature=TAU, losses=losses)
    gradient = gradient_of(losses.terms["cross"], mine)
    assert gradient is not None
    pushed = gradient.abs().sum(1) > 0
    assert pushed.tolist() == [True, True, False, True, True, True]


@pytest.mark.parametrize(("partner", "weight"), [([-1, -1, -1], 1.0), ([1, 0, 1], 0.0)])
def test_no_cross_term_without_partners_or_weight(partner: list[int], weight: float) -> None:
    losses = Losses()
    cross_loss(
        "cross",
        visible(),
        torch.tensor(partner),
        cluster_memory(2, 20),
        weight,
        recipe=PAPER,
        temperature=TAU,
        losses=losses,
    )
    assert losses.terms == {}


# When memories change.


@pytest.mark.parametrize("recipe", [BASELINE, PAPER, RELEASED.model_copy(update={"memory_update": "after_step"})])
def test_memories_change_only_when_they_are_told_to(recipe: Recipe) -> None:
    held = memories()
    kept = [held.visible.clusters, held.infrared.clusters]
    before = [frozen(memory) for memory in kept]
    losses, first, second = collect(recipe, TermWeights.at(recipe, stage=2, progress=0.5), held)
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert not any(changed(memory, old) for memory, old in zip(kept, before, strict=True))
    assert len(losses.updates) == 2
    for update in losses.updates:
        update()
    for memory, old, mine in zip(kept, before, (first, second), strict=True):
        expected = ClusterMemory(*old, momentum=0.3)
        expected.update(mine.features.detach(), mine.labels)
        assert torch.equal(memory.centroids, expected.centroids)
        assert torch.equal(memory.hard, expected.hard)
        assert changed(memory, old)


def test_memories_of_the_released_code_change_within_the_backward_pass() -> None:
    held = memories(dynamic=False)
    before = frozen(held.visible.clusters), frozen(held.infrared.clusters)
    losses, *_ = collect(RELEASED, TermWeights.at(RELEASED, stage=2, progress=1), held)
    assert losses.updates == []
    assert not changed(held.visible.clusters, before[0])
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert changed(held.visible.clusters, before[0])
    assert changed(held.infrared.clusters, before[1])


@pytest.mark.parametrize("recipe", [PAPER, RELEASED])
def test_the_joint_memory(recipe: Recipe) -> None:
    memory = cluster_memory(2, 30)
    before = frozen(memory)
    losses = joint_losses(queries([0, 1], 1), queries([1, 0], 2), memory, 1.0, recipe=recipe, temperature=TAU)
    assert not changed(memory, before)
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert changed(memory, before) == (recipe is RELEASED)
    for update in losses.updates:
        update()
    assert changed(memory, before)


def test_unit_rows_in_32_bits() -> None:
    scaled = unit(torch.randn(4, 3).bfloat16() * 100)
    assert scaled.dtype == torch.float32
    assert scaled.norm(dim=1).tolist() == pytest.approx([1.0] * 4)


def test_every_weight_matters() -> None:
    everything = TermWeights(**{field.name: 1.0 for field in fields(TermWeights)})
    recipe = PAPER.model_copy(update={"cross_direction": "both"})
    whole, *_ = collect(recipe, everything, memories())
    for field in fields(TermWeights):
        if field.name == "joint":  # has a step of its own
            continue
        halved, *_ = collect(recipe, replace(everything, **{field.name: 0.5}), memories())
        names = [name for name in whole.terms if name.endswith(f"_{field.name}")]
        assert len(names) == 2
        for name in whole.terms:
            share = 0.5 if name in names else 1.0
            assert float(halved.terms[name].detach()) == pytest.approx(share * float(whole.terms[name].detach()))


# Confidence.


@pytest.mark.parametrize("name", ["baseline", "paper", "released"])
def test_a_query_without_confidence_pulls_nothing(name: str) -> None:
    recipe = RECIPES[name].model_copy(update={"cross_direction": "both"})
    weights = TermWeights.at(recipe, stage=2, progress=1.0)
    first, second = visible(momentum=True), infrared(momentum=True)
    trust = torch.tensor([0.0, 1.0, 0.5, 0.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 0.5])
    first, second = replace(first, confidence=trust[0]), replace(second, confidence=trust[1])
    held = memories()
    losses = collect_losses(first, second, held, PARTNERS, weights, epoch=0, recipe=recipe, temperature=TAU)
    losses.total.backward()  # type: ignore[no-untyped-call]
    for queries_, certain in ((first, trust[0]), (second, trust[1])):
        gradient = queries_.features.grad
        assert gradient is not None
        assert torch.equal(gradient.abs().sum(1) == 0, certain == 0)


@pytest.mark.parametrize("name", ["baseline", "released"])
def test_confidence_counts_in_the_joint_losses(name: str) -> None:
    recipe = RECIPES[name]
    parts = [queries([0, 1, 1], 1), queries([1, 0], 3)]
    trust = [torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.0, 1.0])]
    weighed = [replace(part, confidence=sure) for part, sure in zip(parts, trust, strict=True)]
    losses = joint_losses(weighed[0], weighed[1], cluster_memory(2, 30), 1.0, recipe=recipe, temperature=TAU)
    losses.total.backward()  # type: ignore[no-untyped-call]
    for part, sure in zip(weighed, trust, strict=True):
        assert part.features.grad is not None
        assert torch.equal(part.features.grad.abs().sum(1) == 0, sure == 0)
