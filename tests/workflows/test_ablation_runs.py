from __future__ import annotations

from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.runs.ablation import Entry, Table
from pclhd.workflows import ablation_runs
from pclhd.workflows.ablation_runs import Ablation, chosen, run_ablation

FLOOR = Entry("floor", "pgm", about="the floor")
MORE = Entry("more", "pgm", ("method.cross=1",), "more", against="floor")
HALF = Entry("half", "pclhd", start="half", variant="unpaired-50")
TABLE = Table("Two", (FLOOR, MORE))


@pytest.fixture
def here(tmp_path: Path) -> Ablation:
    starts = {"half": ("recipe=pclhd", "method.larger_share=0.5")}
    return Ablation("tiny", tmp_path / "data", tmp_path / "runs", ("schedule.iterations=1",), starts=starts)


def test_stage_one_is_trained_once_and_continued(here: Ablation) -> None:
    tasks = here.tasks([TABLE, TABLE], [0, 1])
    assert [task.run.folder.name for task in tasks] == [
        *("start-centroid-0", "floor-0", "more-0"),
        *("start-centroid-1", "floor-1", "more-1"),
    ]
    start, _, more, *_ = tasks
    assert (start.evaluate, start.needs) == (False, None)
    assert {"schedule.stage2_epochs=0", "recipe=baseline", "schedule.iterations=1"} <= set(start.run.words)
    assert more.needs == start.run.folder / "model.safetensors"
    assert {"schedule.stage1_epochs=0", "method.cross=1", f"model.weights={more.needs}"} <= set(more.run.words)
    settings = more.run.settings()
    assert (settings.seed, settings.schedule.stage1_epochs, settings.recipe) == (0, 0, "pgm")
    assert start.run.settings().schedule.stage2_epochs == 0


def test_a_variant_has_data_and_a_stage_one_of_its_own(here: Ablation, tmp_path: Path) -> None:
    start, run = here.tasks([Table("", (HALF,))], [3])
    assert start.run.folder.name == "start-half-unpaired-50-3"
    assert start.data == run.data == tmp_path / "data-unpaired-50"
    assert "method.larger_share=0.5" in start.run.words


def test_nothing_is_trained_with_a_wrong_setting(here: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation_runs, "work", lambda *_, **__: pytest.fail("trained"))
    wrong = Table("", (FLOOR, Entry("wrong", "pgm", ("method.crss=1",))))
    with pytest.raises(UserError, match=r"did you mean 'method\.cross'|did you mean 'cross'"):
        run_ablation(here, {"wrong": wrong}, [0])
    assert not here.out.exists()


def test_the_tables_are_recorded_before_the_work(here: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation_runs, "work", lambda tasks, **_: [f"{len(tasks)} failed"])
    assert run_ablation(here, {"two": TABLE}, [0, 1], search="all/single-shot") == ["6 failed"]
    record = here.folder.record()
    assert (record.tables, record.seeds, record.search) == ({"two": TABLE}, (0, 1), "all/single-shot")


def test_chosen_entries_come_with_what_they_are_compared_with() -> None:
    assert chosen(TABLE, ["more"]).entries == (FLOOR, MORE)
    assert chosen(TABLE, ["floor"]).entries == (FLOOR,)
    assert chosen(TABLE, []).entries == ()
