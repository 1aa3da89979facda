"""The sections of the report: one function each, which returns the values for the template of the same name.

Values contain no HTML except the SVG of figures. A function returns `Absent` if the section's data are missing, and
None if the page omits the section.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from pclhd import __version__
from pclhd.report import figures
from pclhd.report.images import data_uri
from pclhd.report.inline_svg import inline_svg
from pclhd.report.published import (
    SETTINGS,
    Benchmark,
    MeasuredRow,
    benchmark_of,
    other_test_set,
    published_table,
)
from pclhd.report.strips import examples_of, pictures_of
from pclhd.report.tables import (
    Column,
    Table,
    percent,
    percent_gain,
    percent_spread,
    result_notes,
    results_table,
    search_sizes,
    weights_name,
)
from pclhd.runs.decline import decline_warning
from pclhd.runs.records import ClusterRecord, EpochRecord, Results
from pclhd.runs.saved import SavedRun

Values = Mapping[str, object]
Measure = Callable[[EpochRecord, str], float | None]

_STREAMS = ("visible", "infrared", "joint")
_BENCHMARKS = {"sysu": "SYSU-MM01", "regdb": "RegDB", "llcm": "LLCM"}
_STARTS = {
    "none": "random weights",
    "starter": "the shipped starter weights, which were trained with labels on other, synthetic people",
}


@dataclass(frozen=True)
class Absent:
    """A section without data: what is missing, and the command that writes it."""

    what: str
    command: str


@dataclass(frozen=True)
class Chart:
    """A figure for the page; wide ones scroll on small screens."""

    svg: Markup
    caption: str
    wide: bool


@dataclass(frozen=True)
class ReportedRun:
    """A run and the folder of its data, if known."""

    saved: SavedRun
    data: Path | None

    @property
    def synthetic(self) -> bool:
        """Whether the evaluated people are synthetic."""
        return self.saved.results is not None and bool(self.saved.results.dataset.synthetic)

    @property
    def data_name(self) -> str | None:
        """The data's name, or None; synthetic people are not named after the benchmark whose layout they have."""
        results = self.saved.results
        if results is None:
            layout = self.saved.setting("data.layout")
            return None if layout in (None, "auto") else str(layout)
        layout, _, trial = results.dataset.name.partition("-")
        if not results.dataset.synthetic or layout not in _BENCHMARKS:
            return results.dataset.name
        return f"synthetic people in {_BENCHMARKS[layout]}'s layout" + (trial and f", trial {trial}")

    @property
    def title(self) -> str:
        """The page's title."""
        return f"Run report: {self.data_name or self.saved.folder.path.resolve().name}"


def headline(run: ReportedRun) -> Values:
    """The first paragraphs and the key numbers."""
    saved = run.saved
    selection, weights = saved.setting("selection"), saved.setting("model.weights")
    training = None if saved.results is None else saved.results.training
    return {
        "imported": saved.imported,
        "architecture": saved.setting("model.architecture"),
        "recipe": None if saved.imported else saved.setting("recipe"),
        "synthetic": run.synthetic,
        "data": run.data_name,
        "images": None if saved.results is None else saved.results.dataset.train_images,
        "epochs": _counted(len(saved.epochs), "epoch") if saved.epochs else None,
        "labels": "unknown" if saved.imported or training == "imported" else saved.labels,
        "criterion": None if selection == "last" else selection,
        "weights": weights,
        "start": _STARTS.get(str(weights)),
        "facts": _facts(saved),
    }


def results(run: ReportedRun) -> Values | Absent:
    """The table of retrieval results and the CMC curves."""
    results = run.saved.results
    if results is None or not results.rows:
        return Absent("No retrieval results yet", "pclhd evaluate RUN")
    notes = [f"{search}: {size}" for search, size in search_sizes(results).items()] + result_notes(results)
    if any(row.weights == "oracle" for row in results.rows):
        notes.append("“oracle” is the epoch chosen with test labels: a bound, not comparable with the others.")
    chart = _chart(
        figures.cmc_figure(results),
        "cmc",
        f"CMC curves. {_cmc_words(results)}",
        "Cumulative matching characteristics: the share of queries with a correct image in the first gallery images, "
        "mean over the trials.",
    )
    return {"table": results_table(results), "notes": notes, "charts": [chart] if chart is not None else []}


