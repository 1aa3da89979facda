"""Check pclhd on one GPU within ten minutes: tests, equality with the processor, speed, and one training.

    python scripts/gpu_check.py --json gpu.json                       # one GPU
    python scripts/gpu_check.py --json cpu.json --quick --device cpu  # that this file works; its figures mean nothing

It needs a checkout of pclhd (`src` is put on the path; nothing needs to be installed), Python 3.11 or newer and these
packages: torch (for the GPU), numpy, scipy, scikit-learn, numba, pillow, pydantic, pyyaml, lightning-fabric,
safetensors. The tests also need pytest; without it they are left out. It uses no network.

Parts, in this order; the file is written after each, so a kill keeps what was measured:

* `tests`: those with the mark `gpu`.
* `equality`: embeddings and neighbours on the device and on the processor, both in 32 bits; and how far the gradients
  of both are from the processor's in 64 bits.
* `steps`: seconds of a training step of the AGW ResNet-50 (288 × 144, 8 × 16 images of each modality, recipe pclhd) in
  both stages, beside a plain loop: the same network, views and optimiser on images that are already on the device, with
  one loss and nothing else. In turns, in one process. The share of the peak is the operations of the passes of stage I
  (counted by torch), divided by the seconds and by the fastest square matrix product measured here.
* `epoch`: an epoch of stage II at the size of SYSU-MM01 (22,258 visible and 11,909 infrared images): embedding random
  images, searching and clustering made-up features, and 200 of the steps above.
* `training`: one training and evaluation on the synthetic benchmark at scale small.

A part that does not begin before `--minutes` are over is left out. Exit code 1 if a part failed or differed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

NEEDED = {
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "numba": "numba",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "lightning_fabric": "lightning-fabric",
    "safetensors": "safetensors",
}
VISIBLE, INFRARED = 22_258, 11_909
STEPS_OF_AN_EPOCH = 200

#: Largest difference of embeddings between two devices in 32 bits.
EMBEDDING_TOLERANCE = 1e-3
#: Gradients of an untrained ResNet-50 are sensitive to the order of sums: in 32 bits the processor itself is a few
#: percent from what it computes in 64. A device may be this many times as far, or 1 %.
GRADIENT_RATIO, GRADIENT_TOLERANCE = 2.0, 1e-2


@dataclass(frozen=True)
class Task:
    """What to measure.

    Attributes:
        device: torch's name of the device.
        quick: Small sizes, which only show that everything runs.
        precision: Number format of the training.
    """

    device: str
    quick: bool
    precision: str
    architecture: str = field(init=False)
    shape: tuple[int, int] = field(init=False)
    clusters: int = field(init=False)
    instances: int = field(init=False)
    steps: int = field(init=False)
    share: int = field(init=False)

    def __post_init__(self) -> None:
        values = ("narrow", (96, 48), 2, 2, 1, 100) if self.quick else ("resnet50", (288, 144), 8, 16, 12, 1)
        for name, value in zip(
            ("architecture", "shape", "clusters", "instances", "steps", "share"), values, strict=True
        ):
            object.__setattr__(self, name, value)

    def synchronise(self) -> float:
        """Wait for the device, and return the time."""
        import torch

        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()


def main() -> int:
    """Run the parts, and write the figures."""
    arguments = parse()
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"error: these packages are missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    import torch

    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: torch finds no GPU here; --quick --device cpu shows that this file works", file=sys.stderr)
        return 2
    precision = "32-true" if arguments.quick else arguments.precision
    task = Task(arguments.device, arguments.quick, precision)
    content: dict[str, Any] = {"check": "gpu", "quick": task.quick, "machine": machine(task), "parts": {}}
    started, good = time.monotonic(), True
    parts: dict[str, Callable[[Task, Mapping[str, Any]], dict[str, Any]]] = {
        "tests": run_tests,
        "equality": compare_devices,
        "steps": measure_steps,
        "epoch": measure_epoch,
        "training": train_small,
    }
    for name, part in parts.items():
        if name not in arguments.parts:
            continue
        begun = time.monotonic()
        if begun - started > 60 * arguments.minutes:
            result: dict[str, Any] = {"left_out": f"{arguments.minutes:g} minutes were over"}
        else:
            try:
                result = part(task, content["parts"])
            except Exception as error:  # whatever happens on an unknown machine, the other parts still run
                result = {"good": False, "error": f"{type(error).__name__}: {error}"[:500]}
        result["seconds_of_part"] = round(time.monotonic() - begun, 2)
        good &= result.get("good", True)
        content["parts"][name] = result
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
        print(f"{name}: {json.dumps(result)}", flush=True)
    return 0 if good else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="write the figures to this file")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--precision", default="bf16-mixed", choices=["bf16-mixed", "32-true", "16-mixed"])
    parser.add_argument("--minutes", type=float, default=8, help="no part begins after that (default 8)")
    names = ["tests", "equality", "steps", "epoch", "training"]
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    return parser.parse_args()


def machine(task: Task) -> dict[str, Any]:
    """The device and the versions."""
    import torch

    card = torch.cuda.get_device_name() if task.device == "cuda" else None
    facts = {"card": card, "cuda": torch.version.cuda, "torch": torch.__version__, "python": platform.python_version()}
    return facts | {"cores": os.cpu_count(), "precision": task.precision}


def run_tests(task: Task, _: Mapping[str, Any]) -> dict[str, Any]:
    """The tests with the mark `gpu`; on a processor they are collected and skipped."""
    if importlib.util.find_spec("pytest") is None:
        return {"left_out": "pytest is not installed"}
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/test_gpu.py"]
    # Packages may lie in a folder of their own, so it is kept.
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=environment, timeout=240)
    last = ran.stdout.strip().splitlines()[-1:] or [ran.stderr.strip()[-200:]]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last[0])}
    good = ran.returncode == 0 and (task.device == "cpu" or counts.get("passed", 0) > 0)
    return {"good": good, **counts} | ({} if good else {"output": (ran.stdout + ran.stderr)[-2000:]})


def compare_devices(task: Task, _: Mapping[str, Any]) -> dict[str, Any]:
    """The largest differences between the device and the processor in 32 bits."""
    import numpy as np
    import torch

    from pclhd.clustering.neighbours import nearest_neighbours
    from pclhd.data.records import Modality
    from pclhd.models.embed import embed_images
    from pclhd.models.two_stream import ARCHITECTURES, TwoStreamNetwork

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    pixels = torch.randint(0, 256, (16, 3, *task.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = TwoStreamNetwork(ARCHITECTURES[task.architecture])
    weights = torch.randn(len(pixels), network.embedding_size, generator=torch.Generator().manual_seed(1))

    def gradients(device: str, kind: torch.dtype = torch.float32) -> torch.Tensor:
        own = deepcopy(network).to(device, kind).train()
        # The pooling before it is always in 32 bits.
        own.neck.register_forward_pre_hook(lambda _, given: (given[0].to(kind),))
        images = pixels.to(device, kind) / 128 - 1
        # Weights of its own for each number: sums over a batch say nothing, since batch norm fixes them.
        (own(images[:8], images[8:]).embedding * weights.to(device, kind)).mean().backward()
        named = {name: one.grad.cpu().double() for name, one in own.named_parameters() if one.grad is not None}
        return torch.cat([named[name].flatten() for name in sorted(named)])

    embeddings = [
        embed_images(deepcopy(network).to(device), pixels, Modality.INFRARED) for device in ("cpu", task.device)
    ]
    exact = gradients("cpu", torch.float64)
    processor, gradient = (float((gradients(one) - exact).norm() / exact.norm()) for one in ("cpu", task.device))
    features = np.random.default_rng(0).standard_normal((2000 // task.share + 200, 256)).astype(np.float32)
    tables = [nearest_neighbours(features, 20, device=device).index for device in ("cpu", task.device)]
    embedding = float((embeddings[0] - embeddings[1]).abs().max())
    equal = bool(np.array_equal(tables[0], tables[1]))
    return {
        "good": embedding < EMBEDDING_TOLERANCE
        and gradient < max(GRADIENT_TOLERANCE, GRADIENT_RATIO * processor)
        and equal,
        "embedding_difference": embedding,
        "gradient_error": gradient,
        "gradient_error_of_processor": processor,
        "neighbours_equal": equal,
    }


def measure_steps(task: Task, _: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of our steps and of the plain loop's, images per second, and the share of the measured peak."""
    peak = matrix_product_peak(task)
    plain = PlainLoop(task)
    seconds = {stage: steps_of(task, stage, plain)[1:] for stage in (1, 2)}
    ours = {stage: statistics.median(lap[0] for lap in laps) for stage, laps in seconds.items()}
    theirs = statistics.median(lap[1] for lap in seconds[1])
    images = 3 * task.clusters * task.instances
    return {
        "images_per_step": images,
        "seconds_stage1": ours[1],
        "seconds_stage2": ours[2],
        "seconds_plain": theirs,
        "ours_to_plain": ours[1] / theirs,
        "images_per_second_stage1": images / ours[1],
        "peak_tera_operations_per_second": peak / 1e12,
        "share_of_peak_stage1": plain.operations / ours[1] / peak,
        "share_of_peak_plain": plain.operations / theirs / peak,
        "gib": peak_gib(task),
    }


