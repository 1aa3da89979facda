"""What docs/responsible-use.md says is left on disk, compared with what each command leaves."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.main
from safetensors import safe_open

from pclhd.cli import app
from pclhd.config import load_preset
from pclhd.models import imagenet
from pclhd.models.released import released_state
from pclhd.models.two_stream import NARROW
from pclhd.models.weights import save_model
from pclhd.workflows import exchange
from tests.commands import Call
from tests.models.small import SMALL_BOTTLENECK, stirred

PAGE = (Path(__file__).parent.parent / "docs" / "responsible-use.md").read_text("utf-8")

#: What a file may hold that derives from images of people. "figures" is everything that has no other name here.
KINDS = {
    "images",
    "embeddings",
    "prototypes",
    "pseudo labels",
    "weights",
    "identities",
    "cameras",
    "paths",
    "digests",
    "figures",
}

#: A short training with everything on that writes a file.
QUICK = ("data.height=48", "data.width=24", "data.workers=1", "schedule.iterations=1", "schedule.stage2_epochs=1")
EVERYTHING = (
    "recipe=paper",
    "method.dynamic_redraw=step",
    "engine.checkpoint_minutes=0",
    "engine.keep_weights=true",
    "engine.tensorboard=true",
    *(["engine.mlflow=MLFLOW"] if find_spec("mlflow") else []),
    *(["engine.wandb=demo"] if find_spec("wandb") else []),
    "selection=silhouette",
    "data.cache=CACHE",
    "clustering.eps=0.7",
    "clustering.eps_joint=0.9",
)


@dataclass(frozen=True)
class Row:
    """A line of the page's table."""

    verb: str
    pattern: str
    when: str
    kinds: frozenset[str]


def _table(heading: str) -> list[list[str]]:
    table = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def _rows() -> list[Row]:
    rows = []
    for verb, file, when, content in _table("Command | File | When | Content"):
        kinds = frozenset() if content.startswith("nothing") else frozenset(re.split(", ", content)) - {""}
        rows.append(Row(verb.strip("`").removeprefix("pclhd "), file.strip("`"), when.strip("`"), kinds))
    return rows


ROWS = _rows()


def test_every_command_is_in_the_table_with_known_contents() -> None:
    verbs: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {row.verb for row in ROWS} == {name for name, command in verbs.items() if not command.hidden}
    explained = {kind for line in _table("Content | Meaning") for kind in line[0].split(", ")}
    assert explained == KINDS
    for row in ROWS:
        assert row.kinds <= KINDS, row
    assert len({(row.verb, row.pattern) for row in ROWS}) == len(ROWS)


def _settings() -> set[str]:
    """The settings of the table; an option begins with two dashes."""
    return {row.when for row in ROWS if row.when not in ("always", "") and not row.when.startswith("--")}


def test_settings_that_make_files_exist() -> None:
    settings = _settings()
    made = {setting.split("=")[0] for setting in EVERYTHING}
    # Those of packages that are not installed are not tried.
    assert settings - made <= {"engine.mlflow", "engine.wandb"}
    assert len(settings) == 7


# Running the commands.


@pytest.fixture(autouse=True)
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty current folder, with the system's folder for temporary files inside."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _files() -> dict[str, int]:
    return {path.as_posix(): path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}


Leaves = Callable[..., list[str]]


@pytest.fixture
def leaves(pclhd: Call) -> Leaves:
    """Run a command that must succeed; the files that are new or changed."""

    def run(*words: object) -> list[str]:
        before = _files()
        outcome = pclhd(*words)
        assert outcome.code == 0, outcome.err
        return [name for name, changed in _files().items() if before.get(name) != changed]

    return run


def _compare(verb: str, files: list[str], *, when: set[str]) -> dict[str, Row]:
    """The row of each file; every file must have one, and every row that applies a file."""
    rows = [row for row in ROWS if row.verb == verb and row.when in when]
    found: dict[str, Row] = {}
    for name in files:
        matching = [row for row in rows if fnmatch.fnmatchcase(name, row.pattern)]
        assert matching, f"pclhd {verb} leaves {name}, which docs/responsible-use.md does not list"
        found[name] = matching[0]
    assert {row.pattern for row in rows} == {row.pattern for row in found.values()}
    return found


def _check_contents(found: dict[str, Row], data: Path) -> None:
    """All files of a row together hold what the row says: a checkpoint may be older than the first labels."""
    for row in set(found.values()):
        names = [name for name, its in found.items() if its == row]
        held = set().union(*(_contents(Path(name), data) for name in names))
        assert held == row.kinds - {"figures"}, (names, held)


