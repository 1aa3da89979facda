"""Each recipe's training still ends with the weights that were recorded before the package was rearranged."""

from __future__ import annotations

from pathlib import Path

import pytest

from pclhd.recipes import RECIPES
from tests.recorded_weights import draw, load_record, machine, train

RECORD = load_record()

#: Adam moves a weight by about the learning rate a step, whatever the rounding: nine steps of 3.5e-4 at most.
ELSEWHERE = 0.01


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn data set."""
    return draw(tmp_path_factory.mktemp("recorded") / "data")


def test_every_recipe_is_recorded() -> None:
    assert set(RECORD["recipes"]) == set(RECIPES)
    assert len({weights["digest"] for weights in RECORD["recipes"].values()}) == len(RECIPES)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_training_ends_with_the_recorded_weights(recipe: str, data: Path, tmp_path: Path) -> None:
    recorded = RECORD["recipes"][recipe]
    weights = train(recipe, data, tmp_path / "run")
    if machine() == RECORD["machine"]:
        assert weights.digest == recorded["digest"]
    else:
        assert weights.norms == pytest.approx(recorded["norms"], rel=ELSEWHERE, abs=ELSEWHERE)
