from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from pclhd import Gallery, GalleryFilter
from pclhd.evaluation.retrieval import unit_length
from pclhd.gallery import exporting
from pclhd.gallery.exporting import flat_map
from pclhd.gallery.filters import ids_among
from pclhd.gallery.rows import embeddings_of
from tests.commands import Call, complaint
from tests.gallery.photos import Photos


@pytest.fixture
def people(photos: Photos, tmp_path: Path) -> Path:
    gallery = Gallery(tmp_path / "people", encoder=photos.encoder)
    gallery.add(photos.day, modality="visible", camera="gate", time="2026-03-01")
    gallery.add(photos.night, modality="infrared", keep="path")
    return gallery.path


def test_a_file_that_other_programs_read(pclhd: Call, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "people.parquet"
    said = pclhd("gallery", "export", people, "--out", out)
    assert (said.code, said.out, said.err) == (0, f"wrote {out}: 9 images\n", "")
    gallery, table = Gallery(people), pyarrow.parquet.read_table(out)
    rows = list(gallery.rows())
    assert table["id"].to_pylist() == [row.id for row in rows]
    assert table["time"].to_pylist() == [row.time for row in rows]
    for place, row in enumerate(rows):
        stored = embeddings_of(gallery._store.select(["embedding"], ids_among([row.id])))[0]
        assert np.array_equal(table["embedding"][place].as_py(), stored)
        jpeg = gallery.thumbnail(row.id)
        picture = table["thumbnail"][place].as_py()
        assert (picture or {"bytes": None})["bytes"] == jpeg
        if jpeg is not None:
            assert Image.open(io.BytesIO(picture["bytes"])).size == (24, 48)
    assert np.isfinite(table["x"].to_numpy()).all()
    # `pclhd cluster` takes the same file.
    assert pclhd("cluster", out, "--out", tmp_path / "labels.csv", "--k1", 3, "--k2", 1, "--key", "embedding").code == 0


def test_parts_and_maps(pclhd: Call, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "people.parquet"
    first = pclhd("gallery", "export", people, "--out", out, "--camera", "gate", "--map", "pca")
    assert first.out.endswith("5 images\n")
    places = [pyarrow.parquet.read_table(out)[name].to_numpy() for name in ("x", "y")]
    assert "--force" in complaint(pclhd("gallery", "export", people, "--out", out))
    assert pclhd("gallery", "export", people, "--out", out, "--map", "none", "--force").code == 0
    assert "x" not in pyarrow.parquet.read_table(out).column_names
    stored = embeddings_of(Gallery(people)._store.select(["number", "embedding"], "camera = 'gate'").sort_by("number"))
    centred = stored - stored.mean(axis=0)
    spread = np.linalg.svd(centred, compute_uv=False)[:2]
    assert [np.linalg.norm(axis) for axis in places] == pytest.approx(spread, rel=1e-3)
    assert "no image satisfies" in complaint(
        pclhd("gallery", "export", people, "--out", out, "--track", "x", "--force")
    )
    assert "not a kind of file" in complaint(pclhd("gallery", "export", people, "--out", tmp_path / "x.csv"))
    assert "no gallery" in complaint(pclhd("gallery", "export", tmp_path / "none", "--out", tmp_path / "x.parquet"))
    assert [path.name for path in tmp_path.iterdir() if path != people] == ["people.parquet"]


def test_a_map_keeps_people_together(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    people = unit_length(random.standard_normal((3, 16)))
    embeddings = unit_length(np.repeat(people, 20, axis=0) + 0.05 * random.standard_normal((60, 16)))
    for most in (20_000, 30):
        monkeypatch.setattr(exporting, "_MOST_PLACED", most)
        place = flat_map(embeddings, "tsne", 0)
        distance = np.linalg.norm(place[:, None] - place[None], axis=2)
        np.fill_diagonal(distance, np.inf)
        assert (distance.argmin(axis=1) // 20 == np.arange(60) // 20).all()
        assert np.array_equal(place, flat_map(embeddings, "tsne", 0)), "the same seed gives the same map"


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_small_maps(number: int) -> None:
    embeddings = unit_length(np.random.default_rng(0).standard_normal((number, 8)))
    for by in ("tsne", "pca"):
        place = flat_map(embeddings, by, 0)
        assert place.shape == (number, 2)
        assert np.isfinite(place).all()


def test_filters_apply(people: Path, tmp_path: Path) -> None:
    where = GalleryFilter(modality="infrared")
    assert Gallery(people).export(tmp_path / "a.parquet", where=where, map_by="none") == 4
