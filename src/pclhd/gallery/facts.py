"""What a gallery says about itself, checked when it is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pclhd.gallery.trouble import damaged

SCHEMA_VERSION: Literal[1] = 1

_Count = Annotated[int, Field(ge=1, lt=2**31)]


class _Fact(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class GalleryFacts(_Fact):
    """The fact ``gallery``.

    Attributes:
        schema_version: Of the tables.
        model_id: Id of the encoder of all rows.
        embedding_size: Width of the embeddings.
        model: Where the encoder's run or model file lay; None for one that was in memory.
        created: When the gallery was made.
    """

    schema_version: Literal[1]
    model_id: Annotated[str, Field(min_length=1, max_length=200)]
    embedding_size: _Count
    model: str | None
    created: str


class SavedIndex(_Fact):
    """The fact ``index``; see `pclhd.gallery.records.IndexFacts`."""

    rows: _Count
    partitions: _Count
    probes: _Count
    recall: Annotated[float, Field(ge=0, le=1)]
    queries: Annotated[int, Field(ge=0, lt=2**31)]
    filtered_probes: _Count | None = None
    filtered_recall: Annotated[float, Field(ge=0, le=1)] | None = None


Fact = TypeVar("Fact", bound=_Fact)


def checked_fact(kind: type[Fact], saved: Any, address: str) -> Fact:
    """A fact as it was read, if it is one that a gallery writes.

    Args:
        kind: What is expected.
        saved: The JSON value.
        address: The gallery's folder or address.

    Raises:
        UserError: A value is missing or impossible.
    """
    try:
        return kind.model_validate(saved)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "its facts"
        raise damaged(address, f"{place}: {first['msg']}") from error
