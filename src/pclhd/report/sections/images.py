"""What the final model makes of the training images, as pictures: clusters, pairs, hard images, look-alikes."""

from __future__ import annotations

import numpy as np

from pclhd.report.album import Album, Picture, Tile, main_person, tile
from pclhd.report.sections.parts import ReportedRun, Values, counted
from pclhd.report.tables import percent

_CLUSTERS = 8
_LEAST_PURE = 4
_MEMBERS = 10
_PAIRS = 10
_HARD = 10
_DYNAMIC = 4


def sheets(run: ReportedRun) -> Values | None:
    """Contact sheets of clusters, from the largest to the smallest, with purity where identities are known."""
    album, survey = run.album, run.survey
    if album is None or survey is None:
        return None
    groups = []
    for modality, count in survey.clusters.items():
        sizes = np.bincount(survey.labels.of(modality)[survey.labels.of(modality) >= 0], minlength=count)
        by_size = np.argsort(-sizes, kind="stable")
        chosen = by_size[np.unique(np.linspace(0, count - 1, min(_CLUSTERS, count)).round().astype(int))].tolist()
        purities = {cluster: main_person(album.members(modality, cluster))[1] for cluster in range(count)}
        known = {cluster: purity for cluster, purity in purities.items() if purity is not None}
        mixed = sorted((c for c, purity in known.items() if purity < 1 and c not in chosen), key=lambda c: known[c])
        groups.append(
            {
                "modality": modality,
                "count": count,
                "noise": percent(float((survey.labels.of(modality) < 0).mean())),
                "pure": _pure_words(list(known.values())),
                "sheets": [_sheet(album, modality, cluster) for cluster in chosen],
                "mixed": [_sheet(album, modality, cluster) for cluster in mixed[:_LEAST_PURE]],
            }
        )
    return {"groups": groups, "unseen": run.saved.labels == "none"}


def pairs(run: ReportedRun) -> Values | None:
    """Clusters and their partners in the other modality, side by side."""
    album, survey = run.album, run.survey
    if album is None or survey is None:
        return None
    matched = np.flatnonzero(survey.visible_partners >= 0)
    if not len(matched):
        return None
    # At even steps from the surest to the least sure, so that neither end is hidden.
    order = matched[np.argsort(-survey.partner_similarity[matched], kind="stable")]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(_PAIRS, len(order))).round().astype(int))]
    shown, right = [], []
    for cluster in matched.tolist():
        verdict = _pair_verdict(album, ("visible", cluster), ("infrared", int(survey.visible_partners[cluster])))
        right.append(verdict)
    judged = [verdict for verdict in right if verdict]
    for cluster in chosen.tolist():
        partner = int(survey.visible_partners[cluster])
        shown.append(
            _side_by_side(
                album,
                ("visible", cluster),
                ("infrared", partner),
                float(survey.partner_similarity[cluster]),
                {"right": "the same person", "wrong": "two people", "": ""},
            )
        )
    words = ""
    if judged:
        count = sum(verdict == "right" for verdict in judged)
        words = f"{count:,} of {len(judged):,} pairs show the same person ({percent(count / len(judged))} %)."
    return {"pairs": shown, "total": len(matched), "clusters": survey.clusters.visible, "words": words}


def prototypes(run: ReportedRun) -> Values | None:
    """Hard and dynamic prototypes as images: what the model finds hard."""
    album, survey = run.album, run.survey
    if album is None or survey is None:
        return None
    random = np.random.default_rng(0)
    groups, judged = [], False
    for modality, count in survey.clusters.items():
        hardest = []
        for cluster in range(count):
            rows = survey.members(modality, cluster)
            hardest.append((float(survey.to_centroid[rows[-1]]), cluster))
        lines = []
        for cosine, cluster in sorted(hardest)[:_HARD]:
            members = album.members(modality, cluster)
            verdict = _fits(members[-1], main_person(members)[0])
            judged = judged or bool(verdict)
            drawn = random.integers(0, len(members), min(_DYNAMIC, len(members)))
            lines.append(
                {
                    "typical": tile(members[0], note="most typical"),
                    "hard": tile(members[-1], note=f"hard, {cosine:.2f}", verdict=verdict),
                    "dynamic": [tile(members[one], note="dynamic") for one in drawn.tolist()],
                    "size": counted(len(members), "image"),
                }
            )
        groups.append({"modality": modality, "lines": lines})
    return {"groups": groups, "judged": judged}


