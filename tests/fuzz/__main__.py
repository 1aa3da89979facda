"""Damage inputs at random and look at what `pclhd` does: ``python -m tests.fuzz --inputs 1000``.

Each fault is printed with the command that repeats its case. The exit code is 1 if there were faults. With
``--hypothesis`` that library draws the cases, and reduces the first that fails.
"""

from __future__ import annotations

import os

# Read by torch and numba when they are imported. Cases are forked: a process that has none but its own thread may be
# forked at any time, and one with GNU's OpenMP never.
os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", NUMBA_THREADING_LAYER="workqueue")

import argparse
import gc
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import torch
from hypothesis import HealthCheck, Phase, given, settings, strategies

from tests.commands import all_verbs
from tests.fuzz.cases import Chosen, Inapplicable, describe, make_case, random_source, try_case, warm
from tests.fuzz.verb import Runner, kind_of
from tests.fuzz.world import World
from tests.kernels import compile_kernels


def main() -> int:
    """Run the fuzzer; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases")
    parser.add_argument("--inputs", type=int, default=1000, help="number of cases")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="most seconds to go on for")
    parser.add_argument("--case", type=int, help="run only this case, and print all about it")
    parser.add_argument("--hypothesis", action="store_true", help="let hypothesis draw the cases and reduce a failure")
    parser.add_argument("--verbs", default="", help="only these verbs, with commas between them")
    chosen = parser.parse_args()
    verbs = Chosen.of_verbs(chosen.verbs.split(",")) if chosen.verbs else Chosen()
    torch.set_num_threads(1)
    compile_kernels()
    # Every output is flushed to the disk, which takes longer than the rest; memory has nothing to flush.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pclhd-fuzz-", dir=memory) as folder:
        world = World.make(Path(folder))
        os.chdir(world.root)
        try:
            warm(world)
            gc.freeze()  # what is collected in a forked process would be copied first
            if chosen.hypothesis:
                return _try_by_hypothesis(world, verbs, chosen.inputs, chosen.seconds)
            numbers = range(chosen.inputs) if chosen.case is None else [chosen.case]
            show = chosen.case is not None
            return _try_all(world, verbs, chosen.seed, numbers, chosen.seconds, show=show)
        finally:
            os.chdir("/")


def _try_all(world: World, chosen: Chosen, seed: int, numbers: range | list[int], seconds: float, *, show: bool) -> int:
    why = Counter[str]()
    began, codes, verbs, found = time.monotonic(), Counter[str](), Counter[str](), Counter[str]()
    runner = Runner(world)
    for number in numbers:
        if time.monotonic() - began > seconds:
            break
        try:
            case = make_case(random_source(seed, number), world, chosen)
        except Inapplicable as reason:
            codes["left out"] += 1
            why[str(reason)] += 1
            world.restore()
            continue
        ended, wrong = try_case(case, world, runner)
        if show:
            print(describe(case), f"\n{ended.out}{ended.err}exit code {ended.code}, {ended.seconds:.2f} s")
        world.restore()
        codes[str(ended.code)] += 1
        if number % 500 == 499:
            print(f"… {number + 1} after {time.monotonic() - began:.0f} s", flush=True)
        verbs[_verb(case.command.words)] += 1
        for fault in wrong:
            kind = kind_of(fault)
            found[kind] += 1
            if found[kind] <= 3:
                again = f"python -m tests.fuzz --seed {seed} --case {number}{chosen.named}"
                print(f"{fault}\n    {describe(case)}\n    {again}", flush=True)
    runner.close()
    print(f"seed {seed}: {sum(verbs.values())} inputs in {time.monotonic() - began:.0f} s")
    print("by exit code:", ", ".join(f"{code}: {count}" for code, count in sorted(codes.items())))
    if why:
        print("left out:", ", ".join(f"{reason}: {count}" for reason, count in why.most_common()))
    print("by verb:", ", ".join(f"{name}: {count}" for name, count in verbs.most_common(50)))
    print(f"{sum(found.values())} faults of {len(found)} kinds")
    for kind, count in found.most_common():
        print(f"{count:6} {kind}")
    return 1 if found else 0


def _verb(words: tuple[str, ...]) -> str:
    """A verb as the summary counts it; verbs of a group have two words."""
    return " ".join(words[:2]) if " ".join(words[:2]) in all_verbs() else " ".join(words[:1])


def _try_by_hypothesis(world: World, verbs: Chosen, inputs: int, seconds: float) -> int:
    runner, until = Runner(world), time.monotonic() + seconds
    failed: list[str] = []

    @settings(
        max_examples=inputs,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),  # shrinking would take minutes
    )
    @given(strategies.randoms(use_true_random=False))
    def ends_well(draw: Random) -> None:
        world.restore()
        try:
            case = make_case(draw, world, verbs)
        except Inapplicable:
            return
        if time.monotonic() > until and not failed:
            return  # after the draws, which Hypothesis counts
        _, wrong = try_case(case, world, runner)
        failed.extend(wrong)
        assert not wrong, (describe(case), wrong)

    try:
        ends_well()
    except AssertionError as error:
        print(error)
        return 1
    finally:
        runner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
