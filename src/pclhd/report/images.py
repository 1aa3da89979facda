"""Pictures for a page that must stand alone: small, and written into the page itself."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image

# A person crop has some thousand pixels, a contact sheet some million: more is a mistake or an attack.
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
        # Pillow reports a broken file by any of these.
        return None
    small.thumbnail((width, height), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    small.save(target, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode("ascii")


def thumbnail(root: Path | None, name: str, description: str, *, width: int = 96, height: int = 192) -> str:
    """An `<img>` of the image `name` below `root`; without such an image, a grey box with its name.

    Args:
        root: The data's folder, or None if it is not known.
        name: The image's path in the data's folder.
        description: The text for those who cannot see the picture.
        width: Largest width in pixels.
        height: Largest height in pixels.
    """
    uri = None if root is None or "\0" in name else data_uri(root / name, width=width, height=height)
    if uri is None:
        label = escape(f"{description}; image not available: {name}")
        return f'<span class="missing" role="img" aria-label="{label}">{escape(name)}</span>'
    return f'<img src="{uri}" alt="{escape(description)}" title="{escape(name)}">'
