"""The summary of `pclhd cluster`: numbers, and their format for a terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pclhd.text_tables import text_table


@dataclass(frozen=True)
class Stability:
    """Share of the clusters that is found again at a second eps, 0 to 1."""

    eps: float
    found_again: float


@dataclass(frozen=True)
class GroupSummary:
    """One set of samples that was clustered together.

    Attributes:
        name: ``all``, ``visible`` or ``infrared``.
        samples: Number of samples.
        clusters: Number of clusters.
        noise: Fraction of samples in no cluster.
        size_min: Samples in the smallest cluster; 0 without clusters, as the next two.
        size_median: Median number of samples in a cluster.
        size_max: Samples in the largest cluster.
        k1: The k1 used.
        k2: The k2 used.
        eps: The eps used; None if the method has none.
        eps_chosen: Whether eps was chosen from the data.
        silhouette: Mean silhouette of the samples in clusters; None without clusters.
        stability: See `Stability`; None if the method has no eps, or without clusters.
        recall: Share of the true neighbours that an approximate search found; None if it was exact.
        thinned: Samples that were left out because they have the label of a near-copy; silhouette and stability are
            measured without them.
        warnings: What the neighbours of the samples say against any clustering of them.
        quality: Agreement with identities, see `clustering_quality`; None without identities.
    """

    name: str
    samples: int
    clusters: int
    noise: float
    size_min: int
    size_median: float
    size_max: int
    k1: int
    k2: int
    eps: float | None
    eps_chosen: bool
    silhouette: float | None
    stability: Stability | None
    recall: float | None
    thinned: int
    warnings: tuple[str, ...]
    quality: dict[str, float] | None


@dataclass(frozen=True)
class MatchSummary:
    """Summary of the matching across the modalities.

    Attributes:
        method: Matching method.
        visible: Visible clusters with a partner.
        infrared: Infrared clusters with a partner.
        precision: Share of correct pairs; None without identities.
        outcomes: Shares of the clusters of both modalities, with a right or a wrong partner, or rightly or wrongly
            without one (`pclhd.clustering.quality.matching_outcomes`); None without identities.
    """

    method: str
    visible: int
    infrared: int
    precision: float | None
    outcomes: dict[str, float] | None = None


@dataclass(frozen=True)
class ClusterSummary:
    """Summary of a call; fractions are from 0 to 1.

    Attributes:
        features: The file read.
        out: The file written.
        columns: Columns of the file written.
        samples: N.
        width: D.
        visible: Number of visible samples; None if modalities are unknown.
        infrared: Number of infrared samples, likewise.
        length_min: Length of the shortest feature in the file.
        length_max: Length of the longest feature.
        normalised: Whether they were scaled to length 1.
        method: Clustering method.
        groups: One for all samples, or one per modality.
        matching: Present if each modality was clustered separately.
        seconds: Seconds of each phase.
    """

    features: str
    out: str
    columns: tuple[str, ...]
    samples: int
    width: int
    visible: int | None
    infrared: int | None
    length_min: float
    length_max: float
    normalised: bool
    method: str
    groups: tuple[GroupSummary, ...]
    matching: MatchSummary | None
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The summary for ``--json``."""
        return {"schema": 1, **asdict(self)}


def summary_text(summary: ClusterSummary) -> str:
    """The summary as text: one line per number, one column per set of samples that was clustered together.

    No line is wrapped or ends in spaces, so that it is the same in a log.
    """
    groups = len(summary.groups)
    lines = _lines(summary)
    if groups > 1:
        lines.insert(0, ("", [group.name for group in summary.groups], ""))
    rows = [(name, *values, *[""] * (groups - len(values)), remark) for name, values, remark in lines]
    text = [text_table(rows, right=range(1, groups + 1))]
    for group in summary.groups:
        where = f" ({group.name})" if groups > 1 else ""
        text += [f"warning{where}: {warning}" for warning in group.warnings]
        if group.clusters == 0:
            advice = "lower min_samples" if group.eps is None else "raise eps or lower min_samples"
            text.append(f"no cluster was found{where}: {advice}")
    return "\n".join(text)


def _lines(summary: ClusterSummary) -> list[tuple[str, list[str], str]]:
    groups = summary.groups
    first = groups[0]
    lines = [
        ("samples", [f"{group.samples:,}" for group in groups], _modalities(summary)),
        ("width", [f"{summary.width:,}"], _lengths(summary)),
        ("method", [summary.method], f"k1 {first.k1}, k2 {first.k2}"),
    ]
    if any(group.thinned for group in groups):
        lines.append(("thinned", [f"{group.thinned:,}" for group in groups], "near-copies, labelled with their kind"))
    if first.eps is not None:
        eps = [f"{group.eps:.3g}" for group in groups if group.eps is not None]
        lines.append(("eps", eps, "chosen without labels" if first.eps_chosen else ""))
    lines += [
        ("clusters", [f"{group.clusters:,}" for group in groups], ""),
        ("noise", [f"{group.noise:.1%}" for group in groups], "samples in no cluster, label -1"),
        ("sizes", [_sizes(group) for group in groups], "smallest / median / largest cluster"),
        ("silhouette", [_number(group.silhouette) for group in groups], "mean, from -1 to 1"),
    ]
    stable = [group.stability for group in groups]
    if any(item is not None for item in stable):
        shares = ["none" if item is None else f"{item.found_again:.3f}" for item in stable]
        second = " and ".join(dict.fromkeys(f"{item.eps:.3g}" for item in stable if item is not None))
        lines.append(("stability", shares, f"found again at eps {second}"))
    if any(group.recall is not None for group in groups):
        lines.append(("recall", [_number(group.recall) for group in groups], "of the true neighbours found"))
    if summary.matching is not None:
        matching = summary.matching
        lines.append(("matched", [f"{matching.visible:,}", f"{matching.infrared:,}"], f"clusters, {matching.method}"))
        if matching.precision is not None:
            lines.append(("correct pairs", [f"{matching.precision:.1%}"], "against identities"))
        outcomes = matching.outcomes or {}
        lines += [(_OUTCOMES[name], [f"{share:.1%}"], "of all clusters") for name, share in outcomes.items()]
    for key, name in _QUALITY.items():
        values = [_number(None if group.quality is None else group.quality[key]) for group in groups]
        if first.quality is not None:
            lines.append((name, values, "against identities"))
    clustering = summary.seconds["clustering"]
    lines.append(("seconds", [f"{sum(summary.seconds.values()):.1f}"], f"of these clustering {clustering:.1f}"))
    return lines


_OUTCOMES = {
    "match_right": "right partner",
    "match_wrong": "wrong partner",
    "unmatched_right": "rightly alone",
    "unmatched_wrong": "wrongly alone",
}
_QUALITY = {
    "ari": "ARI",
    "nmi": "NMI",
    "purity": "purity",
    "pair_precision": "pair precision",
    "pair_recall": "pair recall",
}


def _modalities(summary: ClusterSummary) -> str:
    if summary.visible is None or len(summary.groups) > 1:
        return ""
    return f"{summary.visible:,} visible, {summary.infrared:,} infrared"


def _lengths(summary: ClusterSummary) -> str:
    between = f"{summary.length_min:.3g} to {summary.length_max:.3g}"
    if summary.normalised:
        return f"rows scaled to length 1 (they had {between})"
    return "" if between == "1 to 1" else f"rows of length {between}, as they are"


def _sizes(group: GroupSummary) -> str:
    return f"{group.size_min:,} / {group.size_median:,.4g} / {group.size_max:,}" if group.clusters else "none"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
