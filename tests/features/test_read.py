"""Features, modalities and identities from files of other programs: what is read, and one-line errors for the rest."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pclhd.errors import UserError
from pclhd.features.labels import write_labels
from pclhd.features.read import FeatureTable, read_features, read_identities, read_modality

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS, WIDTH = 7, 3
FEATURES = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32) * 5


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_npy(path: Path, array: NDArray[Any]) -> Path:
    np.save(path, array)
    return path


def write_parquet(path: Path, /, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def lists(array: NDArray[Any], value_type: Any = None) -> Any:
    return pa.array(list(array), pa.list_(value_type or pa.float32()))


# What is read.


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint8", "int64", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path: Path, kind: str, order: str) -> None:
    values = np.asarray(np.abs(FEATURES) if kind == "uint8" else FEATURES, order=order).astype(kind)  # type: ignore[call-overload]
    table = read_features(write_npy(tmp_path / "f.npy", values))
    assert table.features.dtype == np.float32
    np.testing.assert_array_equal(table.features, values.astype(np.float32))
    assert table.features.flags.writeable
    assert table.features.flags.c_contiguous
    assert table.columns == {}
    assert table.key is None


def test_many_blocks_give_one_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pclhd.features.read._VALUES_PER_BLOCK", 2 * WIDTH)
    np.testing.assert_array_equal(read_features(write_npy(tmp_path / "f.npy", FEATURES)).features, FEATURES)
    bad = FEATURES.copy()
    bad[5, 1] = np.nan
    assert "row 5: holds NaN (column 1)" in refused(lambda: read_features(write_npy(tmp_path / "bad.npy", bad)))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_safetensors(tmp_path: Path, kind: torch.dtype) -> None:
    tensor = torch.from_numpy(FEATURES).to(kind)
    codes = torch.arange(ROWS)
    others = {"modality": codes, "weight": torch.ones(ROWS, dtype=torch.bfloat16), "epoch": torch.zeros(1)}
    save_file({"emb": tensor, **others}, tmp_path / "f.safetensors")
    table = read_features(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(table.features, tensor.float().numpy())
    assert table.key == "emb"
    # A tensor of another length is not about the rows.
    assert table.columns.keys() == {"modality", "weight"}
    np.testing.assert_array_equal(table.columns["modality"], np.arange(ROWS))


def test_one_of_several_tensors(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    save_file({"a": torch.zeros(ROWS, 2), "b": torch.from_numpy(FEATURES), "c": torch.zeros(2, 2, 2)}, path)
    assert refused(lambda: read_features(path)).endswith(
        "has several tensors that may be the features: a, b; choose one"
    )
    np.testing.assert_array_equal(read_features(path, key="b").features, FEATURES)
    said = refused(lambda: read_features(path, key="d"))
    assert "key=d" in said
    assert "a 7 × 2, b 7 × 3, c 2 × 2 × 2" in said
    assert "shape 2 × 2 × 2" in refused(lambda: read_features(path, key="c"))


@pytest.mark.parametrize("kind", ["halffloat", "float32", "float64", "int32"])
@pytest.mark.parametrize("shape", ["list", "large", "fixed"])
def test_parquet(tmp_path: Path, kind: str, shape: str) -> None:
    value = getattr(pa, {"halffloat": "float16"}.get(kind, kind))()
    types = {"list": pa.list_(value), "large": pa.large_list(value), "fixed": pa.list_(value, WIDTH)}
    values = FEATURES.astype("float16" if kind == "halffloat" else kind)
    path = write_parquet(
        tmp_path / "f.parquet",
        path=[f"{row}.jpg" for row in range(ROWS)],
        vectors=pa.array(list(values), types[shape]),
        camera=pa.array(range(ROWS), pa.int16()),
    )
    table = read_features(path)
    np.testing.assert_array_equal(table.features, values.astype(np.float32))
    assert table.key == "vectors"
    assert table.columns.keys() == {"path", "camera"}
    assert table.columns["camera"].dtype == np.int16
    assert table.columns["path"].tolist() == [f"{row}.jpg" for row in range(ROWS)]


def test_parquet_in_many_pieces(tmp_path: Path) -> None:
    features = np.random.default_rng(1).standard_normal((9001, 2)).astype(np.float32)
    pq.write_table(pa.table({"f": lists(features)}), tmp_path / "f.parquet", row_group_size=1000)
    np.testing.assert_array_equal(read_features(tmp_path / "f.parquet").features, features)


def test_carried_columns_keep_their_values(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    path = write_parquet(
        tmp_path / "f.parquet",
        embedding=lists(FEATURES),
        number=pa.array([1, None, 3, 4, 5, 6, 7]),
        when=[when] * ROWS,
        kind=pa.array(["a", "b"] * 3 + ["a"]).dictionary_encode(),
        flag=[True, False] * 3 + [True],
        other=lists(FEATURES[:, :2]),
        nested=[{"x": 1}] * ROWS,
    )
    table = read_features(path)
    assert table.key == "embedding", "the usual name goes first"
    assert table.columns.keys() == {"number", "when", "kind", "flag"}, "a value per row, no further features"
    assert table.columns["number"].tolist() == [1, None, 3, 4, 5, 6, 7], "no floats for the sake of a gap"
    assert table.columns["when"][0] == when
    assert table.columns["kind"].tolist() == ["a", "b"] * 3 + ["a"]
    assert table.columns["flag"].dtype == np.bool_
    np.testing.assert_array_equal(read_features(path, key="other").features, FEATURES[:, :2])


def test_the_same_features_in_three_formats(tmp_path: Path) -> None:
    save_file({"f": torch.from_numpy(FEATURES)}, tmp_path / "f.safetensors")
    capital = write_npy(tmp_path / "f.npy", FEATURES).rename(tmp_path / "f.NPY")
    for path in (
        capital,
        tmp_path / "f.safetensors",
        write_parquet(tmp_path / "f.parquet", f=lists(FEATURES)),
    ):
        np.testing.assert_array_equal(read_features(path).features, FEATURES)


def test_one_sample_of_one_number(tmp_path: Path) -> None:
    assert read_features(write_npy(tmp_path / "f.npy", np.ones((1, 1)))).features.shape == (1, 1)


# What is refused.


@pytest.mark.parametrize("name", ["f.npy", "f.safetensors", "f.parquet"])
def test_missing_empty_and_foreign_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert "no such file" in refused(lambda: read_features(path))
    path.mkdir()
    assert "no such file" in refused(lambda: read_features(path))
    path.rmdir()
    for content in (b"", b"hello", b"PAR1" * 20, b"\x93NUMPY\x01\x00v\x00{'descr'", bytes(200)):
        path.write_bytes(content)
        assert str(path) in refused(lambda: read_features(path))


@pytest.mark.parametrize("name", ["f.npy", "f.safetensors", "f.parquet"])
def test_cut_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "f.npy":
        write_npy(path, FEATURES)
    elif name == "f.safetensors":
        save_file({"f": torch.from_numpy(FEATURES)}, path)
    else:
        write_parquet(path, f=lists(FEATURES))
    whole = path.read_bytes()
    for kept in (len(whole) - 1, len(whole) // 2, 9):
        path.write_bytes(whole[:kept])
        said = refused(lambda: read_features(path))
        assert str(path) in said
        assert "write it again" in said


@pytest.mark.parametrize("name", ["f.npz", "f.pt", "f.csv", "f"])
def test_other_kinds_of_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "expected .npy, .safetensors, .parquet" in refused(lambda: read_features(tmp_path / name))


def test_a_pickle_that_would_run_code(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
            return Path.touch, (tmp_path / "harm",)

    rows = np.empty(2, dtype=object)
    rows[:] = Harmful()
    np.save(tmp_path / "f.npy", rows, allow_pickle=True)
    said = refused(lambda: read_features(tmp_path / "f.npy"))
    assert "Python objects" in said
    assert "np.stack" in said
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((4,), "shape 4;"),
        ((2, 2, 2), "shape 2 × 2 × 2;"),
        ((), "shape ();"),
        ((0, 4), "is empty"),
        ((4, 0), "is empty"),
    ],
)
def test_other_shapes(tmp_path: Path, shape: tuple[int, ...], said: str) -> None:
    assert said in refused(lambda: read_features(write_npy(tmp_path / "f.npy", np.zeros(shape))))
    save_file({"f": torch.zeros(shape)}, tmp_path / "f.safetensors")
    said_of_tensor = refused(lambda: read_features(tmp_path / "f.safetensors", key="f"))
    assert said in said_of_tensor
    assert "'f'" in said_of_tensor


@pytest.mark.parametrize("kind", ["bool", "complex64", "U3", "M8[s]"])
def test_other_values(tmp_path: Path, kind: str) -> None:
    said = refused(lambda: read_features(write_npy(tmp_path / "f.npy", np.zeros((2, 2), dtype=kind))))
    assert "expected numbers" in said


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_values_that_are_not_finite(tmp_path: Path, value: float, kind: str) -> None:
    wrong = FEATURES.astype(kind)
    wrong[4, 2] = value
    wrong[6, 0] = value
    expected = f"row 4: holds {'NaN' if np.isnan(value) else 'infinity'} (column 2)"
    assert expected in refused(lambda: read_features(write_npy(tmp_path / "f.npy", wrong)))
    save_file({"f": torch.from_numpy(wrong)}, tmp_path / "f.safetensors")
    assert expected in refused(lambda: read_features(tmp_path / "f.safetensors"))
    path = write_parquet(tmp_path / "f.parquet", f=lists(wrong, pa.from_numpy_dtype(wrong.dtype)))
    assert expected in refused(lambda: read_features(path))


def test_values_beyond_float32(tmp_path: Path) -> None:
    wrong = FEATURES.astype(np.float64)
    wrong[3, 0] = 1e200
    assert "row 3: 1e+200 is beyond" in refused(lambda: read_features(write_npy(tmp_path / "f.npy", wrong)))


def test_a_safetensors_file_without_features(tmp_path: Path) -> None:
    save_file({"modality": torch.zeros(4)}, tmp_path / "f.safetensors")
    assert "it has modality 4" in refused(lambda: read_features(tmp_path / "f.safetensors"))


def test_npy_files_have_no_keys(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "f.npy", FEATURES)
    assert "key=x" in refused(lambda: read_features(path, key="x"))


def test_parquet_rows_of_unequal_length(tmp_path: Path) -> None:
    rows: list[Any] = [[1.0, 2.0]] * 5000
    for wrong, expected in (
        ([1.0], "row 4500: holds 1 numbers, row 0 holds 2"),
        (None, "row 4500: has no features"),
        ([1.0, None], "row 4500: a number is missing"),
    ):
        path = write_parquet(tmp_path / "f.parquet", f=[*rows[:4500], wrong, *rows[4501:]])
        assert expected in refused(lambda path=path: read_features(path))  # type: ignore[misc]
    fixed = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))
    assert "row 1: has no features" in refused(lambda: read_features(write_parquet(tmp_path / "x.parquet", f=fixed)))


def test_parquet_without_rows(tmp_path: Path) -> None:
    for rows in (pa.array([], pa.list_(pa.float32())), pa.array([[], []], pa.list_(pa.float32()))):
        path = write_parquet(tmp_path / "f.parquet", f=rows)
        assert "is empty" in refused(lambda path=path: read_features(path))  # type: ignore[misc]


def test_parquet_columns(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "f.parquet", a=lists(FEATURES), b=lists(FEATURES), name=["x"] * ROWS)
    assert "a, b; choose one" in refused(lambda: read_features(path))
    assert "name (string)" in refused(lambda: read_features(path, key="c"))
    assert "expected a list of numbers" in refused(lambda: read_features(path, key="name"))
    path = write_parquet(tmp_path / "g.parquet", f0=[1.0, 2.0], tags=[["x"], ["y"]])
    assert "f0 (double), tags (list<" in refused(lambda: read_features(path))
    twice = pa.Table.from_arrays([lists(FEATURES), pa.array(range(ROWS)), pa.array(range(ROWS))], ["f", "x", "x"])
    pq.write_table(twice, tmp_path / "h.parquet")
    assert "several columns named 'x'" in refused(lambda: read_features(tmp_path / "h.parquet"))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "f.parquet", f=lists(FEATURES))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in refused(lambda: read_features(path))


# Modalities and identities.

SOURCE = Path("f.parquet")
TABLE = FeatureTable(np.zeros((4, 2), dtype=np.float32))


def table_with(**columns: Any) -> FeatureTable:
    return FeatureTable(TABLE.features, {name: np.asarray(values) for name, values in columns.items()})


@pytest.mark.parametrize(
    "values",
    [
        ["visible", "infrared", "infrared", "visible"],
        ["RGB", "IR", "ir", " rgb "],
        ["v", "t", "thermal", "V"],
        ["Visible", "NIR", "i", "color"],
        np.array([0, 1, 1, 0], dtype=np.int8),
        np.array([0, 1, 1, 0], dtype=np.uint64),
        np.array([0.0, 1.0, 1.0, 0.0], dtype=np.float32),
        np.array([b"v", b"t", b"t", b"v"]),
        np.array(["vis", "ir", "ir", "vis"], dtype=object),
        np.array([0, 1, 1, 0], dtype=object),
    ],
)
def test_names_of_modalities(values: Any) -> None:
    codes = read_modality("m", table_with(m=values), SOURCE)
    assert codes.dtype == np.int64
    assert codes.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.txt", "v\nt\nt\nv\n"),
        ("m.txt", "0\n1\n1\n0"),
        ("m.csv", "v\nt\nt\nv\n"),
        ("m.csv", "kind\nv\nt\nt\nv\n"),
        ("m.csv", "modality\nv\nt\nt\nv\n"),
        ("m.csv", '\ufeffpath,modality\r\na.jpg,v\r\nb.jpg,t\r\n"c,d.jpg",t\r\ne.jpg,v\r\n'),
        ("M.CSV", "path,modality\na,0\nb,1\nc,1\nd,0\n\n"),
    ],
)
def test_files_of_modalities(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read_modality(str(tmp_path / name), TABLE, SOURCE).tolist() == [0, 1, 1, 0]


def test_an_array_file_of_modalities(tmp_path: Path) -> None:
    for values in (np.array([0, 1, 1, 0]), np.array(["rgb", "ir", "ir", "rgb"])):
        path = write_npy(tmp_path / "m.npy", values)
        assert read_modality(str(path), TABLE, SOURCE).tolist() == [0, 1, 1, 0]


def test_a_column_goes_before_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.txt").write_text("t\nv\nv\nt\n")
    assert read_modality("m.txt", table_with(**{"m.txt": [0, 1, 1, 0]}), SOURCE).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["v", "t", "x", "v"], "f.parquet, 'm', row 2: modality 'x' is unknown; expected visible"),
        ([0, 1, 2, 0], "row 2: modality '2' is unknown"),
        ([0.0, 1.0, 0.5, 0.0], "row 2: modality '0.5' is unknown"),
        ([0.0, 1.0, np.nan, 0.0], "row 2: has no value"),
        (np.array(["v", "t", None, "v"], dtype=object), "row 2: has no value"),
        (["v", "t", "", "v"], "row 2: has no value"),
        ([True, False, True, True], "holds bool values"),
        (["v", "v", "v", "v"], "all 4 rows are visible"),
        ([1, 1, 1, 1], "all 4 rows are infrared"),
    ],
)
def test_wrong_modalities(values: Any, said: str) -> None:
    assert said in refused(lambda: read_modality("m", table_with(m=values), SOURCE))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.txt", "", "has 0 values, but f.parquet has 4 rows"),
        ("m.txt", "v\nt\nt\n", "has 3 values"),
        ("m.txt", "v\n\nt\nv\n", "row 1: has no value"),
        ("m.csv", "", "is empty"),
        ("m.csv", "path,kind\na,v\n", "columns path, kind, but none named modality"),
        ("m.csv", "path,modality\na,v\nb\n", "row 1: has 1 values"),
        ("m.csv", "modality\nv\nt\nt\nv\nv\n", "has 5 values"),
        ("m.csv", "modality\nv\nt\nlight\nv\n", "row 2: modality 'light'"),
        ("m.npy", "v\nt\nt\nv\n", "not a .npy file"),
    ],
)
def test_wrong_files_of_modalities(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    complaint = refused(lambda: read_modality(str(path), TABLE, SOURCE))
    assert said in complaint
    assert str(path) in complaint


def test_modalities_that_are_nowhere(tmp_path: Path) -> None:
    said = refused(lambda: read_modality("light", table_with(path=list("abcd"), camera=[1] * 4), SOURCE))
    assert "modality=light: f.parquet has no such column (it has path, camera)" in said
    assert "no such file" in refused(lambda: read_modality(str(tmp_path / "m.csv"), TABLE, SOURCE))
    (tmp_path / "m.txt").write_bytes(b"v\xff\n")
    assert "not UTF-8" in refused(lambda: read_modality(str(tmp_path / "m.txt"), TABLE, SOURCE))
    matrix = write_npy(tmp_path / "m.npy", np.zeros((4, 2)))
    assert "has 4 × 2 values" in refused(lambda: read_modality(str(matrix), TABLE, SOURCE))


def test_identities() -> None:
    for values in (["b", "a", "b", "c"], [7, -1, 7, 9], np.array(["b", "a", "b", "c"], dtype=object)):
        codes = read_identities("who", table_with(who=values), SOURCE)
        assert codes.tolist() == [1, 0, 1, 2]
    assert "identities=who" in refused(lambda: read_identities("who", TABLE, SOURCE))
    assert "row 1: has no value" in refused(
        lambda: read_identities("who", table_with(who=[1.0, np.nan, 2.0, 2.0]), SOURCE)
    )


def test_a_file_of_identities(tmp_path: Path) -> None:
    (tmp_path / "who.csv").write_text("path,identity\na,9\nb,10\nc,9\nd,11\n")
    codes = read_identities(str(tmp_path / "who.csv"), TABLE, SOURCE)
    assert codes[0] == codes[2]
    assert len(set(codes.tolist())) == 3


@pytest.mark.parametrize("values", [["rgb", "ir", "rgb"], ["0", "1", "0"], ["5.0", "6", "7"], ["a", "a", "b"]])
def test_a_list_of_one_value_too_many_is_not_shifted(tmp_path: Path, values: list[str]) -> None:
    np.save(tmp_path / "f.npy", np.eye(2))
    (tmp_path / "v.csv").write_text("\n".join(values))
    table = read_features(tmp_path / "f.npy")
    for read in (read_modality, read_identities):
        with pytest.raises(UserError, match="3 values without a heading, but there are 2 rows"):
            read(str(tmp_path / "v.csv"), table, tmp_path / "f.npy")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), ",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 2), }",
        "{'descr': 7, 'fortran_order': False, 'shape': (2, 2), }",
        "{'descr': '<f8', 'fortran_order': 'x', 'shape': 'ab', }",
        "{'descr': '<f8' 'fortran_order'",
        '"""',
        "[" * 200,
        "7",
    ],
)
def test_headers_that_describe_no_array(tmp_path: Path, header: str) -> None:
    text = header.encode() + b"\n"
    (tmp_path / "f.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 32)
    with pytest.raises(UserError, match=r"f\.npy: is damaged|f\.npy: cannot be read") as caught:
        read_features(tmp_path / "f.npy")
    assert str(caught.value).startswith(str(tmp_path))


def test_columns_of_every_type_pass_through(tmp_path: Path) -> None:
    columns = {
        "time": pa.array([1, 2**62], pa.timestamp("ns")),
        "clock": pa.array([1, 86_399_999_999_999], pa.time64("ns")),
        "took": pa.array([1, 2**62], pa.duration("ns")),
        "day": pa.array([-(2**30), 2**30], pa.date32()),
        "big": pa.array([2**64 - 1, None], pa.uint64()),
        "price": pa.array(["1.50", None]).cast(pa.decimal128(5, 2)),
        "raw": pa.array([b"\xff", None]),
        "word": pa.array(["a", "b"]).dictionary_encode(),
        "none": pa.array([None, None]),
        "embedding": pa.array([[1.0, 0.0], [0.0, 1.0]]),
    }
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    table = read_features(tmp_path / "f.parquet")
    assert table.columns.keys() == columns.keys() - {"embedding"}
    for out in ("l.csv", "l.parquet"):
        write_labels(tmp_path / out, {**table.columns, "label": np.arange(2)})
    assert pq.read_table(tmp_path / "l.parquet").column("big").to_pylist() == [str(2**64 - 1), None]
