"""What data are called where people read it."""

from __future__ import annotations

from pclhd.data.layouts import TITLES


def shown_data_name(name: str, *, drawn: bool | None) -> str:
    """The name of a data set; drawn people are not named after the benchmark whose layout they have.

    Args:
        name: Layout and, where it applies, trial: ``regdb-3``; several with commas, as combined results have them.
        drawn: Whether `pclhd synth` drew the people; None if that is not known, as in older results.
    """
    parts = [one.partition("-") for one in dict.fromkeys(name.split(", "))]
    layouts = list(dict.fromkeys(layout for layout, _, _ in parts))
    return "; ".join(
        _named(layout, [trial for one, _, trial in parts if one == layout and trial], drawn) for layout in layouts
    )


def _named(layout: str, trials: list[str], drawn: bool | None) -> str:
    title = TITLES.get(layout)
    if title is None:
        return "drawn people" if drawn else "own images" if layout == "own" else "-".join([layout, *trials])
    words = f", trial{'' if len(trials) == 1 else 's'} {', '.join(trials)}" if trials else ""
    if drawn is None:
        return f"{title} or drawn people in its layout{words}"
    return (f"drawn people in {title}'s layout" if drawn else title) + words
