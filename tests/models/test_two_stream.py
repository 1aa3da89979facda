from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pclhd.models.two_stream import ARCHITECTURES, NARROW, NonLocalBlock, TwoStreamNetwork, power_mean_pool
from tests.models.small import SMALL, pictures, stirred


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_shapes_of_every_architecture(name: str) -> None:
    network = TwoStreamNetwork(ARCHITECTURES[name]).eval()
    with torch.inference_mode():
        output = network(pictures(2, height=96, width=48), pictures(1, height=96, width=48))
    assert output.embedding.shape == output.pooled.shape == (3, network.embedding_size)
    assert bool((output.pooled >= 0).all())
    assert bool(output.embedding.isfinite().all())


def test_narrow_makes_one_cell_of_four_by_four_pixels_at_its_stem() -> None:
    network = TwoStreamNetwork(NARROW)
    assert network.visible_stem(pictures(1, height=96, width=48)).shape == (1, 32, 24, 12)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_joint_pass_equals_separate_passes_in_evaluation(name: str) -> None:
    network = stirred(SMALL[name]).eval()
    visible, infrared = pictures(3, 1), pictures(2, 2)
    with torch.inference_mode():
        joint = network(visible, infrared)
        apart = [network(visible, None), network(None, infrared)]
    for field in ("embedding", "pooled"):
        rows = torch.cat([getattr(output, field) for output in apart])
        torch.testing.assert_close(getattr(joint, field), rows, rtol=1e-5, atol=1e-5)


def test_each_modality_has_a_stem_of_its_own() -> None:
    network = stirred(SMALL["basic"]).eval()
    images = pictures(2)
    with torch.inference_mode():
        assert not torch.allclose(network(images, None).embedding, network(None, images).embedding, atol=1e-3)


def test_modalities_share_batch_norm_statistics_in_training() -> None:
    network = stirred(SMALL["basic"]).train()
    visible = pictures(4, 1)
    with torch.no_grad():
        alone = network(visible, None).embedding
        together = network(visible, 3 * pictures(4, 2)).embedding[:4]
    assert not torch.allclose(alone, together, atol=1e-2)


def test_needs_some_images() -> None:
    with pytest.raises(ValueError, match="None and None"):
        TwoStreamNetwork(SMALL["basic"])(None, None)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_gradient_reaches_every_parameter_but_the_necks_bias(name: str) -> None:
    # In evaluation mode: batch statistics would cancel the bias of the convolution before each norm.
    network = stirred(SMALL[name]).eval()
    network(pictures(3, 1), pictures(3, 2)).embedding.square().sum().backward()
    idle = [
        parameter_name
        for parameter_name, parameter in network.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.any())
    ]
    assert idle == ["neck.bias"]


def test_necks_bias_stays_while_its_weight_learns() -> None:
    network = TwoStreamNetwork(SMALL["basic"])
    before = network.neck.weight.detach().clone()
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(pictures(4), pictures(4, 1)).embedding.square().sum().backward()
    optimiser.step()
    assert not network.neck.bias.requires_grad
    assert not bool(network.neck.bias.any())
    assert not torch.equal(before, network.neck.weight)


def test_start_weights_depend_on_the_generator_alone() -> None:
    torch.manual_seed(3)
    global_state = torch.get_rng_state()
    first, again, other = (
        TwoStreamNetwork(NARROW, generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), global_state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["neck.weight"], other["neck.weight"])
    assert not torch.equal(first["trunk.stage4.0.conv2.weight"], other["trunk.stage4.0.conv2.weight"])
    assert not torch.equal(first["visible_stem.conv.weight"], first["infrared_stem.conv.weight"])


def test_start_weights_have_the_intended_sizes() -> None:
    state = TwoStreamNetwork(ARCHITECTURES["resnet50"]).state_dict()
    fresh_norms = [name for name in state if name.startswith("non_local") and name.endswith("norm.weight")]
    assert len(fresh_norms) == 5
    for name, tensor in state.items():
        assert bool(tensor.isfinite().all()), name
        if name.endswith("running_var") or (tensor.dim() == 1 and ".bn" in name and name.endswith("weight")):
            assert bool((tensor == 1).all()), name
        elif name.endswith(("bias", "running_mean", "num_batches_tracked", *fresh_norms)):
            assert not bool(tensor.any()), name
        elif name.startswith("trunk") and tensor.dim() == 4:
            fan_out = tensor.shape[0] * tensor.shape[2] * tensor.shape[3]
            assert tensor.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name
    assert state["neck.weight"].mean().item() == pytest.approx(1, abs=0.002)
    assert state["neck.weight"].std().item() == pytest.approx(0.01, rel=0.1)


