"""Check a data set before training: counts, known counts, and what is missing, broken, doubled or passed over."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from pclhd.data.data_name import shown_data_name
from pclhd.data.layouts import TITLES, is_drawn, require_layout
from pclhd.data.lists import missing_files, read_identity_list, read_image_list
from pclhd.data.llcm import llcm_folders_without_image, llcm_list
from pclhd.data.near_copies import NEAR_COPY_BITS, nearest_hashes
from pclhd.data.open import open_dataset, resolve_layout
from pclhd.data.passed_over import PassedOver, printable
from pclhd.data.records import JUNK, UNKNOWN, Dataset, ImageRecord, LabelledImages, Modality, Names, digest_files
from pclhd.data.regdb import regdb_list
from pclhd.data.sysu import sysu_folders_without_image, sysu_training_identities
from pclhd.data.values import ImageValues, look_at_values, odd_values
from pclhd.errors import UserError
from pclhd.text_tables import text_table
from pclhd.threads import usable_cpus

# Of each kind of problem, this many are named one by one.
NAMED = 20
_FIRST = 3


@dataclass(frozen=True, slots=True)
class CountRow:
    """How many images one split has of one modality, over all cameras or from one.

    Attributes:
        split: ``train`` or ``test``.
        modality: ``visible`` or ``infrared``.
        camera: Camera number, ``unknown``, or ``all``.
        images: Number of images.
        people: Number of identities, or None where they are unknown.
        images_per_person: Least, median and most images of one person, or None where identities are unknown.
    """

    split: str
    modality: str
    camera: str
    images: int
    people: int | None
    images_per_person: tuple[int, float, int] | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A published count beside the one found; None where it cannot be counted without identities."""

    what: str
    expected: int
    found: int | None


@dataclass(frozen=True)
class CheckReport:
    """What `check_dataset` saw.

    Attributes:
        layout: ``sysu``, ``regdb``, ``llcm`` or ``own``.
        name: Name of the data set, with the trial for RegDB; the layout, if it could not be read.
        root: The folder or file that was checked.
        checksum: Checksum of the training images; empty if the data could not be read.
        counts: Images and people per split, modality and camera.
        expected: Comparisons with the published numbers; a difference is no problem.
        problems: What is missing, broken or doubled, one line each.
        notes: What is worth knowing but no problem, one line each.
        passed_over: Files that are no part of the data.
        drawn: Whether `pclhd synth` drew the people.
    """

    layout: str
    name: str
    root: Path
    checksum: str
    counts: tuple[CountRow, ...]
    expected: tuple[Comparison, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    passed_over: PassedOver = field(default=PassedOver())
    drawn: bool = False

    @property
    def ok(self) -> bool:
        """Whether no problem was found; differing from the published counts is none."""
        return not self.problems

    def to_dict(self) -> dict[str, object]:
        """The report as plain values, ready for JSON."""
        return {
            **asdict(self),
            "root": printable(self.root),
            "passed_over": self.passed_over.to_dict(),
            "ok": self.ok,
        }

    def render(self) -> str:
        """The report as plain text, without colours or markup, for a terminal."""
        lines = [f"{shown_data_name(self.name, drawn=self.drawn)}: {self.root}"]
        if self.checksum:
            lines.append(f"checksum of the training images: {self.checksum}")
        lines += _count_lines(self.counts)
        if self.expected and self.drawn:
            lines.append(f"not compared with the published {TITLES[self.layout]}: the people are drawn")
        else:
            lines += [_comparison_line(comparison, TITLES[self.layout]) for comparison in self.expected]
        if self.passed_over:
            lines.append(self.passed_over.summary())
            lines += [
                f"  {line}" for line in self.passed_over.lines(self.root if self.root.is_dir() else self.root.parent)
            ]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"problem: {problem}" for problem in self.problems]
        lines.append("no problem found" if self.ok else f"lines with problems: {len(self.problems)}")
        return "\n".join(lines)


