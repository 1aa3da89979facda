"""Whether the search service holds under a mixed load, and how long its answers take.

    python benchmarks/service.py [--quick] [--minutes 10] [--clients 6] [--images 2000] [--json FILE]

`pclhd serve` runs in a process of its own, over a gallery of drawn noise crops, with the starter weights. Each client
asks again as soon as it has an answer: for seven of ten requests it searches, for two it adds an image, for one it
removes the images that it added. Every status but 200 is counted. The memory is what the system says the server holds:
after a warm-up (a twentieth of the time, at least 3 seconds), and at ten times more until the end. Its own memory is
what it has allocated; the rest is of files, such as libraries, which the system may drop. Beside it are the changes
that were made until then, and the threads that the server had.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import machine
from benchmarks.showing import markdown_table, short, write_json

from pclhd.gallery.gallery import Gallery
from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import load_model, save_model
from pclhd.weights import starter_path

_TIMEOUT = 60
_LOOKS = 10


@dataclass
class Load:
    """What the clients saw.

    Attributes:
        seconds: Kind of request → how long each answer took.
        statuses: Status → how often it was answered.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"search": [], "add": [], "remove": []})
    statuses: Counter[int] = field(default_factory=Counter)


def main() -> None:
    """Measure, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six seconds and 50 images, to show that it runs")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.minutes, arguments.images, arguments.clients = 0.1, 50, 3
    with TemporaryDirectory() as folder:
        figures = measure(Path(folder), 60 * arguments.minutes, arguments.clients, arguments.images)
    rows = [
        [name, f"{len(seconds):,}", *(short(1e3 * float(np.quantile(seconds, share))) for share in (0.5, 0.95, 1))]
        for name, seconds in figures["seconds"].items()
        if seconds
    ]
    print(markdown_table(["request", "answers", "p50, ms", "p95, ms", "longest, ms"], rows))
    print(
        f"\n{arguments.clients} clients, {arguments.minutes:g} minutes, {arguments.images:,} images at first; "
        f"statuses: {figures['statuses']}\n"
    )
    looks = [[f"{one[name]:,}" for name in ("changes", "mib", "own_mib", "threads")] for one in figures["looks"]]
    print(markdown_table(["changes", "memory of the server, MiB", "of it its own", "its threads"], looks))
    if arguments.json:
        kept = {name: value for name, value in figures.items() if name != "seconds"}
        write_json(arguments.json, {"machine": machine(), "rows": rows, **kept})
    if any(status >= 500 for status in figures["statuses"]):
        sys.exit("the service failed")


def crop(random: np.random.Generator) -> bytes:
    """A JPEG of 48 × 96 pixels, coarse noise in colour."""
    coarse = random.integers(0, 256, (12, 6, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(coarse).resize((48, 96), Image.Resampling.BICUBIC).save(target, "JPEG")
    return target.getvalue()


def measure(folder: Path, seconds: float, clients: int, images: int) -> dict[str, Any]:
    """Serve a gallery and load it; times, statuses and memory."""
    random = np.random.default_rng(0)
    network = load_model(starter_path())
    model = folder / "model.safetensors"
    save_model(model, network, preprocessing=Preprocessing(96, 48))
    gallery = Gallery(folder / "people", encoder=Encoder.load(model, device="cpu"))
    gallery.add([crop(random) for _ in range(images)], modality="visible", camera="first", keep="thumbnail")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", gallery.path, "--port", port, "--requests-per-minute", 10**6]
    server = subprocess.Popen([sys.executable, "-m", "pclhd", *map(str, words)], stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(server, port)
        return under_load(server.pid, port, seconds, clients)
    finally:
        server.terminate()
        server.wait(_TIMEOUT)


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5), "GET", "/readyz", None) == 200:
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("the service did not start")


def under_load(process: int, port: int, seconds: float, clients: int) -> dict[str, Any]:
    """Ask from several clients for some seconds."""
    loads = [Load() for _ in range(clients)]
    warm_up = max(3.0, seconds / 20)
    begin = time.monotonic() + warm_up
    end = begin + seconds
    threads = [
        threading.Thread(target=client, args=(number, port, end, load), daemon=True)
        for number, load in enumerate(loads)
    ]
    for thread in threads:
        thread.start()
    looks = []
    for number in range(_LOOKS + 1):
        time.sleep(max(0.0, begin + seconds * number / _LOOKS - 0.1 - time.monotonic()))
        changes = sum(len(load.seconds[kind]) for load in loads for kind in ("add", "remove"))
        looks.append({"changes": changes, **held(process)})
    for thread in threads:
        thread.join(_TIMEOUT)
    kinds = loads[0].seconds
    return {
        "seconds": {kind: [one for load in loads for one in load.seconds[kind]] for kind in kinds},
        "statuses": dict(sum((load.statuses for load in loads), Counter())),
        "looks": looks,
    }


def client(number: int, port: int, end: float, load: Load) -> None:
    """Search, add and remove, one after the other, until the end."""
    random = np.random.default_rng(number + 1)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    while time.monotonic() < end:
        kind = str(random.choice(["search", "add", "remove"], p=[0.7, 0.2, 0.1]))
        path, body = {
            "search": ("/api/v1/search?modality=infrared", crop(random)),
            "add": (f"/api/v1/rows?modality=visible&track=client-{number}", crop(random)),
            "remove": ("/api/v1/remove", json.dumps({"track": f"client-{number}"}).encode()),
        }[kind]
        begin = time.perf_counter()
        status = ask(connection, "POST", path, body, as_json=kind == "remove")
        load.seconds[kind].append(time.perf_counter() - begin)
        load.statuses[status] += 1


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, *, as_json: bool = False
) -> int:
    """The status of an answer, which is read to its end."""
    connection.request(method, path, body, {"Content-Type": "application/json"} if as_json else {})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def held(process: int) -> dict[str, int]:
    """MiB of a process, those it allocated itself, and its threads; 0 where the system does not say."""
    status = Path(f"/proc/{process}/status")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.exists() else {}
    return {
        "mib": int(lines.get("VmRSS", "0 kB").split()[0]) // 1024,
        "own_mib": int(lines.get("RssAnon", "0 kB").split()[0]) // 1024,
        "threads": int(lines.get("Threads", "0")),
    }


if __name__ == "__main__":
    main()
