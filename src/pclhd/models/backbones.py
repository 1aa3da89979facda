"""Other backbones: transformer and convolutional networks of `transformers`, with a stem per modality (ours).

Each modality has a copy of the stem: the patch embedding, or the first convolutions. The two copies start with equal
weights. Everything after the stem is shared, and the neck is that of `TwoStreamNetwork`. Nothing is ever downloaded: a
backbone is a local folder, or a configuration with random weights. The library is imported only when such a network is
used.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from pclhd.errors import UserError
from pclhd.files import expanded
from pclhd.models.architecture import (
    ARCHITECTURES,
    LITE0,
    AnyArchitecture,
    Architecture,
    BackboneArchitecture,
    LiteArchitecture,
)
from pclhd.models.efficientnet_lite import LiteNetwork
from pclhd.models.fill import Source, fill_network
from pclhd.models.imagenet import read_state
from pclhd.models.two_stream import NetworkOutput, TwoStreamNetwork, power_mean_pool
from pclhd.parsing import Unparsable, parse_json, read_text

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Family:
    """Properties of a kind of backbone.

    Attributes:
        stem: Name of the module that turns pixels into the first features.
        idle: Name endings of parameters that its feature maps do not depend on; they are frozen.
        square_positions: Whether it has a table of positions that can be resized only if it is square.
    """

    stem: str = "embeddings"
    idle: tuple[str, ...] = ()
    square_positions: bool = False


FAMILIES: dict[str, Family] = {
    "convnext": Family(),
    "convnextv2": Family(),
    "dinov2": Family(idle=(".mask_token",), square_positions=True),
    "dinov2_with_registers": Family(idle=(".mask_token",), square_positions=True),
    "dinov3_vit": Family(idle=(".mask_token",)),
    "resnet": Family(stem="embedder"),
    "swin": Family(stem="swin.embeddings", idle=("swin.layernorm.weight", "swin.layernorm.bias")),
    "swinv2": Family(),
    # Not supported by `AutoBackbone`, so its model is used instead; a table for a fixed size may be rectangular.
    "vit": Family(),
}
"""The backbones that can be used, by transformers' ``model_type``."""

# Set by the library's defaults, or without effect here. Entries that name code or files are dropped too.
_DROPPED = frozenset(
    {
        "architectures",
        "attn_implementation",
        "auto_map",
        "dtype",
        "id2label",
        "label2id",
        "out_features",
        "out_indices",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "quantization_config",
        "reshape_hidden_states",
        "return_dict",
        "stage_names",
        "torch_dtype",
        "transformers_version",
    }
)


class NetworkSettings(Protocol):
    """The settings that define a network: the section ``model``, or an object with the same attributes."""

    @property
    def architecture(self) -> str:
        """A key of `ARCHITECTURES`, or ``backbone``."""

    @property
    def backbone(self) -> Path | Mapping[str, Any] | None:
        """The backbone's folder or configuration."""


def build_network(settings: NetworkSettings, *, generator: torch.Generator | None = None) -> TwoStreamNetwork:
    """The network that the settings define, with random weights.

    Args:
        settings: Define the network.
        generator: As for `TwoStreamNetwork`.

    Raises:
        UserError: The backbone's folder or configuration cannot be used, or `transformers` is not installed.
    """
    if settings.architecture != "backbone":
        if settings.architecture == "efficientnet_lite0":
            return LiteNetwork(LITE0, generator=generator)
        return TwoStreamNetwork(ARCHITECTURES[settings.architecture], generator=generator)
    if settings.backbone is None:
        raise UserError(
            "model.architecture=backbone needs a backbone; add model.backbone=DIR, a local folder with config.json"
        )
    return BackboneNetwork(read_backbone(settings.backbone), generator=generator)


def new_network(
    architecture: AnyArchitecture, *, generator: torch.Generator | None = None, origin: str = "the architecture"
) -> TwoStreamNetwork:
    """A network with the given architecture and random weights.

    Args:
        architecture: Which network to build.
        generator: As for `TwoStreamNetwork`.
        origin: Name of the architecture's source in messages.

    Raises:
        UserError: It is a backbone, and `transformers` is not installed or does not support it.
    """
    if isinstance(architecture, Architecture):
        return TwoStreamNetwork(architecture, generator=generator)
    if isinstance(architecture, LiteArchitecture):
        return LiteNetwork(architecture, generator=generator)
    settled = settle(architecture.config, origin)
    if settled.pooling != architecture.pooling:
        raise UserError(
            f"{origin}: has pooling = {architecture.pooling} after {architecture.family}; expected {settled.pooling}"
        )
    return BackboneNetwork(settled, generator=generator)


