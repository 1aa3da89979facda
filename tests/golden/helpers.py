"""Where the recorded vectors of the released code are."""

from __future__ import annotations

import os
from pathlib import Path


def golden_folder() -> Path:
    """The folder of recorded vectors: `PCLHD_GOLDEN_DIR`, or the copy kept beside these tests."""
    named = os.environ.get("PCLHD_GOLDEN_DIR")
    return Path(named) if named else Path(__file__).parent / "data"


def golden_files(pattern: str) -> list[Path]:
    """All recorded files of a pattern; none at all is an error, or the tests would pass by testing nothing."""
    files = sorted(golden_folder().glob(pattern))
    if not files:
        raise FileNotFoundError(f"no file matches {pattern} in {golden_folder()}")
    return files
