"""Text of others is read within bounds, and refused beyond them at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pclhd import parsing
from pclhd.errors import UserError
from pclhd.parsing import Unparsable, open_tensors, parse_json, parse_yaml, read_text

USUAL = [{}, {"a": [1, -2.5, None, True, "x: y"], "b": {"c": {"d": []}}}, [0, 10, 1_000_000, 1e-7], "text", None]


@pytest.mark.parametrize("value", USUAL)
def test_usual_values_are_read_as_they_are(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_yaml(yaml.safe_dump(value)) == value


@pytest.mark.parametrize(
    "text", ["", "1", "-0", "0", "0.5", "1e3", "0x10", "x", "a: 1", "2024-05-17", "[1, 2]", "~", "yes"]
)
def test_yaml_is_read_as_the_safe_loader_reads_it(text: str) -> None:
    assert parse_yaml(text) == yaml.safe_load(text)


def test_yaml_may_repeat_parts() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: {<<: *x, d: 2}\ne: *x") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}, "e": {"b": 1}}


def _bomb(line: Callable[[int], str]) -> str:
    return "\n".join(["a0: &a0 {x: 1}", *(line(number) for number in range(1, 60))])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[" * 500, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ("- " * 500 + "x", "nested too deeply"),
        ("".join(" " * depth + "a:\n" for depth in range(500)), "nested too deeply"),
        (_bomb(lambda n: f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]"), "repeat each other"),
        (_bomb(lambda n: f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}"), "repeat each other"),
        ("&a [*a]", "repeat each other"),
        ("&a {b: *a}", "repeat each other"),
        ("a: [", "."),
        ("9" * 5_000, "."),
        ("2024-02-31", "."),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("010", "decimal"),
        ("-07", "decimal"),
        ("1:30", "decimal"),
        ("1:30.5", "decimal"),
        ("a\x00", "."),
    ],
)
def test_yaml_beyond_the_bounds(text: str, fault: str) -> None:
    with pytest.raises(Unparsable, match=fault) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[" * 500 + "]" * 500, "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a":' * 80 + "1" + "}" * 80, "nested too deeply"),
        ("9" * 5_000, "too many digits"),
        ("{", "Expecting"),
    ],
)
def test_json_beyond_the_bounds(text: str, fault: str) -> None:
    with pytest.raises(Unparsable, match=fault):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "fault"), [("[NaN]", "NaN is"), ('{"a": -Infinity}', "-Infinity is"), ("[1e999]", "too large")]
)
def test_json_of_finite_numbers_only(text: str, fault: str) -> None:
    parse_json(text)
    with pytest.raises(Unparsable, match=fault):
        parse_json(text, finite=True)


def test_places_of_faults() -> None:
    for parse, text in ((parse_json, '{\n "a" 1}'), (parse_yaml, "b: 1\na: [1")):
        with pytest.raises(Unparsable) as caught:
            parse(text)
        assert caught.value.line == 2


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _latin(path: Path) -> None:
    path.write_bytes(b"\xff")


def _large(path: Path) -> None:
    path.write_bytes(b"x" * 11)


def _nothing(path: Path) -> None:
    pass


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("make", [_folder, _pipe, _device, _nothing])
def test_tensors_are_read_from_regular_files_only(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "file")
    with pytest.raises(OSError, match=r"no regular file|No such file"):
        open_tensors(tmp_path / "file", "numpy")


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("make", [_folder, _pipe, _device, _latin, _large, _nothing])
def test_what_is_no_text_file(tmp_path: Path, make: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MOST_BYTES", 10)
    make(tmp_path / "file")
    with pytest.raises(UserError, match=r"file: .*; restore it"):
        read_text(tmp_path / "file", "restore it")
