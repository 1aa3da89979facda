from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from pclhd.answers.calibration import Calibration
from pclhd.gallery.gallery import Gallery
from pclhd.models.encoder import Encoder
from pclhd.service.access import Service
from pclhd.service.app import HEADERS, create_app
from pclhd.service.audit import AuditLog, verify_log
from pclhd.service.limits import Limits
from pclhd.service.tokens import Role, Tokens, create_token, revoke_token
from tests.service.conftest import asking, both_ways, image_bytes
from tests.service.test_uploads import HOSTILE

SEARCH = "/api/v1/search"
ROWS = "/api/v1/rows"


def logged(service: Service) -> list[dict[str, object]]:
    verify_log(service.audit.path, service.audit.head)
    return [json.loads(line) for line in service.audit.path.read_text().splitlines()]


def test_a_search_finds_the_same_image_first(client: TestClient, service: Service) -> None:
    answer = client.post(SEARCH, content=image_bytes(1)).json()
    first = answer["hits"][0]
    assert first["similarity"] == pytest.approx(1, abs=1e-3)
    assert (first["row"]["camera"], first["row"]["modality"]) == ("gate", "visible")
    assert answer["query"] == {"modality": "visible", "guessed": True, "digest": answer["query"]["digest"]}
    entry = logged(service)[-1]
    assert (entry["who"], entry["action"]) == ("local", "search")
    assert entry["details"]["image"] == answer["query"]["digest"]  # type: ignore[index]


def test_the_service_answers_as_the_gallery_does(shared: TestClient, shared_service: Service) -> None:
    query = image_bytes(9, grey=True)
    answer = shared.post(SEARCH, params={"group": False, "top": 3}, content=query).json()
    hits = shared_service.gallery.search(io.BytesIO(query), modality="infrared", top=3, group=False)
    assert [hit["row"]["id"] for hit in answer["hits"]] == [hit.row.id for hit in hits]
    assert [hit["similarity"] for hit in answer["hits"]] == pytest.approx([hit.similarity for hit in hits], abs=1e-5)


def test_filters(shared: TestClient) -> None:
    everything = shared.post(SEARCH, params={"group": False}, content=image_bytes(1)).json()["hits"]
    assert len(everything) == 4
    for asked, cameras in (({"camera": "yard"}, {"yard"}), ({"only": "visible"}, {"gate"}), ({"camera": "x"}, set())):
        hits = shared.post(SEARCH, params={"group": False, **asked}, content=image_bytes(1)).json()["hits"]
        assert {hit["row"]["camera"] for hit in hits} == cameras


def test_a_search_in_an_empty_gallery_finds_no_one(tmp_path: Path, encoder: Encoder) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    with TestClient(create_app(Service(Gallery(tmp_path / "new", encoder=encoder), log)), "http://localhost") as client:
        answer = client.post(SEARCH, content=image_bytes(1)).json()
        assert (answer["hits"], answer["no_one_here"]) == ([], True)
        assert client.get("/api/v1/gallery").json()["rows"] == 0
        assert client.get(ROWS).json() == {"rows": [], "next": None}
        assert client.post("/api/v1/remove", json={"track": "x"}).status_code == 404
    log.close()


def test_adding_twice_is_one_row(client: TestClient, service: Service) -> None:
    new = image_bytes(7)
    assert client.post(ROWS, params={"camera": "street"}, content=new).json()["added"] == 1
    again = client.post(ROWS, params={"camera": "street"}, content=new).json()
    assert (again["added"], again["present"]) == (0, 1)
    assert client.get("/api/v1/gallery").json()["rows"] == 5
    assert [entry["action"] for entry in logged(service)] == ["add", "add"]


def test_two_services_serve_one_gallery(client: TestClient, service: Service, tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "other.jsonl")
    with asking(Service(Gallery(service.gallery.path, encoder=service.gallery.encoder), log)) as other:
        new = image_bytes(7)
        assert other.post(SEARCH, content=new).json()["hits"][0]["similarity"] < 0.999
        assert client.post(ROWS, params={"camera": "street"}, content=new).json()["added"] == 1
        found = other.post(SEARCH, content=new).json()["hits"][0]
        assert (found["row"]["camera"], found["similarity"]) == ("street", pytest.approx(1, abs=1e-3))
        with service.gallery._store.writing():
            busy = other.post(ROWS, content=image_bytes(8))
            assert (busy.status_code, busy.json()["error"]) == (
                409, "the gallery is being changed; try again in a moment",
            )  # fmt: skip
            assert other.post(SEARCH, content=new).json()["hits"][0]["row"]["id"] == found["row"]["id"]
        assert other.post("/api/v1/remove", json={"ids": [found["row"]["id"]]}).json()["removed"] == 1
        assert client.post(SEARCH, content=new).json()["hits"][0]["similarity"] < 0.999
    log.close()


