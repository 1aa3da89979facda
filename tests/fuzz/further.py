"""More of what the fuzzer damages: galleries and lists for them, a video, tokens, an audit log, ONNX, a study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from pclhd.gallery.indexing import update_index
from pclhd.gallery.store import Store
from pclhd.service.audit import AuditLog
from pclhd.service.tokens import Role, create_token
from tests.commands import call
from tests.fuzz.apart import apart

#: Words of the study and of the ablation that are there; without settings.
STUDY = ("study", "run", "study.yaml", "--data", "data/sysu", "--out", "studies/one", "--trials", "2")
ABLATION = ("--data", "data/sysu", "--out", "ablation", "--setting", "clustering.eps=0.8", "--recipe", "baseline")
GALLERIES = ("people", "indexed")
#: What `pclhd gallery` writes into a gallery's table of facts, beside the world: LanceDB's files hold no plain JSON.
FACTS = "facts-of-{}.json"
_PEOPLE = 24


def do(*words: object) -> None:
    """Call the command line.

    Raises:
        RuntimeError: The exit code is not 0.
    """
    ended = call(*words)
    if ended.code != 0:
        raise RuntimeError(f"pclhd {' '.join(map(str, words))}: {ended.err}")


def fill(sizes: tuple[str, ...]) -> None:
    """Make all of it in the current folder, which has data and trained runs.

    Args:
        sizes: The settings of all trainings.
    """
    _people(Path("data/people"))
    do("calibrate", "runs/one", "--data", "data/people", "--device", "cpu")
    do("embed", "runs/one", "--out", "embedded.parquet", "--device", "cpu")
    do("embed", "runs/one", "--out", "embedded.safetensors", "--device", "cpu")
    do("export", "runs/one", "--format", "onnx", "--out", "runs/one/model.onnx")
    create_token(Path("tokens.json"), "desk", Role.SEARCH)
    create_token(Path("tokens.json"), "gate", Role.ADMIN)
    log = AuditLog(Path("people.audit.jsonl"))
    for number in range(3):
        log.append("desk", "search", found=number, image="0" * 64)
    log.close()
    names = sorted(path.as_posix() for path in Path("data/own").glob("*/*"))
    rows = [f"{name},{name.split('/')[2]},gate,2026-03-01T12:00:{at:02},t{at // 3}" for at, name in enumerate(names)]
    Path("gallery.csv").write_text("path,modality,camera,time,track\n" + "\n".join(rows) + "\n")
    _video(Path("film.mp4"), Path("boxes.txt"))
    apart(_galleries)
    content = {
        "preset": "tiny",
        "settings": _settings(sizes) | {"schedule.stage2_epochs": 0},
        "space": {"clustering.min_samples": {"type": "int", "low": 2, "high": 3}},
        "startup_trials": 1,
    }
    Path("study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    do(*STUDY)
    do("ablate", "tiny", *sizes, *ABLATION, "--seeds", "0")


def _settings(sizes: tuple[str, ...]) -> dict[str, Any]:
    return {key: yaml.safe_load(value) for key, value in (word.split("=") for word in sizes)}


def _people(root: Path) -> None:
    """As many labelled people as a calibration needs, a few images each."""
    random = np.random.default_rng(1)
    lines = ["path,modality,camera,identity,split"]
    for person in range(_PEOPLE):
        pattern = np.kron(random.integers(0, 256, (4, 2, 3)), np.ones((4, 4, 1)))
        for modality in ("visible", "infrared"):
            for number in range(3):
                pixels = np.clip(pattern + random.normal(0, 20, pattern.shape), 0, 255).astype(np.uint8)
                name = f"{modality}/{person}-{number}.png"
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / name)
                lines.append(f"{name},{modality},{1 + number},{person},{'train' if person < 2 else 'test'}")
    (root / "images.csv").write_text("\n".join(lines) + "\n")


def _video(video: Path, boxes: Path) -> None:
    """A person walks through ten frames."""
    import av

    lines = []
    with av.open(str(video), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        for frame in range(10):
            picture = np.full((48, 96, 3), 128, dtype=np.uint8)
            left = 4 + 6 * frame
            picture[4:24, left : left + 16], picture[24:44, left : left + 16] = (230, 30, 30), (30, 30, 220)
            lines.append(f"{frame + 1},1,{left},4,16,40,1,-1,-1,-1")
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    boxes.write_text("\n".join(lines) + "\n")


def _galleries() -> None:
    """A gallery of 48 images; and the same with an index, which usually only a large one has."""
    do("gallery", "add", "people", "gallery.csv", "--model", "runs/one", "--device", "cpu")
    shutil.copytree("people", "indexed")
    store = Store(Path("indexed"))
    with store.writing():
        update_index(store, least=8)
    for name in GALLERIES:
        facts = {key: Store(Path(name)).fact(key) for key in ("gallery", "last_number", "index", "purging")}
        Path("..", FACTS.format(name)).write_text(json.dumps(facts))


def write_facts(gallery: Path, facts: dict[str, str]) -> None:
    """Replace the JSON texts of a gallery's facts by any others."""
    import lancedb
    import pyarrow as pa

    table = pa.table({"name": pa.array(facts.keys(), pa.string()), "json": pa.array(facts.values(), pa.string())})
    lancedb.connect(str(gallery)).create_table("facts", data=table, mode="overwrite")


def change_rows(gallery: Path, how: str) -> None:
    """Replace a column of a gallery's rows by something else, or drop it."""
    import lancedb
    import pyarrow as pa

    database = lancedb.connect(str(gallery))
    table = database.open_table("images").to_arrow()
    count, width = len(table), table["embedding"].type.list_size
    column, _, kind = how.partition(" ")
    place = table.column_names.index(column)
    flat = {"inf": np.inf, "zero": 0.0, "huge": 3e38}
    if kind == "dropped":
        table = table.remove_column(place)
    elif kind in flat:
        values = pa.array(np.full(count * width, flat[kind], dtype=np.float32))
        table = table.set_column(place, column, pa.FixedSizeListArray.from_arrays(values, width))
    elif kind == "narrow":
        values = pa.array(np.ones(count * 4, dtype=np.float32) / 2)
        table = table.set_column(place, column, pa.FixedSizeListArray.from_arrays(values, 4))
    else:
        made = {
            "nulls": lambda: pa.nulls(count, table.schema.field(column).type),
            "text": lambda: pa.array(["\x1b[31mx"] * count),
            "numbers": lambda: pa.array([-(2**62)] * count),
            "bytes": lambda: pa.array([b"\xff\xd8x"] * count),
            "times": lambda: pa.array([-(2**62)] * count, pa.timestamp("us", tz="UTC")),
        }
        table = table.set_column(place, column, made[kind]())
    database.create_table("images", data=table, mode="overwrite")


#: Changes of `change_rows`.
ROW_CHANGES = (
    *("embedding inf", "embedding zero", "embedding huge", "embedding narrow", "embedding dropped"),
    *("id nulls", "id text", "id numbers", "number nulls", "number text", "number numbers", "number dropped"),
    *("modality nulls", "modality text", "modality dropped", "camera numbers", "camera text", "time text"),
    *("time times", "time nulls", "source text", "source bytes", "track dropped", "frame text", "frame numbers"),
    *("added nulls", "added times", "thumbnail bytes", "thumbnail text", "digest numbers", "digest dropped"),
)
