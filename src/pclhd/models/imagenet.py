"""ImageNet weights: from a local file in torchvision's names, or downloaded when the user asks for it."""

from __future__ import annotations

import hashlib
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file
from torch import Tensor

from pclhd.data.records import digest_file
from pclhd.errors import UserError
from pclhd.files import replacing
from pclhd.models.fill import Source, fill_network
from pclhd.models.two_stream import TwoStreamNetwork

IMAGENET_URL = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
"""ResNet-50 as first published by torchvision. The eight digits in the name begin the file's SHA-256."""

_STEM_PARTS = {"conv": "conv1", "norm": "bn1"}
_CHUNK = 1 << 20


def imagenet_name(name: str) -> str | None:
    """Torchvision's name of one of our state entries; both stems have the same one.

    Args:
        name: A key of `TwoStreamNetwork.state_dict`, such as ``infrared_stem.conv.weight``.

    Returns:
        The name in a torchvision ResNet, such as ``conv1.weight``, or None for parts that it does not have: non-local
        blocks and the neck.
    """
    match name.split("."):
        case ["visible_stem" | "infrared_stem", ("conv" | "norm") as part, *rest]:
            return ".".join([_STEM_PARTS[part], *rest])
        case ["trunk", stage, *rest]:
            return ".".join([stage.replace("stage", "layer"), *rest])
    return None


def load_imagenet(network: TwoStreamNetwork, path: Path) -> None:
    """Fill stems and trunk with the weights of an ImageNet classifier of torchvision's kind.

    Both stems begin alike. Non-local blocks and the neck keep what they have; the classifier is left out. Either all
    of stems and trunk is filled, or nothing.

    Args:
        network: The network to fill.
        path: A ``.pth`` file (a plain state, read without unpickling code) or a ``.safetensors`` file.

    Raises:
        UserError: The file cannot be read, or is no network of this architecture.
    """
    sources: dict[str, Source] = {}
    for name in network.state_dict():
        key = imagenet_name(name)
        if key is not None:
            # Files from before torch 0.4.1 count no batches.
            sources[name] = Source(key, optional=key.endswith("num_batches_tracked"))
    fill_network(network, sources, read_state(path), origin=str(path))


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state of tensors by name, on the CPU, running no code from the file.

    Args:
        path: A ``.safetensors`` file, or else a file of `torch.save`.

    Raises:
        UserError: There is no such file, or it is damaged or of another kind.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a .pth or .safetensors file with weights")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file's permissions") from error
    except Exception as error:  # a stranger's bytes make the readers fail in any way they can, IndexError included
        raise UserError(
            f"{path}: holds no readable weights ({type(error).__name__}); expected a plain state of tensors (.pth or "
            ".safetensors); fetch the file again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path}: holds a {type(state).__name__}; expected a state of tensors by name")
    return state


def download_imagenet(folder: Path, *, url: str = IMAGENET_URL, timeout: float = 60.0) -> Path:
    """Download ImageNet weights and check them against the hash in their name. Only ever called at the user's wish.

    Args:
        folder: Where to put the file, which keeps the name it has in the URL. Made if it does not exist.
        url: Address of a file called ``NAME-HASH.pth``, HASH being the first eight or more digits of its SHA-256.
        timeout: Seconds without an answer after which to give up.

    Returns:
        The file. One that is already there and has the right content is not fetched again.

    Raises:
        UserError: The address cannot be reached, the content is not what the name promises, or the folder cannot be
            written. No file and no new folder is left behind.
        ValueError: The URL is of another kind.
    """
    name = Path(urlsplit(url).path).name
    promised = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    if promised is None or urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"url must be http(s)://…/NAME-HASH.pth with eight or more hexadecimal digits, not {url!r}")
    path = folder / name
    if path.is_file() and digest_file(path).startswith(promised[1]):
        return path
    with _kept_if_filled(folder), replacing(path) as file:
        digest = hashlib.sha256()
        try:
            with urllib.request.urlopen(url, timeout=timeout) as answer:
                while chunk := answer.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
        except (OSError, HTTPException) as error:
            raise UserError(
                f"{url}: cannot be downloaded ({error}); fetch it by other means and give its local path"
            ) from error
        if not digest.hexdigest().startswith(promised[1]):
            raise UserError(
                f"{url}: the SHA-256 of the download begins with {digest.hexdigest()[:8]}; expected {promised[1]}; "
                "the file was damaged or replaced on its way, so nothing was kept; try again"
            )
    return path


@contextmanager
def _kept_if_filled(folder: Path) -> Iterator[None]:
    """Make a folder, with its parents, for what the block puts there; if it fails, those that were made go again."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose a writable folder") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):  # something else has put a file there meanwhile
            for place in missing:
                place.rmdir()
        raise
