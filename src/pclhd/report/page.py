"""The report of a run: one self-contained HTML page made from the run folder's saved results.

The page needs no script, no network and no other file. What is missing from the run is told with the command that makes
it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from math import isfinite, nan
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pclhd import __version__
from pclhd.errors import UserError
from pclhd.files import write_durably
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
from pclhd.report.strips import strips_html
from pclhd.report.tables import (
    Column,
    Table,
    percent,
    percent_gain,
    percent_spread,
    results_table,
    search_sizes,
    weights_name,
)
from pclhd.report.template import PAGE, RESPONSIBLE_USE, STYLE
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import (
    ClusterRecord,
    EpochRecord,
    ResultRow,
    Results,
    find_setting,
)

_STREAMS = ("visible", "infrared", "joint")


@dataclass(frozen=True)
class Run:
    """What a run folder says.

    Attributes:
        folder: The run folder.
        settings: The saved settings as text and as a mapping, or None.
        epochs: The logged epochs, possibly none.
        results: What was measured, or None.
        provenance: The provenance as text by dotted key, possibly empty.
        data: The data's folder, or None if neither the caller nor the settings name one.
    """

    folder: Path
    settings: tuple[str, dict[str, Any]] | None
    epochs: list[EpochRecord]
    results: Results | None
    provenance: dict[str, str]
    data: Path | None

    def setting(self, key: str) -> object | None:
        """The setting at a dotted key, or None."""
        return None if self.settings is None else find_setting(self.settings[1], key)

    @property
    def imported(self) -> bool:
        """Whether its weights come from somewhere else; then its settings do not tell how they were trained."""
        return any(key.startswith("imported.") for key in self.provenance)


def write_report(run: Path, *, data_root: Path | None = None) -> Path:
    """Write `report/index.html` in a run folder: one page that needs no other file.

    Args:
        run: The run folder.
        data_root: The data's folder (or CSV file), for the pictures; without it, the one in the run's settings.

    Returns:
        The page's path. Equal inputs give equal bytes.

    Raises:
        UserError: The run folder does not exist, one of its files is malformed, or the page cannot be written.
    """
    page = page_html(read_run(run, data_root=data_root))
    target = RunFolder(run).report_file
    try:
        target.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{target.parent}: cannot be created ({error.strerror}); move what is in the way") from error
    write_durably(target, page)
    return target


def read_run(run: Path, *, data_root: Path | None = None) -> Run:
    """Read and check the saved results of a run folder.

    Raises:
        UserError: The run folder does not exist, or one of its files is malformed.
    """
    if not run.is_dir():
        raise UserError(f"{run}: not a run folder; give the folder that `pclhd train … --out RUN` wrote")
    folder = RunFolder(run)
    root = data_root or folder.data_root()
    if root is not None and root.is_file():
        root = root.parent
    return Run(
        run,
        folder.saved_settings(),
        folder.epochs(),
        folder.results(),
        folder.facts(),
        root,
    )


def page_html(run: Run) -> str:
    """The whole page."""
    sections: list[tuple[str, str, Callable[[Run], str]]] = [
        ("results", "Results", _results_section),
        ("published", "Beside published figures", _published_section),
        ("examples", "Ranked examples", _examples_section),
        ("training", "Training", _training_section),
        ("clusters", "Clusters", _clusters_section),
        ("data", "Data", _data_section),
        ("settings", "Settings", _settings_section),
        ("provenance", "Provenance", _provenance_section),
    ]
    made = [(name, title, html) for name, title, make in sections if (html := make(run))]
    return PAGE.substitute(
        version=escape(__version__),
        title=f"{escape(_data_name(run) or run.folder.resolve().name)}: run report",
        style=STYLE,
        headline=_headline(run),
        contents="".join(f'<li><a href="#{name}">{title}</a></li>\n' for name, title, _ in made),
        sections="".join(
            f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{title}</h2>\n'
            f"{html}</section>\n"
            for name, title, html in made
        ),
        use=escape(RESPONSIBLE_USE),
    )


def _headline(run: Run) -> str:
    what = "Visible-infrared" if run.imported else "Unsupervised visible-infrared"
    what += " person re-identification"
    architecture, recipe = run.setting("model.architecture"), run.setting("recipe")
    if architecture is not None:
        what += f" with the <code>{escape(str(architecture))}</code> two-stream network"
    if recipe is not None and not run.imported:
        what += f", recipe <code>{escape(str(recipe))}</code>"
    if _data_name(run) is not None:
        what += f", on <code>{escape(str(_data_name(run)))}</code>"
    images = _train_images(run)
    if images is not None:
        what += f" ({images:,} training images)"
    if run.epochs:
        what += f"; {_counted(len(run.epochs), 'epoch')} logged"
    start = "" if run.imported else f" “Start” is the network before training{_beginning(run)}."
    return f'<p class="lead">{what}.</p>\n<p>{_labels_used(run)}{start}</p>\n{_facts(run)}'


def _labels_used(run: Run) -> str:
    training = None if run.results is None else run.results.training
    if training == "imported":
        return "The weights were imported: how they were trained and chosen is not known here."
    if training == "supervised" or run.setting("method.labels") == "identities":
        return "This network was trained with the identity labels of this data, as a bound for methods without labels."
    if training == "semi-supervised" or run.setting("method.labels") == "visible_identities":
        return "This network was trained with the identity labels of the visible images of this data."
    return (
        "No identity label of this data was used in training or in choosing the checkpoint: “final” is "
        f"{_chosen(run)}. Where labels exist, they only measure: the rankings, and how well the clusters agree with "
        "the people."
    )


def _chosen(run: Run) -> str:
    """Which epoch the final weights are those of."""
    selection = run.setting("selection")
    if selection in (None, "last"):
        return "the last epoch, whatever it scores"
    return f"the epoch that the criterion <code>{escape(str(selection))}</code> chose, which looks at no label"


def _beginning(run: Run) -> str:
    weights = run.setting("model.weights")
    if weights is None:
        return ""
    told = {
        "none": "random weights",
        "starter": "the shipped starter weights, which were trained with labels on other, synthetic people",
    }
    return ", with " + told.get(str(weights), f"the weights <code>{escape(str(weights))}</code>")


def _facts(run: Run) -> str:
    """The few numbers to remember, for the first search that has final weights."""
    facts: list[tuple[str, str, str]] = []
    final = _final_row(run)
    if final is not None and run.results is not None:
        before = [row for row in run.results.rows if row.search == final.search and row.weights == "start"]
        for name, metric in (("Rank-1", "rank1"), ("mAP", "mAP"), ("mINP", "mINP")):
            gain = percent_gain(getattr(final, metric).mean, getattr(before[0], metric).mean) if before else None
            note = final.search if gain is None else f"{gain} points against start, {final.search}"
            facts.append((f"{name}, final", f"{percent_spread(getattr(final, metric), final.trials)}\u00a0%", note))
    if run.epochs:
        last = run.epochs[-1]
        ari = (last.labels or {}).get("ari_visible"), (last.labels or {}).get("ari_infrared")
        if None not in ari:
            facts.append(("ARI, last epoch", f"{ari[0]:.2f} / {ari[1]:.2f}", "visible / infrared clusters"))
        seconds = [epoch.seconds for epoch in run.epochs if epoch.seconds is not None]
        if seconds:
            facts.append(("Training time", _duration(sum(seconds)), f"{_counted(len(seconds), 'epoch')}"))
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>\n"
        for name, value, note in facts
    )
    return f'<dl class="facts">\n{cells}</dl>\n' if facts else ""


def _results_section(run: Run) -> str:
    if run.results is None or not run.results.rows:
        return _absent("No retrieval results yet", "pclhd evaluate RUN")
    sizes = "".join(
        f"<li>{escape(search)}: {escape(size)}</li>\n" for search, size in search_sizes(run.results).items()
    )
    charts = _chart(
        figures.cmc_figure(run.results),
        "cmc",
        f"CMC curves. {_cmc_words(run.results)}",
        "Cumulative matching characteristics: the share of queries with a right answer among the first gallery images, "
        "mean over the trials.",
    )
    if any(row.weights == "oracle" for row in run.results.rows):
        sizes += "<li>“oracle” chose its epoch with test labels: a bound, not to be compared with the others.</li>\n"
    return f"{results_table(run.results).to_html()}<ul>\n{sizes}</ul>\n{charts}"


def _published_section(run: Run) -> str:
    """Published figures and the run's in one table; empty where they must not stand side by side."""
    benchmark = None if run.results is None else benchmark_of(run.results)
    if run.results is None or benchmark is None or not run.results.rows:
        return ""
    if run.results.dataset.synthetic is None:
        return _absent(
            "The results are older than this part and do not say whether the data are drawn", "pclhd evaluate RUN"
        )
    other = other_test_set(benchmark, run.results)
    if other is not None:
        return (
            f'<p class="absent">The test set is not the published one: {escape(other)}. Published figures do not '
            "compare.</p>\n"
        )
    table, sources = published_table(benchmark, run.results, _measured_row(run, run.results, benchmark))
    notes = [
        "Settings: " + "; ".join(f"{name}, {meaning}" for name, meaning in SETTINGS.items()) + ".",
        "Camera labels: whether training uses camera numbers; a dash where it is not stated.",
        "Sources: " + "; ".join(f"{number}, {source}" for number, source in enumerate(sources, start=1)) + ".",
        "Weights that were trained here are never chosen by the test set. The released code of PCLHD chooses its "
        "epoch by rank-1 on it. How the other methods choose is not recorded here.",
    ]
    if benchmark == "regdb":
        notes.append(
            "Published figures on RegDB are means over ten trials, each a training of its own. This run is one trial; "
            "pclhd combine averages ten."
        )
    trained_on = run.provenance.get("data.training_checksum")
    if trained_on is not None and trained_on != run.results.dataset.checksum:
        notes.append("This run was trained on other images than those of this data set.")
    return table.to_html() + "<ul>\n" + "".join(f"<li>{escape(note)}</li>\n" for note in notes) + "</ul>\n"


