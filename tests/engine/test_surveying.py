"""What the final model makes of the training images: true of its embeddings, and without effect on the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pclhd.data.records import Modality
from pclhd.engine.surveying import most_alike, principal_components
from pclhd.errors import UserError
from pclhd.models.encoder import Encoder, embed_records
from pclhd.runs.folder import RunFolder
from pclhd.runs.survey import Survey
from tests.engine.runs import SmallData


@pytest.fixture(scope="module")
def run(small: SmallData, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("surveyed") / "run"
    small.train(folder)
    return RunFolder(folder)


@pytest.fixture(scope="module")
def survey(run: RunFolder) -> Survey:
    saved = run.survey()
    assert saved is not None
    return saved


def test_it_is_about_the_training_images(small: SmallData, survey: Survey) -> None:
    assert survey.checksum == small.training_set.checksum
    assert len(survey) == len(small.training_set)
    assert all(small.training_set.images[row].modality is Modality.INFRARED for row in survey.queries)
    assert all(small.training_set.images[row].modality is Modality.VISIBLE for row in survey.hits.ravel())
    for modality, count in survey.clusters.items():
        assert sum(len(survey.members(modality, cluster)) for cluster in range(count)) == int(
            (survey.labels.of(modality) >= 0).sum()
        )


def test_similarities_are_those_of_the_final_model(small: SmallData, run: RunFolder, survey: Survey) -> None:
    encoder = Encoder.load(run, device="cpu")
    (features,) = embed_records([encoder], small.training_set.images)
    visible = len(survey.visible)
    for query, hits, shown in zip(survey.queries, survey.hits, survey.hit_similarity, strict=True):
        cosine = features[:visible] @ features[query]
        # Training resizes with another filter than searches; these images have the size already.
        assert shown == pytest.approx(cosine[hits], abs=2e-3)
        assert shown[0] == pytest.approx(cosine.max(), abs=2e-3)
    members = survey.members("visible", 0)
    centre = features[members].mean(axis=0)
    centre /= np.linalg.norm(centre)
    assert survey.to_centroid[members] == pytest.approx(features[members] @ centre, abs=2e-3)
    assert (np.diff(survey.to_centroid[members]) <= 0).all()


def test_activation_maps_cover_the_image(survey: Survey) -> None:
    assert survey.focus.shape[1:] == (3, 2)  # 48 × 24 pixels, stride 16
    assert survey.focus.max(axis=(1, 2)) == pytest.approx(1, abs=1e-3)
    assert survey.focus.min() >= 0


def test_themost_alike_clusters_come_first_and_once() -> None:
    centres = np.array([[1, 0], [0.6, 0.8], [0, 1], [0.995, 0.0998]], dtype=np.float32)
    pairs, cosine = most_alike(centres)
    assert [set(pair) for pair in pairs.tolist()] == [{0, 3}, {1, 2}]
    assert cosine == pytest.approx([0.995, 0.8])
    assert len(most_alike(centres[:1])[0]) == 0


def test_principal_components_keep_distances_where_there_are_enough() -> None:
    features = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    found = principal_components(features, 6)
    assert np.linalg.norm(found[0] - found[7]) == pytest.approx(np.linalg.norm(features[0] - features[7]), rel=1e-4)
    assert principal_components(features, 2).shape == (20, 2)


def test_a_damaged_file_is_refused_in_one_line(run: RunFolder, survey: Survey, tmp_path: Path) -> None:
    other = RunFolder(tmp_path)
    other.write_survey(survey)
    assert other.survey() is not None
    other.write_survey(replace(survey, hits=survey.hits + 1000))
    with pytest.raises(UserError, match="`hits` has a number out of range"):
        other.survey()
    other.survey_file.write_bytes(run.model_file.read_bytes())
    with pytest.raises(UserError, match="another format"):
        other.survey()
    other.survey_file.write_bytes(run.survey_file.read_bytes()[:-9])
    with pytest.raises(UserError, match="delete it"):
        other.survey()
