"""Figures as functions from saved numbers to a matplotlib `Figure`.

The functions open no window and change matplotlib's global state only while drawing. Lines differ in colour, dash and
marker, so that they can be distinguished without colour; legends are outside the data.
"""

from __future__ import annotations

from pclhd.report.figures.maps import tsne_figure
from pclhd.report.figures.retrieval import cmc_figure
from pclhd.report.figures.run import (
    agreement_figure,
    cluster_count_figure,
    cluster_size_figure,
    epoch_places,
    loss_figure,
    matched_figure,
    noise_figure,
    seconds_figure,
    speed_figure,
)
from pclhd.report.figures.style import (
    AMBER,
    BLUE,
    DASHES,
    GREEN,
    GREY,
    GRID,
    INK,
    MARKERS,
    PALETTE,
    PURPLE,
    SKY,
    VERMILLION,
    Line,
    style,
    to_svg,
)

__all__ = [
    "AMBER",
    "BLUE",
    "DASHES",
    "GREEN",
    "GREY",
    "GRID",
    "INK",
    "MARKERS",
    "PALETTE",
    "PURPLE",
    "SKY",
    "VERMILLION",
    "Line",
    "agreement_figure",
    "cluster_count_figure",
    "cluster_size_figure",
    "cmc_figure",
    "epoch_places",
    "loss_figure",
    "matched_figure",
    "noise_figure",
    "seconds_figure",
    "speed_figure",
    "style",
    "to_svg",
    "tsne_figure",
]
