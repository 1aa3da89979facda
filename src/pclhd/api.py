"""The Python API of `import pclhd`. Functions return values; a docstring states if a function writes files.

Images, runs and data sets can be given as paths. Errors that a caller can correct are raised as `UserError`, with a
message of one line that names the argument.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pclhd.clustering.options import CUTS_AT_EPS, JOINT_DEFAULTS, ClusteringOptions
from pclhd.clustering.pipeline import cluster_features
from pclhd.clustering.quality import clustering_quality
from pclhd.config import Settings, load_preset
from pclhd.data.open import open_dataset as open_layout
from pclhd.data.records import Dataset, Modality
from pclhd.errors import UserError
from pclhd.evaluation.retrieval import RankedResults, rank_gallery
from pclhd.models.encoder import Embeddings, Encoder, Precision
from pclhd.runs.folder import RunFolder
from pclhd.runs.records import Results
from pclhd.workflows.evaluate import evaluate_run
from pclhd.workflows.train import default_run_folder, open_data, train_run

if TYPE_CHECKING:
    from pclhd.engine.observer import Observer

Run = RunFolder | Path | str
Layout = Literal["auto", "sysu", "regdb", "llcm", "own"]


def load(run_or_model: Run, *, device: str = "auto", precision: Precision = "32-true") -> Encoder:
    """Load a trained encoder.

    Args:
        run_or_model: A run folder, or a model file in any folder.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto``, which uses a GPU if there is one.
        precision: Precision of the network: ``32-true``, ``bf16-mixed`` or ``16-mixed``.

    Returns:
        The encoder; its method `embed` accepts images in any form.

    Raises:
        UserError: There is no such model, it is damaged, or the device cannot be used here.

    Examples:
        >>> encoder = pclhd.load("runs/first")
        >>> embeddings = encoder.embed("photos/day", modality="visible")
    """
    return Encoder.load(run_or_model, device=device, precision=precision)


def search(
    queries: Embeddings | ArrayLike,
    gallery: Embeddings | ArrayLike,
    *,
    top: int = 10,
) -> RankedResults:
    """Find the gallery images nearest to each query, by cosine similarity.

    Args:
        queries: Embeddings of Q images, or an array (Q, D).
        gallery: Embeddings of G images, or an array (G, D).
        top: Number of images per query; fewer are returned if the gallery is smaller.

    Returns:
        One ranked list per query: ``results[0][0].path``, ``.similarity``, ``.camera``, ``.rank``. Also ``to_dict()``
        and, if pandas is installed, ``to_pandas()``.

    Raises:
        UserError: Queries and gallery come from different encoders.
        ValueError: Shapes do not agree, or `top` is not positive.
    """
    if isinstance(queries, Embeddings) and isinstance(gallery, Embeddings) and queries.model_id != gallery.model_id:
        raise UserError(
            f"queries and gallery were embedded by different encoders ({queries.model_id[:12]} and "
            f"{gallery.model_id[:12]}); embed both with the same one"
        )
    return rank_gallery(
        _features(queries),
        _features(gallery),
        top_n=top,
        queries=queries.images if isinstance(queries, Embeddings) else None,
        gallery=gallery.images if isinstance(gallery, Embeddings) else None,
    )


@dataclass(frozen=True, eq=False)
class ClusterLabels:
    """Pseudo labels of images.

    Attributes:
        labels: (N,) clusters 0, 1, …, and −1 for noise.
        eps: The distance at which the neighbourhood graph was cut; None for methods without one.
        images: Descriptions of the images; None for arrays.
    """

    labels: NDArray[np.int64]
    eps: float | None
    images: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def clusters(self) -> int:
        """The number of clusters."""
        return int(self.labels.max(initial=-1)) + 1

    @property
    def noise(self) -> float:
        """Share of images in no cluster."""
        return float((self.labels < 0).mean()) if len(self.labels) else 0.0

    def quality(self, identities: ArrayLike) -> dict[str, float]:
        """Agreement with identities (N,), which do not affect the labels: ARI, NMI, purity and more."""
        return clustering_quality(self.labels, np.asarray(identities))

    def to_dict(self) -> dict[str, Any]:
        """The labels as JSON-compatible values."""
        return {
            "labels": self.labels.tolist(),
            "clusters": self.clusters,
            "noise": self.noise,
            "eps": self.eps,
        }


def cluster(features: Embeddings | ArrayLike, *, modality: ArrayLike | None = None, **options: Any) -> ClusterLabels:
    """Cluster features by their k-reciprocal Jaccard similarity, without labels.

    Args:
        features: Embeddings, or an array (N, D), preferably of unit length.
        modality: (N,) modality of each row (any two codes), for a clustering of both together. By default that of the
            embeddings, if they have both.
        **options: Fields of `pclhd.clustering.options.ClusteringOptions`, such as ``k1=20``, ``eps="auto"``,
            ``clustering="hdbscan"``. If both modalities are clustered together, k1 and k2 are 40 and 32 by default.

    Returns:
        One label per row.

    Raises:
        UserError: An option is unknown or out of range.
        ValueError: Features are not finite.
    """
    clustering_options = ClusteringOptions.checked(options)
    codes = None if modality is None else np.unique(np.asarray(modality), return_inverse=True)[1].astype(np.int64)
    if codes is None and isinstance(features, Embeddings):
        infrared = np.array([image.modality is Modality.INFRARED for image in features.images], dtype=np.int64)
        codes = infrared if 0 < infrared.sum() < len(infrared) else None
    if codes is not None:
        clustering_options = clustering_options.changed(
            **{name: size for name, size in JOINT_DEFAULTS.items() if name not in options}
        )
    clustering = cluster_features(_features(features), clustering_options, modality=codes)
    eps = clustering.options.eps
    return ClusterLabels(
        clustering.labels,
        eps if isinstance(eps, float) and clustering_options.clustering in CUTS_AT_EPS else None,
        features.images if isinstance(features, Embeddings) else None,
    )


def evaluate(
    run: Run,
    *,
    data: Path | str | None = None,
    device: str = "auto",
    write: bool = False,
    force: bool = False,
) -> Results:
    """Measure a run's weights (start, stage I, final) by the protocol of its data.

    Args:
        run: A run folder.
        data: The data set, if it has moved since training.
        device: Device for embedding; ``auto`` uses a GPU if there is one.
        write: Save the results in the run folder, as `pclhd evaluate` does.
        force: Measure even if the run was trained on some of the test images.

    Returns:
        The results, as fractions from 0 to 1: ``results.rows[-1].rank1.mean``. Also ``to_dict()``.

    Raises:
        UserError: There is no finished model, no labelled test images, or test images that were training images.
    """
    folder = RunFolder(run)
    dataset = open_data(folder.settings(), None if data is None else Path(data))
    return evaluate_run(folder, dataset, device=device, force=force, write=write)


def train(
    preset: str | Settings = "own",
    *,
    data: Path | str | None = None,
    out: Run | None = None,
    observer: Observer | None = None,
    **settings: Any,
) -> RunFolder:
    """Train without labels and write a run folder. Only the recipes ``supervised`` and ``semi-supervised`` use labels.

    Args:
        preset: A preset's name, a YAML file, or settings.
        data: The data set's folder, or a CSV file.
        out: The run folder to create; by default ``runs/PRESET-RECIPE-SEED``.
        observer: Called during the training; None for no calls.
        **settings: Settings to change: ``recipe="paper"``, ``seed=1``, ``schedule={"iterations": 20}``, or with dotted
            keys ``**{"schedule.iterations": 20}``.

    Returns:
        The run folder; `load` and `evaluate` accept it.

    Raises:
        UserError: A setting is unknown or out of range, the data cannot be read, or the folder is in use.

    Examples:
        >>> run = pclhd.train("own", data="photos", seed=1)
        >>> encoder = pclhd.load(run)
    """
    root = None if data is None else Path(data)
    if isinstance(preset, Settings):
        if settings:
            raise UserError("settings are complete; change them before the call, or name a preset instead")
        resolved = preset
    else:
        resolved = load_preset(preset, _overrides(settings), root=root)
    run = default_run_folder(resolved) if out is None else RunFolder(out)
    return train_run(resolved, open_data(resolved, root), run, observer=observer)


def open_dataset(root: Path | str, *, layout: Layout = "auto", trial: int = 1) -> Dataset:
    """Read a data set's lists: unlabelled training images and, separately, identities and test images.

    Args:
        root: Folder of the data set, or a CSV file.
        layout: Layout of the data set; ``auto`` detects it.
        trial: Which of RegDB's ten trials.

    Returns:
        The data set; no image is decoded.

    Raises:
        UserError: The folder does not have the layout, or a list cannot be read.
    """
    return open_layout(layout, Path(root), trial=trial)


def _features(values: Embeddings | ArrayLike) -> NDArray[np.float32]:
    return values.features if isinstance(values, Embeddings) else np.asarray(values, dtype=np.float32)


def _overrides(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings as ``key=value``; the values are JSON, which is also YAML."""
    words: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and key != "backbone":
            words += _overrides(value, f"{prefix}{key}.")
        else:
            words.append(f"{prefix}{key}={json.dumps(value, default=str)}")
    return words
