"""Peak memory of `pclhd evaluate` for a number of test images, as a whole process.

Usage: python benchmarks/evaluation_memory.py [--images 10000] [--source SRC ...] [--quick] [--json FILE]

Each SRC is the `src` folder of a checkout; several are compared in one run on the same data. For the version before
test images were embedded in chunks:

    git worktree add build/before 3952e34
    python benchmarks/evaluation_memory.py --source build/before/src src

The data are random images in the `own` layout; the network is the narrow one at the size of SYSU-MM01's images
(288 × 144), so that pixels, not weights, take most of the memory. Peak memory is what the operating system reports.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import write_json
from PIL import Image

from pclhd.config import load_preset
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.runs.folder import RunFolder
from pclhd.streams import Streams

HEIGHT, WIDTH = 288, 144
PER_PERSON = 10


def write_data(root: Path, images: int) -> Path:
    """Labelled test images of both modalities, and one training image of each; returns the list."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(images):
        modality = ("visible", "infrared")[number % 2]
        path = root / modality / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = random.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
        Image.fromarray(small).save(path)
        split = "train" if number < 2 else "test"
        rows.append((path.relative_to(root).as_posix(), modality, number // PER_PERSON, number % 4, split))
    with (root / "images.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "modality", "identity", "camera", "split"))
        writer.writerows(rows)
    return root / "images.csv"


def write_run(path: Path, data: Path) -> RunFolder:
    """A run folder with settings and random weights."""
    run = RunFolder(path)
    run.path.mkdir()
    overrides = [f"data.height={HEIGHT}", f"data.width={WIDTH}", "data.layout=own"]
    run.write_settings(load_preset("tiny", overrides, root=data))
    save_model(run.model_file, TwoStreamNetwork(NARROW, generator=Streams(0).torch("network")))
    return run


def evaluate(source: Path, run: RunFolder) -> dict[str, Any]:
    """Peak memory in MiB and seconds of one `pclhd evaluate`."""
    program = (
        "import resource, sys; sys.argv = ['pclhd', 'evaluate', sys.argv[1]]\n"
        "from pclhd.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    started = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", program, str(run)],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    peak = int(ran.stdout.splitlines()[-1].removeprefix("peak "))
    return {"source": str(source), "peak_mib": peak / 1024, "seconds": time.perf_counter() - started}


def main() -> None:
    """Measure each source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--source", type=Path, nargs="+", default=[Path(__file__).parents[1] / "src"])
    parser.add_argument("--quick", action="store_true", help="300 images")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    images = 300 if asked.quick else asked.images
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", write_data(Path(folder) / "data", images))
        measured = [evaluate(source.resolve(), run) for source in asked.source]
    for row in measured:
        print(f"{row['source']}: {images:,} images, peak {row['peak_mib']:,.0f} MiB, {row['seconds']:.0f} s")
    first, last = measured[0]["peak_mib"], measured[-1]["peak_mib"]
    print(f"last over first: {last / first:.2f}")
    if asked.json is not None:
        write_json(asked.json, {"images": images, "measured": measured})


if __name__ == "__main__":
    main()
