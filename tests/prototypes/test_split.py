"""Which prototype belongs to which joint cluster and modality."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pclhd.prototypes import SplitRows


def test_rows_by_hand() -> None:
    # Cluster 0 has both modalities, 1 only visible images, 2 only infrared ones.
    visible, infrared = torch.tensor([1, 0, -1, 0]), torch.tensor([2, -1, 0])
    split = SplitRows.from_labels(visible, infrared)
    assert split.of.visible.tolist() == [0, 1, -1]
    assert split.of.infrared.tolist() == [2, -1, 3]
    assert split.labels(visible, infrared).tolist() == [1, 0, -1, 0, 3, -1, 2]
    assert split.siblings.int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


@settings(max_examples=40, deadline=None)
@given(
    visible=st.lists(st.integers(-1, 4), min_size=1, max_size=12),
    infrared=st.lists(st.integers(-1, 4), min_size=1, max_size=12),
)
def test_two_images_share_a_row_if_they_share_cluster_and_modality(visible: list[int], infrared: list[int]) -> None:
    pseudo = [torch.tensor(part) for part in (visible, infrared)]
    if int(torch.cat(pseudo).max()) < 0:
        return
    split = SplitRows.from_labels(*pseudo)
    rows = split.labels(*pseudo).tolist()
    images = [(0, label) for label in visible] + [(1, label) for label in infrared]
    kept = [(image, row) for image, row in zip(images, rows, strict=True) if image[1] >= 0]
    assert all((row < 0) == (image[1] < 0) for image, row in zip(images, rows, strict=True))
    assert sorted({row for _, row in kept}) == list(range(len({image for image, _ in kept})))
    for first, row in kept:
        for second, other in kept:
            assert (row == other) == (first == second)
            assert bool(split.siblings[row, other]) == (first[1] == second[1])
