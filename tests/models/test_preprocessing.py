from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pclhd.errors import UserError
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import load_model_with_preprocessing, save_model
from tests.models.small import SMALL_BASIC, stirred

WANTED = Preprocessing(32, 16, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), mirror=False)


def test_it_travels_in_the_model_file(tmp_path: Path) -> None:
    save_model(tmp_path / "with.safetensors", stirred(SMALL_BASIC), preprocessing=WANTED)
    assert load_model_with_preprocessing(tmp_path / "with.safetensors")[1] == WANTED
    save_model(tmp_path / "without.safetensors", stirred(SMALL_BASIC))
    assert load_model_with_preprocessing(tmp_path / "without.safetensors")[1] is None


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 2.5},
        {"resample": "nearest"},
        {"mean": (0.1, 0.2)},
        {"std": (0.1, 0.0, 0.1)},
        {"std": (1, 1, 1)},
        {"mirror": 1},
    ],
)
def test_impossible_values(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(WANTED, **change)
    with pytest.raises(ValueError, match="fields"):
        Preprocessing.from_dict({**WANTED.to_dict(), "more": 1})


def test_a_damaged_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Preprocessing, "to_dict", lambda self: {"height": 32})
    save_model(tmp_path / "x.safetensors", stirred(SMALL_BASIC), preprocessing=WANTED)
    with pytest.raises(UserError, match="header is damaged"):
        load_model_with_preprocessing(tmp_path / "x.safetensors")
