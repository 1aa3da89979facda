from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pclhd import threads
from pclhd.threads import cpu_quota, set_up_threads, usable_cpus, usable_memory

EIGHT = 8


@pytest.fixture(autouse=True)
def _eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_processors", lambda: EIGHT)


def system(root: Path, files: Mapping[str, str]) -> Path:
    """A folder with files of ``/proc`` and ``/sys``."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V2 = {"proc/self/cgroup": "0::/user/job\n"}
V1 = {"proc/self/cgroup": "5:cpuacct,cpu:/job\n4:memory:/job\n1:name=systemd:/\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({**V2, "sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, None),
        ({**V2, "sys/fs/cgroup/user/job/cpu.max": "150000 100000\n"}, 1.5),
        # A parent may be stricter.
        ({**V2, "sys/fs/cgroup/user/job/cpu.max": "max 100000", "sys/fs/cgroup/user/cpu.max": "50000 100000"}, 0.5),
        # In a container: the path is that of the host, and only the mount point exists.
        ({**V2, "sys/fs/cgroup/cpu.max": "300000 100000"}, 3.0),
        ({"proc/self/cgroup": "0::/../job", "sys/fs/cgroup/cpu.max": "300000 100000"}, 3.0),
        ({**V2, "sys/fs/cgroup/user/job/cpu.max": "nonsense"}, None),
        ({**V2, "sys/fs/cgroup/user/job/cpu.max": ""}, None),
        ({**V2, "sys/fs/cgroup/user/job/cpu.max": "100000 0"}, None),
        (
            {**V1, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000"},
            None,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/cpuacct,cpu/job/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpuacct,cpu/job/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        ({"proc/self/cgroup": "not\na cgroup file:"}, None),
    ],
)
def test_the_quota_of_a_control_group(tmp_path: Path, files: Mapping[str, str], quota: float | None) -> None:
    root = system(tmp_path, files)
    assert cpu_quota(root) == quota
    expected = EIGHT if quota is None else {0.5: 1, 1.5: 2, 2.5: 3, 3.0: 3}[quota]
    assert usable_cpus(root=root, environ={}) == expected


@pytest.mark.parametrize(
    ("asked", "cpus"), [("3", 3), ("16", EIGHT), ("1,2", 1), ("", EIGHT), ("0", 1), ("-2", EIGHT), ("many", EIGHT)]
)
def test_the_number_asked_for(tmp_path: Path, asked: str, cpus: int) -> None:
    assert usable_cpus(root=tmp_path, environ={"OMP_NUM_THREADS": asked}) == cpus


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal:       1000 kB\nMemFree: 1 kB\n"}, 1_024_000),
        ({**V2, "sys/fs/cgroup/user/job/memory.max": "max"}, None),
        ({**V2, "sys/fs/cgroup/user/job/memory.max": "4096", "proc/meminfo": "MemTotal: 1000 kB"}, 4096),
        ({**V1, "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({**V1, "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "8192"}, 8192),
    ],
)
def test_the_memory_that_may_be_used(tmp_path: Path, files: Mapping[str, str], limit: int | None) -> None:
    assert usable_memory(system(tmp_path, files)) == limit


def test_libraries_that_are_loaded_are_left_alone() -> None:
    environ: dict[str, str] = {}
    set_up_threads(environ)
    assert environ == {}  # torch is loaded here


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_LOADS_THREADS", ())
    environ = {"OMP_WAIT_POLICY": "ACTIVE"}
    set_up_threads(environ)
    assert environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert environ["OPENBLAS_THREAD_TIMEOUT"] == "4"
    assert "GOMP_SPINCOUNT" not in environ  # it would replace the policy
    environ = {"GOMP_SPINCOUNT": "7"}
    set_up_threads(environ)
    assert environ["GOMP_SPINCOUNT"] == "7"


def test_the_numbers_are_set_only_below_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_LOADS_THREADS", ())
    for quota, expected in ((None, {}), (8.0, {}), (1.5, {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"})):
        monkeypatch.setattr(threads, "cpu_quota", lambda root, quota=quota: quota)
        environ: dict[str, str] = {}
        set_up_threads(environ)
        assert {name: value for name, value in environ.items() if "NUM_THREADS" in name} == expected
    monkeypatch.setattr(threads, "cpu_quota", lambda root: None)
    environ = {"OMP_NUM_THREADS": "3"}
    set_up_threads(environ)
    assert environ["NUMBA_NUM_THREADS"] == "3"


def test_the_command_line_sets_it_before_torch_is_loaded() -> None:
    program = (
        "import os, sys; sys.argv = ['pclhd', 'recipes']\n"
        "from pclhd.cli import main\n"
        "assert not {'torch', 'numpy', 'numba'} & set(sys.modules)\n"
        "try:\n    main()\nfinally:\n    print(*[os.environ[n] for n in "
        "('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'OPENBLAS_THREAD_TIMEOUT')])"
    )
    ours = ("OMP_", "GOMP_", "OPENBLAS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "PASSIVE 1000 4"
