"""Images, paths and lists of a data set in the layouts of SYSU-MM01, RegDB and LLCM.

A plan depends only on the seed and needs no drawing, so counts can be checked before and after writing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from pclhd.data.records import Modality
from pclhd.synthetic.seeds import Population, Stream, Version, generator
from pclhd.synthetic.world import INFRARED_CAMERAS, VISIBLE_CAMERAS, Shot


class Scale(StrEnum):
    """Size of the data set: for tests, for the demo, or as large as SYSU-MM01."""

    TINY = "tiny"
    SMALL = "small"
    SYSU = "sysu"


class Layout(StrEnum):
    """The data set whose folders and lists are imitated."""

    SYSU = "sysu"
    REGDB = "regdb"
    LLCM = "llcm"


class Split(StrEnum):
    """The use of an image."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    TRIALS = "trials"
    """RegDB: in each trial, a different half of the people is for training, the rest for testing."""


class HeldOut(StrEnum):
    """The purpose of the people in the test split: to choose by, or to report once at the end. No person is both."""

    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """A file to write: its path below the root, with forward slashes, and its image."""

    path: str
    shot: Shot
    split: Split


@dataclass(frozen=True, slots=True)
class Plan:
    """Contents of a data set.

    Attributes:
        images: The images.
        lists: Contents of text files by path below the root.
        people: Number of people.
        height: Image height in pixels.
        width: Image width in pixels.
    """

    images: tuple[PlannedImage, ...]
    lists: Mapping[str, str]
    people: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class _Cells:
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
class _Size:
    """Numbers of people and images for one scale of the SYSU-MM01 or LLCM layout."""

    train: int
    val: int
    test: int
    train_visible: _Cells
    train_infrared: _Cells
    test_visible: _Cells
    test_infrared: _Cells


_SIZE_OF_PICTURE = {Scale.TINY: (96, 48), Scale.SMALL: (96, 48), Scale.SYSU: (192, 96)}

_SYSU_SIZES = {
    Scale.TINY: _Size(
        train=9,
        val=3,
        test=6,
        train_visible=_Cells(VISIBLE_CAMERAS, 2, 0.85),
        train_infrared=_Cells(INFRARED_CAMERAS, 3, 0.9),
        test_visible=_Cells(VISIBLE_CAMERAS, 2, 0.85, even=True),
        test_infrared=_Cells(INFRARED_CAMERAS, 2, 0.9, even=True),
    ),
    Scale.SMALL: _Size(
        train=300,
        val=100,
        test=100,
        train_visible=_Cells(VISIBLE_CAMERAS, 5, 0.85),
        train_infrared=_Cells(INFRARED_CAMERAS, 5, 0.9),
        test_visible=_Cells(VISIBLE_CAMERAS, 3, 0.85, even=True),
        test_infrared=_Cells(INFRARED_CAMERAS, 4, 0.9, even=True),
    ),
    # The counts published for SYSU-MM01: 22,258 + 11,909 training images, 3,803 queries, 301 gallery folders.
    Scale.SYSU: _Size(
        train=296,
        val=99,
        test=96,
        train_visible=_Cells(VISIBLE_CAMERAS, 17, 0.85, images=22_258),
        train_infrared=_Cells(INFRARED_CAMERAS, 17, 0.9, images=11_909),
        test_visible=_Cells(VISIBLE_CAMERAS, 20, 0.8, cells=301, even=True),
        test_infrared=_Cells(INFRARED_CAMERAS, 20, 0.9, images=3_803),
    ),
}

_LLCM_VISIBLE = tuple(range(1, 10))
_LLCM_INFRARED = (1, 2, 4, 5, 6, 7, 8, 9)


def _llcm_size(train: int, test: int, per_cell: int) -> _Size:
    visible, infrared = _Cells(_LLCM_VISIBLE, per_cell, 0.4), _Cells(_LLCM_INFRARED, per_cell, 0.4)
    return _Size(train, 0, test, visible, infrared, visible, infrared)


_LLCM_SIZES = {
    Scale.TINY: _llcm_size(12, 6, 2),
    Scale.SMALL: _llcm_size(300, 100, 4),
    Scale.SYSU: _llcm_size(713, 351, 6),
}

