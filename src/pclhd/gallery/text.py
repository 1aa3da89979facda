"""Hits, rows and figures of a gallery as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pclhd.answers.calibration import percent
from pclhd.gallery.records import GalleryHit, GalleryRow, GalleryStats, IndexFacts, Sighting
from pclhd.gallery.verdict import Verdict
from pclhd.text_tables import text_table

_UNKNOWN = "-"
_KIB = 1024


def hits_text(hits: Sequence[GalleryHit]) -> str:
    """A table of hits, best first."""
    if not hits:
        return "nothing found: no image of the gallery satisfies the filter"
    grouped = any(hit.sighting is not None for hit in hits)
    probable = any(hit.probability is not None for hit in hits)
    mixed = len({hit.row.modality for hit in hits}) > 1
    headings = [
        "", "similarity", *["probability"] * probable, *["modality"] * mixed, "camera", "time", *["frames"] * grouped,
        "id", "image",
    ]  # fmt: skip
    rows = [
        [
            str(hit.rank),
            f"{hit.similarity:.3f}",
            *[_UNKNOWN if hit.probability is None else percent(hit.probability)] * probable,
            *[str(hit.row.modality)] * mixed,
            hit.row.camera or _UNKNOWN,
            _span(hit.sighting, hit.row.time),
            *["" if hit.sighting is None else str(hit.sighting.frames)] * grouped,
            hit.row.id[:8],
            _image(hit.row),
        ]
        for hit in hits
    ]
    right = {0, 1, *({2} if probable else ()), *({4 + probable + mixed} if grouped else ())}
    return text_table(rows, headings=headings, right=right)


def verdict_text(hits: Sequence[GalleryHit], verdict: Verdict) -> str:
    """Whether the query's person is among some hits, in one sentence."""
    if verdict.false_match_rate is None or verdict.no_one_here is None:
        return f"whether the person is here is not known: {verdict.unknown}"
    rate = f"for a false-match rate of {100 * verdict.false_match_rate:g} %"
    limits = verdict.thresholds
    if len({hit.row.modality for hit in hits}) == 1:
        threshold = f"threshold {verdict.threshold:.2f}"
    else:
        each = " and ".join(f"{limit:.2f} ({light})" for light, limit in limits.items())
        threshold = f"threshold {each}" if len(limits) == 1 else f"thresholds {each}"
    if verdict.no_one_here:
        best = [max(hit.similarity for hit in hits if hit.row.modality is light) for light in limits]
        below = " and ".join(f"{similarity:.2f}" for similarity in best)
        return f"no one here: best {below} {'is' if len(best) == 1 else 'are'} below the {threshold} {rate}"
    found = sum(above is True for above in verdict.above)
    return f"{found} of the {len(hits)} below at or above the {threshold} {rate}"


def rows_text(rows: Sequence[GalleryRow]) -> str:
    """A table of rows."""
    cells = [
        [
            str(row.number),
            row.id[:8],
            str(row.modality),
            row.camera or _UNKNOWN,
            _moment(row.time),
            row.track or _UNKNOWN,
            _image(row),
        ]
        for row in rows
    ]
    return text_table(cells, headings=["number", "id", "modality", "camera", "time", "track", "image"], right={0})


def stats_text(stats: GalleryStats) -> str:
    """The figures of a gallery, one in each line."""
    cameras = ", ".join(f"{name or 'unknown'} {count:,}" for name, count in stats.cameras.items())
    index = stats.index
    rows = [
        ["images", f"{stats.rows:,}"],
        *[[str(modality), f"{count:,}"] for modality, count in stats.modalities.items()],
        ["cameras", cameras or _UNKNOWN],
        ["taken", f"{_moment(stats.first)} to {_moment(stats.last)}" if stats.first else "not known"],
        ["size on disk", _size(stats.bytes)],
        ["model", f"{stats.model or 'not kept'} (id {stats.model_id[:12]}, embeddings of {stats.embedding_size})"],
        [
            "search",
            "exact" if index is None else _index_text(index),
        ],
    ]
    if stats.unfinished:
        rows.append(
            ["unfinished", "a removal was interrupted; the next change, or pclhd gallery compact, completes it"]
        )
    return text_table(rows)


def _index_text(index: IndexFacts) -> str:
    text = (
        f"by index: finds {index.recall:.1%} of the ten nearest images, measured with {index.queries} images; "
        f"looks into {index.probes} of {index.partitions} parts"
    )
    if index.filtered_recall is None:
        return text
    return f"{text} (with a filter {index.filtered_recall:.1%}, {index.filtered_probes} parts)"


def _span(sighting: Sighting | None, time: datetime | None) -> str:
    if sighting is None or sighting.first is None or sighting.first == sighting.last:
        return _moment(time)
    assert sighting.last is not None
    last = _moment(sighting.last)
    return f"{_moment(sighting.first)} – {last[11:] if sighting.first.date() == sighting.last.date() else last}"


def _moment(time: datetime | None) -> str:
    return _UNKNOWN if time is None else time.strftime("%Y-%m-%d %H:%M:%S")


def _image(row: GalleryRow) -> str:
    if row.source is None:
        return "(not kept)"
    return row.source if row.frame is None else f"{row.source} frame {row.frame}"


def _size(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < _KIB or unit == "GiB":
            break
        value /= _KIB
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
