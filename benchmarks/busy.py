"""A training beside busy processes, and on the machine without them: wall time and processor time.

Usage: python benchmarks/busy.py [--beside 2 4] [--turns 3] [--nice N] [--quota CPUS] [--step] [--quick] [--json FILE]

Every training is a `pclhd train` of its own, so the figures include its start. They take turns: threads that spin while
they wait ("spinning": the libraries' defaults, and oneDNN's own gradients of convolutions, as before `pclhd.threads`
and `pclhd.engine.convolutions`), and threads that sleep ("sleeping": as it is now), each without a neighbour and beside
N processes that count for ever. Processor time is that of the training, of user and system. The fair share of the wall
time is what a scheduler can give: threads and neighbours divide the processors equally; neighbours of low priority
(--nice 19) count as none.

--step measures a forward and a backward pass of the narrow network on a batch of the demo instead, with oneDNN's
gradients of convolutions ("spinning") and ours ("sleeping") in turn within one process.

Other work on the machine is in all figures; the load average at the start is printed. --quota puts the training into a
control group with that quota (version 1 or 2; needs root), and compares with as many threads as the machine has
processors.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import markdown_table, short, write_json

from pclhd.synthetic import write_synthetic
from pclhd.threads import usable_cpus

SOURCE = Path(__file__).resolve().parents[1] / "src"
_LOOP = "while True: pass"
_LOWEST = 19

_NOW = "from pclhd.cli import main; main()"
_BEFORE = "import pclhd.engine.networks as networks; networks.share_convolutions = lambda network: None; " + _NOW

#: What libgomp and OpenBLAS do unless something is set: spin 300,000 times, and 2^26 cycles.
SPINNING = {"GOMP_SPINCOUNT": "300000", "OPENBLAS_THREAD_TIMEOUT": "26"}
_OURS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT")


@dataclass(frozen=True)
class Way:
    """How threads wait in a training.

    Attributes:
        program: Python code that runs the command line.
        environment: Variables to set.
    """

    program: str = _NOW
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """One training.

    Attributes:
        policy: How its threads wait.
        beside: Number of busy processes.
        wall: Seconds.
        cpu: Processor seconds of user and system.
    """

    policy: str
    beside: int
    wall: float
    cpu: float


def train(data: Path, out: Path, words: Sequence[str], way: Way, group: Path | None) -> tuple[float, float]:
    """Wall and processor seconds of one training.

    Raises:
        SystemExit: It failed.
    """
    names = {name: value for name, value in os.environ.items() if name not in _OURS}
    command = [sys.executable, "-c", way.program, "train", *words, "--data", str(data), "--out", str(out), "--force"]
    if group is not None:  # the process enters the group itself, before it becomes the training
        command = ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh", *command]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env={**names, "PYTHONPATH": str(SOURCE), **way.environment}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the training ended with exit code {process.returncode}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime


@contextmanager
def neighbours(number: int, nice: int) -> Iterator[None]:
    """Busy processes for as long as the block lasts."""
    command = ["nice", "-n", str(nice), sys.executable, "-c", _LOOP]
    processes = [subprocess.Popen(command) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


@contextmanager
def quota_group(cpus: float | None) -> Iterator[Path | None]:
    """A control group with a quota; None without one.

    Raises:
        SystemExit: The system does not allow it.
    """
    if cpus is None:
        yield None
        return
    root, period = Path("/sys/fs/cgroup"), 100_000
    is_first_version = (root / "cpu").is_dir()
    group = (root / "cpu" if is_first_version else root) / f"pclhd-busy-{os.getpid()}"
    try:
        group.mkdir()
        if is_first_version:
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(int(cpus * period)))
        else:
            (group / "cpu.max").write_text(f"{int(cpus * period)} {period}")
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        sys.exit(f"{group}: cannot be made ({error}); --quota needs root and a writable control group")
    try:
        yield group
    finally:
        group.rmdir()


def fair_share(threads: int, beside: int, nice: int, cpus: float) -> float:
    """How many times longer a computation of some threads takes beside others if the processors are shared fairly."""
    rivals = 0 if nice >= _LOWEST else beside
    alone = min(threads, cpus)
    return alone / min(alone, cpus * threads / (threads + rivals))


def table(rows: Sequence[Measured], threads: int, nice: int) -> str:
    """Medians of each policy and number of neighbours, and ratios to none."""
    lines = []
    for policy in dict.fromkeys(row.policy for row in rows):
        alone: tuple[float, float] | None = None
        for beside in sorted({row.beside for row in rows}):
            mine = [row for row in rows if (row.policy, row.beside) == (policy, beside)]
            wall, cpu = (statistics.median(values) for values in ([r.wall for r in mine], [r.cpu for r in mine]))
            alone = alone or (wall, cpu)
            share = fair_share(threads, beside, nice, usable_cpus())
            figures = (wall, wall / alone[0], share, cpu, cpu / alone[1])
            lines.append([policy, str(beside), *map(short, figures)])
    return markdown_table(["threads", "beside", "wall s", "× alone", "fair ×", "cpu s", "× alone"], lines)


def measure_steps(turns: int, numbers: Sequence[int], nice: int) -> list[Measured]:
    """Forward and backward passes on 128 + 64 images of 96 × 48 in bfloat16, in turn; the first of each is dropped."""
    # As `pclhd.threads` sets it, for both, so that only the gradients differ.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    import torch

    from pclhd.engine.convolutions import share_convolutions
    from pclhd.models.two_stream import NARROW, TwoStreamNetwork, to_channels_last

    cpu = torch.device("cpu")
    networks = {name: TwoStreamNetwork(NARROW).train() for name in ("spinning", "sleeping")}
    share_convolutions(networks["sleeping"])
    images = [torch.randn(number, 3, 96, 48).contiguous(memory_format=torch.channels_last) for number in (128, 64)]
    rows = []
    for number in numbers:
        with neighbours(number, nice):
            for turn in range(turns + 1):
                for policy, network in networks.items():
                    to_channels_last(network, cpu)
                    wall, used = time.perf_counter(), time.process_time()
                    with torch.autocast("cpu", dtype=torch.bfloat16):
                        embedding = network(*images).embedding
                    embedding.float().square().mean().backward()
                    if turn:
                        row = Measured(policy, number, time.perf_counter() - wall, time.process_time() - used)
                        rows.append(row)
    return rows


def main() -> None:
    """Measure each policy in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=int, nargs="*", default=[2, 4], help="numbers of busy processes")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--nice", type=int, default=0, help="priority of the busy processes, 0 to 19")
    parser.add_argument("--quota", type=float, help="processors that a control group gives to the training")
    parser.add_argument("--iterations", type=int, default=8, help="steps in each of three epochs")
    parser.add_argument("--spins", type=int, nargs="+", default=[], help="also with these values of GOMP_SPINCOUNT")
    parser.add_argument("--step", action="store_true", help="measure a training step instead of a whole training")
    parser.add_argument("--quick", action="store_true", help="one turn of the preset tiny beside one process")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    turns, beside = (1, [1]) if asked.quick else (asked.turns, asked.beside)
    words = ["tiny"]
    if not asked.quick:
        words += ["batch.clusters=8", "batch.instances=8", f"schedule.iterations={asked.iterations}"]
        words += ["engine.precision=auto"]
    policies = {"spinning": Way(_BEFORE, SPINNING), "sleeping": Way()}
    policies |= {f"{count} spins": Way(environment={"GOMP_SPINCOUNT": str(count)}) for count in asked.spins}
    if asked.quota is not None:
        as_many = str(usable_cpus())
        all_threads = {"OMP_NUM_THREADS": as_many, "NUMBA_NUM_THREADS": as_many}
        policies = {"a thread per processor": Way(_BEFORE, {**SPINNING, **all_threads}), "by the quota": Way()}
        beside = []
    threads = usable_cpus()
    print(f"{threads} threads, load average at the start {os.getloadavg()[0]:.1f}, medians of {turns}\n", flush=True)
    if asked.step:
        print(table(measure_steps(turns, (0, *beside), asked.nice), threads, asked.nice))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder, quota_group(asked.quota) as group:
        data = Path(folder) / "data"
        write_synthetic(data, scale="tiny", workers=1)
        train(data, Path(folder) / "run", ["tiny"], Way(), None)  # compiles what is not compiled yet
        for _ in range(turns):
            for number in (0, *beside):
                for policy, way in policies.items():
                    with neighbours(number, asked.nice):
                        wall, cpu = train(data, Path(folder) / "run", words, way, group)
                    rows.append(Measured(policy, number, wall, cpu))
                    print(rows[-1], file=sys.stderr, flush=True)
    print(table(rows, threads, asked.nice))
    if asked.json is not None:
        settings = {"turns": turns, "nice": asked.nice, "quota": asked.quota, "words": words}
        write_json(asked.json, {"settings": settings, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
