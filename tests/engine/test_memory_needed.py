from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from pclhd.config import load_preset
from pclhd.engine import memory_needed as module
from pclhd.engine.memory_needed import GIB, check_memory, count_activations, memory_needed
from pclhd.engine.trainer import train
from pclhd.errors import UserError
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.pair import Pair
from tests.engine.runs import SmallData

IMAGES = Pair(100, 50)
SIZES = ["clustering.k1=8", "clustering.k2=3", "clustering.joint_k1=10", "clustering.joint_k2=4"]


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("batch.clusters=1000000", "batch.clusters"),
        ("batch.instances=2000000000", "batch.instances"),
        ("data.height=4096 data.width=4096 batch.clusters=1 batch.instances=1", "data.height"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_written(
    small: SmallData, tmp_path: Path, override: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "usable_memory", lambda: 2 * GIB)
    settings = small.settings(*override.split())
    with pytest.raises(UserError, match=rf"needs about .* GiB of memory \(.*allows 2.0 GiB; lower .*{advice}") as error:
        train(settings, small.training_set, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_what_may_not_fit_is_a_warning_and_what_fits_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_preset("tiny", SIZES)
    needed = memory_needed(settings, IMAGES)
    for most, warns in ((needed.total, False), (needed.total - 1, True), (None, False)):
        monkeypatch.setattr(module, "usable_memory", lambda most=most: most)
        assert (check_memory(needed, settings) is not None) is warns
    monkeypatch.setattr(module, "usable_memory", lambda: needed.total // 2)
    with pytest.raises(UserError, match="allows"):
        check_memory(needed, settings)


def test_each_setting_counts() -> None:
    def total(*overrides: str, images: Pair[int] = IMAGES, processes: int = 1) -> dict[str, Any]:
        found = memory_needed(load_preset("tiny", [*SIZES, *overrides]), images, processes=processes)
        return {name: getattr(found, name) for name in ("images", "weights", "batch", "embedding", "clustering")}

    usual = total()
    assert total("batch.instances=8")["batch"] == pytest.approx(2 * usual["batch"], rel=0.01)
    assert total(processes=2)["batch"] == pytest.approx(usual["batch"] / 2, rel=0.01)
    assert total("engine.precision=bf16-mixed")["batch"] < 0.7 * usual["batch"]
    assert total("method.joint_step=shared")["batch"] > 1.5 * total("method.joint_step=own")["batch"]
    assert total("data.cache=/somewhere")["images"] == 0
    assert total(images=Pair(200, 100))["images"] == 2 * usual["images"] == 2 * 150 * 3 * 96 * 48
    assert total("model.architecture=resnet50", "model.weights=none")["weights"] > 10 * usual["weights"]
    assert total("clustering.k1=100")["clustering"] > usual["clustering"]


def test_activations_without_storage_are_those_with_it() -> None:
    height, width = 48, 24
    network = TwoStreamNetwork(NARROW).train()
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    def count(images: int) -> int:
        kept.clear()
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            network(torch.rand(images, 3, height, width), None)
        return sum(storage.nbytes() for storage in kept.values())

    expected = (count(4) - count(2)) / 2
    found, widest = count_activations(TwoStreamNetwork(NARROW).to("meta"), height, width, None)
    assert found == pytest.approx(expected, rel=0.02)
    assert 0 < widest < found
    half, _ = count_activations(TwoStreamNetwork(NARROW).to("meta"), height, width, torch.bfloat16)
    assert half == pytest.approx(found / 2, rel=0.2)  # indices of poolings stay as they are


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the proc file system")
@pytest.mark.parametrize("instances", [4, 64])
def test_the_estimate_is_within_a_factor_of_two_of_the_peak(tiny_sysu: Path, tmp_path: Path, instances: int) -> None:
    """Of the whole process; with a large batch, activations are most of it."""
    # Not `ru_maxrss`: it also counts the process that started this one, until it became another program.
    program = (
        "import sys; sys.argv = ['pclhd', *sys.argv[1:]]\n"
        "from pclhd.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    words = ["train", "tiny", f"batch.instances={instances}", "schedule.iterations=1", "batch.clusters=8"]
    words += ["--data", str(tiny_sysu), "--out", str(tmp_path / "run")]
    ran = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    peak = int(ran.stdout.split("VmHWM:")[1].split()[0]) / 2**20
    said = next(line for line in ran.stdout.splitlines() if line.endswith(" GiB of memory"))
    estimated = float(said.rpartition("about ")[2].split()[0])
    assert 0.5 < estimated / peak < 2
