from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pclhd.errors import UserError
from pclhd.study.definition import Definition, IntRange, read_definition

EPS = {"type": "float", "low": 0.4, "high": 0.7}


def tree(**changes: Any) -> dict[str, Any]:
    return {"preset": "tiny", "space": {"clustering.eps": EPS}, **changes}


def write(folder: Path, content: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_a_file_with_everything(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        tree(
            settings={"schedule.iterations": 2},
            seeds=[0, 3],
            space={
                "clustering.eps": {**EPS, "step": 0.1},
                "clustering.k1": {"type": "int", "low": 4, "high": 12, "log": True},
                "schedule.learning_rate": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True},
                "recipe": {"type": "categorical", "choices": ["paper", "released"]},
                "clustering.eps_joint": {"type": "categorical", "choices": [None, 0.5]},
            },
        ),
    )
    definition = read_definition(path, ["schedule.iterations=3", "memory.momentum=0.2"])
    settings = definition.settings_for(
        {"clustering.k1": 7, "schedule.learning_rate": 1e-5, "recipe": "released", "clustering.eps_joint": None}, 3
    )
    assert settings.schedule.iterations == 3
    assert settings.memory.momentum == 0.2
    assert (settings.clustering.k1, settings.schedule.learning_rate, settings.recipe) == (7, 1e-5, "released")
    assert (settings.seed, settings.selection, settings.clustering.eps_joint) == (3, "silhouette", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- 1", "expected 'preset: …'"),
        ("preset: [", "line 1: is not valid YAML"),
        ({"preset": "tiny"}, "space: Field required"),
        (tree(space={}), "space: Dictionary should have at least 1 item"),
        (tree(preset="tyni"), "did you mean 'tiny'"),
        (tree(space={"clustering.esp": EPS}), "did you mean 'clustering.eps'"),
        (tree(space={"clustering.eps": {**EPS, "high": 1.5}}), "setting 'clustering.eps' = 1.5"),
        (tree(space={"clustering.eps": {**EPS, "high": 0.4}}), "low must be below high"),
        (tree(space={"clustering.eps": {**EPS, "low": 0.0, "log": True}}), "log needs a low above 0"),
        (tree(space={"clustering.eps": {**EPS, "step": 0.1, "log": True}}), "exclude each other"),
        (tree(space={"clustering.eps": {**EPS, "high": float("nan")}}), "finite number"),
        (tree(space={"clustering.eps": {"low": 0.4, "high": 0.7}}), "Unable to extract tag"),
        (tree(space={"clustering.eps": {**EPS, "hihg": 1}}), "hihg: Extra inputs"),
        (tree(space={"clustering.k1": {"type": "float", "low": 4, "high": 12}}), "setting 'clustering.k1' = "),
        (tree(space={"clustering.k1": {"type": "int", "low": 4.5, "high": 12}}), "valid integer"),
        (tree(space={"recipe": {"type": "categorical", "choices": ["paper", "papre"]}}), "did you mean 'paper'"),
        (tree(space={"recipe": {"type": "categorical", "choices": ["paper"]}}), "at least 2 items"),
        (tree(space={"recipe": {"type": "categorical", "choices": ["paper", "paper"]}}), "listed twice"),
        (tree(settings={"clustering.eps": 0.5}), "is in settings and in space"),
        (tree(space={"method.hard_share": EPS}), "method.hard_share does nothing with method.stage2=hybrid"),
        (
            tree(settings={"recipe": "pgm"}, space={"method.dynamic_samples": {"type": "int", "low": 1, "high": 4}}),
            "method.dynamic_samples does nothing with method.stage2=centroid",
        ),
        (tree(settings={"schedule.iteration": 5}), "did you mean 'schedule.iterations'"),
        (tree(settings={"schedule": {"iterations": 5}}), "write schedule.NAME: value"),
        (
            "preset: tiny\nsettings: {schedule.iterations: 2020-01-01}\nspace: {clustering.eps: "
            "{type: float, low: 0.4, high: 0.7}}",
            "setting 'schedule.iterations'",
        ),
        (tree(seeds=[]), "seeds: List should have at least 1 item"),
        (tree(seeds=[1, 1]), "holds a seed twice"),
        (tree(seeds=[True]), "valid integer"),
        (tree(space={"seed": {"type": "int", "low": 0, "high": 5}}), "name the seeds in the file"),
        (tree(settings={"selection": "cycle"}), "the objective sets it"),
        (tree(space={"data.trial": {"type": "int", "low": 1, "high": 5}}), "names images"),
        (tree(objective="rank-1"), "objective: Input should be"),
        (tree(settings={"recipe": "supervised"}), "measures clusters, but method.labels=identities has none"),
    ],
)
def test_mistakes_are_named_before_anything_starts(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read_definition(write(tmp_path, content), [])
    assert said in str(caught.value)
    assert "study.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_some_trials_read_may_be_searched(tmp_path: Path) -> None:
    share = {"method.hard_share": EPS}
    assert read_definition(write(tmp_path, tree(settings={"recipe": "paper"}, space=share)), [])
    recipes = {"recipe": {"type": "categorical", "choices": ["paper", "pclhd"]}}
    assert read_definition(write(tmp_path, tree(space=share | recipes)), [])


def test_a_word_that_is_no_setting(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'iterations' is not a setting"):
        read_definition(write(tmp_path, tree()), ["iterations"])


def test_the_oracle_leaves_the_selection_alone_and_is_never_pruned(tmp_path: Path) -> None:
    definition = read_definition(write(tmp_path, tree()), [], objective="oracle")
    assert definition.uses_identities
    assert not definition.prunes
    assert definition.settings_for({}, 0).selection == "last"
    # Its trainings may use identities; those of a label-free objective may not.
    assert read_definition(write(tmp_path, tree(settings={"recipe": "supervised"})), [], objective="oracle")


def test_what_makes_a_study_another_one(tmp_path: Path) -> None:
    def identity(*words: str, checksum: str = "a", **changes: Any) -> dict[str, Any]:
        definition = read_definition(write(tmp_path, tree(**changes)), list(words))
        return definition.identity({"training": checksum})

    same = identity()
    assert identity("engine.log_every=3", "data.workers=2") == same
    for other in (
        identity("schedule.iterations=7"),
        identity(seeds=[1]),
        identity(objective="cycle"),
        identity(sampler="random"),
        identity(space={"clustering.eps": {**EPS, "high": 0.71}}),
        identity(checksum="b"),
    ):
        assert other != same


@given(low=st.integers(-1000, 1000), high=st.integers(-1000, 1000), step=st.integers(1, 9), log=st.booleans())
def test_a_range_holds_what_it_tries(low: int, high: int, step: int, log: bool) -> None:
    possible = low < high and not (log and (low <= 0 or step > 1))
    content = {"type": "int", "low": low, "high": high, "step": step, "log": log}
    if not possible:
        with pytest.raises(ValueError, match=r"low|log"):
            IntRange.model_validate(content)
        return
    assert all(isinstance(one, int) and low <= one <= high for one in IntRange.model_validate(content).examples())


def test_all_choices_and_bounds_are_tried() -> None:
    definition = Definition.model_validate(tree(space={"clustering.eps": EPS}))
    tried = definition.space["clustering.eps"].examples()
    assert set(tried) >= {0.4, 0.7}
    assert all(isinstance(one, float) and 0.4 <= one <= 0.7 for one in tried)


def test_the_published_study_can_be_run() -> None:
    definition = read_definition(Path(__file__).parents[2] / "examples" / "study.yaml", [])
    assert set(definition.space) == {"clustering.eps", "clustering.k1", "method.hard_share", "method.cross"}
    assert not definition.uses_identities
