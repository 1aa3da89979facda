from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import distributed
from torch.multiprocessing.spawn import spawn

from pclhd.clustering.neighbours import Neighbours, nearest_neighbours
from pclhd.distributed import search as module
from pclhd.distributed.processes import Processes, ReportedByTheFirst
from pclhd.distributed.search import shared_search
from pclhd.errors import UserError

CPU = torch.device("cpu")


def features() -> NDArray[np.float32]:
    drawn = np.random.default_rng(0).standard_normal((101, 16), dtype=np.float32)
    drawn[7] = drawn[3]  # equally distant, so their numbers decide
    return drawn


def test_alone_it_is_the_plain_search() -> None:
    found, expected = shared_search(Processes(), CPU)(features(), 6), nearest_neighbours(features(), 6)
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.squared_distance, expected.squared_distance)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_find_what_one_finds_and_each_looks_for_its_share(tmp_path: Path, count: int) -> None:
    spawn(search_in_a_group, (count, tmp_path), nprocs=count)  # type: ignore[no-untyped-call]
    looked = [np.load(tmp_path / f"{rank}.npy") for rank in range(count)]
    for rows, searched in zip((101, 101, 2), np.stack(looked, axis=1), strict=True):
        assert searched.sum() == rows
        assert searched.max() - searched.min() <= 1


def search_in_a_group(rank: int, count: int, folder: Path) -> None:
    """In each process: the first searches three times, the others help; then the first raises an error."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=count)
    looked: list[int] = []

    def watched(rows_of: NDArray[np.float32], k: int, *, rows: slice, **named: Any) -> Neighbours:
        looked.append(rows.stop - rows.start)
        return nearest_neighbours(rows_of, k, rows=rows, **named)

    vars(module)["nearest_neighbours"] = watched
    processes = Processes(rank, count, rank)
    search = shared_search(processes, CPU)
    everything, few = features(), features()[:2]
    cases = [(everything, 6, None), (everything, 4, few), (few, 5, None)]

    def act() -> list[Neighbours]:
        assert rank == 0
        return [search(rows, k, base=base) for rows, k, base in cases]

    for found, (rows, k, base) in zip(processes.by_the_first(act), cases, strict=True):
        expected = nearest_neighbours(rows, k, base=base)
        np.testing.assert_array_equal(found.index, expected.index)
        np.testing.assert_array_equal(found.squared_distance, expected.squared_distance)
    np.save(folder / f"{rank}.npy", looked)

    def refuse() -> None:
        search(few, 1)
        raise UserError("refused here")

    with pytest.raises(UserError, match=r"^refused here$") as caught:
        processes.by_the_first(refuse)
    assert isinstance(caught.value, ReportedByTheFirst) == (rank > 0)
    distributed.destroy_process_group()
