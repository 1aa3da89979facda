from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pclhd.errors import UserError
from pclhd.service.audit import FIRST, AuditLog, verify_log


def written(path: Path, count: int = 4) -> str:
    log = AuditLog(path)
    for number in range(count):
        log.append("desk", "search", image=f"{number:064x}", camera="gate\u2028\n")
    log.close()
    return log.head


def test_an_intact_log_is_verified(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    head = written(path)
    assert verify_log(path, head).entries == 4
    assert verify_log(path).head == head
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [json.loads(line)["details"]["image"][-1] for line in path.read_text().splitlines()] == list("0123")


def test_an_empty_log_is_verified(tmp_path: Path) -> None:
    written(tmp_path / "audit.jsonl", 0)
    assert not (tmp_path / "audit.jsonl").exists()  # nothing was logged, so nothing stays
    (tmp_path / "audit.jsonl").touch()
    assert verify_log(tmp_path / "audit.jsonl", FIRST).entries == 0


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    first = written(path)
    written(path, 2)
    assert verify_log(path, first).entries == 6


def change(lines: list[bytes], what: str) -> list[bytes]:
    match what:
        case "changed":
            return [lines[0], lines[1].replace(b'"desk"', b'"mask"'), *lines[2:]]
        case "removed":
            return [lines[0], *lines[2:]]
        case "inserted":
            return [*lines[:2], lines[1], *lines[2:]]
        case "swapped":
            return [lines[0], lines[2], lines[1], lines[3]]
        case "first removed":
            return lines[1:]
        case "not json":
            return [lines[0], b"x\n", *lines[2:]]
        case _:
            return [*lines[:3], lines[3][:-20]]


@pytest.mark.parametrize("what", ["changed", "removed", "inserted", "swapped", "first removed", "not json", "cut"])
def test_tampering_is_found(tmp_path: Path, what: str) -> None:
    path = tmp_path / "audit.jsonl"
    written(path)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True), what)))
    with pytest.raises(UserError, match=r"audit\.jsonl:\d"):
        verify_log(path)


def test_a_cut_end_is_found_by_an_earlier_digest_only(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    head = written(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert verify_log(path).entries == 2
    with pytest.raises(UserError, match="cut off or rewritten"):
        verify_log(path, head)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("log") / "audit.jsonl"
    head = written(path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = (content[place] + data.draw(st.integers(1, 255))) % 256
    path.write_bytes(content)
    with pytest.raises(UserError):
        verify_log(path, head)


def test_a_line_that_a_kill_cut_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number":5,"ti')
    written(path, 1)
    assert verify_log(path).entries == 5
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("content", [b"precious", b'{"number":1,"x":2}', b'{"a":1}\n{"b":2', b"\xff\n", b"[1]\n3"])
def test_a_file_of_something_else_loses_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"not a complete line|line before"):
        AuditLog(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_bytes() == content


def test_a_broken_log_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written(path)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True), "removed")))
    before = path.read_bytes()
    with pytest.raises(UserError, match="line before"):
        AuditLog(path)
    assert path.read_bytes() == before


def test_two_processes_do_not_write_one_log(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    with pytest.raises(UserError, match="is being written"):
        AuditLog(tmp_path / "audit.jsonl")
    log.close()


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log.append("desk", "search", number=number), range(100)))
    log.close()
    assert verify_log(tmp_path / "audit.jsonl", log.head).entries == 100


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "audit.jsonl").symlink_to(victim)
    with pytest.raises(UserError, match="cannot be written"):
        AuditLog(tmp_path / "audit.jsonl")
    assert victim.read_text() == "precious"
