"""The commands, and the files that each reads."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from tests.fuzz.further import ABLATION, STUDY
from tests.fuzz.verb import NEW, Command, words_text
from tests.fuzz.world import SIZES


@dataclass(frozen=True)
class Target:
    """A command and the files that it reads.

    Attributes:
        command: The command.
        inputs: Patterns of the files to damage.
        weight: How often it is chosen.
    """

    command: Command
    inputs: tuple[str, ...]
    weight: int = 4


def _target(words: str, *inputs: str, writes: tuple[str, ...] = (), weight: int = 4, **about: Any) -> Target:
    return Target(Command(tuple(words.split()), writes, **about), inputs, weight)


_CHECKS = (0, 1, 2)
_OUT = (r"out/.+", r"out")
_RUN = ("runs/one/config.yaml", "runs/one/*.safetensors", "runs/one/*.json*", "runs/one/*.txt")
_CACHE = (r"cache(/.*)?",)
_RESUMED = (r"runs/stopped(/.*)?",)
_TRAIN = f"train tiny {' '.join(SIZES)} schedule.stage2_epochs=0"
_IMPORTED = "--layout sysu --out out/imported"

TARGETS: tuple[Target, ...] = (
    _target("check data/sysu", "data/sysu/**/*", codes=_CHECKS),
    _target("check data/regdb", "data/regdb/**/*", codes=_CHECKS),
    _target("check data/llcm", "data/llcm/**/*", codes=_CHECKS),
    _target("check data/own --json", "data/own/**/*", "data/own/images.csv", codes=_CHECKS),
    _target("check data/folders --layout own", "data/folders/**/*", codes=_CHECKS),
    _target("check data/own/images.csv", "data/own/images.csv", codes=_CHECKS),
    *(
        _target(f"{_TRAIN} --data {data} --out out/run", *inputs, writes=_OUT, weight=weight)
        for data, inputs, weight in (
            ("data/sysu", ("data/sysu/**/*",), 2),
            ("data/regdb", ("data/regdb/**/*",), 2),
            ("data/llcm", ("data/llcm/**/*",), 2),
            ("data/own", ("data/own/images.csv", "data/own/**/*"), 4),
            ("data/folders", ("data/folders/**/*", "start.safetensors"), 4),
        )
    ),
    _target(f"{_TRAIN} --data data/sysu --out out/run data.cache=cache", "cache/*", writes=(*_OUT, *_CACHE)),
    _target("train preset.yaml --out out/run", "preset.yaml", writes=_OUT, weight=6, may_be_long=True),
    _target("train --resume runs/stopped", "runs/stopped/checkpoints/epoch*", writes=_RESUMED, weight=6),
    _target("train --resume runs/stopped", "runs/stopped/*", writes=_RESUMED, weight=8, may_be_long=True),
    _target(
        f"{_TRAIN} --out runs/one --force --data data/folders",
        "runs/one/*",
        "runs/one/**/*",
        writes=("runs.*",),
        weight=1,
    ),
    _target("evaluate runs/one --device cpu", *_RUN, "runs/one/checkpoints/st*", writes=(r"runs/one/results\.json",)),
    _target("evaluate runs/one --device cpu", "data/sysu/**/*", writes=(r"runs/one/results\.json",)),
    _target("combine runs/one runs/two --force", *_RUN, "runs/two/*", weight=6),
    _target("compare runs/one runs/two", *_RUN, "runs/two/*", weight=6),
    _target("compare runs/one runs/two --json", "runs/two/*"),
    _target("runs runs", *_RUN, "runs/two/*", "runs/stopped/*", weight=2),
    _target("report runs/one", *_RUN, "data/sysu/cam*/*/*", writes=(r"runs/one/report(/.*)?",), weight=2),
    _target("report runs/one", "runs/one/*.json*", writes=(r"runs/one/report(/.*)?",), weight=2),
    _target(
        "verify runs/one", *_RUN, "runs/one/checkpoints/*", "start.safetensors", writes=_CACHE, codes=_CHECKS, weight=2
    ),
    _target("verify runs/one", "runs/one/config.yaml", writes=_CACHE, codes=_CHECKS, weight=2, may_be_long=True),
    _target("export runs/theirs --out out/x.pth", "runs/theirs/*", writes=_OUT),
    _target("export runs/theirs --out out/x.safetensors", "runs/theirs/model.safetensors", writes=_OUT),
    _target("embed runs/one --out out/x.npy --device cpu", *_RUN, "data/sysu/**/*", writes=_OUT),
    _target("embed runs/one --out out/x.parquet --device cpu", "data/sysu/**/*", writes=_OUT),
    _target(
        "embed runs/one --out out/x.safetensors --device cpu --modality infrared --images data/folders/infrared",
        "data/folders/infrared/*",
        writes=_OUT,
    ),
    _target("cluster features.npy --out out/x.csv --k1 4", "features.npy", writes=_OUT, weight=6),
    _target("cluster features.safetensors --key features --out out/x.npy --k1 4", "features.safetensors", writes=_OUT),
    _target(
        "cluster features.safetensors --key features --modality modality --out out/x.csv --k1 4",
        "features.safetensors",
        writes=_OUT,
    ),
    _target(
        "cluster features.parquet --modality modality --identities person --per-modality --out out/x.parquet --k1 4",
        "features.parquet",
        writes=_OUT,
        weight=6,
    ),
    _target(
        "cluster features.npy --modality modality.txt --identities people.txt --out out/x.csv --k1 4 --json",
        *("modality.txt", "people.txt"),
        writes=_OUT,
    ),
    _target(
        "cluster features.npy --modality modality.csv --identities people.npy --out out/x.csv --k1 4",
        *("modality.csv", "people.npy"),
        writes=_OUT,
    ),
    *(
        _target(f"import {name} {_IMPORTED}", name, writes=_OUT, weight=6)
        for name in ("theirs.pth", "nested.pth.tar", "theirs.safetensors")
    ),
    _target("synth --out drawn --scale tiny --workers 1", "drawn/*", writes=(r"drawn(/.*)?",), weight=1),
    _target("settings --preset preset.yaml", "preset.yaml", weight=6),
    _target("settings model --preset preset.yaml --json", "preset.yaml", weight=1),
    _target(
        "starter --out out/x.safetensors --people 2 --images 2 --steps 1 --preset preset.yaml",
        "preset.yaml",
        writes=_OUT,
        weight=1,
    ),
    _target("fetch-imagenet --out out/weights", "out/weights/*", writes=_OUT, weight=1),
)

_PEOPLE = ("people/**/*", "indexed/**/*")
_GALLERY = (r"(people|indexed)(/.*)?",)
_MODEL = ("runs/one/model.safetensors", "runs/one/config.yaml", "runs/one/calibration.json")
_IMAGE = "data/own/infrared/0-0.png"
_AUDIT = (r"(people|indexed)\.audit\.jsonl",)
#: Each process has its own, since several may fuzz at once.
PORT = 20_000 + os.getpid() % 20_000
_SEARCH = "search runs/one data/own/infrared --modality visible --device cpu"
_FIGURES = (r"out/figures(/.*)?", r"out/figures")
_STUDY = (r"studies/one(/.*)?",)
_ABLATION = (r"ablation(/.*)?",)
_ABLATE = ("ablate", "tiny", *SIZES, *ABLATION)

#: Galleries, the service, calibration, search, ONNX, studies, figures, ablations.
FURTHER: tuple[Target, ...] = (
    *(
        target
        for gallery in ("people", "indexed")
        for target in (
            _target(f"gallery search {gallery} {_IMAGE} --modality infrared --device cpu", *_PEOPLE, *_MODEL, weight=6),
            _target(f"gallery list {gallery}", f"{gallery}/**/*", weight=3),
            _target(f"gallery stats {gallery} --json", f"{gallery}/**/*", weight=3),
            _target(f"gallery compact {gallery}", f"{gallery}/**/*", writes=_GALLERY, weight=3),
        )
    ),
    _target(f"gallery search people {_IMAGE} --modality infrared --device cpu", _IMAGE, "runs/one/*", weight=3),
    _target(f"gallery search people {_IMAGE} --modality infrared --rerank --json --device cpu", "people/**/*"),
    _target("gallery list people --only visible --since 2026-01-01 --camera gate --json", "people/**/*"),
    _target("gallery remove people --camera gate --only visible --yes", "people/**/*", writes=_GALLERY, weight=5),
    _target(
        f"gallery remove people --like {_IMAGE} --modality infrared --similarity 0.9 --yes --device cpu",
        *("people/**/*", _IMAGE),
        writes=_GALLERY,
    ),
    _target("gallery expire people --older-than 30d", "people/**/*", writes=_GALLERY),
    _target("gallery expire indexed --older-than 30d", "indexed/**/*", writes=_GALLERY),
    _target("gallery export people --out out/x.parquet --map pca", "people/**/*", writes=_OUT, weight=5),
    _target("gallery export indexed --out out/x.parquet --map none", "indexed/**/*", writes=_OUT),
    _target(
        "gallery add people data/people/visible --modality visible --device cpu",
        *("people/**/*", "data/people/visible/*", *_MODEL),
        writes=_GALLERY,
        weight=6,
    ),
    _target("gallery add indexed data/people/visible --modality visible --device cpu", "indexed/**/*", writes=_GALLERY),
    _target(
        "gallery add out/new gallery.csv --model runs/one --device cpu",
        *("gallery.csv", "data/own/*/*", *_MODEL),
        writes=_OUT,
        weight=6,
    ),
    _target(
        "gallery add out/new film.mp4 --boxes boxes.txt --modality visible --model runs/one --device cpu",
        *("film.mp4", "boxes.txt"),
        writes=_OUT,
        weight=6,
    ),
    _target(
        "calibrate runs/one --data data/people --device cpu",
        "data/people/images.csv",
        "data/people/*/*",
        *_RUN,
        writes=(r"runs/one/calibration\.json",),
        weight=6,
    ),
    _target("calibrate runs/one --data data/people --measure --device cpu", "runs/one/calibration.json"),
    _target(
        f"{_SEARCH} --images data/own/visible --csv out/x.csv --sheet out/x.html",
        *("data/own/*/*", *_MODEL),
        writes=_OUT,
        weight=6,
    ),
    _target(f"{_SEARCH} --features embedded.parquet --json", "embedded.parquet", "runs/one/calibration.json", weight=6),
    _target(f"{_SEARCH} --features embedded.safetensors --csv out/x.csv", "embedded.safetensors", writes=_OUT),
    _target(
        f"{_SEARCH} --features embedded.parquet --runtime onnx", "runs/one/model.onnx", "runs/one/*.json", weight=6
    ),
    _target("embed runs/one --runtime onnx --out out/x.npy --device cpu", "runs/one/model.onnx", writes=_OUT, weight=6),
    _target("export runs/one --format onnx --out out/x.onnx", *_RUN, "data/sysu/cam*/*/*", writes=_OUT, weight=2),
    _target(
        f"serve people --port {PORT} --device cpu",
        "people/**/*",
        "people.audit.jsonl",
        *_MODEL,
        writes=_AUDIT,
        serves=True,
        weight=8,
    ),
    _target(
        f"serve people --port {PORT} --tokens tokens.json --device cpu",
        "tokens.json",
        "people.audit.jsonl",
        writes=_AUDIT,
        serves=True,
        weight=4,
    ),
    _target("audit verify people.audit.jsonl --json", "people.audit.jsonl", weight=6),
    _target("token list --tokens tokens.json --json", "tokens.json"),
    _target("token create new --tokens tokens.json", "tokens.json", writes=(r"tokens\.json",)),
    _target("token revoke desk --tokens tokens.json", "tokens.json", writes=(r"tokens\.json",)),
    _target(
        "figures runs/one runs/two --out out/figures --device cpu",
        *_RUN,
        "runs/two/*",
        "data/sysu/**/*",
        writes=_FIGURES,
    ),
    _target(
        "figures ablation --out out/figures --device cpu",
        "ablation/ablation.json",
        "ablation/*/*",
        writes=_FIGURES,
        weight=4,
    ),
    _target(f"{words_text(_ABLATE)} --seeds 0 --dry-run", "ablation/ablation.json", "ablation/*/*", weight=6),
    _target(
        f"{words_text(_ABLATE)} --seeds 0",
        "ablation/ablation.json",
        "ablation/*/*",
        writes=_ABLATION,
        weight=6,
        may_be_long=True,
    ),
    _target("study show studies/one --json", "studies/one/*", weight=4),
    _target("study plot studies/one", "studies/one/*", writes=_STUDY, weight=2),
    _target(words_text(STUDY), "study.yaml", "studies/one/*", writes=_STUDY, weight=4, may_be_long=True),
    _target(
        words_text((*STUDY[:-1], "3")), "studies/one/*", "studies/one/*/*", writes=_STUDY, weight=3, may_be_long=True
    ),
    _target(
        "study run study.yaml --data data/sysu --out out/study --trials 1",
        "study.yaml",
        writes=_OUT,
        weight=4,
        may_be_long=True,
    ),
)

ALL = (*TARGETS, *FURTHER)

#: Commands whose words are changed, instead of their files.
SPOKEN: tuple[Command, ...] = (
    *(
        replace(target.command, may_be_long=not target.command.serves, writes=(*target.command.writes, NEW))
        for target in ALL
        if target.command.words[0] not in {"synth", "starter", "report"} and "--force" not in target.command.words
    ),
    Command(("synth", "--out", "out/x", "--scale", "tiny", "--workers", "1"), (*_OUT, NEW), may_be_long=True),
    Command(
        ("starter", "--out", "out/x.safetensors", "--people", "2", "--images", "2", "--steps", "1"),
        (*_OUT, NEW),
        may_be_long=True,
    ),
    Command(("recipes", "pclhd", "--against", "paper"), _OUT),
    Command(("settings", "clustering", "--preset", "tiny"), _OUT),
    Command(("help", "train"), _OUT),
)
