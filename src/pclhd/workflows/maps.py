"""Maps of embeddings by t-SNE: a few people drawn at random, the same images for all models (paper, t-SNE figure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import Dataset, LabelledImages, Modality
from pclhd.errors import UserError
from pclhd.models.encoder import Encoder, embed_records
from pclhd.report.drawings import Drawing, NamedTable
from pclhd.report.figures.maps import MapPanel, PeopleMaps, Separation, maps_figure
from pclhd.report.tables import Column, Table
from pclhd.streams import Streams
from pclhd.text_tables import escaped_bytes

PEOPLE = 10
_MOST_IMAGES = 20
_PERPLEXITY = 30.0
_FEWEST = 5
_MEASURED = (
    "Over pairs of a visible and an infrared image, and on the embeddings themselves: mean cosine similarity "
    "of pairs of one person and of pairs of two people, and the share of comparisons of such pairs in which that of "
    "one person is the more similar (50 % is chance)."
)


@dataclass(frozen=True)
class Model:
    """A model to draw a map of.

    Attributes:
        title: Of its panel.
        weights: Its model file.
    """

    title: str
    weights: Path


def map_drawing(
    name: str,
    models: Sequence[Model],
    dataset: Dataset,
    data_name: str,
    *,
    people: int = PEOPLE,
    seed: int = 0,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Drawing, NamedTable]:
    """The maps of some models side by side, and how far each separates people across the modalities, as files.

    Args and errors are those of `people_maps`; `name` is that of the files.
    """
    maps = people_maps(models, dataset, data_name, people=people, seed=seed, device=device, on_progress=on_progress)
    figure = maps_figure(maps.panels, [f"identity {owner}" for owner in maps.people], maps.modality)
    points = [
        (panel.title, path, owner, kind, float(x), float(y))
        for panel in maps.panels
        for path, owner, kind, (x, y) in zip(maps.paths, maps.people, maps.modality, panel.points, strict=True)
    ]
    columns = ("model", "path", "identity", "modality", "x", "y")
    return (
        Drawing(name, maps.caption, figure, columns, points),
        NamedTable(f"{name}-separation", _table(maps.panels)),
    )


def people_maps(
    models: Sequence[Model],
    dataset: Dataset,
    data_name: str,
    *,
    people: int = PEOPLE,
    seed: int = 0,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> PeopleMaps:
    """The maps of some models, and how far each separates people across the modalities.

    Args:
        models: In the order of the panels.
        dataset: Whose test images are shown.
        data_name: What it is called in the caption.
        people: How many to draw.
        seed: Of the draw and of t-SNE.
        device: Where to embed.
        on_progress: Called with the number of images embedded and of all.

    Raises:
        UserError: There are no labelled test images of people in both modalities, or too few images.
    """
    if dataset.test is None:
        raise UserError(f"{dataset.root}: has no labelled test images, whose people a map would show")
    rows = draw_images(dataset.test, people, seed)
    test = dataset.test
    records = [test.images[row] for row in rows]
    owners = [str(test.names.identity(test.identities[row])) for row in rows]
    modality = [str(record.modality) for record in records]
    panels = []
    for number, model in enumerate(models):

        def progress(done: int, _: int, before: int = number * len(records)) -> None:
            if on_progress is not None:
                on_progress(before + done, len(models) * len(records))

        encoder = Encoder.load(model.weights, device=device)
        (embeddings,) = embed_records([encoder], records, on_progress=progress)
        panels.append(MapPanel(model.title, project(embeddings, seed), separation_of(embeddings, owners, modality)))
    shown, among = len(dict.fromkeys(owners)), len(people_in_both(test))
    caption = (
        f"t-SNE of the embeddings of {shown} test people drawn at random among {among} (seed {seed}) on {data_name}, "
        f"{len(rows)} images: a colour for each person, circles visible, stars infrared; axes have no unit. {_MEASURED}"
    )
    paths = [escaped_bytes(_shown(record.path, dataset.folder)) for record in records]
    return PeopleMaps(tuple(panels), tuple(owners), tuple(modality), tuple(paths), caption)


def draw_images(test: LabelledImages, people: int, seed: int) -> list[int]:
    """Rows of the images of some people, all of whom are in both modalities; at most 20 of each person and modality.

    Raises:
        UserError: No one is in both modalities.
    """
    draws = Streams(seed).numpy("map")
    both = people_in_both(test)
    if not both:
        raise UserError("no person of the test images is in both modalities, so there is nothing to map together")
    chosen = draws.choice(len(both), min(people, len(both)), replace=False)
    rows: list[int] = []
    for person in sorted(list(both)[number] for number in chosen):
        for kind in Modality:
            rows += sorted(draws.permutation(both[person][kind])[:_MOST_IMAGES].tolist())
    if len(rows) < _FEWEST:
        raise UserError(f"only {len(rows)} test images of people in both modalities; a map needs {_FEWEST} or more")
    return rows


def people_in_both(test: LabelledImages) -> dict[int, dict[Modality, list[int]]]:
    """The rows of each person who is in both modalities, by modality; people in ascending order."""
    of_person: dict[int, dict[Modality, list[int]]] = {}
    for row in test.known():
        of_person.setdefault(test.identities[row], {}).setdefault(test.images[row].modality, []).append(row)
    return {person: kinds for person, kinds in sorted(of_person.items()) if len(kinds) == len(Modality)}


def project(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """(N, D) embeddings on a plane: (N, 2), by t-SNE from the first two principal components."""
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(embeddings) - 1) / 3)
    tsne = TSNE(n_components=2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    return np.asarray(tsne.fit_transform(embeddings.astype(np.float64)))


def separation_of(embeddings: NDArray[np.float32], owners: Sequence[str], modality: Sequence[str]) -> Separation:
    """How far embeddings of unit length separate people, over pairs of a visible and an infrared image."""
    from sklearn.metrics import roc_auc_score

    people, kinds = np.asarray(owners), np.asarray(modality)
    visible, infrared = kinds == Modality.VISIBLE.value, kinds == Modality.INFRARED.value
    similarity = (embeddings[visible] @ embeddings[infrared].T).ravel()
    same = (people[visible][:, None] == people[infrared][None]).ravel()
    known = bool(same.any()) and not bool(same.all())
    return Separation(
        float(similarity[same].mean()) if same.any() else None,
        float(similarity[~same].mean()) if not same.all() else None,
        float(roc_auc_score(same, similarity)) if known else None,
    )


def _table(panels: Sequence[MapPanel]) -> Table:
    columns = (
        Column("Model"),
        *(Column(heading, "right") for heading in ("Same person", "Different people", "Rightly ordered (%)")),
    )
    rows = []
    for panel in panels:
        found = panel.separation
        texts = ["–" if one is None else f"{one:.3f}" for one in (found.same, found.different)]
        rows.append((panel.title, *texts, "–" if found.right is None else f"{100 * found.right:.1f}"))
    caption = f"Separation of the people on the maps. {_MEASURED}"
    return Table(caption, columns, tuple(rows))


def _shown(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
