"""Evaluation: ranking of a gallery, its measures, and the protocols of the benchmarks."""
