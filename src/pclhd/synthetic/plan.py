"""What a data set contains: its images with their paths and uses, and its lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pclhd.synthetic.world import Shot


class Scale(StrEnum):
    """Size of the data set: for tests, for the demo, or as large as SYSU-MM01."""

    TINY = "tiny"
    SMALL = "small"
    SYSU = "sysu"


class Layout(StrEnum):
    """The data set whose folders and lists are imitated."""

    SYSU = "sysu"
    REGDB = "regdb"
    LLCM = "llcm"


class Split(StrEnum):
    """The use of an image."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    TRIALS = "trials"
    """RegDB: in each trial, a different half of the people is for training, the rest for testing."""


class HeldOut(StrEnum):
    """The purpose of the people in the test split: to choose by, or to report once at the end. No person is both."""

    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """A file to write: its path below the root, with forward slashes, and its image."""

    path: str
    shot: Shot
    split: Split


@dataclass(frozen=True, slots=True)
class Plan:
    """Contents of a data set.

    Attributes:
        images: The images.
        lists: Contents of text files by path below the root.
        people: Number of people.
        height: Image height in pixels.
        width: Image width in pixels.
    """

    images: tuple[PlannedImage, ...]
    lists: Mapping[str, str]
    people: int
    height: int
    width: int
