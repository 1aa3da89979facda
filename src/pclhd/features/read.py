"""Files of features and of values for their rows, made by any program."""

from __future__ import annotations

import csv
import io
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pclhd.errors import ArgumentError, UserError
from pclhd.parsing import open_tensors, read_text

if TYPE_CHECKING:
    from torch import Tensor

FEATURE_SUFFIXES = (".npy", ".safetensors", ".parquet")
# A .parquet column with one of these names is preferred.
_USUAL_COLUMNS = ("embedding", "embeddings", "feature", "features")
VALUE_SUFFIXES = (".npy", ".csv", ".txt")

VISIBLE, INFRARED = 0, 1
_MODALITY_NAMES = {
    **dict.fromkeys(["visible", "vis", "v", "rgb", "color", "colour", "0"], VISIBLE),
    **dict.fromkeys(["infrared", "ir", "i", "nir", "thermal", "t", "1"], INFRARED),
}

_VALUES_PER_BLOCK = 2**22


@dataclass(frozen=True)
class FeatureTable:
    """Features and the other columns of their file.

    Attributes:
        features: (N, D) float32, finite, N and D at least 1.
        columns: Other values by their names in the file, (N,) each.
        key: Name of the tensor or column with the features; None for a ``.npy`` file.
    """

    features: NDArray[np.float32]
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    key: str | None = None

    def __len__(self) -> int:
        return len(self.features)


def read_features(path: Path, *, key: str | None = None) -> FeatureTable:
    """Read features from a ``.npy``, ``.safetensors`` or ``.parquet`` file, without running code from it.

    Values may be floats or integers of any size; they become float32. Nothing is normalised.

    Args:
        path: ``.npy``: one (N, D) array. ``.safetensors``: one (N, D) tensor; other tensors of shape (N,) are columns.
            ``.parquet``: one column of lists of D numbers each; other columns are read too, except further lists.
        key: The tensor or column with the features, if there are several. In a ``.parquet`` file, a column named
            ``embedding``, ``embeddings``, ``feature`` or ``features`` is preferred.

    Raises:
        UserError: No such file, another kind of file, a damaged one, no features in it or several, rows of different
            widths, or a value that is missing, NaN or infinite (the message names its row, counted from 0).
    """
    suffix = path.suffix.lower()
    if suffix not in FEATURE_SUFFIXES:
        raise UserError(f"{path}: not a kind of file with features; expected {listed(FEATURE_SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected features in {listed(FEATURE_SUFFIXES)}")
    if suffix == ".npy":
        if key is not None:
            raise ArgumentError(
                "key", f"{path} is a .npy file, which contains one array without a name; leave it out", value=key
            )
        return FeatureTable(_as_features(load_array(path), path))
    if suffix == ".safetensors":
        return _read_safetensors(path, key)
    return _read_parquet(path, key)


def read_modality(wanted: str, table: FeatureTable, source: Path) -> NDArray[np.int64]:
    """The modality of each row as (N,) codes: 0 visible, 1 infrared.

    Values may be names (visible, rgb, v; infrared, ir, nir, thermal, t; in any case) or the numbers 0 and 1.

    Args:
        wanted: A column of `table`, or the path of a ``.npy``, ``.csv`` or ``.txt`` file with one value per row.
        table: The features.
        source: File of the features, for messages.

    Raises:
        UserError: No such column or file, an unknown value, a wrong number of values, or only one modality.
    """
    values, origin = _row_values(wanted, table, source, argument="modality", column="modality")
    codes = np.empty(len(values), dtype=np.int64)
    # There are few different values, even in a million rows; each is checked once.
    names, inverse = np.unique(values.astype(str), return_inverse=True)
    for number, name in enumerate(names):
        code = _MODALITY_NAMES.get(_plain_number(name.strip()).casefold())
        if code is None:
            raise UserError(
                f"{origin}, row {int(np.argmax(inverse == number))}: modality {str(name)!r} is unknown; expected "
                "visible (rgb, v, 0) or infrared (ir, nir, thermal, t, 1)"
            )
        codes[inverse == number] = code
    present = np.unique(codes)
    if len(present) == 1:
        only = "visible" if present[0] == VISIBLE else "infrared"
        raise ArgumentError(
            "modality", f"all {len(codes)} rows are {only}; expected both modalities; leave it out", value=origin
        )
    return codes


