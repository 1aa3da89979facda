"""The rules of the architecture that the imports must keep."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import pclhd

PACKAGE = Path(pclhd.__file__).parent
ROOT = Path(__file__).parent.parent


@cache
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
            # If the name is a module, that module is imported; else the module that it is taken from.
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & known.keys()
            named |= inner
            if len(inner) < len(node.names):
                named.add(node.module)
    return frozenset(named & known.keys()) - {module}


def _reached_from(start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [name for name in _modules() if name == start or name.startswith(f"{start}.")]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            # The package itself, which holds the version, loads its public names when they are used.
            waiting += _imports(module) - {"pclhd"}
    return reached


def _within(modules: set[str], *parts: str) -> set[str]:
    return {name for name in modules for part in parts if name == part or name.startswith(f"{part}.")}


def _room(module: str) -> str:
    """The package or module directly below `pclhd`; the package's own module is `__init__`."""
    return module.partition(".")[2].partition(".")[0] or "__init__"


def _documented_order() -> list[str]:
    """The rooms in the order of the table in docs/architecture.md, the lowest first."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = text.split("| In `src/pclhd` |", 1)[1].split("\n\n", 1)[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return [name.removesuffix(".py").removesuffix("/") for cell in cells for name in re.findall(r"`([\w./]+)`", cell)]


def test_every_room_is_in_the_documented_order_once() -> None:
    order = _documented_order()
    assert len(order) == len(set(order))
    assert set(order) == {_room(module) for module in _modules()} - {"presets"}


def test_no_room_imports_one_below_it_in_the_table() -> None:
    order = _documented_order()
    upward = {
        f"{module} imports {imported}"
        for module in _modules()
        for imported in _imports(module)
        if _room(imported) not in ("__init__", _room(module))  # the version may be read anywhere
        and order.index(_room(imported)) > order.index(_room(module))
    }
    assert not upward


def test_no_module_imports_itself_through_others() -> None:
    left = {module: set(_imports(module)) - {"pclhd"} for module in _modules()}
    while left:
        free = [module for module, imported in left.items() if not imported & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for module in free:
            del left[module]


def test_only_the_front_door_and_the_version_are_taken_from_the_package_itself() -> None:
    names = set()
    for path in _modules().values():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "pclhd":
                names |= {alias.name for alias in node.names if f"pclhd.{alias.name}" not in _modules()}
    assert names == {"__version__"}


def test_safetensors_are_opened_in_one_place() -> None:
    # safetensors itself waits for ever for the writer of a named pipe.
    opening = {name for name, path in _modules().items() if "safe_open(" in path.read_text("utf-8")}
    assert opening == {"pclhd.parsing"}


def test_training_reaches_nothing_that_handles_labels() -> None:
    reached = _reached_from("pclhd.engine")
    assert "pclhd.clustering.matching" in reached  # the walk does walk
    above = ("pclhd.evaluation", "pclhd.supervised", "pclhd.report", "pclhd.cli", "pclhd.workflows", "pclhd.api")
    assert not _within(reached, *above)
    assert "pclhd.clustering.pipeline" in reached
    assert "pclhd.clustering.quality" not in reached
    # Nor the readers, which know identities: training is given a TrainingSet.
    assert not _within(reached, "pclhd.data.open", "pclhd.data.sysu", "pclhd.data.regdb", "pclhd.data.llcm")


def test_evaluation_knows_arrays_and_records_only() -> None:
    reached = _reached_from("pclhd.evaluation")
    assert not _within(reached, "pclhd.engine", "pclhd.models", "pclhd.runs", "pclhd.synthetic", "pclhd.config")


def test_reports_are_made_from_run_folders_not_from_models() -> None:
    reached = _reached_from("pclhd.report")
    # Pictures are decoded as the readers do it, which keeps formats out that start programs.
    low = (
        "errors",
        "files",
        "text_tables",
        "parsing",
        "pair",
        "answers.calibration",
        "clustering.options",
        "recipes",
        "sizes",
        "config",
        "runs",
        "data.images",
        "data.image_formats",
        "data.stretch",
        "data.data_name",
        "data.layouts",
        "threads",
    )
    below = [f"pclhd.{name}" for name in low]
    assert "pclhd.runs.folder" in reached
    assert reached - _within(reached, "pclhd.report", *below) <= {
        "pclhd",
        "pclhd.answers",
        "pclhd.clustering",
        "pclhd.data",
    }


@pytest.mark.parametrize("module", ["pclhd.report.page", "pclhd.report.compare.text", "pclhd.runs.saved"])
def test_reports_load_no_computing_library(module: str) -> None:
    code = f"import sys, {module}\nprint([name for name in ('torch', 'numba', 'sklearn') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_only_workflows_reach_what_may_read_identities() -> None:
    importers = {_room(module) for module in _modules() if _within(set(_imports(module)), "pclhd.supervised")}
    assert importers - {"supervised"} <= {"workflows", "cli"}


@pytest.mark.parametrize("module", ["pclhd.losses", "pclhd.prototypes", "pclhd.clustering"])
def test_the_arithmetic_knows_no_settings(module: str) -> None:
    assert not _within(_reached_from(module), "pclhd.config", "pclhd.recipes", "pclhd.engine", "pclhd.data")


@pytest.mark.parametrize(
    "program",
    [
        "import pclhd",
        "import pclhd.cli",
        "import pclhd.config",
        "import pclhd.runs.folder",
        "import pclhd.report.tables",
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
