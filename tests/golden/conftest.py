from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.helpers import golden_folder


@pytest.fixture
def golden_dir() -> Path:
    return golden_folder()
