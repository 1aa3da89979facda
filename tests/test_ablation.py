"""The ablations of the benchmark: their tables, and the whole by two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from benchmarks.ablation import SEARCH, as_csv, markdown, wanted_tables
from benchmarks.ablation_tables import STARTS, TABLES

from pclhd.report.ablation import read_rows
from pclhd.workflows.ablation_runs import Ablation
from pclhd.workflows.ablation_tables import start_words
from tests.report.ablations import PARTS, make_ablation
from tests.workflows.test_ablation_tables import refuse_other_stage_one

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", TABLES)
def test_every_entry_of_a_table_can_be_trained(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    here = Ablation("synthetic", tmp_path / "data", tmp_path, starts=STARTS)
    names = [entry.name for entry in table.entries]
    assert len(set(names)) == len(names)
    assert {entry.against for entry in table.entries} - {""} <= set(names)
    assert set(table.quick) <= set(names)
    settings = {}
    for entry in table.entries:
        wanted = here.run(entry, 0).settings()
        assert wanted.schedule.stage1_epochs == 0
        settings[entry.name] = (wanted.method.model_dump_json(), entry.variant)
        refuse_other_stage_one(entry, start_words(entry, STARTS))
    assert len(set(settings.values())) == len(names)


def test_one_name_is_one_training() -> None:
    seen: dict[str, tuple[object, ...]] = {}
    for table in TABLES.values():
        for entry in table.entries:
            what = (entry.recipe, entry.settings, entry.start, entry.variant)
            assert seen.setdefault(entry.name, what) == what


def test_names_of_folders_stay_as_they_were(tmp_path: Path) -> None:
    here = Ablation("synthetic", tmp_path / "data", tmp_path, starts=STARTS)
    expected = {
        "parts-pgm": ["pgm", "pgm-hard", "pgm-dynamic", "pgm-both", "pgm-ramp", "pgm-fresh", "pgm-harsh"],
        "lambda": ["paper", *(f"paper-hard_share-{value}" for value in ("0", "0.25", "0.75", "1"))],
        "k": ["paper-furthest", *(f"paper-furthest-hard_samples-{value}" for value in (2, 4, 8))],
    }
    for name, names in expected.items():
        assert [entry.name for entry in TABLES[name].entries] == names
    entries = {entry.name: entry for entry in TABLES["unpaired"].entries}
    assert here.start(entries["mutual-unpaired-75"], 3).folder.name == "start-pclhd-unpaired-75-3"
    assert here.data_of(entries["mutual-unpaired-75"].variant).name == "data-unpaired-75"
    assert here.data_of(entries["pclhd"].variant).name == "data"
    assert here.run(entries["pclhd-unpaired-25"], 1).folder.name == "pclhd-unpaired-25-1"
    halves = {entry.name: entry for entry in TABLES["ideas"].entries}
    assert "method.larger_share=0.5" in here.start(halves["half"], 0).words


def test_chosen_entries_come_with_their_floor() -> None:
    wanted = wanted_tables(Namespace(tables=["unpaired"], entries=["transport-unpaired-25"], quick=False))
    assert [entry.name for entry in wanted["unpaired"].entries] == ["pclhd-unpaired-25", "transport-unpaired-25"]
    quick = wanted_tables(Namespace(tables=["unpaired"], entries=None, quick=True))
    assert len(quick["unpaired"].entries) == 2


def test_a_line_for_each_run_and_a_table_with_settings(tmp_path: Path) -> None:
    folder = make_ablation(tmp_path, {"parts": PARTS})
    rows = read_rows(folder, [PARTS], [0, 1, 2], SEARCH)
    lines = as_csv(rows).splitlines()
    assert lines[0].startswith("entry,recipe,settings,start,variant,seed,search,test_images,rank1")
    assert len(lines) == 7
    text = markdown(PARTS, rows)
    assert text.startswith("### Parts\n\n| What it is | Settings | rank-1 |")
    assert "| + more | `method.cross=1` | 64.0 ± 11.0 |" in text


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
