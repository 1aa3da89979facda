"""The two-stream network against recorded outputs of the released one."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pclhd.models.released import LoadReport, load_released_state
from pclhd.models.two_stream import RESNET50_AGW, TwoStreamNetwork
from tests.golden.helpers import golden_files

STATE_FILE = golden_files("agw_state*.json")[0]
# The released names of the batch norms whose statistics were recorded, and our names for them.
RECORDED_NORMS = {
    "bottleneck": "neck",
    "visible_bn1": "visible_stem.norm",
    "thermal_bn1": "infrared_stem.norm",
    "layer4_last_bn3": "trunk.stage4.2.bn3",
}


def fill(name: str, shape: list[int], seed_offset: int) -> Tensor:
    """The recording's recipe: each entry from its name alone."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    generator = np.random.RandomState((zlib.crc32(name.encode()) + seed_offset) & 0xFFFFFFFF)
    z = np.asarray(generator.standard_normal(shape))
    if name.endswith(("running_mean", ".bias")):
        z = 0.1 * z
    elif name.endswith("running_var"):
        z = 1 + 0.1 * np.abs(z)
    elif len(shape) == 1:
        z = 1 + 0.1 * z
        if name.endswith(("bn3.weight", ".W.1.weight")):
            z = 0.35 * z
    else:
        z = z * math.sqrt(2 / math.prod(shape[1:]))
        if name.startswith("NL_"):
            z = 0.5 * z
    return torch.from_numpy(z.astype(np.float32))


Recording = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module", params=golden_files("agw*.npz"), ids=lambda path: path.stem)
def recording(request: pytest.FixtureRequest) -> Recording:
    path: Path = request.param
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def released_state(recording: Recording) -> dict[str, Tensor]:
    entries: list[tuple[str, list[int]]] = json.loads(STATE_FILE.read_text())
    return {name: fill(name, shape, int(recording["seed_offset"])) for name, shape in entries}


def filled_network(state: dict[str, Tensor]) -> tuple[TwoStreamNetwork, LoadReport]:
    network = TwoStreamNetwork(RESNET50_AGW)
    return network, load_released_state(network, state)


def test_filling_is_the_recorded_one(recording: Recording, released_state: dict[str, Tensor]) -> None:
    for name, first, total in zip(
        recording["fill_check_names"], recording["fill_check_first"], recording["fill_check_sum"], strict=True
    ):
        values = released_state[str(name)].double().flatten()
        assert values[0].item() == pytest.approx(float(first), rel=1e-6)
        assert values.sum().item() == pytest.approx(float(total), rel=1e-6, abs=1e-6)


def test_every_part_of_ours_is_filled_and_only_dead_parts_are_unused(released_state: dict[str, Tensor]) -> None:
    network, report = filled_network(released_state)
    assert len(report.used) == len(network.state_dict())
    assert set(report.used) | set(report.unused) == set(released_state)
    dead = ("visible_module.visible.layer", "thermal_module.thermal.layer", "base_resnet.base.conv1", "classifier")
    assert all(name.startswith((*dead, "base_resnet.base.bn1")) for name in report.unused)


def test_evaluation_outputs(recording: Recording, released_state: dict[str, Tensor]) -> None:
    network, _ = filled_network(released_state)
    network.eval()
    images = torch.from_numpy(recording["images"])
    with torch.inference_mode():
        outputs = {1: network(images, None), 2: network(None, images)}
    for modal, output in outputs.items():
        unit = output.embedding / output.embedding.norm(dim=1, keepdim=True)
        np.testing.assert_allclose(unit.numpy(), recording[f"eval_modal{modal}"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(output.pooled.numpy(), recording[f"eval_pool_modal{modal}"], rtol=0, atol=2e-4)


def test_training_pass_and_its_running_statistics(recording: Recording, released_state: dict[str, Tensor]) -> None:
    network, _ = filled_network(released_state)
    network.train()
    count = len(recording["train_feat_visible"])
    images = torch.from_numpy(recording["images"])
    with torch.no_grad():
        output = network(images[:count], images[count:])
    embedding, pooled = output.embedding.numpy(), output.pooled.numpy()
    np.testing.assert_allclose(embedding, recording["train_feat"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(embedding[:count], recording["train_feat_visible"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(embedding[count:], recording["train_feat_infrared"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(pooled[:count], recording["train_pool_visible"], rtol=0, atol=5e-5)
    np.testing.assert_allclose(pooled[count:], recording["train_pool_infrared"], rtol=0, atol=5e-5)
    ours = network.state_dict()
    recorded = [name for name in recording if name.startswith("after_train_")]
    assert recorded
    for name in recorded:
        norm, statistic = name.removeprefix("after_train_").split("_running_")
        values = ours[f"{RECORDED_NORMS[norm]}.running_{statistic}"].numpy()
        np.testing.assert_allclose(values, recording[name], rtol=0, atol=5e-6, err_msg=name)
