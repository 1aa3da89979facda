"""Several processes that train one network together, started by `torchrun`, and their communication.

The number of processes does not change a training. Every process draws the same batches and the same augmentations,
passes its share of the rows through the network, and gathers the embeddings of all processes in the order of the batch.
Each process then computes losses and memories from the whole batch, equal to the last bit. Only gradients and the sums
of batch norms are added over the processes. A single process is a group of one: nothing is sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from pclhd.errors import UserError

Result = TypeVar("Result")

# Clustering a large set in the first process may take long, and the others wait for it.
_TIMEOUT = timedelta(hours=4)


@dataclass(frozen=True)
class Processes:
    """The group of processes that trains together.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
        local_rank: Number of this process on its machine, which is also the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that clusters and writes files."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """The rows of a batch or set that this process handles: consecutive pieces, equal in size up to one row."""
        return _share(rows, self.rank, self.count)

    def gather(self, part: Tensor, rows: int) -> Tensor:
        """The rows of all processes in order; in the backward pass, each process gets the gradient of its own rows.

        Each process must compute the same loss from the result; then adding the gradients of the parameters
        (`add_gradients`) gives the gradients of a single process.

        Args:
            part: This process's share of the rows, (its rows, …).
            rows: Number of rows of all shares together.

        Returns:
            (rows, …).
        """
        if self.count == 1:
            return part
        return cast(Tensor, _Gather.apply(part, rows, self))  # type: ignore[no-untyped-call]

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        totals = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, total in zip(gradients, totals, strict=True):
            gradient.copy_(total.view_as(gradient))

    def by_the_first(self, action: Callable[[], Result]) -> Result:
        """Call a function in the first process, and return its result in all processes.

        Args:
            action: Called in the first process only. Meanwhile, the others take part in its calls of `together`.

        Raises:
            UserError: The action raised it; it is then raised in all processes.
        """
        if self.count == 1:
            return action()
        if not self.is_first:
            return cast(Result, self._serve())
        try:
            result = action()
        except UserError as error:
            self._broadcast("error", str(error))
            raise
        self._broadcast("result", result)
        return result

    def together(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in all processes; for use in the first process, within the action of `by_the_first`.

        Args:
            work: A module-level function, called in each process with its `Processes` and the arguments.
            arguments: Sent to all.

        Returns:
            The result of the first process.
        """
        if self.count > 1:
            self._broadcast("together", (work, arguments))
        return work(self, *arguments)

    def _broadcast(self, what: str, content: Any) -> None:
        distributed.broadcast_object_list([what, content], src=0)

    def _serve(self) -> Any:
        """Run the work that the first process sends, until it sends the result of its action."""
        while True:
            message: list[Any] = [None, None]
            # Unpickling is safe here: the objects come from processes of the same training.
            distributed.broadcast_object_list(message, src=0)
            what, content = message
            if what == "result":
                return content
            if what == "error":
                raise ReportedByTheFirst(content)
            work, arguments = content
            work(self, *arguments)

    @contextmanager
    def raise_once(self) -> Iterator[None]:
        """A block in which all processes raise the same `UserError`: only the first process reports it.

        Raises:
            UserError: The block raised it.
        """
        try:
            yield
        except UserError as error:
            if self.is_first:
                raise
            raise ReportedByTheFirst(str(error)) from error

    def largest(self, number: int) -> int:
        """The largest number over all processes."""
        if self.count == 1:
            return number
        numbers = torch.tensor(number)
        if distributed.get_backend() == "nccl":
            numbers = numbers.cuda(self.local_rank)
        distributed.all_reduce(numbers, op=distributed.ReduceOp.MAX)
        return int(numbers)


def join_processes(*, on_gpu: bool) -> Processes:
    """The group that `torchrun` (or another launcher that sets the same variables) started this process in.

    Args:
        on_gpu: Whether tensors will be on GPUs; each process then uses the GPU of its local rank.

    Raises:
        UserError: The variables are inconsistent.
    """
    count = _number("WORLD_SIZE", 1, least=1)
    if count == 1:
        return Processes()
    processes = Processes(_number("RANK", None), count, _number("LOCAL_RANK", 0))
    _number("MASTER_PORT", 0)
    if processes.rank >= count:
        raise UserError(
            f"environment variable RANK is {processes.rank}, but WORLD_SIZE is {count}; start several processes with "
            "torchrun"
        )
    if on_gpu:
        torch.cuda.set_device(processes.local_rank)
    if not distributed.is_initialized():
        try:
            distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
        except (ValueError, RuntimeError, OverflowError) as error:
            raise UserError(
                f"{count} processes cannot find each other ({' '.join(str(error).split())[:200]}); start them with "
                "torchrun, which sets MASTER_ADDR and MASTER_PORT"
            ) from error
    return processes


def _number(variable: str, default: int | None, *, least: int = 0) -> int:
    text = os.environ.get(variable)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\d{1,6}", text, re.ASCII) or int(text) < least:
        raise UserError(
            f"environment variable {variable} is {text!r}, expected a number from {least}; start several processes "
            "with torchrun"
        )
    return int(text)


def _share(rows: int, rank: int, count: int) -> slice:
    return slice(rows * rank // count, rows * (rank + 1) // count)


class ReportedByTheFirst(UserError):
    """A user error that the first process reports."""

    reported = True


class _Gather(torch.autograd.Function):
    """All shares one after the other; the backward pass gives each process the gradient of its share."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: int, processes: Processes) -> Tensor:
        shares = [_share(rows, rank, processes.count) for rank in range(processes.count)]
        sizes = [share.stop - share.start for share in shares]
        if len(part) != sizes[processes.rank]:
            raise ValueError(f"this process has {len(part)} of {rows} rows, expected {sizes[processes.rank]}")
        ctx.share = shares[processes.rank]
        # Padded to one size: the tensors sent must have the same shape in all processes.
        padded = part.new_zeros((max(sizes), *part.shape[1:]))
        padded[: len(part)] = part
        received = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(received, padded)
        return torch.cat([piece[:size] for piece, size in zip(received, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.share], None, None
