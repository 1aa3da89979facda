"""A checkpoint of the released family, imported by the command line, against the recorded outputs of its network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pclhd.models.released import released_state
from pclhd.models.two_stream import RESNET50_AGW, TwoStreamNetwork
from pclhd.models.weights import load_model
from tests.commands import Call
from tests.golden.helpers import golden_files
from tests.golden.test_agw import STATE_FILE, fill

State = dict[str, Tensor]
ENTRIES: list[tuple[str, list[int]]] = json.loads(STATE_FILE.read_text())


def save_as_released(state: State, path: Path) -> None:
    # As its training saves it: wrapped for several GPUs, and with a score computed by numpy.
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": wrapped, "epoch": 50, "best_mAP": np.float64(0.5)}, path)


FORMS: dict[str, Callable[[State, Path], None]] = {
    "model_best.pth.tar": save_as_released,
    "bare.pth": lambda state, path: torch.save(state, path),
    "bare.safetensors": lambda state, path: save_file(state, path),
}


@pytest.fixture(scope="module", params=golden_files("agw*.npz"), ids=lambda path: path.stem)
def recording_file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def released(recording_file: Path) -> State:
    with np.load(recording_file, allow_pickle=False) as file:
        offset = int(file["seed_offset"])
    return {name: fill(name, shape, offset) for name, shape in ENTRIES}


@pytest.mark.parametrize("name", sorted(FORMS))
def test_embeddings_are_the_recorded_ones(
    pclhd: Call, tmp_path: Path, recording_file: Path, released: State, name: str
) -> None:
    FORMS[name](released, tmp_path / name)
    outcome = pclhd("import", tmp_path / name, "--layout", "sysu", "--out", tmp_path / "run")
    (tmp_path / name).unlink()
    assert outcome.code == 0, outcome.err
    network = load_model(tmp_path / "run" / "model.safetensors")
    assert f"{len(network.state_dict())} entries used" in outcome.out
    assert "note:" not in outcome.out
    with np.load(recording_file, allow_pickle=False) as recording, torch.inference_mode():
        images = torch.from_numpy(recording["images"])
        for modal, output in {1: network(images, None), 2: network(None, images)}.items():
            unit = output.embedding / output.embedding.norm(dim=1, keepdim=True)
            np.testing.assert_allclose(unit.numpy(), recording[f"eval_modal{modal}"], rtol=0, atol=1e-6)
            pooled = recording[f"eval_pool_modal{modal}"]
            np.testing.assert_allclose(output.pooled.numpy(), pooled, rtol=0, atol=2e-4)


def test_an_export_has_every_entry_of_the_released_state_in_its_shape() -> None:
    state = released_state(TwoStreamNetwork(RESNET50_AGW))
    assert {name: list(tensor.shape) for name, tensor in state.items()} == dict(ENTRIES)
    for name, tensor in state.items():
        assert tensor.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
