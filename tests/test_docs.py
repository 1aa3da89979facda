"""What the documentation says about commands, settings, names and files is checked against the code."""

from __future__ import annotations

import pkgutil
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pclhd.cli import app
from pclhd.config import DataSettings, load_preset, preset_names
from pclhd.data.folder import COLUMNS, REQUIRED_COLUMNS
from pclhd.recipes import RECIPES, Recipe
from pclhd.workflows.settings import settings_page

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

_FENCE = re.compile(r"^[ \t]*```(\w*)\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# A command begins a line, or follows a shell's separator or a loop's `do`.
_COMMAND = re.compile(r"(?:^|[;&|]|\bdo\b)\s*(?:\$ )?(?:\S*/)?(pclhd(?: [^;&\n]*)?)", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A call of ``pclhd`` in the documentation."""

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words after ``pclhd``, without those that any verb takes."""
        called = self.text.partition(" > ")[0]
        return [word for word in shlex.split(called, comments=True)[1:] if word not in {"--debug", "--help", "-h"}]

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def _read(page: Path) -> str:
    return page.read_text("utf-8")


def _prose(text: str) -> str:
    return _FENCE.sub("", text)


def _commands() -> list[Command]:
    found = []
    for page in PAGES:
        text = _read(page)
        shell = [code for kind, code in _FENCE.findall(text) if kind in ("", "bash", "sh", "shell", "console")]
        calls = [call for code in shell for call in _COMMAND.findall(code.replace("\\\n", " "))]
        calls += [span for span in _SPAN.findall(_prose(text)) if re.match(r"pclhd( |$)", span)]
        found += [Command(page.relative_to(ROOT).as_posix(), call.strip()) for call in calls]
    return found


COMMANDS = _commands()


def test_the_commands_are_found() -> None:
    assert {"README.md", "docs/data.md"} <= {command.page for command in COMMANDS}
    assert len(COMMANDS) > 20


def _check(command: Command) -> None:
    """Parse and check a command as a call would, settings included; the verb itself does not run."""
    verb, *arguments = command.words or ["--version"]
    if verb == "--version":
        return
    if verb not in VERBS:
        raise LookupError(f"there is no verb {verb}")
    if arguments and hasattr(VERBS[verb], "commands"):  # a verb with verbs of its own
        group, verb, *arguments = verb, *arguments
        if verb not in VERBS[group].commands:
            raise LookupError(f"there is no verb {group} {verb}")
        if arguments:
            VERBS[group].commands[verb].make_context(verb, _without_variables(arguments))
        return
    if not arguments:  # the verb is only mentioned
        return
    values = VERBS[verb].make_context(verb, _without_variables(arguments)).params
    words = values.get("arguments") or []
    if words and words[0] not in {"PRESET", "1"}:
        load_preset(words[0], [word for word in words[1:] if not word.startswith("[")])


def _without_variables(arguments: list[str]) -> list[str]:
    """Replace a shell's variables by a value; leave out settings whose value is a variable."""
    kept = [word for word in arguments if not re.search(r"=.*\$", word)]
    return [re.sub(r"\$\{?\w+\}?", "1", word) for word in kept]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_documented_commands_are_accepted(command: Command) -> None:
    _check(command)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("pclhd trian synthetic", "no verb trian"),
        ("pclhd train --dta DIR", "--dta"),
        ("pclhd gallery serach", "no verb gallery serach"),
        ("pclhd gallery search G IMAGE --modality red", "--modality"),
        ("pclhd train tyni", "did you mean 'tiny'"),
        ("pclhd train tiny sead=1", "did you mean 'seed'"),
        ("pclhd check DIR --trial three", "--trial"),
        ("pclhd import best.pth --layout own", "--out"),
    ],
)
def test_wrong_commands_would_be_noticed(wrong: str, reason: str) -> None:
    assert reason in _fault(Command("nowhere", wrong))


def _fault(command: Command) -> str:
    """What is wrong with a command; empty if it is accepted."""
    try:
        _check(command)
    except Exception as error:
        # The command line's exceptions name the option at fault in a field of their own.
        return " ".join([str(error), *getattr(getattr(error, "param", None), "opts", [])])
    return ""


def _table_names(text: str, heading: str) -> set[str]:
    """The names in the first column of the table whose first heading is given."""
    table = text.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return {name for line in table.splitlines()[2:] for name in _SPAN.findall(line.split("|")[1])}


def test_every_verb_preset_and_recipe_is_in_a_table() -> None:
    verbs = {f"pclhd {verb}" for verb, command in VERBS.items() if not command.hidden}
    assert _table_names(_read(ROOT / "README.md"), "Command") == verbs
    text = _read(ROOT / "docs" / "presets.md")
    assert _table_names(text, "Preset") == set(preset_names())
    assert _table_names(text, "Recipe") == set(RECIPES)


def test_presets_and_recipes_named_anywhere_exist() -> None:
    for page in PAGES:
        spans = _SPAN.findall(_read(page))
        assert {span.removeprefix("recipe=") for span in spans if span.startswith("recipe=")} <= {*RECIPES, "NAME"}
        for name in re.findall(r"\brecipe `(\w+)`", _read(page)):
            assert name in RECIPES
        for name in re.findall(r"\bpreset `(\w+)`", _read(page)):
            assert name in preset_names()


