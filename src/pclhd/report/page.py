"""The report of a run: one self-contained HTML page from the saved results in its folder, and the run's own images.

The page needs no network and no other file, and is complete without scripts; one script makes the map of embeddings
interactive. Where data of a section are missing, the page shows the command that writes them, or leaves the section
out. Templates escape every value, so that names given by users are shown as text.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pclhd import __version__
from pclhd.errors import UserError
from pclhd.files import write_durably
from pclhd.report.album import Album, short_name
from pclhd.report.sections import examples, images, overview, record, results, training
from pclhd.report.sections.embedding_map import embedding_map, stages
from pclhd.report.sections.parts import Absent, ReportedRun, Values
from pclhd.report.strips import about
from pclhd.runs.folder import RunFolder, owning_run
from pclhd.runs.saved import read_run
from pclhd.text_tables import printable


@dataclass(frozen=True)
class _Section:
    name: str
    title: str
    make: Callable[[ReportedRun], Values | Absent | None]
    template: str | None = None


_SECTIONS = (
    _Section("results", "Results", results.results),
    _Section("searches", "Queries of your choice", examples.searches, "lists"),
    _Section("examples", "Before and after training", examples.examples),
    _Section("chosen", "Ranked lists", examples.chosen, "lists"),
    _Section("similarities", "One person or two?", results.similarities),
    _Section("confused", "People taken for each other", examples.confused),
    _Section("sheets", "What was grouped", images.sheets),
    _Section("pairs", "Matched across day and night", images.pairs, "side_by_side"),
    _Section("prototypes", "What was hard", images.prototypes),
    _Section("alike", "Clusters that look alike", images.alike, "alike"),
    _Section("focus", "Where the network looks", images.focus),
    _Section("stages", "The same people before and after training", stages),
    _Section("map", "Map of all images", embedding_map),
    _Section("clusters", "Clusters during training", training.clusters),
    _Section("training", "Losses and time", training.training),
    _Section("published", "Comparison with published figures", results.published),
    _Section("data", "The data", record.data),
    _Section("settings", "Settings", record.settings),
    _Section("provenance", "Provenance", record.provenance),
)


def write_report(run: Path | RunFolder, *, data_root: Path | None = None, album: Album | None = None) -> Path:
    """Write the report of a run folder: one page that needs no other file.

    Args:
        run: The run folder.
        data_root: Folder or CSV file of the data, for the pictures; by default that in the run's settings.
        album: The run's own images (`pclhd.workflows.report`); without them the page shows what the folder holds.

    Returns:
        The page's path. Equal inputs give equal bytes.

    Raises:
        UserError: The run folder does not exist, one of its files is malformed, or the page cannot be written.
    """
    folder = RunFolder(run)
    if not folder.path.is_dir():
        raise UserError(f"{folder}: not a run folder; give the folder that `pclhd train … --out RUN` wrote")
    with owning_run(folder):
        return _write_owned(folder, data_root, album)


def _write_owned(folder: RunFolder, data_root: Path | None, album: Album | None) -> Path:
    saved = read_run(folder)
    data = data_root or folder.data_root()
    page = page_html(ReportedRun(saved, data.parent if data is not None and data.is_file() else data, album))
    target = folder.report_file
    try:
        target.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{target.parent}: cannot be created ({error.strerror}); move what is in the way") from error
    try:
        write_durably(target, page)
    finally:
        with suppress(OSError):
            target.parent.rmdir()  # if there is no page in it
    return target


def page_html(run: ReportedRun) -> str:
    """The whole page."""
    made = [(one, values) for one in _SECTIONS if (values := one.make(run)) is not None]
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            version=__version__,
            title=run.title,
            headline=overview.headline(run),
            sections=[
                {
                    "name": one.name,
                    "title": one.title,
                    "template": one.template or one.name,
                    "values": values,
                    "absent": isinstance(values, Absent),
                }
                for one, values in made
            ],
        )
    )


@cache
def templates() -> Environment:
    """The templates of the page; every value is escaped, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("pclhd.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_without_commands,
    )
    environment.filters["about"] = about
    environment.filters["short"] = short_name
    return environment


def _without_commands(value: object) -> object:
    """Text from names and settings without control characters, which a page must not hold."""
    return printable(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value