def slow_non_local(block: NonLocalBlock, features: Tensor) -> Tensor:
    """One image and one position at a time, with the whole table of affinities."""
    result = torch.empty_like(features)
    for number, image in enumerate(features):
        query, key, value = (
            convolution(image[None])[0].flatten(1) for convolution in (block.query, block.key, block.value)
        )
        positions = query.shape[1]
        attended = torch.zeros_like(value)
        for i in range(positions):
            for j in range(positions):
                attended[:, i] += (query[:, i] @ key[:, j]) / positions * value[:, j]
        attended = attended.reshape(1, -1, *image.shape[1:])
        result[number] = block.norm(block.output(attended))[0] + image
    return result


@pytest.mark.parametrize("inner", [1, 3])
def test_non_local_block_equals_its_slow_twin(inner: int) -> None:
    block = NonLocalBlock(6, inner).eval()
    block.draw_start_weights(torch.Generator().manual_seed(0))
    nn.init.ones_(block.norm.weight)
    features = torch.randn(2, 6, 4, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = slow_non_local(block, features)
        assert not torch.allclose(expected, features, atol=1e-2)
        torch.testing.assert_close(block(features), expected, rtol=1e-4, atol=1e-5)


def test_a_fresh_non_local_block_changes_nothing() -> None:
    blocks = [block for block in TwoStreamNetwork(SMALL["basic"]).modules() if isinstance(block, NonLocalBlock)]
    assert len(blocks) == 3
    for block in blocks:
        features = torch.randn(2, block.query.in_channels, 4, 3, generator=torch.Generator().manual_seed(0))
        assert torch.equal(block(features), features)


def test_pooling_equals_its_slow_twin() -> None:
    features = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    for power in (1.0, 2.5, 3.0):
        result = power_mean_pool(features, power)
        for row in range(2):
            for channel in range(3):
                values = [value**power for value in features[row, channel].flatten().tolist()]
                expected = (sum(values) / len(values) + 1e-12) ** (1 / power)
                assert result[row, channel].item() == pytest.approx(expected, rel=1e-5)


def test_pooling_of_nothing_has_a_finite_gradient() -> None:
    features = torch.zeros(1, 2, 3, 3, requires_grad=True)
    pooled = power_mean_pool(features, 3.0)
    (gradient,) = torch.autograd.grad(pooled.sum(), features)
    assert pooled.detach().tolist() == [[pytest.approx(1e-4, rel=1e-4)] * 2]
    assert bool(gradient.isfinite().all())


def test_pooling_of_half_precision_computes_in_float32() -> None:
    pooled = power_mean_pool(torch.zeros(1, 1, 2, 2, dtype=torch.float16), 3.0)
    assert pooled.dtype == torch.float32
    assert pooled.item() > 0


def test_channels_last_gives_the_same_output() -> None:
    network = stirred(SMALL["bottleneck"]).eval()
    images = pictures(2)
    with torch.inference_mode():
        expected = network(images, images).embedding
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        shuffled = images.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(shuffled, shuffled).embedding, expected, rtol=1e-4, atol=1e-4)


def test_channels_last_stays_so_through_non_local_blocks() -> None:
    # Once one part turns to channels-first, everything after it is computed the slow way.
    block = NonLocalBlock(8, 1)
    features = torch.randn(2, 8, 6, 3, generator=torch.Generator().manual_seed(0))
    features = features.contiguous(memory_format=torch.channels_last).requires_grad_()
    result = block(features)
    assert result.is_contiguous(memory_format=torch.channels_last)
    result.sum().backward()
    assert features.grad is not None
    assert features.grad.is_contiguous(memory_format=torch.channels_last)
