"""What data are called where people read it."""

from __future__ import annotations

_BENCHMARKS = {"sysu": "SYSU-MM01", "regdb": "RegDB", "llcm": "LLCM"}


def shown_data_name(name: str, *, drawn: bool) -> str:
    """The name of a data set; drawn people are not named after the benchmark whose layout they have.

    Args:
        name: Layout and, where it applies, trial: ``regdb-3``.
        drawn: Whether `pclhd synth` drew the people.
    """
    layout, _, trial = name.partition("-")
    if not drawn or layout not in _BENCHMARKS:
        return name
    return f"drawn people in {_BENCHMARKS[layout]}'s layout" + (trial and f", trial {trial}")
