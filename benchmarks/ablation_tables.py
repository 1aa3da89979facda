"""The tables of `benchmarks/ablation.py`: what is trained, from which stage I, and what it is compared with."""

from __future__ import annotations

from dataclasses import replace

from pclhd.runs.ablation import Entry, Table
from pclhd.workflows.ablation_tables import RAMP, k_table, lambda_table, parts_table

#: Trainings of stage I alone that are not those of a recipe: recipe and overrides.
STARTS: dict[str, tuple[str, ...]] = {
    "pclhd-half": ("recipe=pclhd", "method.larger_share=0.5"),
    "pclhd-camera": ("recipe=pclhd", "method.centre_features=camera"),
    "pclhd-camera-community": ("recipe=pclhd", "method.centre_features=camera", "method.clustering=community"),
}

CAMERA = ("method.centre_features=camera",)
COMMUNITY = ("method.clustering=community",)
BOTH_WAYS = ("method.cross_direction=both",)
BALANCED = ("method.balanced_neighbours=true",)
SIMILAR = (*BALANCED, "method.balanced_order=similarity")
SPLIT = (
    "method.joint_memory=split",
    "method.joint_negatives=50",
    "method.joint_batches=all",
    "method.joint=0.5",
)
UNIFIED = ("method.cross_form=unified", "method.cross_contrast=hard")
DISTILLATION = ("method.distillation=1",)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def _parts(floor: str) -> Table:
    """The paper's own ablation, and two more readings."""
    table = parts_table(floor)
    rows = (
        ("fresh", (*RAMP, "method.dynamic_redraw=batch"), "the same, dynamic ones from the batch"),
        ("harsh", ("method.stage2=hard+dynamic",), "+ hard + dynamic in the former reading of the paper"),
    )
    more = (Entry(f"{floor}-{name}", floor, words, about, against=floor) for name, words, about in rows)
    return replace(table, entries=(*table.entries, *more))


def _ideas() -> tuple[Entry, ...]:
    rows = (
        ("balanced", BALANCED, "balanced neighbours, half-size ones too", "pclhd"),
        ("similar", SIMILAR, "balanced neighbours, half-size ones by similarity (BMIL)", "pclhd"),
        ("split", SPLIT, "split and contrast (BMIL)", "pclhd"),
        ("unified", UNIFIED, "unified contrast (PoSeD)", "pclhd"),
        ("distillation", DISTILLATION, "prototype self-distillation (PoSeD)", "pclhd"),
        ("posed", (*UNIFIED, *DISTILLATION), "both of PoSeD", "pclhd"),
        ("half", ("method.larger_share=0.5",), "half of the larger modality (BMIL)", "pclhd-half"),
        ("cross-both", BOTH_WAYS, "cross term in both directions", "pclhd"),
        ("camera", CAMERA, "features centred by camera", "pclhd-camera"),
        ("camera-both", (*CAMERA, *BOTH_WAYS), "the same, and cross term in both directions", "pclhd-camera"),
        ("camera-distillation", (*CAMERA, *DISTILLATION), "centred by camera, self-distillation", "pclhd-camera"),
        (
            "camera-community",
            (*CAMERA, *COMMUNITY),
            "centred by camera, communities for clusters",
            "pclhd-camera-community",
        ),
        (
            "bmil",
            (*SIMILAR, *SPLIT, "method.larger_share=0.5", "method.cross=0"),
            "all three of BMIL, without a cross term",
            "pclhd-half",
        ),
        (
            "together",
            (*BALANCED, *SPLIT, *UNIFIED, *DISTILLATION, "method.cross_direction=both"),
            "all on all images",
            "pclhd",
        ),
    )
    first = Entry("pclhd", "pclhd", about="the default", start="pclhd")
    return first, *(Entry(name, "pclhd", words, about, start, "pclhd") for name, words, about, start in rows)


#: The former reading of the paper, as settings of recipe `paper`.
FORMER = (
    "method.progressive=switch",
    "method.centroid_share=0",
    "method.hard_start=furthest",
    "method.dynamic_samples=16",
    "method.cross_contrast=auto",
    "method.joint_contrast=auto",
)


def _suspects() -> tuple[Entry, ...]:
    rows = (
        ("across", ("method.cross_contrast=own", "method.joint_contrast=own"), "the own mix across modalities"),
        ("half-centroid", ("method.centroid_share=0.5",), "half centroids"),
        ("ramp", ("method.progressive=ramp",), "a gradual shift"),
        ("half-ramp", ("method.centroid_share=0.5", "method.progressive=ramp"), "half centroids, gradually"),
        ("one", ("method.dynamic_samples=1",), "K = 1"),
        ("mean", ("method.dynamic_similarity=mean",), "mean similarity to the K"),
        ("pooled", ("method.dynamic_similarity=pooled",), "similarity to the mean of the K"),
        ("fresh", ("method.dynamic_redraw=batch",), "dynamic prototypes from the batch"),
        ("hard-start", ("method.hard_start=centroid",), "hard prototypes start as centroids"),
        ("hard-batch", ("method.hard_batch_samples=4",), "updated by the 4 furthest of the batch"),
        ("margin", ("method.centroid_share=0.5", "method.centroid_margin=0.2"), "half centroids with a margin"),
        ("no-joint", ("method.joint=0",), "no joint clusters: on `pgm`"),
        ("both-ways", ("method.cross_direction=both",), "cross term in both directions"),
        ("cross-1", ("method.cross=1",), "cross term at weight 1"),
        ("cross-ramp", ("method.cross=1", "method.cross_progressive=ramp"), "growing to weight 1"),
    )
    first = Entry("former", "paper", FORMER, "the former reading")
    last = Entry("paper", "paper", about="the recipe: all that is likely", against="former")
    changed = (
        Entry(f"former-{name}", "paper", (*FORMER, *words), about, against="former") for name, words, about in rows
    )
    return first, *changed, last


def _unpaired() -> tuple[Entry, ...]:
    entries = []
    for share in SHARES:
        suffix = f"unpaired-{round(100 * share)}"
        variant = suffix if share else ""
        name = "-".join(filter(None, ["pclhd", variant]))
        floor = Entry(name, "pclhd", (), f"progressive, {share:.0%} unpaired", "pclhd", "", variant)
        entries.append(floor)
        for matching in ("mutual", "transport"):
            words, about = (f"method.matching={matching}",), f"{matching}, {share:.0%} unpaired"
            entries.append(Entry(f"{matching}-{suffix}", "pclhd", words, about, "pclhd", floor.name, variant))
    return tuple(entries)


TABLES: dict[str, Table] = {
    "parts-pgm": _parts("pgm"),
    "parts-baseline": _parts("baseline"),
    "suspects": Table("The former reading of the paper, one choice at a time", _suspects(), ("former", "paper")),
    "lambda": lambda_table(),
    "k": k_table(),
    "ideas": Table("Ideas of the field, on `pclhd`", _ideas(), ("pclhd", "similar", "half")),
    "unpaired": Table("People in one modality only", _unpaired(), ("pclhd-unpaired-50", "transport-unpaired-50")),
}
