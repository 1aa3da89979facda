from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.report.compare.fixtures import DEMO, FACTS, MakeRun
from tests.report.fixtures import make_results, write_run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run folder: what is asked for is changed, all else is the same."""

    def make(
        name: str,
        *,
        seed: int = 0,
        level: float | None = None,
        config: dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
        results: dict[str, Any] | None = None,
    ) -> Path:
        saved = make_results(searches=("all/single-shot",)) if results is None else results
        if level is not None:
            for row in saved["rows"]:
                row["rank1"]["mean"] = level if row["weights"] == "final" else 0.2
        run = write_run(tmp_path / name, results=saved)
        tree = {**DEMO, "seed": seed, **(config or {})}
        (run / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        (run / "provenance.json").write_text(json.dumps({**FACTS, "seed": seed, **(facts or {})}))
        return run

    return make
