"""The files of a run folder that reports use, read and validated together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pclhd.runs.folder import RunFolder, trained_labels
from pclhd.runs.records import EpochRecord, Results, find_setting

# The kind of training in the results, by the labels.
_TRAINED_WITH = {"supervised": "identities", "semi-supervised": "visible_identities"}


@dataclass(frozen=True)
class SavedRun:
    """The contents of a run folder; missing files leave empty fields.

    Attributes:
        folder: The run folder.
        settings_text: Text of the settings file; empty if there is none.
        settings: The settings as nested mappings.
        facts: The provenance as text by dotted key.
        epochs: The logged epochs in the order of training.
        results: The last evaluation, or None.
        labels: The identities that training used: ``none``, ``identities`` or ``visible_identities``.
    """

    folder: RunFolder
    settings_text: str
    settings: Mapping[str, Any]
    facts: Mapping[str, str]
    epochs: tuple[EpochRecord, ...]
    results: Results | None
    labels: str

    def setting(self, key: str) -> object | None:
        """The setting at a dotted key, or None."""
        return find_setting(self.settings, key)

    @property
    def imported(self) -> bool:
        """Whether the weights were imported; the settings then do not describe their training."""
        return any(key.startswith("imported.") for key in self.facts)


def read_run(folder: RunFolder) -> SavedRun:
    """Read a run folder; missing files leave empty fields.

    Raises:
        UserError: A file is unreadable, or a value in it is missing or out of range.
    """
    text, settings = folder.saved_settings() or ("", {})
    results = folder.results()
    # What happened counts, not what the settings say now.
    labels = trained_labels(folder) or find_setting(settings, "method.labels")
    if labels in (None, "clusters"):
        # Model files of `pclhd upper-bound` have the settings of an unsupervised run.
        supervised = folder.model_metadata().get("weights") == "supervised"
        training = "supervised" if supervised else None if results is None else results.training
        labels = _TRAINED_WITH.get(training or "", "none")
    return SavedRun(folder, text, settings, folder.facts(), tuple(folder.epochs()), results, str(labels))
