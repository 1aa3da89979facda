"""The weight of each kind of loss in an epoch: the two stages, and what changes gradually."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pclhd.recipes import Recipe

Prototypes = Literal["centroid", "hybrid", "hard", "dynamic"]

#: Choices of stage II without centroids, to which a share of the centroid loss can be added.
SHARP = frozenset({"hard", "dynamic", "hard+dynamic"})


@dataclass(frozen=True)
class TermWeights:
    """Weight of each kind of prototype in an epoch; zero leaves the term out."""

    centroid: float = 0.0
    hybrid: float = 0.0
    hard: float = 0.0
    dynamic: float = 0.0
    cross: float = 0.0
    joint: float = 0.0
    distillation: float = 0.0

    def within(self, recipe: Recipe) -> tuple[tuple[Prototypes, float], ...]:
        """The prototypes within a modality that train the network, and their weights."""
        kinds: tuple[tuple[Prototypes, float], ...] = (
            ("centroid", self.centroid),
            ("hybrid", self.hybrid),
            ("hard", self.hard),
            ("dynamic", self.dynamic if recipe.dynamic_gradient else 0.0),
        )
        return tuple((kind, weight) for kind, weight in kinds if weight)

    @classmethod
    def at(cls, recipe: Recipe, *, stage: int, progress: float) -> TermWeights:
        """The weights in an epoch.

        Args:
            recipe: The method.
            stage: 1 or 2.
            progress: Share of the stage's epochs that are over, 0..1; used only by a ramp.
        """
        first = cls(
            centroid=float(recipe.stage1 == "centroid"),
            hybrid=float(recipe.stage1 == "hybrid"),
            cross=recipe.cross if recipe.cross_stage1 else 0.0,
        )
        if stage == 1:
            return first
        rest = 1 - recipe.centroid_share
        second = cls(
            centroid=float(recipe.stage2 == "centroid") or (recipe.centroid_share if recipe.stage2 in SHARP else 0.0),
            hybrid=float(recipe.stage2 == "hybrid"),
            hard=rest * {"hard": 1.0, "hard+dynamic": recipe.hard_share}.get(recipe.stage2, 0.0),
            dynamic=rest * {"dynamic": 1.0, "hard+dynamic": 1 - recipe.hard_share}.get(recipe.stage2, 0.0),
            cross=recipe.cross,
            joint=recipe.joint,
            distillation=recipe.distillation,
        )
        if recipe.cross_progressive == "ramp":
            second = replace(second, cross=(1 - progress) * first.cross + progress * second.cross)
        if recipe.progressive == "switch":
            return second
        # Only the kinds of prototype change gradually; `progressive` leaves the terms across the modalities alone.
        return replace(
            second,
            centroid=(1 - progress) * first.centroid + progress * second.centroid,
            hybrid=(1 - progress) * first.hybrid + progress * second.hybrid,
            hard=progress * second.hard,
            dynamic=progress * second.dynamic,
        )