def read_identities(wanted: str, table: FeatureTable, source: Path) -> NDArray[np.int64]:
    """The identity of each row, numbered from 0 in the order of the names: (N,). For evaluation only.

    Arguments and errors are those of `read_modality`; values may be names or numbers.
    """
    values, _ = _row_values(wanted, table, source, argument="identities", column="identity")
    return np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)


def load_array(path: Path) -> NDArray[Any]:
    """Open a ``.npy`` file as a memory map, without unpickling.

    Raises:
        UserError: It cannot be read, is damaged, or contains Python objects.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(6)
            if begins != b"\x93NUMPY":
                raise UserError(
                    f"{path}: {'is empty' if not begins else 'is not a .npy file inside'}; expected one plain array "
                    "as np.save writes it"
                )
            file.seek(0)
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            # Only np.load reads newer headers; it refuses objects too, but with a less clear message.
            if read_header is not None and read_header(file)[2].hasobject:
                raise UserError(
                    f"{path}: contains Python objects, which could run code when loaded; expected numbers; save a "
                    "plain array: np.save(FILE, np.stack(list(rows)))"
                )
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, tokenize.TokenError) as error:
        # numpy reads the header as Python's words, and fails as Python does.
        raise UserError(f"{path}: is damaged ({error or type(error).__name__}); write it again with np.save") from error
    return array


def load_pyarrow(path: Path) -> Any:
    """The optional package for ``.parquet`` files.

    Args:
        path: The file to read or write, for the message.

    Raises:
        UserError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"{path}: .parquet files need pyarrow; install it with: pip install pyarrow, or use another format"
        ) from error
    return pyarrow


