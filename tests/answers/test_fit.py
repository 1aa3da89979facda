"""Fitting a calibration, against slow twins."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pclhd.answers import fit
from pclhd.answers.fit import CURVES, Labelled, count_pairs, fit_calibration, log_loss
from pclhd.pair import Pair
from tests.answers.drawing import draw, draw_both

CENTRES = np.linspace(-1, 1, 4097)[:-1] + 1 / 4096


def test_pairs_are_counted_one_by_one() -> None:
    images = draw(8, 3, noise=1, seed=1, cameras=True)
    others = draw(8, 2, noise=1, seed=2)
    for gallery in (images, others):
        itself = gallery is images
        same, different, people = count_pairs(images, gallery, itself=itself)
        assert people.tolist() == images.labels.tolist()
        for query in range(24):
            expected = [0, 0]
            for row in range(len(gallery.labels)):
                if itself and images.cameras is not None and images.cameras[query] == images.cameras[row]:
                    continue
                expected[int(images.labels[query] != gallery.labels[row])] += 1
            assert [same[query].sum(), different[query].sum()] == expected
        similarity = images.features[0] @ gallery.features[-2]  # of the other camera
        middle = int((similarity + 1) * 2048)
        assert different[0, middle - 1 : middle + 2].sum() >= 1


def _pool_adjacent(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Isotonic regression by merging neighbours until nothing descends."""
    blocks = [[value, weight, 1] for value, weight in zip(values, weights, strict=True)]
    at = 0
    while at + 1 < len(blocks):
        if blocks[at][0] > blocks[at + 1][0]:
            (a, v, n), (b, w, m) = blocks[at], blocks.pop(at + 1)
            blocks[at] = [(a * v + b * w) / (v + w), v + w, n + m]
            at = max(at - 1, 0)
        else:
            at += 1
    return np.concatenate([np.full(int(n), value) for value, _, n in blocks])


def test_the_isotonic_curve() -> None:
    random = np.random.default_rng(3)
    same, different = np.zeros((2, 4096), dtype=np.int64)
    bins = np.sort(random.choice(4096, 40, replace=False))
    same[bins], different[bins] = random.integers(0, 9, 40), random.integers(1, 9, 40)
    curve = CURVES["isotonic"](same, different)
    total = (same + different)[bins]
    shares = _pool_adjacent(same[bins] / total, total.astype(np.float64))
    for share in np.unique(shares):
        block = bins[shares == share]
        ratio = (same[block].sum() + 0.5) / (same.sum() + 1) / ((different[block].sum() + 0.5) / (different.sum() + 1))
        middle = np.average(CENTRES[block], weights=(same + different)[block])
        between = np.interp(middle, CENTRES, curve)
        assert between == pytest.approx(np.log(ratio), abs=0.02)
    assert (np.diff(curve) >= 0).all()


def test_the_logistic_curve_finds_the_line_that_made_the_pairs() -> None:
    # Similarities of both kinds are normal with one spread, so the logarithm of the ratio is a line.
    spread = 0.1
    same = np.round(1e6 * np.exp(-((CENTRES - 0.5) ** 2) / (2 * spread**2))).astype(np.int64)
    different = np.round(3e6 * np.exp(-((CENTRES - 0.1) ** 2) / (2 * spread**2))).astype(np.int64)
    line = (0.4 * CENTRES - 0.12) / spread**2
    seen = (same + different) > 0
    for name in ("logistic", "isotonic"):
        curve = CURVES[name](same, different)
        middle = np.abs(line) < 5
        assert np.abs(curve - line)[seen & middle].max() < 0.05, name


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_never_descends_even_where_similar_means_different(name: str) -> None:
    same, different = np.zeros((2, 4096), dtype=np.int64)
    same[1000:2000], different[2000:3000] = 5, 5
    assert (np.diff(CURVES[name](same, different)) >= -1e-9).all()