def _contents(path: Path, data: Path) -> set[str]:
    """What a file holds of people, as far as its bytes show it."""
    kind = path.name.rpartition(".")[2]
    if kind == "safetensors":
        return set(_in_tensors(path))
    if kind in ("pth", "tar"):
        saved = torch.load(path, weights_only=True)
        return {_kind_of(name, path) for name in saved.get("state_dict", saved)}
    if kind == "npy":
        array = np.load(path)
        return {{(np.uint8, 4): "images", (np.float32, 2): "embeddings", (np.int64, 1): "pseudo labels"}[_form(array)]}
    if kind in ("lance", "manifest", "txn"):
        return _in_a_gallery(path)
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return _in_columns(parquet.read_schema(path).names)
    if path.name.startswith("events.out"):
        return {"images"} if b"\x89PNG" in path.read_bytes() else set()
    if kind == "tsv":
        return {{"metadata": "pseudo labels", "tensors": "embeddings"}[path.stem]}
    if kind in ("png", "onnx"):
        return {{"png": "images", "onnx": "weights"}[kind]}
    text = path.read_bytes().decode("utf-8", errors="replace")
    if kind == "csv":
        return _in_columns(text.splitlines()[0].split(","))
    if "wandb" in path.parts:
        text = text.replace('"camera"', "")  # the setting batch.sampler
    images = [image.relative_to(data).as_posix() for image in data.rglob("*.jpg")]
    signs = {
        "images": "data:image/" in text,
        "paths": str(data) in text or any(name in text for name in images),
        "identities": re.search(r"\bidentity\b(?! label)", text) is not None,
        "digests": re.search(r'(?m)^[0-9a-f]{64}( [0-9a-f]{64})?$|"image":"[0-9a-f]{64}"', text) is not None,
        "cameras": re.search(r'"cameras?"|\bcamera \d', text) is not None,
    }
    return {name for name, seen in signs.items() if seen}


def _form(array: Any) -> tuple[Any, int]:
    return array.dtype.type, array.ndim


def _in_columns(names: list[str]) -> set[str]:
    known = {
        "path": "paths",
        "query": "paths",
        "camera": "cameras",
        "identity": "identities",
        "embedding": "embeddings",
        "label": "pseudo labels",
        "source": "paths",
        "thumbnail": "images",
        "digest": "digests",
        "time": "cameras",
        "track": "cameras",
    }
    others = {
        "modality",
        "split",
        "row",
        "confidence",
        "partner",
        "id",
        "number",
        "frame",
        "added",
        "model",
        "model_id",
        "x",
        "y",
    }
    others |= {"rank", "similarity", "probability", "above_threshold"}
    assert set(names) <= known.keys() | others
    return {known[name] for name in names if name in known}


def _in_a_gallery(path: Path) -> set[str]:
    """The columns of the table that a file belongs to; the facts are text in JSON."""
    import lancedb

    table = next(parent for parent in path.parents if parent.suffix == ".lance")
    opened = lancedb.connect(str(table.parent)).open_table(table.stem)
    if table.stem == "images":
        return _in_columns(opened.schema.names)
    facts = [row["json"] for row in opened.search().to_list()]
    return {"paths"} if any("model.safetensors" in fact for fact in facts) else set()


#: Tensors of checkpoints, model files, exports and embeddings by name; a tensor of another name fails the tests.
_TENSORS = {
    r"(online/|momentum/)?(visible_stem|infrared_stem|trunk|non_local|neck)\b.*": "weights",
    r"optimiser/\d+/\w+": "weights",
    r"(module\.)?(visible_module|thermal_module|base_resnet|NL_\d|bottleneck|classifier)\b.*": "weights",
    r"previous/\w+|state/labels/\w+|state/\w+/source/labels|state/matching/\w+|state/confidence/\w+": "pseudo labels",
    r"state/\w+/(clusters|multi)/\w+": "prototypes",
    r"state/\w+/dynamic/instances|state/\w+/source/features|embedding": "embeddings",
    r"survey/map_features": "embeddings",
    r"survey/(visible|infrared|to_centroid|queries|hits|\w+_partners|\w+_alike)": "pseudo labels",
    r"survey/(focus|\w+_similarity|\w+_rows|query_kind)": "figures",
    r"identity": "identities",
    r"camera": "cameras",
    r"modality|state/augmentation|state/redraws": "figures",
}


