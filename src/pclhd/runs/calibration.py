"""The file of a run's calibration."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from pclhd.answers.calibration import Calibration
from pclhd.errors import UserError
from pclhd.parsing import read_text


def calibration_text(calibration: Calibration) -> str:
    """The text of the file."""
    return calibration.model_dump_json(indent=1) + "\n"


def read_calibration(path: Path) -> Calibration | None:
    """Read the file; None if there is none, as in runs of older versions and imported ones.

    Raises:
        UserError: The file is unreadable, or a value is missing or out of range.
    """
    if not path.exists():
        return None
    advice = "make it again with: pclhd calibrate RUN --data DIR"
    text = read_text(path, advice)
    try:
        return Calibration.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise UserError(f"{path}: `{place}`: {first['msg']}; {advice}") from error
