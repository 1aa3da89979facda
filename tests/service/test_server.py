"""The real server, asked by clients that are slow, large, many or malformed."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pclhd.service.access import Service
from pclhd.service.limits import Limits
from tests.service.conftest import image_bytes, serving

Place = tuple[str, int]

pytestmark = pytest.mark.slow


@pytest.fixture
def place(service: Service) -> Iterator[Place]:
    """A server that gives a request one second to arrive, and takes bodies of at most a megabyte."""
    service.limits = Limits(bytes=2**20, seconds=1.0)
    service.rate = type(service.rate)(10**6, 10**6)
    with serving(service) as address:
        found = urlsplit(address)
        assert found.hostname is not None
        assert found.port is not None
        yield found.hostname, found.port


def ask(place: Place, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*place, timeout=30)
    try:
        json = {"Content-Type": "application/json"} if body is not None and body.startswith(b"{") else {}
        connection.request(method, path, body=body, headers=json)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def served(place: Place) -> bool:
    return ask(place, "POST", "/api/v1/search", image_bytes(1))[0] == 200


def everything(client: socket.socket) -> bytes:
    """What is received until the server closes the connection."""
    received = b""
    client.settimeout(20)
    try:
        while part := client.recv(1 << 16):
            received += part
    except ConnectionError:
        pass
    return received


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_arrive_ends_the_connection(place: Place, sent: bytes) -> None:
    with socket.create_connection(place) as client:
        began = time.monotonic()
        client.sendall(sent)
        assert served(place)
        assert everything(client) == b""
        assert time.monotonic() - began < 10


def test_a_head_that_trickles_ends_the_connection_also_after_an_answer(place: Place) -> None:
    with socket.create_connection(place) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.settimeout(20)
        answer = b""
        while b'{"status":"ok"}' not in answer:  # it may come in pieces
            piece = client.recv(1 << 16)
            assert piece
            answer += piece
        began = time.monotonic()
        with suppress(ConnectionError):
            for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" * 5:
                client.sendall(bytes([byte]))
                time.sleep(0.05)
        assert 1 <= time.monotonic() - began < 9  # all of it would take ten seconds


def test_a_body_that_trickles_is_refused_and_others_are_served_meanwhile(place: Place) -> None:
    head = b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    slow = [socket.create_connection(place) for _ in range(20)]
    for client in slow:
        client.sendall(head + b"x")
    assert served(place)
    for client in slow:
        assert everything(client).startswith(b"HTTP/1.1 408 ")
        client.close()


def test_silent_connections_do_not_take_all_places(place: Place) -> None:
    silent = [socket.create_connection(place) for _ in range(300)]  # more than the server takes at once
    deadline = time.monotonic() + 15
    while not (answered := ask(place, "GET", "/healthz")[0] == 200) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answered
    for client in silent:
        client.close()


def resident() -> int:
    """MiB that this process holds, in which the server runs."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("the system does not report memory")
    return int(status.read_text().partition("VmRSS:")[2].split()[0]) // 1024


@pytest.mark.parametrize("announced", [True, False])
def test_200_megabytes_are_refused_and_not_kept(place: Place, announced: bool) -> None:
    assert served(place)
    before, most = resident(), 0
    length = b"Content-Length: 209715200" if announced else b"Transfer-Encoding: chunked"
    with socket.create_connection(place) as client:
        client.sendall(b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n\r\n")
        part = bytes(2**20)
        try:
            for _ in range(200):
                client.sendall(part if announced else b"100000\r\n" + part + b"\r\n")
                most = max(most, resident())
        except ConnectionError:  # the server does not read on
            pass
        most = max(most, resident())
    assert most - before < 30
    with socket.create_connection(place) as client:  # the answer, of a client that stops to hear it
        client.sendall(b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 209715200\r\n\r\n")
        assert everything(client).startswith(b"HTTP/1.1 413 ")
    assert served(place)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b: c\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /\r\nSet-Cookie: a=b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 400_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: a\x0bb\r\n\r\n",
    ],
)
def test_malformed_heads_are_refused(place: Place, head: bytes) -> None:
    with socket.create_connection(place) as client:
        with suppress(OSError):  # the server has closed it already
            client.sendall(head)
            client.shutdown(socket.SHUT_WR)
        answer = everything(client)
    assert answer.split(b" ")[1] in (b"400", b"404", b"405", b"431"), answer[:200]
    assert b"et-Cookie" not in answer.partition(b"\r\n\r\n")[0]
    assert served(place)


def test_many_clients_at_once_change_and_search(place: Place, service: Service) -> None:
    def work(number: int) -> list[int]:
        image = image_bytes(100 + number)
        asked = [
            ask(place, "POST", f"/api/v1/rows?modality=visible&track=t{number}", image),
            ask(place, "POST", "/api/v1/search?modality=visible", image),
            ask(place, "POST", "/api/v1/remove", b'{"track": "t%d"}' % number),
        ]
        return [status for status, _ in asked]

    with ThreadPoolExecutor(12) as clients:
        statuses = [status for found in clients.map(work, range(24)) for status in found]
    assert statuses == [200] * 72
    assert len(service.gallery) == 4
