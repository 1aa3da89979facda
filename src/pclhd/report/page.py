"""The report of a run: one self-contained HTML page from the saved results in its folder.

The page needs no script, no network and no other file. Where data of a section are missing, the page shows the command
that writes them. Templates escape every value, so that names given by users are shown as text.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from pclhd import __version__
from pclhd.errors import UserError
from pclhd.files import write_durably
from pclhd.report import sections
from pclhd.report.sections import Absent, ReportedRun, Values
from pclhd.report.strips import about
from pclhd.runs.folder import RunFolder, owning_run
from pclhd.runs.saved import read_run

_SECTIONS: tuple[tuple[str, str, Callable[[ReportedRun], Values | Absent | None]], ...] = (
    ("results", "Results", sections.results),
    ("published", "Comparison with published figures", sections.published),
    ("examples", "Ranked examples", sections.examples),
    ("training", "Training", sections.training),
    ("clusters", "Clusters", sections.clusters),
    ("data", "Data", sections.data),
    ("settings", "Settings", sections.settings),
    ("provenance", "Provenance", sections.provenance),
)


def write_report(run: Path | RunFolder, *, data_root: Path | None = None) -> Path:
    """Write the report of a run folder: one page that needs no other file.

    Args:
        run: The run folder.
        data_root: Folder or CSV file of the data, for the pictures; by default that in the run's settings.

    Returns:
        The page's path. Equal inputs give equal bytes.

    Raises:
        UserError: The run folder does not exist, one of its files is malformed, or the page cannot be written.
    """
    folder = RunFolder(run)
    if not folder.path.is_dir():
        raise UserError(f"{folder}: not a run folder; give the folder that `pclhd train … --out RUN` wrote")
    with owning_run(folder):
        return _write_owned(folder, data_root)


def _write_owned(folder: RunFolder, data_root: Path | None) -> Path:
    saved = read_run(folder)
    data = data_root or folder.data_root()
    page = page_html(ReportedRun(saved, data.parent if data is not None and data.is_file() else data))
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
    made = [(name, title, values) for name, title, make in _SECTIONS if (values := make(run)) is not None]
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            version=__version__,
            title=run.title,
            headline=sections.headline(run),
            sections=[
                {"name": name, "title": title, "values": values, "absent": isinstance(values, Absent)}
                for name, title, values in made
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
    )
    environment.filters["about"] = about
    return environment
