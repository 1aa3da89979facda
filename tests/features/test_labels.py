"""Files of labels: every kind of value, and all or nothing."""

from __future__ import annotations

import csv
import datetime
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pclhd.errors import UserError
from pclhd.features.labels import check_labels_path, write_labels
from pclhd.features.write import write_npy

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NAMES = ["a", "b, c", 'd "e"', "line\nend", "日本", None]


def columns() -> dict[str, NDArray[Any]]:
    return {
        "row": np.arange(6),
        "name": np.array(NAMES, dtype=object),
        "kind": np.array(["visible", "infrared"] * 3),
        "flag": np.array([True, False] * 3),
        "day": np.array([datetime.date(2024, 5, day) for day in range(1, 7)], dtype=object),
        "label": np.array([0, 1, -1, 2, 2, 3]),
        "confidence": np.array([0.1, 1 / 3, 0, 1, 1e-7, 0.999], dtype=np.float32),
    }


def test_parquet_keeps_values_and_types(tmp_path: Path) -> None:
    write_labels(tmp_path / "l.parquet", columns(), {"pclhd": "how"})
    table = pq.read_table(tmp_path / "l.parquet")
    assert table.column_names == list(columns())
    for name, values in columns().items():
        assert table.column(name).to_pylist() == values.tolist()
    assert table.schema.field("label").type == pa.int64()
    assert table.schema.field("confidence").type == pa.float32()
    assert table.schema.metadata == {b"pclhd": b"how"}


def test_csv_keeps_values(tmp_path: Path) -> None:
    write_labels(tmp_path / "l.csv", columns())
    content = (tmp_path / "l.csv").read_bytes()
    assert b"\r" not in content
    with (tmp_path / "l.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == list(columns())
    assert [row[1] for row in rows] == [name or "" for name in NAMES]
    assert [row[4] for row in rows] == [f"2024-05-0{day}" for day in range(1, 7)]
    assert [int(row[5]) for row in rows] == columns()["label"].tolist()
    assert [np.float32(row[6]) for row in rows] == columns()["confidence"].tolist()
    assert rows[0][6] == "0.1", "the shortest decimals of a float32"


def test_npy_holds_the_labels(tmp_path: Path) -> None:
    write_labels(tmp_path / "l.npy", columns())
    found = np.load(tmp_path / "l.npy")
    assert found.dtype == np.int64
    assert found.tolist() == columns()["label"].tolist()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_failure_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("no")

    wrong = {**columns(), "odd": np.array([Unprintable()] * 6, dtype=object)}
    with pytest.raises((RuntimeError, pa.ArrowInvalid)):
        write_labels(tmp_path / f"l.{suffix}", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_path_is_checked_before(tmp_path: Path) -> None:
    check_labels_path(tmp_path / "l.PARQUET")
    (tmp_path / "l.csv").mkdir()
    for name, said in (("l.csv", "is a folder"), ("l.txt", "expected .parquet"), ("none/l.csv", "no folder")):
        with pytest.raises(UserError, match=said):
            check_labels_path(tmp_path / name)


def test_text_that_a_spreadsheet_would_run(tmp_path: Path) -> None:
    names = ["=1+1", "+cmd", "-x", "@sum", "\tx", "-\rx", "-1.5", "+3", "1e-3", "plain", "a=b"]
    columns = {"=name": np.array(names, dtype=object), "label": np.arange(-1, 10)}
    write_labels(tmp_path / "l.csv", columns)
    with (tmp_path / "l.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["'=name", "label"]
    escaped = [f"'{name}" for name in ("=1+1", "+cmd", "-x", "@sum", "\tx", "-\nx")]
    assert [name for name, _ in rows] == escaped + names[6:]
    assert rows[0][1] == "-1"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left on device"):
        write_npy(full, np.zeros(100_000))


def test_an_array_is_written_as_numpy_writes_it() -> None:
    for array in (np.arange(7), np.zeros((3, 0)), np.asfortranarray(np.arange(6.0).reshape(2, 3))):
        ours, theirs = io.BytesIO(), io.BytesIO()
        write_npy(ours, array)
        np.save(theirs, array)
        assert ours.getvalue() == theirs.getvalue()
