"""Embeddings of images in memory: batches, mirror images, unit length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pclhd.data.normalise import Channels, normalise
from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.models.two_stream import TwoStreamNetwork

#: Images in a forward pass on a CPU.
TOGETHER_ON_CPU = 64
_TOGETHER_ON_GPU = 256


def embed_images(
    network: TwoStreamNetwork,
    images: NDArray[np.uint8] | Tensor,
    modality: Modality,
    *,
    batch_size: int | None = None,
    flip: bool = True,
    renormalise: bool = True,
    device: torch.device | str | None = None,
    autocast_dtype: torch.dtype | None = None,
    mean: Channels | None = None,
    std: Channels | None = None,
) -> Tensor:
    """Embed images of one modality, each averaged with its mirror image (released code).

    The network is in evaluation mode during the call; afterwards, each submodule has its previous mode.

    Args:
        network: The encoder.
        images: (N, 3, H, W) uint8, red, green, blue.
        modality: Modality of the images, which selects the stem.
        batch_size: Images per forward pass; None takes 256 on a GPU and 64 on a CPU, whose caches hold no more. It
            affects speed and memory, not the result.
        flip: Average the unit-length embeddings of the image and of its mirror image.
        renormalise: Scale that average to unit length, as for retrieval. For clustering, the released code does not.
        device: Device for the computation; by default the network's. The network itself is not moved.
        autocast_dtype: Compute in this precision (``torch.bfloat16``, ``torch.float16``), or None for float32.
        mean: Mean per channel (`pclhd.data.normalise`); None for that of the network's start weights.
        std: Standard deviation per channel, likewise.

    Returns:
        (N, D) float32 on the CPU, rows in the order of the images.

    Raises:
        ValueError: The images are not (N, 3, H, W) uint8, or the batch size is not positive.
    """
    where = torch.device(device) if device is not None else next(network.parameters()).device
    if batch_size is None:
        batch_size = TOGETHER_ON_CPU if where.type == "cpu" else _TOGETHER_ON_GPU
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must have the shape (N, 3, height, width), not {tuple(images.shape)}")
    precision = nullcontext() if autocast_dtype is None else torch.autocast(where.type, dtype=autocast_dtype)
    mean, std = mean or network.image_mean, std or network.image_std
    embeddings = torch.empty(len(images), network.embedding_size)
    with torch.inference_mode(), evaluating(network), precision:
        for start in range(0, len(images), batch_size):
            # A copy, so that slices of memory-mapped and read-only arrays work.
            batch = normalise(_copy(images[start : start + batch_size]).to(where, non_blocking=True), mean, std)
            batch = batch.contiguous(memory_format=torch.channels_last)
            unit = _unit_embedding(network, batch, modality)
            if flip:
                unit = (unit + _unit_embedding(network, batch.flip(3), modality)) / 2
            if renormalise:
                unit = functional.normalize(unit)
            embeddings[start : start + batch_size] = unit.cpu()
    return embeddings


def require_finite(embeddings: NDArray[np.float32] | Tensor, model: Path) -> None:
    """Refuse embeddings that no search can use: weights can be finite and still overflow or vanish on the way.

    Args:
        embeddings: (N, D).
        model: The file of the weights, for the message.

    Raises:
        UserError: One of them is NaN or infinite, or zero and so without a direction.
    """
    rows = torch.as_tensor(embeddings)
    finite = rows.isfinite().all(dim=1)
    if not finite.all():
        raise UserError(
            f"{model}: {int((~finite).sum()):,} of {len(finite):,} images get NaN for an embedding, so these weights "
            "are unusable; train again, or import another checkpoint"
        )
    zero = (rows == 0).all(dim=1)
    if zero.any():
        raise UserError(
            f"{model}: {int(zero.sum()):,} of {len(zero):,} images get zeros for an embedding, so the network has "
            "collapsed; train again, or import another checkpoint"
        )


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards, also on an exception, each submodule has its previous mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _unit_embedding(network: TwoStreamNetwork, images: Tensor, modality: Modality) -> Tensor:
    output = network(images, None) if modality is Modality.VISIBLE else network(None, images)
    return functional.normalize(output.embedding.float())


def _copy(images: NDArray[np.uint8] | Tensor) -> Tensor:
    return images.clone() if isinstance(images, Tensor) else torch.tensor(images)
