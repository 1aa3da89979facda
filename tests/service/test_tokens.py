from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pclhd.errors import UserError
from pclhd.service.tokens import Role, Tokens, create_token, revoke_token


def test_a_token_is_found_by_its_secret_only(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = create_token(path, "gate-desk", Role.SEARCH)
    found = Tokens(path).find(secret)
    assert found is not None
    assert (found.name, found.role) == ("gate-desk", Role.SEARCH)
    for other in ("", "gate-desk", found.digest, secret[:-1], secret + "x", secret.upper(), "\udcff"):
        assert Tokens(path).find(other) is None


def test_the_file_does_not_hold_the_secret_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = create_token(path, "desk", Role.ADMIN)
    assert secret not in path.read_text()
    assert secret.removeprefix("pclhd_") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    create_token(path, "other", Role.SEARCH)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_expires(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = create_token(path, "desk", Role.SEARCH, lifetime=timedelta(days=2))
    tokens, now = Tokens(path), datetime.now(UTC)
    assert tokens.find(secret, now + timedelta(days=1)) is not None
    assert tokens.find(secret, now + timedelta(days=3)) is None


def test_revoking_reaches_a_running_service(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = create_token(path, "desk", Role.SEARCH)
    running = Tokens(path)
    assert running.find(secret) is not None
    assert revoke_token(path, "desk") == 1
    assert running.find(secret) is None
    # The name may be used again; the old secret stays refused.
    renewed = create_token(path, "desk", Role.SEARCH)
    assert running.find(renewed) is not None
    assert running.find(secret) is None


def test_a_valid_name_is_not_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    create_token(path, "desk", Role.SEARCH)
    with pytest.raises(UserError, match="has a valid token"):
        create_token(path, "desk", Role.ADMIN)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\n", "ü", "x" * 65, "../x"])
def test_names_that_would_confuse_a_log_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="letters, digits"):
        create_token(tmp_path / "tokens.json", name, Role.SEARCH)
    assert not (tmp_path / "tokens.json").exists()


@pytest.mark.parametrize("days", [0, -1, 10**9])
def test_lifetimes_that_are_none(tmp_path: Path, days: int) -> None:
    try:
        lifetime = timedelta(days=days)
    except OverflowError:
        lifetime = timedelta.max
    with pytest.raises(UserError, match="days"):
        create_token(tmp_path / "tokens.json", "desk", Role.SEARCH, lifetime=lifetime)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"tokens":[{"name":"x"}]}', '{"tokens":[],"more":1}', "\x00"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"tokens\.json"):
        Tokens(path)


def test_revoking_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    create_token(path, "desk", Role.SEARCH)
    with pytest.raises(UserError, match="no valid token"):
        revoke_token(path, "other")


def test_each_role_includes_the_ones_before() -> None:
    allowed = {role: [needed for needed in Role if role.allows(needed)] for role in Role}
    assert allowed == {
        Role.SEARCH: [Role.SEARCH],
        Role.INGEST: [Role.SEARCH, Role.INGEST],
        Role.ADMIN: [Role.SEARCH, Role.INGEST, Role.ADMIN],
    }
