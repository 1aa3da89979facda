"""Verbs that make features and cluster them."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from pclhd.cli.terminal import embedding_progress, errors, print_warning, say_passed_over, status


def embed(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="File to make: .parquet, .safetensors, or .npy (embeddings only).")],
    data: Annotated[Path | None, typer.Option(help="Data set to embed; by default the run's own.")] = None,
    layout: Annotated[
        Literal["auto", "sysu", "regdb", "llcm", "own"] | None,
        typer.Option(help="Its layout.", show_default="the run's"),
    ] = None,
    split: Annotated[Literal["all", "train", "test"], typer.Option(help="Which of its images.")] = "all",
    images: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Instead of a data set: a folder of images; repeatable.")
    ] = None,
    modality: Annotated[
        Literal["visible", "infrared"] | None, typer.Option(help="What light those images were taken in.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute; auto takes a GPU where there is one.")] = "auto",
) -> None:
    """Embed images with a run's final weights; writes a row per image, ready for `pclhd cluster`.

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
    )
    try:
        with embedding_progress() as on_progress:
            count, passed_over = run_embedding(request, on_progress)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was written", highlight=False)
        sys.exit(130)
    say_passed_over(passed_over)
    typer.echo(f"wrote {out}: {count:,} embeddings")


def cluster(
    features: Annotated[Path, typer.Argument(metavar="FEATURES", help=".npy, .safetensors or .parquet, a row each.")],
    out: Annotated[Path, typer.Option(help="File to make: .parquet, .csv, or .npy (labels only).")],
    modality: Annotated[
        str | None,
        typer.Option(metavar="COLUMN|FILE", help="Which rows are visible (rgb, v, 0), which infrared (ir, t, 1)."),
    ] = None,
    per_modality: Annotated[
        bool, typer.Option("--per-modality", help="Cluster each modality by itself, then match the clusters.")
    ] = False,
    match: Annotated[
        Literal["progressive", "mutual", "transport"] | None,
        typer.Option(help="How to match them.", show_default="progressive"),
    ] = None,
    method: Annotated[
        Literal["dbscan", "hdbscan", "agglomerative", "community"], typer.Option(help="How to cluster.")
    ] = "dbscan",
    k1: Annotated[
        int | None,
        typer.Option(help="Neighbours in a neighbourhood; by default 30, and 40 for both modalities together."),
    ] = None,
    k2: Annotated[
        int | None,
        typer.Option(help="Neighbours averaged over; by default 6, and 32 for both modalities together."),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|auto",
            help="Largest Jaccard distance within a cluster (dbscan, agglomerative).",
            show_default="0.6",
        ),
    ] = None,
    min_samples: Annotated[
        int | None,
        typer.Option(
            help="Samples that make a dense place (dbscan), or the smallest cluster (the others).", show_default="4"
        ),
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Higher makes smaller clusters (community).", show_default="the method's")
    ] = None,
    search: Annotated[
        Literal["auto", "exact", "approximate"],
        typer.Option(help="How to find neighbours; auto looks at the number of samples."),
    ] = "auto",
    balanced_neighbours: Annotated[
        bool, typer.Option("--balanced-neighbours", help="Half of the neighbours from each modality.")
    ] = False,
    outliers: Annotated[
        Literal["keep", "rescue", "drop", "both"],
        typer.Option(help="Give noise to clear clusters (rescue), make doubtful members noise (drop)."),
    ] = "keep",
    normalise: Annotated[
        bool, typer.Option("--normalise/--as-they-are", help="Scale rows to length 1 first, as the method expects.")
    ] = True,
    identities: Annotated[
        str | None,
        typer.Option(metavar="COLUMN|FILE", help="True identities, to measure the clusters; no label depends on them."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Tensor or column that holds the features, where there are several.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where neighbours are searched, such as cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Cluster features that were made anywhere, visible and infrared together or apart; writes a label per row.

    Example: pclhd cluster features.npy --modality modality.txt --out labels.parquet
    """
    from pclhd.workflows.cluster import ClusterRequest, run_clustering
    from pclhd.workflows.cluster_summary import summary_text

    request = ClusterRequest(
        features=features,
        out=out,
        key=key,
        modality=modality,
        identities=identities,
        per_modality=per_modality,
        match=match,
        normalise=normalise,
        method=method,
        k1=k1,
        k2=k2,
        eps=eps,
        min_samples=min_samples,
        resolution=resolution,
        search=search,
        balanced_neighbours=balanced_neighbours,
        outliers=outliers,
        device=device,
    )
    try:
        with warnings.catch_warnings():
            warnings.showwarning = print_warning
            summary = run_clustering(request, status)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was written", highlight=False)
        sys.exit(130)
    if as_json:
        typer.echo(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False))
        return
    typer.echo(summary_text(summary))
    typer.echo(f"wrote {out}: {', '.join(summary.columns)}")
