from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pclhd.config import Settings, load_preset, load_settings, preset_names
from pclhd.errors import UserError
from pclhd.recipes import PAPER, RECIPES, Recipe

SHIPPED = ["llcm", "own", "own-laptop", "regdb", "synthetic", "sysu", "tiny", "vit"]


def fails(overrides: list[str], preset: str = "tiny") -> str:
    with pytest.raises(UserError) as caught:
        load_preset(preset, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Presets.


def test_the_shipped_presets() -> None:
    assert preset_names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_preset_loads_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    settings = load_preset(name, [])
    assert settings.preset == name
    assert settings.recipe == "pclhd"
    path = tmp_path / "config.yaml"
    path.write_text(settings.to_yaml(), "utf-8")
    assert load_settings(path) == settings


def test_a_changed_setting_survives_a_round_trip(tmp_path: Path) -> None:
    settings = load_preset(
        "sysu",
        ["recipe=released", "method.joint=0.25", "clustering.eps_infrared=0.3", "seed=9", "data.layout=own"],
        root=Path("dir with ümlaut"),
    )
    path = tmp_path / "config.yaml"
    path.write_text(settings.to_yaml(), "utf-8")
    again = load_settings(path)
    assert again == settings
    assert again.data.root == Path("dir with ümlaut")
    assert again.clustering.eps_infrared == 0.3
    assert again.method == RECIPES["released"].model_copy(update={"joint": 0.25})


def test_a_saved_method_does_not_follow_a_recipe_that_changed(tmp_path: Path) -> None:
    # The resolved choices are what ran; the name alone would mean something else after an update.
    settings = load_preset("tiny", ["recipe=paper"])
    tree = yaml.safe_load(settings.to_yaml())
    tree["recipe"] = "released"
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    assert load_settings(path).method == PAPER


def test_epochs_are_those_of_both_stages() -> None:
    assert load_preset("tiny", ["schedule.stage1_epochs=3", "schedule.stage2_epochs=5"]).epochs == 8


# Overrides.


def test_overrides_go_before_the_preset_and_later_before_earlier() -> None:
    settings = load_preset("tiny", ["schedule.iterations=7", "seed=1", "schedule.iterations=9"])
    assert settings.schedule.iterations == 9
    assert settings.seed == 1
    assert settings.schedule.stage2_epochs == load_preset("tiny", []).schedule.stage2_epochs


def test_a_recipe_with_one_choice_changed() -> None:
    for overrides in (["recipe=released", "method.cross=0.5"], ["method.cross=0.5", "recipe=released"]):
        assert load_preset("tiny", overrides).method == RECIPES["released"].model_copy(update={"cross": 0.5})


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_named(recipe: str) -> None:
    settings = load_preset("tiny", [f"recipe={recipe}"])
    assert settings.recipe == recipe
    assert settings.method == RECIPES[recipe]


def test_the_root_given_apart_wins() -> None:
    assert load_preset("tiny", ["data.root=a"], root=Path("b")).data.root == Path("b")
    assert load_preset("tiny", ["data=null"], root=Path("b")).data.root == Path("b")
    assert load_preset("tiny", ["data.root=a"]).data.root == Path("a")


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("0.0001", 1e-4), ("1.0e-4", 1e-4), ("1", 1.0)])
def test_numbers_as_people_write_them(text: str, value: float) -> None:
    assert load_preset("tiny", [f"schedule.learning_rate={text}"]).schedule.learning_rate == value


def test_a_value_may_hold_an_equals_sign() -> None:
    assert load_preset("tiny", ["model.weights=imagenet:a=b.pth"]).model.weights == "imagenet:a=b.pth"


# Mistakes.


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("schedule.iteratons=3", "schedule.iterations"),
        ("shedule.iterations=3", "schedule"),
        ("shedule=3", "schedule"),
        ("batch.momentum=3", "memory.momentum"),
        ("momentun=3", "memory.momentum"),
        ("iterations=3", "schedule.iterations"),
        ("eps=0.5", "clustering.eps"),
        ("sead=3", "seed"),
        ("recip=paper", "recipe"),
        ("method.hard_sample=2", "method.hard_samples"),
        ("hard_samples=2", "method.hard_samples"),
        ("schedule.learning_rates=2", "schedule.learning_rate"),
    ],
)
def test_for_a_misspelt_key_the_nearest_is_suggested(override: str, meant: str) -> None:
    message = fails([override])
    assert message.startswith(f"unknown setting '{override.partition('=')[0].split('.')[0]}")
    assert message.endswith(f"did you mean '{meant}'?")


