"""Convolutions whose gradients are computed by several threads without waiting actively (ours).

For the gradient of a convolution's weights, oneDNN divides the images of a batch among its threads, and these meet at a
barrier at which they spin until the last one is there. On an idle machine that is a moment. Beside other busy processes
one of two threads often does not run, and the other spins for as long as the system lets it: the backward pass then
took ten times the processor time and as much longer (docs/speed.md).

Here each thread computes the gradient for its part of the batch on its own, and the parts are added. So the sums of
weights' gradients depend on the number of threads, as in oneDNN, but not on what else the machine does. With one thread
everything is as in torch, to the last bit.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn


class SharedConv2d(nn.Conv2d):
    """A convolution whose weight gradient is computed in parts; otherwise, and in what it saves, `nn.Conv2d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        threads = min(torch.get_num_threads(), len(input))
        is_plain = input.dim() == 4 and input.device.type == "cpu" and self.padding_mode == "zeros"
        if threads < 2 or not is_plain or not torch.is_grad_enabled():
            return cast(Tensor, super()._conv_forward(input, weight, bias))
        if torch.is_autocast_enabled("cpu"):  # does not reach into an autograd function
            half = torch.get_autocast_dtype("cpu")
            input, weight, bias = input.to(half), weight.to(half), None if bias is None else bias.to(half)
        padding, stride, dilation = (cast(tuple[int, int], pair) for pair in (self.padding, self.stride, self.dilation))
        form = _Form(stride, padding, dilation, self.groups, threads)
        return cast(Tensor, _Convolve.apply(input, weight, bias, form))  # type: ignore[no-untyped-call]


def share_convolutions(network: nn.Module) -> None:
    """Make every `nn.Conv2d` with padding in numbers a `SharedConv2d`. Parameters and their names stay."""
    for module in network.modules():
        if type(module) is nn.Conv2d and not isinstance(module.padding, str):
            module.__class__ = SharedConv2d


class _Form(NamedTuple):
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    threads: int


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, form: _Form) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.form = form
        return torch.conv2d(images, weight, bias, form.stride, form.padding, form.dilation, form.groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (gradient,), (images, weight), form = gradients, ctx.saved_tensors, ctx.form
        wants_images, wants_weight, wants_bias, _ = ctx.needs_input_grad
        # This one has no sum over images, so its threads need not meet.
        for_images = _gradients(gradient, images, weight, form, images_wanted=True) if wants_images else None
        for_weight = None
        if wants_weight:
            shares = zip(gradient.chunk(form.threads), images.chunk(form.threads), strict=True)
            alone = partial(_gradients_of_share, weight=weight, form=form)
            parts = list(_pool(form.threads).map(alone, shares))
            for_weight = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
        return for_images, for_weight, gradient.sum((0, 2, 3)) if wants_bias else None, None


def _gradients_of_share(share: tuple[Tensor, Tensor], weight: Tensor, form: _Form) -> Tensor:
    gradient, images = share
    return _gradients(gradient, images, weight, form, images_wanted=False)


def _gradients(gradient: Tensor, images: Tensor, weight: Tensor, form: _Form, *, images_wanted: bool) -> Tensor:
    found = torch.ops.aten.convolution_backward(
        gradient,
        images,
        weight,
        None,
        form.stride,
        form.padding,
        form.dilation,
        False,
        (0, 0),
        form.groups,
        (images_wanted, not images_wanted, False),
    )
    return cast(Tensor, found[0 if images_wanted else 1])


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that compute alone: the number that OpenMP takes belongs to the thread that sets it."""
    return ThreadPoolExecutor(threads, "gradient", initializer=_compute_alone)


def _compute_alone() -> None:
    # The first question in a thread gives it the number that any thread set last; only then can it have its own.
    torch.get_num_threads()
    torch.set_num_threads(1)
