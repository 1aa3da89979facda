"""Size of a report, seconds to make it and to open it, at the scale of SYSU-MM01.

Usage: python benchmarks/report.py [--images N] [--people N] [--rounds N] [--quick] [--json FILE]

The images are blurred noise, which JPEG compresses worse than photographs, and so are their embeddings: random points
about one point per person. A few hundred files stand for all, each under many names. From there on everything is as
after a training and an evaluation: the survey, the map, the page. Chromium opens the page from disk, with a new profile
each time. It counts until the page is drawn, and until the interactive map is, for which the page is scrolled to it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from benchmarks.showing import markdown_table, short, write_json
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pclhd.clustering.matching import Matching
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.surveying import survey_images
from pclhd.pair import Pair
from pclhd.report.album import Album, Picture
from pclhd.report.page import write_report
from pclhd.runs.folder import RunFolder
from pclhd.workflows.report import map_places

_FILES, _QUICK_FILES = 400, 8
_WIDTH = 256


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=34_000)
    parser.add_argument("--people", type=int, default=395)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    quick = arguments.quick
    images, people, rounds = (120, 10, 1) if quick else (arguments.images, arguments.people, arguments.rounds)
    with TemporaryDirectory() as folder:
        row = measured(Path(folder), images, people, rounds, files=_QUICK_FILES if quick else _FILES)
    titles = ["Images", "MB", "seconds to make", "seconds to open", "seconds to draw the map"]
    seconds = [short(row[f"seconds_to_{what}"]) for what in ("make", "open", "map")]
    print(markdown_table(titles, [[f"{row['images']:,}", f"{row['megabytes']:.1f}", *seconds]]))
    if arguments.json:
        write_json(arguments.json, {"benchmark": "report", "quick": quick, "rows": [row]})


def measured(folder: Path, images: int, people: int, rounds: int, *, files: int) -> dict[str, Any]:
    """The size of a page, and the times."""
    run = RunFolder(folder / "run")
    run.path.mkdir()
    random = np.random.default_rng(0)
    pictures = draw(folder / "data", images, people, random, files=files)
    survey = make_survey(images, people, random)
    run.write_survey(survey)
    started = time.perf_counter()
    saved = run.survey()
    assert saved is not None
    album = Album("made up", drawn=True, pictures=pictures, survey=saved, places=map_places(saved))
    page = write_report(run, album=album)
    seconds = time.perf_counter() - started
    return {
        "images": images,
        "megabytes": page.stat().st_size / 1e6,
        "survey_megabytes": run.survey_file.stat().st_size / 1e6,
        "seconds_to_make": seconds,
        **opening_seconds(page, rounds),
    }


def draw(folder: Path, images: int, people: int, random: np.random.Generator, *, files: int) -> tuple[Picture, ...]:
    """Blurred noise in a few files, which stand for all images; two thirds are visible."""
    folder.mkdir()
    paths = []
    for number in range(files):
        noise = Image.fromarray(random.integers(0, 256, (288, 144, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        noise.filter(ImageFilter.GaussianBlur(1.5)).save(path, quality=90)
        paths.append(path)
    return tuple(
        Picture(
            paths[row % files],
            f"{modality}/{row % people:04d}/{row:05d}.jpg",
            modality,
            1 + row % 6,
            row % people,
        )
        for modality, count in zip(("visible", "infrared"), _counts(images), strict=True)
        for row in range(count)
    )


def make_survey(images: int, people: int, random: np.random.Generator) -> Any:
    """The survey of random embeddings, clustered by person."""
    own = Pair(*(np.arange(count) % people for count in _counts(images)))
    centres = random.normal(size=(people, _WIDTH))
    features = own.map(lambda labels: _unit(centres[labels] + random.normal(size=(len(labels), _WIDTH))))
    partners = np.arange(people)
    return survey_images(
        features,
        EpochLabels(own.visible, own.infrared, None, Matching(partners, partners)),
        "0" * 64,
        random=random,
        look=lambda _, rows: random.random((len(rows), 18, 9), np.float32),
    )


def opening_seconds(page: Path, rounds: int) -> dict[str, float | None]:
    """Median seconds until a headless Chromium has drawn the page, and its map after that; None without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return {"seconds_to_open": None, "seconds_to_map": None}
    from playwright.sync_api import sync_playwright

    opened, mapped = [], []
    frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    with sync_playwright() as started:
        for _ in range(rounds):
            browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            begun = time.perf_counter()
            tab.goto(page.as_uri())
            tab.evaluate(frames)
            opened.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            tab.locator("#map").scroll_into_view_if_needed()
            tab.wait_for_selector("#map-plot svg", state="attached")
            tab.evaluate(frames)
            mapped.append(time.perf_counter() - begun)
            browser.close()
    return {"seconds_to_open": statistics.median(opened), "seconds_to_map": statistics.median(mapped)}


def _counts(images: int) -> tuple[int, int]:
    return images - images // 3, images // 3


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


if __name__ == "__main__":
    main()
