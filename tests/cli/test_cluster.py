"""`pclhd cluster`: from features of other programs to labels."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pclhd.clustering.matching import match_clusters
from pclhd.clustering.pipeline import ClusteringOptions, cluster_features
from pclhd.clustering.pseudo_labels import cluster_centres
from pclhd.clustering.quality import clustering_quality, matching_outcomes, matching_precision
from pclhd.workflows.cluster import ClusterRequest, clustering_options, unit_length
from tests.commands import Call, complaint

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SMALL = ("--k1", 8, "--k2", 3)


@dataclass(frozen=True)
class Crowd:
    """Made-up people, some of whose images are far from everyone's."""

    features: NDArray[np.float32]
    modality: NDArray[np.int64]
    person: NDArray[np.int64]

    def rows(self, modality: int) -> NDArray[np.int64]:
        return np.flatnonzero(self.modality == modality)


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    random = np.random.default_rng(3)
    person = np.repeat(np.arange(10), 16)
    modality = np.tile(np.repeat([0, 1], 8), 10)
    features = random.standard_normal((10, 24))[person] + 0.35 * random.standard_normal((160, 24))
    features[::20] = random.standard_normal((8, 24))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    order = random.permutation(160)
    return Crowd(features[order].astype(np.float32), modality[order], person[order])


