"""One writer at a time on object storage: an object that says who writes, and that only its owner can renew.

A file system ends the lock of a process that ends. Object storage does not, so a lease ends by itself when it has not
been renewed for a while. All times that are compared are those of the storage, so the clocks of the machines do not
matter. Every write of the object has a condition: it is new (``If-None-Match: *``), or is as it was last seen
(``If-Match`` with its ETag).
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pclhd.errors import UserError
from pclhd.files import InUse

_RENEWALS = 4  # within the time for which a lease holds
_OBJECT, _CLOCK = "writer.json", "writer.clock"


@dataclass(frozen=True)
class Turn:
    """A writer's turn.

    Attributes:
        check: To be called before each commit; raises `pclhd.files.InUse` if another process writes now.
        after_a_failure: Whether the writer before did not end properly. It may have left files that belong to nothing,
            and if it only sleeps, it may still be about to commit.
    """

    check: Callable[[], None]
    after_a_failure: bool = False


class LostLease(InUse):
    """Another process has taken the lease over."""


class _Record(BaseModel):
    """What the object says.

    Attributes:
        owner: A random name of the writer; None if it has ended.
        machine: Its machine, for people.
        process: Its number there, for people.
        seconds: For how long the lease holds without a renewal.
        renewals: How often it was renewed, so that each content differs, and with it the ETag.
        failed: Whether the writer ended with an error.
    """

    model_config = ConfigDict(extra="ignore")

    owner: str | None
    machine: str
    process: int
    seconds: float
    renewals: int
    failed: bool = False


class Lease:
    """A lease that this process holds.

    Args:
        objects: The storage, as obstore opens it.
        name: The gallery, for messages.
        seconds: For how long the lease holds without a renewal.

    Attributes:
        seconds: As given.
        after_a_failure: Whether the writer before was killed, lost its lease, or ended with an error.

    Raises:
        InUse: Another process holds it.
    """

    def __init__(self, objects: Any, name: str, *, seconds: float) -> None:
        self._objects, self._name = objects, name
        self._record = _Record(
            owner=secrets.token_hex(16), machine=socket.gethostname(), process=os.getpid(), seconds=seconds, renewals=0
        )
        self.seconds = seconds
        self._lost = False
        self._one_at_a_time = threading.Lock()
        self.after_a_failure, self._tag = self._acquire()

    def renew(self) -> None:
        """Renew the lease, which shows that it is still held.

        Raises:
            LostLease: Another process has taken it over, or this one has ended it.
        """
        with self._one_at_a_time:
            if not self._lost:
                self._record.renewals += 1
                tag = self._put(self._record, {"e_tag": self._tag})
                self._lost, self._tag = tag is None, tag or self._tag
            if self._lost:
                raise LostLease(
                    f"{self._name}: another process has taken over, since this one did not answer for "
                    f"{self._record.seconds:.0f} s; what had been added is kept, and the same command continues"
                )

    def end(self, *, failed: bool = False) -> None:
        """Let others write at once.

        Args:
            failed: Whether something went wrong.
        """
        with self._one_at_a_time:
            if not self._lost:
                self._lost = True
                self._put(self._record.model_copy(update={"owner": None, "failed": failed}), {"e_tag": self._tag})

    def _acquire(self) -> tuple[bool, str]:
        """Write the object; returns whether the writer before has failed, and the object's ETag."""
        tag = self._put(self._record, "create")
        if tag is not None:
            return False, tag
        held, found = self._read()
        if held.owner is not None:
            left = held.seconds - (self._now() - found["last_modified"]).total_seconds()
            if left >= 0:
                raise InUse(
                    f"{self._name}: is being written by another pclhd (process {held.process} on {held.machine}); wait "
                    f"until that ends. If it has been killed, its lease ends in {left:.0f} s"
                )
        tag = self._put(self._record, {"e_tag": found["e_tag"]})
        if tag is None:
            raise InUse(f"{self._name}: is being written by another pclhd, which was faster; wait until that ends")
        return held.owner is not None or held.failed, tag

    def _put(self, record: _Record, mode: Any) -> str | None:
        """Write the object on a condition; its ETag, or None if the condition does not hold."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError

        try:
            written = obstore.put(self._objects, _OBJECT, record.model_dump_json().encode(), mode=mode)
        except (AlreadyExistsError, PreconditionError, NotFoundError):
            # The answer to a first try may have been lost, and the condition of the second one broken by the first.
            with suppress(NotFoundError):
                held, found = self._read()
                if held == record:
                    return str(found["e_tag"])
            return None
        if written["version"] not in (None, "null"):
            ended = record.model_copy(update={"owner": None}).model_dump_json().encode()
            obstore.put(self._objects, _OBJECT, ended, mode={"e_tag": written["e_tag"]})
            raise UserError(
                f"{self._name}: its bucket keeps versions, so nothing could be removed for good; use a bucket without "
                "versioning"
            )
        return str(written["e_tag"])

    def _read(self) -> tuple[_Record, Any]:
        import obstore

        found = obstore.get(self._objects, _OBJECT)
        content = bytes(found.bytes())
        try:
            return _Record.model_validate_json(content), found.meta
        except ValidationError:
            raise UserError(
                f"{self._name}: the object {_OBJECT} in it is no lease; remove it if no process writes to the gallery"
            ) from None

    def _now(self) -> datetime:
        """The time of the storage."""
        import obstore

        obstore.put(self._objects, _CLOCK, b"")
        moment: datetime = obstore.head(self._objects, _CLOCK)["last_modified"]
        obstore.delete(self._objects, _CLOCK)
        return moment


@contextmanager
def renewed(lease: Lease) -> Iterator[Callable[[], None]]:
    """Renew a lease in the block every now and then, and end it afterwards.

    Args:
        lease: The lease.

    Yields:
        `Lease.renew`: what is to be called before each commit.
    """
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(lease.seconds / _RENEWALS):
            try:
                lease.renew()
            except InUse:
                return
            except Exception:  # the storage does not answer; the next commit says so
                continue

    thread = threading.Thread(target=keep, daemon=True, name="pclhd lease")
    thread.start()
    failed = True
    try:
        yield lease.renew
        failed = False
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):  # it ends by itself
            lease.end(failed=failed)
