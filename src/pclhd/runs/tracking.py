"""The numbers under which other programs record a run, so that a resumed training continues their records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pclhd.errors import UserError
from pclhd.files import write_durably
from pclhd.parsing import Unparsable, parse_json, read_text


def read_tracking(path: Path) -> dict[str, str]:
    """The number by program; empty if there is no file.

    Raises:
        UserError: The file is unreadable or damaged.
    """
    if not path.exists():
        return {}
    advice = "delete it, and new records begin"
    try:
        saved = parse_json(read_text(path, advice))
        return {str(name): str(number) for name, number in dict(saved).items()}
    except (Unparsable, TypeError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error}); {advice}") from error


def write_tracking(path: Path, numbers: Mapping[str, str]) -> None:
    """Add numbers.

    Raises:
        UserError: The file is damaged or cannot be written.
    """
    write_durably(path, json.dumps({**read_tracking(path), **numbers}, indent=1) + "\n")
