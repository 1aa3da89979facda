"""Add people from a video and the boxes of a tracker: crops, times of frames, a few embeddings for each track."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pclhd.data.images import fit_image
from pclhd.data.records import Modality, digest_file
from pclhd.errors import UserError
from pclhd.gallery.adding import known_ids, next_number, source_name, thumbnail
from pclhd.gallery.records import Added, Keep
from pclhd.gallery.rows import NewRow, row_id, to_arrow
from pclhd.gallery.store import Store
from pclhd.gallery.tracks import Box
from pclhd.gallery.variety import summarise
from pclhd.models.embed import require_finite
from pclhd.models.encoder import Encoder

# Crops embedded together.
_BATCH = 256


def load_av() -> Any:
    """The optional package for videos.

    Raises:
        UserError: It is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("videos need PyAV; install it with: pip install av") from error
    return av


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video besides its pixels.

    Attributes:
        path: The file.
        modality: Visible or infrared.
        camera: Name of the camera.
        start: When its first frame was taken; None where that is not known.
    """

    path: Path
    modality: Modality
    camera: str | None = None
    start: datetime | None = None


@dataclass
class _Track:
    """Crops of a track that were seen so far."""

    digest: str
    last_frame: int
    features: list[NDArray[np.float32]] = field(default_factory=list)
    crops: list[tuple[int, timedelta, bytes | None]] = field(default_factory=list)


def add_video(
    store: Store,
    encoder: Encoder,
    video: VideoFacts,
    boxes: Sequence[Box],
    *,
    keep: Keep,
    per_track: int,
    per_second: float,
    on_progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Add the people of a video to a gallery that the caller is writing to.

    The video is decoded once, from its beginning. A track is added when the video has passed its last box, with all its
    embeddings or with none, so that an interrupted call can be repeated; tracks that are there already are not embedded
    again. Crops of tracks that have not ended are in memory as embeddings and thumbnails.

    Args:
        store: The gallery.
        encoder: Its encoder.
        video: The video.
        boxes: Boxes by frame.
        keep: What is kept of each row.
        per_track: At most this many embeddings stand for a track.
        per_second: At most this many crops of a track are embedded for each second of the video.
        on_progress: Called with the number of frames done and of all that have boxes.

    Returns:
        Rows added; tracks that were there; what was left out.

    Raises:
        UserError: The video cannot be read, or the gallery cannot be written.
    """
    tracks, present = _new_tracks(store, video, boxes)
    by_frame: dict[int, list[Box]] = defaultdict(list)
    for box in boxes:
        if box.track in tracks:
            by_frame[box.frame].append(box)
    last = max(by_frame, default=-1)
    writer = _Writer(store, encoder, video, tracks, keep, per_track, next_number(store))
    outside, done, next_time = 0, -1, dict.fromkeys(tracks, -1.0)
    for number, time, image in _frames(video.path, last):
        done = number
        picture: Image.Image | None = None
        for box in by_frame.get(number, ()):
            if time.total_seconds() < next_time[box.track]:
                continue
            picture = picture or image()
            crop = _crop(picture, box)
            if crop is None:
                outside += 1
                continue
            next_time[box.track] = time.total_seconds() + 1 / per_second - 1e-6
            writer.take(box.track, number, time, crop)
        writer.end_tracks(number)
        if on_progress is not None:
            on_progress(number + 1, last + 1)
    writer.end_tracks(None)
    beyond = sum(len(own) for frame, own in by_frame.items() if frame > done)
    broken = []
    if beyond:
        broken.append(f"{video.path}: {beyond:,} boxes are in frames after the last one, number {done} from 0")
    if outside:
        broken.append(f"{video.path}: {outside:,} boxes are outside the picture")
    return Added(writer.added, present, tuple(broken))


