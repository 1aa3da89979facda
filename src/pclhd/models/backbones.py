"""Other encoders: transformer and convolutional networks of `transformers`, with a stem per modality (ours).

What turns pixels into the first features is doubled: the embedding of patches, or the first convolutions. The two
copies start alike. Everything after it is shared, and the neck is the one of `TwoStreamNetwork`. Nothing is ever
downloaded: a backbone is a local folder, or a configuration and a random start. The library is imported only when such
a network is asked for.
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
from pclhd.models.architecture import ARCHITECTURES, AnyArchitecture, Architecture, BackboneArchitecture
from pclhd.models.fill import Source, fill_network
from pclhd.models.imagenet import read_state
from pclhd.models.two_stream import NetworkOutput, TwoStreamNetwork, power_mean_pool
from pclhd.parsing import Unparsable, parse_json, read_text

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Family:
    """What has to be known of a kind of backbone.

    Attributes:
        stem: Where the module is that turns pixels into the first features.
        idle: Ends of the names of parameters that its feature maps do not depend on; they are frozen.
        square_positions: It has a table of positions that is only resized if it is square.
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
    # Has no class for `AutoBackbone`: its model is taken instead, and a table for just this size may be oblong.
    "vit": Family(),
}
"""The backbones that can be used, by transformers' ``model_type``."""

# Left to the library's defaults, or of no meaning here. Whatever names code or places goes too.
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
    """What names a network: the settings' section ``model``, or anything like it."""

    @property
    def architecture(self) -> str:
        """A key of `ARCHITECTURES`, or ``backbone``."""

    @property
    def backbone(self) -> Path | Mapping[str, Any] | None:
        """The backbone's folder or configuration."""


def build_network(settings: NetworkSettings, *, generator: torch.Generator | None = None) -> TwoStreamNetwork:
    """A network with a random start, as the settings name it.

    Args:
        settings: Which one.
        generator: As for `TwoStreamNetwork`.

    Raises:
        UserError: The backbone's folder or configuration cannot be used, or `transformers` is not installed.
    """
    if settings.architecture != "backbone":
        return TwoStreamNetwork(ARCHITECTURES[settings.architecture], generator=generator)
    if settings.backbone is None:
        raise UserError(
            "model.architecture=backbone says not which; add model.backbone=DIR, a local folder with config.json"
        )
    return BackboneNetwork(read_backbone(settings.backbone), generator=generator)


def new_network(
    architecture: AnyArchitecture, *, generator: torch.Generator | None = None, origin: str = "the architecture"
) -> TwoStreamNetwork:
    """A network of an architecture, with a random start.

    Args:
        architecture: Which network to build.
        generator: As for `TwoStreamNetwork`.
        origin: How messages call the place where the architecture was found.

    Raises:
        UserError: It is a backbone, and `transformers` is not installed or does not know it.
    """
    if isinstance(architecture, Architecture):
        return TwoStreamNetwork(architecture, generator=generator)
    settled = settle(architecture.config, origin)
    if settled.pooling != architecture.pooling:
        raise UserError(
            f"{origin}: has pooling = {architecture.pooling} after {architecture.family}; expected {settled.pooling}"
        )
    return BackboneNetwork(settled, generator=generator)


