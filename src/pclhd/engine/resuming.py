"""Which settings may differ between a checkpoint and the training that goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pclhd.config import Settings
from pclhd.errors import UserError
from pclhd.runs.records import flatten

# Where files lie, which a checkpoint need not say: a run may be handed to others.
_PLACES = frozenset({"data.root", "data.cache", "model.weights", "preset"})
# What a run is. With another one its records would describe a training that never took place.
_FIXED = ("seed", "recipe", "selection", "method.", "model.", "data.layout", "data.trial")


def recorded_settings(settings: Settings) -> dict[str, Any]:
    """The settings by dotted key, as a checkpoint keeps them: without the places of files."""
    flat = flatten(settings.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if key not in _PLACES}


def changed_settings(
    saved: Mapping[str, Any], settings: Settings, *, next_epoch: int, within_epoch: bool
) -> dict[str, Any]:
    """The settings that are not those of a checkpoint.

    Args:
        saved: What `recorded_settings` gave for the checkpoint.
        settings: Those of the training that goes on from it.
        next_epoch: The epoch to run next, or the one under way.
        within_epoch: Whether it is under way.

    Returns:
        By dotted key, those that may change: learning rate, batch, clustering, machine, epochs to come.

    Raises:
        UserError: One changed that may not: what the run is, or the length of what is behind it.
    """
    now = recorded_settings(settings)
    changed = {key: value for key, value in now.items() if key in saved and saved[key] != value}
    for key in changed:
        if key.startswith(_FIXED):
            raise _refusal(key, changed[key], saved[key], "it makes another run; start a new one for it")
    reached = next_epoch + within_epoch
    for key, why in (
        ("schedule.stage1_epochs", "stage I is over" if next_epoch >= saved["schedule.stage1_epochs"] else None),
        ("schedule.iterations", f"epoch {next_epoch + 1} is under way" if within_epoch else None),
    ):
        if key in changed and why is not None:
            raise _refusal(key, changed[key], saved[key], f"{why}; put the value back")
    for key, length in (
        ("schedule.stage1_epochs", settings.schedule.numbers().stage1_epochs),
        ("epochs", settings.epochs),
    ):
        passed = min(reached, saved["schedule.stage1_epochs"]) if key != "epochs" else reached
        if length < passed:
            what = key if key != "epochs" else "schedule.stage2_epochs"
            raise _refusal(what, now[what], saved[what], f"{reached} epochs are behind it; put the value back")
    return changed


def _refusal(key: str, now: object, saved: object, why: str) -> UserError:
    return UserError(f"{key} is {now} in the run's settings, but its checkpoint was trained with {saved}; {why}")
