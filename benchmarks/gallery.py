"""What a gallery of a million embeddings costs to build and to search, and what adding costs beyond embedding.

    python benchmarks/gallery.py [--quick] [--rows 1000000] [--folder DIR [--kept]] [--json FILE] [--images 2000]

Embeddings of made-up people (clustered on the sphere, 256 wide) are added without images, and indexed. Queries are
further images of the same people: rows of the gallery, drawn at random and moved. Measured are the median and the 95th
percentile of the time of a search (top 10, every frame) by one client and by eight threads at once, and the share of the
ten nearest rows of an exact scan that is found: without a filter, among infrared rows (a third), and for one of twenty
cameras. The time of the scan with numpy is measured in the same run. The table stays in --folder if one is named.

Then --images drawn crops are embedded, and added to a gallery, in turns. Threads wait for each other as in the command
`pclhd`. Processor time is that of all threads; on a busy machine it says more than the time on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.made_up import crowd_of, made_up_features
from benchmarks.measuring import Steps, in_a_process, machine
from benchmarks.showing import markdown_table, short, write_json

from pclhd.data.records import Modality
from pclhd.gallery.gallery import Gallery
from pclhd.gallery.indexing import index_facts, update_index
from pclhd.gallery.records import GalleryFilter
from pclhd.gallery.rows import NewRow, to_arrow
from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import load_model
from pclhd.threads import thread_settings
from pclhd.weights import starter_path

WIDTH, TOP, CAMERAS, CLIENTS = 256, 10, 20, 8
BLOCK, SCANS = 50_000, 20
CROWD = 1_000_000
#: How far a query is from the row that it is drawn from, as a fraction of its length; see `crowd_of`.
MOVED = 0.5


def main() -> None:
    """Measure, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 rows and 64 images, to show that it runs")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--images", type=int, default=2_000, help="crops to add; 0 for none")
    parser.add_argument("--folder", type=Path, help="keep the table and the embeddings there")
    parser.add_argument("--kept", action="store_true", help="only search the table that --folder holds from before")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.queries, arguments.images = 20_000, 20, 64
    os.environ.update(thread_settings())  # for the processes that measure
    with nullcontext(arguments.folder) if arguments.folder else TemporaryDirectory() as folder:
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        rows = []
        if not arguments.kept:
            in_a_process(draw, place, arguments.rows)
            rows.append(in_a_process(build, place, arguments.rows))
            write_json(place / "build.json", rows[0])  # searching may take all memory
        else:
            rows.append(json.loads((place / "build.json").read_text()))
        rows.append(in_a_process(scans, place, arguments.rows, arguments.queries))
        rows += in_a_process(searches, place, arguments.rows)
        if arguments.images and not arguments.kept:
            rows += in_a_process(adding, place / "images", arguments.images)
    print(markdown_table(["", "value"], [[row["what"], f"{short(row['value'])} {row['unit']}"] for row in flat(rows)]))
    if arguments.json:
        write_json(arguments.json, {"rows": arguments.rows, "machine": machine(), "figures": rows})


