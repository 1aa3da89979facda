"""Draw the README's pictures from the demo's results.

Usage: python scripts/readme_pictures.py build/demo/run build/demo/data docs/pictures
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

CELL = (60, 120)
FRAME = 4
QUERIES = 6
SHOWN = 6
#: Of the contact sheet's height: the headings and four people.
SHEET_SHARE = 0.345
RIGHT, WRONG, QUERY = "#1a7f37", "#b3261e", "#555555"


def main(run: Path, data: Path, folder: Path) -> None:
    """Write ``ranked.png`` and ``contact_sheet.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = json.loads((run / "results.json").read_text("utf-8"))["ranked_examples"]["weights"]
    ranked(examples, data).save(folder / "ranked.png", optimize=True)
    sheet = Image.open(data / "contact_sheet.png").convert("RGB")
    few = sheet.crop((0, 0, sheet.width, round(SHEET_SHARE * sheet.height)))
    few.resize((few.width * 2 // 3, few.height * 2 // 3)).save(folder / "contact_sheet.png", optimize=True)


def ranked(examples: dict[str, list[dict[str, Any]]], data: Path) -> Image.Image:
    """The same queries before and after training, side by side, with their nearest gallery images."""
    column = (CELL[0] + 2 * FRAME) * (SHOWN + 1) + 12
    row = CELL[1] + 2 * FRAME + 20
    picture = Image.new("RGB", (2 * column + 24, QUERIES * row + 28), "white")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(15)
    for side, (weights, title) in enumerate((("start", "start weights"), ("final", "after training without labels"))):
        left = side * (column + 24)
        pen.text((left, 4), title, "black", font)
        for number, example in enumerate(examples[weights][:QUERIES]):
            top = 28 + number * row
            place(picture, data / example["query"]["path"], left, top, QUERY)
            pen.text((left + 4, top + CELL[1] + 2 * FRAME), "query", QUERY, font)
            for rank, found in enumerate(example["gallery"][:SHOWN]):
                x = left + 12 + (rank + 1) * (CELL[0] + 2 * FRAME)
                colour = RIGHT if found["correct"] else WRONG
                place(picture, data / found["path"], x, top, colour)
                word = "right" if found["correct"] else "wrong"
                pen.text((x + 4, top + CELL[1] + 2 * FRAME), f"{rank + 1} {word}", colour, font)
    return picture


def place(picture: Image.Image, path: Path, left: int, top: int, colour: str) -> None:
    """Paste an image with a coloured frame."""
    framed = Image.new("RGB", (CELL[0] + 2 * FRAME - 2, CELL[1] + 2 * FRAME), colour)
    framed.paste(Image.open(path).convert("RGB").resize((CELL[0] - 2, CELL[1])), (FRAME, FRAME))
    picture.paste(framed, (left, top))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python scripts/readme_pictures.py RUN DATA FOLDER")
    main(*map(Path, sys.argv[1:]))
