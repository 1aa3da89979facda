from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pclhd.engine import checkpoint as module
from pclhd.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_latest_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    rewind_to_epoch,
    save_checkpoint,
)
from pclhd.engine.selection import Selection
from pclhd.errors import UserError
from pclhd.pair import Pair
from pclhd.runs.folder import checkpoint_files


def awkward_tensors(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "float": torch.randn(3, 2, generator=generator),
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "counter": torch.tensor(2**40 + seed),
        "half": torch.randn(4, generator=generator).bfloat16(),
        "empty": torch.zeros(0, 3),
        "a/name/with/slashes": torch.tensor([True, False]),
        "transposed": torch.randn(2, 3, 4, 5, generator=generator).to(memory_format=torch.channels_last),
    }


def make(next_epoch: int = 3, *, with_optimiser: bool = True) -> Checkpoint:
    state = {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(2)}, 11: {"exp_avg_sq": torch.zeros(1)}}
    return Checkpoint(
        next_epoch,
        awkward_tensors(1),
        awkward_tensors(2),
        state if with_optimiser else None,
        Pair(np.array([0, -1, 1]), np.array([0, 0])),
        Selection("cycle", 2, 1 / 3),
        "checksum ü",
    )


def empty(online: dict[str, Tensor] | None = None, optimiser: dict[int, dict[str, Tensor]] | None = None) -> Checkpoint:
    return Checkpoint(0, online or {}, {}, optimiser, None, Selection("last"), "")


def refuse(message: str) -> None:
    raise AssertionError(message)


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        assert tensor.shape == second[name].shape
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=0, equal_nan=True)


def test_a_round_trip_is_exact(tmp_path: Path) -> None:
    saved = make()
    path = save_checkpoint(tmp_path, saved)
    assert path == tmp_path / "epoch-0003-step-00000.safetensors"
    loaded = load_checkpoint(path)
    assert (loaded.next_epoch, loaded.data_checksum, loaded.state) == (3, "checksum ü", None)
    assert loaded.selection == saved.selection
    assert loaded.previous is not None
    assert [part.tolist() for part in loaded.previous] == [[0, -1, 1], [0, 0]]
    assert_same(loaded.online, saved.online)
    assert_same(loaded.momentum, saved.momentum)
    assert loaded.optimiser is not None
    assert saved.optimiser is not None
    assert loaded.optimiser.keys() == saved.optimiser.keys()
    for index, state in saved.optimiser.items():
        assert_same(loaded.optimiser[index], state)


@pytest.mark.parametrize("with_optimiser", [True, False])
def test_an_optimiser_without_state_is_not_the_same_as_none(tmp_path: Path, with_optimiser: bool) -> None:
    saved = empty(optimiser={} if with_optimiser else None)
    loaded = load_checkpoint(save_checkpoint(tmp_path, saved))
    assert loaded.optimiser == saved.optimiser
    assert loaded.previous is None


def test_a_state_within_an_epoch(tmp_path: Path) -> None:
    facts = {"step": 17, "sums": {"total": 0.1 + 0.2}, "groupings": {"visible": {"eps": None}}}
    saved = replace(make(), state=(awkward_tensors(3), facts))
    path = save_checkpoint(tmp_path, saved)
    assert path.name == "epoch-0003-step-00017.safetensors"
    loaded = load_checkpoint(path)
    assert loaded.state is not None
    assert loaded.state[1] == facts
    assert_same(loaded.state[0], awkward_tensors(3))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    (tmp_path / "start.safetensors").write_bytes(b"not an epoch")
    for epoch in (8, 9, 10, 11):
        save_checkpoint(tmp_path, make(epoch))
    assert [path.name[:10] for path in checkpoint_files(tmp_path)] == ["epoch-0010", "epoch-0011"]
    assert (tmp_path / "start.safetensors").exists()
    assert load_latest_checkpoint(tmp_path, refuse).next_epoch == 11
    # One within an epoch is newer than the one at its start, and older than the next.
    save_checkpoint(tmp_path, replace(make(11), state=({}, {"step": 3})))
    assert load_latest_checkpoint(tmp_path, refuse).state is not None
    save_checkpoint(tmp_path, make(12))
    assert load_latest_checkpoint(tmp_path, refuse).next_epoch == 12


def within(epoch: int, step: int, *, restarts: int = 0) -> Checkpoint:
    state = None if step == 0 else ({"x": torch.zeros(1)}, {"step": step})
    return replace(make(epoch), state=state, restarts=restarts)


def names(folder: Path) -> list[str]:
    return [path.stem.removeprefix("epoch-000") for path in checkpoint_files(folder)]


