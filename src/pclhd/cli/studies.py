"""Verbs of studies: search settings by many trainings, and show the results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pclhd.cli.options import DEVICES, Data, Json, verb
from pclhd.cli.terminal import complain, say, say_passed_over, show
from pclhd.errors import ArgumentError, UserError
from pclhd.text_tables import duration

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from pclhd.study.running import StudyObserver

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Study = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder made by pclhd study run.")]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="PCLHD_STUDY_STORAGE",
        help="Database server that several machines share, like postgresql://NAME:PASSWORD@HOST/DATABASE. The password "
        "is neither printed nor saved; the environment variable also keeps it from the list of processes.",
        show_default="a file in the study's folder",
    ),
]


@app.callback()
@verb()
def study() -> None:
    """Search for settings by many trainings, without labels by default.

    It needs Optuna (pip install optuna). pclhd study VERB --help explains a verb.
    """


@app.command()
@verb(quiet=True)
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file (YAML): preset and space.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings of all trainings.")] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="STUDY", help="Folder of the study; new, or to continue.", show_default="studies/FILE"),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, max=100_000, help="Finished trials that the study is to have in all, pruned included.")
    ] = 20,
    objective: Annotated[
        Literal["silhouette", "stability", "cycle", "oracle"] | None,
        typer.Option(
            help="What to maximise. silhouette, stability and cycle are measured without labels; oracle is rank-1 on "
            "the labelled people of --validation, a bound and not a result.",
            show_default="that of FILE, or silhouette",
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Data of people for validation, in whose labelled test split the oracle searches."
        ),
    ] = None,
    storage: Storage = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the study in the database.", show_default="the folder's name"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar=DEVICES, help="Device for training.", show_default="as in the preset")
    ] = None,
) -> None:
    """Train many times with settings that Optuna chooses, until the study has as many trials as asked for.

    The same command continues a study that was interrupted, and shares the work if it is started several times.
    Example: pclhd study run examples/study.yaml --data build/study --trials 24
    """
    from pclhd.study.storage import require_optuna

    require_optuna()
    from pclhd.data.data_name import shown_data_name
    from pclhd.data.layouts import is_drawn
    from pclhd.engine.interruption import Interrupted, Interruption
    from pclhd.study.definition import read_definition
    from pclhd.study.folder import StudyFolder
    from pclhd.study.running import StudyData, run_study
    from pclhd.study.summary import NAMES, read_study, summary_text
    from pclhd.workflows.train import on_device, open_data

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "each training of a study is one process; leave out torchrun, and start the command several times"
        )
    definition = read_definition(file, words or [], objective=objective)
    if definition.uses_identities != (validation is not None):
        if definition.uses_identities:
            raise ArgumentError("validation", "is missing: the oracle needs data with labelled test people")
        raise ArgumentError("validation", f"is for the oracle only, and the objective is {definition.objective}")
    example = {key: part.examples()[0] for key, part in definition.space.items()}
    settings = definition.settings_for(example, definition.seeds[0], device=device)
    if device is not None:
        on_device(settings, device)
    dataset = open_data(settings, data)
    say_passed_over(dataset.passed_over)
    people = None if validation is None else open_data(settings, validation)
    if people is not None and people.test is None:
        raise ArgumentError("validation", "has no labelled test images", value=validation)
    folder = StudyFolder(out or Path("studies") / file.stem)
    name_of_data = shown_data_name(dataset.name, drawn=is_drawn(dataset.folder))
    say(
        f"study of {len(definition.space)} settings on {name_of_data} in {folder}; "
        f"objective {NAMES[definition.objective]}"
    )
    interruption = Interruption()
    try:
        with interruption.handling():
            run_study(
                definition,
                StudyData(dataset, people),
                folder,
                trials=trials,
                name=name,
                url=storage,
                device=device,
                observer=_console(),
                interruption=interruption,
            )
    except Interrupted as stop:
        complain("interrupted; the same command continues the study")
        sys.exit(stop.exit_code)
    show(summary_text(read_study(folder, storage)[1]))


@app.command(name="show")
@verb()
def show_study(study: Study, storage: Storage = None, as_json: Json = False) -> None:
    """Show a study's best trial, and all trials by their value."""
    from pclhd.study.storage import require_optuna

    require_optuna()
    from pclhd.study.folder import StudyFolder
    from pclhd.study.summary import read_study, summary_text

    summary = read_study(StudyFolder(study), storage)[1]
    show(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False) if as_json else summary_text(summary))


@app.command()
@verb(quiet=True)
def plot(study: Study, storage: Storage = None) -> None:
    """Write a study's trials as CSV and its plots into its folder: importance of settings, slices, history, epochs.

    PNG files and, with the extra plots, one HTML page that needs no network.
    """
    from pclhd.study.storage import require_optuna

    require_optuna()
    from pclhd.study.folder import StudyFolder
    from pclhd.study.plots import write_plots
    from pclhd.study.summary import read_study

    folder = StudyFolder(study)
    for path in write_plots(*read_study(folder, storage), folder):
        say(f"wrote {path}")


def _console() -> StudyObserver:
    """Prints a line when a trial begins, and one when it ends."""
    from pclhd.study.running import StudyObserver
    from pclhd.study.slots import ERROR
    from pclhd.study.summary import words_of

    class Console(StudyObserver):
        """Prints."""

        def began(self, number: int, params: Mapping[str, Any]) -> None:
            """Print the settings."""
            say(f"trial {number}: {words_of(params)}")

        def ended(self, trial: FrozenTrial, seconds: float, left: int) -> None:
            """Print the result."""
            what = f"{trial.value:.4f}" if trial.value is not None and trial.state.name == "COMPLETE" else "pruned"
            if ERROR in trial.user_attrs:
                what = f"not trained ({trial.user_attrs[ERROR]})"
            rest = f"; {left} left, about {duration(left * seconds)}" if left else ""
            say(f"trial {trial.number}: {what}, {duration(seconds)}{rest}")

        def waiting(self) -> None:
            """Say so."""
            say("waiting for trials of other processes")

        def warned(self, message: str) -> None:
            """Print the warning."""
            complain(f"note: {message}")

    return Console()
