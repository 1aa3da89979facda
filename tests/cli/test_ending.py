"""Whatever ends a verb while it writes, or keeps it from writing: nothing is half there.

After a kill, the same command works when it is given again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.ending import COMMANDS, Ended, cases, changed
from tests.commands import all_verbs
from tests.fuzz.world import World, states

ROOT = Path(__file__).parent.parent.parent

#: What each command makes or changes: a pattern for each name, and names for each pattern.
MADE: dict[str, set[str]] = {
    "cluster": {r"out/labels\.csv"},
    "embed": {r"out/features\.npy"},
    "export": {r"out/model\.pth"},
    "export --format onnx": {r"out/model\.onnx", r"out/model\.md"},
    "import": {r"out/made", r"out/made/(config\.yaml|model\.safetensors|provenance\.json)"},
    "synth": {r"out/drawn", r"out/drawn/(DATA_CARD\.md|contact_sheet\.png|synthetic\.json|exp|cam[1-6])"},
    "starter": {r"out/start\.safetensors"},
    "evaluate": {r"runs/one/results\.json"},
    "report": {r"runs/one/report", r"runs/one/report/index\.html"},
    "report of two": {r"out/both\.html"},
    "calibrate": {r"runs/one/calibration\.json"},
    "search": {r"out/found\.csv", r"out/found\.html"},
    "figures": {r"out/figures", r"out/figures/figures\.md", r"out/figures/[\w-]+\.\w+"},
    "ablate": {r"ablation/ablation\.json", r"ablation/figures/[\w.-]+"},
    "study run": {r"studies/one/study\.db", r"studies/one/trial-0002-seed-0(/[^.].*)?"},
    "study plot": {r"studies/one/trials\.csv", r"studies/one/[\w-]+\.png", r"studies/one/plots\.html"},
    "token create": {r"tokens\.json"},
    "token revoke": {r"tokens\.json"},
    "gallery export": {r"out/people\.parquet"},
    **{f"gallery {verb}": {r"people/(images|facts)\.lance(/.*)?"} for verb in ("add", "remove", "expire", "compact")},
}
#: Verbs that write nothing, or only temporary files.
READING = {
    *("combine", "compare", "verify", "runs", "check", "settings", "recipes", "help", "upper-bound", "token list"),
    *("audit verify", "study show", "gallery list", "gallery stats", "gallery search"),
    *("gallery", "study", "token", "audit"),
}
#: Verbs whose end is tested elsewhere, and where.
ELSEWHERE = {
    "train": "engine/test_kill.py::test_fifty_kills_change_nothing",
    "fetch-imagenet": "models/test_imagenet.py::test_download_with_a_wrong_checksum_leaves_nothing",
    "serve": "service/test_audit.py::test_a_line_that_a_kill_cut_is_removed",
}
#: What docs/responsible-use.md says that a killed process may leave.
LEFT_BY_A_KILL = (
    r"(out/|runs/one/|studies/one/|ablation/|people/)?\.[\w.-]+\.[0-9a-f]{16}\.part",
    r"(out/|studies/one/|ablation/|people/|runs/one/)?\.([\w.-]+\.)?lock",
    r"out/(made|figures)(/\.lock|/\.unfinished|/\.[\w.-]+\.[0-9a-f]{16}\.part)?",
    r"out/\.drawn\.[0-9a-f]{16}\.part/.*",
    r"studies/one/trial-0002-seed-0/\.(lock|unfinished|config\.yaml\.[0-9a-f]{16}\.part)",
    r"runs/one/report(/\.index\.html\.[0-9a-f]{16}\.part)?",
)
#: What stays of work that was ended: a gallery keeps what was added, and a study its trials, both in whole commits.
KEPT = {
    "gallery": r"people/(images|facts)\.lance(/.*)?",
    "study run": r"studies/one/(study\.db|trial-0002-seed-0(/[^.].*)?)",
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
    assert {verb for verb, place, _ in cases() if place == "while it writes"} == set(COMMANDS) == set(MADE)
    ended = {max((verb for verb in all_verbs() if _begins(words, verb)), key=len) for words in COMMANDS.values()}
    assert ended | READING | set(ELSEWHERE) == set(all_verbs()), "a verb is in no list"
    assert not ended & READING
    for file, name in (place.split("::") for place in ELSEWHERE.values()):
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text("utf-8")


def _begins(words: tuple[str, ...], verb: str) -> bool:
    return words[: verb.count(" ") + 1] == tuple(verb.split())


@pytest.mark.slow
def test_nothing_is_half_written(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.cli.ending", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
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
        yield from _not_made(found.verb, found.left)
    elif found.how == "SIGKILL":
        may_be = (*LEFT_BY_A_KILL, *_kept(found.verb))
        yield from (name for name in found.left if not any(re.fullmatch(known, name) for known in may_be))
        if found.again != 0:
            yield f"run again: exit code {found.again}"
        yield from _not_made(found.verb, found.left_again)
    else:
        kept = _kept(found.verb)
        yield from (name for name in found.left if not any(re.fullmatch(known, name) for known in kept))
    if found.status == 2:
        lines = found.said.splitlines()
        reason = r"cannot be (written|created) \((No space left on device|Permission denied)\)"
        if len(lines) != 1 or not re.search(reason, lines[0]):
            yield found.said


def _kept(verb: str) -> list[str]:
    return [pattern for name, pattern in KEPT.items() if verb.startswith(name)]


def _not_made(verb: str, left: list[str]) -> Iterator[str]:
    """How what a command left differs from what it makes."""
    patterns = MADE[verb]
    yield from (name for name in left if not any(re.fullmatch(pattern, name) for pattern in patterns))
    yield from (f"no {pattern}" for pattern in patterns if not any(re.fullmatch(pattern, name) for name in left))


# Where libraries keep their caches is decided when they are loaded, so these are processes of their own.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> World:
    # In another process, since small networks take the names of the real ones there.
    root = tmp_path_factory.mktemp("prepared")
    subprocess.run([sys.executable, "-m", "tests.cli.ending", str(root), "--world"], check=True, cwd=ROOT)
    return World(root / "work", root / "pristine", states(root / "work"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "home"), [*((verb, "/dev/null/nowhere") for verb in COMMANDS), ("cluster", None), ("report", None)]
)
def test_no_home_is_needed(prepared: World, monkeypatch: pytest.MonkeyPatch, verb: str, home: str | None) -> None:
    monkeypatch.chdir(prepared.root)
    homes = {"HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in homes}
    if home is not None:
        environment["HOME"] = home
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    program = [sys.executable, "-m", "tests.fuzz.small"]  # `pclhd` with a small network for that of the released code
    ran = subprocess.run([*program, *COMMANDS[verb]], env=environment, capture_output=True, text=True, check=False)
    left = changed(prepared)
    prepared.restore()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list(_not_made(verb, left)) == []
