"""Import of checkpoints of the released code's family as run folders, and export of such checkpoints."""

from __future__ import annotations

import io
import json
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as safetensors_bytes

from pclhd.config import Settings, load_preset
from pclhd.data.open import open_dataset
from pclhd.data.records import TrainingSet, digest_file
from pclhd.engine.diagnosis import first_not_finite
from pclhd.errors import ArgumentError, UserError
from pclhd.files import (
    check_output,
    check_replaceable,
    claiming,
    is_unused,
    making_folder,
    putting_aside,
    replacing,
    write_durably,
)
from pclhd.models.architecture import ARCHITECTURES, LITE0, AnyArchitecture
from pclhd.models.foreign import read_foreign_checkpoint
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.released import (
    RELEASED_ARCHITECTURE,
    LoadReport,
    find_network,
    load_released_state,
    released_state,
)
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.models.weights import load_model, save_model
from pclhd.runs.folder import RunFolder, owning_run
from pclhd.runs.provenance import provenance_json
from pclhd.runs.records import provenance_text
from pclhd.text_tables import text_table

CHECKPOINT_SUFFIXES = (".pth.tar", ".pth", ".safetensors")
_LISTED = 4


@dataclass(frozen=True)
class ImportReport:
    """Which parts of a checkpoint were imported.

    Attributes:
        file: The checkpoint.
        sha256: SHA-256 of the checkpoint.
        network: Place of the network in the file, such as ``state_dict.module``; empty for the file itself.
        entries: The network's used and unused entries, without the prefix of their names.
        outside: Places in the file outside that network: other networks, optimisers, epochs.
        run: The run folder.
    """

    file: Path
    sha256: str
    network: str
    entries: LoadReport
    outside: tuple[str, ...]
    run: Path

    def to_dict(self) -> dict[str, object]:
        """The facts for the provenance; entries are counted by the first part of their names."""
        return {
            "file": self.file.name,
            "sha256": self.sha256,
            "network": self.network,
            "entries_used": len(self.entries.used),
            "entries_unused": len(self.entries.unused),
            "used": _count_parts(self.entries.used),
            "unused": _count_parts(self.entries.unused),
            "unknown": list(self.entries.unknown),
            "outside": _count_parts(self.outside),
            "non_local_blocks": self.entries.non_local,
        }

    def text(self) -> str:
        """The report as text."""
        used, unused = _count_parts(self.entries.used), _count_parts(self.entries.unused)
        place = f", from {self.network}" if self.network else ""
        lines = [f"{self.file}: {sum(used.values())} entries used, {sum(unused.values())} unused{place}"]
        rows = [(part, str(used.get(part, "")), str(unused.get(part, ""))) for part in sorted(used | unused)]
        lines.append(text_table([("part", "used", "unused"), *rows], right={1, 2}))
        if self.outside:
            counts = _count_parts(self.outside)
            listed = ", ".join(part if number == 1 else f"{part} ({number})" for part, number in counts.items())
            lines.append(f"outside the network, ignored: {listed}")
        if not self.entries.non_local:
            lines.append("non-local blocks: the file has none; those of the network have no effect")
        if self.entries.unknown:
            names = self.entries.unknown
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            lines.append(
                f"note: the released network has no {', '.join(names[:_LISTED])}{more}; if the network that made the "
                "file computes with them, embeddings will differ"
            )
        return "\n".join(lines)


def import_checkpoint(
    checkpoint: Path,
    layout: str,
    run: Path,
    *,
    data: Path | None = None,
    trial: int = 1,
    network: str | None = None,
    force: bool = False,
) -> ImportReport:
    """Make a run folder from a checkpoint of the released code or its family (PCLHD, ADCA, PGM, AGW).

    The folder has settings, provenance and final weights, which is enough for evaluation and embedding. The training of
    the weights is unknown; the settings are those of the layout's preset and define the preprocessing.

    Args:
        checkpoint: A file as `pclhd.models.foreign.read_foreign_checkpoint` reads it.
        layout: Layout of the data, which selects the preset: ``sysu``, ``regdb``, ``llcm`` or ``own``.
        run: The folder to make; an existing one must be empty.
        data: The data set, for the settings and for its checksum in the provenance.
        trial: The RegDB split that the checkpoint was trained on.
        network: Place of the network in the file, if there are several.
        force: Whether to replace an existing run folder.

    Returns:
        Which parts were used and which were not.

    Raises:
        UserError: The checkpoint does not fit, the data cannot be read, or the folder cannot be created. Nothing is
            left then.
    """
    _refuse_used(run, force=force)
    made = RunFolder(run)
    with owning_run(made):
        return _import_owned(checkpoint, layout, made, data=data, trial=trial, network=network, force=force)


