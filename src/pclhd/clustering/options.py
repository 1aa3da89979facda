"""Definitions of the clustering options: name, range, default and meaning of each.

The settings (``clustering.…``), the recipes (``method.…``), the options of ``pclhd cluster`` and the pages that list
them are derived from these classes. A new option is a field here and the code that uses it. The module depends neither
on the settings nor on the command line, and imports nothing slow.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema

from pclhd.errors import ArgumentError

ClusteringMethod = Literal["dbscan", "hdbscan", "agglomerative", "community"]
Neighbourhood = Literal["released", "paper"]
BalancedOrder = Literal["alternate", "similarity"]
Outliers = Literal["keep", "rescue", "drop", "both"]
SearchMethod = Literal["auto", "exact", "approximate"]
NearCopies = Literal["keep", "thin"]

#: Clusterings that cut the graph at a distance.
CUTS_AT_EPS = frozenset({"dbscan", "agglomerative"})

# On synthetic features with 40 images per person and k1 = 30, values from 0.05 to 0.1 gave clusters closest to the
# identities; with 20 images, 0.08 to 0.15; with 12 images, 0.15 to 0.2.
DEFAULT_RESOLUTION = 0.1

#: Sizes where both modalities are clustered together (released code); `ClusteringSizes` has those for one modality.
JOINT_DEFAULTS = {"k1": 40, "k2": 32}

#: The smallest k1 that ``auto`` gives for one modality: with fewer neighbours, images with few others become noise.
AUTO_K1_LEAST = 6


def automatic_k1(images: int) -> int:
    """k1 for the images of one modality: √(images / 2), from 6 to 30 (ours).

    k1 should be about the number of images per person. Where nothing is known, people and images per person are taken
    to grow alike. 72 images give 6, 800 give 20, and from 1,741 on it is the 30 of the released code.
    """
    return min(max(round(math.sqrt(images / 2)), AUTO_K1_LEAST), 30)


def automatic_sizes(images: int, *, joint: bool = False) -> dict[str, int]:
    """k1 and k2 from the number of images that are clustered together (ours).

    k2 is √k1, rounded up: 6 and 3 for 72 images, 30 and 6 for many. For both modalities together k1 is twice that of
    half the images, at most 40: 12 and 4 for 144 images, 40 and 7 for many. The released code has 40 and 32: with
    these, clusters of 50 drawn people and more have an ARI of 0.12 at most (benchmarks/joint_sizes.py).

    Args:
        images: Images of one modality, or of both together.
        joint: Whether they are of both.
    """
    k1 = min(2 * automatic_k1(images // 2), JOINT_DEFAULTS["k1"]) if joint else automatic_k1(images)
    return {"k1": k1, "k2": math.ceil(math.sqrt(k1))}


def _whole_or_auto(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("expected a whole number from 1, or auto")
    return value


Size = Annotated[
    int | Literal["auto"],
    PlainValidator(_whole_or_auto),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
]


def _distance_or_auto(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError("expected a distance above 0 and below 1, or auto")
    return float(value)


Eps = Annotated[
    float | Literal["auto"],
    PlainValidator(_distance_or_auto),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"const": "auto"}]}),
]


class ClusteringSizes(BaseModel):
    """Clustering options that depend on the data and belong to a preset (``clustering.…``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    k1: Size = Field(
        30,
        description="Images in a k-reciprocal neighbourhood. Choose about the number of images per person: with far "
        "more, several people become one cluster. auto follows the number of images (docs/clustering.md).",
    )
    k2: Size = Field(
        6,
        description="Images averaged in the query expansion, the image itself included. 1 switches it off. auto "
        "follows the number of images.",
    )
    eps: Eps = Field(
        0.6,
        description="Jaccard distance at which clusters are cut (dbscan, agglomerative). A larger value makes larger "
        "clusters and less noise. auto chooses a value without identities.",
    )
    min_samples: int = Field(
        4,
        ge=1,
        description="Images that make a dense region, the image itself included (dbscan, hdbscan). For all but dbscan, "
        "also the size of the smallest cluster.",
    )
    resolution: float = Field(
        DEFAULT_RESOLUTION,
        gt=0,
        lt=1,
        description="Mean similarity above which two communities are joined (community). A larger value makes smaller "
        "clusters.",
    )
    search: SearchMethod = Field(
        "auto",
        description="How neighbours are searched. exact compares all pairs; approximate is faster for many images and "
        "needs faiss; auto decides by the number of images.",
    )
    near_copies: NearCopies = Field(
        "keep",
        description="What happens to near-copies, such as the frames of a video. keep clusters all images; thin "
        "clusters one of each chain of near-copies, with k1 and k2 no larger than auto gives for the images that are "
        "left, and gives the others its label.",
    )


class ClusteringChoices(BaseModel):
    """Clustering options that are part of a method and belong to a recipe (``method.…``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    clustering: ClusteringMethod = Field(
        "dbscan",
        description="How the graph of Jaccard similarities is clustered. dbscan is the released code's choice; "
        "agglomerative is average linkage; community is the constant Potts model.",
    )
    outliers: Outliers = Field(
        "keep",
        description="What happens to noise and to doubtful members. keep leaves them; rescue assigns noise to the "
        "cluster that its neighbours and the prototypes agree on; drop makes doubtful members noise; both does both.",
    )
    neighbourhood: Neighbourhood = Field(
        "released",
        description="Whether the k1 images of a neighbourhood include the image itself (released) or not (paper).",
    )
    modality_balance: bool = Field(
        True,
        description="Both modalities together: give each modality equal weight in the query expansion (released code).",
    )
    balanced_neighbours: bool = Field(
        False, description="Both modalities together: take half of the neighbours from each modality."
    )
    balanced_order: BalancedOrder = Field(
        "alternate",
        description="With balanced_neighbours: whether the half-size neighbourhoods are balanced too (alternate), or "
        "hold the most similar of the balanced neighbours (similarity; BMIL).",
    )


class ClusteringOptions(ClusteringSizes, ClusteringChoices):
    """How features are clustered: all options of `pclhd.clustering.pipeline.cluster_features`."""

    device: str = Field("cpu", description="torch device for an exact neighbour search.")

    @classmethod
    def checked(cls, given: dict[str, Any]) -> ClusteringOptions:
        """Options given by name by a user.

        Raises:
            ArgumentError: An unknown name, or a value out of range.
        """
        for name, value in given.items():
            if type(value) is int and abs(value) >= 2**31:
                raise ArgumentError(name, "is too large a number; expected one of usual size", value=value)
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            reason = first["msg"].removeprefix("Value error, ")
            raise ArgumentError(str(first["loc"][0]), reason, value=first["input"]) from error

    @classmethod
    def of(cls, sizes: ClusteringSizes, choices: ClusteringChoices, **changes: Any) -> ClusteringOptions:
        """Options with the sizes of a preset and the choices of a recipe, with some of them changed."""
        values = {name: getattr(sizes, name) for name in ClusteringSizes.model_fields}
        values |= {name: getattr(choices, name) for name in ClusteringChoices.model_fields}
        return cls(**{**values, **changes})

    def resolved(self, images: int, *, joint: bool) -> ClusteringOptions:
        """The same options with ``auto`` for k1 and k2 replaced by numbers (`automatic_sizes`)."""
        sizes = automatic_sizes(images, joint=joint)
        changes = {name: size for name, size in sizes.items() if getattr(self, name) == "auto"}
        return self.changed(**changes) if changes else self

    def at_most_automatic(self, images: int, *, joint: bool) -> ClusteringOptions:
        """The same options with k1 and k2 no larger than ``auto`` would give."""
        sizes = automatic_sizes(images, joint=joint)
        own = {"k1": self.k1, "k2": self.k2}
        return self.changed(**{name: min(size, sizes[name]) for name, size in own.items() if size != "auto"})

    def numbers(self) -> tuple[int, int]:
        """k1 and k2.

        Raises:
            ValueError: One is still ``auto``.
        """
        if self.k1 == "auto" or self.k2 == "auto":
            raise ValueError("k1 or k2 is still 'auto'; cluster_features chooses it")
        return self.k1, self.k2

    def changed(self, **changes: Any) -> ClusteringOptions:
        """The same options with some of them changed and checked."""
        return ClusteringOptions(**{**self.model_dump(), **changes})
