"""JSON, YAML and safetensors of others: bounded in size and depth, so that no file can exhaust memory or the stack.

Every settings file, record, model header and set of facts is read through these functions.
"""

from __future__ import annotations

import errno
import json
import math
import re
import stat
from pathlib import Path
from typing import Any, Literal

import yaml
from safetensors import safe_open

from pclhd.errors import UserError

MOST_BYTES = 256 * 2**20
"""Largest text file that is read whole."""

_DEEPEST = 64
_MOST_VALUES = 1_000_000


class Unparsable(ValueError):
    """Text that is not JSON or YAML, or beyond the bounds.

    Args:
        problem: What is wrong.
        line: Where, from 1; None if the place is not known.
        column: Likewise.
    """

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(problem)
        self.line, self.column = line, column


def read_text(path: Path, advice: str) -> str:
    """The text of a regular file.

    Args:
        path: The file.
        advice: How to correct a fault.

    Raises:
        UserError: It cannot be read, is no regular file, is too large, or is not UTF-8.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a named pipe would block for ever, a device might never end
            raise UserError(f"{path}: cannot be read (it is {_kind(about.st_mode)}); {advice}")
        if about.st_size > MOST_BYTES:
            raise UserError(f"{path}: is larger than {MOST_BYTES // 2**20} MiB; {advice}")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); {advice}") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {advice}") from error


def open_tensors(path: Path, framework: Literal["pt", "numpy"]) -> Any:
    """Open a safetensors file for reading, as `safetensors.safe_open` does; a context manager.

    Raises:
        OSError: It is no regular file, or there is none. A named pipe would block for ever.
        SafetensorError: It is damaged.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return safe_open(path, framework=framework)


def parse_json(text: str, *, finite: bool = False) -> Any:
    """What a JSON text holds.

    Args:
        text: The text.
        finite: Whether NaN and infinity, Python's own extension of JSON, are refused. Losses in a log may be neither.

    Raises:
        Unparsable: It is not JSON, nested too deeply, or holds a number that is refused or that no program would write.
    """
    try:
        value = json.loads(text, **_ONLY_FINITE) if finite else json.loads(text)
    except json.JSONDecodeError as error:
        raise Unparsable(error.msg, error.lineno, error.colno) from error
    except RecursionError as error:
        raise Unparsable("nested too deeply") from error
    except Unparsable:
        raise
    except ValueError as error:  # a whole number of thousands of digits
        raise Unparsable("a number has too many digits") from error
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise Unparsable("nested too deeply")
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return value


def _refuse_constant(name: str) -> None:
    raise Unparsable(f"{name} is not a number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Unparsable("a number is too large")
    return number


_ONLY_FINITE: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite}


def parse_yaml(text: str) -> Any:
    """What a YAML text holds, by PyYAML's safe rules; None if it is empty.

    Whole numbers are decimal: what YAML 1.1 takes for an octal number (``010``) or for minutes (``1:30``) is refused.

    Raises:
        Unparsable: It is not YAML, nested too deeply, or repeats its parts by aliases more often than fits.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join((getattr(error, "problem", None) or str(error) or "it cannot be parsed").split())
        raise Unparsable(problem, *(() if mark is None else (mark.line + 1, mark.column + 1))) from error
    except RecursionError as error:
        raise Unparsable("nested too deeply") from error
    except (ValueError, OverflowError) as error:  # a date that does not exist, or a number of thousands of digits
        raise Unparsable(str(error)) from error


def yaml_mapping(text: str, path: Path, expected: str, advice: str = "") -> dict[str, Any]:
    """The mapping that the text of a YAML file holds.

    Args:
        text: The text.
        path: The file, for the message.
        expected: What the file should hold, for the message.
        advice: How to correct a fault; empty where `expected` says it.

    Raises:
        UserError: It is not YAML, beyond the bounds, or no mapping.
    """
    end = f"; {advice}" if advice else ""
    try:
        tree = parse_yaml(text)
    except Unparsable as error:
        line = "" if error.line is None else f", line {error.line}"
        raise UserError(f"{path}{line}: is not valid YAML ({error}){end}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected {expected}, found {type(tree).__name__}{end}")
    return tree


class _Loader(yaml.SafeLoader):
    """Counts values while nodes are put together, each alias as often as it is named."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values: dict[int, int] = {}
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node with all below it."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.YAMLError("nested too deeply")
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not is_alias:
            inner = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = [part for pair in inner for part in (pair if isinstance(pair, tuple) else (pair,))]
            self._values[id(node)] = 1 + sum(self._values[id(part)] for part in parts)
        # A node that is not counted yet holds itself.
        if self._values.get(id(node), _MOST_VALUES + 1) > _MOST_VALUES:
            raise yaml.YAMLError("its parts repeat each other without end")
        return node

    def construct_yaml_int(self, node: Any) -> int:
        """A whole number."""
        if re.match(r"[-+]?0[0-9_]", node.value) or ":" in node.value:
            raise ValueError(
                f"{node.value} is not a plain number; write it in decimal digits, or in quotes if it is text"
            )
        return int(super().construct_yaml_int(node))

    def construct_yaml_float(self, node: Any) -> float:
        """A number."""
        if ":" in node.value:
            raise ValueError(
                f"{node.value} is not a plain number; write it in decimal digits, or in quotes if it is text"
            )
        return float(super().construct_yaml_float(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a named pipe" if stat.S_ISFIFO(mode) else "no file"
