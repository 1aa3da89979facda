"""Damages to a file: each is a function of the file and a source of random draws, and says what it did."""

from __future__ import annotations

import io
import json
import os
import random
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
import yaml
from PIL import Image

from pclhd.engine import checkpoint
from tests.fuzz import further
from tests.fuzz.apart import apart
from tests.fuzz.world import remove

Random = random.Random
Damage = Callable[[Path, Random], str]


class Inapplicable(Exception):
    """The file is not of a kind for this damage."""


# Bytes of any file.


def _content(path: Path) -> bytearray:
    content = bytearray(path.read_bytes())
    if not content:
        raise Inapplicable
    return content


def truncated(path: Path, draw: Random) -> str:
    content = _content(path)
    # Ends are cut within the header, within the last bytes, or anywhere.
    kept = draw.choice([draw.randrange(min(len(content), 64)), len(content) - 1, draw.randrange(len(content))])
    path.write_bytes(content[:kept])
    return f"cut to {kept} of {len(content)} bytes"


def flipped(path: Path, draw: Random) -> str:
    content = _content(path)
    places = [
        draw.randrange(draw.choice([len(content), min(len(content), 200)])) for _ in range(draw.choice([1, 1, 8]))
    ]
    for place in places:
        content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"bits flipped in bytes {places}"


def inserted(path: Path, draw: Random) -> str:
    content = _content(path)
    place = draw.randrange(draw.choice([len(content), min(len(content), 200)]))
    block = draw.choice(
        [b"\0", b"\0" * 100, b"\xff\xfe", b"\n", b"\r", b"\x1b]0;t\x07", b"9" * 5000, b"[" * 2000, b'"']
    )
    content[place:place] = block
    path.write_bytes(content)
    return f"{block[:8]!r} (of {len(block)}) inserted at {place}"


def deleted(path: Path, draw: Random) -> str:
    content = _content(path)
    place = draw.randrange(draw.choice([len(content), min(len(content), 200)]))
    length = draw.choice([1, 1, 8, 100])
    del content[place : place + length]
    path.write_bytes(content)
    return f"{length} bytes deleted at {place}"


def doubled(path: Path, draw: Random) -> str:
    content = _content(path)
    place, length = draw.randrange(len(content)), draw.choice([1, 16, 512, len(content)])
    content[place:place] = content[place : place + length]
    path.write_bytes(content)
    return f"{length} bytes doubled at {place}"


def zeroed(path: Path, draw: Random) -> str:
    content = _content(path)
    place, length, value = draw.randrange(len(content)), draw.choice([4, 64, 4096]), draw.choice([0, 0xFF, 0x7F])
    content[place : place + length] = bytes([value]) * len(content[place : place + length])
    path.write_bytes(content)
    return f"{length} bytes at {place} set to {value}"


def emptied(path: Path, draw: Random) -> str:
    path.write_bytes(b"")
    return "emptied"


def swapped(path: Path, draw: Random) -> str:
    """Another file of the same folder, or of the whole world."""
    near = [file for file in path.parent.iterdir() if file.is_file() and file != path]
    far = [file for file in Path().rglob("*") if file.is_file()]
    other = draw.choice(sorted(draw.choice([near, far]) or far))
    path.write_bytes(other.read_bytes())
    return f"replaced by the content of {other}"


# What a name stands for.


def gone(path: Path, draw: Random) -> str:
    remove(path)
    return "removed"


def a_folder(path: Path, draw: Random) -> str:
    remove(path)
    path.mkdir()
    if draw.random() < 0.5:
        (path / "inside").write_text("x")
    return "replaced by a folder"


def a_pipe(path: Path, draw: Random) -> str:
    remove(path)
    os.mkfifo(path)
    return "replaced by a named pipe"


def a_link(path: Path, draw: Random) -> str:
    target = draw.choice(["/dev/zero", "/dev/null", "/dev/full", "nowhere", path.name, "/", "..", "/proc/self/mem"])
    remove(path)
    path.symlink_to(target)
    return f"replaced by a link to {target}"


