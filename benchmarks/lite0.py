"""What does EfficientNet-Lite0 cost on a processor, beside the narrow network?

    python benchmarks/lite0.py [--quick] [--images 96]

Milliseconds of processor time per image, on one thread: of a training step (forward and backward in training mode), and
of one pass of the embedding. The best of three, each network at the size of its preset, random weights and images.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import keep_to_threads
from benchmarks.showing import markdown_table

from pclhd.models.architecture import LITE0, NARROW, AnyArchitecture
from pclhd.models.backbones import new_network
from pclhd.models.two_stream import to_channels_last

NETWORKS: dict[str, tuple[AnyArchitecture, int, int]] = {
    "narrow": (NARROW, 96, 48),
    "efficientnet_lite0": (LITE0, 128, 64),
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four images")
    parser.add_argument("--images", type=int, default=96, help="images of a pass")
    arguments = parser.parse_args()
    keep_to_threads(1)
    number = 4 if arguments.quick else arguments.images
    rows = []
    for name, (architecture, height, width) in NETWORKS.items():
        for precision, half in (("32-true", None), ("bf16-mixed", torch.bfloat16)):
            step, embedding = measure(architecture, height, width, number, half)
            rows.append([f"`{name}`", f"{height} × {width}", precision, f"{step:.1f}", f"{embedding:.1f}"])
    print(markdown_table(["network", "images", "precision", "step, ms", "embedding, ms"], rows, words=3))


def measure(
    architecture: AnyArchitecture, height: int, width: int, number: int, half: torch.dtype | None
) -> tuple[float, float]:
    """Milliseconds per image of a training step, and of an embedding pass."""
    network = new_network(architecture)
    to_channels_last(network)
    images = torch.randn(number, 3, height, width).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
            embedding = network(images, None).embedding
        embedding.float().square().mean().backward()

    def embed() -> None:
        with torch.inference_mode(), torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
            network(images, None)

    network.train()
    trained = best_of_three(step)
    network.eval()
    return 1000 * trained / number, 1000 * best_of_three(embed) / number


def best_of_three(act: Callable[[], None]) -> float:
    """Processor seconds of the fastest of three calls after a first."""
    act()
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        act()
        seconds.append(time.process_time() - begin)
    return min(seconds)


if __name__ == "__main__":
    main()
