"""Where to compute, what this machine computes fast, and how its memory is held."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

import torch

from pclhd.errors import ArgumentError


def resolve_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is a CUDA GPU if there is one, and otherwise the CPU.

    Raises:
        ArgumentError: This machine or this build of torch cannot compute there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).item()  # the device "meta" has tensors, but no numbers in them
        return torch.device(name)
    except (RuntimeError, AssertionError, ImportError, AttributeError) as error:  # each backend raises another of these
        reason = str(error).strip().split("\n")[0]
        raise ArgumentError(
            "device", f"cannot be used here ({reason}); expected auto, cpu, cuda, cuda:N or mps", value=name
        ) from error


def cpu_computes_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware; False where torch is too old to say."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    abilities: Mapping[str, object] = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that this process frees for its next tensors, instead of giving it back (ours).

    A training step on the processor frees and takes gigabytes. Given back each time, they have to be cleared page by
    page: with ResNet-50 that was 7 % of a step, and more where pages are dear, as in virtual machines. The process
    stays as large as it was at its largest. Numbers are the same.

    Returns:
        Whether the C library can do so; glibc can.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, most_maps = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    return bool(mallopt(most_maps, 0) and mallopt(trim_threshold, -1))
