"""`pclhd recipes`: the methods, their choices, and the differences between two of them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from pclhd.errors import UserError
from pclhd.recipes import MEANINGS, RECIPES, Recipe
from pclhd.workflows.settings import as_yaml, meaning_of, wrapped


@dataclass(frozen=True)
class Choice:
    """One choice of a recipe.

    Attributes:
        key: Setting, such as ``method.hard_share``.
        value: Value in the recipe.
        other: Value in the recipe it is compared with; None without one.
        meaning: Description of the setting.
    """

    key: str
    value: str
    other: str | None
    meaning: str


def recipe_named(name: str) -> Recipe:
    """The recipe with this name.

    Raises:
        UserError: There is none; the message suggests the most similar name.
    """
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(RECIPES)}"
    raise UserError(f"there is no recipe '{name}'; {hint}")


def recipe_list() -> str:
    """One line per recipe."""
    width = max(map(len, RECIPES))
    return "\n".join(f"{name.ljust(width)}  {MEANINGS[name]}" for name in RECIPES)


def recipe_choices(name: str, against: str | None = None) -> list[Choice]:
    """The choices of a recipe: all of them, or those that differ from another recipe."""
    recipe = recipe_named(name)
    other = None if against is None else recipe_named(against)
    return [
        Choice(
            f"method.{field}",
            as_yaml(getattr(recipe, field)),
            None if other is None else as_yaml(getattr(other, field)),
            meaning_of(info),
        )
        for field, info in Recipe.model_fields.items()
        if other is None or getattr(recipe, field) != getattr(other, field)
    ]


def choices_text(name: str, choices: list[Choice], against: str | None = None) -> str:
    """The choices as text."""
    lines = [f"{name}: {MEANINGS[name]}"]
    if against is not None and not choices:
        return "\n".join([*lines, f"no choice differs from {against}"])
    for choice in choices:
        value = choice.value if choice.other is None else f"{choice.value} ({against}: {choice.other})"
        lines += [f"  {choice.key}={value}", wrapped(choice.meaning)]
    return "\n".join(lines)
