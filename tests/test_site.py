"""The site builds strictly and without a network, and its pages load nothing from elsewhere."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import pclhd

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Opened in a browser: one page of each kind.
OPENED = ("index.html", "api.html", "settings.html", "method-in-pictures.html", "CHANGELOG.html", "faq.html")

slow = pytest.mark.slow
browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt install chromium)")


class _Ignoring(yaml.SafeLoader):
    """Reads mkdocs.yml without making the objects of its tags."""


_Ignoring.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def _pages(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from _pages(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_once() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), _Ignoring)
    named = list(_pages(config["nav"]))
    assert len(named) == len(set(named))
    top = {"CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"}
    assert set(named) == {page.name for page in (ROOT / "docs").glob("*.md")} | top


def test_the_api_page_has_every_public_name_once() -> None:
    shown = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE)
    places = {f"{getattr(pclhd, name).__module__}.{name}" for name in pclhd.__all__ if name != "__version__"}
    assert len(shown) == len(set(shown))
    assert set(shown) == places


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    folder = tmp_path_factory.mktemp("site")
    # A proxy that is not there: whatever would be fetched fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, **nowhere}, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class _Loaded(HTMLParser):
    """What a page loads: scripts, styles, images, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in {"script", "img", "iframe", "source", "video"}:
            self.addresses.append(values.get("src") or "")
        if tag == "link" and values.get("rel") != "canonical":
            self.addresses.append(values.get("href") or "")


@slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = _Loaded()
        loaded.feed(page.read_text("utf-8"))
        assert [one for one in loaded.addresses if re.match(r"(\w+:)?//", one)] == []


@slow
def test_the_api_is_rendered_from_the_docstrings(site: Path) -> None:
    text = (site / "api.html").read_text("utf-8")
    for name in pclhd.__all__:
        assert name == "__version__" or f">{name}<" in text or f"{name}</" in text, name
    assert "A run folder, or a model file in any folder." in text


@slow
def test_source_files_that_pages_link_to_are_there(site: Path) -> None:
    assert (site / "examples" / "one_page.py").read_text("utf-8") == (ROOT / "examples" / "one_page.py").read_text(
        "utf-8"
    )
    assert 'href="examples/one_page.py"' in (site / "architecture.html").read_text("utf-8")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@slow
@browser
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_in_a_browser(address: str, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    faults: list[str] = []

    def asked(request: Any) -> None:
        if not request.url.startswith((address, "blob:", "data:")):
            faults.append(request.url)

    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", asked)
        for name in OPENED:
            page.goto(address + name)
            page.wait_for_load_state("networkidle")
            broken = "[...document.images].filter((one) => !one.naturalWidth).map((one) => one.src)"
            assert page.evaluate(broken) == []
            # No page scrolls sideways; wide tables scroll within themselves.
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        if width > 1000:  # on a narrow screen the field of the search opens from an icon
            page.fill(".md-search__input", "eps")
            page.wait_for_selector(".md-search-result__item a")
        chromium.close()
    assert faults == []
