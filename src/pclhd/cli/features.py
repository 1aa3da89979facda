"""Verbs that compute features and cluster them."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pclhd.cli.options import AnyModel, Device, Force, Json, Runtime, verb, with_fields
from pclhd.cli.terminal import (
    complain,
    deprecated,
    embedding_progress,
    print_warning,
    say,
    say_passed_over,
    show,
    status,
)
from pclhd.clustering.options import JOINT_DEFAULTS, ClusteringMethod, ClusteringOptions
from pclhd.config import Layout


@verb(quiet=True)
def embed(
    run: AnyModel,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Output file: .parquet, .safetensors, or .npy (embeddings only).")
    ],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data set to embed.", show_default="the run's")
    ] = None,
    layout: Annotated[Layout | None, typer.Option(help="Layout of the data set.", show_default="the run's")] = None,
    split: Annotated[Literal["all", "train", "test"], typer.Option(help="Images of the data set to embed.")] = "all",
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Embed the images in this folder, not a data set; may be repeated."),
    ] = None,
    modality: Annotated[
        Literal["visible", "infrared"] | None, typer.Option(help="Modality of the images given by --images.")
    ] = None,
    device: Device = "auto",
    runtime: Runtime = "torch",
    weights: Annotated[
        Literal["start", "stage1", "final"], typer.Option(help="Which weights of the run folder.")
    ] = "final",
    force: Force = False,
) -> None:
    """Embed images with a run's weights; writes one row per image, for pclhd cluster.

    Example: pclhd embed RUN --data DIR --out features.parquet
    """
    from pclhd.data.records import Modality
    from pclhd.workflows.embed import EmbeddingRequest, run_embedding

    request = EmbeddingRequest(
        run=run,
        out=out,
        data=data,
        layout=layout,
        split=split,
        images=tuple(images or ()),
        modality=None if modality is None else Modality(modality),
        device=device,
        runtime=runtime,
        weights=weights,
        force=force,
    )
    try:
        with embedding_progress() as on_progress:
            count, passed_over = run_embedding(request, on_progress)
    except KeyboardInterrupt:
        complain("interrupted; nothing was written")
        sys.exit(130)
    say_passed_over(passed_over)
    say(f"wrote {out}: {count:,} embeddings")


@verb(quiet=True)
@with_fields(
    ClusteringOptions,
    panel="Clustering options (named as in clustering.… and method.… of a training)",
    without={"device"},
    also={name: f"; {size} for both modalities together" for name, size in JOINT_DEFAULTS.items()},
)
def cluster(
    features: Annotated[
        Path, typer.Argument(metavar="FEATURES", help="A .npy, .safetensors or .parquet file with one row per image.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file: .parquet, .csv, or .npy (labels only).")],
    given: dict[str, Any],
    modality: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Which rows are visible (visible, rgb, v, 0) and which infrared (infrared, ir, t, 1).",
        ),
    ] = None,
    per_modality: Annotated[
        bool, typer.Option("--per-modality", help="Cluster each modality separately, then match the clusters.")
    ] = False,
    matching: Annotated[
        Literal["progressive", "mutual", "transport"] | None,
        typer.Option(help="With --per-modality: how to match the clusters.", show_default="progressive"),
    ] = None,
    normalise: Annotated[
        bool,
        typer.Option("--normalise/--as-they-are", help="Scale rows to length 1 first, as the method expects."),
    ] = True,
    identities: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE", help="True identities, to measure the clusters. They do not affect the labels."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Tensor or column with the features, if the file has several."),
    ] = None,
    device: Device = "cpu",
    force: Force = False,
    as_json: Json = False,
    method: Annotated[ClusteringMethod | None, typer.Option(hidden=True)] = None,
    match: Annotated[Literal["progressive", "mutual", "transport"] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Cluster features from any source, both modalities together or each separately; writes one label per row.

    Example: pclhd cluster features.npy --modality modality.txt --out labels.parquet
    """
    from pclhd.workflows.cluster import ClusterRequest, run_clustering
    from pclhd.workflows.cluster_summary import summary_text

    if method is not None:
        deprecated("--method", f"--clustering {method}")
        given.setdefault("clustering", method)
    if match is not None:
        deprecated("--match", f"--matching {match}")
    request = ClusterRequest(
        features=features,
        out=out,
        key=key,
        modality=modality,
        identities=identities,
        per_modality=per_modality,
        matching=matching or match,
        normalise=normalise,
        options=ClusteringOptions.checked({**given, "device": device}),
        force=force,
    )
    try:
        with warnings.catch_warnings():
            warnings.showwarning = print_warning
            summary = run_clustering(request, status)
    except KeyboardInterrupt:
        complain("interrupted; nothing was written")
        sys.exit(130)
    if as_json:
        show(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False))
        return
    show(summary_text(summary))
    say(f"wrote {out}: {', '.join(summary.columns)}")
