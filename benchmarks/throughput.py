"""How much faster is a training step than in a loop written as this field writes it?

    python benchmarks/throughput.py [--quick] [--json FILE] [--recipes pclhd released] [--stages 1 2] [--steps 3]
                                    [--clusters 4] [--instances 4] [--precision auto] [--threads N]
    python benchmarks/throughput.py --profile [the same words]

ResNet-50 AGW at 288 × 144, from random weights. Ours is a training (`engine.trainer.train`) with the preset `sysu` and
given pseudo labels, its images in memory. The plain loop (`baselines/plain_step.py`) makes the same passes through the
same network, with the same batches and start weights: in 32 bits, channels-first, opening the JPEG files in as many
workers as threads. It reads its batches while it computes, and its time includes this.

The two run in separate processes and take turns, step by step, so that other programs on the machine affect both. The
first turn of each does not count; figures are medians. "cpu s" is processor time, summed over all cores and workers. On
a busy machine it says more than wall time, with one thread (`--threads 1`); several threads spend some of it waiting
for each other. Embedding is that of an epoch, mirror images included.

A step of stage I passes 3 × clusters × instances images forward and backward, since a visible image enters in two
views; one of stage II does so twice and passes the first of them through the momentum network. --quick measures the
narrow network at 96 × 48: it shows that this file works. --profile shows instead where one of our steps spends its
time: the operations that torch's profiler recorded, each without those it calls.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.baselines.plain_step import (
    Batch,
    Loader,
    PlainNetwork,
    PlainNumbers,
    PlainTraining,
    embed_as_the_field_does,
)
from benchmarks.measuring import in_a_process, keep_to_threads, machine
from benchmarks.showing import markdown_table, short, write_json

from pclhd.clustering.matching import Matching
from pclhd.config import Settings, load_preset
from pclhd.data.images import load_images
from pclhd.data.records import ImageRecord, Modality, TrainingSet, make_training_set
from pclhd.devices import keep_freed_memory
from pclhd.engine.labelling import EpochLabels, LabelRequest
from pclhd.engine.networks import autocast_type, resolve_precision
from pclhd.engine.observer import Silent
from pclhd.engine.position import Position
from pclhd.engine.trainer import train
from pclhd.models.embed import embed_images
from pclhd.models.two_stream import ARCHITECTURES, TwoStreamNetwork, to_channels_last

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """What to measure.

    Attributes:
        architecture: The network.
        height: Pixels.
        width: Pixels.
        clusters: Of a batch, for each modality.
        instances: Images of each.
        steps: Turns that are measured.
        embedded: Images to embed.
        precision: Of our training; the plain loop uses 32 bits.
        workers: Processes that read the plain loop's images.
    """

    architecture: str
    height: int
    width: int
    clusters: int
    instances: int
    steps: int
    embedded: int
    precision: str
    workers: int


def main() -> None:
    """Measure, print the table, write the figures."""
    arguments = parse()
    keep_to_threads(arguments.threads)
    quick = arguments.quick
    task = Task(
        *(("narrow", 96, 48) if quick else ("resnet50", 288, 144)),
        clusters=arguments.clusters,
        instances=arguments.instances,
        steps=arguments.steps,
        embedded=arguments.embedded,
        precision=arguments.precision,
        workers=arguments.threads or os.cpu_count() or 1,
    )
    if arguments.profile:
        for recipe in arguments.recipes:
            for stage in arguments.stages:
                print(in_a_process(profile, task, recipe, stage), flush=True)
        return
    rows: list[dict[str, Any]] = []
    for recipe in arguments.recipes:
        for stage in arguments.stages:
            rows.append(in_a_process(measure_steps, task, recipe, stage))
            print(f"{rows[-1]['what']}: {rows[-1]['ratio']:.2f}", file=sys.stderr)
    if task.embedded:
        rows.append(in_a_process(measure_embedding, task))
    print(as_markdown(rows))
    if arguments.json:
        content = {"benchmark": "throughput", "quick": quick, "machine": machine(), "task": vars(task), "rows": rows}
        write_json(arguments.json, content)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the narrow network at 96 × 48, one step")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--profile", action="store_true", help="show where one of our steps spends its time")
    parser.add_argument("--recipes", nargs="+", choices=["pclhd", "released"], default=["pclhd", "released"])
    parser.add_argument("--stages", nargs="+", type=int, choices=[1, 2], default=[1, 2])
    parser.add_argument("--steps", type=int, help="turns that are measured (default 3)")
    parser.add_argument("--clusters", type=int, default=4, help="of a batch, for each modality")
    parser.add_argument("--instances", type=int, default=4, help="images of each cluster")
    parser.add_argument("--embedded", type=int, help="images to embed (default 64; 0: none)")
    parser.add_argument("--precision", choices=["auto", "bf16-mixed", "32-true"], default="auto", help="ours")
    parser.add_argument("--threads", type=int, help="threads of each process (default: one per core)")
    arguments = parser.parse_args()
    if arguments.steps is None:
        arguments.steps = 1 if arguments.quick else 3
    if arguments.embedded is None:
        arguments.embedded = 16 if arguments.quick else 64
    return arguments


def measure_steps(task: Task, recipe: str, stage: int) -> dict[str, Any]:
    """Median seconds of our steps and of the plain loop's, made in turns."""
    settings = settings_of(task, recipe, stage)
    own, _ = own_labels(task)
    keep_freed_memory()  # as `pclhd train` does
    with TemporaryDirectory() as folder:
        images = draw_images(Path(folder), len(own))
        with _Opponent(partial(plain_steps, task, settings, stage, images), task.workers) as opponent:
            turns = _Turns(opponent)
            train(settings, images, Path(folder) / "run", turns, labeller=partial(label, own))
    return row_of(
        f"step, {recipe}, stage {'I' * stage}", turns.ours, turns.plain, images=3 * task.clusters * task.instances
    ) | {"precision": settings.engine.precision}


