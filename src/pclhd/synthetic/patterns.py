"""Patterns on cloth and printed shapes, as yes-or-no masks that both modalities share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class PatternKind(StrEnum):
    """How the accent material is laid over the main one."""

    PLAIN = "plain"
    HORIZONTAL = "horizontal stripes"
    VERTICAL = "vertical stripes"
    DIAGONAL = "diagonal stripes"
    CHECKS = "checks"
    DOTS = "dots"
    CHEVRON = "chevrons"
    YOKE = "upper block"
    HALVES = "left and right halves"
    BAND = "one band"
    HEM = "hem band"
    PANEL = "centre panel"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern and its measures.

    Attributes:
        kind: Which pattern.
        period: Distance between repeats, in cloth units.
        duty: Share of a repeat that is accent, 0..1.
        phase: Shift of the repeats, 0..1.
        split: Where blocks and bands begin, 0 (top) to 1 (bottom).
    """

    kind: PatternKind
    period: float = 0.3
    duty: float = 0.5
    phase: float = 0.0
    split: float = 0.5


def draw_pattern(random: np.random.Generator, plain_share: float) -> Pattern:
    """Invent a pattern; `plain_share` of them are plain."""
    if random.random() < plain_share:
        kind = PatternKind.PLAIN
    else:
        patterned = [kind for kind in PatternKind if kind is not PatternKind.PLAIN]
        kind = patterned[int(random.integers(len(patterned)))]
    return Pattern(
        kind=kind,
        period=float(random.choice([0.24, 0.34, 0.5, 0.7])),
        duty=float(random.choice([0.3, 0.5, 0.65])),
        phase=float(random.random()),
        split=float(random.uniform(0.22, 0.7)),
    )


def pattern_mask(pattern: Pattern, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the accent material shows.

    Args:
        pattern: The pattern.
        u: (W,) position across the cloth, -1 at the wearer's one side, 1 at the other.
        v: (H,) position along the cloth, 0 at its top, 1 at its usual bottom.

    Returns:
        (H, W) mask, true where the accent shows.
    """
    across, along = np.broadcast_arrays(u[None, :], v[:, None])
    period, duty, phase, split = pattern.period, pattern.duty, pattern.phase, pattern.split
    shown: NDArray[np.bool_]
    match pattern.kind:
        case PatternKind.PLAIN:
            shown = np.zeros(along.shape, dtype=np.bool_)
        case PatternKind.HORIZONTAL:
            shown = np.mod(along / period + phase, 1) < duty
        case PatternKind.VERTICAL:
            shown = np.mod(across / (1.6 * period) + phase, 1) < duty
        case PatternKind.DIAGONAL:
            shown = np.mod((along + 0.45 * across) / period + phase, 1) < duty
        case PatternKind.CHECKS:
            shown = (np.mod(along / period + phase, 1) < 0.5) ^ (np.mod(across / (2 * period) + phase, 1) < 0.5)
        case PatternKind.DOTS:
            row = np.floor(along / period + phase)
            down = np.mod(along / period + phase, 1) - 0.5
            aside = np.mod(across / (2 * period) + 0.5 * np.mod(row, 2), 1) - 0.5
            shown = down**2 + aside**2 < (0.22 + 0.2 * duty) ** 2
        case PatternKind.CHEVRON:
            shown = np.mod((along - 0.5 * np.abs(across)) / max(period, 0.34) + phase, 1) < duty
        case PatternKind.YOKE:
            shown = along < split
        case PatternKind.HALVES:
            shown = (across > 0) ^ (phase < 0.5)
        case PatternKind.BAND:
            shown = (along > split) & (along < split + 0.15 + 0.2 * duty)
        case PatternKind.HEM:
            shown = along > 0.65 + 0.25 * split
        case PatternKind.PANEL:
            shown = np.abs(across) < 0.2 + 0.4 * duty
    return shown


@dataclass(frozen=True, slots=True)
class Print:
    """A printed shape: a small grid of cells.

    Attributes:
        cells: Rows of cells, true where printed.
        size: Width in body heights.
        centre: Height of the middle on the torso, 0 (shoulders) to 1 (hem).
    """

    cells: tuple[tuple[bool, ...], ...]
    size: float
    centre: float


def draw_print(random: np.random.Generator) -> Print:
    """Invent a shape: a random glyph, mirrored left to right half the time, a third to 70 % of its cells filled."""
    side = int(random.choice([3, 4, 5]))
    while True:
        cells = random.random((side, side)) < 0.5
        if random.random() < 0.5:
            cells = cells | cells[:, ::-1] if random.random() < 0.5 else cells & cells[:, ::-1]
        if 0.33 <= cells.mean() <= 0.7:
            break
    return Print(
        cells=tuple(tuple(bool(cell) for cell in row) for row in cells),
        size=float(random.uniform(0.1, 0.17)),
        centre=float(random.uniform(0.3, 0.55)),
    )
