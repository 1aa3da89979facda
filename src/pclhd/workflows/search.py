"""Search: the images of a gallery that look most like each query, with what their similarity means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.answers.calibration import Calibration, percent
from pclhd.data.passed_over import PassedOver
from pclhd.data.records import ImageInfo, Modality
from pclhd.errors import ArgumentError
from pclhd.evaluation.answers import Answer, answer
from pclhd.evaluation.retrieval import Hit, RankedResults, rank_gallery
from pclhd.features.embedded import read_embedded
from pclhd.features.labels import write_csv
from pclhd.files import check_output, claiming, replacing
from pclhd.models.encoder import ImageEncoder, embed_records
from pclhd.models.onnx_encoder import OnnxEncoder
from pclhd.models.opening import Runtime, open_encoder
from pclhd.report.search_sheet import SheetHit, SheetRow, sheet_html, sheet_png
from pclhd.runs.folder import RunFolder
from pclhd.text_tables import escaped_bytes, text_table
from pclhd.workflows.embed import loose_images

SHEET_SUFFIXES = (".html", ".png")


@dataclass(frozen=True)
class SearchRequest:
    """The arguments of `pclhd search`.

    Attributes:
        run: The run folder, a model file, or an ONNX file.
        queries: Query images, and folders of them.
        images: Folders and images to search.
        features: A file of `pclhd embed` to search instead.
        modality: Modality of the images that are searched.
        query_modality: Modality of the queries; None for the other one.
        top: Number of images per query.
        false_match_rate: The share of searches for people who are not there that may give an answer; None for the
            usual one.
        expected: How many of the images show a query's person, if they are there; None for as many as in the images of
            the calibration.
        csv: A CSV file to write.
        sheet: A page or picture to write.
        device: Device for the computation.
        runtime: ``torch``, or ``onnx`` for the ONNX file in the run folder.
        force: Whether to replace existing files.
    """

    run: Path
    queries: tuple[Path, ...]
    modality: Modality
    images: tuple[Path, ...] = ()
    features: Path | None = None
    query_modality: Modality | None = None
    top: int = 10
    false_match_rate: float | None = None
    expected: float | None = None
    csv: Path | None = None
    sheet: Path | None = None
    device: str = "auto"
    runtime: Runtime = "torch"
    force: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Attributes:
        results: The ranked list of each query.
        answers: The same with probabilities; None without a calibration.
        calibration: What the similarities mean; None if it was not measured.
        passed_over: Files in the folders that are no images.
        cameras: Names of the cameras by gallery row, where they are known.
    """

    results: RankedResults
    answers: list[Answer] | None
    calibration: Calibration | None
    passed_over: PassedOver
    cameras: dict[int, int | str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-compatible values."""
        entries = self.results.to_dict() if self.answers is None else [one.to_dict() for one in self.answers]
        for entry in entries:
            for hit in entry["hits"]:
                hit["camera"] = self.cameras.get(hit["row"])
        return {"calibrated_with": None if self.calibration is None else self.calibration.source, "searches": entries}

    def lines(self) -> Iterator[tuple[int, Hit, float | None, bool | None]]:
        """Query, hit, probability, and whether it is similar enough, of all hits; None without a calibration."""
        for query, hits in enumerate(self.results):
            for place, hit in enumerate(hits):
                known = None if self.answers is None else self.answers[query].hits[place]
                yield query, hit, None if known is None else known.probability, None if known is None else known.above


@dataclass(frozen=True)
class _Gallery:
    features: NDArray[np.float32]
    images: tuple[ImageInfo, ...]
    cameras: dict[int, int | str]
    passed_over: PassedOver


def run_search(request: SearchRequest, on_progress: Callable[[int, int], None] | None = None) -> Found:
    """Search, and write the files that were asked for.

    The images are embedded as `pclhd embed` does it. An image that is a query itself is not found for that query.

    Args:
        request: The arguments.
        on_progress: Called with the number of embedded images and the total.

    Returns:
        The ranked lists and answers.

    Raises:
        UserError: An argument or a file is unusable; no file is left.
    """
    _check(request)
    with ExitStack() as claimed:
        for path in (request.csv, request.sheet):
            if path is not None:
                claimed.enter_context(claiming(path, replace=request.force))
        encoder = open_encoder(request.run, device=request.device, runtime=request.runtime)
        found = _search(request, encoder, on_progress)
        pictures = None
        if request.sheet is not None:
            rows = _sheet_rows(found, _roots(request))
            pictures = sheet_png(rows) if request.sheet.suffix.lower() == ".png" else sheet_html(rows).encode()
        with ExitStack() as written:  # both files, or none
            if request.csv is not None:
                write_csv(written.enter_context(replacing(request.csv, replace=request.force)), _columns(found))
            if request.sheet is not None and pictures is not None:
                written.enter_context(replacing(request.sheet, replace=request.force)).write(pictures)
    return found


def _check(request: SearchRequest) -> None:
    if bool(request.images) == (request.features is not None):
        raise ArgumentError("images", "name either folders with `images`, or one file of pclhd embed with `features`")
    if request.top < 1:
        raise ArgumentError("top", "must be at least 1", value=request.top)
    for name, path, suffixes in (("csv", request.csv, (".csv",)), ("sheet", request.sheet, SHEET_SUFFIXES)):
        if path is not None:
            try:
                check_output(path, suffixes, "search results", force=request.force)
            except ArgumentError as error:
                raise ArgumentError(name, error.reason.replace("`out`", f"`{name}`"), value=path) from error


def _search(request: SearchRequest, encoder: ImageEncoder, on_progress: Callable[[int, int], None] | None) -> Found:
    other = Modality.INFRARED if request.modality is Modality.VISIBLE else Modality.VISIBLE
    asked, passed_over = loose_images(request.queries, request.query_modality or other, argument="query")
    searched, more = ([], PassedOver()) if request.features else loose_images(request.images, request.modality)
    records = [row.record for row in (*asked, *searched)]
    (embedded,) = embed_records([encoder], records, on_progress=on_progress)
    if request.features is None:
        infos = tuple(ImageInfo(row.record.path, row.record.modality) for row in searched)
        gallery = _Gallery(embedded[len(asked) :], infos, {}, passed_over + more)
    else:
        gallery = _read_gallery(request.features, request.modality, encoder)
    queries = tuple(ImageInfo(row.record.path, row.record.modality) for row in asked)
    results = rank_gallery(
        embedded[: len(asked)],
        gallery.features,
        top_n=request.top,
        excluded=_themselves(queries, gallery.images),
        queries=queries,
        gallery=gallery.images,
    )
    calibration = _calibration(request.run, encoder, request.query_modality or other, request.modality)
    answers = None
    if calibration is not None:
        answers = answer(results, calibration, false_match_rate=request.false_match_rate, expected=request.expected)
    elif request.expected is not None:
        raise ArgumentError("expected", "needs a calibration; make one with: pclhd calibrate RUN --data DIR")
    return Found(results, answers, calibration, gallery.passed_over, gallery.cameras)


def _calibration(run: Path, encoder: ImageEncoder, query: Modality, gallery: Modality) -> Calibration | None:
    """The calibration of the run that a model is in; None if it has none for this direction.

    An 8-bit model has none: its similarities were not measured. A training on a few people has none for a direction in
    which too few clusters had a partner; the search is as good without it.
    """
    calibration = RunFolder(run if run.is_dir() else run.parent).calibration()
    if calibration is not None and calibration.model_id != encoder.model_id:
        if isinstance(encoder, OnnxEncoder) or not run.is_dir():
            return None
        calibration.require_model(encoder.model_id)
    measured = () if calibration is None else {(one.query, one.gallery) for one in calibration.directions}
    return calibration if (str(query), str(gallery)) in measured else None


def _read_gallery(path: Path, modality: Modality, encoder: ImageEncoder) -> _Gallery:
    saved = read_embedded(path)
    if saved.model_id != encoder.model_id:
        raise ArgumentError(
            "features",
            f"was embedded by another encoder ({saved.model_id[:12]}, this run's is {encoder.model_id[:12]}); make it "
            "again with: pclhd embed RUN --out FILE",
            value=path,
        )
    rows = [row for row, one in enumerate(saved.modalities) if one is modality]
    if not rows:
        raise ArgumentError("features", f"has no {modality} image", value=path)
    infos = tuple(ImageInfo(Path(saved.paths[row]), modality) for row in rows)
    cameras = {place: camera for place, row in enumerate(rows) if (camera := saved.cameras[row]) is not None}
    return _Gallery(saved.features[rows], infos, cameras, PassedOver())


def _themselves(queries: tuple[ImageInfo, ...], gallery: tuple[ImageInfo, ...]) -> NDArray[np.bool_] | None:
    """(Q, G) where a query is a gallery image; None if nowhere."""
    places: dict[Path, list[int]] = {}
    for row, image in enumerate(gallery):
        if image.path is not None:
            places.setdefault(image.path.absolute(), []).append(row)
    pairs = [
        (query, row)
        for query, image in enumerate(queries)
        if image.path is not None
        for row in places.get(image.path.absolute(), ())
    ]
    if not pairs:
        return None
    excluded = np.zeros((len(queries), len(gallery)), dtype=np.bool_)
    excluded[tuple(np.transpose(pairs))] = True
    return excluded


# What is shown.


def found_text(found: Found) -> str:
    """The answers as text for people."""
    blocks = []
    results = found.results
    for query, hits in enumerate(results):
        known = None if found.answers is None else found.answers[query]
        image = None if results.queries is None else results.queries[query]
        size = len(results.gallery or ())
        kind = "" if not results.gallery else f"{results.gallery[0].modality} "
        heading = f"{_name(image)} ({'' if image is None else image.modality}), compared with {size:,} {kind}images"
        rows = [
            (
                str(hit.rank),
                f"{hit.similarity:.3f}",
                *([] if known is None else [percent(known.hits[place].probability)]),
                *([str(found.cameras.get(hit.row, ""))] if found.cameras else []),
                _name(hit.image),
            )
            for place, hit in enumerate(hits)
        ]
        headings = (
            "rank",
            "similarity",
            *([] if known is None else ["probability"]),
            *(["camera"] if found.cameras else []),
            "image",
        )
        numbers = set(range(len(headings) - 1))
        lines = [heading, *([] if known is None else [known.sentence()])]
        blocks.append("\n".join([*lines, text_table(rows, headings=headings, right=numbers)]))
    return "\n\n".join([*blocks, _explanation(found)])


def _explanation(found: Found) -> str:
    if found.answers is None or found.calibration is None:
        return (
            "similarity: 1 is the same direction, 0 is unrelated. This run has no calibration for such a search, so "
            "there is no probability and no threshold; make one with: pclhd calibrate RUN --data DIR"
        )
    hits = [hit for one in found.answers for hit in one.hits[:1]]
    about = f"about {hits[0].expected:.3g} of the images show" if hits else "some of the images show"
    source = {
        "pseudo labels": "clusters of the training images, without labels",
        "training identities": "the training images and their identities",
        "labelled images": "labelled images",
    }[found.calibration.source]
    return (
        f"probability: that both images show one person, if {about} that person (--expected changes it); calibrated "
        f"with {source}. It is an estimate, no identification."
    )


def _name(image: ImageInfo | None) -> str:
    return "image in memory" if image is None or image.path is None else escaped_bytes(image.path.as_posix())


def _columns(found: Found) -> dict[str, NDArray[Any]]:
    results = found.results
    lines = list(found.lines())
    queries, gallery = results.queries or (), results.gallery or ()
    columns: dict[str, list[Any]] = {
        "query": [_name(queries[query]) for query, *_ in lines],
        "rank": [hit.rank for _, hit, *_ in lines],
        "path": [_name(gallery[hit.row]) for _, hit, *_ in lines],
        "similarity": [f"{hit.similarity:.6f}" for _, hit, *_ in lines],
        "modality": [str(gallery[hit.row].modality) for _, hit, *_ in lines],
        "camera": [found.cameras.get(hit.row) for _, hit, *_ in lines],
    }
    if found.answers is not None:
        columns["probability"] = [f"{probability:.6f}" for _, _, probability, _ in lines]
        columns["above_threshold"] = ["yes" if above else "no" for *_, above in lines]
    return {name: np.array(values, dtype=object) for name, values in columns.items()}


def _roots(request: SearchRequest) -> list[Path]:
    """Where relative paths of a file of `pclhd embed` may begin: here, or at the run's data."""
    root = RunFolder(request.run).data_root() if request.run.is_dir() else None
    return [Path(), *([] if root is None else [root.parent if root.is_file() else root])]


def _sheet_rows(found: Found, roots: list[Path]) -> list[SheetRow]:
    def place(image: ImageInfo | None) -> Path | None:
        if image is None or image.path is None:
            return None
        return next((root / image.path for root in roots if (root / image.path).is_file()), None)

    results = found.results
    rows = []
    for query, hits in enumerate(results):
        image = None if results.queries is None else results.queries[query]
        known = None if found.answers is None else found.answers[query]
        rows.append(
            SheetRow(
                name=_name(image),
                picture=place(image),
                sentence="" if known is None else known.sentence(),
                no_one_here=known is not None and known.no_one_here,
                hits=tuple(
                    SheetHit(
                        name=_name(hit.image),
                        picture=place(hit.image),
                        similarity=f"{hit.similarity:.2f}",
                        probability="" if known is None else percent(known.hits[at].probability),
                        above=known is None or known.hits[at].above,
                    )
                    for at, hit in enumerate(hits)
                ),
            )
        )
    return rows