def unreadable(path: Path, draw: Random) -> str:
    """The case runs without the rights of root; see `tests.fuzz.verb`."""
    place = draw.choice([path, path, path.parent])
    place.chmod(0)
    return f"{place} made unreadable"


def read_only(path: Path, draw: Random) -> str:
    place = draw.choice([path.parent, Path("out"), Path()])
    place.chmod(0o555)
    return f"{place} made read-only"


ANY: tuple[Damage, ...] = (
    *(truncated, truncated, flipped, flipped, flipped, inserted, inserted, deleted, deleted, doubled, zeroed),
    *(emptied, swapped, gone, a_folder, a_pipe, a_link, unreadable, read_only),
)
#: Damages after which the case must run without the rights of root.
AS_NOBODY = frozenset({unreadable, read_only})


# Values of JSON and YAML.


def _deep(levels: int, inner: Any = 0) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


def strange(draw: Random, old: Any) -> Any:
    """A value that is unlikely in the place of another."""
    if isinstance(old, bool) or old is None:
        near: list[Any] = [not old, 0, 1, "yes"]
    elif isinstance(old, int):
        near = [old + 1, -old, old - 1, old + 0.5, float(old), str(old), -1, 0, 1, 2, 10**6]
    elif isinstance(old, float):
        near = [-old, old * 2, 0.0, int(old), str(old), 1e-300, 1.0000001]
    elif isinstance(old, str):
        near = [old + "x", old[:-1], old.upper(), "", f"../{old}", f"/{old}", old * 100, f"{old}\n{old}", f"={old}"]
    elif isinstance(old, list):
        near = [[], old * 2, old[::-1], old[:-1], [*old, None], [old]]
    else:
        near = [{}, {**old, "more": 1}, [old], list(old), {str(key): None for key in old}]
    far = [
        *(None, True, False, [], {}, "", "x", 0, -1, 1, 2**31, 2**63, 10**30, -(10**30), 10**400, 0.5, 1e308, -1e308),
        *(float("nan"), float("inf"), float("-inf"), "nan", "\udcff", "\x00", "\x1b[31m", "\u202e", "é" * 300),
        *("x" * 100_000, _deep(40), _deep(90), [0] * 1000, {"a": {"b": "c"}}, "~nosuchuser/x", "/dev/zero", "."),
    ]
    return draw.choice(draw.choice([near, far]))


def _places(tree: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            found.append((tree, key))
            _places(tree[key], found)
    return found


def changed_tree(tree: Any, draw: Random) -> tuple[Any, str]:
    """A tree with one value changed, removed, renamed or exchanged with another."""
    places = _places(tree, [])
    if not places:
        new = strange(draw, tree)
        return new, f"{tree!r} became {str(new)[:40]!r}"
    holder, key = draw.choice(places)
    how = draw.choice(["change", "change", "change", "remove", "rename", "exchange"])
    if how == "remove":
        del holder[key]
    elif how == "rename" and isinstance(holder, dict):
        new = draw.choice([f"{key}x", "", "\udcff", "\x1b", 3, str(key).upper()])
        holder[new] = holder.pop(key)
        return tree, f"key {key!r} renamed to {new!r}"
    elif how == "exchange":
        other, another = draw.choice(places)
        try:
            holder[key], other[another] = other[another], holder[key]
            json.dumps(tree)
        except (ValueError, RecursionError, IndexError, KeyError) as error:  # one is inside the other
            raise Inapplicable from error
        return tree, f"{key!r} exchanged with {another!r}"
    else:
        old, holder[key] = holder[key], strange(draw, holder[key])
        return tree, f"{key!r} from {str(old)[:40]!r} to {str(holder[key])[:40]!r}"
    return tree, f"{key!r} removed"


def _json(tree: Any) -> bytes:
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def json_changed(path: Path, draw: Random) -> str:
    tree, what = changed_tree(json.loads(path.read_text("utf-8")), draw)
    path.write_bytes(_json(tree))
    return what


def json_line_changed(path: Path, draw: Random) -> str:
    lines = path.read_bytes().splitlines()
    number = draw.randrange(len(lines))
    how = draw.choice(["change", "change", "change", "double", "remove", "move"])
    if how == "change":
        tree, what = changed_tree(json.loads(lines[number]), draw)
        lines[number] = _json(tree)
    else:
        what = how
        line = lines.pop(number)
        if how == "double":
            lines[number:number] = [line, line]
        elif how == "move":
            lines.insert(draw.randrange(len(lines) + 1), line)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return f"line {number + 1}: {what}"


def yaml_changed(path: Path, draw: Random) -> str:
    tree, what = changed_tree(yaml.safe_load(path.read_text("utf-8")), draw)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=draw.random() < 0.5)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what


