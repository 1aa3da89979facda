"""Backbones of transformers, tiny ones from configurations, without a network."""

from __future__ import annotations

import copy
import importlib
import json
import math
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pclhd.config import load_preset
from pclhd.data.records import Modality
from pclhd.engine.position import Position
from pclhd.errors import UserError
from pclhd.models.architecture import NARROW, BackboneArchitecture, first_difference, read_architecture
from pclhd.models.backbones import (
    FAMILIES,
    BackboneNetwork,
    build_network,
    load_backbone,
    new_network,
    read_backbone,
    settle,
)
from pclhd.models.embed import embed_images
from pclhd.models.momentum import MomentumNetwork
from pclhd.models.two_stream import TwoStreamNetwork, power_mean_pool, to_channels_last
from pclhd.models.weights import initialise, load_model, save_model
from pclhd.workflows.exchange import export_released, import_checkpoint
from tests.commands import Call, complaint
from tests.engine.runs import SmallData, Watcher, digest, records
from tests.models.small import pictures

# Untyped on purpose: with its own types, mypy would check all of it with ours.
transformers: Any = importlib.import_module("transformers")

VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
PYRAMID = {"hidden_sizes": [8, 12], "depths": [1, 1]}
WINDOWS = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 3}

# Each with some of the settings that have to be switched off or left out.
CONFIGS: dict[str, dict[str, Any]] = {
    "convnext": {**PYRAMID, "num_stages": 2, "layer_scale_init_value": 1.0, "drop_path_rate": 0.3},
    "convnextv2": {**PYRAMID, "num_stages": 2},
    "dinov2": {**VIT, "image_size": 48, "hidden_dropout_prob": 0.3, "apply_layernorm": True},
    "dinov2_with_registers": {**VIT, "image_size": 48, "num_register_tokens": 2, "drop_path_rate": 0.3},
    "dinov3_vit": {**VIT, "intermediate_size": 32, "num_register_tokens": 2, "pos_embed_shift": 0.5},
    "resnet": {**PYRAMID, "embedding_size": 8, "layer_type": "basic", "out_features": ["stage1"]},
    "swin": {**WINDOWS, "attention_probs_dropout_prob": 0.3},
    "swinv2": {**WINDOWS, "image_size": 48},
    "vit": {**VIT, "intermediate_size": 32, "image_size": [48, 24], "hidden_dropout_prob": 0.3},
}
SIZES = dict.fromkeys(CONFIGS, 16) | {"convnext": 12, "convnextv2": 12, "resnet": 12}


@dataclass
class Choice:
    """Like the settings' section ``model``."""

    architecture: str
    backbone: Path | dict[str, Any] | None = None


def config(family: str) -> dict[str, Any]:
    return {"model_type": family, **CONFIGS[family]}


def network(family: str, seed: int = 0) -> BackboneNetwork:
    generator = torch.Generator().manual_seed(seed)
    return cast(BackboneNetwork, build_network(Choice("backbone", config(family)), generator=generator))


def images(count: int, seed: int = 0) -> Tensor:
    return pictures(count, seed, 48, 24)


def same_state(left: nn.Module, right: nn.Module) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def folder_of(plain: Any, folder: Path) -> Path:
    """A folder like that of a model on the hub, with one of transformers' own models."""
    folder.mkdir()
    plain.save_pretrained(folder)
    assert (folder / "model.safetensors").is_file()
    return folder


def refusal(choice: Choice) -> str:
    with pytest.raises(UserError) as caught:
        build_network(choice)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _no_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    asked: list[object] = []

    def connect(*arguments: object, **_: object) -> NoReturn:
        asked.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    yield
    assert not asked, "a backbone asked the network"


# What the engine relies on, for each family.


def test_every_family_is_tested() -> None:
    assert CONFIGS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", CONFIGS)