def read_backbone(source: Path | Mapping[str, Any]) -> BackboneArchitecture:
    """The architecture of a backbone, from its folder or from its configuration.

    Args:
        source: A local folder with ``config.json``, or the content of that file.

    Raises:
        UserError: There is no such folder, the configuration is damaged or its network cannot be used, or
            `transformers` is not installed.
    """
    if isinstance(source, Mapping):
        return settle(source, "model.backbone")
    folder = expanded(source)
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise UserError(
            f"model.backbone={source}: no such folder; expected a local one with {CONFIG_FILE}, as nothing is "
            f"downloaded; fetch a hub's model beforehand: hf download {source} --local-dir DIR"
        )
    text = read_text(path, "expected transformers' configuration of a backbone")
    try:
        values = parse_json(text)
    except Unparsable as error:
        raise UserError(f"{path}: is not valid JSON ({error}); fetch it again") from error
    if not isinstance(values, Mapping):
        raise UserError(f"{path}: contains a {type(values).__name__}; expected an object with transformers' settings")
    return settle(values, str(path))


def settle(values: Mapping[str, Any], origin: str) -> BackboneArchitecture:
    """Complete a configuration with the library's defaults, and remove unused entries.

    Dropout, stochastic depth and shifted positions are switched off: they draw from torch's global generator, so a
    resumed run would differ from an uninterrupted one. Class labels, output layers, and entries that name code or files
    are removed.

    Args:
        values: transformers' settings.
        origin: Name of their source in messages.

    Raises:
        UserError: The kind of network is not supported, a value has the wrong type, or `transformers` is missing.
    """
    family = values.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UserError(
            f"{origin}: model_type = {family!r} is not a supported backbone; expected one of {', '.join(FAMILIES)}"
        )
    library = _transformers()
    given = {str(name): value for name, value in values.items() if _is_kept(str(name)) and name != "model_type"}
    try:
        full = library.AutoConfig.for_model(family, **given).to_dict()
        settled = json.loads(json.dumps({name: _quiet(name, full[name]) for name in sorted(full) if _is_kept(name)}))
    except Exception as error:  # transformers raises many different exception types here
        raise UserError(f"{origin}: is not a configuration of {family} ({_first_line(error)})") from error
    if settled.get("num_channels", 3) != 3:
        raise UserError(f"{origin}: num_channels = {settled['num_channels']}; expected 3, red, green and blue")
    size = settled.get("image_size")
    if FAMILIES[family].square_positions and not (isinstance(size, int) or len(set(size)) == 1):
        raise UserError(
            f"{origin}: image_size = {size}, but {family} resizes only a square table of positions; expected one number"
        )
    # This one ends with a ReLU; all others end with a norm, which gives negative values.
    positive = family == "resnet" and settled["hidden_act"] == "relu"
    return BackboneArchitecture(config=settled, pooling="power" if positive else "mean")


