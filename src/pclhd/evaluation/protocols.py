"""The protocols of the benchmarks: which test images are queries, which are the gallery, and the number of trials.

A protocol is a list of searches, a search is a list of trials, and a trial lists the test images that are queries and
those that are the gallery. This module does not use embeddings.

Galleries are drawn with a separate generator per trial, seeded with the trial's number, so they are the same on every
machine and do not affect other generators.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pclhd.data.records import UNKNOWN, LabelledImages, Modality
from pclhd.errors import UserError
from pclhd.evaluation.metrics import CmcOver, ExclusionRule

TRIALS = 10
MULTI_SHOT = 10

SYSU_QUERY_CAMERAS = (3, 6)
SYSU_GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}

# LLCM has no infrared images of camera 3; a folder of that name is ignored (released code of LLCM).
LLCM_CAMERAS = {Modality.VISIBLE: tuple(range(1, 10)), Modality.INFRARED: (1, 2, 4, 5, 6, 7, 8, 9)}

DIRECTIONS = {
    "visible→infrared": (Modality.VISIBLE, Modality.INFRARED),
    "infrared→visible": (Modality.INFRARED, Modality.VISIBLE),
}

LAYOUTS = ("sysu", "regdb", "llcm", "own")


@dataclass(frozen=True, eq=False)
class Trial:
    """One choice of queries and gallery.

    Attributes:
        name: Name of the trial within its search.
        query: (Q,) rows of the test images.
        gallery: (G,) rows of the test images.
    """

    name: str
    query: NDArray[np.int64]
    gallery: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Search:
    """One line of a results table.

    Attributes:
        name: Such as ``all/single-shot`` or ``visible→infrared``.
        direction: Modalities of query and gallery.
        rule: Which gallery images are excluded for a query.
        cmc_over: Whether positions of the CMC count identities or images.
        trials: The trials whose measures are averaged.
    """

    name: str
    direction: str
    rule: ExclusionRule
    cmc_over: CmcOver
    trials: tuple[Trial, ...]


@dataclass(frozen=True, eq=False)
class Protocol:
    """The searches that test images allow.

    Attributes:
        searches: Those that have queries and a gallery; at least one.
        left_out: The others by name, each with what it lacks.
    """

    searches: tuple[Search, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def searches_for(layout: str, test: LabelledImages, *, same_camera_rule: bool = False) -> tuple[Search, ...]:
    """The searches of `protocol_for`."""
    return protocol_for(layout, test, same_camera_rule=same_camera_rule).searches


def protocol_for(layout: str, test: LabelledImages, *, same_camera_rule: bool = False) -> Protocol:
    """The protocol of a benchmark, as far as the test images serve it.

    Args:
        layout: ``sysu``, ``regdb``, ``llcm`` or ``own``.
        test: The test images.
        same_camera_rule: Own data only: exclude images of the query's person in the query's camera.

    Raises:
        UserError: The layout is unknown, or the test images serve no search of the protocol.
    """
    if layout == "own":
        return _own_protocol(test, same_camera_rule=same_camera_rule)
    protocols: dict[str, Callable[[LabelledImages], Protocol]] = {
        "sysu": _sysu_protocol,
        "regdb": _regdb_protocol,
        "llcm": _llcm_protocol,
    }
    if layout not in protocols:
        raise UserError(f"layout '{layout}' has no evaluation protocol; choose one of {', '.join(LAYOUTS)}")
    return protocols[layout](test)


def sysu_searches(test: LabelledImages) -> tuple[Search, ...]:
    """SYSU-MM01: all and indoor search, each with a single-shot and a multi-shot gallery, ten trials each.

    Queries are all infrared images of cameras 3 and 6. The gallery is drawn from the visible images of cameras 1, 2, 4
    and 5 (all) or 1 and 2 (indoor). Single-shot takes one image of each identity in each camera, drawn as in the
    released code, to the image. Multi-shot takes ten of each, or all where there are fewer (ours: the released code has
    no multi-shot, and the original protocol draws by permutations stored in a file of its own). A mode without a
    gallery is left out.

    Raises:
        UserError: There are no queries or no gallery images.
    """
    return _sysu_protocol(test).searches


def _sysu_protocol(test: LabelledImages) -> Protocol:
    query = _ordered(test, Modality.INFRARED, SYSU_QUERY_CAMERAS)
    _require(query, "SYSU-MM01", "infrared test images of camera 3 or 6, which are the queries")
    searches, left_out = [], {}
    for mode, cameras in SYSU_GALLERY_CAMERAS.items():
        groups = _by_identity_and_camera(test, _ordered(test, Modality.VISIBLE, cameras))
        listed = " or ".join(", ".join(map(str, cameras)).rsplit(", ", 1))
        for shots, draw in (("single-shot", _draw_one), ("multi-shot", _draw_several)):
            name = f"{mode}/{shots}"
            if not groups:
                left_out[name] = f"no visible test images of camera {listed}, which are its gallery"
                continue
            searches.append(
                Search(
                    name=name,
                    direction="infrared→visible",
                    rule=ExclusionRule.SYSU,
                    cmc_over="identities",
                    trials=_seeded_trials(query, groups, draw),
                )
            )
    _require(searches, "SYSU-MM01", "visible test images of camera 1, 2, 4 or 5, which are the gallery of all search")
    return Protocol(tuple(searches), left_out)


def regdb_searches(test: LabelledImages) -> tuple[Search, ...]:
    """RegDB: all test images of one modality are queries for all images of the other, in both directions.

    Images are in the order of the list files. The ten trials of RegDB are ten splits, each with a separate model: run
    each and use `evaluate.combine`.

    Raises:
        UserError: One modality is missing.
    """
    return _regdb_protocol(test).searches


def _regdb_protocol(test: LabelledImages) -> Protocol:
    return _plain_protocol(test, "RegDB", ExclusionRule.NONE, "images")


def llcm_searches(test: LabelledImages) -> tuple[Search, ...]:
    """LLCM: both directions, ten galleries with one image of each identity in each camera (released code of LLCM).

    Images of the query's identity in the query's camera are excluded. Infrared images of camera 3 are ignored.

    Raises:
        UserError: One modality is missing.
    """
    return _llcm_protocol(test).searches


def _llcm_protocol(test: LabelledImages) -> Protocol:
    searches = []
    for name, (asking, answering) in DIRECTIONS.items():
        query = _ordered(test, asking, LLCM_CAMERAS[asking])
        gallery = _ordered(test, answering, LLCM_CAMERAS[answering])
        _require(query, "LLCM", f"{asking} test images of its cameras")
        _require(gallery, "LLCM", f"{answering} test images of its cameras")
        searches.append(
            Search(
                name=name,
                direction=name,
                rule=ExclusionRule.SAME_CAMERA_SAME_IDENTITY,
                cmc_over="identities",
                trials=_seeded_trials(query, _by_identity_and_camera(test, gallery), _draw_one),
            )
        )
    return Protocol(tuple(searches))


def own_searches(test: LabelledImages, *, same_camera_rule: bool) -> tuple[Search, ...]:
    """Own data: all test images of one modality are queries for all images of the other, in both directions (ours).

    Where images have roles, only queries search, and only gallery images are searched; a direction that this leaves
    without either is left out. Unknown people are in the gallery and are never a correct image; junk is left out.

    Args:
        test: The test images.
        same_camera_rule: Whether images of the query's person in the query's camera are excluded from the gallery. It
            matters only where a camera takes both modalities under one number.

    Raises:
        UserError: Neither direction has queries and a gallery, or a camera is unknown that the rule needs.
    """
    return _own_protocol(test, same_camera_rule=same_camera_rule).searches


def _own_protocol(test: LabelledImages, *, same_camera_rule: bool) -> Protocol:
    if same_camera_rule:
        for image in test.images:
            if image.camera is None:
                raise UserError(
                    f"{image.path}: the same-camera rule needs the camera of every test image, and this one has none; "
                    "add it or switch the rule off"
                )
    rule = ExclusionRule.SAME_CAMERA_SAME_IDENTITY if same_camera_rule else ExclusionRule.NONE
    return _plain_protocol(test, "the test set", rule, "images")


def _plain_protocol(test: LabelledImages, whose: str, rule: ExclusionRule, cmc_over: CmcOver) -> Protocol:
    """All against all in both directions; where images have roles, queries against gallery, where there are both."""
    searches, left_out = [], {}
    for name, (asking, answering) in DIRECTIONS.items():
        query, gallery = _with_role(test, asking, "query"), _with_role(test, answering, "gallery")
        if len(query) and len(gallery):
            searches.append(Search(name, name, rule, cmc_over, (Trial("all images", query, gallery),)))
        else:
            left_out[name] = f"no {asking} queries" if not len(query) else f"no {answering} gallery images"
    chosen = {test.role(row) for row in range(len(test))} & {"query", "gallery"}
    if not searches or (left_out and not chosen):
        raise UserError(
            f"{whose} has {' and '.join(left_out.values())} among its {len(test)} test images; a search needs queries "
            "of one modality and a gallery of the other: check the data folder and its lists"
        )
    return Protocol(tuple(searches), left_out)


def _with_role(test: LabelledImages, modality: Modality, role: str) -> NDArray[np.int64]:
    """Rows of one modality, in the order given, that may be queries (or gallery)."""
    roles = {role, "test", UNKNOWN} if role == "gallery" else {role, "test"}
    rows = [i for i, image in enumerate(test.images) if image.modality is modality and test.role(i) in roles]
    return np.array(rows, dtype=np.int64)


def _ordered(test: LabelledImages, modality: Modality, cameras: Collection[int]) -> NDArray[np.int64]:
    """Rows of one modality and some cameras by identity, camera, file name: the order the draws depend on.

    Of unknown people one image would be drawn for a camera as if they were one person, so they are left out like junk.
    """
    rows = [i for i in test.known() if test.images[i].modality is modality and test.images[i].camera in cameras]
    rows.sort(key=lambda i: (test.identities[i], test.images[i].camera or 0, test.images[i].path.name))
    return np.array(rows, dtype=np.int64)


def _by_identity_and_camera(test: LabelledImages, rows: Iterable[int]) -> list[list[int]]:
    """Split ordered rows into one list per identity and camera, in order."""
    groups: defaultdict[tuple[int, int | None], list[int]] = defaultdict(list)
    for row in rows:
        groups[test.identities[row], test.images[row].camera].append(int(row))
    return list(groups.values())


def _seeded_trials(
    query: NDArray[np.int64],
    groups: list[list[int]],
    draw: Callable[[random.Random, list[int]], list[int]],
) -> tuple[Trial, ...]:
    trials = []
    for number in range(TRIALS):
        generator = random.Random(number)
        gallery = [row for group in groups for row in draw(generator, group)]
        trials.append(Trial(str(number), query, np.array(gallery, dtype=np.int64)))
    return tuple(trials)


def _draw_one(generator: random.Random, group: list[int]) -> list[int]:
    # Drawn even from a group of one: the draw advances the generator, and later draws depend on that.
    return [generator.choice(group)]


def _draw_several(generator: random.Random, group: list[int]) -> list[int]:
    return sorted(generator.sample(group, min(MULTI_SHOT, len(group))), key=group.index)


def _require(images: Collection[object] | NDArray[np.int64], whose: str, what: str) -> None:
    if not len(images):
        raise UserError(f"{whose} has no {what}; check the data folder and its lists of test identities")
