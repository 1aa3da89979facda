"""What a large gallery takes: bytes on the disk and processor time, computed from what a small one is measured to take.

    python benchmarks/gallery_sizes.py [--quick] [--images DIR] [--most 500] [--model RUN] [--rows 50000]
        [--crops 10000000 1000000000] [--worker-hour PRICE] [--gib-month PRICE] [--json FILE]

Crops (drawn ones, unless --images names a folder) are added to a gallery by one process with one thread. Measured are
the processor time for each image (reading, decoding, embedding, writing), the bytes of a row (the growth of the
gallery's folder, compacted, from half of the crops to all), the mean of the thumbnails among them, the bytes that the
index adds to each of --rows made-up embeddings, and the memory for each image of the list that one `add` is given.
All grow with the number of crops, so the figures of --crops are products. With prices (of an hour of one worker, and
of a GiB kept for a month, in any currency) there are costs, too; without, there are none.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.made_up import crowd_of, made_up_features
from benchmarks.measuring import in_a_process, machine
from benchmarks.showing import markdown_table, short, write_json

from pclhd.data.records import Modality
from pclhd.data.sources import gather_images
from pclhd.gallery.adding import NewImage
from pclhd.gallery.gallery import Gallery
from pclhd.gallery.rows import NewRow, to_arrow
from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import load_model
from pclhd.synthetic import write_synthetic
from pclhd.weights import starter_path


@dataclass(frozen=True)
class PerCrop:
    """What one crop takes.

    Attributes:
        images: How many crops this was measured with.
        embedding_size: Width of the embeddings.
        processor_seconds: Time of one processor to add it.
        row_bytes: Bytes of a row that keeps path and thumbnail.
        thumbnail_bytes: Bytes of its thumbnail.
        index_bytes: Bytes that the index adds to a row.
        list_bytes: Memory of its entry in the list of images that one `add` is given.
    """

    images: int
    embedding_size: int
    processor_seconds: float
    row_bytes: float
    thumbnail_bytes: float
    index_bytes: float
    list_bytes: float


def main() -> None:
    """Measure, compute, print the tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few crops, to show that it runs")
    parser.add_argument("--images", type=Path, help="a folder of crops; drawn ones otherwise")
    parser.add_argument("--most", type=int, default=500, help="crops to measure with")
    parser.add_argument("--rows", type=int, default=50_000, help="made-up rows to measure the index with")
    parser.add_argument("--model", type=Path, help="the model that embeds; the starter weights otherwise")
    parser.add_argument("--crops", type=int, nargs="+", default=[10_000_000, 1_000_000_000])
    parser.add_argument("--worker-hour", type=float, help="price of one worker (one processor) for an hour")
    parser.add_argument("--gib-month", type=float, help="price of a GiB kept for a month")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.most, arguments.rows = 24, 2_000
    with TemporaryDirectory() as folder:
        measured = in_a_process(
            measure, Path(folder), arguments.images, arguments.model, arguments.most, arguments.rows
        )  # fmt: skip
    totals = [total(measured, crops, arguments.worker_hour, arguments.gib_month) for crops in arguments.crops]
    print(markdown_table(["one crop", "value"], [[name, short(value)] for name, value in asdict(measured).items()]))
    print()
    titles = ["", *(f"{crops:,} crops" for crops in arguments.crops)]
    print(markdown_table(titles, [[name, *(short(one[name]) for one in totals)] for name in totals[0]]))
    if arguments.json:
        figures = {"machine": machine(), "one_crop": asdict(measured), "crops": arguments.crops, "totals": totals}
        write_json(arguments.json, figures)


def total(one: PerCrop, crops: int, worker_hour: float | None, gib_month: float | None) -> dict[str, float]:
    """What many crops take; costs only where there are prices."""
    gib = crops * (one.row_bytes + one.index_bytes) / 2**30
    hours = crops * one.processor_seconds / 3600
    found = {
        "GiB, with thumbnails and index": gib,
        "GiB, without thumbnails": gib - crops * one.thumbnail_bytes / 2**30,
        "GiB, of which index": crops * one.index_bytes / 2**30,
        "hours of one worker to embed": hours,
        "days of 100 workers to embed": hours / 24 / 100,
        "GiB of memory for the list, if added at once": crops * one.list_bytes / 2**30,
    }
    if worker_hour is not None:
        found["price of embedding"] = hours * worker_hour
    if gib_month is not None:
        found["price of a month, with thumbnails and index"] = gib * gib_month
    return found


def measure(place: Path, images: Path | None, model: Path | None, most: int, rows: int) -> PerCrop:
    """Measure what one crop takes; without images, with the crops of drawn people."""
    import torch

    torch.set_num_threads(1)
    used = Encoder.load(model, device="cpu") if model is not None else _starter()
    if images is None:
        write_synthetic(place / "drawn", scale="tiny", workers=1)
    folders = [images] if images is not None else sorted((place / "drawn").glob("cam*"))
    found = [source.path for source in gather_images(folders) if source.path is not None]
    files = found[:: max(1, len(found) // most)][:most]
    if len(files) < 20:
        raise SystemExit(f"{images}: has {len(files)} images; give at least 20")
    used.embed(files[:8], modality="visible", workers=1)
    gallery, sizes, taken = Gallery(place / "people", encoder=used), [], 0.0
    for part in (files[: len(files) // 2], files[len(files) // 2 :]):
        begin = time.process_time()
        gallery.add(part, modality="visible", workers=1)
        taken += time.process_time() - begin
        gallery.compact()
        sizes.append((len(gallery), gallery.stats().bytes))
    (fewer, small), (more, large) = sizes
    thumbnails = [len(one) for one in gallery._store.select(["thumbnail"])["thumbnail"].to_pylist()]
    return PerCrop(
        images=len(files),
        embedding_size=used.embedding_size,
        processor_seconds=taken / len(files),
        row_bytes=(large - small) / (more - fewer),
        thumbnail_bytes=float(np.mean(thumbnails)),
        index_bytes=_index_bytes(place / "index", used, rows),
        list_bytes=_list_bytes(files),
    )


def _starter() -> Encoder:
    return Encoder(load_model(starter_path()), Preprocessing(288, 144), device="cpu")


def _index_bytes(path: Path, used: Encoder, rows: int) -> float:
    """Bytes that the index adds to each row of a gallery of made-up embeddings."""
    gallery = Gallery(path, encoder=used)
    width = used.embedding_size
    features = made_up_features(crowd_of(rows, width), np.random.default_rng(0)).features
    new = [NewRow(f"{row:064x}", Modality.VISIBLE, f"camera {row % 20}") for row in range(len(features))]
    store = gallery._store
    with store.writing():
        gallery._found(used)
        store.append(to_arrow(new, features, first_number=1, model_id=used.model_id))
        store.purge()
        before = store.size()
        store.build_index(round(math.sqrt(rows)))
    return (store.size() - before) / len(features)


def _list_bytes(files: Sequence[Path]) -> float:
    """Memory of an image in the list that one `add` is given."""
    names = [os.fspath(file) for file in files]
    tracemalloc.start()
    listed: list[Any] = [NewImage(source, Modality.VISIBLE, "gate") for source in gather_images(names)]
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / len(listed)


if __name__ == "__main__":
    main()
