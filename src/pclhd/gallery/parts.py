"""Rows that several processes embed: a file for each part of the images, and all files in one commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclhd.files import replacing
from pclhd.gallery.adding import NewImage, known_ids, next_number, prepare
from pclhd.gallery.records import Added, Keep
from pclhd.gallery.rows import to_arrow
from pclhd.gallery.store import Store
from pclhd.models.embed import require_finite
from pclhd.models.encoder import Encoder

_FACTS = b"pclhd"


def plan_of(parts: Sequence[Sequence[NewImage]], *, model_id: str, keep: Keep) -> str:
    """A name for what is to be added: files of parts made for the same plan can be used again.

    Args:
        parts: The images, which must be files.
        model_id: Id of the encoder.
        keep: What is kept of each image.
    """
    digest = hashlib.sha256(f"{model_id} {keep}\n".encode())
    for part in parts:
        digest.update(f"{len(part)}\n".encode())
        for image in part:
            facts = (str(image.source.path), image.source.upright, str(image.modality), image.camera, str(image.time))
            digest.update(f"{(*facts, image.track)!r}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:32]


def part_file(folder: Path, number: int) -> Path:
    """The file of a part, in the folder that `Store.collecting` gives."""
    return folder / f"{number:08}.arrow"


def write_part(file: Path, store: Store, encoder: Encoder, images: list[NewImage], *, keep: Keep) -> None:
    """Embed the images of a part that are not in the gallery, in one thread, and write their rows to a file.

    A file that exists is complete, and stays.

    Args:
        file: The file.
        store: The gallery, which is only read.
        encoder: Its encoder.
        images: Images of one modality.
        keep: What is kept of each.

    Raises:
        UserError: The file cannot be written.
    """
    import pyarrow as pa

    if file.exists():
        return
    part = prepare(store, encoder, images, keep, workers=1)
    features = np.empty((0, encoder.embedding_size), dtype=np.float32)
    if part.rows:
        features = encoder.embed_pixels(part.pixels, images[0].modality)
        require_finite(features, encoder.origin or Path("the network"))
    table = to_arrow(part.rows, features, first_number=1, model_id=encoder.model_id)
    facts = json.dumps({"present": part.present, "broken": part.broken})
    table = table.replace_schema_metadata({_FACTS: facts})
    with replacing(file) as target, pa.ipc.new_file(target, table.schema) as writer:
        writer.write_table(table)


def add_parts(store: Store, files: Sequence[Path]) -> Added:
    """Add the rows of part files in one commit, in the order of the files.

    Rows whose image is in the gallery, or in an earlier file, are left out: a part may have been embedded before the
    same image was added in another way. Some files are in memory at a time, and 16 bytes' worth of id for each row.

    Args:
        store: A gallery that the caller is writing to.
        files: What `write_part` wrote.

    Returns:
        The counts.
    """
    import pyarrow as pa

    taken: set[bytes] = set()
    fresh: list[NDArray[np.int64]] = []
    present, broken = 0, []
    for file in files:
        table = _read(file)
        facts = json.loads(table.schema.metadata[_FACTS])
        ids = table["id"].to_pylist()
        known = known_ids(store, ids)
        new = [row for row, one in enumerate(ids) if one not in known and bytes.fromhex(one) not in taken]
        taken.update(bytes.fromhex(ids[row]) for row in new)
        fresh.append(np.array(new, dtype=np.int64))
        present += facts["present"] + len(ids) - len(new)
        broken += facts["broken"]
    if taken:
        schema = _read(files[0]).schema.remove_metadata()
        batches = _batches(files, fresh, next_number(store))
        store.append(pa.RecordBatchReader.from_batches(schema, batches))
    return Added(len(taken), present, tuple(broken))


def _batches(files: Sequence[Path], fresh: Sequence[NDArray[np.int64]], number: int) -> Iterator[Any]:
    """The new rows of each file, numbered."""
    import pyarrow as pa

    for file, rows in zip(files, fresh, strict=True):
        if len(rows):
            table = _read(file).take(rows).replace_schema_metadata(None)
            numbers = pa.array(range(number, number + len(rows)), pa.int64())
            number += len(rows)
            place = table.schema.get_field_index("number")
            yield from table.set_column(place, table.schema.field(place), numbers).combine_chunks().to_batches()


def _read(file: Path) -> Any:
    import pyarrow as pa

    with pa.memory_map(str(file)) as mapped:
        return pa.ipc.open_file(mapped).read_all()
