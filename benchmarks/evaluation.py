"""How much faster is the evaluation of SYSU-MM01 than a loop over its queries?

    python benchmarks/evaluation.py [--quick] [--json FILE]
    python benchmarks/evaluation.py --large [--sizes 1000x1000000 10000x1000000] [--quick] [--json FILE]

Queries and galleries have the sizes of the real test set (96 people, 3,803 infrared queries, 6,775 visible images), but
made-up embeddings: those of a person, visible and infrared, share a direction, plus noise. Everything runs in one
process; a figure is the median of several repetitions, and both implementations must agree on all measures.

Two comparisons. "measuring": the distances of each trial are computed beforehand, as float32 rows per query. "from
embeddings": the loop computes every trial's distances, as the field's scripts do, and ours is one call; the matrix
products, which both need, then take most of our time.

--large asks another question: how long does one search take, and how much memory, when all distances together would
not fit into memory? Queries and gallery images are random unit vectors of 512 numbers; the gallery has a hundred images
of each person, and there are eight cameras. Images of the query's person and camera do not count, and the CMC counts
identities. Each size is measured once, in a process of its own. Memory is the peak beyond the images' embeddings and
records; the search itself makes one copy of the embeddings, scaled to unit length.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.baselines.evaluation_loop import Measures, measure_as_the_field_does, measure_in_a_lean_loop
from benchmarks.measuring import Steps, in_a_process, machine
from benchmarks.showing import markdown_table, short

from pclhd.data.records import ImageRecord, LabelledImages, Modality
from pclhd.evaluation.evaluate import evaluate_embeddings
from pclhd.evaluation.metrics import ExclusionRule, Metrics, measure_ranking
from pclhd.evaluation.protocols import Search, Trial, searches_for

PEOPLE = 96
QUERIES = 3803
VISIBLE = 6775
Labels = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
Loop = Callable[..., Measures]

LOOPS: dict[str, Loop] = {"field's loop": measure_as_the_field_does, "lean loop": measure_in_a_lean_loop}


def make_test_set(scale: float, width: int, seed: int = 0) -> tuple[LabelledImages, NDArray[np.float32]]:
    """As many test images as SYSU-MM01 has, times a scale, with (N, width) embeddings of unit length."""
    rng = np.random.default_rng(seed)
    people = max(8, round(PEOPLE * scale))
    # About 301 of the 4 x 96 visible pairs of person and camera exist in the real set.
    visible = [(p, c) for p in range(people) for c in (1, 2, 4, 5) if c == 2 or rng.random() < 0.72]
    infrared = [(p, c) for p in range(people) for c in (3, 6)]
    records, identities = [], []
    for modality, pairs, count in (
        (Modality.VISIBLE, visible, round(VISIBLE * scale)),
        (Modality.INFRARED, infrared, round(QUERIES * scale)),
    ):
        for number in range(count):
            person, camera = pairs[number % len(pairs)]
            path = Path(f"cam{camera}/{person:04d}/{number:05d}.jpg")
            records.append(ImageRecord(path, modality, camera))
            identities.append(person)
    centre = rng.standard_normal((people, width))
    embeddings = centre[identities] + 4 * rng.standard_normal((len(records), width))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return LabelledImages(tuple(records), tuple(identities)), embeddings.astype(np.float32)


def median_seconds(run: Callable[[], object], repetitions: int) -> float:
    """Median wall time; with more than one repetition, after a first run that does not count."""
    if repetitions > 1:
        run()
    seconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def require_agreement(ours: Metrics, theirs: Measures) -> None:
    """Stop if the two implementations do not measure the same."""
    curve, mean_ap, mean_inp = theirs
    if (
        not np.allclose(ours.cmc, curve, atol=1e-6)
        or abs(ours.mAP - mean_ap) > 1e-6
        or abs(ours.mINP - mean_inp) > 1e-6
    ):
        raise RuntimeError(f"different measures: mAP {ours.mAP} here, {mean_ap} in the loop")


def run_loop(loop: Loop, distance: Callable[[int], NDArray[np.float32]], labels: list[Labels]) -> list[Measures]:
    """Measure all trials with a loop over queries."""
    return [loop(distance(i), *labels[i]) for i in range(len(labels))]


def compare(
    name: str,
    searches: list[Search],
    test: LabelledImages,
    embeddings: NDArray[np.float32],
    repetitions: int,
) -> list[dict[str, Any]]:
    """One row per loop and kind of comparison, for all trials of the searches together."""
    identities = np.array(test.identities)
    cameras = np.array([image.camera or 0 for image in test.images])
    trials = [trial for search in searches for trial in search.trials]
    labels = [(identities[t.query], identities[t.gallery], cameras[t.query], cameras[t.gallery]) for t in trials]

    def distance(i: int) -> NDArray[np.float32]:
        return np.asarray(-embeddings[trials[i].query] @ embeddings[trials[i].gallery].T)

    def measure(table: NDArray[np.float32], i: int) -> Metrics:
        return measure_ranking(table, *labels[i], rule=ExclusionRule.SYSU, cmc_over="identities")

    tables = [distance(i) for i in range(len(trials))]
    many = range(len(trials))
    for loop in LOOPS.values():
        require_agreement(measure(tables[0], 0), loop(tables[0], *labels[0]))

    ready = median_seconds(lambda: [measure(tables[i], i) for i in many], repetitions)
    whole = median_seconds(lambda: evaluate_embeddings(embeddings, test, searches), repetitions)
    rows = []
    for loop_name, loop in LOOPS.items():
        # The loops take seconds, so they are measured less often.
        few = max(1, repetitions // 3)
        looped = median_seconds(partial(run_loop, loop, tables.__getitem__, labels), few)
        full = median_seconds(partial(run_loop, loop, distance, labels), few)
        for what, theirs, ours in (("measuring", looped, ready), ("from embeddings", full, whole)):
            rows.append(
                {
                    "searches": name,
                    "trials": len(trials),
                    "queries": len(trials[0].query),
                    "gallery": [len(search.trials[0].gallery) for search in searches],
                    "what": what,
                    "baseline": loop_name,
                    "baseline_seconds": theirs,
                    "seconds": ours,
                    "ratio": theirs / ours,
                }
            )
    return rows


LARGE_WIDTH = 512


def make_large_set(queries: int, gallery: int, seed: int = 0) -> tuple[LabelledImages, NDArray[np.float32], Search]:
    """Queries, then gallery images: their records, random unit vectors, and the search."""
    rng = np.random.default_rng(seed)
    people = max(2, gallery // 100)
    number = queries + gallery
    identities = np.concatenate([np.arange(queries), np.arange(gallery)]) % people
    cameras = rng.integers(1, 9, number).tolist()
    kinds = [Modality.INFRARED] * queries + [Modality.VISIBLE] * gallery
    path = Path("image.jpg")
    records = tuple(ImageRecord(path, kind, camera) for kind, camera in zip(kinds, cameras, strict=True))
    embeddings = rng.standard_normal((number, LARGE_WIDTH), dtype=np.float32)
    for start in range(0, number, 10_000):
        block = embeddings[start : start + 10_000]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    search = Search(
        name="large",
        direction="infrared→visible",
        rule=ExclusionRule.SAME_CAMERA_SAME_IDENTITY,
        cmc_over="identities",
        trials=(Trial("all", np.arange(queries), np.arange(queries, number)),),
    )
    return LabelledImages(records, tuple(identities.tolist())), embeddings, search


def measure_large(queries: int, gallery: int) -> dict[str, Any]:
    """Seconds and peak memory of one search."""
    small = make_large_set(20, 500)
    evaluate_embeddings(small[1], small[0], [small[2]])
    test, embeddings, search = make_large_set(queries, gallery)
    steps = Steps()
    begin = time.process_time()
    [result] = steps.run("search", lambda: evaluate_embeddings(embeddings, test, [search]))
    return {
        "queries": queries,
        "gallery": gallery,
        "seconds": steps.seconds["search"],
        "cpu_seconds": time.process_time() - begin,
        "peak_gib": steps.peak_gib,
        "embeddings_gib": embeddings.nbytes / 2**30,
        "table_gib": 4 * queries * gallery / 2**30,
        "mAP": result.trials[0].mAP,
    }


def large(sizes: list[tuple[int, int]], path: Path | None, *, quick: bool) -> None:
    """Measure searches of these sizes, print them, and write them if asked."""
    rows = [in_a_process(measure_large, *size) for size in sizes]
    titles = ["queries", "gallery", "seconds", "cpu s", "peak GiB", "of which embeddings", "all distances, GiB"]
    names = ("queries", "gallery", "seconds", "cpu_seconds", "peak_gib", "embeddings_gib", "table_gib")
    print(markdown_table(titles, [[short(row[name]) for name in names] for row in rows], words=0))
    if path:
        content = {"benchmark": "evaluation", "large": True, "quick": quick, "machine": machine()}
        path.write_text(json.dumps({**content, "rows": rows}, indent=1))


def size_of(text: str) -> tuple[int, int]:
    """Queries and gallery images from "1000x1000000"."""
    queries, _, gallery = text.partition("x")
    return int(queries), int(gallery)


def main() -> None:
    """Run the comparisons, print them, and write them if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="0.4 times the size, single-shot only")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--large", action="store_true", help="large searches instead, without a baseline")
    parser.add_argument("--sizes", type=size_of, nargs="+", help="queries x gallery images of --large")
    arguments = parser.parse_args()
    if arguments.large:
        usual = [(100, 2_000), (200, 4_000)] if arguments.quick else [(1_000, 1_000_000), (10_000, 1_000_000)]
        large(arguments.sizes or usual, arguments.json, quick=arguments.quick)
        return

    test, embeddings = make_test_set(0.4 if arguments.quick else 1.0, width=256 if arguments.quick else 2048)
    searches = {search.name: search for search in searches_for("sysu", test)}
    groups = {"all + indoor, single-shot": ["all/single-shot", "indoor/single-shot"]}
    if not arguments.quick:
        groups["all + indoor, multi-shot"] = ["all/multi-shot", "indoor/multi-shot"]
        # The field's loop takes about ten seconds for one such trial, so it measures two of the ten.
        for name in groups["all + indoor, multi-shot"]:
            searches[name] = replace(searches[name], trials=searches[name].trials[:2])

    rows: list[dict[str, Any]] = []
    header = f"{'searches':<26}{'gallery':<14}{'what':<17}{'baseline':<14}"
    print(f"{header}{'trials':>7}{'loop s':>9}{'ours s':>9}{'ratio':>8}")
    for name, members in groups.items():
        repetitions = 3 if "multi" in name else 5
        for row in compare(name, [searches[member] for member in members], test, embeddings, repetitions):
            rows.append(row)
            sizes = " + ".join(map(str, row["gallery"]))
            print(
                f"{name:<26}{sizes:<14}{row['what']:<17}{row['baseline']:<14}"
                f"{row['trials']:>7}{row['baseline_seconds']:>9.3f}{row['seconds']:>9.3f}{row['ratio']:>8.1f}",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"benchmark": "evaluation", "quick": arguments.quick, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
