"""Files of labels, one row per sample."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from pclhd.features.read import load_pyarrow
from pclhd.features.write import write_npy
from pclhd.files import check_output, replacing

LABEL_SUFFIXES = (".parquet", ".csv", ".npy")
_FORMULA_BEGINS = ("=", "+", "-", "@", "\t")
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def check_labels_path(path: Path, *, force: bool = False) -> None:
    """Raise an error now for a file of labels that could not be written later.

    Raises:
        UserError: As `check_output`, or a package is missing.
    """
    check_output(path, LABEL_SUFFIXES, "labels", force=force)
    if path.suffix.lower() == ".parquet":
        load_pyarrow(path)


def write_labels(
    path: Path,
    columns: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    *,
    replace: bool = True,
) -> None:
    """Write one row per sample; a failure leaves nothing.

    Args:
        path: ``.parquet`` or ``.csv``: all columns. ``.npy``: only the column ``label``.
        columns: (N,) arrays by name, one of them ``label``.
        metadata: What a ``.parquet`` file says about itself.
        replace: Whether it may replace a file.

    Raises:
        UserError: The file cannot be written.
    """
    suffix = path.suffix.lower()
    with replacing(path, replace=replace) as file:
        if suffix == ".npy":
            write_npy(file, columns["label"])
        elif suffix == ".csv":
            write_csv(file, columns)
        else:
            _write_parquet(file, path, columns, metadata or {})


def write_csv(file: BinaryIO, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns as CSV, with text that no spreadsheet takes for a formula.

    Args:
        file: Where to write.
        columns: (N,) arrays by name.
    """
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_harmless, columns))
    writer.writerows(zip(*map(_as_text, columns.values()), strict=True))
    text.flush()
    text.detach()


def _as_text(values: NDArray[Any]) -> Iterable[str]:
    # numpy writes the shortest decimals that give the same float32 again; Python would write those of the float64.
    texts = ("" if value is None else str(value) for value in values)
    return texts if values.dtype.kind in "biuf" else map(_harmless, texts)


def _harmless(text: str) -> str:
    """Text that a spreadsheet does not take for a formula: one that begins like it gets an apostrophe before it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # a bare carriage return would not be quoted
    if not text.startswith(_FORMULA_BEGINS) or _NUMBER.fullmatch(text):
        return text
    return f"'{text}"


def _write_parquet(
    file: BinaryIO, path: Path, columns: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    pa = load_pyarrow(path)
    arrays = {name: _arrow(pa, values) for name, values in columns.items()}
    pa.parquet.write_table(pa.table(arrays).replace_schema_metadata(dict(metadata)), file)


def _arrow(pa: Any, values: NDArray[Any]) -> Any:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # whole numbers beyond 64 bits, or of several kinds
        return pa.array([None if value is None else str(value) for value in values])