@pytest.fixture
def files(tmp_path: Path, crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The crowd in files of every format, in the working folder."""
    monkeypatch.chdir(tmp_path)
    np.save("features.npy", crowd.features)
    names = np.array(["visible", "infrared"])[crowd.modality]
    Path("modality.txt").write_text("\n".join(names))
    np.save("person.npy", crowd.person)
    tensors = {"features": crowd.features, "modality": crowd.modality, "person": crowd.person}
    save_file({name: torch.from_numpy(values) for name, values in tensors.items()}, "features.safetensors")
    columns = {
        "path": [f"{row}.jpg" for row in range(160)],
        "embedding": list(crowd.features),
        "modality": names,
        "person": [f"P{person}" for person in crowd.person],
    }
    pq.write_table(pa.table(columns), "features.parquet")
    return tmp_path


def read(path: str) -> dict[str, NDArray[Any]]:
    if path.endswith(".npy"):
        return {"label": np.load(path)}
    if path.endswith(".csv"):
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {name: column.to_numpy() for name, column in zip(*_columns(pq.read_table(path)), strict=True)}


def _columns(table: Any) -> tuple[list[str], list[Any]]:
    return table.column_names, table.columns


def figures(pclhd: Call, *words: object) -> dict[str, Any]:
    ran = pclhd("cluster", *words, "--json")
    assert ran.code == 0, ran
    assert ran.err == ""
    found: dict[str, Any] = json.loads(ran.out)
    return found


# What is written.


def test_labels_are_those_of_the_python_call(pclhd: Call, files: Path, crowd: Crowd) -> None:
    ran = pclhd("cluster", "features.npy", "--modality", "modality.txt", "--out", "labels.parquet", *SMALL)
    assert ran.code == 0, ran
    assert ran.err == ""
    clustering = cluster_features(crowd.features, ClusteringOptions(k1=8, k2=3), modality=crowd.modality)
    found = read("labels.parquet")
    assert list(found) == ["row", "modality", "label", "confidence"]
    np.testing.assert_array_equal(found["label"], clustering.labels)
    assert clustering.labels.max() > 3
    assert clustering.labels.min() == -1
    assert found["label"].dtype == np.int64
    assert found["row"].tolist() == list(range(160))
    assert found["confidence"].dtype == np.float32
    assert ((found["confidence"] > 0) <= (found["label"] >= 0)).all()
    assert found["confidence"].max() <= 1
    assert found["modality"].tolist() == [["visible", "infrared"][code] for code in crowd.modality]


def test_without_modalities(pclhd: Call, files: Path, crowd: Crowd) -> None:
    assert pclhd("cluster", "features.npy", "--out", "labels.npy", *SMALL).code == 0
    labels = np.load("labels.npy")
    np.testing.assert_array_equal(labels, cluster_features(crowd.features, ClusteringOptions(k1=8, k2=3)).labels)
    # If the modalities are known, the query expansion weighs them equally.
    assert pclhd("cluster", "features.npy", "--out", "both.npy", "--modality", "modality.txt", *SMALL).code == 0
    assert (np.load("both.npy") != labels).any()


@pytest.mark.parametrize("source", ["features.safetensors", "features.parquet"])
def test_every_format_gives_the_same_labels(pclhd: Call, files: Path, source: str) -> None:
    words = ("--modality", "modality", "--identities", "person", *SMALL)
    other = ("--modality", "modality.txt", "--identities", "person.npy", *SMALL)
    one = figures(pclhd, "features.npy", "--out", "one.npy", *other)
    for out in ("two.npy", "two.csv", "two.parquet"):
        two = figures(pclhd, source, "--out", out, *words)
        assert two["groups"] == one["groups"]
        assert read(out)["label"].astype(int).tolist() == np.load("one.npy").tolist()


def test_columns_of_the_file_are_copied(pclhd: Call, files: Path, crowd: Crowd) -> None:
    words = ("cluster", "features.parquet", "--modality", "modality", *SMALL)
    assert pclhd(*words, "--out", "labels.parquet").code == 0
    assert pclhd(*words, "--out", "labels.csv").code == 0
    parquet, text = read("labels.parquet"), read("labels.csv")
    assert list(parquet) == list(text) == ["row", "path", "modality", "person", "label", "confidence"]
    assert parquet["path"].tolist() == [f"{row}.jpg" for row in range(160)]
    for name, values in parquet.items():
        assert text[name].tolist() == [str(value) for value in values]
    np.testing.assert_array_equal(text["confidence"].astype(np.float32), parquet["confidence"])


def test_columns_with_our_names_are_renamed(pclhd: Call, files: Path, crowd: Crowd) -> None:
    columns = {"f": list(crowd.features), "label": crowd.person, "row": crowd.person + 1, "input_row": crowd.person + 2}
    pq.write_table(pa.table({**columns, "modality": crowd.person + 3}), "taken.parquet")
    words = ("cluster", "taken.parquet", "--modality", "modality.txt", "--out", "labels.parquet", *SMALL)
    assert pclhd(*words).code == 0
    found = read("labels.parquet")
    assert found["row"].tolist() == list(range(160))
    np.testing.assert_array_equal(found["input_label"], crowd.person)
    np.testing.assert_array_equal(found["input_input_row"], crowd.person + 1)
    np.testing.assert_array_equal(found["input_row"], crowd.person + 2)
    np.testing.assert_array_equal(found["input_modality"], crowd.person + 3)
    assert set(found["modality"]) == {"visible", "infrared"}


def test_the_same_call_writes_the_same_bytes(pclhd: Call, files: Path) -> None:
    words = ("cluster", "features.parquet", "--modality", "modality", *SMALL)
    for suffix in ("parquet", "csv", "npy"):
        for name in ("one", "two"):
            assert pclhd(*words, "--out", f"{name}.{suffix}").code == 0
        assert Path(f"one.{suffix}").read_bytes() == Path(f"two.{suffix}").read_bytes()


def test_a_parquet_file_says_how_it_was_made(pclhd: Call, files: Path) -> None:
    assert pclhd("cluster", "features.npy", "--out", "labels.parquet", "--eps", 0.5, *SMALL).code == 0
    said = json.loads(pq.read_schema("labels.parquet").metadata[b"pclhd"])
    assert said["clustering"]["all"]["eps"] == 0.5
    assert said["clustering"]["all"]["k1"] == 8


# Each modality by itself.


@pytest.mark.parametrize("match", ["progressive", "mutual", "transport"])
def test_each_modality_by_itself(pclhd: Call, files: Path, crowd: Crowd, match: Any) -> None:
    words = ("features.npy", "--modality", "modality.txt", "--per-modality", "--matching", match, *SMALL)
    said = figures(pclhd, *words, "--identities", "person.npy", "--out", "labels.parquet")
    found = read("labels.parquet")
    assert list(found) == ["row", "modality", "label", "confidence", "partner"]
    options = ClusteringOptions(k1=8, k2=3)
    rows = [crowd.rows(0), crowd.rows(1)]
    labels = [cluster_features(crowd.features[which], options).labels for which in rows]
    counts = [int(part.max()) + 1 for part in labels]
    assert min(counts) > 3
    centres = [cluster_centres(crowd.features[which], part) for which, part in zip(rows, labels, strict=True)]
    matching = match_clusters(centres[0], centres[1], method=match)
    # One sample at a time, as the method is described.
    for part, shift, partners, other in (
        (0, 0, matching.visible_to_infrared, counts[0]),
        (1, counts[0], matching.infrared_to_visible, 0),
    ):
        for row, label in zip(rows[part], labels[part], strict=True):
            assert found["label"][row] == (-1 if label < 0 else label + shift)
            partner = -1 if label < 0 else partners[label]
            assert found["partner"][row] == (-1 if partner < 0 else partner + other)
    assert [group["name"] for group in said["groups"]] == ["visible", "infrared"]
    assert [group["clusters"] for group in said["groups"]] == counts
    assert said["groups"][0]["quality"] == clustering_quality(labels[0], crowd.person[rows[0]])
    people = [crowd.person[which] for which in rows]
    expected = matching_precision(matching, labels[0], people[0], labels[1], people[1])
    assert said["matching"]["precision"] == expected > 0.5
    outcomes = matching_outcomes(matching, labels[0], people[0], labels[1], people[1])
    assert said["matching"]["outcomes"] == outcomes
    assert sum(outcomes.values()) == pytest.approx(1)
    assert said["matching"]["visible"] == int((matching.visible_to_infrared >= 0).sum())


def test_a_modality_without_clusters(pclhd: Call, files: Path) -> None:
    words = ("cluster", "features.npy", "--modality", "modality.txt", "--per-modality", "--out", "labels.csv")
    ran = pclhd(*words, "--min-samples", 100, *SMALL)
    assert ran.code == 0
    found = read("labels.csv")
    assert set(found["label"]) == set(found["partner"]) == {"-1"}
    assert "no cluster was found (visible): raise eps or lower min_samples" in ran.out
    assert "no cluster was found (infrared)" in ran.out
    together = ("--clustering", "hdbscan", "--min-samples", 100, "--out", "together.csv", *SMALL)
    assert "no cluster was found: lower min_samples" in pclhd("cluster", "features.npy", *together).out


# Identities.


@pytest.mark.parametrize("per_modality", [(), ("--per-modality",)])
def test_identities_change_no_label(pclhd: Call, files: Path, crowd: Crowd, per_modality: tuple[str, ...]) -> None:
    words = ("features.npy", "--modality", "modality.txt", *per_modality, *SMALL)
    plain = figures(pclhd, *words, "--out", "plain.parquet")
    measured = figures(pclhd, *words, "--identities", "person.npy", "--out", "measured.parquet")
    assert Path("plain.parquet").read_bytes() == Path("measured.parquet").read_bytes()
    assert all(group["quality"] is None for group in plain["groups"])
    if not per_modality:
        (group,) = measured["groups"]
        assert group["quality"] == clustering_quality(read("plain.parquet")["label"], crowd.person)
        assert group["quality"]["ari"] > 0.5
    for group in (*plain["groups"], *measured["groups"]):
        del group["quality"]
    assert plain["groups"] == measured["groups"]


# What is printed.


def test_figures(pclhd: Call, files: Path) -> None:
    said = figures(pclhd, "features.npy", "--modality", "modality.txt", "--out", "labels.npy", *SMALL)
    labels = np.load("labels.npy")
    sizes = np.bincount(labels[labels >= 0])
    (group,) = said["groups"]
    assert (said["schema"], said["samples"], said["width"], said["visible"], said["infrared"]) == (1, 160, 24, 80, 80)
    assert (group["name"], group["clusters"], group["noise"]) == ("all", len(sizes), np.mean(labels < 0))
    assert (group["size_min"], group["size_max"]) == (sizes.min(), sizes.max())
    assert group["size_median"] == np.median(sizes)
    assert (group["k1"], group["k2"], group["eps"], group["eps_chosen"]) == (8, 3, 0.6, False)
    assert 0 < group["silhouette"] < 1
    assert group["stability"]["eps"] == pytest.approx(0.54)
    assert 0 < group["stability"]["found_again"] <= 1
    assert group["recall"] is None
    assert said["columns"] == ["label"]
    assert set(said["seconds"]) == {"reading", "clustering", "measuring", "writing"}


def test_lines(pclhd: Call, files: Path, crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    words = ("cluster", "features.npy", "--modality", "modality.txt", "--identities", "person.npy", *SMALL)
    ran = pclhd(*words, "--out", "labels.csv")
    lines = ran.out.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in ran.out
    shown = {line.split("  ")[0]: line for line in lines}
    assert "80 visible, 80 infrared" in shown["samples"]
    assert shown["width"].split() == ["width", "24"]
    assert {"clusters", "noise", "sizes", "eps", "silhouette", "stability", "ARI", "NMI", "seconds"} <= set(shown)
    assert lines[-1] == "wrote labels.csv: row, modality, label, confidence"
    # Values lean to the same side.
    values = [re.match(r"\S.*?  +(\S.*?)(?=  |$)", line) for line in lines[:-1]]
    assert len({value.end(1) for value in values if value is not None}) == 1
    assert None not in values
    np.save("long.npy", 2 * crowd.features)
    assert "scaled to length 1 (they had 2 to 2)" in pclhd("cluster", "long.npy", "--out", "long.csv", *SMALL).out
    apart = pclhd(*words, "--per-modality", "--out", "apart.csv").out.splitlines()
    assert apart[0].split() == ["visible", "infrared"]
    for name in ("correct pairs", "right partner", "wrong partner", "rightly alone", "wrongly alone"):
        assert any(line.startswith(name) for line in apart)


def test_eps_is_chosen_from_the_data(pclhd: Call, files: Path) -> None:
    said = figures(pclhd, "features.npy", "--eps", "auto", "--out", "labels.npy", *SMALL)
    (group,) = said["groups"]
    assert group["eps_chosen"] is True
    assert 0.3 <= group["eps"] <= 0.7
    again = figures(pclhd, "features.npy", "--eps", group["eps"], "--out", "again.npy", *SMALL)
    np.testing.assert_array_equal(np.load("labels.npy"), np.load("again.npy"))
    assert again["groups"][0]["eps_chosen"] is False
    shown = pclhd("cluster", "features.npy", "--eps", "auto", "--out", "shown.npy", *SMALL).out
    assert "chosen without labels" in shown


# Options reach what they name.


def test_options_are_those_of_the_call() -> None:
    asked = ClusterRequest(Path("f.npy"), Path("l.npy"))
    assert clustering_options(asked) == ClusteringOptions()
    joint = ClusterRequest(Path("f.npy"), Path("l.npy"), modality="m")
    assert (clustering_options(joint).k1, clustering_options(joint).k2) == (40, 32)
    apart = ClusterRequest(Path("f.npy"), Path("l.npy"), modality="m", per_modality=True)
    assert (clustering_options(apart).k1, clustering_options(apart).k2) == (30, 6)
    everything = ClusterRequest(
        Path("f.npy"),
        Path("l.npy"),
        modality="m",
        options=ClusteringOptions(clustering="agglomerative", k1=9, min_samples=7, outliers="both"),
    )
    assert clustering_options(everything) == ClusteringOptions(
        clustering="agglomerative", k1=9, k2=32, min_samples=7, outliers="both"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--clustering", "hdbscan"),
        ("--clustering", "agglomerative"),
        ("--clustering", "agglomerative", "--eps", "auto"),
        ("--clustering", "community"),
        ("--clustering", "community", "--resolution", 0.6),
        ("--min-samples", 9),
        ("--outliers", "rescue"),
        ("--outliers", "drop"),
        ("--outliers", "both"),
        ("--balanced-neighbours",),
        ("--eps", 0.35),
        ("--k1", 12),
        ("--k2", 8),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_options_run_and_equal_the_call(pclhd: Call, files: Path, crowd: Crowd, words: tuple[object, ...]) -> None:
    ran = figures(pclhd, "features.npy", "--modality", "modality.txt", "--out", "labels.npy", *SMALL, *words)
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    changed: dict[str, Any] = {str(name).removeprefix("--").replace("-", "_"): value for name, value in pairs.items()}
    if words == ("--balanced-neighbours",):
        changed = {"balanced_neighbours": True}
    options = ClusteringOptions(**{"k1": 8, "k2": 3, **changed})
    expected = cluster_features(crowd.features, options, modality=crowd.modality).labels
    np.testing.assert_array_equal(np.load("labels.npy"), expected)
    (group,) = ran["groups"]
    assert (group["stability"] is None) == (options.clustering in ("hdbscan", "community"))
    assert (group["eps"] is None) == (options.clustering in ("hdbscan", "community"))


def test_an_approximate_search_reports_its_recall(pclhd: Call, files: Path) -> None:
    pytest.importorskip("faiss")
    words = ("features.npy", "--search", "approximate", *SMALL)
    (group,) = figures(pclhd, *words, "--out", "labels.npy")["groups"]
    assert 0.5 < group["recall"] <= 1
    assert "of the true neighbours found" in pclhd("cluster", *words, "--out", "again.npy").out


def test_many_samples_are_searched_approximately(pclhd: Call, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("pclhd.clustering.search.EXACT_UP_TO", 100)
    words = ("--modality", "modality.txt", "--balanced-neighbours", *SMALL)
    assert figures(pclhd, "features.npy", "--out", "many.npy", *words)["groups"][0]["recall"] > 0.5
    exact = figures(pclhd, "features.npy", "--search", "exact", "--out", "exact.npy", *words)
    assert exact["groups"][0]["recall"] is None
    # Each modality by itself is few.
    apart = figures(pclhd, "features.npy", "--modality", "modality.txt", "--per-modality", "--out", "x.npy", *SMALL)
    assert [group["recall"] for group in apart["groups"]] == [None, None]
    monkeypatch.setattr("pclhd.clustering.search.find_spec", lambda name: None)
    ran = pclhd("cluster", "features.npy", "--out", "slow.npy", *SMALL)
    assert ran.code == 0
    assert ran.err.splitlines() == [
        "note: 160 samples are searched exactly, which is slow: `pip install faiss-cpu` makes it faster"
    ]


def test_an_approximate_search_without_faiss(pclhd: Call, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    said = complaint(pclhd("cluster", "features.npy", "--search", "approximate", "--out", "labels.npy"))
    assert "pip install faiss-cpu" in said
    assert not Path("labels.npy").exists()


def test_rows_are_scaled_to_unit_length(pclhd: Call, files: Path, crowd: Crowd) -> None:
    stretched = crowd.features * np.linspace(0.01, 100, 160, dtype=np.float32)[:, None]
    np.save("stretched.npy", stretched)
    said = figures(pclhd, "stretched.npy", "--out", "labels.npy", *SMALL)
    assert said["normalised"] is True
    assert said["length_min"] == pytest.approx(0.01, rel=1e-4)
    assert said["length_max"] == pytest.approx(100, rel=1e-4)
    options = ClusteringOptions(k1=8, k2=3)
    np.testing.assert_array_equal(np.load("labels.npy"), cluster_features(unit_length(stretched), options).labels)
    found = figures(pclhd, "stretched.npy", "--as-they-are", "--out", "as they are.npy", *SMALL)
    assert found["normalised"] is False
    np.testing.assert_array_equal(np.load("as they are.npy"), cluster_features(stretched, options).labels)
    assert (np.load("as they are.npy") != np.load("labels.npy")).any()


def test_unit_features_in_half_precision_are_left_alone(pclhd: Call, files: Path, crowd: Crowd) -> None:
    half = crowd.features.astype(np.float16)
    np.save("half.npy", half)
    assert figures(pclhd, "half.npy", "--out", "labels.npy", *SMALL)["normalised"] is False
    expected = cluster_features(half.astype(np.float32), ClusteringOptions(k1=8, k2=3)).labels
    np.testing.assert_array_equal(np.load("labels.npy"), expected)


def test_unit_length() -> None:
    rows = np.array([[3, 4], [0, 0], [1e30, 1e30], [1e-30, 0]], dtype=np.float32)
    expected = np.array([[0.6, 0.8], [0.0, 0.0], [0.5**0.5, 0.5**0.5], [1.0, 0.0]])
    np.testing.assert_allclose(unit_length(rows), expected, rtol=1e-6)


def test_one_sample(pclhd: Call, files: Path) -> None:
    np.save("one.npy", np.ones((1, 4)))
    ran = pclhd("cluster", "one.npy", "--out", "labels.csv")
    assert ran.code == 0, ran
    assert Path("labels.csv").read_text() == "row,label,confidence\n0,-1,0.0\n"


# What is refused.


@pytest.fixture
def refused(pclhd: Call, files: Path) -> Callable[..., str]:
    """The error message of a call that must leave no file behind."""

    def cluster(*words: object, out: str = "labels.parquet", source: str = "features.npy") -> str:
        before = {path: path.read_bytes() for path in files.iterdir() if path.is_file()}
        said = complaint(pclhd("cluster", source, "--out", out, *words))
        assert {path: path.read_bytes() for path in files.iterdir() if path.is_file()} == before
        return said

    return cluster


def test_an_output_that_exists(refused: Callable[..., str], files: Path) -> None:
    (files / "labels.csv").write_text("mine")
    said = refused(out="labels.csv")
    assert "--out labels.csv: already exists" in said
    # Said before anything is read.
    assert said == refused(out="labels.csv", source="nowhere.npy")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("labels.txt", "expected .parquet, .csv, .npy"),
        ("labels", "expected .parquet, .csv, .npy"),
        ("none/labels.csv", "no folder none"),
        ("features.npy", "already exists"),
    ],
)
def test_outputs(refused: Callable[..., str], out: str, said: str) -> None:
    assert said in refused(out=out)


def test_no_parquet_without_pyarrow(refused: Callable[..., str], pclhd: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in refused()
    assert pclhd("cluster", "features.npy", "--out", "labels.csv", *SMALL).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--eps", "0"], "--eps 0: expected"),
        (["--eps", "1"], "--eps 1: expected"),
        (["--eps", "nan"], "--eps nan: expected"),
        (["--eps", "wide"], "--eps wide: expected"),
        (["--k1", "0"], "--k1 0: expected a whole number from 1, or auto"),
        (["--k2", "0"], "--k2 0: expected a whole number from 1, or auto"),
        (["--min-samples", "0"], "--min-samples 0: Input should be greater"),
        (["--resolution", "0", "--clustering", "community"], "--resolution 0.0: Input should be greater than 0"),
        (["--resolution", "1", "--clustering", "community"], "--resolution 1.0: Input should be less than 1"),
        (["--resolution", "nan", "--clustering", "community"], "--resolution nan: Input should be"),
        (["--resolution", "0.5"], "--clustering community"),
        (["--eps", "0.5", "--clustering", "hdbscan"], "--clustering dbscan or agglomerative"),
        (["--eps", "0.5", "--clustering", "community"], "--clustering dbscan or agglomerative"),
        (["--no-modality-balance"], "--modality-balance: has an effect only with --modality"),
        (["--per-modality"], "--modality"),
        (["--balanced-neighbours"], "--modality"),
        (["--matching", "mutual", "--modality", "modality.txt"], "--per-modality"),
        (["--balanced-neighbours", "--per-modality", "--modality", "modality.txt"], "leave out one of the two"),
        (["--modality", "light"], "features.npy has no such column"),
        (["--modality", "light.csv"], "no such file"),
        (["--identities", "who"], "--identities who"),
        (["--key", "x"], "--key x"),
        (["--device", "abacus"], "--device abacus: cannot be used here"),
    ],
)
def test_options(refused: Callable[..., str], words: list[str], said: str) -> None:
    assert said in refused(*words)


def test_features(refused: Callable[..., str], files: Path, crowd: Crowd) -> None:
    assert "nowhere.npy: no such file" in refused(source="nowhere.npy")
    wrong = crowd.features.copy()
    wrong[17, 3] = np.nan
    np.save("wrong.npy", wrong)
    assert "wrong.npy, row 17: holds NaN" in refused(source="wrong.npy")


def test_wrong_choices_are_reported(pclhd: Call, files: Path) -> None:
    for words in (
        ["--clustering", "kmeans"],
        ["--method", "kmeans"],
        ["--matching", "best"],
        ["--search", "no"],
        ["--outliers", "burn"],
    ):
        ran = pclhd("cluster", "features.npy", "--out", "labels.npy", *words)
        assert ran.code == 2
        assert words[1] in complaint(ran)
        assert ran.err.endswith("; see pclhd cluster --help\n")
    assert not Path("labels.npy").exists()


def test_mistakes_are_reported_before_anything_heavy_is_loaded(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A module that is None in sys.modules cannot be imported.
    monkeypatch.setitem(sys.modules, "pclhd.clustering.pipeline", None)
    assert "nowhere.npy" in refused(source="nowhere.npy")
    assert "--eps 7" in refused("--eps", 7)
    assert "--modality light" in refused("--modality", "light")


# Interruptions.


@pytest.mark.parametrize("during", ["pclhd.clustering.pipeline.cluster_features", "pclhd.features.labels.write_npy"])
def test_ctrl_c_leaves_nothing(pclhd: Call, files: Path, monkeypatch: pytest.MonkeyPatch, during: str) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(during, interrupted)
    before = set(files.iterdir())
    ran = pclhd("cluster", "features.npy", "--out", "labels.npy", *SMALL)
    assert ran.code == 130
    assert ran.err.strip() == "interrupted; nothing was written"
    assert set(files.iterdir()) == before


def test_a_disk_that_is_full(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pclhd.features.labels.write_npy", full)
    assert "labels.npy: cannot be written (No space left on device)" in refused(*SMALL, out="labels.npy")


def test_help_is_quick() -> None:
    code = (
        "import sys\n"
        "from pclhd.cli import main\n"
        "sys.argv = ['pclhd', 'cluster', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('numpy', 'torch', 'numba', 'scipy', 'pyarrow') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
    assert "--per-modality" in ran.stdout


def test_what_speaks_against_the_clusters_is_printed(pclhd: Call, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tracks = np.repeat(random.standard_normal((20, 16)), 31, axis=0)
    np.save(tmp_path / "frames.npy", tracks + 0.004 * random.standard_normal(tracks.shape))
    np.save(tmp_path / "few.npy", random.standard_normal((20, 16)))
    failed = random.standard_normal((200, 16))
    failed[3:5] = 0
    np.save(tmp_path / "failed.npy", failed)

    def warned(name: str, *words: object) -> list[str]:
        out = pclhd("cluster", tmp_path / name, "--out", tmp_path / "o.csv", "--force", *words)
        assert out.code == 0, out.err
        return [line for line in out.out.splitlines() if line.startswith("warning: ")]

    (line,) = warned("few.npy")
    assert line.startswith("warning: k1 (30) takes in all 20 rows")
    assert warned("few.npy", "--k1", "auto", "--k2", "auto") == []
    (line,) = warned("frames.npy")
    assert "are near-copies (similarity above 0.998)" in line
    assert warned("frames.npy", "--near-copies", "thin") == []
    (line,) = warned("failed.npy")
    assert line.startswith("warning: 2 rows have no direction")
    labels = [row["label"] for row in csv.DictReader((tmp_path / "o.csv").open())]
    assert labels[3:5] == ["-1", "-1"]

    shown = pclhd("cluster", tmp_path / "frames.npy", "--out", tmp_path / "o.csv", "--force", "--near-copies", "thin")
    assert re.search(r"^thinned +600  near-copies", shown.out, re.MULTILINE)
    shown = pclhd("cluster", tmp_path / "few.npy", "--out", tmp_path / "o.csv", "--force", "--json")
    (group,) = json.loads(shown.out)["groups"]
    assert group["thinned"] == 0
    assert "takes in all 20 rows" in group["warnings"][0]
