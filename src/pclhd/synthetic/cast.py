"""Who is in which split, and which images are taken of whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pclhd.data.records import Modality
from pclhd.synthetic.plan import HeldOut, Split
from pclhd.synthetic.sizes import Size, fill_cells
from pclhd.synthetic.world import Shot


@dataclass(frozen=True, slots=True)
class Others:
    """The kind of people held out, and a generator for their images only: training does not depend on the kind."""

    kind: HeldOut
    random: np.random.Generator


def number_people(random: np.random.Generator, size: Size, others: Others | None) -> dict[Split, list[int]]:
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


def take_shots(
    random: np.random.Generator,
    size: Size,
    members: Mapping[Split, Sequence[int]],
    one_modality_share: float,
    others: Others | None,
) -> list[tuple[Shot, Split]]:
    """All images of a set; the validation people of a layout have images like training people.

    From version 2 on, images are planned as if everyone appeared in both modalities, and those of the other modality
    are then left out: with a larger share, a set has a part of the images that it has with a smaller one.
    """
    splits = {identity: split for split, identities in members.items() for identity in identities}
    training = sorted([*members[Split.TRAIN], *members[Split.VAL]])
    lone = [int(identity) for identity in random.permutation(training)[: round(one_modality_share * len(training))]]
    no_infrared, no_visible = set(lone[0::2]), set(lone[1::2])
    apart = random if others is None else others.random
    no_one: set[int] = set()
    groups = [
        (random, Modality.VISIBLE, size.train_visible, training, no_visible),
        (random, Modality.INFRARED, size.train_infrared, training, no_infrared),
        (apart, Modality.VISIBLE, size.test_visible, list(members[Split.TEST]), no_one),
        (apart, Modality.INFRARED, size.test_infrared, list(members[Split.TEST]), no_one),
    ]
    shots: list[tuple[Shot, Split]] = []
    for source, modality, cells, identities, absent in groups:
        planned = identities if others is not None else [i for i in identities if i not in absent]
        for (identity, camera), count in fill_cells(source, cells, planned).items():
            if identity not in absent:
                shots += [(Shot(identity, modality, camera, index), splits[identity]) for index in range(count)]
    return shots
