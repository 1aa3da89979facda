"""Add images: read, decode and embed a bounded number at a time, and commit each part."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pclhd.data.ahead import Ahead
from pclhd.data.images import decode_all, fit_image, opened_image
from pclhd.data.records import Modality, digest_file
from pclhd.data.sources import ImageSource
from pclhd.errors import ArgumentError, UserError
from pclhd.gallery.filters import ids_among
from pclhd.gallery.records import Added, Keep
from pclhd.gallery.rows import NewRow, to_arrow
from pclhd.gallery.store import Store
from pclhd.gallery.trouble import damaged
from pclhd.models.embed import require_finite
from pclhd.models.encoder import Encoder
from pclhd.text_tables import escaped_bytes

#: When an image was taken: a moment; ``exif``, which its camera wrote into the file; ``modified``, the file's time; or
#: a pattern of its file name such as ``%Y%m%d_%H%M%S``.
TimeOf = datetime | str | None

# Images of one commit; two such parts are in memory.
_PART = 512
_THUMBNAIL = (128, 256)
_QUALITY = 85
_MOST_NUMBERS = 2**53


@dataclass(frozen=True)
class NewImage:
    """An image to be added.

    Attributes:
        source: The image.
        modality: Visible or infrared.
        camera: Name of the camera.
        time: When it was taken.
        track: Name of the track.
    """

    source: ImageSource
    modality: Modality
    camera: str | None = None
    time: TimeOf = None
    track: str | None = None


@dataclass
class Part:
    """Decoded images of one modality that are not in the gallery, and the rows that they will be."""

    rows: list[NewRow]
    pixels: NDArray[np.uint8]
    present: int
    broken: list[str]
    size: int


def add_images(
    store: Store,
    encoder: Encoder,
    images: Sequence[NewImage],
    *,
    keep: Keep,
    workers: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Add images to a gallery that the caller is writing to.

    While a part is embedded, the next one is read and decoded. A part is committed as a whole, so an interrupted call
    can be repeated; images that are there already are neither decoded nor embedded.

    Args:
        store: The gallery.
        encoder: Its encoder.
        images: The images.
        keep: What is kept of each.
        workers: Threads for decoding; 0 uses one per usable processor.
        on_progress: Called with the number of images done and of all.

    Returns:
        The counts.

    Raises:
        UserError: The gallery cannot be written.
    """
    parts = list(parts_of(images))
    number = next_number(store)
    ahead = Ahead(lambda index: prepare(store, encoder, parts[index], keep, workers), len(parts))
    added, present, done = 0, 0, 0
    broken: list[str] = []
    just_added: set[str] = set()
    try:
        for index in range(len(parts)):
            part = ahead[index]
            # The part before was not yet committed when this one was compared with the gallery.
            fresh = [row for row, one in enumerate(part.rows) if one.id not in just_added]
            rows = [part.rows[row] for row in fresh]
            if rows:
                pixels = part.pixels if len(fresh) == len(part.pixels) else part.pixels[fresh]
                features = encoder.embed_pixels(pixels, rows[0].modality)
                require_finite(features, encoder.origin or Path("the network"))
                store.append(to_arrow(rows, features, first_number=number, model_id=encoder.model_id))
            just_added = {row.id for row in rows}
            number += len(rows)
            added += len(rows)
            present += part.present + len(part.rows) - len(rows)
            broken += part.broken
            done += part.size
            if on_progress is not None:
                on_progress(done, len(images))
    finally:
        ahead.close()
    return Added(added, present, tuple(broken))


def next_number(store: Store) -> int:
    """The number of the next row: one more than any row ever had."""
    last = store.fact("last_number") or 0
    if type(last) is not int or not 0 <= last < _MOST_NUMBERS:
        raise damaged(store.address, f"its last number is {last!r}"[:80])
    numbers = store.select(["number"], f"number > {last}")["number"].to_numpy() if store.count() else np.empty(0)
    return max(last, int(numbers.max(initial=0))) + 1


def parts_of(images: Sequence[NewImage]) -> Iterator[list[NewImage]]:
    """Images in parts of one modality each, which are embedded and committed as a whole."""
    for modality in Modality:
        own = [image for image in images if image.modality is modality]
        for start in range(0, len(own), _PART):
            yield own[start : start + _PART]