def test_embeddings_of_one_or_both_modalities(family: str) -> None:
    net = network(family).eval()
    visible, infrared = images(3, 1), images(2, 2)
    with torch.inference_mode():
        both = net(visible, infrared)
        alone = torch.cat([net(visible, None).embedding, net(None, infrared).embedding])
        again = net(visible, infrared)
    assert net.embedding_size == SIZES[family]
    assert both.embedding.shape == both.pooled.shape == (5, SIZES[family])
    assert both.embedding.dtype == torch.float32
    torch.testing.assert_close(both.embedding, alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(both.embedding, again.embedding)
    with pytest.raises(ValueError, match="None and None"):
        net(None, None)


@pytest.mark.parametrize("family", CONFIGS)
def test_without_our_stems_it_is_the_librarys_network(family: str) -> None:
    """The slow twin: the backbone as transformers builds it, given the same weights, pooled by hand."""
    net = network(family, seed=3).eval()
    settled = cast(BackboneArchitecture, net.architecture)
    whole = transformers.AutoConfig.for_model(**settled.config)
    plain: Any
    if family == "vit":
        plain = transformers.AutoModel.from_config(whole, add_pooling_layer=False)
    else:
        plain = transformers.AutoBackbone.from_config(whole)
    state = {}
    for name in plain.state_dict():
        stem = f"{FAMILIES[family].stem}."
        ours = f"infrared_stem.{name.removeprefix(stem)}" if name.startswith(stem) else f"backbone.{name}"
        state[name] = net.state_dict()[ours]
    plain.load_state_dict(state)
    with torch.inference_mode():
        output = plain.eval()(images(2))
        if family == "vit":
            pooled = output.last_hidden_state[:, 1:].mean(1)
        elif family == "resnet":
            pooled = power_mean_pool(output.feature_maps[-1], 3.0)
        else:
            pooled = output.feature_maps[-1].mean((2, 3))
        found = net(None, images(2)).pooled
    torch.testing.assert_close(found, pooled)
    assert bool((pooled < 0).any()) == (family != "resnet")
    assert settled.pooling == ("power" if family == "resnet" else "mean")


@pytest.mark.parametrize("family", CONFIGS)
def test_stems_start_equal_and_are_separate(family: str) -> None:
    net = network(family).eval()
    assert same_state(net.visible_stem, net.infrared_stem)
    with torch.inference_mode():
        before = net(images(2), images(2)).embedding
        torch.testing.assert_close(before[:2], before[2:], rtol=1e-4, atol=1e-5)
        for parameter in net.infrared_stem.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
        after = net(images(2), images(2)).embedding
    torch.testing.assert_close(before[:2], after[:2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before[2:], after[2:], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("family", CONFIGS)
def test_gradients_reach_all_that_is_trained(family: str) -> None:
    net = network(family).train()
    embedding = net(images(4, 1), images(4, 2)).embedding
    (embedding * torch.randn(embedding.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            # A key's bias moves all scores of a query alike, which a softmax does not see.
            if "key.bias" not in name and "k_proj.bias" not in name:
                assert bool(parameter.grad.abs().max() > 0), name
        else:
            assert parameter.grad is None, name
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert "neck.bias" in frozen
    assert all(name == "neck.bias" or name.endswith(FAMILIES[family].idle) for name in frozen)


@pytest.mark.parametrize("family", CONFIGS)
def test_nothing_is_drawn_from_the_global_generator(family: str) -> None:
    """Neither by building nor by training: a resumed run could not draw the same."""
    before = torch.get_rng_state()
    net = network(family).train()
    twin = copy.deepcopy(net)
    outputs = [one(images(3), images(3, 1)).embedding for one in (net, net, twin)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert same_state(network(family, 1), network(family, 1))
    assert not same_state(network(family, 1).backbone, network(family, 2).backbone)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_file_alone_gives_the_network_back(family: str, tmp_path: Path) -> None:
    net = network(family, seed=4)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point() and tensor.numel():
                tensor.mul_(1.1)
    to_channels_last(net)
    path = tmp_path / "model.safetensors"
    save_model(path, net, {"weights": "final"})
    again = load_model(path)
    assert isinstance(again, BackboneNetwork)
    assert again.architecture == net.architecture
    assert same_state(again, net)
    assert not again.training
    to_channels_last(again)
    with torch.inference_mode():
        assert torch.equal(again(images(2), images(2)).embedding, net.eval()(images(2), images(2)).embedding)
    save_model(tmp_path / "again.safetensors", again, {"weights": "final"})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    filled = network(family, seed=5)
    initialise(filled, str(path))
    assert same_state(filled, net)


@pytest.mark.parametrize("family", ["resnet", "dinov3_vit"])
def test_momentum_network_and_embedding(family: str) -> None:
    online = network(family)
    average = MomentumNetwork(online, buffers="own")
    online.train()(images(4), images(4)).embedding.square().sum().backward()
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(1.0)
    average.update(online, 0.5)
    mine, theirs = dict(average.network.named_parameters()), dict(online.named_parameters())
    for name, parameter in network(family).named_parameters():
        torch.testing.assert_close(mine[name], parameter + 0.5)
        assert theirs[name] is not mine[name]
    pixels = (images(3) * 50 + 100).clamp(0, 255).byte()
    embedded = embed_images(average.network, pixels, Modality.INFRARED, batch_size=2)
    assert embedded.shape == (3, SIZES[family])
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))


# Images of other sizes.


@pytest.mark.parametrize("family", ["dinov2", "dinov2_with_registers", "dinov3_vit", "swin", "swinv2", "resnet"])
def test_images_of_another_size(family: str) -> None:
    with torch.inference_mode():
        assert network(family).eval()(pictures(2, 0, 40, 32), None).embedding.shape == (2, SIZES[family])


def test_a_plain_vit_resizes_a_square_table_only() -> None:
    oblong = network("vit").eval()
    with pytest.raises(UserError, match=r"images of 48×24 cannot take 64×32; set model.backbone.image_size=\[64,32\]"):
        oblong(pictures(2, 0, 64, 32), None)
    square = build_network(Choice("backbone", {**config("vit"), "image_size": 32})).eval()
    with torch.inference_mode():
        assert square(pictures(2, 0, 64, 32), None).embedding.shape == (2, 16)
    # Resizing is not a no-op: with and without position embeddings the same images differ.
    stem = cast(Any, square.visible_stem)
    with torch.no_grad():
        before = square(pictures(2, 0, 64, 32), None).embedding
        stem.position_embeddings.zero_()
        assert not torch.allclose(square(pictures(2, 0, 64, 32), None).embedding, before)


def test_an_oblong_table_that_cannot_be_resized_is_refused() -> None:
    message = refusal(Choice("backbone", {**config("dinov2"), "image_size": [48, 24]}))
    assert "image_size = [48, 24]" in message
    assert network("dinov2")(images(1).expand(2, -1, -1, -1), None).embedding.shape == (2, 16)


# Weights of others.


def plain_models(family: str) -> dict[str, Any]:
    """One of transformers' models for that configuration with a classifier, and one without."""
    whole = transformers.AutoConfig.for_model(**config(family))
    return {
        "bare": transformers.AutoModel.from_config(whole),
        "classifier": transformers.AutoModelForImageClassification.from_config(whole),
    }


@pytest.mark.parametrize("kind", ["bare", "classifier"])
@pytest.mark.parametrize("family", ["convnext", "dinov2", "resnet", "swin", "vit"])
def test_a_folder_as_hubs_have_it(family: str, kind: str, tmp_path: Path) -> None:
    plain = plain_models(family)[kind].eval()
    folder = folder_of(plain, tmp_path / "theirs")
    net = build_network(Choice("backbone", folder)).eval()
    neck = net.neck.weight.clone()
    initialise(net, str(folder / "model.safetensors"))
    assert torch.equal(net.neck.weight, neck)
    assert same_state(net.visible_stem, net.infrared_stem)
    base = plain if kind == "bare" else plain.base_model
    with torch.inference_mode():
        output = base(images(2), output_hidden_states=True)
        ours = net(images(2), None).pooled
    if family in ("dinov2", "vit"):
        expected = output.last_hidden_state[:, 1:].mean(1)
    elif family == "resnet":
        # The configuration asks for stage 1 only; ours is the last.
        expected = power_mean_pool(output.last_hidden_state, 3.0)
    elif family == "swin":
        # The model's own last norm starts as the backbone's does.
        expected = output.last_hidden_state.mean(1)
    else:
        expected = nn.functional.layer_norm(output.last_hidden_state.permute(0, 2, 3, 1), (12,), eps=1e-6).mean((1, 2))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_entries_with_the_names_of_older_versions(tmp_path: Path) -> None:
    plain = plain_models("dinov2")["bare"]
    new = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    old = {}
    for name, tensor in new.items():
        for now, then in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
            name = name.replace(f"attention.{now}", f"attention.attention.{then}")
        old[name.replace("attention.o_proj", "attention.output.dense")] = tensor
    assert any("attention.attention.query" in name for name in old)
    networks = []
    for number, state in enumerate((new, old)):
        path = tmp_path / f"{number}.safetensors"
        save_file(state, path)
        networks.append(network("dinov2", seed=number))
        load_backbone(networks[-1], path)
    assert same_state(networks[0].backbone, networks[1].backbone)
    assert torch.equal(networks[1].visible_stem.state_dict()["cls_token"], new["embeddings.cls_token"])


def damaged(tmp_path: Path, damage: str) -> Path:
    folder = folder_of(plain_models("resnet")["bare"], tmp_path / "theirs")
    path = folder / "model.safetensors"
    state = {name: tensor.clone() for name, tensor in plain_models("resnet")["bare"].state_dict().items()}
    match damage:
        case "missing":
            del state["encoder.stages.1.layers.0.layer.0.convolution.weight"]
            save_file(state, path)
        case "shape":
            state["embedder.embedder.convolution.weight"] = torch.zeros(4, 3, 7, 7)
            save_file(state, path)
        case "other":
            save_file({name: value.clone() for name, value in plain_models("vit")["bare"].state_dict().items()}, path)
        case "text":
            path.write_text("no weights")
        case "pickle":
            path.unlink()
            path = folder / "pytorch_model.bin"
            torch.save(state, path)
        case "only a pickle":
            path.unlink()
            torch.save(state, folder / "pytorch_model.bin")
        case "split":
            path.rename(folder / "model-00001-of-00002.safetensors")
            (folder / "model.safetensors.index.json").write_text("{}")
        case "gone":
            path.unlink()
    return path


DAMAGES = {
    "missing": "is missing; expected weights of resnet",
    "shape": "does not fit the backbone resnet",
    "other": "is missing; expected weights of resnet",
    "text": "not a readable safetensors file",
    "pickle": "only .safetensors is read for a backbone, not a pickle",
    "only a pickle": "pytorch_model.bin is a pickle, which is not read",
    "split": "split into several",
    "gone": "no such file",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_that_cannot_be_used(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = damaged(tmp_path, damage)

    def unpickle(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a foreign pickle was opened")

    monkeypatch.setattr(torch, "load", unpickle)
    net = cast(BackboneNetwork, build_network(Choice("backbone", path.parent)))
    before = copy.deepcopy(net)
    with pytest.raises(UserError) as caught:
        initialise(net, str(path))
    assert DAMAGES[damage] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same_state(net, before)


@pytest.mark.parametrize("weights", ["starter", "imagenet", "imagenet:some.pth"])
def test_weights_of_a_resnet_of_ours(weights: str) -> None:
    with pytest.raises(UserError, match=f"model.weights={weights} is a ResNet"):
        initialise(network("resnet"), weights)


def test_model_files_of_another_network(tmp_path: Path) -> None:
    save_model(tmp_path / "narrow.safetensors", TwoStreamNetwork(NARROW))
    save_model(tmp_path / "swin.safetensors", network("swin"))
    with pytest.raises(UserError, match="kind = ResNet; expected kind = backbone resnet"):
        initialise(network("resnet"), str(tmp_path / "narrow.safetensors"))
    with pytest.raises(UserError, match="kind = backbone swin; expected kind = ResNet"):
        initialise(TwoStreamNetwork(NARROW), str(tmp_path / "swin.safetensors"))
    wider = build_network(Choice("backbone", {**config("swin"), "embed_dim": 16}))
    with pytest.raises(UserError, match=r"backbone.embed_dim = 8; expected backbone.embed_dim = 16"):
        initialise(wider, str(tmp_path / "swin.safetensors"))


# What cannot be a backbone.


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"hidden_size": 16}, "model_type = None"),
        ({"model_type": "bert"}, "model_type = 'bert' is not a supported backbone; expected one of convnext, "),
        ({"model_type": "timm_backbone", "backbone": "resnet50"}, "model_type = 'timm_backbone'"),
        ({"model_type": ["vit"]}, "model_type = ['vit']"),
        ({**config("swin"), "depths": "many"}, "model.backbone: is not a configuration of swin"),
        ({**config("dinov2"), "hidden_act": "nothing"}, "transformers cannot build this dinov2"),
        ({**config("resnet"), "num_channels": 1}, "num_channels = 1; expected 3"),
    ],
)
def test_configurations_that_cannot_be_used(values: dict[str, Any], expected: str) -> None:
    assert expected in refusal(Choice("backbone", values))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "cannot be read"), ("{", "not valid JSON"), ("[]", "contains a list"), ("{}", "model_type = None")],
)
def test_folders_that_cannot_be_used(tmp_path: Path, content: str | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    message = refusal(Choice("backbone", tmp_path))
    assert message.startswith(f"{tmp_path / 'config.json'}: ")
    assert expected in message


def test_for_a_name_on_the_hub_the_error_says_how_to_fetch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(Choice("backbone", Path("facebook/dinov2-small")))
    assert "nothing is downloaded" in message
    assert message.endswith("hf download facebook/dinov2-small --local-dir DIR")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", network("resnet"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert refusal(Choice("backbone", config("resnet"))).endswith("pip install 'transformers>=5.23'")
    with pytest.raises(UserError, match="needs transformers"):
        load_model(tmp_path / "model.safetensors")
    # All others do without.
    assert build_network(Choice("narrow")).architecture == NARROW


@pytest.mark.slow
def test_the_library_is_not_imported_before_it_is_needed() -> None:
    program = (
        "import sys; from pclhd.config import load_preset; from pclhd.engine import trainer;"
        "from pclhd.models.backbones import build_network;"
        "build_network(load_preset('tiny', []).model); print('transformers' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]


def test_no_code_and_no_files_can_be_named() -> None:
    sneaky = {
        "auto_map": {"AutoBackbone": "code.Backbone"},
        "_name_or_path": "somewhere/else",
        "_attn_implementation": "somewhere/kernels",
        "attn_implementation": "somewhere/kernels",
        "quantization_config": {"quant_method": "awq"},
        "dtype": "float16",
    }
    settled = settle({**config("vit"), **sneaky}, "here")
    assert settled == settle(config("vit"), "here")
    assert not settled.config.keys() & sneaky.keys()
    built = BackboneNetwork(BackboneArchitecture({**settled.config}, "mean"))
    assert cast(Any, built.backbone).config._attn_implementation in ("sdpa", "eager")
    assert all(parameter.dtype == torch.float32 for parameter in built.parameters())


# Architectures, and the settings.


def test_settling_an_architecture_twice_changes_nothing() -> None:
    settled = settle(config("dinov3_vit"), "here")
    assert settle(settled.config, "there") == settled
    assert read_architecture(json.loads(json.dumps({"config": settled.config, "pooling": "mean"}))) == settled
    assert settled.config["pos_embed_rescale"] is None
    assert settle(config("convnext"), "here").config["drop_path_rate"] == 0
    # Fields that only one version of the library knows do not count as a difference.
    newer = BackboneArchitecture({**settled.config, "new": 1}, "mean")
    assert first_difference(settled, newer) is None
    assert first_difference(newer, settled) is None


@pytest.mark.parametrize(
    "values",
    [
        {"config": {"model_type": "vit"}},
        {"config": {"model_type": "vit"}, "pooling": "max"},
        {"config": {"model_type": 3}, "pooling": "mean"},
        {"config": "vit", "pooling": "mean"},
        {"config": {"model_type": "vit"}, "pooling": "mean", "more": 1},
    ],
)
def test_architectures_that_describe_no_network(values: object) -> None:
    with pytest.raises(ValueError):
        read_architecture(values)


def test_a_pooling_that_does_not_belong_to_the_network() -> None:
    settled = settle(config("vit"), "here")
    with pytest.raises(UserError, match="pooling = power after vit; expected mean"):
        new_network(BackboneArchitecture(settled.config, "power"), origin="here")
    leaky = settle({**config("resnet"), "hidden_act": "gelu"}, "here")
    assert leaky.pooling == "mean"


def test_settings_name_a_backbone(tmp_path: Path) -> None:
    words = ["model.architecture=backbone", f"model.backbone={tmp_path}"]
    folder = load_preset("sysu", [*words, "model.weights=backbone"]).model
    assert folder.backbone == tmp_path
    assert folder.weights == str(tmp_path / "model.safetensors")
    vit = load_preset("vit", ["model.backbone.hidden_size=96"])
    assert vit.model.backbone == {**cast(dict[str, Any], load_preset("vit", []).model.backbone), "hidden_size": 96}
    for wrong, message in (
        (words[:1], "needs model.backbone=DIR"),
        (words[1:], "model.backbone needs model.architecture=backbone, not resnet50"),
        ([words[0], "model.backbone=5"], "setting 'model.backbone' = 5: expected a folder"),
        ([*words, "model.backbone.depth=5"], "'backbone' is a single value"),
        ([words[0], "model.backbone={model_type: vit}", "model.weights=backbone"], "that is not a folder"),
    ):
        with pytest.raises(UserError) as caught:
            load_preset("sysu", wrong)
        assert message in str(caught.value)


def test_the_preset_is_a_small_transformer() -> None:
    settings = load_preset("vit", [])
    net = build_network(settings.model)
    assert isinstance(net, BackboneNetwork)
    assert sum(parameter.numel() for parameter in net.parameters()) < 2_000_000
    assert all(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    height, width = settings.data.height, settings.data.width
    with torch.inference_mode():
        pooled = net.eval()(pictures(2, 0, height, width), None).pooled
    assert pooled.shape == (2, 192)
    assert math.isfinite(float(pooled.sum()))


# With the rest of the package.


def test_the_released_code_has_no_such_network(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_model(run / "model.safetensors", network("resnet"))
    with pytest.raises(UserError, match="the released code knows only") as exported:
        export_released(run, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
    theirs = folder_of(plain_models("resnet")["bare"], tmp_path / "theirs") / "model.safetensors"
    with pytest.raises(UserError) as imported:
        import_checkpoint(theirs, "own", tmp_path / "imported")
    with pytest.raises(UserError) as ours:
        import_checkpoint(run / "model.safetensors", "own", tmp_path / "imported")
    assert not any("\n" in str(caught.value) for caught in (exported, imported, ours))
    assert not (tmp_path / "imported").exists()


def in_yaml(family: str) -> list[str]:
    return ["model.architecture=backbone", f"model.backbone={json.dumps(config(family))}", "model.weights=none"]


@pytest.mark.parametrize("family", ["convnext", "dinov3_vit"])
def test_a_training(small: SmallData, tmp_path: Path, family: str) -> None:
    digests = {small.train(tmp_path / name, *in_yaml(family), "clustering.eps=0.8") for name in ("one", "two")}
    assert len(digests) == 1
    trained = load_model(tmp_path / "one" / "model.safetensors")
    assert cast(BackboneArchitecture, trained.architecture).family == family
    steps = records(tmp_path / "one", "step")
    assert steps
    assert all(math.isfinite(step["loss"]["total"]) for step in steps)
    start = load_model(tmp_path / "one" / "checkpoints" / "start.safetensors")
    for part in ("visible_stem", "infrared_stem", "backbone"):
        assert not same_state(getattr(start, part), getattr(trained, part)), part


def _stop_in_the_second_epoch(position: Position, step: int) -> None:
    if position.epoch == 1 and step == 1:
        raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("family", ["dinov3_vit", "resnet", "swin"])
def test_a_resumed_run_equals_an_uninterrupted_one(small: SmallData, tmp_path: Path, family: str) -> None:
    words = [*in_yaml(family), "clustering.eps=0.8"]
    expected = small.train(tmp_path / "whole", *words)
    with pytest.raises(KeyboardInterrupt):
        small.train(tmp_path / "parts", *words, observer=Watcher(step=_stop_in_the_second_epoch))
    assert small.train(tmp_path / "parts", *words, resume=True) == expected


@pytest.mark.slow
def test_starter_training_and_evaluation(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    weights, run = tmp_path / "vit.safetensors", tmp_path / "run"
    preset = tmp_path / "small.yaml"
    preset.write_text(
        f"data: {{layout: sysu, height: 48, width: 24}}\n"
        f"model: {{architecture: backbone, backbone: {json.dumps(config('dinov3_vit'))}, weights: none}}\n"
        "schedule: {stage1_epochs: 1, stage2_epochs: 1, iterations: 2}\n"
        "batch: {clusters: 4, instances: 4}\n"
        "clustering: {k1: 8, k2: 3, joint_k1: 10, joint_k2: 4, eps: 0.8, min_samples: 2}\n",
        "utf-8",
    )
    words = ("--people", 6, "--images", 2, "--steps", 2, "--preset", preset, "--learning-rate", 0.001)
    made = pclhd("starter", "--out", weights, *words)
    assert made.code == 0, made
    assert same_state(load_model(weights).visible_stem, load_model(weights).infrared_stem)
    trained = pclhd("train", preset, "--data", tiny_sysu, "--out", run, f"model.weights={weights}")
    assert trained.code == 0, trained
    assert same_state(load_model(run / "checkpoints" / "start.safetensors"), load_model(weights))
    assert pclhd("evaluate", run).code == 0
    provenance = json.loads((run / "provenance.json").read_text("utf-8"))
    assert provenance["start_weights"] == {"file": "vit.safetensors", "sha256": digest(weights)}
    results = json.loads((run / "results.json").read_text("utf-8"))
    assert {row["weights"] for row in results["rows"]} == {"start", "stage1", "final"}
    assert pclhd("report", run).code == 0


def test_on_the_command_line(pclhd: Call, tiny_sysu: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("train", "tiny", "--data", tiny_sysu, "--out", run, "model.architecture=backbone")
    message = complaint(pclhd(*words, "model.backbone=facebook/dinov2-small"))
    assert "no such folder" in message
    folder = folder_of(plain_models("dinov2")["bare"], tmp_path / "theirs")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = complaint(pclhd(*words, f"model.backbone={folder}", "model.weights=backbone"))
    assert "is a pickle, which is not read" in message
    assert not run.exists()
    assert "unknown preset" in complaint(pclhd("starter", "--out", tmp_path / "out.safetensors", "--preset", "vitt"))


def test_reading_a_folder_is_reading_its_configuration(tmp_path: Path) -> None:
    folder = folder_of(plain_models("swin")["classifier"], tmp_path / "theirs")
    assert read_backbone(folder) == read_backbone(config("swin"))
