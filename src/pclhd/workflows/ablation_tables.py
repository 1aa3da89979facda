"""The tables of an ablation: the method's parts, λ, k, the values of any setting, and whole methods (paper; ours)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pclhd.config import load_preset
from pclhd.errors import ArgumentError, UserError
from pclhd.recipes import MEANINGS, RECIPES
from pclhd.runs.ablation import Entry, Table
from pclhd.runs.records import find_setting

#: How recipe `paper` brings hard and dynamic prototypes in, as settings for other recipes: they start as centroids, one
#: dynamic prototype per cluster, and the same prototypes within and across the modalities.
GENTLE = (
    "method.centroid_share=0.5",
    "method.hard_start=centroid",
    "method.dynamic_samples=1",
    "method.cross_contrast=own",
    "method.joint_contrast=own",
)
RAMP = (*GENTLE, "method.stage2=hard+dynamic", "method.progressive=ramp")

#: The method on which λ is varied.
BASE = Entry("paper", "paper", about="`paper`")

#: The method on which k is varied: the same, but hard prototypes start as the mean of the k furthest images. Where they
#: start as centroids, k is not read.
FURTHEST = Entry("paper-furthest", "paper", ("method.hard_start=furthest",), "`paper`, from the furthest images")

#: Values of λ and k besides those of the recipe.
LAMBDAS = ("0", "0.25", "0.75", "1")
KS = ("2", "4", "8")

FLOORS = ("pgm", "baseline")
METHODS = ("baseline", "adca", "pgm", "mmm", "paper", "pclhd")

#: Recipes whose stage I is that of `baseline`: centroids, with the same neighbourhoods and momentum network.
_CENTROID_STAGE = ("baseline", "paper", "pgm", "dcl", "adca", "posed")

#: Settings that only a stage I of its own can follow, and why.
_BEGINNINGS = {
    "schedule.stage1_epochs": "stage I would end elsewhere",
    "model.": "the weights after stage I belong to one network",
    "data.height": "the weights after stage I belong to one size of images",
    "data.width": "the weights after stage I belong to one size of images",
}
_ELSEWHERE = {"seed": "--seeds", "recipe": "--methods", "preset": "the first argument", "data.root": "--data"}


def parts_table(floor: str) -> Table:
    """The paper's own ablation on a floor of centroids: + hard, + hard and dynamic, + progressive.

    Args:
        floor: A recipe with centroids in both stages, of `FLOORS`.
    """
    first = Entry(floor, floor, about="the floor: centroids")
    rows = (
        ("hard", (*GENTLE, "method.stage2=hard"), "+ hard"),
        ("dynamic", (*GENTLE, "method.stage2=dynamic"), "+ dynamic"),
        ("both", (*GENTLE, "method.stage2=hard+dynamic"), "+ hard + dynamic"),
        ("ramp", RAMP, "+ hard + dynamic + progressive"),
    )
    entries = (first, *(Entry(f"{floor}-{name}", floor, words, about, against=floor) for name, words, about in rows))
    return Table(f"The paper's parts, on `{floor}`", entries, (floor, f"{floor}-ramp"), "parts")


def lambda_table() -> Table:
    """The share λ of the hard loss."""
    table = curve_table(BASE, "method.hard_share", LAMBDAS, symbol="λ")
    return replace(table, title="The share λ of hard prototypes", quick=(BASE.name, f"{BASE.name}-hard_share-0"))


def k_table() -> Table:
    """The number k of hard samples."""
    table = curve_table(FURTHEST, "method.hard_samples", KS, symbol="k")
    return replace(
        table, title="The number k of hard samples", quick=(FURTHEST.name, f"{FURTHEST.name}-hard_samples-4")
    )


def methods_table(recipes: Sequence[str] = METHODS) -> Table:
    """Whole recipes, each compared with the first."""
    first = recipes[0]
    entries = (
        Entry(name, name, (), f"`{name}`: {MEANINGS[name]}", start_of(name), "" if name == first else first)
        for name in dict.fromkeys(recipes)
    )
    return Table("Methods", tuple(entries), (first, recipes[-1]), "methods")


def setting_table(preset: str, recipe: str, setting: str, values: Sequence[str]) -> Table:
    """A recipe over the values of a setting.

    Args:
        preset: What is trained with.
        recipe: The recipe that is varied; the value that it has by itself is always one of the values.
        setting: Dotted key.
        values: As on the command line.

    Raises:
        UserError: The setting or a value is unknown or invalid, or cannot be varied here.
    """
    if setting in _ELSEWHERE:
        raise ArgumentError("setting", f"cannot vary {setting}; name its values with {_ELSEWHERE[setting]}")
    base = Entry(recipe, recipe, (), f"`{recipe}`", start_of(recipe))
    found = {value: _value(preset, _with(base, setting, value), setting) for value in values}
    own = _value(preset, base, setting)
    others = [value for value in values if found[value] != own]
    return curve_table(base, setting, others, preset=preset)


def curve_table(
    base: Entry, setting: str, values: Sequence[str], *, symbol: str = "", preset: str = "synthetic"
) -> Table:
    """An entry over the values of a setting, in ascending order; each is compared with the entry as it is."""
    name = symbol or setting.rpartition(".")[2]
    own = _value(preset, base, setting)
    first = replace(base, value=str(own), about=f"{base.about}: {name} = {own}")
    entries = [first]
    for value in dict.fromkeys(values):
        entry = _with(base, setting, value)
        entries.append(replace(entry, about=f"{name} = {value}", value=value, against=base.name))
    return Table(f"`{setting}`", tuple(entries), (), "curve", setting, name)


def with_own_starts(table: Table) -> Table:
    """The table with a stage I for each entry, trained with the entry's own settings."""
    return replace(table, entries=tuple(replace(entry, start=f"own-{entry.name}") for entry in table.entries))


