"""Processor time to draw the synthetic benchmark, by version of the generator.

Usage: python benchmarks/drawing.py [--scales NAME …] [--images N] [--rounds N] [--quick] [--json FILE]

Draws and encodes images of each scale in one process and on one thread, as `pclhd synth` does in each of its processes:
all of `tiny`, and a sample spread over `small` and `sysu`. The versions take turns, so that a busy machine slows both;
the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import markdown_table, short, write_json

from pclhd.synthetic import DEFAULT_GAP, VERSIONS
from pclhd.synthetic.layouts import make_plan
from pclhd.synthetic.plan import HeldOut, Layout, Scale
from pclhd.synthetic.render import encode, render
from pclhd.synthetic.seeds import Population, Version
from pclhd.synthetic.world import Shot, World


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", nargs="+", choices=list(Scale), default=[Scale.TINY, Scale.SMALL])
    parser.add_argument("--images", type=int, default=600, help="the most images of a scale")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    images, rounds = (20, 2) if arguments.quick else (arguments.images, arguments.rounds)
    rows = [measured(Scale(scale), images, rounds) for scale in arguments.scales]
    titles = ["Scale", "Images", *(f"version {version}, ms an image" for version in VERSIONS), "ratio"]
    table = [
        [
            row["scale"],
            short(row["images"]),
            *(short(row["milliseconds"][str(v)]) for v in VERSIONS),
            f"{row['ratio']:.2f}",
        ]
        for row in rows
    ]
    print(markdown_table(titles, table))
    if arguments.json:
        write_json(arguments.json, {"benchmark": "drawing", "quick": arguments.quick, "rows": rows})


def measured(scale: Scale, images: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of processor time for an image of a scale, by version, and the ratio of the newest to the first."""
    drawings = {version: _drawing(scale, images, version) for version in VERSIONS}
    seconds: dict[Version, list[float]] = {version: [] for version in VERSIONS}
    for turn in range(rounds + 1):
        for version, (world, shots) in drawings.items():
            start = time.process_time()
            for shot in shots:
                encode(render(world, shot), ".jpg")
            if turn:  # the first round also draws people and cameras that are kept afterwards
                seconds[version].append((time.process_time() - start) / len(shots))
    each = {str(version): 1000 * statistics.median(values) for version, values in seconds.items()}
    first, newest = str(VERSIONS[0]), str(VERSIONS[-1])
    counted = len(drawings[VERSIONS[0]][1])
    return {"scale": scale, "images": counted, "milliseconds": each, "ratio": each[newest] / each[first]}


def _drawing(scale: Scale, images: int, version: Version) -> tuple[World, list[Shot]]:
    """A sample of the images of a scale, in the order in which they are written."""
    plan = make_plan(
        Layout.SYSU,
        scale,
        seed=0,
        population=Population.BENCHMARK,
        people=None,
        one_modality_share=0.0,
        version=version,
        held_out=None if version == 1 else HeldOut.VALIDATION,
    )
    shots = sorted(
        (image.shot for image in plan.images), key=lambda shot: (shot.modality, shot.camera, shot.identity, shot.index)
    )
    # Whole runs of images, since images of one person follow each other.
    step = max(1, len(shots) // images)
    kept = [shot for number, shot in enumerate(shots) if number // 20 % step == 0][:images]
    return World(0, Population.BENCHMARK, DEFAULT_GAP[version], plan.height, plan.width, version), kept


if __name__ == "__main__":
    main()
