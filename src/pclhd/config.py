"""Settings: a preset with ``key=value`` overrides, validated; for a misspelt key, the error suggests a similar one."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)

from pclhd.clustering.options import JOINT_DEFAULTS, ClusteringSizes, Eps, Size, automatic_sizes
from pclhd.errors import UserError
from pclhd.parsing import Unparsable, parse_yaml, read_text, yaml_mapping
from pclhd.recipes import DEFAULT_RECIPE, RECIPES, Recipe
from pclhd.sizes import BatchSize, Lengths, automatic_batch, automatic_decay, automatic_lengths


def _folder_or_configuration(value: object) -> Path | dict[str, Any] | None:
    if value is None or isinstance(value, Path):
        return value
    if isinstance(value, str) and value.strip():
        return Path(value)
    if isinstance(value, dict):
        return value
    raise ValueError("expected a folder with config.json, or the content of that file")


def _none_or_folder(value: object) -> object:
    return None if value == "none" else value


def _from_zero_or_auto(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("expected a whole number from 0, or auto")
    return value


def _share_or_auto(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError("expected a share from 0 and below 1, or auto")
    return float(value)


def _tracking(value: str | None) -> str | None:
    if value is None or value == "none":
        return None
    if not value.strip():
        raise ValueError("expected a name, or none")
    if re.search(r"://[^/]*@", value):
        raise ValueError("an address with a name or a password would be saved; set MLFLOW_TRACKING_USERNAME instead")
    return value


def _named(value: object) -> object:
    if isinstance(value, str) and not value.strip():  # Python takes an empty path for the current folder
        raise ValueError("expected a path; write . for the current folder")
    return value


Epochs = Annotated[
    int | Literal["auto"],
    PlainValidator(_from_zero_or_auto),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "auto"}]}),
]
Decay = Annotated[
    float | Literal["auto"],
    PlainValidator(_share_or_auto),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1}, {"const": "auto"}]}),
]
Tracking = Annotated[str | None, AfterValidator(_tracking)]
Root = Annotated[Path | None, BeforeValidator(_named)]
CacheFolder = Annotated[Path | None, BeforeValidator(_named), BeforeValidator(_none_or_folder)]
Backbone = Annotated[
    Path | dict[str, Any] | None,
    PlainValidator(_folder_or_configuration),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}]}),
]
_LONGEST_SHOWN = 80
# Sizes and counts beyond it are slips of the hand. A seed is no size.
_LARGEST = 2**31 - 1

_AnySection = TypeVar("_AnySection", bound=BaseModel)

Layout = Literal["auto", "sysu", "regdb", "llcm", "own"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(_Section):
    """The data set and the size of the network's input."""

    layout: Layout = Field("auto", description="Layout of the data folder. auto detects it.")
    root: Root = Field(None, description="The data set's folder, or a CSV file of your own images. --data sets it.")
    trial: int = Field(1, ge=1, le=10, description="Which of RegDB's ten splits to use. Other layouts ignore it.")
    height: int = Field(288, ge=16, le=4096, description="Height of the network's input, in pixels.")
    width: int = Field(144, ge=8, le=4096, description="Width of the network's input, in pixels.")
    same_camera_rule: bool = Field(
        False,
        description="Evaluation of your own images: exclude gallery images of the query's person in its camera.",
    )
    workers: int = Field(
        0,
        ge=0,
        description="Threads for decoding images; 0 means one per usable processor. Does not change any result.",
    )
    cache: CacheFolder = Field(
        None,
        description="Folder that keeps decoded training images, so that later trainings start faster and the images "
        "need not fit into memory; none keeps them in memory. Does not change any result.",
    )
    cache_gib: float = Field(
        64,
        gt=0,
        description="Largest total size of the cache folder, in GiB. The least recently used files are deleted first.",
    )