def published(run: ReportedRun) -> Values | Absent | None:
    """Published figures and the run's in one table; None where they must not be compared."""
    results = run.saved.results
    benchmark = None if results is None else benchmark_of(results)
    if results is None or benchmark is None or not results.rows:
        return None
    if results.dataset.synthetic is None:
        return Absent(
            "The results are of an older version and do not record whether the data are synthetic",
            "pclhd evaluate RUN",
        )
    other = other_test_set(benchmark, results)
    if other is not None:
        return {"other": other}
    table, sources = published_table(benchmark, results, _measured_row(run.saved, results, benchmark))
    notes = [
        "Settings: " + "; ".join(f"{name}, {meaning}" for name, meaning in SETTINGS.items()) + ".",
        "Camera labels: whether training uses camera numbers; a dash where it is not stated.",
        "Sources: " + "; ".join(f"{number}, {source}" for number, source in enumerate(sources, start=1)) + ".",
        "Weights that were trained here are never chosen by the test set. The released code of PCLHD chooses its "
        "epoch by rank-1 on the test set. How the other methods choose theirs is not recorded here.",
    ]
    if benchmark == "regdb":
        notes.append(
            "Published figures on RegDB are means over ten trials, each a separate training. This run is one trial; "
            "pclhd combine averages ten."
        )
    trained_on = run.saved.facts.get("data.training_checksum")
    if trained_on is not None and trained_on != results.dataset.checksum:
        notes.append("This run was trained on other images than those of this data set.")
    return {"other": None, "table": table, "notes": notes}


def examples(run: ReportedRun) -> Values | Absent:
    """The same queries before and after training."""
    saved = None if run.saved.results is None else run.saved.results.ranked_examples
    lists = [] if saved is None else examples_of(saved)
    if saved is None or not lists:
        return Absent("No ranked examples yet", "pclhd evaluate RUN")
    return {
        "search": saved.search,
        "has_images": run.data is not None and run.data.is_dir(),
        "examples": lists,
        "pictures": pictures_of(lists, run.data),
    }


def training(run: ReportedRun) -> Values | Absent:
    """Losses, speed and time by epoch."""
    epochs = run.saved.epochs
    if not epochs:
        return Absent("No epochs were logged", "pclhd train PRESET --out RUN")
    last = epochs[-1]
    losses = ", ".join(f"{name} {value:.3f}" for name, value in last.loss.items() if value is not None)
    loss = _chart(
        figures.loss_figure(epochs),
        "loss",
        f"Losses by epoch; last epoch: {losses or 'none'}.",
        "Mean losses of each epoch. The two stages have different losses: compare within a stage only.",
    )
    speed = _chart(
        figures.speed_figure(epochs),
        "speed",
        f"Training speed by epoch; last epoch: {_rounded(last.images_per_second)} images per second.",
        "Training speed.",
    )
    seconds = _chart(
        figures.seconds_figure(epochs),
        "seconds",
        f"Time by epoch; last epoch: {_fixed(last.seconds, 1)} seconds, "
        f"clustering {_fixed(last.seconds_clustering, 1)} seconds.",
        "Time of each epoch.",
    )
    return {
        "decline": decline_warning(epochs) if run.saved.setting("selection") == "last" else None,
        "gaps": any(value is None or not isfinite(value) for epoch in epochs for value in epoch.loss.values()),
        "loss": [loss] if loss is not None else [],
        "charts": [chart for chart in (speed, seconds) if chart is not None],
        "table": _epoch_table(epochs),
    }


