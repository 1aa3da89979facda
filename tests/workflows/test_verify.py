"""A run's first epoch, trained again. Most tests replay the training of one real run, which all of them share."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pclhd.config import Settings, load_settings
from pclhd.data.records import Dataset, TrainingSet
from pclhd.engine.observer import Observer
from pclhd.engine.position import Position
from pclhd.errors import UserError
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import load_model, save_model
from pclhd.runs import provenance
from pclhd.workflows import verify as module
from pclhd.workflows.verify import ELSEWHERE, EXACT, Verification, read_logged_epoch, verify_run
from tests.engine.runs import SmallData, Watcher, digest, draw_people
from tests.models.small import SMALL_BASIC, stirred

QUICK = ("schedule.stage2_epochs=1",)
CLEAN = {"commit": "c0ffee", "dirty": False}


@pytest.fixture(autouse=True)
def clean_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore uncommitted changes of the checkout that these tests run in."""
    monkeypatch.setattr(provenance, "checkout_state", lambda package: CLEAN)


@pytest.fixture(scope="module")
def trained(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of two epochs; not to be changed."""
    run = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "checkout_state", lambda package: CLEAN)
        small.train(run, *QUICK)
        yield run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The same run, to be changed."""
    return shutil.copytree(trained, tmp_path / "run")


def dataset(training_set: TrainingSet, identities: tuple[int, ...] | None = None) -> Dataset:
    return Dataset("own", Path("people"), training_set, identities, None)


def verify(run: Path, training_set: TrainingSet, identities: tuple[int, ...] | None = None) -> Verification:
    settings = load_settings(run / "config.yaml")
    return verify_run(read_logged_epoch(run), settings, dataset(training_set, identities))


Again = Callable[..., Verification]


@pytest.fixture
def again(trained: Path, small: SmallData, monkeypatch: pytest.MonkeyPatch) -> Again:
    """Verifies a run, with a training that gives the same numbers as that of `trained`."""
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text("utf-8").splitlines()]
    kept = [line for line in lines if line["epoch"] == 0]

    def replay(settings: Settings, training_set: TrainingSet, run: Path, observer: Observer, **_: object) -> Path:
        shutil.copytree(trained, run)
        if start is not None:
            shutil.copy(start, run / "checkpoints" / "start.safetensors")
        position = Position(0, 1, 1.0, 0.1, 0)
        for line in kept:
            if line["kind"] == "step":
                observer.stepped(position, line["step"], line["loss"])
            else:
                observer.epoch_ended(position, None, {**line, "seconds": 0.1, "labels": {}})  # type: ignore[arg-type]
        return run

    start: Path | None = None

    def call(run: Path, *, other_start: Path | None = None) -> Verification:
        nonlocal start
        start = other_start
        return verify(run, small.training_set)

    monkeypatch.setattr(module, "train", replay)
    return call


