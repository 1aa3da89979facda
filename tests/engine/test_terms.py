from __future__ import annotations

import math
from dataclasses import asdict, fields, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pclhd.engine.across import cross_terms, joint_losses, own_losses
from pclhd.engine.memories import DynamicSource, JointMemories, Memories, ModalityMemories
from pclhd.engine.term_weights import TermWeights
from pclhd.engine.terms import MEMORY_USE, Losses, Queries, Term, compute_losses
from pclhd.pair import Pair
from pclhd.prototypes import ClusterMemory, DynamicMemory, MultiMemory
from pclhd.recipes import BASELINE, MMM, RECIPES, RELEASED, Recipe
from tests.readings import ABRUPT

WIDTH, TAU = 5, 0.1
PARTNERS = Pair(torch.tensor([1, -1, 0]), torch.tensor([2, 0]))  # three visible clusters, two infrared ones


def rows(count: int, seed: int) -> Tensor:
    return functional.normalize(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)))


def cluster_memory(count: int, seed: int) -> ClusterMemory:
    return ClusterMemory(rows(count, seed), rows(count, seed + 1), momentum=0.3)


def multi_memory(count: int, seed: int) -> MultiMemory:
    """Three prototypes for the first cluster, two for the others."""
    owners = torch.tensor([0, *[cluster for cluster in range(count) for _ in range(2)]])
    return MultiMemory(rows(len(owners), seed), owners, momentum=0.3)


def memories(*, dynamic: bool = True, multi: bool = False) -> Memories:
    parts = []
    for count, seed in ((3, 10), (2, 20)):
        source = None
        if dynamic:
            instances = rows(count * 4, seed + 5).view(count, 4, WIDTH)
            labels = torch.arange(count).repeat_interleave(4)
            source = DynamicSource(DynamicMemory(instances), instances.flatten(0, 1), labels)
        several = multi_memory(count, seed + 7) if multi else None
        parts.append(ModalityMemories(cluster_memory(count, seed), source, several))
    return Memories(Pair(*parts), joint_memories(cluster_memory(2, 30)))


def joint_memories(memory: ClusterMemory) -> JointMemories:
    return JointMemories(ModalityMemories(memory))


def joint_weight(weight: float) -> TermWeights:
    return TermWeights(joint=weight)


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
    losses = own_losses(Pair(first, second), held, PARTNERS, weights, epoch=epoch, recipe=recipe, temperature=TAU)
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
        (ABRUPT, 1, 1.0, TermWeights(centroid=1)),
        (ABRUPT, 2, 0.1, TermWeights(hard=0.5, dynamic=0.5, cross=0.25, joint=1)),
        (RELEASED, 1, 0.5, TermWeights(hybrid=1)),
        (RELEASED, 2, 0.5, TermWeights(hybrid=1, cross=0.25, joint=1)),
        (ABRUPT.model_copy(update={"stage2": "hard"}), 2, 0.5, TermWeights(hard=1, cross=0.25, joint=1)),
        (ABRUPT.model_copy(update={"stage2": "dynamic"}), 2, 0.5, TermWeights(dynamic=1, cross=0.25, joint=1)),
        (
            ABRUPT.model_copy(update={"hard_share": 0.75}),
            2,
            0,
            TermWeights(hard=0.75, dynamic=0.25, cross=0.25, joint=1),
        ),
        (
            ABRUPT.model_copy(update={"centroid_share": 0.6, "hard_share": 0.25}),
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
        (ABRUPT.model_copy(update={"cross_stage1": True}), 1, 0, TermWeights(centroid=1, cross=0.25)),
        (ABRUPT.model_copy(update={"joint": 0.0, "cross": 0.0}), 2, 0, TermWeights(hard=0.5, dynamic=0.5)),
    ],
)
def test_weights_of_each_stage(recipe: Recipe, stage: int, progress: float, expected: TermWeights) -> None:
    weights = TermWeights.at(recipe, stage=stage, progress=progress)
    assert asdict(weights) == pytest.approx(asdict(expected))


