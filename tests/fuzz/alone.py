"""Imported first by the fuzzer's own process, before numba and torch read the environment.

Cases are forked. A process that has none but its own thread may be forked at any time, and GNU's OpenMP never. Tests that
import parts of the fuzzer keep their environment.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", NUMBA_THREADING_LAYER="workqueue")
