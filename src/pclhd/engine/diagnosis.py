"""Errors during training, with advice: values that are not finite, and lack of memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pclhd.errors import UserError, ran_out_of_memory

_ADVICE = "lower schedule.learning_rate in the run's settings file and resume, or allow restarts with schedule.restarts"


# Allocators, thread pools and oneDNN each say it in words of their own.


class NotFinite(UserError):
    """The loss or the weights are no longer finite. Restarting with a lower learning rate may help.

    Args:
        reason: What is known about the cause.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; {_ADVICE}")
        self.reason = reason


def explain_loss(
    terms: Mapping[str, Tensor], features: Sequence[Tensor], network: nn.Module, *, where: str, learning_rate: float
) -> NotFinite:
    """The error for a loss that is not finite, with what is known about the cause.

    Args:
        terms: The named losses.
        features: Embeddings of the batch.
        network: The trained network.
        where: Epoch and step, for the message.
        learning_rate: Learning rate of this epoch.
    """
    named = ", ".join(f"{name} {float(value.detach()):g}" for name, value in terms.items())
    embedded = "finite" if all(bool(torch.isfinite(part).all()) for part in features) else "not finite"
    weight = first_not_finite(network)
    weights = "finite" if weight is None else f"not finite, first {weight}"
    return NotFinite(
        f"the loss is no longer finite in {where} ({named}; learning rate {learning_rate:g}; embeddings {embedded}; "
        f"weights {weights})"
    )


def refuse_broken_network(network: nn.Module, *, where: str, learning_rate: float) -> None:
    """Raise an error before weights that are not finite are saved: the previous checkpoint is the last good one.

    Args:
        network: The trained network.
        where: Epoch and step, for the message.
        learning_rate: Learning rate of this epoch.

    Raises:
        NotFinite: A weight or a running statistic is NaN or infinite.
    """
    name = first_not_finite(network)
    if name is not None:
        raise NotFinite(
            f"the weights are no longer finite after {where} (first {name}; learning rate {learning_rate:g})"
        )


def refuse_useless_embeddings(features: Tensor, modality: str) -> None:
    """Raise an error where clustering would be meaningless: embeddings that are not finite, or all the same.

    Args:
        features: Embeddings (N, D).
        modality: Modality of the images.

    Raises:
        UserError: The embeddings are not finite, or all the same.
    """
    broken = int((~torch.isfinite(features)).any(dim=1).sum())
    if broken:
        raise UserError(
            f"the embeddings of {broken} of {len(features)} {modality} images are not finite; check model.weights, or "
            "train again with a lower schedule.learning_rate or engine.precision=32-true"
        )
    if len(features) > 1 and bool((features == features[0]).all()):
        raise UserError(
            f"all {len(features)} {modality} images have the same embedding, so there is nothing to cluster; if the "
            "images do differ, the network has collapsed: check model.weights, or train again with a lower "
            "schedule.learning_rate"
        )


def first_not_finite(network: nn.Module) -> str | None:
    """The name of the first weight or running statistic with a NaN or an infinity; None if all are finite.

    A negative variance, which only a damaged file can hold, is one, too: embeddings would be its square root.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
        if name.endswith("running_var") and bool((tensor < 0).any()):
            return name
    return None


@contextmanager
def explaining_memory(doing: str, advice: str) -> Iterator[None]:
    """A block in which lack of memory, on the device or in the machine, is raised as a `UserError`.

    Args:
        doing: What the block does, for the message.
        advice: Which settings to change.

    Raises:
        UserError: Memory ran out.
    """
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            which = "the GPU"
        elif ran_out_of_memory(error):
            which = "this machine"
        else:
            raise
        wanted = str(error).partition(". GPU")[0].partition("\n")[0].removeprefix("CUDA out of memory. ")
        raise UserError(f"{which} ran out of memory while {doing} ({wanted or 'no details'}); {advice}") from error


@contextmanager
def explain_compiler() -> Iterator[None]:
    """A block in which a missing compiler for `torch.compile` is raised as a `UserError`.

    Raises:
        UserError: There is no working compiler.
    """
    try:
        yield
    except Exception as error:
        if not (isinstance(error, OSError) or type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))):
            raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"engine.compile=true does not work on this machine ({reason}); install a C++ compiler such as g++, or set "
            "engine.compile=false"
        ) from error