def yaml_text(path: Path, draw: Random) -> str:
    more = draw.choice(
        [
            "a: &a [*a]\n",
            "seed: 010\n",
            "seed: !!python/object/apply:os.system ['true']\n",
            "seed: 2024-13-45\n",
            "? [1, 2]\n: 3\n",
            "seed: !!binary x\n",
            "<<: 3\n",
            "<<: [{seed: 1}]\n",
            "? {a: 1}\n: 2\n",
            "%YAML 9.9\n---\n",
            "---\nseed: 1\n---\nseed: 2\n",
            "\tseed: 1\n",
            "seed: !!set {a, b}\n",
            "seed: !!timestamp 2024-01-01\n",
            "data: !!omap [a: 1]\n",
            "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" if n else "a0: &a0 [x]" for n in range(40)) + "\n",
        ]
    )
    content = path.read_bytes()
    path.write_bytes(content + more.encode() if draw.random() < 0.5 else more.encode() + content)
    return f"with {more[:30]!r}"


# Lists.


def list_changed(path: Path, draw: Random) -> str:
    lines = path.read_text("utf-8").splitlines()
    number = draw.randrange(len(lines)) if lines else 0
    old = lines[number] if lines else ""
    parts = draw.choice([old.split(","), old.split(), old.split("/"), [old]])
    cell = draw.randrange(len(parts)) if parts else 0
    separator = "," if "," in old else " " if " " in old else "/"
    how = draw.choice(["cell", "cell", "cell", "blank", "double", "remove", "order", "more", "column"])
    if how == "cell" and parts:
        parts[cell] = draw.choice(
            [
                *(
                    "",
                    " ",
                    "-1",
                    "0",
                    "1",
                    "5.0",
                    "1e3",
                    "nan",
                    "x",
                    str(2**63),
                    "9" * 5000,
                    "\x1b[31m",
                    "\x00",
                    '"',
                    "'",
                ),
                *(parts[cell] * 2, f" {parts[cell]} ", parts[cell].upper(), f"../{parts[cell]}", f"/{parts[cell]}"),
                *(parts[cell].replace("/", "\\"), f"./{parts[cell]}", "é", "e\u0301", "=1+1", "#", "\u202e", "\ufeff"),
            ]
        )
        lines[number] = separator.join(parts)
    elif how == "column":
        lines = [f"{line}{separator}1" for line in lines] if draw.random() < 0.5 else [line[1:] for line in lines]
    elif how == "order":
        draw.shuffle(lines)
    elif how == "remove" and lines:
        del lines[number]
    else:
        lines.insert(
            number, {"double": old, "more": draw.choice(["x", ",", "a,b,c,d,e,f,g", "x" * 200_000])}.get(how, "")
        )
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return f"line {number + 1}, {how}: {lines[number][:60] if number < len(lines) else ''!r}"


def reencoded(path: Path, draw: Random) -> str:
    text = path.read_text("utf-8")
    encoding = draw.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp037", "latin-1"])
    if draw.random() < 0.3:
        encoding, text = "utf-8", text.replace("\n", draw.choice(["\r\n", "\r", "\n\n", "\u2028", "\x0b", ";", "\t\n"]))
    elif draw.random() < 0.3:
        text = text.replace(",", draw.choice([";", "\t", ", ", " ", "，"]))
    path.write_bytes(text.encode(encoding, "replace"))
    return f"encoded as {encoding}"


# Images.