def check_dataset(layout: str, root: Path, *, trial: int = 1, decode: bool = True) -> CheckReport:
    """Check a data set.

    Faults of the content become problems of the report, so that all of a kind are seen at once.

    Args:
        layout: ``sysu``, ``regdb``, ``llcm``, ``own``, or ``auto``.
        root: The folder, or for ``own`` also a CSV file.
        trial: Which of RegDB's ten trials.
        decode: Whether to decode every image too, which finds broken files and odd values of pixels and takes longer.

    Raises:
        UserError: The layout is unknown, or the path is missing or of another layout.
    """
    layout = resolve_layout(layout, root)
    require_layout(root, layout)
    missing = _missing(layout, root, trial)
    try:
        dataset = open_dataset(layout, root, trial=trial)
    except UserError as error:
        faults = tuple(missing or [str(error)])
        return CheckReport(layout, layout, root, "", (), (), faults, (), drawn=is_drawn(root))
    doubled, notes = _doubled(dataset)
    problems = _empty_folders(layout, root) + doubled + _people_in_both(dataset)
    if decode:
        broken, values = _decode(dataset)
        odd, odd_notes = odd_values(values)
        problems += broken + odd
        notes += odd_notes + _near_copies(dataset, values)
    return CheckReport(
        layout=layout,
        name=dataset.name,
        root=root,
        checksum=dataset.train.checksum,
        counts=tuple(_count(dataset)),
        expected=tuple(_compare(layout, dataset)),
        problems=tuple(map(printable, problems)),
        notes=tuple(map(printable, notes + _listed_without_image(layout, root, dataset) + _people_notes(dataset))),
        passed_over=dataset.passed_over,
        drawn=is_drawn(dataset.folder),
    )


def _missing(layout: str, root: Path, trial: int) -> list[str]:
    """The list lines whose image is missing; a list that cannot be read is left to the reader's own error."""
    lists: list[Path] = []
    if layout == "regdb":
        lists = [regdb_list(root, split, modality, trial) for split in ("train", "test") for modality in Modality]
    elif layout == "llcm":
        lists = [llcm_list(root, modality) for modality in Modality]
    try:
        found = [(path, image) for path in lists for image in missing_files(read_image_list(root, path))]
    except UserError:
        return []
    lines = [
        f"{path}, line {image.line}: no file {image.path}{f'; {image.hint}' if image.hint else ''}"
        for path, image in found
    ]
    return _named(lines, "missing images")


def _empty_folders(layout: str, root: Path) -> list[str]:
    if layout == "sysu":
        folders = sysu_folders_without_image(root)
    elif layout == "llcm":
        folders = llcm_folders_without_image(root)
    else:
        return []
    return _named([f"{folder}: the folder holds no image and is skipped" for folder in folders], "empty folders")


