from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pclhd.models.momentum import BufferPolicy, MomentumNetwork
from pclhd.models.two_stream import TwoStreamNetwork
from tests.models.small import SMALL, pictures, stirred

State = dict[str, Tensor]


def snapshot(network: nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def slow_average(mine: Tensor, theirs: Tensor, decay: float) -> list[float]:
    pairs = zip(mine.double().flatten().tolist(), theirs.double().flatten().tolist(), strict=True)
    return [decay * own + (1 - decay) * online for own, online in pairs]


def two_networks() -> tuple[TwoStreamNetwork, TwoStreamNetwork]:
    first, second = stirred(SMALL["basic"], 1), stirred(SMALL["basic"], 2)
    second.visible_stem.norm.get_buffer("num_batches_tracked").fill_(7)
    return first, second


@pytest.mark.parametrize("policy", list(BufferPolicy))
@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999, 1.0])
def test_update_equals_its_slow_twin(policy: BufferPolicy, decay: float) -> None:
    first, online = two_networks()
    momentum = MomentumNetwork(first, buffers=policy)
    before, target = snapshot(momentum.network), snapshot(online)
    parameters = {name for name, _ in online.named_parameters()}
    momentum.update(online, decay)
    after = snapshot(momentum.network)
    for name in before:
        if name in parameters or (policy is BufferPolicy.AVERAGE and before[name].is_floating_point()):
            expected = slow_average(before[name], target[name], decay)
            torch.testing.assert_close(after[name].flatten(), torch.tensor(expected), rtol=1e-5, atol=1e-6)
        elif policy is BufferPolicy.OWN:
            assert torch.equal(after[name], before[name]), name
        else:
            assert torch.equal(after[name], target[name]), name


def test_decay_zero_copies_and_decay_one_leaves_to_the_bit() -> None:
    first, online = two_networks()
    momentum = MomentumNetwork(first)
    before = snapshot(momentum.network)
    momentum.update(online, 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in momentum.network.named_parameters())
    momentum.update(online, 0.0)
    online_parameters = dict(online.named_parameters())
    assert all(torch.equal(tensor, online_parameters[name]) for name, tensor in momentum.network.named_parameters())


def test_decay_zero_replaces_nan() -> None:
    first, online = two_networks()
    momentum = MomentumNetwork(first)
    with torch.no_grad():
        momentum.network.neck.weight.fill_(float("nan"))
    momentum.update(online, 0.0)
    assert torch.equal(momentum.network.neck.weight, online.neck.weight)


def test_own_statistics_come_from_own_passes() -> None:
    online = stirred(SMALL["basic"])
    momentum = MomentumNetwork(online)
    before = snapshot(momentum.network)["neck.running_mean"]
    momentum.network.train()
    momentum.network(pictures(4), None)
    momentum.update(online, 0.5)
    assert not torch.equal(momentum.network.state_dict()["neck.running_mean"], before)


def test_it_is_a_copy_without_gradients_and_the_online_network_is_left_alone() -> None:
    online = stirred(SMALL["basic"])
    momentum = MomentumNetwork(online, buffers="average")
    before = snapshot(online)
    with torch.no_grad():
        momentum.network.neck.weight.add_(1)
    momentum.update(online, 0.5)
    assert not any(parameter.requires_grad for parameter in momentum.network.parameters())
    assert all(parameter.requires_grad for name, parameter in online.named_parameters() if name != "neck.bias")
    assert all(torch.equal(tensor, before[name]) for name, tensor in online.state_dict().items())
    assert not momentum.network(pictures(2), None).embedding.requires_grad


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_refuses_a_decay_outside_its_range(decay: float) -> None:
    online = stirred(SMALL["basic"])
    with pytest.raises(ValueError, match="decay"):
        MomentumNetwork(online).update(online, decay)


def test_refuses_an_unknown_policy_and_another_kind_of_network() -> None:
    with pytest.raises(ValueError, match="sometimes"):
        MomentumNetwork(nn.Linear(1, 1), buffers="sometimes")
    with pytest.raises(ValueError, match="bias"):
        MomentumNetwork(nn.Linear(1, 1)).update(nn.Linear(1, 1, bias=False), 0.5)
