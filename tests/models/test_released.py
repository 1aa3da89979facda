from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pclhd.errors import UserError
from pclhd.models import released as module
from pclhd.models.released import find_network, load_released_state, released_name
from pclhd.models.two_stream import NonLocalBlock, TwoStreamNetwork
from tests.models.small import SMALL, pictures, stirred


def released_state(network: TwoStreamNetwork) -> dict[str, Tensor]:
    state = {released_name(name): tensor.clone() for name, tensor in network.state_dict().items()}
    return {**state, "classifier.weight": torch.zeros(10, 2)}


@pytest.mark.parametrize(
    ("ours", "released"),
    [
        ("visible_stem.conv.weight", "visible_module.visible.conv1.weight"),
        ("infrared_stem.norm.running_var", "thermal_module.thermal.bn1.running_var"),
        ("trunk.stage2.0.downsample.1.bias", "base_resnet.base.layer2.0.downsample.1.bias"),
        ("trunk.stage4.2.conv3.weight", "base_resnet.base.layer4.2.conv3.weight"),
        ("non_local.stage3.2.query.bias", "NL_3.2.theta.bias"),
        ("non_local.stage2.0.key.weight", "NL_2.0.phi.weight"),
        ("non_local.stage2.1.value.weight", "NL_2.1.g.0.weight"),
        ("non_local.stage2.1.output.bias", "NL_2.1.W.0.bias"),
        ("non_local.stage2.1.norm.num_batches_tracked", "NL_2.1.W.1.num_batches_tracked"),
        ("neck.running_mean", "bottleneck.running_mean"),
    ],
)
def test_names(ours: str, released: str) -> None:
    assert released_name(ours) == released


@pytest.mark.parametrize("name", ["", "neck", "classifier.weight", "visible_stem.pool.weight", "non_local.stage2.0.x"])
def test_refuses_names_of_no_part(name: str) -> None:
    with pytest.raises(ValueError, match="not an entry"):
        released_name(name)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_names_are_all_different(kind: str) -> None:
    names = list(TwoStreamNetwork(SMALL[kind]).state_dict())
    assert len({released_name(name) for name in names}) == len(names)


def test_fills_every_part_and_reports_the_rest() -> None:
    source, target = stirred(SMALL["basic"], 1), stirred(SMALL["basic"], 2)
    report = load_released_state(target, released_state(source))
    expected = source.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in target.state_dict().items())
    assert report.unused == ("classifier.weight",)
    assert len(report.used) == len(expected)


