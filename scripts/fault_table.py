"""Inject every fault of `tests/faults.py`, and write the observed behaviour to `docs/faults.md`. It takes about a minute.

Run it from the repository: `python scripts/fault_table.py`. With `--show` it prints what differs from what is expected,
and writes nothing.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults import FAULTS, Stock, observe, page  # noqa: E402  (the tests are no installed package)


def main() -> None:
    """Observe all faults, then write the page."""
    observations = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "stock").mkdir()
        stock = Stock(Path(folder) / "stock")
        for number, fault in enumerate(FAULTS):
            place = Path(folder) / str(number)
            place.mkdir()
            found = observations[fault.name] = observe(fault, stock, place)
            good = (found.code, found.left) == (fault.code, fault.left) and fault.says in found.said
            print(f"{'as expected' if good else 'UNEXPECTED '}  {fault.name}" + ("" if good else f": {found}"))
    if "--show" not in sys.argv:
        (ROOT / "docs" / "faults.md").write_text(page(observations), "utf-8")


if __name__ == "__main__":
    main()
