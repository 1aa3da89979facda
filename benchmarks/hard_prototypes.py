"""What hard and dynamic prototypes show, and where the gradients of their losses point.

Usage: python benchmarks/hard_prototypes.py [WEIGHTS …] [--data DIR] [--recipe NAME] [--batches N] [--seed N] [--quick]
    [--json FILE]

WEIGHTS are model files of trainings on the data; without them, the preset's start weights are measured. The training
images are clustered and matched as the recipe does at the start of an epoch. Identities only measure here; nothing is
trained. The data are drawn if they are not there; `--quick` draws tiny ones, and shows that everything works.

First table, for each modality: the share of clusters whose hard prototype (the image furthest from the centroid) or
dynamic prototype (a random image) shows another person than most of the cluster; its similarity to the centroid; and
the share of the modality's, and of the other modality's, clustered images to which the most similar prototype shows
their person.

Second table, over batches as in a training: the gradient of each loss with respect to the network's weights, its length
in that of the loss against the own centroids, and its cosine with the gradient of a loss that knows who is who: against
one prototype for each person, the mean over both modalities. A loss whose cosine is higher teaches more of what finds a
person in the other modality. The loss against own hard prototypes is also shown in two parts: queries whose hard
prototype shows the person of most of the cluster, and the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import machine
from benchmarks.showing import markdown_table, write_json

from pclhd.config import Settings, load_preset
from pclhd.data.augment import infrared_view, visible_views
from pclhd.data.datasets import TrainingImages, load_training_images
from pclhd.data.records import Dataset, Modality
from pclhd.data.samplers import endless_batches
from pclhd.engine.labelling import LabelRequest, label_epoch
from pclhd.errors import UserError
from pclhd.losses import contrast
from pclhd.models.backbones import build_network
from pclhd.models.embed import embed_images
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.models.weights import initialise, load_model
from pclhd.pair import Pair
from pclhd.prototypes import balanced_cluster_means, cluster_means, draw_members, normalise, similarities
from pclhd.streams import Streams
from pclhd.synthetic import write_synthetic
from pclhd.workflows.train import open_data

KINDS = ("centroid", "hard", "dynamic")


@dataclass(frozen=True)
class Clusters:
    """One modality's images, their clusters, and who they show.

    Attributes:
        unit: (N, D) embeddings of the images, unit length.
        who: (N,) the person on each image.
        labels: (N,) pseudo labels, −1 is noise.
        partners: (C,) the matched cluster of the other modality, −1 for none.
        person: (C,) the person of most of a cluster's images.
        prototypes: (C, D) of each kind, unit length.
        shown: (C,) the person on the prototype, of each kind.
    """

    unit: Tensor
    who: Tensor
    labels: Tensor
    partners: Tensor
    person: Tensor
    prototypes: Mapping[str, Tensor]
    shown: Mapping[str, Tensor]

    @property
    def clustered(self) -> Tensor:
        """(N,) whether an image is in a cluster."""
        return self.labels >= 0


def main() -> None:
    """Measure each model, and print both tables."""
    arguments = parse()
    try:
        settings = load_preset("tiny" if arguments.quick else "synthetic", [f"recipe={arguments.recipe}"])
        if not arguments.data.exists():
            write_synthetic(arguments.data, scale="tiny" if arguments.quick else "small")
        dataset = open_data(settings, arguments.data)
        images = load_training_images(dataset.train, settings.data.height, settings.data.width)
        people = people_of(dataset)
        networks = {f"{path.parent.name}/{path.name}": load_model(path) for path in arguments.weights}
        rows = [
            {"weights": name, **measured(network, settings, images, people, arguments.batches, Streams(arguments.seed))}
            for name, network in (networks or {"start": start_network(settings)}).items()
        ]
    except UserError as error:
        sys.exit(str(error))
    print(prototypes_markdown(rows), gradients_markdown(rows), sep="\n\n")
    if arguments.json:
        words = {"recipe": arguments.recipe, "batches": arguments.batches, "seed": arguments.seed}
        write_json(
            arguments.json, {"benchmark": "hard_prototypes", "machine": machine(), "settings": words, "rows": rows}
        )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="*", help="model files")
    parser.add_argument("--data", type=Path, help="the data that they were trained on")
    parser.add_argument("--recipe", default="pgm", help="how to cluster and match")
    parser.add_argument("--batches", type=int, default=20, help="batches whose gradients are measured")
    parser.add_argument("--seed", type=int, default=0, help="of the random images and batches")
    parser.add_argument("--quick", action="store_true", help="tiny data and the preset tiny")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    if arguments.data is None:
        arguments.data = Path("build/benchmarks/hard-prototypes") / ("tiny" if arguments.quick else "small")
    return arguments


def people_of(dataset: Dataset) -> Pair[Tensor]:
    """(Nv,) and (Nr,) the person on each training image.

    Raises:
        UserError: The data have no identities.
    """
    if dataset.train_identities is None:
        raise UserError(f"{dataset.root}: has no identities of the training people to measure with")
    identities = np.array(dataset.train_identities, dtype=np.int64)
    infrared = np.array([image.modality is Modality.INFRARED for image in dataset.train.images])
    return Pair(torch.from_numpy(identities[~infrared]), torch.from_numpy(identities[infrared]))


def start_network(settings: Settings) -> TwoStreamNetwork:
    """A network with the preset's start weights."""
    network = build_network(settings.model, generator=Streams(0).torch("network"))
    initialise(network, settings.model.weights)
    return network


