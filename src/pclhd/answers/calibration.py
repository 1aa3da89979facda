"""What a similarity means: the probability that two images show one person, and the threshold of "no one here".

Each direction (modality of the query, modality of the gallery) has its own calibration, because similarities across
modalities are lower. A direction keeps a likelihood ratio, not a probability: how much more often images of one person
are this similar than images of two. The probability then follows from the prior, which depends on the gallery: among a
million images, a pair drawn at random is almost never of one person.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pclhd.errors import ArgumentError, UserError
from pclhd.pair import ModalityName

Source = Literal["pseudo labels", "training identities", "labelled images"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Name = TypeVar("Name", bound=str)

#: The false match rate that is meant where none is named, if the calibration can measure it.
USUAL_RATE = 0.01
#: The largest prior that is assumed without being asked for.
LARGEST_PRIOR = 0.5


def percent(probability: float) -> str:
    """A probability in percent, without false precision at the ends."""
    if probability > 0.99:
        return ">99 %"
    return "<1 %" if probability < 0.01 else f"{100 * probability:.0f} %"


class _Saved(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Direction(_Saved):
    """The calibration of one direction.

    Attributes:
        query: Modality of the query.
        gallery: Modality of the gallery.
        method: The curve that fits best: ``logistic``, ``beta`` or ``isotonic``.
        log_loss: Log loss of each curve on people it was not fitted to, in nats per pair.
        queries: Number of images that served as queries.
        same_pairs: Number of pairs that show one person.
        different_pairs: Number of pairs that show two.
        same_per_query: Mean number of gallery images that show the query's person.
        similarity: (K,) knots of the curve, ascending.
        log_likelihood_ratio: (K,) its values, never descending; linear between the knots, constant beyond them.
        sizes: (S,) numbers of gallery images, ascending, the first of them 1.
        rates: (R,) false match rates, ascending.
        thresholds: (S, R) the similarity that the best of that many images of other people reaches at that rate.
    """

    query: ModalityName
    gallery: ModalityName
    method: Literal["logistic", "beta", "isotonic"]
    log_loss: dict[str, Finite]
    queries: Count
    same_pairs: Count
    different_pairs: Count
    same_per_query: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    similarity: Annotated[list[Finite], Field(min_length=2)]
    log_likelihood_ratio: list[Finite]
    sizes: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    rates: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=2)]
    thresholds: list[list[Finite]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.similarity) != len(self.log_likelihood_ratio):
            raise ValueError("similarity and log_likelihood_ratio must have one length")
        if [len(self.rates)] * len(self.sizes) != [len(row) for row in self.thresholds]:
            raise ValueError("thresholds must have a row per size and a column per rate")
        for name, strict in (("similarity", True), ("log_likelihood_ratio", False), ("sizes", True), ("rates", True)):
            if any(second < first or (strict and second == first) for first, second in pairwise(getattr(self, name))):
                raise ValueError(f"{name} must be ascending")
        return self

    def log_ratio(self, similarity: ArrayLike) -> NDArray[np.float64]:
        """Logarithm of the likelihood ratio at similarities of any shape."""
        return np.interp(np.asarray(similarity, dtype=np.float64), self.similarity, self.log_likelihood_ratio)

    def threshold(self, false_match_rate: float, gallery_size: int) -> float:
        """See `Calibration.threshold`."""
        columns = np.array([np.interp(np.log(false_match_rate), np.log(self.rates), row) for row in self.thresholds])
        at, sizes = np.log(gallery_size), np.log(self.sizes)
        if at > sizes[-1] and len(sizes) > 1:  # the best of more images is higher, by about as much for each factor
            slope = (columns[-1] - columns[-2]) / (sizes[-1] - sizes[-2])
            return float(min(1.0, columns[-1] + slope * (at - sizes[-1])))
        return float(np.interp(at, sizes, columns))


class Calibration(_Saved):
    """What the similarities of one encoder mean; see `pclhd.answers.fit` for how it is made.

    Attributes:
        model_id: Id of the encoder. Similarities of another one mean something else.
        source: What said which images show one person.
        directions: One calibration per direction that had enough pairs.
    """

    model_id: str
    source: Source
    directions: list[Direction]

    def direction(self, query_modality: str, gallery_modality: str) -> Direction:
        """The calibration of a direction.

        Raises:
            UserError: There is none.
        """
        for one in self.directions:
            if (one.query, one.gallery) == (str(query_modality), str(gallery_modality)):
                return one
        raise UserError(
            f"no calibration for {query_modality} queries among {gallery_modality} images: those that this one was "
            "made from had too few pairs; make one with: pclhd calibrate RUN --data DIR"
        )

    def covers(self, query_modality: str, gallery_modality: str) -> bool:
        """Whether there is a calibration of a direction."""
        wanted = str(query_modality), str(gallery_modality)
        return any((one.query, one.gallery) == wanted for one in self.directions)

    def require_model(self, model_id: str) -> None:
        """Check that this is the calibration of an encoder.

        Raises:
            UserError: It is another encoder's.
        """
        if model_id != self.model_id:
            raise UserError(
                f"the calibration belongs to another encoder ({self.model_id[:12]}, not {model_id[:12]}); make one for "
                "this encoder with: pclhd calibrate RUN --data DIR"
            )

    def prior(self, query_modality: str, gallery_modality: str, gallery_size: int) -> float:
        """The share of a gallery that shows a query's person, if it holds as many images of them as the source did.

        Args:
            query_modality: Modality of the query.
            gallery_modality: Modality of the gallery.
            gallery_size: Number of gallery images, at least 1.

        Returns:
            `Direction.same_per_query` / `gallery_size`, at most a half.
        """
        if gallery_size < 1:
            raise ValueError(f"gallery_size must be at least 1, not {gallery_size}")
        expected = self.direction(query_modality, gallery_modality).same_per_query
        return min(LARGEST_PRIOR, expected / gallery_size)

    def prior_among(self, query_modality: str, sizes: Mapping[Name, int]) -> float:
        """As `prior`, for a gallery of several modalities: one share for all of them.

        The person's images are taken to be spread over the modalities as all images are. Someone who is in a gallery
        with few infrared images is hardly ever in these; as many images as in the source would be too many.

        Args:
            query_modality: Modality of the query.
            sizes: Number of gallery images by modality, at least 1 in all.

        Returns:
            The sum of `Direction.same_per_query` over the modalities that have images, divided by the number of all
            images; at most a half.

        Raises:
            UserError: There is no calibration for one of these directions.
        """
        held = {modality: size for modality, size in sizes.items() if size}
        if not held:
            raise ValueError("there is no gallery image")
        expected = sum(self.direction(query_modality, modality).same_per_query for modality in held)
        return min(LARGEST_PRIOR, expected / sum(held.values()))

    def probability(
        self, similarity: ArrayLike, query_modality: str, gallery_modality: str, prior: float
    ) -> NDArray[np.float64]:
        """The probability that a gallery image shows the query's person.

        Args:
            similarity: Cosine similarities, of any shape.
            query_modality: Modality of the query.
            gallery_modality: Modality of the gallery.
            prior: That probability before the images are compared: the share of the gallery that shows the person, see
                `prior`. Above 0, below 1.

        Returns:
            Probabilities in the shape of `similarity`; ascending with it.

        Raises:
            UserError: There is no calibration for this direction, or the prior is no such share.
        """
        if not 0 < prior < 1:
            raise ArgumentError("prior", "must be above 0 and below 1", value=prior)
        odds = self.direction(query_modality, gallery_modality).log_ratio(similarity) + np.log(prior / (1 - prior))
        return np.asarray(1 / (1 + np.exp(-odds)))

    def usual_rate(self, query_modality: str, gallery_modality: str) -> float:
        """The false match rate where none is named: 1 %, or the nearest one that the calibration can measure.

        With q queries, rates below 1 / q cannot be measured.

        Args:
            query_modality: Modality of the query.
            gallery_modality: Modality of the gallery.

        Raises:
            UserError: There is no calibration for this direction.
        """
        rates = self.direction(query_modality, gallery_modality).rates
        return min(max(USUAL_RATE, rates[0]), rates[-1])

    def threshold(
        self, false_match_rate: float, query_modality: str, gallery_modality: str, *, gallery_size: int = 1
    ) -> float:
        """The similarity below which the best image of a gallery means "no one here".

        Args:
            false_match_rate: The share of searches for a person who is not in the gallery that may give an answer.
            query_modality: Modality of the query.
            gallery_modality: Modality of the gallery.
            gallery_size: Number of gallery images: the more, the higher the best of them by chance. Beyond the size of
                the source (`Direction.sizes`) the threshold is extrapolated. With 1 this is the rate for a pair.

        Returns:
            A cosine similarity.

        Raises:
            UserError: There is no calibration for this direction, or the rate is beyond what the source can measure.
        """
        found = self.direction(query_modality, gallery_modality)
        if not found.rates[0] <= false_match_rate <= found.rates[-1]:
            raise ArgumentError(
                "false_match_rate",
                f"expected {found.rates[0]:g} to {found.rates[-1]:g}, as the calibration has {found.queries:,} queries",
                value=false_match_rate,
            )
        if gallery_size < 1:
            raise ValueError(f"gallery_size must be at least 1, not {gallery_size}")
        return found.threshold(false_match_rate, gallery_size)
