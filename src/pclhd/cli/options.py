"""Options shared by several verbs, and options derived from the fields of a model."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pclhd.cli import terminal
from pclhd.errors import ArgumentError
from pclhd.parsing import Unparsable, parse_yaml

Verb = TypeVar("Verb", bound=Callable[..., None])

Data = Annotated[Path | None, typer.Option(metavar="DIR", help="The data set's folder, or a CSV file.")]
MovedData = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The data set's folder, if it has moved since training.")
]
DEVICES = "auto|cpu|cuda[:N]|mps"
Device = Annotated[
    str, typer.Option(metavar=DEVICES, help="Device for the computation. auto uses a GPU if there is one.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
FalseMatchRate = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Share of searches for people who are not there that may give an answer.",
        show_default="0.01, or the lowest that the calibration can measure",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder made by pclhd train.")]
AnyModel = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder made by pclhd train, a model file, or an ONNX file.")
]
Runtime = Annotated[
    Literal["torch", "onnx"],
    typer.Option(help="Library that computes the network; onnx takes model.onnx in the run folder."),
]
Trial = Annotated[int, typer.Option(min=1, max=10, help="Split of RegDB.")]

_DEBUG = typer.Option("--debug", help="Show the traceback of an error.")
_QUIET = typer.Option("--quiet", "-q", help="Print only results, warnings and errors: no progress, no notes.")


def complete_settings(incomplete: str) -> list[str]:
    """Shell completions for ``PRESET [KEY=VALUE]...``: presets, and the keys of settings."""
    from pclhd.config import preset_names
    from pclhd.workflows.settings import all_settings

    keys = [f"{setting.key}=" for setting in all_settings() if setting.key != "preset"]
    return [word for word in (*preset_names(), *keys) if word.startswith(incomplete)]


def complete_recipes(incomplete: str) -> list[str]:
    """Shell completions for a recipe."""
    from pclhd.recipes import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


def verb(*, quiet: bool = False) -> Callable[[Verb], Verb]:
    """Decorator: add the options that all verbs have.

    Args:
        quiet: Whether to add ``--quiet``, because the verb prints progress or notes.
    """

    def decorate(function: Verb) -> Verb:
        # `main` removes --debug from the command line before parsing; here it is only for the help.
        extra = [_parameter("debug", Annotated[bool, _DEBUG], False)]
        if quiet:
            extra.append(_parameter("quiet", Annotated[bool, _QUIET], False))

        @functools.wraps(function)
        def called(**values: Any) -> None:
            del values["debug"]
            if values.pop("quiet", False):
                terminal.be_quiet()
            function(**values)

        called.__doc__ = unwrapped(function.__doc__ or "")
        return typing.cast(Verb, _with_parameters(called, function, extra))

    return decorate


def unwrapped(text: str) -> str:
    """A docstring with one line for each paragraph, which the terminal wraps at its own width.

    Lines below one that ends with a colon are a list and stay as they are.
    """
    paragraphs = [paragraph.split("\n") for paragraph in inspect.cleandoc(text).split("\n\n")]
    return "\n\n".join(("\n" if lines[0].endswith(":") else " ").join(lines) for lines in paragraphs)


def with_fields(
    model: type[BaseModel], *, panel: str, without: Container[str] = (), also: Mapping[str, str] | None = None
) -> Callable[[Verb], Verb]:
    """Decorator: add an option for each field of a model, with its description, choices and default.

    The verb gets the options given on the command line as one argument, ``given``.

    Args:
        model: Its fields become options.
        panel: Heading of these options in the help.
        without: Fields to leave out.
        also: Text to add to a field's default in the help.
    """
    fields = {name: field for name, field in model.model_fields.items() if name not in without}
    also = also or {}

    def decorate(function: Verb) -> Verb:
        extra = []
        for name, field in fields.items():
            default = f"{field.default}{also.get(name, '')}"
            default_text = {"show_default": default.lower() if isinstance(field.default, bool) else default}
            kind = _kind_of(field)
            if kind is str:
                default_text["metavar"] = _placeholder(model, name)
            option = typer.Option(help=field.description, rich_help_panel=panel, **default_text)  # type: ignore[arg-type]
            extra.append(_parameter(name, Annotated[kind | None, option], None))

        @functools.wraps(function)
        def called(**values: Any) -> None:
            given = {name: values.pop(name) for name in fields}
            kept = {name: value for name, value in given.items() if value is not None}
            # Text that is no choice may be a number or a word; it is read as the same text in a setting is.
            read = {name: _read(name, v) if _kind_of(fields[name]) is str else v for name, v in kept.items()}
            function(**values, given=read)

        return typing.cast(Verb, _with_parameters(called, function, extra, dropped="given"))

    return decorate


def _read(name: str, text: str) -> object:
    try:
        return parse_yaml(text)
    except Unparsable as error:
        raise ArgumentError(name, f"cannot be read ({error})", value=text) from error


def _kind_of(field: FieldInfo) -> Any:
    """The type that the command line parser can check; text for all others."""
    return field.annotation if field.annotation in (int, float, bool) or _is_choice(field) else str


def _is_choice(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is Literal


def _placeholder(model: type[BaseModel], name: str) -> str:
    schema = model.model_json_schema()["properties"][name]
    parts = schema.get("anyOf", [schema])
    return "|".join(str(part["const"]) if "const" in part else str(part.get("type", "text")).upper() for part in parts)


def _parameter(name: str, annotation: Any, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _with_parameters(
    called: Callable[..., None],
    function: Callable[..., None],
    extra: list[inspect.Parameter],
    *,
    dropped: str | None = None,
) -> Callable[..., None]:
    """A wrapper with a changed signature, from which the command line is built."""
    original = inspect.signature(function, eval_str=True).parameters.values()
    parameters_kept = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in original if one.name != dropped]
    parameters = [*parameters_kept, *extra]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called
