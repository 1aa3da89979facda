"""A service with a small gallery, in the process of the test."""

from __future__ import annotations

import io
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("lancedb", reason="the extra `gallery` is not installed")

from starlette.testclient import TestClient

from pclhd.answers.calibration import Calibration
from pclhd.config import load_preset
from pclhd.gallery.gallery import Gallery
from pclhd.models.backbones import build_network
from pclhd.models.encoder import Encoder
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.weights import initialise
from pclhd.service.access import Service
from pclhd.service.app import create_app
from pclhd.service.audit import AuditLog
from pclhd.service.limits import Limits
from pclhd.service.server import make_server


def image_bytes(seed: int, *, kind: str = "PNG", grey: bool = False) -> bytes:
    """An invented picture of 30 × 60 pixels."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 3, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((30, 60), Image.Resampling.BICUBIC)
    target = io.BytesIO()
    (image.convert("L") if grey else image).save(target, kind)
    return target.getvalue()


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    settings = load_preset("tiny", [])
    network = build_network(settings.model)
    initialise(network, settings.model.weights)
    return Encoder(network, Preprocessing(96, 48), device="cpu")


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A gallery of three visible images of the gate and one infrared image of the yard; not to be changed."""
    gallery = Gallery(tmp_path_factory.mktemp("filled") / "people", encoder=encoder)
    gallery.add(
        [io.BytesIO(image_bytes(seed)) for seed in range(3)], modality="visible", camera="gate", keep="thumbnail"
    )
    gallery.add(io.BytesIO(image_bytes(3, grey=True)), modality="infrared", camera="yard", keep="thumbnail")
    return gallery.path


def both_ways(model_id: str) -> Calibration:
    """A calibration of visible queries, for which any infrared image is more probable than any visible one."""
    direction = {
        "query": "visible", "gallery": "visible", "method": "logistic", "log_loss": {}, "queries": 10, "same_pairs": 10,
        "different_pairs": 10, "same_per_query": 1.0, "similarity": [-1.0, 1.0], "log_likelihood_ratio": [-2.0, 2.0],
        "sizes": [1], "rates": [0.001, 0.5], "thresholds": [[0.9, 0.9]],
    }  # fmt: skip
    other = {**direction, "gallery": "infrared", "log_likelihood_ratio": [3.0, 4.0], "thresholds": [[0.99, 0.99]]}
    return Calibration.model_validate(
        {"model_id": model_id, "source": "labelled images", "directions": [direction, other]}
    )


@contextmanager
def asking(service: Service, address: str = "http://127.0.0.1:8000") -> Iterator[TestClient]:
    """A client of a service."""
    with TestClient(create_app(service), base_url=address, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def service(tmp_path: Path, encoder: Encoder, filled: Path) -> Iterator[Service]:
    """A service without tokens, with a copy of the gallery `filled`."""
    shutil.copytree(filled, tmp_path / "people")
    log = AuditLog(tmp_path / "audit.jsonl")
    yield Service(Gallery(tmp_path / "people", encoder=encoder), log)
    log.close()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with asking(service) as made:
        yield made


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, filled: Path) -> Iterator[Service]:
    """A service for tests whose requests are all refused, or only look; there is no limit of the rate."""
    log = AuditLog(tmp_path_factory.mktemp("shared") / "audit.jsonl")
    most = 10**6
    yield Service(Gallery(filled, encoder=encoder), log, limits=Limits(requests_per_minute=most, burst=most))
    log.close()


@pytest.fixture(scope="module")
def shared(shared_service: Service) -> Iterator[TestClient]:
    with asking(shared_service) as made:
        yield made


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """The address of a server that runs in a thread."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = make_server(service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)
