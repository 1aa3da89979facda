"""The records of a run: settings, log, results and provenance, written and read through the same models.

Every number is checked on the way in and on the way out. A file that was cut off or edited by hand is reported with its
name and place, before it becomes a strange picture in a report. Reading ignores keys that this version does not know;
writing refuses them, so a record cannot lose a value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from pclhd.errors import UserError
from pclhd.parsing import Unparsable, parse_json, parse_yaml, read_text

SCHEMA = 1
"""The version of the results file that this module reads and writes."""


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
    """Base of all records: text never becomes a number, and unknown keys are ignored."""

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
    per_trial: list[dict[str, Fraction]] = []


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


class NearCopies(_Saved):
    """Test images that look like a training image without being the same file, and the first of them by name."""

    count: Count
    examples: list[str] = []


class Results(_Saved):
    """What an evaluation measured.

    Training is ``unsupervised``, ``semi-supervised``, ``supervised`` or ``imported``, and None in older files. Recipe
    and seed are None for imported weights, whose training is not known. Results that combine several runs name them.

    The number of test images that the run was trained on is None where its training images are not known, and so are
    near-copies. Searches that the test images do not serve are left out, each with what it lacks.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", validate_by_name=True, validate_by_alias=True)

    schema_version: int = Field(SCHEMA, alias="schema")
    dataset: EvaluatedData
    training: str | None = None
    recipe: str | None = None
    seed: int | None = None
    trained_on_test_images: Count | None = None
    near_copies: NearCopies | None = None
    people_in_both_splits: list[int | str] = []
    left_out: dict[str, str] = {}
    rows: list[ResultRow]
    ranked_examples: RankedExamples = RankedExamples()
    runs: list[str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it is saved: fractions from 0 to 1, and only what was set."""
        return {"schema": self.schema_version, **self.model_dump(by_alias=True, exclude_unset=True)}


class ClusterRecord(_Saved):
    """The pseudo labels of one modality in one epoch; sizes count images, noise is a share of the images."""

    images: Count | None = None
    clusters: Count
    noise: Fraction
    size_min: Count | None = None
    size_median: Finite | None = None
    size_max: Count | None = None
    silhouette: Finite | None = None
    eps: Finite | None = None
    recall: Fraction | None = None
    loosened: bool = False
    confidence: Fraction | None = None
    shared_clusters: Count | None = None


class StepRecord(_Saved):
    """A logged step; the losses of its batch by name."""

    kind: Literal["step"]
    epoch: Count
    stage: Count | None = None
    step: Count
    global_step: Count | None = None
    lr: Finite | None = None
    loss: dict[str, float | None]


class EpochRecord(_Saved):
    """An epoch; a loss may be NaN or null, which a report shows as a gap."""

    kind: Literal["epoch"] = "epoch"
    epoch: Count
    stage: Count
    seconds: Finite | None = None
    seconds_clustering: Finite | None = None
    images_per_second: Finite | None = None
    lr: Finite | None = None
    loss: dict[str, float | None] = {}
    criteria: dict[str, float] = {}
    kept_labels: list[str] = []
    visible: ClusterRecord | None = None
    infrared: ClusterRecord | None = None
    joint: ClusterRecord | None = None
    matched: dict[str, Fraction | None] | None = None
    labels: dict[str, float | None] | None = None


class RestartRecord(_Saved):
    """A return to the start of an epoch, after a loss that was not finite."""

    kind: Literal["restart"]
    epoch: Count
    restarts: Count
    lr: Finite
    reason: str


class Selected(_Saved):
    """The epoch whose weights a run ends with, and what chose it."""

    by: str
    epoch: Count | None


class SelectionRecord(_Saved):
    """What the criteria say of the last epoch, and which epoch was selected."""

    kind: Literal["selection"]
    epoch: Count
    criteria: dict[str, float]
    selected: Selected


LogRecord = StepRecord | EpochRecord | RestartRecord | SelectionRecord

_KINDS: dict[str, type[LogRecord]] = {
    "step": StepRecord,
    "epoch": EpochRecord,
    "restart": RestartRecord,
    "selection": SelectionRecord,
}

_RESTORE_LINE = "delete the line, or restore the file that training wrote"


class Provenance(_Saved):
    """Where a run's numbers come from. What an older version did not record is absent."""

    pclhd: str
    commit: str | None = None
    dirty: bool | None = None
    python: str
    libraries: dict[str, str]
    machine: dict[str, Any]
    device: str | None = None
    threads: Count | None = None
    numba_threads: Count | None = None
    processes: Count | None = None
    precision: str | None = None
    seed: int | None = None
    start_weights: dict[str, str] | None = None
    data: dict[str, Any] | None = None
    cameras: dict[str, dict[str, Count]] | None = None
    resumed: list[dict[str, Any]] = []
    imported: dict[str, Any] | None = None


_Part = TypeVar("_Part", bound=BaseModel)


def parse_results(saved: Mapping[str, Any] | Results) -> Results:
    """Results from their in-memory form.

    Raises:
        ValueError: A value is missing or out of range (pydantic's error, which names the key).
    """
    return saved if isinstance(saved, Results) else Results.model_validate(dict(saved))


def read_results(path: Path) -> Results | None:
    """Read the results file; None if there is none.

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


def results_json(results: Results) -> str:
    """The text of a results file."""
    return json.dumps(results.to_dict(), indent=1, ensure_ascii=False) + "\n"


def provenance_text(facts: Mapping[str, Any]) -> str:
    """The text of a provenance file.

    Raises:
        ValueError: A value is missing, unknown or out of range.
    """
    checked = Provenance.model_validate(dict(facts), extra="forbid")
    return json.dumps(checked.model_dump(exclude_unset=True), indent=2) + "\n"


def log_line(record: Mapping[str, Any]) -> str:
    """A line of the log, with its line feed.

    Args:
        record: What one of the models of `LogRecord` holds, ``kind`` included.

    Raises:
        ValueError: A value is missing, unknown or out of range.
    """
    model = _KINDS[record["kind"]]
    checked = model.model_validate(dict(record), extra="forbid")
    return json.dumps(checked.model_dump(exclude_unset=True), ensure_ascii=False) + "\n"


def parse_log_line(line: str, where: str) -> LogRecord | None:
    """Read a line of the log; None if it is of a kind that this version does not know.

    Args:
        line: One JSON object.
        where: File and line, for the message.

    Raises:
        UserError: It is not a JSON object, or a value is missing or out of range.
    """
    saved = _parse_json(line, where, _RESTORE_LINE, one_line=True)
    if not isinstance(saved.get("kind"), str):
        raise UserError(f"{where}: `kind` is missing; {_RESTORE_LINE}")
    model = _KINDS.get(saved["kind"])
    return None if model is None else _validate(model, saved, where, _RESTORE_LINE)


def read_log(path: Path) -> list[LogRecord]:
    """Read the log, line by line; an empty list if there is no such file.

    A last line cut off by a kill is left out, as it is when the run is resumed.

    Raises:
        UserError: A line is not a JSON object, or a value in it is missing or out of range; the message has the line.
    """
    if not path.exists():
        return []
    *lines, unfinished = _read_text(path).split("\n")
    if _is_json(unfinished):
        lines.append(unfinished)
    numbered = ((f"{path}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip())
    records = (parse_log_line(line, where) for where, line in numbered)
    return [record for record in records if record is not None]


def read_epochs(path: Path) -> list[EpochRecord]:
    """Read the epochs of the log in the order of training; an empty list if there is no such file.

    If an epoch appears twice, the later line counts.

    Raises:
        UserError: As `read_log`.
    """
    latest = {(one.stage, one.epoch): one for one in read_log(path) if isinstance(one, EpochRecord)}
    return [latest[key] for key in sorted(latest)]


def read_settings(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Read the settings file as the text it is and as a mapping; None if there is none.

    Raises:
        UserError: The file is unreadable, not YAML, or not a mapping.
    """
    if not path.exists():
        return None
    text = _read_text(path)
    try:
        settings = parse_yaml(text)
    except Unparsable as error:
        line = "" if error.line is None else f", line {error.line}"
        raise UserError(f"{path}{line}: not valid YAML ({error}); restore the file that training wrote") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected settings as `key: value` lines, found {type(settings).__name__}")
    return text, settings


def read_facts(path: Path) -> dict[str, str]:
    """Read the provenance as text by dotted key, such as `libraries.torch`; empty if there is no such file.

    What was looked for and is not there is ``none``; sessions that resumed are numbered from 0 (`resumed.0.epoch`).

    Raises:
        UserError: The file is unreadable or not a JSON object.
    """
    if not path.exists():
        return {}
    facts = flatten(_parse_json(_read_text(path), f"{path}", "restore the file that training wrote"))
    return {key: "none" if value in (None, []) else str(value) for key, value in facts.items()}


def recorded_fact(facts: Mapping[str, str], key: str) -> str | None:
    """One of `read_facts`: ``none`` where it was looked for and was not there, None where nobody looked.

    Before a run's machine was recorded with its model, libraries and machine were told in part.
    """
    section = key.partition(".")[0]
    looked = any(name.partition(".")[0] == section for name in facts)
    if section in ("libraries", "machine"):
        looked = looked and "machine.model" in facts
    return facts.get(key, "none" if looked else None)


def flatten(tree: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """The values of nested mappings by their joined keys, such as ``libraries.torch``.

    Mappings in a list are numbered from 0 (``resumed.0.epoch``). Other lists, and empty ones, are values.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            flat |= {f"{key}{separator}{rest}": leaf for rest, leaf in flatten(value, separator).items()}
        else:
            flat[str(key)] = value
    return flat


def find_setting(settings: Mapping[str, Any], key: str) -> object | None:
    """The value at a dotted key such as `data.root`; None if it is not there."""
    value: object = settings
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _read_text(path: Path) -> str:
    return read_text(path, "restore the file that pclhd wrote")


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except Unparsable:
        return False
    return True


def _parse_json(text: str, where: str, mend: str, *, one_line: bool = False) -> dict[str, Any]:
    try:
        saved = parse_json(text)
    except Unparsable as error:
        line = f", line {error.line}" if error.line is not None and not one_line else ""
        column = "" if error.column is None else f", column {error.column}"
        raise UserError(f"{where}{line}{column}: not valid JSON ({error}); {mend}") from error
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
