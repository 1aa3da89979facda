from __future__ import annotations

import json
from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.workflows.figures import FiguresRequest, collect, make_figures, published_text
from tests.report.ablations import METHODS, PARTS, make_ablation
from tests.report.fixtures import write_run


def names(request: FiguresRequest) -> tuple[list[str], list[str], list[str]]:
    made = collect(request)
    return (
        [drawing.name for drawing in made.drawings],
        [table.name for table in made.tables],
        list(made.notes),
    )


def test_an_ablation_gives_all_figures_that_need_no_images(tmp_path: Path) -> None:
    make_ablation(tmp_path / "ab")
    drawings, tables, notes = names(FiguresRequest((tmp_path / "ab",), tmp_path / "out", published=True))
    assert drawings == ["parts", "k", "ari-parts", "ari"]
    assert tables == ["parts-table", "k-table", "methods-table", "comparison", "measured"]
    (missing,) = notes
    assert missing.startswith("t-SNE maps on drawn people in SYSU-MM01's layout: left out, ")


def test_what_is_missing_or_does_nothing_is_said(tmp_path: Path) -> None:
    folder = make_ablation(tmp_path, {"parts": PARTS})
    floor, more = PARTS.entries
    for seed in (0, 1, 2):
        for name in ("results_file", "log_file"):
            one, other = (getattr(folder.run(entry, seed), name) for entry in (floor, more))
            other.write_text(one.read_text())
    *_, notes = names(FiguresRequest((tmp_path,), tmp_path / "out"))
    assert "Parts: + more has exactly the figures of floor, so its settings do nothing" in notes
    for seed in (0, 1, 2):
        folder.run(more, seed).results_file.unlink()
    *_, notes = names(FiguresRequest((tmp_path,), tmp_path / "out"))
    assert "Parts: no finished training of more" in notes
    for seed in (0, 1, 2):
        folder.run(floor, seed).results_file.unlink()
    with pytest.raises(UserError, match="no training of this ablation is finished"):
        collect(FiguresRequest((tmp_path,), tmp_path / "out"))


def test_two_ablations_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_ablation(tmp_path / name, {"methods": METHODS}, seeds=(0,))
    drawings, tables, _ = names(FiguresRequest((tmp_path / "one", tmp_path / "two"), tmp_path / "out"))
    assert drawings == ["ari", "ari-2"]
    assert tables == ["methods-table", "methods-table-2", "measured-1", "measured-2"]


def test_one_run_without_labels_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", metrics=[])
    (run / "results.json").unlink()
    drawings, tables, notes = names(FiguresRequest((run,), tmp_path / "out"))
    assert (drawings, tables) == ([], [])
    assert [note.partition(" on ")[0] for note in notes] == ["ARI over the epochs", "t-SNE maps"]


def test_runs_on_other_data_have_figures_of_their_own(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in ("one", "two")]
    for run, checksum in zip(runs, ("aa", "bb"), strict=True):
        facts = json.loads((run / "provenance.json").read_text())
        (run / "provenance.json").write_text(json.dumps({**facts, "data": {"training_checksum": checksum}}))
    drawings, tables, _ = names(FiguresRequest(tuple(runs), tmp_path / "out"))
    assert drawings == ["ari-1", "ari-2"]
    assert tables == ["measured-1", "measured-2"]


def test_published_figures_without_any_run(tmp_path: Path) -> None:
    files, notes = make_figures(FiguresRequest((), tmp_path / "out", published=True))
    assert sorted(path.name for path in files) == [
        *("comparison.csv", "comparison.md", "comparison.tex", "figures.md", "framework.svg")
    ]
    assert notes == ()
    assert "PCLHD" in published_text()
    assert "second-hand" in published_text()


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which runs"):
        make_figures(FiguresRequest((), tmp_path / "out"))
    with pytest.raises(UserError, match="is not a run folder"):
        make_figures(FiguresRequest((tmp_path / "nothing",), tmp_path / "out"))
    with pytest.raises(UserError, match="device"):
        make_figures(FiguresRequest((), tmp_path / "out", published=True, device="abacus"))
    assert not (tmp_path / "out").exists()
