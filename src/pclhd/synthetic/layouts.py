"""Paths and lists of a data set in the layouts of SYSU-MM01, RegDB and LLCM.

A plan depends only on the seed and needs no drawing, so counts can be checked before and after writing.
"""

from __future__ import annotations

import numpy as np

from pclhd.data.records import Modality
from pclhd.synthetic.cast import Others, number_people, take_shots
from pclhd.synthetic.plan import HeldOut, Layout, Plan, PlannedImage, Scale, Split
from pclhd.synthetic.seeds import Population, Stream, Version, generator
from pclhd.synthetic.sizes import LLCM_SIZES, SIZE_OF_PICTURE, SYSU_SIZES, Size, resize
from pclhd.synthetic.world import Shot

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
    others = (
        None if held_out is None else Others(held_out, generator(seed, population, Stream.PLAN, 1, version=version))
    )
    height, width = SIZE_OF_PICTURE[scale]
    if layout is Layout.REGDB:
        images, lists, total = _plan_regdb(random, people or _REGDB_TRAINING_PEOPLE[scale])
    elif layout is Layout.LLCM:
        images, lists, total = _plan_llcm(random, resize(LLCM_SIZES[scale], people), one_modality_share, others)
    else:
        images, lists, total = _plan_sysu(random, resize(SYSU_SIZES[scale], people), one_modality_share, others)
    return Plan(tuple(images), lists, total, height, width)


_Drawn = tuple[list[PlannedImage], dict[str, str], int]


def _plan_sysu(random: np.random.Generator, size: Size, share: float, others: Others | None) -> _Drawn:
    """``camC/IIII/NNNN.jpg`` and ``exp/{train,val,test}_id.txt``."""
    members = number_people(random, size, others)
    images = [
        PlannedImage(f"cam{shot.camera}/{shot.identity:04d}/{shot.index + 1:04d}.jpg", shot, split)
        for shot, split in take_shots(random, size, members, share, others)
    ]
    lists = {
        f"exp/{split}_id.txt": ",".join(str(identity) for identity in identities) + "\n"
        for split, identities in members.items()
    }
    return images, lists, sum(map(len, members.values()))


def _plan_llcm(random: np.random.Generator, size: Size, share: float, others: Others | None) -> _Drawn:
    """``vis``, ``nir``, ``test_{vis,nir}/camC/IIII``, ``idx/train_{vis,nir}.txt``, ``idx/test_id.txt``."""
    members = number_people(random, size, others)
    labels = {identity: label for label, identity in enumerate(members[Split.TRAIN])}
    images: list[PlannedImage] = []
    rows: dict[str, list[str]] = {"vis": [], "nir": []}
    for shot, split in take_shots(random, size, members, share, others):
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
