"""Signs, measured without identities, that a training ended below its start weights (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pclhd.runs.records import EpochRecord

#: Smaller differences are taken for chance.
_LEAST_DROP = 0.02
_LEAST_NOISE = 0.1
#: With less of the clusters left from one epoch to the next, the labels are still other ones every time.
_STABLE = 0.5
#: One sign alone is often harmless: noise, for example, grows where wrong clusters break up.
_ENOUGH = 2


def decline_warning(epochs: Sequence[EpochRecord]) -> str | None:
    """What speaks for the start weights, in a sentence; None if less than two signs do.

    The first epoch clusters the embeddings of the start weights, so its record is compared with that of the last one.
    The signs: a lower silhouette, a lower cycle consistency, a larger share of noise, and clusters that are still
    unstable at the end.

    Args:
        epochs: The epochs of a run, in their order.
    """
    if len(epochs) < 2:
        return None
    first, last = epochs[0], epochs[-1]
    signs = []
    for name in ("silhouette", "cycle"):
        before, after = first.criteria.get(name), last.criteria.get(name)
        if before is not None and after is not None and after < before - _LEAST_DROP:
            signs.append(f"{name} fell from {before:.2f} to {after:.2f}")
    noise, noise_after = _noise(first), _noise(last)
    if noise is not None and noise_after is not None and noise_after > noise + _LEAST_NOISE:
        signs.append(f"noise rose from {noise:.0%} to {noise_after:.0%}")
    stability = last.criteria.get("stability")
    if stability is not None and stability < _STABLE:
        signs.append(f"stability is only {stability:.2f} at the end")
    if len(signs) < _ENOUGH:
        return None
    return (
        f"the final weights may be worse than the start weights: {', '.join(signs)}; compare them with labelled images "
        "(pclhd evaluate), and try another clustering.k1 or a lower schedule.learning_rate"
    )


def _noise(epoch: EpochRecord) -> float | None:
    parts = [part.noise for part in (epoch.visible, epoch.infrared) if part is not None]
    return fmean(parts) if parts else None
