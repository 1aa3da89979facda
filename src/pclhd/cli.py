"""The command line: each verb parses, calls one function and prints. Heavy imports stay inside the verbs."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from pclhd import __version__
from pclhd.errors import UserError

if TYPE_CHECKING:
    from pclhd.config import Settings
    from pclhd.data.records import Dataset

app = typer.Typer(
    help="Unsupervised visible-infrared person re-identification: train, evaluate, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
errors = Console(stderr=True)


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(arguments)
    except UserError as error:
        if debug:
            raise
        errors.print(f"pclhd: {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(143)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"pclhd {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Unsupervised visible-infrared person re-identification: train, evaluate, report.

    Any verb takes --debug, which shows where in the program an error arose.
    """


@app.command()
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PRESET [KEY=VALUE]...", help="Preset (or YAML file), then settings to change."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The data set's folder, or a CSV file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to make; default runs/PRESET-RECIPE-SEED.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a stopped run.")] = None,
) -> None:
    """Train without labels; leaves a run folder.

    Presets: synthetic, tiny, sysu, regdb, llcm, own. Example: pclhd train synthetic --data build/small recipe=paper
    """
    from pclhd.config import load_preset, load_settings

    words = arguments or []
    if resume is not None:
        if words or out is not None:
            raise UserError("--resume takes its settings from the run; leave out the preset, key=value and --out")
        settings, run = load_settings(resume / "config.yaml"), resume
    else:
        if not words:
            raise UserError("which preset? For example: pclhd train synthetic --data DIR (see pclhd train --help)")
        settings = load_preset(words[0], words[1:], root=data)
        run = out or Path("runs") / f"{settings.preset}-{settings.recipe}-{settings.seed}"
    dataset = _open(settings, data)
    # The slow imports come last, so that a mistake in the settings or in the data is answered at once.
    from pclhd.console import ConsoleObserver
    from pclhd.engine.trainer import train as run_training

    measure = None
    if dataset.train_identities is not None:
        from pclhd.evaluation.clusters import ClusterMeter

        measure = ClusterMeter(dataset).measure
    _say(f"training {settings.recipe} on {dataset.name} into {run}")
    try:
        with ConsoleObserver(console, measure) as observer:
            run_training(_with_root(settings, dataset), dataset.train, run, observer, resume=resume is not None)
    except KeyboardInterrupt:
        begun = (run / "checkpoints").is_dir()
        message = f"interrupted; go on with: pclhd train --resume {run}" if begun else "interrupted before the start"
        errors.print(message, highlight=False, markup=False, soft_wrap=True)
        sys.exit(130)
    _say(f"done: {run}; next: pclhd evaluate {run}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[Path | None, typer.Option(help="The data, if it has moved since training.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Measure a run's weights (start, stage I, final) by the protocol of its data; writes results.json."""
    from pclhd.config import load_settings
    from pclhd.evaluation.run import evaluate_run
    from pclhd.report.tables import results_text

    settings = load_settings(run / "config.yaml")
    results = evaluate_run(run, settings, _open(settings, data))
    if as_json:
        typer.echo(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        typer.echo(results_text(results))


@app.command()
def combine(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated run folders, such as RegDB's ten trials.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Average the results of several runs: RegDB's ten trials are ten trainings, and seeds are worth averaging too."""
    from pclhd.evaluation.evaluate import combine as average
    from pclhd.report.reading import read_results
    from pclhd.report.tables import results_text

    trees = []
    for run in runs:
        tree = read_results(run / "results.json")
        if tree is None:
            raise UserError(f"{run / 'results.json'}: is missing; make it with: pclhd evaluate {run}")
        trees.append(tree.model_dump(by_alias=True, exclude={"ranked_examples"}))
    combined = {**trees[0], "rows": average([tree["rows"] for tree in trees]), "runs": [str(run) for run in runs]}
    if as_json:
        typer.echo(json.dumps(combined, indent=2, ensure_ascii=False))
    else:
        typer.echo(results_text(combined))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[Path | None, typer.Option(help="The data, if it has moved since training.")] = None,
) -> None:
    """Write the run's one-page report, report/index.html."""
    from pclhd.config import load_settings
    from pclhd.report.page import write_report

    root = data or load_settings(run / "config.yaml").data.root
    typer.echo(f"report: {write_report(run, data_root=root)}")


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="The data set's folder, or a CSV file.")],
    layout: Annotated[str, typer.Option(help="sysu, regdb, llcm, own, or auto.")] = "auto",
    trial: Annotated[int, typer.Option(help="RegDB's split, 1 to 10.")] = 1,
    decode: Annotated[bool, typer.Option(help="Open every image, not only its file.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count a data set's images and people, compare with the published counts, and name what is wrong with it."""
    from pclhd.data.check import check_dataset

    found = check_dataset(layout, data, trial=trial, decode=decode)
    typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if as_json else found.render())
    if not found.ok:
        sys.exit(1)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    scale: Annotated[Literal["tiny", "small", "sysu"], typer.Option(help="How much.")] = "small",
    layout: Annotated[Literal["sysu", "regdb", "llcm"], typer.Option(help="Laid out like which data set.")] = "sysu",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    gap: Annotated[float, typer.Option(help="How far infrared brightness leaves luminance, 0..1.")] = 0.55,
    one_modality: Annotated[
        float, typer.Option(help="Share of the training people who are seen in one modality only.")
    ] = 0.0,
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one per core.")] = 0,
) -> None:
    """Draw the synthetic benchmark: invented people in a real layout, for everyone without the gated data sets."""
    from rich.progress import Progress

    from pclhd.data.synthetic import write_synthetic

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("drawing people", total=None)
        summary = write_synthetic(
            out,
            scale=scale,
            layout=layout,
            seed=seed,
            gap=gap,
            one_modality_share=one_modality,
            workers=workers or None,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"{summary.images:,} images of {summary.people} people in {out}, checksum {summary.checksum[:16]}")


@app.command()
def starter(
    out: Annotated[Path, typer.Argument(help="Model file to write.")],
    people: Annotated[int, typer.Option(help="Synthetic people to draw.")] = 500,
    images: Annotated[int, typer.Option(help="Images of each.")] = 16,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the people and the training.")] = 1,
) -> None:
    """Remake the shipped starter weights: trained with labels on other synthetic people, visible images only."""
    from pclhd.supervised import make_starter

    make_starter(out, people=people, images_per_person=images, steps=steps, seed=seed, on_step=_print_step)
    typer.echo(f"wrote {out}")


@app.command(name="fetch-imagenet")
def fetch_imagenet(
    folder: Annotated[Path, typer.Argument(help="Existing folder for the file.")],
) -> None:
    """Download torchvision's ResNet-50 ImageNet weights, check their hash, and say how to use them."""
    from pclhd.models.imagenet import download_imagenet

    path = download_imagenet(folder)
    typer.echo(f"{path}; use it with model.weights=imagenet:{path}")


@app.command(name="upper-bound")
def upper_bound(
    arguments: Annotated[list[str], typer.Argument(metavar="PRESET [KEY=VALUE]...", help="As for train.")],
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    data: Annotated[Path | None, typer.Option(help="The data set's folder.")] = None,
) -> None:
    """Train the same network with labels: what the unsupervised methods are measured against."""
    from pclhd.config import load_preset

    settings = load_preset(arguments[0], arguments[1:], root=data)
    dataset = _open(settings, data)
    from pclhd.supervised import train_upper_bound

    train_upper_bound(_with_root(settings, dataset), dataset, out, on_step=_print_step)
    typer.echo(f"done: {out}; next: pclhd evaluate {out}")


def _say(line: str) -> None:
    """Print one line as it is: no colours for numbers, and no wrapping, which would break paths in a log."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_step(step: int, steps: int, loss: float) -> None:
    if step % 50 == 0 or step + 1 == steps:
        _say(f"step {step + 1}/{steps}  loss {loss:.3f}")


def _open(settings: Settings, data: Path | None) -> Dataset:
    from pclhd.data.open import open_dataset

    root = data or settings.data.root
    if root is None:
        raise UserError("where is the data? Name its folder with --data DIR")
    return open_dataset(settings.data.layout, root, trial=settings.data.trial)


def _with_root(settings: Settings, dataset: Dataset) -> Settings:
    data = settings.data.model_copy(update={"root": dataset.root.resolve()})
    return settings.model_copy(update={"data": data})


if __name__ == "__main__":
    main()
