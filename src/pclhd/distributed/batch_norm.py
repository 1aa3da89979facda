"""Batch norm over the batch of all processes, on any device.

torch's synchronised batch norm runs only on GPUs, and training must give the same result on CPUs.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncedBatchNorm(_BatchNorm):
    """Batch norm with statistics over the rows of all processes in training mode.

    Parameters, buffers and their names are those of `nn.BatchNorm1d` and `nn.BatchNorm2d`. In evaluation mode, it
    computes the same as they do.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, …) to (B, C, …)."""
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        output, mean, variance, count = cast(
            tuple[Tensor, Tensor, Tensor, Tensor],
            _Normalise.apply(input, self.weight, self.bias, self.eps),  # type: ignore[no-untyped-call]
        )
        share = self.momentum if self.momentum is not None else 1 / float(cast(Tensor, self.num_batches_tracked))
        with torch.no_grad():
            unbiased = variance * (count / (count - 1))
            cast(Tensor, self.running_mean).lerp_(mean.to(cast(Tensor, self.running_mean)), share)
            cast(Tensor, self.running_var).lerp_(unbiased.to(cast(Tensor, self.running_var)), share)
        return output


class _Normalise(torch.autograd.Function):
    """Scale and shift by the statistics over the rows of all processes; computed in float32, as in batch norm."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        precise = rows if rows.dtype == torch.float64 else rows.float()
        over = [0, *range(2, rows.dim())]
        shape = [1, -1, *[1] * (rows.dim() - 2)]
        count = precise.new_tensor([rows.numel() / rows.shape[1]])
        sums = torch.cat([precise.sum(over), count])
        distributed.all_reduce(sums)
        total = sums[-1]
        mean = sums[:-1] / total
        centred = precise - mean.view(shape)
        # In two passes: the difference of two large sums would lose the digits of a small variance.
        squares = centred.square().sum(over)
        distributed.all_reduce(squares)
        variance = squares / total
        inverse = (variance + eps).rsqrt()
        normal = centred * inverse.view(shape)
        ctx.save_for_backward(normal, weight, inverse, total)
        ctx.mark_non_differentiable(mean, variance, total)
        output = normal * weight.view(shape) + bias.view(shape)
        return output.to(rows.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        normal, weight, inverse, total = ctx.saved_tensors
        precise = gradient.to(normal.dtype)
        over = [0, *range(2, normal.dim())]
        shape = [1, -1, *[1] * (normal.dim() - 2)]
        for_bias, for_weight = precise.sum(over), (precise * normal).sum(over)
        sums = torch.stack([for_bias, for_weight])
        distributed.all_reduce(sums)
        means = sums / total
        rows = (weight * inverse).view(shape) * (precise - means[0].view(shape) - normal * means[1].view(shape))
        # Each process has the gradients of weight and bias for its own rows; they are summed with all other gradients.
        return rows.to(gradient.dtype), for_weight.to(weight.dtype), for_bias.to(weight.dtype), None


def synchronise_batch_norm(network: nn.Module) -> None:
    """Replace every batch norm by `SyncedBatchNorm` with the same parameters and buffers. Changes the network.

    Args:
        network: Its batch norms must be parts of it, not the network itself.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, SyncedBatchNorm):
                setattr(parent, name, _synced(child))


def _synced(norm: _BatchNorm) -> SyncedBatchNorm:
    if not norm.affine or not norm.track_running_stats:
        raise ValueError("only batch norms with weights and running statistics can be synchronised")
    with torch.device("meta"):
        synced = SyncedBatchNorm(norm.num_features, norm.eps, norm.momentum)
    # The same tensor objects, frozen ones included, so an existing optimiser remains valid.
    synced.weight, synced.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(synced, name, buffer)
    synced.train(norm.training)
    return synced
