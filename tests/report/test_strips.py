from __future__ import annotations

from pathlib import Path

import pytest

from pclhd.report.strips import about, examples_of, pictures_of
from pclhd.runs.records import QueryImage, RankedExamples, parse_results
from tests.report.fixtures import make_results, write_data


@pytest.fixture
def saved() -> RankedExamples:
    return parse_results(make_results()).ranked_examples


def test_each_query_has_a_list_per_weights(saved: RankedExamples) -> None:
    # Saved in another order, they are shown in the order of training.
    examples = examples_of(RankedExamples(weights=dict(reversed(saved.weights.items()))))
    assert [example.query.path for example in examples] == [f"cam3/{n}/ir.jpg" for n in (11, 12, 13)]
    assert all(list(example.lists) == ["start", "final"] for example in examples)
    assert examples[1].lists["start"] == saved.weights["start"][1]
    assert examples[1].lists["final"] == saved.weights["final"][1]


def test_lists_are_cut(saved: RankedExamples) -> None:
    long = saved.weights["start"][0]
    longer = long.model_copy(update={"gallery": [*long.gallery, *long.gallery]})
    (example,) = examples_of(RankedExamples(weights={"start": [longer, *saved.weights["start"][1:]]}), most=1)
    assert example.lists["start"] == long


def test_pictures_come_from_the_data(saved: RankedExamples, tmp_path: Path) -> None:
    examples = examples_of(saved)
    lists = [one for lists in saved.weights.values() for one in lists]
    paths = {one.query.path for one in lists} | {image.path for one in lists for image in one.gallery}
    assert pictures_of(examples, None) == dict.fromkeys(paths)
    data = write_data(tmp_path)
    (data / "cam3/11/ir.jpg").unlink()
    pictures = pictures_of(examples, data)
    assert pictures.keys() == paths
    assert [path for path, uri in pictures.items() if uri is None] == ["cam3/11/ir.jpg"]


def test_what_is_known_of_an_image() -> None:
    assert about(QueryImage(path="a", identity=0, camera="c", modality="infrared")) == "infrared, identity 0, camera c"
    assert about(QueryImage(path="a", camera=3)) == "camera 3"
    assert about(QueryImage(path="a")) == "unnamed image"
