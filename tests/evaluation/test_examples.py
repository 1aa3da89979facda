"""Examples that are chosen by how well a query is answered, against what a slow look at all pairs says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pclhd.data.records import ImageRecord, LabelledImages, Modality
from pclhd.evaluation.examples import chosen_examples, confused_people, pair_similarities
from pclhd.evaluation.metrics import ExclusionRule
from pclhd.evaluation.protocols import Search, Trial
from pclhd.evaluation.retrieval import unit_length

ROOT = Path("data")
PEOPLE = 6


@pytest.fixture
def test_images() -> LabelledImages:
    images, identities = [], []
    for modality in Modality:
        for person in range(PEOPLE):
            for shot in range(2):
                images.append(ImageRecord(ROOT / f"{modality}-{person}-{shot}.png", modality, camera=1))
                identities.append(person)
    return LabelledImages(tuple(images), tuple(identities))


@pytest.fixture
def search() -> Search:
    half = 2 * PEOPLE
    trial = Trial("one", query=np.arange(half, 2 * half), gallery=np.arange(half))
    return Search("infrared→visible", "infrared→visible", ExclusionRule.NONE, "images", (trial,))


@pytest.fixture
def embeddings(test_images: LabelledImages) -> np.ndarray:
    random = np.random.default_rng(3)
    people = np.eye(PEOPLE)[list(test_images.identities)]
    return (people + random.normal(0, 0.35, people.shape)).astype(np.float32)


def test_best_and_worst_are_so_by_their_lead(
    test_images: LabelledImages, search: Search, embeddings: np.ndarray
) -> None:
    unit = unit_length(embeddings)
    leads = {}
    for query in search.trials[0].query.tolist():
        same = [
            g for g in search.trials[0].gallery.tolist() if test_images.identities[g] == test_images.identities[query]
        ]
        other = [g for g in search.trials[0].gallery.tolist() if g not in same]
        path = test_images.images[query].path.name
        leads[path] = max(unit[same] @ unit[query]) - max(unit[other] @ unit[query])
    chosen = chosen_examples(embeddings, test_images, search, ROOT)
    assert chosen.keys() == {"best", "worst", "random"}
    best, worst = ([one["query"]["path"] for one in chosen[kind]] for kind in ("best", "worst"))
    assert best[0] == max(leads, key=lambda name: leads[name])
    assert worst[0] == min(leads, key=lambda name: leads[name])
    for kind in chosen.values():
        assert len({one["query"]["identity"] for one in kind}) == len(kind) == 3
    for one in chosen["worst"]:
        assert one["gallery"][0]["correct"] == (leads[one["query"]["path"]] > 0)


def test_people_who_are_taken_for_each_other_are_counted(
    test_images: LabelledImages, search: Search, embeddings: np.ndarray
) -> None:
    unit = unit_length(embeddings)
    counts: Counter[tuple[int, ...]] = Counter()
    for query in search.trials[0].query.tolist():
        first = int(np.argmax(unit[: 2 * PEOPLE] @ unit[query]))
        pair = sorted((test_images.identities[query], test_images.identities[first]))
        if pair[0] != pair[1]:
            counts[tuple(pair)] += 1
    confused = confused_people(embeddings, test_images, search, ROOT)
    assert [one["queries"] for one in confused] == sorted(counts.values(), reverse=True)
    for one in confused:
        assert counts[tuple(sorted((one["query"]["identity"], one["found"]["identity"])))] == one["queries"]
    perfect = np.eye(PEOPLE, dtype=np.float32)[list(test_images.identities)]
    assert confused_people(perfect, test_images, search, ROOT) == []


def test_all_pairs_are_in_a_bin(test_images: LabelledImages, embeddings: np.ndarray) -> None:
    bins = pair_similarities(embeddings, test_images)
    assert sum(bins["same"]) == PEOPLE * 4
    assert sum(bins["same"]) + sum(bins["different"]) == (2 * PEOPLE) ** 2
    exact = pair_similarities(np.eye(PEOPLE, dtype=np.float32)[list(test_images.identities)], test_images)
    assert exact["same"][-1] == PEOPLE * 4
    assert exact["different"][40] == (2 * PEOPLE) ** 2 - PEOPLE * 4


def test_a_gallery_of_one_person_has_nothing_to_choose_by(test_images: LabelledImages, embeddings: np.ndarray) -> None:
    trial = Trial("one", query=np.array([12, 13]), gallery=np.array([0, 1]))
    alone = Search("one", "infrared→visible", ExclusionRule.NONE, "images", (trial,))
    assert chosen_examples(embeddings, test_images, alone, ROOT) == {"best": [], "worst": [], "random": []}
    assert confused_people(embeddings, test_images, alone, ROOT) == []
