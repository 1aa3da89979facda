"""How much memory a training needs, computed before it takes any (ours).

The largest part, the activations that the backward pass needs, is counted on a copy of the network without storage.
The rest follows from the numbers of images, weights and neighbours. Allocators and libraries need more than this, and
not all parts are at their peak at once; tests compare the sum with what a training took.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pclhd.config import Settings
from pclhd.engine.networks import autocast_type, runs_on_gpu
from pclhd.engine.position import position_of
from pclhd.engine.term_weights import TermWeights
from pclhd.errors import UserError
from pclhd.models.backbones import build_network
from pclhd.models.embed import TOGETHER_ON_CPU
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.pair import Pair
from pclhd.threads import usable_memory

GIB = 2**30

#: A training is refused only if it needs this many times more than there is, since the estimate may be too high.
SURE = 1.5

_LIBRARIES = 400 * 2**20  # where the system does not report it
_PRODUCTS = 2**27  # the block of distances of the neighbour search
_BYTES_PER_NEIGHBOUR = 50  # index, distance, and entries of the sparse similarity
_COPIES_OF_EMBEDDINGS = 4
_BYTES_PER_WEIGHT = 20  # weight, gradient, two averages of Adam, weight of the momentum network

_ADVICE = {
    "images": "lower data.height and data.width, or set data.cache",
    "weights": "choose a smaller model.architecture",
    "batch": "lower batch.clusters and batch.instances, or data.height and data.width",
    "embedding": "lower data.height and data.width",
    "clustering": "lower clustering.k1 and clustering.joint_k1",
}


@dataclass(frozen=True)
class MemoryNeeded:
    """Bytes that a training needs, by what takes them.

    Attributes:
        libraries: Held by the process before it begins.
        images: The decoded training images; 0 if they are mapped from a cache.
        weights: Networks, gradients and optimiser.
        batch: The largest step: the images of a batch, and what the backward pass needs of each.
        embedding: The images that are embedded together.
        clustering: Embeddings, neighbours and similarities.
    """

    libraries: int
    images: int
    weights: int
    batch: int
    embedding: int
    clustering: int

    @property
    def total(self) -> int:
        """The peak: steps, embedding and clustering take turns."""
        return self.libraries + self.images + self.weights + max(self.batch, self.embedding, self.clustering)

    @property
    def largest(self) -> str:
        """The part that settings can make smaller and that takes most."""
        return max(_ADVICE, key=lambda name: int(getattr(self, name)))


def memory_needed(settings: Settings, images: Pair[int], *, processes: int = 1) -> MemoryNeeded:
    """What a training with these settings needs in each process.

    Args:
        settings: With a precision other than ``auto``, and with sizes of the clustering as numbers.
        images: Visible and infrared training images.
        processes: Processes that share a batch.

    Raises:
        UserError: There is no such network.
    """
    network = build_network(settings.model).to("meta")
    height, width = settings.data.height, settings.data.width
    pixels = 3 * height * width
    size = settings.batch.numbers()
    batch = size.clusters * size.instances
    rows, clustering = sum(images), settings.clustering
    neighbours = max(_at_most(clustering.k1, rows), _at_most(clustering.joint_k1, rows))
    activations, widest = count_activations(network, height, width, autocast_type(settings))
    in_a_step = 3 * batch * (2 if _joint_shares_a_step(settings) else 1)  # two views of visible images, one of infrared
    return MemoryNeeded(
        libraries=_resident() or _LIBRARIES,
        images=0 if settings.data.cache is not None else rows * pixels,
        weights=_BYTES_PER_WEIGHT * sum(parameter.numel() for parameter in network.parameters()),
        batch=(in_a_step * (activations + 4 * pixels) + 3 * widest * 3 * batch) // processes,
        embedding=min(TOGETHER_ON_CPU, max(images)) * (3 * widest + 8 * pixels),
        clustering=rows * (_COPIES_OF_EMBEDDINGS * 4 * network.embedding_size + _BYTES_PER_NEIGHBOUR * neighbours)
        + min(_PRODUCTS, 4 * rows**2),
    )


def check_memory(needed: MemoryNeeded, settings: Settings) -> str | None:
    """Refuse a training that cannot fit into memory.

    Returns:
        A warning if it may not fit.

    Raises:
        UserError: It needs far more memory than there is.
    """
    on_gpu = runs_on_gpu(settings)
    where = "the GPU" if on_gpu else "this machine"
    most = torch.cuda.get_device_properties(0).total_memory if on_gpu else usable_memory()
    total = needed.weights + max(needed.batch, needed.embedding) if on_gpu else needed.total
    if most is None or total <= most:
        return None
    largest = needed.largest
    words = (
        f"about {total / GIB:,.1f} GiB of memory ({largest} {getattr(needed, largest) / GIB:,.1f} GiB), and {where} "
        f"allows {most / GIB:.1f} GiB; {_ADVICE[largest]}"
    )
    if total > SURE * most:
        raise UserError(f"the training needs {words}")
    return f"the training may need {words}"


def count_activations(network: TwoStreamNetwork, height: int, width: int, dtype: torch.dtype | None) -> tuple[int, int]:
    """Bytes for each image: what a forward pass in training keeps for the backward pass, and its largest output.

    Args:
        network: On the device ``meta``; its weights are converted.
        height: Pixels.
        width: Pixels.
        dtype: Type that convolutions compute in; None for 32 bits.

    Returns:
        Both; zeros for a network that cannot run without storage.
    """
    if dtype is not None:
        network.to(dtype)

    def forward(visible: int) -> None:
        images = torch.empty(visible, 3, height, width, device="meta", dtype=dtype)
        network(images, None)

    network.train()
    with suppress(NotImplementedError, RuntimeError):
        # The difference leaves out the weights, which are kept, too.
        kept = _kept_by(lambda: forward(4)) - _kept_by(lambda: forward(2))
        return kept // 2, _largest_output(network, lambda: forward(2)) // 2
    return 0, 0


def _kept_by(forward: Callable[[], None]) -> int:
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def _largest_output(network: nn.Module, forward: Callable[[], None]) -> int:
    largest = 0

    def look(_: nn.Module, __: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel() * output.element_size())

    handles = [module.register_forward_hook(look) for module in network.modules()]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return largest


def _joint_shares_a_step(settings: Settings) -> bool:
    """Whether a step keeps the activations of two batches: own clusters and joint ones."""
    if settings.method.joint_step == "own" or settings.epochs == 0:
        return False
    last = position_of(settings, settings.epochs - 1)
    return TermWeights.at(settings.method, stage=last.stage, progress=last.progress).joint > 0


def _at_most(size: int | str, rows: int) -> int:
    return rows if isinstance(size, str) else min(size, rows)


def _resident() -> int | None:
    """Bytes that this process holds; None where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    import resource

    return pages * resource.getpagesize()