def alike(run: ReportedRun) -> Values | None:
    """Different clusters of one modality that are most alike."""
    album, survey = run.album, run.survey
    if album is None or survey is None:
        return None
    groups = []
    for modality, found, cosines in (
        ("visible", survey.visible_alike, survey.visible_alike_similarity),
        ("infrared", survey.infrared_alike, survey.infrared_alike_similarity),
    ):
        # Neither is right or wrong: two people belong into two clusters, and cameras may split one.
        words = {"right": "one person in two clusters", "wrong": "two people who look alike", "": ""}
        lines = [
            {**_side_by_side(album, (modality, first), (modality, second), cosine, words), "verdict": ""}
            for (first, second), cosine in zip(found.tolist(), cosines.tolist(), strict=True)
        ]
        if lines:
            groups.append({"modality": modality, "pairs": lines})
    return {"groups": groups} if groups else None


def focus(run: ReportedRun) -> Values | None:
    """Where the last feature map is large."""
    album, survey = run.album, run.survey
    if album is None or survey is None or not len(survey.focus_rows):
        return None
    shown = []
    for place, row in enumerate(survey.focus_rows.tolist()):
        picture = album.pictures[row]
        under = Tile(album.focus(place), picture.path, f"{picture.about}, under its activation map", "activation")
        shown.append([tile(picture, large=True), under])
    height, width = survey.focus.shape[1:]
    return {"shown": shown, "grid": f"{height} × {width}"}


def _sheet(album: Album, modality: str, cluster: int) -> Values:
    members = album.members(modality, cluster)
    person, purity = main_person(members)
    # The most typical and the least typical members; the middle is left out of large clusters.
    shown = members if len(members) <= _MEMBERS else members[: _MEMBERS - 3] + members[-3:]
    words = counted(len(members), "image")
    if purity is not None:
        words += f", {percent(purity)} % of identity {person}"
    left = len(members) - len(shown)
    return {
        "words": words,
        "tiles": [tile(picture, verdict=_fits(picture, person)) for picture in shown],
        "left": f"{left:,} images between the seventh and the last three are not shown" if left else "",
    }


def _side_by_side(
    album: Album, first: tuple[str, int], second: tuple[str, int], cosine: float, words: dict[str, str]
) -> Values:
    verdict = _pair_verdict(album, first, second)
    sides = []
    for modality, cluster in (first, second):
        members = album.members(modality, cluster)
        sides.append(
            {
                "words": f"{modality}, {counted(len(members), 'image')}",
                "tiles": [tile(picture) for picture in members[:4]],
            }
        )
    return {"sides": sides, "similarity": f"{cosine:.2f}", "verdict": verdict, "words": words[verdict]}


def _pair_verdict(album: Album, first: tuple[str, int], second: tuple[str, int]) -> str:
    people = [main_person(album.members(*one))[0] for one in (first, second)]
    if None in people:
        return ""
    return "right" if people[0] == people[1] else "wrong"


def _fits(picture: Picture, person: object) -> str:
    if person is None or picture.identity is None:
        return ""
    return "right" if picture.identity == person else "wrong"


def _pure_words(purities: list[float]) -> str:
    if not purities:
        return ""
    pure = sum(purity == 1 for purity in purities)
    return f"{pure:,} of {len(purities):,} clusters show one person only"
