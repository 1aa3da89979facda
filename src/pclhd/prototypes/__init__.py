"""Prototypes of clusters and the memories that hold them: tensors and numbers only.

A prototype is a unit-length row that represents a cluster: its centre (centroid), the centres of its parts (multi), the
members furthest from its centre (hard), or members drawn at random (dynamic). A memory keeps the rows in buffers. Only
`update` and `redraw` change a memory; the training step calls them after the backward pass. The exception is
`coupled_similarities`, the released code's memory, which is written in the backward pass.

Letters: N samples, B queries of a batch, C clusters, K instances per cluster, M parts per cluster, D feature width.
"""

from __future__ import annotations

from pclhd.prototypes.cluster import CentroidUpdate, ClusterMemory
from pclhd.prototypes.dynamic import DynamicMemory
from pclhd.prototypes.means import balanced_cluster_means, cluster_means, draw_members, hard_prototypes
from pclhd.prototypes.multi import MultiMemory
from pclhd.prototypes.released import coupled_similarities
from pclhd.prototypes.rows import at_least_float32, normalise, similarities
from pclhd.prototypes.split import SplitRows

__all__ = [
    "CentroidUpdate",
    "ClusterMemory",
    "DynamicMemory",
    "MultiMemory",
    "SplitRows",
    "at_least_float32",
    "balanced_cluster_means",
    "cluster_means",
    "coupled_similarities",
    "draw_members",
    "hard_prototypes",
    "normalise",
    "similarities",
]