def image_changed(path: Path, draw: Random) -> str:
    picture = Image.open(path)
    picture.load()
    how = draw.choice(["mode", "mode", "size", "format", "bomb", "exif", "frames", "deep"])
    buffer = io.BytesIO()
    if how == "mode":
        mode, kind = draw.choice(
            [
                *(("CMYK", "JPEG"), ("I;16", "PNG"), ("I", "PNG"), ("F", "TIFF"), ("1", "PNG"), ("P", "GIF")),
                *(
                    ("LA", "PNG"),
                    ("RGBA", "PNG"),
                    ("YCbCr", "JPEG"),
                    ("LAB", "TIFF"),
                    ("I;16", "TIFF"),
                    ("RGBA", "WEBP"),
                ),
            ]
        )
        source = picture.convert("L") if mode in {"I;16", "I", "F", "1"} else picture.convert("RGB")
        source.convert("I").convert(mode).save(buffer, kind) if mode == "I;16" else source.convert(mode).save(
            buffer, kind
        )
        how = f"{mode} as {kind}"
    elif how == "size":
        size = draw.choice([(1, 1), (1, 500), (500, 1), (2, 2), (3000, 2), (2500, 2500)])
        picture.resize(size).save(buffer, "PNG")
        how = f"{size[0]} × {size[1]}"
    elif how == "format":
        kind = draw.choice(
            ["PNG", "BMP", "GIF", "TIFF", "PPM", "JPEG", "WEBP", "ICO", "TGA", "PCX", "EPS", "PDF", "DDS"]
        )
        picture.convert("RGB").save(buffer, kind)
        how = kind
    elif how == "bomb":
        # A header that promises far more pixels than there are bytes.
        content = bytearray(_png(picture))
        width, height = draw.choice([(60_000, 60_000), (2**31 - 1, 1), (9_600, 9_600), (0, 0), (100_000, 100_000)])
        content[16:24] = struct.pack(">II", width, height)
        buffer.write(content)
        how = f"a PNG that claims {width} × {height}"
    elif how == "exif":
        exif = Image.Exif()
        exif[0x0112] = draw.choice([0, 3, 6, 8, 9, 255, 65535])
        exif[0x010E] = draw.choice(["x", "x" * 60_000])
        picture.convert("RGB").save(buffer, "JPEG", exif=exif)
        how = f"orientation {exif[0x0112]}"
    elif how == "frames":
        picture.convert("P").save(buffer, "GIF", save_all=True, append_images=[picture.convert("P").rotate(90)] * 3)
    else:
        array = np.asarray(picture.convert("L")).astype(np.uint16) * draw.choice([1, 16, 257])
        Image.fromarray(array).save(buffer, draw.choice(["PNG", "TIFF"]))
    path.write_bytes(buffer.getvalue())
    return f"image: {how}"


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


# Arrays and weights.


def _strange_numbers(array: np.ndarray[Any, Any], draw: Random) -> np.ndarray[Any, Any]:
    how = draw.choice(["nan", "inf", "huge", "zero", "row", "type", "shape", "none", "equal"])
    array = array.copy()
    if how in {"nan", "inf", "huge"} and array.dtype.kind == "f" and array.size:
        array.flat[draw.randrange(array.size)] = {"nan": np.nan, "inf": np.inf, "huge": 3e38}[how]
    elif how == "zero":
        array[...] = 0
    elif how == "equal":
        array[...] = array.flat[0] if array.size else 0
    elif how == "row" and array.ndim:
        array[draw.randrange(len(array))] = 0
    elif how == "type":
        kinds: list[Any] = [np.float64, np.float16, np.int8, np.uint64, np.complex64, bool, "U10", "S3", "M8[ns]"]
        with np.errstate(all="ignore"):
            array = array.astype(draw.choice(kinds))
    elif how == "none":
        array = np.atleast_1d(array)[:0]
    else:
        array = draw.choice(
            [array.ravel(), array[None], array[..., None], array.T, np.atleast_1d(array)[:1], np.asfortranarray(array)]
        )
    return array


def npy_changed(path: Path, draw: Random) -> str:
    array = _strange_numbers(np.load(path), draw)
    np.save(path, array)
    return f"{array.dtype} of shape {array.shape}"


