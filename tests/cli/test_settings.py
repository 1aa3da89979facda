"""`pclhd settings` and `pclhd recipes`."""

from __future__ import annotations

import json

from pclhd.config import load_preset
from pclhd.recipes import RECIPES
from tests.commands import Call, complaint


def test_a_section_with_a_presets_values(pclhd: Call) -> None:
    shown = pclhd("settings", "clustering", "--preset", "synthetic")
    assert (shown.code, shown.err) == (0, "")
    assert "clustering.k1  (20, default 30; whole number from 1 or auto)" in shown.out
    assert "schedule." not in shown.out


def test_json(pclhd: Call) -> None:
    found = json.loads(pclhd("settings", "--preset", "tiny", "--recipe", "paper", "--json").out)
    values = {setting["key"]: setting["value"] for setting in found}
    settings = load_preset("tiny", ["recipe=paper"])
    assert values["schedule.iterations"] == str(settings.schedule.iterations)
    assert values["method.stage2"] == settings.method.stage2


def test_a_recipe_without_a_preset_shows_its_choices(pclhd: Call) -> None:
    shown = pclhd("settings", "--recipe", "baseline")
    assert "method.stage2  (centroid, default hybrid;" in shown.out
    assert "schedule." not in shown.out


def test_the_schema_is_json(pclhd: Call) -> None:
    schema = json.loads(pclhd("settings", "--schema").out)
    assert "clustering" in schema["properties"]


def test_mistakes(pclhd: Call) -> None:
    assert "did you mean 'clustering.k1'?" in complaint(pclhd("settings", "clustering.k11"))
    assert "choose one" in complaint(pclhd("settings", "--json", "--markdown"))
    assert "leave out NAME" in complaint(pclhd("settings", "k1", "--schema"))
    assert "did you mean 'tiny'?" in complaint(pclhd("settings", "--preset", "tinny"))
    assert "did you mean 'paper'?" in complaint(pclhd("settings", "--recipe", "papr"))
    assert "did you mean 'paper'?" in complaint(pclhd("recipes", "papr"))
    assert "name the other" in complaint(pclhd("recipes", "--against", "paper"))


def test_recipes(pclhd: Call) -> None:
    assert [line.split()[0] for line in pclhd("recipes").out.splitlines()] == list(RECIPES)
    assert list(json.loads(pclhd("recipes", "--json").out)) == list(RECIPES)
    shown = pclhd("recipes", "pclhd", "--against", "baseline").out
    assert "  method.stage2=hybrid (baseline: centroid)" in shown
    (choice,) = json.loads(pclhd("recipes", "baseline", "--against", "pgm", "--json").out)
    assert (choice["key"], choice["value"], choice["other"]) == ("method.joint", "1.0", "0.0")