def test_for_an_unknown_key_the_known_ones_are_listed() -> None:
    assert fails(["batch.xyzzy=1"]).endswith("; known: batch.clusters, batch.instances, batch.sampler")
    assert "known: preset, seed, selection, recipe, method, data" in fails(["xyzzy=1"])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("schedule.iterations=many", "setting 'schedule.iterations' = 'many'"),
        ("schedule.iterations=0", "setting 'schedule.iterations' = 0"),
        ("schedule.iterations=2.5", "setting 'schedule.iterations' = 2.5"),
        ("schedule.learning_rate=0", "greater than 0"),
        ("schedule.learning_rate=.nan", "finite number"),
        ("schedule.ema_decay=1", "below 1"),
        ("schedule=5", "'schedule' is a section"),
        ("schedule=null", None),
        ("seed=-1", "setting 'seed' = -1"),
        ("seed.x=1", "setting 'seed' = {'x': 1}"),
        ("recipe.x=1", "unknown"),
        ("data.layout=sisu", "setting 'data.layout' = 'sisu'"),
        ("data.trial=11", "setting 'data.trial' = 11"),
        ("method.stage2=harder", "setting 'method.stage2' = 'harder'"),
        ("method=5", "'method' is a section"),
        ("recipe=papper", "did you mean 'paper'?"),
        ("recipe=[1]", "recipe '[1]' is unknown"),
        ("engine.precision=64", "setting 'engine.precision' = 64"),
        ("iterations", "expected key=value"),
        ("=3", "expected key=value"),
        ("seed=[1", "not valid YAML"),
        ("seed=2024-13-45", "not valid YAML"),
    ],
)
def test_wrong_values_are_named(override: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(UserError):
            load_preset("tiny", [override])
    else:
        assert expected in fails([override])


@pytest.mark.parametrize(
    "overrides",
    [
        ["method.stage2=dynamic", "method.dynamic_gradient=false"],
        ["method.hard_share=0", "method.dynamic_gradient=false"],
    ],
)
def test_a_stage_without_a_loss_is_refused(overrides: list[str]) -> None:
    alone = ["recipe=paper", "method.centroid_share=0"]
    assert "without a loss within the modalities" in fails([*alone, *overrides])
    assert load_preset("tiny", [*alone, *overrides[:1]])
    assert load_preset("tiny", [*alone, *overrides[1:]])
    assert load_preset("tiny", ["recipe=paper", *overrides])


@pytest.mark.parametrize(
    ("recipe", "wrong"),
    [
        ("pclhd", ["method.memory_update=in_backward", "method.stage1=hybrid", "method.stage2=hybrid"]),
        ("paper", ["method.memory_update=in_backward"]),
        ("mmm", ["method.stage1=hybrid"]),
        ("mmm", ["method.stage2=hybrid"]),
    ],
)
def test_several_prototypes_that_nothing_reads_are_refused(recipe: str, wrong: list[str]) -> None:
    complaint = fails([f"recipe={recipe}", "method.sub_prototypes=3", *wrong])
    assert complaint.startswith(f"method.sub_prototypes=3 cannot be combined with {', '.join(wrong)}, ")
    # The suggested change fixes it.
    advice = complaint.partition("; add ")[2].partition(", or set ")[0].split()
    assert load_preset("tiny", [f"recipe={recipe}", "method.sub_prototypes=3", *wrong, *advice])
    assert load_preset("tiny", [f"recipe={recipe}", "method.sub_prototypes=1", *wrong])


def test_an_unknown_preset() -> None:
    assert fails([], "tinny").endswith("did you mean 'tiny'?")
    assert "known: llcm" in fails([], "0123456789")


# Preset files.


def test_a_preset_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: paper\nschedule: {iterations: 11}\nmethod: {cross: 0.75}\n", "utf-8")
    settings = load_preset(str(path), ["seed=4"], root=tmp_path)
    assert settings == Settings.model_validate(
        {
            "preset": "mine",
            "seed": 4,
            "recipe": "paper",
            "method": PAPER.model_copy(update={"cross": 0.75}),
            "data": {"root": tmp_path},
            "schedule": {"iterations": 11},
        }
    )


def test_a_run_can_be_repeated_from_its_config(tmp_path: Path) -> None:
    settings = load_preset("tiny", ["recipe=released", "seed=3"], root=tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(settings.to_yaml(), "utf-8")
    assert load_preset(str(path), []) == settings


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"seed: [1", "is not valid YAML"),
        (b"seed: 2024-13-45", "is not valid YAML"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b"- a\n- b\n", "found list"),
        (b"", "found NoneType"),
        (b"1: 2\n", "unknown setting '1'"),
        (b"data: 5\n", "data"),
        (b"schedule: {1: 2}\n", "unknown setting 'schedule.1'"),
        (b"iterations: 5\n", "did you mean 'schedule.iterations'?"),
    ],
)
def test_broken_preset_files(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    for root in (None, tmp_path):
        with pytest.raises(UserError, match=re.escape(complaint)):
            load_preset(str(path), [], root=root)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_preset(str(tmp_path / "none.yaml"), [])
    with pytest.raises(UserError, match="cannot be read"):
        load_settings(tmp_path / "config.yaml")


def test_settings_cannot_be_changed() -> None:
    settings = load_preset("tiny", [])
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3  # type: ignore[misc]


def test_recipes_take_part_as_a_section() -> None:
    assert Settings.model_fields["method"].annotation is Recipe


@pytest.mark.parametrize("selection", ["silhouette", "stability", "cycle"])
def test_no_epoch_is_chosen_by_clusters_that_are_identities(selection: str) -> None:
    assert f"selection={selection} measures clusters" in fails(["recipe=supervised", f"selection={selection}"])
    assert load_preset("tiny", ["recipe=semi-supervised", f"selection={selection}"]).selection == selection


@pytest.mark.parametrize(
    "item",
    [
        "schedule.learning_rate=.inf",
        "schedule.weight_decay=.inf",
        "schedule.weight_decay=.nan",
        "memory.temperature=.inf",
        "method.cross=.inf",
        "data.cache_gib=.inf",
        "engine.checkpoint_minutes=.nan",
        "clustering.eps=.nan",
        "seed=010",
        "seed=1:30",
        "seed=true",
        "schedule.iterations=true",
        "schedule.learning_rate=true",
        "clustering.joint_k1=false",
        "seed=100000000000000000000",
        "schedule.iterations=100000000000000000000",
        "batch.instances=100000000000000000000",
        "clustering.min_samples=100000000000000000000",
        "method.hard_samples=100000000000000000000",
        "data.height=1000000000",
        "data.width=5000",
        f"seed={'[' * 500}",
        f"seed={'9' * 5000}",
        "seed=&a [*a]",
    ],
)
def test_numbers_that_are_none_or_beyond_use(item: str) -> None:
    with pytest.raises(UserError) as caught:
        load_preset("tiny", [item])
    assert len(str(caught.value)) < 300


def test_a_preset_file_that_repeats_itself(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 50))]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match="not valid YAML"):
        load_preset(str(tmp_path / "bomb.yaml"), [])