@pytest.mark.parametrize("stage2", ["centroid", "hybrid", "hard", "dynamic", "hard+dynamic"])
def test_a_ramp_goes_from_stage_one_to_stage_two(stage2: str) -> None:
    ramp = ABRUPT.model_copy(update={"stage2": stage2, "progressive": "ramp"})
    switch = ABRUPT.model_copy(update={"stage2": stage2})
    first, last = TermWeights.at(ramp, stage=1, progress=1), TermWeights.at(switch, stage=2, progress=1)
    for progress in (0.0, 0.25, 0.5, 1.0):
        weights = TermWeights.at(ramp, stage=2, progress=progress)
        for name in ("centroid", "hybrid", "hard", "dynamic"):
            between = (1 - progress) * getattr(first, name) + progress * getattr(last, name)
            assert getattr(weights, name) == pytest.approx(between)
        assert (weights.cross, weights.joint) == (last.cross, last.joint)
        assert weights.centroid + weights.hybrid + weights.hard + weights.dynamic == pytest.approx(1)


def test_the_cross_term_grows_by_itself() -> None:
    grows = ABRUPT.model_copy(update={"cross": 0.8, "cross_progressive": "ramp"})
    for progress in (0.1, 0.5, 1.0):
        weights = TermWeights.at(grows, stage=2, progress=progress)
        assert weights.cross == pytest.approx(0.8 * progress)
        assert (weights.hard, weights.joint) == (0.5, 1)
    early = grows.model_copy(update={"cross_stage1": True})
    assert TermWeights.at(early, stage=2, progress=0.3).cross == pytest.approx(0.8)


def test_self_distillation_belongs_to_stage_two() -> None:
    recipe = ABRUPT.model_copy(update={"distillation": 0.7, "progressive": "ramp"})
    assert TermWeights.at(recipe, stage=1, progress=1).distillation == 0
    assert TermWeights.at(recipe, stage=2, progress=0.2).distillation == 0.7


# A slow twin: every loss by its formula, one query at a time.


def slow_contrast(similarity: list[float], label: int) -> float:
    scores = [math.exp(value / TAU) for value in similarity]
    return -math.log(scores[label] / sum(scores))


def slow_centres(features: Tensor, labels: list[int], memory: ModalityMemories) -> float:
    """Against the centroids, or against the nearest of several prototypes per cluster."""
    if memory.multi is None:
        return slow_mean(features, labels, memory.clusters.centroids)
    values = []
    for feature, label in zip(features, labels, strict=True):
        nearest = [
            max(float(feature @ part) for part, there in zip(parts, present, strict=True) if there)
            for parts, present in zip(memory.multi.prototypes, memory.multi.present, strict=True)
        ]
        values.append(slow_contrast(nearest, label))
    return sum(values) / len(values)


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
    held = memories(dynamic=with_dynamic, multi=method.sub_prototypes > 1)
    losses, first, second = collect(method, weights, held, epoch=epoch, momentum=coupled)
    expected: dict[str, float] = {}
    logged: dict[str, float] = {}
    for name, mine, partner, own, other in (
        ("visible", first, PARTNERS[0], held.own.visible, held.own.infrared),
        ("infrared", second, PARTNERS[1], held.own.infrared, held.own.visible),
    ):
        features, labels = mine.features.detach(), mine.labels.tolist()
        if weights.centroid:
            expected[f"{name}_centroid"] = weights.centroid * slow_centres(features, labels, own)
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
                logged[f"{name}_dynamic"] = slow_dynamic(mine.momentum, labels, instances)
        turn = epoch % 2 == (name == "infrared")
        if weights.cross and method.cross_form == "partner" and (turn or method.cross_direction == "both"):
            kept, targets = with_partner(mine, partner)
            if method.cross_contrast == "own":
                assert other.dynamic is not None
                members = other.dynamic.memory.instances
                across = {
                    "centroid": weights.centroid * slow_centres(kept, targets, other),
                    "hard": weights.hard * slow_mean(kept, targets, other.clusters.hard),
                    "dynamic": weights.dynamic * slow_dynamic(kept, targets, members),
                }
                expected |= {f"{name}_cross_{kind}": weights.cross * value for kind, value in across.items()}
            else:
                value = slow_hybrid(kept, targets, other.clusters) if coupled else slow_centres(kept, targets, other)
                expected[f"{name}_cross"] = weights.cross * value
    found = {name: float(value.detach()) for name, value in losses.terms.items()}
    total = sum(found.values())
    elsewhere = {f"{name}_distillation" for name in ("visible", "infrared")}  # tests/engine/test_across.py
    if method.cross_form == "unified":
        elsewhere |= {f"{name}_cross" for name in ("visible", "infrared")}
    found = {name: value for name, value in found.items() if name not in elsewhere}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert {name: float(value) for name, value in losses.logged.items()} == pytest.approx(logged, rel=1e-4)
    assert float(losses.total.detach()) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("recipe", ["baseline", "released"])
