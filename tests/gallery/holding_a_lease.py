"""Adds two images to a gallery on object storage, one after the other.

`python -m tests.gallery.holding_a_lease ADDRESS MODEL IMAGE IMAGE` says when it has added the first, and goes on when
it reads a line. Its lease holds for two seconds.
"""

from __future__ import annotations

import sys

from pclhd import Gallery
from pclhd.errors import UserError
from pclhd.gallery import adding
from pclhd.gallery.bucket import Bucket

SECONDS = 2.0


def main(address: str, model: str, *images: str) -> None:
    """Add, wait, add."""
    Bucket.lease_seconds = SECONDS
    adding._PART = 1

    def wait(done: int, _: int) -> None:
        if done == 1:
            sys.stdout.write("added\n")
            sys.stdout.flush()
            sys.stdin.readline()

    try:
        added = Gallery(address, encoder=model, device="cpu").add(images, modality="visible", on_progress=wait)
        sys.stdout.write(f"{added.added}\n")
    except UserError as error:
        sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
