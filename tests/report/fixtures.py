"""A run folder and a data folder with invented but plausible numbers and drawn people, for the report's tests."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pclhd.clustering.matching import Matching
from pclhd.engine.labelling import EpochLabels
from pclhd.engine.surveying import survey_images
from pclhd.pair import Pair
from pclhd.report.album import Album, Picture

SEARCHES = ("visible→infrared", "infrared→visible", "all/single-shot", "indoor/single-shot")
_LEVELS = {"start": 0.26, "stage1": 0.34, "final": 0.47}


def make_results(*, searches: tuple[str, ...] = SEARCHES[2:], trials: int = 10) -> dict[str, Any]:
    """What `results.json` holds: start < stage I < final in every search, plus two queries' ranked lists."""
    rows = []
    for place, search in enumerate(searches):
        for weights, level in _LEVELS.items():
            first = level + 0.04 * place
            rows.append(
                {
                    "weights": weights,
                    "search": search,
                    "trials": trials,
                    "rank1": _spread(first),
                    "rank5": _spread(first + 0.2),
                    "rank10": _spread(first + 0.3),
                    "rank20": _spread(first + 0.38),
                    "mAP": _spread(first - 0.03),
                    "mINP": _spread(first - 0.12),
                    "cmc": [first + 0.38 * (1 - 0.85**rank) for rank in range(20)],
                    "queries": 3803,
                    "valid_queries": 3803 - 2 * place,
                    "gallery": 301,
                    "per_trial": [{"rank1": first, "mAP": first - 0.03, "mINP": first - 0.12}] * trials,
                }
            )
    return {
        "schema": 1,
        "dataset": {"name": "synthetic-small", "checksum": "5f" * 32, "train_images": 7200, "test_images": 4104},
        "rows": rows,
        "ranked_examples": {
            "search": searches[0] if searches else None,
            "weights": {"start": _examples(1), "final": _examples(4)},
        },
    }