def prepare(store: Store, encoder: Encoder, images: list[NewImage], keep: Keep, workers: int) -> Part:
    """Read and decode the images of a part that are not in the gallery, each content once."""
    broken: dict[int, str] = {}
    digests: list[str | None] = []
    for place, image in enumerate(images):
        try:
            digests.append(digest_source(image.source))
        except UserError as error:
            broken[place] = str(error)
            digests.append(None)
    rows = {
        place: NewRow(digest, image.modality, image.camera, None, image.track)
        for place, (image, digest) in enumerate(zip(images, digests, strict=True))
        if digest is not None
    }
    known = known_ids(store, [row.id for row in rows.values()])
    new: dict[str, int] = {}
    for place, row in rows.items():
        if row.id not in known:
            new.setdefault(row.id, place)
    places = list(new.values())
    wanted = encoder.preprocessing
    complete: dict[int, NewRow] = {}

    def decode(place: int) -> NDArray[np.uint8]:
        image = images[place]
        try:
            rgb = image.source.open_rgb(wanted.stretch(image.modality))
            complete[place] = replace(
                rows[place],
                time=time_of(image),
                source=None if keep == "thumbnail" else source_name(image.source.path),
                thumbnail=None if keep == "path" else thumbnail(rgb),
            )
            return fit_image(rgb, wanted.height, wanted.width, resample=wanted.resample)
        except UserError as error:
            broken[place] = str(error)
            return np.zeros((3, wanted.height, wanted.width), dtype=np.uint8)

    pixels = decode_all([partial(decode, place) for place in places], wanted.height, wanted.width, workers=workers)
    for place, row in rows.items():
        original = new.get(row.id, place)
        if original in broken and place != original:  # a copy of a broken image is broken, too
            broken[place] = f"{images[place].source.path}: has the same content as one that is left out"
    good = [at for at, place in enumerate(places) if place in complete and place not in broken]
    return Part(
        rows=[complete[places[at]] for at in good],
        pixels=pixels if len(good) == len(places) else pixels[good],
        present=len(images) - len(good) - len(broken),
        broken=[broken[place] for place in sorted(broken)],
        size=len(images),
    )


def known_ids(store: Store, ids: Sequence[str]) -> set[str]:
    """Those of some ids that are in the gallery."""
    if not ids or not store.count():
        return set()
    return set(store.select(["id"], ids_among(ids))["id"].to_pylist())


def digest_source(source: ImageSource) -> str:
    """SHA-256 of an image: of its file, of the file's bytes, or of the pixels of a PIL image with size and mode.

    Raises:
        UserError: The file cannot be read.
    """
    content = source.content
    if isinstance(content, Image.Image):
        digest = hashlib.sha256(f"{content.mode} {content.size}\n".encode())
        digest.update(content.tobytes())
        return digest.hexdigest()
    if content is not None:
        return hashlib.sha256(content).hexdigest()
    if source.path is None:
        raise ValueError("an image without a path needs content")
    return digest_file(source.path)


def source_name(path: Path | None) -> str | None:
    """A path as the gallery keeps it: absolute, with ``/``; bytes that are not UTF-8 are escaped."""
    return None if path is None else escaped_bytes(path.absolute().as_posix())


def thumbnail(image: Image.Image) -> bytes:
    """A small JPEG of an RGB image, at most 128 × 256 pixels, without any metadata."""
    if image.width > _THUMBNAIL[0] or image.height > _THUMBNAIL[1]:
        image = image.copy()
        image.thumbnail(_THUMBNAIL)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()


def time_of(image: NewImage) -> datetime | None:
    """When an image was taken; None where its file does not say.

    Raises:
        UserError: Its name does not have the pattern.
    """
    wanted, path = image.time, image.source.path
    if wanted is None or isinstance(wanted, datetime):
        return wanted
    if path is None:
        return None
    if wanted == "modified":
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    if wanted == "exif":
        return _exif_time(path)
    try:
        return datetime.strptime(path.stem, wanted)
    except ValueError:
        raise UserError(f"{path}: its name does not have the pattern {wanted}, so its time is not known") from None


def check_time(time: TimeOf) -> TimeOf:
    """A time as `NewImage` takes it; ISO 8601 text becomes a moment.

    Raises:
        ArgumentError: It is none of the four forms.
    """
    if time is None or isinstance(time, datetime) or time in ("exif", "modified") or "%" in time:
        return time
    with suppress(ValueError):
        return datetime.fromisoformat(time)
    raise ArgumentError(
        "time",
        "is not a time; write 2026-03-01T18:30:00, `exif`, `modified`, or a pattern of file names such as "
        "%Y%m%d_%H%M%S",
        value=time,
    )


def check_moment(argument: str, moment: datetime | str | None) -> datetime | None:
    """A moment, or ISO 8601 text.

    Raises:
        ArgumentError: It is neither; it names the argument.
    """
    if moment is None or isinstance(moment, datetime):
        return moment
    with suppress(ValueError):
        return datetime.fromisoformat(moment)
    raise ArgumentError(argument, "is not a time; write it as 2026-03-01T18:30:00", value=moment)


def _exif_time(path: Path) -> datetime | None:
    with opened_image(path, pixels=False) as image:
        exif: Any = image.getexif()
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        text = inner.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
        zone = inner.get(ExifTags.Base.OffsetTimeOriginal) or ""
    if not isinstance(text, str):
        return None
    with suppress(ValueError):
        return datetime.strptime(f"{text.strip()}{zone}", "%Y:%m:%d %H:%M:%S%z" if zone else "%Y:%m:%d %H:%M:%S")
    return None
