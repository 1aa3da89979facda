"""What data are called where people read it."""

from __future__ import annotations

_BENCHMARKS = {"sysu": "SYSU-MM01", "regdb": "RegDB", "llcm": "LLCM"}


def shown_data_name(name: str, *, drawn: bool) -> str:
    """The name of a data set; drawn people are not named after the benchmark whose layout they have.

    Args:
        name: Layout and, where it applies, trial: ``regdb-3``.
        drawn: Whether `pclhd synth` drew the people.
    """
    parts = [one.partition("-") for one in name.split(", ")]  # combined results name the data of each run
    layouts = {layout for layout, _, _ in parts}
    layout = layouts.pop()
    if not drawn or layouts or layout not in _BENCHMARKS:
        return name
    trials = [trial for _, _, trial in parts if trial]
    words = f", trial{'' if len(trials) == 1 else 's'} {', '.join(trials)}" if trials else ""
    return f"drawn people in {_BENCHMARKS[layout]}'s layout{words}"
