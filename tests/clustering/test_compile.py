from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest

from pclhd.clustering.compile import compiled


def test_compiles_without_a_place_for_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_to_keep: list[bool] = []

    def refuse_to_keep(*, cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            asked_to_keep.append(cache)
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            return function

        return decorate

    monkeypatch.setattr(numba, "njit", refuse_to_keep)

    @compiled()
    def double(number: int) -> int:
        return 2 * number

    assert double(21) == 42
    assert asked_to_keep == [True, False]


PROGRAM = """
import numpy as np
from pclhd.clustering.compile import compiled

@compiled()
def total(values):
    return values.sum()

print(total(np.arange(5.0)), sum(total.stats.cache_hits.values()))
"""


def _ran(folder: Path) -> str:
    if not (folder / "program.py").exists():
        (folder / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, str(folder / "program.py")]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"\x80\x05", b"no pickle", None])
def test_a_damaged_cache_is_made_again(tmp_path: Path, kind: str, content: bytes | None) -> None:
    assert _ran(tmp_path) == "10.0 0"
    (kept,) = (tmp_path / "cache").rglob(f"*.{kind}")
    assert _ran(tmp_path) == "10.0 1"
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert _ran(tmp_path) == "10.0 0"
    assert _ran(tmp_path) == "10.0 1"
