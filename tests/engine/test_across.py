"""The losses across the modalities against slow twins: one query and one prototype at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pclhd.engine.across import distillation_losses, joint_losses, kinds_across, own_losses, partner_table
from pclhd.engine.memories import DynamicSource, JointMemories, Memories, ModalityMemories
from pclhd.engine.term_weights import TermWeights
from pclhd.engine.terms import Losses, Queries
from pclhd.pair import Pair
from pclhd.prototypes import ClusterMemory, DynamicMemory, SplitRows
from pclhd.recipes import BASELINE, RELEASED, Recipe
from tests.engine.test_terms import PARTNERS, TAU, WIDTH, cluster_memory, gradient_of, memories, queries, rows
from tests.readings import ABRUPT

NOBODY = Pair(torch.tensor([-1, -1, -1]), torch.tensor([-1, -1]))
OWN = ABRUPT.model_copy(update={"cross_contrast": "own", "cross_direction": "both"})
WEIGHTS = TermWeights(centroid=0.2, hard=0.5, dynamic=0.3, cross=0.4)


def batch() -> Pair[Queries]:
    return Pair(queries([0, 0, 1, 2, 2, 2], 1), queries([1, 0, 1], 3))


def losses_of(
    recipe: Recipe, weights: TermWeights, held: Memories, part: Pair[Queries], partners: Pair[Tensor] = PARTNERS
) -> Losses:
    return own_losses(part, held, partners, weights, epoch=0, recipe=recipe, temperature=TAU)


def slow_shared(scores: Sequence[float], positives: Sequence[int], negatives: int | None = None) -> float:
    """Mean over the positives of −log of their share among them and the nearest others."""
    others = sorted((score for place, score in enumerate(scores) if place not in positives), reverse=True)
    counted = [scores[place] for place in positives] + others[:negatives]
    total = sum(math.exp(score / TAU) for score in counted)
    return sum(-math.log(math.exp(scores[place] / TAU) / total) for place in positives) / len(positives)


def slow_scores(feature: Tensor, memory: ModalityMemories, kind: str, positives: Sequence[int]) -> list[float]:
    """A query's similarity to each cluster; of dynamic prototypes the hardest."""
    if kind != "dynamic":
        prototypes = memory.clusters.centroids if kind == "centroid" else memory.clusters.hard
        return [float(feature @ prototype) for prototype in prototypes]
    assert memory.dynamic is not None
    hardest = []
    for cluster, instances in enumerate(memory.dynamic.memory.instances):
        values = [float(feature @ instance) for instance in instances]
        hardest.append(min(values) if cluster in positives else max(values))
    return hardest


# The cross term.


def test_the_mix_of_the_own_term_across_the_modalities() -> None:
    held, part = memories(), batch()
    found = losses_of(OWN, WEIGHTS, held, part)
    for name, other, partner in (
        ("visible", held.own.infrared, PARTNERS.visible),
        ("infrared", held.own.visible, PARTNERS.infrared),
    ):
        mine = part.of(name)  # type: ignore[arg-type]
        kept = [row for row, label in enumerate(mine.labels.tolist()) if int(partner[label]) >= 0]
        for kind, share in (("centroid", 0.2), ("hard", 0.5), ("dynamic", 0.3)):
            values = []
            for row in kept:
                target = [int(partner[int(mine.labels[row])])]
                scores = slow_scores(mine.features[row].detach(), other, kind, target)
                values.append(slow_shared(scores, target))
            expected = 0.4 * share * sum(values) / len(values)
            assert float(found.terms[f"{name}_cross_{kind}"].detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("choice", "recipe", "expected"),
    [
        ("auto", ABRUPT, (("centroid", 1.0),)),
        ("auto", RELEASED, (("hybrid", 1.0),)),
        ("hard", ABRUPT, (("hard", 1.0),)),
        ("hybrid", BASELINE, (("hybrid", 1.0),)),
        ("own", ABRUPT, (("centroid", 0.2), ("hard", 0.5), ("dynamic", 0.3))),
        ("own", ABRUPT.model_copy(update={"dynamic_gradient": False}), (("centroid", 0.2), ("hard", 0.5))),
    ],
)
def test_kinds_across(choice: str, recipe: Recipe, expected: tuple[tuple[str, float], ...]) -> None:
    assert kinds_across(choice, WEIGHTS, recipe) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", [OWN, RELEASED.model_copy(update={"cross_contrast": "own"})])
