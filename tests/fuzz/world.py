"""The files that the fuzzer damages: small data sets, runs, weights, features and lists in one folder.

`World` makes them once, remembers them, and puts them back after each case.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from PIL import Image
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from pclhd.config import load_preset
from pclhd.models.released import released_state
from pclhd.models.weights import save_model
from tests.data.fake_layouts import write_llcm, write_regdb, write_sysu
from tests.fuzz import further
from tests.fuzz.small import use_small_networks
from tests.models.small import SMALL_BASIC, SMALL_BOTTLENECK, stirred

#: Settings of all trainings: one step an epoch on images of 32 × 16.
SIZES = (
    "model.weights=start.safetensors",
    "data.height=32",
    "data.width=16",
    "data.workers=1",
    "engine.accelerator=cpu",
    "schedule.iterations=1",
    "batch.clusters=2",
    "batch.instances=2",
    "clustering.k1=4",
    "clustering.k2=2",
    "clustering.joint_k1=6",
    "clustering.joint_k2=2",
    "clustering.eps=0.7",
    "clustering.loosen=0.9",
    "engine.log_every=1",
)

#: What a file is: its inode, or None, its kind, size and time of change.
State = tuple[int, int, int, int]


def states(root: Path) -> dict[str, State]:
    """Everything in a folder, by name; links are not followed."""
    found: dict[str, State] = {}
    folders = [os.fspath(root)]
    skip = len(folders[0]) + 1
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                is_folder = stat.S_ISDIR(about.st_mode)
                sizes = (0, 0) if is_folder else (about.st_size, about.st_mtime_ns)
                found[entry.path[skip:]] = (about.st_ino, about.st_mode, *sizes)
                if is_folder:
                    folders.append(entry.path)
    return found


def remove(path: Path) -> None:
    """Remove whatever has this name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@dataclass
class World:
    """A folder that can be put back as it was.

    Attributes:
        root: The folder; the current folder of all commands.
        pristine: A copy of it beside it, never touched.
        known: Its state when it was made, or last put back.
    """

    root: Path
    pristine: Path
    known: dict[str, State]

    @classmethod
    def make(cls, parent: Path) -> World:
        """Make all files below an empty folder."""
        root, pristine = parent / "work", parent / "pristine"
        root.mkdir()
        before = Path.cwd()
        os.chdir(root)
        try:
            _fill()
        finally:
            os.chdir(before)
        # A case may give up the rights of root (`damage.unreadable`), and has to read and write here all the same.
        for path in [parent, root, *root.rglob("*")]:
            path.chmod(path.stat().st_mode | (0o777 if path.is_dir() else 0o666))
        shutil.copytree(root, pristine)
        return cls(root, pristine, states(root))

    def changed(self) -> list[str]:
        """Names of what is new, gone or changed."""
        now = states(self.root)
        return sorted(name for name in now.keys() | self.known.keys() if now.get(name) != self.known.get(name))

    def restore(self) -> None:
        """Put everything back."""
        for folder, _, _ in os.walk(self.root):
            if not Path(folder).stat().st_mode & stat.S_IWUSR:
                Path(folder).chmod(0o777)
        names = self.changed()
        for name in reversed(names):
            now_folder = (self.root / name).is_dir() and not (self.root / name).is_symlink()
            if not now_folder or not (self.pristine / name).is_dir():
                remove(self.root / name)
        for name in names:
            source, target = self.pristine / name, self.root / name
            if source.is_dir():
                target.mkdir(exist_ok=True)
                target.chmod(0o777)
            elif source.exists():
                shutil.copy2(source, target)
        now = states(self.root)
        wrong = now.keys() ^ self.known.keys()
        if wrong:
            raise RuntimeError(f"not put back: {sorted(wrong)}")
        self.known = now