_REGDB_TRAINING_PEOPLE = {Scale.TINY: 8, Scale.SMALL: 100, Scale.SYSU: 206}
_REGDB_TRIALS = 10
_REGDB_IMAGES = 10


def make_plan(
    layout: Layout,
    scale: Scale,
    *,
    seed: int,
    population: Population,
    people: int | None,
    one_modality_share: float,
    version: Version = 1,
    held_out: HeldOut | None = None,
) -> Plan:
    """Draw how many images each camera has of each person, and assign their paths.

    Args:
        layout: Folders and lists to imitate.
        scale: Size of the data set.
        seed: The data set's seed.
        population: Population of the people and cameras; part of the seed.
        people: Training people including validation, instead of the scale's number; the totals then follow from the
            same number of images per person. RegDB has the same number of test people.
        one_modality_share: Share of training people who appear in only one modality, half of them in each.
        version: Version of the generator.
        held_out: Which people are in the test split; None for version 1, and for RegDB, whose trials mix all people.
    """
    random = generator(seed, population, Stream.PLAN, version=version)
    others = None if held_out is None else _Others(held_out, generator(seed, population, Stream.PLAN, 1, version=version))
    height, width = _SIZE_OF_PICTURE[scale]
    if layout is Layout.REGDB:
        images, lists, total = _plan_regdb(random, people or _REGDB_TRAINING_PEOPLE[scale])
    elif layout is Layout.LLCM:
        images, lists, total = _plan_llcm(random, _resize(_LLCM_SIZES[scale], people), one_modality_share, others)
    else:
        images, lists, total = _plan_sysu(random, _resize(_SYSU_SIZES[scale], people), one_modality_share, others)
    return Plan(tuple(images), lists, total, height, width)


@dataclass(frozen=True, slots=True)
class _Others:
    """Who is held out of training, and the generator of their numbers of images, so that training does not depend on it."""

    kind: HeldOut
    random: np.random.Generator


_Drawn = tuple[list[PlannedImage], dict[str, str], int]


def _plan_sysu(random: np.random.Generator, size: _Size, share: float, others: _Others | None) -> _Drawn:
    """``camC/IIII/NNNN.jpg`` and ``exp/{train,val,test}_id.txt``."""
    members = _number_people(random, size, others)
    images = [
        PlannedImage(f"cam{shot.camera}/{shot.identity:04d}/{shot.index + 1:04d}.jpg", shot, split)
        for shot, split in _shoot(random, size, members, share, others)
    ]
    lists = {
        f"exp/{split}_id.txt": ",".join(str(identity) for identity in identities) + "\n"
        for split, identities in members.items()
    }
    return images, lists, sum(map(len, members.values()))


def _plan_llcm(random: np.random.Generator, size: _Size, share: float, others: _Others | None) -> _Drawn:
    """``vis``, ``nir``, ``test_{vis,nir}/camC/IIII``, ``idx/train_{vis,nir}.txt``, ``idx/test_id.txt``."""
    members = _number_people(random, size, others)
    labels = {identity: label for label, identity in enumerate(members[Split.TRAIN])}
    images: list[PlannedImage] = []
    rows: dict[str, list[str]] = {"vis": [], "nir": []}
    for shot, split in _shoot(random, size, members, share, others):
        kind = "vis" if shot.modality is Modality.VISIBLE else "nir"
        name = f"{shot.identity:04d}_c{shot.camera:02d}_s{shot.index + 1:06d}_f{shot.index + 1:04d}_{kind}.jpg"
        if split is Split.TEST:
            path = f"test_{kind}/cam{shot.camera}/{shot.identity:04d}/{name}"
        else:
            path = f"{kind}/{shot.identity:04d}/{name}"
            rows[kind].append(f"{path} {labels[shot.identity]}\n")
        images.append(PlannedImage(path, shot, split))
    lists = {f"idx/train_{kind}.txt": "".join(content) for kind, content in rows.items()}
    lists["idx/test_id.txt"] = ",".join(str(identity) for identity in members[Split.TEST]) + "\n"
    return images, lists, sum(map(len, members.values()))