def test_joint_losses_equal_their_formulas(recipe: str) -> None:
    memory = cluster_memory(2, 30)
    halves = Pair(queries([0, 1, 1], 1), queries([1, 0], 2))
    losses = joint_losses(halves, joint_memories(memory), joint_weight(0.7), recipe=RECIPES[recipe], temperature=TAU)
    for name, half in zip(("visible_joint", "infrared_joint"), halves, strict=True):
        features, labels = half.features.detach(), half.labels.tolist()
        plain = slow_mean(features, labels, memory.centroids)
        value = slow_hybrid(features, labels, memory) if recipe == "released" else plain
        assert float(losses.terms[name].detach()) == pytest.approx(0.7 * value, rel=1e-4, abs=1e-6)


# Which embeddings a term pushes.


def gradient_of(value: Tensor, queries_: Queries) -> Tensor | None:
    (gradient,) = torch.autograd.grad(value, [queries_.features], retain_graph=True, allow_unused=True)
    return gradient


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stage", [1, 2])
def test_every_term_pushes_its_own_modality_and_no_other(recipe: str, stage: int) -> None:
    method = RECIPES[recipe].model_copy(update={"cross_direction": "both"})
    weights = TermWeights.at(method, stage=stage, progress=0.5)
    held = memories(dynamic=weights.dynamic > 0, multi=method.sub_prototypes > 1)
    losses, first, second = collect(method, weights, held)
    assert losses.terms
    for name, value in losses.terms.items():
        mine, other = (first, second) if name.startswith("visible") else (second, first)
        # Each term by itself, before any backward pass can write a memory.
        gradient = gradient_of(value, mine)
        assert gradient is not None, name
        assert float(gradient.abs().sum()) > 0, name
        assert gradient_of(value, other) is None, name


def test_the_dynamic_loss_trains_in_the_paper_and_is_only_logged_by_the_released_code() -> None:
    paper = TermWeights.at(ABRUPT, stage=2, progress=1)
    losses, first, _ = collect(ABRUPT, paper, memories(), momentum=True)
    assert losses.terms["visible_dynamic"].requires_grad
    assert gradient_of(losses.terms["visible_dynamic"], first) is not None
    assert losses.logged == {}
    released = TermWeights.at(RELEASED, stage=2, progress=1)
    losses, _, _ = collect(RELEASED, released, memories(), momentum=True)
    assert set(losses.logged) == {"visible_dynamic", "infrared_dynamic"}
    assert not any(value.requires_grad for value in losses.logged.values())
    assert not set(losses.logged) & set(losses.terms)


@pytest.mark.parametrize("gradient", [True, False])
def test_the_mean_of_the_instances_by_its_formula(gradient: bool) -> None:
    mean = ABRUPT.model_copy(update={"dynamic_similarity": "mean", "dynamic_gradient": gradient})
    held = memories()
    losses, first, second = collect(mean, TermWeights(dynamic=0.4), held, momentum=True)
    for name, queries_, part in (("visible", first, held.own.visible), ("infrared", second, held.own.infrared)):
        assert part.dynamic is not None
        instances = part.dynamic.memory.instances
        features = queries_.features.detach() if gradient else queries_.momentum
        assert features is not None
        values = [
            slow_contrast([sum(float(feature @ one) for one in members) / len(members) for members in instances], label)
            for feature, label in zip(features, queries_.labels.tolist(), strict=True)
        ]
        expected = sum(values) / len(values)
        if not gradient:
            assert float(losses.logged[f"{name}_dynamic"]) == pytest.approx(expected, rel=1e-4)
            continue
        assert float(losses.terms[f"{name}_dynamic"].detach()) == pytest.approx(0.4 * expected, rel=1e-4)
        # The gradient of a contrast with means is that of a contrast with the mean instances as prototypes.
        inputs = queries_.features.detach().requires_grad_()
        scores = inputs @ instances.mean(1).T / TAU
        twin = 0.4 * functional.cross_entropy(scores, queries_.labels)
        (expected_gradient,) = torch.autograd.grad(twin, [inputs])
        found = gradient_of(losses.terms[f"{name}_dynamic"], queries_)
        assert found is not None
        torch.testing.assert_close(found, expected_gradient, rtol=1e-4, atol=1e-6)
    hardest, *_ = collect(
        ABRUPT.model_copy(update={"dynamic_gradient": gradient}), TermWeights(dynamic=0.4), memories()
    )
    assert not gradient or not torch.equal(hardest.terms["visible_dynamic"], losses.terms["visible_dynamic"])


