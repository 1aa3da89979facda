"""The model whose embeddings a gallery holds: which one it is, where it lies, and what its similarities mean."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pclhd.answers.calibration import Calibration
from pclhd.errors import ArgumentError, UserError
from pclhd.files import expanded
from pclhd.gallery.facts import SCHEMA_VERSION, GalleryFacts, checked_fact
from pclhd.gallery.store import Store
from pclhd.gallery.verdict import run_calibration
from pclhd.models.encoder import Encoder


class GalleryModel:
    """The model of a gallery.

    Args:
        store: The gallery's tables.
        given: The encoder, or its run folder or model file; None takes the one that the gallery names.
        device: Device for an encoder that is loaded here.

    Attributes:
        device: That device.
    """

    def __init__(self, store: Store, given: Encoder | Path | str | None, device: str) -> None:
        self._store = store
        self._given = given
        self.device = device
        self._loaded: Encoder | None = given if isinstance(given, Encoder) else None
        self._calibration: Calibration | None = None
        self._looked_for_calibration = False

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded when it is first used.

        Raises:
            UserError: None was given and the gallery's model is not where it was, or it is another model.
        """
        if self._loaded is None:
            self._loaded = self._load()
        if self._store.exists():
            own, given = self.facts().model_id, self._loaded.model_id
            if own != given:
                raise UserError(
                    f"{self._store.address}: was made with another model ({own[:12]}, not {given[:12]}), whose "
                    "embeddings cannot be compared; use that model, or make a new gallery"
                )
        return self._loaded

    @property
    def calibration(self) -> Calibration | None:
        """That of the run which the model lies in, unless another one is set; None if there is none.

        Raises:
            UserError: The run's calibration is damaged.
        """
        if not self._looked_for_calibration and self._store.exists():
            place = self._place()
            if place is not None:
                self._calibration = run_calibration(place, self.facts().model_id)
            self._looked_for_calibration = True
        return self._calibration

    @calibration.setter
    def calibration(self, calibration: Calibration | None) -> None:
        self._calibration, self._looked_for_calibration = calibration, True

    def facts(self) -> GalleryFacts:
        """What the gallery says about its model.

        Raises:
            UserError: It was written by another version, or is damaged.
        """
        saved = self._store.fact("gallery")
        if isinstance(saved, dict) and saved.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise UserError(
                f"{self._store.address}: was written by another version of pclhd; make a new gallery from the images"
            )
        return checked_fact(GalleryFacts, saved, self._store.address)

    def begin(self, encoder: Encoder) -> None:
        """Begin a gallery with the embeddings of an encoder, by one who is writing."""
        self._loaded = encoder
        about = GalleryFacts(
            schema_version=SCHEMA_VERSION,
            model_id=encoder.model_id,
            embedding_size=encoder.embedding_size,
            model=None if encoder.origin is None else str(encoder.origin.absolute()),
            created=datetime.now(UTC).isoformat(),
        )
        self._store.write_fact("gallery", about.model_dump())

    def note_place(self, encoder: Encoder) -> None:
        """Keep where the model lies, which may have changed."""
        place = None if encoder.origin is None else str(encoder.origin.absolute())
        about = self.facts()
        if place not in (None, about.model):
            self._store.write_fact("gallery", about.model_copy(update={"model": place}).model_dump())

    def _place(self) -> Path | None:
        if isinstance(self._given, Encoder):
            return self._given.origin
        place = self.facts().model if self._given is None else self._given
        return None if place is None else expanded(Path(place))

    def _load(self) -> Encoder:
        if self._given is not None:
            assert not isinstance(self._given, Encoder)
            return Encoder.load(self._given, device=self.device)
        if not self._store.exists():
            raise ArgumentError("model", "is missing: name the run or model file that embeds the images")
        saved = self.facts().model
        if saved is None or not Path(saved).exists():
            place = "" if saved is None else f" is no longer at {saved}"
            raise ArgumentError(
                "model", f"is missing: that of {self._store.address}{place}; name the run or model file"
            )
        return Encoder.load(saved, device=self.device)