def test_log_loss_pair_by_pair() -> None:
    same, different = np.zeros((2, 4096), dtype=np.int64)
    same[[10, 20]], different[[10, 30]] = (1, 2), (4, 3)
    curve = np.linspace(-2, 2, 4096)
    losses = []
    for row, truth in [(10, 1), (20, 1), (20, 1), *[(10, 0)] * 4, *[(30, 0)] * 3]:
        probability = 1 / (1 + np.exp(-(curve[row] + np.log(3 / 7))))
        losses.append(-np.log(probability if truth else 1 - probability))
    assert log_loss(curve, same, different) == pytest.approx(np.mean(losses))


def test_thresholds_give_the_wanted_rate_on_the_queries_they_come_from() -> None:
    images = draw_both(people=40)
    found = fit_calibration(images, model_id="m", source="labelled images").direction("infrared", "visible")
    queries, gallery = images.infrared, images.visible
    table = queries.features @ gallery.features.T
    others = queries.labels[:, None] != gallery.labels[None, :]
    for size, row in zip(found.sizes, found.thresholds, strict=True):
        for rate, threshold in zip(found.rates, row, strict=True):
            above = (((table >= threshold) & others).sum(axis=1)) / others.sum(axis=1)
            assert np.mean(1 - (1 - above) ** size) <= rate + 1e-9
            # One bin lower would be too many.
            above = (((table >= threshold - 1 / 2048) & others).sum(axis=1)) / others.sum(axis=1)
            assert np.mean(1 - (1 - above) ** size) > rate - 0.02
    assert found.rates[0] == 0.01  # 120 queries cannot show a rate of 0.005
    assert found.sizes[-1] == 156


def test_all_directions_and_the_choice_of_the_curve() -> None:
    made = fit_calibration(draw_both(), model_id="m", source="pseudo labels")
    assert [(one.query, one.gallery) for one in made.directions] == [
        ("visible", "visible"),
        ("visible", "infrared"),
        ("infrared", "visible"),
        ("infrared", "infrared"),
    ]
    for one in made.directions:
        assert one.log_loss[one.method] == min(one.log_loss.values())
        assert one.same_per_query == pytest.approx({"visible": 4, "infrared": 3}[one.gallery] - (
            (2 if one.gallery == "visible" else 1) if one.query == one.gallery else 0
        ))  # fmt: skip
    again = fit_calibration(draw_both(), model_id="m", source="pseudo labels")
    assert again == made


def test_probabilities_hold_on_other_images() -> None:
    made = fit_calibration(draw_both(people=150), model_id="m", source="labelled images")
    fresh = draw_both(people=150, seed=7)
    table = fresh.infrared.features @ fresh.visible.features.T
    correct = fresh.infrared.labels[:, None] == fresh.visible.labels[None, :]
    stated = made.probability(table, "infrared", "visible", made.prior("infrared", "visible", table.shape[1]))
    for low, high in ((0.1, 0.5), (0.5, 0.9)):
        chosen = (stated >= low) & (stated < high)
        assert abs(stated[chosen].mean() - correct[chosen].mean()) < 0.1


@pytest.mark.parametrize(
    "images",
    [
        Pair(draw(0, 3, noise=1, seed=1), draw(0, 3, noise=1, seed=2)),
        Pair(draw(1, 30, noise=1, seed=1), draw(1, 30, noise=1, seed=2)),
        Pair(draw(40, 1, noise=1, seed=1), draw(0, 1, noise=1, seed=2)),
    ],
    ids=["none", "one person", "one image each"],
)
def test_too_little_gives_no_direction(images: Pair[Labelled]) -> None:
    assert fit_calibration(images, model_id="m", source="labelled images").directions == []


def test_noise_is_left_out() -> None:
    images = draw_both()
    noisy = images.map(
        lambda one: Labelled(
            np.concatenate([one.features, one.features[:50]]),
            np.concatenate([one.labels, np.full(50, -1)]),
            None if one.cameras is None else np.concatenate([one.cameras, np.zeros(50, dtype=np.int64)]),
        )
    )
    arguments = {"model_id": "m", "source": "pseudo labels"}
    assert fit_calibration(noisy, **arguments) == fit_calibration(images, **arguments)  # type: ignore[arg-type]


def test_many_queries_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_MOST_QUERIES", 5)
    images = draw(9, 1, noise=1, seed=1)
    assert count_pairs(images, images, itself=True)[2].tolist() == [0, 2, 4, 6, 8]
