"""The data that a verb works on: the folder that was named, or the one in the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pclhd.errors import UserError

if TYPE_CHECKING:
    from pclhd.config import Settings
    from pclhd.data.records import Dataset


def open_data(settings: Settings, data: Path | None) -> Dataset:
    """Open the data set in `data`, or else in the settings' folder."""
    from pclhd.data.open import open_dataset

    root = data or settings.data.root
    if root is None:
        raise UserError("where is the data? Name its folder with --data DIR")
    return open_dataset(settings.data.layout, root, trial=settings.data.trial)


def with_root(settings: Settings, dataset: Dataset) -> Settings:
    """The settings with the absolute path of the data, so that the run can be evaluated from any folder."""
    data = settings.data.model_copy(update={"root": dataset.root.resolve()})
    return settings.model_copy(update={"data": data})
