from __future__ import annotations

import hashlib
import http.server
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pclhd.errors import UserError
from pclhd.models.imagenet import IMAGENET_URL, download_imagenet, imagenet_name, load_imagenet
from pclhd.models.two_stream import TwoStreamNetwork
from tests.models.small import SMALL, stirred


def torchvision_state(network: TwoStreamNetwork) -> dict[str, Tensor]:
    state = {"fc.weight": torch.zeros(10, 2), "fc.bias": torch.zeros(10)}
    for name, tensor in network.state_dict().items():
        key = imagenet_name(name)
        if key is not None and not name.startswith("infrared_stem"):
            state[key] = tensor.clone()
    return state


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("visible_stem.conv.weight", "conv1.weight"),
        ("infrared_stem.norm.running_mean", "bn1.running_mean"),
        ("trunk.stage1.0.downsample.0.weight", "layer1.0.downsample.0.weight"),
        ("trunk.stage4.2.bn3.bias", "layer4.2.bn3.bias"),
        ("non_local.stage2.0.key.weight", None),
        ("neck.weight", None),
    ],
)
def test_names(ours: str, theirs: str | None) -> None:
    assert imagenet_name(ours) == theirs


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("counters", [True, False])
def test_fills_both_stems_and_the_trunk(tmp_path: Path, suffix: str, counters: bool) -> None:
    source, target = stirred(SMALL["bottleneck"], 1), stirred(SMALL["bottleneck"], 2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = torchvision_state(source)
    if not counters:
        state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    load_imagenet(target, path)
    for name, tensor in target.state_dict().items():
        key = imagenet_name(name)
        expected = before[name] if key is None else state.get(key, before[name])
        assert torch.equal(tensor, expected), name
    assert torch.equal(target.visible_stem.conv.weight, target.infrared_stem.conv.weight)


def test_another_architecture_is_named_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torchvision_state(stirred(SMALL["bottleneck"])), path)
    network = stirred(SMALL["basic"])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError, match=r"weights\.pth.*'conv1\.weight' has shape 8×3×7×7; expected shape 8×3×3×3"):
        load_imagenet(network, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("sprung"),))  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["text.pth", "text.safetensors", "empty.pth", "trap.pth", "list.pth", "keys.pth"])
def test_files_that_hold_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    match path.stem:
        case "text":
            path.write_text("this is no network\n")
        case "empty":
            path.write_bytes(b"")
        case "trap":
            path.write_bytes(pickle.dumps(Trap(), protocol=2))
        case "list":
            torch.save([torch.zeros(1)], path)
        case "keys":
            torch.save({"conv1.weight": "not a tensor"}, path)
    with pytest.raises(UserError, match=name) as caught:
        load_imagenet(TwoStreamNetwork(SMALL["basic"]), path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_imagenet(TwoStreamNetwork(SMALL["basic"]), tmp_path / "gone.pth")


CONTENT = b"pretend weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    requests = 0

    def do_GET(self) -> None:
        Handler.requests += 1
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def address() -> Iterator[str]:
    Handler.requests = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_download_with_the_right_checksum(tmp_path: Path, address: str) -> None:
    url = f"{address}/net-{DIGEST[:8]}.pth"
    path = download_imagenet(tmp_path / "new" / "folder", url=url)
    assert path.name == f"net-{DIGEST[:8]}.pth"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert download_imagenet(path.parent, url=url) == path
    assert Handler.requests == 1
    path.write_bytes(b"damaged since")
    assert download_imagenet(path.parent, url=url).read_bytes() == CONTENT


def test_download_with_a_wrong_checksum_leaves_nothing(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError, match=f"begins with {DIGEST[:8]}; expected 00000000"):
        download_imagenet(tmp_path, url=f"{address}/net-00000000.pth")
    assert not list(tmp_path.iterdir())


def test_download_of_a_missing_file(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError, match="404"):
        download_imagenet(tmp_path / "new" / "folder", url=f"{address}/gone-{DIGEST[:8]}.pth")
    assert not list(tmp_path.iterdir())


def test_download_into_a_file(tmp_path: Path, address: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be created"):
        download_imagenet(tmp_path / "file", url=f"{address}/net-{DIGEST[:8]}.pth")
    assert Handler.requests == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1/net.pth", "file:///net-00000000.pth"])
def test_an_address_without_a_checksum(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="HASH"):
        download_imagenet(tmp_path, url=url)


def test_the_published_address_contains_a_checksum() -> None:
    assert IMAGENET_URL.startswith("https://")
    assert IMAGENET_URL.endswith("resnet50-0676ba61.pth")
