from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pclhd.errors import UserError
from pclhd.models import weights
from pclhd.models.imagenet import imagenet_name
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.models.weights import initialise, load_model, model_metadata, save_model
from pclhd.weights import starter_path
from tests.models.small import SMALL, pictures, stirred


def same_state(first: TwoStreamNetwork, second: TwoStreamNetwork) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_the_file_alone_gives_the_network_back(tmp_path: Path, kind: str) -> None:
    network = stirred(SMALL[kind])
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    path = tmp_path / "model.safetensors"
    save_model(path, network, {"preset": "tiny", "note": "ünïcode\n"})
    again = load_model(path)
    assert again.architecture == network.architecture
    assert same_state(again, network)
    assert not again.training
    assert not again.neck.bias.requires_grad
    assert network.training
    assert model_metadata(path) == {"preset": "tiny", "note": "ünïcode\n"}
    images = pictures(2)
    with torch.inference_mode():
        torch.testing.assert_close(again(images, None).embedding, network.eval()(images, None).embedding)


def test_equal_weights_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    # In other processes too, since hash seeds differ between them.
    program = (
        "import sys, pathlib; from pclhd.models.weights import save_model;"
        "from tests.models.small import SMALL, stirred;"
        "save_model(pathlib.Path(sys.argv[1]), stirred(SMALL['basic']), {key: key for key in 'abcdefgh'})"
    )
    contents = set()
    path = tmp_path / "elsewhere.safetensors"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], env=environment)
    contents.add(path.read_bytes())
    save_model(tmp_path / "here.safetensors", stirred(SMALL["basic"]), {key: key for key in "hgfedcba"})
    contents.add((tmp_path / "here.safetensors").read_bytes())
    assert len(contents) == 1


def test_saving_replaces_and_leaves_nothing_aside(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for seed in (1, 2):
        save_model(path, stirred(SMALL["basic"], seed))
    assert same_state(load_model(path), stirred(SMALL["basic"], 2))
    assert list(tmp_path.iterdir()) == [path]


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        save_model(tmp_path / "no" / "model.safetensors", stirred(SMALL["basic"]))


def write_damaged(path: Path, damage: str) -> None:
    save_model(path, stirred(SMALL["basic"]))
    tensors = load_file(path)
    header = {"architecture": json.loads(SMALL["basic"].to_json()), "format": 1, "metadata": {}}
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-100])
            return
        case "text":
            path.write_text("no model")
            return
        case "foreign":
            save_file(tensors, path)
            return
        case "format":
            header["format"] = 2
        case "header":
            header["architecture"] = {"block": "basic"}
        case "architecture":
            header["architecture"] = json.loads(SMALL["bottleneck"].to_json())
        case "missing":
            del tensors["neck.weight"]
        case "unknown":
            tensors["classifier.weight"] = torch.zeros(3)
        case "shape":
            tensors["neck.weight"] = torch.zeros(3)
    save_file(tensors, path, {"pclhd": json.dumps(header)})


DAMAGES = {
    "truncated": "not a readable safetensors file",
    "text": "not a readable safetensors file",
    "foreign": "not a model of pclhd",
    "format": "format 2",
    "header": "header is damaged",
    "architecture": "non_local.stage2",
    "missing": r"'neck\.weight' is missing",
    "unknown": r"classifier\.weight",
    "shape": r"'neck\.weight' has shape 3; expected shape 16",
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.safetensors"
    write_damaged(path, damage)
    with pytest.raises(UserError, match=rf"model\.safetensors: .*{DAMAGES[damage]}") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("depths", [10**6] * 4, "from 1 to 256"),
        ("widths", [100_000] * 4, "from 1 to 16384"),
        ("widths", [16384] * 4, "numbers, but the network of its header has at least"),
        ("depths", [256] * 4, "numbers, but the network of its header has at least"),
        ("stem_kernel", 100_001, "from 1 to 63"),
        ("stem_channels", 10**20, "from 1 to 16384"),
    ],
)
def test_networks_larger_than_the_file_are_not_built(
    tmp_path: Path, field: str, value: object, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, stirred(SMALL["basic"]))
    header = json.loads(SMALL["basic"].to_json()) | {field: value}
    save_file(load_file(path), path, {"pclhd": json.dumps({"architecture": header, "format": 1, "metadata": {}})})
    monkeypatch.setattr("pclhd.models.weights.new_network", None)
    with pytest.raises(UserError, match=fault):
        load_model(path)


@pytest.mark.parametrize("name", ["gone.safetensors", "."])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_model(tmp_path / name)


def test_none_keeps_the_random_start() -> None:
    network = stirred(SMALL["basic"])
    initialise(network, "none")
    assert same_state(network, stirred(SMALL["basic"]))


def test_a_model_file_by_its_path(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", stirred(SMALL["basic"], 1))
    network = stirred(SMALL["basic"], 2)
    initialise(network, str(tmp_path / "model.safetensors"))
    assert same_state(network, stirred(SMALL["basic"], 1))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["imagenet:", ""])
def test_an_imagenet_file_by_its_path(tmp_path: Path, suffix: str, prefix: str) -> None:
    source, network = stirred(SMALL["basic"], 1), stirred(SMALL["basic"], 2)
    state = {}
    for name, tensor in source.state_dict().items():
        key = imagenet_name(name)
        if key is not None and not name.startswith("infrared_stem"):
            state[key] = tensor
    path = tmp_path / f"resnet{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    initialise(network, f"{prefix}{path}")
    assert torch.equal(network.infrared_stem.conv.weight, source.visible_stem.conv.weight)
    assert torch.equal(network.neck.weight, stirred(SMALL["basic"], 2).neck.weight)


def test_starter_weights_of_another_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "starter.safetensors"
    monkeypatch.setattr(weights, "starter_path", lambda: path)
    network = stirred(SMALL["basic"], 2)
    with pytest.raises(UserError, match="starter weights are missing"):
        initialise(network, "starter")
    save_model(path, stirred(SMALL["bottleneck"]))
    with pytest.raises(UserError, match="block = bottleneck; expected block = basic"):
        initialise(network, "starter")
    assert same_state(network, stirred(SMALL["basic"], 2))
    save_model(path, stirred(SMALL["basic"], 1))
    initialise(network, "starter")
    assert same_state(network, stirred(SMALL["basic"], 1))


def test_starter_weights_are_in_the_package() -> None:
    assert starter_path().parts[-3:] == ("pclhd", "weights", "starter.safetensors")


@pytest.mark.parametrize("name", ["sarter", "imagenet:gone.pth", ""])
def test_unknown_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        initialise(stirred(SMALL["basic"]), name)
