from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import pytest

from pclhd.clustering.compile import compiled


def test_compiles_without_a_place_for_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_to_keep: list[bool] = []

    def refuse_to_keep(*, cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            asked_to_keep.append(cache)
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            return function

        return decorate

    monkeypatch.setattr(numba, "njit", refuse_to_keep)

    @compiled()
    def double(number: int) -> int:
        return 2 * number

    assert double(21) == 42
    assert asked_to_keep == [True, False]