def npy_header(path: Path, draw: Random) -> str:
    content = path.read_bytes()
    length = struct.unpack("<H", content[8:10])[0]
    header = content[10 : 10 + length].decode("latin-1").strip()
    old, new = draw.choice(
        [
            *(
                ("'<f4'", "'|O'"),
                ("'<f4'", "'<f99'"),
                ("'<f4'", "[('a','<f4')]"),
                ("'<f4'", "'<U1000000000'"),
                ("'<f4'", "3"),
            ),
            *(
                ("(36, 8)", "(36, -8)"),
                ("(36, 8)", f"({10**12}, 8)"),
                ("(36, 8)", "(36, 8.5)"),
                ("(36, 8)", "x"),
                ("{", ""),
            ),
            *(
                ("(36, 8)", f"({10**30}, 8)"),
                ("False", "1"),
                ("False", "True"),
                ("}", "}}"),
                ("descr", "d\u00e9scr"),
                ("{", "(" * 300),
            ),
            *(
                ("(36, 8)", "()"),
                ("(36, 8)", "(0, 8)"),
                ("(36, 8)", "(36, 0)"),
                ("(36, 8)", "(True, 8)"),
                ("{", "\x00{"),
            ),
        ]
    )
    text = header.replace(old, new, 1).encode("latin-1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    path.write_bytes(content[:8] + struct.pack("<H", len(text)) + text + content[10 + length :])
    return f"header: {old} to {new[:20]}"


def safetensors_header(path: Path, draw: Random) -> str:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    texts = sorted(name for name, value in metadata.items() if value[:1] in "{[")
    if texts and draw.random() < 0.7:
        name = draw.choice(texts)
        tree, what = changed_tree(json.loads(metadata[name]), draw)
        metadata[name] = json.dumps(tree)
    else:
        header, what = changed_tree(header, draw)
    text = _json(header)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return f"header: {what}"


def safetensors_changed(path: Path, draw: Random) -> str:
    """Other tensors under the same names; a checkpoint gets the checksum of what it then holds."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = draw.choice(sorted(tensors))
    how = draw.choice(["numbers", "numbers", "numbers", "remove", "rename", "exchange", "facts"])
    what = how
    if how == "facts":
        if "facts" not in metadata:
            raise Inapplicable
        tree, what = changed_tree(json.loads(metadata["facts"]), draw)
        metadata["facts"] = json.dumps(tree)
    elif how == "numbers":
        array = _strange_numbers(tensors[name].numpy(), draw)
        if array.dtype.kind not in "fiub":
            raise Inapplicable
        tensors[name] = torch.from_numpy(np.ascontiguousarray(array))
        what = f"{array.dtype} of shape {array.shape}"
    elif how == "remove":
        del tensors[name]
    elif how == "rename":
        tensors[draw.choice([f"{name}x", "x", name.upper(), "optimiser/x/y", "optimiser/99/step", "\x1b"])] = (
            tensors.pop(name)
        )
    else:
        other = draw.choice(sorted(tensors))
        tensors[name], tensors[other] = tensors[other], tensors[name].clone()
    if "sha256" in metadata:
        metadata["sha256"] = getattr(checkpoint, "_digest")(tensors, metadata["facts"])  # noqa: B009
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return f"{name}: {what}"


def parquet_changed(path: Path, draw: Random) -> str:
    table = pyarrow.parquet.read_table(path)
    name = draw.choice(table.column_names)
    rows = len(table)
    columns: dict[str, pyarrow.Array] = {
        "nanoseconds": pyarrow.array(np.arange(rows).astype("datetime64[ns]")),
        "durations": pyarrow.array([1] * rows, pyarrow.duration("ns")),
        "dates": pyarrow.array([-(10**8)] * rows, pyarrow.date32()),
        "times": pyarrow.array([1] * rows, pyarrow.time64("ns")),
        "huge": pyarrow.array([2**64 - 1] + [None] * (rows - 1), pyarrow.uint64()),
        "nulls": pyarrow.nulls(rows),
        "bytes": pyarrow.array([b"\xff"] * rows),
        "lists": pyarrow.array([[1.0] * (row % 3) for row in range(rows)]),
        "list nulls": pyarrow.array([[1.0, None]] * rows),
        "structs": pyarrow.array([{"a": row} for row in range(rows)]),
        "decimals": pyarrow.array([None] * rows, pyarrow.decimal128(38)),
        "dictionary": pyarrow.array(["a"] * rows).dictionary_encode(),
        "text": pyarrow.array(["\x1b[31m=1"] * rows),
        "big floats": pyarrow.array([[1e300] * 8] * rows),
        "halves": pyarrow.array([np.float16(1)] * rows),
        "booleans": pyarrow.array([True] * rows),
    }
    kind = draw.choice(sorted(columns))
    place = table.column_names.index(name)
    if draw.random() < 0.7:
        new = draw.choice([name, name, "x", "label", "", "embedding", "modality", "\x1b"])
        table = table.set_column(place, new, columns[kind])
    else:
        kind = draw.choice(["no rows", "no column", "doubled column", "metadata"])
        if kind == "no rows":
            table = table.slice(0, 0)
        elif kind == "no column":
            table = table.remove_column(place)
        elif kind == "metadata":
            table = table.replace_schema_metadata({b"pclhd": b"\xff", b"pandas": b"{"})
        else:
            table = table.append_column(name, table.column(place))
    pyarrow.parquet.write_table(table, path)
    return f"column {name!r}: {kind}"


def pth_changed(path: Path, draw: Random) -> str:
    content = torch.load(path, weights_only=False)
    state = content.get("state_dict", content)
    name = draw.choice(sorted(state))
    tensor = state[name]
    values: dict[str, Callable[[], Any]] = {
        "nan": lambda: torch.full_like(tensor.float(), float("nan")),
        "inf": lambda: torch.full_like(tensor.float(), float("inf")),
        "huge by strides": lambda: torch.zeros(1).expand(10**6, 10**6),
        "sparse": lambda: torch.zeros(tensor.shape).to_sparse(),
        "complex": lambda: torch.zeros(tensor.shape, dtype=torch.complex64),
        "whole": lambda: torch.zeros(tensor.shape, dtype=torch.int64),
        "bool": lambda: torch.zeros(tensor.shape, dtype=torch.bool),
        "half": lambda: tensor.half(),
        "no dimension": lambda: torch.zeros(()),
        "nothing": lambda: None,
        "text": lambda: "x",
        "a list": lambda: [tensor],
        "quantised": lambda: torch.quantize_per_tensor(torch.zeros(tensor.shape), 0.1, 0, torch.qint8),
        "meta": lambda: torch.zeros(tensor.shape, device="meta"),
        "shared dicts": lambda: _shared_dicts(40),
        "deep": lambda: _deep(250, tensor),
        "a parameter": lambda: torch.nn.Parameter(tensor.float()),
        "float8": lambda: torch.zeros(tensor.shape).to(torch.float8_e4m3fn),
        "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    }
    kind = draw.choice(sorted(values))
    new = draw.choice([name, name, name, "x", f"module.{name}", "\udcff", "\x1b", 3])
    del state[name]
    state[new] = values[kind]()
    torch.save(draw.choice([content, content, content, [content], state, {"a": {"b": content}}]), path)
    return f"{name!r} became {new!r}: {kind}"


def _shared_dicts(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"x": torch.zeros(1)}
    for _ in range(levels):
        inner = {"a": inner, "b": inner}
    return inner


# Galleries, databases and ONNX.


def gallery_facts(path: Path, draw: Random) -> str:
    """Other facts in the gallery that a file belongs to: another value, or a text that is no JSON."""
    gallery = Path(path.parts[0])
    facts = json.loads(Path("..", further.FACTS.format(gallery)).read_text())
    known = {name: value for name, value in facts.items() if value is not None}
    if draw.random() < 0.7:
        name = draw.choice(sorted(facts))
        if known.get(name) is None or draw.random() < 0.2:
            known[name], what = strange(draw, known.get(name)), "strange"
        else:
            known[name], what = changed_tree(known[name], draw)
        texts = {name: json.dumps(value) for name, value in known.items()}
    else:
        texts = {name: json.dumps(value) for name, value in known.items()}
        name = draw.choice(sorted(texts))
        texts[name] = draw.choice(["", "{", "[" * 3000, "NaN", "\x00", "9" * 5000])
        what = texts[name][:20]
    apart(lambda: further.write_facts(gallery, texts))
    return f"fact {name}: {what}"


def gallery_rows(path: Path, draw: Random) -> str:
    """Other values in a column of the gallery that a file belongs to."""
    how = draw.choice(further.ROW_CHANGES)
    apart(lambda: further.change_rows(Path(path.parts[0]), how))
    return f"column {how}"


def database_changed(path: Path, draw: Random) -> str:
    """Another value, or no value, in one cell of an SQLite database; or a table less."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = draw.choice(sorted(names))
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        column = draw.choice(columns)
        rows = [row for (row,) in database.execute(f"SELECT rowid FROM {table}")]
        if draw.random() < 0.1:
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute(draw.choice([f"DROP TABLE {table}", f"DELETE FROM {table}"]))
            what = "emptied or dropped"
        elif not rows:
            raise Inapplicable
        else:
            row = draw.choice(rows)
            (old,) = database.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (row,)).fetchone()
            new = old
            if isinstance(old, str) and old[:1] in "{[" and draw.random() < 0.7:
                new = json.dumps(changed_tree(json.loads(old), draw)[0])
            while new == old:
                new = draw.choice(
                    [None, "", "x", -1, 0, 1, 2**62, 1e308, float("inf"), b"\xff", "{", "\x1b[31m", "[" * 99]
                )
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
            what = f"{column} from {old!r} to {str(new)[:40]!r}"
        database.commit()
    return f"table {table}: {what}"


