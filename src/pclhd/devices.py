"""Devices, fast number formats, threads and memory allocation of this machine."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Mapping

import torch

from pclhd.errors import ArgumentError
from pclhd.threads import usable_cpus

_KNOWN = r"(cpu|cuda|mps|xpu)(:\d{1,3})?"
_LONGEST_REASON = 200


def resolve_device(name: str) -> torch.device:
    """The device with this name; ``auto`` is a CUDA GPU if there is one, otherwise the CPU.

    Raises:
        ArgumentError: This machine or this build of torch does not support it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not re.fullmatch(_KNOWN, name):  # torch knows many more, and answers some of them with pages of text
            raise RuntimeError("unknown")
        torch.zeros(1, device=name).item()  # the device "meta" has tensors without values
        return torch.device(name)
    except (RuntimeError, AssertionError, ImportError, AttributeError) as error:  # each backend raises another of these
        reason = str(error).strip().split("\n")[0].partition("[")[0].strip()[:_LONGEST_REASON]
        raise ArgumentError(
            "device", f"cannot be used here ({reason}); expected auto, cpu, cuda, cuda:N or mps", value=name
        ) from error


def computes_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 matrices in hardware; without that they are several times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_computes_bfloat16()


def cpu_computes_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware; False if torch is too old to detect it."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    abilities: Mapping[str, object] = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def limit_threads() -> None:
    """Compute with no more threads than the process has processors, unless ``OMP_NUM_THREADS`` says otherwise.

    Torch and numba know the machine, but not the quota of a container.
    """
    import numba

    if "OMP_NUM_THREADS" in os.environ:
        return
    cpus = usable_cpus()
    if torch.get_num_threads() > cpus:
        torch.set_num_threads(cpus)
    if numba.get_num_threads() > cpus:
        numba.set_num_threads(cpus)


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next tensors instead of returning it to the system (ours).

    A training step on the CPU frees and allocates gigabytes. If they are returned each time, the system must clear them
    page by page: with ResNet-50 that took 7 % of a step, and it takes more where page faults are expensive, as in
    virtual machines. The process keeps its peak size. Results do not change.

    Returns:
        Whether the C library supports this; glibc does.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, most_maps = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    return bool(mallopt(most_maps, 0) and mallopt(trim_threshold, -1))
