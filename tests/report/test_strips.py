from __future__ import annotations

from pathlib import Path

import pytest

from pclhd.report.strips import examples_of
from pclhd.runs.records import RankedExamples, parse_results
from tests.report.fixtures import make_results, write_data


@pytest.fixture
def saved() -> RankedExamples:
    return parse_results(make_results()).ranked_examples


def test_each_query_has_a_strip_per_weights(saved: RankedExamples) -> None:
    # Saved in another order, they are shown in the order of training.
    reversed_order = RankedExamples(weights=dict(reversed(saved.weights.items())))
    examples = examples_of(reversed_order, None)
    assert [example.query.path for example in examples] == [f"cam3/{n}/ir.jpg" for n in (11, 12, 13)]
    assert all([strip.weights for strip in example.strips] == ["start", "final"] for example in examples)
    assert examples[0].query.about == "infrared, identity 11, camera 3"
    first = examples[0].strips[0].ranked[0]
    assert (first.rank, first.correct, first.distance, first.shot.path) == (1, False, 0.3, "cam1/40/vis0.jpg")
    assert first.shot.uri is None


def test_lists_are_cut(saved: RankedExamples) -> None:
    long = saved.weights["start"][0]
    long = long.model_copy(update={"gallery": [*long.gallery, *long.gallery]})
    (example,) = examples_of(RankedExamples(weights={"start": [long, *saved.weights["start"][1:]]}), None, most=1)
    assert [ranked.rank for ranked in example.strips[0].ranked] == list(range(1, 11))


def test_pictures_come_from_the_data(saved: RankedExamples, tmp_path: Path) -> None:
    (example, *_) = examples_of(saved, write_data(tmp_path))
    assert example.query.uri is not None
    assert example.query.uri.startswith("data:image/jpeg;base64,")


def test_an_image_of_which_nothing_is_known(saved: RankedExamples) -> None:
    example = saved.weights["start"][0]
    query = example.query.model_copy(update={"identity": None, "camera": None, "modality": None})
    (shown,) = examples_of(RankedExamples(weights={"x": [example.model_copy(update={"query": query})]}), None)
    assert shown.query.about == "unnamed image"
