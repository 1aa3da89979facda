"""The report of a run: its folder, its own images, and queries of one's choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pclhd.data.data_name import shown_data_name
from pclhd.data.images import DecodingOptions
from pclhd.data.layouts import is_drawn
from pclhd.data.records import Dataset, ImageRecord, Modality
from pclhd.errors import ArgumentError, UserError
from pclhd.report.album import Album, Picture, Search
from pclhd.report.figures.maps import PeopleMaps
from pclhd.report.page import write_report
from pclhd.runs.folder import RunFolder
from pclhd.runs.survey import Survey
from pclhd.text_tables import escaped_bytes
from pclhd.workflows.train import open_data

_TOP = 10
_MOST_QUERIES = 50


@dataclass(frozen=True)
class ReportRequest:
    """The arguments of `pclhd report` for one run.

    Attributes:
        run: The run folder.
        data: The data set, if it has moved.
        queries: Images to search for among the run's images of the other modality, and folders of them.
        query_modality: The modality of queries that are not images of the run.
        device: Where to embed queries and the test people on the maps.
    """

    run: RunFolder
    data: Path | None = None
    queries: tuple[Path, ...] = ()
    query_modality: Modality = Modality.INFRARED
    device: str = "auto"


def report_run(request: ReportRequest, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Write the report of a run into its folder.

    Args:
        request: The arguments.
        on_progress: Called with the number of embedded images and the total, where any are embedded.

    Returns:
        The page's path.

    Raises:
        UserError: The run folder or a query is unusable; the data were named and cannot be read; or there are queries
            and no data. Without queries, data that have moved only leave their part of the page out.
    """
    run = request.run
    settings = run.settings()
    root = request.data or settings.data.root
    try:
        dataset = None if root is None else open_data(settings, root)
    except UserError:
        if request.data is not None or request.queries:
            raise
        dataset = None
    if request.queries and dataset is None:
        raise ArgumentError("queries", "needs the images of the run; name their folder with `data`")
    album = None if dataset is None else make_album(run, dataset, request, on_progress)
    return write_report(run, data_root=root, album=album)


def make_album(
    run: RunFolder,
    dataset: Dataset,
    request: ReportRequest,
    on_progress: Callable[[int, int], None] | None = None,
) -> Album:
    """What the page shows of the images themselves."""
    options = _decoding(run)
    pictures = tuple(
        _picture(dataset, image, None if dataset.train_identities is None else dataset.train_identities[row], options)
        for row, image in enumerate(dataset.train.images)
    )
    # A run folder may come from a stranger and name any folder of this disk, so only images of the training are shown.
    is_own = run.facts().get("data.training_checksum") == dataset.train.checksum
    survey = run.survey() if is_own else None
    if survey is not None and (survey.checksum != dataset.train.checksum or len(survey) != len(pictures)):
        survey = None
    return Album(
        name=dataset.name,
        drawn=is_drawn(dataset.folder),
        pictures=pictures if is_own else (),
        survey=survey,
        places=None if survey is None else map_places(survey),
        searches=_searches(run, pictures, dataset, request, options, on_progress) if request.queries else (),
        has_test=dataset.test is not None,
        stages=_stages(run, dataset, request.device, on_progress) if is_own else None,
    )


def _stages(
    run: RunFolder, dataset: Dataset, device: str, on_progress: Callable[[int, int], None] | None
) -> PeopleMaps | str | None:
    """Maps of some test people by the start and the final weights, or why they cannot be made.

    None if there are no such people or weights.
    """
    from pclhd.workflows.maps import Model, people_in_both, people_maps

    weights = run.weights()
    if dataset.test is None or not people_in_both(dataset.test) or not {"start", "final"} <= weights.keys():
        return None
    models = [Model("start weights", weights["start"]), Model("final weights", weights["final"])]
    name = shown_data_name(dataset.name, drawn=is_drawn(dataset.folder))
    try:
        return people_maps(models, dataset, name, device=device, on_progress=on_progress)
    except UserError as error:  # too few images, or a damaged one: the rest of the page does not need them
        return str(error)


def _picture(
    dataset: Dataset, image: ImageRecord, identity: int | None, options: dict[Modality, DecodingOptions]
) -> Picture:
    path = image.path
    shown = path.relative_to(dataset.folder) if path.is_relative_to(dataset.folder) else path
    return Picture(
        path,
        escaped_bytes(shown.as_posix()),
        str(image.modality),
        dataset.names.camera(image.camera),
        None if identity is None else dataset.names.identity(identity),
        {**options[image.modality], "upright": image.upright},
    )


def _decoding(run: RunFolder) -> dict[Modality, DecodingOptions]:
    """The range of values that images with more than 8 bits are shown in: that of the training."""
    from pclhd.models.weights import load_model_with_preprocessing

    known = load_model_with_preprocessing(run.model_file)[1] if run.model_file.is_file() else None
    return {modality: {"stretch": None if known is None else known.stretch(modality)} for modality in Modality}


def map_places(survey: Survey) -> NDArray[np.float32] | None:
    """t-SNE of the surveyed embeddings; None if there are too few."""
    count = len(survey.map_rows)
    if count < 4:
        return None
    from sklearn.manifold import TSNE

    placed = TSNE(2, perplexity=min(30.0, (count - 1) / 3), init="pca", random_state=0).fit_transform(
        survey.map_features
    )
    found: NDArray[np.float32] = np.asarray(placed, dtype=np.float32)
    return found


def _searches(
    run: RunFolder,
    pictures: tuple[Picture, ...],
    dataset: Dataset,
    request: ReportRequest,
    options: dict[Modality, DecodingOptions],
    on_progress: Callable[[int, int], None] | None,
) -> tuple[Search, ...]:
    from pclhd.evaluation.retrieval import rank_gallery
    from pclhd.models.encoder import Encoder, embed_records
    from pclhd.workflows.embed import loose_images

    found, _ = loose_images(request.queries, request.query_modality, argument="queries")
    if len(found) > _MOST_QUERIES:
        raise ArgumentError("queries", f"{len(found):,} images; a page shows at most {_MOST_QUERIES}")
    own = {image.path.resolve(): row for row, image in enumerate(dataset.train.images)}
    asked: list[tuple[Picture, ImageRecord]] = []
    for one in found:
        row = own.get(one.record.path.resolve())
        if row is None:
            decoding: DecodingOptions = {**options[request.query_modality], "upright": True}
            asked.append(
                (Picture(one.record.path, one.shown, str(request.query_modality), options=decoding), one.record)
            )
        else:
            asked.append((pictures[row], dataset.train.images[row]))
    encoder = Encoder.load(run, device=request.device)
    wanted = {_other(record.modality) for _, record in asked}
    rows = [row for row, image in enumerate(dataset.train.images) if image.modality in wanted]
    records = [*(record for _, record in asked), *(dataset.train.images[row] for row in rows)]
    (features,) = embed_records([encoder], records, on_progress=on_progress)
    searches = []
    for place, (query, record) in enumerate(asked):
        among = [k for k, row in enumerate(rows) if dataset.train.images[row].modality is _other(record.modality)]
        gallery = features[[len(asked) + k for k in among]]
        (hits,) = rank_gallery(features[[place]], gallery, top_n=_TOP)
        searches.append(
            Search(query, tuple((pictures[rows[among[hit.row]]], hit.similarity) for hit in hits), len(among))
        )
    return tuple(searches)


def _other(modality: Modality) -> Modality:
    return Modality.INFRARED if modality is Modality.VISIBLE else Modality.VISIBLE
