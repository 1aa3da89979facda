"""An encoder from an ONNX file: the same interface and results as with torch, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pclhd.data.records import Modality
from pclhd.errors import ArgumentError, UserError
from pclhd.models.onnx_encoder import HEADER, OnnxEncoder, OnnxFacts, int8_id
from pclhd.models.opening import open_encoder
from pclhd.models.preprocessing import Preprocessing

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FACTS = OnnxFacts("a" * 64, "a" * 64, Preprocessing(4, 2), 24, "float32")


def write_graph(path: Path, facts: dict[str, object] | None = None) -> Path:
    """A graph that "embeds" an image as its own pixels, negative for infrared ones."""
    helper = onnx.helper
    kinds = onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], to=kinds.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["flat"]),
        helper.make_node("Cast", ["infrared"], ["ones"], to=kinds.FLOAT),
        helper.make_node("Mul", ["ones", "minus_two"], ["twos"]),
        helper.make_node("Add", ["twos", "one"], ["signs"]),
        helper.make_node("Unsqueeze", ["signs", "axis"], ["column"]),
        helper.make_node("Mul", ["flat", "column"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pixels",
        [
            helper.make_tensor_value_info("images", kinds.UINT8, ["n", 4, 2, 3]),
            helper.make_tensor_value_info("infrared", kinds.BOOL, ["n"]),
        ],
        [helper.make_tensor_value_info("embedding", kinds.FLOAT, ["n", 24])],
        [
            helper.make_tensor("minus_two", kinds.FLOAT, [1], [-2.0]),
            helper.make_tensor("one", kinds.FLOAT, [1], [1.0]),
            helper.make_tensor("axis", kinds.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if facts is not None:
        helper.set_model_props(model, {HEADER: json.dumps(facts)})
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "model.onnx", FACTS.to_dict())


def _pixels(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 4, 2), dtype=np.uint8)


def test_the_facts_survive(file: Path) -> None:
    encoder = OnnxEncoder(file)
    assert encoder.facts == FACTS
    assert encoder.embedding_size == 24
    assert encoder.model_id == "a" * 64
    assert encoder.preprocessing == Preprocessing(4, 2)
    assert int8_id("a") != int8_id("b")


def test_pixels_go_in_as_rows_of_colours(file: Path) -> None:
    pixels = _pixels(150)  # more than a batch
    encoder = OnnxEncoder(file)
    expected = np.stack([image.transpose(1, 2, 0).ravel() for image in pixels]).astype(np.float32)
    assert np.array_equal(encoder.embed_pixels(pixels, Modality.VISIBLE), expected)
    assert np.array_equal(encoder.embed_pixels(pixels, Modality.INFRARED), -expected)
    assert encoder.embed_pixels(pixels[:0], Modality.VISIBLE).shape == (0, 24)


def test_images_in_any_form(file: Path) -> None:
    array = _pixels(1)[0].transpose(1, 2, 0)
    embeddings = OnnxEncoder(file).embed([array, array], modality="infrared")
    assert embeddings.model_id == "a" * 64
    assert np.array_equal(embeddings.features, np.stack([-array.ravel().astype(np.float32)] * 2))


def test_which_files_are_opened(file: Path, tmp_path: Path) -> None:
    assert isinstance(open_encoder(file), OnnxEncoder)
    assert isinstance(open_encoder(tmp_path, runtime="onnx"), OnnxEncoder)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ArgumentError, match="is no ONNX file"):
        open_encoder(tmp_path / "model.safetensors", runtime="onnx")
    with pytest.raises(UserError, match="no such ONNX file; make it with: pclhd export"):
        open_encoder(tmp_path / "missing.onnx")


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not ONNX")
    with pytest.raises(UserError, match="not a readable ONNX file"):
        OnnxEncoder(damaged)
    wrong: list[dict[str, object] | None] = [
        None,
        {},
        {**FACTS.to_dict(), "embedding_size": "24"},
        {**FACTS.to_dict(), "precision": "int4"},
        {**FACTS.to_dict(), "preprocessing": {"height": 4}},
    ]
    for facts in wrong:
        with pytest.raises(UserError, match="was not written by pclhd export"):
            OnnxEncoder(write_graph(tmp_path / "foreign.onnx", facts))


def test_onnxruntime_reports_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    homes = {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "ORT_DISABLE_TELEMETRY"}
    environment = {name: value for name, value in os.environ.items() if name not in homes}
    code = "from pclhd.models.onnx_encoder import require_onnxruntime as load; load()"
    command = [sys.executable, "-c", code]
    # With telemetry it keeps an id of the machine below the home.
    ran = subprocess.run(
        command, env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
