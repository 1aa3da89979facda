from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pclhd.errors import UserError
from pclhd.runs.records import (
    EpochRecord,
    ResultRow,
    find_setting,
    flatten,
    read_epochs,
    read_facts,
    read_results,
    read_settings,
    recorded_fact,
)
from tests.report.fixtures import make_metrics, make_results


def _save(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_missing_files_are_nothing(tmp_path: Path) -> None:
    assert read_results(tmp_path / "results.json") is None
    assert read_epochs(tmp_path / "metrics.jsonl") == []
    assert read_settings(tmp_path / "config.yaml") is None


def test_results_come_back(tmp_path: Path) -> None:
    results = read_results(_save(tmp_path / "results.json", json.dumps(make_results())))
    assert results is not None
    assert results.rows[0].rank1.mean == 0.26
    assert results.ranked_examples.weights["start"][0].gallery[0].camera == 1


def _drop_map(results: dict[str, Any]) -> None:
    del results["rows"][1]["mAP"]


def _text_number(results: dict[str, Any]) -> None:
    results["rows"][0]["rank1"]["mean"] = "0.3"


def _percent(results: dict[str, Any]) -> None:
    results["rows"][2]["mINP"]["mean"] = 35.0


def _not_a_number(results: dict[str, Any]) -> None:
    results["rows"][2]["cmc"][3] = float("nan")


def _schema(results: dict[str, Any]) -> None:
    results["schema"] = 2


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_drop_map, "`rows[1].mAP` is missing"),
        (_text_number, "`rows[0].rank1.mean` is '0.3'"),
        (_percent, "`rows[2].mINP.mean` is 35.0, but it should be a share between 0 and 1"),
        (_not_a_number, "`rows[2].cmc[3]` is nan"),
        (_schema, "schema is 2, but this version of pclhd reads 1"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, spoil: Callable[[dict[str, Any]], None], expected: str) -> None:
    results = make_results()
    spoil(results)
    path = _save(tmp_path / "results.json", json.dumps(results))
    with pytest.raises(UserError) as error:
        read_results(path)
    assert str(error.value).startswith(f"{path}: ")
    assert expected in str(error.value)
    assert "pclhd evaluate" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{\n"schema": 1,\n oops', "line 3, column 2: not valid JSON"),
        ("", "line 1, column 1"),
        ("[]", "expected a JSON object, found list"),
        ("[" * 100_000, "not valid JSON (nested too deeply)"),
    ],
)
def test_broken_json_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    path = _save(tmp_path / "results.json", text)
    with pytest.raises(UserError) as error:
        read_results(path)
    assert expected in str(error.value)


def test_other_bytes_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_results(tmp_path / "results.json")
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_epochs(tmp_path / "metrics.jsonl")


