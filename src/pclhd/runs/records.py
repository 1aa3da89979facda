"""The records of a run: settings, log, results and provenance, written and read through the same models.

Every number is validated when written and when read. A truncated or manually edited file is reported with its name and
place, so that it cannot distort a report. Reading ignores unknown keys; writing refuses them, so a record cannot lose a
value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from pclhd.errors import UserError
from pclhd.parsing import Unparsable, parse_json, read_text, yaml_mapping
from pclhd.text_tables import printable

SCHEMA = 1
"""The version of the results file that this module reads and writes."""


def _check_share(value: float) -> float:
    # The mean of shares may exceed 1 by a rounding error of single precision; NaN fails both comparisons.
    if not -1e-6 <= value <= 1 + 1e-6:
        raise PydanticCustomError("share", "Input should be a share between 0 and 1")
    return value


Fraction = Annotated[float, AfterValidator(_check_share)]
"""A share between 0 and 1."""


def _check_size(value: float) -> float:
    # NaN and infinities fail no comparison of this kind: a loss may have become one.
    if math.isfinite(value) and abs(value) > _LARGEST:
        raise PydanticCustomError("size", "Input should be a number of usual size")
    return value


#: Beyond what 32 bits can hold: no computation here writes larger numbers, and a figure has no axis for them.
_LARGEST = 1e39

Number = Annotated[float, AfterValidator(_check_size)]
"""A number that may be NaN or infinite."""

Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_check_size)]
#: A learning rate: any that the settings accept. It is printed, but not drawn.
Rate = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Text = Annotated[str, AfterValidator(printable)]
"""Words that are shown: characters that command a terminal are escaped."""


class _Saved(BaseModel):
    """Base of all records: text never becomes a number, and unknown keys are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Spread(_Saved):
    """Mean and standard deviation over the trials, as fractions."""

    mean: Fraction
    std: Annotated[float, Field(ge=0, le=1e39, allow_inf_nan=False)] | None = None


class ResultRow(_Saved):
    """The measures of one set of weights in one search."""

    weights: Text
    search: Text
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
    """A query image."""

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
    """Ranked lists of the same queries under several weights.

    Those in `chosen`, under the final weights, were chosen by how well they are answered: ``best``, ``worst``, or
    drawn at ``random``. Absent in older files.
    """

    search: Text | None = None
    weights: dict[Text, list[RankedExample]] = {}
    chosen: dict[Text, list[RankedExample]] = {}


class PairSimilarities(_Saved):
    """Numbers of pairs of a visible and an infrared image, in equal bins of their cosine from −1 to 1."""

    same: list[Count]
    different: list[Count]


class ConfusedPeople(_Saved):
    """Two people, and the number of queries of either whose nearest image shows the other; one such query."""

    queries: Count
    query: QueryImage
    found: RankedImage


class EvaluatedData(_Saved):
    """The evaluated data set, with checksums of its training and test images.

    The checksum of the test images, and whether `pclhd synth` drew them, are None in older files. Of drawn people, the
    test images show those to choose by (validation) or those for final figures (test); None where that is not known.
    """

    name: str
    checksum: str | None = None
    test_checksum: str | None = None
    train_images: Count | None = None
    test_images: Count | None = None
    synthetic: bool | None = None
    held_out: Literal["validation", "test"] | None = None


class NearCopies(_Saved):
    """Test images that look like a training image without being the same file, and the first of them by name."""

    count: Count
    examples: list[str] = []


class Results(_Saved):
    """The results of an evaluation.

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
    left_out: dict[Text, Text] = {}
    rows: list[ResultRow]
    ranked_examples: RankedExamples = RankedExamples()
    similarities: dict[Text, PairSimilarities] = {}
    confused: list[ConfusedPeople] = []
    runs: list[str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The results as saved: fractions from 0 to 1, without fields that were not set."""
        return {"schema": self.schema_version, **self.model_dump(by_alias=True, exclude_unset=True)}


class ClusterRecord(_Saved):
    """The pseudo labels of one modality in one epoch; sizes are numbers of images, noise is a share of the images."""

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
    lr: Rate | None = None
    loss: dict[str, Number | None]


class EpochRecord(_Saved):
    """An epoch; a loss may be NaN or null, which a report shows as a gap."""

    kind: Literal["epoch"] = "epoch"
    epoch: Count
    stage: Count
    seconds: Finite | None = None
    seconds_clustering: Finite | None = None
    images_per_second: Finite | None = None
    lr: Rate | None = None
    loss: dict[str, Number | None] = {}
    criteria: dict[str, Number] = {}
    kept_labels: list[str] = []
    visible: ClusterRecord | None = None
    infrared: ClusterRecord | None = None
    joint: ClusterRecord | None = None
    matched: dict[str, Fraction | None] | None = None
    labels: dict[str, Number | None] | None = None