def read_backbone(source: Path | Mapping[str, Any]) -> BackboneArchitecture:
    """The architecture of a backbone, from its folder or from its configuration.

    Args:
        source: A local folder with ``config.json``, or what would stand in it.

    Raises:
        UserError: There is no such folder, the configuration is damaged or describes no network that can be used, or
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
        raise UserError(f"{path}: holds a {type(values).__name__}; expected an object with transformers' settings")
    return settle(values, str(path))


def settle(values: Mapping[str, Any], origin: str) -> BackboneArchitecture:
    """Complete a configuration with the library's defaults, and take out what does not belong here.

    Dropout, stochastic depth and shifted positions are switched off: their draws come from torch's global generator,
    so a resumed run would not be what the uninterrupted one had been. Labels of a classifier, choices of layers, and
    everything that names code or files is left out.

    Args:
        values: transformers' settings.
        origin: How messages call their source.

    Raises:
        UserError: The kind of network is not known here, a value is of the wrong kind, or `transformers` is missing.
    """
    family = values.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise UserError(
            f"{origin}: model_type = {family!r} is no backbone that can be used; expected one of {', '.join(FAMILIES)}"
        )
    library = _transformers()
    given = {str(name): value for name, value in values.items() if _is_kept(str(name)) and name != "model_type"}
    try:
        full = library.AutoConfig.for_model(family, **given).to_dict()
        settled = json.loads(json.dumps({name: _quiet(name, full[name]) for name in sorted(full) if _is_kept(name)}))
    except Exception as error:  # the library fails in its own many ways
        raise UserError(f"{origin}: is no configuration of {family} ({_first_line(error)})") from error
    if settled.get("num_channels", 3) != 3:
        raise UserError(f"{origin}: num_channels = {settled['num_channels']}; expected 3, red, green and blue")
    size = settled.get("image_size")
    if FAMILIES[family].square_positions and not (isinstance(size, int) or len(set(size)) == 1):
        raise UserError(
            f"{origin}: image_size = {size}, but {family} resizes a square table of positions only; expected one number"
        )
    # A ReLU is the last thing in this one; all others end with a norm, after which half of the numbers are negative.
    positive = family == "resnet" and settled["hidden_act"] == "relu"
    return BackboneArchitecture(config=settled, pooling="power" if positive else "mean")


class BackboneNetwork(TwoStreamNetwork):
    """A backbone of `transformers` as a two-stream network: both modalities in, one shared embedding out (ours).

    The last feature map is pooled over its positions: by the generalised mean where a ReLU ends the backbone, else by
    the mean, since negative numbers have no power mean. Class and register tokens are left out.

    A stem is all that comes before the first block: patches, class token, table of positions, norm. Both modalities of
    a batch go through the rest together.

    Args:
        architecture: Which network to build, as `settle` makes it.
        generator: Source of the random start weights, on the CPU. Without one, the same weights every time.

    Raises:
        UserError: The library cannot build it.
    """

    gem_power = 3.0

    def __init__(self, architecture: BackboneArchitecture, *, generator: torch.Generator | None = None) -> None:
        # Not the parent's: nothing of its ResNet is wanted.
        nn.Module.__init__(self)
        generator = generator if generator is not None else torch.Generator().manual_seed(0)
        self.architecture = architecture
        family = FAMILIES[architecture.family]
        with _drawing_from(generator):
            backbone = _build(architecture)
        for name, parameter in backbone.named_parameters():
            # Empty: the register tokens of a network that has none.
            if name.endswith(family.idle) or not parameter.numel():
                parameter.requires_grad_(False)
        stem = backbone.get_submodule(family.stem)
        backbone.set_submodule(family.stem, _Handover(stem))
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
            UserError: A plain ViT with an oblong table of positions is given images of another size.
        """
        given = [images for images in (visible, infrared) if images is not None]
        if not given:
            raise ValueError("the network needs visible images, infrared images or both, not None and None")
        options = self._stem_options(given[0])
        firsts = []
        if visible is not None:
            firsts.append(self.visible_stem(visible, **options))
        if infrared is not None:
            firsts.append(self.infrared_stem(infrared, **options))
        handover = cast(_Handover, self.backbone.get_submodule(FAMILIES[self._family].stem))
        handover.ready = _joined(firsts)
        # The rest asks the images for their shape and kind only, so these need no memory of their own.
        shape = given[0][:1].expand(sum(len(images) for images in given), -1, -1, -1)
        features = self._last_features(shape)
        if cast(BackboneArchitecture, self.architecture).pooling == "power":
            pooled = power_mean_pool(features, self.gem_power)
        else:
            pooled = features.float().mean(dim=(2, 3))
        return NetworkOutput(embedding=self.neck(pooled), pooled=pooled)

    @property
    def _family(self) -> str:
        return cast(BackboneArchitecture, self.architecture).family

    def _stem_options(self, images: Tensor) -> dict[str, bool]:
        """A plain ViT has to be told when its table of positions is for another size."""
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
    """Fill both stems and the rest with transformers' weights; the neck keeps its own.

    Weights with a classifier do, too; it is left out. Old names of entries are the library's to understand. Nothing is
    unpickled and nothing downloaded.

    Args:
        network: The network to fill. Either all but the neck is filled, or nothing.
        path: A ``.safetensors`` file.

    Raises:
        UserError: There is no such file, it is of another kind, or it does not fit the network's configuration.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        raise UserError(_why_not(path))
    state = read_state(path)
    architecture = cast(BackboneArchitecture, network.architecture)
    with _drawing_from(torch.Generator().manual_seed(0)):
        plain = _build(architecture)
        try:
            # Without a place to look in, it can neither read other files nor ask a hub.
            loaded, found = type(plain).from_pretrained(
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
    # These norms are the backbone's own, which other models of the family have no use for. They start as if absent.
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("hidden_states_norms."))
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


class _Handover(nn.Module):
    """Stands in the stem's place and hands on, once, what the two stems made.

    The rest of the backbone may look at the stem's attributes, such as the size of its patches.
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
    """The stems' outputs as one batch. Some come with facts, such as the map's size, which are the same for both."""
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
    """The library draws start weights from torch's global generator: seed it for a while, then put it back."""
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
    """A setting's value, with nothing drawn at random."""
    if name in ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"):
        return None
    if "drop" in name and isinstance(value, int | float) and not isinstance(value, bool):
        return 0.0
    return value


def _why_not(path: Path) -> str:
    """Why these are no weights for a backbone."""
    wanted = "expected transformers' model.safetensors or a model file of pclhd"
    if path.suffix == ".safetensors":
        folder = path.parent
        if (folder / f"{WEIGHTS_FILE}.index.json").is_file():
            return f"{path}: no such file, the weights are split into several; {wanted}, in one piece"
        if any(folder.glob("*.bin")):
            return (
                f"{path}: no such file, and {next(folder.glob('*.bin')).name} is a pickle, which is never opened; "
                f"{wanted}; many hubs have both kinds"
            )
        return f"{path}: no such file; {wanted}, or model.weights=none"
    if path.is_file():
        return f"{path}: only .safetensors is read for a backbone, never a pickle; {wanted}"
    return f"model.weights={path}: no such file; {wanted}, or model.weights=none"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
