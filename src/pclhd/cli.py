"""The command line: each verb parses, calls one function and prints. Heavy imports stay inside the verbs."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
        if not error.told:
            errors.print(f"pclhd: {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except OSError as error:
        # Most paths are looked at where they are used. This is for what any look can meet: a folder that may not be
        # entered, a name that is too long, a disk that is gone.
        if debug or error.filename is None:
            raise
        told = f"pclhd: {error.filename}: {error.strerror}; check the path and its permissions"
        errors.print(escape(told), soft_wrap=True, highlight=False)
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
    """Train without labels; leaves a run folder. Only recipe=supervised and semi-supervised use labels.

    Presets: synthetic, tiny, vit, sysu, regdb, llcm, own.
    Example: pclhd train synthetic --data build/small recipe=paper
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
    from pclhd.devices import keep_freed_memory
    from pclhd.engine.interruption import Interrupted, Interruption
    from pclhd.engine.trainee import runs_on_gpu
    from pclhd.engine.trainer import train as run_training

    if not runs_on_gpu(settings):
        keep_freed_memory()
    labeller = None
    if settings.method.labels != "clusters":
        from pclhd.supervised.labeller import IdentityLabeller

        labeller = IdentityLabeller(dataset, visible_only=settings.method.labels == "visible_identities")
    measure = None
    if dataset.train_identities is not None:
        from pclhd.evaluation.clusters import ClusterMeter

        measure = ClusterMeter(dataset).measure
    _say(f"training {settings.recipe} on {dataset.name} into {run}")
    interruption = Interruption()
    try:
        with ConsoleObserver(console, measure) as observer, interruption.handling():
            run_training(
                _with_root(settings, dataset),
                dataset.train,
                run,
                observer,
                resume=resume is not None,
                labeller=labeller,
                interruption=interruption,
            )
    except Interrupted as stop:
        begun = (run / "checkpoints").is_dir()
        message = f"interrupted; go on with: pclhd train --resume {run}" if begun else "interrupted before the start"
        errors.print(message, highlight=False, markup=False, soft_wrap=True)
        sys.exit(stop.exit_code)
    _say(f"done: {run}; next: pclhd evaluate {run}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[Path | None, typer.Option(help="The data, if it has moved since training.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Measure a run's weights (start, stage I, final) by the protocol of its data; writes results.json."""
    from pclhd.config import load_settings
    from pclhd.report.tables import results_text
    from pclhd.workflows.evaluate import evaluate_run

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
    from pclhd.report.tables import results_text
    from pclhd.runs.records import read_results

    trees = []
    for run in runs:
        tree = read_results(run / "results.json")
        if tree is None:
            raise UserError(f"{run / 'results.json'}: is missing; make it with: pclhd evaluate {run}")
        trees.append(tree.model_dump(by_alias=True, exclude={"ranked_examples"}))
    names = dict.fromkeys(tree["dataset"]["name"] for tree in trees)
    combined = {
        **trees[0],
        "dataset": {**trees[0]["dataset"], "name": ", ".join(names)},
        "rows": average([tree["rows"] for tree in trees]),
        "runs": [str(run) for run in runs],
    }
    if as_json:
        typer.echo(json.dumps(combined, indent=2, ensure_ascii=False))
    else:
        typer.echo(results_text(combined))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first is what the others are compared with.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Put runs side by side: settings and provenance that differ, results, clusters.

    Runs that differ only in their seed make a group: mean, standard deviation, and paired differences with a 95 %
    confidence interval.
    """
    from pclhd.report.compare.runs import compare_runs
    from pclhd.report.compare.text import comparison_text

    compared = compare_runs(runs)
    typer.echo(json.dumps(compared.to_dict(), indent=2, ensure_ascii=False) if as_json else comparison_text(compared))


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="Run folder, finished or interrupted.")],
    data: Annotated[Path | None, typer.Option(help="The data, if it has moved since training.")] = None,
) -> None:
    """Train a run's first epoch again, elsewhere, and compare with what it logged; exit code 1 if it differs."""
    from pclhd.config import load_settings
    from pclhd.workflows.verify import read_logged_epoch, verify_run

    settings = load_settings(run / "config.yaml")
    logged = read_logged_epoch(run)
    dataset = _open(settings, data)
    try:
        with _status("training the first epoch again"):
            found = verify_run(logged, settings, dataset)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was written", highlight=False)
        sys.exit(130)
    typer.echo(found.text())
    if not found.agrees:
        sys.exit(1)


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
def cluster(
    features: Annotated[Path, typer.Argument(metavar="FEATURES", help=".npy, .safetensors or .parquet, a row each.")],
    out: Annotated[Path, typer.Option(help="File to make: .parquet, .csv, or .npy (labels only).")],
    modality: Annotated[
        str | None,
        typer.Option(metavar="COLUMN|FILE", help="Which rows are visible (rgb, v, 0), which infrared (ir, t, 1)."),
    ] = None,
    per_modality: Annotated[
        bool, typer.Option("--per-modality", help="Cluster each modality by itself, then match the clusters.")
    ] = False,
    match: Annotated[
        Literal["progressive", "mutual", "transport"] | None,
        typer.Option(help="How to match them.", show_default="progressive"),
    ] = None,
    method: Annotated[
        Literal["dbscan", "hdbscan", "agglomerative", "community"], typer.Option(help="How to cluster.")
    ] = "dbscan",
    k1: Annotated[
        int | None,
        typer.Option(help="Neighbours in a neighbourhood; by default 30, and 40 for both modalities together."),
    ] = None,
    k2: Annotated[
        int | None,
        typer.Option(help="Neighbours averaged over; by default 6, and 32 for both modalities together."),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|auto",
            help="Largest Jaccard distance within a cluster (dbscan, agglomerative).",
            show_default="0.6",
        ),
    ] = None,
    min_samples: Annotated[
        int | None,
        typer.Option(
            help="Samples that make a dense place (dbscan), or the smallest cluster (the others).", show_default="4"
        ),
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Higher makes smaller clusters (community).", show_default="the method's")
    ] = None,
    search: Annotated[
        Literal["auto", "exact", "approximate"],
        typer.Option(help="How to find neighbours; auto looks at the number of samples."),
    ] = "auto",
    balanced_neighbours: Annotated[
        bool, typer.Option("--balanced-neighbours", help="Half of the neighbours from each modality.")
    ] = False,
    outliers: Annotated[
        Literal["keep", "rescue", "drop", "both"],
        typer.Option(help="Give noise to clear clusters (rescue), make doubtful members noise (drop)."),
    ] = "keep",
    normalise: Annotated[
        bool, typer.Option("--normalise/--as-they-are", help="Scale rows to length 1 first, as the method expects.")
    ] = True,
    identities: Annotated[
        str | None,
        typer.Option(metavar="COLUMN|FILE", help="True identities, to measure the clusters; no label depends on them."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Tensor or column that holds the features, where there are several.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where neighbours are searched, such as cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Cluster features that were made anywhere, visible and infrared together or apart; writes a label per row.

    Example: pclhd cluster features.npy --modality modality.txt --out labels.parquet
    """
    from pclhd.workflows.cluster import ClusterRequest, run_clustering
    from pclhd.workflows.cluster_summary import summary_text

    request = ClusterRequest(
        features=features,
        out=out,
        key=key,
        modality=modality,
        identities=identities,
        per_modality=per_modality,
        match=match,
        normalise=normalise,
        method=method,
        k1=k1,
        k2=k2,
        eps=eps,
        min_samples=min_samples,
        resolution=resolution,
        search=search,
        balanced_neighbours=balanced_neighbours,
        outliers=outliers,
        device=device,
    )
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            summary = run_clustering(request, _status)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was written", highlight=False)
        sys.exit(130)
    if as_json:
        typer.echo(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False))
        return
    typer.echo(summary_text(summary))
    typer.echo(f"wrote {out}: {', '.join(summary.columns)}")


@app.command(name="import")
def import_weights(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pth, .pth.tar or .safetensors file.")],
    layout: Annotated[Literal["sysu", "regdb", "llcm", "own"], typer.Option(help="The data it was trained on.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run folder to make.")],
    data: Annotated[Path | None, typer.Option(help="The data set's folder, to be remembered in the run.")] = None,
    trial: Annotated[int, typer.Option(help="RegDB's split that it was trained on, 1 to 10.")] = 1,
    network: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Which network, where the file holds several.")
    ] = None,
) -> None:
    """Make a run folder of a checkpoint of the released code or its family (PCLHD, ADCA, PGM, AGW).

    Example: pclhd import model_best.pth.tar --layout sysu --data DIR --out runs/theirs
    """
    from pclhd.workflows.exchange import import_checkpoint

    report = import_checkpoint(checkpoint, layout, out, data=data, trial=trial, network=network)
    typer.echo(report.text())
    typer.echo(f"wrote {out}; next: pclhd evaluate {out}{'' if data else ' --data DIR'}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="File to make: .pth.tar, .pth or .safetensors.")],
    form: Annotated[Literal["released"], typer.Option("--format", help="Whose names and layout.")] = "released",
) -> None:
    """Write a run's final weights as a checkpoint that the released code loads.

    Example: pclhd export RUN --out model_best.pth.tar
    """
    from pclhd.workflows.exchange import export_released

    typer.echo(f"wrote {out}: {export_released(run, out)} entries in the {form} code's names")


@app.command()
def embed(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="File to make: .parquet, .safetensors, or .npy (embeddings only).")],
    data: Annotated[Path | None, typer.Option(help="Data set to embed; by default the run's own.")] = None,
    layout: Annotated[
        Literal["auto", "sysu", "regdb", "llcm", "own"] | None,
        typer.Option(help="Its layout.", show_default="the run's"),
    ] = None,
    split: Annotated[Literal["all", "train", "test"], typer.Option(help="Which of its images.")] = "all",
    images: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Instead of a data set: a folder of images; repeatable.")
    ] = None,
    modality: Annotated[
        Literal["visible", "infrared"] | None, typer.Option(help="What light those images were taken in.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute; auto takes a GPU where there is one.")] = "auto",
) -> None:
    """Embed images with a run's final weights; writes a row per image, ready for `pclhd cluster`.

    Example: pclhd embed RUN --data DIR --out features.parquet
    """
    from rich.progress import Progress

    from pclhd.data.records import Modality
    from pclhd.workflows.embed import EmbeddingRequest, run_embedding

    request = EmbeddingRequest(
        run=run,
        out=out,
        data=data,
        layout=layout,
        split=split,
        images=tuple(images or ()),
        modality=None if modality is None else Modality(modality),
        device=device,
    )
    try:
        with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
            task = progress.add_task("embedding", total=None)
            count = run_embedding(request, lambda done, total: progress.update(task, completed=done, total=total))
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was written", highlight=False)
        sys.exit(130)
    typer.echo(f"wrote {out}: {count:,} embeddings")


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

    from pclhd.synthetic import write_synthetic

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
    preset: Annotated[
        str | None,
        typer.Option(help="Preset (or YAML file) whose network to train.", show_default="the shipped weights' network"),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default="0.002")] = None,
) -> None:
    """Remake the shipped starter weights: trained with labels on other synthetic people, visible images only.

    With --preset, make such weights for another network. Example: pclhd starter vit.safetensors --preset vit
    """
    from pclhd.config import load_preset

    settings = None if preset is None else load_preset(preset, [])
    from pclhd.supervised.starter import make_starter

    make_starter(
        out,
        people=people,
        images_per_person=images,
        steps=steps,
        seed=seed,
        preset=settings,
        learning_rate=learning_rate,
        on_step=_print_step,
    )
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
    _refuse_unread(arguments[1:])
    dataset = _open(settings, data)
    from pclhd.supervised.starter import train_upper_bound

    train_upper_bound(_with_root(settings, dataset), dataset, out, on_step=_print_step)
    typer.echo(f"done: {out}; next: pclhd evaluate {out}")


def _refuse_unread(words: list[str]) -> None:
    for word in words:
        if word.partition("=")[0].partition(".")[0] in ("recipe", "method", "selection", "clustering", "memory"):
            raise UserError(
                f"'{word}' reaches nothing here: upper-bound has no clusters and no prototypes, and keeps the last "
                "step's weights; leave it out"
            )


def _say(line: str) -> None:
    """Print one line as it is: no colours for numbers, and no wrapping, which would break paths in a log.

    Of several processes that train together the first one speaks.
    """
    if os.environ.get("RANK", "0") == "0":
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _status(phase: str) -> Iterator[None]:
    """Show on a terminal what is going on, and nothing in a log."""
    if errors.is_terminal:
        with errors.status(escape(phase)):
            yield
    else:
        yield


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    errors.print(f"note: {message}", highlight=False, markup=False, soft_wrap=True)


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
