"""Each fault of `tests/faults.py`: its exit code, its one line, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pclhd.data.images import load_images
from tests.engine.runs import SmallData
from tests.fault_kinds import CAUSES, KINDS, Ruled, kinds_lines
from tests.faults import AT_RANDOM, FAULTS, Fault, Stock, observe, row

PAGE = Path(__file__).parent.parent / "docs" / "faults.md"
SOONER = {"Settings", "Data", "Weights", "Other commands", "Galleries and the service"}


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return Stock(tmp_path_factory.mktemp("stock"))


def _marked(fault: Fault) -> object:
    slow = fault.slow or fault.part not in SOONER
    return pytest.param(fault, id=fault.name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("fault", [_marked(fault) for fault in FAULTS])
def test_fault(fault: Fault, stock: Stock, tmp_path: Path) -> None:
    observed = observe(fault, stock, tmp_path)
    assert observed.code == fault.code, observed
    assert fault.says in observed.said
    assert observed.left == fault.left
    assert not observed.traceback
    assert observed.lines == (0 if fault.code in (-9, 0, 1) else 1)
    expected = row(fault, observed)
    assert expected in PAGE.read_text("utf-8"), f"python scripts/fault_table.py would write:\n{expected}"


def test_there_are_enough_of_them_and_the_page_shows_no_others() -> None:
    assert len(FAULTS) >= 40
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    shown = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text("utf-8").splitlines()]
    shown = [name for name in shown if name in {fault.name for fault in FAULTS}]
    assert shown == [fault.name for fault in FAULTS]
    observed, ruled = PAGE.read_text("utf-8").split("\n## Kinds of real data\n")
    rows = [line for line in observed.splitlines() if line.startswith("| ") and "Exit code" not in line]
    assert len(rows) == len(FAULTS)
    assert f"\n## Kinds of real data\n{ruled}" == "".join(kinds_lines()) + AT_RANDOM, (
        "run python scripts/fault_table.py"
    )


@pytest.mark.parametrize("ruled", [*KINDS, *CAUSES], ids=lambda ruled: ruled.name)
def test_each_rule_has_its_tests(ruled: Ruled) -> None:
    assert ruled.tests or ruled.rule.startswith(("Left", "Open"))
    for file, name in (test.split("::") for test in ruled.named_tests()):
        assert f"\ndef {name}(" in (PAGE.parent.parent / "tests" / file).read_text("utf-8")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_thread_that_dies_ends_the_reading(small: SmallData, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """The other threads do not wait for it, and its error, of whatever type, is the one that is raised."""
    seen = []

    def dies(path: Path, *_: object, **__: object) -> None:
        seen.append(path)
        raise ZeroDivisionError(path)

    monkeypatch.setattr("pclhd.data.images.decode_image", dies)
    paths = [image.path for image in small.training_set.images]
    with pytest.raises(ZeroDivisionError):
        load_images(paths, 48, 24, resample="bicubic", workers=workers)
    assert seen
