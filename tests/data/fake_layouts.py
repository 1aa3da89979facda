"""Small copies of the public layouts with tiny images, each with its own content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

VISIBLE_CAMERAS = (1, 2, 4, 5)


def write_image(path: Path, seed: str) -> None:
    """A 4 × 8 image whose pixels follow from the seed alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    pixels = np.random.default_rng(start).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    # PNG content under any name: decoding goes by content.
    Image.fromarray(pixels).save(path, format="PNG")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_sysu(
    root: Path,
    *,
    train: Sequence[int] = (3, 1),
    val: Sequence[int] = (7,),
    test: Sequence[int] = (12, 5),
    images: int = 2,
    looks: Sequence[int] | None = None,
) -> None:
    """Every person in every camera; `looks` gives training people other people's pictures."""
    for name, people in (("train", train), ("val", val), ("test", test)):
        write_text(root / "exp" / f"{name}_id.txt", ",".join(map(str, people)) + "\n")
    people = [*train, *val, *test]
    appearance = dict(zip(people, looks or people, strict=True))
    for camera in range(1, 7):
        for identity in people:
            for number in range(1, images + 1):
                path = root / f"cam{camera}" / f"{identity:04d}" / f"{number:04d}.jpg"
                write_image(path, f"{camera} {appearance[identity]} {number}")


def write_regdb(root: Path, *, trial: int = 1, people: int = 2, images: int = 2, labelled: bool = True) -> None:
    for kind, folder in (("visible", "Visible"), ("thermal", "Thermal")):
        for split, offset in (("train", 0), ("test", people)):
            lines = []
            for person in range(people):
                for number in range(images):
                    relative = f"{folder}/{offset + person + 1}/{kind}_{number}.bmp"
                    write_image(root / relative, relative)
                    lines.append(f"{relative} {person}" if labelled or split == "test" else relative)
            write_text(root / "idx" / f"{split}_{kind}_{trial}.txt", "\n".join(lines) + "\n")


def write_llcm(root: Path, *, labelled: bool = True, cameras: bool = True) -> None:
    for kind in ("vis", "nir"):
        lines = []
        for person in (1, 4):
            for camera in (2, 9):
                middle = f"_c{camera:02d}_s1_f{person}" if cameras else f"_{camera}"
                relative = f"{kind}/{person:04d}/{person:04d}{middle}_{kind}.jpg"
                write_image(root / relative, relative)
                lines.append(f"{relative} {person}" if labelled else relative)
        write_text(root / "idx" / f"train_{kind}.txt", "\n".join(lines) + "\n")
        for person in (9, 6):
            for camera in (1, 3):
                name = f"{person:04d}_c{camera:02d}_s1_f1_{kind}.jpg"
                path = root / f"test_{kind}" / f"cam{camera}" / f"{person:04d}" / name
                write_image(path, str(path.relative_to(root)))
    write_text(root / "idx" / "test_id.txt", "9,6\n")
