"""Files of labels, one row per sample."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pclhd.features.read import load_pyarrow
from pclhd.files import check_output, replacing

LABEL_SUFFIXES = (".parquet", ".csv", ".npy")


def check_labels_path(path: Path, *, force: bool = False) -> None:
    """Raise an error now for a file of labels that could not be written later.

    Raises:
        UserError: As `check_output`, or a package is missing.
    """
    check_output(path, LABEL_SUFFIXES, "labels", force=force)
    if path.suffix.lower() == ".parquet":
        load_pyarrow(path)


def write_labels(path: Path, columns: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> None:
    """Write one row per sample; a failure leaves no file.

    Args:
        path: ``.parquet`` or ``.csv``: all columns. ``.npy``: only the column ``label``.
        columns: (N,) arrays by name, one of them ``label``.
        metadata: Metadata of a ``.parquet`` file.

    Raises:
        UserError: The file cannot be written.
    """
    suffix = path.suffix.lower()
    with replacing(path) as file:
        if suffix == ".npy":
            np.save(file, columns["label"])
        elif suffix == ".csv":
            _write_csv(file, columns)
        else:
            _write_parquet(file, path, columns, metadata or {})


def _write_csv(file: BinaryIO, columns: Mapping[str, NDArray[Any]]) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*map(_as_text, columns.values()), strict=True))
    text.flush()
    text.detach()


def _as_text(values: NDArray[Any]) -> Iterable[str]:
    # numpy writes the shortest decimal that gives the same float32; Python would write that of the float64.
    return ("" if value is None else str(value) for value in values)


def _write_parquet(
    file: BinaryIO, path: Path, columns: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    pa = load_pyarrow(path)
    arrays = {name: pa.array(values) for name, values in columns.items()}
    pa.parquet.write_table(pa.table(arrays).replace_schema_metadata(dict(metadata)), file)