class ModelSettings(_Section):
    """The network and its start weights."""

    architecture: Literal["resnet50", "narrow", "efficientnet_lite0", "backbone"] = Field(
        "resnet50",
        description="The network: AGW's ResNet-50 (resnet50), a small network for 96 x 48 images (narrow), "
        "EfficientNet-Lite0 for photographs on a processor (efficientnet_lite0), or one of the transformers library "
        "(backbone).",
    )
    backbone: Backbone = Field(
        None,
        description="For architecture=backbone: a local folder with a config.json of transformers, or the content of "
        "such a file.",
    )
    weights: str = Field(
        "imagenet",
        description="Start weights: starter (shipped with the package, fits narrow only), imagenet:FILE (ResNet-50 in "
        "torchvision's names), lite0-imagenet (EfficientNet-Lite0's, from the extra photos), a model file, backbone "
        "(the weights in the backbone's folder), or none (random; the method does not train from random weights).",
    )


class ScheduleSettings(_Section):
    """Length and learning rate of the training."""

    stage1_epochs: Epochs = Field(50, description="Epochs of stage I. auto follows the number of images.")
    stage2_epochs: Epochs = Field(50, description="Epochs of stage II. auto follows the number of images.")
    iterations: Size = Field(
        200,
        description="Optimiser steps per epoch. auto passes twice over the images, in 10 to 200 steps. With "
        "method.joint_step=own, stage II makes twice as many.",
    )
    learning_rate: float = Field(3.5e-4, gt=0, description="Adam's learning rate at the start of each stage.")
    weight_decay: float = Field(5e-4, ge=0, description="Adam's weight decay.")
    decay_every: int = Field(
        20, ge=1, description="Epochs of a stage after which the learning rate is multiplied by decay_factor."
    )
    decay_factor: float = Field(
        0.1, gt=0, le=1, description="Factor for the learning rate after every decay_every epochs."
    )
    ema_decay: Decay = Field(
        0.999,
        description="Share of the old weights in the momentum network's average, per step. auto averages over about a "
        "tenth of stage II.",
    )
    restarts: int = Field(
        0,
        ge=0,
        description="How often training may restart the epoch when the loss is no longer finite. 0 "
        "stops with an error.",
    )
    restart_factor: float = Field(
        0.5, gt=0, lt=1, description="Factor for the learning rate at each restart, for the rest of the training."
    )

    def numbers(self) -> Lengths:
        """The lengths.

        Raises:
            ValueError: One is still ``auto``.
        """
        one, two, steps, decay = self.stage1_epochs, self.stage2_epochs, self.iterations, self.ema_decay
        if one == "auto" or two == "auto" or steps == "auto" or decay == "auto":
            raise ValueError("the schedule is still 'auto'; Settings.with_sizes_for chooses it")
        return Lengths(one, two, steps, decay)


class BatchSettings(_Section):
    """The composition of a batch of each modality."""

    clusters: Size = Field(
        8, description="Clusters per modality in a batch, P. auto gives no more than there may be people, at most 8."
    )
    instances: Size = Field(
        16, description="Images per cluster in a batch, K. auto gives no more than a person may have, at most 16."
    )
    sampler: Literal["camera", "blind"] = Field(
        "camera",
        description="How the images of a cluster are drawn: preferably from cameras other than the first image's "
        "(camera), or without regard to cameras (blind).",
    )

    def numbers(self) -> BatchSize:
        """Clusters and instances.

        Raises:
            ValueError: One is still ``auto``.
        """
        if self.clusters == "auto" or self.instances == "auto":
            raise ValueError("the batch is still 'auto'; Settings.with_sizes_for chooses it")
        return BatchSize(self.clusters, self.instances)


class ClusteringSettings(ClusteringSizes):
    """Sizes of the clustering: for one modality, and those that differ for both together."""

    joint_k1: Size = Field(JOINT_DEFAULTS["k1"], description="k1 where both modalities are clustered together.")
    joint_k2: Size = Field(JOINT_DEFAULTS["k2"], description="k2 where both modalities are clustered together.")
    eps_infrared: Eps | None = Field(None, description="eps for the infrared images; null takes eps.")
    eps_joint: Eps | None = Field(None, description="eps for both modalities together; null takes eps.")
    loosen: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="If all images of a modality are noise, raise its eps in steps of 0.05 up to this value. 0 "
        "never raises it.",
    )


class MemorySettings(_Section):
    """Settings of the prototype memories."""

    momentum: float = Field(0.1, ge=0, lt=1, description="Share of the old prototype when a batch updates it.")
    temperature: float = Field(
        0.05, gt=0, description="Temperature τ of the contrastive losses. Smaller values weigh near prototypes more."
    )


