from __future__ import annotations

import pytest
from pydantic import ValidationError

from pclhd.report.tables import (
    Column,
    Table,
    order_weights,
    percent,
    percent_gain,
    percent_spread,
    result_notes,
    results_table,
    results_text,
)
from pclhd.runs.records import Spread, parse_results
from tests.report.fixtures import make_results

TEXT = """\
synthetic-small, percent

Search           Weights      Rank-1     Rank-10         mAP        mINP  Rank-1 gain  mAP gain
---------------  -------  ----------  ----------  ----------  ----------  -----------  --------
all/single-shot  start    26.0 ± 1.2  56.0 ± 1.2  23.0 ± 1.2  14.0 ± 1.2
                 stage I  34.0 ± 1.2  64.0 ± 1.2  31.0 ± 1.2  22.0 ± 1.2         +8.0      +8.0
                 final    47.0 ± 1.2  77.0 ± 1.2  44.0 ± 1.2  35.0 ± 1.2        +21.0     +21.0

all/single-shot: 3,803 queries, 301 gallery images, 10 trials
"""


def test_results_text_layout() -> None:
    assert results_text(make_results(searches=("all/single-shot",))) == TEXT


def test_results_on_drawn_people_say_so() -> None:
    results = make_results(searches=("all/single-shot",))
    results["dataset"]["synthetic"] = True
    named = TEXT.replace("synthetic-small", "drawn people")
    assert results_text(results) == named + "the people are synthetic, drawn by pclhd synth\n"


@pytest.mark.parametrize(("group", "words"), [("validation", "who are for choosing"), ("test", "for final figures;")])
def test_results_say_which_drawn_people_were_searched(group: str, words: str) -> None:
    results = make_results(searches=("all/single-shot",))
    results["dataset"] |= {"synthetic": True, "held_out": group}
    last = results_text(results).splitlines()[-1]
    assert last.startswith(f"note: the test images show the drawing's {group} people")
    assert words in last


def test_results_text_without_rows() -> None:
    results = make_results(searches=())
    assert results_text(results) == "synthetic-small: no search was evaluated\n"


def test_rows_come_in_training_order_whatever_the_file_says() -> None:
    results = make_results(searches=("a", "b"))
    results["rows"].reverse()
    table = results_table(results)
    assert [(row[0], row[1]) for row in table.rows] == [
        (search, weights) for search in ("b", "a") for weights in ("start", "stage I", "final")
    ]


def test_a_single_trial_shows_no_deviation() -> None:
    table = results_table(make_results(searches=("a",), trials=1))
    assert table.rows[0][2:6] == ("26.0", "56.0", "23.0", "14.0")


def test_without_start_no_gain_is_shown() -> None:
    results = make_results(searches=("a",))
    results["rows"] = [row for row in results["rows"] if row["weights"] != "start"]
    assert [row[6:] for row in results_table(results).rows] == [("–", "–"), ("–", "–")]


def test_a_loss_is_shown_as_a_loss() -> None:
    results = make_results(searches=("a",))
    results["rows"][2]["rank1"]["mean"] = 0.2
    assert results_table(results).rows[2][6] == "−6.0"


def test_what_a_reader_must_know_of_the_test() -> None:
    said = results_text(
        {
            **make_results(searches=("a",)),
            "trained_on_test_images": 1200,
            "near_copies": {"count": 1, "examples": ["x.png (y.png)"]},
            "people_in_both_splits": [*range(11)],
            "left_out": {"indoor": "no gallery"},
        }
    )
    notes = [line for line in said.splitlines() if line.startswith("note: ")]
    assert len(notes) == 4
    assert notes[0].startswith("note: the weights were trained on 1,200 of the ")
    assert notes[1] == ("note: 11 people are in both training and test images: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …")
    assert notes[2] == "note: 1 test image looks like a training image saved again: x.png (y.png)"
    assert notes[3] == "note: indoor search is left out: no gallery"
    nothing = {**make_results(searches=("a",)), "trained_on_test_images": 0, "near_copies": {"count": 0}}
    assert "note" not in results_text(nothing)


def test_malformed_results_are_refused() -> None:
    results = make_results()
    del results["rows"][1]["mAP"]
    with pytest.raises(ValidationError, match=r"rows\.1\.mAP"):
        results_table(results)


def test_percent() -> None:
    assert percent(0.316) == "31.6"
    assert percent(1.0) == "100.0"
    assert percent(None) == "–"
    assert percent_spread(Spread(mean=0.5, std=None), 10) == "50.0"
    assert percent_spread(Spread(mean=0.5, std=0.0004), 2) == "50.0 ± 0.0"
    assert percent_spread(Spread(mean=0.5, std=1e-17), 2) == "50.0"  # all trials were alike
    assert percent_gain(0.5, 0.5) == "0.0"
    assert percent_gain(0.49999, 0.5) == "0.0"
    assert percent_gain(0.6, 0.5) == "+10.0"
    assert percent_gain(0.6, None) == "–"


def test_order_of_weights() -> None:
    assert order_weights(["mine", "final", "start", "final"]) == ["start", "final", "mine"]


def test_a_row_must_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        Table("c", (Column("a"),), (("1", "2"),))


def test_a_table_without_rows() -> None:
    assert Table("c", (Column("a"),), ()).to_text() == "a\n-\n"


def test_a_search_that_ends_below_its_start_is_said() -> None:
    results = make_results(searches=("all/single-shot",))
    for row in results["rows"]:
        if row["weights"] in ("start", "final"):
            better = row["weights"] == "start"
            row["rank1"]["mean"], row["mAP"]["mean"] = (0.417, 0.28) if better else (0.25, 0.3)
    notes = result_notes(parse_results(results))
    words = "all/single-shot search: the final weights are below the start weights, rank-1 fell from 41.7 to 25.0"
    assert words in notes
    for row in results["rows"]:
        row["rank1"]["mean"] = 0.41
    assert words not in result_notes(parse_results(results))
