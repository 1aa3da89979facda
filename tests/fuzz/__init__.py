"""The fuzzer: damages whatever `pclhd` reads; see `tests/fuzz/__main__.py`."""
