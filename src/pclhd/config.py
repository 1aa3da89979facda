"""Settings: a preset, then ``key=value`` on top, checked by type; a misspelt key is answered with the nearest name."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError

from pclhd.errors import UserError
from pclhd.recipes import RECIPES, Recipe


def _distance_or_auto(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError("expected a distance above 0 and below 1, or auto")
    return float(value)


def _folder_or_configuration(value: object) -> Path | dict[str, Any] | None:
    if value is None or isinstance(value, Path):
        return value
    if isinstance(value, str) and value:
        return Path(value)
    if isinstance(value, dict):
        return value
    raise ValueError("expected a folder with config.json, or what would stand in it")


def _none_or_folder(value: object) -> object:
    return None if value == "none" else value


CacheFolder = Annotated[Path | None, BeforeValidator(_none_or_folder)]
Backbone = Annotated[Path | dict[str, Any] | None, PlainValidator(_folder_or_configuration)]
Eps = Annotated[float | Literal["auto"], PlainValidator(_distance_or_auto)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Section):
    """Where the images are and at what size the network sees them.

    Attributes:
        layout: How the folder is laid out; ``auto`` looks.
        root: The data set's folder, or a CSV file for one's own images.
        trial: Which of RegDB's ten splits.
        height: Pixels.
        width: Pixels.
        same_camera_rule: Own images only: leave out gallery images of the query's own person and camera.
        workers: Threads that decode images; 0 takes one per core. Never changes a result.
        cache: A folder that keeps decoded training images for the next training and lets sets be larger than memory,
            or ``none``. Never changes a result.
        cache_gib: Largest size of all files in it; those not used for longest are removed.
    """

    layout: Literal["auto", "sysu", "regdb", "llcm", "own"] = "auto"
    root: Path | None = None
    trial: int = Field(1, ge=1, le=10)
    height: int = Field(288, ge=16)
    width: int = Field(144, ge=8)
    same_camera_rule: bool = False
    workers: int = Field(0, ge=0)
    cache: CacheFolder = None
    cache_gib: float = Field(64, gt=0)


class ModelSettings(_Section):
    """The network and where its first weights come from.

    Attributes:
        architecture: ``resnet50`` (AGW), ``narrow`` (the demo's), or ``backbone``.
        backbone: For ``backbone``: a local folder with a ``config.json`` of transformers, or what would stand in it
            (needs the ``backbones`` extra).
        weights: ``starter`` (shipped, for ``narrow``), ``none``,
            ``imagenet:FILE`` (torchvision's names), a model file, or ``backbone`` (those in the backbone's folder).
    """

    architecture: Literal["resnet50", "narrow", "backbone"] = "resnet50"
    backbone: Backbone = None
    weights: str = "imagenet"


class ScheduleSettings(_Section):
    """How long, how fast.

    Attributes:
        stage1_epochs: Epochs of stage I.
        stage2_epochs: Epochs of stage II.
        iterations: Optimiser steps per epoch (twice as many where the recipe's joint loss has steps of its own).
        learning_rate: Adam's, at the start of each stage.
        weight_decay: Adam's.
        decay_every: Epochs after which the rate is multiplied by `decay_factor`, counted within the stage.
        decay_factor: See there.
        ema_decay: Share of the old value in the momentum network's average, per step.
        restarts: How often a training whose loss is no longer finite goes back to the start of its epoch by itself.
        restart_factor: The learning rate is multiplied by this at each restart, for the rest of the training.
    """

    stage1_epochs: int = Field(50, ge=0)
    stage2_epochs: int = Field(50, ge=0)
    iterations: int = Field(200, ge=1)
    learning_rate: float = Field(3.5e-4, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    decay_every: int = Field(20, ge=1)
    decay_factor: float = Field(0.1, gt=0, le=1)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    restarts: int = Field(0, ge=0)
    restart_factor: float = Field(0.5, gt=0, lt=1)


class BatchSettings(_Section):
    """What a batch of each modality is made of.

    Attributes:
        clusters: Clusters per modality, P.
        instances: Images per cluster, K.
        sampler: ``camera`` prefers images of other cameras than the anchor's; ``blind`` does not look at cameras.
    """

    clusters: int = Field(8, ge=1)
    instances: int = Field(16, ge=1)
    sampler: Literal["camera", "blind"] = "camera"


class ClusteringSettings(_Section):
    """From features to pseudo labels.

    Attributes:
        k1: Neighbours for the k-reciprocal sets, within a modality.
        k2: Neighbours for query expansion, within a modality.
        joint_k1: The same for both modalities together.
        joint_k2: The same for both modalities together.
        eps: Jaccard distance at which the graph is cut, visible: DBSCAN's radius, the mean distance within which
            average linkage merges. ``auto`` chooses it without identities, every epoch anew.
        eps_infrared: The same for infrared; None takes `eps`.
        eps_joint: The same for both together; None takes `eps`.
        loosen: Where a modality is all noise, its radius is raised in steps of 0.05, at most to this; 0 never does.
        min_samples: Neighbours that make a core (DBSCAN, HDBSCAN), and the smallest cluster (all but DBSCAN).
        resolution: Mean similarity above which two communities are joined (``method.clustering=community`` only).
        search: How neighbours are searched: ``exact``, ``approximate`` (needs the ``ann`` extra), or ``auto``, by size.
    """

    k1: int = Field(30, ge=1)
    k2: int = Field(6, ge=1)
    joint_k1: int = Field(40, ge=1)
    joint_k2: int = Field(32, ge=1)
    eps: Eps = 0.6
    eps_infrared: Eps | None = None
    eps_joint: Eps | None = None
    loosen: float = Field(0.0, ge=0, lt=1)
    min_samples: int = Field(4, ge=1)
    resolution: float = Field(0.1, gt=0, lt=1)
    search: Literal["auto", "exact", "approximate"] = "auto"


class MemorySettings(_Section):
    """The prototype memories.

    Attributes:
        momentum: Share of the old prototype when a batch refreshes it.
        temperature: τ of the contrastive losses.
    """

    momentum: float = Field(0.1, ge=0, lt=1)
    temperature: float = Field(0.05, gt=0)


class EngineSettings(_Section):
    """What it runs on.

    Attributes:
        accelerator: As Lightning Fabric names them.
        precision: As Lightning Fabric names them. Losses are always computed in 32 bits. ``auto`` takes bfloat16 where
            the processor computes with it, else 32 bits; the run's ``config.yaml`` says which it was. ``16-mixed`` is
            for GPUs without bfloat16; it scales losses so that small gradients do not vanish.
        compile: Compile the networks with ``torch.compile``, which needs a C++ compiler on the machine.
        log_every: Steps between two lines of ``metrics.jsonl``.
        checkpoint_minutes: Minutes after which a checkpoint is written within an epoch, too. There is always one
            between epochs.
        keep_weights: Keep the momentum network after every epoch, for whoever wants to look at the way it went.
        tensorboard: Write TensorBoard events beside ``metrics.jsonl`` (needs the ``tensorboard`` extra).
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: bool = False
    log_every: int = Field(10, ge=1)
    checkpoint_minutes: float = Field(10, ge=0)
    keep_weights: bool = False
    tensorboard: bool = False


class Settings(_Section):
    """Everything a run depends on besides the images.

    Attributes:
        preset: Name of the preset it started from.
        seed: Seed of every random draw.
        selection: Which epoch's weights the run ends with: the ``last``, or, among those of the last stage, the best by
            ``silhouette``, ``stability`` or ``cycle`` (see `pclhd.engine.selection`); never by a test label.
        recipe: Name of the method's recipe.
        method: The recipe's choices, overrides applied.
        data: See `DataSettings`; the others likewise.
    """

    preset: str
    seed: int = Field(0, ge=0)
    selection: Literal["last", "silhouette", "stability", "cycle"] = "last"
    recipe: str = "pclhd"
    method: Recipe = Field(default_factory=Recipe)
    data: DataSettings = Field(default_factory=DataSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    batch: BatchSettings = Field(default_factory=BatchSettings)
    clustering: ClusteringSettings = Field(default_factory=ClusteringSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)

    @property
    def epochs(self) -> int:
        """Epochs of both stages."""
        return self.schedule.stage1_epochs + self.schedule.stage2_epochs

    def to_yaml(self) -> str:
        """The settings as they are saved in a run folder."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def preset_names() -> list[str]:
    """The presets that ship with the package."""
    return sorted(
        item.name.removesuffix(".yaml")
        for item in resources.files("pclhd.presets").iterdir()
        if item.name.endswith(".yaml")
    )


def load_preset(name: str, overrides: list[str], *, root: Path | None = None) -> Settings:
    """Settings of a preset with ``key=value`` overrides.

    Args:
        name: A shipped preset's name, or the path of a YAML file.
        overrides: Items like ``schedule.iterations=20``; values are read as YAML.
        root: The data folder, if named apart from the overrides.

    Returns:
        The checked settings.

    Raises:
        UserError: An unknown preset or key (the nearest name is offered), or a value of the wrong kind.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        tree = _read_yaml(path)
        tree.setdefault("preset", path.stem)
    else:
        if name not in preset_names():
            raise UserError(f"unknown preset '{name}'{_nearest(name, preset_names())}")
        text = resources.files("pclhd.presets").joinpath(f"{name}.yaml").read_text("utf-8")
        tree = {"preset": name, **(yaml.safe_load(text) or {})}
    for item in overrides:
        _override(tree, item)
    if root is not None:
        _section(tree, "data", "data.root")["root"] = str(root)
    return _check(tree, source=f"preset {name}")


def load_settings(path: Path) -> Settings:
    """The settings saved in a run folder.

    Raises:
        UserError: The file is missing, not YAML, or does not fit.
    """
    return _check(_read_yaml(path), source=str(path))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a YAML file with settings") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that does not exist
        raise UserError(f"{path}: is not valid YAML ({error})") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected settings as 'key: value' lines, found {type(tree).__name__}")
    return tree


def _override(tree: dict[str, Any], item: str) -> None:
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise UserError(f"'{item}' is not a setting; expected key=value, for example schedule.iterations=20")
    *sections, name = key.split(".")
    node = tree
    for section in sections:
        node = _section(node, section, key)
    try:
        node[name] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is YAML's word for a date that does not exist
        raise UserError(f"'{item}': the value is not valid YAML; quote it if it holds : or #") from error


def _section(node: dict[str, Any], name: str, key: str) -> dict[str, Any]:
    if node.get(name) is None:
        node[name] = {}
    section = node[name]
    if not isinstance(section, dict):
        raise UserError(f"'{key}': '{name}' is a single value and has no settings inside it")
    return section


def _check(tree: dict[str, Any], *, source: str) -> Settings:
    _refuse_unknown(tree, Settings, prefix="")
    recipe = str(tree.get("recipe", "pclhd"))
    if recipe not in RECIPES:
        raise UserError(f"recipe '{recipe}' is unknown{_nearest(recipe, list(RECIPES))}")
    method = {**RECIPES[recipe].model_dump(), **(tree.get("method") or {})}
    try:
        settings = Settings.model_validate({**tree, "recipe": recipe, "method": method})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{source}: setting '{key}' = {first['input']!r}: {why}") from error
    settings = settings.model_copy(update={"model": _with_weights_of_backbone(settings.model)})
    _refuse_loosening_without_radius(settings)
    _refuse_stage_without_loss(settings.method)
    _refuse_sub_prototypes_nobody_reads(settings.method)
    _refuse_choosing_by_identities(settings)
    return settings


def _refuse_choosing_by_identities(settings: Settings) -> None:
    if settings.method.labels == "identities" and settings.selection != "last":
        raise UserError(
            f"selection={settings.selection} judges clusters, and method.labels=identities makes none; leave it at last"
        )


def _with_weights_of_backbone(model: ModelSettings) -> ModelSettings:
    """The settings with ``weights=backbone`` replaced by the file it means, so that a run says what it began with."""
    if model.backbone is not None and model.architecture != "backbone":
        raise UserError(
            f"model.backbone does not go with model.architecture={model.architecture}; say backbone there, or "
            "model.backbone=null"
        )
    if model.backbone is None and model.architecture == "backbone":
        raise UserError("model.architecture=backbone needs model.backbone=DIR, a local folder with config.json")
    if model.weights != "backbone":
        return model
    if not isinstance(model.backbone, Path):
        raise UserError(
            "model.weights=backbone means the weights in the folder model.backbone, but that is not a folder; say "
            "none, or name a model file"
        )
    return model.model_copy(update={"weights": str(model.backbone / "model.safetensors")})


def _refuse_loosening_without_radius(settings: Settings) -> None:
    if settings.clustering.loosen and settings.method.clustering in {"hdbscan", "community"}:
        raise UserError(
            f"clustering.loosen={settings.clustering.loosen:g} raises a radius, but method.clustering="
            f"{settings.method.clustering} has none; leave it at 0"
        )


def _refuse_stage_without_loss(method: Recipe) -> None:
    only_dynamic = method.stage2 == "dynamic" or (method.stage2 == "hard+dynamic" and method.hard_share == 0)
    if only_dynamic and not method.dynamic_gradient and method.centroid_share == 0:
        raise UserError(
            f"method.dynamic_gradient=false with method.stage2={method.stage2}, method.hard_share="
            f"{method.hard_share:g} and method.centroid_share=0 leaves stage II nothing of its own to train with; "
            "change one of them"
        )


def _refuse_sub_prototypes_nobody_reads(method: Recipe) -> None:
    needed = {"memory_update": "after_step", "stage1": "centroid"}
    if method.stage2 == "hybrid":
        needed["stage2"] = "centroid"
    wrong = [name for name, value in needed.items() if getattr(method, name) != value]
    if method.sub_prototypes > 1 and wrong:
        found = ", ".join(f"method.{name}={getattr(method, name)}" for name in wrong)
        mended = " ".join(f"method.{name}={needed[name]}" for name in wrong)
        raise UserError(
            f"method.sub_prototypes={method.sub_prototypes} does not go with {found}, which know one prototype per "
            f"cluster; add {mended}, or take method.sub_prototypes=1"
        )


def _refuse_unknown(tree: dict[str, Any], model: type[BaseModel], *, prefix: str) -> None:
    for key, value in tree.items():
        if key not in model.model_fields:
            raise UserError(f"unknown setting '{prefix}{key}'{_nearest_setting(str(key), model, prefix)}")
        section = model.model_fields[key].annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            if value is None:
                continue
            if not isinstance(value, dict):
                raise UserError(f"setting '{prefix}{key}' is a section; write {prefix}{key}.NAME=value")
            _refuse_unknown(value, section, prefix=f"{prefix}{key}.")


def _all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys.extend(_all_keys(section, f"{prefix}{name}."))
        else:
            keys.append(prefix + name)
    return keys


def _nearest_setting(name: str, model: type[BaseModel], prefix: str) -> str:
    # A setting is often named without its section, or with another's: the same name elsewhere goes first.
    elsewhere: dict[str, str] = {}
    for full in _all_keys(Settings):
        elsewhere.setdefault(full.rpartition(".")[2], full)
    here = {sibling: prefix + sibling for sibling in model.model_fields}
    for known, cutoff in ((elsewhere, 1.0), (here, 0.6), (elsewhere, 0.6)):
        close = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
        if close:
            return f"; did you mean '{known[close[0]]}'?"
    return f"; known: {', '.join(here.values())}"


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"
