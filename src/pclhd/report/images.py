"""Images as data URIs, for a self-contained page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from pclhd.data.images import open_rgb
from pclhd.errors import UserError

# A person crop has some kilobytes, a contact sheet some megabytes: more is a mistake or an attack.
_MOST_BYTES = 100_000_000


def data_uri(root: Path, name: str, *, width: int, height: int, quality: int = 82) -> str | None:
    """An image file, shrunk to fit into `width` × `height` pixels, as a JPEG data URI.

    Reports are passed on, and run folders come from strangers: only files below `root` are opened, links followed, and
    only in the formats of the data readers. Others would start programs, such as Ghostscript.

    Args:
        root: The data's folder.
        name: The image's path below it.
        width: Largest width in pixels.
        height: Largest height in pixels.
        quality: Of the JPEG, up to 100.

    Returns:
        The URI, or None if there is no readable image of a sensible size at that place.
    """
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()) or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        small = open_rgb(path)
    except (OSError, ValueError, UserError):  # ValueError: a name with a null byte
        return None
    small.thumbnail((width, height), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    small.save(target, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode("ascii")