def test_rows_come_in_pages(shared: TestClient) -> None:
    first = shared.get(ROWS, params={"limit": 3}).json()
    rest = shared.get(ROWS, params={"limit": 3, "after": first["next"]}).json()
    assert [row["number"] for row in first["rows"] + rest["rows"]] == [1, 2, 3, 4]
    assert rest["next"] is None


def test_a_shown_image_is_a_jpeg_without_a_path(shared: TestClient) -> None:
    row = shared.get(ROWS).json()["rows"][0]
    shown = shared.get(f"{ROWS}/{row['id']}/image")
    assert shown.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(shown.content)).size == (30, 60)
    assert shared.get(f"{ROWS}/{'0' * 32}/image").status_code == 404


def test_removed_is_gone(client: TestClient, service: Service) -> None:
    row = client.post(SEARCH, content=image_bytes(1)).json()["hits"][0]["row"]["id"]
    assert client.post("/api/v1/remove", json={"ids": [row]}).json() == {"removed": 1, "left": 3}
    assert client.get(f"{ROWS}/{row}/image").status_code == 404
    again = client.post(SEARCH, content=image_bytes(1)).json()["hits"]
    assert row not in [hit["row"]["id"] for hit in again]


def test_removing_asks_for_a_filter(shared: TestClient) -> None:
    bodies: tuple[dict[str, object], ...] = ({}, {"ids": []}, {"cameras": []}, {"everything": True})
    for body in bodies:
        assert shared.post("/api/v1/remove", json=body).status_code == 422
    assert shared.get("/api/v1/gallery").json()["rows"] == 4


def test_a_person_is_shown_exported_and_removed(client: TestClient, service: Service) -> None:
    asked = {"similarity": 0.999}
    shown = client.post("/api/v1/person", params=asked, content=image_bytes(2)).json()
    assert len(shown) == 1
    exported = client.post("/api/v1/person/export", params=asked, content=image_bytes(2))
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        assert sorted(archive.namelist()) == [f"{shown[0]['row']['id']}.jpg", "rows.jsonl"]
        assert json.loads(archive.read("rows.jsonl"))["row"] == shown[0]["row"]
    removed = client.post("/api/v1/person/remove", params=asked, content=image_bytes(2)).json()
    assert removed == {"removed": 1, "left": 3}
    assert client.post("/api/v1/person/remove", params=asked, content=image_bytes(2)).json()["removed"] == 0
    assert [entry["action"] for entry in logged(service)][:3] == ["person", "person export", "person remove"]


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("path", [SEARCH, ROWS, "/api/v1/person?similarity=0.5"])
def test_hostile_uploads_are_refused_in_one_sentence(shared: TestClient, kind: str, path: str) -> None:
    refused = shared.post(path, content=HOSTILE[kind])
    assert refused.status_code == 422
    assert list(refused.json()) == ["error"]
    assert "\n" not in refused.json()["error"]
    assert "Traceback" not in refused.text


def test_a_body_that_is_too_large_is_not_read(tmp_path: Path, encoder: Encoder) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    service = Service(Gallery(tmp_path / "new", encoder=encoder), log, limits=Limits(bytes=10_000))
    with TestClient(create_app(service), "http://localhost") as client:
        assert client.post(SEARCH, content=b"x" * 10_001).status_code == 413
        refused = client.post(SEARCH, content=(b"x" * 1000 for _ in range(11)))  # without a length
        assert refused.status_code == 413
        assert "10,000 bytes" in refused.json()["error"]
        assert client.post(SEARCH, content=b"x" * 9_999).status_code == 422
    log.close()


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/page/../app.py",
        "/%2e%2e/%2e%2e/etc/passwd",
        f"{ROWS}/..%2f..%2fx/image",
        f"{ROWS}/x'/image",
        "/page.css%00",
        "//etc/passwd",
    ],
)
def test_no_path_of_a_client_touches_the_disk(shared: TestClient, path: str) -> None:
    refused = shared.get(path)
    assert refused.status_code in (404, 422)
    assert "root:" not in refused.text


