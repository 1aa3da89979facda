"""The log record of an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from pclhd.config import Settings
from pclhd.engine.labelling import EpochLabels, Grouping, Labels
from pclhd.engine.position import Position
from pclhd.engine.state import EpochState


def describe_epoch(settings: Settings, position: Position, state: EpochState) -> dict[str, Any]:
    """The record of an epoch after its last step.

    Args:
        settings: Settings of the run.
        position: Position in the schedule.
        state: State of the epoch.

    Returns:
        Times, learning rate, mean losses, criteria and clusters, for JSON.
    """
    return {
        "seconds": state.seconds_clustering + state.seconds_steps,
        "seconds_clustering": state.seconds_clustering,
        "images_per_second": state.images_seen / state.seconds_steps,
        "lr": position.learning_rate,
        "loss": {name: value / settings.schedule.numbers().iterations for name, value in state.sums.items()},
        "criteria": state.criteria,
        **({"kept_labels": state.labels.kept()} if state.labels.kept() else {}),
        **describe_labels(state.labels),
    }


def describe_labels(labels: EpochLabels) -> dict[str, Any]:
    """Cluster counts, noise, sizes and matched shares of an epoch, for the log."""
    matching = labels.matching
    described: dict[str, Any] = {name: _describe(part) for name, part in labels.of_drawn().items()}
    for name, grouping in labels.groupings.items():
        described[name] |= _describe_grouping(grouping)
    if labels.joint is not None:
        shared = labels.joint_shared()
        described["joint"]["shared_clusters"] = (
            0 if shared is None else len(np.unique(shared.visible[shared.visible >= 0]))
        )
    described["matched"] = {
        "visible": float((matching.visible_to_infrared >= 0).mean()),
        "infrared": float((matching.infrared_to_visible >= 0).mean()),
    }
    return described


def _describe_grouping(grouping: Grouping) -> dict[str, Any]:
    described: dict[str, Any] = {"silhouette": grouping.silhouette}
    if grouping.eps is not None:
        described["eps"] = grouping.eps
    if grouping.recall is not None:
        described["recall"] = grouping.recall
    if grouping.loosened:
        described["loosened"] = True
    if grouping.confidence is not None and (grouping.labels >= 0).any():
        described["confidence"] = float(grouping.confidence[grouping.labels >= 0].mean())
    return described


def _describe(labels: Labels) -> dict[str, Any]:
    sizes = np.bincount(labels[labels >= 0])
    return {
        "images": len(labels),
        "clusters": len(sizes),
        "noise": float((labels < 0).mean()),
        "size_min": int(sizes.min()) if len(sizes) else 0,
        "size_median": float(np.median(sizes)) if len(sizes) else 0.0,
        "size_max": int(sizes.max()) if len(sizes) else 0,
    }
