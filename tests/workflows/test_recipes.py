from __future__ import annotations

import pytest

from pclhd.errors import UserError
from pclhd.recipes import MEANINGS, RECIPES, Recipe
from pclhd.workflows.recipes import choices_text, recipe_choices, recipe_list


def test_the_list_has_a_line_for_each_recipe() -> None:
    lines = recipe_list().splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES) == list(MEANINGS)
    assert max(map(len, lines)) <= 120


def test_all_choices() -> None:
    choices = recipe_choices("paper")
    assert [choice.key for choice in choices] == [f"method.{field}" for field in Recipe.model_fields]
    assert {choice.key: choice.value for choice in choices}["method.dynamic_gradient"] == "true"
    assert "  method.stage2=hard+dynamic\n" in choices_text("paper", choices)


def test_differences() -> None:
    choices = recipe_choices("baseline", "pgm")
    assert [(choice.key, choice.value, choice.other) for choice in choices] == [("method.joint", "1.0", "0.0")]
    assert "  method.joint=1.0 (pgm: 0.0)\n" in choices_text("baseline", choices, "pgm")
    assert choices_text("paper", recipe_choices("paper", "paper"), "paper").endswith("no choice differs from paper")


def test_for_an_unknown_recipe_the_nearest_is_suggested() -> None:
    with pytest.raises(UserError, match=r"^there is no recipe 'papr'; did you mean 'paper'\?$"):
        recipe_choices("papr")
    with pytest.raises(UserError, match="known: baseline, paper"):
        recipe_choices("paper", "xyzzy")