@pytest.mark.parametrize("mistake", ["missing", "shape", "kind"])
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(mistake: str) -> None:
    target = stirred(SMALL["basic"], 2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = released_state(stirred(SMALL["basic"], 1))
    if mistake == "missing":
        del state["bottleneck.weight"]
    else:
        state["bottleneck.weight"] = torch.zeros(3) if mistake == "shape" else torch.zeros(16, dtype=torch.int64)
    with pytest.raises(UserError, match=r"^old\.pth: .*'bottleneck\.weight'.*expected") as caught:
        load_released_state(target, state, origin="old.pth")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_state_is_refused(value: float) -> None:
    state = released_state(stirred(SMALL["basic"], 1))
    state["bottleneck.weight"][3] = value
    with pytest.raises(UserError, match=r"'bottleneck\.weight' has NaN or infinity"):
        load_released_state(stirred(SMALL["basic"], 2), state)


def test_counts_of_batches_may_be_missing() -> None:
    source, target = stirred(SMALL["basic"], 1), stirred(SMALL["basic"], 2)
    state = {name: tensor for name, tensor in released_state(source).items() if "num_batches" not in name}
    report = load_released_state(target, state)
    assert set(report.used) == state.keys() - {"classifier.weight"}
    assert torch.equal(target.neck.weight, source.neck.weight)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_without_non_local_blocks_these_change_nothing(kind: str) -> None:
    source, target = stirred(SMALL[kind], 1), stirred(SMALL[kind], 2)
    state = {name: tensor for name, tensor in released_state(source).items() if not name.startswith("NL_")}
    report = load_released_state(target, state)
    assert not report.non_local
    assert all(not name.startswith("NL_") for name in report.used)
    # The slow twin: the same network built without the blocks.
    plain = TwoStreamNetwork(replace(SMALL[kind], non_local=(0, 0, 0, 0)))
    load_released_state(plain, state)
    with torch.inference_mode():
        expected, got = plain.eval()(pictures(2), pictures(2, 1)), target.eval()(pictures(2), pictures(2, 1))
        blocks = [part for part in target.modules() if isinstance(part, NonLocalBlock)]
        for block in blocks:
            features = torch.randn(2, block.norm.num_features, 3, 2, generator=torch.Generator().manual_seed(0))
            assert torch.equal(block(features), features)
    assert blocks
    # They leave features channels-last, which the last bit of everything after them depends on.
    torch.testing.assert_close(got.embedding, expected.embedding, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.pooled, expected.pooled, rtol=1e-5, atol=1e-5)


def test_some_non_local_blocks_are_not_enough() -> None:
    state = released_state(stirred(SMALL["basic"], 1))
    state = {name: tensor for name, tensor in state.items() if not name.startswith("NL_3.")}
    with pytest.raises(UserError, match=r"'NL_3\.0\.\S+' is missing"):
        load_released_state(stirred(SMALL["basic"], 2), state)


def test_only_parts_that_the_released_network_lacks_are_unknown() -> None:
    idle = [
        "visible_module.visible.layer4.0.conv1.weight",
        "thermal_module.thermal.layer1.0.bn1.bias",
        "base_resnet.base.conv1.weight",
        "base_resnet.base.fc.bias",
    ]
    foreign = ["NL_4.0.theta.bias", "attention.weight", "base_resnet.base.layer5.weight", "bottleneck2.weight"]
    state = released_state(stirred(SMALL["basic"], 1)) | {name: torch.zeros(1) for name in idle + foreign}
    report = load_released_state(stirred(SMALL["basic"], 2), state)
    assert set(report.unused) == {*idle, *foreign, "classifier.weight"}
    assert set(report.unknown) == set(foreign)


@pytest.mark.parametrize(
    ("prefixes", "wanted", "place"),
    [
        ([""], None, ""),
        (["module."], None, "module"),
        (["state_dict.module."], None, "state_dict.module"),
        (["net."], None, "net"),
        # The released code reads the entry state_dict; a momentum copy may be in the same file.
        (["state_dict.module.", "state_dict_ema.module."], None, "state_dict.module"),
        (["state_dict.module.", "state_dict_ema.module."], "state_dict_ema.module", "state_dict_ema.module"),
        (["model.", "model_ema."], "model_ema", "model_ema"),
    ],
)
def test_the_network_in_a_file_is_found(prefixes: list[str], wanted: str | None, place: str) -> None:
    names = released_state(stirred(SMALL["basic"], 1))
    tensors = {prefix + name: tensor for prefix in prefixes for name, tensor in names.items()}
    tensors["optimizer.momentum"] = torch.zeros(1)
    assert find_network(tensors, wanted, origin="old.pth") == place


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        (["conv1.weight", "fc.bias"], None, "no network of the released family.*'conv1.weight'"),
        (["a.base_resnet.x", "b.base_resnet.x"], None, "several networks: a, b; choose one"),
        (["state_dict.a.base_resnet.x", "state_dict.b.base_resnet.x"], None, "several networks"),
        (["base_resnet.x"], "model_ema", "no network at 'model_ema'"),
    ],
)
def test_no_network_or_no_choice(names: list[str], wanted: str | None, said: str) -> None:
    with pytest.raises(UserError, match=rf"old\.pth.*{said}"):
        find_network(dict.fromkeys(names, torch.zeros(1)), wanted, origin="old.pth")


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_there_and_back_is_the_same_to_the_last_bit(kind: str) -> None:
    source, target = stirred(SMALL[kind], 1), stirred(SMALL[kind], 2)
    state = module.released_state(source)
    report = load_released_state(target, state)
    expected = source.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in target.state_dict().items())
    assert report.unknown == ()
    assert "visible_module.visible.layer4.0.conv1.weight" in report.unused


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("bottleneck.weight", lambda tensor: tensor.double() * 1e300, "values beyond float32"),
        ("bottleneck.running_var", lambda tensor: -tensor - 1, "a negative variance"),
        ("bottleneck.weight", lambda tensor: tensor.to_sparse(), "is not a plain tensor"),
        ("bottleneck.weight", lambda tensor: tensor.to("meta"), "is not a plain tensor"),
    ],
)
def test_weights_that_give_no_usable_embedding(name: str, change: Callable[[Tensor], Tensor], why: str) -> None:
    state = released_state(stirred(SMALL["basic"], 1))
    state[name] = change(state[name])
    with pytest.raises(UserError, match=f"'{name}'.*{why}"):
        load_released_state(stirred(SMALL["basic"], 2), state)


def test_a_model_file_of_ours_needs_no_import() -> None:
    with pytest.raises(UserError, match=r"^mine: is a model file of pclhd already"):
        find_network(stirred(SMALL["basic"], 1).state_dict(), origin="mine")


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: torch.zeros(1).expand(10**6, 10**6), "has shape 1000000×1000000"),
        (lambda: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]), "not a plain tensor"),
        (lambda: torch.zeros(16, dtype=torch.complex64), "not a plain tensor"),
        (lambda: torch.zeros(16).to_sparse(), "not a plain tensor"),
        (lambda: torch.zeros(16, device="meta"), "not a plain tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_what_they_seem(make: Callable[[], Tensor], fault: str) -> None:
    state = released_state(stirred(SMALL["basic"], 1)) | {"bottleneck.weight": make()}
    with pytest.raises(UserError, match=fault):
        load_released_state(stirred(SMALL["basic"], 2), state)
