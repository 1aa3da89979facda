"""Infrared images of a 12-bit sensor in 16-bit files: trained on, saved with the model, used again when embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pclhd.data.records import Modality, TrainingSet, make_training_set
from pclhd.data.stretch import FULL_RANGE
from pclhd.data.values import measure_stretches
from pclhd.models.encoder import Encoder
from tests.engine.runs import SmallData, draw_people


def twelve_bits(training_set: TrainingSet) -> TrainingSet:
    """The same images; the infrared ones as the counts 0 to 4080 in 16-bit files."""
    for record in training_set.images:
        if record.modality is Modality.INFRARED:
            grey = np.asarray(Image.open(record.path).convert("L")).astype(np.uint16) * 16
            Image.fromarray(grey).save(record.path)
    return make_training_set(training_set.images)[0]


@pytest.mark.slow
def test_the_range_travels_with_the_model(small: SmallData, tmp_path: Path) -> None:
    data = SmallData(twelve_bits(draw_people(tmp_path / "people")), small.start)
    data.train(tmp_path / "run", "schedule.stage2_epochs=0")
    stretches = measure_stretches(data.training_set.images)
    assert stretches.keys() == {Modality.INFRARED}
    encoder = Encoder.load(tmp_path / "run", device="cpu")
    used = encoder.preprocessing
    assert (used.visible_stretch, used.infrared_stretch) == (None, stretches[Modality.INFRARED])
    assert stretches[Modality.INFRARED].high < FULL_RANGE.high / 10
    (wide, *_) = [record.path for record in data.training_set.images if record.modality is Modality.INFRARED]
    as_bytes = stretches[Modality.INFRARED].to_bytes(np.asarray(Image.open(wide)))
    alone, stretched = (encoder.embed(images, modality="infrared").features for images in (wide, as_bytes))
    assert np.array_equal(alone, stretched)
    # Without the range, almost all of these images is black.
    dark = FULL_RANGE.to_bytes(np.asarray(Image.open(wide)))
    assert dark.max() < 17
    assert not np.allclose(encoder.embed(dark, modality="infrared").features, alone, atol=0.01)


def test_eight_bits_have_no_range(small: SmallData) -> None:
    assert measure_stretches(small.training_set.images) == {}
