from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pclhd.devices import computes_bfloat16, keep_freed_memory, resolve_device
from pclhd.errors import UserError

PROGRAM = """
import resource, torch
from pclhd.devices import keep_freed_memory

def work():
    tensors = [torch.ones(2**22 * size) for size in (1, 3, 2)]

{begin}
for repetition in range(16):  # small things lie between the large ones: kept memory grows for some repetitions
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for repetition in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(begin: str) -> int:
    """Of a process that allocates and frees 96 MiB five times, once its memory use is steady."""
    program = [sys.executable, "-c", PROGRAM.format(begin=begin)]
    return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_freed_memory_is_not_cleared_again() -> None:
    assert page_faults("assert keep_freed_memory()") < page_faults("") / 4


def test_other_systems_and_libraries_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.platform", "darwin")
        assert not keep_freed_memory()
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()


@pytest.mark.parametrize(("has_gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch, has_gpu: bool, expected: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx2": True, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_bfloat16_in_hardware(monkeypatch: pytest.MonkeyPatch, abilities: dict[str, bool], expected: bool) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: abilities)
    assert computes_bfloat16(torch.device("cpu")) is expected
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: expected or including_emulation)
    assert computes_bfloat16(torch.device("cuda")) is expected
    assert not computes_bfloat16(torch.device("mps"))


def test_a_device_by_name() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "", "meta", "cuda:99", "mkldnn", "opengl", "CPU", "hpu", "cpu:x", "mps:7"])
def test_a_device_that_cannot_compute_is_refused(name: str) -> None:
    with pytest.raises(
        UserError,
        match=rf"^device={name}: cannot be used here \(.{{1,200}}\); expected auto, cpu, cuda, cuda:N or mps$",
    ):
        resolve_device(name)
