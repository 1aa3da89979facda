"""Root without the right to read and write whatever a file's mode says, so that modes can be tested as root, too."""

from __future__ import annotations

import ctypes
import os

#: See capabilities(7): CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
_OVERRIDE = 0b110
_VERSION_3 = 0x20080522


def obey_modes(obeyed: bool = True) -> None:
    """Give root's right up, or take it back. It does nothing for other users, who do not have it.

    Root stays root, so it can still import what lies in its own folders.
    """
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None)
    # See capset(2): twice the sets effective, permitted and inheritable, for this thread.
    header, sets = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] = sets[0] & ~_OVERRIDE if obeyed else sets[0] | sets[1] & _OVERRIDE
    assert libc.capset(header, sets) == 0