def change_log(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite each line of the log."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        change(line)
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def change_loss(run: Path, by: float, *, step: int = 1) -> None:
    """Add a number to the logged total of a step."""

    def change(line: dict[str, Any]) -> None:
        if (line["kind"], line["epoch"], line.get("step")) == ("step", 0, step):
            line["loss"]["total"] += by

    change_log(run, change)


def change_facts(run: Path, **facts: Any) -> None:
    path = run / "provenance.json"
    saved: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for key, value in facts.items():
        if isinstance(value, Mapping):
            saved[key] = {**saved[key], **value}
        else:
            saved[key] = value
    path.write_text(json.dumps(saved))


def contents(run: Path) -> dict[str, str]:
    return {str(path.relative_to(run)): digest(path) for path in sorted(run.rglob("*")) if path.is_file()}


# Real repetitions.


def test_a_run_repeats_to_the_last_bit_and_is_not_touched(small: SmallData, run: Path) -> None:
    before = contents(run)
    found = verify(run, small.training_set)
    assert (found.verdict, found.differences, found.steps, found.tolerance) == ("identical", (), 2, EXACT)
    assert found.agrees
    assert found.notes == ()
    assert found.environment == ()
    assert found.text().startswith(f"identical: {found.compared} numbers of the first epoch (2 logged steps")
    # Two steps with three losses or more, as many means, and the clusters of two modalities.
    assert found.compared > 20
    assert contents(run) == before


def test_an_interrupted_run_repeats(small: SmallData, tmp_path: Path) -> None:
    def stop(position: Position, step: int) -> None:
        if position.epoch == 1:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        small.train(run, *QUICK, observer=Watcher(step=stop))
    before = contents(run)
    assert verify(run, small.training_set).verdict == "identical"
    assert contents(run) == before


def test_what_depends_on_the_length_of_a_stage_stays(small: SmallData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ramp = ("recipe=paper", "method.progressive=ramp", "schedule.stage1_epochs=0", "schedule.stage2_epochs=2")
    small.train(run, *ramp, "engine.log_every=2")
    found = verify(run, small.training_set)
    assert (found.verdict, found.steps) == ("identical", 1)


def test_another_seed_is_noticed(small: SmallData, run: Path) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0\n", "seed: 1\n"))
    found = verify(run, small.training_set)
    assert not found.agrees
    assert found.text().startswith("differs: first at epoch 0")


def test_a_run_with_identities_repeats(small: SmallData, tmp_path: Path) -> None:
    from pclhd.engine.trainer import train
    from pclhd.supervised.labeller import IdentityLabeller

    run = tmp_path / "run"
    # Files are named after the person.
    identities = tuple(int(image.path.name.split("-")[0]) for image in small.training_set.images)
    labeller = IdentityLabeller(dataset(small.training_set, identities), visible_only=False)
    train(small.settings(*QUICK, "recipe=supervised"), small.training_set, run, Watcher(), labeller=labeller)
    assert verify(run, small.training_set, identities).verdict == "identical"
    with pytest.raises(UserError, match="no identities"):
        verify(run, small.training_set)


def test_start_weights_that_are_gone_are_taken_from_the_run(
    small: SmallData, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(small.start), "nowhere/start.safetensors"))
    found = verify(run, small.training_set)
    assert found.verdict == "identical"
    assert found.notes == ("nowhere/start.safetensors is missing; trained from the start weights saved in the run",)
    (run / "checkpoints" / "start.safetensors").unlink()
    with pytest.raises(UserError, match=r"nowhere/start.safetensors: no such file"):
        verify(run, small.training_set)


# What is compared, and how closely.


@pytest.mark.parametrize("by", [1e-12, 1e-3, 0.5])
def test_on_the_same_machine_any_difference_counts(again: Again, run: Path, by: float) -> None:
    change_loss(run, by)
    found = again(run)
    assert found.verdict == "differs"
    assert found.tolerance == EXACT
    (one,) = found.differences
    assert (one.place, one.name) == ("epoch 0 step 1", "loss total")
    assert found.text().splitlines()[0].startswith("differs: first at epoch 0 step 1, loss total ")
    assert (
        found.text()
        .splitlines()[1]
        .startswith(f"1 of {found.compared} numbers differ at all; largest difference: epoch 0 ")
    )
    assert "libraries, machine and code are the same" in found.text()
    # However small it is, the two numbers that are shown are not the same.
    before, after = found.text().splitlines()[0].split("loss total ")[1].split(" vs ")
    assert before != after


OTHERS: list[dict[str, Any]] = [
    {"libraries": {"torch": "2.0.1"}},
    {"machine": {"model": "another processor"}},
    {"device": "a graphics card"},
    {"commit": "f00"},
    {"dirty": True},
    {"threads": torch.get_num_threads() + 1},
    {"numba_threads": 99},
    {"processes": 2},
    {"precision": "bf16-mixed"},
    {"python": "3.9.1"},
    {"pclhd": "0.0.1"},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_elsewhere_small_differences_are_allowed(again: Again, run: Path, other: dict[str, Any]) -> None:
    change_facts(run, **other)
    assert again(run).verdict == "identical"
    change_loss(run, 1e-6)
    found = again(run)
    assert (found.verdict, found.agrees) == ("close", True)
    assert found.tolerance == ELSEWHERE["32-true"]
    assert found.text().startswith(("equal within 1e-6", "equal within 1e-5"))
    assert "largest difference: epoch 0 step 1, loss total " in found.text()
    assert f"({ELSEWHERE['32-true'].step:g} allowed)" in found.text()
    change_loss(run, 5.0)
    found = again(run)
    assert found.verdict == "differs"
    assert f"1 of {found.compared} numbers differ more than rounding explains" in found.text()


def test_elsewhere_the_start_is_held_more_tightly_than_what_follows(again: Again, run: Path) -> None:
    change_facts(run, commit="f00")
    allowed = ELSEWHERE["32-true"]
    change_loss(run, 10 * allowed.start, step=1)
    assert again(run).verdict == "close"
    change_loss(run, 100 * allowed.start, step=0)
    found = again(run)
    assert found.verdict == "differs"
    # Not the first difference counts, nor the largest, but the first that is too large.
    assert found.text().startswith("differs: first at epoch 0 step 0, loss total")


@pytest.mark.parametrize("times", [0.5, 3])
def test_elsewhere_means_have_a_tolerance_of_their_own(again: Again, run: Path, times: float) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["kind"] == "epoch":
            total = line["loss"]["total"]
            line["loss"]["total"] += times * ELSEWHERE["32-true"].mean * max(1, abs(total))

    change_facts(run, commit="f00")
    change_log(run, change)
    assert again(run).agrees == (times < 1)


def test_what_is_not_as_it_was_is_named(again: Again, run: Path) -> None:
    now = json.loads((run / "provenance.json").read_text("utf-8"))
    change_facts(
        run, libraries={"torch": "2.0.1", "extra": "1"}, machine={"model": "X", "memory_bytes": 5}, commit=None
    )
    found = again(run)
    torch_now = now["libraries"]["torch"]
    assert f"torch 2.0.1 (now {torch_now})" in found.environment
    assert f"model X (now {now['machine']['model']})" in found.environment
    assert "commit none (now c0ffee)" in found.environment
    assert "extra 1 (now none)" in found.environment
    # Memory changes no number.
    assert not any("memory" in entry for entry in found.environment)
    assert f"changed since: {', '.join(found.environment)}" in found.text()


def test_a_run_that_recorded_less_may_differ_by_rounding(again: Again, run: Path) -> None:
    path = run / "provenance.json"
    facts = json.loads(path.read_text("utf-8"))
    # As version 0.1.0 first wrote it.
    facts["machine"] = {key: facts["machine"][key] for key in ("system", "processor", "cores")}
    facts["libraries"] = {"torch": facts["libraries"]["torch"]}
    for key in ("dirty", "precision", "start_weights", "cameras", "numba_threads", "processes"):
        del facts[key]
    path.write_text(json.dumps(facts))
    change_loss(run, 1e-6)
    found = again(run)
    assert (found.verdict, found.environment) == ("close", ())


def test_another_machine_within_the_first_epoch_is_reported(again: Again, run: Path) -> None:
    change_loss(run, 1e-6)
    later: list[dict[str, object]] = [{"epoch": 0}, {"epoch": 1, "threads": 77}]
    change_facts(run, resumed=later)
    assert again(run).verdict == "differs"
    change_facts(run, resumed=[*later, {"epoch": 0, "threads": 78, "libraries": {"torch": "9"}, "dirty": False}])
    found = again(run)
    assert found.verdict == "close"
    assert found.environment == tuple(f"{what} after the first epoch was resumed" for what in ("threads 78", "torch 9"))


def test_changes_without_a_commit_are_noted(again: Again, run: Path) -> None:
    change_facts(run, dirty=True)
    (note,) = again(run).notes
    assert note.startswith("the code had uncommitted changes")


def test_clusters_are_compared_before_losses(again: Again, run: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["kind"] == "epoch" and line["epoch"] == 0:
            line["visible"]["clusters"] += 1
            line["loss"]["total"] += 1

    change_log(run, change)
    change_loss(run, 1.0, step=0)
    found = again(run)
    assert [(one.place, one.name) for one in found.differences] == [
        ("epoch 0", "visible clusters"),
        ("epoch 0 step 0", "loss total"),
        ("epoch 0, mean", "loss total"),
    ]
    first = found.text().splitlines()[0]
    count = found.differences[0].logged
    assert count is not None
    assert first == f"differs: first at epoch 0, visible clusters {count:g} vs {count - 1:g}"


def test_the_clock_and_the_identities_are_not_compared(again: Again, run: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["kind"] == "epoch":
            line |= {"seconds": 99.0, "seconds_clustering": 98.0, "images_per_second": 1.0, "labels": {"ari": 0.5}}

    change_log(run, change)
    assert again(run).verdict == "identical"


def test_later_epochs_are_not_compared(again: Again, run: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["epoch"] > 0:
            line["loss"]["total"] += 1

    change_log(run, change)
    assert again(run).verdict == "identical"


def test_a_number_that_is_no_longer_there_differs(again: Again, run: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["kind"] == "step":
            line["loss"]["lost"] = 0.5

    change_facts(run, commit="f00")
    change_log(run, change)
    found = again(run)
    assert found.verdict == "differs"
    assert "epoch 0 step 0, loss lost 0.5, which no longer exists" in found.text()


def test_a_number_that_was_not_logged_then_is_not_missed(again: Again, run: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["kind"] == "epoch":
            line["visible"].pop("silhouette")

    change_log(run, change)
    assert again(run).verdict == "identical"


def test_losses_that_are_nan(again: Again, run: Path) -> None:
    change_loss(run, math.nan)
    found = again(run)
    assert (found.verdict, found.differences[0].size) == ("differs", math.inf)


def test_other_start_weights_are_noticed(again: Again, run: Path, tmp_path: Path) -> None:
    kept = run / "checkpoints" / "start.safetensors"
    # The same weights under another header are the same weights.
    save_model(kept, load_model(kept), {"weights": "start", "more": "words"})
    assert again(run).verdict == "identical"
    network = load_model(kept)
    with torch.no_grad():
        next(network.visible_stem.parameters()).view(-1)[0] += 0.25
    save_model(tmp_path / "other.safetensors", network)
    found = again(run, other_start=tmp_path / "other.safetensors")
    assert found.verdict == "differs"
    assert found.text().startswith("differs: first at the start, start weights: visible_stem.")
    assert "differs by up to 0.25" in found.text()


def test_start_weights_of_another_network(again: Again, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_model(other, stirred(SMALL_BASIC))
    found = again(run, other_start=other)
    assert found.text().startswith("differs: first at the start, start weights: those of another network")


def test_start_weights_that_are_damaged_or_gone(again: Again, run: Path) -> None:
    kept = run / "checkpoints" / "start.safetensors"
    kept.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"start.safetensors: is damaged"):
        again(run)
    kept.unlink()
    found = again(run)
    assert found.verdict == "identical"
    assert found.notes[0].endswith("is missing, so the start weights were not compared")


def test_other_images_differ_before_anything_is_trained(
    small: SmallData, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "train", None)
    others = draw_people(tmp_path / "others", people=2, seed=9)
    found = verify(run, others)
    assert not found.agrees
    (line,) = found.text().splitlines()
    assert line == (
        f"differs: first at the start, training images: checksum {others.checksum[:12]}, the run's was "
        f"{small.training_set.checksum[:12]}; nothing was trained"
    )


def test_another_number_of_threads_is_reported_with_a_command_that_repeats_it(again: Again, run: Path) -> None:
    then = torch.get_num_threads() + 1
    change_facts(run, threads=then)
    found = again(run)
    assert found.environment == (f"threads {then} (now {then - 1})",)
    numba_then = json.loads((run / "provenance.json").read_text("utf-8"))["numba_threads"]
    words = f"OMP_NUM_THREADS={then} NUMBA_NUM_THREADS={numba_then}"
    assert found.notes == (f"to use the same number of threads: {words} pclhd verify {run}",)
    change_facts(run, threads=then - 1, numba_threads=numba_then + 1)
    found = again(run)
    assert found.environment == (f"numba_threads {numba_then + 1} (now {numba_then})",)
    assert f"NUMBA_NUM_THREADS={numba_then + 1} pclhd verify" in found.notes[0]


# Runs that cannot be repeated.


def test_an_imported_run(run: Path) -> None:
    (run / "provenance.json").write_text(json.dumps({"imported": {"file": "best.pth"}}))
    with pytest.raises(UserError, match="was imported"):
        read_logged_epoch(run)


def test_an_upper_bound(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    (run / "provenance.json").unlink()
    save_model(run / "model.safetensors", TwoStreamNetwork(NARROW), {"weights": "supervised"})
    with pytest.raises(UserError, match="upper-bound"):
        read_logged_epoch(run)


@pytest.mark.parametrize("log", [None, "", '{"kind": "step", "epoch": 0, "step": 0, "loss": {}}\n'])
def test_a_run_without_a_whole_epoch(run: Path, log: str | None) -> None:
    (run / "metrics.jsonl").unlink()
    if log is not None:
        (run / "metrics.jsonl").write_text(log)
    with pytest.raises(UserError, match=r"metrics.jsonl: has no complete epoch .* pclhd train --resume"):
        read_logged_epoch(run)


def test_a_run_without_provenance(run: Path) -> None:
    (run / "provenance.json").unlink()
    with pytest.raises(UserError, match=r"provenance.json: has no checksum"):
        read_logged_epoch(run)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"kind": "epoch", "epoch": 0}',
        '{"kind": "step", "epoch": 0}',
        '{"kind": "step", "epoch": 0, "step": 1}',
    ],
)
def test_a_damaged_log_is_reported_with_its_line(run: Path, line: str) -> None:
    path = run / "metrics.jsonl"
    path.write_text(f"{line}\n{path.read_text('utf-8')}")
    with pytest.raises(UserError, match=r"metrics.jsonl, line 1"):
        read_logged_epoch(run)


def test_a_line_that_was_cut_off_is_left_out(run: Path, trained: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "epo')
    cut = read_logged_epoch(run)
    assert replace(cut, run=trained) == read_logged_epoch(trained)


def test_several_processes(small: SmallData, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        verify(run, small.training_set)


def test_settings_without_an_epoch(small: SmallData, run: Path) -> None:
    config = run / "config.yaml"
    config.write_text(
        config.read_text()
        .replace("stage1_epochs: 1", "stage1_epochs: 0")
        .replace("stage2_epochs: 1", "stage2_epochs: 0")
    )
    with pytest.raises(UserError, match="leave no epoch"):
        verify(run, small.training_set)
