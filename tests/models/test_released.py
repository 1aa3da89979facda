from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pclhd.errors import UserError
from pclhd.models.released import load_released_state, released_name
from pclhd.models.two_stream import TwoStreamNetwork
from tests.models.small import SMALL, stirred


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
    with pytest.raises(ValueError, match="no entry"):
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