def measured(
    network: TwoStreamNetwork,
    settings: Settings,
    images: TrainingImages,
    people: Pair[Tensor],
    batches: int,
    streams: Streams,
) -> dict[str, Any]:
    """The figures of one model."""
    features = Pair(
        *(
            normalise(embed_images(network, part.images, modality))
            for part, modality in zip(images, Modality, strict=True)
        )
    )
    clusters = clusters_of(features, settings, images, people, streams)
    others = Pair(clusters.infrared, clusters.visible)
    return {
        "prototypes": {
            name: prototype_figures(own, other) for (name, own), other in zip(clusters.items(), others, strict=True)
        },
        "gradients": gradient_figures(network, clusters, images, settings, batches, streams),
    }


def clusters_of(
    features: Pair[Tensor], settings: Settings, images: TrainingImages, people: Pair[Tensor], streams: Streams
) -> Pair[Clusters]:
    """The clusters of both modalities at the start of an epoch, with one prototype of each kind."""
    arrays, cameras = features.map(Tensor.numpy), images.map(lambda part: part.cameras)
    found = label_epoch(LabelRequest(arrays, settings.clustering, settings.method, joint=False, cameras=cameras))
    partners = Pair(found.matching.visible_to_infrared, found.matching.infrared_to_visible)
    generator = streams.torch("dynamic")

    def gathered(unit: Tensor, who: Tensor, pseudo: NDArray[np.int64], matched: NDArray[np.int64]) -> Clusters:
        labels = torch.tensor(pseudo)
        count = int(labels.max()) + 1
        centroids = functional.normalize(cluster_means(unit, labels, count))
        rows = {
            "hard": furthest_rows(unit, labels, centroids),
            "dynamic": draw_members(labels, count, 1, generator)[:, 0],
        }
        person = majority(labels, who, count)
        return Clusters(
            unit,
            who,
            labels,
            torch.tensor(matched),
            person,
            {"centroid": centroids} | {kind: unit[drawn] for kind, drawn in rows.items()},
            {"centroid": person} | {kind: who[drawn] for kind, drawn in rows.items()},
        )

    return Pair(*map(gathered, features, people, found.own, partners))


