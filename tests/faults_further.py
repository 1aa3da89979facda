"""Faults of galleries, the service, calibration, search, ONNX, studies and ablations; see `tests/faults.py`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import save_model
from pclhd.service.audit import AuditLog
from pclhd.service.tokens import Role, create_token
from tests.models.small import SMALL_BASIC, stirred

if TYPE_CHECKING:
    from tests.faults import Bench, Observed

Change = Callable[[Path], object]


def cut(path: Path) -> None:
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_pipe(path: Path) -> None:
    """Replace a file by a named pipe."""
    path.unlink()
    os.mkfifo(path)


def search_damaged(change: Change) -> Callable[[Bench], Observed]:
    """Search a gallery whose file of rows is damaged."""

    def inject(bench: Bench) -> Observed:
        people = _people(bench)
        change(next((people / "images.lance" / "data").iterdir()))
        return bench.watch("gallery", "search", people, _query(bench), "--modality", "infrared", "--device", "cpu")

    return inject


def gallery_of_something_else(bench: Bench) -> Observed:
    """A folder of images is named as a gallery."""
    return bench.watch("gallery", "stats", _query(bench).parent)


def gallery_of_another_model(bench: Bench) -> Observed:
    """A gallery gets images embedded by another model."""
    save_model(bench.root / "other.safetensors", stirred(SMALL_BASIC, 5), preprocessing=Preprocessing(32, 16))
    words = ("--modality", "visible", "--model", bench.root / "other.safetensors", "--device", "cpu")
    return bench.watch("gallery", "add", _people(bench), _query(bench), *words)


def gallery_list_without_modality(bench: Bench) -> Observed:
    """A line of a list of images says no modality."""
    (bench.root / "list.csv").write_text("path,modality\na.png,visible\nb.png,\n")
    return bench.watch("gallery", "add", _people(bench), bench.root / "list.csv", "--device", "cpu")


def gallery_of_no_video(bench: Bench) -> Observed:
    """A video that is none, for a new gallery."""
    (bench.root / "film.mp4").write_text("<html>")
    (bench.root / "boxes.txt").write_text("1,1,0,0,8,8\n")
    words = ("--boxes", bench.root / "boxes.txt", "--modality", "visible", "--model", bench.stock.photos.model)
    return bench.watch("gallery", "add", bench.root / "new", bench.root / "film.mp4", *words, "--device", "cpu")


def gallery_export_of_nothing(bench: Bench) -> Observed:
    """An export whose filter no image satisfies."""
    out = bench.root / "people.parquet"
    return bench.watch("gallery", "export", _people(bench), "--camera", "gate", "--map", "none", "--out", out)


def serve_damaged_tokens(bench: Bench) -> Observed:
    """The service starts with a damaged file of tokens."""
    tokens = _tokens(bench)
    tokens.write_text(tokens.read_text().replace('"search"', '"owner"'))
    return bench.watch("serve", _people(bench), "--tokens", tokens, "--device", "cpu")


def serve_into_another_file(bench: Bench) -> Observed:
    """The service is to log into a file of something else."""
    (bench.root / "notes.txt").write_text("precious")
    return bench.watch("serve", _people(bench), "--audit", bench.root / "notes.txt", "--device", "cpu")


def changed_audit(bench: Bench) -> Observed:
    """A line of the audit log was changed."""
    log = AuditLog(bench.root / "people.audit.jsonl")
    for _ in range(3):
        log.append("desk", "search")
    log.close()
    log.path.write_text(log.path.read_text().replace("desk", "gate", 1))
    return bench.watch("audit", "verify", log.path)


def revoke_unknown(bench: Bench) -> Observed:
    """A token is revoked that is not there."""
    return bench.watch("token", "revoke", "gate", "--tokens", _tokens(bench))


def calibrate_on_few(bench: Bench) -> Observed:
    """A calibration on two people."""
    run, data = bench.sysu()
    return bench.watch("calibrate", run, "--data", data, "--device", "cpu")


def search_in_text(bench: Bench) -> Observed:
    """A search among features that are none."""
    run, _ = bench.sysu()
    (bench.root / "x.parquet").write_text("features")
    words = ("--modality", "visible", "--features", bench.root / "x.parquet", "--device", "cpu")
    return bench.watch("search", run, _query(bench), *words)


def damaged_onnx(bench: Bench) -> Observed:
    """An ONNX file that is none."""
    run, data = bench.sysu()
    (run / "model.onnx").write_text("weights")
    out = bench.root / "x.npy"
    return bench.watch("embed", run, "--data", data, "--runtime", "onnx", "--out", out, "--device", "cpu")


def study_with_a_typo(bench: Bench) -> Observed:
    """A study file with a misspelt setting."""
    (bench.root / "study.yaml").write_text("preset: tiny\nspace:\n  clustering.esp: {type: int, low: 1, high: 2}\n")
    return bench.watch("study", "run", bench.root / "study.yaml", "--data", bench.stock.data, "--out", bench.run)


def damaged_study(name: str, text: str) -> Callable[[Bench], Observed]:
    """A file in a study's folder is damaged."""

    def inject(bench: Bench) -> Observed:
        bench.run.mkdir()
        (bench.run / "study.yaml").write_text("storage: study.db\nname: run\n")
        (bench.run / name).write_text(text)
        return bench.watch("study", "show", bench.run)

    return inject


def damaged_ablation(bench: Bench) -> Observed:
    """The record of an ablation is damaged."""
    bench.run.mkdir()
    record: dict[str, object] = {"preset": "tiny", "settings": [], "search": None, "seeds": ["0"], "tables": {}}
    (bench.run / "ablation.json").write_text(json.dumps(record))
    return bench.watch("figures", bench.run, "--out", bench.root / "figures")


def ablate_without_labels(bench: Bench) -> Observed:
    """An ablation on images without labels."""
    return bench.watch("ablate", "tiny", "--data", bench.stock.data, "--out", bench.run, "--dry-run")


def _people(bench: Bench) -> Path:
    return Path(shutil.copytree(bench.stock.people, bench.root / "people"))


def _query(bench: Bench) -> Path:
    return bench.stock.photos.night / "n0.png"


def _tokens(bench: Bench) -> Path:
    create_token(bench.root / "tokens.json", "desk", Role.SEARCH)
    return bench.root / "tokens.json"
