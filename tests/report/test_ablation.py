from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev

import pytest

from pclhd.errors import UserError
from pclhd.report.ablation import ablation_table, difference_of, read_rows, spread_text, values_of, without_effect
from pclhd.runs.ablation import AblationFolder
from tests.report.ablations import PARTS, SEARCH, make_ablation, rank1


@pytest.fixture
def folder(tmp_path: Path) -> AblationFolder:
    return make_ablation(tmp_path / "runs", {"parts": PARTS})


def test_a_row_for_each_finished_run(folder: AblationFolder) -> None:
    (folder.run(PARTS.entries[1], 2).results_file).unlink()
    rows = read_rows(folder, [PARTS, PARTS], [0, 1, 2, 7])
    assert [(row.entry.name, row.seed) for row in rows] == [
        *(("floor", seed) for seed in (0, 1, 2)),
        *(("more", seed) for seed in (0, 1)),
    ]
    first = rows[0].to_dict()
    assert first["rank1"] == rank1("floor", 0)
    assert first["search"] == SEARCH
    assert first["settings"] == ""
    assert rows[3].to_dict()["settings"] == "method.cross=1"
    assert first["match_right"] is None
    assert first["seconds"] == pytest.approx(3 * 7.1)
    assert first["visible_clusters"] == 270


def test_values_are_in_percent_and_paired_by_seed(folder: AblationFolder) -> None:
    rows = read_rows(folder, [PARTS], [0, 1, 2])
    assert values_of(rows, "more", "rank1") == pytest.approx({seed: 100 * rank1("more", seed) for seed in (0, 1, 2)})
    assert values_of(rows, "more", "match_right") == values_of(rows, "other", "rank1") == {}
    found = difference_of(rows, PARTS.entries[1], "rank1")
    assert found is not None
    # Differences of 3, 4 and 5 points: a mean of 4, and 4.303 (t, two degrees) times 1 / sqrt(3).
    assert found.mean == pytest.approx(4.0)
    assert found.low == pytest.approx(4 - 4.303 / 3**0.5, abs=1e-3)
    assert difference_of(rows, PARTS.entries[0], "rank1") is None


def test_the_table(folder: AblationFolder) -> None:
    table = ablation_table(PARTS, read_rows(folder, [PARTS], [0, 1, 2]))
    assert [column.heading for column in table.columns] == [
        *("What it is", "Settings", "rank-1", "mAP", "Δ rank-1", "Δ mAP", "seeds")
    ]
    floor, more = table.rows
    assert floor == ("the floor", "`recipe=pgm`", "60.0 ± 10.0", "44.0 ± 0.0", "–", "–", "3")
    assert more[:3] == ("+ more", "`method.cross=1`", "64.0 ± 11.0")
    assert more[4] == "+4.0 (+1.5 to +6.5)*"
    assert more[5] == "+0.0 (+0.0 to +0.0)"
    assert SEARCH in table.caption


def test_one_seed_has_no_interval_and_an_unfinished_entry_no_row(folder: AblationFolder) -> None:
    table = ablation_table(PARTS, read_rows(folder, [PARTS], [1]))
    assert [row[2:6:2] for row in table.rows] == [("60.0", "–"), ("64.0", "+4.0")]
    folder.run(PARTS.entries[0], 1).results_file.unlink()
    (more,) = ablation_table(PARTS, read_rows(folder, [PARTS], [1])).rows
    assert more[4] == "–"


def test_shares_of_matches_are_shown_where_they_were_logged(folder: AblationFolder) -> None:
    log = folder.run(PARTS.entries[0], 0).log_file
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[-1]["labels"] |= {"match_right": 0.75, "match_wrong": 0.25}
    log.write_text("\n".join(map(json.dumps, lines)))
    table = ablation_table(PARTS, read_rows(folder, [PARTS], [0, 1]))
    assert [column.heading for column in table.columns][6:10] == ["right", "wrong", "alone, rightly", "alone, wrongly"]
    assert table.rows[0][6:10] == ("75.0", "25.0", "–", "–")


def test_other_test_images_and_unknown_searches_are_refused(folder: AblationFolder) -> None:
    with pytest.raises(UserError, match="has no search indoor/single-shot; expected one of all/single-shot"):
        read_rows(folder, [PARTS], [0], "indoor/single-shot")
    results = folder.run(PARTS.entries[1], 1).results_file
    tree = json.loads(results.read_text())
    tree["dataset"]["test_checksum"] = "12ab"
    results.write_text(json.dumps(tree))
    with pytest.raises(UserError, match="more-1 and floor-0 were evaluated with different test images"):
        read_rows(folder, [PARTS], [0, 1])


def test_nothing_finished(tmp_path: Path) -> None:
    assert read_rows(AblationFolder(tmp_path), [PARTS], [0, 1]) == []
    assert ablation_table(PARTS, []).rows == ()


def test_entries_that_change_nothing_are_found(folder: AblationFolder) -> None:
    rows = read_rows(folder, [PARTS], [0, 1, 2])
    assert without_effect(PARTS, rows) == []
    floor, more = PARTS.entries
    for seed in (0, 1, 2):
        for name in ("results_file", "log_file"):
            one, other = (getattr(folder.run(entry, seed), name) for entry in (floor, more))
            other.write_text(one.read_text().replace('"seconds": 7.1', '"seconds": 9.9'))
        found = without_effect(PARTS, read_rows(folder, [PARTS], [0, 1, 2]))
        assert found == ([more] if seed == 2 else [])


def test_spread_text() -> None:
    values = {0: 1.0, 1: 2.0, 5: 4.0}
    assert spread_text(values) == f"{fmean(values.values()):.1f} ± {stdev(values.values()):.1f}"
    assert spread_text({3: 4.04}) == "4.0"
    assert spread_text({}) == "–"
