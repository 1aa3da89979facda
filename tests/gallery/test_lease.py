"""The lease of a writer on object storage, with a storage in memory."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from pclhd import UserError
from pclhd.files import InUse
from pclhd.gallery.lease import Lease, LostLease, renewed

obstore = pytest.importorskip("obstore", reason="the extra `s3` is not installed")


def _lease(objects: Any, seconds: float = 60) -> Lease:
    return Lease(objects, "s3://bucket/people", seconds=seconds)


def _later(seconds: float) -> Any:
    """The storage's clock is that much later."""
    return mock.patch.object(Lease, "_now", return_value=datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.fixture
def objects() -> Any:
    return obstore.store.MemoryStore()


def _record(objects: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(obstore.get(objects, "writer.json").bytes()))
    return found


def test_one_at_a_time(objects: Any) -> None:
    first = _lease(objects)
    with pytest.raises(InUse, match=r"is being written by another pclhd \(process \d+ on .*lease ends in (60|59) s"):
        _lease(objects)
    first.renew()
    first.end()
    second = _lease(objects)
    assert not second.after_a_failure
    with pytest.raises(LostLease):
        first.renew()
    first.end()  # changes nothing
    second.renew()
    assert [one["path"] for page in obstore.list(objects) for one in page] == ["writer.json"]


def test_a_killed_writer_is_replaced_once_its_time_is_over(objects: Any) -> None:
    killed = _lease(objects, 60)
    with _later(59), pytest.raises(InUse):
        _lease(objects)
    with _later(61):
        next_one = _lease(objects)
    assert next_one.after_a_failure
    with pytest.raises(LostLease, match="another process has taken over"):
        killed.renew()
    killed.end()
    next_one.renew()
    next_one.end()
    assert not _lease(objects).after_a_failure


def test_a_renewal_counts(objects: Any) -> None:
    lease = _lease(objects, 60)
    with _later(61):
        lease.renew()
        written = obstore.head(objects, "writer.json")["last_modified"]
    with mock.patch.object(Lease, "_now", return_value=written + timedelta(seconds=59)), pytest.raises(InUse):
        _lease(objects)


def test_of_many_that_take_over_one_succeeds(objects: Any) -> None:
    _lease(objects)
    begin, held, refused = threading.Barrier(8), list[Lease](), list[InUse]()

    def take() -> None:
        begin.wait()
        try:
            held.append(_lease(objects))
        except InUse as error:
            refused.append(error)

    with _later(61):
        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # A later one may see a lease that is, by the clock of this test, over at once; the one before has lost it then.
    valid = []
    for lease in held:
        try:
            lease.renew()
        except LostLease:
            continue
        valid.append(lease)
    assert len(valid) == 1
    assert len(held) + len(refused) == 8


def test_it_is_renewed_in_the_block_and_ended_after_it(objects: Any) -> None:
    lease = _lease(objects, 0.2)
    with renewed(lease):
        waiting = threading.Event()
        while _record(objects)["renewals"] < 3:
            waiting.wait(0.01)
    assert (_record(objects)["owner"], _record(objects)["failed"]) == (None, False)
    assert not _lease(objects).after_a_failure


def test_after_an_error_the_next_writer_looks_for_leftovers(objects: Any) -> None:
    with pytest.raises(RuntimeError), renewed(_lease(objects)):
        raise RuntimeError
    assert _lease(objects).after_a_failure


def test_an_answer_that_was_lost(objects: Any) -> None:
    """The first try has written the object, so the second finds it there: it is our own."""
    put = obstore.put

    def put_twice(*given: Any, **named: Any) -> Any:
        put(*given, **named)
        return put(*given, **named)

    with mock.patch("obstore.put", put_twice):
        lease = _lease(objects)
        lease.renew()
        lease.end()
    assert _record(objects)["owner"] is None


def test_something_else_under_its_name(objects: Any) -> None:
    obstore.put(objects, "writer.json", b"{}")
    with pytest.raises(UserError, match="is no lease; remove it"):
        _lease(objects)


def test_a_bucket_that_keeps_versions(objects: Any) -> None:
    put = obstore.put
    with (
        mock.patch("obstore.put", lambda *given, **named: {**put(*given, **named), "version": "7"}),
        pytest.raises(UserError, match="keeps versions, so nothing could be removed for good"),
    ):
        _lease(objects)
    assert _record(objects)["owner"] is None