def test_nothing_across_without_partners(recipe: Recipe) -> None:
    found = losses_of(recipe, replace(WEIGHTS, hybrid=1), memories(), batch(), NOBODY)
    assert not [name for name in found.terms if "cross" in name]
    assert found.terms


# Unified.


@pytest.mark.parametrize("partners", [PARTNERS, NOBODY, Pair(torch.tensor([1, 1, 1]), torch.tensor([0, 2]))])
@pytest.mark.parametrize("kind", ["centroid", "hard", "hybrid", "own"])
def test_unified_losses_by_their_formula(kind: str, partners: Pair[Tensor]) -> None:
    recipe = ABRUPT.model_copy(update={"cross_form": "unified", "cross_contrast": kind, "cross_direction": "both"})
    held, part = memories(), batch()
    found = losses_of(recipe, WEIGHTS, held, part, partners)
    shares = {"hybrid": {"centroid": 0.5, "hard": 0.5}, "own": {"centroid": 0.2, "hard": 0.5, "dynamic": 0.3}}
    for name in ("visible", "infrared"):
        mine, own = part.of(name), held.own.of(name)
        other = held.own.infrared if name == "visible" else held.own.visible
        towards, back = (partners.visible, partners.infrared) if name == "visible" else partners[::-1]
        expected = 0.0
        for single, share in shares.get(kind, {kind: 1.0}).items():
            values = []
            for feature, label in zip(mine.features.detach(), mine.labels.tolist(), strict=True):
                matched = {place for place in range(len(back)) if int(back[place]) == label}
                matched |= {int(towards[label])} - {-1}
                scores = slow_scores(feature, own, single, [label])
                scores += slow_scores(feature, other, single, sorted(matched))
                values.append(slow_shared(scores, [label, *(len(towards) + place for place in sorted(matched))]))
            expected += 0.4 * share * sum(values) / len(values)
        terms = [value for term, value in found.terms.items() if term.startswith(f"{name}_cross")]
        assert float(torch.stack(terms).sum().detach()) == pytest.approx(expected, rel=1e-4)


def test_partners_in_either_direction() -> None:
    one_sided = Pair(torch.tensor([1, 1, 1]), torch.tensor([0, 2]))
    assert partner_table(one_sided).int().tolist() == [[1, 1], [0, 1], [0, 1]]
    assert not partner_table(NOBODY).any()


@pytest.mark.parametrize("epoch", [0, 1])
def test_the_unified_term_takes_turns(epoch: int) -> None:
    recipe = BASELINE.model_copy(update={"cross_form": "unified"})
    found = own_losses(
        batch(), memories(dynamic=False), PARTNERS, TermWeights(cross=1), epoch=epoch, recipe=recipe, temperature=TAU
    )
    assert list(found.terms) == [("visible_cross", "infrared_cross")[epoch]]
    silent = own_losses(
        batch(), memories(dynamic=False), PARTNERS, TermWeights(centroid=1), epoch=epoch, recipe=recipe, temperature=TAU
    )
    assert not [name for name in silent.terms if "cross" in name]


# Self-distillation.