def _plan_regdb(random: np.random.Generator, training_people: int) -> _Drawn:
    """``Visible``, ``Thermal`` and ``idx/{train,test}_{visible,thermal}_{trial}.txt``: ten images of each kind."""
    total = 2 * training_people
    images: list[PlannedImage] = []
    paths: dict[tuple[str, int], list[str]] = {}
    for folder, modality, camera in (("Visible", Modality.VISIBLE, 1), ("Thermal", Modality.INFRARED, 2)):
        for identity in range(1, total + 1):
            for index in range(_REGDB_IMAGES):
                name = f"person_{folder[0].lower()}_{identity:05d}_{index + 1}.bmp"
                path = f"{folder}/{identity}/{name}"
                images.append(PlannedImage(path, Shot(identity, modality, camera, index), Split.TRIALS))
                paths.setdefault((folder, identity), []).append(path)
    lists: dict[str, str] = {}
    for trial in range(1, _REGDB_TRIALS + 1):
        order = [int(number) + 1 for number in random.permutation(total)]
        halves = {"train": sorted(order[:training_people]), "test": sorted(order[training_people:])}
        for half, members in halves.items():
            for folder in ("Visible", "Thermal"):
                lists[f"idx/{half}_{folder.lower()}_{trial}.txt"] = "".join(
                    f"{path} {label}\n" for label, identity in enumerate(members) for path in paths[folder, identity]
                )
    return images, lists, total


def _resize(size: _Size, people: int | None) -> _Size:
    """The same scale with another number of training people; validation keeps its share."""
    if people is None or people == size.train + size.val:
        return size
    val = min(people - 1, round(people * size.val / (size.train + size.val)))
    old = size.train + size.val

    def shrunk(cells: _Cells) -> _Cells:
        images = None if cells.images is None else max(1, round(cells.images * people / old))
        return _Cells(cells.cameras, cells.per_cell, cells.attendance, images, cells.cells, cells.even)

    return _Size(
        people - val,
        val,
        size.test,
        shrunk(size.train_visible),
        shrunk(size.train_infrared),
        size.test_visible,
        size.test_infrared,
    )


def _number_people(random: np.random.Generator, size: _Size, others: _Others | None) -> dict[Split, list[int]]:
    """Identities from 1, with interleaved splits, each split in ascending order.

    From version 2 on, validation and test people have numbers apart, and only those of one kind are in the data set.
    """
    training = size.train + size.val
    kinds = 1 if others is None else len(HeldOut)
    order = [int(number) + 1 for number in random.permutation(training + kinds * size.test)]
    first = training + (0 if others is None else list(HeldOut).index(others.kind) * size.test)
    return {
        Split.TRAIN: sorted(order[: size.train]),
        Split.VAL: sorted(order[size.train : training]),
        Split.TEST: sorted(order[first : first + size.test]),
    }


def _shoot(
    random: np.random.Generator,
    size: _Size,
    members: Mapping[Split, Sequence[int]],
    one_modality_share: float,
    others: _Others | None,
) -> list[tuple[Shot, Split]]:
    """All images of a set; validation people have images like training people."""
    splits = {identity: split for split, identities in members.items() for identity in identities}
    training = sorted([*members[Split.TRAIN], *members[Split.VAL]])
    lone = [int(identity) for identity in random.permutation(training)[: round(one_modality_share * len(training))]]
    no_infrared, no_visible = set(lone[0::2]), set(lone[1::2])
    apart = random if others is None else others.random
    groups = [
        (random, Modality.VISIBLE, size.train_visible, [i for i in training if i not in no_visible]),
        (random, Modality.INFRARED, size.train_infrared, [i for i in training if i not in no_infrared]),
        (apart, Modality.VISIBLE, size.test_visible, list(members[Split.TEST])),
        (apart, Modality.INFRARED, size.test_infrared, list(members[Split.TEST])),
    ]
    shots: list[tuple[Shot, Split]] = []
    for source, modality, cells, identities in groups:
        for (identity, camera), count in _fill_cells(source, cells, identities).items():
            shots += [(Shot(identity, modality, camera, index), splits[identity]) for index in range(count)]
    return shots


def _fill_cells(random: np.random.Generator, cells: _Cells, identities: Sequence[int]) -> dict[tuple[int, int], int]:
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