def _as_features(array: NDArray[Any], path: Path, name: str = "") -> NDArray[np.float32]:
    """A checked float32 copy, made block by block so that a large file is not in memory twice."""
    what = f"{path}{f', {name!r}' if name else ''}"
    if array.ndim != 2:
        raise UserError(f"{what}: has shape {_shape(array.shape)}; expected samples × width, one row per sample")
    if array.dtype.kind not in "fiu":
        raise UserError(f"{what}: holds {array.dtype} values; expected numbers such as float32")
    if array.size == 0:
        raise UserError(f"{what}: is empty, shape {_shape(array.shape)}; expected at least one sample and one column")
    features = np.empty(array.shape, dtype=np.float32)
    rows = max(1, _VALUES_PER_BLOCK // array.shape[1])
    for start in range(0, len(array), rows):
        _copy_rows(array[start : start + rows], features, start, what)
    return features


def _copy_rows(values: NDArray[Any], features: NDArray[np.float32], start: int, what: str) -> None:
    """Copy rows into `features` from row `start`, and refuse values that are not finite float32."""
    into = features[start : start + len(values)]
    with np.errstate(over="ignore", invalid="ignore"):
        into[:] = values
    finite = np.isfinite(into)
    if finite.all():
        return
    row, column = (int(position) for position in np.argwhere(~finite)[0])
    value = values[row, column]
    if np.isfinite(value):
        raise UserError(f"{what}, row {start + row}: {value:g} is beyond the range of float32; scale the features down")
    raise UserError(
        f"{what}, row {start + row}: holds {'NaN' if np.isnan(value) else 'infinity'} (column {column}); expected "
        "finite numbers; drop the row or fix the features"
    )


def _read_safetensors(path: Path, key: str | None) -> FeatureTable:
    from safetensors import SafetensorError

    try:
        # With torch, which supports the half-precision types that numpy lacks.
        with open_tensors(path, "pt") as file:
            names = sorted(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            key = _choose(key, [name for name in names if len(shapes[name]) == 2], shapes, path)
            features = _as_features(_to_array(file.get_tensor(key)), path, key)
            columns = {
                name: _to_array(file.get_tensor(name))
                for name in names
                if shapes[name] == (len(features),) and name != key
            }
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: not a readable safetensors file ({error}); write it again with safetensors' save_file"
        ) from error
    return FeatureTable(features, columns, key)


def _to_array(tensor: Tensor) -> NDArray[Any]:
    try:
        array: NDArray[Any] = tensor.numpy()
    except TypeError:  # bfloat16 and narrower
        array = tensor.float().numpy()
    return array


def _choose(key: str | None, candidates: Sequence[str], shapes: Mapping[str, tuple[int, ...]], path: Path) -> str:
    """The tensor with the features: the named one, or the only possible one."""
    content = listed([f"{name} {_shape(shape)}" for name, shape in shapes.items()]) or "nothing"
    if key is not None:
        if key not in shapes:
            raise ArgumentError("key", f"{path} has no such tensor; it has {content}", value=key)
        return key
    if not candidates:
        raise UserError(f"{path}: has no tensor of shape samples × width; it has {content}")
    if len(candidates) > 1:
        raise ArgumentError(
            "key", f"{path} has several tensors that may be the features: {listed(candidates)}; choose one"
        )
    return candidates[0]


def _read_parquet(path: Path, key: str | None) -> FeatureTable:
    pa = load_pyarrow(path)
    try:
        with pa.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
            if twice:
                raise UserError(f"{path}: has several columns named {twice[0]!r}; expected one; rename them")
            key = _choose_column(key, schema, path)
            features = _read_lists(file, key, path)
            carried = [column.name for column in schema if not pa.types.is_nested(column.type)]
            table = file.read(columns=carried)
            columns = {name: _column_values(table.column(name)) for name in carried}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable .parquet file ({error}); write it again") from error
    return FeatureTable(features, columns, key)


def _choose_column(key: str | None, schema: Any, path: Path) -> str:
    from pyarrow import types

    def holds_numbers(kind: Any) -> bool:
        if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
            return False
        return bool(types.is_floating(kind.value_type) or types.is_integer(kind.value_type))

    content = listed([f"{column.name} ({column.type})" for column in schema]) or "no column"
    if key is not None:
        if key not in schema.names:
            raise ArgumentError("key", f"{path} has no such column; it has {content}", value=key)
        if not holds_numbers(schema.field(key).type):
            raise ArgumentError(
                "key",
                f"the column of {path} is of type {schema.field(key).type}; expected a list of numbers per row; the "
                f"file has {content}",
                value=key,
            )
        return key
    candidates: list[str] = [column.name for column in schema if holds_numbers(column.type)]
    usual = [name for name in candidates if name.lower() in _USUAL_COLUMNS]
    if len(usual) == 1:
        return usual[0]
    if not candidates:
        raise UserError(f"{path}: has no column with a list of numbers per row; it has {content}")
    if len(candidates) > 1:
        raise ArgumentError(
            "key", f"{path} has several columns that may be the features: {listed(candidates)}; choose one"
        )
    return candidates[0]


def _read_lists(file: Any, name: str, path: Path) -> NDArray[np.float32]:
    """A column of lists as an array, a few thousand rows at a time."""
    what = f"{path}, {name!r}"
    features: NDArray[np.float32] | None = None
    start = 0
    for batch in file.iter_batches(batch_size=4096, columns=[name]):
        lists = batch.column(0)
        if lists.null_count:
            raise UserError(f"{what}, row {start + _first_null(lists)}: has no features; drop the row or fill it")
        if hasattr(lists.type, "list_size"):
            lengths = np.full(len(lists), lists.type.list_size)
        else:
            lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        if features is None:
            features = np.empty((file.metadata.num_rows, int(lengths[0])), dtype=np.float32)
        width = features.shape[1]
        unequal = np.flatnonzero(lengths != width)
        if len(unequal):
            row = int(unequal[0])
            raise UserError(
                f"{what}, row {start + row}: holds {lengths[row]} numbers, row 0 holds {width}; expected one width"
            )
        numbers = lists.flatten()
        if width and numbers.null_count:
            row = start + _first_null(numbers) // width
            raise UserError(f"{what}, row {row}: a number is missing; drop the row or fill it")
        values = numbers.to_numpy(zero_copy_only=False).reshape(len(lists), width)
        _copy_rows(values, features, start, what)
        start += len(lists)
    if features is None or features.size == 0:
        raise UserError(f"{what}: is empty; expected at least one row with at least one number")
    return features


def _first_null(array: Any) -> int:
    return int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))


