"""Draw the pictures of the README, of the method page and of the data card from the demo's run.

    make demo
    python scripts/readme_pictures.py build/demo/run build/demo/data docs/pictures

It writes `first_answers.png` (the first answer to twenty queries, before and after training), `contact_sheet.png` and
`prototypes.png` (some clusters with their prototypes and partners). No picture is chosen by its result; each function
says what is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from pclhd.data.records import Dataset, ImageRecord, Modality
from pclhd.engine.labelling import Cameras, LabelRequest, label_epoch
from pclhd.evaluation.evaluate import evaluate_embeddings
from pclhd.evaluation.metrics import excluded_pairs
from pclhd.evaluation.protocols import protocol_for
from pclhd.evaluation.retrieval import rank_gallery
from pclhd.models.encoder import Encoder, embed_records
from pclhd.pair import Pair
from pclhd.prototypes import cluster_means
from pclhd.runs.folder import RunFolder
from pclhd.workflows.train import open_data

CELL = (44, 88)
FRAME = 3
BOX = (CELL[0] + 2 * FRAME, CELL[1] + 2 * FRAME)
ACROSS, DOWN = 4, 5
CLUSTERS = 6
SEARCH = "all/single-shot"
#: Of the contact sheet's height: the headings and four people.
SHEET_SHARE = 0.3435
RIGHT, WRONG, PLAIN, INK = "#1a7f37", "#b3261e", "#777777", "#1d2025"
COLOURS = 192


def main(run: Path, data: Path, folder: Path) -> None:
    """Write the three pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = RunFolder(run)
    dataset = open_data(opened.settings(), data)
    save(first_answers(opened, dataset), folder / "first_answers.png")
    save(prototypes(opened, dataset), folder / "prototypes.png")
    sheet = Image.open(data / "contact_sheet.png").convert("RGB")
    few = sheet.crop((0, 0, sheet.width, round(SHEET_SHARE * sheet.height)))
    save(few.resize((few.width * 2 // 3, few.height * 2 // 3)), folder / "contact_sheet.png")


def first_answers(run: RunFolder, dataset: Dataset) -> Image.Image:
    """For twenty queries the first answer before and after training, and over all queries how often it is right.

    The queries are the first ones of twenty people, spread evenly over all test people who can be found.
    """
    test = dataset.test
    if test is None:
        sys.exit("the data have no test images")
    (search,) = [one for one in protocol_for("sysu", test).searches if one.name == SEARCH]
    files = [run.weights_file("start"), run.weights_file("final")]
    embedded = embed_records([Encoder.load(file, device="cpu") for file in files], test.images)
    trial, identities = search.trials[0], np.array(test.identities)
    cameras = np.array([image.camera or 0 for image in test.images])
    rows = trial.query[np.unique(identities[trial.query], return_index=True)[1]]  # the first query of each person
    found = trial.gallery
    excluded = excluded_pairs(search.rule, identities[rows], identities[found], cameras[rows], cameras[found])
    can_be_found = np.flatnonzero(((identities[rows][:, None] == identities[found]) & ~excluded).any(axis=1))
    spread = can_be_found[np.linspace(0, len(can_be_found) - 1, ACROSS * DOWN).round().astype(int)]
    rows, excluded = rows[spread], excluded[spread]
    firsts = [found[rank_gallery(one[rows], one[found], top_n=1, excluded=excluded).index[:, 0]] for one in embedded]
    shares = [evaluate_embeddings(one, test, [search])[0].to_dict()["rank1"]["mean"] for one in embedded]

    block = (3 * BOX[0] + 30, BOX[1] + 26)
    picture = Image.new("RGB", (ACROSS * block[0] - 14, 118 + DOWN * block[1]), "white")
    pen, font, small = ImageDraw.Draw(picture), ImageFont.load_default(17), ImageFont.load_default(13)
    pen.text(
        (0, 0), f"Share of the {len(trial.query)} infrared queries whose first answer is the right person", INK, font
    )
    for number, (name, share) in enumerate(zip(("before training", "after it"), shares, strict=True)):
        top = 30 + 28 * number
        pen.text((0, top + 2), name, INK, font)
        pen.rectangle((140, top, 140 + round(4 * 100 * share), top + 20), fill=RIGHT if number else PLAIN)
        pen.text((148 + round(4 * 100 * share), top + 2), f"{share:.0%}", INK, font)
    pen.text((0, 94), "Twenty of them: query, first answer before, first answer after", INK, small)
    for place, (query, *answers) in enumerate(zip(rows, *firsts, strict=True)):
        left, top = place % ACROSS * block[0], 116 + place // ACROSS * block[1]
        paste(picture, test.images[query].path, left, top, PLAIN)
        for number, answer in enumerate(answers):
            x = left + BOX[0] + 6 + number * (BOX[0] + 2)
            colour, word = (RIGHT, "right") if identities[answer] == identities[query] else (WRONG, "wrong")
            paste(picture, test.images[answer].path, x, top, colour)
            pen.text((x + 4, top + BOX[1]), word, colour, small)
        pen.text((left + 2, top + BOX[1]), "query", PLAIN, small)
    return picture


def prototypes(run: RunFolder, dataset: Dataset) -> Image.Image:
    """Six visible clusters after stage I, with the images that stand for them and their infrared partner.

    The clusters are spread evenly over all visible clusters, in the order of their numbers. A red frame with
    a cross marks an image of another person than most of the visible cluster; training does not know that.
    """
    settings = run.settings()
    encoder = Encoder.load(run.weights_file("stage1"), device="cpu")
    identity = dict(zip(dataset.train.images, dataset.train_identities or (), strict=True))
    images = Pair(*([image for image in dataset.train.images if image.modality is one] for one in Modality))
    features = images.map(lambda part: embed_records([encoder], part)[0])
    cameras: Pair[Cameras | None] = images.map(lambda part: np.array([image.camera or 0 for image in part]))
    found = label_epoch(LabelRequest(features, settings.clustering, settings.method, joint=False, cameras=cameras))
    people = images.map(lambda part: [identity[image] for image in part])
    visible, infrared = map(Side, images, features, found.own, people)
    partner = found.matching.visible_to_infrared
    random = np.random.default_rng(0)

    columns = (("nearest to\nthe centroid", 1), ("hard:\nfurthest", 1), ("dynamic: drawn at random", 4),
               ("partner in infrared: drawn at random", 4))  # fmt: skip
    gap, head, label = 18, 44, 74
    width = label + sum(count * (BOX[0] + 2) + gap + (34 if count == 1 else 0) for _, count in columns)
    picture = Image.new("RGB", (width, head + CLUSTERS * (BOX[1] + 10)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for row, cluster in enumerate(np.linspace(0, len(visible.centres) - 1, CLUSTERS).round().astype(int)):
        top = head + row * (BOX[1] + 10)
        rows, by_similarity = visible.members(cluster)
        whose = np.bincount(visible.identities[rows]).argmax()
        pen.text((0, top + 30), f"cluster\n{len(rows)} images", INK, font)
        others, _ = infrared.members(int(partner[cluster]))
        shown = (
            by_similarity[:1], by_similarity[-1:],
            random.choice(rows, min(4, len(rows)), replace=False),
            random.choice(others, min(4, len(others)), replace=False),
        )  # fmt: skip
        x = label
        for (title, count), chosen in zip(columns, shown, strict=True):
            side = infrared if title.startswith("partner") else visible
            if row == 0:
                pen.text((x, 4), title, INK, font)
            for place, image in enumerate(chosen):
                colour = PLAIN if side.identities[image] == whose else WRONG
                paste(picture, side.images[image].path, x + place * (BOX[0] + 2), top, colour)
            x += count * (BOX[0] + 2) + gap + (34 if count == 1 else 0)
    return picture


class Side:
    """One modality: images, features, clusters."""

    def __init__(
        self,
        images: Sequence[ImageRecord],
        features: NDArray[np.float32],
        labels: NDArray[np.int64],
        identities: Sequence[int],
    ) -> None:
        self.images, self.labels = images, labels
        self.identities = np.array(identities)
        self._features = features
        means = cluster_means(torch.from_numpy(features), torch.from_numpy(labels), 1 + int(labels.max()))
        self.centres = means.numpy() / np.linalg.norm(means.numpy(), axis=1, keepdims=True)

    def members(self, cluster: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of a cluster, in their order and from the most to the least similar to the centroid."""
        rows = np.flatnonzero(self.labels == cluster)
        return rows, rows[np.argsort(-self._features[rows] @ self.centres[cluster], kind="stable")]


def paste(picture: Image.Image, path: Path, left: int, top: int, colour: str) -> None:
    """Paste an image with a coloured frame."""
    framed = Image.new("RGB", BOX, colour)
    framed.paste(Image.open(path).convert("RGB").resize(CELL, Image.Resampling.LANCZOS), (FRAME, FRAME))
    picture.paste(framed, (left, top))
    if colour == WRONG:  # a mark that is seen without colours, too
        pen, right = ImageDraw.Draw(picture), left + BOX[0] - FRAME - 2
        pen.line((right - 9, top + 5, right, top + 14), WRONG, 3)
        pen.line((right - 9, top + 14, right, top + 5), WRONG, 3)


def save(picture: Image.Image, path: Path) -> None:
    """Save a picture with a margin and few colours, so that it is small."""
    framed = ImageOps.expand(picture, 10, "white")
    few = framed.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)  # keeps the rare, bright colours of garments
    framed.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python scripts/readme_pictures.py RUN DATA FOLDER")
    main(*map(Path, sys.argv[1:]))
