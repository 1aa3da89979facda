"""Verbs for galleries: ``pclhd gallery add``, ``search`` and others."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pclhd.cli.options import Device, FalseMatchRate, Force, Json, verb
from pclhd.cli.terminal import complain, embedding_progress, say, show, status
from pclhd.errors import ArgumentError, UserError

if TYPE_CHECKING:
    from pclhd.gallery.records import Added, GalleryFilter, IndexFacts, Removed

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Light = Literal["visible", "infrared"]
GalleryPlace = Annotated[
    str, typer.Argument(metavar="GALLERY", help="The gallery's folder, or s3://BUCKET/NAME on object storage.")
]
Model = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Run folder or model file that embeds.", show_default="the gallery's"),
]
Cameras = Annotated[list[str] | None, typer.Option(help="Only this camera; may be repeated.")]
Only = Annotated[Light | None, typer.Option(help="Only images of this modality.")]
Source = Annotated[
    str | None,
    typer.Option(metavar="PATTERN", help="Only images (or videos) of this path, which may have *, ? and [...]."),
]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Only images taken at this time or later.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only images taken at this time or earlier.")]
Track = Annotated[str | None, typer.Option(help="Only images of this track.")]
Ids = Annotated[
    list[str] | None,
    typer.Option("--id", help="Only the image of this id, or of an id that begins so; may be repeated."),
]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_INTERRUPTED = "interrupted; what had been added is kept, and the same command continues"


@app.callback()
@verb()
def gallery() -> None:
    """Embed images once, then search them by an image of a person, in visible or infrared light.

    A gallery is a folder, or s3://BUCKET/NAME on object storage. It needs LanceDB (pip install lancedb pyarrow). pclhd
    gallery VERB --help explains a verb.
    """


@app.command()
@verb(quiet=True)
def add(
    gallery: GalleryPlace,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES",
            help="Images, folders of images or patterns; or one CSV list with the column path, and where wanted "
            "modality, camera, time and track; or, with --boxes, one video.",
        ),
    ],
    modality: Annotated[
        Light | None, typer.Option(help="Modality of the images (required, unless a CSV list has it).")
    ] = None,
    model: Model = None,
    camera: Annotated[str | None, typer.Option(help="Name of the camera that took the images.")] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|exif|modified|PATTERN",
            help="When they were taken: a time such as 2026-03-01T18:30:00 (UTC, unless it has a zone), exif or "
            "modified, which are read from each file, or a pattern of file names such as %Y%m%d_%H%M%S.",
        ),
    ] = None,
    track: Annotated[str | None, typer.Option(help="Name of the track that all these images belong to.")] = None,
    keep: Annotated[
        Literal["path", "thumbnail", "both"], typer.Option(help="What to keep of an image besides its embedding.")
    ] = "both",
    boxes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Boxes of a tracker for one video: MOTChallenge text, or CSV with headings."),
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --boxes: when the first frame was taken.")
    ] = None,
    first_frame: Annotated[
        int, typer.Option(min=0, metavar="N", help="With --boxes: the tracker's number of the first frame.")
    ] = 1,
    per_track: Annotated[
        int, typer.Option(min=1, metavar="N", help="With --boxes: at most this many embeddings stand for a track.")
    ] = 4,
    per_second: Annotated[
        float, typer.Option(min=0, metavar="N", help="With --boxes: crops of a track embedded for each second.")
    ] = 4.0,
    workers: Annotated[int, typer.Option(min=0, help="Threads that decode; 0 means one per usable processor.")] = 0,
    ray_workers: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Embed with N workers of a Ray cluster (of RAY_ADDRESS, or on this machine), and add all images in "
            "one commit at the end; 0 embeds in this process.",
        ),
    ] = 0,
    parts: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --ray-workers: folder for what they write, which all of them see; needed on object storage.",
            show_default="in the gallery's folder",
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Embed images and add them to a gallery, which is created if there is none.

    The same image is added once, however often it is given. Example: pclhd gallery add people photos/day --model RUN
    --modality visible --camera gate
    """
    from pclhd.gallery.gallery import Gallery

    opened = Gallery(gallery, encoder=model, device=device)
    listed = len(images) == 1 and images[0].suffix.lower() == ".csv"
    if boxes is not None and len(images) != 1:
        raise ArgumentError("boxes", f"goes with one video, not {len(images)} files", value=boxes)
    if boxes is None and start is not None:
        raise ArgumentError("start", "goes with `boxes`; the time of images is given with `time`", value=start)
    if boxes is not None and (time is not None or track is not None):
        raise ArgumentError("time" if time is not None else "track", "does not go with `boxes`; give `start`")
    if boxes is not None and ray_workers:
        raise ArgumentError("ray_workers", "does not go with `boxes`: a video is decoded in one go", value=ray_workers)
    if parts is not None and not ray_workers:
        raise ArgumentError("parts", "goes with `ray_workers`", value=parts)
    if listed and track is not None:
        raise ArgumentError("track", "does not go with a list, which has a column for it", value=track)
    if modality is None and not listed:
        raise ArgumentError("modality", "is missing: state whether the images are visible or infrared")
    try:
        with embedding_progress("adding") as on_progress:
            if boxes is not None:
                assert modality is not None
                found = opened.add_video(
                    images[0], boxes, modality=modality, camera=camera, start=start, first_frame=first_frame,
                    per_track=per_track, per_second=per_second, keep=keep, on_progress=on_progress,
                )  # fmt: skip
            elif listed:
                found = opened.add_list(
                    images[0], modality=modality, camera=camera, time=time, keep=keep, workers=workers,
                    ray_workers=ray_workers, parts=parts, on_progress=on_progress,
                )  # fmt: skip
            else:
                assert modality is not None
                found = opened.add(
                    list(images), modality=modality, camera=camera, time=time, track=track, keep=keep, workers=workers,
                    ray_workers=ray_workers, parts=parts, on_progress=on_progress,
                )  # fmt: skip
    except KeyboardInterrupt:
        complain(_INTERRUPTED)
        sys.exit(130)
    _say_added(found, gallery, as_json=as_json, tracks=boxes is not None)