def _in_tensors(path: Path) -> Iterator[str]:
    with safe_open(path, framework="np") as file:
        if "paths" in (file.metadata() or {}):
            yield "paths"
        for name in file.keys():  # noqa: SIM118
            kind = _kind_of(name, path)
            if kind != "figures":
                yield kind


def _kind_of(tensor: str, path: Path) -> str:
    kinds = {kind for pattern, kind in _TENSORS.items() if re.fullmatch(pattern, tensor)}
    assert len(kinds) == 1, f"{path}: {tensor} is {kinds or 'of no known kind'}"
    return kinds.pop()


@pytest.mark.slow
def test_a_training_as_it_is_by_default(leaves: Leaves, tiny_sysu: Path) -> None:
    files = leaves("train", "tiny", "--data", tiny_sysu, "--out", "RUN", *QUICK)
    _check_contents(_compare("train", files, when={"always"}), tiny_sysu)


@pytest.mark.slow
def test_a_training_with_everything_on_and_what_follows(leaves: Leaves, tiny_sysu: Path) -> None:
    settings = _settings() & {setting.split("=")[0] for setting in EVERYTHING} | {"always"}
    files = leaves("train", "tiny", "--data", tiny_sysu, "--out", "RUN", *QUICK, *EVERYTHING)
    _check_contents(_compare("train", files, when=settings), tiny_sysu)

    # What the page says of a checkpoint within an epoch, by the names it gives.
    (within,) = Path("RUN/checkpoints").glob("epoch-*-step-00001.safetensors")
    with safe_open(within, framework="np") as file:
        images = len(file.get_tensor("state/labels/visible"))
        assert file.get_slice("state/visible/source/features").get_shape()[0] == images
        for name in re.findall(r"`(state/[\w/]+)`", PAGE):
            assert 0 not in file.get_slice(name).get_shape()

    for verb in ("evaluate", "report"):
        _check_contents(_compare(verb, leaves(verb, "RUN"), when={"always"}), tiny_sysu)
    page = Path("RUN/report/index.html").read_text("utf-8")
    pictures = int(re.findall(r"at most about ([\d,]+) pictures", PAGE)[0].replace(",", ""))
    assert 6 * (1 + 2 * 10) < page.count("data:image/") < pictures
    assert leaves("combine", "RUN", "RUN", "--force") == []
    Path("RUN").rename("OTHER")
    leaves("train", "tiny", "--data", tiny_sysu, "--out", "RUN", *QUICK)
    assert leaves("compare", "RUN", "OTHER") == []

    # Without cached images, verifying decodes them into the cache, and leaves nothing else anywhere.
    for kept in Path("CACHE").iterdir():
        kept.unlink()
    verified = leaves("verify", "OTHER")
    _check_contents(_compare("verify", verified, when={"data.cache"}), tiny_sysu)


@pytest.fixture
def run(tiny_sysu: Path) -> Path:
    """A finished run with a network that was never trained."""
    folder = Path("RUN")
    folder.mkdir()
    (folder / "config.yaml").write_text(load_preset("tiny", [*QUICK[:3]], root=tiny_sysu).to_yaml())
    save_model(folder / "model.safetensors", stirred(NARROW))
    return folder


@pytest.mark.slow
def test_embeddings_and_clusters_of_them(leaves: Leaves, run: Path, tiny_sysu: Path) -> None:
    pytest.importorskip("pyarrow")
    files = [
        name for kind in ("npy", "safetensors", "parquet") for name in leaves("embed", run, "--out", f"OUT.{kind}")
    ]
    _check_contents(_compare("embed", files, when={"--out"}), tiny_sysu)
    Path("OUT.parquet").rename("features.parquet")
    for name in files[:2]:
        Path(name).unlink()
    words = ("features.parquet", "--modality", "modality", "--identities", "identity", "--per-modality")
    files = [name for kind in ("npy", "csv", "parquet") for name in leaves("cluster", *words, "--out", f"OUT.{kind}")]
    _check_contents(_compare("cluster", files, when={"--out"}), tiny_sysu)


def test_a_search(leaves: Leaves, run: Path, tiny_sysu: Path) -> None:
    night, day = (sorted((tiny_sysu / camera).iterdir())[0] for camera in ("cam3", "cam1"))
    words = ("search", run, night, "--images", day, "--modality", "visible", "--top", 2)
    files = leaves(*words, "--csv", "OUT.csv", "--sheet", "OUT.html") + leaves(*words, "--sheet", "OUT.png")
    _check_contents(_compare("search", files, when={"--csv", "--sheet"}), tiny_sysu)