def _measured_row(run: Run, results: Results, benchmark: Benchmark) -> MeasuredRow:
    trial = results.dataset.name.partition("-")[2]
    told = [results.training or "unknown training", *([f"trial {trial} of 10"] if trial else [])]
    if results.training == "imported":
        return MeasuredRow("weights of others", ", ".join(told), None)
    cameras = None
    if benchmark == "regdb":  # one camera for each modality: its number tells nothing more
        cameras = False
    elif run.setting("batch.sampler") is not None:
        cameras = "camera" in (run.setting("batch.sampler"), run.setting("method.centre_features"))
    return MeasuredRow(f"recipe {run.setting('recipe') or 'unknown'}", ", ".join(told), cameras)


def _examples_section(run: Run) -> str:
    strips = "" if run.results is None else strips_html(run.results.ranked_examples, run.data)
    if not strips:
        return _absent("No ranked examples yet", "pclhd evaluate RUN")
    search = None if run.results is None else run.results.ranked_examples.search
    of_search = "" if search is None else f" ({escape(search)})"
    note = (
        f"<p>The same queries{of_search} before and after training. A solid frame and ✓ mark the right person, "
        "a dashed frame and ✗ another one; below each image, its rank and its distance to the query.</p>\n"
    )
    if run.data is None or not run.data.is_dir():
        note += (
            '<p class="absent">The images were not found; <code>pclhd report RUN --data DIR</code> names their '
            "folder.</p>\n"
        )
    return note + strips


