from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripts.demo_floors import FLOORS, SEARCH, main


def _results(start: float, final: float, search: str = SEARCH) -> dict[str, Any]:
    return {
        "rows": [
            {"weights": weights, "search": search, "rank1": {"mean": value, "std": 0.0}}
            for weights, value in (("start", start), ("stage1", 0.0), ("final", final))
        ]
    }


def _run(folder: Path, results: Any) -> int:
    path = folder / "results.json"
    path.write_text(json.dumps(results), "utf-8")
    return main([str(path)])


def test_a_gain_above_the_floor_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, _results(0.30, 0.31 + FLOORS[0].points / 100)) == 0
    assert "start 30.0 %" in capsys.readouterr().out


def test_a_gain_below_the_floor_fails_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, _results(0.30, 0.29 + FLOORS[0].points / 100)) == 1
    shown = capsys.readouterr()
    assert "MISSED" in shown.out
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("results", [{}, [], {"rows": []}, _results(0.1, 0.9, search="indoor/single-shot")])
def test_results_without_the_search_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], results: Any
) -> None:
    assert _run(tmp_path, results) == 2
    assert SEARCH in capsys.readouterr().err


def test_a_missing_file_and_a_wrong_call_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "results.json")]) == 2
    assert "make demo" in capsys.readouterr().err
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage")
