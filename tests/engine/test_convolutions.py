from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from pclhd.engine.convolutions import SharedConv2d, share_convolutions
from pclhd.models.two_stream import NARROW, TwoStreamNetwork


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def gradients(module: nn.Conv2d, images: Tensor, dtype: torch.dtype | None) -> tuple[Tensor, list[Tensor | None]]:
    given = images.clone().requires_grad_()
    module.zero_grad(set_to_none=True)
    with nullcontext() if dtype is None else torch.autocast("cpu", dtype=dtype):
        output = module(given)
    (output.float() * torch.arange(output[0].numel()).view(output.shape[1:]).cos()).square().sum().backward()
    return output.detach(), [given.grad, *(parameter.grad for parameter in module.parameters())]


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1, "bias": False},
        {"kernel_size": 1, "bias": True},
        {"kernel_size": 3, "stride": 2, "dilation": 2, "groups": 2, "bias": False},
    ],
)
def test_gradients_are_those_of_torch(
    threads: int, batch: int, dtype: torch.dtype | None, options: dict[str, int | bool]
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, **options)  # type: ignore[arg-type]
    shared = copy.deepcopy(plain)
    share_convolutions(shared)
    assert isinstance(shared, SharedConv2d)
    images = torch.randn(batch, 4, 9, 7).contiguous(memory_format=torch.channels_last)
    (expected, theirs), (output, ours) = gradients(plain, images, dtype), gradients(shared, images, dtype)
    assert torch.equal(output, expected)
    for own, other in zip(ours, theirs, strict=True):
        assert own is not None
        assert other is not None
        if threads == 1 or batch == 1:
            assert torch.equal(own, other)
        torch.testing.assert_close(own, other, rtol=2e-2 if dtype else 1e-4, atol=0.1 if dtype else 1e-3)


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_frozen_weights_and_images_without_gradient(threads: int) -> None:
    module = nn.Conv2d(3, 4, 3, bias=False)
    share_convolutions(module)
    module.weight.requires_grad_(False)
    images = torch.randn(4, 3, 5, 5, requires_grad=True)
    module(images).sum().backward()
    assert images.grad is not None
    assert module.weight.grad is None
    module.weight.requires_grad_(True)
    module(images.detach()).sum().backward()
    assert module.weight.grad is not None


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_the_same_again(threads: int) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(8, 8, 3, bias=False)
    share_convolutions(module)
    images = torch.randn(16, 8, 12, 12)
    first = gradients(module, images, None)[1]
    for _ in range(5):
        for before, now in zip(first, gradients(module, images, None)[1], strict=True):
            assert before is not None
            assert now is not None
            assert torch.equal(before, now)


def test_a_network_keeps_its_tensors_and_can_be_copied() -> None:
    network = TwoStreamNetwork(NARROW)
    before = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    share_convolutions(network)
    assert {name: tensor.data_ptr() for name, tensor in network.state_dict().items()} == before
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert convolutions
    assert all(type(module) is SharedConv2d for module in convolutions)
    assert any(isinstance(module, SharedConv2d) for module in copy.deepcopy(network).modules())


def test_the_number_of_threads_of_the_caller_stays() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    module = nn.Conv2d(3, 4, 3)
    share_convolutions(module)
    module(torch.randn(4, 3, 5, 5)).sum().backward()
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
