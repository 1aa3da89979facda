"""The beginning of the page: what a visitor should know after ten seconds."""

from __future__ import annotations

from pclhd.report.album import Tile, main_person, tile
from pclhd.report.sections.examples import ranked_tiles
from pclhd.report.sections.parts import ReportedRun, Values, counted, label_measure
from pclhd.report.tables import percent_gain, percent_spread
from pclhd.runs.records import RankedExample, ResultRow
from pclhd.text_tables import duration

_STARTS = {
    "none": "random weights",
    "starter": "the shipped starter weights, which were trained with labels on other, drawn people",
}
_SHOWN = 6

Fact = tuple[str, str, str]


def headline(run: ReportedRun) -> Values:
    """The first sentence, a picture, the key numbers, and how the network was trained."""
    saved = run.saved
    selection, weights = saved.setting("selection"), saved.setting("model.weights")
    training = None if saved.results is None else saved.results.training
    images = None if saved.results is None else saved.results.dataset.train_images
    return {
        "sentence": _sentence(run),
        "strip": _strip(run),
        "facts": _facts(run),
        "imported": saved.imported,
        "architecture": saved.setting("model.architecture"),
        "recipe": None if saved.imported else saved.setting("recipe"),
        "synthetic": run.drawn is True,
        "data": run.data_name,
        "images": images if images is not None or run.album is None else len(run.album.pictures) or None,
        "epochs": counted(len(saved.epochs), "epoch") if saved.epochs else None,
        "labels": "unknown" if saved.imported or training == "imported" else saved.labels,
        "criterion": None if selection == "last" else selection,
        "weights": weights,
        "start": _STARTS.get(str(weights)),
    }


def shown_rows(run: ReportedRun) -> tuple[ResultRow | None, ResultRow | None]:
    """The results of the final and of the start weights in the search that the page begins with."""
    results = run.saved.results
    if results is None:
        return None, None
    search = results.ranked_examples.search
    searches = list(dict.fromkeys(row.search for row in results.rows))
    if search not in searches:
        search = next(iter(searches), None)
    rows = {row.weights: row for row in results.rows if row.search == search}
    return rows.get("final"), rows.get("start")


def _sentence(run: ReportedRun) -> str | None:
    final, start = shown_rows(run)
    if final is not None:
        kind = _query_kind(run)
        sentence = f"For {100 * final.rank1.mean:.0f} of 100 {kind}, the first image found shows the right person."
        if start is None:
            return sentence
        return f"{sentence} Before training it was {100 * start.rank1.mean:.0f} of 100."
    survey = run.survey
    if survey is None:
        return None
    matched = int((survey.visible_partners >= 0).sum())
    return (
        f"From {len(survey.visible):,} visible and {len(survey.infrared):,} infrared images without labels, this model "
        f"made {counted(survey.clusters.visible, 'visible cluster')} and "
        f"{counted(survey.clusters.infrared, 'infrared cluster')}. Each should be one person; "
        f"{counted(matched, 'visible cluster has', 'visible clusters have')} a partner in infrared."
    )


def _query_kind(run: ReportedRun) -> str:
    results = run.saved.results
    lists = [] if results is None else [one for several in results.ranked_examples.weights.values() for one in several]
    kinds = {one.query.modality for one in lists}
    return f"{kinds.pop()} queries" if len(kinds) == 1 and None not in kinds else "queries"


def _strip(run: ReportedRun) -> Values | None:
    """One example as pictures: a query with what it finds, or two matched clusters."""
    example = _example(run)
    if example is not None:
        query, hits = ranked_tiles(example, run.data)
        return {"query": query, "tiles": hits[:_SHOWN], "caption": _example_words(run)} if query.uri else None
    survey, album = run.survey, run.album
    if survey is None or album is None:
        return None
    paired = [cluster for cluster, partner in enumerate(survey.visible_partners.tolist()) if partner >= 0]
    if not paired:
        return None
    cluster = paired[len(paired) // 2]
    partner = int(survey.visible_partners[cluster])
    tiles: list[Tile] = []
    people = []
    for modality, number in (("visible", cluster), ("infrared", partner)):
        members = album.members(modality, number)
        people.append(main_person(members)[0])
        tiles += [tile(picture, note=modality, large=True) for picture in members[: _SHOWN // 2]]
    known = None not in people
    verdict = ("right" if people[0] == people[1] else "wrong") if known else ""
    words = {"right": " They show the same person.", "wrong": " They show two people: a wrong match.", "": ""}[verdict]
    return {
        "query": None,
        "tiles": tiles,
        "caption": f"A visible cluster and its infrared partner, from the middle of the list.{words}",
    }


def _example(run: ReportedRun) -> RankedExample | None:
    """A query drawn at random, or else the first one that was saved."""
    results = run.saved.results
    if results is None:
        return None
    examples = results.ranked_examples
    lists = examples.chosen.get("random") or examples.weights.get("final") or []
    return lists[0] if lists else None


def _example_words(run: ReportedRun) -> str:
    results = run.saved.results
    drawn = results is not None and bool(results.ranked_examples.chosen.get("random"))
    return (
        f"A query {'drawn at random' if drawn else 'that was not chosen by its result'}, and the images it finds first."
    )


def _facts(run: ReportedRun) -> list[Fact]:
    """The key numbers, each with a note; retrieval in the search that the page begins with, final weights."""
    saved = run.saved
    facts: list[Fact] = []
    final, start = shown_rows(run)
    if final is not None:
        for name, metric in (("Rank-1", "rank1"), ("mAP", "mAP"), ("mINP", "mINP")):
            gain = percent_gain(getattr(final, metric).mean, getattr(start, metric).mean) if start else None
            note = final.search if gain is None else f"{gain} points against start, {final.search}"
            value = percent_spread(getattr(final, metric), final.trials)
            facts.append((f"{name}, final", f"{value}\u00a0%", note))
    elif run.survey is not None:
        survey = run.survey
        clusters = survey.clusters
        facts.append(("Clusters", f"{clusters.visible:,} / {clusters.infrared:,}", "visible / infrared"))
        noise = [100 * float((part < 0).mean()) for part in survey.labels]
        facts.append(
            ("Left out", f"{noise[0]:.0f} / {noise[1]:.0f}\u00a0%", "images in no cluster, visible / infrared")
        )
    if saved.epochs:
        last = saved.epochs[-1]
        visible, infrared = label_measure(last, "ari_visible"), label_measure(last, "ari_infrared")
        if visible is not None and infrared is not None:
            facts.append(("ARI, last epoch", f"{visible:.2f} / {infrared:.2f}", "visible / infrared clusters"))
        seconds = [epoch.seconds for epoch in saved.epochs if epoch.seconds is not None]
        if seconds:
            facts.append(("Training time", duration(sum(seconds)), counted(len(seconds), "epoch")))
    return facts