def _training_section(run: Run) -> str:
    if not run.epochs:
        return _absent("No epochs were logged", "pclhd train PRESET --out RUN")
    epochs = run.epochs
    last = epochs[-1]
    losses = ", ".join(f"{name} {value:.3f}" for name, value in last.loss.items() if value is not None)
    notes = ""
    if any(value is None or not isfinite(value) for epoch in epochs for value in epoch.loss.values()):
        notes = '<p class="absent">Some losses are not numbers (shown as gaps): training became unstable there.</p>\n'
    loss = _chart(
        figures.loss_figure(epochs),
        "loss",
        f"Losses by epoch; last epoch: {losses or 'none'}.",
        "Losses, mean of each epoch. Those of stage II do not continue those of stage I: compare within a stage only.",
    )
    charts = [
        (
            figures.speed_figure(epochs),
            "speed",
            f"Training speed by epoch; last epoch: {_rounded(last.images_per_second)} images per second.",
            "Training speed.",
        ),
        (
            figures.seconds_figure(epochs),
            "seconds",
            f"Time by epoch; last epoch: {_fixed(last.seconds, 1)} seconds, "
            f"clustering {_fixed(last.seconds_clustering, 1)} seconds.",
            "Time of each epoch.",
        ),
    ]
    return notes + loss + _charts(charts) + _details("All epochs as a table", _epoch_table(epochs).to_html())


