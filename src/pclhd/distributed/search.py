"""Exact neighbour search by all processes of a training together, each on its own device (ours)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from pclhd.clustering.neighbours import NearestSearch, Neighbours, nearest_neighbours
from pclhd.distributed.processes import Processes


def shared_search(processes: Processes, device: torch.device) -> NearestSearch:
    """A search function for the first process, for use within the action of `Processes.by_the_first`.

    Each process searches for its share of the rows. The result is bit-identical to that of a single process: the search
    ranks by distances that do not depend on the split.

    Args:
        processes: The processes that search.
        device: Device of the search with a single process; with several, each uses its own.
    """
    if processes.count == 1:
        return partial(nearest_neighbours, device=device)

    def search(features: NDArray[np.float32], k: int, *, base: NDArray[np.float32] | None = None) -> Neighbours:
        return processes.together(_search_share, device.type, features, k, base)

    return search


def _search_share(
    processes: Processes,
    device_type: str,
    features: NDArray[np.float32],
    k: int,
    base: NDArray[np.float32] | None,
) -> Neighbours:
    device = torch.device(device_type, processes.local_rank) if device_type == "cuda" else torch.device(device_type)
    neighbours = nearest_neighbours(features, k, base=base, rows=processes.share(len(features)), device=device)
    # GPUs can only send tensors in their memory.
    index, squared_distance = (
        processes.gather(torch.from_numpy(part).to(device), len(features)).cpu().numpy()
        for part in (neighbours.index, neighbours.squared_distance)
    )
    return Neighbours(index, squared_distance)