class _Writer:
    """Embeds crops in batches, and adds tracks that have ended."""

    def __init__(
        self, store: Store, encoder: Encoder, video: VideoFacts, tracks: dict[str, _Track], keep: Keep, per_track: int,
        number: int,
    ) -> None:  # fmt: skip
        self.added = 0
        self._store, self._encoder, self._video = store, encoder, video
        self._tracks, self._keep, self._per_track, self._number = tracks, keep, per_track, number
        self._waiting: list[tuple[str, NDArray[np.uint8]]] = []

    def take(self, track: str, frame: int, time: timedelta, crop: Image.Image) -> None:
        """Take a crop, to be embedded soon."""
        wanted = self._encoder.preprocessing
        pixels = fit_image(crop, wanted.height, wanted.width, resample=wanted.resample)
        small = None if self._keep == "path" else thumbnail(crop)
        self._tracks[track].crops.append((frame, time, small))
        self._waiting.append((track, pixels))
        if len(self._waiting) >= _BATCH:
            self._embed()

    def end_tracks(self, frame: int | None) -> None:
        """Add the tracks that have no box after a frame, once all their crops are embedded; all if it is None."""
        if frame is None:
            self._embed()
        ended = [
            name
            for name, track in self._tracks.items()
            if frame is None or (track.last_frame <= frame and len(track.features) == len(track.crops))
        ]
        rows: list[NewRow] = []
        vectors: list[NDArray[np.float32]] = []
        for name in ended:
            track = self._tracks.pop(name)
            if track.features:
                summary = summarise(np.stack(track.features), self._per_track)
                rows += self._rows(name, track, summary.frames)
                vectors.append(summary.embeddings)
        if rows:
            table = to_arrow(rows, np.concatenate(vectors), first_number=self._number, model_id=self._encoder.model_id)
            self._store.append(table)
            self._number += len(rows)
            self.added += len(rows)

    def _rows(self, name: str, track: _Track, chosen: NDArray[np.int64]) -> Iterator[NewRow]:
        video = self._video
        for part, crop in enumerate(chosen.tolist()):
            frame, time, small = track.crops[crop]
            yield NewRow(
                track.digest,
                video.modality,
                video.camera,
                None if video.start is None else video.start + time,
                name,
                None if self._keep == "thumbnail" else source_name(video.path),
                frame,
                small,
                part,
            )

    def _embed(self) -> None:
        if not self._waiting:
            return
        pixels = np.stack([one for _, one in self._waiting])
        features = self._encoder.embed_pixels(pixels, self._video.modality)
        require_finite(features, self._encoder.origin or Path("the network"))
        for (track, _), vector in zip(self._waiting, features, strict=True):
            self._tracks[track].features.append(vector)
        self._waiting.clear()


def _new_tracks(store: Store, video: VideoFacts, boxes: Sequence[Box]) -> tuple[dict[str, _Track], int]:
    """Tracks that are not in the gallery, and the number of those that are."""
    of_video = digest_file(video.path)
    digests: dict[str, Any] = {}
    last: dict[str, int] = {}
    for box in boxes:
        if box.track not in digests:
            digests[box.track] = hashlib.sha256(f"{of_video}\n{box.track}\n".encode())
        digests[box.track].update(f"{box.frame} {box.left} {box.top} {box.right} {box.bottom}\n".encode())
        last[box.track] = box.frame
    tracks = {name: _Track(digest.hexdigest(), last[name]) for name, digest in digests.items()}
    ids = {name: row_id(track.digest, video.modality) for name, track in tracks.items()}
    known = known_ids(store, list(ids.values()))
    new = {name: track for name, track in tracks.items() if ids[name] not in known}
    return new, len(tracks) - len(new)


def _frames(path: Path, last: int) -> Iterator[tuple[int, timedelta, Callable[[], Image.Image]]]:
    """Frames up to number `last`: number, time since the first, and what converts it.

    Raises:
        UserError: It is no video, or cannot be decoded.
    """
    av = load_av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path}: has no picture; give a video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            first: float | None = None
            rate = float(stream.average_rate or 25)
            for number, frame in enumerate(container.decode(stream)):
                if number > last:
                    return
                seconds = number / rate if frame.time is None else float(frame.time)
                first = seconds if first is None else first
                yield number, timedelta(seconds=seconds - first), frame.to_image
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be decoded as a video ({reason}); check the file") from error


def _crop(image: Image.Image, box: Box) -> Image.Image | None:
    """The part of an image in a box; None if there is none."""
    left, top = max(0, round(box.left)), max(0, round(box.top))
    right, bottom = min(image.width, round(box.right)), min(image.height, round(box.bottom))
    return image.crop((left, top, right, bottom)) if right > left and bottom > top else None