class BackboneNetwork(TwoStreamNetwork):
    """A backbone of `transformers` as a two-stream network: both modalities in, one shared embedding out (ours).

    The last feature map is pooled over its positions: by the generalised mean if the backbone ends with a ReLU,
    otherwise by the mean, as the generalised mean needs non-negative values. Class and register tokens are left out.

    The stem is everything before the first block: patch embedding, class token, table of positions, norm. Both
    modalities of a batch pass through the rest together.

    Args:
        architecture: Which network to build, as returned by `settle`.
        generator: Generator of the random initial weights, on the CPU. None gives the same weights every time.

    Raises:
        UserError: The library cannot build the network.
    """

    gem_power = 3.0

    def __init__(self, architecture: BackboneArchitecture, *, generator: torch.Generator | None = None) -> None:
        # Not the parent's constructor, which would build a ResNet.
        nn.Module.__init__(self)
        generator = generator if generator is not None else torch.Generator().manual_seed(0)
        self.architecture = architecture
        family = FAMILIES[architecture.family]
        with _drawing_from(generator):
            backbone = _build(architecture)
        for name, parameter in backbone.named_parameters():
            # Empty parameters: register tokens of a network without any.
            if name.endswith(family.idle) or not parameter.numel():
                parameter.requires_grad_(False)
        stem = backbone.get_submodule(family.stem)
        backbone.set_submodule(family.stem, _JoinedStem(stem))
        self.visible_stem = cast(Any, stem)
        self.infrared_stem = cast(Any, copy.deepcopy(stem))
        self.backbone = backbone
        is_plain = architecture.family == "vit"
        self.embedding_size = int(backbone.config.hidden_size if is_plain else cast(Any, backbone).channels[-1])
        self.neck = nn.BatchNorm1d(self.embedding_size)
        self.neck.bias.requires_grad_(False)
        nn.init.normal_(self.neck.weight, 1.0, 0.01, generator=generator)

    def forward(self, visible: Tensor | None, infrared: Tensor | None) -> NetworkOutput:
        """As `TwoStreamNetwork.forward`.

        Raises:
            ValueError: Neither modality was given.
            UserError: A plain ViT with a rectangular table of positions gets images of another size.
        """
        features = self.last_map(visible, infrared)
        if cast(BackboneArchitecture, self.architecture).pooling == "power":
            pooled = power_mean_pool(features, self.gem_power)
        else:
            pooled = features.float().mean(dim=(2, 3))
        return NetworkOutput(embedding=self.neck(pooled), pooled=pooled)

    def last_map(self, visible: Tensor | None, infrared: Tensor | None) -> Tensor:
        """As `TwoStreamNetwork.last_map`; of a plain ViT (Bv + Br, C, positions, 1)."""
        given = [images for images in (visible, infrared) if images is not None]
        if not given:
            raise ValueError("the network needs visible images, infrared images or both, not None and None")
        options = self._stem_options(given[0])
        firsts = []
        if visible is not None:
            firsts.append(self.visible_stem(visible, **options))
        if infrared is not None:
            firsts.append(self.infrared_stem(infrared, **options))
        joined_stem = cast(_JoinedStem, self.backbone.get_submodule(FAMILIES[self._family].stem))
        joined_stem.ready = _joined(firsts)
        # The rest of the backbone uses only the shape and type of the images, so these need no memory.
        shape = given[0][:1].expand(sum(len(images) for images in given), -1, -1, -1)
        return self._last_features(shape)

    @property
    def _family(self) -> str:
        return cast(BackboneArchitecture, self.architecture).family

    def _stem_options(self, images: Tensor) -> dict[str, bool]:
        """The option with which a plain ViT resizes its table of positions to another image size."""
        if self._family != "vit":
            return {}
        height, width = images.shape[2:]
        expected = tuple(cast(Any, self.visible_stem).image_size)
        if (height, width) == expected:
            return {"interpolate_pos_encoding": False}
        if expected[0] != expected[1]:
            raise UserError(
                f"model.backbone: a vit for images of {expected[0]}×{expected[1]} cannot take {height}×{width}; set "
                f"model.backbone.image_size=[{height},{width}], or one number, which can be resized"
            )
        return {"interpolate_pos_encoding": True}

    def _last_features(self, images: Tensor) -> Tensor:
        """(B, C, h, w), or (B, C, positions, 1)."""
        output = self.backbone(images)
        if self._family == "vit":
            return cast(Tensor, output.last_hidden_state)[:, 1:].transpose(1, 2).unsqueeze(3)
        return cast(Tensor, output.feature_maps[-1])


