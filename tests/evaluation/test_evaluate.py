from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pclhd.data.records import NOBODY, ImageRecord, LabelledImages, Modality, Names
from pclhd.errors import UserError
from pclhd.evaluation import evaluate
from pclhd.evaluation.evaluate import combine, evaluate_embeddings
from pclhd.evaluation.examples import ranked_examples
from pclhd.evaluation.metrics import ExclusionRule, measure_ranking
from pclhd.evaluation.protocols import Search, Trial, searches_for

ROOT = Path("data")


def labelled(seed: int = 0, people: int = 12) -> LabelledImages:
    """The cameras of SYSU-MM01, a few images in each, some cameras missing."""
    rng = np.random.default_rng(seed)
    records, identities = [], []
    for identity in range(1, people + 1):
        for camera in range(1, 7):
            if camera in (1, 4) and rng.random() < 0.3:
                continue
            modality = Modality.INFRARED if camera in (3, 6) else Modality.VISIBLE
            for number in range(int(rng.integers(1, 5))):
                path = ROOT / f"cam{camera}/{identity:04d}/{number:04d}.jpg"
                records.append(ImageRecord(path, modality, camera))
                identities.append(identity)
    return LabelledImages(tuple(records), tuple(identities))


def embed(test: LabelledImages, noise: float, seed: int = 0, size: int = 16) -> NDArray[np.float32]:
    """A direction per identity plus noise: the less noise, the better the search."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((max(test.identities) + 1, size))
    return (centre[list(test.identities)] + noise * rng.standard_normal((len(test), size))).astype(np.float32)


TEST = labelled()


@pytest.mark.parametrize("layout", ["sysu", "regdb", "llcm", "own"])
def test_evaluate_embeddings__equals_measuring_each_trial_by_itself(layout: str) -> None:
    embeddings = embed(TEST, noise=1.5)
    searches = searches_for(layout, TEST)
    identities = np.array(TEST.identities)
    cameras = np.array([image.camera for image in TEST.images])
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    results = evaluate_embeddings(embeddings, TEST, searches)
    assert [result.search.name for result in results] == [search.name for search in searches]
    for result in results:
        assert len(result.trials) == len(result.search.trials)
        for found, trial in zip(result.trials, result.search.trials, strict=True):
            alone = measure_ranking(
                -unit[trial.query] @ unit[trial.gallery].T,
                identities[trial.query],
                identities[trial.gallery],
                cameras[trial.query],
                cameras[trial.gallery],
                rule=result.search.rule,
                cmc_over=result.search.cmc_over,
            )
            np.testing.assert_allclose(found.per_query_ap, alone.per_query_ap, atol=1e-12)
            np.testing.assert_allclose(found.cmc, alone.cmc, atol=1e-12)


def test_evaluate_embeddings__does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, searches = embed(TEST, noise=1.5), searches_for("sysu", TEST)
    whole = [result.to_dict() for result in evaluate_embeddings(embeddings, TEST, searches)]
    monkeypatch.setattr(evaluate, "_BLOCK_ELEMENTS", 1000)
    assert [result.to_dict() for result in evaluate_embeddings(embeddings, TEST, searches)] == whole


def test_evaluate_embeddings__length_of_embeddings_does_not_matter() -> None:
    embeddings, searches = embed(TEST, noise=1.5), searches_for("sysu", TEST)
    # Powers of two, so that scaling to unit length gives the same numbers again.
    scale = 2.0 ** np.random.default_rng(0).integers(-3, 4, (len(TEST), 1))
    plain = evaluate_embeddings(embeddings, TEST, searches)
    scaled = evaluate_embeddings((embeddings * scale).astype(np.float32), TEST, searches)
    assert [result.to_dict() for result in plain] == [result.to_dict() for result in scaled]


def test_evaluate_embeddings__perfect_and_hopeless() -> None:
    searches = searches_for("sysu", TEST)
    perfect = evaluate_embeddings(embed(TEST, noise=0.0), TEST, searches)
    noise = evaluate_embeddings(embed(TEST, noise=1e6), TEST, searches)
    for good, bad in zip(perfect, noise, strict=True):
        assert good.to_dict()["rank1"] == {"mean": 1.0, "std": 0.0}
        assert good.to_dict()["mINP"]["mean"] == pytest.approx(1)
        assert bad.to_dict()["rank1"]["mean"] < 0.5


def test_search_result__row_for_the_results_file() -> None:
    searches = searches_for("sysu", TEST)
    result = evaluate_embeddings(embed(TEST, noise=2.0), TEST, searches)[0]
    row = result.to_dict()
    assert json.loads(json.dumps(row)) == row
    assert (row["search"], row["trials"], len(row["cmc"]), len(row["per_trial"])) == ("all/single-shot", 10, 20, 10)
    assert (row["queries"], row["gallery"]) == (len(searches[0].trials[0].query), len(searches[0].trials[0].gallery))
    assert row["valid_queries"] == int(result.trials[0].valid.sum())
    rank1 = [trial["rank1"] for trial in row["per_trial"]]
    assert row["rank1"]["mean"] == pytest.approx(sum(rank1) / 10)
    assert row["rank1"]["std"] == pytest.approx((sum((x - sum(rank1) / 10) ** 2 for x in rank1) / 10) ** 0.5)
    assert row["rank1"]["std"] > 0
    for k in (1, 5, 10, 20):
        assert row[f"rank{k}"]["mean"] == pytest.approx(row["cmc"][k - 1])
    # Twelve people: the curve ends at 12 and keeps its last value.
    assert row["cmc"][11:] == [row["cmc"][11]] * 9


def test_evaluate_embeddings__no_valid_query_names_the_search() -> None:
    test = LabelledImages(
        (ImageRecord(ROOT / "a.jpg", Modality.VISIBLE, 1), ImageRecord(ROOT / "b.jpg", Modality.INFRARED, 1)), (1, 2)
    )
    with pytest.raises(UserError, match="search visible→infrared: none of the 1 queries"):
        evaluate_embeddings(np.eye(2, dtype=np.float32), test, searches_for("own", test))


def test_evaluate_embeddings__a_camera_rule_without_cameras_names_the_image() -> None:
    test = LabelledImages(
        (ImageRecord(ROOT / "a.jpg", Modality.VISIBLE, 1), ImageRecord(ROOT / "b.jpg", Modality.INFRARED)), (1, 1)
    )
    trial = Trial("0", np.array([0]), np.array([1]))
    search = Search("mine", "visible→infrared", ExclusionRule.SYSU, "images", (trial,))
    with pytest.raises(UserError, match=r"b\.jpg: search mine needs the camera"):
        evaluate_embeddings(np.eye(2, dtype=np.float32), test, [search])


def test_evaluate_embeddings__refuses_a_wrong_number_or_a_nan() -> None:
    searches = searches_for("regdb", TEST)
    with pytest.raises(ValueError, match="3 embeddings for"):
        evaluate_embeddings(np.ones((3, 2), dtype=np.float32), TEST, searches)
    broken = embed(TEST, noise=1.0)
    broken[4, 0] = np.nan
    with pytest.raises(ValueError, match="embedding 4 "):
        evaluate_embeddings(broken, TEST, searches)


def test_ranked_examples__what_they_show_is_true() -> None:
    embeddings, search = embed(TEST, noise=1.5), searches_for("sysu", TEST)[0]
    examples = ranked_examples(embeddings, TEST, search, ROOT, count=5, top=7)
    assert json.loads(json.dumps(examples)) == examples
    assert len(examples) == 5
    assert len({example["query"]["identity"] for example in examples}) == 5
    row_of = {image.path.relative_to(ROOT).as_posix(): i for i, image in enumerate(TEST.images)}
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for example in examples:
        query = row_of[example["query"]["path"]]
        assert example["query"]["identity"] == TEST.identities[query]
        assert example["query"]["modality"] == "infrared"
        left = [
            g
            for g in search.trials[0].gallery.tolist()
            if not (TEST.images[query].camera == 3 and TEST.images[g].camera == 2)
        ]
        left.sort(key=lambda g: -float(unit[query] @ unit[g]))
        assert [row_of[image["path"]] for image in example["gallery"]] == left[:7]
        correct = [TEST.identities[g] == TEST.identities[query] for g in left]
        assert [image["correct"] for image in example["gallery"]] == correct[:7]
        assert example["first_correct_rank"] == correct.index(True) + 1
        expected = [1 - float(unit[query] @ unit[g]) for g in left[:7]]
        np.testing.assert_allclose([image["distance"] for image in example["gallery"]], expected, atol=1e-6)


def test_ranked_examples__the_choice_ignores_how_well_a_query_did() -> None:
    search = searches_for("sysu", TEST)[0]
    good = ranked_examples(embed(TEST, noise=0.1), TEST, search, ROOT)
    bad = ranked_examples(embed(TEST, noise=9.0, seed=5), TEST, search, ROOT)
    assert [example["query"] for example in good] == [example["query"] for example in bad]
    assert [e["first_correct_rank"] for e in good] != [e["first_correct_rank"] for e in bad]


def test_ranked_examples__small_cases() -> None:
    search = searches_for("sysu", TEST)[0]
    embeddings = embed(TEST, noise=1.0)
    assert len(ranked_examples(embeddings, TEST, search, ROOT, count=1, top=1)[0]["gallery"]) == 1
    assert len(ranked_examples(embeddings, TEST, search, ROOT, count=99)) <= 12
    elsewhere = ranked_examples(embeddings, TEST, search, Path("other"), count=1)
    assert elsewhere[0]["query"]["path"].startswith("data/")
    with pytest.raises(ValueError, match="not 0 and 10"):
        ranked_examples(embeddings, TEST, search, ROOT, count=0)
    with pytest.raises(ValueError, match="1 embeddings"):
        ranked_examples(embeddings[:1], TEST, search, ROOT)


def test_ranked_examples__queries_without_a_match_are_not_shown() -> None:
    # Identity 1 only has a camera-2 image, which a camera-3 query does not see; identity 2 has no gallery image.
    cameras = [(1, 2), (3, 1), (1, 3), (2, 3), (3, 3)]
    test = LabelledImages(
        tuple(
            ImageRecord(ROOT / f"{i}.jpg", Modality.INFRARED if camera == 3 else Modality.VISIBLE, camera)
            for i, (_, camera) in enumerate(cameras)
        ),
        tuple(identity for identity, _ in cameras),
    )
    search = searches_for("sysu", test)[0]
    (example,) = ranked_examples(np.eye(5, dtype=np.float32), test, search, ROOT)
    assert example["query"]["path"] == "4.jpg"
    assert [image["path"] for image in example["gallery"]] == ["1.jpg"]


def rows_of(seed: int) -> list[dict[str, Any]]:
    found = evaluate_embeddings(embed(TEST, noise=1.5, seed=seed), TEST, searches_for("regdb", TEST))
    return [{"weights": "final", **result.to_dict()} for result in found]


def test_combine__averages_runs() -> None:
    runs = [rows_of(seed) for seed in range(4)]
    combined = combine(runs)
    assert json.loads(json.dumps(combined)) == combined
    assert [row["search"] for row in combined] == ["visible→infrared", "infrared→visible"]
    for i, row in enumerate(combined):
        values = [run[i]["mAP"]["mean"] for run in runs]
        assert row["trials"] == 4
        assert set(row) == set(runs[0][i])
        assert row["mAP"] == {"mean": pytest.approx(np.mean(values)), "std": pytest.approx(np.std(values))}
        assert row["mAP"]["std"] > 0
        assert row["cmc"][0] == pytest.approx(row["rank1"]["mean"])
        assert [trial["mAP"] for trial in row["per_trial"]] == values
        assert row["queries"] == runs[0][i]["queries"]


def test_combine__of_one_run_is_that_run() -> None:
    (run,) = [rows_of(0)]
    assert combine([run]) == run


def test_combine__refuses_runs_that_do_not_belong_together() -> None:
    with pytest.raises(UserError, match="no results to combine"):
        combine([])
    with pytest.raises(UserError, match=r"results 1 and 2 cannot be combined.*infrared→visible"):
        combine([rows_of(0), rows_of(1)[:1]])


def test_strangers_count_against_and_junk_for_nothing() -> None:
    """A query whose nearest image is junk, then a stranger, then the right one."""
    records = tuple(ImageRecord(ROOT / f"{row}.jpg", Modality.VISIBLE, 0) for row in range(3))
    test = LabelledImages(
        (ImageRecord(ROOT / "query.jpg", Modality.INFRARED, 1), *records),
        (0, NOBODY, NOBODY, 0),
        ("query", "junk", "unknown", "gallery"),
        Names(("17000000000000000001",), ("hall", "door")),
    )
    embeddings = np.array([[1, 0], [1, 0], [1, 0.1], [1, 0.2]], dtype=np.float32)
    (search,) = searches_for("own", test)
    (result,) = evaluate_embeddings(embeddings, test, [search])
    row = result.to_dict()
    assert (row["rank1"]["mean"], row["rank5"]["mean"], row["mAP"]["mean"], row["gallery"]) == (0, 1, 0.5, 2)
    (example,) = ranked_examples(embeddings, test, search, ROOT, count=1)
    assert example["query"]["identity"] == "17000000000000000001"
    assert example["query"]["camera"] == "door"
    assert [(hit["path"], hit["identity"], hit["correct"]) for hit in example["gallery"]] == [
        ("1.jpg", None, False),
        ("2.jpg", "17000000000000000001", True),
    ]


def test_what_older_results_lack_is_left_out_of_the_mean() -> None:
    whole, old = rows_of(0), [{**row, "cmc": row["cmc"][:3]} for row in rows_of(1)]
    for row in old:
        for name in ("rank5", "rank20", "queries", "gallery"):
            del row[name]
    for row in combine([whole, old]):
        assert row["cmc"] == []
        assert not {"rank5", "rank20", "queries", "gallery"} & row.keys()
        assert {"rank1", "rank10", "mAP", "valid_queries"} <= row.keys()
