"""What can be asked. Each route names the role it needs, asks the gallery, and logs what was done."""

from __future__ import annotations

import io
import zipfile
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response

from pclhd.data.records import Modality
from pclhd.gallery.records import GalleryFilter, GalleryHit
from pclhd.service.access import Caller, Refused, Service, authorise
from pclhd.service.answers import (
    AddedRow,
    Answer,
    Camera,
    Contents,
    Hit,
    Light,
    Name,
    Problem,
    Removal,
    RemovedRows,
    Row,
    RowId,
    RowPage,
)
from pclhd.service.answers import Query as AskedQuery
from pclhd.service.tokens import Role
from pclhd.service.uploads import Upload, accept, redrawn

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 403, 404, 405, 408, 409, 413, 422, 429)
}
_LONGEST_AGE_DAYS = 36_500
_LONGEST_PAGE = 1_000
_MOST_HITS = 200
_IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_DESCRIBED_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}, **_REFUSALS}
_DESCRIBED_ZIP: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {}}}, **_REFUSALS}

router = APIRouter(responses=_REFUSALS)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _searcher(request: Request) -> Caller:
    return authorise(request, Role.SEARCH)


def _ingester(request: Request) -> Caller:
    return authorise(request, Role.INGEST)


def _admin(request: Request) -> Caller:
    return authorise(request, Role.ADMIN)


async def _body(request: Request) -> bytes:
    return await request.body()


Asked = Annotated[Service, Depends(_service)]
MaySearch = Annotated[Caller, Depends(_searcher)]
MayAdd = Annotated[Caller, Depends(_ingester)]
MayAdminister = Annotated[Caller, Depends(_admin)]
Content = Annotated[bytes, Depends(_body)]
Similarity = Annotated[float, Query(ge=-1, le=1, allow_inf_nan=False)]


@router.get("/healthz")
def health() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": Problem}})
def ready(service: Asked) -> dict[str, str]:
    """Whether it can search: the model is loaded, and the gallery opens."""
    try:
        service.gallery.count()
    except Exception as error:
        raise Refused(503, "the gallery cannot be read") from error
    return {"status": "ready"}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(service: Asked, caller: MaySearch) -> Response:
    """Figures for Prometheus."""
    service.metrics.rows.set(len(service.gallery))
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/api/v1/gallery")
def contents(service: Asked, caller: MaySearch) -> Contents:
    """What is in the gallery, and what the caller may do."""
    role = caller.role.value
    calibration = service.gallery.calibration
    calibrated = calibration is not None and bool(calibration.directions)
    if not service.gallery.exists():
        return Contents(
            rows=0, visible=0, infrared=0, cameras=[], first=None, last=None, model="", calibrated=calibrated, role=role
        )
    stats = service.gallery.stats()
    return Contents(
        rows=stats.rows,
        visible=stats.modalities.get("visible", 0),
        infrared=stats.modalities.get("infrared", 0),
        cameras=[Camera(camera=name, rows=rows) for name, rows in stats.cameras.items()],
        first=stats.first,
        last=stats.last,
        model=stats.model_id,
        calibrated=calibrated,
        role=role,
    )


@router.post("/api/v1/search", openapi_extra=_IMAGE_BODY)
def search(
    service: Asked,
    caller: MaySearch,
    content: Content,
    modality: Annotated[Light | None, Query(description="Of the query; guessed if it is left out.")] = None,
    top: Annotated[int, Query(ge=1, le=_MOST_HITS)] = 20,
    camera: Annotated[list[Name] | None, Query(max_length=100)] = None,
    only: Annotated[Light | None, Query(description="Search only images of this modality.")] = None,
    since: datetime | None = None,
    until: datetime | None = None,
    group: Annotated[bool, Query(description="One hit for each sighting, not for each frame.")] = True,
    false_match_rate: Annotated[float | None, Query(gt=0, lt=1)] = None,
) -> Answer:
    """Find who looks most like the person in an image, which is the body of the request."""
    upload = accept(content, most_pixels=service.limits.pixels)
    light = Modality(modality or upload.guessed)
    where = GalleryFilter(camera=camera, modality=only, since=since, until=until)
    service.audit.append(
        caller.name, "search", image=upload.digest, modality=light.value, camera=camera, only=only, since=_iso(since),
        until=_iso(until), top=top,
    )  # fmt: skip
    exists = service.gallery.exists()
    hits = _search(service, upload, light, top, where, group=group) if exists else []
    order = service.gallery.order(modality=light, where=where) if exists else None
    rate = service.false_match_rate if false_match_rate is None else false_match_rate
    verdict = service.gallery.judge(hits, modality=light, where=where, false_match_rate=rate)
    return Answer(
        query=AskedQuery(modality=light.value, guessed=modality is None, digest=upload.digest),
        hits=[Hit.of(hit, above) for hit, above in zip(hits, verdict.above, strict=True)],
        no_one_here=verdict.no_one_here,
        threshold=verdict.threshold,
        thresholds={modality.value: limit for modality, limit in verdict.thresholds.items()},
        ordered_by="similarity" if order is None else order.by,
        note="" if order is None else order.note,
    )


@router.post("/api/v1/rows", openapi_extra=_IMAGE_BODY)
def add(
    service: Asked,
    caller: MayAdd,
    content: Content,
    modality: Annotated[Light | None, Query(description="Guessed if it is left out.")] = None,
    camera: Annotated[Name | None, Query()] = None,
    time: datetime | None = None,
    track: Annotated[Name | None, Query()] = None,
) -> AddedRow:
    """Add an image, which is the body of the request. An image that is there already stays as it is."""
    upload = accept(content, most_pixels=service.limits.pixels)
    light = Modality(modality or upload.guessed)
    service.audit.append(caller.name, "add", image=upload.digest, modality=light.value, camera=camera, track=track)
    with service.changes.working(), service.work.working():
        done = service.gallery.add(
            upload.content, modality=light, camera=camera, time=time, track=track, keep="thumbnail", workers=1
        )
    service.metrics.embedded.inc(done.added)
    if done.broken:
        raise Refused(422, "the image cannot be decoded; send a complete image file")
    return AddedRow(added=done.added, present=done.present, modality=light.value, guessed=modality is None)


