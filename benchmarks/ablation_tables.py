"""The tables of `benchmarks/ablation.py`: what is trained, from which stage I, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Entry:
    """One row of a table.

    Attributes:
        name: Unique in all tables; runs with the same settings may be shared between tables by using one name.
        recipe: The method.
        settings: Overrides of the recipe, as on the command line.
        about: What it is, for the table.
        start: The stage I that it continues, a name in `STARTS`.
        against: Name of the entry that it is compared with; empty for that entry itself.
        unpaired: Share of the training people with images in one modality only.
    """

    name: str
    recipe: str
    settings: tuple[str, ...] = ()
    about: str = ""
    start: str = "centroid"
    against: str = ""
    unpaired: float = 0.0


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: Its heading.
        entries: Its rows; the first one is the floor of those that name no other.
        quick: Names of the entries that the quick form trains.
    """

    title: str
    entries: tuple[Entry, ...]
    quick: tuple[str, ...] = field(default=())


#: Trainings of stage I alone: recipe and overrides. `paper`, `baseline` and `pgm` have the same stage I.
STARTS: dict[str, tuple[str, ...]] = {
    "centroid": ("recipe=baseline",),
    "pclhd": ("recipe=pclhd",),
    "pclhd-half": ("recipe=pclhd", "method.larger_share=0.5"),
}

#: The paper's parts in the reading that the published facts suggest: prototypes start as centroids, one dynamic
#: prototype per cluster, and the same prototypes within and across the modalities.
GENTLE = (
    "method.centroid_share=0.5",
    "method.hard_start=centroid",
    "method.dynamic_samples=1",
    "method.cross_contrast=own",
    "method.joint_contrast=own",
)
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


def _parts(floor: str) -> tuple[Entry, ...]:
    """The paper's own ablation on a floor of centroids."""
    ramp = (*GENTLE, "method.stage2=hard+dynamic", "method.progressive=ramp")
    rows = (
        ("hard", (*GENTLE, "method.stage2=hard"), "+ hard"),
        ("dynamic", (*GENTLE, "method.stage2=dynamic"), "+ dynamic"),
        ("both", (*GENTLE, "method.stage2=hard+dynamic"), "+ hard + dynamic"),
        ("ramp", ramp, "+ hard + dynamic + progressive"),
        ("fresh", (*ramp, "method.dynamic_redraw=batch"), "the same, dynamic ones from the batch"),
        ("harsh", ("method.stage2=hard+dynamic",), "+ hard + dynamic as `paper` reads them"),
    )
    first = Entry(floor, floor, about="the floor: centroids")
    return first, *(Entry(f"{floor}-{name}", floor, words, about, against=floor) for name, words, about in rows)


def _ideas() -> tuple[Entry, ...]:
    rows = (
        ("balanced", BALANCED, "balanced neighbours, half-size ones too", "pclhd"),
        ("similar", SIMILAR, "balanced neighbours, half-size ones by similarity (BMIL)", "pclhd"),
        ("split", SPLIT, "split and contrast (BMIL)", "pclhd"),
        ("unified", UNIFIED, "unified contrast (PoSeD)", "pclhd"),
        ("distillation", DISTILLATION, "prototype self-distillation (PoSeD)", "pclhd"),
        ("posed", (*UNIFIED, *DISTILLATION), "both of PoSeD", "pclhd"),
        ("half", ("method.larger_share=0.5",), "half of the larger modality (BMIL)", "pclhd-half"),
        ("cross-both", ("method.cross_direction=both",), "cross term in both directions", "pclhd"),
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
        ("gentle", (*GENTLE, "method.progressive=ramp"), "the gentle reading: all that is likely"),
    )
    first = Entry("paper", "paper", about="the recipe itself")
    return first, *(Entry(f"paper-{name}", "paper", words, about, against="paper") for name, words, about in rows)


def _curve(setting: str, values: tuple[float, ...], about: str) -> tuple[Entry, ...]:
    """The gentle reading over the values of one setting; the middle of a curve is compared with its default."""
    name = setting.rpartition(".")[2]
    base = Entry("paper-gentle", "paper", (*GENTLE, "method.progressive=ramp"), "the gentle reading")
    return base, *(
        replace(
            base,
            name=f"{base.name}-{name}-{value:g}",
            settings=(*base.settings, f"{setting}={value:g}"),
            about=f"{about} = {value:g}",
            against=base.name,
        )
        for value in values
    )


def _unpaired() -> tuple[Entry, ...]:
    entries = []
    for share in SHARES:
        suffix = f"unpaired-{round(100 * share)}"
        floor = Entry("pclhd" if share == 0 else f"pclhd-{suffix}", "pclhd", start="pclhd", unpaired=share)
        entries.append(replace(floor, about=f"progressive, {share:.0%} unpaired"))
        entries += [
            Entry(
                f"{matching}-{suffix}",
                "pclhd",
                (f"method.matching={matching}",),
                f"{matching}, {share:.0%} unpaired",
                "pclhd",
                floor.name,
                share,
            )
            for matching in ("mutual", "transport")
        ]
    return tuple(entries)


TABLES: dict[str, Table] = {
    "parts-pgm": Table("The paper's parts, on `pgm`", _parts("pgm"), ("pgm", "pgm-ramp")),
    "parts-baseline": Table("The paper's parts, on `baseline`", _parts("baseline"), ("baseline", "baseline-ramp")),
    "suspects": Table("`paper`, one choice at a time", _suspects(), ("paper", "paper-gentle")),
    "lambda": Table(
        "The share λ of hard prototypes", _curve("method.hard_share", (0, 0.25, 0.75, 1), "λ"), ("paper-gentle",)
    ),
    "k": Table("The number k of hard samples", _curve("method.hard_samples", (2, 4, 8), "k"), ("paper-gentle",)),
    "ideas": Table("Ideas of the field, on `pclhd`", _ideas(), ("pclhd", "similar", "half")),
    "unpaired": Table("People in one modality only", _unpaired(), ("pclhd-unpaired-50", "transport-unpaired-50")),
}
