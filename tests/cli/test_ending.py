"""Whatever ends a verb while it writes, or keeps it from writing: nothing is half there.

After a kill, the same command works when it is given again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pclhd.workflows import exchange
from tests.cli.ending import VERBS, Ended, cases, contents, prepare
from tests.models.small import SMALL_BOTTLENECK

ROOT = Path(__file__).parent.parent.parent

#: What docs/responsible-use.md says that a killed process may leave.
LEFT_BY_A_KILL = (
    r"out/\.[\w.]+\.[0-9a-f]{16}\.part",
    r"out/\.[\w.]+\.lock",
    r"out/made(/\.lock|/\.unfinished|/\.config\.yaml\.[0-9a-f]{16}\.part)?",
    r"run/\.lock",
    r"run/\.results\.json\.[0-9a-f]{16}\.part",
    r"run/report(/\.index\.html\.[0-9a-f]{16}\.part)?",
)
#: What each verb makes.
MADE = {
    "cluster": {"out/labels.csv"},
    "embed": {"out/features.npy"},
    "export": {"out/model.pth"},
    "import": {"out/made", "out/made/config.yaml", "out/made/model.safetensors", "out/made/provenance.json"},
    "synth": {"out/drawn", "out/drawn/DATA_CARD.md", "out/drawn/contact_sheet.png", "out/drawn/synthetic.json"}
    | {"out/drawn/exp", *(f"out/drawn/cam{number}" for number in range(1, 7))},
    "starter": {"out/start.safetensors"},
    "evaluate": set(),  # the same results as before
    "report": {"run/report", "run/report/index.html"},
}
STATUS = {
    "SIGKILL": -9,
    "SIGTERM": 143,
    "SIGINT": 130,
    "full disk": 2,
    "closed stdout": 0,
    "stdout on a full disk": 2,
    "stdout without a reader": 141,
    "no columns": 0,
    "read-only folders": 2,
}
#: With these, the work is done and only printing may fail.
WORKS = {"closed stdout", "stdout on a full disk", "stdout without a reader", "no columns"}
#: These print while they work, and end when they cannot.
PRINT_FIRST = {("starter", "stdout on a full disk"), ("starter", "stdout without a reader")}


def test_every_verb_is_ended_while_it_writes() -> None:
    assert {verb for verb, place, _ in cases() if place == "while it writes"} == set(VERBS) == set(MADE)


@pytest.mark.slow
def test_nothing_is_half_written(tmp_path: Path) -> None:
    # One thread: a process that has none besides its own may be forked at any time.
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.cli.ending", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=alone,
    )
    assert ran.returncode == 0, ran.stderr
    ended = [Ended(**fields) for fields in json.loads(ran.stdout)]
    assert [(one.verb, one.place, one.how) for one in ended] == cases()
    wrong = {f"{one.verb}, {one.how} {one.place}": faults for one in ended if (faults := list(_faults(one)))}
    assert wrong == {}


def _faults(found: Ended) -> Iterator[str]:
    """What is not as it should be."""
    if found.status != STATUS[found.how] or "Traceback" in found.said:
        yield f"exit code {found.status}: {found.said}"
    if found.how in WORKS and (found.verb, found.how) not in PRINT_FIRST:
        if set(found.left) != MADE[found.verb]:
            yield f"left {found.left}"
    elif found.how == "SIGKILL":
        yield from (name for name in found.left if not any(re.fullmatch(known, name) for known in LEFT_BY_A_KILL))
        if found.again != 0 or set(found.left_again) != MADE[found.verb]:
            yield f"run again: exit code {found.again}, {found.left_again}"
    else:
        yield from found.left
    if found.status == 2:
        lines = found.said.splitlines()
        reason = r"cannot be (written|created) \((No space left on device|Permission denied)\)"
        if len(lines) != 1 or not re.search(reason, lines[0]):
            yield found.said


# Where libraries keep their caches is decided when they are loaded, so these are processes of their own.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, before = tmp_path_factory.mktemp("prepared"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)  # `prepare` sets it, too
        prepare(root)
    os.chdir(before)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "home"), [*((verb, "/dev/null/nowhere") for verb in VERBS), ("cluster", None), ("report", None)]
)
def test_no_home_is_needed(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, home: str | None
) -> None:
    work = tmp_path / "work"
    shutil.copytree(prepared, work)
    (work / "out").mkdir()
    monkeypatch.chdir(work)
    before = contents()
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "MPLCONFIGDIR")}
    if home is not None:
        environment["HOME"] = home
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    program = [sys.executable, "-m", "tests.fuzz.small"]  # `pclhd` with a small network for that of the released code
    ran = subprocess.run([*program, verb, *VERBS[verb]], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    now = contents()
    assert {name for name in now.keys() | before.keys() if now.get(name) != before.get(name)} == MADE[verb]