@pytest.mark.slow
def test_figures(leaves: Leaves, run: Path, tiny_sysu: Path) -> None:
    found = _compare("figures", leaves("figures", run, "--out", "DIR"), when={"always"})
    points = next(name for name in found if name == "DIR/tsne-stages.csv")
    assert _contents(Path(points), tiny_sysu) == found[points].kinds
    for name in found:
        if name.rpartition(".")[2] not in ("png", "pdf", "csv"):
            assert _contents(Path(name), tiny_sysu) <= found[name].kinds, name


@pytest.mark.slow
def test_an_onnx_file(leaves: Leaves, run: Path, tiny_sysu: Path) -> None:
    pytest.importorskip("onnxscript")
    files = leaves("export", run, "--format", "onnx", "--out", "OUT.onnx")
    _check_contents(_compare("export", files, when={"--format"}), tiny_sysu)


@pytest.mark.slow
def test_a_gallery(leaves: Leaves, run: Path, tiny_sysu: Path) -> None:
    pytest.importorskip("lancedb")
    files = leaves("gallery", "add", "GALLERY", tiny_sysu / "cam1", "--model", run, "--modality", "visible")
    looking = (("stats",), ("list",), ("search", next(tiny_sysu.rglob("*.jpg")), "--modality", "visible"))
    for verb, *words in looking:
        assert leaves("gallery", verb, "GALLERY", *words) == []
    files += leaves("gallery", "export", "GALLERY", "--out", "OUT.parquet")
    _check_contents(_compare("gallery", files, when={"always", "--out"}), tiny_sysu)


def test_a_service_and_its_tokens(leaves: Leaves, run: Path, tiny_sysu: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("lancedb")
    from starlette.testclient import TestClient

    from pclhd.service.app import create_app
    from pclhd.service.run import open_service

    images = sorted((tiny_sysu / "cam1").rglob("*.jpg"))
    leaves("gallery", "add", "GALLERY", images[0], "--model", run, "--modality", "visible", "--camera", "gate")
    _compare("token", leaves("token", "create", "desk", "--role", "admin"), when={"always"})
    before = _files()
    service = open_service(Path("GALLERY"), device="cpu")
    with TestClient(create_app(service), "http://localhost") as client:
        added = client.post("/api/v1/rows?modality=visible&camera=gate", content=images[1].read_bytes())
        found = client.post("/api/v1/search?modality=visible&camera=gate", content=images[0].read_bytes())
        row = found.json()["hits"][0]["row"]["id"]
        shown = client.get(f"/api/v1/rows/{row}/image")
        removed = client.post("/api/v1/remove", json={"ids": [row]})
    service.audit.close()
    assert {answer.status_code for answer in (added, found, shown, removed)} == {200}
    files = [name for name, changed in _files().items() if before.get(name) != changed]
    _check_contents(_compare("serve", files, when={"always"}), tiny_sysu)
    assert leaves("audit", "verify", "GALLERY.audit.jsonl") == []
    # The page says of the log and of the tokens what they do not hold.
    assert hashlib.sha256(images[0].read_bytes()).hexdigest() in Path("GALLERY.audit.jsonl").read_text()
    assert images[0].name not in Path("GALLERY.audit.jsonl").read_text()


def test_weights_of_others(leaves: Leaves, tiny_sysu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)
    torch.save(released_state(stirred(SMALL_BOTTLENECK, 1)), "theirs.pth")
    files = leaves("import", "theirs.pth", "--layout", "sysu", "--data", tiny_sysu, "--out", "RUN")
    _check_contents(_compare("import", files, when={"always"}), tiny_sysu)
    kinds = ("pth", "pth.tar", "safetensors")
    files = [name for kind in kinds for name in leaves("export", "RUN", "--out", f"OUT.{kind}")]
    _check_contents(_compare("export", files, when={"--out"}), tiny_sysu)


def test_drawn_people_and_a_look_at_them(leaves: Leaves) -> None:
    _compare("synth", leaves("synth", "DIR", "--scale", "tiny", "--workers", 1), when={"always"})
    assert leaves("check", "DIR") == []


@pytest.mark.slow
def test_a_starter(leaves: Leaves) -> None:
    words = ("--people", 4, "--images", 2, "--steps", 1)
    _compare("starter", leaves("starter", "OUT.safetensors", *words), when={"always"})


def test_a_download(leaves: Leaves, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"invented weights"
    url = f"https://example.org/resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(imagenet, "download_imagenet", partial(imagenet.download_imagenet, url=url))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(content))
    _compare("fetch-imagenet", leaves("fetch-imagenet", "DIR"), when={"always"})
