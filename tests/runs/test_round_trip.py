"""Reports and comparisons read what training and evaluation write: every field, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pclhd.config import load_preset
from pclhd.data.open import open_dataset
from pclhd.errors import UserError
from pclhd.runs.folder import RunFolder
from pclhd.runs.metrics_log import MetricsLog
from pclhd.runs.records import (
    ClusterRecord,
    EpochRecord,
    EvaluatedData,
    FailureRecord,
    NearCopies,
    Provenance,
    QueryImage,
    RankedExample,
    RankedExamples,
    RankedImage,
    RestartRecord,
    ResultRow,
    Results,
    Selected,
    SelectionRecord,
    Spread,
    StepRecord,
    log_line,
    parse_log_line,
    parse_results,
    provenance_text,
    results_json,
)
from pclhd.workflows.evaluate import evaluate_run
from pclhd.workflows.train import train_run

CLUSTERS: dict[str, Any] = {
    "images": 30,
    "clusters": 4,
    "noise": 0.25,
    "size_min": 2,
    "size_median": 3.5,
    "size_max": 9,
    "silhouette": -0.25,
    "eps": 0.6,
    "recall": 0.5,
    "loosened": True,
    "confidence": 0.75,
    "shared_clusters": 3,
}
LINES: list[dict[str, Any]] = [
    {"kind": "step", "epoch": 1, "stage": 2, "step": 3, "global_step": 23, "lr": 0.5, "loss": {"visible_hard": 1.5}},
    {
        "kind": "epoch",
        "epoch": 1,
        "stage": 2,
        "seconds": 2.5,
        "seconds_clustering": 0.5,
        "images_per_second": 12.5,
        "lr": 0.25,
        "loss": {"a": 1.5, "b": None},
        "criteria": {"silhouette": 0.5},
        "kept_labels": ["infrared"],
        "visible": CLUSTERS,
        "infrared": CLUSTERS,
        "joint": CLUSTERS,
        "matched": {"visible": 0.5, "infrared": None},
        "labels": {"ari_visible": 0.5, "nmi_visible": None},
    },
    {"kind": "restart", "epoch": 1, "restarts": 2, "lr": 0.125, "reason": "the loss is NaN"},
    {"kind": "failure", "epoch": 1, "reason": "the loss is NaN"},
    {"kind": "selection", "epoch": 3, "criteria": {"cycle": 0.5}, "selected": {"by": "cycle", "epoch": 2}},
]
SPREAD = {"mean": 0.5, "std": 0.25}
RANKED = {"path": "a.png", "identity": 3, "camera": 2, "modality": "visible"}
RESULTS: dict[str, Any] = {
    "schema": 1,
    "dataset": {
        "name": "sysu",
        "checksum": "aa",
        "test_checksum": "bb",
        "train_images": 10,
        "test_images": 20,
        "synthetic": True,
        "held_out": "validation",
    },
    "training": "unsupervised",
    "recipe": "pclhd",
    "seed": 3,
    "trained_on_test_images": 2,
    "near_copies": {"count": 1, "examples": ["b.png"]},
    "people_in_both_splits": [3, "x"],
    "left_out": {"indoor": "no gallery"},
    "rows": [
        {
            "weights": "final",
            "search": "all",
            "trials": 2,
            **dict.fromkeys(("rank1", "rank5", "rank10", "rank20", "mAP", "mINP"), SPREAD),
            "cmc": [0.5, 1.0],
            "queries": 7,
            "valid_queries": 6,
            "gallery": 5,
            "per_trial": [{"rank1": 0.5, "mAP": 0.5, "mINP": 0.25}],
        }
    ],
    "ranked_examples": {
        "search": "all",
        "weights": {
            "final": [
                {
                    "query": RANKED,
                    "gallery": [{**RANKED, "correct": True, "distance": 0.5}],
                    "first_correct_rank": 1,
                }
            ]
        },
        "chosen": {
            "best": [
                {
                    "query": RANKED,
                    "gallery": [{**RANKED, "correct": True, "distance": 0.5}],
                    "first_correct_rank": 1,
                }
            ]
        },
    },
    "similarities": {"final": {"same": [0, 2], "different": [7, 1]}},
    "confused": [{"queries": 2, "query": RANKED, "found": {**RANKED, "correct": False, "distance": 0.25}}],
    "runs": ["one", "two"],
}
PROVENANCE: dict[str, Any] = {
    "pclhd": "0.1.0",
    "commit": "abc",
    "dirty": False,
    "python": "3.11",
    "libraries": {"torch": "2"},
    "machine": {"cores": 2, "gpus": []},
    "device": "cpu",
    "threads": 1,
    "numba_threads": 2,
    "processes": 1,
    "precision": "32-true",
    "seed": 3,
    "start_weights": {"file": "x", "sha256": "y"},
    "data": {"training_checksum": "z", "training_images": {"visible": 1}},
    "cameras": {"visible": {"1": 3, "unknown": 2}},
    "resumed": [{"epoch": 1}],
    "imported": {"file": "x"},
}


def assert_whole(model: type[BaseModel], values: dict[str, Any]) -> None:
    """The example holds every field of the model, so that a new one cannot be forgotten here."""
    assert {field.alias or name for name, field in model.model_fields.items()} == set(values)


def test_the_examples_hold_every_field() -> None:
    models: tuple[type[BaseModel], ...] = (StepRecord, EpochRecord, RestartRecord, FailureRecord, SelectionRecord)
    for model, line in zip(models, LINES, strict=True):
        assert_whole(model, line)
    assert_whole(ClusterRecord, CLUSTERS)
    assert_whole(Selected, LINES[4]["selected"])
    assert_whole(Results, RESULTS)
    assert_whole(EvaluatedData, RESULTS["dataset"])
    assert_whole(ResultRow, RESULTS["rows"][0])
    assert_whole(Spread, SPREAD)
    assert_whole(NearCopies, RESULTS["near_copies"])
    examples = RESULTS["ranked_examples"]
    assert_whole(RankedExamples, examples)
    assert_whole(RankedExample, examples["weights"]["final"][0])
    assert_whole(QueryImage, RANKED)
    assert_whole(RankedImage, examples["weights"]["final"][0]["gallery"][0])
    assert_whole(Provenance, PROVENANCE)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["kind"])
def test_a_line_of_the_log(line: dict[str, Any]) -> None:
    text = log_line(line)
    assert json.loads(text) == line
    record = parse_log_line(text, "here")
    assert record is not None
    assert record.model_dump(exclude_unset=True) == line


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["kind"])
def test_writing_refuses_what_reading_would_lose(line: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unheard_of"):
        log_line({**line, "unheard_of": 1})
    read = parse_log_line(json.dumps({**line, "unheard_of": 1}), "here")
    assert read is not None, "a newer version may write more"
    assert read.model_dump(exclude_unset=True) == line
    with pytest.raises(ValueError, match="epoch"):
        log_line({**line, "epoch": -1})
    with pytest.raises(UserError, match="here: `epoch` is -1"):
        parse_log_line(json.dumps({**line, "epoch": -1}), "here")


def test_results() -> None:
    results = parse_results(RESULTS)
    assert results.to_dict() == RESULTS
    assert json.loads(results_json(results)) == RESULTS


def test_provenance() -> None:
    assert json.loads(provenance_text(PROVENANCE)) == PROVENANCE
    with pytest.raises(ValueError, match="unheard_of"):
        provenance_text({**PROVENANCE, "unheard_of": 1})


@pytest.mark.slow
def test_a_training_and_its_evaluation_are_read_as_they_were_written(tiny_sysu: Path, tmp_path: Path) -> None:
    settings = load_preset(
        "tiny", ["schedule.iterations=2", "engine.log_every=1", "selection=cycle", "method.confidence=weight"]
    )
    dataset = open_dataset("sysu", tiny_sysu)
    run = train_run(settings, dataset, RunFolder(tmp_path / "run"))
    lines = [json.loads(line) for line in run.log_file.read_text("utf-8").splitlines()]
    records = run.log()
    assert [record.model_dump(exclude_unset=True) for record in records] == lines
    assert {record.kind for record in records} == {"step", "epoch", "selection"}
    assert len(run.epochs()) == settings.epochs
    # A resumed run is read by the same models, and nothing is lost.
    before = run.log_file.read_bytes()
    MetricsLog(run.log_file, first_epoch=settings.epochs + 1)
    assert run.log_file.read_bytes() == before
    run.write_results(evaluate_run(run, dataset))
    results = run.results()
    assert results is not None
    assert results.to_dict() == json.loads(run.results_file.read_text("utf-8"))
    facts = json.loads(run.provenance_file.read_text("utf-8"))
    assert Provenance.model_validate(facts, extra="forbid").model_dump(exclude_unset=True) == facts
    assert run.facts()["data.training_checksum"] == dataset.train.checksum
    assert run.settings().model_dump()["schedule"]["iterations"] == 2
