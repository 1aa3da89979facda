from __future__ import annotations

import pytest
import torch
from torch import nn

from pclhd.engine.diagnosis import (
    NotFinite,
    explain_loss,
    explaining_memory,
    first_not_finite,
    refuse_broken_network,
    refuse_useless_embeddings,
)
from pclhd.errors import UserError

NAN, INF = float("nan"), float("inf")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["0.weight", "1.bias", "1.running_var"])
def test_the_first_broken_entry_is_named(name: str, value: float) -> None:
    broken = network()
    assert first_not_finite(broken) is None
    refuse_broken_network(broken, where="epoch 1", learning_rate=0.1)
    broken.state_dict()[name].view(-1)[-1] = value
    assert first_not_finite(broken) == name
    with pytest.raises(NotFinite, match=rf"after epoch 1 \(first {name}; learning rate 0.1\)"):
        refuse_broken_network(broken, where="epoch 1", learning_rate=0.1)


def test_a_negative_variance_is_named() -> None:
    broken = network()
    broken.state_dict()["1.running_var"][0] = -1e-3
    assert first_not_finite(broken) == "1.running_var"


def test_a_counter_may_be_as_large_as_it_likes() -> None:
    large = network()
    large.state_dict()["1.num_batches_tracked"].fill_(2**62)
    assert first_not_finite(large) is None


def explained(feature: float, weight: float) -> str:
    broken = network()
    broken.state_dict()["0.weight"].fill_(weight)
    terms = {"visible_centroid": torch.tensor(NAN, requires_grad=True), "infrared_centroid": torch.tensor(1.25)}
    return str(
        explain_loss(
            terms, [torch.zeros(2, 2), torch.tensor([[feature]])], broken, where="epoch 2, step 7", learning_rate=0.5
        )
    )


def test_the_description_of_a_loss_that_is_not_finite() -> None:
    said = explained(0.0, 1.0)
    assert "in epoch 2, step 7 (visible_centroid nan, infrared_centroid 1.25; learning rate 0.5; " in said
    assert "embeddings finite; weights finite)" in said
    assert "lower schedule.learning_rate" in said
    assert "embeddings not finite; weights finite" in explained(INF, 1.0)
    assert "embeddings finite; weights not finite, first 0.weight" in explained(0.0, NAN)


def test_embeddings() -> None:
    fine = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1e-7, 1.0]])
    refuse_useless_embeddings(fine, "visible")
    refuse_useless_embeddings(fine[:1], "visible")
    refuse_useless_embeddings(fine[:0], "visible")
    with pytest.raises(UserError, match="all 2 visible images have the same embedding"):
        refuse_useless_embeddings(fine[:2], "visible")
    fine[1, 0], fine[2, 1] = NAN, INF
    with pytest.raises(UserError, match="the embeddings of 2 of 3 infrared images are not finite"):
        refuse_useless_embeddings(fine, "infrared")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), "the GPU ran out"),
        (MemoryError("Unable to allocate 3 GiB"), "this machine ran out of memory while reading (Unable to allocate"),
        (MemoryError(), "(no details); read less"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nbacktrace"), "you tried); read less"),
    ],
)
def test_memory_that_runs_out(error: BaseException, said: str) -> None:
    with pytest.raises(UserError) as caught, explaining_memory("reading", "read less"):
        raise error
    assert said in str(caught.value)
    assert "GPU 0" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("x"), KeyboardInterrupt(), UserError("y")])
def test_other_errors_are_left_alone(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, explaining_memory("reading", "read less"):
        raise error
    assert caught.value is error