def test_strict_headers_are_on_every_answer(shared: TestClient) -> None:
    for answer in (shared.get("/"), shared.get("/nothing"), shared.post(SEARCH, content=b""), shared.get("/healthz")):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_names_cannot_add_headers_or_lines(client: TestClient, service: Service) -> None:
    asked = {"camera": "x\r\nSet-Cookie: a=b", "modality": "visible"}
    answer = client.post(ROWS, params=asked, content=image_bytes(11))
    assert "set-cookie" not in answer.headers
    assert len(service.audit.path.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"host": "evil.example:8000"}, {"origin": "http://evil.example"},
     {"sec-fetch-site": "cross-site"}, {"origin": "null"}, {"host": "127.0.0.1.evil.example"}],
)  # fmt: skip
def test_without_tokens_pages_from_elsewhere_are_refused(shared: TestClient, headers: dict[str, str]) -> None:
    assert shared.get("/api/v1/gallery", headers=headers).status_code == 403
    assert shared.post(SEARCH, headers=headers, content=image_bytes(1)).status_code == 403


NEEDED = [
    ("GET", "/api/v1/gallery", Role.SEARCH),
    ("GET", ROWS, Role.SEARCH),
    ("GET", f"{ROWS}/{'0' * 32}/image", Role.SEARCH),
    ("GET", "/metrics", Role.SEARCH),
    ("POST", SEARCH, Role.SEARCH),
    ("POST", ROWS, Role.INGEST),
    ("POST", "/api/v1/remove", Role.ADMIN),
    ("POST", "/api/v1/expire?older_than_days=9999", Role.ADMIN),
    ("POST", "/api/v1/person?similarity=1", Role.ADMIN),
    ("POST", "/api/v1/person/export?similarity=1", Role.ADMIN),
    ("POST", "/api/v1/person/remove?similarity=1", Role.ADMIN),
]


def test_each_route_is_in_the_table_of_roles(shared: TestClient) -> None:
    documented = {
        (method.upper(), path)
        for path, methods in shared.get("/openapi.json").json()["paths"].items()
        for method in methods
        if path not in ("/healthz", "/readyz")
    }
    assert documented == {(method, path.partition("?")[0].replace("0" * 32, "{row_id}")) for method, path, _ in NEEDED}


@pytest.mark.parametrize("role", Role)
def test_each_route_needs_its_role(service: Service, tmp_path: Path, role: Role) -> None:
    secret = create_token(tmp_path / "tokens.json", role.value, role)
    service.tokens = Tokens(tmp_path / "tokens.json")
    with asking(service, "http://people.example") as client:
        for method, path, needed in NEEDED:
            answer = client.request(method, path, headers={"authorization": f"Bearer {secret}"}, content=image_bytes(1))
            assert (answer.status_code == 403) == (not role.allows(needed)), path
            assert answer.status_code not in (401, 500)
    denied = [entry for entry in logged(service) if entry["action"] == "denied"]
    assert len(denied) == sum(not role.allows(needed) for _, _, needed in NEEDED)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, filled: Path) -> Iterator[Service]:
    """A service that asks for a token."""
    folder = tmp_path_factory.mktemp("locked")
    create_token(folder / "tokens.json", "desk", Role.ADMIN)
    log, most = AuditLog(folder / "audit.jsonl"), 10**6
    limits = Limits(requests_per_minute=most, burst=most)
    yield Service(Gallery(filled, encoder=encoder), log, Tokens(folder / "tokens.json"), limits)
    log.close()


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer wrong", "Basic x", "bearer\twrong", "wrong", "expired"])
def test_nothing_is_answered_without_a_valid_token(locked: Service, header: str) -> None:
    assert locked.tokens is not None
    if header == "expired":
        secret = create_token(locked.tokens.path, "old", Role.ADMIN, lifetime=timedelta(milliseconds=1))
        header = f"Bearer {secret}"
        time.sleep(0.002)
    with asking(locked, "http://people.example") as client:
        for method, path, _ in NEEDED:
            headers = {"authorization": header} if header else {}
            answer = client.request(method, path, headers=headers, content=image_bytes(1))
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            assert list(answer.json()) == ["error"]
    assert [entry["action"] for entry in logged(locked)[-len(NEEDED) :]] == ["denied"] * len(NEEDED)
    assert len(locked.gallery) == 4


