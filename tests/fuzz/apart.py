"""Work in a process of its own: LanceDB starts threads that a process forked later would lack."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable


def apart(work: Callable[[], None]) -> None:
    """Do some work in a forked process.

    Raises:
        RuntimeError: It failed.
    """
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("the work in another process failed")
