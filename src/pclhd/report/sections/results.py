"""What the test measured: the table, its uncertainty, CMC curves, published figures, similarities of pairs."""

from __future__ import annotations

from dataclasses import dataclass

from pclhd.report import figures
from pclhd.report.published import SETTINGS, Benchmark, MeasuredRow, benchmark_of, other_test_set, published_table
from pclhd.report.sections.parts import Absent, ReportedRun, Values, chart
from pclhd.report.similarities import overlap, similarity_figure
from pclhd.report.tables import (
    METRIC_NAMES,
    order_weights,
    percent,
    percent_gain,
    percent_spread,
    result_notes,
    search_sizes,
    weights_name,
)
from pclhd.runs.records import ResultRow, Results
from pclhd.runs.saved import SavedRun


@dataclass(frozen=True)
class ResultLine:
    """One set of weights in one search: mean, deviation and gain against the start weights for each measure."""

    weights: str
    cells: tuple[tuple[str, str, str], ...]


def results(run: ReportedRun) -> Values | Absent | None:
    """The table of retrieval results and the CMC curves."""
    results = run.saved.results
    if results is None or not results.rows:
        return Absent("No retrieval results yet", "pclhd evaluate RUN") if run.may_have_test else None
    notes = [_uncertainty(results), *result_notes(results)]
    if any(row.weights == "oracle" for row in results.rows):
        notes.append("“oracle” is the epoch chosen with test labels: a bound, not comparable with the others.")
    curves = [
        chart(
            figures.cmc_figure(
                results.model_copy(update={"rows": [row for row in results.rows if row.search == search]})
            ),
            f"cmc{number}",
            f"CMC curves. {_cmc_words(results, search)}",
            f"Cumulative matching characteristics of {search}: the share of queries with a correct image in the first "
            "gallery images, mean over the trials.",
        )
        for number, search in enumerate(_searches(results))
    ]
    return {
        "headings": list(METRIC_NAMES.values()),
        "blocks": _blocks(results),
        "notes": [note for note in notes if note],
        "charts": [curve for curve in curves if curve is not None],
    }


def _searches(results: Results) -> list[str]:
    """The searches in order; that of the examples, with infrared queries, comes first."""
    first = [results.ranked_examples.search] if results.ranked_examples.search else []
    names = list(dict.fromkeys(row.search for row in results.rows))
    return [name for name in dict.fromkeys([*first, *names]) if name in names]


def _blocks(results: Results) -> list[tuple[str, str, list[ResultLine]]]:
    """For each search its name, its sizes in words, and its lines in the order of training."""
    sizes, blocks = search_sizes(results), []
    for search in _searches(results):
        rows = {row.weights: row for row in results.rows if row.search == search}
        lines = [_line(rows[weights], rows.get("start")) for weights in order_weights(list(rows))]
        blocks.append((search, sizes[search], lines))
    return blocks


def _line(row: ResultRow, start: ResultRow | None) -> ResultLine:
    cells = []
    for metric in METRIC_NAMES:
        spread = getattr(row, metric)
        known = start is not None and row.weights != "start"
        gain = percent_gain(spread.mean, getattr(start, metric).mean) if known else ""
        mean, _, deviation = percent_spread(spread, row.trials).partition(" ")
        cells.append((mean, deviation, gain))
    return ResultLine(weights_name(row.weights), tuple(cells))


def _uncertainty(results: Results) -> str:
    """What the ± of the table is over, and what it leaves out."""
    spread = [row for row in results.rows if row.trials > 1 and row.rank1.std]
    if not spread:
        return "One training, one gallery: the table says nothing about chance. Train other seeds to see it."
    trials = max(row.trials for row in spread)
    return (
        f"± is the standard deviation over {trials} drawn galleries, with the network of one training. Another seed "
        "may differ by more; pclhd report RUN RUN … shows several."
    )


def similarities(run: ReportedRun) -> Values | None:
    """How well similarity separates one person from two, across the modalities."""
    results = run.saved.results
    if results is None or not results.similarities:
        return None
    measured = {weights: results.similarities[weights] for weights in order_weights(list(results.similarities))}
    words = [
        f"{weights_name(weights)}: a pair of one person is more similar than a pair of two people in "
        f"{percent(overlap(pairs))} % of all comparisons"
        for weights, pairs in measured.items()
    ]
    figure = chart(
        similarity_figure(measured),
        "similarities",
        f"Similarities of pairs. {'; '.join(words)}.",
        "Cosines of pairs of one visible and one infrared test image, each curve with area 1; at most 1,500 images of "
        "each modality, drawn at random. The less the two curves overlap, the better one threshold separates them.",
    )
    return {"charts": [figure] if figure is not None else [], "words": words}


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


def _cmc_words(results: Results, search: str) -> str:
    parts = []
    for row in results.rows:
        if row.cmc and row.search == search:
            end = len(row.cmc)
            parts.append(
                f"{row.search}, {weights_name(row.weights)}: {percent(row.cmc[0])} % at rank 1, "
                f"{percent(row.cmc[-1])} % at rank {end}"
            )
    return "; ".join(parts) + "."
