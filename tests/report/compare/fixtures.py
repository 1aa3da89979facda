"""Run folders that differ in what a test asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.report.fixtures import make_results

MakeRun = Callable[..., Path]
DEMO = {"preset": "synthetic", "seed": 0, "recipe": "pclhd", "method": {"hard_samples": 1, "labels": "clusters"}}
FACTS: dict[str, Any] = {
    "pclhd": "0.1.0",
    "commit": "aaaa",
    "libraries": {"torch": "2.13.0"},
    "machine": {"model": "this one"},
    "seed": 0,
    "data": {"training_checksum": "5f" * 32},
}


def line_with(text: str, *words: str) -> str:
    """The one line that holds all the words."""
    (line,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return line


def results_with(**dataset: Any) -> dict[str, Any]:
    results = make_results(searches=("all/single-shot",))
    results["dataset"] |= dataset
    return results
