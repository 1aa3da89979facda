"""Readings of the paper that are no recipe, for tests."""

from __future__ import annotations

from pclhd.recipes import Recipe

#: Hard and dynamic prototypes replace centroids at once, the hardest of sixteen counts, and centroids count across the
#: modalities: each kind of prototype by itself, which is what tests of the parts need.
ABRUPT = Recipe(neighbourhood="paper")

#: The same as settings on top of ``recipe=paper``.
ABRUPT_WORDS = (
    "method.progressive=switch",
    "method.centroid_share=0",
    "method.hard_start=furthest",
    "method.dynamic_samples=16",
    "method.cross_contrast=auto",
    "method.joint_contrast=auto",
)
