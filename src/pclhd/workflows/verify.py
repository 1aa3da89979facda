"""`pclhd verify`: train a run's first epoch again in a temporary folder, and compare it with the run's log."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file

from pclhd.config import Settings
from pclhd.data.records import Dataset, digest_file
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.observer import Silent
from pclhd.engine.position import Position
from pclhd.engine.trainer import train
from pclhd.errors import UserError
from pclhd.files import expanded
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import EpochRecord, StepRecord, recorded_fact
from pclhd.workflows.train import labeller_for

Section = TypeVar("Section", bound=BaseModel)


@dataclass(frozen=True)
class Tolerance:
    """Allowed difference of a number: |repeated − logged|, divided by |logged| if that is above 1 (ours).

    Attributes:
        start: For the start weights, the clusters, and the losses of the first step.
        step: For the losses of later steps.
        mean: For the losses averaged over the epoch.
    """

    start: float
    step: float
    mean: float


EXACT = Tolerance(0.0, 0.0, 0.0)
"""If nothing that affects rounding has changed."""

_HALF = Tolerance(0.01, 0.5, 0.05)
ELSEWHERE = {"32-true": Tolerance(1e-4, 0.1, 0.02), "bf16-mixed": _HALF, "16-mixed": _HALF}
"""If another machine, library or version of the code was used, by precision.