def load_backbone(network: BackboneNetwork, path: Path) -> None:
    """Load transformers' weights into both stems and the rest; the neck does not change.

    A classifier in the weights is ignored. The library converts old names of entries. Nothing is unpickled and nothing
    is downloaded.

    Args:
        network: The network. Either everything except the neck is loaded, or nothing.
        path: A ``.safetensors`` file.

    Raises:
        UserError: There is no such file, it has another format, or it does not fit the network's configuration.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        raise UserError(_why_not(path))
    state = read_state(path)
    architecture = cast(BackboneArchitecture, network.architecture)
    with _drawing_from(torch.Generator().manual_seed(0)):
        plain = _build(architecture)
        try:
            # Without a path, it can neither read other files nor contact a hub.
            loaded, report = type(plain).from_pretrained(
                None,
                config=plain.config,
                state_dict=state,
                dtype=torch.float32,
                output_loading_info=True,
                **_options(architecture),
            )
        except Exception as error:  # as above
            raise UserError(
                f"{path}: does not fit the backbone {architecture.family} ({_first_line(error)}); expected the weights "
                f"that belong to its {CONFIG_FILE}"
            ) from error
    # Only the backbone classes have these norms, not other models of the family. Their initial weights change nothing.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("hidden_states_norms."))
    if missing:
        raise UserError(
            f"{path}: the entry {missing[0]!r} is missing; expected weights of {architecture.family}, those that "
            f"belong to its {CONFIG_FILE}"
        )
    stem = FAMILIES[architecture.family].stem
    sources = {}
    for name in network.state_dict():
        part, _, rest = name.partition(".")
        if part in ("visible_stem", "infrared_stem"):
            sources[name] = Source(f"{stem}.{rest}")
        elif part == "backbone":
            sources[name] = Source(rest)
    fill_network(network, sources, loaded.state_dict(), origin=str(path))


class _JoinedStem(nn.Module):
    """Replaces the stem and returns, once, the outputs of the two stems.

    The rest of the backbone may read the stem's attributes, such as the patch size.
    """

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.ready: Any = None
        # In a tuple, so that it is not registered here a second time.
        self._stem = (stem,)

    def forward(self, *_: object, **__: object) -> Any:
        """The joint features of both stems."""
        ready, self.ready = self.ready, None
        if ready is None:
            raise ValueError("the backbone asked for its stem more than once")
        return ready

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "_stem" not in self.__dict__:
                raise
            return getattr(self._stem[0], name)


def _joined(firsts: list[Any]) -> Any:
    """The stems' outputs as one batch. Values such as the map's size are the same for both."""
    if isinstance(firsts[0], Tensor):
        return torch.cat(firsts) if len(firsts) > 1 else firsts[0]
    if isinstance(firsts[0], tuple):
        return tuple(_joined(list(parts)) for parts in zip(*firsts, strict=True))
    return firsts[0]


def _build(architecture: BackboneArchitecture) -> Any:
    library = _transformers()
    try:
        config = library.AutoConfig.for_model(**architecture.config)
        if architecture.family == "vit":
            return library.AutoModel.from_config(config, **_options(architecture))
        return library.AutoBackbone.from_config(config)
    except Exception as error:  # as above
        raise UserError(
            f"model.backbone: transformers cannot build this {architecture.family} ({_first_line(error)}); check its "
            "configuration"
        ) from error


def _options(architecture: BackboneArchitecture) -> dict[str, bool]:
    return {"add_pooling_layer": False} if architecture.family == "vit" else {}


@contextmanager
def _drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global generator, from which the library draws, within the block; then restore its state."""
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _transformers() -> Any:
    try:
        library = importlib.import_module("transformers")
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
        library.AutoBackbone  # noqa: B018  (it is imported on access)
    except (ImportError, AttributeError) as error:
        raise UserError(
            "model.architecture=backbone needs transformers, which is not installed or too old: "
            "pip install 'transformers>=5.23'"
        ) from error
    return library


def _is_kept(name: str) -> bool:
    return name not in _DROPPED and not name.startswith("_")


def _quiet(name: str, value: Any) -> Any:
    """A setting's value, with random draws switched off."""
    if name in ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"):
        return None
    if "drop" in name and isinstance(value, int | float) and not isinstance(value, bool):
        return 0.0
    return value


def _why_not(path: Path) -> str:
    """The error message for a file that cannot contain a backbone's weights."""
    wanted = "expected transformers' model.safetensors or a model file of pclhd"
    if path.suffix == ".safetensors":
        folder = path.parent
        if (folder / f"{WEIGHTS_FILE}.index.json").is_file():
            return f"{path}: no such file, the weights are split into several; {wanted}, in one piece"
        if any(folder.glob("*.bin")):
            return (
                f"{path}: no such file, and {next(folder.glob('*.bin')).name} is a pickle, which is not read; "
                f"{wanted}; many hubs have both kinds"
            )
        return f"{path}: no such file; {wanted}, or model.weights=none"
    if path.is_file():
        return f"{path}: only .safetensors is read for a backbone, not a pickle; {wanted}"
    return f"model.weights={path}: no such file; {wanted}, or model.weights=none"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
