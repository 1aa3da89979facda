"""What does a training at the published size cost on this processor: ResNet-50, 288 × 144?

    python benchmarks/full_size.py [--quick] [--json FILE] [--instances 1 2 4] [--steps 3]

Everything runs on one thread. Seconds are processor time, so that other programs on the machine have little influence;
on an idle machine they equal wall time. More threads shorten the wall time, at best by a factor of their number.

Steps are those of a training (`engine.trainer.train`) with recipe `pclhd`, random weights and random images: 8 clusters
of `--instances` images from each modality. A visible image enters in two views, so a step of stage I passes 3 × 8 ×
instances images forward and backward. A step of stage II does so twice, has two optimiser steps, and passes the images
of the first through the momentum network as well. A figure is the median of `--steps` steps after the first. Memory is
that of the whole training beyond the Python modules, both networks and the checkpoint included. Each row is measured
once, in a process of its own.

Embedding is `embed_images` as in an epoch, mirror images included, 256 images a pass. Clustering is an epoch's
`label_epoch` on made-up features, as many as SYSU-MM01 has images (22,258 visible and 11,909 infrared).

From these, a whole training with the preset `sysu` is extrapolated. A batch of the preset's size (8 × 16) does not fit
into every machine's memory, so the time of a step is assumed to be linear in its images: a least-squares line through
the rows. The same holds for memory. --quick measures the narrow network at 96 × 48 in 32 bits, on a twentieth of the
features; it shows that this file works, and its extrapolation means nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.made_up import crowd_of, made_up_features
from benchmarks.measuring import Steps, free_gib, in_a_process, keep_to_threads, machine
from benchmarks.showing import markdown_table, short, write_json

from pclhd.clustering.matching import Matching
from pclhd.config import Settings, load_preset
from pclhd.data.records import ImageRecord, Modality, TrainingSet, make_training_set
from pclhd.devices import cpu_computes_bfloat16
from pclhd.engine.labelling import EpochLabels, LabelRequest, label_epoch
from pclhd.engine.observer import Silent
from pclhd.engine.position import Position
from pclhd.engine.trainer import train
from pclhd.models.embed import embed_images
from pclhd.models.two_stream import ARCHITECTURES, TwoStreamNetwork, to_channels_last
from pclhd.pair import Pair

VISIBLE, INFRARED = 22_258, 11_909
VIEWS = 3  # of a visible image two, of an infrared one one


@dataclass(frozen=True)
class Size:
    """What is measured: the published size, or a small one that shows that the file works.

    Attributes:
        architecture: The network.
        height: Pixels.
        width: Pixels.
        embedded: Images whose embedding is timed.
        visible: Made-up visible features to cluster.
        infrared: Made-up infrared features to cluster.
    """

    architecture: str
    height: int
    width: int
    embedded: int
    visible: int
    infrared: int


FULL = Size("resnet50", 288, 144, 256, VISIBLE, INFRARED)
QUICK = Size("narrow", 96, 48, 64, VISIBLE // 20, INFRARED // 20)


def main() -> None:
    """Measure steps, embedding and clustering; print the tables and the extrapolation."""
    arguments = parse()
    keep_to_threads(1)
    size = QUICK if arguments.quick else FULL
    half = ["bf16-mixed"] if cpu_computes_bfloat16() and not arguments.quick else []
    precisions = ["32-true", *half]
    steps: list[dict[str, Any]] = []
    for precision in precisions:
        for stage in (1, 2):
            for instances in arguments.instances:
                print(f"stage {stage}, {precision}, 8 × {instances}; {free_gib():.1f} GiB free", file=sys.stderr)
                steps.append(in_a_process(measure_steps, size, stage, instances, precision, arguments.steps))
                print(f"{steps[-1]['seconds']:.2f} s a step", file=sys.stderr)
    embedding = [in_a_process(measure_embedding, size, precision) for precision in precisions]
    clustering = in_a_process(measure_clustering, size)
    lines = extrapolate(steps, embedding, clustering)
    print(as_markdown(steps, embedding, clustering))
    print("\n".join(["", *(line for precision in precisions for line in arithmetic(lines, precision))]))
    if arguments.json:
        content = {
            "benchmark": "full_size",
            "quick": arguments.quick,
            "machine": machine() | {"threads": 1},
            "size": asdict(size),
        }
        figures = {"steps": steps, "embedding": embedding, "clustering": clustering, "training": lines}
        write_json(arguments.json, {**content, **figures})


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the narrow network at 96 × 48, few features")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--instances", type=int, nargs="+", help="images of a cluster in a batch")
    parser.add_argument("--steps", type=int, default=3, help="steps measured after the first; their median counts")
    arguments = parser.parse_args()
    arguments.instances = arguments.instances or ([1, 2] if arguments.quick else [1, 2, 4])
    if len(set(arguments.instances)) < 2:
        parser.error("--instances needs two different numbers or more, to fit a line")
    return arguments


def measure_steps(size: Size, stage: int, instances: int, precision: str, number: int) -> dict[str, Any]:
    """Median seconds and peak memory of training steps."""
    settings = _settings(
        size,
        f"batch.instances={instances}",
        f"engine.precision={precision}",
        f"schedule.iterations={number + 1}",
        f"schedule.stage1_epochs={int(stage == 1)}",
        f"schedule.stage2_epochs={int(stage == 2)}",
    )
    clusters = settings.batch.clusters
    own = np.arange(clusters).repeat(2)
    matched = Matching(np.arange(clusters), np.arange(clusters))

    def labels(request: LabelRequest) -> EpochLabels:
        """As many clusters as a batch has, with two images in each modality and with a partner each."""
        return EpochLabels(own, own, np.concatenate([own, own]) if request.joint else None, matched)

    clock = _Clock()
    with TemporaryDirectory() as folder:
        images = _draw_images(Path(folder), size, len(own))
        steps = Steps()
        steps.run("training", lambda: train(settings, images, Path(folder) / "run", clock, labeller=labels))
    return {
        "stage": stage,
        "precision": precision,
        "clusters": clusters,
        "instances": instances,
        "images": VIEWS * clusters * instances,
        "seconds": statistics.median(np.diff(clock.ends)),
        "peak_gib": steps.peak_gib,
    }


def measure_embedding(size: Size, precision: str) -> dict[str, Any]:
    """Images per second, and peak memory."""
    network = TwoStreamNetwork(ARCHITECTURES[size.architecture])
    to_channels_last(network)
    images = _pixels(size, size.embedded)
    half = torch.bfloat16 if precision == "bf16-mixed" else None
    embed_images(network, images[:4], Modality.VISIBLE, autocast_dtype=half)
    steps = Steps()
    begin = time.process_time()
    steps.run("embed", lambda: embed_images(network, images, Modality.VISIBLE, autocast_dtype=half))
    seconds = time.process_time() - begin
    return {
        "precision": precision,
        "images": size.embedded,
        "images_per_second": size.embedded / seconds,
        "peak_gib": steps.peak_gib,
    }


def measure_clustering(size: Size) -> dict[str, Any]:
    """Seconds of an epoch's pseudo labels in each stage, and peak memory beyond the features."""
    settings = load_preset("sysu", [])
    width = ARCHITECTURES[size.architecture].embedding_size
    crowd = crowd_of(size.visible + size.infrared, width, cameras=1)
    features = made_up_features(crowd, np.random.default_rng(0)).features
    parts = features[: size.visible], features[size.visible :]

    def label(visible: int, infrared: int, *, joint: bool) -> None:
        features = Pair(parts[0][:visible], parts[1][:infrared])
        label_epoch(LabelRequest(features, settings.clustering, settings.method, joint))

    label(600, 300, joint=True)  # compiles
    steps = Steps()
    seconds = {}
    for stage in (1, 2):
        begin = time.process_time()
        steps.run(f"stage {stage}", partial(label, size.visible, size.infrared, joint=stage == 2))
        seconds[str(stage)] = time.process_time() - begin
    return {
        "visible": size.visible,
        "infrared": size.infrared,
        "width": width,
        "seconds": seconds,
        "peak_gib": steps.peak_gib,
    }