def plain_steps(
    task: Task, settings: Settings, stage: int, images: TrainingSet, pool: ProcessPoolExecutor
) -> Callable[[], object]:
    """A function that makes a step of the plain loop."""
    own, many = own_labels(task)
    loader = Loader(pool, task.workers, task.height, task.width)
    plain = PlainTraining(TwoStreamNetwork(ARCHITECTURES[task.architecture]), many, numbers_of(settings), stage, loader)
    return partial(plain.step, [batch_of(images, own, task)] * stage)


def own_labels(task: Task) -> tuple[Labels, int]:
    """Labels of each modality's images, for twice as many clusters as a batch has, and that number."""
    many = 2 * task.clusters
    return np.arange(many).repeat(task.instances), many


def label(own: Labels, request: LabelRequest) -> EpochLabels:
    """Each cluster has its partner."""
    clusters = np.unique(own)
    joint = np.concatenate([own, own]) if request.joint else None
    return EpochLabels(own, own, joint, Matching(clusters, clusters))


def profile(task: Task, recipe: str, stage: int, *, shown: int = 15) -> str:
    """A table of the operations of the fourth step, the slowest first.

    By then the process has allocated the memory it needs.
    """
    settings = settings_of(replace(task, steps=3), recipe, stage)
    own, _ = own_labels(task)
    observer = _Profile()
    keep_freed_memory()
    with TemporaryDirectory() as folder:
        images = draw_images(Path(folder), len(own))
        train(settings, images, Path(folder) / "run", observer, labeller=partial(label, own))
    operations = sorted(observer.profiler.key_averages(), key=lambda entry: -entry.self_cpu_time_total)
    whole = sum(entry.self_cpu_time_total for entry in operations)
    rows = [
        [f"`{entry.key}`", short(entry.count), f"{100 * entry.self_cpu_time_total / whole:.1f}"]
        for entry in operations[:shown]
    ]
    images_passed = 3 * task.clusters * task.instances
    title = f"{recipe}, stage {'I' * stage}, {settings.engine.precision}, {images_passed} images in a pass"
    return f"\n{title}\n\n" + markdown_table(["operation", "calls", "% of the time"], rows)


def measure_embedding(task: Task) -> dict[str, Any]:
    """Median seconds of embedding some images, in turns."""
    settings = settings_of(task, "pclhd", 1)
    half = autocast_type(settings)
    network = TwoStreamNetwork(ARCHITECTURES[task.architecture])
    to_channels_last(network)
    keep_freed_memory()
    clock, ours, theirs = Clock(), [], []
    with TemporaryDirectory() as folder:
        records = draw_images(Path(folder), task.embedded).images[: task.embedded]
        paths = [record.path for record in records]
        pixels = load_images(paths, task.height, task.width, resample="bicubic")
        with _Opponent(partial(plain_embedding, task, paths), task.workers) as opponent:
            for _ in range(task.steps + 1):
                clock.lap()
                embed_images(network, pixels, Modality.VISIBLE, renormalise=False, autocast_dtype=half)
                ours.append(clock.lap())
                theirs.append(opponent.turn())
    return row_of("embedding", ours, theirs, images=task.embedded) | {"precision": settings.engine.precision}


def plain_embedding(task: Task, paths: Sequence[Path], pool: ProcessPoolExecutor) -> Callable[[], object]:
    """A function that embeds the images as the plain loop does."""
    plain = PlainNetwork(TwoStreamNetwork(ARCHITECTURES[task.architecture]))
    return partial(embed_as_the_field_does, plain, paths, Loader(pool, task.workers, task.height, task.width))


Lap = tuple[float, float]


