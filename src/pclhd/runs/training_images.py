"""A run's own record of its training images, by which an evaluation recognises them among the test images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pclhd.errors import UserError
from pclhd.parsing import read_text

#: The hash of an image's pixels (`pclhd.data.near_copies`) by the SHA-256 of its file, both hexadecimal; the hash is
#: None where the image was not decoded.
TrainingImages = Mapping[str, str | None]

_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})( (?P<hash>[0-9a-f]{64}))?")


def training_images_text(images: TrainingImages) -> str:
    """The text of the file: a line for each image, sorted, so that it says nothing about their order or names."""
    return "".join(f"{digest} {images[digest]}\n" if images[digest] else f"{digest}\n" for digest in sorted(images))


def read_training_images(path: Path) -> TrainingImages | None:
    """Read the file; None if there is none, as in runs of older versions.

    Raises:
        UserError: The file is unreadable, or a line holds anything else.
    """
    if not path.exists():
        return None
    restore = "restore the file that training wrote, or delete it"
    lines = read_text(path, restore).splitlines()
    images: dict[str, str | None] = {}
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise UserError(f"{path}, line {number}: expected a digest of 64 hexadecimal digits; {restore}")
        images[found["digest"]] = found["hash"]
    return images
