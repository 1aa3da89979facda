from __future__ import annotations

import pytest
from pydantic import ValidationError

from pclhd.config import load_preset
from pclhd.recipes import BASELINE, PAPER, RECIPES, RELEASED, Recipe
from tests.readings import ABRUPT, ABRUPT_WORDS


def _differences(first: Recipe, second: Recipe) -> set[str]:
    return {name for name in Recipe.model_fields if getattr(first, name) != getattr(second, name)}


def test_the_recipes() -> None:
    ours = ["baseline", "paper", "released", "pclhd"]
    assert list(RECIPES) == [*ours, "dcl", "adca", "pgm", "mmm", "bmil", "posed", "supervised", "semi-supervised"]
    assert len({recipe.model_dump_json() for recipe in RECIPES.values()}) == len(RECIPES)


def test_only_the_bounds_train_with_identities() -> None:
    bounds = {name: recipe.labels for name, recipe in RECIPES.items() if recipe.labels != "clusters"}
    assert bounds == {"supervised": "identities", "semi-supervised": "visible_identities"}


def test_the_bounds_are_the_default_with_other_labels() -> None:
    for bound in ("supervised", "semi-supervised"):
        assert _differences(RECIPES[bound], RECIPES["pclhd"]) == {"labels"}


def test_the_default_is_the_released_way_but_for_what_the_page_names() -> None:
    assert _differences(RECIPES["pclhd"], RELEASED) == {
        *("dynamic_gradient", "batch_passes", "matching", "centre_features", "distillation"),
    }


def test_what_sets_the_other_methods_apart() -> None:
    assert _differences(RECIPES["dcl"], BASELINE) == {"cross", "joint"}
    assert _differences(RECIPES["adca"], RECIPES["dcl"]) == {"joint", "joint_labels", "matching"}
    assert _differences(RECIPES["pgm"], RECIPES["dcl"]) == {"cross"}
    assert _differences(RECIPES["mmm"], BASELINE) == {"sub_prototypes", "matching"}
    assert _differences(RECIPES["bmil"], RECIPES["pclhd"]) == {
        *("cross", "joint", "balanced_neighbours", "balanced_order", "joint_memory", "joint_negatives"),
        *("joint_batches", "larger_share", "centre_features", "distillation"),
    }
    assert _differences(RECIPES["posed"], RECIPES["pgm"]) == {
        *("stage2", "centroid_share", "hard_start", "cross_form", "cross_contrast", "distillation"),
    }


def test_the_baseline_differs_from_the_paper_in_the_prototypes_alone() -> None:
    assert _differences(BASELINE, PAPER) == {
        *("stage2", "progressive", "centroid_share", "hard_start", "dynamic_samples"),
        *("cross_contrast", "joint_contrast"),
    }
    assert BASELINE.stage2 == "centroid"


def test_the_former_reading_of_the_paper_is_reached_by_settings() -> None:
    assert load_preset("tiny", ["recipe=paper", *ABRUPT_WORDS]).method == ABRUPT


def test_what_the_paper_says() -> None:
    assert (PAPER.stage1, PAPER.stage2) == ("centroid", "hard+dynamic")
    assert PAPER.progressive == "ramp"
    assert (PAPER.cross_contrast, PAPER.joint_contrast) == ("own", "own")
    assert PAPER.hard_samples == 1
    assert PAPER.dynamic_gradient
    assert PAPER.cross_direction == "alternate"
    assert PAPER.dynamic_redraw == "epoch"
    assert (PAPER.memory_update, PAPER.joint_step) == ("after_step", "own")


def test_the_quirks_of_the_released_code() -> None:
    assert not RELEASED.dynamic_gradient
    assert RELEASED.memory_update == "in_backward"
    assert RELEASED.momentum_from == "stage2"
    assert RELEASED.momentum_buffers == "own"
    assert RELEASED.hard_start == "centroid"
    assert RELEASED.joint_prototypes == "all"
    assert not RELEASED.renormalise


@pytest.mark.parametrize(
    "wrong",
    [
        {"hard_share": 1.5},
        {"hard_samples": 0},
        {"sub_prototypes": 0},
        {"dynamic_samples": 0},
        {"cross": -1},
        {"stage1": "hard"},
        {"new": 1},
    ],
)
def test_values_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(wrong)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PAPER.cross = 1.0  # type: ignore[misc]
