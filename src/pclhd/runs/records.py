"""Read a run folder's saved results, checking every number on the way in.

A report shows what `results.json` and `metrics.jsonl` say, so a file that was cut off or edited by hand must be told of
here, with its name and place, and not as a strange picture later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from pclhd.errors import UserError

SCHEMA = 1
"""The version of `results.json` that this module reads."""


def _check_share(value: float) -> float:
    # The mean of shares may pass 1 by a rounding error of single precision; NaN fails both comparisons.
    if not -1e-6 <= value <= 1 + 1e-6:
        raise PydanticCustomError("share", "Input should be a share between 0 and 1")
    return value


Fraction = Annotated[float, AfterValidator(_check_share)]
"""A share between 0 and 1."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Saved(BaseModel):
    """Base of the file's parts: no silent conversion of text to numbers, unknown keys left alone."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Spread(_Saved):
    """Mean and standard deviation over the trials, as fractions."""

    mean: Fraction
    std: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class ResultRow(_Saved):
    """How one set of weights did in one search."""

    weights: str
    search: str
    trials: Count = 1
    rank1: Spread
    rank5: Spread | None = None
    rank10: Spread
    rank20: Spread | None = None
    mAP: Spread
    mINP: Spread
    cmc: list[Fraction] = []
    queries: Count | None = None
    valid_queries: Count | None = None
    gallery: Count | None = None


class RankedImage(_Saved):
    """One gallery image in a ranked list."""

    path: str
    identity: int | str | None = None
    camera: int | str | None = None
    modality: str | None = None
    correct: bool
    distance: Finite | None = None


class QueryImage(_Saved):
    """The image that was searched for."""

    path: str
    identity: int | str | None = None
    camera: int | str | None = None
    modality: str | None = None


class RankedExample(_Saved):
    """A query and the head of its ranked list."""

    query: QueryImage
    gallery: list[RankedImage]
    first_correct_rank: Annotated[int, Field(ge=1)] | None = None


class RankedExamples(_Saved):
    """Ranked lists of the same queries under several weights."""

    search: str | None = None
    weights: dict[str, list[RankedExample]] = {}


class EvaluatedData(_Saved):
    """The data that was evaluated on, with checksums of its training and test images.

    That of the test images, and whether `pclhd synth` drew them, is None in files from before that was recorded.
    """

    name: str
    checksum: str | None = None
    test_checksum: str | None = None
    train_images: Count | None = None
    test_images: Count | None = None
    synthetic: bool | None = None


class Results(_Saved):
    """All of `results.json`.

    Training is ``unsupervised``, ``semi-supervised``, ``supervised`` or ``imported``, and None in older files.
    """

    schema_version: int = Field(alias="schema")
    dataset: EvaluatedData
    training: str | None = None
    rows: list[ResultRow]
    ranked_examples: RankedExamples = RankedExamples()


class ClusterSummary(_Saved):
    """The pseudo labels of one modality in one epoch; sizes count images, noise is a share of the images."""

    images: Count | None = None
    clusters: Count
    noise: Fraction
    size_min: Finite | None = None
    size_median: Finite | None = None
    size_max: Finite | None = None


class Epoch(_Saved):
    """One epoch's line of `metrics.jsonl`; a loss may be NaN or null, which is shown as a gap."""

    epoch: Count
    stage: Count
    seconds: Finite | None = None
    seconds_clustering: Finite | None = None
    images_per_second: Finite | None = None
    lr: Finite | None = None
    loss: dict[str, float | None] = {}
    visible: ClusterSummary | None = None
    infrared: ClusterSummary | None = None
    joint: ClusterSummary | None = None
    matched: dict[str, Fraction | None] | None = None
    labels: dict[str, float | None] | None = None


_Part = TypeVar("_Part", bound=BaseModel)


def parse_results(saved: Mapping[str, Any] | Results) -> Results:
    """Results from their in-memory form.

    Raises:
        ValueError: A value is missing or out of range (pydantic's error, which names the key).
    """
    return saved if isinstance(saved, Results) else Results.model_validate(dict(saved))


