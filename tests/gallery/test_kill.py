"""A gallery whose changes are killed again and again: nothing acknowledged is lost, nothing removed comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gallery.killing import IMAGES, OPERATIONS
from tests.gallery.s3_server import s3_server

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_forty_kills_in_a_folder(tmp_path: Path) -> None:
    _check(_kill(tmp_path, 40), 40)


@pytest.mark.slow
def test_twenty_kills_on_object_storage(tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="the extra `s3` is not installed")
    with s3_server() as server:
        server.client.create_bucket(Bucket="killed")
        kills = _kill(tmp_path, 20, "s3://killed/of/people")
    _check(kills, 20)


def _kill(folder: Path, times: int, *address: str) -> list[dict[str, Any]]:
    """What was seen at each kill."""
    words = [sys.executable, "-m", "tests.gallery.killing", str(folder), str(times), *address]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def _check(kills: list[dict[str, Any]], times: int) -> None:
    assert [kill["operation"] for kill in kills] == [OPERATIONS[number % len(OPERATIONS)] for number in range(times)]
    ended = 0
    for kill in kills:
        operation, reported = kill["operation"], kill["reported"]
        names = {state: [row[0] for row in kill[state]["rows"]] for state in ("before", "left", "finished")}
        before, left = set(names["before"]), set(names["left"])
        assert len(names["left"]) == len(left), "no row is there twice"
        assert all(row[2] for row in kill["left"]["rows"])
        assert kill["left"]["found"] == len(left), "every row has an embedding"
        assert names["finished"] == names["left"], "completing changes no row"
        assert not kill["finished"]["unfinished"]
        assert kill["traces"] == 0, "removed rows leave no bytes once the removal is complete"
        assert kill["traces_at_end"] == 0, "nor once it was acknowledged"
        assert kill["found_of_those_left"] == len(left), "bytes of rows would be found"
        ended += "end" in reported
        if operation == "add":
            acknowledged = {name for one in reported if isinstance(one, list) for name in one}
            assert before | acknowledged <= left
            assert "end" not in reported or len(left - before) == IMAGES
        elif operation == "compact":
            assert names["left"] == names["before"]
        else:
            old = [row[0] for row in kill["before"]["rows"] if row[1] == "camera 0"]
            wanted = set(old) if operation == "expire" else before - set(old)
            assert left in ([before - wanted] if "end" in reported else [before, before - wanted])
    assert ended < times // 2, "most were killed while they worked"
    assert sum(kill["gone"] for kill in kills) > 0
