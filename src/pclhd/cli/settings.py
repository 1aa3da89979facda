"""Verbs that list settings and recipes."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pclhd.cli.options import Json, verb
from pclhd.cli.terminal import show
from pclhd.errors import UserError


@verb()
def settings(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A section (clustering) or one setting (clustering.k1).")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="PRESET", help="Also show the values of this preset (or YAML file).")
    ] = None,
    recipe: Annotated[str | None, typer.Option(metavar="RECIPE", help="Also show the values of this recipe.")] = None,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of YAML files with settings, for an editor.")
    ] = False,
) -> None:
    """List the settings: default, allowed values and meaning.

    Examples: pclhd settings clustering --preset synthetic; pclhd settings k1
    """
    from pclhd.config import Settings, load_preset
    from pclhd.workflows import settings as listing
    from pclhd.workflows.recipes import recipe_named

    if as_json + markdown + schema > 1:
        raise UserError("--json, --markdown and --schema are three output formats; choose one")
    if schema:
        if name is not None or preset is not None or recipe is not None:
            raise UserError("--schema describes all settings of any preset; leave out NAME, --preset and --recipe")
        show(json.dumps(listing.yaml_schema(), indent=2, ensure_ascii=False))
        return
    if preset is not None:
        resolved = load_preset(preset, [] if recipe is None else [f"recipe={recipe}"])
    elif recipe is not None:
        resolved = Settings(preset="", recipe=recipe, method=recipe_named(recipe))
        name = name or "method"
    else:
        resolved = None
        if markdown and name is None:
            show(listing.settings_page().removesuffix("\n"))
            return
    listed = listing.all_settings(resolved) if name is None else listing.find_settings(name, resolved)
    if as_json:
        show(json.dumps(listing.settings_json(listed), indent=2, ensure_ascii=False))
    else:
        show(listing.settings_markdown(listed) if markdown else listing.settings_text(listed))


@verb()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="RECIPE", help="List this recipe's choices.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="List only the choices that differ from this recipe's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the recipes (methods), or the choices of one of them.

    Example: pclhd recipes pclhd --against baseline
    """
    from pclhd.recipes import MEANINGS
    from pclhd.workflows import recipes as listing

    if name is None:
        if against is not None:
            raise UserError("--against compares two recipes; name the other: pclhd recipes RECIPE --against RECIPE")
        show(json.dumps(MEANINGS, indent=2, ensure_ascii=False) if as_json else listing.recipe_list())
        return
    choices = listing.recipe_choices(name, against)
    if as_json:
        from dataclasses import asdict

        show(json.dumps([asdict(choice) for choice in choices], indent=2, ensure_ascii=False))
    else:
        show(listing.choices_text(name, choices, against))