def _import_owned(
    checkpoint: Path, layout: str, made: RunFolder, *, data: Path | None, trial: int, network: str | None, force: bool
) -> ImportReport:
    settings = _settings(layout, data, trial)
    training_set = TrainingSet((), ()) if data is None else open_dataset(layout, data, trial=trial).train
    content = read_foreign_checkpoint(checkpoint)
    place = find_network(content.tensors, network, origin=str(checkpoint))
    prefix = f"{place}." if place else ""
    state = {name.removeprefix(prefix): tensor for name, tensor in content.tensors.items() if name.startswith(prefix)}
    loaded = TwoStreamNetwork(RELEASED_ARCHITECTURE)
    entries = load_released_state(loaded, state, origin=str(checkpoint))
    outside = (*(name for name in content.tensors if not name.startswith(prefix)), *content.others)
    report = ImportReport(checkpoint, digest_file(checkpoint), place, entries, outside, made.path)
    with putting_aside(made.path, made.settings_file.name) if force else nullcontext(), making_folder(made.path):
        made.write_settings(settings)
        write_durably(made.provenance_file, _provenance(settings, training_set, report))
        if data is not None:
            made.write_training_images(dict.fromkeys(training_set.digests))
        source = {"source": checkpoint.name, "source_sha256": report.sha256, "source_network": place}
        counts = {"entries_used": str(len(entries.used)), "entries_unused": str(len(entries.unused))}
        preprocessing = Preprocessing(settings.data.height, settings.data.width)
        save_model(made.model_file, loaded, {"weights": "imported", **source, **counts}, preprocessing=preprocessing)
    return report


def export_released(run: Path, out: Path, *, force: bool = False) -> int:
    """Write a run's final weights in the released code's format.

    Args:
        run: A run folder with a final model.
        out: ``.pth.tar``: as the released code saves while training (``state_dict`` with ``module.`` before each
            name), for its test scripts. ``.pth`` and ``.safetensors``: the bare state.

    Returns:
        The number of entries written.

    Raises:
        UserError: There are no final weights, they are not finite, the network is not the released one, or the file
            exists or cannot be written. Nothing is left behind then.
    """
    check_output(out, CHECKPOINT_SUFFIXES, "a checkpoint", force=force)
    with claiming(out, replace=force):
        return _export_claimed(run, out, force=force)


def _export_claimed(run: Path, out: Path, *, force: bool) -> int:
    suffix = next(suffix for suffix in CHECKPOINT_SUFFIXES if out.name.lower().endswith(suffix))
    model = RunFolder(run).require_model()
    network = load_model(model)
    if network.architecture != RELEASED_ARCHITECTURE:
        known: dict[str, AnyArchitecture] = {**ARCHITECTURES, "efficientnet_lite0": LITE0}
        names = [name for name, one in known.items() if one == network.architecture]
        raise UserError(
            f"{model}: is {names[0] if names else 'of another architecture'}, but the released "
            "code knows only the network of model.architecture=resnet50; export a run of that"
        )
    broken = first_not_finite(network)
    if broken is not None:
        raise UserError(f"{model}: holds weights that are not finite (first {broken}); export a run of before that")
    state = released_state(network)
    with replacing(out, replace=force) as file:
        if suffix == ".safetensors":
            # Safetensors does not store shared memory under two names, so each tensor is copied.
            file.write(safetensors_bytes({name: tensor.clone() for name, tensor in state.items()}))
        elif suffix == ".pth":
            file.write(_torch_bytes(state))
        else:
            prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
            file.write(_torch_bytes({"state_dict": prefixed, "epoch": 0}))
    return len(state)


def _torch_bytes(content: object) -> bytes:
    """The bytes of `torch.save`. Writing directly to a full disk, it raises an error that does not mention the disk."""
    memory = io.BytesIO()
    torch.save(content, memory)
    return memory.getvalue()


def _settings(layout: str, data: Path | None, trial: int) -> Settings:
    # The recipe is unknown; the released one is closest. There are no start weights.
    overrides = ["recipe=released", "model.weights=none", f"data.trial={trial}"]
    settings = load_preset(layout, overrides, root=None if data is None else data.resolve())
    if trial != 1 and layout != "regdb":
        raise ArgumentError("trial", f"layout {layout} has no trials; only regdb has, leave it out", value=trial)
    return settings


def _provenance(settings: Settings, training_set: TrainingSet, report: ImportReport) -> str:
    facts = json.loads(provenance_json(settings, training_set, torch.device("cpu")))
    # These describe a training, and there was none here.
    about_training = ("device", "precision", "threads", "numba_threads", "processes", "seed", "start_weights")
    for fact in (*about_training, *(() if len(training_set) else ("data", "cameras"))):
        facts.pop(fact, None)
    return provenance_text({**facts, "imported": report.to_dict()})


def _count_parts(names: tuple[str, ...]) -> dict[str, int]:
    return dict(sorted(Counter(name.split(".")[0] for name in names).items()))


def _refuse_used(run: Path, *, force: bool) -> None:
    if force:
        check_replaceable(run, RunFolder(run).settings_file.name)
        return
    try:
        used = not is_unused(run)
    except OSError as error:
        raise ArgumentError("out", f"cannot be read ({error.strerror}); choose another", value=run) from error
    if used:
        raise ArgumentError("out", "already exists; choose another, or replace a run with `force`", value=run)
