"""A gallery in a folder or on object storage: add images of people once, then search, list, count, remove."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pclhd.answers.calibration import Calibration
from pclhd.data.records import Modality
from pclhd.data.sources import Images, OneImage, gather_images
from pclhd.errors import ArgumentError, UserError
from pclhd.files import expanded
from pclhd.gallery.adding import NewImage, TimeOf, add_images, check_moment, check_time, next_number
from pclhd.gallery.alike import all_alike
from pclhd.gallery.counting import count_rows, modalities_among, share_left, sizes_of
from pclhd.gallery.exporting import Map, export_gallery
from pclhd.gallery.filters import age_ago, ids_among, older_than, sql_filter
from pclhd.gallery.indexing import index_facts, update_index
from pclhd.gallery.lists import read_list
from pclhd.gallery.model import GalleryModel
from pclhd.gallery.places import Folder
from pclhd.gallery.ranking import Order, merged, order_of, with_probabilities
from pclhd.gallery.ray_workers import add_with_ray, load_ray
from pclhd.gallery.records import (
    KEEPS,
    Added,
    GalleryFilter,
    GalleryHit,
    GalleryRow,
    GalleryStats,
    IndexFacts,
    Keep,
    Removed,
)
from pclhd.gallery.rows import from_arrow
from pclhd.gallery.searching import search_store
from pclhd.gallery.sightings import GAP
from pclhd.gallery.store import NARROW_COLUMNS, Store
from pclhd.gallery.tracks import read_boxes
from pclhd.gallery.verdict import Verdict, judge
from pclhd.gallery.video import VideoFacts, add_video, load_av
from pclhd.models.encoder import Encoder

Progress = Callable[[int, int], None]
Light = Modality | Literal["visible", "infrared"]


class Gallery:
    """Embedded images in a folder or on object storage, to be searched.

    Any number of processes and threads may read. One writes at a time: a second writer is refused with a `UserError`.
    Each change is there as a whole or not at all, also after a kill.

    Args:
        path: The gallery's folder, or its address ``s3://BUCKET/NAME``. It is created when the first images are added.
        encoder: The encoder, or its run folder or model file. None takes the model that was used when images were
            added.
        device: Device for an encoder that is loaded here; ``auto`` uses a GPU if there is one.

    Attributes:
        address: The gallery's folder or address, as text.

    Raises:
        UserError: LanceDB is not installed, there is something else at the path, or the storage does not answer.

    Examples:
        >>> gallery = pclhd.Gallery("people", encoder="runs/first")
        >>> gallery.add("photos/day", modality="visible", camera="gate")
        >>> for hit in gallery.search("someone.jpg", modality="infrared"):
        ...     print(hit.rank, hit.row.camera, hit.row.time, hit.similarity)
    """

    def __init__(self, path: Path | str, *, encoder: Encoder | Path | str | None = None, device: str = "auto") -> None:
        self._store = Store(path)
        self.address = self._store.address
        self._model = GalleryModel(self._store, encoder, device)
        self._index: tuple[int, IndexFacts | None] | None = None
        self._counted: tuple[int, Mapping[Modality, int]] | None = None

    def __len__(self) -> int:
        return self._store.count()

    @property
    def in_folder(self) -> bool:
        """Whether it is a folder, not on object storage."""
        return isinstance(self._store.place, Folder)

    @property
    def path(self) -> Path:
        """The gallery's folder.

        Raises:
            UserError: It is on object storage.
        """
        if not isinstance(self._store.place, Folder):
            raise UserError(f"{self.address}: is not a folder")
        return self._store.place.path

    def exists(self) -> bool:
        """Whether there is a gallery at the path yet."""
        return self._store.exists()

    @property
    def encoder(self) -> Encoder:
        """The encoder: the given one, or that of the gallery's images, loaded when it is first used.

        Raises:
            UserError: None was given and the gallery's model is not where it was, or it is another model.
        """
        return self._model.encoder

    @property
    def calibration(self) -> Calibration | None:
        """What similarities mean, which gives hits their probability; None where it is not known.

        It is that of the run which the gallery's model lies in, unless another one is set.

        Raises:
            UserError: The run's calibration is damaged.
        """
        return self._model.calibration

    @calibration.setter
    def calibration(self, calibration: Calibration | None) -> None:
        self._model.calibration = calibration

    # Adding.

    def add(
        self,
        images: Images,
        *,
        modality: Light,
        camera: str | None = None,
        time: TimeOf = None,
        track: str | None = None,
        keep: Keep = "both",
        workers: int = 0,
        ray_workers: int = 0,
        parts: Path | str | None = None,
        on_progress: Progress | None = None,
    ) -> Added:
        """Add images; those that are in the gallery already stay as they are.

        Images are committed some hundred at a time. If the process is killed, call it again: what was committed is not
        embedded again. Images that cannot be decoded are left out and reported.

        Args:
            images: Paths, folders, patterns, PIL images, arrays, open files, or any mix, as in `Encoder.embed`.
            modality: Modality of the images.
            camera: Name of their camera. None takes the number of records that have one.
            time: When they were taken: a moment (without a zone it is taken for UTC), ISO 8601 text, ``exif``,
                ``modified``, or a pattern of file names such as ``%Y%m%d_%H%M%S``.
            track: Name of the track that they all belong to.
            keep: What to keep besides the embedding: ``path``, ``thumbnail`` (a JPEG of at most 128 × 256), ``both``.
            workers: Threads for decoding; 0 uses one per usable processor.
            ray_workers: Embed with this many workers of a Ray cluster, and add all images in one commit at the end.
            parts: With `ray_workers`: folder for what they write, which all of them see. None takes the gallery's; on
                object storage there is none.
            on_progress: Called with the number of images done and of all.

        Returns:
            How many were added, were there before, or are broken.

        Raises:
            UserError: There is no image, the gallery was made with another model, another process is writing, or the
                disk is full.
        """
        light, when = Modality(modality), check_time(time)
        _check_keep(keep)
        new = [
            NewImage(source, light, camera or (None if source.camera is None else str(source.camera)), when, track)
            for source in gather_images(images)
        ]
        return self._add_images(new, keep, workers, ray_workers, parts, on_progress)

    def add_list(
        self,
        path: Path | str,
        *,
        modality: Light | None = None,
        camera: str | None = None,
        time: TimeOf = None,
        keep: Keep = "both",
        workers: int = 0,
        ray_workers: int = 0,
        parts: Path | str | None = None,
        on_progress: Progress | None = None,
    ) -> Added:
        """Add the images of a CSV list with the column ``path`` and, if wanted, modality, camera, time and track.

        Args:
            path: The list. Paths in it are relative to its folder.
            modality: Modality of images whose line says none.
            camera: Camera of images whose line says none.
            time: Time of images whose line says none, as for `add`.
            keep: As for `add`.
            workers: As for `add`.
            ray_workers: As for `add`.
            parts: As for `add`.
            on_progress: As for `add`.

        Raises:
            UserError: As `add`; also if the list cannot be read.
        """
        _check_keep(keep)
        light = None if modality is None else Modality(modality)
        new = read_list(Path(path), modality=light, camera=camera, time=check_time(time))
        return self._add_images(new, keep, workers, ray_workers, parts, on_progress)

    def add_video(
        self,
        video: Path | str,
        boxes: Path | str,
        *,
        modality: Light,
        camera: str | None = None,
        start: datetime | str | None = None,
        first_frame: int = 1,
        per_track: int = 4,
        per_second: float = 4.0,
        keep: Keep = "both",
        on_progress: Progress | None = None,
    ) -> Added:
        """Add the people of a video by the boxes of a tracker; a track becomes a few rows.

        Args:
            video: The video.
            boxes: The tracker's file: MOTChallenge text, or CSV with headings such as ``frame, track, left, top, width,
                height``.
            modality: Modality of the video.
            camera: Name of the camera.
            start: When the first frame was taken; the times of the others follow from the video.
            first_frame: The number that the tracker gives the first frame; 1 in MOTChallenge.
            per_track: At most this many embeddings stand for a track: means of crops that look alike.
            per_second: At most this many crops of a track are embedded for each second.
            keep: As for `add`; a thumbnail is that of the crop most like its row.
            on_progress: Called with the number of frames done and of all that have boxes.

        Raises:
            UserError: As `add`; also if the video or the boxes cannot be read.
        """
        _check_keep(keep)
        if per_track < 1:
            raise ArgumentError("per_track", "must be at least 1", value=per_track)
        if not per_second > 0:
            raise ArgumentError("per_second", "must be above 0", value=per_second)
        began = check_moment("start", start)
        facts = VideoFacts(Path(video), Modality(modality), camera, began)
        found = read_boxes(Path(boxes), first_frame=first_frame)
        load_av()
        return self._add(lambda encoder: add_video(
            self._store, encoder, facts, found, keep=keep, per_track=per_track, per_second=per_second,
            on_progress=on_progress,
        ))  # fmt: skip

    # Searching.

    def search(
        self,
        image: OneImage,
        *,
        modality: Light,
        top: int = 10,
        where: GalleryFilter | None = None,
        group: bool = True,
        gap: timedelta = GAP,
        rerank: bool = False,
    ) -> list[GalleryHit]:
        """Find the rows that look most like the person in an image.

        Visible and infrared rows are ordered together by the probability that they show that person (equal ones by
        similarity, then by number), since similarities of the two cannot be compared. Where it is not known for all
        that is searched, all are ordered by similarity; `order` says which it is. Re-ranking orders the rows of each
        modality by themselves; which modality the next hit is of follows from the probabilities, as without it.

        Args:
            image: The query: one image.
            modality: Modality of the query.
            top: Number of hits; fewer are returned if the gallery has fewer.
            where: Only rows that satisfy this are searched.
            group: Give one hit for each sighting, its best frame; otherwise each frame is a hit.
            gap: Longest time between neighbouring frames of a sighting.
            rerank: Order the candidates of each modality (all together, where similarity decides) by k-reciprocal
                neighbours, too.

        Returns:
            The hits, best first.

        Raises:
            UserError: There is no gallery, the image cannot be decoded, or the model is another one.
            ValueError: `top` is not positive.
        """
        self._store.require()
        sources = gather_images(image)
        if len(sources) != 1:
            raise ArgumentError("image", f"stands for {len(sources)} images; search with one at a time")
        light = Modality(modality)
        content = sources[0].content if sources[0].content is not None else sources[0].path
        assert content is not None
        vector = self.encoder.embed(content, modality=light).features[0]
        return self.search_embedding(vector, modality=light, top=top, where=where, group=group, gap=gap, rerank=rerank)

    def order(self, *, modality: Light, where: GalleryFilter | None = None) -> Order:
        """How `search` orders its hits: by the probability that they show the query's person, or by similarity.

        Args:
            modality: Modality of the query.
            where: The filter of the search.

        Returns:
            The order, with what a reader of the hits must know about it.

        Raises:
            UserError: There is no gallery, or the run's calibration is damaged.
        """
        self._store.require()
        sizes = self._sizes(self._store.version())
        return order_of(self.calibration, Modality(modality), modalities_among(sizes, where or GalleryFilter()))

    def search_embedding(
        self,
        vector: NDArray[np.floating[Any]],
        *,
        modality: Light,
        top: int = 10,
        where: GalleryFilter | None = None,
        group: bool = True,
        gap: timedelta = GAP,
        rerank: bool = False,
    ) -> list[GalleryHit]:
        """As `search`, with the embedding (D,) of the query, which the gallery's encoder must have made."""
        self._store.require()
        light, where = Modality(modality), where or GalleryFilter()
        if not self._store.has_images():
            return []
        version = self._store.version()
        sizes, index = self._sizes(version), self._index_facts(version)
        order = order_of(self.calibration, light, modalities_among(sizes, where))
        apart = order.by == "probability" and len(order.modalities) > 1
        lists = [
            search_store(
                self._store, vector, top=top, where=sql_filter(one), group=group, gap=gap, rerank=rerank,
                probes=None if index is None else index.probes_for(share_left(sizes, one)),
            )
            for one in ([replace(where, modality=found) for found in order.modalities] if apart else [where])
        ]  # fmt: skip
        if self.calibration is not None:
            lists = [with_probabilities(hits, self.calibration, light, sizes) for hits in lists]
        return merged(lists, top) if apart else lists[0]

    def judge(
        self,
        hits: Sequence[GalleryHit],
        *,
        modality: Light,
        where: GalleryFilter | None = None,
        false_match_rate: float | None = None,
    ) -> Verdict:
        """Say whether the person of a query is in the gallery at all.

        Args:
            hits: What `search` found.
            modality: Modality of the query.
            where: The filter of that search.
            false_match_rate: Share of searches for people who are not in the gallery that may give an answer; None
                for 1 %, or the nearest rate that the calibration can measure.

        Returns:
            The verdict; not known without a `calibration` for the modalities and the rate.
        """
        return judge(
            hits, self.calibration, Modality(modality), false_match_rate=false_match_rate, size_of=self._size_of(where)
        )

    # Looking.

    def rows(self, where: GalleryFilter | None = None, *, after: int = 0) -> Iterator[GalleryRow]:
        """Rows in the order of adding.

        Args:
            where: Only rows that satisfy this.
            after: Only rows with a higher `GalleryRow.number`: the next page begins after the last row of this one.

        Raises:
            UserError: There is no gallery.
        """
        self._store.require()
        for page in self._store.pages(NARROW_COLUMNS, sql_filter(where or GalleryFilter()), after=after):
            yield from from_arrow(page)

    def count(self, where: GalleryFilter | None = None) -> int:
        """How many rows satisfy a filter."""
        return self._store.count(sql_filter(where or GalleryFilter()))

    def thumbnail(self, row_id: str) -> bytes | None:
        """The JPEG of a row; None if none was kept, or there is no such row."""
        if not self._store.has_images():
            return None
        found = self._store.select(["thumbnail"], ids_among([row_id]))["thumbnail"].to_pylist()
        return found[0] if found else None

    def stats(self) -> GalleryStats:
        """Counts, times, the model, the size on disk and the index.

        Raises:
            UserError: There is no gallery.
        """
        self._store.require()
        about = self._model.facts()
        counts = count_rows(self._store)
        return GalleryStats(
            rows=sum(counts.modalities.values()),
            modalities=counts.modalities,
            cameras=counts.cameras,
            first=counts.first,
            last=counts.last,
            model_id=about.model_id,
            model=about.model,
            embedding_size=about.embedding_size,
            bytes=self._store.size(),
            index=self._index_facts(self._store.version()),
            unfinished=self._store.fact("purging") is not None,
        )

    # Removing.

    def remove(self, where: GalleryFilter) -> Removed:
        """Remove the rows that satisfy a filter, with embeddings, thumbnails and all older versions of the gallery.

        Args:
            where: The filter; an empty one is refused.

        Returns:
            How many were removed, and how many are left.

        Raises:
            UserError: The filter is empty, there is no gallery, or another process is writing.
        """
        condition = sql_filter(where)
        if condition is None:
            raise ArgumentError("where", "is empty, which would remove all rows; say which ones")
        return self._remove(condition)

    def remove_like(
        self, image: OneImage, *, modality: Light, similarity: float, where: GalleryFilter | None = None
    ) -> Removed:
        """Remove all rows that look like the person in an image.

        Args:
            image: One image.
            modality: Its modality.
            similarity: Least cosine similarity of the rows to remove.
            where: Only rows that satisfy this.

        Raises:
            UserError: As `remove`; also if the image cannot be decoded.
        """
        return self._remove(ids=[hit.row.id for hit in self.like(image, modality=modality, similarity=similarity,
                                                                 where=where)])  # fmt: skip

    def like(
        self, image: OneImage, *, modality: Light, similarity: float, where: GalleryFilter | None = None
    ) -> list[GalleryHit]:
        """All rows from a similarity on, most similar first: what `remove_like` would remove. All rows are compared.

        Args:
            image: One image.
            modality: Its modality.
            similarity: Least cosine similarity.
            where: Only rows that satisfy this.
        """
        if not -1 <= similarity <= 1:
            raise ArgumentError("similarity", "is a cosine, from -1 to 1", value=similarity)
        self._store.require()
        vector = self.encoder.embed(image, modality=modality).features
        if len(vector) != 1:
            raise ArgumentError("image", f"stands for {len(vector)} images; give one at a time")
        return all_alike(self._store, vector[0], similarity, sql_filter(where or GalleryFilter()))

    def expire(self, older: timedelta) -> Removed:
        """Remove rows that are older than an age: by the time they were taken, or were added where that is not known.

        Args:
            older: The age.

        Raises:
            UserError: As `remove`.
        """
        return self._remove(older_than(age_ago(older)))

    # Upkeep.

    def compact(self) -> IndexFacts | None:
        """Write the gallery's files again without anything that is no longer needed, and index it if it is large.

        Returns:
            Facts about the index; None if the gallery is so small that a search is exact.

        Raises:
            UserError: There is no gallery, or another process is writing.
        """
        self._store.require()
        with self._store.writing():
            self._store.discard_parts()
            self._store.purge()
            return update_index(self._store)

    def export(
        self,
        out: Path | str,
        *,
        where: GalleryFilter | None = None,
        map_by: Map = "tsne",
        seed: int = 0,
        force: bool = False,
    ) -> int:
        """Write rows to a Parquet file, with embeddings, thumbnails and a map in the plane.

        Args:
            out: The file, ``.parquet``.
            where: Only rows that satisfy this.
            map_by: ``tsne`` (t-SNE), ``pca``, or ``none`` for no map.
            seed: Seed of the map: the same rows and seed give the same places.
            force: Whether to replace a file.

        Returns:
            The number of rows.

        Raises:
            UserError: There is no gallery or no such row, or the file exists or cannot be written.
        """
        self._store.require()
        return export_gallery(
            self._store, expanded(Path(out)), where=sql_filter(where or GalleryFilter()), map_by=map_by, seed=seed,
            force=force, model_id=self._model.facts().model_id,
        )  # fmt: skip

    # Below: what several of these need.

    def _size_of(self, where: GalleryFilter | None) -> Callable[[Modality], int]:
        return lambda modality: self.count(replace(where or GalleryFilter(), modality=modality))

    def _add_images(
        self,
        new: Sequence[NewImage],
        keep: Keep,
        workers: int,
        ray_workers: int,
        parts: Path | str | None,
        on_progress: Progress | None,
    ) -> Added:
        parts_in = None if parts is None else expanded(Path(parts)).absolute()
        if ray_workers and parts_in is None:
            self._store.place.parts()  # raises an error where there is none, before anything is embedded
        if not ray_workers:
            return self._add(lambda encoder: add_images(
                self._store, encoder, new, keep=keep, workers=workers, on_progress=on_progress
            ))  # fmt: skip
        load_ray()
        return self._add(lambda encoder: add_with_ray(
            self._store, encoder, new, keep=keep, workers=ray_workers, device=self._model.device, parts_in=parts_in,
            on_progress=on_progress,
        ))  # fmt: skip

    def _add(self, add: Callable[[Encoder], Added]) -> Added:
        with self._store.writing():
            is_new = not self._store.exists()
            if is_new:
                self._found(self._model.encoder)
            encoder = self.encoder
            self._model.note_place(encoder)
            try:
                return add(encoder)
            except BaseException:
                if is_new:
                    self._store.forget()
                raise
            finally:
                if self._store.has_many_files():
                    self._store.tidy()
                update_index(self._store)

    def _found(self, encoder: Encoder) -> None:
        self._model.begin(encoder)

    # What is known of the rows at a version of the table is looked up once.

    def _index_facts(self, version: int) -> IndexFacts | None:
        if self._index is None or self._index[0] != version:
            self._index = version, index_facts(self._store)
        return self._index[1]

    def _sizes(self, version: int) -> Mapping[Modality, int]:
        if self._counted is None or self._counted[0] != version:
            self._counted = version, sizes_of(self._store)
        return self._counted[1]

    def _remove(self, condition: str | None = None, *, ids: Sequence[str] | None = None) -> Removed:
        self._store.require()
        if ids is not None:
            condition = ids_among(ids) if ids else None
        with self._store.writing():
            self._store.discard_parts()
            last = next_number(self._store) - 1
            removed = 0 if condition is None else self._store.remove(condition, last_number=last)
            if removed:
                self._store.write_fact("index", None)
                update_index(self._store)
            return Removed(removed, self._store.count())


def _check_keep(keep: str) -> None:
    if keep not in KEEPS:
        raise ArgumentError("keep", f"is one of {', '.join(KEEPS)}", value=keep)
