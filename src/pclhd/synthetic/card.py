"""Files that describe the images: machine-readable facts, the data card and the contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pclhd.data.records import Modality
from pclhd.synthetic.plan import Layout, Plan, PlannedImage

_ROWS = 12
_PER_MODALITY = 6
_CELL_HEIGHT = 192


def count_images(plan: Plan) -> dict[str, dict[str, dict[str, int]]]:
    """Number of images per split, modality and camera: ``counts["train"]["visible"]["1"]``."""
    counted = Counter((image.split, image.shot.modality, image.shot.camera) for image in plan.images)
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (split, modality, camera), number in sorted(counted.items()):
        counts.setdefault(str(split), {}).setdefault(str(modality), {})[str(camera)] = number
    return counts


def describe(facts: Mapping[str, object], plan: Plan, layout: Layout) -> str:
    """The data card, in Markdown.

    Args:
        facts: The machine-readable facts.
        plan: Plan of the data set.
        layout: Layout of the data set.
    """
    people = {str(split): set[int]() for split in sorted({image.split for image in plan.images})}
    for image in plan.images:
        people[str(image.split)].add(image.shot.identity)
    rows = [
        f"| {split} | {len(people[split])} | {modality} | {camera} | {number:,} |"
        for split, modalities in count_images(plan).items()
        for modality, cameras in modalities.items()
        for camera, number in cameras.items()
    ]
    parameters = facts["parameters"]
    if not isinstance(parameters, Mapping):
        raise ValueError(f"facts['parameters'] must be a mapping, got {parameters!r}")
    version = 1 if facts["generator_version"] == 1 else 2
    settings = "\n".join(f"| {name} | {value} |" for name, value in parameters.items())
    return f"""# Data card: synthetic visible-infrared people

Drawn pictures for testing and demonstrating visible-infrared person re-identification, in the layout of
{_TITLES[layout]}. **No real person is in it.** Every figure is composed from random numbers: no photograph, scan or
model of anybody was used.

## Content

{len(plan.images):,} images of {plan.people} invented people, {plan.height} pixels high and {plan.width} wide.
{_PURPOSE[str(parameters.get("held_out"))]}
| split | people | modality | camera | images |
|---|---|---|---|---|
{chr(10).join(rows)}

## How the pictures come about

A person has lasting traits: build, cut and length of garments, pattern, prints on chest and back, hair, hat, bag,
shoes, and a material for each part. Shapes are the same in both modalities. A material has a colour, seen by the
visible cameras, and an infrared brightness `(1 - gap) · luminance + gap · own value`. The own value is a function of
the hue, unrelated to the luminance, as dyes have theirs, and a little chance; where a shape would vanish in infrared,
most materials keep a least contrast. Each camera has its own
{_DIFFERENCES[version]} Infrared files are grey with three equal channels (up to the loss of the file format).

Good results here show that a method's parts work together. They do not tell how it would do on photographs.

## Parameters

| parameter | value |
|---|---|
| generator version | {facts["generator_version"]} |
{settings}

Checksum over all images and lists (SHA-256 of each path and file digest, sorted by path):
`{facts["checksum"]}`

The same parameters, generator version and versions of Pillow and NumPy give the same bytes on any x86 processor, with
any number of processes.

## Make it again

```
{facts["command"]}
```
"""


_DIFFERENCES = {
    1: """scenery, exposure, tone, blur, noise and usual view; each picture its own pose, position, and now and then an
object in front.""",
    2: """scenery, colour response, height, resolution, lamp, haze, tone, blur, noise and usual views. Pictures of a
person come in passages of a few frames, nearly copies of each other, which share light, view, place and what is in
front; one passage differs from the next in these. Front and back of a person differ. In some passages a jacket is
closed, a bag is in the other hand, or another person passes. All crops are a few pixels off, and some are quite
wrong.""",
}

_PURPOSE = {
    "None": "",
    "validation": """
The people of the test split are **validation people**: choose settings, methods and epochs by them. Figures on them are
flattered by every choice; report those on the test people of the same seed (`--held-out test`), who are others.
Training people and images are the same in both sets.
""",
    "test": """
The people of the test split are **test people**: for final figures only. Choose nothing by them; for that there are the
validation people of the same seed (`--held-out validation`), who are others. Training people and images are the same in
both sets.
""",
}

_TITLES = {Layout.SYSU: "SYSU-MM01", Layout.REGDB: "RegDB", Layout.LLCM: "LLCM"}


def contact_sheet(root: Path, plan: Plan) -> Image.Image:
    """A labelled grid: one person per row, visible cameras on the left, infrared ones on the right.

    Args:
        root: Folder of the images.
        plan: Plan of the data set.
    """
    identities = sorted({image.shot.identity for image in plan.images})[:_ROWS]
    columns = {modality: _columns(plan, identities, modality) for modality in Modality}
    width = round(_CELL_HEIGHT * plan.width / plan.height)
    left, top, gap = 64, 40, 4
    across = sum(len(slots) for slots in columns.values())
    sheet = Image.new(
        "RGB", (left + across * (width + gap) + 16, top + len(identities) * (_CELL_HEIGHT + gap)), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    by_cell: dict[tuple[int, Modality, int, int], PlannedImage] = {}
    seen: Counter[tuple[int, Modality, int]] = Counter()
    for image in plan.images:
        cell = (image.shot.identity, image.shot.modality, image.shot.camera)
        by_cell[(*cell, seen[cell])] = image
        seen[cell] += 1
    for row, identity in enumerate(identities):
        y = top + row * (_CELL_HEIGHT + gap)
        pen.text((4, y + _CELL_HEIGHT // 2), f"person\n{identity:04d}", fill="black", font=font)
        x = left
        for modality, slots in columns.items():
            for camera, number in slots:
                if row == 0:
                    pen.text((x + 2, 8), f"{modality}\ncamera {camera}", fill="black", font=font)
                planned = by_cell.get((identity, modality, camera, number))
                if planned is None:
                    pen.rectangle((x, y, x + width, y + _CELL_HEIGHT), fill="#eeeeee")
                else:
                    with Image.open(root / planned.path) as picture:
                        sheet.paste(picture.convert("RGB").resize((width, _CELL_HEIGHT)), (x, y))
                x += width + gap
            x += 12
    return sheet


def _columns(plan: Plan, identities: list[int], modality: Modality) -> list[tuple[int, int]]:
    """(camera, image number) of each column of one modality: all cameras, then more images of each."""
    people = set(identities)
    cameras = sorted({i.shot.camera for i in plan.images if i.shot.modality is modality and i.shot.identity in people})[
        :_PER_MODALITY
    ]
    if not cameras:
        return []
    each = max(1, _PER_MODALITY // len(cameras))
    return [(camera, number) for camera in cameras for number in range(each)]