def matrix_product_peak(task: Task) -> float:
    """Operations per second of the fastest of some square matrix products in the number format of the training."""
    import torch

    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(task.precision, torch.float32)
    best = 0.0
    for size in (256,) if task.quick else (4096, 8192, 12288):
        left, right = (torch.randn(size, size, device=task.device, dtype=kind) for _ in range(2))
        times = 2 if task.quick else 20
        for _ in range(times):  # until clocks and libraries are ready
            left @ right
        begin = task.synchronise()
        for _ in range(times):
            left @ right
        best = max(best, times * 2 * size**3 / (task.synchronise() - begin))
    return best


class PlainLoop:
    """The same network, views and optimiser, with one loss, on images that are already on the device.

    Args:
        task: Sizes.
    """

    def __init__(self, task: Task) -> None:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from pclhd.models.two_stream import ARCHITECTURES, TwoStreamNetwork, to_channels_last

        self.task = task
        self.network = TwoStreamNetwork(ARCHITECTURES[task.architecture]).train()
        to_channels_last(self.network, torch.device(task.device))
        self.optimiser = torch.optim.Adam(self.network.parameters(), 3.5e-4)
        number = task.clusters * task.instances
        self.images = [torch.randn(part * number, 3, *task.shape, device=task.device) for part in (2, 1)]
        self.labels = torch.arange(task.clusters, device=task.device).repeat_interleave(task.instances).repeat(3)
        self.rows = torch.randn(64, self.network.embedding_size, device=task.device)
        with FlopCounterMode(display=False) as counter:
            self.step()
        self.operations = counter.get_total_flops()

    def step(self) -> None:
        """One step."""
        import torch
        from torch.nn import functional

        half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.task.precision)
        with torch.autocast(self.task.device, dtype=half or torch.bfloat16, enabled=half is not None):
            embedding = self.network(*self.images).embedding
        scores = functional.normalize(embedding.float()) @ functional.normalize(self.rows).T
        loss = functional.cross_entropy(scores / 0.05, self.labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()


def steps_of(task: Task, stage: int, plain: PlainLoop) -> list[tuple[float, float]]:
    """Seconds of each of our steps in a stage, and of a step of the plain loop after it."""
    from benchmarks.throughput import draw_images, label, own_labels

    from pclhd.config import load_preset
    from pclhd.engine.observer import Silent
    from pclhd.engine.position import Position
    from pclhd.engine.trainer import train

    overrides = {
        "data.height": task.shape[0],
        "data.width": task.shape[1],
        "model.architecture": task.architecture,
        "model.weights": "none",
        "method.labels": "identities",
        "batch.sampler": "blind",
        "batch.clusters": task.clusters,
        "batch.instances": task.instances,
        "engine.accelerator": task.device,
        "engine.precision": task.precision,
        "schedule.iterations": task.steps + 1,
        "schedule.stage1_epochs": int(stage == 1),
        "schedule.stage2_epochs": int(stage == 2),
    }
    settings = load_preset("sysu", [f"{key}={value}" for key, value in overrides.items()])
    laps: list[tuple[float, float]] = []

    class Turns(Silent):
        """Notes the time of our step, and makes one of the plain loop."""

        last = 0.0

        def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
            """A step was made."""
            ours = task.synchronise()
            plain.step()
            theirs = task.synchronise()
            laps.append((ours - self.last, theirs - ours))
            self.last = theirs

    own, _ = own_labels(task)  # type: ignore[arg-type]  # it reads clusters and instances only
    with TemporaryDirectory() as folder:
        images = draw_images(Path(folder), len(own))
        train(settings, images, Path(folder) / "run", Turns(), labeller=partial(label, own))
    return laps


def measure_epoch(task: Task, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of the parts of an epoch of stage II at the size of SYSU-MM01 (a hundredth of it if quick)."""
    import numpy as np
    import torch
    from benchmarks.made_up import crowd_of, made_up_features

    from pclhd.clustering.neighbours import nearest_neighbours
    from pclhd.config import load_preset
    from pclhd.data.records import Modality
    from pclhd.engine.labelling import LabelRequest, label_epoch
    from pclhd.models.embed import embed_images
    from pclhd.models.two_stream import ARCHITECTURES, TwoStreamNetwork, to_channels_last
    from pclhd.pair import Pair

    counts = VISIBLE // task.share, INFRARED // task.share
    network = TwoStreamNetwork(ARCHITECTURES[task.architecture])
    to_channels_last(network, torch.device(task.device))
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(task.precision)
    generator = torch.Generator().manual_seed(0)
    seconds = {"embedding": 0.0}
    for modality, count in zip(Modality, counts, strict=True):
        for start in range(0, count, 2048):
            size = (min(2048, count - start), 3, *task.shape)
            pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
            begin = task.synchronise()
            embed_images(network, pixels, modality, autocast_dtype=half)
            seconds["embedding"] += task.synchronise() - begin
    crowd = crowd_of(sum(counts), network.embedding_size, cameras=1)
    features = made_up_features(crowd, np.random.default_rng(0)).features
    pair = Pair(features[: counts[0]], features[counts[0] :])
    settings = load_preset("sysu", [])
    nearest = partial(nearest_neighbours, device=task.device)
    searched = 0.0

    def search(*given: Any, **options: Any) -> Any:
        nonlocal searched
        begin = task.synchronise()
        found = nearest(*given, **options)
        searched += task.synchronise() - begin
        return found

    small = pair.map(lambda part: part[: min(len(part), 300)])
    label_epoch(LabelRequest(small, settings.clustering, settings.method, True, nearest=search))  # compiles
    searched = 0.0
    begin = task.synchronise()
    label_epoch(LabelRequest(pair, settings.clustering, settings.method, True, nearest=search))
    whole = task.synchronise() - begin
    seconds |= {"search": searched, "clustering": whole - searched}
    if "seconds_stage2" in parts.get("steps", {}):
        seconds["steps"] = STEPS_OF_AN_EPOCH * parts["steps"]["seconds_stage2"]
    return {"images": sum(counts), "seconds": seconds, "seconds_together": sum(seconds.values())}


def train_small(task: Task, _: Mapping[str, Any]) -> dict[str, Any]:
    """Train and evaluate on the synthetic benchmark."""
    from pclhd.config import load_preset
    from pclhd.runs.folder import RunFolder
    from pclhd.synthetic import write_synthetic
    from pclhd.workflows.evaluate import evaluate_run
    from pclhd.workflows.train import open_data, train_run

    scale, preset = ("tiny", "tiny") if task.quick else ("small", "synthetic")
    with TemporaryDirectory() as folder:
        data, run = Path(folder) / "data", RunFolder(Path(folder) / "run")
        begin = time.perf_counter()
        write_synthetic(data, scale="tiny" if task.quick else "small", workers=1 if task.quick else None)
        drawn = time.perf_counter()
        overrides = [f"engine.accelerator={task.device}", f"engine.precision={task.precision}"]
        settings = load_preset(preset, overrides, root=data)
        dataset = open_data(settings)
        train_run(settings, dataset, run)
        trained = time.perf_counter()
        results = evaluate_run(run, dataset, device=task.device)
        done = time.perf_counter()
    rank1 = {row.weights: row.rank1.mean for row in results.rows if row.search == results.rows[0].search}
    return {
        "scale": scale,
        "seconds": {"drawing": drawn - begin, "training": trained - drawn, "evaluation": done - trained},
        "rank1": rank1,
    }


def peak_gib(task: Task) -> float | None:
    """Most memory that torch held on the card, in GiB."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**30 if task.device == "cuda" else None


if __name__ == "__main__":
    sys.exit(main())