@router.get("/api/v1/rows")
def rows(
    service: Asked,
    caller: MaySearch,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=_LONGEST_PAGE)] = 100,
    camera: Annotated[list[Name] | None, Query(max_length=100)] = None,
    only: Light | None = None,
) -> RowPage:
    """The rows of the gallery, a page at a time."""
    service.audit.append(caller.name, "list", after=after, limit=limit, camera=camera, only=only)
    found: list[Row] = []
    if service.gallery.exists():
        for row in service.gallery.rows(GalleryFilter(camera=camera, modality=only), after=after):
            if len(found) == limit:
                return RowPage(rows=found, next=found[-1].number)
            found.append(Row.of(row))
    return RowPage(rows=found, next=None)


@router.get("/api/v1/rows/{row_id}/image", response_class=Response, responses=_DESCRIBED_JPEG)
def image(service: Asked, caller: MaySearch, row_id: Annotated[RowId, Path()]) -> Response:
    """The stored image of a row, drawn again as a JPEG."""
    stored = service.gallery.thumbnail(row_id) if service.gallery.exists() else None
    if stored is None:
        raise Refused(404, "there is no stored image of this row")
    service.audit.append(caller.name, "show", row=row_id)
    return Response(redrawn(stored), media_type="image/jpeg")


@router.post("/api/v1/remove")
def remove(service: Asked, caller: MayAdminister, wanted: Annotated[Removal, Body()]) -> RemovedRows:
    """Remove rows, with embeddings and images."""
    where = wanted.to_filter()
    if not where:
        raise Refused(422, "name what to remove: cameras, modality, since, until, track or ids")
    service.audit.append(caller.name, "remove", **wanted.model_dump(mode="json", exclude_none=True))
    _require_gallery(service)
    with service.changes.working():
        done = service.gallery.remove(where)
    return RemovedRows(removed=done.removed, left=done.left)


@router.post("/api/v1/expire")
def expire(
    service: Asked, caller: MayAdminister, older_than_days: Annotated[int, Query(ge=1, le=_LONGEST_AGE_DAYS)]
) -> RemovedRows:
    """Remove rows that are older than a number of days."""
    service.audit.append(caller.name, "expire", older_than_days=older_than_days)
    _require_gallery(service)
    with service.changes.working():
        done = service.gallery.expire(timedelta(days=older_than_days))
    return RemovedRows(removed=done.removed, left=done.left)


@router.post("/api/v1/person", openapi_extra=_IMAGE_BODY)
def person(
    service: Asked, caller: MayAdminister, content: Content, similarity: Similarity, modality: Light | None = None
) -> list[Hit]:
    """All that looks like a person from a similarity on, to see before it is exported or removed."""
    return [Hit.of(hit) for hit in _alike(service, caller, "person", content, similarity, modality)]


@router.post("/api/v1/person/export", openapi_extra=_IMAGE_BODY, response_class=Response, responses=_DESCRIBED_ZIP)
def export_person(
    service: Asked, caller: MayAdminister, content: Content, similarity: Similarity, modality: Light | None = None
) -> Response:
    """All that looks like a person, as a ZIP file: their rows, and the stored images."""
    hits = _alike(service, caller, "person export", content, similarity, modality)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        lines = "".join(f"{Hit.of(hit).model_dump_json()}\n" for hit in hits)
        archive.writestr("rows.jsonl", lines)
        for hit in hits:
            stored = service.gallery.thumbnail(hit.row.id)
            if stored is not None:
                archive.writestr(f"{hit.row.id}.jpg", redrawn(stored))
    return Response(target.getvalue(), media_type="application/zip")


@router.post("/api/v1/person/remove", openapi_extra=_IMAGE_BODY)
def remove_person(
    service: Asked, caller: MayAdminister, content: Content, similarity: Similarity, modality: Light | None = None
) -> RemovedRows:
    """Remove all that looks like a person."""
    hits = _alike(service, caller, "person remove", content, similarity, modality)
    if not hits:
        return RemovedRows(removed=0, left=len(service.gallery))
    with service.changes.working():
        done = service.gallery.remove(GalleryFilter(ids=[hit.row.id for hit in hits]))
    return RemovedRows(removed=done.removed, left=done.left)


def _search(
    service: Service, upload: Upload, light: Modality, top: int, where: GalleryFilter, *, group: bool
) -> list[GalleryHit]:
    with service.work.working():
        vector = service.gallery.encoder.embed(upload.content, modality=light).features[0]
    service.metrics.embedded.inc()
    return service.gallery.search_embedding(vector, modality=light, top=top, where=where, group=group)


def _alike(
    service: Service, caller: Caller, action: str, content: bytes, similarity: float, modality: Light | None
) -> list[GalleryHit]:
    upload = accept(content, most_pixels=service.limits.pixels)
    light = Modality(modality or upload.guessed)
    service.audit.append(caller.name, action, image=upload.digest, modality=light.value, similarity=similarity)
    _require_gallery(service)
    with service.work.working():
        return service.gallery.like(upload.content, modality=light, similarity=similarity)


def _require_gallery(service: Service) -> None:
    if not service.gallery.exists():
        raise Refused(404, "the gallery is empty; add images first")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