def _clusters_section(run: Run) -> str:
    if not any(getattr(epoch, stream) for epoch in run.epochs for stream in _STREAMS):
        return _absent("No clusters were logged", "pclhd train PRESET --out RUN")
    epochs = run.epochs
    charts: list[tuple[Figure | None, str, str, str]] = []
    for measure, name in (("ari", "Adjusted Rand index"), ("nmi", "Normalised mutual information")):
        figure = figures.agreement_figure(epochs, "ari" if measure == "ari" else "nmi")
        words = _span_words(epochs, partial(_agreement, measure=measure))
        caption = f"{name} of the clusters with the identities, which training never sees."
        charts.append((figure, measure, f"{name} by epoch. {words}", caption))
    charts += [
        (
            figures.cluster_count_figure(epochs),
            "count",
            f"Clusters by epoch. {_span_words(epochs, partial(_summary_value, key='clusters'))}",
            "Number of clusters, each standing for one supposed person.",
        ),
        (
            figures.cluster_size_figure(epochs),
            "size",
            f"Median cluster size by epoch. {_span_words(epochs, partial(_summary_value, key='size_median'))}",
            "Median number of images in a cluster.",
        ),
        (
            figures.noise_figure(epochs),
            "noise",
            f"Noise by epoch, as shares. {_span_words(epochs, partial(_summary_value, key='noise'))}",
            "Images that clustering left out; they do not train this epoch.",
        ),
        (
            figures.matched_figure(epochs),
            "matched",
            f"Matched clusters by epoch, as shares. {_span_words(epochs, _matched)}",
            "Clusters with a partner in the other modality; right partners (where labels exist) share the same person.",
        ),
    ]
    return _cluster_table(epochs[-1]).to_html() + _charts(charts)


def _data_section(run: Run) -> str:
    facts = [("name", _data_name(run) or "not recorded yet")]
    if run.results is not None and run.results.dataset.train_images is not None:
        facts.append(("training images", f"{run.results.dataset.train_images:,}"))
    if run.results is not None and run.results.dataset.test_images is not None:
        facts.append(("test images", f"{run.results.dataset.test_images:,}"))
    for stream in ("visible", "infrared"):
        summary: ClusterRecord | None = getattr(run.epochs[-1], stream) if run.epochs else None
        if summary is not None and summary.images is not None:
            facts.append((f"{stream} training images", f"{summary.images:,}"))
    html = _fact_table("What the run was trained and evaluated on.", facts)
    sheet = None if run.data is None else data_uri(run.data / "contact_sheet.png", width=1600, height=4000)
    if sheet is not None:
        html += (
            f'<figure><img src="{sheet}" alt="Contact sheet: sample images of the data, visible and infrared">'
            "<figcaption>Contact sheet of the data.</figcaption></figure>\n"
        )
    return html


