"""Patterns on cloth and printed shapes, as binary masks for both modalities."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class PatternKind(StrEnum):
    """Arrangement of the accent material on the main one."""

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
    """A pattern and its parameters.

    Attributes:
        kind: Kind of pattern.
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
    """Draw a random pattern; a share of `plain_share` is plain."""
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
    """The mask of the accent material.

    Args:
        pattern: The pattern.
        u: (W,) position across the cloth, from -1 to 1.
        v: (H,) position along the cloth, 0 at its top, 1 at its usual bottom.

    Returns:
        (H, W) mask, true for the accent.
    """
    across, along = np.broadcast_arrays(u[None, :], v[:, None])
    period, duty, phase, split = pattern.period, pattern.duty, pattern.phase, pattern.split
    accent: NDArray[np.bool_]
    match pattern.kind:
        case PatternKind.PLAIN:
            accent = np.zeros(along.shape, dtype=np.bool_)
        case PatternKind.HORIZONTAL:
            accent = np.mod(along / period + phase, 1) < duty
        case PatternKind.VERTICAL:
            accent = np.mod(across / (1.6 * period) + phase, 1) < duty
        case PatternKind.DIAGONAL:
            accent = np.mod((along + 0.45 * across) / period + phase, 1) < duty
        case PatternKind.CHECKS:
            accent = (np.mod(along / period + phase, 1) < 0.5) ^ (np.mod(across / (2 * period) + phase, 1) < 0.5)
        case PatternKind.DOTS:
            row = np.floor(along / period + phase)
            down = np.mod(along / period + phase, 1) - 0.5
            aside = np.mod(across / (2 * period) + 0.5 * np.mod(row, 2), 1) - 0.5
            accent = down**2 + aside**2 < (0.22 + 0.2 * duty) ** 2
        case PatternKind.CHEVRON:
            accent = np.mod((along - 0.5 * np.abs(across)) / max(period, 0.34) + phase, 1) < duty
        case PatternKind.YOKE:
            accent = along < split
        case PatternKind.HALVES:
            accent = (across > 0) ^ (phase < 0.5)
        case PatternKind.BAND:
            accent = (along > split) & (along < split + 0.15 + 0.2 * duty)
        case PatternKind.HEM:
            accent = along > 0.65 + 0.25 * split
        case PatternKind.PANEL:
            accent = np.abs(across) < 0.2 + 0.4 * duty
    return accent


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
    """Draw a random shape: a glyph, in half of the cases symmetric, with a third to 70 % of its cells filled."""
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
