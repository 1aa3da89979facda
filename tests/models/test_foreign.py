from __future__ import annotations

import argparse
import collections
import datetime
import fractions
import os
import pickle
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pclhd.errors import UserError
from pclhd.models.foreign import read_foreign_checkpoint

WEIGHTS = {"a": torch.arange(3.0), "b.c": torch.tensor(7)}


class Evil:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def said(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_foreign_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("old_format", [False, True])
def test_nested_entries_get_dotted_names(tmp_path: Path, old_format: bool) -> None:
    content = {
        "state_dict": collections.OrderedDict(WEIGHTS),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
    }
    torch.save(content, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=not old_format)
    found = read_foreign_checkpoint(tmp_path / "x.pth.tar")
    assert found.tensors.keys() == {"state_dict.a", "state_dict.b.c", "optimizer.state.0.step"}
    assert torch.equal(found.tensors["state_dict.a"], WEIGHTS["a"])
    assert found.others == ("epoch", "optimizer.param_groups")


def test_safetensors_and_parameters(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "x.safetensors")
    assert read_foreign_checkpoint(tmp_path / "x.safetensors").tensors.keys() == WEIGHTS.keys()
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "x.pth")
    tensor = read_foreign_checkpoint(tmp_path / "x.pth").tensors["a"]
    assert not tensor.requires_grad


@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)])
def test_numbers_of_numpy_are_passed_over(tmp_path: Path, number: np.generic) -> None:
    torch.save({"state_dict": WEIGHTS, "best_mAP": number}, tmp_path / "x.pth.tar")
    found = read_foreign_checkpoint(tmp_path / "x.pth.tar")
    assert found.others == ("best_mAP",)
    assert torch.equal(found.tensors["state_dict.a"], WEIGHTS["a"])


