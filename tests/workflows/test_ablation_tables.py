from __future__ import annotations

import pytest

from pclhd.config import load_preset
from pclhd.errors import UserError
from pclhd.runs.ablation import Entry, Table
from pclhd.workflows.ablation_tables import (
    FLOORS,
    METHODS,
    check_common_start,
    check_recipes,
    curve_table,
    k_table,
    lambda_table,
    methods_table,
    parse_setting,
    parts_table,
    setting_table,
    start_of,
    start_words,
    with_own_starts,
)

ALL = [*map(parts_table, FLOORS), lambda_table(), k_table(), methods_table()]

#: Fields that stage I does not read, or reads only with another one.
LATER = {
    *("stage2", "hard_share", "centroid_share", "progressive", "dynamic_samples", "dynamic_similarity"),
    *("dynamic_redraw", "dynamic_gradient", "cross", "cross_direction", "cross_contrast", "cross_form"),
    *("cross_progressive", "distillation", "joint", "joint_labels", "joint_prototypes", "joint_memory"),
    *("joint_contrast", "joint_negatives", "joint_batches", "balanced_neighbours", "balanced_order", "matching"),
    "centroid_margin",
    # Memories of hard prototypes are not read in a stage I of centroids.
    *("hard_start", "hard_samples", "hard_batch_samples"),
}


def refuse_other_stage_one(entry: Entry, words: tuple[str, ...]) -> None:
    """The entry's own stage I would be that of these words."""
    start = load_preset("synthetic", [*words]).method
    own = load_preset("synthetic", [f"recipe={entry.recipe}", *entry.settings]).method
    changed = {name for name, value in start.model_dump().items() if getattr(own, name) != value}
    assert changed <= LATER, entry.name
    assert start.stage1 == "centroid" or not changed & {"hard_start", "hard_samples", "hard_batch_samples"}


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.title)
def test_every_entry_can_be_trained_and_is_another_training(table: Table) -> None:
    names = [entry.name for entry in table.entries]
    assert len(set(names)) == len(names)
    assert {entry.against for entry in table.entries} - {""} <= set(names)
    assert set(table.quick) <= set(names)
    settings = {
        load_preset("synthetic", [f"recipe={entry.recipe}", *entry.settings]).method.model_dump_json()
        for entry in table.entries
    }
    assert len(settings) == len(names)
    for entry in table.entries:
        refuse_other_stage_one(entry, start_words(entry))


def test_one_name_is_one_training() -> None:
    seen: dict[str, tuple[object, ...]] = {}
    for entry in (entry for table in ALL for entry in table.entries):
        what = (entry.recipe, entry.settings, entry.start)
        assert seen.setdefault(entry.name, what) == what


def test_the_parts_come_one_after_the_other() -> None:
    abouts = [entry.about for entry in parts_table("pgm").entries]
    assert abouts == [
        "the floor: centroids",
        "+ hard",
        "+ dynamic",
        "+ hard + dynamic",
        "+ hard + dynamic + progressive",
    ]


def test_k_is_varied_where_it_is_read() -> None:
    for entry in k_table().entries:
        method = load_preset("synthetic", [f"recipe={entry.recipe}", *entry.settings]).method
        assert method.hard_start == "furthest"
        assert "hard" in method.stage2


def test_lambda_and_k() -> None:
    shares, numbers = lambda_table(), k_table()
    assert sorted(entry.value for entry in shares.entries) == ["0", "0.25", "0.5", "0.75", "1"]
    assert [entry.value for entry in numbers.entries] == ["1", "2", "4", "8"]
    assert (shares.symbol, shares.setting, shares.kind) == ("λ", "method.hard_share", "curve")


def test_methods_are_compared_with_the_first() -> None:
    table = methods_table(("pgm", "paper", "pgm"))
    assert [(entry.name, entry.against, entry.start) for entry in table.entries] == [
        ("pgm", "", "centroid"),
        ("paper", "pgm", "centroid"),
    ]
    assert METHODS[0] == "baseline"
    assert (start_of("posed"), start_of("mmm"), start_of("pclhd")) == ("centroid", "mmm", "pclhd")


def test_any_setting_over_values() -> None:
    table = setting_table("synthetic", "pclhd", "clustering.eps", ("0.6", "0.5", "0.4"))
    own, more, less = table.entries
    assert (own.name, own.value, own.against) == (
        "pclhd",
        "0.5",
        "",
    )  # the preset's own value is no training of its own
    assert (more.name, more.settings) == ("pclhd-eps-0.6", ("clustering.eps=0.6",))
    assert less.about == "eps = 0.4"
    assert more.against == less.against == "pclhd"


def test_words_and_odd_characters_become_names() -> None:
    table = setting_table("synthetic", "pgm", "method.matching", ("mutual",))
    assert [entry.name for entry in table.entries] == ["pgm", "pgm-matching-mutual"]
    odd = curve_table(Entry("x", "pgm"), "data.root", ("a/b c",))
    assert odd.entries[1].name == "x-root-a_b_c"


@pytest.mark.parametrize(
    ("setting", "values", "said"),
    [
        ("seed", ("1",), "name its values with --seeds"),
        ("recipe", ("paper",), "name its values with --methods"),
        ("clustering.epps", ("1",), "clustering.eps"),
        ("clustering", ("1",), "setting 'clustering'"),
        ("clustering.eps", ("much",), "clustering.eps"),
    ],
)
def test_settings_that_cannot_be_varied(setting: str, values: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        setting_table("synthetic", "pclhd", setting, values)


@pytest.mark.parametrize("key", ["schedule.stage1_epochs", "model.weights", "data.height"])
def test_what_stage_one_decides_needs_a_stage_one_for_each_value(key: str) -> None:
    table = Table("", (Entry("a", "pclhd", (f"{key}=3",), start="pclhd"),))
    with pytest.raises(UserError, match=f"{key} cannot follow a common stage I .*add `both_stages`"):
        check_common_start([table])
    own = with_own_starts(table)
    check_common_start([own])
    assert own.entries[0].start == "own-a"
    assert start_words(own.entries[0]) == ("recipe=pclhd", f"{key}=3")


def test_starts_that_are_known_by_name() -> None:
    entry = Entry("a", "pclhd", start="half")
    assert start_words(entry, {"half": ("recipe=pclhd", "method.larger_share=0.5")})[1] == "method.larger_share=0.5"
    assert start_words(Entry("a", "pclhd")) == ("recipe=baseline",)


@pytest.mark.parametrize("text", ["", "a", "a=", "=1", "a=,"])
def test_what_is_no_setting_with_values(text: str) -> None:
    with pytest.raises(UserError, match="expected KEY=VALUE,VALUE"):
        parse_setting(text)


def test_a_setting_with_values() -> None:
    assert parse_setting("clustering.eps=0.4, 0.5,") == ("clustering.eps", ("0.4", "0.5"))
    with pytest.raises(UserError, match="is no recipe"):
        check_recipes(["paper", "papre"], "methods")
