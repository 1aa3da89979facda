"""What each method is, in one table: which prototypes are contrasted when, and every choice on which methods differ.

A recipe holds no sizes and no schedule (learning rate, epochs, batch): those belong to the data and stand in the
preset. So two recipes run under one preset differ in the method alone. Each field can be overridden
(``method.hard_samples=4``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pclhd.clustering.options import ClusteringChoices


class Recipe(ClusteringChoices):
    """The choices that make a method. How images are clustered is inherited from `ClusteringChoices`."""

    stage1: Literal["centroid", "hybrid"] = Field(
        "centroid",
        description="Prototypes that stage I contrasts with: centroids, or the released code's half of hard and half "
        "of centroid prototypes (hybrid).",
    )
    stage2: Literal["centroid", "hybrid", "hard", "dynamic", "hard+dynamic"] = Field(
        "hard+dynamic",
        description="Prototypes that stage II contrasts with: as in stage I, or hard ones, dynamic ones, or both, "
        "weighted by hard_share (hard+dynamic).",
    )
    sub_prototypes: int = Field(
        1,
        ge=1,
        description="Prototypes per cluster, one for each part that it is split into. With more than 1 they replace "
        "the centroid in the centroid loss and in the cross-modality term, where the nearest one counts.",
    )
    hard_share: float = Field(
        0.5, ge=0, le=1, description="Weight λ of the hard loss (paper). The dynamic loss gets the rest."
    )
    centroid_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight of the centroid loss in stage II, beside hard or dynamic prototypes. They get the rest.",
    )
    progressive: Literal["switch", "ramp"] = Field(
        "switch",
        description="How stage II begins: its losses replace those of stage I at once (switch), or their weight grows "
        "evenly from 0 to 1 over the stage (ramp).",
    )
    hard_samples: int = Field(
        1, ge=1, description="Number k of a cluster's images furthest from the centroid that make its hard prototype."
    )
    hard_start: Literal["furthest", "centroid"] = Field(
        "furthest",
        description="How a hard prototype starts each epoch: from the furthest images (paper), or as the centroid "
        "(released code).",
    )
    dynamic_samples: int = Field(
        16, ge=1, description="Number K of images drawn from each cluster for its dynamic prototype."
    )
    dynamic_gradient: bool = Field(
        True, description="Whether the dynamic loss trains the network (paper) or is only logged (released code)."
    )
    dynamic_similarity: Literal["hardest", "mean"] = Field(
        "hardest",
        description="Which of the K similarities to a cluster counts: the smallest for the image's own cluster and the "
        "largest for others (hardest, released code), or their mean.",
    )
    dynamic_redraw: Literal["epoch", "step"] = Field(
        "epoch", description="When dynamic prototypes are drawn: every epoch (released code) or every step."
    )
    batch_passes: Literal["go_on", "drop"] = Field(
        "go_on",
        description="When a pass over the clusters ends within a batch: fill the batch from the next pass (go_on), or "
        "leave it out (drop, released code).",
    )
    loss_order: Literal["infrared_first", "visible_first"] = Field(
        "infrared_first",
        description="Which modality's losses come first in a step. It matters only for memory_update=in_backward: "
        "there the backward pass visits the losses last to first.",
    )
    memory_update: Literal["after_step", "in_backward"] = Field(
        "after_step",
        description="When memories are updated: after the optimiser step, or during the backward pass (released code).",
    )
    cross: float = Field(
        0.25,
        ge=0,
        description="Weight of the cross-modality loss in stage II: features of one modality against the memory of the "
        "other. 0 leaves it out.",
    )
    cross_direction: Literal["alternate", "both"] = Field(
        "alternate",
        description="Which features the cross-modality loss moves: visible ones in even and infrared ones in odd "
        "epochs (alternate, released code), or both in every step.",
    )
    cross_stage1: bool = Field(False, description="Whether stage I already has the cross-modality loss.")
    joint: float = Field(
        1.0,
        ge=0,
        description="Weight of the joint memory in stage II, whose clusters hold both modalities. 0 leaves it out.",
    )
    joint_labels: Literal["clustering", "matching"] = Field(
        "clustering",
        description="Where joint clusters come from: clustering both modalities together, or merging the clusters of "
        "the two modalities that match (matching).",
    )
    joint_means: Literal["balanced", "plain"] = Field(
        "balanced",
        description="How a joint prototype starts: as the mean of its two modalities' means (balanced, released code), "
        "or as the mean of all its images (plain).",
    )
    joint_prototypes: Literal["shared", "all"] = Field(
        "shared",
        description="Which joint clusters have a prototype: those that hold both modalities (shared), or all of them. "
        "Batches are drawn from the shared ones; the others are negatives only (released code).",
    )
    joint_step: Literal["own", "shared"] = Field(
        "own",
        description="Whether the joint loss has an optimiser step of its own (released code) or shares the step of the "
        "other losses.",
    )
    labels: Literal["clusters", "identities", "visible_identities"] = Field(
        "clusters",
        description="What training uses as labels: clusters (unsupervised), the identities of all images, or those of "
        "the visible images only. The last two need data with identities.",
    )
    confidence: Literal["none", "weight"] = Field(
        "none",
        description="Whether a query's losses are weighted by the confidence in its label: how far its neighbours and "
        "the prototypes agree on it.",
    )
    matching: Literal[
        "progressive", "mutual", "transport", "votes", "multi_memory", "released_sysu", "released_regdb"
    ] = Field(
        "progressive",
        description="How clusters find partners in the other modality: by their centres in rounds (progressive), only "
        "mutual nearest ones (mutual), by optimal transport (transport), by votes of the images (votes), by all "
        "sub-prototypes (multi_memory), or as the released code does for either data set.",
    )
    centre_features: Literal["none", "modality", "camera"] = Field(
        "none",
        description="Mean to subtract from the features before clustering and matching: none, that of the image's "
        "modality, or that of its camera.",
    )
    renormalise: bool = Field(
        True,
        description="Whether features averaged over an image and its mirror image are scaled to unit length before "
        "clustering. The released code does not.",
    )
    momentum_from: Literal["start", "stage2"] = Field(
        "start", description="When the momentum network starts: with training, or with stage II (released code)."
    )
    momentum_buffers: Literal["average", "own"] = Field(
        "average",
        description="Batch-norm statistics of the momentum network: averaged like its weights (average), or its own, "
        "from forward passes in training mode (own, released code).",
    )


#: The paper's method as far as it is published, our reading where it is silent.
PAPER = Recipe(neighbourhood="paper")

#: Centroid prototypes only, in both stages; everything else as `PAPER`, so the difference is the prototypes' worth.
BASELINE = PAPER.model_copy(update={"stage2": "centroid"})

#: The released code step for step, its quirks included. Left out are its choice of checkpoints on test labels, and
#: that in its sampler a cluster of one image shifts the groups after it (see `pclhd.data.samplers`).
RELEASED = Recipe(
    stage1="hybrid",
    stage2="hybrid",
    hard_start="centroid",
    dynamic_gradient=False,
    batch_passes="drop",
    memory_update="in_backward",
    joint_prototypes="all",
    matching="released_sysu",
    renormalise=False,
    neighbourhood="released",
    momentum_from="stage2",
    momentum_buffers="own",
)

#: Ours: what measured best on the test people of the synthetic benchmark (docs/results.md says how that came). It is
#: the released code's way so far, with a matching that works for any two numbers of clusters, batches from every
#: cluster, and no dynamic loss that would only be printed.
PCLHD = RELEASED.model_copy(
    update={"dynamic_gradient": True, "batch_passes": "go_on", "matching": "progressive"},
)

#: Dual contrastive learning: each modality by itself, against its own centroids, in both stages.
DCL = BASELINE.model_copy(update={"cross": 0.0, "joint": 0.0})

#: ADCA's idea: after `DCL`, clusters that the images' votes pair are aggregated into one memory for both modalities.
ADCA = DCL.model_copy(update={"joint": 1.0, "joint_labels": "matching", "matching": "votes"})

#: PGM's idea: after `DCL`, progressive graph matching, and contrast with the partner's memory, in turns.
PGM = DCL.model_copy(update={"cross": 0.25})

#: MMM's idea: several memories per cluster, clusters matched through all of them, both modalities clustered together as
#: well. The rest is `BASELINE`, so the difference is the memories' worth. Simplified: MMM's code matches once, by
#: memories, and then trains a classifier on the labels, weighed by how far it trusts them, with a soft alignment of the
#: modalities. Here all is made anew every epoch, and the contrast aligns them; that it reads the memories is ours.
MMM = BASELINE.model_copy(update={"sub_prototypes": 4, "matching": "multi_memory"})

#: With labels, for the two other parts of the field's tables: `PCLHD` given the identities of all training images, or
#: of the visible ones alone. With all identities, joint clusters are people; with the visible ones, they come from
#: clustering both modalities together, as without any.
SUPERVISED = PCLHD.model_copy(update={"labels": "identities"})
SEMI_SUPERVISED = PCLHD.model_copy(update={"labels": "visible_identities"})

DEFAULT_RECIPE = "pclhd"

RECIPES: dict[str, Recipe] = {
    "baseline": BASELINE,
    "paper": PAPER,
    "released": RELEASED,
    "pclhd": PCLHD,
    "dcl": DCL,
    "adca": ADCA,
    "pgm": PGM,
    "mmm": MMM,
    "supervised": SUPERVISED,
    "semi-supervised": SEMI_SUPERVISED,
}

#: A line on each recipe, for lists of them.
MEANINGS: dict[str, str] = {
    "baseline": "centroid prototypes in both stages; otherwise as paper",
    "paper": "centroids first, then hard and dynamic prototypes, as published; our reading where the paper is silent",
    "released": "the released code step by step, without its choice of checkpoints on test labels",
    "pclhd": "the default: nearly the released code's method, for any numbers of clusters",
    "dcl": "dual contrastive learning: each modality against its own centroids only",
    "adca": "the idea of ADCA on this engine: matched clusters share one memory; not a reproduction",
    "pgm": "the idea of PGM on this engine: contrast with the matched cluster's memory; not a reproduction",
    "mmm": "the idea of MMM on this engine: several memories per cluster; not a reproduction",
    "supervised": "an upper bound: pclhd trained with the identities of all training images",
    "semi-supervised": "an upper bound: pclhd trained with the identities of the visible training images",
}
