"""The recipes (methods): which prototypes each contrasts in which stage, and all other choices.

A recipe contains no sizes and no schedule (learning rate, epochs, batch): these depend on the data and are in the
preset. So two recipes with one preset differ only in the method. Each field can be overridden
(``method.hard_samples=4``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pclhd.clustering.options import ClusteringChoices

#: Which prototypes a loss across the modalities contrasts with.
Contrast = Literal["auto", "centroid", "hard", "hybrid", "own"]


class Recipe(ClusteringChoices):
    """The choices of a method. Those of the clustering are inherited from `ClusteringChoices`."""

    stage1: Literal["centroid", "hybrid"] = Field(
        "centroid",
        description="Prototypes of the contrast in stage I: centroids, or the released code's half of hard and half "
        "of centroid prototypes (hybrid).",
    )
    stage2: Literal["centroid", "hybrid", "hard", "dynamic", "hard+dynamic"] = Field(
        "hard+dynamic",
        description="Prototypes of the contrast in stage II: as in stage I, or hard ones, dynamic ones, or both, "
        "weighted by hard_share (hard+dynamic).",
    )
    sub_prototypes: int = Field(
        1,
        ge=1,
        description="Prototypes per cluster, one for each part of the cluster. If there is more than 1, they replace "
        "the centroid in the centroid loss and in the cross-modality loss; the nearest one counts.",
    )
    hard_share: float = Field(
        0.5, ge=0, le=1, description="Weight λ of the hard loss (paper). The dynamic loss gets the rest."
    )
    centroid_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight of the centroid loss in stage II with hard or dynamic prototypes, which get the rest.",
    )
    progressive: Literal["switch", "ramp"] = Field(
        "switch",
        description="How stage II begins: its losses replace those of stage I at once (switch), or their weight grows "
        "linearly from 0 to 1 over the stage (ramp).",
    )
    centroid_margin: float = Field(
        0.0,
        ge=0,
        description="Mean contrast with centroids below which they train nothing. The hybrid loss always has 0.2 "
        "(released code).",
    )
    hard_samples: int = Field(
        1,
        ge=1,
        description="Number k of a cluster's images furthest from the centroid whose mean is its hard prototype.",
    )
    hard_batch_samples: int = Field(
        1,
        ge=1,
        description="Number of a cluster's images in a batch, those furthest from the centroid, whose mean updates the "
        "hard prototype.",
    )
    hard_start: Literal["furthest", "centroid"] = Field(
        "furthest",
        description="Initial hard prototypes of each epoch: from the furthest images (paper), or the centroid "
        "(released code).",
    )
    dynamic_samples: int = Field(
        16, ge=1, description="Number K of images drawn from each cluster for its dynamic prototype."
    )
    dynamic_gradient: bool = Field(
        True, description="Whether the dynamic loss trains the network (paper) or is only logged (released code)."
    )
    dynamic_similarity: Literal["hardest", "mean", "pooled"] = Field(
        "hardest",
        description="Which of the K similarities to a cluster counts: the smallest for the image's own cluster and the "
        "largest for others (hardest, released code), their mean, or the similarity to the K images' mean, scaled to "
        "unit length (pooled).",
    )
    dynamic_redraw: Literal["epoch", "step", "batch"] = Field(
        "epoch",
        description="When dynamic prototypes are drawn: every epoch (released code), or every step, from all images of "
        "the cluster (step) or from the batch, as the online network embeds it now (batch; the released code means "
        "to).",
    )
    batch_passes: Literal["go_on", "drop"] = Field(
        "go_on",
        description="When a pass over the clusters ends within a batch: fill the batch from the next pass (go_on), or "
        "leave it out (drop, released code).",
    )
    loss_order: Literal["infrared_first", "visible_first"] = Field(
        "infrared_first",
        description="Modality whose losses come first in a step. It matters only for memory_update=in_backward: "
        "there the backward pass processes the losses from last to first.",
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
        description="Features that the cross-modality loss trains: visible ones in even and infrared ones in odd "
        "epochs (alternate, released code), or both in every step.",
    )
    cross_contrast: Contrast = Field(
        "auto",
        description="Prototypes of the other modality in the cross-modality loss: centroids, hard ones, half of each "
        "(hybrid), or the same mix as within the modality (own). auto: hybrid for memory_update=in_backward, else "
        "centroid.",
    )
    cross_form: Literal["partner", "unified"] = Field(
        "partner",
        description="Form of the cross-modality loss: the partner against the other clusters of its modality "
        "(partner), or the image's own cluster and all its partners against the clusters of both (unified; PoSeD).",
    )
    cross_progressive: Literal["switch", "ramp"] = Field(
        "switch",
        description="How stage II begins with the cross-modality loss: at full weight (switch), or with a weight that "
        "grows linearly from that of stage I over the stage (ramp).",
    )
    cross_stage1: bool = Field(False, description="Whether stage I already has the cross-modality loss.")
    distillation: float = Field(
        0.0,
        ge=0,
        description="Weight of prototype self-distillation in stage II: an image's similarities to the centroids of "
        "both modalities follow those of its cluster's centroid (PoSeD). It needs no matching. 0 leaves it out.",
    )
    joint: float = Field(
        1.0,
        ge=0,
        description="Weight of the joint memory, whose clusters have both modalities, in stage II. 0 leaves it out.",
    )
    joint_labels: Literal["clustering", "matching"] = Field(
        "clustering",
        description="Where joint clusters come from: clustering both modalities together, or merging the clusters of "
        "the two modalities that match (matching).",
    )
    joint_means: Literal["balanced", "plain"] = Field(
        "balanced",
        description="Initial joint prototypes: the mean of the means of the two modalities (balanced, released code), "
        "or the mean of all images (plain).",
    )
    joint_prototypes: Literal["shared", "all"] = Field(
        "shared",
        description="Joint clusters with a prototype: those with both modalities (shared), or all of them. "
        "Batches are drawn from the shared ones; the others are negatives only (released code).",
    )
    joint_memory: Literal["merged", "split"] = Field(
        "merged",
        description="Prototypes of a joint cluster: one for both modalities (merged), or one for each, both positives "
        "of its images (split; BMIL).",
    )
    joint_contrast: Contrast = Field(
        "auto",
        description="Kind of the joint prototypes; values as for cross_contrast. Without a margin where joint_memory "
        "is split.",
    )
    joint_negatives: int | None = Field(
        None,
        ge=1,
        description="For joint_memory=split: how many other prototypes, the most similar ones, an image is contrasted "
        "with; null takes all (BMIL: 50).",
    )
    joint_batches: Literal["shared", "all"] = Field(
        "shared",
        description="Joint clusters that batches are drawn from: those with both modalities (shared), or, for each "
        "modality, all in which it has images (all; BMIL). all needs joint_prototypes=all.",
    )
    joint_step: Literal["own", "shared"] = Field(
        "own",
        description="Whether the joint loss has a separate optimiser step (own, released code) or shares that of the "
        "other losses (shared).",
    )
    larger_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the images of the modality with more images that an epoch clusters and trains on, drawn "
        "again every epoch (BMIL: 0.5). It changes nothing where both have the same number.",
    )
    labels: Literal["clusters", "identities", "visible_identities"] = Field(
        "clusters",
        description="What training uses as labels: clusters (unsupervised), the identities of all images, or those of "
        "the visible images only. The last two need data with identities.",
    )
    confidence: Literal["none", "weight"] = Field(
        "none",
        description="Whether a query's losses are weighted by the confidence in its label: how much its neighbours and "
        "the prototypes agree on it.",
    )
    matching: Literal[
        "progressive", "mutual", "transport", "votes", "multi_memory", "released_sysu", "released_regdb"
    ] = Field(
        "progressive",
        description="How clusters of the two modalities are matched: by their centres in rounds (progressive), only "
        "mutual nearest clusters (mutual), by optimal transport (transport), by votes of the images (votes), by all "
        "sub-prototypes (multi_memory), or as in the released code for one of its data sets.",
    )
    centre_features: Literal["none", "modality", "camera"] = Field(
        "none",
        description="Mean to subtract from the features before clustering and matching: none, that of the image's "
        "modality, or that of its camera.",
    )
    whitening: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Whitening of the features by modality or camera, after their mean is subtracted: 0 for none, 1 "
        "for all directions to vary alike. Without centre_features, leave it at 0.",
    )
    renormalise: bool = Field(
        True,
        description="Whether features averaged over an image and its mirror image are scaled to unit length before "
        "clustering. The released code does not scale them.",
    )
    momentum_from: Literal["start", "stage2"] = Field(
        "start", description="When the momentum network starts: with training, or with stage II (released code)."
    )
    momentum_buffers: Literal["average", "own"] = Field(
        "average",
        description="Batch-norm statistics of the momentum network: averaged like its weights (average), or its own "
        "from forward passes in training mode (own, released code).",
    )


#: Only centroid prototypes, in both stages; otherwise as `PAPER`, so the difference measures the prototypes' effect.
BASELINE = Recipe(neighbourhood="paper", stage2="centroid")

#: The published method of the paper, with our choices where the paper does not specify them: hard and dynamic
#: prototypes come in gradually, next to the centroids, and the same mix of prototypes counts across the modalities. Of
#: the readings that fit the published statements, it has the best matches (docs/figures.md).
PAPER = BASELINE.model_copy(
    update={
        "stage2": "hard+dynamic",
        "progressive": "ramp",
        "centroid_share": 0.5,
        "hard_start": "centroid",
        "dynamic_samples": 1,
        "cross_contrast": "own",
        "joint_contrast": "own",
    }
)

#: The released code step by step, including its peculiarities, with two exceptions: its choice of checkpoints by test
#: labels, and that a cluster of one image shifts the following groups in its sampler (see `pclhd.data.samplers`).
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

#: Ours: the recipe with the best results on the validation people of the synthetic benchmark (docs/benchmark.md). It
#: follows the released code, with a matching that works for any numbers of clusters, batches from every cluster, and
#: without the dynamic loss that is only logged. Ahead of it are features that are centred by camera before clustering
#: and matching, and prototype self-distillation.
PCLHD = RELEASED.model_copy(
    update={
        "dynamic_gradient": True,
        "batch_passes": "go_on",
        "matching": "progressive",
        "centre_features": "camera",
        "distillation": 1.0,
    },
)

#: Dual contrastive learning: each modality separately against its own centroids, in both stages.
DCL = BASELINE.model_copy(update={"cross": 0.0, "joint": 0.0})

#: The idea of ADCA: after `DCL`, clusters paired by votes of the images share one memory for both modalities.
ADCA = DCL.model_copy(update={"joint": 1.0, "joint_labels": "matching", "matching": "votes"})

#: The idea of PGM: after `DCL`, progressive graph matching, and alternating contrast with the partner's memory.
PGM = DCL.model_copy(update={"cross": 0.25})

#: The idea of MMM: several memories per cluster, clusters matched by all of them, and both modalities also clustered
#: together. The rest is `BASELINE`, so the difference measures the effect of the memories. This is simplified: MMM's
#: code matches once, by memories, and then trains a classifier on the labels, weighted by confidence, with a soft
#: alignment of the modalities. Here, everything is computed again every epoch, and the contrast aligns the modalities;
#: contrasting with the memories is ours.
MMM = BASELINE.model_copy(update={"sub_prototypes": 4, "matching": "multi_memory"})

#: The idea of BMIL: `PCLHD` without its cross term, its centring and its self-distillation, with joint clusters from
#: balanced neighbours, a prototype for each modality of a joint cluster, and a random half of the larger modality. BMIL
#: itself has no momentum network, and one optimiser for each loss.
BMIL = PCLHD.model_copy(
    update={
        "centre_features": "none",
        "distillation": 0.0,
        "cross": 0.0,
        "joint": 0.5,
        "balanced_neighbours": True,
        "balanced_order": "similarity",
        "joint_memory": "split",
        "joint_negatives": 50,
        "joint_batches": "all",
        "larger_share": 0.5,
    }
)

#: The idea of PoSeD: after `PGM`, centroid and hard prototypes within a modality, the own cluster and its partners
#: against the hard prototypes of both modalities, and prototype self-distillation.
POSED = PGM.model_copy(
    update={
        "stage2": "hard",
        "centroid_share": 0.5,
        "hard_start": "centroid",
        "cross_form": "unified",
        "cross_contrast": "hard",
        "distillation": 1.0,
    }
)

#: With labels, for the supervised and semi-supervised settings of published tables: `PCLHD` with the identities of all
#: training images, or only of the visible ones. With all identities, joint clusters are people; with the visible ones,
#: they come from clustering both modalities together, as without identities.
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
    "bmil": BMIL,
    "posed": POSED,
    "supervised": SUPERVISED,
    "semi-supervised": SEMI_SUPERVISED,
}

#: One line about each recipe, for lists.
MEANINGS: dict[str, str] = {
    "baseline": "centroid prototypes in both stages; otherwise as paper",
    "paper": "centroids first, then hard and dynamic prototypes, as published; our choices where the paper is silent",
    "released": "the released code step by step, without its choice of checkpoints on test labels",
    "pclhd": "the default: the released code's method with centring by camera and self-distillation",
    "dcl": "dual contrastive learning: each modality against its own centroids only",
    "adca": "the idea of ADCA on this engine: matched clusters share one memory; not a reproduction",
    "pgm": "the idea of PGM on this engine: contrast with the matched cluster's memory; not a reproduction",
    "mmm": "the idea of MMM on this engine: several memories per cluster; not a reproduction",
    "bmil": "the idea of BMIL on this engine: joint clusters with a prototype per modality; not a reproduction",
    "posed": "the idea of PoSeD on this engine: unified contrast and self-distillation; not a reproduction",
    "supervised": "an upper bound: pclhd trained with the identities of all training images",
    "semi-supervised": "an upper bound: pclhd trained with the identities of the visible training images",
}
