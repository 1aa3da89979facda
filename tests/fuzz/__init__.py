"""The fuzzer: damages whatever `pclhd` reads; see `tests/fuzz/__main__.py`."""

import os

# Cases are forked. A process that has none but its own thread may be forked at any time, and GNU's OpenMP never.
os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", NUMBA_THREADING_LAYER="workqueue")
