"""What a study searches, as a YAML file says it; every setting and bound is checked before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pclhd.config import Settings, load_preset, parse_override
from pclhd.errors import UserError
from pclhd.parsing import read_text, yaml_mapping
from pclhd.recipes import Recipe

Objective = Literal["silhouette", "stability", "cycle", "oracle"]
#: What reads identities: rank-1 on labelled people. All other objectives are measured on pseudo labels.
ORACLE: Objective = "oracle"

Scalar = bool | int | float | str | None
_MOST = 1e15
_BETWEEN = 0.381966

#: Settings that a study gives to each training, or that name the images; a space cannot hold them.
_NOT_SEARCHED = {
    "preset": "name the preset in the file",
    "seed": "name the seeds in the file",
    "selection": "the objective sets it",
}

#: Settings that only some methods read, each with the setting and its values that make it count.
_READ_WITH: dict[str, tuple[str, tuple[str, ...]]] = {
    "method.hard_share": ("stage2", ("hard+dynamic",)),
    "method.hard_samples": ("hard_start", ("furthest",)),
    "method.dynamic_samples": ("stage2", ("dynamic", "hard+dynamic")),
    "method.dynamic_similarity": ("stage2", ("dynamic", "hard+dynamic")),
    "method.dynamic_redraw": ("stage2", ("dynamic", "hard+dynamic")),
}


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class FloatRange(_Part):
    """Numbers from `low` to `high`: any, those in steps, or any with evenly distributed logarithms."""

    type: Literal["float"]
    low: Annotated[float, Field(ge=-_MOST, le=_MOST)]
    high: Annotated[float, Field(ge=-_MOST, le=_MOST)]
    step: Annotated[float, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> FloatRange:
        _check_range(self.low, self.high, log=self.log, step=self.step)
        return self

    def examples(self) -> tuple[Scalar, ...]:
        """The values that are tried before the study begins: the bounds, and a number that is not whole."""
        return self.low, self.high, self.low + (_BETWEEN * (self.high - self.low) if self.step is None else self.step)


class IntRange(_Part):
    """Whole numbers from `low` to `high`, both included."""

    type: Literal["int"]
    low: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    high: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    step: Annotated[int, Field(ge=1)] = 1
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> IntRange:
        _check_range(self.low, self.high, log=self.log, step=None if self.step == 1 else self.step)
        return self

    def examples(self) -> tuple[Scalar, ...]:
        """The values that are tried before the study begins."""
        return self.low, self.high


class Categorical(_Part):
    """One of a few values."""

    type: Literal["categorical"]
    choices: Annotated[list[Scalar], Field(min_length=2, max_length=100)]

    @model_validator(mode="after")
    def _check(self) -> Categorical:
        if len({json.dumps(choice) for choice in self.choices}) < len(self.choices):
            raise ValueError("a choice is listed twice")
        return self

    def examples(self) -> tuple[Scalar, ...]:
        """The values that are tried before the study begins."""
        return tuple(self.choices)


Range = Annotated[FloatRange | IntRange | Categorical, Field(discriminator="type")]


def _check_range(low: float, high: float, *, log: bool, step: float | None) -> None:
    if low >= high:
        raise ValueError("low must be below high")
    if log and low <= 0:
        raise ValueError("log needs a low above 0")
    if log and step is not None:
        raise ValueError("log and step exclude each other")


class Definition(_Part):
    """A study file."""

    preset: str
    settings: Annotated[dict[str, Any], Field(max_length=100)] = {}
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1, max_length=100)] = [0]
    objective: Objective = "silhouette"
    space: Annotated[dict[str, Range], Field(min_length=1, max_length=50)]
    sampler: Literal["tpe", "random"] = "tpe"
    sampler_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    startup_trials: Annotated[int, Field(ge=1, le=10_000)] = 10
    pruner: Literal["median", "none"] = "median"
    pruner_trials: Annotated[int, Field(ge=1, le=10_000)] = 5
    pruner_epochs: Annotated[int, Field(ge=0, le=10_000)] = 1

    @model_validator(mode="after")
    def _check(self) -> Definition:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds holds a seed twice")
        for key, value in self.settings.items():
            if isinstance(value, dict) and key != "model.backbone":
                # It would replace the whole section of the preset.
                raise ValueError(f"settings.{key} is a section; write {key}.NAME: value")
        twice = self.space.keys() & self.settings.keys()
        if twice:
            raise ValueError(f"{min(twice)} is in settings and in space; leave it in one of them")
        return self

    @property
    def uses_identities(self) -> bool:
        """Whether the objective reads identities."""
        return self.objective == ORACLE

    @property
    def prunes(self) -> bool:
        """Whether trials may end early; with identities they cannot, since there is nothing to see before the end."""
        return self.pruner != "none" and not self.uses_identities

    def settings_for(self, params: Mapping[str, Scalar], seed: int, *, device: str | None = None) -> Settings:
        """The settings of a trial's training.

        Args:
            params: A value for each setting of the space.
            seed: Of the training.
            device: Where to compute; None as the preset says.

        Raises:
            UserError: A setting is unknown or out of range, or settings contradict each other.
        """
        values = {**self.settings, **params, "seed": seed}
        if not self.uses_identities:
            values["selection"] = self.objective
        if device is not None:
            values["engine.accelerator"] = device
        return load_preset(self.preset, [f"{key}={json.dumps(value, default=str)}" for key, value in values.items()])

    def identity(self, checksums: Mapping[str, str]) -> dict[str, Any]:
        """What all trials of a study have in common; two studies with the same identity are one.

        Args:
            checksums: Of the images, by what they are for.
        """
        base = self.settings_for({key: one.examples()[0] for key, one in self.space.items()}, self.seeds[0])
        common = base.model_dump(
            mode="json", exclude={"preset": True, "engine": True, "data": {"root", "workers", "cache"}}
        )
        return {
            **self.model_dump(mode="json", exclude={"preset", "settings"}),
            "settings": common,
            "images": dict(checksums),
        }


def read_definition(path: Path, words: list[str], *, objective: Objective | None = None) -> Definition:
    """Read a study file, and try each setting at its bounds.

    Args:
        path: The YAML file.
        words: Settings of all trainings besides those of the file, as ``key=value``.
        objective: Replaces the objective of the file.

    Raises:
        UserError: The file is unreadable or invalid, or a setting in it is unknown or out of range.
    """
    tree = _read(path)
    given = dict(parse_override(word) for word in words)
    if given:
        settings = tree.get("settings")
        tree["settings"] = {**(settings if isinstance(settings, dict) else {}), **given}
    if objective is not None:
        tree["objective"] = objective
    try:
        definition = Definition.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise UserError(f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}") from error
    for key in (*definition.space, *definition.settings):
        reason = _NOT_SEARCHED.get(key)
        if reason is not None:
            raise UserError(f"{path}: {key} cannot be among the settings of a study; {reason}")
        if key in definition.space and key.startswith(("data.root", "data.layout", "data.trial", "data.cache")):
            raise UserError(f"{path}: {key} names images and cannot be searched; leave it out of the space")
    _try(definition, path)
    return definition


def _read(path: Path) -> dict[str, Any]:
    text = read_text(path, "expected a YAML file with a preset and a space; see docs/studies.md")
    return yaml_mapping(text, path, "'preset: …' and 'space: …'")


def _try(definition: Definition, path: Path) -> None:
    """Resolve settings with each bound and choice of the space, one at a time.

    Combinations are checked when a trial has one: there may be too many.
    """
    try:
        base = definition.model_copy(update={"space": {}})
        _refuse_unread(definition.space, base.settings_for({}, definition.seeds[0]).method)
        for params in _alone(definition):
            base.settings_for(params, definition.seeds[0])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _refuse_unread(space: Mapping[str, Range], method: Recipe) -> None:
    """Refuse to search what the method does not read; its slice would show chance.

    Raises:
        UserError: A setting of the space is such a one.
    """
    for key, (other, values) in _READ_WITH.items():
        chosen = getattr(method, other)
        if key in space and chosen not in values and not {"recipe", f"method.{other}"} & space.keys():
            raise UserError(
                f"{key} does nothing with method.{other}={chosen}; leave it out of the space, or set "
                f"method.{other}={values[-1]} or another recipe in settings"
            )


def _alone(definition: Definition) -> Iterator[dict[str, Scalar]]:
    for key, part in definition.space.items():
        for value in part.examples():
            yield {key: value}
