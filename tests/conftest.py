"""Fixtures of all tests. They import what they need themselves: one test alone then starts in half the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numba
import pytest
import torch

if TYPE_CHECKING:
    from tests.commands import Call
    from tests.engine.runs import SmallData
    from tests.gallery.photos import Photos

THREADS = torch.get_num_threads()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile numba's loops and list fonts once, before several test processes start and each does all of it.

    In a process of its own, so that this one, which only hands out tests, stays small.
    """
    if session.config.getoption("numprocesses", None):
        subprocess.run([sys.executable, "-m", "tests.kernels"], cwd=session.config.rootpath, check=True)


@pytest.fixture(autouse=True)
def _threads() -> None:
    # On inputs as small as those of tests, numba's threads mostly wait for each other and take ten times the CPU time.
    numba.set_num_threads(1)
    # Numba's parallel calls set the number of torch's threads, too; sums would depend on the tests before.
    if torch.get_num_threads() != THREADS:
        torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    """Data and start weights of the small trainings."""
    from tests.engine.runs import SmallData, draw_people, write_start

    root = tmp_path_factory.mktemp("small")
    return SmallData(draw_people(root / "people"), write_start(root / "start.safetensors"))


@pytest.fixture(scope="session")
def tiny_sysu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic benchmark in SYSU-MM01's layout; not to be changed."""
    from pclhd.synthetic import write_synthetic

    root = tmp_path_factory.mktemp("synthetic") / "sysu"
    write_synthetic(root, scale="tiny", layout="sysu", generator=1, workers=1)
    return root


@pytest.fixture(scope="session")
def tiny_regdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in RegDB's layout."""
    from pclhd.synthetic import write_synthetic

    root = tmp_path_factory.mktemp("synthetic") / "regdb"
    write_synthetic(root, scale="tiny", layout="regdb", generator=1, workers=1)
    return root


@pytest.fixture(scope="session")
def tiny_llcm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in LLCM's layout."""
    from pclhd.synthetic import write_synthetic

    root = tmp_path_factory.mktemp("synthetic") / "llcm"
    write_synthetic(root, scale="tiny", layout="llcm", generator=1, workers=1)
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Images and a model for galleries; not to be changed."""
    from tests.gallery.photos import make_photos

    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def pclhd() -> Call:
    """Calls the command line: ``pclhd("train", "tiny", …)``."""
    from tests.commands import call

    return call