A training is chaotic: Adam makes a full step even for a tiny gradient, so differences grow from step to step until the
losses of single batches are hardly comparable. Only the start has a tight tolerance.
"""

_ENVIRONMENT = (
    "pclhd",
    "commit",
    "python",
    "libraries.",
    "machine.processor",
    "machine.model",
    "machine.instructions",
    "device",
    "threads",
    "numba_threads",
    "processes",
    "precision",
)
"""The facts of the provenance on which the last bits of a number depend; a name ending in a dot is a section."""

# Key in `read_facts` of the epoch in which a session resumed.
_SESSION = re.compile(r"resumed\.\d+\.epoch")

# Fields of an epoch's record that depend on time or identities, or give its position.
_NOT_REPEATED = frozenset({"seconds", "seconds_clustering", "images_per_second", "labels", "epoch", "stage", "kind"})


@dataclass(frozen=True)
class LoggedEpoch:
    """The log of a run's first epoch.

    Attributes:
        run: The run folder.
        steps: Numbers by name for each logged step.
        record: Numbers by name for the whole epoch.
        facts: Provenance by dotted key.
    """

    run: Path
    steps: dict[int, dict[str, float]]
    record: dict[str, float]
    facts: dict[str, str]


@dataclass(frozen=True)
class Difference:
    """A number that differs.

    Attributes:
        place: Position in the training, such as ``epoch 0 step 10``.
        name: Name of the number.
        logged: Value in the log; None for something other than a number.
        repeated: Value now; None if there is no such number any more.
        size: Size of the difference, see `Tolerance`.
        allowed: Allowed size.
    """

    place: str
    name: str
    logged: float | None
    repeated: float | None
    size: float
    allowed: float

    @property
    def matters(self) -> bool:
        """Whether the difference is larger than allowed."""
        return self.size > self.allowed

    def __str__(self) -> str:
        if self.logged is None:
            return f"{self.place}, {self.name}"
        return f"{self.place}, {self.name} {_pair(self.logged, self.repeated)}"


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        verdict: ``identical`` (to the last bit), ``close`` (within the tolerance), or ``differs``.
        differences: In the order of training.
        compared: Number of compared values.
        steps: Number of logged steps that they come from.
        tolerance: The tolerance used.
        environment: Changes of the environment, one entry each.
        notes: Further notes.
    """

    verdict: Literal["identical", "close", "differs"]
    differences: tuple[Difference, ...]
    compared: int
    steps: int
    tolerance: Tolerance
    environment: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the first epoch was reproduced."""
        return self.verdict != "differs"

    def text(self) -> str:
        """The verdict as text."""
        what = f"{self.compared} numbers of the first epoch ({self.steps} logged steps, and the epoch's record)"
        if self.verdict == "identical":
            lines = [f"identical: {what}"]
        elif self.verdict == "close":
            largest = self._largest
            lines = [
                f"equal within {_power_above(largest.size)}: {what}",
                f"largest difference: {largest} ({largest.allowed:g} allowed)",
            ]
        else:
            off = [one for one in self.differences if one.matters]
            lines = [f"differs: first at {off[0]}"]
            if self.compared:
                how = "at all" if self.tolerance == EXACT else "more than rounding explains"
                lines.append(f"{len(off)} of {self.compared} numbers differ {how}; largest difference: {self._largest}")
        if self.environment:
            lines.append(f"changed since: {', '.join(self.environment)}")
        elif self.verdict == "differs" and self.compared:
            lines.append("libraries, machine and code are the same, as far as the run recorded them")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    @property
    def _largest(self) -> Difference:
        return max(self.differences, key=lambda one: one.size)


def read_logged_epoch(run: Path) -> LoggedEpoch:
    """Read the log of a run's first epoch.

    Args:
        run: A run folder, finished or interrupted.

    Raises:
        UserError: The log has no complete epoch, the run was imported or trained by ``upper-bound``, or a file is
            damaged.
    """
    folder = RunFolder(run)
    facts = folder.facts()
    if any(key.startswith("imported.") for key in facts):
        raise UserError(f"{run}: was imported, so there is no training to repeat; verify a run that `pclhd train` made")
    first = [one for one in folder.log() if one.epoch == 0]
    epochs = [one for one in first if isinstance(one, EpochRecord)]
    if not epochs:
        if folder.model_metadata().get("weights") == "supervised":
            raise UserError(f"{run}: was trained by `pclhd upper-bound`, which logged nothing to compare")
        raise UserError(
            f"{folder.log_file}: has no complete epoch to compare with; continue with: pclhd train --resume {run}"
        )
    if "data.training_checksum" not in facts:
        raise UserError(
            f"{folder.provenance_file}: has no checksum of the training images; restore the file that training wrote"
        )
    steps = {one.step: _numbers({"loss": one.loss}) for one in first if isinstance(one, StepRecord)}
    record = _repeatable(epochs[-1].model_dump(exclude_unset=True))
    return LoggedEpoch(run, steps, record, facts)


def verify_run(logged: LoggedEpoch, settings: Settings, dataset: Dataset) -> Verification:
    """Train the first epoch again in a temporary folder, and compare (ours).

    The run folder is only read. On the machine that made it, on the CPU and with the same libraries, code and number of
    threads, every number must be bit-identical. Otherwise, the tolerance is `ELSEWHERE`. If rounding then moves an
    image to another cluster, other batches are drawn, and the verdict is ``differs``.

    Args:
        logged: Log of the run's first epoch.
        settings: Settings of the run.
        dataset: Data set of the run.

    Raises:
        UserError: The training cannot be repeated here: an accelerator or a file is missing, or there are several
            processes.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "a run is verified by one process, also if several trained it; start pclhd verify without torchrun"
        )
    theirs = logged.facts["data.training_checksum"]
    if dataset.train.checksum != theirs:
        what = (
            f"training images: checksum {dataset.train.checksum[:12]}, the run's was {theirs[:12]}; nothing was trained"
        )
        other = Difference("the start", what, None, None, math.inf, 0.0)
        return Verification("differs", (other,), 0, 0, EXACT)
    own_start = RunFolder(logged.run).weights_file("start")
    notes = []
    missing = _missing_weights(settings.model.weights)
    if missing is not None and own_start.is_file():
        notes.append(f"{missing} is missing; trained from the start weights saved in the run")
        settings = _changed(settings, model=_changed(settings.model, weights=str(own_start.resolve())))
    with TemporaryDirectory(prefix="pclhd-verify-") as folder:
        again = Path(folder) / "run"
        repeated = _train_first_epoch(settings, dataset, again)
        facts = RunFolder(again).facts()
        start = None
        if own_start.is_file():
            start = _compare_weights(own_start, RunFolder(again).weights_file("start"))
        else:
            notes.append(f"{own_start} is missing, so the start weights were not compared")
    threads, numba_threads = (_known_change(logged.facts, facts, key) for key in ("threads", "numba_threads"))
    if threads or numba_threads:
        # They cannot be set here: numba reads its number of threads when it is loaded, and passes it to torch.
        known = logged.facts.get("threads"), logged.facts.get("numba_threads", logged.facts.get("threads"))
        words = f"OMP_NUM_THREADS={known[0]} NUMBA_NUM_THREADS={known[1]}"
        notes.append(f"to use the same number of threads: {words} pclhd verify {logged.run}")
    if logged.facts.get("dirty") == "True" or facts.get("dirty") == "True":
        notes.append("the code had uncommitted changes")
    changes = _changes_on_resuming(logged.facts)
    same = _must_be_identical(logged.facts, facts) and not changes
    tolerance = EXACT if same else ELSEWHERE[facts["precision"]]
    differences, compared = _compare(logged, repeated, tolerance)
    if start is not None:
        differences.insert(0, replace(start, allowed=tolerance.start))
    off = any(one.matters for one in differences)
    return Verification(
        "differs" if off else "close" if differences else "identical",
        tuple(differences),
        compared,
        len(logged.steps),
        tolerance,
        (*_environment_differences(logged.facts, facts), *changes),
        tuple(notes),
    )


