from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from pclhd.config import Settings, load_preset
from pclhd.errors import UserError
from pclhd.recipes import RECIPES
from pclhd.workflows.settings import (
    all_settings,
    allowed_values,
    find_settings,
    meaning_of,
    settings_markdown,
    settings_text,
    yaml_schema,
)


def _leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += _leaves(section, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def test_every_setting_is_listed_with_its_meaning() -> None:
    listed = all_settings()
    assert [setting.key for setting in listed] == _leaves(Settings)
    assert len(listed) > 80
    for setting in listed:
        assert setting.meaning.endswith("."), setting
        assert setting.meaning[0].isupper() or setting.meaning.split()[0] in {"auto", "eps", "k1", "k2"}, setting


def test_a_description_that_is_missing_is_refused() -> None:
    class Bare(BaseModel):
        field: int = Field(1)

    with pytest.raises(ValueError, match="no description"):
        meaning_of(Bare.model_fields["field"])


def test_defaults_are_what_a_file_without_the_key_gives() -> None:
    defaults = {setting.key: setting.default for setting in all_settings()}
    assert defaults["clustering.k1"] == "30"
    assert defaults["clustering.eps_joint"] == "null"
    assert defaults["data.same_camera_rule"] == "false"
    assert defaults["preset"] is None
    # Of the method: what the default recipe says.
    assert defaults["method.stage1"] == RECIPES["pclhd"].stage1 != RECIPES["paper"].stage1


def test_values_are_those_of_the_preset_and_the_recipe() -> None:
    values = {setting.key: setting.value for setting in all_settings(load_preset("synthetic", ["recipe=paper"]))}
    assert values["clustering.k1"] == "20"
    assert values["method.stage1"] == "centroid"
    assert values["recipe"] == "paper"


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("data.layout", "auto, sysu, regdb, llcm, own"),
        ("data.trial", "whole number from 1 to 10"),
        ("schedule.decay_factor", "number above 0 to 1"),
        ("clustering.eps", "number above 0 below 1 or auto"),
        ("clustering.eps_joint", "number above 0 below 1 or auto or null"),
        ("data.root", "path or null"),
        ("model.backbone", "text or a mapping or null"),
        ("engine.compile", "true or false"),
        ("recipe", ", ".join(RECIPES)),
    ],
)
def test_allowed_values(key: str, allowed: str) -> None:
    (setting,) = find_settings(key)
    assert setting.allowed == allowed


def test_the_words_for_a_pattern() -> None:
    assert allowed_values({"type": "string", "pattern": "^a$"}) == "text like ^a$"


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("seed", ["seed"]),
        ("memory", ["memory.momentum", "memory.temperature"]),
        ("clustering.k1", ["clustering.k1"]),
        ("joint_k1", ["clustering.joint_k1"]),
    ],
)
def test_a_name_is_a_key_or_a_section(name: str, keys: list[str]) -> None:
    assert [setting.key for setting in find_settings(name)] == keys


def test_clustering_is_the_section_and_not_the_choice_of_that_name() -> None:
    assert {setting.section for setting in find_settings("clustering")} == {"clustering"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("klustering", "did you mean 'clustering'?"),
        ("clustering.k11", "did you mean 'clustering.k1'?"),
        ("iteration", "did you mean 'schedule.iterations'?"),
        ("xyzzy", "sections: method, data, model, schedule, batch, clustering, memory, engine"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        find_settings(name)
    assert str(caught.value) == f"there is no setting or section '{name}'; {hint}"


def test_the_text_shows_a_value_that_is_not_the_default() -> None:
    text = settings_text(find_settings("clustering", load_preset("synthetic", [])))
    assert "clustering.k1  (20, default 30; whole number from 1 or auto)" in text
    assert "clustering.k2  (default 6; whole number from 1 or auto)" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_bar_does_not_end_a_cell() -> None:
    (row,) = settings_markdown(find_settings("engine.accelerator")).splitlines()[-1:]
    assert row.replace("\\|", "").count("|") == 5


def test_the_schema_describes_a_file() -> None:
    schema = yaml_schema()
    assert schema["required"] == []
    sections = schema["$defs"]
    assert schema["additionalProperties"] is False
    assert sections["ClusteringSettings"]["properties"]["k1"]["description"].startswith("Images in")
    assert sections["Recipe"]["properties"]["stage1"]["default"] == "hybrid"
    assert schema["properties"]["recipe"]["enum"] == list(RECIPES)
