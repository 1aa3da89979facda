"""What the recorded protocols (tests/golden) do not cover: multi-shot, own data, roles, and errors."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from pclhd.data.records import NOBODY, ImageRecord, LabelledImages, Modality
from pclhd.errors import UserError
from pclhd.evaluation.metrics import ExclusionRule
from pclhd.evaluation.protocols import (
    MULTI_SHOT,
    llcm_searches,
    own_searches,
    protocol_for,
    regdb_searches,
    searches_for,
    sysu_searches,
)


def images(
    entries: Iterable[tuple[Modality, int | None, int, int]], roles: tuple[str, ...] | None = None
) -> LabelledImages:
    """Entries are modality, camera, identity and the number of images of it."""
    records, identities = [], []
    for modality, camera, identity, count in entries:
        for number in range(count):
            records.append(ImageRecord(Path(f"cam{camera}/{identity:04d}/{number:04d}.jpg"), modality, camera))
            identities.append(identity)
    return LabelledImages(tuple(records), tuple(identities), roles)


V, R = Modality.VISIBLE, Modality.INFRARED
SYSU = images(
    [
        *((V, camera, identity, 3 * camera + 4 * (identity % 4)) for identity in (5, 6, 7) for camera in (1, 2, 4, 5)),
        *((R, camera, identity, 2) for identity in (5, 6, 7) for camera in (3, 6)),
    ]
)


def test_sysu__searches_and_what_they_share() -> None:
    searches = sysu_searches(SYSU)
    assert [search.name for search in searches] == [
        "all/single-shot",
        "all/multi-shot",
        "indoor/single-shot",
        "indoor/multi-shot",
    ]
    for search in searches:
        assert (search.rule, search.cmc_over) == (ExclusionRule.SYSU, "identities")
        assert [trial.name for trial in search.trials] == [str(number) for number in range(10)]
        for trial in search.trials:
            assert {SYSU.images[row].camera for row in trial.query} == {3, 6}
            assert {SYSU.images[row].modality for row in trial.gallery} == {V}
            assert {SYSU.images[row].camera for row in trial.gallery} == (
                {1, 2, 4, 5} if search.name.startswith("all") else {1, 2}
            )


def test_sysu__multi_shot_takes_ten_of_each_camera_or_all() -> None:
    group_size = Counter((SYSU.identities[i], image.camera) for i, image in enumerate(SYSU.images))
    assert min(group_size.values()) < MULTI_SHOT < max(group_size.values())
    for search in sysu_searches(SYSU):
        if not search.name.endswith("multi-shot"):
            continue
        for trial in search.trials:
            rows = trial.gallery.tolist()
            assert len(set(rows)) == len(rows)
            drawn = Counter((SYSU.identities[row], SYSU.images[row].camera) for row in rows)
            assert all(count == min(MULTI_SHOT, group_size[key]) for key, count in drawn.items())


def test_sysu__trials_differ_and_come_out_the_same_again() -> None:
    for search, again in zip(sysu_searches(SYSU), sysu_searches(SYSU), strict=True):
        galleries = [tuple(trial.gallery.tolist()) for trial in search.trials]
        assert len(set(galleries)) > 1
        assert galleries == [tuple(trial.gallery.tolist()) for trial in again.trials]


def test_draws_leave_the_global_generator_alone() -> None:
    random.seed(0)
    state = random.getstate()
    sysu_searches(SYSU)
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(V, 1, 5, 2)], "infrared test images of camera 3 or 6"),
        ([(R, 3, 5, 2)], "camera 1, 2, 4 or 5, which are the gallery of all search"),
    ],
)
def test_sysu__says_what_is_missing(entries: list[tuple[Modality, int, int, int]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sysu_searches(images(entries))


def test_sysu__a_mode_without_gallery_is_left_out() -> None:
    protocol = protocol_for("sysu", images([(R, 3, 5, 2), (V, 4, 5, 2)]))
    assert [search.name for search in protocol.searches] == ["all/single-shot", "all/multi-shot"]
    assert list(protocol.left_out) == ["indoor/single-shot", "indoor/multi-shot"]
    assert set(protocol.left_out.values()) == {"no visible test images of camera 1 or 2, which are its gallery"}
    assert protocol_for("sysu", SYSU).left_out == {}


def test_regdb__keeps_the_given_order_both_ways() -> None:
    test = images([(V, 1, 9, 2), (R, 2, 9, 1), (V, 1, 3, 1), (R, 2, 3, 2)])
    there, back = regdb_searches(test)
    assert (there.name, back.name) == ("visible→infrared", "infrared→visible")
    assert there.trials[0].query.tolist() == back.trials[0].gallery.tolist() == [0, 1, 3]
    assert there.trials[0].gallery.tolist() == back.trials[0].query.tolist() == [2, 4, 5]
    assert (there.rule, there.cmc_over, len(there.trials)) == (ExclusionRule.NONE, "images", 1)


@pytest.mark.parametrize(("present", "missing"), [(V, "infrared"), (R, "visible")])
@pytest.mark.parametrize("layout", ["regdb", "llcm", "own"])
def test_one_modality_alone_is_refused(layout: str, present: Modality, missing: str) -> None:
    with pytest.raises(UserError, match=missing):
        searches_for(layout, images([(present, 1, 1, 3)]))


def test_llcm__leaves_out_infrared_camera_3_only() -> None:
    test = images([(V, 3, 1, 2), (V, 1, 1, 2), (R, 3, 1, 2), (R, 2, 1, 2)])
    there, back = llcm_searches(test)
    assert {test.images[row].camera for row in there.trials[0].query} == {1, 3}
    assert {test.images[row].camera for row in back.trials[0].query} == {2}
    assert {test.images[row].camera for row in there.trials[0].gallery} == {2}
    assert {search.rule for search in (there, back)} == {ExclusionRule.SAME_CAMERA_SAME_IDENTITY}


def test_own__the_camera_rule_is_a_choice() -> None:
    test = images([(V, 1, 1, 2), (R, 1, 1, 2)])
    assert {search.rule for search in own_searches(test, same_camera_rule=False)} == {ExclusionRule.NONE}
    ruled = searches_for("own", test, same_camera_rule=True)
    assert {search.rule for search in ruled} == {ExclusionRule.SAME_CAMERA_SAME_IDENTITY}


def test_own__the_camera_rule_needs_cameras() -> None:
    test = images([(V, 1, 1, 1), (R, None, 1, 1)])
    assert len(own_searches(test, same_camera_rule=False)) == 2
    with pytest.raises(UserError, match=r"camNone/0001/0000\.jpg: the same-camera rule needs the camera"):
        own_searches(test, same_camera_rule=True)


def test_own__roles_decide_who_searches_and_who_is_searched() -> None:
    test = images([(V, 1, 1, 3), (R, 1, 1, 3)], roles=("query", "gallery", "test", "query", "gallery", "test"))
    there, back = own_searches(test, same_camera_rule=False)
    assert (there.trials[0].query.tolist(), there.trials[0].gallery.tolist()) == ([0, 2], [4, 5])
    assert (back.trials[0].query.tolist(), back.trials[0].gallery.tolist()) == ([3, 5], [1, 2])


def test_own__roles_may_leave_one_direction() -> None:
    test = images([(V, 1, 1, 2), (R, 1, 1, 2)], roles=("gallery", "gallery", "query", "query"))
    (only,) = own_searches(test, same_camera_rule=False)
    assert protocol_for("own", test).left_out == {"visible→infrared": "no visible queries"}
    assert only.name == "infrared→visible"


def test_own__roles_that_leave_no_direction_are_refused() -> None:
    test = images([(V, 1, 1, 2), (R, 1, 1, 2)], roles=("query", "query", "query", "query"))
    with pytest.raises(UserError, match="no infrared gallery images and no visible gallery images"):
        own_searches(test, same_camera_rule=False)


def test_searches_for__takes_each_layout_and_no_other() -> None:
    assert len(searches_for("sysu", SYSU)) == 4
    with pytest.raises(UserError, match=r"layout 'market' .* sysu, regdb, llcm, own"):
        searches_for("market", SYSU)


def with_roles(layout: str) -> LabelledImages:
    """Infrared queries of person 5 and visible images of her, of a stranger and of no person."""
    camera = {"sysu": (3, 1), "llcm": (1, 2), "regdb": (2, 1), "own": (2, 1)}[layout]
    entries = (
        (R, camera[0], 5),
        (V, camera[1], 5),
        (V, camera[1], NOBODY),
        (V, camera[1], NOBODY),
        (R, camera[0], NOBODY),
    )
    roles = ("test", "test", "unknown", "junk", "junk")
    records = tuple(ImageRecord(Path(f"{row}.jpg"), kind, number) for row, (kind, number, _) in enumerate(entries))
    return LabelledImages(records, tuple(identity for *_, identity in entries), roles)


@pytest.mark.parametrize("layout", ["sysu", "llcm", "regdb", "own"])
def test_junk_is_in_no_search_and_strangers_ask_nothing(layout: str) -> None:
    for search in searches_for(layout, with_roles(layout)):
        for trial in search.trials:
            assert not {3, 4} & {*trial.query.tolist(), *trial.gallery.tolist()}
            assert 2 not in trial.query.tolist()


@pytest.mark.parametrize("layout", ["regdb", "own"])
def test_strangers_are_searched(layout: str) -> None:
    search = next(one for one in searches_for(layout, with_roles(layout)) if one.name == "infrared→visible")
    assert search.trials[0].gallery.tolist() == [1, 2]


def test_junk_alone_does_not_excuse_a_missing_modality() -> None:
    test = images([(V, 1, 5, 2), (R, 2, NOBODY, 1)], ("test", "test", "junk"))
    with pytest.raises(UserError, match="no infrared queries"):
        regdb_searches(test)
