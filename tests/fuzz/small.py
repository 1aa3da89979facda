"""Small networks under the names of the real ones, so that a case takes milliseconds.

`python -m tests.fuzz.small WORDS` is `pclhd WORDS` with them, for cases in a process of their own.
"""

from __future__ import annotations

from pclhd.cli import main
from pclhd.models.architecture import ARCHITECTURES
from pclhd.workflows import exchange
from tests.models.small import SMALL_BASIC, SMALL_BOTTLENECK


def use_small_networks() -> None:
    """Let ``narrow`` be a network of 20 thousand weights, and the released code's one of as many."""
    ARCHITECTURES["narrow"] = SMALL_BASIC
    setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)  # noqa: B010


if __name__ == "__main__":
    use_small_networks()
    main()
