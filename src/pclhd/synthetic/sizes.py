"""How many people, cameras and images each scale of a layout has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pclhd.synthetic.plan import Scale
from pclhd.synthetic.world import INFRARED_CAMERAS, VISIBLE_CAMERAS


@dataclass(frozen=True, slots=True)
class Cells:
    """Distribution of the images of one split and modality over people and cameras.

    Attributes:
        cameras: Camera numbers.
        per_cell: Average number of images per person and camera, used if `images` is None.
        attendance: Share of (person, camera) pairs that exist, used if `cells` is None.
        images: Exact number of images, or None.
        cells: Exact number of (person, camera) pairs, or None.
        even: Whether all pairs have the same number of images; otherwise it varies by up to a half.
    """

    cameras: Sequence[int]
    per_cell: int
    attendance: float
    images: int | None = None
    cells: int | None = None
    even: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of people and images for one scale of the SYSU-MM01 or LLCM layout."""

    train: int
    val: int
    test: int
    train_visible: Cells
    train_infrared: Cells
    test_visible: Cells
    test_infrared: Cells


SIZE_OF_PICTURE = {Scale.TINY: (96, 48), Scale.SMALL: (96, 48), Scale.SYSU: (192, 96)}

SYSU_SIZES = {
    Scale.TINY: Size(
        train=9,
        val=3,
        test=6,
        train_visible=Cells(VISIBLE_CAMERAS, 2, 0.85),
        train_infrared=Cells(INFRARED_CAMERAS, 3, 0.9),
        test_visible=Cells(VISIBLE_CAMERAS, 2, 0.85, even=True),
        test_infrared=Cells(INFRARED_CAMERAS, 2, 0.9, even=True),
    ),
    Scale.SMALL: Size(
        train=300,
        val=100,
        test=100,
        train_visible=Cells(VISIBLE_CAMERAS, 5, 0.85),
        train_infrared=Cells(INFRARED_CAMERAS, 5, 0.9),
        test_visible=Cells(VISIBLE_CAMERAS, 3, 0.85, even=True),
        test_infrared=Cells(INFRARED_CAMERAS, 4, 0.9, even=True),
    ),
    # The counts published for SYSU-MM01: 22,258 + 11,909 training images, 3,803 queries, 301 gallery folders.
    Scale.SYSU: Size(
        train=296,
        val=99,
        test=96,
        train_visible=Cells(VISIBLE_CAMERAS, 17, 0.85, images=22_258),
        train_infrared=Cells(INFRARED_CAMERAS, 17, 0.9, images=11_909),
        test_visible=Cells(VISIBLE_CAMERAS, 20, 0.8, cells=301, even=True),
        test_infrared=Cells(INFRARED_CAMERAS, 20, 0.9, images=3_803),
    ),
}

_LLCM_VISIBLE = tuple(range(1, 10))
_LLCM_INFRARED = (1, 2, 4, 5, 6, 7, 8, 9)


def _llcm_size(train: int, test: int, per_cell: int) -> Size:
    visible, infrared = Cells(_LLCM_VISIBLE, per_cell, 0.4), Cells(_LLCM_INFRARED, per_cell, 0.4)
    return Size(train, 0, test, visible, infrared, visible, infrared)


LLCM_SIZES = {
    Scale.TINY: _llcm_size(12, 6, 2),
    Scale.SMALL: _llcm_size(300, 100, 4),
    Scale.SYSU: _llcm_size(713, 351, 6),
}


def resize(size: Size, people: int | None) -> Size:
    """The same scale with another number of training people; validation keeps its share."""
    if people is None or people == size.train + size.val:
        return size
    val = min(people - 1, round(people * size.val / (size.train + size.val)))
    old = size.train + size.val

    def shrunk(cells: Cells) -> Cells:
        images = None if cells.images is None else max(1, round(cells.images * people / old))
        return Cells(cells.cameras, cells.per_cell, cells.attendance, images, cells.cells, cells.even)

    return Size(
        people - val,
        val,
        size.test,
        shrunk(size.train_visible),
        shrunk(size.train_infrared),
        size.test_visible,
        size.test_infrared,
    )


def fill_cells(random: np.random.Generator, cells: Cells, identities: Sequence[int]) -> dict[tuple[int, int], int]:
    """Number of images for each existing (person, camera) pair; every person has at least one camera."""
    if not identities:
        return {}
    pairs = [(identity, camera) for identity in identities for camera in cells.cameras]
    sure = {(identity, cells.cameras[int(random.integers(len(cells.cameras)))]) for identity in identities}
    wanted = cells.cells if cells.cells is not None else round(cells.attendance * len(pairs))
    rest = [pair for pair in pairs if pair not in sure]
    selected = random.permutation(len(rest))[: max(0, wanted - len(sure))]
    present = sorted(sure | {rest[int(position)] for position in selected})
    if cells.even and cells.images is None:
        return dict.fromkeys(present, cells.per_cell)
    if cells.images is None:
        spread = cells.per_cell // 2
        extra = random.integers(-spread, spread + 1, len(present))
        return {pair: cells.per_cell + int(more) for pair, more in zip(present, extra, strict=True)}
    return dict(zip(present, _share_out(random, cells.images, len(present)), strict=True))


def _share_out(random: np.random.Generator, total: int, parts: int) -> list[int]:
    """Distribute `total` images over `parts` folders, unevenly, at least one each."""
    if total < parts:
        raise ValueError(f"{total} images cannot fill {parts} folders")
    weights = random.uniform(0.6, 1.4, parts)
    counts = 1 + np.floor((total - parts) * weights / weights.sum()).astype(np.int64)
    counts[random.permutation(parts)[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]
