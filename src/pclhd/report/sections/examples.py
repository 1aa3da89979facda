"""Ranked lists and pairs of people who are taken for each other."""

from __future__ import annotations

from pathlib import Path

from pclhd.report.album import Picture, Tile, tile
from pclhd.report.images import data_uri
from pclhd.report.sections.parts import Absent, ReportedRun, Values, counted
from pclhd.report.strips import about, examples_of, pictures_of
from pclhd.runs.records import QueryImage, RankedExample, RankedImage
from pclhd.runs.survey import CHOSEN_AS

_CHOSEN = {
    "best": ("Best answered", "The right person is ahead of all others by the widest margin."),
    "worst": ("Worst answered", "A wrong person is ahead of the right one by the widest margin."),
    "random": ("Drawn at random", "Neither good nor bad on purpose."),
}
_SURVEYED = {
    "spread": ("Spread over the clusters", "The first image of infrared clusters at even steps."),
    "surest": ("Surest", "The queries whose nearest visible image is most similar."),
    "least sure": ("Least sure", "The queries whose nearest visible image is least similar: probably no one is there."),
}


def examples(run: ReportedRun) -> Values | Absent | None:
    """The same queries before and after training."""
    saved = None if run.saved.results is None else run.saved.results.ranked_examples
    lists = [] if saved is None else examples_of(saved)
    if saved is None or not lists:
        return Absent("No ranked examples yet", "pclhd evaluate RUN") if run.may_have_test else None
    return {
        "search": saved.search,
        "has_images": run.data is not None and run.data.is_dir(),
        "examples": lists,
        "pictures": pictures_of(lists, run.data),
    }


def chosen(run: ReportedRun) -> Values | None:
    """Ranked lists of the final weights that were chosen by how well they are answered."""
    results = run.saved.results
    if results is None or not any(results.ranked_examples.chosen.values()):
        return _surveyed(run) if results is None else None
    groups = []
    for kind, (title, words) in _CHOSEN.items():
        lists = []
        for example in results.ranked_examples.chosen.get(kind, []):
            query, hits = ranked_tiles(example, run.data)
            first = example.first_correct_rank
            said = "" if first is None else f"first right image at rank {first:,}"
            lists.append({"query": query, "hits": hits, "said": said})
        if lists:
            groups.append({"title": title, "words": words, "lists": lists})
    return {"groups": groups, "judged": True, "intro": "Lists of the final weights, chosen after the test."}


def searches(run: ReportedRun) -> Values | None:
    """Queries of one's choice."""
    if run.album is None or not run.album.searches:
        return None
    lists = []
    for search in run.album.searches:
        hits = [_hit(search.query, picture, cosine) for picture, cosine in search.hits]
        said = f"compared with {counted(search.searched, search.hits[0][0].modality + ' image')}"
        lists.append({"query": tile(search.query, large=True), "hits": hits, "said": said})
    known = any(hit.verdict for one in lists for hit in one["hits"])  # type: ignore[attr-defined]
    groups = [{"title": None, "words": None, "lists": lists}]
    return {"groups": groups, "judged": known, "intro": "The images that were asked for with --queries."}


def confused(run: ReportedRun) -> Values | None:
    """People who are taken for each other."""
    results = run.saved.results
    if results is None or not results.confused:
        return None
    pairs = []
    for one in results.confused:
        query = _tile(one.query, run.data, note="")
        found = _tile(one.found, run.data, note=_similarity(one.found), verdict="wrong")
        words = f"{one.query.identity} and {one.found.identity}: {counted(one.queries, 'query', 'queries')}"
        pairs.append({"words": words, "tiles": [query, found]})
    return {"pairs": pairs, "search": results.ranked_examples.search}


def ranked_tiles(example: RankedExample, root: Path | None) -> tuple[Tile, list[Tile]]:
    """A query and the images that it finds, as pictures."""
    hits = [
        _tile(image, root, note=_similarity(image), verdict="right" if image.correct else "wrong")
        for image in example.gallery
    ]
    return _tile(example.query, root, note=""), hits


def _surveyed(run: ReportedRun) -> Values | None:
    """Ranked lists of the training images, where there are no labelled test images."""
    album, survey = run.album, run.survey
    if album is None or survey is None or not len(survey.queries):
        return None
    groups = []
    judged = False
    for code, kind in enumerate(CHOSEN_AS):
        title, words = _SURVEYED[kind]
        lists = []
        for place, query_kind in enumerate(survey.query_kind.tolist()):
            if query_kind == code:
                query = album.pictures[int(survey.queries[place])]
                found = zip(survey.hits[place].tolist(), survey.hit_similarity[place].tolist(), strict=True)
                hits = [_hit(query, album.pictures[row], cosine) for row, cosine in found]
                judged = judged or any(hit.verdict for hit in hits)
                lists.append({"query": tile(query, large=True), "hits": hits, "said": ""})
        if lists:
            groups.append({"title": title, "words": words, "lists": lists})
    intro = (
        "Infrared training images and the visible training images that the final model finds most similar. The model "
        "has seen these images, so new images may be found less well."
    )
    return {"groups": groups, "judged": judged, "intro": intro}


def _hit(query: Picture, picture: Picture, cosine: float) -> Tile:
    known = None not in (query.identity, picture.identity)
    verdict = ("right" if query.identity == picture.identity else "wrong") if known else ""
    return tile(picture, note=", ".join([f"{cosine:.2f}", *_camera(picture.camera)]), verdict=verdict, large=True)


def _tile(image: QueryImage | RankedImage, root: Path | None, *, note: str, verdict: str = "") -> Tile:
    uri = None if root is None else data_uri(root, image.path, width=96, height=192, quality=78)
    return Tile(uri, image.path, about(image), ", ".join([*([note] if note else []), *_camera(image.camera)]), verdict)


def _camera(camera: int | str | None) -> list[str]:
    return [] if camera is None else [f"camera {camera}"]


def _similarity(image: RankedImage) -> str:
    return "" if image.distance is None else f"{1 - image.distance:.2f}"