class RestartRecord(_Saved):
    """A restart of an epoch after a loss that was not finite."""

    kind: Literal["restart"]
    epoch: Count
    restarts: Count
    lr: Rate
    reason: Text


class FailureRecord(_Saved):
    """An error that ended the training in an epoch; the first line of its message. A resumed training removes it."""

    kind: Literal["failure"]
    epoch: Count
    reason: Text


class Selected(_Saved):
    """The epoch whose weights became the final model, and the criterion."""

    by: str
    epoch: Count | None


class SelectionRecord(_Saved):
    """The criteria of the last epoch, and the selected epoch."""

    kind: Literal["selection"]
    epoch: Count
    criteria: dict[str, Number]
    selected: Selected


LogRecord = StepRecord | EpochRecord | RestartRecord | FailureRecord | SelectionRecord

_KINDS: dict[str, type[LogRecord]] = {
    "step": StepRecord,
    "epoch": EpochRecord,
    "restart": RestartRecord,
    "failure": FailureRecord,
    "selection": SelectionRecord,
}

_RESTORE_LINE = "delete the line, or restore the file that training wrote"


class Provenance(_Saved):
    """The provenance of a run. Facts that an older version did not record are absent."""

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
    """Results from a mapping.

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
    advice = "run `pclhd evaluate RUN` to write it again"
    saved = _parse_json(_read_text(path), f"{path}", advice)
    version = saved.get("schema")
    if version != SCHEMA:
        raise UserError(f"{path}: schema is {version!r}, but this version of pclhd reads {SCHEMA}; {advice}")
    return _validate(Results, saved, f"{path}", advice)


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
        record: Fields of one of the models of `LogRecord`, including ``kind``.

    Raises:
        ValueError: A value is missing, unknown or out of range.
    """
    model = _KINDS[record["kind"]]
    checked = model.model_validate(dict(record), extra="forbid")
    return json.dumps(checked.model_dump(exclude_unset=True), ensure_ascii=False) + "\n"


def parse_log_line(line: str, where: str) -> LogRecord | None:
    """Read a line of the log; None if this version does not know its kind.

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

    A last line that was truncated by a kill is skipped, as it is when the run is resumed.

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
    """Read the settings file as text and as a mapping; None if there is none.

    Raises:
        UserError: The file is unreadable, not YAML, or not a mapping.
    """
    if not path.exists():
        return None
    text = _read_text(path)
    return text, yaml_mapping(text, path, "settings as 'key: value' lines", "restore the file that training wrote")


def read_facts(path: Path) -> dict[str, str]:
    """Read the provenance as text by dotted key, such as `libraries.torch`; empty if there is no such file.

    A fact that was checked and is absent is ``none``; resumed sessions are numbered from 0 (`resumed.0.epoch`).

    Raises:
        UserError: The file is unreadable or not a JSON object.
    """
    if not path.exists():
        return {}
    facts = flatten(_parse_json(_read_text(path), f"{path}", "restore the file that training wrote"))
    return {key: "none" if value in (None, []) else str(value) for key, value in facts.items()}


def recorded_fact(facts: Mapping[str, str], key: str) -> str | None:
    """A fact from `read_facts`: ``none`` if it was checked and is absent, None if it was not recorded.

    Versions that did not record the machine's model recorded libraries and machine only in part.
    """
    section = key.partition(".")[0]
    was_recorded = any(name.partition(".")[0] == section for name in facts)
    if section in ("libraries", "machine"):
        was_recorded = was_recorded and "machine.model" in facts
    return facts.get(key, "none" if was_recorded else None)


def flatten(tree: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """The values of nested mappings by their joined keys, such as ``libraries.torch``.

    Mappings in a list are numbered from 0 (``resumed.0.epoch``). All other lists are values.
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
    """The value at a dotted key such as `data.root`; None if it does not exist."""
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


def _parse_json(text: str, where: str, advice: str, *, one_line: bool = False) -> dict[str, Any]:
    try:
        saved = parse_json(text)
    except Unparsable as error:
        line = f", line {error.line}" if error.line is not None and not one_line else ""
        column = "" if error.column is None else f", column {error.column}"
        raise UserError(f"{where}{line}{column}: not valid JSON ({error}); {advice}") from error
    if not isinstance(saved, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(saved).__name__}; {advice}")
    return saved


def _validate(part: type[_Part], saved: Mapping[str, Any], where: str, advice: str) -> _Part:
    try:
        return part.model_validate(saved)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).removeprefix(".")
        if first["type"] == "missing":
            raise UserError(f"{where}: `{key}` is missing; {advice}") from error
        value = repr(first["input"])
        value_text = value if len(value) <= 60 else f"{value[:57]}..."
        message = first["msg"].replace("Input should", "it should")
        raise UserError(f"{where}: `{key}` is {value_text}, but {message}; {advice}") from error
