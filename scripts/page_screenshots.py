"""Take the pictures of the search page for docs/service.md in a headless Chromium.

Usage: python scripts/page_screenshots.py GALLERY QUERY [--out docs/pictures]

GALLERY must show drawn people only: the pictures are published. QUERY is an infrared image of one of them.
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from pclhd.service.run import open_service
from pclhd.service.server import make_server

#: Name → width and height in CSS pixels, and the colours that the page is asked for.
SHOTS = {
    "search-desktop": (1280, 1000, "light"),
    "search-dark": (1280, 1000, "dark"),
    "search-phone": (390, 1400, "light"),
    "search-side": (1280, 900, "light"),
}
_COLOURS = 256
_MOST_BYTES = 300_000


def main() -> None:
    """Serve the gallery, and take one picture after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("query", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no Chromium (Debian: apt install chromium)")
    with TemporaryDirectory() as folder, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        service = open_service(arguments.gallery, audit=Path(folder) / "audit.jsonl", device="cpu")
        server = make_server(service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        try:
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                for name in SHOTS:
                    address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
                    write(arguments.out / f"{name}.png", taken(browser, address, name, arguments.query))
                browser.close()
        finally:
            server.should_exit = True
            thread.join()
            service.audit.close()


def taken(browser: Browser, address: str, name: str, query: Path) -> bytes:
    """A picture of the page after a search, as PNG."""
    width, height, colours = SHOTS[name]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if colours == "dark" else "light",
        timezone_id="UTC",
    )
    page: Page = context.new_page()
    page.goto(address)
    page.set_input_files("#query-file", query)
    page.click("#search-form button[type=submit]")
    page.wait_for_selector("#hits .hit")
    wait_for(page, "[...document.querySelectorAll('#hits img')].slice(0, 6).every((one) => one.naturalWidth > 0)")
    if name == "search-side":
        page.locator("#hits .hit").first.click()
        wait_for(page, "document.querySelector('#side-hit').naturalWidth > 0")
    if name == "search-phone":
        page.evaluate("window.scrollTo(0, 0)")  # on a phone, the page has gone on to the results
    page.wait_for_timeout(500)
    picture = page.screenshot(full_page=False)
    context.close()
    return picture


def wait_for(page: Page, condition: str) -> None:
    """Wait until an expression is true. The page's own rules forbid Playwright's way, which evaluates text in it."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    sys.exit(f"the page did not come to: {condition}")


def write(path: Path, picture: bytes) -> None:
    """Save a picture with few colours, so that it is small."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes")
    if size > _MOST_BYTES:
        sys.exit(f"{path}: is larger than {_MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
