"""Write a gallery to one Parquet file with thumbnails and a map, for programs that show or search embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pclhd import __version__
from pclhd.errors import ArgumentError
from pclhd.features.read import load_pyarrow
from pclhd.files import check_output, claiming, replacing
from pclhd.gallery.rows import embeddings_of
from pclhd.gallery.store import NARROW_COLUMNS, Store

Map = Literal["tsne", "pca", "none"]
MAPS: tuple[Map, ...] = ("tsne", "pca", "none")

#: t-SNE of more rows would take hours; these get the place of the most similar row that was drawn.
_MOST_PLACED = 20_000
_PERPLEXITY = 30.0
# Of a row that was added while the map was made.
_UNPLACED = (float("nan"), float("nan"))


def export_gallery(
    store: Store, out: Path, *, where: str | None, map_by: Map, seed: int, force: bool, model_id: str
) -> int:
    """Write rows to a Parquet file.

    The columns are those of `pclhd.gallery.records.GalleryRow`, and ``embedding``; ``thumbnail`` (a struct of ``bytes``
    and ``path``, which is how datasets of Hugging Face hold images); ``x`` and ``y``, the place on the map.

    Args:
        store: The gallery.
        out: The file, ``.parquet``.
        where: A condition; None for all rows.
        map_by: ``tsne``, ``pca``, or ``none`` for no map.
        seed: Seed of the map.
        force: Whether to replace a file.
        model_id: Id of the encoder, for the file's metadata.

    Returns:
        The number of rows.

    Raises:
        UserError: pyarrow is missing, or the file exists or cannot be written.
    """
    check_output(out, (".parquet",), "a gallery", force=force)
    if map_by not in MAPS:
        raise ArgumentError("map", f"is one of {', '.join(MAPS)}", value=map_by)
    pa = load_pyarrow(out)
    with claiming(out, replace=force):
        places = None if map_by == "none" else _places(store, where, map_by, seed)
        facts = {"pclhd": __version__, "model_id": model_id, "map": map_by, "seed": seed}
        written, writer = 0, None
        with replacing(out, replace=force) as file:
            for page in store.pages([*NARROW_COLUMNS, "embedding", "thumbnail"], where):
                table = _exported(pa, page, places)
                if writer is None:
                    schema = table.schema.with_metadata({"pclhd": json.dumps(facts)})
                    writer = pa.parquet.ParquetWriter(file, schema)
                writer.write_table(table.replace_schema_metadata(schema.metadata))
                written += len(table)
            if writer is None:
                raise ArgumentError("where", "no image satisfies the filter, so there is nothing to export")
            writer.close()
    return written


def _exported(pa: Any, page: Any, places: dict[int, tuple[float, float]] | None) -> Any:
    pictures = page["thumbnail"].combine_chunks()
    names = pa.array([f"{one}.jpg" for one in page["id"].to_pylist()], pa.string())
    struct = pa.StructArray.from_arrays([pictures.cast(pa.binary()), names], names=["bytes", "path"],
                                        mask=pictures.is_null())  # fmt: skip
    columns = [*NARROW_COLUMNS, "embedding"]
    table = page.select(columns).append_column("thumbnail", struct)
    if places is not None:
        where = np.array(
            [places.get(number, _UNPLACED) for number in page["number"].to_pylist()], dtype=np.float64
        ).reshape(-1, 2)
        table = table.append_column("x", pa.array(where[:, 0])).append_column("y", pa.array(where[:, 1]))
    return table


def _places(store: Store, where: str | None, map_by: Map, seed: int) -> dict[int, tuple[float, float]]:
    """The place of each row on a map, by its number."""
    numbers, vectors = [], []
    for page in store.pages(["embedding"], where):
        numbers.append(page["number"].to_numpy())
        vectors.append(embeddings_of(page))
    if not numbers:
        return {}
    number = np.concatenate(numbers)
    place = flat_map(np.concatenate(vectors), map_by, seed)
    return {int(one): (float(x), float(y)) for one, (x, y) in zip(number, place, strict=True)}


def flat_map(embeddings: NDArray[np.float32], map_by: Map, seed: int) -> NDArray[np.float64]:
    """Places of embeddings in the plane; similar ones lie together.

    Args:
        embeddings: (N, D) of unit length.
        map_by: ``tsne``: by scikit-learn's t-SNE, of at most 20,000 rows drawn at random; others get the place of the
            most similar of these. ``pca``: the two main components.
        seed: Seed of the drawing and of t-SNE.

    Returns:
        (N, 2).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    number = len(embeddings)
    if number == 1:
        return np.zeros((1, 2))
    if number == 2 or map_by == "pca":
        return np.asarray(PCA(2, random_state=seed).fit_transform(embeddings), dtype=np.float64)
    drawn = np.arange(number)
    if number > _MOST_PLACED:
        drawn = np.sort(np.random.default_rng(seed).choice(number, _MOST_PLACED, replace=False))
    perplexity = min(_PERPLEXITY, (len(drawn) - 1) / 3)
    placed = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, metric="cosine").fit_transform(
        embeddings[drawn]
    )
    place = np.empty((number, 2))
    base = embeddings[drawn]
    for start in range(0, number, 4096):
        nearest = (embeddings[start : start + 4096] @ base.T).argmax(axis=1)
        place[start : start + 4096] = placed[nearest]
    place[drawn] = placed
    return place
