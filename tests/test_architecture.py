"""The house rules that can be read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import pclhd

PACKAGE = Path(pclhd.__file__).parent


def _modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _imports(module: str) -> frozenset[str]:
    """The modules of the package that one names in an import, anywhere in its file."""
    known = _modules()
    named: set[str] = set()
    for node in ast.walk(ast.parse(known[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(named & known.keys()) - {module}


def _reached_from(start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [name for name in _modules() if name == start or name.startswith(f"{start}.")]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += _imports(module)
    return reached


def _within(modules: set[str], *parts: str) -> set[str]:
    return {name for name in modules for part in parts if name == part or name.startswith(f"{part}.")}


def test_training_reaches_nothing_that_handles_labels() -> None:
    reached = _reached_from("pclhd.engine")
    assert "pclhd.clustering.matching" in reached  # the walk does walk
    assert not _within(
        reached, "pclhd.evaluation", "pclhd.supervised", "pclhd.report", "pclhd.cli.training_console", "pclhd.cli"
    )
    # Nor the labeller that knows identities: it is handed in, for the recipes that say so.
    assert "pclhd.supervised.labeller" in _modules()
    assert "pclhd.supervised.labeller" not in reached
    assert "pclhd.clustering.pipeline" in reached
    assert "pclhd.clustering.quality" not in reached
    # Nor the readers, which know identities: it is handed a TrainingSet.
    assert not _within(reached, "pclhd.data.open", "pclhd.data.sysu", "pclhd.data.regdb", "pclhd.data.llcm")


def test_reports_are_made_from_files_not_from_models() -> None:
    assert not _within(_reached_from("pclhd.report"), "pclhd.models", "pclhd.engine", "pclhd.evaluation", "pclhd.data")


@pytest.mark.parametrize("module", ["pclhd.losses", "pclhd.prototypes", "pclhd.clustering"])
def test_the_arithmetic_knows_no_settings(module: str) -> None:
    assert not _within(_reached_from(module), "pclhd.config", "pclhd.recipes", "pclhd.engine", "pclhd.data")


@pytest.mark.parametrize(
    "program",
    [
        "import pclhd",
        "import pclhd.cli",
        "import pclhd.config",
        "import sys; sys.argv = ['pclhd', '--help']; from pclhd.cli import main; main()",
        "import sys; sys.argv = ['pclhd', 'train', '--help']; from pclhd.cli import main; main()",
        "import sys; sys.argv = ['pclhd', 'cluster', '--help']; from pclhd.cli import main; main()",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(program: str) -> None:
    code = (
        "import sys\n"
        f"try:\n    exec({program!r})\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numba', 'sklearn', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
