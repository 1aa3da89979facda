"""Near-copies of images: the same picture saved again, scaled or compressed, found by a small hash of its pixels.

Byte-equal files have equal digests; a picture that was saved as JPEG or scaled has not. Its hash of 256 bits changes in
few of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BITS = 256
#: Hashes that differ in at most this many of 256 bits are near-copies (ours). On drawn people (`pclhd synth`, 500 test
#: images), a copy saved as JPEG of quality 90 differs in 3 bits (10 at most), one of twice the size and quality 60 in 8
#: (18 at most); with generator version 1, in 7 (20) and 16 (45). Other people before the same background come as near
#: as 35 bits among 1,740 × 10,383 pairs; with version 1, 45.
NEAR_COPY_BITS = 32

_HEIGHT, _WIDTH = 16, 8
_TOGETHER = 256
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def image_hashes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A hash of each image: whether brightness rises to the right, and downwards, on a coarse grid (ours).

    Args:
        pixels: (N, 3, H, W), red, green, blue.

    Returns:
        (N, 32) bytes, 256 bits.
    """
    packed = np.empty((len(pixels), _BITS // 8), dtype=np.uint8)
    for start in range(0, len(pixels), _TOGETHER):
        grey = np.einsum("nchw,c->nhw", pixels[start : start + _TOGETHER].astype(np.float32), _LUMA)
        right = np.diff(_shrink(grey, _HEIGHT, _WIDTH + 1), axis=2) > 0
        down = np.diff(_shrink(grey, _HEIGHT + 1, _WIDTH), axis=1) > 0
        bits = np.concatenate([right.reshape(len(grey), -1), down.reshape(len(grey), -1)], axis=1)
        packed[start : start + len(grey)] = np.packbits(bits, axis=1)
    return packed


def nearest_hashes(hashes: NDArray[np.uint8], among: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The nearest of some hashes to each hash.

    Args:
        hashes: (N, 32) bytes.
        among: (M, 32) bytes, M ≥ 1.

    Returns:
        (N,) rows of `among`, the first of several, and (N,) the number of bits that differ.
    """
    base = _signs(among)
    row = np.empty(len(hashes), dtype=np.int64)
    bits = np.empty(len(hashes), dtype=np.int64)
    for start in range(0, len(hashes), _TOGETHER):
        # Products of ±1 count equal bits less different ones, exactly.
        agreement = _signs(hashes[start : start + _TOGETHER]) @ base.T
        block = slice(start, start + len(agreement))
        row[block] = agreement.argmax(axis=1)
        bits[block] = (_BITS - agreement.max(axis=1)) / 2
    return row, bits


def _shrink(grey: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Mean brightness on a grid: (N, rows, columns)."""
    for axis, cells in ((1, rows), (2, columns)):
        edges = np.linspace(0, grey.shape[axis], cells + 1).round().astype(np.int64)
        # An image smaller than the grid has empty cells; `reduceat` fills them with the next pixel.
        sizes = np.maximum(np.diff(edges), 1).astype(np.float32)
        means = np.add.reduceat(grey, edges[:-1], axis=axis) / (sizes[:, None] if axis == 1 else sizes)
        grey = means.astype(np.float32, copy=False)
    return grey


def _signs(hashes: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
