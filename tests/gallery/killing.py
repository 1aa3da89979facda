"""Kills changes of one gallery again and again, and looks at what is left after each.

`python -m tests.gallery.killing FOLDER KILLS [ADDRESS]` prints one JSON object for each kill;
`tests/gallery/test_kill.py` looks at them. The gallery is in the folder, or at an address on object storage. The
process has loaded everything and forks one for each change; LanceDB starts its threads again in a child.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import lancedb  # noqa: F401  # before a fork, which is faster
import numpy as np

from pclhd.files import InUse
from pclhd.gallery import adding
from pclhd.gallery.bucket import Bucket
from pclhd.gallery.gallery import Gallery
from pclhd.gallery.records import GalleryFilter
from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from tests.gallery.photos import picture
from tests.models.small import SMALL_BASIC, stirred

OPERATIONS = "add", "remove", "compact", "expire"
IMAGES, PART, OLD = 24, 4, timedelta(days=365)
# On object storage a killed writer is replaced after this time.
LEASE, LONGEST_WAIT = 0.9, 60.0
ENCODER = Encoder(stirred(SMALL_BASIC), Preprocessing(32, 16), device="cpu")


def in_a_child(run: Callable[[Callable[[Any], None]], None], *, kill_after: float | None = None) -> list[Any]:
    """Run in a process of its own; what it reported until it ended, or was killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status = 1
        try:
            run(lambda value: void(os.write(write, (json.dumps(value) + "\n").encode())))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as lines:
        if kill_after is not None:
            reported = [json.loads(lines.readline())]  # it has begun
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        else:
            reported = []
        reported += [json.loads(line) for line in lines if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    assert kill_after is not None or status == 0, "the child failed; see its traceback above"
    return reported


def void(value: object) -> None:
    """Forget a value."""


def change(place: str, operation: str, folder: Path, report: Callable[[Any], None]) -> None:
    """One change of the gallery; reports when it begins, what it has acknowledged, and when it has ended."""
    adding._PART = PART
    gallery = Gallery(place, encoder=ENCODER)
    gallery.exists() and len(gallery)  # LanceDB is loaded
    report("begin")
    if operation == "add":
        files = sorted(folder.iterdir())
        for start in range(0, len(files), IMAGES // 2):
            # Half of them are old.
            when = datetime.now(UTC) - (OLD * 2 if start == 0 else timedelta(0))
            part = files[start : start + IMAGES // 2]
            names = [file.name for file in part]

            def acknowledge(done: int, total: int, names: list[str] = names) -> None:
                report(names[:done])

            gallery.add(part, modality="visible", camera=f"camera {start}", time=when, on_progress=acknowledge)
    elif operation == "remove":
        gallery.remove(GalleryFilter(camera=f"camera {IMAGES // 2}"))
    elif operation == "compact":
        gallery.compact()
    else:
        gallery.expire(OLD)
    report("end")


def look(place: str) -> dict[str, Any]:
    """The gallery's rows, read completely."""
    gallery = Gallery(place, encoder=ENCODER)
    # At once, not a row at a time: a server for tests is slow.
    found = gallery._store.select(["number", "source", "camera", "thumbnail"]).sort_by("number").to_pylist()
    rows = [[Path(row["source"] or "").name, row["camera"], (row["thumbnail"] or b"").hex()] for row in found]
    vectors = gallery.search_embedding(np.ones(ENCODER.embedding_size), modality="visible", group=False, top=10_000)
    return {"rows": rows, "found": len(vectors), "unfinished": gallery.stats().unfinished}


def look_and_finish(place: str, report: Callable[[Any], None]) -> None:
    """What was left, and what there is after the next change, which completes what was interrupted."""
    report(look(place))
    until = time.monotonic() + LONGEST_WAIT
    while True:
        try:
            Gallery(place, encoder=ENCODER).remove(GalleryFilter(camera="elsewhere"))
            break
        except InUse:
            if time.monotonic() > until:
                raise
            time.sleep(LEASE / 10)
    report(look(place))


def everything(place: str) -> bytes:
    """The content of all files or objects of the gallery, those included that belong to no row."""
    if not place.startswith("s3://"):
        return b"".join(file.read_bytes() for file in Path(place).rglob("*") if file.is_file())
    bucket, _, name = place.removeprefix("s3://").partition("/")
    client = import_module("boto3").client("s3")
    listed = (one for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{name}/")
              for one in page.get("Contents", []))  # fmt: skip
    return b"".join(client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed)


def found_in(content: bytes, rows: list[list[str]]) -> int:
    """Of how many rows the content has the end of the thumbnail."""
    return sum(bytes.fromhex(thumbnail)[-40:] in content for _, _, thumbnail in rows)


def main(root: Path, kills: int, place: str) -> None:
    """Kill, look, finish, look again."""
    Bucket.lease_seconds = LEASE
    random = np.random.default_rng(0)
    seconds: dict[str, float] = {}
    before: dict[str, Any] = {"rows": []}
    for kill in range(-len(OPERATIONS), kills):
        operation = OPERATIONS[kill % len(OPERATIONS)]
        if operation == "add":
            folder = root / f"images{kill}"
            for number in range(IMAGES):
                picture(folder / f"{kill}-{number:02}.png", 1000 * (kill + 10) + number)
        # The first change of each kind is not killed; it shows how long one takes.
        after = None if kill < 0 else float(random.uniform(0, 1.1)) * seconds[operation]
        begin = time.perf_counter()
        reported = in_a_child(partial(change, place, operation, folder), kill_after=after)
        seconds.setdefault(operation, time.perf_counter() - begin)
        if kill >= 0 and "end" in reported:  # on a busy machine the first one may have taken longer than usual
            seconds[operation] *= 0.8
        content = everything(place) if "end" in reported else b""
        left, finished = in_a_child(partial(look_and_finish, place))
        completed = everything(place)
        gone = [row for row in before["rows"] if row not in finished["rows"]]
        case = {
            "operation": operation, "reported": reported, "before": before, "left": left, "finished": finished,
            "gone": len(gone), "traces": found_in(completed, gone),
            # Once the removal was acknowledged, before anything else is done.
            "traces_at_end": found_in(content, gone),
            "found_of_those_left": found_in(completed, finished["rows"]),
        }  # fmt: skip
        before = finished
        if kill >= 0:
            sys.stdout.write(json.dumps(case) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else f"{sys.argv[1]}/gallery")