@pytest.mark.parametrize(("epoch", "name"), [(0, "visible_cross"), (1, "infrared_cross"), (2, "visible_cross")])
def test_the_cross_term_takes_turns(epoch: int, name: str) -> None:
    losses, *_ = collect(ABRUPT, TermWeights(centroid=1, cross=1), memories(), epoch=epoch)
    assert [term for term in losses.terms if "cross" in term] == [name]


def test_both_directions_at_once() -> None:
    both = ABRUPT.model_copy(update={"cross_direction": "both"})
    losses, *_ = collect(both, TermWeights(centroid=1, cross=1), memories())
    assert {term for term in losses.terms if "cross" in term} == {"visible_cross", "infrared_cross"}


@pytest.mark.parametrize("recipe", [ABRUPT, RELEASED])
def test_queries_without_a_partner_are_left_out(recipe: Recipe) -> None:
    mine, memory = visible(), ModalityMemories(cluster_memory(2, 20))
    across = Term("cross", MEMORY_USE[recipe.memory_update].across, mine, memory, 1.0, PARTNERS.visible)
    losses = compute_losses([across], recipe=recipe, temperature=TAU)
    gradient = gradient_of(losses.terms["cross"], mine)
    assert gradient is not None
    pushed = gradient.abs().sum(1) > 0
    assert pushed.tolist() == [True, True, False, True, True, True]


@pytest.mark.parametrize(("partner", "weight"), [([-1, -1, -1], 1.0), ([1, 0, 1], 0.0)])
def test_no_cross_term_without_partners_or_weight(partner: list[int], weight: float) -> None:
    partners = Pair(torch.tensor(partner), PARTNERS.infrared)
    weights = TermWeights(cross=weight)
    terms = cross_terms(Pair(visible(), infrared()), memories().own, partners, weights, epoch=0, recipe=ABRUPT)
    assert compute_losses(terms, recipe=ABRUPT, temperature=TAU).terms == {}


def test_a_dynamic_term_needs_dynamic_prototypes() -> None:
    term = Term("dynamic", "dynamic", visible(), memories(dynamic=False).own.visible, 1.0)
    with pytest.raises(ValueError, match="a dynamic term needs"):
        compute_losses([term], recipe=ABRUPT, temperature=TAU)


# When memories change.


@pytest.mark.parametrize("recipe", [BASELINE, ABRUPT, RELEASED.model_copy(update={"memory_update": "after_step"})])
def test_memories_change_only_when_updated(recipe: Recipe) -> None:
    held = memories()
    kept = [held.own.visible.clusters, held.own.infrared.clusters]
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


def test_several_prototypes_change_only_when_updated() -> None:
    held = memories(dynamic=False, multi=True)
    several = [held.own.visible.multi, held.own.infrared.multi]
    before = [None if memory is None else memory.prototypes.clone() for memory in several]
    losses, first, second = collect(MMM, TermWeights.at(MMM, stage=2, progress=0.5), held)
    losses.total.backward()  # type: ignore[no-untyped-call]
    for memory, old in zip(several, before, strict=True):
        assert memory is not None
        assert old is not None
        assert torch.equal(memory.prototypes, old)
    for update in losses.updates:
        update()
    for memory, mine, count, seed in zip(several, (first, second), (3, 2), (17, 27), strict=True):
        assert memory is not None
        expected = multi_memory(count, seed)
        expected.update(mine.features.detach(), mine.labels)
        assert torch.equal(memory.prototypes, expected.prototypes)
        assert not torch.equal(memory.prototypes, multi_memory(count, seed).prototypes)