def _settings_section(run: Run) -> str:
    if run.settings is None:
        return _absent("No settings in this run", "pclhd train PRESET --out RUN")
    text = escape(run.settings[0].strip())
    return _details("Every setting, defaults included", f"<pre><code>{text}</code></pre>\n")


def _provenance_section(run: Run) -> str:
    facts = [("this page made by", f"pclhd {__version__}")]
    for name in ("preset",) if run.imported else ("preset", "recipe", "seed"):
        value = run.setting(name)
        if value is not None:
            facts.append((name, str(value)))
    if run.results is not None and run.results.dataset.checksum:
        facts.append(("checksum of the training images", run.results.dataset.checksum))
    if run.results is not None and run.results.dataset.test_checksum:
        facts.append(("checksum of the test images", run.results.dataset.test_checksum))
    facts += [(f"training: {key}", value) for key, value in run.provenance.items() if key != "seed"]
    folder = RunFolder(run.folder)
    for file in (folder.settings_file, folder.log_file, folder.results_file, folder.model_file):
        digest = _digest(file)
        if digest is not None:
            facts.append((f"SHA-256 of {file.name}", digest))
    return _fact_table("Where these numbers come from.", facts)


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


def _charts(charts: Sequence[tuple[Figure | None, str, str, str]]) -> str:
    drawn = "".join(_chart(*chart) for chart in charts)
    return f'<div class="charts">\n{drawn}</div>\n' if drawn else ""


def _chart(figure: Figure | None, name: str, description: str, caption: str) -> str:
    if figure is None:
        return ""
    svg = inline_svg(figure, name, description)
    # Small screens scroll a wide figure rather than shrink its letters beyond reading.
    wide = figure.get_figwidth() > 6
    drawn = f'<div class="scroll" tabindex="0">{svg}</div>' if wide else svg
    kind = "wide" if wide else "narrow"
    return f'<figure class="{kind}">{drawn}<figcaption>{escape(caption)}</figcaption></figure>\n'


def _fact_table(caption: str, facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="long">{escape(value)}</td></tr>\n' for name, value in facts
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="facts-table"><caption>{escape(caption)}</caption>\n'
        f"<tbody>\n{rows}</tbody></table></div>\n"
    )


def _details(summary: str, html: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>\n{html}</details>\n"


def _absent(what: str, command: str) -> str:
    return f'<p class="absent">{escape(what)}; <code>{escape(command)}</code> writes this part.</p>\n'


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


def _span_words(epochs: Sequence[EpochRecord], measure: Callable[[EpochRecord, str], float | None]) -> str:
    """How a measure went from the first to the last epoch, per stream."""
    parts = []
    for stream in _STREAMS:
        values = [value for epoch in epochs if isfinite(value := _or_nan(measure(epoch, stream)))]
        if values:
            parts.append(f"{stream} from {values[0]:g} to {values[-1]:g}")
    return "; ".join(parts) + "." if parts else ""


def _or_nan(value: float | None) -> float:
    return nan if value is None else value


def _summary_value(epoch: EpochRecord, stream: str, *, key: str) -> float | None:
    summary: ClusterRecord | None = getattr(epoch, stream)
    value: float | None = None if summary is None else getattr(summary, key)
    return value


def _matched(epoch: EpochRecord, stream: str) -> float | None:
    return (epoch.matched or {}).get(stream)


def _agreement(epoch: EpochRecord, stream: str, *, measure: str) -> float | None:
    return _label(epoch, f"{measure}_{stream}")


def _label(epoch: EpochRecord, key: str) -> float | None:
    return (epoch.labels or {}).get(key)


def _final_row(run: Run) -> ResultRow | None:
    rows = [] if run.results is None else [row for row in run.results.rows if row.weights == "final"]
    return rows[0] if rows else None


def _data_name(run: Run) -> str | None:
    if run.results is not None:
        return run.results.dataset.name
    layout = run.setting("data.layout")
    return None if layout in (None, "auto") else str(layout)


def _train_images(run: Run) -> int | None:
    return None if run.results is None else run.results.dataset.train_images


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