def start_of(recipe: str) -> str:
    """Name of the stage I that a recipe continues; recipes with the same stage I share one."""
    return "centroid" if recipe in _CENTROID_STAGE else recipe


def start_words(entry: Entry, known: Mapping[str, tuple[str, ...]] | None = None) -> tuple[str, ...]:
    """Recipe and overrides of the stage I that an entry continues."""
    if known is not None and entry.start in known:
        return known[entry.start]
    if entry.start == f"own-{entry.name}":
        return (f"recipe={entry.recipe}", *entry.settings)
    return (f"recipe={'baseline' if entry.start == 'centroid' else entry.start}",)


def check_common_start(tables: Iterable[Table]) -> None:
    """Check that all entries can continue a common stage I.

    Raises:
        ArgumentError: One has a setting that stage I decides.
    """
    for table in tables:
        for entry in table.entries:
            if entry.start == f"own-{entry.name}":
                continue
            for word in entry.settings:
                for beginning, reason in _BEGINNINGS.items():
                    if word.startswith(beginning):
                        key = word.partition("=")[0]
                        raise ArgumentError(
                            "setting", f"{key} cannot follow a common stage I ({reason}); add `both_stages`"
                        )


def check_recipes(names: Iterable[str], argument: str) -> None:
    """Check names of recipes.

    Raises:
        ArgumentError: There is no such recipe.
    """
    for name in names:
        if name not in RECIPES:
            raise ArgumentError(argument, f"is no recipe; expected {', '.join(RECIPES)}", value=name)


def parse_setting(text: str) -> tuple[str, tuple[str, ...]]:
    """``KEY=V1,V2`` as a key and values.

    Raises:
        ArgumentError: It has another form.
    """
    key, equals, values = text.partition("=")
    found = tuple(value.strip() for value in values.split(",") if value.strip())
    if not equals or not key or not found:
        raise ArgumentError("setting", "expected KEY=VALUE,VALUE such as clustering.eps=0.4,0.5", value=text)
    return key, found


def _with(base: Entry, setting: str, value: str) -> Entry:
    name = f"{base.name}-{setting.rpartition('.')[2]}-{re.sub(r'[^A-Za-z0-9.+-]', '_', value)}"
    return replace(base, name=name, settings=(*base.settings, f"{setting}={value}"))


def _value(preset: str, entry: Entry, setting: str) -> object:
    settings = load_preset(preset, [f"recipe={entry.recipe}", *entry.settings])
    tree = settings.model_dump(mode="json")
    parent = find_setting(tree, setting.rpartition(".")[0]) if "." in setting else tree
    if not isinstance(parent, dict) or setting.rpartition(".")[2] not in parent:
        raise UserError(f"--setting {setting}: is not a setting with a value; pclhd settings lists them")
    return parent[setting.rpartition(".")[2]]
