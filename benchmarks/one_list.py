"""Visible and infrared images in one list: does a gallery order them well, and is "no one here" right? For answers.py.

A gallery of the `pclhd` package is filled with the embeddings of labelled images and searched as a user would. Each
person passes each camera once, frames a second apart. Images of the query's own camera are filtered out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pclhd.answers.calibration import Calibration
from pclhd.answers.fit import Labelled
from pclhd.data.records import Modality
from pclhd.gallery.gallery import Gallery
from pclhd.gallery.records import GalleryFilter
from pclhd.gallery.rows import NewRow, to_arrow
from pclhd.models.encoder import Encoder
from pclhd.pair import Pair

TOP = 10
MOST_QUERIES = 200
#: Gallery → share of the images of each modality that it holds, drawn at random.
GALLERIES = {
    "all images": {Modality.VISIBLE: 1.0, Modality.INFRARED: 1.0},
    "a fifth of the infrared": {Modality.VISIBLE: 1.0, Modality.INFRARED: 0.2},
    "a fifth of the visible": {Modality.VISIBLE: 0.2, Modality.INFRARED: 1.0},
}
RATES = (0.01, 0.05, 0.1)
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_PASSAGES_APART = timedelta(hours=1)


class Images(NamedTuple):
    """Images of both modalities, in one order: embeddings (N, D), people (N,), cameras and modalities."""

    features: NDArray[np.float32]
    people: NDArray[np.int64]
    cameras: list[str]
    lights: list[Modality]

    def only(self, rows: NDArray[np.int64]) -> Images:
        """Some of them."""
        return Images(self.features[rows], self.people[rows], [self.cameras[row] for row in rows],
                      [self.lights[row] for row in rows])  # fmt: skip

    def queries(self, light: Modality) -> NDArray[np.int64]:
        """Images that serve as queries: of more than a few hundred, every n-th."""
        rows = np.array([row for row, one in enumerate(self.lights) if one is light], dtype=np.int64)
        return rows[:: max(1, -(-len(rows) // MOST_QUERIES))]


def measure_one_list(
    images: Pair[Labelled], encoder: Encoder, known: Mapping[str, Calibration]
) -> dict[str, list[dict[str, object]]]:
    """Orders of the hits, and "no one here", with each of some calibrations.

    Args:
        images: Labelled images of people that nothing was fitted to.
        encoder: What embedded them.
        known: Calibrations by the name of what they were made from.

    Returns:
        ``orders``: a row per measure, gallery and modality of the query. ``no one here``: a row per modality of the
        query and wanted rate. Shares in percent.
    """
    everything = _together(images)
    return {
        "orders": [
            row for name, shares in GALLERIES.items() for row in _orders(name, everything, shares, encoder, known)
        ],
        "no one here": list(_no_one_here(everything, encoder, known)),
    }


def _together(images: Pair[Labelled]) -> Images:
    visible, infrared = (one.known() for one in images)
    cameras = [
        f"{light} {number}"
        for light, one in zip(Modality, (visible, infrared), strict=True)
        for number in (np.full(len(one.labels), -1) if one.cameras is None else one.cameras)
    ]
    lights = [Modality.VISIBLE] * len(visible.labels) + [Modality.INFRARED] * len(infrared.labels)
    return Images(
        np.concatenate([visible.features, infrared.features]),
        np.concatenate([visible.labels, infrared.labels]),
        cameras,
        lights,
    )


@contextmanager
def _gallery(images: Images, encoder: Encoder) -> Iterator[Gallery]:
    """A gallery whose row number n is image n − 1."""
    passages: dict[tuple[int, str], int] = {}
    seen: dict[tuple[int, str], int] = {}
    rows = []
    for number, (person, camera, light) in enumerate(zip(images.people, images.cameras, images.lights, strict=True)):
        passage = int(person), camera
        seen[passage] = seen.get(passage, -1) + 1
        time = _BEGIN + passages.setdefault(passage, len(passages)) * _PASSAGES_APART + timedelta(seconds=seen[passage])
        rows.append(NewRow(f"{number:064x}", light, camera, time))
    with TemporaryDirectory() as folder:
        gallery = Gallery(Path(folder) / "gallery", encoder=encoder)
        with gallery._store.writing():
            gallery._found(encoder)
            gallery._store.append(to_arrow(rows, images.features, first_number=1, model_id=encoder.model_id))
        yield gallery


def _orders(
    name: str, everything: Images, shares: Mapping[Modality, float], encoder: Encoder, known: Mapping[str, Calibration]
) -> list[dict[str, object]]:
    """Rows of the table of orders for one gallery."""
    kept = np.random.default_rng(0).random(len(everything.people)) < [shares[light] for light in everything.lights]
    held = everything.only(np.flatnonzero(kept))
    rows: list[dict[str, object]] = []
    with _gallery(held, encoder) as gallery:
        for light in Modality:
            asked = everything.only(everything.queries(light))
            orders: dict[str, tuple[Calibration | None, Modality | None]] = {
                "by similarity": (None, None),
                **{f"by probability, {source}": (made, None) for source, made in known.items()},
                "visible only": (None, Modality.VISIBLE),
                "infrared only": (None, Modality.INFRARED),
            }
            found = {}
            for order, (calibration, only) in orders.items():
                gallery.calibration = calibration
                found[order] = _found(gallery, held, asked, light, only)
            rows += [
                {
                    "measure": measure,
                    "gallery": name,
                    "query": str(light),
                    **{o: one[measure] for o, one in found.items()},
                }
                for measure in ("rank-1", "right of ten", "other light")
            ]
    return rows


def _found(gallery: Gallery, held: Images, asked: Images, light: Modality, only: Modality | None) -> dict[str, float]:
    """Shares in percent, of queries whose person another camera saw."""
    others = sorted(set(held.cameras))
    first, right, crossed = [], [], []
    for vector, person, camera in zip(asked.features, asked.people, asked.cameras, strict=True):
        there = [row for row in np.flatnonzero(held.people == person) if held.cameras[row] != camera]
        if not there:
            continue
        where = GalleryFilter(camera=[one for one in others if one != camera], modality=only)
        hits = gallery.search_embedding(vector, modality=light, top=TOP, where=where)
        correct = [held.people[hit.row.number - 1] == person for hit in hits]
        first.append(any(correct[:1]))
        right.append(sum(correct) / TOP)
        if any(held.lights[row] is not light for row in there):
            crossed.append(any(one and hit.row.modality is not light for one, hit in zip(correct, hits, strict=True)))
    return {"rank-1": _percent(first), "right of ten": _percent(right), "other light": _percent(crossed)}


def _no_one_here(everything: Images, encoder: Encoder, known: Mapping[str, Calibration]) -> Iterator[dict[str, object]]:
    """Every second person is taken out of the gallery; how often their queries are answered, and others rightly."""
    people = np.unique(everything.people)
    held = everything.only(np.flatnonzero(np.isin(everything.people, people[::2])))
    others = sorted(set(held.cameras))
    with _gallery(held, encoder) as gallery:
        for light in Modality:
            asked = everything.only(everything.queries(light))
            found: dict[tuple[str, float], dict[str, list[float]]] = {
                (source, rate): {"false matches": [], "identified": []} for source in known for rate in RATES
            }
            for source, calibration in known.items():
                gallery.calibration = calibration
                for vector, person, camera in zip(asked.features, asked.people, asked.cameras, strict=True):
                    seen = {held.cameras[row] for row in np.flatnonzero(held.people == person)}
                    if seen == {camera}:
                        continue  # no other camera could find them
                    where = GalleryFilter(camera=[one for one in others if one != camera])
                    hits = gallery.search_embedding(vector, modality=light, top=TOP, where=where)
                    for rate in RATES:
                        no_one = gallery.judge(hits, modality=light, where=where, false_match_rate=rate).no_one_here
                        answered = float("nan") if no_one is None else float(not no_one)
                        if not seen:
                            found[source, rate]["false matches"].append(answered)
                        else:
                            right = bool(hits) and held.people[hits[0].row.number - 1] == person
                            found[source, rate]["identified"].append(answered * right)
            for rate in RATES:
                yield {
                    "query": str(light),
                    "rate": 100 * rate,
                    **{f"{source}: {name}": _percent(values) for source in known
                       for name, values in found[source, rate].items()},
                }  # fmt: skip


def _percent(values: Sequence[float]) -> float:
    return 100 * float(np.mean(values)) if values else float("nan")
