"""The plain loop that training is compared with does the same as ours; large searches measure what they should."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import evaluation, throughput
from benchmarks.baselines import plain_step
from benchmarks.baselines.plain_step import Loader, PlainMemory, PlainNetwork, PlainNumbers, PlainTraining

from pclhd.data.images import decode_image
from pclhd.data.normalise import normalise
from pclhd.data.records import Modality
from pclhd.models.embed import embed_images
from pclhd.prototypes import ClusterMemory
from tests.models.small import SMALL, stirred

ROOT = Path(__file__).parent.parent
HEIGHT, WIDTH = 32, 16


def paths_of(root: Path, modality: Modality, number: int) -> list[Path]:
    images = throughput.draw_images(root, number).images
    return [record.path for record in images if record.modality is modality]


@pytest.mark.parametrize("kind", list(SMALL))
@pytest.mark.parametrize("training", [True, False])
def test_the_plain_network_computes_the_same(kind: str, training: bool) -> None:
    network = stirred(SMALL[kind]).train(training)
    plain = PlainNetwork(network).train(training)
    generator = torch.Generator().manual_seed(0)
    visible, infrared = (torch.randn(count, 3, HEIGHT, WIDTH, generator=generator) for count in (4, 3))
    with torch.no_grad():
        torch.testing.assert_close(plain(visible, infrared), network(visible, infrared).embedding, rtol=1e-3, atol=1e-4)


def test_the_plain_embedding_is_the_same_in_the_order_of_the_images(tmp_path: Path) -> None:
    network = stirred(SMALL["basic"]).eval()
    paths = paths_of(tmp_path, Modality.VISIBLE, 7)
    pixels = np.stack([decode_image(path, HEIGHT, WIDTH, resample="bicubic") for path in paths])
    expected = embed_images(network, pixels, Modality.VISIBLE, renormalise=False)
    with ThreadPoolExecutor(2) as pool:
        found = plain_step.embed_as_the_field_does(
            PlainNetwork(network), paths, Loader(pool, 2, HEIGHT, WIDTH), batch_size=3
        )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_plain_memory_is_written_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, queries = (torch.nn.functional.normalize(torch.randn(count, 8, generator=generator)) for count in (5, 12))
    labels = torch.tensor([0, 0, 0, 0, 3, 3, 3, 3, 1, 1, 1, 1])
    plain, ours = PlainMemory(rows, 0.1), ClusterMemory(rows, rows, momentum=0.1)
    for _ in range(2):
        plain.update(queries, labels)
        ours.update(queries, labels)
    torch.testing.assert_close(plain.centroids, ours.centroids)
    torch.testing.assert_close(plain.hard, ours.hard)


def test_images_are_transformed_one_by_one(tmp_path: Path) -> None:
    random.seed(0)
    path = paths_of(tmp_path, Modality.VISIBLE, 1)[0]
    image = plain_step.read_image(path, HEIGHT, WIDTH)
    pixels = torch.from_numpy(decode_image(path, HEIGHT, WIDTH, resample="bicubic"))
    np.testing.assert_allclose(plain_step.to_numbers(image), normalise(pixels).numpy(), atol=1e-5)
    for _ in range(20):
        colour, grey = plain_step.visible_item(path, HEIGHT, WIDTH)
        assert colour.shape == grey.shape == (3, HEIGHT, WIDTH)
        assert colour.dtype == np.float32
        assert (grey[0] == grey[1]).all()
        assert (grey[0] == grey[2]).all()
        assert not (colour[0] == colour[1]).all()
    views = [plain_step.infrared_item(path, HEIGHT, WIDTH) for _ in range(20)]
    assert len({view.tobytes() for view in views}) == 20


@pytest.mark.parametrize("stage", [1, 2])
def test_a_plain_step_passes_forward_and_trains(tmp_path: Path, stage: int) -> None:
    paths = {}
    for modality in Modality:
        (tmp_path / modality).mkdir()
        paths[modality] = paths_of(tmp_path / modality, modality, 4)
    labels = torch.tensor([0, 0, 1, 1])
    batches = [(paths[Modality.VISIBLE], labels, paths[Modality.INFRARED], labels)] * stage
    numbers = PlainNumbers(1e-3, 5e-4, 0.9, 0.1, 0.05, 0.25)
    with ThreadPoolExecutor(2) as pool:
        plain = PlainTraining(stirred(SMALL["basic"]), 3, numbers, stage, Loader(pool, 2, HEIGHT, WIDTH))
        before = [parameter.detach().clone() for parameter in plain.network.parameters()]
        passes: list[str] = []
        for name, network in (("online", plain.network), ("momentum", plain.momentum)):
            network.register_forward_hook(lambda *_, name=name: passes.append(name))
        assert np.isfinite([plain.step(batches) for _ in range(2)]).all()
    assert passes == (["online"] if stage == 1 else ["online", "momentum", "online"]) * 2
    moved = [not torch.equal(new, old) for new, old in zip(plain.network.parameters(), before, strict=True)]
    assert sum(moved) > len(moved) // 2
    slow = [not torch.equal(new, old) for new, old in zip(plain.momentum.parameters(), before, strict=True)]
    assert any(slow) == (stage == 2)


def test_medians_leave_out_the_first_turn() -> None:
    ours, plain = [(9.0, 9.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)], [(0.0, 0.0), (6.0, 9.0), (6.0, 9.0), (7.0, 9.0)]
    row = throughput.row_of("step", ours, plain, images=48)
    assert (row["seconds"], row["plain_seconds"], row["ratio"], row["cpu_ratio"]) == (2, 6, 3, 3)
    assert row["turns"] == 3
    assert "| step | 32-true | 48 | 6 | 2 | 3 | 9 | 3 | 3 |" in throughput.as_markdown([row | {"precision": "32-true"}])


def test_a_large_set_has_people_cameras_and_unit_vectors() -> None:
    test, embeddings, search = evaluation.make_large_set(30, 500)
    assert len(test) == len(embeddings) == 530
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    [trial] = search.trials
    assert (len(trial.query), len(trial.gallery)) == (30, 500)
    assert {test.identities[i] for i in trial.query} <= {test.identities[i] for i in trial.gallery}
    assert {test.images[i].camera for i in trial.gallery} == set(range(1, 9))
    assert evaluation.size_of("20x3000") == (20, 3000)
    assert evaluation.measure_large(20, 300)["mAP"] < 0.6  # chance


def quick(name: str, path: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, f"benchmarks/{name}.py", "--quick", "--json", str(path), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.slow
def test_throughput_in_its_quick_form(tmp_path: Path) -> None:
    words = ("--recipes", "pclhd", "--clusters", "2", "--instances", "2", "--threads", "1", "--embedded", "4")
    rows = quick("throughput", tmp_path / "figures.json", *words)["rows"]
    assert [row["what"] for row in rows] == ["step, pclhd, stage I", "step, pclhd, stage II", "embedding"]
    assert all(row["ratio"] == pytest.approx(row["plain_seconds"] / row["seconds"]) for row in rows)


@pytest.mark.slow
def test_large_searches_in_their_quick_form(tmp_path: Path) -> None:
    content = quick("evaluation", tmp_path / "figures.json", "--large")
    assert [row["gallery"] for row in content["rows"]] == [2_000, 4_000]
