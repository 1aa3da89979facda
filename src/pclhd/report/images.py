"""Images as data URIs, for a self-contained page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

# A person crop has thousands of pixels, a contact sheet millions: more is a mistake or an attack.
_MOST_PIXELS = 60_000_000


def data_uri(path: Path, *, width: int, height: int, quality: int = 82) -> str | None:
    """An image file, shrunk to fit into `width` × `height` pixels, as a JPEG data URI.

    Returns:
        The URI, or None if there is no readable image of a sensible size.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            small = image.convert("L" if image.mode in ("L", "1", "I;16") else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # Pillow raises any of these for a broken file, and Python for a name with a null byte.
        return None
    small.thumbnail((width, height), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    small.save(target, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode("ascii")