@app.command()
@verb()
def search(
    gallery: GalleryPlace,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image of the person to look for.")],
    modality: Annotated[Light, typer.Option(help="Modality of that image.")],
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Number of answers.")] = 10,
    camera: Cameras = None,
    only: Only = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    track: Track = None,
    group: Annotated[
        bool,
        typer.Option(
            "--group/--frames", help="One answer for each sighting (a passage in front of a camera), or each frame."
        ),
    ] = True,
    gap: Annotated[
        str, typer.Option(metavar="TIME", help="Longest time between frames of one sighting, such as 30s or 5m.")
    ] = "60s",
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Order the candidates by their k-reciprocal neighbours, too.")
    ] = False,
    false_match_rate: FalseMatchRate = None,
    model: Model = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the images that look most like the person in an image, or say that none of them is similar enough.

    Visible and infrared images are listed together, by the probability that they show that person; without a
    calibration by similarity. --only visible lists one of them.

    Example: pclhd gallery search people someone.jpg --modality infrared --top 10
    """
    from pclhd.gallery.gallery import Gallery
    from pclhd.gallery.text import hits_text, verdict_text

    if false_match_rate is not None and not 0 < false_match_rate < 1:
        raise ArgumentError("false_match_rate", "must be above 0 and below 1", value=false_match_rate)
    where = _filter(camera, only, source, since, until, track)
    opened = Gallery(gallery, encoder=model, device=device)
    hits = opened.search(
        image, modality=modality, top=top, where=where, group=group, gap=_age("gap", gap), rerank=rerank
    )
    order = opened.order(modality=modality, where=where)
    verdict = opened.judge(hits, modality=modality, where=where, false_match_rate=false_match_rate)
    if as_json:
        known = [
            {**hit.to_dict(), "above_threshold": above, "ordered_by": order.by}
            for hit, above in zip(hits, verdict.above, strict=True)
        ]
        show(_json(known))
        if order.note and hits:
            complain(f"note: {order.note}")
    elif not hits:
        show(hits_text(hits))
    else:
        parts = [verdict_text(hits, verdict), hits_text(hits)]
        if verdict.no_one_here is None:
            parts.reverse()
        show("\n".join([*parts, *[order.note] * bool(order.note)]))


@app.command(name="list")
@verb()
def list_rows(
    gallery: GalleryPlace,
    camera: Cameras = None,
    only: Only = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    track: Track = None,
    ids: Ids = None,
    first: Annotated[int, typer.Option(min=0, metavar="N", help="At most this many; 0 means all.")] = 100,
    after: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Only rows with a higher number.")] = 0,
    as_json: Json = False,
) -> None:
    """List the images of a gallery in the order in which they were added."""
    from itertools import islice

    from pclhd.gallery.gallery import Gallery
    from pclhd.gallery.text import rows_text

    where = _filter(camera, only, source, since, until, track, ids)
    opened = Gallery(gallery)
    rows = list(islice(opened.rows(where, after=after), first or None))
    if as_json:
        show(_json([row.to_dict() for row in rows]))
    elif not rows:
        show("no images")
    else:
        show(rows_text(rows))
        if first and len(rows) == first:
            say(f"more may follow: --after {rows[-1].number}")


@app.command()
@verb()
def stats(gallery: GalleryPlace, as_json: Json = False) -> None:
    """Count a gallery's images, and show its cameras, times, model, size and how well a search finds."""
    from pclhd.gallery.gallery import Gallery
    from pclhd.gallery.text import stats_text

    found = Gallery(gallery).stats()
    show(_json(found.to_dict()) if as_json else stats_text(found))