def test_distillation_by_its_formula() -> None:
    held, part = memories(), batch()
    found = distillation_losses(part, held.own, 0.7, temperature=TAU)
    centroids = [*held.own.visible.clusters.centroids, *held.own.infrared.clusters.centroids]
    sizes = (3, 2)
    for name, first in (("visible", 0), ("infrared", 3)):
        mine, values = part.of(name), []  # type: ignore[arg-type]
        for feature, label in zip(mine.features.detach(), mine.labels.tolist(), strict=True):
            student = [math.exp(float(feature @ row) / TAU) for row in centroids]
            prototype = centroids[first + label]
            raised = [math.exp(float((feature + prototype) @ row) / 2 / TAU) for row in centroids]
            sums = [sum(raised[:3]), sum(raised[3:])]
            teacher = [value / sums[place >= sizes[0]] / 2 for place, value in enumerate(raised)]
            values.append(-sum(t * math.log(s / sum(student)) for t, s in zip(teacher, student, strict=True)))
        expected = 0.7 * sum(values) / len(values)
        assert float(found[f"{name}_distillation"].detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("recipe", [BASELINE, RELEASED])
def test_unified_and_distillation_train_and_write_no_memory(recipe: Recipe) -> None:
    more = recipe.model_copy(update={"cross_form": "unified", "cross_direction": "both"})
    held, part = memories(dynamic=False), batch()
    before = [memory.clusters.centroids.clone() for memory in held.own]
    found = losses_of(more, TermWeights(cross=1, distillation=1), held, part)
    assert set(found.terms) == {f"{name}_{kind}" for name in Pair("", "")._fields for kind in ("cross", "distillation")}
    for name, value in found.terms.items():
        gradient = gradient_of(value, part.of(name.partition("_")[0]))  # type: ignore[arg-type]
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0
    found.total.backward()  # type: ignore[no-untyped-call]
    for memory, old in zip(held.own, before, strict=True):
        assert torch.equal(memory.clusters.centroids, old)


def test_beside_memories_that_are_written_in_the_backward_pass() -> None:
    recipe = RELEASED.model_copy(update={"cross_form": "unified", "cross_contrast": "hard", "distillation": 1.0})
    weights = TermWeights.at(recipe, stage=2, progress=0.5)
    assert weights.distillation == 1
    gradients = []
    for alone in (True, False):
        held, part = memories(dynamic=False), batch()
        found = losses_of(recipe, weights if not alone else replace(weights, hybrid=0), held, part)
        total = torch.stack([value for name, value in found.terms.items() if "hybrid" not in name]).sum()
        if not alone:
            found.total.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        gradients.append(torch.autograd.grad(total, [one.features for one in part]))
    # What the backward pass writes does not change the gradient of what was read before it.
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


# Dynamic prototypes from the batch.


def test_dynamic_prototypes_are_drawn_from_the_batch() -> None:
    recipe = ABRUPT.model_copy(update={"dynamic_redraw": "batch"})
    held, part = memories(), batch()
    found = own_losses(
        part,
        held,
        PARTNERS,
        TermWeights(dynamic=1),
        epoch=0,
        recipe=recipe,
        temperature=TAU,
        draws=torch.Generator().manual_seed(3),
    )
    before = [memory.dynamic.memory.instances.clone() for memory in held.own if memory.dynamic is not None]
    found.total.backward()  # type: ignore[no-untyped-call]
    for update in found.updates:
        update()
    draws = torch.Generator().manual_seed(3)
    for memory, old, mine in zip(held.own, before, part, strict=True):
        twin = DynamicMemory(old)
        twin.refresh(mine.features.detach(), mine.labels, draws)
        assert memory.dynamic is not None
        assert torch.equal(memory.dynamic.memory.instances, twin.instances)
        assert not torch.equal(twin.instances, old)


# Joint clusters.


def split_memories(*, dynamic: bool = False) -> JointMemories:
    """Clusters 0 and 1 have both modalities, 2 only visible images and 3 only infrared ones."""
    split = SplitRows.from_labels(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 3]))
    source = None
    if dynamic:
        instances = rows(18, 77).view(6, 3, WIDTH)
        source = DynamicSource(DynamicMemory(instances), instances.flatten(0, 1), torch.arange(18) // 3)
    return JointMemories(ModalityMemories(cluster_memory(6, 50), source), split)


MEMBERS = {0: (0, 3), 1: (1, 4), 2: (2,), 3: (5,)}


@pytest.mark.parametrize("negatives", [None, 2, 50])
@pytest.mark.parametrize("kind", ["centroid", "hybrid", "own"])
@pytest.mark.parametrize("update", ["after_step", "in_backward"])
def test_split_joint_losses_by_their_formula(update: str, kind: str, negatives: int | None) -> None:
    recipe = ABRUPT.model_copy(
        update={
            "joint_memory": "split",
            "joint_contrast": kind,
            "joint_negatives": negatives,
            "memory_update": update,
        }
    )
    weights, held = replace(WEIGHTS, joint=0.6), split_memories(dynamic=True)
    halves = Pair(queries([0, 2, 1], 1), queries([1, 3, 3], 2))
    before = held.held.clusters.centroids.clone()
    found = joint_losses(halves, held, weights, recipe=recipe, temperature=TAU)
    shares = {"hybrid": {"centroid": 0.5, "hard": 0.5}, "own": {"centroid": 0.2, "hard": 0.5, "dynamic": 0.3}}
    for name in ("visible", "infrared"):
        half, expected = halves.of(name), 0.0
        for single, share in shares.get(kind, {kind: 1.0}).items():
            values = []
            for feature, label in zip(half.features.detach(), half.labels.tolist(), strict=True):
                scores = slow_scores(feature, held.held, single, MEMBERS[label])
                values.append(slow_shared(scores, MEMBERS[label], negatives))
            expected += 0.6 * share * sum(values) / len(values)
        terms = [value for term, value in found.terms.items() if term.startswith(f"{name}_joint")]
        assert float(torch.stack(terms).sum().detach()) == pytest.approx(expected, rel=1e-4)
    # Each query updates the prototype of its own modality.
    found.total.backward()  # type: ignore[no-untyped-call]
    for write in found.updates:
        write()
    moved = (held.held.clusters.centroids != before).any(1)
    assert moved.tolist() == [True, True, True, False, True, True]


def test_a_joint_memory_with_the_own_mix() -> None:
    recipe = ABRUPT.model_copy(update={"joint_contrast": "own"})
    source = split_memories(dynamic=True).held.dynamic
    held = JointMemories(ModalityMemories(cluster_memory(6, 50), source))
    halves = Pair(queries([0, 2, 1], 1), queries([1, 3, 5], 2))
    found = joint_losses(halves, held, replace(WEIGHTS, joint=1), recipe=recipe, temperature=TAU)
    assert len(found.terms) == 6
    for name in ("visible", "infrared"):
        half = halves.of(name)
        for kind, share in (("centroid", 0.2), ("hard", 0.5), ("dynamic", 0.3)):
            values = [
                slow_shared(slow_scores(feature, held.held, kind, [label]), [label])
                for feature, label in zip(half.features.detach(), half.labels.tolist(), strict=True)
            ]
            expected = share * sum(values) / len(values)
            assert float(found.terms[f"{name}_joint_{kind}"].detach()) == pytest.approx(expected, rel=1e-4)


# The margin.


def test_the_margin_of_the_centroid_loss() -> None:
    held, part = memories(dynamic=False), batch()
    plain = losses_of(BASELINE, TermWeights(centroid=1), held, part)
    value = float(plain.terms["visible_centroid"].detach())
    for margin, expected in ((0.25 * value, 0.75 * value), (2 * value, 0.0)):
        recipe = BASELINE.model_copy(update={"centroid_margin": margin})
        found = losses_of(recipe, TermWeights(centroid=1), held, part)
        assert float(found.terms["visible_centroid"].detach()) == pytest.approx(expected, abs=1e-6)


def test_pooled_dynamic_prototypes_are_the_mean_of_the_instances() -> None:
    recipe = ABRUPT.model_copy(update={"dynamic_similarity": "pooled"})
    held, part = memories(), batch()
    found = losses_of(recipe, TermWeights(dynamic=1), held, part)
    assert held.own.visible.dynamic is not None
    instances = held.own.visible.dynamic.memory.instances
    pooled = ModalityMemories(ClusterMemory(torch.stack([part.mean(0) / part.mean(0).norm() for part in instances])))
    values = [
        slow_shared(slow_scores(feature, pooled, "centroid", [label]), [label])
        for feature, label in zip(part.visible.features.detach(), part.visible.labels.tolist(), strict=True)
    ]
    assert float(found.terms["visible_dynamic"].detach()) == pytest.approx(sum(values) / len(values), rel=1e-4)