def flat(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line of the table for each figure."""
    return [
        {"what": f"{row['name']}: {what}", "value": value, "unit": unit}
        for row in rows
        for what, (value, unit) in row["figures"].items()
    ]


def features_of(place: Path, rows: int) -> NDArray[np.float32]:
    """(rows, WIDTH) the embeddings, read as they are needed."""
    return np.memmap(place / "embeddings.f32", np.float32, "r", shape=(rows, WIDTH))


def draw(place: Path, rows: int) -> None:
    """Draw the embeddings, at most a million in memory at a time: several crowds of different people."""
    with (place / "embeddings.f32").open("wb") as file:
        for seed, start in enumerate(range(0, rows, CROWD)):
            number = min(CROWD, rows - start)
            made_up_features(crowd_of(number, WIDTH), np.random.default_rng(seed)).features.tofile(file)


def build(place: Path, rows: int) -> dict[str, Any]:
    """Fill a gallery and index it."""
    features = features_of(place, rows)
    gallery = Gallery(place / "gallery", encoder=encoder())
    store, steps = gallery._store, Steps()
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def fill() -> None:
        for start in range(0, rows, BLOCK):
            part = [
                NewRow(f"{row:064x}", Modality.INFRARED if row % 3 == 0 else Modality.VISIBLE,
                       f"camera {row % CAMERAS}", begin + timedelta(seconds=row), source=f"/crops/{row}.jpg")
                for row in range(start, min(start + BLOCK, rows))
            ]  # fmt: skip
            store.append(to_arrow(part, features[start : start + len(part)], first_number=start + 1, model_id="drawn"))

    with store.writing():
        gallery._found(encoder())
        steps.run("add", fill)
        steps.run("index", lambda: update_index(store, least=min(rows, 50_000)))
    facts = index_facts(store)
    assert facts is not None
    return {
        "name": "build",
        "figures": {
            "rows added": (rows, "rows"),
            "rows added per second": (rows / steps.seconds["add"], "rows/s"),
            "index and measured recall": (steps.seconds["index"], "s"),
            "memory to add": (steps.gib["add"], "GiB"),
            "memory to index": (steps.gib["index"], "GiB"),
            "size on disk": (gallery.stats().bytes / 2**30, "GiB"),
            "parts": (facts.partitions, ""),
            "parts looked into": (facts.probes, ""),
            "recall@10 that was stored": (facts.recall, ""),
            "parts looked into with a filter": (facts.filtered_probes, ""),
            "recall@10 with a filter that was stored": (facts.filtered_recall, ""),
        },
    }


def scans(place: Path, rows: int, number: int) -> dict[str, Any]:
    """Draw queries, keep their nearest rows, and time scans."""
    features = np.array(features_of(place, rows))
    random = np.random.default_rng(0)
    queries = features[random.integers(0, rows, number)]
    queries = queries + MOVED / np.sqrt(WIDTH) * random.standard_normal(queries.shape, dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    taken = timed(lambda query: scan(features, query), queries[:SCANS])
    exact = {
        name: among[nearest(features if len(among) == rows else features[among], queries)]
        for name, _, among in searched(rows)
    }
    kept: dict[str, Any] = {"queries": queries, "taken": taken, **exact}
    np.savez(place / "queries.npz", **kept)
    return {"name": "numpy scan", "figures": percentiles(taken)}


def searched(rows: int) -> list[tuple[str, GalleryFilter | None, NDArray[np.int64]]]:
    """What is searched: a name, a filter, and the rows that it leaves."""
    everything = np.arange(rows)
    return [
        ("search", None, everything),
        ("search in infrared", GalleryFilter(modality="infrared"), everything[::3]),
        ("search in one camera", GalleryFilter(camera="camera 3"), everything[3::CAMERAS]),
    ]


def searches(place: Path, rows: int) -> list[dict[str, Any]]:
    """Times and recall of searches."""
    drawn = np.load(place / "queries.npz")
    queries, scan_time = drawn["queries"], float(np.median(drawn["taken"]))
    gallery, steps = Gallery(place / "gallery", encoder=encoder()), Steps()
    found = []
    for name, where, _ in searched(rows):
        expected = drawn[name]

        def one(query: NDArray[np.float32], where: GalleryFilter | None = where) -> NDArray[np.int64]:
            hits = gallery.search_embedding(query, modality="visible", top=TOP, where=where, group=False)
            return np.array([hit.row.number - 1 for hit in hits])

        def alone(one: Callable[..., NDArray[np.int64]] = one) -> tuple[list[float], float]:
            for query in queries[:10]:
                one(query)
            spent = time.process_time()
            return timed(one, queries), 1000 * (time.process_time() - spent) / len(queries)

        def at_once(one: Callable[..., NDArray[np.int64]] = one) -> list[float]:
            with ThreadPoolExecutor(CLIENTS) as pool:
                return list(pool.map(lambda query: timed(one, [query])[0], np.concatenate([queries] * 2)))

        taken, spent = steps.run(name, alone)
        recall = float(np.mean([len(np.intersect1d(one(q), e)) / TOP for q, e in zip(queries, expected, strict=True)]))
        together = steps.run(f"{name}, {CLIENTS} clients", at_once)
        found += [
            {
                "name": name,
                "figures": {
                    **percentiles(taken),
                    "processor time": (spent, "ms"),
                    "recall@10": (recall, ""),
                    "times as fast as the scan": (scan_time / float(np.median(taken)), "×"),
                    "memory": (steps.gib[name], "GiB"),
                },
            },
            {
                "name": f"{name}, {CLIENTS} clients",
                "figures": {**percentiles(together), "memory": (steps.gib[f"{name}, {CLIENTS} clients"], "GiB")},
            },
        ]
        for row in found[-2:]:
            print(row, file=sys.stderr, flush=True)
    grouped = timed(lambda query: gallery.search_embedding(query, modality="visible", top=TOP), queries)
    return [*found, {"name": "search grouped into sightings", "figures": percentiles(grouped)}]


def scan(features: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rows nearest to a query, by looking at all."""
    alike = features @ query
    nearest = np.argpartition(-alike, TOP)[:TOP]
    return nearest[np.argsort(-alike[nearest])]


def nearest(features: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """(Q, TOP) the rows nearest to each query, some queries at a time."""
    found = []
    for start in range(0, len(queries), SCANS):
        alike = queries[start : start + SCANS] @ features.T
        np.negative(alike, out=alike)
        found.append(np.argpartition(alike, TOP, axis=1)[:, :TOP])
    return np.concatenate(found)


def timed(call: Callable[[NDArray[np.float32]], object], queries: Any) -> list[float]:
    """Milliseconds of each call."""
    taken = []
    for query in queries:
        begin = time.perf_counter()
        call(query)
        taken.append(1000 * (time.perf_counter() - begin))
    return taken


def percentiles(taken: list[float]) -> dict[str, tuple[float, str]]:
    """The median and the 95th percentile."""
    return {"p50": (float(np.percentile(taken, 50)), "ms"), "p95": (float(np.percentile(taken, 95)), "ms")}


def encoder() -> Encoder:
    """The starter network on small crops: the cheapest to embed with, so that a gallery's share is the largest."""
    return Encoder(load_model(starter_path()), Preprocessing(96, 48), device="cpu")


def adding(place: Path, number: int, turns: int = 5) -> list[dict[str, Any]]:
    """Seconds to embed crops, and to add them to a gallery: medians of some turns."""
    place.mkdir()
    random = np.random.default_rng(0)
    for image in range(number):
        pixels = random.integers(0, 256, (16, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 128)).save(place / f"{image:06}.jpg")
    used = encoder()

    def embed(_: int) -> None:
        used.embed(place, modality="visible")

    def add(turn: int) -> None:
        Gallery(place.with_name(f"added{turn}"), encoder=used).add(place, modality="visible")

    embed(0)  # loads what both need, as does the next
    add(-1)
    taken: dict[Callable[[int], None], list[tuple[float, float]]] = {embed: [], add: []}
    for turn in range(turns):
        for what in (embed, add) if turn % 2 else (add, embed):
            begin = time.perf_counter(), time.process_time()
            what(turn)
            taken[what].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    (alone, alone_cpu), (added, added_cpu) = (np.median(taken[what], axis=0) for what in (embed, add))
    figures = {
        "images": (number, ""),
        "embed alone": (float(alone), "s"),
        "embed alone, processor time": (float(alone_cpu), "s"),
        "add to a gallery": (float(added), "s"),
        "add to a gallery, processor time": (float(added_cpu), "s"),
        "more than embedding alone": (float(100 * (added / alone - 1)), "%"),
        "more than embedding alone, processor time": (float(100 * (added_cpu / alone_cpu - 1)), "%"),
    }
    return [{"name": "add images", "figures": figures}]


if __name__ == "__main__":
    main()
