"""Several processes that train one network together, started by `torchrun`, and what they tell one another.

The batch and the sampler define a training, not the number of processes. Every process draws the same batches and the
same augmentations, takes its share of the rows through the network, and gets everybody's embeddings in the order of the
batch. Losses and memories are then computed from the whole batch in each process, equal to the last bit, and only
gradients and the sums of batch norms are added up. One process is the group of one: nothing is sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from pclhd.errors import UserError

Result = TypeVar("Result")

# Waiting for the first process to cluster may take long with large sets.
_TIMEOUT = timedelta(hours=4)


@dataclass(frozen=True)
class Processes:
    """The group that trains together.

    Attributes:
        rank: Of this process, from 0.
        count: How many there are.
        local_rank: Of this process on its machine: the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that clusters and writes files."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """The rows of a batch or a set that this process takes: pieces in order, whose sizes differ by one at most."""
        return _share(rows, self.rank, self.count)

    def gather(self, part: Tensor, rows: int) -> Tensor:
        """Everybody's rows in order; the gradient of the own ones comes back.

        Each process is expected to compute the same loss from the result; then adding up the gradients of parameters
        (`add_gradients`) gives what one process would have.

        Args:
            part: This process's share, (its rows, …).
            rows: Of all shares together.

        Returns:
            (rows, …).
        """
        if self.count == 1:
            return part
        return cast(Tensor, _Gather.apply(part, rows, self))  # type: ignore[no-untyped-call]

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Put the sum over all processes in the place of each gradient."""
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
        """Let the first process act, and give everybody what it found.

        Args:
            action: Called in the first process only. Meanwhile the others wait for what it may ask `together`.

        Raises:
            UserError: The action raised it; then it is raised in all processes.
        """
        if self.count == 1:
            return action()
        if not self.is_first:
            return cast(Result, self._serve())
        try:
            found = action()
        except UserError as error:
            self._tell("refused", str(error))
            raise
        self._tell("found", found)
        return found

    def together(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Let everybody do a piece of work: called by the first process while it acts (`by_the_first`).

        Args:
            work: A function of a module, called in every process with its `Processes` and the arguments.
            arguments: Sent to all.

        Returns:
            What it returned in the first process.
        """
        if self.count > 1:
            self._tell("together", (work, arguments))
        return work(self, *arguments)

    def _tell(self, what: str, content: Any) -> None:
        distributed.broadcast_object_list([what, content], src=0)

    def _serve(self) -> Any:
        """Do what the first process asks for, until it tells what it found."""
        while True:
            told: list[Any] = [None, None]
            # Own objects between own processes; nothing that a stranger wrote is unpickled here.
            distributed.broadcast_object_list(told, src=0)
            what, content = told
            if what == "found":
                return content
            if what == "refused":
                raise ToldByTheFirst(content)
            work, arguments = content
            work(self, *arguments)

    @contextmanager
    def told_once(self) -> Iterator[None]:
        """A block in which all processes come to the same user's mistake: the first one tells of it.

        Raises:
            UserError: The block raised it.
        """
        try:
            yield
        except UserError as error:
            if self.is_first:
                raise
            raise ToldByTheFirst(str(error)) from error

    def largest(self, number: int) -> int:
        """The largest of everybody's numbers."""
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
        on_gpu: Whether tensors will live on GPUs; each process then has that of its local rank.

    Raises:
        UserError: The variables do not fit together.
    """
    count = _number("WORLD_SIZE", 1)
    if count == 1:
        return Processes()
    processes = Processes(_number("RANK", None), count, _number("LOCAL_RANK", 0))
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


def _number(variable: str, default: int | None) -> int:
    text = os.environ.get(variable)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise UserError(
            f"environment variable {variable} is {text!r}, expected a number; start several processes with torchrun"
        ) from None


def _share(rows: int, rank: int, count: int) -> slice:
    return slice(rows * rank // count, rows * (rank + 1) // count)


class ToldByTheFirst(UserError):
    """A user's mistake of which the first process tells."""

    told = True


class _Gather(torch.autograd.Function):
    """All shares one after the other; backward gives each process the gradient of its own."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: int, processes: Processes) -> Tensor:
        shares = [_share(rows, rank, processes.count) for rank in range(processes.count)]
        sizes = [share.stop - share.start for share in shares]
        if len(part) != sizes[processes.rank]:
            raise ValueError(f"this process holds {len(part)} of {rows} rows, expected {sizes[processes.rank]}")
        ctx.share = shares[processes.rank]
        # Shares of one size: what is sent must have the same shape everywhere.
        padded = part.new_zeros((max(sizes), *part.shape[1:]))
        padded[: len(part)] = part
        received = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(received, padded)
        return torch.cat([piece[:size] for piece, size in zip(received, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.share], None, None
