"""What the sections share: the run, charts, and numbers in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from pclhd.data.data_name import shown_data_name
from pclhd.report.album import Album
from pclhd.report.inline_svg import inline_svg
from pclhd.runs.records import EpochRecord
from pclhd.runs.saved import SavedRun
from pclhd.runs.survey import Survey

Values = Mapping[str, object]

STREAMS = ("visible", "infrared", "joint")


@dataclass(frozen=True)
class Absent:
    """A section without data: what is missing, and the command that writes it."""

    what: str
    command: str


@dataclass(frozen=True)
class Chart:
    """A figure for the page; wide ones scroll on small screens."""

    svg: Markup
    caption: str
    wide: bool


@dataclass(frozen=True)
class ReportedRun:
    """A run, the folder of its data, if known, and its own images, if they were found."""

    saved: SavedRun
    data: Path | None
    album: Album | None = None

    @property
    def survey(self) -> Survey | None:
        """What the final model makes of the training images, if it and the images are there."""
        return None if self.album is None else self.album.survey

    @property
    def may_have_test(self) -> bool:
        """Whether `pclhd evaluate` may have something to measure."""
        return self.album is None or self.album.has_test

    @property
    def drawn(self) -> bool | None:
        """Whether `pclhd synth` drew the people; None if that is not known."""
        results = self.saved.results
        if results is not None and results.dataset.synthetic is not None:
            return results.dataset.synthetic
        return None if self.album is None else self.album.drawn

    @property
    def data_name(self) -> str | None:
        """The data's name, or None; drawn people are not named after the benchmark whose layout they have."""
        results = self.saved.results
        if results is None:
            setting = self.saved.setting("data.layout")
            name = str(setting) if setting not in (None, "auto") else None if self.album is None else self.album.name
        else:
            name = results.dataset.name
        return None if name is None else shown_data_name(name, drawn=self.drawn)

    @property
    def title(self) -> str:
        """The page's title."""
        return f"Run report: {self.data_name or self.saved.folder.path.resolve().name}"


def chart(figure: Figure | None, name: str, description: str, caption: str) -> Chart | None:
    """A figure for the page; None if there is none."""
    if figure is None:
        return None
    # On small screens, a wide figure scrolls, because its text would be too small if shrunk.
    return Chart(inline_svg(figure, name, description), caption, wide=figure.get_figwidth() > 6)


def label_measure(epoch: EpochRecord, key: str) -> float | None:
    """A measure of the pseudo labels against identities, if it was logged."""
    return (epoch.labels or {}).get(key)


def counted(number: int, thing: str, more: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {thing if number == 1 else more or thing + 's'}"


def fixed(value: float | None, digits: int) -> str:
    """A number with that many decimals; a dash if it is unknown or not finite."""
    return "–" if value is None or not isfinite(value) else f"{value:.{digits}f}"


def rounded(value: float | None) -> str:
    """A whole number; a dash if it is unknown."""
    return "–" if value is None else f"{value:,.0f}"