def read_results(path: Path) -> Results | None:
    """Read `results.json`; None if there is none.

    Raises:
        UserError: The file is unreadable, is not JSON, has another schema, or a value is missing or out of range.
    """
    if not path.exists():
        return None
    mend = "run `pclhd evaluate RUN` to write it again"
    saved = _parse_json(_read_text(path), f"{path}", mend)
    version = saved.get("schema")
    if version != SCHEMA:
        raise UserError(f"{path}: schema is {version!r}, but this version of pclhd reads {SCHEMA}; {mend}")
    return _validate(Results, saved, f"{path}", mend)


def read_epochs(path: Path) -> list[Epoch]:
    """Read the epochs of `metrics.jsonl` in the order of training; an empty list if there is no such file.

    If an epoch is there twice, the later line counts. Lines of other kinds (steps) are only checked to be JSON objects.
    A last line cut off by a kill is left out, as it is when the run is resumed.

    Raises:
        UserError: A line is not a JSON object, or a value in it is missing or out of range; the message has the line.
    """
    if not path.exists():
        return []
    latest: dict[tuple[int, int], Epoch] = {}
    *lines, unfinished = _read_text(path).split("\n")
    if _is_json(unfinished):
        lines.append(unfinished)
    mend = "delete the line, or restore the file that training wrote"
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        saved = _parse_json(line, where, mend, one_line=True)
        if saved.get("kind") == "epoch":
            epoch = _validate(Epoch, saved, where, mend)
            latest[epoch.stage, epoch.epoch] = epoch
    return [latest[key] for key in sorted(latest)]


def read_settings(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Read `config.yaml` as the text it is and as a mapping; None if there is none.

    Raises:
        UserError: The file is unreadable, not YAML, or not a mapping.
    """
    if not path.exists():
        return None
    text = _read_text(path)
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise UserError(f"{path}{line}: not valid YAML ({problem}); restore the file that training wrote") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected settings as `key: value` lines, found {type(settings).__name__}")
    return text, settings


def read_facts(path: Path) -> dict[str, str]:
    """Read `provenance.json` as text by dotted key, such as `libraries.torch`; empty if there is no such file.

    What was looked for and is not there is ``none``; sessions that resumed are numbered from 0 (`resumed.0.epoch`).

    Raises:
        UserError: The file is unreadable or not a JSON object.
    """
    if not path.exists():
        return {}
    return _flatten(_parse_json(_read_text(path), f"{path}", "restore the file that training wrote"))


def recorded_fact(facts: Mapping[str, str], key: str) -> str | None:
    """One of `read_facts`: ``none`` where it was looked for and was not there, None where nobody looked.

    Before a run's machine was recorded with its model, libraries and machine were told in part.
    """
    section = key.partition(".")[0]
    looked = any(name.partition(".")[0] == section for name in facts)
    if section in ("libraries", "machine"):
        looked = looked and "machine.model" in facts
    return facts.get(key, "none" if looked else None)


def find_setting(settings: Mapping[str, Any], key: str) -> object | None:
    """The value at a dotted key such as `data.root`; None if it is not there."""
    value: object = settings
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); restore the file that pclhd wrote") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it a readable file") from error


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            value = {str(number): one for number, one in enumerate(value)} or None
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = "none" if value is None else str(value)
    return flat


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def _parse_json(text: str, where: str, mend: str, *, one_line: bool = False) -> dict[str, Any]:
    try:
        saved = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        problem, place = "nested too deeply", ""
        if isinstance(error, json.JSONDecodeError):
            problem = error.msg
            place = f", column {error.colno}" if one_line else f", line {error.lineno}, column {error.colno}"
        raise UserError(f"{where}{place}: not valid JSON ({problem}); {mend}") from error
    if not isinstance(saved, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(saved).__name__}; {mend}")
    return saved


def _validate(part: type[_Part], saved: Mapping[str, Any], where: str, mend: str) -> _Part:
    try:
        return part.model_validate(saved)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).removeprefix(".")
        if first["type"] == "missing":
            raise UserError(f"{where}: `{key}` is missing; {mend}") from error
        value = repr(first["input"])
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        message = first["msg"].replace("Input should", "it should")
        raise UserError(f"{where}: `{key}` is {shown}, but {message}; {mend}") from error