def clusters(run: ReportedRun) -> Values | Absent:
    """The pseudo labels by epoch, and their agreement with identities if these exist."""
    epochs = run.saved.epochs
    if not any(getattr(epoch, stream) for epoch in epochs for stream in _STREAMS):
        return Absent("No clusters were logged", "pclhd train PRESET --out RUN")
    unseen = ", which training does not use" if run.saved.labels == "none" else ""
    specifications: tuple[tuple[str, Figure | None, str, Measure, str], ...] = (
        (
            "ari",
            figures.agreement_figure(epochs, "ari"),
            "Adjusted Rand index by epoch",
            lambda epoch, stream: _label(epoch, f"ari_{stream}"),
            f"Adjusted Rand index of the clusters with the identities{unseen}.",
        ),
        (
            "nmi",
            figures.agreement_figure(epochs, "nmi"),
            "Normalised mutual information by epoch",
            lambda epoch, stream: _label(epoch, f"nmi_{stream}"),
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
    charts = [
        _chart(figure, name, f"{title}. {_span_words(epochs, measure)}", caption)
        for name, figure, title, measure, caption in specifications
    ]
    return {"table": _cluster_table(epochs[-1]), "charts": [chart for chart in charts if chart is not None]}


def data(run: ReportedRun) -> Values:
    """The data of training and evaluation."""
    facts = [("name", run.data_name or "not recorded yet")]
    results = run.saved.results
    if results is not None and results.dataset.train_images is not None:
        facts.append(("training images", f"{results.dataset.train_images:,}"))
    if results is not None and results.dataset.test_images is not None:
        facts.append(("test images", f"{results.dataset.test_images:,}"))
    for stream in ("visible", "infrared"):
        summary: ClusterRecord | None = getattr(run.saved.epochs[-1], stream) if run.saved.epochs else None
        if summary is not None and summary.images is not None:
            facts.append((f"{stream} training images", f"{summary.images:,}"))
    sheet = None if run.data is None else data_uri(run.data, "contact_sheet.png", width=1600, height=4000)
    return {"facts": facts, "sheet": sheet}


def settings(run: ReportedRun) -> Values | Absent:
    """The text of the settings file."""
    if not run.saved.settings_text:
        return Absent("No settings in this run", "pclhd train PRESET --out RUN")
    return {"text": run.saved.settings_text.strip()}


def provenance(run: ReportedRun) -> Values:
    """Provenance of the numbers: versions, machine, checksums."""
    saved = run.saved
    facts = [("this page made by", f"pclhd {__version__}")]
    for name in ("preset",) if saved.imported else ("preset", "recipe", "seed"):
        value = saved.setting(name)
        if value is not None:
            facts.append((name, str(value)))
    if saved.results is not None and saved.results.dataset.checksum:
        facts.append(("checksum of the training images", saved.results.dataset.checksum))
    if saved.results is not None and saved.results.dataset.test_checksum:
        facts.append(("checksum of the test images", saved.results.dataset.test_checksum))
    facts += [(f"training: {key}", value) for key, value in saved.facts.items() if key != "seed"]
    folder = saved.folder
    for file in (folder.settings_file, folder.log_file, folder.results_file, folder.model_file):
        digest = _digest(file)
        if digest is not None:
            facts.append((f"SHA-256 of {file.name}", digest))
    return {"facts": facts}


def _facts(run: SavedRun) -> list[tuple[str, str, str]]:
    """The key numbers, each with a note; retrieval in the first search with final weights."""
    facts: list[tuple[str, str, str]] = []
    rows = [] if run.results is None else run.results.rows
    final = next((row for row in rows if row.weights == "final"), None)
    if final is not None:
        before = [row for row in rows if row.search == final.search and row.weights == "start"]
        for name, metric in (("Rank-1", "rank1"), ("mAP", "mAP"), ("mINP", "mINP")):
            gain = percent_gain(getattr(final, metric).mean, getattr(before[0], metric).mean) if before else None
            note = final.search if gain is None else f"{gain} points against start, {final.search}"
            value = percent_spread(getattr(final, metric), final.trials)
            facts.append((f"{name}, final", f"{value}\u00a0%", note))
    if run.epochs:
        last = run.epochs[-1]
        visible, infrared = _label(last, "ari_visible"), _label(last, "ari_infrared")
        if visible is not None and infrared is not None:
            facts.append(("ARI, last epoch", f"{visible:.2f} / {infrared:.2f}", "visible / infrared clusters"))
        seconds = [epoch.seconds for epoch in run.epochs if epoch.seconds is not None]
        if seconds:
            facts.append(("Training time", _duration(sum(seconds)), _counted(len(seconds), "epoch")))
    return facts


def _measured_row(run: SavedRun, results: Results, benchmark: Benchmark) -> MeasuredRow:
    trial = results.dataset.name.partition("-")[2]
    remark = ", ".join([results.training or "unknown training", *([f"trial {trial} of 10"] if trial else [])])
    if results.training == "imported":
        return MeasuredRow("third-party weights", remark, None)
    cameras = None
    if benchmark == "regdb":  # one camera per modality, so its number adds no information
        cameras = False
    elif run.setting("batch.sampler") is not None:
        cameras = "camera" in (run.setting("batch.sampler"), run.setting("method.centre_features"))
    return MeasuredRow(f"recipe {run.setting('recipe') or 'unknown'}", remark, cameras)


def _epoch_table(epochs: Sequence[EpochRecord]) -> Table:
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.loss))
    headings = ["Stage", "Rate", *names, "Images/s", "Seconds", "Clustering (s)"]
    columns = (Column("Epoch"), *(Column(heading, "right") for heading in headings))
    rows = tuple(
        (
            str(epoch.epoch),
            str(epoch.stage),
            "–" if epoch.lr is None else f"{epoch.lr:.2e}",
            *(_fixed(epoch.loss.get(name), 3) for name in names),
            _rounded(epoch.images_per_second),
            _fixed(epoch.seconds, 1),
            _fixed(epoch.seconds_clustering, 1),
        )
        for epoch in epochs
    )
    return Table("One row per epoch; losses are means over its steps.", columns, rows)


