"""Curves of the training: losses, clusters, agreement with identities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

from matplotlib.figure import Figure

from pclhd.report import figures
from pclhd.report.sections.parts import (
    STREAMS,
    Absent,
    Chart,
    ReportedRun,
    Values,
    chart,
    fixed,
    label_measure,
    rounded,
)
from pclhd.report.tables import Column, Table, percent
from pclhd.runs.decline import decline_warning
from pclhd.runs.records import ClusterRecord, EpochRecord

Measure = Callable[[EpochRecord, str], float | None]

# A share that changes by less than this over a training is said in words: a panel would show rounding.
_FLAT = 0.002
_SHARES = {"noise", "matched"}
# Curves that say nearly the same as others are folded.
_MORE = {"nmi", "size"}


def training(run: ReportedRun) -> Values | Absent:
    """Losses, speed and time by epoch."""
    epochs = _from_one(run.saved.epochs)
    if not epochs:
        return Absent("No epochs were logged", "pclhd train PRESET --out RUN")
    last = epochs[-1]
    losses = ", ".join(f"{name} {value:.3f}" for name, value in last.loss.items() if value is not None)
    loss = chart(
        _legend_on_top(figures.loss_figure(epochs)),
        "loss",
        f"Losses by epoch; last epoch: {losses or 'none'}.",
        "Mean losses of each epoch. The two stages have different losses: compare within a stage only.",
    )
    speed = chart(
        figures.speed_figure(epochs),
        "speed",
        f"Training speed by epoch; last epoch: {rounded(last.images_per_second)} images per second.",
        "Training speed.",
    )
    seconds = chart(
        figures.seconds_figure(epochs),
        "seconds",
        f"Time by epoch; last epoch: {fixed(last.seconds, 1)} seconds, "
        f"clustering {fixed(last.seconds_clustering, 1)} seconds.",
        "Time of each epoch.",
    )
    return {
        "decline": decline_warning(run.saved.epochs) if run.saved.setting("selection") == "last" else None,
        "gaps": any(value is None or not isfinite(value) for epoch in epochs for value in epoch.loss.values()),
        "loss": [loss] if loss is not None else [],
        "charts": [chart for chart in (speed, seconds) if chart is not None],
        "table": _epoch_table(epochs),
    }


def clusters(run: ReportedRun) -> Values | Absent:
    """The pseudo labels by epoch, and their agreement with identities if these exist."""
    epochs = _from_one(run.saved.epochs)
    if not any(getattr(epoch, stream) for epoch in epochs for stream in STREAMS):
        return Absent("No clusters were logged", "pclhd train PRESET --out RUN")
    unseen = ", which training does not use" if run.saved.labels == "none" else ""
    specifications: tuple[tuple[str, Figure | None, str, Measure, str], ...] = (
        (
            "ari",
            figures.agreement_figure(epochs, "ari"),
            "Adjusted Rand index by epoch",
            lambda epoch, stream: label_measure(epoch, f"ari_{stream}"),
            f"Adjusted Rand index of the clusters with the identities{unseen}.",
        ),
        (
            "nmi",
            figures.agreement_figure(epochs, "nmi"),
            "Normalised mutual information by epoch",
            lambda epoch, stream: label_measure(epoch, f"nmi_{stream}"),
            f"Normalised mutual information of the clusters with the identities{unseen}.",
        ),
        (
            "count",
            figures.cluster_count_figure(epochs),
            "Clusters by epoch",
            _of_summary(lambda summary: summary.clusters),
            "Number of clusters; training treats each as one person.",
        ),
        (
            "size",
            figures.cluster_size_figure(epochs),
            "Median cluster size by epoch",
            _of_summary(lambda summary: summary.size_median),
            "Median number of images in a cluster.",
        ),
        (
            "noise",
            figures.noise_figure(epochs),
            "Noise by epoch, as shares",
            _of_summary(lambda summary: summary.noise),
            "Images that clustering left out; they are not used for training in that epoch.",
        ),
        (
            "matched",
            figures.matched_figure(epochs),
            "Matched clusters by epoch, as shares",
            _matched,
            "Clusters with a partner in the other modality; correct partners (if labels exist) show the same person.",
        ),
    )
    shown: list[Chart] = []
    more: list[Chart] = []
    flat: list[str] = []
    for name, figure, title, measure, caption in specifications:
        words = _flat_words(epochs, measure) if name in _SHARES else None
        if figure is not None and words is not None:
            flat.append(f"{title}: {words}")
        elif (made := chart(figure, name, f"{title}. {_span_words(epochs, measure)}", caption)) is not None:
            (more if name in _MORE else shown).append(made)
    return {"table": _cluster_table(epochs[-1]), "charts": shown, "more": more, "flat": flat}


def _from_one(epochs: Sequence[EpochRecord]) -> tuple[EpochRecord, ...]:
    """The epochs numbered as the console numbers them; the log counts from 0."""
    return tuple(one.model_copy(update={"epoch": one.epoch + 1}) for one in epochs)


def _legend_on_top(figure: Figure | None) -> Figure | None:
    """The figure narrow enough for a phone: its legend above instead of beside it."""
    if figure is None or not figure.legends:
        return figure
    beside = figure.legends[0]
    names = [text.get_text() for text in beside.get_texts()]
    handles = [handle for handle in beside.legend_handles if handle is not None]
    beside.remove()
    figure.set_size_inches(5.6, 3.4 + 0.16 * len(names))
    with figures.style():
        figure.legend(handles, names, loc="outside upper left", ncols=2)
    return figure


def _flat_words(epochs: Sequence[EpochRecord], measure: Measure) -> str | None:
    """The value of a share that never changed, in words; None if it changed."""
    parts = []
    for stream in STREAMS:
        values = [value for value in (measure(epoch, stream) for epoch in epochs) if value is not None]
        if values and max(values) - min(values) > _FLAT:
            return None
        if values:
            parts.append(f"{stream} {percent(values[-1])} %")
    return ", ".join(parts) + " in every epoch." if parts else None


def _epoch_table(epochs: Sequence[EpochRecord]) -> Table:
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.loss))
    headings = ["Stage", "Rate", *names, "Images/s", "Seconds", "Clustering (s)"]
    columns = (Column("Epoch"), *(Column(heading, "right") for heading in headings))
    rows = tuple(
        (
            str(epoch.epoch),
            str(epoch.stage),
            "–" if epoch.lr is None else f"{epoch.lr:.2e}",
            *(fixed(epoch.loss.get(name), 3) for name in names),
            rounded(epoch.images_per_second),
            fixed(epoch.seconds, 1),
            fixed(epoch.seconds_clustering, 1),
        )
        for epoch in epochs
    )
    return Table("One row per epoch; losses are means over its steps.", columns, rows)


def _cluster_table(epoch: EpochRecord) -> Table:
    """A column per clustering, so that the table fits a phone."""
    shown = [(stream, summary) for stream in STREAMS if (summary := getattr(epoch, stream)) is not None]
    figures_of: dict[str, Callable[[str, ClusterRecord], str]] = {
        "Images": lambda _, summary: rounded(summary.images),
        "Clusters": lambda _, summary: rounded(summary.clusters),
        "Noise (%)": lambda _, summary: percent(summary.noise),
        "Smallest": lambda _, summary: rounded(summary.size_min),
        "Median": lambda _, summary: rounded(summary.size_median),
        "Largest": lambda _, summary: rounded(summary.size_max),
        "Matched (%)": lambda stream, _: percent(_matched(epoch, stream)),
        "ARI": lambda stream, _: fixed(label_measure(epoch, f"ari_{stream}"), 3),
        "NMI": lambda stream, _: fixed(label_measure(epoch, f"nmi_{stream}"), 3),
    }
    rows = tuple((name, *(value(*one) for one in shown)) for name, value in figures_of.items())
    # What no clustering has, such as ARI without identities, would be a row of dashes.
    rows = tuple(row for row in rows if set(row[1:]) != {"–"})
    caption = f"The pseudo labels of the last epoch ({epoch.epoch}); sizes are images per cluster."
    return Table(caption, (Column("Clustering"), *(Column(stream, "right") for stream, _ in shown)), rows)


def _span_words(epochs: Sequence[EpochRecord], measure: Measure) -> str:
    """A measure's values in the first and the last epoch, per stream."""
    parts = []
    for stream in STREAMS:
        measured = (measure(epoch, stream) for epoch in epochs)
        values = [value for value in measured if value is not None and isfinite(value)]
        if values:
            parts.append(f"{stream} from {values[0]:g} to {values[-1]:g}")
    return "; ".join(parts) + "." if parts else ""


def _of_summary(value: Callable[[ClusterRecord], float | None]) -> Measure:
    def measure(epoch: EpochRecord, stream: str) -> float | None:
        summary: ClusterRecord | None = getattr(epoch, stream)
        return None if summary is None else value(summary)

    return measure


def _matched(epoch: EpochRecord, stream: str) -> float | None:
    return (epoch.matched or {}).get(stream)
