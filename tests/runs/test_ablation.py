from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.runs.ablation import AblationFolder, AblationRecord, Entry, Table, start_name

FLOOR = Entry("floor", "pgm", about="the floor")
MORE = Entry("more", "pgm", ("method.cross=1",), "more", against="floor", variant="half")
RECORD = AblationRecord("tiny", ("schedule.iterations=1",), None, (0, 1), {"two": Table("Two", (FLOOR, MORE))})


def test_a_record_comes_back(tmp_path: Path) -> None:
    folder = AblationFolder(tmp_path / "runs")
    assert not folder.is_ablation()
    assert folder.add(RECORD) == folder.record() == RECORD
    assert folder.is_ablation()


def test_names_of_runs(tmp_path: Path) -> None:
    folder = AblationFolder(tmp_path)
    assert folder.run(MORE, 3).path == tmp_path / "more-3"
    assert folder.start(FLOOR, 3).path == tmp_path / "start-centroid-3"
    assert folder.start(MORE, 3).path.name == "start-centroid-half-3"
    assert start_name(replace(FLOOR, start="pclhd")) == "start-pclhd"


def test_later_calls_add_seeds_tables_and_entries(tmp_path: Path) -> None:
    folder = AblationFolder(tmp_path)
    folder.add(RECORD)
    other = Entry("other", "paper", against="floor")
    renamed = replace(FLOOR, about="the same, in other words")
    folder.add(replace(RECORD, seeds=(4,), tables={"one": Table("One", (FLOOR,))}))
    found = folder.add(replace(RECORD, seeds=(0,), tables={"two": Table("Two again", (renamed, other))}))
    assert found.seeds == (0, 1, 4)
    assert list(found.tables) == ["two", "one"]
    assert found.tables["two"] == Table("Two again", (renamed, other, MORE))


def test_another_ablation_is_refused(tmp_path: Path) -> None:
    folder = AblationFolder(tmp_path)
    folder.add(RECORD)
    before = folder.record_file.read_bytes()
    for other in (replace(RECORD, preset="synthetic"), replace(RECORD, settings=())):
        with pytest.raises(UserError, match=r"holds an ablation with `tiny schedule\.iterations=1`; name another"):
            folder.add(other)
    assert folder.record_file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Invalid JSON"),
        ("{}", "preset: "),
        ('{"preset": 3}', "preset: "),
        ('{"preset": "tiny", "settings": [], "search": null, "seeds": ["0"], "tables": {}, "schema": 1}', "seeds: 0: "),
        ('{"preset": "tiny", "settings": [], "search": null, "seeds": [0], "tables": {}, "schema": 2}', "schema: "),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str, said: str) -> None:
    folder = AblationFolder(tmp_path)
    folder.record_file.write_text(text)
    with pytest.raises(UserError) as refused:
        folder.record()
    assert str(refused.value).startswith(f"{folder.record_file}: {said}")
    assert "call pclhd ablate again" in str(refused.value)


def test_a_folder_without_a_record(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not the folder of an ablation \(no ablation.json\)"):
        AblationFolder(tmp_path).record()


def test_two_processes_add_at_the_same_time(tmp_path: Path) -> None:
    folder = AblationFolder(tmp_path)
    records = [replace(RECORD, seeds=(seed,)) for seed in range(8)]
    threads = [threading.Thread(target=folder.add, args=(record,)) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folder.record().seeds == tuple(range(8))
