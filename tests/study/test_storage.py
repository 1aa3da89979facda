from __future__ import annotations

import getpass
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pclhd.errors import ArgumentError, UserError
from pclhd.study import storage
from pclhd.study.folder import StudyFolder
from pclhd.study.storage import find_study, identity_of, open_study, without_password, write_record
from tests.study.sharing import IDENTITY, finished, in_processes, work_on

SECRET = "open sesame/%"
ADDRESS = "postgresql://pclhd:open%20sesame%2F%25@127.0.0.1:1/studies?password=second"


def study_folder(tmp_path: Path) -> StudyFolder:
    (tmp_path / "study").mkdir(exist_ok=True)
    return StudyFolder(tmp_path / "study")


def test_an_address_is_shown_without_its_password() -> None:
    assert without_password(ADDRESS) == "postgresql://pclhd@127.0.0.1:1/studies"
    for wrong, said in (
        ("studies.db", "no address"),
        ("postgresql://a:b@host:port/x", "no address"),
        ("sqlite:///studies.db", "of the kind sqlite"),
        ("oracle://a:secret@host/x", "of the kind oracle"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            without_password(wrong)
        assert "secret" not in str(caught.value)


def test_a_server_that_is_away_is_reported_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg2")
    monkeypatch.setattr(storage, "_PAUSE", 0.0)
    with pytest.raises(UserError, match=r"postgresql://pclhd@127\.0\.0\.1:1/studies: cannot be used") as caught:
        open_study(study_folder(tmp_path), ADDRESS, "study", IDENTITY)
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert list((tmp_path / "study").iterdir()) == []


def test_the_folder_knows_its_database(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    assert find_study(folder, None) is None
    write_record(folder, ADDRESS, "mine", IDENTITY)
    saved = folder.record_file.read_text()
    assert "sesame" not in saved
    assert "second" not in saved
    assert find_study(folder, ADDRESS) == (ADDRESS, "mine")
    with pytest.raises(ArgumentError, match="keeps its trials in postgresql://pclhd@127"):
        find_study(folder, None)
    with pytest.raises(ArgumentError, match="name that"):
        find_study(folder, ADDRESS.replace("studies", "others"))
    write_record(folder, None, "mine", IDENTITY)
    assert find_study(folder, None) == (None, "mine")
    with pytest.raises(ArgumentError, match="keeps its trials in a file"):
        find_study(folder, ADDRESS)
    for damaged in ("[", "- 1", "name: mine", "\x00"):
        folder.record_file.write_text(damaged)
        with pytest.raises(UserError, match=r"study\.yaml: is damaged"):
            find_study(folder, None)


def test_another_study_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    study, _ = open_study(folder, None, "study", IDENTITY)
    assert identity_of(study) == IDENTITY
    open_study(folder, None, "study", IDENTITY)
    with pytest.raises(UserError, match=r"differs in space\.y; name another folder"):
        open_study(folder, None, "study", {**IDENTITY, "space": {"x": {}, "y": {}}})
    with pytest.raises(UserError, match="differs in objective"):
        open_study(folder, None, "study", {**IDENTITY, "objective": "cycle"})
    with pytest.raises(UserError, match="no study named other"):
        open_study(folder, None, "other", None)


def test_no_study_and_a_damaged_one(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    with pytest.raises(UserError, match=r"study\.db: is missing"):
        open_study(folder, None, "study", None)
    assert not folder.database_file.exists()
    folder.database_file.write_bytes(b"SQLite format 3\x00 and then something else" * 100)
    with pytest.raises(UserError, match="the study's database cannot be used"):
        open_study(folder, None, "study", None)


# PostgreSQL.


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def _unprivileged() -> str | None:
    """A user that may run the server, which refuses root; None if there is none."""
    if os.geteuid() != 0:
        return getpass.getuser()
    names = [entry.pw_name for entry in pwd.getpwall() if entry.pw_uid != 0]
    return "postgres" if "postgres" in names else next(iter(names), None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a database on a server of its own, with a password."""
    pytest.importorskip("psycopg2")
    programs, user = _programs(), _unprivileged()
    if programs is None or user is None:
        pytest.skip("needs PostgreSQL, in Debian the package postgresql, and a user who may run it")
    # The folder of pytest is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="pclhd-pg-"))
    switch: dict[str, Any] = {"user": user} if os.geteuid() == 0 else {}
    secret = folder / "secret"
    secret.write_text(SECRET)
    if switch:
        for path in (folder, secret):
            shutil.chown(path, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    make: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "pclhd",
        f"--pwfile={secret}",
        "-A",
        "scram-sha-256",
        "--no-sync",
    ]
    subprocess.run([*make, "-E", "UTF8", "--locale=C"], check=True, capture_output=True, cwd=folder, **switch)
    options = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off"]
    command: list[str | Path] = [
        programs / "postgres",
        "-D",
        data,
        *(word for option in options for word in ("-c", option)),
    ]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder, **switch)
    try:
        address = f"postgresql://pclhd:open%20sesame%2F%25@127.0.0.1:{port}/postgres"
        _wait_for(port, running)
        yield address
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(30)
        shutil.rmtree(folder)


def _wait_for(port: int, running: subprocess.Popen[bytes]) -> None:
    import psycopg2

    for _ in range(200):
        assert running.poll() is None, "the server ended"
        try:
            psycopg2.connect(host="127.0.0.1", port=port, user="pclhd", password=SECRET, dbname="postgres").close()
        except psycopg2.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server does not answer")


@pytest.mark.slow
def test_two_processes_share_a_study_on_postgresql(server: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    start = multiprocessing.get_context("fork").Barrier(2)
    work = [partial(work_on, folder, 8, url=server, seconds=0.05, start=start) for folder in (one, two)]
    assert in_processes(work) == [0, 0]
    done = finished(one, url=server)
    assert len(done) == 8
    assert len({trial.user_attrs["by"] for trial in done}) == 2
    assert not (one / "study.db").exists()
    # Another study on the same server is another study.
    work_on(one, 2, url=server, name="second")
    assert (len(finished(one, url=server)), len(finished(one, url=server, name="second"))) == (8, 2)


@pytest.mark.slow
def test_a_process_killed_on_postgresql(server: str, tmp_path: Path) -> None:
    one, name = tmp_path / "one", "killed"
    assert in_processes([partial(work_on, one, 4, url=server, name=name, die_in=1)]) == [-signal.SIGKILL]
    assert len(finished(one, url=server, name=name)) == 1
    work_on(one, 4, url=server, name=name)
    assert [trial.number for trial in finished(one, url=server, name=name)] == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_wrong_password_is_not_shown(server: str, tmp_path: Path) -> None:
    wrong = server.replace("open", "close")
    with pytest.raises(UserError, match="password authentication failed") as caught:
        open_study(study_folder(tmp_path), wrong, "study", IDENTITY)
    assert "sesame" not in str(caught.value)


@pytest.mark.slow
def test_commands_share_a_study_on_postgresql_although_one_is_killed(
    server: str, tiny_sysu: Path, tmp_path: Path
) -> None:
    (tmp_path / "file.yaml").write_text(
        "preset: tiny\n"
        "settings: {schedule.iterations: 1, schedule.stage2_epochs: 0, data.height: 48, data.width: 24}\n"
        "space: {clustering.eps: {type: float, low: 0.5, high: 0.7}}\n"
    )
    environment = {**os.environ, "PCLHD_STUDY_STORAGE": server}

    def begin(name: str) -> subprocess.Popen[str]:
        words = [
            "study",
            "run",
            "file.yaml",
            "--data",
            str(tiny_sysu),
            "--out",
            name,
            "--name",
            "both",
            "--trials",
            "4",
        ]
        command = [sys.executable, "-m", "pclhd", *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)

    killed, other = begin("one"), begin("two")
    assert killed.stdout is not None
    said = ""
    while "\ntrial " not in said:  # it has begun one
        line = killed.stdout.readline()
        assert line, said
        said += line
    killed.kill()
    said += killed.communicate()[0]
    again = begin("one")
    for running in (other, again):
        output = running.communicate()[0]
        assert running.returncode == 0, output
        assert "4 complete" in output
        said += output
    done = finished(tmp_path / "one", url=server, name="both")
    assert [trial.number for trial in done] == [0, 1, 2, 3]
    folders = [path.name for name in ("one", "two") for path in (tmp_path / name).glob("trial-*")]
    assert sorted(folders) == [f"trial-{number:04d}-seed-0" for number in range(4)]
    files = [path for name in ("one", "two") for path in (tmp_path / name).rglob("*") if path.is_file()]
    for secret in (b"sesame", SECRET.encode()):
        assert secret not in said.encode()
        assert not [path for path in files if secret in path.read_bytes()]
