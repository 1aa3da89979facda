from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from pclhd.study.folder import StudyFolder
from pclhd.study.plots import PLOTS, write_plots
from pclhd.study.slots import DROPPED, ERROR
from pclhd.study.storage import open_study, write_record
from pclhd.study.summary import (
    Summary,
    rank_agreement,
    read_study,
    shown,
    summarise,
    summary_text,
    trials_csv,
)

SPACE = {"clustering.eps": FloatDistribution(0.4, 0.7), "recipe": CategoricalDistribution(["<b>", "released"])}


def make_study(folder: Path, objective: str = "silhouette", trials: int = 6) -> optuna.Study:
    """A study with complete, pruned, running, erroneous and dropped trials."""
    folder.mkdir(exist_ok=True)
    identity = {"objective": objective, "space": {key: {} for key in SPACE}}
    study, _ = open_study(StudyFolder(folder), None, "study", identity)
    write_record(StudyFolder(folder), None, "study", identity)
    for number in range(trials):
        params = {"clustering.eps": 0.4 + 0.04 * number, "recipe": "<b>" if number % 2 else "released"}
        common: dict[str, Any] = {
            "params": params,
            "distributions": SPACE,
            "intermediate_values": {0: 0.1 * number, 1: 0.2},
        }
        study.add_trial(create_trial(value=0.5 + 0.05 * (number % 4), **common))
    if trials:
        common = {"params": {"clustering.eps": 0.45, "recipe": "released"}, "distributions": SPACE}
        study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={0: 0.01}, **common))
        study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={ERROR: "all noise"}, **common))
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={DROPPED: "one too many"}, **common))
        study.ask()
    return study


def test_the_trials_as_rows(tmp_path: Path) -> None:
    summary = summarise(make_study(tmp_path / "study"))
    assert [row.state for row in summary.rows] == ["complete"] * 6 + ["pruned", "error", "running"]
    # The first of two equal values.
    assert summary.best is not None
    assert summary.best.number == 3
    assert summary.best.value == pytest.approx(0.65)
    text = summary_text(summary)
    assert "silhouette (label-free): 6 complete, 1 pruned, 1 error, 1 running" in text
    assert "best: trial 3 with 0.6500: clustering.eps=0.52 recipe=<b>" in text
    assert [line.split()[0] for line in text.splitlines()[5:9]] == ["3", "2", "1", "5"]
    assert "oracle" not in text.lower()
    json.dumps(summary.to_dict(), allow_nan=False)
    assert summary.to_dict()["uses_identities"] is False


def test_the_csv_has_every_trial_and_all_digits(tmp_path: Path) -> None:
    summary = summarise(make_study(tmp_path / "study"))
    rows = list(csv.DictReader(io.StringIO(trials_csv(summary))))
    assert [row["state"] for row in rows] == [row.state for row in summary.rows]
    assert float(rows[1]["silhouette"]) == summary.rows[1].value
    assert float(rows[1]["clustering.eps"]) == summary.rows[1].params["clustering.eps"]
    assert rows[7]["error"] == "all noise"


