"""The tables of `benchmarks/ablation.py`: what is trained, from which stage I, and what it is compared with."""

from __future__ import annotations

from dataclasses import replace

from pclhd.runs.ablation import Entry, Table
from pclhd.workflows.ablation_tables import RAMP, k_table, lambda_table, parts_table

#: The default before it centred features by camera and distilled prototypes; the ideas were first measured on it.
BEFORE = ("method.centre_features=none", "method.distillation=0")

#: Trainings of stage I alone that are not those of a recipe: recipe and overrides.
STARTS: dict[str, tuple[str, ...]] = {
    "before": ("recipe=pclhd", *BEFORE),
    "before-half": ("recipe=pclhd", *BEFORE, "method.larger_share=0.5"),
    "pclhd-community": ("recipe=pclhd", "method.clustering=community"),
    "pclhd-half": ("recipe=pclhd", "method.larger_share=0.5"),
}

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
    """Each idea on the default as it was without any of them, and what was tried on the default as it is."""
    camera, distillation = BEFORE[1:], BEFORE[:1]
    on_former = (
        ("camera", camera, "features centred by camera", "pclhd"),
        ("distillation", distillation, "prototype self-distillation (PoSeD)", "before"),
        ("balanced", (*BEFORE, *BALANCED), "balanced neighbours, half-size ones too", "before"),
        ("similar", (*BEFORE, *SIMILAR), "balanced neighbours, half-size ones by similarity (BMIL)", "before"),
        ("split", (*BEFORE, *SPLIT), "split and contrast (BMIL)", "before"),
        ("unified", (*BEFORE, *UNIFIED), "unified contrast (PoSeD)", "before"),
        ("posed", (*distillation, *UNIFIED), "both of PoSeD", "before"),
        ("half", (*BEFORE, "method.larger_share=0.5"), "half of the larger modality (BMIL)", "before-half"),
        ("cross-both", (*BEFORE, *BOTH_WAYS), "cross term in both directions", "before"),
        ("camera-both", (*camera, *BOTH_WAYS), "centred by camera, cross term in both directions", "pclhd"),
        ("camera-community", (*camera, *COMMUNITY), "centred by camera, communities", "pclhd-community"),
        (
            "bmil",
            (*BEFORE, *SIMILAR, *SPLIT, "method.larger_share=0.5", "method.cross=0"),
            "all three of BMIL, without a cross term",
            "before-half",
        ),
        (
            "together",
            (*distillation, *BALANCED, *SPLIT, *UNIFIED, *BOTH_WAYS),
            "all on all images",
            "before",
        ),
    )
    on_default = (
        ("pclhd-both", BOTH_WAYS, "the default, cross term in both directions", "pclhd"),
        ("pclhd-similar", SIMILAR, "the default, balanced neighbours (BMIL)", "pclhd"),
        ("pclhd-split", SPLIT, "the default, split and contrast (BMIL)", "pclhd"),
        ("pclhd-unified", UNIFIED, "the default, unified contrast (PoSeD)", "pclhd"),
        ("pclhd-half", ("method.larger_share=0.5",), "the default, half of the larger modality (BMIL)", "pclhd-half"),
        (
            "pclhd-together",
            (*BALANCED, *SPLIT, *UNIFIED, *BOTH_WAYS),
            "the default, all on all images",
            "pclhd",
        ),
        ("pclhd-twice", ("method.distillation=2",), "the default, self-distillation twice as strong", "pclhd"),
        ("pclhd-community", COMMUNITY, "the default, communities", "pclhd-community"),
    )
    return (
        Entry("before", "pclhd", BEFORE, "without any of them", "before"),
        *(Entry(name, "pclhd", words, about, start, "before") for name, words, about, start in on_former),
        Entry("pclhd", "pclhd", (), "the default: by camera, and self-distillation", "pclhd", "before"),
        *(Entry(name, "pclhd", words, about, start, "pclhd") for name, words, about, start in on_default),
    )


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
    "ideas": Table("Ideas of the field", _ideas(), ("before", "pclhd", "similar", "half")),
    "unpaired": Table("People in one modality only", _unpaired(), ("pclhd-unpaired-50", "transport-unpaired-50")),
}
