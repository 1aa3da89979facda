"""ImageNet weights: from a local file with torchvision's names, or downloaded at the user's request."""

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
"""ResNet-50, torchvision's first weights. The eight digits in the name are the first of the file's SHA-256."""

_STEM_PARTS = {"conv": "conv1", "norm": "bn1"}
_CHUNK = 1 << 20


def imagenet_name(name: str) -> str | None:
    """Torchvision's name of one of our state entries; the names of both stems map to the same one.

    Args:
        name: A key of `TwoStreamNetwork.state_dict`, such as ``infrared_stem.conv.weight``.

    Returns:
        The name in a torchvision ResNet, such as ``conv1.weight``, or None for parts that torchvision does not have:
        non-local blocks and the neck.
    """
    match name.split("."):
        case ["visible_stem" | "infrared_stem", ("conv" | "norm") as part, *rest]:
            return ".".join([_STEM_PARTS[part], *rest])
        case ["trunk", stage, *rest]:
            return ".".join([stage.replace("stage", "layer"), *rest])
    return None


def load_imagenet(network: TwoStreamNetwork, path: Path) -> None:
    """Load the weights of an ImageNet classifier of torchvision into stems and trunk.

    Both stems get the same weights. Non-local blocks and the neck do not change; the classifier is ignored. Either
    stems and trunk are loaded completely, or nothing is.

    Args:
        network: The network.
        path: A ``.pth`` file (a plain state, read without unpickling code) or a ``.safetensors`` file.

    Raises:
        UserError: The file cannot be read, or its weights are of another architecture.
    """
    sources: dict[str, Source] = {}
    for name in network.state_dict():
        key = imagenet_name(name)
        if key is not None:
            # Files from before torch 0.4.1 have no batch counters.
            sources[name] = Source(key, optional=key.endswith("num_batches_tracked"))
    fill_network(network, sources, read_state(path), origin=str(path))


def read_state(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, on the CPU, without running code from the file.

    Args:
        path: A ``.safetensors`` file, or a file of `torch.save`.

    Raises:
        UserError: There is no such file, or it is damaged or has another format.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a .pth or .safetensors file with weights")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file's permissions") from error
    except Exception as error:  # the readers raise many exception types on invalid files, IndexError included
        raise UserError(
            f"{path}: contains no readable weights ({type(error).__name__}); expected plain tensors by name (.pth or "
            ".safetensors); fetch the file again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path}: contains a {type(state).__name__}; expected tensors by name")
    return state


def download_imagenet(folder: Path, *, url: str = IMAGENET_URL, timeout: float = 60.0) -> Path:
    """Download ImageNet weights and check them against the hash in their name. Called only at the user's request.

    Args:
        folder: Folder for the file, which keeps its name from the URL. Created if it does not exist.
        url: URL of a file named ``NAME-HASH.pth``; HASH is the first eight or more digits of its SHA-256.
        timeout: Seconds to wait for an answer.

    Returns:
        The file. An existing one with the right content is not downloaded again.

    Raises:
        UserError: The server cannot be reached, the content does not match the hash, or the folder cannot be written.
            No file and no new folder is left.
        ValueError: The URL has another form.
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
                f"{url}: cannot be downloaded ({error}); download it some other way and give its local path"
            ) from error
        if not digest.hexdigest().startswith(promised[1]):
            raise UserError(
                f"{url}: the SHA-256 of the download begins with {digest.hexdigest()[:8]}; expected {promised[1]}; "
                "the file was damaged or replaced, so it was deleted; try again"
            )
    return path


@contextmanager
def _kept_if_filled(folder: Path) -> Iterator[None]:
    """Create a folder, with its parents, for the block; if the block fails, the created folders are removed."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror}); choose a writable folder") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):  # another program has created a file there
            for place in missing:
                place.rmdir()
        raise