class EngineSettings(_Section):
    """Hardware, precision, logging and checkpoints."""

    accelerator: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        description="Device for training: auto (a GPU if there is one), cpu, cuda, cuda:N (GPU number N; several "
        "processes use one each in any case) or mps. --device sets it.",
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true",
        description="Number format of the network. Losses are always computed in 32 bits. auto uses bfloat16 if "
        "the hardware supports it, otherwise 32 bits; 16-mixed is for GPUs without bfloat16.",
    )
    compile: bool = Field(
        False, description="Compile the networks with torch.compile, which needs a C++ compiler on this machine."
    )
    log_every: int = Field(10, ge=1, description="Steps between two lines of losses in the log.")
    checkpoint_minutes: float = Field(
        10,
        ge=0,
        description="Minutes after which a checkpoint is also written within an epoch. There is always one after "
        "each epoch.",
    )
    keep_weights: bool = Field(False, description="Keep the momentum network's weights of every epoch.")
    tensorboard: bool = Field(
        False,
        description="Also write TensorBoard events into the run folder: the numbers of the log, clusters as pictures, "
        "and final embeddings (needs the extra tensorboard).",
    )
    mlflow: Tracking = Field(
        None,
        description="Also record the training in MLflow: in this folder, or on the server with this address; none does "
        "not (needs the extra mlflow).",
    )
    wandb: Tracking = Field(
        None,
        description="Also record the training in Weights & Biases, in the project of this name; none does not. The "
        "record stays in the run folder unless the environment variable WANDB_MODE is online (needs the extra wandb).",
    )