def onnx_changed(path: Path, draw: Random) -> str:
    """Other metadata, weights, names or nodes in an ONNX file."""
    import onnx

    model = onnx.load(path)
    how = draw.choice(["metadata", "metadata", "metadata", "weights", "weights", "output", "input", "node"])
    what = how
    if how == "metadata":
        (entry,) = [one for one in model.metadata_props if one.key == "pclhd"]
        tree, what = changed_tree(json.loads(entry.value), draw)
        entry.value = json.dumps(tree)
    elif how == "weights":
        tensor = draw.choice(list(model.graph.initializer))
        array = _strange_numbers(onnx.numpy_helper.to_array(tensor), draw)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
        what = f"weights {tensor.name}: {array.dtype} of shape {array.shape}"
    elif how == "node":
        place = draw.randrange(len(model.graph.node))
        what = f"node {model.graph.node[place].op_type} removed"
        del model.graph.node[place]
    else:
        ends = model.graph.output if how == "output" else model.graph.input
        ends[0].name = "other"
    path.write_bytes(model.SerializeToString())
    return f"ONNX: {what}"


IMAGES = frozenset({".jpg", ".png", ".bmp"})
OF_KIND: dict[str, tuple[Damage, ...]] = {
    ".json": (json_changed,),
    ".jsonl": (json_line_changed,),
    ".yaml": (yaml_changed, yaml_changed, yaml_changed, yaml_text),
    ".txt": (list_changed, list_changed, reencoded),
    ".csv": (list_changed, list_changed, reencoded),
    **dict.fromkeys(IMAGES, (image_changed,)),
    ".npy": (npy_changed, npy_header),
    ".safetensors": (safetensors_header, safetensors_changed),
    ".parquet": (parquet_changed,),
    ".pth": (pth_changed,),
    ".tar": (pth_changed,),
    ".onnx": (onnx_changed,),
    ".db": (database_changed,),
}


def choose(path: Path, draw: Random) -> Damage:
    """A damage for a file: of its kind in six cases of ten."""
    of_kind = OF_KIND.get(path.suffix)
    if path.parts[0] in further.GALLERIES:
        of_kind = (gallery_facts, gallery_rows)
    return draw.choice(of_kind if of_kind is not None and draw.random() < 0.6 else ANY)