def test_a_revoked_token_is_refused_at_once(service: Service, tmp_path: Path) -> None:
    secret = create_token(tmp_path / "tokens.json", "desk", Role.SEARCH)
    service.tokens = Tokens(tmp_path / "tokens.json")
    with TestClient(create_app(service), "http://people.example") as client:
        headers = {"authorization": f"Bearer {secret}"}
        assert client.get("/api/v1/gallery", headers=headers).json()["role"] == "search"
        revoke_token(tmp_path / "tokens.json", "desk")
        assert client.get("/api/v1/gallery", headers=headers).status_code == 401


def test_too_many_requests(service: Service) -> None:
    service.rate = type(service.rate)(60, 2)
    with TestClient(create_app(service), "http://localhost") as client:
        answers = [client.get("/api/v1/gallery") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_full_disk_refuses_the_search_it_cannot_log(client: TestClient, service: Service, tmp_path: Path) -> None:
    class Full:
        def write(self, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        def seek(self, *place: int) -> int:
            return 0

        def truncate(self, place: int) -> int:
            return place

    whole, service.audit._file = service.audit._file, Full()  # type: ignore[assignment]
    refused = client.post(SEARCH, content=image_bytes(1))
    service.audit._file = whole
    assert refused.status_code == 422
    assert "No space left" in refused.json()["error"]
    assert client.post(SEARCH, content=image_bytes(1)).status_code == 200


def test_metrics_count_requests(client: TestClient) -> None:
    client.post(SEARCH, content=image_bytes(1))
    text = client.get("/metrics").text
    assert 'pclhd_requests_total{route="/api/v1/search",status="200"} 1.0' in text
    assert "pclhd_gallery_rows 4.0" in text


def test_no_one_here_follows_the_calibration(client: TestClient, service: Service) -> None:
    direction = {
        "query": "visible", "gallery": "visible", "method": "logistic", "log_loss": {}, "queries": 10, "same_pairs": 10,
        "different_pairs": 10, "same_per_query": 1.0, "similarity": [0.0, 1.0], "log_likelihood_ratio": [-5.0, 5.0],
        "sizes": [1], "rates": [0.001, 0.5], "thresholds": [[0.9, 0.9]],
    }  # fmt: skip
    service.gallery.calibration = Calibration.model_validate(
        {"model_id": service.gallery.encoder.model_id, "source": "labelled images", "directions": [direction]}
    )
    asked = {"modality": "visible", "only": "visible"}
    here = client.post(SEARCH, params=asked, content=image_bytes(1)).json()
    assert (here["no_one_here"], here["threshold"]) == (False, pytest.approx(0.9))
    assert [hit["above_threshold"] for hit in here["hits"]] == [hit["similarity"] >= 0.9 for hit in here["hits"]]
    elsewhere = client.post(SEARCH, params=asked, content=image_bytes(50)).json()
    assert elsewhere["hits"][0]["similarity"] < 0.9
    assert elsewhere["no_one_here"] is True
    # There is no calibration for this direction, so nothing is claimed.
    unknown = client.post(SEARCH, params={"modality": "infrared"}, content=image_bytes(1)).json()
    assert unknown["no_one_here"] is None
    assert unknown["ordered_by"] == "similarity"
    assert "cannot be compared" in unknown["note"]


def test_images_of_both_modalities_are_ordered_by_probability(client: TestClient, service: Service) -> None:
    service.gallery.calibration = both_ways(service.gallery.encoder.model_id)
    asked: dict[str, str | bool] = {"modality": "visible", "group": False}
    answer = client.post(SEARCH, params=asked, content=image_bytes(1)).json()
    assert (answer["ordered_by"], answer["note"]) == ("probability", "")
    assert [hit["row"]["modality"] for hit in answer["hits"]] == ["infrared", "visible", "visible", "visible"]
    assert answer["hits"][0]["similarity"] < answer["hits"][1]["similarity"]
    assert answer["thresholds"] == pytest.approx({"infrared": 0.99, "visible": 0.9})
    assert answer["threshold"] == pytest.approx(0.99)
    only = client.post(SEARCH, params={**asked, "only": "visible"}, content=image_bytes(1)).json()
    assert only["thresholds"] == pytest.approx({"visible": 0.9})
    assert [hit["row"]["id"] for hit in only["hits"]] == [hit["row"]["id"] for hit in answer["hits"][1:]]
