from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pclhd.data.normalise import normalise
from pclhd.data.records import Modality
from pclhd.errors import UserError
from pclhd.models.embed import embed_images, require_finite
from pclhd.models.two_stream import TwoStreamNetwork
from tests.models.small import SMALL, stirred


def bytes_of(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 16), dtype=np.uint8)


def slow_embedding(
    network: TwoStreamNetwork, image: NDArray[np.uint8], modality: Modality, flip: bool, renormalise: bool
) -> Tensor:
    units = []
    for view in (image, image[:, :, ::-1].copy()) if flip else (image,):
        batch = normalise(torch.tensor(view))[None]
        pair = (batch, None) if modality is Modality.VISIBLE else (None, batch)
        with torch.no_grad():
            vector = network(*pair).embedding[0]
        units.append(vector / vector.norm())
    mean = torch.stack(units).mean(dim=0)
    return mean / mean.norm() if renormalise else mean


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize(("flip", "renormalise"), [(True, True), (True, False), (False, True)])
def test_equals_its_slow_twin_in_the_order_of_the_images(modality: Modality, flip: bool, renormalise: bool) -> None:
    network = stirred(SMALL["basic"]).eval()
    images = bytes_of(5)
    result = embed_images(network, images, modality, batch_size=2, flip=flip, renormalise=renormalise)
    expected = torch.stack([slow_embedding(network, image, modality, flip, renormalise) for image in images])
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_the_mean_with_the_mirror_image_is_shorter_unless_renormalised() -> None:
    network = stirred(SMALL["basic"])
    long = embed_images(network, bytes_of(4), Modality.VISIBLE)
    short = embed_images(network, bytes_of(4), Modality.VISIBLE, renormalise=False)
    torch.testing.assert_close(long.norm(dim=1), torch.ones(4))
    assert bool((short.norm(dim=1) < 1 - 1e-6).all())


def test_a_mirrored_image_has_the_same_embedding() -> None:
    network = stirred(SMALL["bottleneck"])
    images = bytes_of(3)
    mirrored = np.ascontiguousarray(images[..., ::-1])
    torch.testing.assert_close(
        embed_images(network, mirrored, Modality.INFRARED), embed_images(network, images, Modality.INFRARED)
    )


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_does_not_matter(batch_size: int) -> None:
    network = stirred(SMALL["basic"])
    expected = embed_images(network, bytes_of(7), Modality.VISIBLE)
    result = embed_images(network, bytes_of(7), Modality.VISIBLE, batch_size=batch_size)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_no_images_give_no_rows() -> None:
    assert embed_images(stirred(SMALL["basic"]), bytes_of(0), Modality.VISIBLE).shape == (0, 16)


def test_takes_tensors_and_read_only_arrays(recwarn: pytest.WarningsRecorder) -> None:
    network = stirred(SMALL["basic"])
    images = bytes_of(3)
    images.flags.writeable = False
    expected = embed_images(network, images, Modality.VISIBLE)
    assert torch.equal(embed_images(network, torch.tensor(images), Modality.VISIBLE), expected)
    assert not recwarn.list


def test_leaves_the_network_as_it_was() -> None:
    network = stirred(SMALL["basic"]).train()
    network.neck.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    embed_images(network, bytes_of(3), Modality.VISIBLE)
    assert network.training
    assert network.trunk.training
    assert not network.neck.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_restores_the_mode_after_an_exception() -> None:
    network = stirred(SMALL["basic"]).train()
    with pytest.raises(ValueError, match="uint8"):
        embed_images(network, torch.zeros(2, 3, 32, 16), Modality.VISIBLE)
    assert network.training
    assert network.visible_stem.training


def test_lower_precision_stays_near() -> None:
    network = stirred(SMALL["basic"])
    exact = embed_images(network, bytes_of(4), Modality.VISIBLE)
    rough = embed_images(network, bytes_of(4), Modality.VISIBLE, autocast_dtype=torch.bfloat16)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert bool(((rough * exact).sum(dim=1) > 0.99).all())


@pytest.mark.parametrize("shape", [(3, 32, 16), (2, 32, 16, 3)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        embed_images(stirred(SMALL["basic"]), np.zeros(shape, dtype=np.uint8), Modality.VISIBLE)


def test_refuses_an_empty_batch() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        embed_images(stirred(SMALL["basic"]), bytes_of(1), Modality.VISIBLE, batch_size=0)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    embeddings = np.ones((5, 3), dtype=np.float32)
    require_finite(embeddings, Path("model.safetensors"))
    require_finite(embeddings[:0], Path("model.safetensors"))
    embeddings[1, 2], embeddings[3] = np.nan, np.inf
    with pytest.raises(UserError, match=r"^model\.safetensors: 2 of 5 images get NaN"):
        require_finite(embeddings, Path("model.safetensors"))


def test_embeddings_without_a_direction_are_refused() -> None:
    embeddings = np.ones((5, 3), dtype=np.float32)
    embeddings[1] = 0
    with pytest.raises(UserError, match=r"^model\.safetensors: 1 of 5 images get zeros .* collapsed"):
        require_finite(embeddings, Path("model.safetensors"))