class _FirstEpochOver(Exception):
    """Ends a training after its first epoch."""


class _FirstEpoch(Silent):
    """Records the numbers of the first epoch, then stops the training; so the settings need no change."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, float]] = {}
        self.record: dict[str, float] = {}

    def stepped(self, position: Position, step: int, losses: Mapping[str, float]) -> None:
        """Record the step's losses."""
        self.steps[step] = _numbers({"loss": dict(losses)})

    def epoch_ended(self, position: Position, labels: EpochLabels, record: Mapping[str, object]) -> dict[str, float]:
        """Record the epoch's numbers, and stop."""
        self.record = _repeatable(dict(record))
        raise _FirstEpochOver


def _train_first_epoch(settings: Settings, dataset: Dataset, run: Path) -> _FirstEpoch:
    labeller = labeller_for(settings, dataset)
    observer = _FirstEpoch()
    try:
        train(settings, dataset.train, run, observer, labeller=labeller)
    except _FirstEpochOver:
        return observer
    raise UserError("the settings have no epochs, so there is nothing to repeat; restore the run's settings file")


def _changed(section: Section, **changes: object) -> Section:
    return section.model_copy(update=changes)


def _missing_weights(weights: str) -> str | None:
    """The file with the start weights of the settings, if it is missing."""
    if weights in {"none", "starter", "imagenet"}:
        return None
    path = expanded(Path(weights.removeprefix("imagenet:")))
    return None if path.is_file() else str(path)


def _compare_weights(logged: Path, repeated: Path) -> Difference | None:
    if digest_file(logged) == digest_file(repeated):
        return None
    try:
        ours, theirs = load_file(repeated), load_file(logged)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{logged}: is damaged ({error}); restore the file that training wrote") from error
    place = "the start"
    if {name: tensor.shape for name, tensor in ours.items()} != {name: tensor.shape for name, tensor in theirs.items()}:
        return Difference(place, "start weights: those of another network", None, None, math.inf, 0.0)
    size, name = max(
        (
            (float((tensor.double() - theirs[name].double()).abs().max()) if tensor.numel() else 0.0, name)
            for name, tensor in ours.items()
        ),
        default=(0.0, ""),
    )
    # The files may differ only in their headers.
    if size == 0:
        return None
    return Difference(place, f"start weights: {name} differs by up to {size:.3g}", None, None, size, 0.0)