def furthest_rows(unit: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """(C,) the row of each cluster's image that is least similar to its centroid."""
    rows = torch.nonzero(labels >= 0)[:, 0]
    to_own = (unit[rows] * centroids[labels[rows]]).sum(1)
    # The least similar one of a cluster is written last.
    ascending = to_own.argsort(descending=True, stable=True)
    furthest = torch.zeros(len(centroids), dtype=torch.int64)
    for row in rows[ascending].tolist():
        furthest[labels[row]] = row
    return furthest


def majority(labels: Tensor, people: Tensor, count: int) -> Tensor:
    """(C,) the person of most images of each cluster; the lower number of two."""
    return torch.stack([torch.mode(people[labels == cluster]).values for cluster in range(count)])


def prototype_figures(own: Clusters, other: Clusters) -> dict[str, Any]:
    """What one modality's prototypes show, by kind."""
    figures: dict[str, Any] = {"clusters": len(own.person)}
    for kind in KINDS:
        figures[kind] = {
            "another_person": float((own.shown[kind] != own.person).float().mean()),
            "similarity": float((own.prototypes[kind] * own.prototypes["centroid"]).sum(1).mean()),
            "right_within": share_right(own, own, kind),
            "right_across": share_right(other, own, kind),
        }
    return figures


def share_right(queries: Clusters, held: Clusters, kind: str) -> float:
    """Share of the clustered images of a modality to which the most similar of some prototypes shows their person."""
    nearest = similarities(queries.unit[queries.clustered], held.prototypes[kind]).argmax(1)
    return float((held.shown[kind][nearest] == queries.who[queries.clustered]).float().mean())


def gradient_figures(
    network: TwoStreamNetwork,
    clusters: Pair[Clusters],
    images: TrainingImages,
    settings: Settings,
    batches: int,
    streams: Streams,
) -> dict[str, dict[str, float]]:
    """Length and direction of the gradient of each loss, mean and standard deviation over batches."""
    network.train()
    parameters = [one for one in network.parameters() if one.requires_grad]
    sizes, temperature = settings.batch.numbers(), settings.memory.temperature
    draws = Pair(
        *(
            endless_batches(
                held.labels.numpy(),
                None,
                clusters=sizes.clusters,
                instances=sizes.instances,
                generator=streams.numpy("batches", name),
            )
            for name, held in clusters.items()
        )
    )
    everyone = person_prototypes(clusters)
    augmentation, scale = streams.torch("augment"), {"mean": network.image_mean, "std": network.image_std}
    cosines: dict[str, list[float]] = {}
    lengths: dict[str, list[float]] = {}
    for _ in range(batches):
        rows = draws.map(lambda drawn: torch.from_numpy(next(drawn)))
        pixels = Pair(*(part.images[own] for part, own in zip(images, rows, strict=True)))
        views = Pair(
            visible_views(pixels.visible, augmentation, **scale), infrared_view(pixels.infrared, augmentation, **scale)
        )
        queries = Pair(*torch.split(normalise(network(*views).embedding), [len(part) for part in views]))
        # A visible image has two views: the first ones of all, then the second ones.
        rows = Pair(rows.visible.repeat(len(views.visible) // len(rows.visible)), rows.infrared)
        truth = identity_loss(queries, rows, clusters, everyone, temperature)
        found = {
            name: flat_gradient(loss, parameters)
            for name, loss in losses_of(queries, rows, clusters, temperature).items()
        }
        reference, unit = flat_gradient(truth, parameters), found["own centroid"].norm()
        for name, one in found.items():
            cosines.setdefault(name, []).append(float(functional.cosine_similarity(one, reference, dim=0)))
            lengths.setdefault(name, []).append(float(one.norm() / unit))
    return {
        name: {
            "length": mean(lengths[name]),
            "cosine": mean(values),
            "cosine_deviation": stdev(values) if len(values) > 1 else 0.0,
            "batches": len(values),
        }
        for name, values in cosines.items()
    }


def person_prototypes(clusters: Pair[Clusters]) -> Tensor:
    """(P, D) the mean of each person's visible and infrared mean, unit length; in ascending order of the people."""
    modality = torch.repeat_interleave(torch.tensor([0, 1]), torch.tensor([len(held.who) for held in clusters]))
    known, number = torch.unique(torch.cat([held.who for held in clusters]), return_inverse=True)
    unit = torch.cat([held.unit for held in clusters])
    return functional.normalize(balanced_cluster_means(unit, number, modality, len(known)))


def identity_loss(
    queries: Pair[Tensor], rows: Pair[Tensor], clusters: Pair[Clusters], everyone: Tensor, temperature: float
) -> Tensor:
    """The loss that knows who is who, of both modalities' queries together."""
    known = torch.unique(torch.cat([held.who for held in clusters]))
    values = [
        contrast(similarities(part, everyone), torch.searchsorted(known, held.who[own]), temperature).mean()
        for part, own, held in zip(queries, rows, clusters, strict=True)
    ]
    return torch.stack(values).sum()


def losses_of(
    queries: Pair[Tensor], rows: Pair[Tensor], clusters: Pair[Clusters], temperature: float
) -> dict[str, Tensor]:
    """Each loss of a batch: against own prototypes, and against those of the partner, both modalities together."""
    parts: dict[str, list[Tensor]] = {}
    for part, own_rows, held, other in zip(
        queries, rows, clusters, Pair(clusters.infrared, clusters.visible), strict=True
    ):
        labels = held.labels[own_rows]
        matched = held.partners[labels]
        for kind in KINDS:
            values = contrast(similarities(part, held.prototypes[kind]), labels, temperature)
            parts.setdefault(f"own {kind}", []).append(values.mean())
            if kind == "hard":
                right = (held.shown[kind] == held.person)[labels]
                for name, chosen in (("right", right), ("another", ~right)):
                    if chosen.any():
                        parts.setdefault(f"own hard, {name} person", []).append(values[chosen].sum() / len(values))
            has = matched >= 0
            if has.any():
                across = contrast(similarities(part[has], other.prototypes[kind]), matched[has], temperature)
                parts.setdefault(f"partner's {kind}", []).append(across.mean())
    return {name: torch.stack(values).sum() for name, values in parts.items()}


def flat_gradient(loss: Tensor, parameters: list[Any]) -> Tensor:
    """The gradient of a loss with respect to all weights, as one vector."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(own) if one is None else one).flatten() for own, one in zip(parameters, found, strict=True)]
    )


def prototypes_markdown(rows: list[dict[str, Any]]) -> str:
    """A line for each model, modality and kind of prototype."""
    titles = ["Weights", "modality", "clusters", "prototype", "another person", "similarity to the centroid"]
    titles += ["right within", "right across"]
    table = [
        [
            row["weights"],
            modality,
            str(figures["clusters"]),
            kind,
            f"{figures[kind]['another_person']:.0%}",
            f"{figures[kind]['similarity']:.2f}",
            f"{figures[kind]['right_within']:.0%}",
            f"{figures[kind]['right_across']:.0%}",
        ]
        for row in rows
        for modality, figures in row["prototypes"].items()
        for kind in KINDS
    ]
    return markdown_table(titles, table)


def gradients_markdown(rows: list[dict[str, Any]]) -> str:
    """A line for each loss, with two columns for each model."""
    names = list(dict.fromkeys(name for row in rows for name in row["gradients"]))
    titles = ["Loss against"] + [f"{what}, {row['weights']}" for row in rows for what in ("length", "cosine")]
    table = [[name, *(cell for row in rows for cell in _cells(row["gradients"].get(name)))] for name in names]
    return markdown_table(titles, table)


def _cells(figures: dict[str, float] | None) -> tuple[str, str]:
    if figures is None:
        return "–", "–"
    return f"{figures['length']:.2f}", f"{figures['cosine']:.2f} ± {figures['cosine_deviation']:.2f}"


if __name__ == "__main__":
    main()