def _column_values(column: Any) -> NDArray[Any]:
    """A column as an array that can be written again: numbers as numbers, all else as Python objects."""
    from pyarrow import types

    kind = column.type
    if column.null_count == 0 and (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        numbers: NDArray[Any] = column.to_numpy()
        return numbers
    values = np.empty(len(column), dtype=object)
    try:
        values[:] = column.to_pylist()
    except (ValueError, OverflowError):  # times that Python cannot hold, such as pandas' nanoseconds
        values[:] = column.cast("string").to_pylist()
    return values


def _row_values(
    wanted: str, table: FeatureTable, source: Path, *, argument: str, column: str
) -> tuple[NDArray[Any], str]:
    """One value per row, from a column of the features' file or a separate file; and its origin, for messages."""
    path = Path(wanted)
    if wanted in table.columns:
        values, origin = table.columns[wanted], f"{source}, {wanted!r}"
    elif path.suffix.lower() in VALUE_SUFFIXES:
        if not path.is_file():
            raise ArgumentError(
                argument, f"no such file; expected one value per row in {listed(VALUE_SUFFIXES)}", value=wanted
            )
        values, origin = _read_values(path, column, len(table)), wanted
    else:
        raise ArgumentError(
            argument,
            f"{source} has no such column (it has {listed(table.columns) or 'none'}); expected a column, or a "
            f"{listed(VALUE_SUFFIXES)} file with one value per row",
            value=wanted,
        )
    if values.shape != (len(table),):
        raise UserError(
            f"{origin}: has {_shape(values.shape)} values, but {source} has {len(table)} rows; expected one each"
        )
    if values.dtype.kind not in "iufUSO":
        raise UserError(f"{origin}: holds {values.dtype} values; expected names or whole numbers")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    missing = _missing(values)
    if missing.any():
        raise UserError(f"{origin}, row {int(np.argmax(missing))}: has no value; expected one in every row")
    return values, origin


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        absent: NDArray[np.bool_] = np.isnan(values)
        return absent
    if values.dtype.kind in "iu":
        return np.zeros(len(values), dtype=np.bool_)
    return np.array([value is None or not str(value).strip() for value in values], dtype=np.bool_)


def _read_values(path: Path, column: str, number: int) -> NDArray[Any]:
    if path.suffix.lower() == ".npy":
        return load_array(path)
    text = read_text(path, "check the file, and save it as UTF-8").removeprefix("\ufeff")
    if path.suffix.lower() == ".txt":
        return np.array(text.splitlines(), dtype=object)
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise UserError(f"{path}: is not readable as CSV ({error}); expected values split by commas") from error
    if not rows:
        raise UserError(f"{path}: is empty; expected one value per row")
    header, body = rows[0], rows[1:]
    if column in header:
        at = header.index(column)
    elif len(header) > 1:
        raise UserError(f"{path}: has columns {listed(header)}, but none named {column}; name it in the first line")
    else:
        at = 0
        # A file of one column may have no heading.
        if len(rows) == number:
            body = rows
        elif _is_value(header[0], body):
            raise UserError(
                f"{path}: holds {len(rows)} values without a heading, but there are {number} rows; correct it"
            )
    for line, row in enumerate(body):
        if len(row) != len(header):
            raise UserError(
                f"{path}, row {line}: has {len(row)} values, but the first line has {len(header)}; fix the row"
            )
    return np.array([row[at] for row in body], dtype=object)


def _is_value(heading: str, body: Sequence[Sequence[str]]) -> bool:
    """Whether the first line of a file of one column is one of its values."""
    name = heading.strip()
    return name.casefold() in _MODALITY_NAMES or name.replace(".", "", 1).isdigit() or [heading] in body


def _plain_number(name: str) -> str:
    """Without a trailing ``.0``: some programs write integers as floats."""
    return name.removesuffix(".0")


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "()"


def listed(names: Iterable[str]) -> str:
    """Names with commas between them."""
    return ", ".join(names)
