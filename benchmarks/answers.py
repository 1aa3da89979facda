"""Do probabilities and "no one here" hold on other people? Reliability curves, calibration error, open-set search.

Usage: python benchmarks/answers.py [--run RUN] [--data DIR] [--picture FILE] [--json FILE] [--quick]

Measures two calibrations of a finished run on every second test person of DIR (by default of the run's own data): the
label-free one that training saved, and one that is made here from the other half of the test people. None of the people
that are measured was used for training or for a calibration; `pclhd synth --held-out test` draws people that were used
for no choice either. Nothing is written into the run.

Then a gallery of visible and infrared images together is searched (`one_list.py`): the order of the hits, and "no one
here".

`--quick` draws tiny data and trains the `tiny` preset first: it shows that the benchmark works, and nothing else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.one_list import measure_one_list
from benchmarks.showing import markdown_table, write_json, write_png

from pclhd.answers.calibration import Calibration
from pclhd.answers.fit import fit_calibration
from pclhd.answers.measures import DirectionMeasures, measure_answers
from pclhd.report.figures import BLUE, GREY, VERMILLION, style
from pclhd.runs.folder import RunFolder
from pclhd.workflows.calibrate import embed_labelled, split_people

Measured = dict[str, list[DirectionMeasures]]
Tables = dict[str, list[dict[str, object]]]


def main() -> None:
    """Measure, print the tables, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("build/demo/run"), help="a finished run")
    parser.add_argument("--data", type=Path, help="labelled images; the run's data set unless it is named")
    parser.add_argument("--picture", type=Path, help="a PNG file for the reliability curves")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--quick", action="store_true", help="draw tiny data and train on them first")
    arguments = parser.parse_args()
    if arguments.quick:
        with TemporaryDirectory() as folder:
            measured, together = measure(train_tiny(Path(folder)), None)
    else:
        measured, together = measure(arguments.run, arguments.data)
    print(table(measured))
    for name, rows in together.items():
        print(f"\n{name}:\n{markdown_table(list(rows[0]), [list(map(_cell, row.values())) for row in rows])}")
    if arguments.json:
        directions = {
            source: [
                {**vars(one), "bins": [vars(part) for part in one.bins], "open_sets": _plain(one)} for one in parts
            ]
            for source, parts in measured.items()
        }
        write_json(arguments.json, {**directions, "one list": together})
    if arguments.picture:
        write_png(reliability_curves(measured), arguments.picture)


def train_tiny(folder: Path) -> Path:
    """A training of seconds."""
    for words in (
        ("synth", "--out", folder / "data", "--scale", "tiny"),
        ("train", "tiny", "--data", folder / "data", "--out", folder / "run"),
    ):
        subprocess.run([sys.executable, "-m", "pclhd", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    return folder / "run"


def measure(run: Path, data: Path | None) -> tuple[Measured, Tables]:
    """Both calibrations, measured on the same people."""
    folder = RunFolder(run)
    saved = folder.calibration()
    if saved is None:
        sys.exit(f"{folder.calibration_file}: is missing; train the run again")
    encoder, images = embed_labelled(folder, data=data)
    fitted, others = split_people(images)
    labelled = fit_calibration(fitted, model_id=encoder.model_id, source="labelled images")
    known: dict[str, Calibration] = {made.source: made for made in (saved, labelled)}
    measured = {source: measure_answers(made, others) for source, made in known.items()}
    return measured, measure_one_list(others, encoder, known)


def table(measured: Measured) -> str:
    """Calibration errors and open-set rates, in percent."""
    rows = [
        (
            f"{one.query}→{one.gallery}",
            source,
            f"{100 * one.first_error:.1f}",
            f"{100 * one.list_error:.1f}",
            f"{100 * rate:g}",
            f"{100 * found.false_alarm_rate:.1f}",
            f"{100 * found.identification_rate:.1f}",
            f"{100 * found.closed_set_rate:.1f}",
        )
        for source, parts in measured.items()
        for one in parts
        for rate, found in one.open_sets.items()
    ]
    titles = (
        "direction",
        "calibrated with",
        "error, first",
        "error, first ten",
        "wanted rate",
        "false matches",
        "identified",
        "rank-1",
    )
    return markdown_table(titles, rows, words=2)


def reliability_curves(measured: Measured) -> Figure:
    """Stated against true probabilities of the first ten images of each list, a panel per direction."""
    directions = [(one.query, one.gallery) for one in max(measured.values(), key=len)]
    with style():
        figure = Figure(figsize=(2.7 * len(directions), 3.9), layout="constrained")
        panels = np.ravel(figure.subplots(1, len(directions), sharey=True, squeeze=False))
        for axes, direction in zip(panels, directions, strict=True):
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
            for (source, parts), (colour, marker) in zip(
                measured.items(), ((BLUE, "o"), (VERMILLION, "s")), strict=True
            ):
                for one in parts:
                    if (one.query, one.gallery) == direction:
                        axes.plot(
                            [part.probability for part in one.bins],
                            [part.correct for part in one.bins],
                            color=colour,
                            marker=marker,
                            label=f"{source}: error {100 * one.list_error:.1f} %",
                        )
            axes.set_title(f"{direction[0]}→{direction[1]}")
            axes.set_xlabel("stated probability")
            axes.grid(visible=True, linewidth=0.6)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8)
        panels[0].set_ylabel("share that is right")
    return figure


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1f}" if np.isfinite(value) else "–"


def _plain(one: DirectionMeasures) -> dict[str, dict[str, float]]:
    return {f"{rate:g}": vars(found) for rate, found in one.open_sets.items()}


if __name__ == "__main__":
    main()
