"""Sparse against dense: from a finished neighbour table to pseudo labels.

Compares the library with two dense ways (see `baselines/dense_jaccard.py`) in one process, on the same features and the
same table, DBSCAN included on both sides. Checks that the labels are the same before it reports a speed, and measures
the memory that the library needs from features to labels, the neighbour search included.

    python benchmarks/jaccard.py [--quick] [--json FILE] [--sizes 22258 34167] [--field]

22,258 is the number of visible training images of SYSU-MM01, 34,167 that of both modalities. The dense versions need
about three times samples × samples × 4 bytes: 14 GiB for the larger size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.baselines.dense_jaccard import jaccard_as_the_field_does, jaccard_in_lean_loops

from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.clustering.neighbours import nearest_neighbours
from pclhd.clustering.pseudo_labels import cluster_features, dbscan_labels

K1, K2, EPS, MIN_SAMPLES, WIDTH = 30, 6, 0.6, 4, 2048


def made_up_features(number: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Unit-length features of people seen about 56 times by four cameras, with neighbours that overlap."""
    people = max(1, number // 56)
    latent = 32
    person = generator.integers(0, people, number)
    camera = generator.integers(0, 4, number)
    low = generator.standard_normal((people, latent))[person]
    low += 0.5 * generator.standard_normal((people, 4, latent))[person, camera]
    low += 0.5 * generator.standard_normal((number, latent))
    projection = generator.standard_normal((latent, WIDTH)).astype(np.float32)
    features = np.empty((number, WIDTH), dtype=np.float32)
    for start in range(0, number, 1024):
        block = low[start : start + 1024].astype(np.float32) @ projection
        features[start : start + 1024] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return features


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def peak_above_now(run: Callable[[], Any]) -> float | None:
    """GiB of memory that a call needs at its peak beyond what the process holds now; None where Linux does not tell."""

    def resident(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))

    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
    except OSError:
        run()
        return None
    run()
    return (resident("VmHWM") - before) / 2**20


def dense_labels(distance: NDArray[np.float32]) -> NDArray[np.int64]:
    """DBSCAN on the whole matrix."""
    labels: NDArray[np.int64] = DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed").fit(distance).labels_
    return labels


def compare(number: int, *, field: bool) -> dict[str, Any]:
    """One row of the table."""
    features = made_up_features(number, np.random.default_rng(number))
    memory = peak_above_now(lambda: cluster_features(features, k1=K1, k2=K2, eps=EPS, min_samples=MIN_SAMPLES))
    searching, table = timed(lambda: nearest_neighbours(features, K1))

    def sparse() -> NDArray[np.int64]:
        similarity = jaccard_similarity(features, K1, K2, neighbours=table, max_distance=EPS)
        return dbscan_labels(similarity, EPS, MIN_SAMPLES)

    runs = [timed(sparse) for _ in range(3)]
    seconds, labels = min(runs, key=lambda run: run[0])
    row: dict[str, Any] = {
        "samples": number,
        "clusters": int(labels.max()) + 1,
        "noise": float(np.mean(labels < 0)),
        "seconds_search": searching,
        "seconds_sparse": seconds,
        "peak_gib_above_features": memory,
    }
    dense = {"lean": jaccard_in_lean_loops} | ({"field": jaccard_as_the_field_does} if field else {})
    for name, jaccard in dense.items():
        slow, expected = timed(lambda jaccard=jaccard: dense_labels(jaccard(features, table.index, K1, K2)))  # type: ignore[misc]
        row[f"seconds_{name}"] = slow
        row[f"speedup_{name}"] = slow / seconds
        row[f"same_labels_{name}"] = bool(np.array_equal(labels, expected))
    return row


def main() -> None:
    """Print the table; write it to a file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run, are the labels the same")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of samples")
    parser.add_argument("--field", action="store_true", help="also time the routine as the field uses it (slow)")
    arguments = parser.parse_args()
    sizes = arguments.sizes or ([2000, 4000] if arguments.quick else [22258, 34167])

    compare(200, field=False)  # compiles
    rows = []
    for size in sizes:
        rows.append(compare(size, field=arguments.field or arguments.quick))
        print(
            "  ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in rows[-1].items()
            )
        )
    if arguments.json:
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()}
        arguments.json.write_text(json.dumps({"benchmark": "jaccard", "machine": machine, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
