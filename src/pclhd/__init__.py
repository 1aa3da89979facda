"""Unsupervised visible-infrared person re-identification: train, embed, search, cluster, evaluate.

>>> import pclhd
>>> encoder = pclhd.load("runs/first")
>>> gallery = encoder.embed("photos/day", modality="visible")
>>> queries = encoder.embed("photos/night", modality="infrared")
>>> for hit in pclhd.search(queries, gallery, top=5)[0]:
...     print(hit.rank, hit.path, hit.similarity)

Importing the package takes milliseconds: torch is imported when a name that needs it is first used. The names below are
the public API; docs/python.md describes them.
"""

from __future__ import annotations

# Importing typing would add half to the import time.
TYPE_CHECKING = False

__version__ = "0.1.0"

#: Every public name, and its module.
_MODULES = {
    "load": "pclhd.api",
    "search": "pclhd.api",
    "cluster": "pclhd.api",
    "evaluate": "pclhd.api",
    "train": "pclhd.api",
    "open_dataset": "pclhd.api",
    "answer": "pclhd.evaluation.answers",
    "Answer": "pclhd.evaluation.answers",
    "Calibration": "pclhd.answers.calibration",
    "ClusterLabels": "pclhd.api",
    "Encoder": "pclhd.models.encoder",
    "Embeddings": "pclhd.models.encoder",
    "RankedResults": "pclhd.evaluation.retrieval",
    "Hit": "pclhd.evaluation.retrieval",
    "Gallery": "pclhd.gallery.gallery",
    "GalleryFilter": "pclhd.gallery.records",
    "GalleryHit": "pclhd.gallery.records",
    "RunFolder": "pclhd.runs.folder",
    "Results": "pclhd.runs.records",
    "UserError": "pclhd.errors",
}

__all__ = [
    "Answer",
    "Calibration",
    "ClusterLabels",
    "Embeddings",
    "Encoder",
    "Gallery",
    "GalleryFilter",
    "GalleryHit",
    "Hit",
    "RankedResults",
    "Results",
    "RunFolder",
    "UserError",
    "__version__",
    "answer",
    "cluster",
    "evaluate",
    "load",
    "open_dataset",
    "search",
    "train",
]

if TYPE_CHECKING:
    from typing import Any

    from pclhd.answers.calibration import Calibration
    from pclhd.api import ClusterLabels, cluster, evaluate, load, open_dataset, search, train
    from pclhd.errors import UserError
    from pclhd.evaluation.answers import Answer, answer
    from pclhd.evaluation.retrieval import Hit, RankedResults
    from pclhd.gallery.gallery import Gallery
    from pclhd.gallery.records import GalleryFilter, GalleryHit
    from pclhd.models.encoder import Embeddings, Encoder
    from pclhd.runs.folder import RunFolder
    from pclhd.runs.records import Results


def __getattr__(name: str) -> Any:
    from importlib import import_module

    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'pclhd' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