class Settings(_Section):
    """All inputs of a run except the images."""

    preset: str = Field(description="Name of the preset that the settings started from.")
    seed: int = Field(0, ge=0, description="Seed of every random draw. --seed sets it.")
    selection: Literal["last", "silhouette", "stability", "cycle"] = Field(
        "last",
        description="Epoch whose weights become the final model: the last, or the best epoch of the last stage by a "
        "criterion that uses no label (silhouette, stability or cycle).",
    )
    recipe: str = Field(
        DEFAULT_RECIPE,
        json_schema_extra={"enum": list(RECIPES)},
        description="Name of the method; `pclhd recipes` lists them. --recipe sets it.",
    )
    method: Recipe = Field(RECIPES[DEFAULT_RECIPE], description="The choices of the recipe; each of them can be set.")
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
        lengths = self.schedule.numbers()
        return lengths.stage1_epochs + lengths.stage2_epochs

    def images_of_an_epoch(self, visible: int, infrared: int) -> tuple[int, int]:
        """How many images of each modality an epoch clusters: all, or a share of the larger modality.

        Args:
            visible: Visible training images.
            infrared: Infrared training images.
        """
        share = self.method.larger_share
        return (
            math.ceil(share * visible) if visible > infrared else visible,
            math.ceil(share * infrared) if infrared > visible else infrared,
        )

    def with_sizes_for(self, visible: int, infrared: int) -> Settings:
        """The settings with ``auto`` in clustering, batch and schedule replaced by numbers.

        Args:
            visible: Visible training images.
            infrared: Infrared training images. The smaller modality decides over neighbourhoods and batch, the larger
                one over the schedule.
        """
        visible, infrared = self.images_of_an_epoch(visible, infrared)
        own = automatic_sizes(min(visible, infrared))
        joint = automatic_sizes(visible + infrared, joint=True)
        clustering = _replace_auto(self.clustering, own | {f"joint_{name}": size for name, size in joint.items()})
        batch = _replace_auto(self.batch, automatic_batch(min(visible, infrared))._asdict())
        lengths = automatic_lengths(max(visible, infrared), batch.numbers())
        # The average follows the length that the training has, given or not.
        given = _replace_auto(self.schedule, lengths._asdict() | {"ema_decay": 0.0}).numbers()
        decay = automatic_decay(given.iterations * given.stage2_epochs)
        schedule = _replace_auto(self.schedule, lengths._asdict() | {"ema_decay": decay})
        if (clustering, batch, schedule) == (self.clustering, self.batch, self.schedule):
            return self
        return self.model_copy(update={"clustering": clustering, "batch": batch, "schedule": schedule})

    def to_yaml(self) -> str:
        """The settings as YAML, as saved in a run folder."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _replace_auto(section: _AnySection, numbers: Mapping[str, float]) -> _AnySection:
    return section.model_copy(
        update={name: number for name, number in numbers.items() if getattr(section, name) == "auto"}
    )


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
        root: The data folder, if given separately from the overrides.

    Returns:
        The validated settings.

    Raises:
        UserError: An unknown preset or key (the message suggests a similar name), or an invalid value.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        tree = _read_yaml(path)
        tree.setdefault("preset", path.stem)
    else:
        if name not in preset_names():
            raise UserError(f"unknown preset '{name}'{_nearest(name, preset_names())}")
        text = resources.files("pclhd.presets").joinpath(f"{name}.yaml").read_text("utf-8")
        tree = {"preset": name, **(parse_yaml(text) or {})}
    for item in overrides:
        _override(tree, item)
    if root is not None:
        _section(tree, "data", "data.root")["root"] = str(root)
    return _check(tree, source=f"preset {name}")


def load_settings(path: Path) -> Settings:
    """The settings saved in a run folder.

    Raises:
        UserError: The file is missing, not YAML, or invalid.
    """
    return _check(_read_yaml(path), source=str(path))


def _read_yaml(path: Path) -> dict[str, Any]:
    text = read_text(path, "expected a YAML file with settings")
    return yaml_mapping(text, path, "settings as 'key: value' lines")


def _override(tree: dict[str, Any], item: str) -> None:
    key, value = parse_override(item)
    *sections, name = key.split(".")
    node = tree
    for section in sections:
        node = _section(node, section, key)
    node[name] = value


def parse_override(item: str) -> tuple[str, Any]:
    """The dotted key and the value of ``key=value``; the value is read as YAML.

    Raises:
        UserError: It has no key, or the value is not YAML.
    """
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise UserError(f"'{item}' is not a setting; expected key=value, for example schedule.iterations=20")
    try:
        return key, parse_yaml(text)
    except Unparsable as error:
        shown = item if len(item) <= _LONGEST_SHOWN else f"{item[:_LONGEST_SHOWN]}…"
        raise UserError(f"'{shown}': the value is not valid YAML ({error}); quote it if it holds : or #") from error


def _section(node: dict[str, Any], name: str, key: str) -> dict[str, Any]:
    if node.get(name) is None:
        node[name] = {}
    section = node[name]
    if not isinstance(section, dict):
        raise UserError(f"'{key}': '{name}' is a single value and has no settings inside it")
    return section


def _check(tree: dict[str, Any], *, source: str) -> Settings:
    _refuse_unknown(tree, Settings, prefix="")
    recipe = str(tree.get("recipe", DEFAULT_RECIPE))
    if recipe not in RECIPES:
        raise UserError(f"recipe '{recipe}' is unknown{_nearest(recipe, list(RECIPES))}")
    method = {**RECIPES[recipe].model_dump(), **(tree.get("method") or {})}
    try:
        settings = Settings.model_validate({**tree, "recipe": recipe, "method": method})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        value = repr(first["input"])
        shown = value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}…"
        raise UserError(f"{source}: setting '{key}' = {shown}: {why}") from error
    settings = settings.model_copy(update={"model": _with_weights_of_backbone(settings.model)})
    _refuse_loosening_without_radius(settings)
    _refuse_stage_without_loss(settings.method)
    _refuse_unused_sub_prototypes(settings.method)
    _refuse_choosing_by_identities(settings)
    _refuse_what_reaches_nothing(settings.method)
    _refuse_no_epoch(settings)
    _refuse_preset_that_is_no_name(settings.preset, source)
    return settings


def _refuse_what_reaches_nothing(method: Recipe) -> None:
    if method.joint_batches == "all" and method.joint_prototypes == "shared":
        raise UserError(
            "method.joint_batches=all draws from joint clusters of one modality too, which have no prototype with "
            "method.joint_prototypes=shared; add method.joint_prototypes=all"
        )
    if method.larger_share < 1 and method.labels != "clusters":
        raise UserError(
            f"method.larger_share={method.larger_share:g} leaves images out of the clustering, but method.labels="
            f"{method.labels} uses the identities of all of them; leave it at 1"
        )
    if method.whitening > 0 and method.centre_features == "none":
        raise UserError(
            f"method.whitening={method.whitening:g} whitens features whose mean is subtracted, but "
            "method.centre_features=none subtracts none; set that to modality or camera, or whitening to 0"
        )


def _refuse_choosing_by_identities(settings: Settings) -> None:
    if settings.method.labels == "identities" and settings.selection != "last":
        raise UserError(
            f"selection={settings.selection} measures clusters, but method.labels=identities has none; leave it at last"
        )


def _refuse_preset_that_is_no_name(preset: str, source: str) -> None:
    if not re.fullmatch(r"[^\W_][\w .+-]{0,99}", preset):
        raise UserError(
            f"{source}: setting 'preset' = {preset[:_LONGEST_SHOWN]!r}: expected a short name of letters, digits and "
            "-, without a slash; it is part of the name of the run folder"
        )


def _refuse_no_epoch(settings: Settings) -> None:
    if (settings.schedule.stage1_epochs, settings.schedule.stage2_epochs) == (0, 0):
        raise UserError(
            "schedule.stage1_epochs=0 and schedule.stage2_epochs=0 leave no epoch, and the start weights as they are; "
            "give one of the stages an epoch"
        )


def _with_weights_of_backbone(model: ModelSettings) -> ModelSettings:
    """The settings with ``weights=backbone`` replaced by the file's path, so that a run records its start weights."""
    if model.backbone is not None and model.architecture != "backbone":
        raise UserError(
            f"model.backbone needs model.architecture=backbone, not {model.architecture}; set that, or "
            "model.backbone=null"
        )
    if model.backbone is None and model.architecture == "backbone":
        raise UserError("model.architecture=backbone needs model.backbone=DIR, a local folder with config.json")
    if model.weights != "backbone":
        return model
    if not isinstance(model.backbone, Path):
        raise UserError(
            "model.weights=backbone means the weights in the folder model.backbone, but that is not a folder; use "
            "none, or a model file"
        )
    return model.model_copy(update={"weights": str(model.backbone / "model.safetensors")})


