"""What the start weights make of the drawn benchmark, by version of the generator: clusters, matches and search.

Usage: python benchmarks/start_weights.py [--people N …] [--generators N …] [--data DIR] [--quick] [--json FILE]

Nothing is trained: images are drawn, embedded with the shipped starter weights, clustered and matched as in the first
epoch of a training, and measured against the identities; test images are searched. This is the cheap half of the
calibration (benchmarks/calibration.py has the other). A row that the JSON file has is not measured again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.calibration import PUBLISHED_CLUSTERS, SEARCH
from benchmarks.showing import markdown_table, read_rows, write_json

from pclhd.config import load_preset
from pclhd.data.records import Modality
from pclhd.engine.labelling import LabelRequest, label_epoch
from pclhd.evaluation.clusters import ClusterMeter
from pclhd.evaluation.evaluate import evaluate_embeddings
from pclhd.evaluation.protocols import protocol_for
from pclhd.models.backbones import build_network
from pclhd.models.encoder import Encoder, embed_records
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import initialise
from pclhd.pair import Pair
from pclhd.streams import Streams
from pclhd.synthetic import VERSIONS, write_synthetic
from pclhd.workflows.train import open_data


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="+", default=[400], help="training people")
    parser.add_argument("--generators", type=int, nargs="+", choices=VERSIONS, default=list(VERSIONS))
    parser.add_argument(
        "--data", type=Path, default=Path("build/benchmarks/start-weights"), help="folder of the drawings"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    settings = {"quick": arguments.quick}
    rows = read_rows(arguments.json, settings)
    for people in [12] if arguments.quick else arguments.people:
        for version in arguments.generators:
            if not any((row["generator"], row["people"]) == (version, people) for row in rows):
                data = arguments.data / f"generator-{version}-{people}"
                rows.append(measured(data, version, people, quick=arguments.quick))
                if arguments.json:
                    write_json(arguments.json, {"benchmark": "start_weights", "settings": settings, "rows": rows})
    print(as_markdown(rows))


def measured(data: Path, version: int, people: int, *, quick: bool) -> dict[str, Any]:
    """Draw a data set if it is not there, and measure the start weights on it."""
    write_synthetic(data, scale="tiny" if quick else "small", people=people, generator=version)
    settings = load_preset("tiny" if quick else "synthetic", ["recipe=dcl"])
    dataset = open_data(settings, data)
    if dataset.test is None or dataset.train_identities is None:
        sys.exit(f"{data}: has no test people, or no identities of the training people")
    network = build_network(settings.model, generator=Streams(0).torch("network"))
    initialise(network, settings.model.weights)
    encoder = Encoder(network, Preprocessing(settings.data.height, settings.data.width), device="cpu")
    (training,) = embed_records([encoder], dataset.train.images)
    (test,) = embed_records([encoder], dataset.test.images)
    infrared = np.array([image.modality is Modality.INFRARED for image in dataset.train.images])
    features = Pair(training[~infrared], training[infrared])
    labels = label_epoch(LabelRequest(features, settings.clustering, settings.method, joint=False))
    agreement = ClusterMeter(dataset).measure(labels)
    own = {"visible": labels.visible, "infrared": labels.infrared}
    search = next(one for one in protocol_for("sysu", dataset.test).searches if one.name == SEARCH)
    result = evaluate_embeddings(test, dataset.test, [search])[0].to_dict()
    return {
        "generator": version,
        "people": people,
        "clusters_per_person": {
            kind: int(found.max(initial=-1) + 1) / len(set(dataset.train_identities)) for kind, found in own.items()
        },
        "noise": {kind: float(np.mean(found < 0)) for kind, found in own.items()},
        "ari": {kind: agreement[f"ari_{kind}"] for kind in own},
        "right_matches": agreement["match_precision"],
        "rank1": 100 * result["rank1"]["mean"],
        "mAP": 100 * result["mAP"]["mean"],
    }


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """One line for each drawing, and one for what is published."""
    names = ("clusters_per_person", "noise", "ari")
    titles = ["Generator", "people"]
    titles += [f"{name}, {kind}" for name in ("clusters a person", "noise", "ARI") for kind in PUBLISHED_CLUSTERS]
    titles += ["right matches", "rank-1", "mAP"]
    table = [
        [f"version {row['generator']}", str(row["people"])]
        + [f"{row[name][kind]:.2f}" for name in names for kind in PUBLISHED_CLUSTERS]
        + [f"{row['right_matches']:.0%}", f"{row['rank1']:.1f}", f"{row['mAP']:.1f}"]
        for row in rows
    ]
    published = [f"{ratio:.2f}" for ratio in PUBLISHED_CLUSTERS.values()]
    table.append(["published, SYSU-MM01, after stage I", "395", *published, *["–"] * 7])
    return markdown_table(titles, table)


if __name__ == "__main__":
    main()
