from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pclhd.distributed.processes import Processes, ReportedByTheFirst, join_processes
from pclhd.errors import UserError


@given(st.integers(0, 200), st.integers(1, 9))
def test_shares_are_all_rows_in_order(rows: int, count: int) -> None:
    shares = [Processes(rank, count).share(rows) for rank in range(count)]
    assert [row for share in shares for row in range(rows)[share]] == list(range(rows))
    sizes = {share.stop - share.start for share in shares}
    assert max(sizes) - min(sizes) <= 1


def test_one_process_sends_nothing() -> None:
    alone = Processes()
    rows = torch.randn(3, 2, requires_grad=True)
    assert alone.gather(rows, 3) is rows
    assert alone.largest(5) == 5
    assert alone.by_the_first(lambda: "found") == "found"
    alone.add_gradients([torch.nn.Parameter(rows)])
    assert alone.is_first


def test_alone_unless_a_launcher_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes(on_gpu=False) == Processes()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join_processes(on_gpu=False) == Processes()


@pytest.mark.parametrize(("variable", "value"), [("WORLD_SIZE", "two"), ("RANK", "x"), ("RANK", None)])
def test_half_an_environment(monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    if value is not None:
        monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"{variable} is .* start several processes with torchrun"):
        join_processes(on_gpu=False)


def test_an_error_of_the_first_process_is_printed_once() -> None:
    assert not UserError("x").reported
    assert ReportedByTheFirst("x").reported
