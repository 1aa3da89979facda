"""How the benchmarks measure: seconds and peak memory of steps, each measurement in a process of its own."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")
_GIB = 2**20  # the system counts in KiB


class Steps:
    """Seconds of named steps, and the memory that they need beyond what the process held when this was made.

    Memory is what the operating system reports for the process, so it includes numpy, torch and compiled code. Memory
    in use before does not count, so first load the features and run everything once on a few of them. A step may run
    within another, which then includes it.

    Attributes:
        seconds: Name → wall time; measuring a name again replaces its earlier figures.
        gib: Name → GiB at the peak of the step; None where the system does not report it (Linux does).
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.gib: dict[str, float | None] = {}
        self._before = _resident("VmRSS")
        self._open: list[str] = []

    def run(self, name: str, step: Callable[[], _Result]) -> _Result:
        """Run a step and keep its figures."""
        self._note_peak()
        reset = _reset_peak()
        self._open.append(name)
        self.gib[name] = 0.0 if reset and self._before is not None else None
        begin = time.perf_counter()
        result = step()
        self.seconds[name] = time.perf_counter() - begin
        self._note_peak()
        self._open.pop()
        return result

    def watch(self, name: str, function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        """The function, run as a step whenever it is called."""

        def watched(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
            return self.run(name, lambda: function(*arguments, **named))

        return watched

    def _note_peak(self) -> None:
        """Raise the peaks of all open steps to that of the process since it was last reset."""
        peak = _resident("VmHWM")
        for name in self._open:
            known = self.gib[name]
            if known is not None and peak is not None and self._before is not None:
                self.gib[name] = max(known, (peak - self._before) / _GIB)

    @property
    def peak_gib(self) -> float | None:
        """GiB at the highest peak of all steps."""
        known = [value for value in self.gib.values() if value is not None]
        return max(known) if known else None


def in_a_process(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    """Call a module's function in a new process, so that neither memory nor caches of one measurement reach another.

    Raises:
        BrokenProcessPool: The process died, most likely because memory ran out.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def free_gib() -> float:
    """GiB of memory that is available now; infinite where the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / _GIB


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    threads = os.environ.get("OMP_NUM_THREADS")
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": int(threads) if threads else os.cpu_count(),
        "system": platform.system(),
    }


def keep_to_threads(number: int | None) -> None:
    """Make processes that start from now on compute with this number of threads; None leaves the choice to them."""
    if number is not None:
        os.environ.update({name: str(number) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")})


def _resident(field: str) -> int | None:
    """KiB of memory that the process holds (VmRSS), or its peak (VmHWM)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def _reset_peak() -> bool:
    """Reset VmHWM; returns whether the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def as_singletons(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Labels in which each noise sample is a cluster of its own, so that a score need not know about noise."""
    alone = labels.astype(np.int64)
    noise = labels < 0
    alone[noise] = labels.max(initial=-1) + 1 + np.arange(int(noise.sum()))
    return alone