def extrapolate(
    steps: Sequence[dict[str, Any]], embedding: Sequence[dict[str, Any]], clustering: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The estimated cost of each part of a whole training with the preset `sysu`, by precision.

    Stage I embeds all images once an epoch, and so does stage II with recipe `pclhd`.
    """
    preset = load_preset("sysu", [])
    batch, lengths = preset.batch.numbers(), preset.schedule.numbers()
    images = VIEWS * batch.clusters * batch.instances
    training: dict[str, dict[str, Any]] = {}
    for row in embedding:
        precision = row["precision"]
        stages = {}
        for stage, epochs in ((1, lengths.stage1_epochs), (2, lengths.stage2_epochs)):
            rows = [step for step in steps if (step["stage"], step["precision"]) == (stage, precision)]
            step_seconds = line_at(images, [(step["images"], step["seconds"]) for step in rows])
            known = [(step["images"], step["peak_gib"]) for step in rows if step["peak_gib"] is not None]
            parts = {
                "embedding_seconds": (VISIBLE + INFRARED) / row["images_per_second"],
                "clustering_seconds": clustering["seconds"][str(stage)],
                "steps_seconds": lengths.iterations * step_seconds,
            }
            stages[str(stage)] = {
                **parts,
                "step_seconds": step_seconds,
                "step_gib": line_at(images, known) if len(known) > 1 else None,
                "epochs": epochs,
                "hours": epochs * sum(parts.values()) / 3600,
            }
        hours = sum(stage["hours"] for stage in stages.values())
        training[precision] = {"stages": stages, "hours": hours, "iterations": preset.schedule.iterations}
    return training


def line_at(x: float, points: Sequence[tuple[float, float]]) -> float:
    """The value at x of the least-squares line through the points."""
    slope, intercept = np.polyfit([point[0] for point in points], [point[1] for point in points], 1)
    return float(slope * x + intercept)


def as_markdown(
    steps: Sequence[dict[str, Any]], embedding: Sequence[dict[str, Any]], clustering: dict[str, Any]
) -> str:
    """Three tables: steps, embedding, clustering."""
    titles = ["precision", "stage", "batch of a modality", "images in a pass", "seconds a step", "peak GiB"]
    step_rows = [
        [
            row["precision"],
            str(row["stage"]),
            f"{row['clusters']} × {row['instances']}",
            short(row["images"]),
            short(row["seconds"]),
            short(row["peak_gib"]),
        ]
        for row in steps
    ]
    embedding_rows = [[row["precision"], short(row["images_per_second"]), short(row["peak_gib"])] for row in embedding]
    counts = f"{clustering['visible']:,} + {clustering['infrared']:,}"
    cluster_rows = [
        [counts, stage, short(seconds), short(clustering["peak_gib"])]
        for stage, seconds in clustering["seconds"].items()
    ]
    return "\n\n".join(
        [
            markdown_table(titles, step_rows, words=3),
            markdown_table(["precision", "images embedded a second", "peak GiB"], embedding_rows),
            markdown_table(["images to cluster", "stage", "seconds", "peak GiB of both"], cluster_rows, words=2),
        ]
    )


def arithmetic(training: dict[str, dict[str, Any]], precision: str) -> list[str]:
    """How the hours of a whole training are computed, in words."""
    report = [f"Preset sysu, {precision}:"]
    for name, stage in training[precision]["stages"].items():
        steps = f"{training[precision]['iterations']} steps × {stage['step_seconds']:.1f} s"
        report.append(
            f"  stage {name}: {stage['epochs']} epochs × (embedding {stage['embedding_seconds']:,.0f} s + clustering "
            f"{stage['clustering_seconds']:,.0f} s + {steps}) = {stage['hours']:,.0f} h; "
            f"a step takes {short(stage['step_gib'])} GiB"
        )
    report.append(
        f"  together {training[precision]['hours']:,.0f} h, which is {training[precision]['hours'] / 24:.1f} days"
    )
    return report


class _Clock(Silent):
    """Notes the processor time at the end of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """After a step."""
        self.ends.append(time.process_time())


def _settings(size: Size, *overrides: str) -> Settings:
    """The preset `sysu` with the network and images of this size; labels are given, not found by clustering."""
    shape = (f"data.height={size.height}", f"data.width={size.width}", f"model.architecture={size.architecture}")
    handed_in = ("method.labels=identities", "batch.sampler=blind", "model.weights=none")
    return load_preset("sysu", [*shape, *handed_in, "engine.accelerator=cpu", *overrides])


def _draw_images(folder: Path, size: Size, number: int) -> TrainingSet:
    """Images of random noise, `number` of each modality."""
    random = np.random.default_rng(0)
    records = []
    for modality in Modality:
        for place in range(number):
            path = folder / f"{modality}-{place}.png"
            Image.fromarray(random.integers(0, 256, (size.height, size.width, 3), dtype=np.uint8)).save(path)
            records.append(ImageRecord(path, modality))
    return make_training_set(records)[0]


def _pixels(size: Size, number: int) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (number, 3, size.height, size.width), dtype=torch.uint8, generator=drawn)


if __name__ == "__main__":
    main()
