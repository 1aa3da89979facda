"""`pclhd settings`: every setting with its default, allowed values and meaning, from the schema."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pclhd.config import Settings
from pclhd.errors import UserError
from pclhd.recipes import DEFAULT_RECIPE, RECIPES

_TOP = "top level"


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: Key on the command line, such as ``clustering.k1``.
        allowed: The allowed values, in words.
        default: Its default in YAML; None if it is required.
        meaning: Its description.
        value: Its value under a preset and a recipe; None if neither was named.
    """

    key: str
    allowed: str
    default: str | None
    meaning: str
    value: str | None = None

    @property
    def section(self) -> str:
        """The part of the key before the dot; empty for a setting without a section."""
        return self.key.rpartition(".")[0]


def all_settings(resolved: Settings | None = None) -> list[Setting]:
    """All settings, in the order of the schema; with their values in `resolved`, if given."""
    return list(_walk(Settings(preset=""), "", None if resolved is None else resolved.model_dump(mode="json")))


def find_settings(name: str, resolved: Settings | None = None) -> list[Setting]:
    """The settings of a section, or the one with this key. A key may be given without its section.

    Raises:
        UserError: An unknown name; the message suggests the most similar one.
    """
    known = all_settings(resolved)
    for matching in (
        [setting for setting in known if setting.key == name],
        [setting for setting in known if setting.section == name],
        [setting for setting in known if setting.key.rpartition(".")[2] == name],
    ):
        if matching:
            return matching
    names: dict[str, str] = {}
    for setting in known:
        names |= {setting.section: setting.section, setting.key: setting.key}
        names.setdefault(setting.key.rpartition(".")[2], setting.key)
    close = difflib.get_close_matches(name, [candidate for candidate in names if candidate], n=1, cutoff=0.6)
    sections = ", ".join(dict.fromkeys(setting.section for setting in known if setting.section))
    hint = f"did you mean '{names[close[0]]}'?" if close else f"sections: {sections}"
    raise UserError(f"there is no setting or section '{name}'; {hint}")


def settings_text(settings: Sequence[Setting]) -> str:
    """The settings as text, with a heading per section."""
    lines: list[str] = []
    section: str | None = None
    for setting in settings:
        if setting.section != section:
            section = setting.section
            lines += ["", section or _TOP] if lines else [section or _TOP]
        default = "required" if setting.default is None else f"default {setting.default}"
        if setting.value is not None and setting.value != setting.default:
            default = f"{setting.value}, {default}"
        lines += [f"  {setting.key}  ({default}; {setting.allowed})", wrapped(setting.meaning)]
    return "\n".join(lines)


def settings_json(settings: Sequence[Setting]) -> list[dict[str, str | None]]:
    """The settings as JSON-compatible values."""
    return [asdict(setting) for setting in settings]


def settings_markdown(settings: Sequence[Setting]) -> str:
    """The settings as Markdown tables, one per section, for `docs/settings.md`."""
    parts: list[str] = []
    for section in dict.fromkeys(setting.section for setting in settings):
        mine = [setting for setting in settings if setting.section == section]
        with_values = any(setting.value is not None for setting in mine)
        head = ["Setting", "Default", *(["Value"] if with_values else []), "Allowed", "Meaning"]
        rows = [head, ["---"] * len(head)]
        for setting in mine:
            default = "required" if setting.default is None else f"`{setting.default}`"
            value = [f"`{setting.value}`"] if with_values else []
            rows.append([f"`{setting.key}`", default, *value, setting.allowed, setting.meaning])
        table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
        parts.append(f"## {section or _TOP.capitalize()}\n\n{table}")
    return "\n\n".join(parts)


PAGE_HEAD = """# Settings

Made by `pclhd settings --markdown`; do not edit. The defaults of `method.…` are those of the recipe `pclhd`.

A setting is changed on the command line (`pclhd train synthetic --data DIR clustering.k1=20`) or in a YAML file that
is given in place of a preset's name. `pclhd settings clustering --preset synthetic` also shows the preset's values.

An editor completes and checks such a file if it knows the schema: write it once with
`pclhd settings --schema > settings.schema.json` and begin the YAML file with the line
`# yaml-language-server: $schema=settings.schema.json`.
"""


def settings_page() -> str:
    """The page `docs/settings.md`."""
    return f"{PAGE_HEAD}\n{settings_markdown(all_settings())}\n"


def yaml_schema() -> dict[str, Any]:
    """JSON schema of a YAML file with settings."""
    schema = Settings.model_json_schema()
    # The recipe defines what a file leaves out, so an editor shows the values of the default recipe.
    for name, field in schema["$defs"]["Recipe"]["properties"].items():
        field["default"] = getattr(RECIPES[DEFAULT_RECIPE], name)
    # A file does not need its own name.
    schema["required"] = [name for name in schema.get("required", ()) if name != "preset"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Settings of pclhd"}


def _walk(section: BaseModel, prefix: str, values: Mapping[str, Any] | None) -> Iterator[Setting]:
    schema = type(section).model_json_schema()
    for name, field in type(section).model_fields.items():
        default = getattr(section, name)
        value = None if values is None else values[name]
        if isinstance(default, BaseModel):
            yield from _walk(default, f"{prefix}{name}.", value)
            continue
        usual = None if field.is_required() else as_yaml(default)
        current = None if values is None else as_yaml(value)
        yield Setting(prefix + name, allowed_values(schema["properties"][name]), usual, meaning_of(field), current)


def meaning_of(field: FieldInfo) -> str:
    """The field's description.

    Raises:
        ValueError: It has no description.
    """
    if not field.description:
        raise ValueError(f"a field of type {field.annotation} has no description")
    return field.description


def allowed_values(schema: Mapping[str, Any]) -> str:
    """The values that a field's JSON schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(allowed_values(part) for part in schema["anyOf"])
    if "const" in schema:
        return as_yaml(schema["const"])
    if "enum" in schema:
        return ", ".join(map(as_yaml, schema["enum"]))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        word = "whole number" if kind == "integer" else "number"
        bounds = [
            f"{name} {schema[key]:g}"
            for key, name in (
                ("minimum", "from"),
                ("exclusiveMinimum", "above"),
                ("maximum", "to"),
                ("exclusiveMaximum", "below"),
            )
            if key in schema
        ]
        return " ".join([word, *bounds])
    if "pattern" in schema:
        return f"text like {schema['pattern']}"
    names = {"boolean": "true or false", "null": "null", "object": "a mapping"}
    return names.get(str(kind), "path" if schema.get("format") == "path" else "text")


def wrapped(text: str) -> str:
    """A description, wrapped and indented below its name."""
    return textwrap.fill(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)


def as_yaml(value: object) -> str:
    """A value in YAML, as after ``key=``."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