def make_metrics(stage1: int = 4, stage2: int = 8) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, steps among the epochs."""
    lines: list[dict[str, Any]] = []
    total = stage1 + stage2
    for epoch in range(1, total + 1):
        stage = 1 if epoch <= stage1 else 2
        done = epoch / total
        loss = {"visible_centroid": 2.1 - 1.2 * done, "infrared_centroid": 2.6 - 1.1 * done}
        if stage == 2:
            loss = {
                "visible_hard": 1.6 - 0.7 * done,
                "infrared_hard": 1.9 - 0.6 * done,
                "visible_dynamic": 2.4 - 0.8 * done,
                "infrared_dynamic": 2.7 - 0.6 * done,
                "cross": 3.0 - 0.9 * done,
            }
        loss["total"] = sum(loss.values()) / 2
        lines.append(
            {"kind": "step", "epoch": epoch, "stage": stage, "step": 20, "global_step": 40 * epoch, "loss": loss}
        )
        record: dict[str, Any] = {
            "kind": "epoch",
            "epoch": epoch,
            "stage": stage,
            "seconds": 7.1,
            "seconds_clustering": 1.2,
            "images_per_second": 1200.0 + 10 * (epoch % 3),
            "lr": 0.00035,
            "loss": loss,
            "visible": _clusters(4800, 310 - round(40 * done), 0.04 + 0.02 * (1 - done)),
            "infrared": _clusters(2400, 260 - round(20 * done), 0.17 - 0.08 * done),
            "matched": {"visible": 0.9 + 0.07 * done, "infrared": 1.0},
            "labels": {
                "ari_visible": 0.86 + 0.07 * done,
                "nmi_visible": 0.95 + 0.03 * done,
                "ari_infrared": 0.2 + 0.3 * done,
                "nmi_infrared": 0.7 + 0.15 * done,
                "match_precision": 0.25 + 0.3 * done,
            },
        }
        if stage == 2:
            record["joint"] = _clusters(7200, 330 - round(60 * done), 0.1)
            record["labels"]["ari_joint"] = 0.3 + 0.3 * done
            record["labels"]["nmi_joint"] = 0.8 + 0.1 * done
        lines.append(record)
    return lines


def write_run(run: Path, *, results: dict[str, Any] | None = None, metrics: list[dict[str, Any]] | None = None) -> Path:
    """A complete run folder, with the given or the invented results and metrics."""
    run.mkdir(parents=True)
    saved = make_results() if results is None else results
    (run / "results.json").write_text(json.dumps(saved, ensure_ascii=False), encoding="utf-8")
    lines = make_metrics() if metrics is None else metrics
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    (run / "config.yaml").write_text(
        "preset: synthetic\nseed: 7\nrecipe: pclhd\ndata:\n  layout: sysu\n  root: null\n"
        "model:\n  architecture: narrow\n  weights: starter\n# a < b & c\n",
        encoding="utf-8",
    )
    provenance = {"pclhd": "0.0.9", "commit": None, "libraries": {"torch": "2.99.0"}, "seed": 7, "device": "cpu"}
    (run / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    (run / "model.safetensors").write_bytes(b"not weights")
    return run


def write_data(root: Path) -> Path:
    """The images that the ranked examples name, and a contact sheet."""
    for weights in make_results()["ranked_examples"]["weights"].values():
        for example in weights:
            for image in (example["query"], *example["gallery"]):
                _draw_person(root / image["path"], image["identity"], infrared="ir" in image["path"])
    sheet = Image.new("RGB", (1000, 220), "white")
    for place in range(18):
        path = root / f"sheet/{'ir' if place % 2 else 'vis'}.jpg"
        _draw_person(path, 3 * place, infrared=bool(place % 2))
        sheet.paste(Image.open(path), (8 + 55 * place, 60))
    sheet.save(root / "contact_sheet.png")
    return root


def _spread(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": 0.012}


def _clusters(images: int, clusters: int, noise: float) -> dict[str, Any]:
    return {"images": images, "clusters": clusters, "noise": noise, "size_min": 4, "size_median": 15.0, "size_max": 40}


def _examples(right: int) -> list[dict[str, Any]]:
    chance = random.Random(right)
    examples = []
    for number in (11, 12, 13):
        places = set(chance.sample(range(10), right)) if number != 13 or right > 1 else set()
        gallery = [
            {
                "path": f"cam1/{number if place in places else 40 + place}/vis{place}.jpg",
                "identity": number if place in places else 40 + place,
                "camera": 1 + place % 2,
                "correct": place in places,
                "distance": 0.3 + 0.04 * place,
            }
            for place in range(10)
        ]
        first = min(places) + 1 if places else 27
        query = {"path": f"cam3/{number}/ir.jpg", "identity": number, "camera": 3, "modality": "infrared"}
        examples.append({"query": query, "gallery": gallery, "first_correct_rank": first})
    return examples


def _draw_person(path: Path, identity: int, *, infrared: bool) -> None:
    chance = random.Random(identity)
    colours = [tuple(chance.randrange(40, 230) for _ in range(3)) for _ in range(3)]
    image = Image.new("RGB", (48, 96), (150, 155, 160))
    draw = ImageDraw.Draw(image)
    draw.rectangle((15, 52, 33, 92), fill=colours[0])
    draw.rectangle((12, 24, 36, 54), fill=colours[1])
    draw.ellipse((17, 6, 31, 23), fill=colours[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.convert("L") if infrared else image).save(path)


def make_album(root: Path, *, people: int = 6, shots: int = 3, labelled: bool = True, has_test: bool = False) -> Album:
    """Drawn people in two modalities, and what a model would make of them that confuses the last two."""
    pictures, person_of = [], []
    for modality in ("visible", "infrared"):
        for person in range(people):
            for shot in range(shots):
                path = f"{modality}/person{person}/{shot}.jpg"
                _draw_person(root / path, person, infrared=modality == "infrared")
                identity = person if labelled else None
                pictures.append(Picture(root / path, path, modality, 1 + shot % 2, identity))
                person_of.append(person)
    own = Pair(np.array(person_of[: people * shots]), np.array(person_of[people * shots :]))
    own.infrared[-1] = people - 2  # a wrong image in a cluster
    random = np.random.default_rng(0)
    centres = random.normal(size=(people, 16))
    centres[-1] = centres[-2] + 0.3 * random.normal(size=16)
    features = own.map(lambda labels: _unit(centres[labels] + 0.25 * random.normal(size=(len(labels), 16))))
    partners = np.roll(np.arange(people), 0)
    partners[-1] = -1
    labels = EpochLabels(own.visible, own.infrared, None, Matching(partners, partners.copy()))
    survey = survey_images(
        features, labels, "5f" * 32, random=random, look=lambda _, rows: random.random((len(rows), 6, 3), np.float32)
    )
    places = survey.map_features[:, :2]
    return Album("own", drawn=False, pictures=tuple(pictures), survey=survey, places=places, has_test=has_test)


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit
