"""The recorded final weights of trainings, which a refactoring must not change.

Usage: OMP_NUM_THREADS=1 python -m tests.recorded_weights  (writes tests/recorded_weights.json; only when a change of
the numbers is intended, with the reason in the commit; one thread, as the tests have)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pclhd.cli import main as run_command_line
from pclhd.recipes import RECIPES
from pclhd.runs.provenance import processor_model
from pclhd.synthetic import write_synthetic

RECORD = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Weights:
    """The tensors of a model file.

    Attributes:
        digest: SHA-256 over names, shapes and bytes; metadata do not count.
        norms: Euclidean length by tensor, which survives another machine's rounding.
    """

    digest: str
    norms: dict[str, float]

    @classmethod
    def of(cls, model: Path) -> Weights:
        tensors = load_file(model)
        digest = hashlib.sha256()
        for name in sorted(tensors):
            tensor = tensors[name].contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return cls(digest.hexdigest(), {name: float(tensors[name].double().norm()) for name in sorted(tensors)})


def machine() -> dict[str, str | None]:
    """The properties of a machine that the last bits of a sum depend on."""
    return {
        "processor": platform.machine(),
        "model": processor_model(Path("/proc/cpuinfo")),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__.partition("+")[0],
    }


def draw(folder: Path) -> Path:
    """The data set of the recorded trainings."""
    write_synthetic(folder, scale="tiny", layout="sysu", generator=1, workers=1)
    return folder


def train(recipe: str, data: Path, run: Path) -> Weights:
    """Train the preset `tiny` with seed 0, on one thread, in 32 bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    words = sys.argv
    try:
        sys.argv = ["pclhd", "train", "tiny", "--data", str(data), "--out", str(run), f"recipe={recipe}", "seed=0"]
        run_command_line()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = words
        torch.set_num_threads(threads)
    return Weights.of(run / "model.safetensors")


def load_record() -> dict[str, Any]:
    """What was recorded: ``machine``, and ``recipes`` by name."""
    record: dict[str, Any] = json.loads(RECORD.read_text("utf-8"))
    return record


def main() -> None:
    """Record recipes: all, or those that are named, beside what was recorded on the same machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    wanted = parser.parse_args().recipes
    kept = {} if set(wanted) == set(RECIPES) else load_record()
    if kept and kept["machine"] != machine():
        sys.exit("the record is of another machine; record all recipes here")
    recipes = kept.get("recipes", {})
    with tempfile.TemporaryDirectory() as folder:
        data = draw(Path(folder) / "data")
        recipes |= {name: asdict(train(name, data, Path(folder) / name)) for name in wanted}
    ordered = {name: recipes[name] for name in RECIPES if name in recipes}
    RECORD.write_text(json.dumps({"machine": machine(), "recipes": ordered}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
