from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pclhd.evaluation.metrics import CmcOver, ExclusionRule, Metrics, measure_ranking
from tests.golden.helpers import golden_files

FAMILIES: dict[str, tuple[ExclusionRule, CmcOver]] = {
    "sysu": (ExclusionRule.SYSU, "identities"),
    "regdb": (ExclusionRule.NONE, "images"),
    "llcm": (ExclusionRule.SAME_CAMERA_SAME_IDENTITY, "identities"),
}
FILES = [path for family in FAMILIES for path in golden_files(f"metrics_{family}_*.npz")]


def measure(path: Path, rows: slice = slice(None)) -> Metrics:
    rule, cmc_over = FAMILIES[path.stem.split("_")[1]]
    with np.load(path, allow_pickle=False) as recorded:
        has_cameras = "q_camids" in recorded
        return measure_ranking(
            recorded["distmat"][rows],
            recorded["q_pids"][rows],
            recorded["g_pids"],
            recorded["q_camids"][rows] if has_cameras else None,
            recorded["g_camids"] if has_cameras else None,
            rule=rule,
            cmc_over=cmc_over,
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_measures_equal_the_released_code(path: Path) -> None:
    metrics = measure(path)
    with np.load(path, allow_pickle=False) as recorded:
        assert metrics.cmc.shape == recorded["cmc"].shape
        np.testing.assert_allclose(metrics.cmc, recorded["cmc"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(metrics.mAP, recorded["mAP"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(metrics.mINP, recorded["mINP"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_query_equals_the_released_code(path: Path) -> None:
    metrics = measure(path)
    with np.load(path, allow_pickle=False) as recorded:
        np.testing.assert_array_equal(metrics.valid, recorded["valid"])
        np.testing.assert_allclose(metrics.per_query_ap, recorded["per_query_AP"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(metrics.per_query_inp, recorded["per_query_INP"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_query_alone_scores_as_it_does_among_others(path: Path) -> None:
    together = measure(path)
    first = int(np.flatnonzero(together.valid)[0])
    alone = measure(path, slice(first, first + 1))
    assert alone.mAP == pytest.approx(together.per_query_ap[first], abs=1e-15)
    assert alone.mINP == pytest.approx(together.per_query_inp[first], abs=1e-15)


def test_the_recordings_of_each_family_depend_on_its_exclusion_rule() -> None:
    """The recorded files would not prove much if leaving the rule out gave the same numbers."""
    for family in ("sysu", "llcm"):
        differs = False
        for path in golden_files(f"metrics_{family}_*.npz"):
            with np.load(path, allow_pickle=False) as recorded:
                plain = measure_ranking(
                    recorded["distmat"],
                    recorded["q_pids"],
                    recorded["g_pids"],
                    rule=ExclusionRule.NONE,
                    cmc_over="identities",
                )
                differs |= abs(plain.mAP - float(recorded["mAP"])) > 1e-3
        assert differs, family
