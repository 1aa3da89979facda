"""Writing a synthetic data set, completely or not at all."""

from __future__ import annotations

import hashlib
import json
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import PIL

from pclhd.data.layouts import DRAWN_MARK
from pclhd.data.records import digest_file
from pclhd.errors import UserError
from pclhd.files import claiming, discard, expanded, name_aside
from pclhd.parsing import parse_json, read_text
from pclhd.synthetic.card import contact_sheet, count_images, describe
from pclhd.synthetic.layouts import make_plan
from pclhd.synthetic.palette import DEFAULT_GAP
from pclhd.synthetic.plan import HeldOut, Layout, Plan, Scale
from pclhd.synthetic.render import choose_workers, encode, render
from pclhd.synthetic.seeds import NEWEST, VERSIONS, Population, Version
from pclhd.synthetic.workers import worker_pool
from pclhd.synthetic.world import Shot, World

CARD_NAME = "DATA_CARD.md"
SHEET_NAME = "contact_sheet.png"
_PIECE = 64


@dataclass(frozen=True, slots=True)
class SyntheticSummary:
    """Summary of a written data set.

    Attributes:
        root: The folder.
        images: Number of images.
        people: Number of people.
        checksum: SHA-256 over all images and lists.
        seconds: Duration in seconds.
        already_there: True if the same data set existed and nothing was written.
    """

    root: Path
    images: int
    people: int
    checksum: str
    seconds: float
    already_there: bool


