"""The released code's memory, which is written while gradients are computed (``method.memory_update=in_backward``).

There, the memory is read in the forward pass and written in the backward pass, after the gradient of its queries. This
has two consequences, which are kept here so that their effect can be measured:

* Queries that need no gradient do not take part in the backward pass, so they do not update the memory.
* With two reads of one memory and a single `backward`, the later read is processed first. It updates the memory, and
  the earlier read then multiplies its score gradient, fixed in the forward pass, by rows that have changed since.

Everything else in this library calls `ClusterMemory.update` in the training step instead.
"""

from __future__ import annotations

from typing import Any, Literal, get_args, overload

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pclhd.prototypes.cluster import ClusterMemory
from pclhd.prototypes.rows import similarities

Which = Literal["centroid", "hybrid"]


class UpdateInBackward(Function):
    """Similarities to both kinds of prototype; the backward pass updates the memory (released code)."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, labels: Tensor, memory: ClusterMemory) -> tuple[Tensor, Tensor]:
        """Compute similarities with the memory.

        Args:
            ctx: The autograd context.
            queries: (B, D), unit length, in the memory's type.
            labels: (B,) int64, 0…C−1.
            memory: Read here; read again and written in the backward pass.

        Returns:
            Similarities to the centroids and to the hard prototypes, (B, C) each.
        """
        ctx.save_for_backward(queries, labels)
        ctx.memory = memory
        return memory.centroid_similarities(queries), memory.hard_similarities(queries)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, centroid_gradient: Tensor, hard_gradient: Tensor) -> tuple[Tensor, None, None]:
        """Compute the gradient of the queries from the *current* memory, then update the memory.

        Args:
            ctx: The autograd context.
            centroid_gradient: (B, C), computed from the values that the forward pass read.
            hard_gradient: (B, C), likewise.

        Returns:
            The gradient of the queries (B, D), and none for labels and memory.
        """
        queries, labels = ctx.saved_tensors
        memory: ClusterMemory = ctx.memory
        gradient = similarities(centroid_gradient, memory.centroids.T) + similarities(hard_gradient, memory.hard.T)
        memory.update(queries, labels)
        return gradient, None, None


@overload
def coupled_similarities(
    memory: ClusterMemory, queries: Tensor, labels: Tensor, which: Literal["centroid"]
) -> Tensor: ...


@overload
def coupled_similarities(
    memory: ClusterMemory, queries: Tensor, labels: Tensor, which: Literal["hybrid"]
) -> tuple[Tensor, Tensor]: ...


def coupled_similarities(
    memory: ClusterMemory, queries: Tensor, labels: Tensor, which: Which
) -> Tensor | tuple[Tensor, Tensor]:
    """Similarities whose backward pass updates the memory with these queries (released code).

    Do not call `memory.update` as well, and do not run `backward` twice on one graph: each run is an update. With
    several processes, each must pass the queries of all, as each updates its copy of the memory.

    Args:
        memory: Read in the forward pass, written in the backward pass. Both its centroids and its hard prototypes are
            updated, even if only the centroids are read.
        queries: (B, D), unit length. Without a gradient, the memory does not change.
        labels: (B,) int64, 0…C−1.
        which: "centroid" (released plain memory) or "hybrid" (released hybrid memory).

    Returns:
        "centroid": (B, C) similarities to the centroids. "hybrid": these and the similarities to the hard prototypes.

    Raises:
        ValueError: `which` has another value.
    """
    if which not in get_args(Which):
        raise ValueError(f"which is {which!r}, expected one of {get_args(Which)}")
    both: tuple[Tensor, Tensor] = UpdateInBackward.apply(queries.to(memory.centroids.dtype), labels, memory)  # type: ignore[no-untyped-call]
    return both[0] if which == "centroid" else both