def _cluster_table(epoch: EpochRecord) -> Table:
    headings = ["Images", "Clusters", "Noise (%)", "Smallest", "Median", "Largest", "Matched (%)", "ARI", "NMI"]
    rows = []
    for stream in _STREAMS:
        summary: ClusterRecord | None = getattr(epoch, stream)
        if summary is not None:
            rows.append(
                (
                    stream,
                    _rounded(summary.images),
                    _rounded(summary.clusters),
                    percent(summary.noise),
                    *(_rounded(size) for size in (summary.size_min, summary.size_median, summary.size_max)),
                    percent(_matched(epoch, stream)),
                    _fixed(_label(epoch, f"ari_{stream}"), 3),
                    _fixed(_label(epoch, f"nmi_{stream}"), 3),
                )
            )
    columns = (Column("Clustering"), *(Column(heading, "right") for heading in headings))
    caption = f"The pseudo labels of the last epoch ({epoch.epoch}); sizes are images per cluster."
    return Table(caption, columns, tuple(rows))


def _chart(figure: Figure | None, name: str, description: str, caption: str) -> Chart | None:
    if figure is None:
        return None
    # On small screens, a wide figure scrolls, because its text would be too small if shrunk.
    return Chart(inline_svg(figure, name, description), caption, wide=figure.get_figwidth() > 6)


def _cmc_words(results: Results) -> str:
    parts = []
    for row in results.rows:
        if row.cmc:
            end = len(row.cmc)
            parts.append(
                f"{row.search}, {weights_name(row.weights)}: {percent(row.cmc[0])} % at rank 1, "
                f"{percent(row.cmc[-1])} % at rank {end}"
            )
    return "; ".join(parts) + "."


def _span_words(epochs: Sequence[EpochRecord], measure: Measure) -> str:
    """A measure's values in the first and the last epoch, per stream."""
    parts = []
    for stream in _STREAMS:
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


def _label(epoch: EpochRecord, key: str) -> float | None:
    return (epoch.labels or {}).get(key)


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _fixed(value: float | None, digits: int) -> str:
    return "–" if value is None or not isfinite(value) else f"{value:.{digits}f}"


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