def write_synthetic(
    root: Path,
    *,
    scale: Literal["tiny", "small", "sysu"] = "small",
    layout: Literal["sysu", "regdb", "llcm"] = "sysu",
    seed: int = 0,
    gap: float | None = None,
    one_modality_share: float = 0.0,
    people: int | None = None,
    population: str = "benchmark",
    generator: int = NEWEST,
    held_out: Literal["validation", "test"] | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SyntheticSummary:
    """Write the synthetic benchmark into a folder (ours).

    Images have 96 × 48 pixels for ``tiny`` and ``small`` and 192 × 96 for ``sysu``. Everything is written to a
    temporary sibling folder that is renamed to `root` when complete.

    Args:
        root: Output folder; must be missing, empty, or contain the same data set.
        scale: ``tiny`` for tests, ``small`` for the demo, ``sysu`` with the counts of SYSU-MM01 (in other layouts,
            about those of the imitated data set).
        layout: Folders and lists of SYSU-MM01, RegDB or LLCM.
        seed: Another seed gives other people and cameras.
        gap: Independence of infrared brightness from colour, 0 (luminance) to 1 (unrelated); None for that of the
            generator's version.
        one_modality_share: Share of training people who appear in only one modality, 0..1.
        people: Number of training people (validation included) instead of the scale's.
        population: ``benchmark``, or ``starter`` for people and cameras that no benchmark has.
        generator: Version of the generator: 2, or 1 for the former one, whose pictures vary less.
        held_out: Who is in the test split: ``validation`` people, to choose by (the default), or ``test`` people, for
            figures that nothing is chosen by. Training people and their images are the same with both. Version 1 and
            the layout of RegDB have no such choice.
        workers: Number of processes; None means one per usable processor. It does not affect the files. A script that
            uses several must guard its entry point with ``if __name__ == "__main__"``.
        on_progress: Called with the number of written images and the total.

    Raises:
        UserError: A parameter is out of range, or `root` contains something else.
    """
    start = time.perf_counter()
    choices = _check(scale, layout, seed, gap, one_modality_share, people, population, generator, held_out)
    root = expanded(root).resolve()
    parameters: dict[str, object] = {
        "scale": str(choices.scale),
        "layout": str(choices.layout),
        "seed": seed,
        "gap": choices.gap,
        "one_modality_share": float(one_modality_share),
        "people": people,
        "population": str(choices.population),
    }
    if choices.held_out is not None:
        parameters["held_out"] = str(choices.held_out)
    plan = make_plan(
        choices.layout,
        choices.scale,
        seed=seed,
        population=choices.population,
        people=people,
        one_modality_share=one_modality_share,
        version=choices.version,
        held_out=choices.held_out,
    )
    if _is_occupied(root):
        checksum = _verify(root, choices.version, parameters, plan)
        return SyntheticSummary(root, len(plan.images), plan.people, checksum, time.perf_counter() - start, True)
    world = World(seed, choices.population, choices.gap, plan.height, plan.width, choices.version)
    partial = name_aside(root, "part")
    with claiming(root):
        try:
            partial.mkdir()
            if root.exists():
                partial.chmod(stat.S_IMODE(root.stat().st_mode))
            checksum = _write_all(partial, plan, world, workers, on_progress)
            _write_beside(partial, plan, choices, parameters, checksum)
            if root.exists():
                root.rmdir()
            partial.rename(root)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{root}: cannot be written ({reason}); choose a writable folder") from error
        finally:
            discard(partial)
    return SyntheticSummary(root, len(plan.images), plan.people, checksum, time.perf_counter() - start, False)


@dataclass(frozen=True, slots=True)
class _Choices:
    scale: Scale
    layout: Layout
    population: Population
    version: Version
    held_out: HeldOut | None
    gap: float


def _check(
    scale: str,
    layout: str,
    seed: int,
    gap: float | None,
    one_modality_share: float,
    people: int | None,
    population: str,
    generator: int,
    held_out: str | None,
) -> _Choices:
    """The named choices as enums; values out of range raise an error."""
    for name, value, kinds in (
        ("scale", scale, list(Scale)),
        ("layout", layout, list(Layout)),
        ("population", population, list(Population)),
    ):
        if value not in [str(kind) for kind in kinds]:
            raise UserError(f"{name}={value!r} is unknown; choose one of {', '.join(map(str, kinds))}")
    version = next((version for version in VERSIONS if version == generator), None)
    if version is None:
        raise UserError(f"generator={generator} is unknown; choose one of {', '.join(map(str, VERSIONS))}")
    if held_out is not None and held_out not in list(HeldOut):
        raise UserError(f"held_out={held_out!r} is unknown; choose one of {', '.join(HeldOut)}")
    if held_out is not None and (version == 1 or layout == Layout.REGDB):
        which = "generator=1" if version == 1 else "layout=regdb"
        raise UserError(f"held_out={held_out} cannot be used with {which}, which has one group of people; leave it out")
    gap = DEFAULT_GAP[version] if gap is None else float(gap)
    for name, number in (("gap", gap), ("one_modality_share", one_modality_share)):
        if not 0 <= number <= 1:
            raise UserError(f"{name}={number} is out of range; give a number from 0 to 1")
    if seed < 0:
        raise UserError(f"seed={seed} is negative; give 0 or a positive whole number")
    if people is not None and not 2 <= people <= 9000:
        raise UserError(f"people={people} is out of range; give 2 to 9000 training people")
    if layout == Layout.REGDB and one_modality_share > 0:
        raise UserError(
            f"one_modality_share={one_modality_share} cannot be used with layout=regdb, where each person is tested in "
            "some trial and needs both modalities; use layout=sysu or llcm, or leave the share at 0"
        )
    if version > 1 and layout != Layout.REGDB:
        held_out = held_out or HeldOut.VALIDATION
    return _Choices(
        Scale(scale), Layout(layout), Population(population), version, HeldOut(held_out) if held_out else None, gap
    )


def _is_occupied(root: Path) -> bool:
    try:
        return any(root.iterdir()) if root.is_dir() else root.exists()
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({error.strerror}); choose another folder") from error


def _verify(root: Path, version: Version, parameters: dict[str, object], plan: Plan) -> str:
    """The checksum of the data set in `root`, if it has these parameters and is complete.

    Raises:
        UserError: The folder contains something else, or files are missing.
    """
    advice = "choose an empty or new folder, or remove this one"
    if not root.is_dir():
        raise UserError(f"{root}: is a file, not a folder; {advice}")
    facts_path = root / DRAWN_MARK
    if not facts_path.is_file():
        raise UserError(f"{root}: is not empty and has no {DRAWN_MARK}; {advice}")
    try:
        facts = parse_json(read_text(facts_path, advice))
        there, drawn_by, checksum = facts["parameters"], facts["generator_version"], str(facts["checksum"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{facts_path}: is not a description of a synthetic data set; {advice}") from error
    if drawn_by != version:
        raise UserError(f"{root}: was made by generator version {drawn_by}, not {version}; {advice}")
    if there != parameters:
        differing = [name for name in parameters if not isinstance(there, dict) or there.get(name) != parameters[name]]
        raise UserError(f"{root}: contains another synthetic data set (different {', '.join(differing)}); {advice}")
    expected = [image.path for image in plan.images] + list(plan.lists)
    missing = [path for path in expected if not (root / path).is_file()]
    if missing:
        raise UserError(
            f"{root}: {len(missing)} of {len(expected)} files are missing, the first is {missing[0]}; remove the "
            "folder and create it again"
        )
    digests = {path: digest_file(root / path) for path in expected}
    if _checksum(digests) != checksum:
        raise UserError(f"{root}: files have changed since they were drawn; remove the folder and make it again")
    return checksum


def _write_all(
    folder: Path, plan: Plan, world: World, workers: int | None, on_progress: Callable[[int, int], None] | None
) -> str:
    """Write images and lists; return the checksum over them."""
    for parent in sorted({folder / Path(image.path).parent for image in plan.images}):
        parent.mkdir(parents=True, exist_ok=True)
    items = [(image.path, image.shot) for image in plan.images]
    # Sorted by camera, so that a worker rarely needs the scenery of more than one camera at a time.
    items.sort(key=lambda item: (item[1].modality, item[1].camera, item[1].identity, item[1].index))
    pieces = [(folder, world, items[first : first + _PIECE]) for first in range(0, len(items), _PIECE)]
    digests: dict[str, str] = {}
    with worker_pool(choose_workers(workers, len(items))) as pool:
        for written in pool.map(_write_piece, pieces) if pool else map(_write_piece, pieces):
            digests.update(written)
            if on_progress is not None:
                on_progress(len(digests), len(items))
    for path, content in plan.lists.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode())
        digests[path] = hashlib.sha256(content.encode()).hexdigest()
    return _checksum(digests)


def _write_piece(piece: tuple[Path, World, Sequence[tuple[str, Shot]]]) -> list[tuple[str, str]]:
    """Draw and write some images; return path and SHA-256 of each."""
    folder, world, items = piece
    written: list[tuple[str, str]] = []
    for path, shot in items:
        content = encode(render(world, shot), Path(path).suffix)
        (folder / path).write_bytes(content)
        written.append((path, hashlib.sha256(content).hexdigest()))
    return written


def _checksum(digests: dict[str, str]) -> str:
    """SHA-256 over the lines ``path digest``, sorted by path."""
    total = hashlib.sha256()
    for path in sorted(digests):
        total.update(f"{path} {digests[path]}\n".encode())
    return total.hexdigest()


def _write_beside(folder: Path, plan: Plan, choices: _Choices, parameters: dict[str, object], checksum: str) -> None:
    """Write facts, card and contact sheet."""
    facts: dict[str, object] = {
        "format": "pclhd-synthetic",
        "generator_version": choices.version,
        "parameters": parameters,
        "images": len(plan.images),
        "people": plan.people,
        "height": plan.height,
        "width": plan.width,
        "counts": count_images(plan),
        "checksum": checksum,
        "made_with": {"pillow": PIL.__version__, "numpy": np.__version__},
        "command": _command(choices.version, parameters),
    }
    (folder / DRAWN_MARK).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / CARD_NAME).write_text(describe(facts, plan, choices.layout), encoding="utf-8")
    contact_sheet(folder, plan).save(folder / SHEET_NAME)


def _command(version: Version, parameters: dict[str, object]) -> str:
    """The command line that creates the set again, or the Python call if a parameter has no option."""
    if parameters["people"] is None and parameters["population"] == Population.BENCHMARK:
        words = ["scale", "layout", "seed", "gap", *(["held_out"] if "held_out" in parameters else [])]
        options = [f"--{name.replace('_', '-')} {parameters[name]}" for name in words]
        if parameters["one_modality_share"]:
            options.append(f"--unpaired {parameters['one_modality_share']}")
        return " ".join(["pclhd synth --out DIR", *options, f"--generator {version}"])
    arguments = ", ".join(f"{name}={value!r}" for name, value in {**parameters, "generator": version}.items())
    return f'pclhd.synthetic.write_synthetic(Path("DIR"), {arguments})'
