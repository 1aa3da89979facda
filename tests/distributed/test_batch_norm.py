from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from pclhd.distributed.batch_norm import SyncedBatchNorm, synchronise_batch_norm
from pclhd.distributed.processes import Processes


@pytest.fixture
def _group_of_one(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def both(features: int, *, images: bool) -> tuple[nn.Sequential, nn.Sequential]:
    """A batch norm with uneven weights, and its synchronised twin."""
    generator = torch.Generator().manual_seed(1)
    kind = nn.BatchNorm2d if images else nn.BatchNorm1d
    plain, synced = (nn.Sequential(kind(features)).double() for _ in range(2))
    for network in (plain, synced):
        generator.manual_seed(1)
        for parameter, (low, high) in zip(network.parameters(), ((0.5, 2.0), (-1.0, 1.0)), strict=True):
            nn.init.uniform_(parameter, low, high, generator=generator)
    synchronise_batch_norm(synced)
    assert isinstance(synced[0], SyncedBatchNorm)
    return plain, synced


def assert_same_state(plain: nn.Module, synced: nn.Module) -> None:
    assert plain.state_dict().keys() == synced.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[name], tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("_group_of_one")
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 6, 2)])
def test_alone_it_is_torchs_batch_norm(shape: tuple[int, ...]) -> None:
    plain, synced = both(3, images=len(shape) == 4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        rows = [torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 2]
        rows.append(rows[0].clone())
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        outputs = []
        for network, entering in zip((plain, synced), rows, strict=True):
            entering.requires_grad_(True)
            network.zero_grad()
            outputs.append(network(entering))
            (outputs[-1] * weight).sum().backward()
        torch.testing.assert_close(outputs[1], outputs[0])
        torch.testing.assert_close(rows[1].grad, rows[0].grad)
        for ours, theirs in zip(synced.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
    assert_same_state(plain, synced)
    plain.eval()
    synced.eval()
    torch.testing.assert_close(synced(rows[0]), plain(rows[0]))


@pytest.mark.usefixtures("_group_of_one")
def test_half_precision_goes_in_and_out() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2))
    synchronise_batch_norm(network)
    assert network(torch.randn(4, 2).bfloat16()).dtype == torch.bfloat16
    assert network.state_dict()["0.running_mean"].dtype == torch.float32


def test_frozen_stays_frozen_and_optimisers_keep_their_parameters() -> None:
    inner = nn.Sequential(nn.BatchNorm1d(2))
    network = nn.Sequential(inner, nn.Linear(2, 2))
    inner[0].bias.requires_grad_(False)
    before = list(network.parameters())
    synchronise_batch_norm(network)
    assert [id(parameter) for parameter in network.parameters()] == [id(parameter) for parameter in before]
    assert not inner[0].bias.requires_grad
    synchronise_batch_norm(network)
    assert sum(isinstance(part, SyncedBatchNorm) for part in network.modules()) == 1


def test_without_weights_it_is_refused() -> None:
    with pytest.raises(ValueError, match="weights and running statistics"):
        synchronise_batch_norm(nn.Sequential(nn.BatchNorm1d(2, affine=False)))


def _whole() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(7, 3, 4, 2, generator=generator, dtype=torch.float64) * 2 - 1
    return rows, torch.randn(7, 3, 4, 2, generator=generator, dtype=torch.float64)


def _in_one_of_several(rank: int, count: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=count)
    processes = Processes(rank, count)
    _, synced = both(3, images=True)
    rows, weight = _whole()
    own = rows[processes.share(7)].clone().requires_grad_(True)
    gathered = processes.gather(synced(own), 7)
    (gathered * weight).sum().backward()  # type: ignore[no-untyped-call]
    processes.add_gradients(synced.parameters())
    found = {
        "output": gathered.detach(),
        "rows": own.grad,
        "parameters": [parameter.grad for parameter in synced.parameters()],
        "state": synced.state_dict(),
        "largest": processes.largest(10 * rank),
        "first": processes.by_the_first(lambda: f"said by {rank}"),
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_rows_in_several_processes_are_one_batch(tmp_path: Path, count: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(_in_one_of_several, (count, port, str(tmp_path)), nprocs=count)  # type: ignore[no-untyped-call]
    plain, _ = both(3, images=True)
    rows, weight = _whole()
    rows.requires_grad_(True)
    output = plain(rows)
    (output * weight).sum().backward()
    for rank in range(count):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["output"], output.detach())
        assert rows.grad is not None
        torch.testing.assert_close(found["rows"], rows.grad[Processes(rank, count).share(7)])
        for ours, theirs in zip(found["parameters"], plain.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs.grad)
        for name, tensor in plain.state_dict().items():
            torch.testing.assert_close(found["state"][name], tensor)
        assert found["largest"] == 10 * (count - 1)
        assert found["first"] == "said by 0"