def test_the_one_that_the_epoch_began_with_stays(tmp_path: Path) -> None:
    for epoch, step in ((1, 0), (1, 4), (2, 0), (2, 3), (2, 6), (2, 9)):
        save_checkpoint(tmp_path, within(epoch, step))
    assert names(tmp_path) == ["2-step-00000", "2-step-00006", "2-step-00009"]
    save_checkpoint(tmp_path, within(3, 0))
    assert names(tmp_path) == ["2-step-00009", "3-step-00000"]


def test_an_epoch_can_be_started_again(tmp_path: Path) -> None:
    for epoch, step in ((1, 0), (2, 0), (2, 3), (2, 6)):
        save_checkpoint(tmp_path, within(epoch, step, restarts=step))
    found = rewind_to_epoch(tmp_path, refuse)
    assert (found.next_epoch, found.state, found.restarts) == (2, None, 0)
    assert names(tmp_path) == ["2-step-00000"]
    assert load_latest_checkpoint(tmp_path, refuse).next_epoch == 2
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        rewind_to_epoch(tmp_path / "gone", refuse)


def test_nothing_is_removed_before_the_beginning_has_been_read(tmp_path: Path) -> None:
    for step in (0, 3):
        save_checkpoint(tmp_path, within(2, step))
    checkpoint_files(tmp_path)[0].write_bytes(b"damaged")
    before = names(tmp_path)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        rewind_to_epoch(tmp_path, refuse)
    assert names(tmp_path) == before


def test_restarts_are_remembered(tmp_path: Path) -> None:
    assert load_checkpoint(save_checkpoint(tmp_path, within(2, 0, restarts=3))).restarts == 3


def test_the_scale_of_losses_is_remembered(tmp_path: Path) -> None:
    scale = {"scale": 2.0**14, "growth_factor": 2.0, "_growth_tracker": 13}
    assert load_checkpoint(save_checkpoint(tmp_path, replace(make(), loss_scale=scale))).loss_scale == scale
    assert load_checkpoint(save_checkpoint(tmp_path, make())).loss_scale == {}


def test_a_failure_while_writing_leaves_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, make(epoch))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path, content: bytes) -> None:
        path.with_name(".half").write_bytes(content[:10])
        path.with_name(".half").unlink()
        raise UserError("no space left")

    monkeypatch.setattr(module, "write_durably", full)
    with pytest.raises(UserError, match="no space left"):
        save_checkpoint(tmp_path, make(3))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_has_gone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        save_checkpoint(tmp_path / "gone", make())


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        load_latest_checkpoint(tmp_path / "gone", refuse)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "header", "one bit", "facts"])
def test_damaged_files(tmp_path: Path, damage: str) -> None:
    path = save_checkpoint(tmp_path, make())
    content = path.read_bytes()
    changed = {
        "cut": content[:-5],
        "empty": b"",
        "text": b"hello",
        "header": content.replace(b"{", b"[", 1),
        "one bit": content[:-1] + bytes([content[-1] ^ 1]),
        "facts": content.replace(b'next_epoch\\": 3', b'next_epoch\\": 4'),
    }
    assert changed[damage] != content
    path.write_bytes(changed[damage])
    with pytest.raises(UserError, match="start a new training"):
        load_latest_checkpoint(tmp_path, refuse)
    # With an older one that is whole, it is only a warning.
    save_checkpoint(tmp_path, make(2))
    warnings: list[str] = []
    assert load_latest_checkpoint(tmp_path, warnings.append).next_epoch == 2
    assert len(warnings) == 1
    assert warnings[0].endswith("continuing from epoch-0002-step-00000.safetensors")
    assert path.name in warnings[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make(2))
    os.mkfifo(tmp_path / "epoch-0003-step-00000.safetensors")
    warnings: list[str] = []
    assert load_latest_checkpoint(tmp_path, warnings.append).next_epoch == 2
    assert "it is no regular file" in warnings[0]


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "epoch-0001-step-00000.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not a checkpoint of this version"):
        load_latest_checkpoint(tmp_path, refuse)


def _steps(network: nn.Module, optimiser: torch.optim.Optimizer, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        images = torch.randn(2, 3, 8, 8, generator=generator)
        optimiser.zero_grad()
        network(images).square().mean().backward()
        optimiser.step()


def test_an_optimiser_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        weight = next(network.parameters())
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return network, torch.optim.Adam(network.parameters(), lr=0.1, weight_decay=0.01)

    network, optimiser = fresh()
    _steps(network, optimiser, 3)
    saved = empty(network.state_dict(), optimiser_tensors(optimiser))
    loaded = load_checkpoint(save_checkpoint(tmp_path, saved))
    assert loaded.optimiser is not None
    resumed, resumed_optimiser = fresh()
    resumed.load_state_dict(loaded.online)
    restore_optimiser(resumed_optimiser, loaded.optimiser)
    averages = resumed_optimiser.state[next(resumed.parameters())]["exp_avg"]
    assert averages.is_contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        _steps(network, optimiser, 1)
        _steps(resumed, resumed_optimiser, 1)
    for first, second in zip(network.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(first, second)