def test_a_study_without_a_finished_trial(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", trials=0)
    summary = summarise(study)
    assert summary.best is None
    assert summary_text(summary) == "study study, objective silhouette (label-free): "
    assert [path.name for path in write_plots(study, summary, StudyFolder(tmp_path / "study"))] == [
        "trials.csv",
        *(["plots.html"] if optuna.visualization.is_available() else []),
    ]


def test_the_oracle_is_named_everywhere(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", "oracle")
    summary = summarise(study)
    assert summary.to_dict()["uses_identities"] is True
    text = summary_text(summary)
    assert "ORACLE" in text.splitlines()[0]
    assert "a bound, not a label-free result" in text
    assert "oracle" in trials_csv(summary).splitlines()[0]
    written = write_plots(study, summary, StudyFolder(tmp_path / "study"))
    if optuna.visualization.is_available():
        page = written[-1].read_text()
        assert page.count("ORACLE") > 2


def test_plots(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    summary = read_study(folder, None)[1]
    written = write_plots(study, summary, folder)
    for name in PLOTS:
        picture = folder.picture_file(name)
        assert picture in written
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size > 5000
    if not optuna.visualization.is_available():
        pytest.skip("the page needs plotly")
    page = folder.page_file.read_text("utf-8")
    assert page.count("<h2>") == len(PLOTS)
    assert "recipe=<b>" not in page  # escaped
    assert "recipe=&lt;b&gt;" in page
    assert "<script src" not in page
    assert "cdn.plot.ly" not in page.split("</script>")[-1]


def test_without_plotly_there_are_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path / "study", trials=2)
    # By name: other tests import Optuna again.
    monkeypatch.setattr("optuna.visualization.is_available", lambda: False)
    written = write_plots(study, summarise(study), StudyFolder(tmp_path / "study"))
    assert {path.suffix for path in written} == {".csv", ".png"}


def test_values_as_they_are_given() -> None:
    assert [shown(value) for value in (True, None, 0.123456, 1e-05, 7, "paper")] == [
        "true",
        "null",
        "0.1235",
        "1e-05",
        "7",
        "paper",
    ]


def test_one_complete_trial_has_no_importance(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", trials=1)
    names = [path.stem for path in write_plots(study, summarise(study), StudyFolder(tmp_path / "study"))]
    assert "importance" not in names
    assert "slice" in names


def test_a_missing_optuna_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from pclhd.errors import UserError
    from pclhd.study.storage import require_optuna

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="pip install optuna"):
        require_optuna()


def test_best_of_negative_values() -> None:
    from pclhd.study.summary import TrialRow

    rows = tuple(TrialRow(number, "complete", value, {}, None, None) for number, value in enumerate((-0.2, -0.1, -0.3)))
    best = Summary("study", "silhouette", (), rows).best
    assert best is not None
    assert best.number == 1


def test_measures_made_afterwards_are_shown_and_choose_nothing(tmp_path: Path) -> None:
    from tests.report.fixtures import make_results

    folder = StudyFolder(tmp_path / "study")
    make_study(folder.path, trials=4)
    identity = {"objective": "silhouette", "space": {}, "seeds": [0, 1]}
    study, _ = open_study(folder, None, "both", identity)
    for value in (0.1, 0.2, 0.3, 0.4):
        study.add_trial(create_trial(value=value))
    write_record(folder, None, "both", identity)
    for trial, rank1 in ((0, 0.9), (1, 0.7), (2, 0.8)):
        for seed, shift in ((0, -0.05), (1, 0.05)):
            results = make_results()
            for row in results["rows"]:
                row["rank1"]["mean"] = rank1 + shift if row["weights"] == "final" else 0.1
            run = folder.run(trial, seed)
            run.path.mkdir()
            run.results_file.write_text(json.dumps(results))
    summary = read_study(folder, None)[1]
    assert summary.rank1 == {0: pytest.approx(0.9), 1: pytest.approx(0.7), 2: pytest.approx(0.8)}
    assert summary.agreement is not None
    assert astuple(summary.agreement) == (pytest.approx(-0.5), None, None, 3)
    assert summary.best is not None
    assert summary.best.number == 3
    assert "chose nothing; its rank correlation with the objective is -0.50 over 3 trials" in summary_text(summary)
    assert summary.to_dict()["trials"][2]["rank1"] == pytest.approx(0.8)
    # The sampler chose the last of four.
    learnt = replace(summary, drawn=3)
    assert learnt.agreement_at_random == summary.agreement
    assert "among the trials drawn at random it is -0.50 over 3 trials" in summary_text(learnt)
    assert replace(summary, drawn=2).agreement_at_random is None
    assert replace(summary, drawn=4).agreement_at_random is None
    # One seed alone, or other test images, are not compared.
    folder.run(2, 1).results_file.unlink()
    assert set(read_study(folder, None)[1].rank1) == {0, 1}
    assert read_study(folder, None)[1].agreement is None


def test_the_interval_of_a_rank_correlation() -> None:
    values = list(range(20))
    alike = rank_agreement(values, values)
    assert alike is not None
    assert astuple(alike) == (pytest.approx(1.0), None, None, 20)
    assert rank_agreement([1, 2], [1, 2]) is None
    assert rank_agreement(values, [0.5] * 20) is None
    # In its own words: ranks, Pearson's correlation, Fisher's z.
    measures = np.random.default_rng(0).permutation(20) + 0.7071 * np.arange(20)
    ranks = np.argsort(np.argsort(measures))
    r = float(np.corrcoef(np.arange(20), ranks)[0, 1])
    z, reach = 0.5 * np.log((1 + r) / (1 - r)), 1.959964 * np.sqrt((1 + r * r / 2) / 17)
    ends = [(np.exp(2 * end) - 1) / (np.exp(2 * end) + 1) for end in (z - reach, z + reach)]
    found = rank_agreement(values, measures.tolist())
    assert found is not None
    assert astuple(found) == (pytest.approx(r), pytest.approx(ends[0]), pytest.approx(ends[1]), 20)


@pytest.mark.slow
def test_the_interval_holds_the_true_correlation_nineteen_times_of_twenty() -> None:
    random, held = np.random.default_rng(1), 0
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's, of normal pairs whose Pearson correlation is 0.6
    for _ in range(2000):
        pairs = random.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 16)
        found = rank_agreement(pairs[:, 0].tolist(), pairs[:, 1].tolist())
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 0.93 < held / 2000 < 0.97
