"""How the hot loops of this package are compiled.

Numba caches compiled code next to the module, or in the user's cache folder. Where neither is writable (in a read-only
container, for example) it refuses to compile at all; there we compile without a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Sums may be reordered, so that they fill the vector units. The order is fixed when a loop is compiled: equal input
# gives equal output with any number of threads. Infinities and NaN are handled correctly.
_REORDER_SUMS = {"reassoc", "contract", "nsz"}


def compiled(*, parallel: bool = False) -> Callable[[_Function], _Function]:
    """Decorator: compile a numeric loop with numba, and cache the result where a cache folder is writable.

    Args:
        parallel: Spread `prange` loops over threads. Each iteration must write to separate elements, so that the number
            of threads cannot change a result.
    """

    def decorate(function: _Function) -> _Function:
        options: dict[str, Any] = {"parallel": parallel, "fastmath": _REORDER_SUMS, "nogil": True}
        try:
            compiled_function: _Function = numba.njit(cache=True, **options)(function)
            _forgive_damage(compiled_function)
        except RuntimeError:  # no folder for the cache can be written
            compiled_function = numba.njit(**options)(function)
        return compiled_function

    return decorate


def _forgive_damage(compiled_function: Any) -> None:
    """Let a kept result that cannot be read or written be compiled again, where numba would end the program.

    A full disk leaves such files, and nothing ever replaces them.
    """
    cache = getattr(compiled_function, "_cache", None)
    if cache is None:
        return
    load, save = cache.load_overload, cache.save_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:  # a damaged pickle fails in any way it can
            try:
                cache.flush()  # begins a new index
            except OSError:
                cache.disable()
            return None

    def save_overload(*arguments: Any) -> None:
        try:
            save(*arguments)
        except OSError:
            cache.disable()

    cache.load_overload, cache.save_overload = load_overload, save_overload
