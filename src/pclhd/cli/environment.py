"""The surroundings of a call, looked at before the libraries that read them while they are imported."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pclhd.errors import UserError

#: Variables that hold a number, with the least and the greatest one that makes sense. Torch, Lightning, numba or OpenMP
#: read them, and end in an error of their own kind, or crash.
_NUMBERS = {
    "RANK": (0, 999_999),
    "LOCAL_RANK": (0, 999_999),
    "WORLD_SIZE": (1, 999_999),
    "MASTER_PORT": (0, 65_535),
    "SLURM_PROCID": (0, 999_999),
    "NUMBA_NUM_THREADS": (1, 4096),
}
#: OpenMP also takes a list, for nested threads.
_THREADS = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}


def check_environment() -> None:
    """Look at the current folder, and at the environment variables that libraries read.

    Raises:
        UserError: The folder was deleted, or a variable has no meaning.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the current folder no longer exists; change to another one") from error
    for variable, (least, greatest) in _NUMBERS.items():
        text = os.environ.get(variable, str(least))
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not least <= int(text) <= greatest:
            raise _senseless(variable, text, f"a number from {least} to {greatest}")
    for variable in sorted(_THREADS):
        text = os.environ.get(variable, "")
        if text.strip() and not re.fullmatch(r"\s*0*[1-9]\d{0,5}\s*(,\s*0*[1-9]\d{0,5}\s*)*", text, re.ASCII):
            raise _senseless(variable, text, "a number from 1")
    layer = os.environ.get("NUMBA_THREADING_LAYER")
    if layer is not None:
        _try_layer(layer)


def _try_layer(layer: str) -> None:
    """Start numba's threads, as the first loop would, halfway through a training."""
    from numba.np.ufunc.parallel import _launch_threads

    try:
        _launch_threads()  # type: ignore[no-untyped-call]
    except (ValueError, ImportError) as error:
        raise _senseless("NUMBA_THREADING_LAYER", layer, f"a layer that is installed ({error})") from error


def _senseless(variable: str, text: str, expected: str) -> UserError:
    return UserError(f"environment variable {variable} is {text!r}; expected {expected}, or no such variable")
