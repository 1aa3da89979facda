"""Ranked strips: a query and the first gallery images under several sets of weights, right and wrong told by sign,
line and colour.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from pclhd.report.images import thumbnail
from pclhd.report.tables import order_weights, weights_name
from pclhd.runs.records import QueryImage, RankedExample, RankedExamples, RankedImage

SHOWN_RANKS = 10
"""Gallery images per strip."""


def strips_html(examples: RankedExamples, root: Path | None, *, most: int = 12) -> str:
    """Every query with one strip per set of weights, so that the lists stand under one another.

    Args:
        examples: Ranked lists of the same queries under each set of weights.
        root: The data's folder, or None if it is not known.
        most: Queries shown at most.

    Returns:
        HTML; empty if there are no examples.
    """
    by_query: dict[str, dict[str, RankedExample]] = {}
    for weights in order_weights(list(examples.weights)):
        for example in examples.weights[weights]:
            by_query.setdefault(example.query.path, {})[weights] = example
    return "".join(
        _example_html(number, lists, root) for number, lists in enumerate(list(by_query.values())[:most], start=1)
    )


def _example_html(number: int, lists: dict[str, RankedExample], root: Path | None) -> str:
    query = next(iter(lists.values())).query
    strips = "".join(_strip_html(weights, example, root) for weights, example in lists.items())
    picture = thumbnail(root, query.path, f"Query {number}: {_about(query)}")
    return (
        f'<article class="example">\n<h3>Query {number}: {escape(_about(query))}</h3>\n'
        f'<figure class="shot">{picture}<figcaption>query</figcaption></figure>\n'
        f'<div class="lists">\n{strips}</div>\n</article>\n'
    )


def _strip_html(weights: str, example: RankedExample, root: Path | None) -> str:
    rank = example.first_correct_rank
    found = "no right answer in the gallery" if rank is None else f"first right answer at rank {rank:,}"
    shots = "".join(_shot_html(k, image, root) for k, image in enumerate(example.gallery[:SHOWN_RANKS], start=1))
    name = escape(weights_name(weights))
    return (
        f"<p><strong>{name}</strong>: {found}</p>\n"
        f'<ol class="ranked" tabindex="0" aria-label="Ranked gallery images, {name}">\n{shots}</ol>\n'
    )


def _shot_html(rank: int, image: RankedImage, root: Path | None) -> str:
    verdict, sign = ("right", "✓") if image.correct else ("wrong", "✗")
    about = _about(image)
    distance = "" if image.distance is None else f"<br>{image.distance:.2f}"
    picture = thumbnail(root, image.path, f"Rank {rank}, {verdict}: {about}")
    return f'<li class="shot {verdict}">{picture}<b>{sign}</b> {rank}{distance}</li>\n'


def _about(image: QueryImage | RankedImage) -> str:
    parts = [image.modality or ""]
    if image.identity is not None:
        parts.append(f"identity {image.identity}")
    if image.camera is not None:
        parts.append(f"camera {image.camera}")
    return ", ".join(part for part in parts if part) or "unnamed image"