def _refuse_loosening_without_radius(settings: Settings) -> None:
    if settings.clustering.loosen and settings.method.clustering in {"hdbscan", "community"}:
        raise UserError(
            f"clustering.loosen={settings.clustering.loosen:g} raises eps, but method.clustering="
            f"{settings.method.clustering} does not use it; leave it at 0"
        )


def _refuse_stage_without_loss(method: Recipe) -> None:
    only_dynamic = method.stage2 == "dynamic" or (method.stage2 == "hard+dynamic" and method.hard_share == 0)
    if only_dynamic and not method.dynamic_gradient and method.centroid_share == 0:
        raise UserError(
            f"method.dynamic_gradient=false with method.stage2={method.stage2}, method.hard_share="
            f"{method.hard_share:g} and method.centroid_share=0 leaves stage II without a loss within the modalities; "
            "change one of them"
        )


def _refuse_unused_sub_prototypes(method: Recipe) -> None:
    needed = {"memory_update": "after_step", "stage1": "centroid"}
    if method.stage2 == "hybrid":
        needed["stage2"] = "centroid"
    wrong = [name for name, value in needed.items() if getattr(method, name) != value]
    if method.sub_prototypes > 1 and wrong:
        conflicts = ", ".join(f"method.{name}={getattr(method, name)}" for name in wrong)
        corrections = " ".join(f"method.{name}={needed[name]}" for name in wrong)
        raise UserError(
            f"method.sub_prototypes={method.sub_prototypes} cannot be combined with {conflicts}, which use one "
            f"prototype per cluster; add {corrections}, or set method.sub_prototypes=1"
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
            continue
        kinds = _kinds(section)
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise UserError(f"setting '{prefix}{key}' = {value}: expected a number")
        if type(value) is int and abs(value) > (_LARGEST if prefix else 2**63 - 1):
            raise UserError(f"setting '{prefix}{key}' is too large a number; expected one of usual size")


def _kinds(annotation: object) -> set[object]:
    """The types that an annotation names, at any depth."""
    inner = get_args(annotation)
    return {annotation} if not inner or get_origin(annotation) is Literal else set().union(*map(_kinds, inner))


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
    # A setting is often given without its section, or with a wrong one: the same name in another section is preferred.
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