def _doubled(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Images with the same content, and images that are in both training and test.

    Own data without a test split are tested on their labelled training images on purpose: that is a note.
    """
    train = dict(zip((image.path for image in dataset.train.images), dataset.train.digests, strict=True))
    tested = () if dataset.test is None else tuple(image.path for image in dataset.test.images)
    test_only = [path for path in dict.fromkeys(tested) if path not in train]
    digests = {**train, **dict(zip(test_only, digest_files(test_only), strict=True))}
    same_by_design = dataset.name == "own" and bool(tested) and not test_only

    problems = [
        f"{path}: {split} images name this file {count} times"
        for split, paths in (("training", [image.path for image in dataset.train.images]), ("test", tested))
        for path, count in Counter(paths).items()
        if count > 1
    ]
    files_with: dict[str, list[Path]] = defaultdict(list)
    for path, digest in digests.items():
        files_with[digest].append(path)
    problems += [
        f"{paths[0]}: same content as {', '.join(map(str, paths[1:]))}{_across(paths, train)}"
        for paths in files_with.values()
        if len(paths) > 1
    ]
    notes = []
    if same_by_design:
        notes.append("the test part consists of training images (their labels are not used in training)")
    else:
        problems += [f"{path}: in training and test" for path in dict.fromkeys(tested) if path in train]
    return _named(problems, "doubled images"), notes


def _near_copies(dataset: Dataset, values: Sequence[ImageValues]) -> list[str]:
    """Test images that look like a training image: the same picture saved again, scaled or compressed.

    A note, no problem: pictures of one track may be as near, and only the files say whether that is a mistake.
    """
    digests = dict(zip((image.path for image in dataset.train.images), dataset.train.digests, strict=True))
    trained = [value for value in values if value.record.path in digests and value.low < value.high]
    tested = [value for value in values if value.record.path not in digests and value.low < value.high]
    if not trained or not tested:
        return []
    rows, bits = nearest_hashes(np.stack([one.hash for one in tested]), np.stack([one.hash for one in trained]))
    found = [
        (tested[one].record.path, trained[row].record.path)
        for one, row in enumerate(rows.tolist())
        if bits[one] <= NEAR_COPY_BITS
    ]
    # Equal files are named among the doubled images.
    equal = [digest in digests.values() for digest in digest_files([copy for copy, _ in found])]
    near = [pair for pair, is_equal in zip(found, equal, strict=True) if not is_equal]
    if not near:
        return []
    examples = ", ".join(f"{copy} (of {original})" for copy, original in near[:_FIRST])
    more = ", …" if len(near) > _FIRST else ""
    return [f"{len(near):,} test images are near-copies of training images, as if saved again: {examples}{more}"]


def _across(paths: Sequence[Path], train: Mapping[Path, str]) -> str:
    """Words for the worst kind of double: one image under two names, in training and in the test."""
    trained = [path in train for path in paths]
    return " (in training and test)" if any(trained) and not all(trained) else ""


def _decode(dataset: Dataset) -> tuple[list[str], list[ImageValues]]:
    """The images that cannot be decoded, and the values of the others."""
    tested = () if dataset.test is None else dataset.test.images
    records = {image.path: image for image in (*dataset.train.images, *tested)}
    with ThreadPoolExecutor(usable_cpus()) as pool:
        found = list(pool.map(_values_or_fault, records.values()))
    faults = [one for one in found if isinstance(one, str)]
    return _named(faults, "broken images"), [one for one in found if not isinstance(one, str)]


def _values_or_fault(record: ImageRecord) -> ImageValues | str:
    try:
        return look_at_values(record)
    except UserError as error:
        return str(error)


def _count(dataset: Dataset) -> Iterable[CountRow]:
    yield from _count_split("train", dataset.train.images, dataset.train_identities, dataset.names)
    if dataset.test is not None:
        known = dataset.test.known()
        people = [dataset.test.identities[row] for row in known]
        yield from _count_split("test", [dataset.test.images[row] for row in known], people, dataset.names)
        for role in (UNKNOWN, JUNK):
            rows = [image for row, image in enumerate(dataset.test.images) if dataset.test.role(row) == role]
            if rows:
                yield from _count_split(f"test, {role}", rows, None, dataset.names)


def _count_split(
    split: str, images: Sequence[ImageRecord], identities: Sequence[int] | None, names: Names
) -> Iterable[CountRow]:
    for modality in Modality:
        rows = [i for i, image in enumerate(images) if image.modality is modality]
        yield _count_row(split, modality, "all", rows, identities)
        cameras = {images[i].camera for i in rows}
        for camera in sorted(cameras, key=lambda number: -1 if number is None else number):
            seen = [i for i in rows if images[i].camera == camera]
            shown = "unknown" if camera is None else str(names.camera(camera))
            yield _count_row(split, modality, shown, seen, identities)


def _count_row(
    split: str, modality: Modality, camera: str, rows: Sequence[int], identities: Sequence[int] | None
) -> CountRow:
    if identities is None or not rows:
        return CountRow(split, modality.value, camera, len(rows), None, None)
    sizes = sorted(Counter(identities[i] for i in rows).values())
    spread = (sizes[0], float(statistics.median(sizes)), sizes[-1])
    return CountRow(split, modality.value, camera, len(rows), len(sizes), spread)


def _compare(layout: str, dataset: Dataset) -> list[Comparison]:
    """The published counts beside those found; for LLCM, people only."""
    train, test = dataset.train.images, dataset.test
    if layout == "own" or test is None:
        return []
    train_people = None if dataset.train_identities is None else len(set(dataset.train_identities))
    test_people = len(set(test.identities))
    if layout == "sysu":
        return [
            Comparison("training people", 395, train_people),
            Comparison("visible training images", 22_258, _images(train, Modality.VISIBLE)),
            Comparison("infrared training images", 11_909, _images(train, Modality.INFRARED)),
            Comparison("test people", 96, test_people),
            Comparison("queries (infrared test images)", 3_803, _images(test.images, Modality.INFRARED)),
            Comparison("gallery images a trial (person and visible camera)", 301, _gallery_size(test)),
        ]
    if layout == "llcm":
        return [
            Comparison("training people", 713, train_people),
            Comparison("test people", 351, test_people),
        ]
    trained = None if dataset.train_identities is None else LabelledImages(train, dataset.train_identities)
    trained_with_ten = None if trained is None else _people_with_ten(trained)
    return [
        Comparison("people, training and test", 412, None if train_people is None else train_people + test_people),
        Comparison("training people", 206, train_people),
        Comparison("training people with ten images of each kind", 206, trained_with_ten),
        Comparison("test people", 206, test_people),
        Comparison("test people with ten images of each kind", 206, _people_with_ten(test)),
    ]


def _images(images: Iterable[ImageRecord], modality: Modality) -> int:
    return sum(image.modality is modality for image in images)


def _gallery_size(test: LabelledImages) -> int:
    """SYSU-MM01's all-search, single-shot gallery: one image of each person from each visible camera."""
    return len(
        {
            (identity, image.camera)
            for image, identity in zip(test.images, test.identities, strict=True)
            if image.modality is Modality.VISIBLE
        }
    )


def _people_with_ten(labelled: LabelledImages) -> int:
    pairs = Counter((i, image.modality) for image, i in zip(labelled.images, labelled.identities, strict=True))
    return sum(all(pairs[identity, modality] == 10 for modality in Modality) for identity in set(labelled.identities))


def _listed_without_image(layout: str, root: Path, dataset: Dataset) -> list[str]:
    """People of the identity lists who have no image at all; both public protocols pass over them."""
    lists: list[tuple[str, Sequence[int], Sequence[int]]] = []
    if layout in ("sysu", "llcm"):
        list_file = root / ("exp" if layout == "sysu" else "idx") / "test_id.txt"
        lists.append(("test", read_identity_list(list_file), () if dataset.test is None else dataset.test.identities))
    if layout == "sysu" and dataset.train_identities is not None:
        lists.append(("training", sysu_training_identities(root), dataset.train_identities))
    return [
        f"listed {split} people without any image: {_some(unseen)}"
        for split, listed, found in lists
        if (unseen := sorted(set(listed) - set(found)))
    ]


def _people_notes(dataset: Dataset) -> list[str]:
    """Test people whom one modality never saw: they can be no valid query, or are never found."""
    if dataset.test is None:
        return []
    notes = []
    test, known = dataset.test, dataset.test.known()
    people = {test.identities[row] for row in known}
    for modality in Modality:
        seen = {test.identities[row] for row in known if test.images[row].modality is modality}
        unseen = [dataset.names.identity(person) for person in sorted(people - seen)]
        if unseen:
            notes.append(f"test people without any {modality} image: {_some(unseen)}")
    return notes


def _people_in_both(dataset: Dataset) -> list[str]:
    """People of your own data in training and test; in the benchmarks the labels of the two may be unrelated."""
    if dataset.name != "own" or dataset.test is None or dataset.train_identities is None:
        return []
    tested = {dataset.test.identities[row] for row in dataset.test.known()}
    trained = {image.path for image in dataset.train.images}
    if all(image.path in trained for image in dataset.test.images):
        return []  # tested on its labelled training images, which is a note of its own
    shared = [dataset.names.identity(person) for person in sorted(tested & set(dataset.train_identities))]
    return [f"people in both training and test: {_some(shared)}"] if shared else []


def _some(people: Sequence[int | str]) -> str:
    """How many, and who the first are."""
    return f"{len(people)} ({', '.join(map(str, people[:NAMED]))}{', …' if len(people) > NAMED else ''})"


def _named(lines: list[str], kind: str) -> list[str]:
    """The first lines, and how many more there are."""
    if len(lines) <= NAMED:
        return lines
    return [*lines[:NAMED], f"and {len(lines) - NAMED} more {kind}"]


def _count_lines(counts: Sequence[CountRow]) -> list[str]:
    if not counts:
        return []
    table = [("split", "modality", "camera", "images", "people", "images per person (least, median, most)")]
    for row in counts:
        people = "–" if row.people is None else f"{row.people:,}"
        spread = row.images_per_person
        per_person = "–" if spread is None else f"{spread[0]}, {spread[1]:g}, {spread[2]}"
        table.append((row.split, row.modality, row.camera, f"{row.images:,}", people, per_person))
    return [text_table(table, right={3, 4})]


def _comparison_line(comparison: Comparison, title: str) -> str:
    if comparison.found is None:
        return f"{comparison.what}: {comparison.expected:,} in the published {title}, not counted without identities"
    if comparison.found == comparison.expected:
        return f"{comparison.what}: {comparison.found:,}, as in the published {title}"
    return (
        f"{comparison.what}: differs from the published {title}: {comparison.expected:,} expected, "
        f"{comparison.found:,} found; fine for a subset"
    )
