"""The rows of a gallery in LanceDB tables: append, look, search, and remove so that nothing stays on the disk.

A gallery is two tables in a folder or a bucket (`places.py`): `images`, one row per image, and `facts`, a few named
JSON texts. Every change is one commit of LanceDB, which is there as a whole or not at all, however the process ends.

On object storage a writer may lose its turn while it sleeps, between a check and a commit. Three rules make such a
commit fail. A writer's tables stay at the version that its own last commit made (`_pinned`). A writer that takes over
first restores each table to its newest version (`_fence`): LanceDB refuses all commits that began before a restore.
And versions are deleted only after another restore, so that there is always one among those that are left.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pclhd.errors import UserError
from pclhd.files import Unreachable, discard
from pclhd.gallery.filters import numbers_between
from pclhd.gallery.lease import Turn
from pclhd.gallery.places import place_of
from pclhd.gallery.rows import rows_problem, schema_problem
from pclhd.gallery.trouble import damaged, explaining, explaining_place, vanished
from pclhd.parsing import Unparsable, parse_json

Value = TypeVar("Value")

VECTOR_INDEX = "embedding_idx"
#: Columns that filters use; with a vector index they have one, too.
INDEXED_COLUMNS = {"id": "btree", "number": "btree", "time": "btree", "camera": "bitmap", "modality": "bitmap"}
#: All columns except the two wide ones.
NARROW_COLUMNS = (
    "id", "number", "modality", "camera", "time", "track", "source", "frame", "digest", "added",
)  # fmt: skip

_IMAGES, _FACTS = "images", "facts"
# Bytes that LanceDB keeps of what it read of each version, also of those that are gone: by default up to 1 GiB. Facts
# are so small that reading them again costs nothing, and a change writes several.
_METADATA_CACHE = {_IMAGES: 32 * 2**20, _FACTS: 2**20}
# A reader may use a version for this long after it has been replaced.
_KEPT = timedelta(minutes=10)
# Facts are few and read at once, again if need be. A change writes several, and looks at all versions that are kept.
_FACTS_KEPT = timedelta(seconds=10)
_NEVER = timedelta(days=36_500)
# Older files that belong to no version are deleted by LanceDB in any case, from an age of seven days on.
_UNVERIFIED = timedelta(days=8)
_TRIES = 5
# Fragments are rewritten, and rows read, this many at a time.
_STEP = 8192
# More small files than this are merged after adding.
_MANY_FRAGMENTS = 32


def load_lancedb() -> Any:
    """The optional package behind galleries.

    Raises:
        UserError: It is not installed.
    """
    try:
        import lancedb
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UserError("a gallery needs LanceDB; install it with: pip install lancedb pyarrow") from error
    return lancedb


class Store:
    """The tables of one gallery.

    Readers need no lock and see each commit as soon as it is made. A writer calls the methods that change something
    within `writing`.

    Args:
        path: The gallery's folder, or its address; it may be missing.

    Raises:
        UserError: LanceDB is not installed, the path is a file or a folder that is no gallery, or the storage does not
            answer.
    """

    def __init__(self, path: Path | str) -> None:
        self._lancedb = load_lancedb()
        self.place = place_of(path)
        self._opened: dict[str, Any] = {}
        self._tables: dict[str, Any] = {}
        self._turn = Turn(_nobody_writes)
        self._pinned = False
        self.place.check_kind()

    @property
    def address(self) -> str:
        """The gallery's folder or address, for messages."""
        return self.place.address

    def exists(self) -> bool:
        """Whether there is a gallery."""
        return self.place.has_table(_FACTS)

    def require(self) -> None:
        """Raise an error if there is no gallery.

        Raises:
            UserError: There is none.
        """
        if not self.exists():
            raise UserError(f"{self.address}: no gallery there; make one with: pclhd gallery add {self.address} IMAGES")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer in the block; what a killed writer left half-removed is removed first.

        Raises:
            UserError: Another process is writing, or the folder cannot be written.
        """
        with self.place.writing() as turn, explaining_place(self.place):
            self._turn, self._pinned = turn, self.place.fenced
            self._forget_tables()
            try:
                if turn.after_a_failure:
                    with explaining(self.place, writes=True):
                        for name in (_FACTS, _IMAGES):
                            if self.place.has_table(name):
                                self._fence(self._table(name))
                    if self.exists():
                        self.write_fact("leftovers", datetime.now(UTC).isoformat())
                if self.fact("purging") is not None:
                    self._purge([] if self._missing() else self._fragments())
                yield
            finally:
                self._turn, self._pinned = Turn(_nobody_writes), False
                self._forget_tables()

    # Facts.

    def fact(self, name: str) -> Any:
        """A named value, as it was written; None if there is none.

        Raises:
            UserError: It is damaged.
        """
        if not self.exists():
            return None
        text = self._texts().get(name)
        if text is None:
            return None
        try:
            return parse_json(text, finite=True)
        except Unparsable as error:
            raise damaged(self.address, f"its fact {name} is not valid JSON: {error}") from error

    def write_fact(self, name: str, value: Any) -> None:
        """Write a named value that JSON can hold; None stands for none."""
        import pyarrow as pa

        self._turn.check()
        if self.exists() and self.place.fenced:
            # A table that is made again would have no version that a fence could refuse.
            new = pa.table({"name": pa.array([name], pa.string()), "json": pa.array([json.dumps(value)], pa.string())})
            with explaining(self.place, writes=True):
                facts = self._table(_FACTS)
                facts.merge_insert("name").when_matched_update_all().when_not_matched_insert_all().execute(new)
                if _small_files(facts) > _MANY_FRAGMENTS:
                    self._optimize(facts, _FACTS_KEPT)
            return
        kept = self._texts() if self.exists() else {}
        kept.pop(name, None)
        if value is not None:
            kept[name] = json.dumps(value)
        table = pa.table({"name": pa.array(kept.keys(), pa.string()), "json": pa.array(kept.values(), pa.string())})
        mode = "overwrite" if self.exists() else "create"
        with explaining(self.place, writes=True):
            self._tables[_FACTS] = self._database(_FACTS).create_table(_FACTS, data=table, mode=mode)
            if not self.place.fenced:
                self._optimize(self._tables[_FACTS], _FACTS_KEPT)

    def _texts(self) -> dict[str, str]:
        """The facts as JSON texts."""
        rows = self._reading(_FACTS, lambda table: table.search().limit(None).to_list())
        try:
            return {str(row["name"]): str(row["json"]) for row in rows}
        except KeyError as error:
            raise damaged(self.address, f"its facts have no column {error}") from error

    # Reading.

    def has_images(self) -> bool:
        """Whether images were ever added."""
        return not self._missing()

    def count(self, where: str | None = None) -> int:
        """How many rows satisfy a condition."""
        if self._missing():
            return 0
        return int(self._reading(_IMAGES, lambda table: table.count_rows(where)))

    def select(
        self, columns: Sequence[str], where: str | None = None, *, limit: int | None = None, row_ids: bool = False
    ) -> Any:
        """Rows as an Arrow table, in no particular order.

        Args:
            columns: The columns.
            where: A condition.
            limit: At most this many rows.
            row_ids: Add the column ``_rowid``: where a row lies.
        """

        def run(table: Any) -> Any:
            query = table.search().select(list(columns)).limit(limit)
            if where is not None:
                query = query.where(where)
            return query.with_row_id(row_ids).to_arrow()

        return self._sound(self._reading(_IMAGES, run))

    def pages(self, columns: Sequence[str], where: str | None = None, *, after: int = 0) -> Iterator[Any]:
        """Rows in the order of their numbers, as Arrow tables of some thousand rows each.

        Args:
            columns: The columns; ``number`` is added.
            where: A condition.
            after: Only rows with a higher number.
        """
        wanted = list(dict.fromkeys([*columns, "number"]))
        if self._missing():
            return
        numbers = np.sort(self.select(["number"], where)["number"].to_numpy())
        numbers = numbers[numbers > after]
        for start in range(0, len(numbers), _STEP):
            part = numbers[start : start + _STEP]
            between = numbers_between(part[0], part[-1])
            found = self.select(wanted, between if where is None else f"({where}) AND {between}")
            yield found.sort_by("number")

    def stream(self, columns: Sequence[str]) -> Iterator[Any]:
        """All rows in no particular order, as Arrow tables of some thousand rows each."""
        import pyarrow as pa

        if not self._missing():
            with explaining(self.place, writes=False):
                for batch in self._table(_IMAGES).search().select(list(columns)).limit(None).to_batches(_STEP):
                    yield self._sound(pa.Table.from_batches([batch]))

    def nearest(
        self,
        vector: NDArray[np.float32],
        limit: int,
        where: str | None = None,
        *,
        probes: int | None = None,
        columns: Sequence[str] = NARROW_COLUMNS,
    ) -> Any:
        """The rows nearest to a vector, as an Arrow table with the column ``embedding``.

        The index compares embeddings that are rounded to 8 bits a number, so the last of the rows may not be the right
        ones: ask for some more than are wanted.

        Args:
            vector: (D,) of unit length.
            limit: At most this many.
            where: A condition; only rows that satisfy it are searched.
            probes: Parts of the index to look into; None searches all rows.
            columns: The columns.
        """

        def run(table: Any) -> Any:
            # Without a distance named, it is that of the index, or Euclidean. Unit vectors are in the same order by
            # each of them; galleries of older versions have an index for the dot product.
            query = table.search(vector, vector_column_name="embedding").limit(limit)
            query = query.bypass_vector_index() if probes is None else query.nprobes(probes)
            if where is not None:
                query = query.where(where, prefilter=True)
            return query.select([*columns, "embedding", "_distance"]).to_arrow()

        return self._sound(self._reading(_IMAGES, run))

    def version(self) -> int:
        """The version of the rows; every change makes a higher one."""
        return 0 if self._missing() else int(self._reading(_IMAGES, lambda table: table.version))

    def indices(self) -> set[str]:
        """Names of the indices."""
        return set() if self._missing() else self._reading(_IMAGES, _index_names)

    def size(self) -> int:
        """Bytes of all files."""
        return self.place.size()

    # Writing, within `writing`.

    def forget(self) -> None:
        """Remove the tables of a gallery to which no row was added."""
        if self._missing():
            self._forget_tables()
            if self.place.fenced:
                self._turn.check()
                self._database(_FACTS).drop_table(_FACTS)
            else:
                discard(Path(self.address) / f"{_FACTS}.lance")

    def append(self, rows: Any) -> None:
        """Add rows, all or none."""
        self._turn.check()
        with explaining(self.place, writes=True):
            if self._missing():
                self._tables[_IMAGES] = self._database(_IMAGES).create_table(_IMAGES, data=rows, mode="create")
            else:
                self._table(_IMAGES).add(rows)

    @contextmanager
    def collecting(self, plan: str, within: Path | None = None) -> Iterator[Path]:
        """A folder for files whose rows are to be added in one commit, in the block.

        If the block fails, the folder stays for the next try with the same plan; those of other plans are removed.

        Args:
            plan: A name for what is to be added.
            within: The folder for such folders; None for the one in the gallery's folder.
        """
        parts = self.place.parts() if within is None else within / ".parts"
        folder = parts / plan
        if not folder.is_dir():
            discard(parts)
            try:
                folder.mkdir(parents=True)
            except OSError as error:
                raise UserError(f"{folder}: cannot be made ({error.strerror}); choose a writable folder") from error
        yield folder
        discard(parts)

    def discard_parts(self) -> None:
        """Remove rows that were embedded but not added, of a gallery in a folder."""
        if not self.place.fenced:
            discard(self.place.parts())

    def tidy(self) -> None:
        """Merge small files, bring the indices up to date, and remove versions that no reader uses any more."""
        if not self._missing():
            with explaining(self.place, writes=True):
                self._optimize(self._table(_IMAGES), _KEPT)
            self._forget_what_was_read()

    def has_many_files(self) -> bool:
        """Whether merging would speed searches up."""
        if self._missing():
            return False
        return self._reading(_IMAGES, _small_files) > _MANY_FRAGMENTS

    def remove(self, where: str, *, last_number: int) -> int:
        """Remove rows, and every trace of them on the disk: old versions, indices, and what commits say about them.

        Indices have to be built again afterwards: they hold embeddings of the rows.

        Args:
            where: A condition.
            last_number: The largest number that a row ever had, which is kept: no later row gets the number of a
                removed one.

        Returns:
            How many.
        """
        if self._missing():
            return 0
        places = self.select(["number"], where, row_ids=True)["_rowid"].to_numpy()
        if not len(places):
            return 0
        self.write_fact("last_number", last_number)
        self.write_fact("purging", True)
        self._turn.check()
        with explaining(self.place, writes=True):
            self._table(_IMAGES).delete(where)
        self._purge(sorted(set((places >> 32).tolist())))
        return len(places)

    def purge(self) -> None:
        """Write all rows again and remove everything else."""
        if not self._missing():
            fragments = self._fragments()
            self.write_fact("purging", True)
            self._purge(fragments)

    def _fragments(self) -> list[int]:
        """Numbers of all files of rows."""
        places = self.select(["number"], row_ids=True)["_rowid"].to_numpy()
        return sorted(set((places >> 32).tolist()))

    def _purge(self, fragments: list[int]) -> None:
        """Remove what deleted rows left.

        LanceDB marks rows as deleted, and leaves them in their file while most of it is in use. Files with such rows
        are therefore written again, which an update that changes nothing does.

        Args:
            fragments: Numbers of the files that hold deleted rows.
        """
        if not self._missing():
            with explaining(self.place, writes=True):
                table = self._table(_IMAGES)
                for name in _index_names(table):
                    self._turn.check()
                    table.drop_index(name)
                for one in fragments:
                    within = f"_rowid >= {one << 32} AND _rowid < {(one + 1) << 32}"
                    self._turn.check()
                    table.update(where=within, values_sql={"frame": "frame"})
                self._optimize(table, timedelta(0), leftovers=self._may_have_leftovers())
                self.place.discard_unfinished_files()
                self._check_purged(table)
        self.write_fact("purging", None)
        self._forget_what_was_read()

    def _check_purged(self, table: Any) -> None:
        """Look whether only the newest version is left, since LanceDB goes on where it may not delete a file.

        Raises:
            Unreachable: Files are left.
        """
        table.checkout_latest()
        found = Counter(name.partition("/")[0] for name in self.place.files(_IMAGES) if not name.endswith(".json"))
        # Every file of rows is in use, and nothing says which rows were deleted, or indexed.
        newest = {"data": int(table.stats()["fragment_stats"]["num_fragments"]), "_versions": 1, "_transactions": 1}
        left = sum((found - Counter(newest)).values())
        if left:
            raise Unreachable(
                f"{self.address}: {left} files of removed rows could not be deleted; allow this user to delete what is "
                f"there, and complete the removal with: pclhd gallery compact {self.address}"
            )

    def build_index(self, rows_per_part: int) -> None:
        """Index the embeddings, in parts of about this many rows, and the columns of filters."""
        from lancedb.index import Bitmap, BTree, IvfSq

        with explaining(self.place, writes=True):
            table = self._table(_IMAGES)
            self._optimize(table, _KEPT)  # before, since merging files would change the indices again
            for column, kind in INDEXED_COLUMNS.items():
                self._turn.check()
                table.create_index(column, config=BTree() if kind == "btree" else Bitmap(), replace=True)
            # The size of the parts and not their number, which is forgotten: LanceDB would merge them to its own size
            # of some thousand rows when it optimises. Centres for the dot product would be of unequal length, and
            # parts, too.
            parts = IvfSq(distance_type="l2", target_partition_size=rows_per_part)
            self._turn.check()
            table.create_index("embedding", config=parts, replace=True, name=VECTOR_INDEX)
            # What is no longer needed may be as large as the gallery. LanceDB removes it before it updates the indices,
            # so what the first call replaces is removed by the second.
            self._optimize(table, timedelta(0))
            self._optimize(table, timedelta(0))

    def _optimize(self, table: Any, older_than: timedelta, *, leftovers: bool = False) -> None:
        """Merge small files, bring indices up to date, and delete versions from an age on.

        Args:
            table: The table.
            older_than: The age.
            leftovers: On object storage, also delete files that belong to no version. A writer that sleeps while it
                does that, and loses its turn, would delete what the next one is about to commit; so this is only done
                where a writer has left such files. In a folder they are always deleted.
        """
        self._turn.check()
        with warnings.catch_warnings():
            # It warns that readers of older versions fail; ours read again (`_reading`), and there is no other writer.
            warnings.simplefilter("ignore", UserWarning)
            if not self.place.fenced:
                table.optimize(cleanup_older_than=older_than, delete_unverified=True)
                return
            table.optimize(cleanup_older_than=_NEVER)
            self._fence(table)
            self._turn.check()
            table.optimize(cleanup_older_than=older_than, delete_unverified=leftovers)

    def _may_have_leftovers(self) -> bool:
        """Whether a writer failed so lately that it may have left files, or may still wake and leave some."""
        failed = self.fact("leftovers")
        return failed is not None and datetime.now(UTC) - datetime.fromisoformat(failed) < _UNVERIFIED

    def _fence(self, table: Any) -> None:
        """Make all commits fail that begin from an older version than this one makes."""
        table.checkout_latest()
        before = table.version
        self._turn.check()
        table.checkout(before)
        table.restore()
        if table.version > before + 1:
            # Someone has committed in between, which the restored version lacks. It is in the version before.
            table.checkout(table.version - 1)
            table.restore()

    # LanceDB.

    def _missing(self) -> bool:
        return not self.place.has_table(_IMAGES)

    def _forget_tables(self) -> None:
        if self.place.fenced:
            self._opened.clear()
        self._tables.clear()

    def _forget_what_was_read(self) -> None:
        """Forget what LanceDB keeps in memory: it is about files that are merged now, and grows with each change."""
        self._opened.clear()
        self._tables.clear()

    def _database(self, table: str) -> Any:
        """A connection for one of the tables."""
        if table not in self._opened:
            self.place.check_files()
            self._opened[table] = self._lancedb.connect(
                self.address,
                read_consistency_interval=None if self._pinned else timedelta(0),
                storage_options=self.place.options or None,
                session=self._lancedb.Session(metadata_cache_size_bytes=_METADATA_CACHE[table]),
            )
        return self._opened[table]

    def _table(self, name: str) -> Any:
        if name not in self._tables:
            table = self._database(name).open_table(name)
            problem = schema_problem(table.schema, self._width()) if name == _IMAGES else None
            if problem is not None:
                raise damaged(self.address, problem)
            self._tables[name] = table
        return self._tables[name]

    def _width(self) -> int | None:
        """The width of the embeddings, as the gallery's facts say it; None if they do not."""
        about = self.fact("gallery")
        return about.get("embedding_size") if isinstance(about, dict) else None

    def _sound(self, rows: Any) -> Any:
        """The same rows, if they are some that a gallery holds."""
        problem = rows_problem(rows)
        if problem is not None:
            raise damaged(self.address, problem)
        return rows

    def _reading(self, name: str, read: Callable[[Any], Value]) -> Value:
        """Read; again, if a writer has removed the version that was being read."""
        with explaining(self.place, writes=False):
            for left in reversed(range(_TRIES)):
                try:
                    return read(self._table(name))
                except (OSError, RuntimeError, ValueError) as error:
                    if not left or not vanished(error):
                        raise
                    self._tables.pop(name, None)
        raise AssertionError("unreachable")


def _nobody_writes() -> None:
    raise AssertionError("a change outside of `writing`")


def _index_names(table: Any) -> set[str]:
    return {str(one.name) for one in table.list_indices()}


def _small_files(table: Any) -> int:
    return int(table.stats()["fragment_stats"]["num_small_fragments"])