def _fill() -> None:
    use_small_networks()
    Path("out").mkdir()
    Path("tmp").mkdir()
    Path("home").mkdir()
    Path("data").mkdir()
    save_model(Path("start.safetensors"), stirred(SMALL_BASIC))
    write_sysu(Path("data/sysu"))
    write_regdb(Path("data/regdb"))
    write_llcm(Path("data/llcm"))
    _own(Path("data/own"))
    Path("preset.yaml").write_text(load_preset("tiny", list(SIZES), root=Path("data/own")).to_yaml())
    further.do("train", "tiny", *SIZES, "--data", "data/sysu", "--out", "runs/one", "data.cache=cache")
    further.do(
        "train", "tiny", *SIZES, "--data", "data/sysu", "--out", "runs/two", "--seed", "1", "selection=silhouette"
    )
    for run in ("runs/one", "runs/two"):
        further.do("evaluate", run, "--device", "cpu")
    steps = ("engine.checkpoint_minutes=0", "schedule.iterations=2")
    further.do("train", "tiny", *SIZES, *steps, "--data", "data/sysu", "--out", "runs/stopped")
    Path("runs/stopped/model.safetensors").unlink()
    sorted(Path("runs/stopped/checkpoints").glob("epoch-*"))[-1].unlink()  # the newest is now within the last epoch
    _weights()
    _features()
    further.fill(SIZES)


def _own(root: Path) -> None:
    """Own images as a list and as folders, of six people whose images look alike."""
    random = np.random.default_rng(0)
    lines = ["path,modality,camera,identity,time,split"]
    for person in range(6):
        pattern = np.kron(random.integers(0, 256, (4, 2, 3)), np.ones((8, 8, 1)))
        for modality, suffix in (("visible", "jpg"), ("infrared", "png")):
            for number in range(4):
                pixels = np.clip(pattern + random.normal(0, 10, pattern.shape), 0, 255).astype(np.uint8)
                picture = Image.fromarray(pixels)
                name = f"{modality}/{person}-{number}.{suffix}"
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (picture.convert("L") if modality == "infrared" else picture).save(root / name)
                split = "train" if person < 4 else "test"
                lines.append(f"{name},{modality},{1 + number % 2},{person},2024-01-01T00:00:0{number},{split}")
    (root / "images.csv").write_text("\n".join(lines) + "\n")
    shutil.copytree(root, root.with_name("folders"))
    (root.with_name("folders") / "images.csv").unlink()


def _weights() -> None:
    theirs = Path("runs/theirs")
    theirs.mkdir()
    shutil.copy("preset.yaml", theirs / "config.yaml")
    save_model(theirs / "model.safetensors", stirred(SMALL_BOTTLENECK))
    state = released_state(stirred(SMALL_BOTTLENECK, 1))
    torch.save(state, "theirs.pth")
    nested = OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
    torch.save({"state_dict": nested, "epoch": 3, "best_mAP": np.float64(0.5), "args": {"lr": 0.1}}, "nested.pth.tar")
    save_file({name: tensor.clone() for name, tensor in state.items()}, "theirs.safetensors")


def _features() -> None:
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(6), 6)
    rows = (random.standard_normal((6, 8))[people] + 0.1 * random.standard_normal((36, 8))).astype(np.float32)
    modality = ["visible" if row % 2 else "infrared" for row in range(36)]
    np.save("features.npy", rows)
    save_arrays({"features": rows, "modality": np.arange(36) % 2, "person": people}, "features.safetensors")
    table = {
        "embedding": list(rows),
        "modality": modality,
        "person": people,
        "name": [f"{row}.jpg" for row in range(36)],
        "time": np.arange(36).astype("datetime64[us]"),
    }
    pyarrow.parquet.write_table(pyarrow.table(table), "features.parquet")
    np.save("people.npy", people)
    Path("people.txt").write_text("\n".join(map(str, people)) + "\n")
    Path("modality.txt").write_text("\n".join(modality) + "\n")
    Path("modality.csv").write_text("modality,camera\n" + "".join(f"{name},1\n" for name in modality))
    Path("facts.json").write_text(json.dumps({"format": "pclhd-synthetic", "parameters": {}, "checksum": "0"}))