def test_a_number_of_numpy_1_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    # The old format has no checksums: a name can be replaced in place.
    torch.save({"a": WEIGHTS["a"], "best_mAP": np.float64(0.5)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    if b"numpy._core.multiarray" in content:
        path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy.core.multiarray" in path.read_bytes()
    assert read_foreign_checkpoint(path).others == ("best_mAP",)


def test_a_pickle_protocol_that_cannot_be_read_safely(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    torch.save({"a": WEIGHTS["a"], "best_mAP": np.float64(0.5)}, tmp_path / "x.pth", pickle_protocol=4)
    assert "without running code from it" in said(tmp_path / "x.pth")
    assert not recwarn.list


class Table(dict[str, object]):
    """A class of its own that entries are put into."""


class Row(list[object]):
    """A class of its own that members are appended to."""


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    "other",
    [
        argparse.Namespace(lr=1, inner=argparse.Namespace(x=np.float64(1))),
        np.arange(20) / 20,
        np.array(["a"], dtype=object),
        np.random.default_rng(0).bit_generator.state,
        collections.defaultdict(list, {"a": [1]}),
        collections.deque([1, 2]),
        Table(a=1),
        Row([1, 2]),
        Path("somewhere"),
        slice(1, 2),
        fractions.Fraction(1, 3),
        datetime.datetime(2024, 5, 17),
        len,
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_is_no_tensor_is_dropped(tmp_path: Path, other: object, old_format: bool) -> None:
    path = tmp_path / "x.pth"
    beside = {"net": WEIGHTS, "other": other, "again": [np.float32(1), other], "args": argparse.Namespace(lr=0.1)}
    torch.save(beside, path, _use_new_zipfile_serialization=not old_format)
    found = read_foreign_checkpoint(path)
    assert {name: value.tolist() for name, value in found.tensors.items() if name.startswith("net.")} == {
        "net.a": [0, 1, 2],
        "net.b.c": 7,
    }


def test_several_kinds_of_containers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"t": Table(w=WEIGHTS["a"]), "r": Row([1]), "d": collections.defaultdict(int, b=2), **WEIGHTS}, path)
    found = read_foreign_checkpoint(path)
    assert found.tensors.keys() == {"t.w", "a", "b.c"}


def test_code_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": WEIGHTS, "x": Evil(tmp_path / "made")}, path)
    assert "mkdir" in said(path)
    path.write_bytes(pickle.dumps(Evil(tmp_path / "made"), protocol=2))
    assert said(path)
    torch.save({"state_dict": WEIGHTS, "x": Runs(f"open({str(tmp_path / 'made')!r}, 'w')")}, path)
    assert read_foreign_checkpoint(path).tensors.keys() == {"state_dict.a", "state_dict.b.c"}
    assert not (tmp_path / "made").exists()


class Runs:
    """Unpickling this evaluates text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (self.text,)


def test_a_network_that_was_saved_as_a_program(tmp_path: Path) -> None:
    torch.save({"net": WEIGHTS, "activation": torch.nn.ReLU()}, tmp_path / "x.pth")
    assert read_foreign_checkpoint(tmp_path / "x.pth").tensors.keys() == {"net.a", "net.b.c"}
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    assert "without any tensor" in said(tmp_path / "x.pth")


@pytest.mark.parametrize("innermost", [{"weight": torch.zeros(2)}, {}])
def test_entries_that_share_each_other(tmp_path: Path, innermost: dict[str, object]) -> None:
    entries = innermost
    for _ in range(40):
        entries = {"left": entries, "right": entries}
    torch.save(entries, tmp_path / "shared.pth")
    assert "entries; where it was made" in said(tmp_path / "shared.pth")


def test_a_name_without_end(tmp_path: Path) -> None:
    torch.save({"a" * 20_000: torch.zeros(2)}, tmp_path / "x.pth")
    assert "an entry has a name of 20,000 characters" in said(tmp_path / "x.pth")


def test_a_part_of_an_unpacked_checkpoint(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        archive.extractall(tmp_path)
    (part,) = tmp_path.rglob("data.pkl")
    assert said(part).startswith("is a part of an unpacked checkpoint")
    assert said(next((part.parent / "data").iterdir())).startswith("is not a checkpoint")


def test_names_that_nothing_can_write(tmp_path: Path) -> None:
    torch.save({"a\ud800": WEIGHTS["a"], "\x1b[": 1}, tmp_path / "x.pth")
    found = read_foreign_checkpoint(tmp_path / "x.pth")
    assert (list(found.tensors), found.others) == (["a\\ud800"], ("\\u001b[",))


@pytest.mark.parametrize("form", ["new", "old", "safetensors"])
@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.97])
def test_a_file_that_was_cut_short(tmp_path: Path, form: str, kept: float) -> None:
    path = tmp_path / ("x.safetensors" if form == "safetensors" else "x.pth")
    weights = {"a": torch.randn(500, generator=torch.Generator().manual_seed(0))}
    if form == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=form == "new")
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    message = said(path)
    assert any(word in message for word in ("is empty", "truncated", "not a checkpoint", "is damaged"))


def test_files_that_are_not_checkpoints(tmp_path: Path) -> None:
    assert "no such file" in said(tmp_path / "none.pth")
    assert "a folder" in said(tmp_path)
    path = tmp_path / "x.pth"
    path.write_text("<html>404</html>")
    assert "not a checkpoint" in said(path)
    path.write_text("x")
    with tarfile.open(tmp_path / "y.pth.tar", "w") as archive:
        archive.add(path)
    assert "not a checkpoint" in said(tmp_path / "y.pth.tar")
    torch.save([1, 2], path)
    assert "a list without any tensor" in said(path)
    torch.save({"epoch": 3}, path)
    assert "without any tensor" in said(path)


def test_a_torchscript_program(tmp_path: Path) -> None:
    path = tmp_path / "program.pth"
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert said(path).startswith("is a TorchScript program, not weights by name; where it was made")


def test_entries_that_hold_themselves(tmp_path: Path) -> None:
    entries: dict[str, object] = {"weight": torch.zeros(2)}
    entries["again"] = entries
    torch.save(entries, tmp_path / "circle.pth")
    limit = sys.getrecursionlimit()
    for wanted in (limit, 20 * limit):  # some libraries raise it
        sys.setrecursionlimit(wanted)
        try:
            assert said(tmp_path / "circle.pth").startswith("its entries are nested too deeply")
        finally:
            sys.setrecursionlimit(limit)


def test_a_suffix_in_capitals(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "WEIGHTS.SAFETENSORS")
    assert read_foreign_checkpoint(tmp_path / "WEIGHTS.SAFETENSORS").tensors["weight"].tolist() == [1, 1]
