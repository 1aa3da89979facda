"""A few embeddings that stand for all frames of a track (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: No further embedding is made if every frame is at least this similar to one that was chosen.
ALIKE = 0.9


@dataclass(frozen=True, eq=False)
class Summary:
    """What stands for a track.

    Attributes:
        embeddings: (k, D) of unit length: means of frames that look alike.
        frames: (k,) the frame most similar to each.
    """

    embeddings: NDArray[np.float32]
    frames: NDArray[np.int64]


def summarise(embeddings: NDArray[np.float32], most: int, *, alike: float = ALIKE) -> Summary:
    """Average the frames of a track to at most `most` embeddings.

    The first chosen frame is the most similar to the mean of all. Each further one is the frame that is least similar
    to those chosen (farthest point), as long as it is less similar than `alike`. Every frame belongs to the chosen
    frame that it is most similar to, and the means of these groups are the result.

    Args:
        embeddings: (N, D) of unit length, N at least 1.
        most: At most this many, at least 1.
        alike: Cosine similarity.

    Raises:
        ValueError: There is no frame, or `most` is not positive.
    """
    if not len(embeddings) or most < 1:
        raise ValueError(f"{len(embeddings)} frames cannot be averaged to {most} embeddings")
    mean = embeddings.mean(axis=0)
    chosen = [int(np.argmax(embeddings @ mean))]
    similarity = embeddings @ embeddings[chosen].T
    while len(chosen) < min(most, len(embeddings)):
        nearest = similarity.max(axis=1)
        farthest = int(np.argmin(nearest))
        if nearest[farthest] >= alike:
            break
        chosen.append(farthest)
        similarity = np.column_stack([similarity, embeddings @ embeddings[farthest]])
    owner = similarity.argmax(axis=1)
    means, frames = [], []
    for group in range(len(chosen)):
        members = np.flatnonzero(owner == group)
        mean = embeddings[members].mean(axis=0)
        length = float(np.linalg.norm(mean))
        # Frames of opposite directions cancel out; then the chosen frame stands for itself.
        vector = mean / length if length > 1e-6 else embeddings[chosen[group]]
        means.append(vector)
        frames.append(members[np.argmax(embeddings[members] @ vector)])
    return Summary(np.asarray(means, dtype=np.float32), np.asarray(frames, dtype=np.int64))