def row_of(what: str, ours: Sequence[Lap], plain: Sequence[Lap], *, images: int) -> dict[str, Any]:
    """Medians of the laps after the first, and their ratios."""
    wall, cpu = ([statistics.median(lap[kind] for lap in side[1:]) for side in (ours, plain)] for kind in (0, 1))
    return {
        "what": what,
        "images": images,
        "turns": len(ours) - 1,
        "seconds": wall[0],
        "plain_seconds": wall[1],
        "ratio": wall[1] / wall[0],
        "cpu_seconds": cpu[0],
        "plain_cpu_seconds": cpu[1],
        "cpu_ratio": cpu[1] / cpu[0],
    }


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with a row for each comparison."""
    titles = [
        "",
        "our precision",
        "images",
        "plain s",
        "ours s",
        "ratio",
        "plain cpu s",
        "ours cpu s",
        "ratio of cpu s",
    ]
    numbers = ("images", "plain_seconds", "seconds", "ratio", "plain_cpu_seconds", "cpu_seconds", "cpu_ratio")
    cells = [[row["what"], row["precision"], *(short(row[name]) for name in numbers)] for row in rows]
    return markdown_table(titles, cells, words=2)


def settings_of(task: Task, recipe: str, stage: int) -> Settings:
    """The preset `sysu` for one epoch of a stage; labels are given, not found by clustering."""
    shape = (f"data.height={task.height}", f"data.width={task.width}", f"model.architecture={task.architecture}")
    handed_in = ("method.labels=identities", "batch.sampler=blind", "model.weights=none")
    settings = load_preset(
        "sysu",
        [
            f"recipe={recipe}",
            *shape,
            *handed_in,
            "engine.accelerator=cpu",
            f"engine.precision={task.precision}",
            f"batch.clusters={task.clusters}",
            f"batch.instances={task.instances}",
            f"schedule.iterations={task.steps + 1}",
            f"schedule.stage1_epochs={int(stage == 1)}",
            f"schedule.stage2_epochs={int(stage == 2)}",
        ],
    )
    return resolve_precision(settings)


def numbers_of(settings: Settings) -> PlainNumbers:
    """The settings that the plain loop needs."""
    return PlainNumbers(
        learning_rate=settings.schedule.learning_rate,
        weight_decay=settings.schedule.weight_decay,
        ema_decay=settings.schedule.numbers().ema_decay,
        momentum=settings.memory.momentum,
        temperature=settings.memory.temperature,
        cross=settings.method.cross,
    )


def draw_images(folder: Path, number: int) -> TrainingSet:
    """JPEG files, `number` of each modality, smooth like photographs and 256 × 100 like person crops."""
    generator = np.random.default_rng(0)
    records = []
    for modality in Modality:
        for place in range(number):
            path = folder / f"{modality}-{place}.jpg"
            coarse = Image.fromarray(generator.integers(0, 256, (32, 12, 3), dtype=np.uint8))
            coarse.resize((100, 256), Image.Resampling.BICUBIC).save(path, quality=90)
            records.append(ImageRecord(path, modality, 1))
    return make_training_set(records)[0]


def batch_of(images: TrainingSet, labels: Labels, task: Task) -> Batch:
    """The first clusters of each modality."""
    number = task.clusters * task.instances
    paths = {
        modality: [record.path for record in images.images if record.modality is modality][:number]
        for modality in Modality
    }
    targets = torch.from_numpy(labels[:number])
    return paths[Modality.VISIBLE], targets, paths[Modality.INFRARED], targets


class Clock:
    """Wall time and processor time since the last call."""

    def __init__(self) -> None:
        self._last = self._now()

    def lap(self) -> Lap:
        """Both times since the last call; then both start from zero."""
        now, last = self._now(), self._last
        self._last = now
        return now[0] - last[0], now[1] - last[1]

    @staticmethod
    def _now() -> Lap:
        return time.perf_counter(), time.process_time() + seconds_of_children()


def seconds_of_children() -> float:
    """Processor seconds of the running child processes; 0 where the system does not report them."""
    me, total = str(os.getpid()), 0.0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == me:
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class _Profile(Silent):
    """Profiles the fourth step."""

    def __init__(self) -> None:
        self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """A step was made."""
        if step == 2:
            self.profiler.start()
        elif step == 3:
            self.profiler.stop()


Make = Callable[[ProcessPoolExecutor], Callable[[], object]]


class _Opponent:
    """The plain loop in a process of its own, with workers of its own; it does one thing per turn.

    Args:
        make: Called in that process, with the workers; returns the function to call in each turn.
        workers: Processes that read images.
    """

    def __init__(self, make: Make, workers: int) -> None:
        context = get_context("spawn")
        self._mine, self._other = context.Pipe()
        self._process = context.Process(target=_play, args=(self._other, make, workers))

    def __enter__(self) -> Self:
        self._process.start()
        self._other.close()  # so that waiting for a process that died ends
        self._mine.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._mine.send(False)
        self._process.join()

    def turn(self) -> Lap:
        """Let it take its turn, wait for it, and return how long it took."""
        self._mine.send(True)
        return cast(Lap, self._mine.recv())


def _play(connection: Connection, make: Make, workers: int) -> None:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        act = make(pool)
        connection.send("ready")
        clock = Clock()
        while connection.recv():
            clock.lap()
            act()
            connection.send(clock.lap())


class _Turns(Silent):
    """Lets the plain loop make a step after each of ours, and notes the time of both."""

    def __init__(self, opponent: _Opponent) -> None:
        self._opponent = opponent
        self.ours: list[Lap] = []
        self.plain: list[Lap] = []
        self._clock = Clock()

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """Note the time of our step, and let the plain loop make one."""
        self.ours.append(self._clock.lap())
        self.plain.append(self._opponent.turn())
        self._clock.lap()


if __name__ == "__main__":
    main()
