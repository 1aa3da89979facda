from __future__ import annotations

import argparse
import collections
import os
import pickle
import tarfile
import warnings
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


def test_foreign_classes_are_named_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": WEIGHTS, "args": argparse.Namespace(lr=1)}, path)
    assert "argparse.Namespace" in said(path)
    torch.save({"state_dict": WEIGHTS, "x": Evil(tmp_path / "made")}, path)
    assert "torch.save(model.state_dict(), FILE)" in said(path)
    torch.save(torch.nn.Linear(2, 2), path)
    assert "torch.nn.modules.linear.Linear" in said(path)
    path.write_bytes(pickle.dumps(Evil(tmp_path / "made"), protocol=2))
    assert said(path)
    assert not (tmp_path / "made").exists()


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


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
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


def test_a_program_of_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "program.pth"
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert said(path).startswith("is a TorchScript program, not weights by name; where it was made")


def test_entries_that_hold_themselves(tmp_path: Path) -> None:
    entries: dict[str, object] = {"weight": torch.zeros(2)}
    entries["again"] = entries
    torch.save(entries, tmp_path / "circle.pth")
    assert said(tmp_path / "circle.pth").startswith("its entries are nested too deeply")


def test_a_suffix_in_capitals(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "WEIGHTS.SAFETENSORS")
    assert read_foreign_checkpoint(tmp_path / "WEIGHTS.SAFETENSORS").tensors["weight"].tolist() == [1, 1]
