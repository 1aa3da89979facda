"""Which k2 finds people where both modalities are clustered together, for sets of several sizes.

Usage: python benchmarks/joint_sizes.py [--data DIR] [--scales NAME …] [--people N …] [--seeds N …] [--quick]
    [--json FILE]

Nothing is trained: people are drawn, embedded with the shipped starter weights, and some of them, taken at random, are
clustered as in the first epoch of the preset `own`, with the automatic k1 and several rules for k2. Scales differ in
images per person: about 26 at `small`, 86 at `sysu`; `small/6` takes six images of each modality at most. Shown is the
mean ARI over seeds; an image without a cluster counts as one of its own.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import markdown_table, read_rows, write_json

from pclhd.clustering.centring import centred
from pclhd.clustering.options import ClusteringOptions, automatic_sizes
from pclhd.clustering.pipeline import cluster_features
from pclhd.config import load_preset
from pclhd.data.records import Modality
from pclhd.models.backbones import build_network
from pclhd.models.encoder import Encoder, embed_records
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import initialise
from pclhd.streams import Streams
from pclhd.synthetic import write_synthetic
from pclhd.workflows.train import open_data

#: k2 from k1. The first was `auto` until it was compared with the others.
RULES: dict[str, Callable[[int], int]] = {
    "k1 − 8, at least k1 / 2": lambda k1: max(k1 // 2, k1 - 8),
    "k1 / 2": lambda k1: k1 // 2,
    "k1 / 4": lambda k1: max(2, round(k1 / 4)),
    "√k1": lambda k1: math.ceil(math.sqrt(k1)),
}
DRAWN_PEOPLE = 100
Rows = NDArray[np.bool_]


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path("build/benchmarks/joint-sizes"), help="folder of the drawings"
    )
    parser.add_argument("--scales", nargs="+", default=["small", "small/6", "sysu"])
    parser.add_argument("--people", type=int, nargs="+", default=[12, 25, 50, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    settings = {"quick": arguments.quick, "seeds": arguments.seeds}
    rows = read_rows(arguments.json, settings)
    numbers = [6, 12] if arguments.quick else arguments.people
    for scale in ["tiny", "tiny/3"] if arguments.quick else arguments.scales:
        missing = [
            people for people in numbers if not any((row["scale"], row["people"]) == (scale, people) for row in rows)
        ]
        if missing:
            rows.extend(measured(arguments.data, scale, missing, arguments.seeds))
        if arguments.json:
            write_json(arguments.json, {"benchmark": "joint_sizes", "settings": settings, "rows": rows})
    print(as_markdown(rows))


def measured(folder: Path, scale: str, numbers: list[int], seeds: list[int]) -> list[dict[str, Any]]:
    """Draw people if they are not there, embed them, and cluster as many of them as asked for."""
    name, _, most = scale.partition("/")
    drawn = max(numbers) if name == "tiny" else max(DRAWN_PEOPLE, *numbers)
    data = folder / f"{name}-{drawn}"
    write_synthetic(data, scale=cast(Literal["tiny", "small", "sysu"], name), people=drawn)
    settings, own = load_preset("synthetic", []), load_preset("own", [])
    dataset = open_data(settings, data)
    if dataset.train_identities is None:
        sys.exit(f"{data}: has no identities of the training people")
    network = build_network(settings.model, generator=Streams(0).torch("network"))
    initialise(network, settings.model.weights)
    encoder = Encoder(network, Preprocessing(settings.data.height, settings.data.width), device="cpu")
    (features,) = embed_records([encoder], dataset.train.images)
    people = np.asarray(dataset.train_identities)
    infrared = np.array([image.modality is Modality.INFRARED for image in dataset.train.images])
    cameras = np.array([image.camera for image in dataset.train.images])
    rows = []
    for number in numbers:
        found: dict[str, list[float]] = {rule: [] for rule in RULES}
        images = []
        for seed in seeds:
            taken = some(people, infrared, number, int(most) if most else None, np.random.default_rng(seed))
            images.append(int(taken.sum()))
            kept = [taken & (infrared == kind) for kind in (False, True)]
            parts = [centred(features[part], cameras[part]) for part in kept]
            modality = np.repeat([0, 1], [len(part) for part in parts])
            identities = np.concatenate([people[part] for part in kept])
            k1 = automatic_sizes(len(identities), joint=True)["k1"]
            for rule, k2_of in RULES.items():
                options = ClusteringOptions.of(own.clustering, own.method, k1=k1, k2=k2_of(k1), near_copies="keep")
                labels = cluster_features(np.concatenate(parts), options, modality=modality).labels
                found[rule].append(agreement(labels, identities))
        rows.append({"scale": scale, "people": number, "images": float(np.mean(images)), "ari": found})
    return rows


def some(
    people: NDArray[np.int64], infrared: Rows, number: int, most: int | None, generator: np.random.Generator
) -> Rows:
    """The images of some people, at most `most` of each person and modality."""
    chosen = generator.choice(np.unique(people), number, replace=False)
    taken: Rows = np.isin(people, chosen)
    if most is None:
        return taken
    few = np.zeros(len(people), dtype=bool)
    for person in chosen:
        for kind in (False, True):
            few[generator.permutation(np.flatnonzero((people == person) & (infrared == kind)))[:most]] = True
    return few


def agreement(labels: NDArray[np.int64], identities: NDArray[np.int64]) -> float:
    """ARI of clusters and identities; noise counts as clusters of one."""
    noise = labels < 0
    whole = np.where(noise, labels.max(initial=-1) + 1 + np.cumsum(noise), labels)
    return float(adjusted_rand_score(identities, whole))


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """One line for each set, and one for the mean and the worst of them."""
    means = [[float(np.mean(row["ari"][rule])) for rule in RULES] for row in rows]
    table = [
        [row["scale"], str(row["people"]), f"{row['images']:,.0f}", *(f"{value:.2f}" for value in values)]
        for row, values in zip(rows, means, strict=True)
    ]
    table.append(["mean", "", "", *(f"{np.mean(column):.2f}" for column in zip(*means, strict=True))])
    table.append(["worst", "", "", *(f"{min(column):.2f}" for column in zip(*means, strict=True))])
    return markdown_table(["Scale", "people", "images", *RULES], table)


if __name__ == "__main__":
    main()
