"""The runner of ablations: its tables, its order of work, what it skips and what it resumes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from argparse import Namespace
from pathlib import Path

import pytest
from benchmarks import training_runs
from benchmarks.ablation import Ablation, as_csv, as_markdown, chosen, collect, tasks_of, work
from benchmarks.ablation_tables import STARTS, TABLES, Entry, Table

from pclhd.config import load_preset
from pclhd.files import UNFINISHED, claiming

ROOT = Path(__file__).parents[1]
TABLE = Table(
    "Two",
    (Entry("floor", "pgm", about="the floor"), Entry("more", "pgm", ("method.cross=1",), "more", against="floor")),
)


@pytest.mark.parametrize("name", TABLES)
def test_every_entry_of_a_table_can_be_trained(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    here = Ablation("synthetic", tmp_path / "data", tmp_path)
    names = [entry.name for entry in table.entries]
    assert len(set(names)) == len(names)
    assert {entry.against for entry in table.entries} - {""} <= set(names)
    assert set(table.quick) <= set(names)
    settings = {}
    for entry in table.entries:
        run = here.run(entry, 0)
        wanted = load_preset(run.words[1], list(run.words[2:]))
        assert wanted.schedule.stage1_epochs == 0
        settings[entry.name] = (wanted.method.model_dump_json(), entry.unpaired)
    assert len(set(settings.values())) == len(names)


def test_one_name_is_one_training() -> None:
    seen: dict[str, tuple[object, ...]] = {}
    for table in TABLES.values():
        for entry in table.entries:
            what = (entry.recipe, entry.settings, entry.start, entry.unpaired)
            assert seen.setdefault(entry.name, what) == what


def test_entries_of_one_start_would_have_the_same_stage_one() -> None:
    # Fields that stage I does not read, or reads only with another one.
    later = {
        *("stage2", "hard_share", "centroid_share", "progressive", "dynamic_samples", "dynamic_similarity"),
        *("dynamic_redraw", "dynamic_gradient", "cross", "cross_direction", "cross_contrast", "cross_form"),
        *("cross_progressive", "distillation", "joint", "joint_labels", "joint_prototypes", "joint_memory"),
        *("joint_contrast", "joint_negatives", "joint_batches", "balanced_neighbours", "balanced_order", "matching"),
        "centroid_margin",
        # Memories of hard prototypes are not read in a stage I of centroids.
        *("hard_start", "hard_samples", "hard_batch_samples"),
    }
    for table in TABLES.values():
        for entry in table.entries:
            start = load_preset("synthetic", [*STARTS[entry.start]]).method
            own = load_preset("synthetic", [f"recipe={entry.recipe}", *entry.settings]).method
            changed = {name for name, value in start.model_dump().items() if getattr(own, name) != value}
            assert changed <= later, entry.name
            assert start.stage1 == "centroid" or not changed & {"hard_start", "hard_samples", "hard_batch_samples"}


class Fake:
    """Stands in for the command line: writes what a training and an evaluation leave behind."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[str, ...]] = []
        self.fails = fails

    def __call__(self, *words: object) -> None:
        self.calls.append(tuple(map(str, words)))
        verb, *rest = self.calls[-1]
        if verb == "train" and self.fails and self.fails in rest[-1]:
            raise SystemExit("training failed")
        folder = Path(rest[0] if verb == "evaluate" else rest[-1])
        folder.mkdir(parents=True, exist_ok=True)
        if verb == "train":
            (folder / "config.yaml").write_text("{}")
            (folder / "model.safetensors").write_text("weights")
            epoch = {
                "kind": "epoch",
                "loss": {"total": 1.0},
                "seconds": 2.0,
                "visible": {"clusters": 4},
                "infrared": {"clusters": 3},
                "labels": {"match_right": 0.75, "match_wrong": 0.25},
            }
            (folder / "metrics.jsonl").write_text(json.dumps(epoch) + "\n")
            return
        seed = int(folder.name.rpartition("-")[2])
        reached = (0.5 + 0.1 * seed) + (0.03 + 0.01 * seed if folder.name.startswith("more") else 0)
        row = {"weights": "final", "search": "all/single-shot"}
        row |= {name: {"mean": reached} for name in ("rank1", "mAP", "mINP")}  # type: ignore[misc]
        (folder / "results.json").write_text(json.dumps({"rows": [row]}))

    @property
    def trained(self) -> list[str]:
        return [Path(call[-1]).name for call in self.calls if call[0] == "train"]


@pytest.fixture
def here(tmp_path: Path) -> Ablation:
    return Ablation("tiny", tmp_path / "data", tmp_path, ("schedule.iterations=1",))