@app.command()
@verb(quiet=True)
def remove(
    gallery: GalleryPlace,
    camera: Cameras = None,
    only: Only = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    track: Track = None,
    ids: Ids = None,
    like: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Only images that look like the person in this one.")
    ] = None,
    modality: Annotated[Light | None, typer.Option(help="With --like: modality of that image.")] = None,
    similarity: Annotated[
        float | None, typer.Option(metavar="COSINE", help="With --like: least similarity, from -1 to 1.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; otherwise only say how many images are meant.")] = False,
    model: Model = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Remove images for good: their embeddings, thumbnails, paths and all older versions of the gallery's files.

    An image must satisfy all that is given. Example: pclhd gallery remove people --camera gate --yes
    """
    from pclhd.gallery.gallery import Gallery

    where = _filter(camera, only, source, since, until, track, ids)
    opened = Gallery(gallery, encoder=model, device=device)
    if like is None and (modality is not None or similarity is not None):
        raise ArgumentError("modality" if modality is not None else "similarity", "goes with `like`")
    if like is not None:
        if modality is None or similarity is None:
            raise ArgumentError("like", "needs `modality`, and `similarity` (the least cosine)", value=like)
        count = len(opened.like(like, modality=modality, similarity=similarity, where=where))
    elif not where:
        raise UserError("say which images: --camera, --only, --source, --since, --until, --track, --id or --like")
    else:
        count = opened.count(where)
    if not yes:
        raise UserError(f"this would remove {count:,} of {len(opened):,} images for good; repeat it with --yes")
    if like is not None:
        assert modality is not None
        assert similarity is not None
        removed = opened.remove_like(like, modality=modality, similarity=similarity, where=where)
    else:
        removed = opened.remove(where)
    _say_removed(removed, as_json=as_json)


@app.command()
@verb(quiet=True)
def expire(
    gallery: GalleryPlace,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="Age, such as 30d, 12h or 8w.")],
    as_json: Json = False,
) -> None:
    """Remove images that are older than an age, for good; to be called by a timer.

    The age counts from when an image was taken, or added where that is not known. Example: pclhd gallery expire people
    --older-than 30d
    """
    from pclhd.gallery.gallery import Gallery

    _say_removed(Gallery(gallery).expire(_age("older_than", older_than)), as_json=as_json)


@app.command()
@verb(quiet=True)
def compact(gallery: GalleryPlace) -> None:
    """Write a gallery's files again without anything that is no longer needed, and index it if it is large."""
    from pclhd.gallery.gallery import Gallery

    opened = Gallery(gallery)
    index = opened.compact()
    say(f"{len(opened):,} images; {_index_text(index)}")


@app.command()
@verb(quiet=True)
def export(
    gallery: GalleryPlace,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file, .parquet.")],
    camera: Cameras = None,
    only: Only = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    track: Track = None,
    map_by: Annotated[
        Literal["tsne", "pca", "none"],
        typer.Option("--map", help="How images are placed in the plane: t-SNE, two main components, or not at all."),
    ] = "tsne",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the map.")] = 0,
    force: Force = False,
) -> None:
    """Write a gallery to one Parquet file: rows, embeddings, thumbnails and a map, for programs that show embeddings.

    Example: pclhd gallery export people --out people.parquet
    """
    from pclhd.gallery.gallery import Gallery

    where = _filter(camera, only, source, since, until, track)
    with status("exporting"):
        count = Gallery(gallery).export(out, where=where, map_by=map_by, seed=seed, force=force)
    say(f"wrote {out}: {count:,} images")


def _index_text(index: IndexFacts | None) -> str:
    return "a search is exact" if index is None else f"the index finds {index.recall:.1%} of the ten nearest images"


def _say_added(found: Added, gallery: str, *, as_json: bool, tracks: bool) -> None:
    for line in found.broken[:10]:
        complain(f"note: left out: {line}")
    if len(found.broken) > 10:
        complain(f"note: left out: {len(found.broken) - 10:,} more")
    if as_json:
        show(_json(found.to_dict()))
        return
    if tracks:
        say(f"{gallery}: {found.added:,} rows added, {found.present:,} tracks were there")
    else:
        say(f"{gallery}: {found.added:,} images added, {found.present:,} were there, {len(found.broken):,} left out")


def _say_removed(removed: Removed, *, as_json: bool) -> None:
    if as_json:
        show(_json(removed.to_dict()))
    else:
        say(f"{removed.removed:,} images removed, {removed.left:,} left")


def _filter(
    camera: list[str] | None,
    only: Light | None,
    source: str | None,
    since: str | None,
    until: str | None,
    track: str | None,
    ids: Iterable[str] | None = None,
) -> GalleryFilter:
    from pclhd.gallery.records import GalleryFilter

    return GalleryFilter(
        camera=camera or None,
        modality=only,
        source=source,
        since=_moment("since", since),
        until=_moment("until", until),
        track=track,
        ids=list(ids) if ids else None,
    )


def _moment(argument: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentError(argument, "is not a time; write it as 2026-03-01T18:30:00", value=text) from None


def _age(argument: str, text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhdw])", text.strip())
    if found is None:
        raise ArgumentError(argument, "is not a length of time; write 30s, 5m, 12h, 30d or 8w", value=text)
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