def test_memories_of_the_released_code_change_within_the_backward_pass() -> None:
    held = memories(dynamic=False)
    before = frozen(held.own.visible.clusters), frozen(held.own.infrared.clusters)
    losses, *_ = collect(RELEASED, TermWeights.at(RELEASED, stage=2, progress=1), held)
    assert losses.updates == []
    assert not changed(held.own.visible.clusters, before[0])
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert changed(held.own.visible.clusters, before[0])
    assert changed(held.own.infrared.clusters, before[1])


@pytest.mark.parametrize("recipe", [ABRUPT, RELEASED])
def test_the_joint_memory(recipe: Recipe) -> None:
    memory = cluster_memory(2, 30)
    before = frozen(memory)
    halves = Pair(queries([0, 1], 1), queries([1, 0], 2))
    losses = joint_losses(halves, joint_memories(memory), joint_weight(1), recipe=recipe, temperature=TAU)
    assert not changed(memory, before)
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert changed(memory, before) == (recipe is RELEASED)
    for update in losses.updates:
        update()
    assert changed(memory, before)


def after_a_step(order: str, update: str) -> list[Tensor]:
    """Gradients of the joint losses and of all others, and the joint memory after the step."""
    recipe = RELEASED.model_copy(update={"loss_order": order, "memory_update": update, "cross_direction": "both"})
    held = memories(dynamic=False)
    losses, first, second = collect(recipe, TermWeights.at(recipe, stage=2, progress=1), held)
    halves = Pair(queries([0, 1, 1], 5), queries([1, 0], 6))
    assert held.joint is not None
    joint = joint_losses(halves, held.joint, joint_weight(1), recipe=recipe, temperature=TAU)
    for part in (losses, joint):
        part.total.backward()  # type: ignore[no-untyped-call]
        for update_ in part.updates:
            update_()
    gradients = [part.features.grad for part in (first, second, *halves)]
    return [*(gradient for gradient in gradients if gradient is not None), *frozen(held.joint.held.clusters)]


def test_the_order_matters_where_memories_are_written_in_the_backward_pass() -> None:
    infrared_first, visible_first = (
        after_a_step(order, "in_backward") for order in ("infrared_first", "visible_first")
    )
    assert len(infrared_first) == 6
    same = [torch.allclose(one, other, atol=1e-5) for one, other in zip(infrared_first, visible_first, strict=True)]
    # The backward pass visits the last losses first: they see the joint memory as it was, the others as those left it.
    # Only a cross loss reads a modality's own memory again, and it comes last in either order.
    assert same == [True, True, False, False, False, False]


def test_the_order_does_not_matter_where_memories_are_written_afterwards() -> None:
    infrared_first, visible_first = (after_a_step(order, "after_step") for order in ("infrared_first", "visible_first"))
    for one, other in zip(infrared_first, visible_first, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_order_of_the_terms() -> None:
    for order, expected in (("infrared_first", ["infrared", "visible"]), ("visible_first", ["visible", "infrared"])):
        recipe = BASELINE.model_copy(update={"loss_order": order})
        losses, *_ = collect(recipe, TermWeights(centroid=1), memories(dynamic=False))
        assert list(losses.terms) == [f"{name}_centroid" for name in expected]
        joint = joint_losses(
            Pair(queries([0, 1], 1), queries([1, 0], 2)),
            joint_memories(cluster_memory(2, 30)),
            joint_weight(1),
            recipe=recipe,
            temperature=TAU,
        )
        assert list(joint.terms) == [f"{name}_joint" for name in expected]


def test_every_weight_matters() -> None:
    everything = TermWeights(**{field.name: 1.0 for field in fields(TermWeights)})
    recipe = ABRUPT.model_copy(update={"cross_direction": "both"})
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
    losses = own_losses(Pair(first, second), held, PARTNERS, weights, epoch=0, recipe=recipe, temperature=TAU)
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
    memory = joint_memories(cluster_memory(2, 30))
    losses = joint_losses(Pair(*weighed), memory, joint_weight(1), recipe=recipe, temperature=TAU)
    losses.total.backward()  # type: ignore[no-untyped-call]
    for part, sure in zip(weighed, trust, strict=True):
        assert part.features.grad is not None
        assert torch.equal(part.features.grad.abs().sum(1) == 0, sure == 0)