def test_settings_named_in_prose_are_accepted() -> None:
    settings = [span for page in PAGES for span in _SPAN.findall(_prose(_read(page))) if re.match(r"\w+\.\w+=", span)]
    assert settings
    for setting in settings:
        load_preset("tiny", setting.split())


def test_the_data_page_lists_every_layout_and_column() -> None:
    text = _read(ROOT / "docs" / "data.md")
    assert _table_names(text, "Column") == set(COLUMNS)
    needed = {name for name in COLUMNS if re.search(rf"^\| `{name}` \| yes \|", text, re.MULTILINE)}
    assert needed == set(REQUIRED_COLUMNS)
    layouts = set(DataSettings.model_fields["layout"].annotation.__args__) - {"auto"}  # type: ignore[union-attr]
    assert set(re.findall(r"^## .*\(`(\w+)`\)$", text, re.MULTILINE)) == layouts


#: The recipes that are compared choice by choice, and what each of the others starts from.
SIDE_BY_SIDE = ("baseline", "paper", "released", "pclhd")
STARTS_FROM = {
    "dcl": "baseline",
    "adca": "dcl",
    "pgm": "dcl",
    "mmm": "baseline",
    "bmil": "pclhd",
    "posed": "pgm",
    "supervised": "pclhd",
    "semi-supervised": "pclhd",
}


def _shown(value: object) -> str:
    return str(value).lower()


def _as_table(rows: list[list[str]]) -> str:
    rows.insert(1, ["---"] * len(rows[0]))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _recipe_table() -> str:
    """The choices in which the first recipes differ, as the method's page shows them."""
    rows = [["Choice", *(f"`{name}`" for name in SIDE_BY_SIDE)]]
    for field in Recipe.model_fields:
        values = [getattr(RECIPES[name], field) for name in SIDE_BY_SIDE]
        if len(set(values)) > 1:
            rows.append([f"`method.{field}`", *(_shown(value).join("``") for value in values)])
    return _as_table(rows)


def _other_methods_table() -> str:
    """The other recipes: what each is like, and the choices that differ."""
    rows = [["Method", "Like", "Except for"]]
    for name, start in STARTS_FROM.items():
        recipe, base = RECIPES[name], RECIPES[start]
        changed = [field for field in Recipe.model_fields if getattr(recipe, field) != getattr(base, field)]
        settings = ", ".join(f"`method.{field}` `{_shown(getattr(recipe, field))}`" for field in changed)
        rows.append([f"`{name}`", f"`{start}`", settings])
    return _as_table(rows)


def test_the_method_page_shows_every_recipe() -> None:
    assert set(RECIPES) == {*SIDE_BY_SIDE, *STARTS_FROM}
    page = _read(ROOT / "docs" / "method.md")
    for table in (_recipe_table(), _other_methods_table()):
        assert table in page, f"a table in docs/method.md should be:\n{table}"


def test_the_settings_page_is_what_the_command_prints() -> None:
    page = _read(ROOT / "docs" / "settings.md")
    assert page == settings_page(), "docs/settings.md is old: pclhd settings --markdown > docs/settings.md"


def test_the_model_function_of_the_guide_is_the_real_one() -> None:
    (code,) = [code for kind, code in _FENCE.findall(_read(ROOT / "CONTRIBUTING.md")) if kind == "python"]
    assert code in _read(ROOT / "src" / "pclhd" / "losses.py")


def _links() -> list[tuple[Path, str]]:
    return [
        (page, target)
        for page in PAGES
        for target in _LINK.findall(_prose(_read(page)))
        if not re.match(r"[a-z]+:", target)
    ]


@pytest.mark.parametrize(("page", "target"), _links(), ids=lambda value: getattr(value, "name", value))
def test_relative_links_lead_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    linked = page.parent / path if path else page
    assert linked.exists()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", _prose(_read(linked)), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_tests_named_in_the_documentation_exist() -> None:
    named = {found for page in PAGES for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", _read(page))}
    assert len(named) > 30
    for file, name in sorted(named):
        assert f"def {name}(" in _read(ROOT / file), f"{file}::{name}"


def test_modules_named_in_the_documentation_exist() -> None:
    for page in PAGES:
        for span in _SPAN.findall(_prose(_read(page))):
            if re.match(r"(src|tests|docs|scripts|benchmarks)/[\w./]+$", span) and "NAME" not in span:
                assert (ROOT / span).exists(), f"{page.name}: {span}"


def test_the_vocabulary_names_each_term_once_and_real_python_names() -> None:
    page = _read(ROOT / "docs" / "vocabulary.md")
    terms = re.findall(r"^\| (?!Term)([^|]+) \| [^|]+ \| [^|]*\|$", page, re.MULTILINE)
    assert len(terms) == len(set(terms)) > 50
    names = [span for span in _SPAN.findall(page) if span.startswith("pclhd.")]
    assert names
    for name in names:
        pkgutil.resolve_name(name)


def test_make_targets_named_in_the_documentation_exist() -> None:
    makefile = _read(ROOT / "Makefile")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z]+)", _read(page), re.MULTILINE)}
    assert {"demo", "test", "check"} <= named <= targets
