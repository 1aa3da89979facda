"""Starting the service: what is refused before anything is served."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn

from pclhd.errors import UserError
from pclhd.service.access import Service
from pclhd.service.run import open_service, serve
from pclhd.service.tokens import Role, Tokens, create_token


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_other_machines_need_a_token(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: served.append(sockets[0].getsockname()[0]))
    with pytest.raises(UserError, match="can be reached from other machines"):
        serve(service, "0.0.0.0", _free_port())
    assert not served
    create_token(tmp_path / "tokens.json", "desk", Role.SEARCH)
    serve(replace(service, tokens=Tokens(tmp_path / "tokens.json")), "0.0.0.0", _free_port())
    assert served == ["0.0.0.0"]


def test_a_port_that_is_taken(service: Service) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot be listened on at 127"):
            serve(service, "127.0.0.1", taken.getsockname()[1])


def test_a_token_file_without_a_token(service: Service, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no token; make one with"):
        open_service(service.gallery.path, tokens=tmp_path / "none.json")
    assert not (tmp_path / "people.audit.jsonl").exists()


def test_neither_a_gallery_nor_a_model_of_a_new_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model: is missing, and there is no gallery at .*none; name a gallery"):
        open_service(tmp_path / "none")
    assert not any(tmp_path.iterdir())