def test_epochs_are_separated_from_steps_and_the_later_line_counts(tmp_path: Path) -> None:
    lines = make_metrics(2, 1)
    again = {**lines[1], "images_per_second": 1.0}
    text = "\n\n".join(json.dumps(line) for line in [*lines, again])
    epochs = read_epochs(_save(tmp_path / "metrics.jsonl", text))
    assert [(epoch.stage, epoch.epoch) for epoch in epochs] == [(1, 1), (1, 2), (2, 3)]
    assert [epoch.images_per_second for epoch in epochs] == [1.0, 1220.0, 1200.0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"kind": "epo', "line 3, column 10: not valid JSON"),
        ("7", "line 3: expected a JSON object, found int"),
        ('{"kind": "epoch", "stage": 1}', "line 3: `epoch` is missing"),
        ('{"kind": "epoch", "stage": 1, "epoch": 1, "visible": {"clusters": 3, "noise": 4}}', "`visible.noise` is 4"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    good = json.dumps(make_metrics(1, 0)[1])
    path = _save(tmp_path / "metrics.jsonl", f"{good}\n{good}\n{line}\n")
    with pytest.raises(UserError) as error:
        read_epochs(path)
    assert str(error.value).startswith(f"{path}, ")
    assert expected in str(error.value)


def test_losses_may_be_nan_or_infinite(tmp_path: Path) -> None:
    line = '{"kind": "epoch", "stage": 1, "epoch": 1, "loss": {"a": NaN, "b": null, "c": Infinity}}'
    (epoch,) = read_epochs(_save(tmp_path / "metrics.jsonl", line))
    assert epoch.loss["b"] is None
    assert epoch.loss["c"] == float("inf")


def test_a_last_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    line = json.dumps(make_metrics(1, 0)[1])
    assert len(read_epochs(_save(tmp_path / "metrics.jsonl", f'{line}\n{{"kind": "epo'))) == 1
    with pytest.raises(UserError, match="line 2"):
        read_epochs(_save(tmp_path / "metrics.jsonl", f'{line}\n{{"kind": "epo\n'))


def test_provenance_is_flattened(tmp_path: Path) -> None:
    path = tmp_path / "provenance.json"
    assert read_facts(path) == {}
    _save(path, '{"pclhd": "1", "commit": null, "libraries": {"torch": "2", "deep": {"cores": 2}}}')
    expected = {"pclhd": "1", "commit": "none", "libraries.torch": "2", "libraries.deep.cores": "2"}
    assert read_facts(path) == expected
    _save(path, '{"gpus": ["a", "b"], "resumed": [{"epoch": 0, "libraries": {"torch": "3"}}, {"epoch": 2}]}')
    sessions = {"resumed.0.epoch": "0", "resumed.0.libraries.torch": "3", "resumed.1.epoch": "2"}
    assert read_facts(path) == {"gpus": "['a', 'b']", **sessions}
    assert read_facts(_save(path, '{"gpus": [], "resumed": []}')) == {"gpus": "none", "resumed": "none"}
    with pytest.raises(UserError, match="expected a JSON object"):
        read_facts(_save(path, "[]"))


def test_a_tree_is_flattened_to_its_values() -> None:
    tree = {"a": {"b": {"c": 1}, "d": None}, "e": [{"f": 2}, {"f": 3}], "g": [1, {"h": 4}], "i": [], "j": {}}
    assert flatten(tree, "/") == {"a/b/c": 1, "a/d": None, "e/0/f": 2, "e/1/f": 3, "g": [1, {"h": 4}], "i": []}
    assert list(flatten({"a": {"b": 1}})) == ["a.b"]


def test_what_was_not_recorded_is_not_taken_for_missing() -> None:
    facts = {"commit": "none", "libraries.torch": "2", "machine.cores": "2"}
    for key in ("libraries.numba", "machine.model", "threads"):
        assert recorded_fact(facts, key) is None
    assert (recorded_fact(facts, "commit"), recorded_fact(facts, "libraries.torch")) == ("none", "2")
    assert recorded_fact({**facts, "machine.model": "X"}, "libraries.numba") == "none"


def test_settings(tmp_path: Path) -> None:
    saved = read_settings(_save(tmp_path / "config.yaml", "seed: 3\ndata: {root: here}\n"))
    assert saved is not None
    assert find_setting(saved[1], "data.root") == "here"
    assert find_setting(saved[1], "seed") == 3
    assert find_setting(saved[1], "seed.deeper") is None
    assert find_setting(saved[1], "data.nothing") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a: [1\nb: 2\n", "line 2: is not valid YAML"), ("- 1\n", "found list"), ("", "found NoneType")],
)
def test_broken_settings_are_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        read_settings(_save(tmp_path / "config.yaml", text))
    assert expected in str(error.value)


@pytest.mark.parametrize("field", ["seconds", "images_per_second"])
def test_numbers_that_no_training_writes_are_refused(field: str) -> None:
    record = {"kind": "epoch", "epoch": 0, "stage": 1, field: 1.7e308}
    with pytest.raises(ValidationError, match="a number of usual size"):
        EpochRecord.model_validate(record)
    with pytest.raises(ValidationError, match="a number of usual size"):
        EpochRecord.model_validate({"kind": "epoch", "epoch": 0, "stage": 1, "loss": {"total": 1e308}})
    with pytest.raises(ValidationError):
        EpochRecord.model_validate({"kind": "epoch", "epoch": 10**400, "stage": 1})
    lost = EpochRecord.model_validate({"kind": "epoch", "epoch": 0, "stage": 1, "loss": {"total": float("nan")}})
    assert lost.loss["total"] != lost.loss["total"]


def test_words_of_results_command_no_terminal() -> None:
    spread = {"mean": 0.5}
    row = {"weights": "final\x07", "search": "\x1b]0;x\x07all", "rank1": spread, "rank10": spread}
    read = ResultRow.model_validate({**row, "mAP": spread, "mINP": spread})
    assert (read.search, read.weights) == ("\\u001b]0;x\\u0007all", "final\\u0007")