def test_stage_one_is_trained_once_and_continued(here: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setattr(training_runs, "pclhd", fake)
    assert work(tasks_of(here, [TABLE], [0, 1]), None) == []
    assert fake.trained == ["start-centroid-0", "floor-0", "more-0", "start-centroid-1", "floor-1", "more-1"]
    begin = next(call for call in fake.calls if call[-1].endswith("more-1"))
    assert f"model.weights={here.out}/start-centroid-1/model.safetensors" in begin
    assert {"schedule.stage1_epochs=0", "method.cross=1", "schedule.iterations=1", "seed=1"} <= set(begin)
    assert "schedule.stage2_epochs=0" in fake.calls[0]
    # Nothing is left to do; later, only what is missing is done.
    fake.calls.clear()
    assert work(tasks_of(here, [TABLE], [0, 1]), None) == []
    (here.out / "more-0" / "results.json").unlink()
    (here.out / "floor-1" / "results.json").unlink()
    (here.out / "floor-1" / "model.safetensors").unlink()
    work(tasks_of(here, [TABLE], [0, 1]), Path("validation"))
    floor, more = str(here.out / "floor-1"), str(here.out / "more-0")
    assert fake.calls == [
        ("evaluate", more, "--data", "validation"),
        ("train", "--resume", floor),
        ("evaluate", floor, "--data", "validation"),
    ]


def test_a_folder_without_a_first_checkpoint_begins_again(here: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setattr(training_runs, "pclhd", fake)
    (here.out / "start-centroid-0").mkdir()
    for name in ("config.yaml", UNFINISHED):
        (here.out / "start-centroid-0" / name).write_text("")
    work(tasks_of(here, [TABLE], [0])[:1], None)
    assert "--resume" not in fake.calls[0]


def test_a_failure_stops_what_needs_it_and_nothing_else(here: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(fails="start-centroid-0")
    monkeypatch.setattr(training_runs, "pclhd", fake)
    assert work(tasks_of(here, [TABLE], [0, 1]), None) == ["training failed"]
    assert fake.trained == ["start-centroid-0", "start-centroid-1", "floor-1", "more-1"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no locks")
def test_two_runners_share_the_work(here: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setattr(training_runs, "pclhd", fake)
    tasks = tasks_of(here, [TABLE], [0])
    # Another process trains stage I: nothing can be done until it is there.
    with claiming(here.out / "claims" / "start-centroid-0"):
        runner = threading.Thread(target=work, args=(tasks, None), kwargs={"pause": 0.01})
        runner.start()
        runner.join(0.1)
        assert runner.is_alive()
        assert fake.calls == []
        Fake()("train", tasks[0].run.folder)
    runner.join(10)
    assert not runner.is_alive()
    assert fake.trained == ["floor-0", "more-0"]
    assert not list((here.out).glob("claims/*"))


def test_rows_and_paired_differences(here: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_runs, "pclhd", Fake())
    work(tasks_of(here, [TABLE], [0, 1, 2]), None)
    rows = collect(here, {"two": TABLE}, [0, 1, 2, 3], "all/single-shot")
    assert [(row["entry"], row["seed"]) for row in rows] == [("floor", 0), ("floor", 1), ("floor", 2)] + [
        ("more", seed) for seed in (0, 1, 2)
    ]
    assert rows[0]["match_right"] == 0.75
    assert rows[0]["unmatched_right"] is None
    lines = as_csv(rows).splitlines()
    assert lines[0].startswith("entry,recipe,settings,start,unpaired,seed,search,test_images,rank1")
    assert len(lines) == 7
    text = as_markdown(TABLE, rows)
    # Differences of 3, 4 and 5 points: a mean of 4, and 4.303 (t, two degrees) times 1 / sqrt(3).
    assert "| more | `method.cross=1` | 64.0 ± 9.0 | 64.0 ± 9.0 | **+4.0 (+1.5 to +6.5)** |" in text
    assert "| the floor | `recipe=pgm` | 60.0 ± 8.2 |" in text
    results = here.out / "more-1" / "results.json"
    other = {**json.loads(results.read_text()), "dataset": {"test_checksum": "12ab"}}
    results.write_text(json.dumps(other))
    with pytest.raises(SystemExit, match="more-1 and floor-0 were evaluated with different test images"):
        collect(here, {"two": TABLE}, [0, 1, 2], "all/single-shot")
    with pytest.raises(SystemExit, match="has no search indoor"):
        collect(here, {"two": TABLE}, [0], "indoor/single-shot")


def test_chosen_entries_come_with_their_floor() -> None:
    table = TABLES["unpaired"]
    wanted = Namespace(entries=["transport-unpaired-25"], quick=False)
    assert [entry.name for entry in chosen(table, wanted).entries] == ["pclhd-unpaired-25", "transport-unpaired-25"]
    quick = Namespace(entries=None, quick=True)
    assert len(chosen(table, quick).entries) == 2


def test_unpaired_people_have_data_and_a_stage_one_of_their_own(here: Ablation) -> None:
    entries = {entry.name: entry for entry in TABLES["unpaired"].entries}
    data = {name: here.data_of(entry.unpaired).name for name, entry in entries.items()}
    assert data["pclhd"] == "data"
    assert data["mutual-unpaired-75"] == data["pclhd-unpaired-75"] == "data-unpaired-75"
    assert here.start(entries["mutual-unpaired-75"], 3).folder.name == "start-pclhd-unpaired-75-3"


def run(folder: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "benchmarks/ablation.py", "--quick", "--out", folder, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_in_its_quick_form_by_two_processes(tmp_path: Path) -> None:
    words = ("--tables", "unpaired", "--seeds", 4, "--set", "schedule.stage2_epochs=1")
    both = [run(tmp_path / "runs", *words, "--json", tmp_path / f"{number}.json") for number in (0, 1)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert "transport, 50% unpaired" in outputs[0][0]
    trained = "".join(errors for _, errors in outputs).split()[1::2]
    assert sorted(trained) == ["pclhd-unpaired-50-4", "start-pclhd-unpaired-50-4", "transport-unpaired-50-4"]
    floor, transport = json.loads((tmp_path / "0.json").read_text())["rows"]
    assert floor["unmatched_right"] == floor["unmatched_wrong"] == 0
    assert floor["match_wrong"] > 0
    shares = ("match_right", "match_wrong", "unmatched_right", "unmatched_wrong")
    assert sum(transport[name] for name in shares) == pytest.approx(1)
    assert transport["unmatched_right"] + transport["unmatched_wrong"] > 0
