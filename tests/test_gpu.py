"""What only a GPU can show; `scripts/gpu_check.py` runs these tests where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pclhd.clustering.neighbours import nearest_neighbours
from pclhd.data.records import Modality
from pclhd.models.architecture import LITE0
from pclhd.models.backbones import new_network
from pclhd.models.embed import embed_images
from pclhd.models.weights import load_model
from pclhd.runs.folder import RunFolder
from tests.engine.runs import SmallData
from tests.models.small import SMALL, stirred

ROOT = Path(__file__).parent.parent
gpu = pytest.mark.gpu
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(autouse=True)
def _needs_a_gpu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@gpu
@pytest.mark.parametrize("kind", list(SMALL))
def test_embeddings_are_those_of_the_processor(kind: str) -> None:
    network = stirred(SMALL[kind])
    pixels = torch.randint(0, 256, (9, 3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = embed_images(network, pixels, Modality.VISIBLE)
    assert torch.allclose(embed_images(network.cuda(), pixels, Modality.VISIBLE), expected, atol=2e-3)


@gpu
def test_embeddings_of_the_lite_network_are_those_of_the_processor() -> None:
    network = new_network(LITE0)
    pixels = torch.randint(0, 256, (4, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = embed_images(network, pixels, Modality.INFRARED)
    assert torch.allclose(embed_images(network.cuda(), pixels, Modality.INFRARED), expected, atol=5e-3)


@gpu
def test_neighbours_are_those_of_the_processor() -> None:
    features = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    tables = [nearest_neighbours(features, 10, device=device).index for device in ("cpu", "cuda")]
    assert np.array_equal(tables[0], tables[1])


@gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_trains_and_the_model_loads_on_the_processor(small: SmallData, tmp_path: Path, precision: str) -> None:
    small.train(tmp_path / "run", "engine.accelerator=cuda", f"engine.precision={precision}")
    network = load_model(RunFolder(tmp_path / "run").require_model())
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


@pytest.mark.slow
def test_the_check_runs_on_a_processor(tmp_path: Path) -> None:
    words = [sys.executable, "scripts/gpu_check.py", "--quick", "--device", "cpu", "--json", str(tmp_path / "cpu.json")]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    parts = json.loads((tmp_path / "cpu.json").read_text())["parts"]
    assert list(parts) == ["tests", "equality", "steps", "epoch", "training"]
    assert all("error" not in part and "left_out" not in part for part in parts.values())
    assert parts["equality"]["neighbours_equal"]
    assert parts["equality"]["embedding_difference"] == 0.0
    assert set(parts["epoch"]["seconds"]) == {"embedding", "search", "clustering", "steps"}
    assert parts["steps"]["share_of_peak_stage1"] > 0
    assert set(parts["training"]["rank1"]) >= {"start", "final"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_check_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    words = [sys.executable, "scripts/gpu_check.py", "--json", str(tmp_path / "gpu.json")]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "no GPU" in ran.stderr