def test_sizes_that_follow_the_images() -> None:
    settings = load_preset("own", [])
    assert {settings.clustering.k1, settings.clustering.joint_k2} == {"auto"}
    small = settings.with_sizes_for(72, 80).clustering
    assert (small.k1, small.k2, small.joint_k1, small.joint_k2) == (6, 3, 12, 4)
    large = settings.with_sizes_for(30_000, 22_000).clustering
    assert (large.k1, large.k2, large.joint_k1, large.joint_k2) == (30, 6, 40, 7)
    given = load_preset("own", ["clustering.k1=9"]).with_sizes_for(72, 72).clustering
    assert (given.k1, given.k2) == (9, 3)
    # Only for your own images is the number unknown; all other presets have fixed sizes.
    for name in set(preset_names()) - {"own", "own-laptop"}:
        fixed = load_preset(name, [])
        assert fixed.with_sizes_for(10, 10) is fixed
        assert fixed.clustering.near_copies == "keep"
    with pytest.raises(UserError, match=r"setting 'clustering.joint_k1' = 0: expected a whole number from 1, or auto"):
        load_preset("own", ["clustering.joint_k1=0"])


@pytest.mark.parametrize("name", ["../../x", "/x/y", "a/b", "..", ".hidden", "", "a\\b", "x\ny", "\u202e", "a" * 101])
def test_a_preset_cannot_lead_the_default_run_folder_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"preset": name}), "utf-8")
    with pytest.raises(UserError, match=r"setting 'preset' = .*expected a short name"):
        load_preset(str(tmp_path / "mine.yaml"), [])


@pytest.mark.parametrize("item", ["data.root=''", "data.cache=''", "data.cache='  '", "model.backbone=' '"])
def test_an_empty_path_is_not_the_current_folder(item: str) -> None:
    with pytest.raises(UserError, match="expected a"):
        load_preset("tiny", [item])


def test_a_training_without_epochs_is_refused() -> None:
    with pytest.raises(UserError, match="leave no epoch"):
        load_preset("tiny", ["schedule.stage1_epochs=0", "schedule.stage2_epochs=0"])


@pytest.mark.parametrize(
    "item",
    [
        "seed=010",
        "seed=1:30",
        "seed=true",
        "seed=yes",
        "seed=~",
        "seed=2024-01-01",
        "schedule.learning_rate=1:30.5",
        "schedule.learning_rate=on",
        "schedule.learning_rate=.inf",
        "schedule.weight_decay=.inf",
        "memory.temperature=.inf",
        "method.cross=.inf",
        "data.layout=no",
        "model.weights=off",
    ],
)
def test_what_yaml_takes_for_something_else_is_refused(item: str) -> None:
    with pytest.raises(UserError):
        load_preset("tiny", [item])


def test_batches_of_clusters_without_a_prototype_are_refused() -> None:
    complaint = fails(["recipe=paper", "method.joint_batches=all"])
    assert "add method.joint_prototypes=all" in complaint
    assert load_preset("tiny", ["recipe=paper", "method.joint_batches=all", "method.joint_prototypes=all"])


def test_whitening_what_is_not_centred_is_refused() -> None:
    complaint = fails(["method.centre_features=none", "method.whitening=0.5"])
    assert "method.whitening=0.5" in complaint
    assert "set that to modality or camera" in complaint
    assert load_preset("tiny", ["method.centre_features=modality", "method.whitening=0.5"])