def _compare(logged: LoggedEpoch, repeated: _FirstEpoch, tolerance: Tolerance) -> tuple[list[Difference], int]:
    """All differences, clusters first, as in training; and the number of compared values."""
    clusters = {name: value for name, value in logged.record.items() if not name.startswith("loss ")}
    means = {name: value for name, value in logged.record.items() if name.startswith("loss ")}
    parts = [("epoch 0", clusters, repeated.record, tolerance.start)]
    for step in sorted(logged.steps):
        allowed = tolerance.step if step else tolerance.start
        parts.append((f"epoch 0 step {step}", logged.steps[step], repeated.steps.get(step, {}), allowed))
    parts.append(("epoch 0, mean", means, repeated.record, tolerance.mean))
    differences = []
    for place, before, now, allowed in parts:
        for name, value in before.items():
            size = _size(value, now.get(name))
            if size:
                differences.append(Difference(place, name, value, now.get(name), size, allowed))
    return differences, sum(len(before) for _, before, _, _ in parts)


def _size(logged: float, repeated: float | None) -> float:
    if repeated is None:
        return math.inf
    if logged == repeated or (math.isnan(logged) and math.isnan(repeated)):
        return 0.0
    size = abs(repeated - logged) / max(1.0, abs(logged))
    return size if math.isfinite(size) else math.inf


def _must_be_identical(logged: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether nothing that affects rounding has changed. A GPU may add numbers in a different order each time."""
    certain = all(
        facts.get("dirty") != "True" and facts.get("machine.model", "none") != "none" for facts in (logged, now)
    )
    return certain and logged.get("device") == "cpu" and _environment(logged) == _environment(now)


def _changes_on_resuming(facts: Mapping[str, str]) -> list[str]:
    """Changes of the environment in sessions that resumed within the first epoch."""
    differences = []
    for session in (
        key.removesuffix("epoch") for key, epoch in facts.items() if _SESSION.fullmatch(key) and epoch == "0"
    ):
        for key in (key for key in facts if key.startswith(session)):
            name = key.removeprefix(session)
            if _among(name, _ENVIRONMENT):
                differences.append(f"{_short_name(name)} {facts[key]} after the first epoch was resumed")
    return sorted(differences)


def _known_change(logged: Mapping[str, str], now: Mapping[str, str], key: str) -> bool:
    return key in logged and key in now and logged[key] != now[key]


def _environment(facts: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in facts.items() if _among(key, _ENVIRONMENT)}


def _environment_differences(logged: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Differences in the recorded environment; older versions recorded less."""
    differences = []
    for key in _environment(logged).keys() | _environment(now).keys():
        before, after = recorded_fact(logged, key), recorded_fact(now, key)
        if before is not None and before != after:
            differences.append(f"{_short_name(key)} {before} (now {after})")
    return tuple(sorted(differences))


def _short_name(key: str) -> str:
    return key.removeprefix("libraries.").removeprefix("machine.")


def _among(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in names)


def _repeatable(record: dict[str, Any]) -> dict[str, float]:
    """An epoch's numbers, without those that cannot be repeated."""
    numbers = {key: value for key, value in record.items() if key not in _NOT_REPEATED}
    return _numbers(numbers)


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers by name, which is the joined keys, separated by spaces."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _numbers(value, f"{prefix}{key} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = value
    return flat


def _pair(logged: float, repeated: float | None) -> str:
    if repeated is None:
        return f"{logged:.6g}, which no longer exists"
    short = f"{logged:.6g}", f"{repeated:.6g}"
    return " vs ".join(short if short[0] != short[1] else (repr(logged), repr(repeated)))


def _power_above(size: float) -> str:
    return f"1e{math.ceil(math.log10(size) - 1e-9)}"
