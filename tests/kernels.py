"""Make what a fresh checkout caches at its first use: ``python -m tests.kernels``.

These are numba's compiled loops of `pclhd.clustering`, half a minute, and matplotlib's list of fonts. `conftest.py`
runs it before several test processes start. Otherwise each of them would compile every loop, within whatever test needs
it first, and on a slow machine matplotlib would print that it looks for fonts, in whatever command draws first.
"""

from __future__ import annotations

import contextlib
import importlib

import numpy as np

from pclhd.clustering.approximate import approximate_neighbours
from pclhd.clustering.confidence import local_confidence
from pclhd.clustering.options import ClusteringMethod, ClusteringOptions
from pclhd.clustering.pipeline import cluster_features
from pclhd.errors import UserError


def compile_kernels() -> None:
    """Cluster a few made-up people in every way."""
    random = np.random.default_rng(0)
    features = (np.repeat(random.standard_normal((12, 16)), 8, axis=0) + 0.1 * random.standard_normal((96, 16))).astype(
        np.float32
    )
    methods: tuple[ClusteringMethod, ...] = ("dbscan", "hdbscan", "agglomerative")
    for method in methods:
        found = cluster_features(features, ClusteringOptions(clustering=method, k1=10, k2=3, outliers="both"))
    cluster_features(features, ClusteringOptions(k1=10, k2=1, near_copies="thin"))
    local_confidence(found.similarity, found.labels)
    with contextlib.suppress(UserError):  # faiss is not installed, so no test needs these
        approximate_neighbours(features, 10, lists=8, probes=2)


def find_fonts() -> None:
    """Import what writes matplotlib's list of fonts, unless there is one. Without the extra `plots`, do nothing."""
    with contextlib.suppress(ImportError):
        importlib.import_module("matplotlib.font_manager")


if __name__ == "__main__":
    compile_kernels()
    find_fonts()
