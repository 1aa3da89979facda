"""How far two places of the training are off because of rounding: batch norm's gradient, and pairs exactly at eps.

Usage: python benchmarks/rounding.py [--data DIR] [--quick]

The first table compares the gradients of the batch norms' weights in 32 bits with 64 bits, for the narrow network in
training mode with the starter weights and five random batches, in channels-first and in channels-last memory. The
second counts the labels that differ if pairs at a distance of exactly eps are left out, as in the released code, not
taken in: starter weights, synthetic benchmark, each modality. Clusters are compared whatever their numbers are.
`--quick` uses tiny data and one batch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import markdown_table
from benchmarks.training_runs import pclhd

from pclhd.clustering.density import dbscan_labels
from pclhd.clustering.jaccard import jaccard_similarity
from pclhd.config import Settings, load_preset
from pclhd.data.records import Modality
from pclhd.models.backbones import build_network
from pclhd.models.encoder import Encoder, embed_records
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import to_channels_last
from pclhd.models.weights import initialise
from pclhd.workflows.train import open_data

BATCH = 64  # images of each modality


def gradient_errors(settings: Settings, memory_format: torch.memory_format, seed: int) -> list[float]:
    """Relative error of the gradients of all batch norm weights and biases in 32 bits, against 64 bits.

    Returns:
        For each such parameter, norm of the difference over norm of the exact gradient.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, 3, settings.data.height, settings.data.width)
    images = [torch.randn(*shape, generator=generator) for _ in range(2)]
    upstream = torch.randn(2 * BATCH, build_network(settings.model).embedding_size, generator=generator)
    gradients: list[list[torch.Tensor]] = []
    for kind in (torch.float64, torch.float32):
        network = build_network(settings.model)
        initialise(network, settings.model.weights)
        network.to(kind).train()
        network.neck.float()  # the network pools in 32 bits whatever comes before
        if memory_format is torch.channels_last:
            to_channels_last(network)
        found = network(*(part.to(kind, memory_format=memory_format) for part in images))
        found.embedding.backward(upstream)
        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        parameters = [value for norm in norms for value in norm.parameters()]
        gradients.append([value.grad.double() for value in parameters if value.grad is not None])
    return [float((one - exact).norm() / exact.norm()) for exact, one in zip(*gradients, strict=True)]


def labels_at_eps(features: NDArray[np.float32], *, k1: int, k2: int, eps: float, min_samples: int = 4) -> int:
    """Number of samples whose label differs if pairs at exactly eps are not neighbours."""
    similarity = jaccard_similarity(features, k1, k2)
    taken, left = (
        dbscan_labels(similarity, radius, min_samples) for radius in (eps, float(np.nextafter(np.float32(eps), 0.0)))
    )
    overlap = np.zeros((taken.max() + 2, left.max() + 2), dtype=np.int64)
    np.add.at(overlap, (taken, left), 1)  # the last row and column are noise
    same = linear_sum_assignment(overlap[:-1, :-1], maximize=True)
    return len(taken) - int(overlap[:-1, :-1][same].sum() + overlap[-1, -1])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the synthetic benchmark; drawn if it is not there")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    formats = {"channels-first": torch.contiguous_format, "channels-last": torch.channels_last}
    scale, preset, seeds = ("tiny", "tiny", 1) if arguments.quick else ("small", "synthetic", 5)
    settings = load_preset(preset, [])
    rows = []
    for name, kind in formats.items():
        errors = np.array([gradient_errors(settings, kind, seed) for seed in range(seeds)]).reshape(-1)
        rows.append([name, f"{np.median(errors):.1e}", f"{errors.max():.1e}"])
    print(markdown_table(["memory", "median error", "largest error"], rows), end="\n\n")

    data = arguments.data or Path("build/benchmarks/rounding", f"data-{scale}")
    pclhd("synth", "--out", data, "--scale", scale)
    dataset = open_data(settings, data)
    images = dataset.train.images
    features = embed_records([starter_encoder(settings)], images)[0]
    rows = []
    for eps in (0.4, 0.5, 0.6):
        counts = []
        for modality in Modality:
            own = features[[image.modality is modality for image in images]]
            k1, k2 = (min(size, len(own)) for size in (settings.clustering.k1, settings.clustering.k2))
            counts.append(labels_at_eps(own, k1=int(k1), k2=int(k2), eps=eps))
        rows.append([f"{eps}", *map(str, counts), f"{len(images):,}"])
    print(markdown_table(["eps", "visible labels that differ", "infrared labels that differ", "images"], rows))


def starter_encoder(settings: Settings) -> Encoder:
    """An encoder with the weights that a training starts from."""
    network = build_network(settings.model)
    initialise(network, settings.model.weights)
    return Encoder(network, Preprocessing(settings.data.height, settings.data.width))


if __name__ == "__main__":
    main()
