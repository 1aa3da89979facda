"""The page in a real browser, against a real server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pclhd.service.access import Service
from pclhd.service.tokens import Role, Tokens, create_token
from tests.service.conftest import both_ways, image_bytes, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@contextmanager
def opened(browser: Browser, address: str, **kind: object) -> Iterator[Page]:
    """The page, on which any error in the console or request to elsewhere fails the test."""
    context = browser.new_context(**kind)  # type: ignore[arg-type]
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith((address, "blob:")) else faults.append(request.url)
    )
    page.goto(address)
    yield page
    context.close()
    # Refusals, which the page shows in words, are also lines of the console.
    assert [fault for fault in faults if "status of 401" not in fault and "status of 422" not in fault] == []


def image_file(folder: Path, seed: int, *, grey: bool = False) -> Path:
    path = folder / f"image-{seed}.png"
    path.write_bytes(image_bytes(seed, grey=grey))
    return path


def test_search_filter_open_add_and_remove(browser: Browser, service: Service, tmp_path: Path) -> None:
    with serving(service) as address, opened(browser, address) as page:
        expect = playwright.expect
        expect(page.locator("#contents")).to_contain_text("4 images: 3 visible, 1 infrared, 2 cameras")

        # A search, whose modality is guessed and shown.
        page.set_input_files("#query-file", image_file(tmp_path, 1))
        page.click("#search-form button[type=submit]")
        expect(page.locator("#guess")).to_contain_text("Guessed: visible light")
        expect(page.locator("#hits .hit").first).to_contain_text("similarity 1.00")
        expect(page.locator("#hits .hit").first).to_contain_text("gate")
        expect(page.locator("#hits img").first).to_have_js_property("naturalWidth", 30)
        unfiltered = page.locator("#hits .hit").count()

        # A filter.
        page.get_by_label("yard (1)").check()
        page.click("#search-form button[type=submit]")
        expect(page.locator("#hits .hit")).to_have_count(1)
        expect(page.locator("#hits .hit")).to_contain_text("yard")
        page.get_by_label("yard (1)").uncheck()
        page.click("#search-form button[type=submit]")
        expect(page.locator("#hits .hit")).to_have_count(unfiltered)

        # A result beside the query, by keyboard.
        page.locator("#hits .hit").first.press("Enter")
        expect(page.locator("#side")).to_be_visible()
        expect(page.locator("#side-title")).to_contain_text("Rank 1")
        expect(page.locator("#side-hit")).to_have_js_property("naturalWidth", 30)
        page.keyboard.press("ArrowRight")
        expect(page.locator("#side-title")).to_contain_text("Rank 2")
        page.keyboard.press("Escape")
        expect(page.locator("#side")).to_be_hidden()

        # Two images are added, one that is there already, and one that is none.
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"\xff\xd8\xff nothing")
        page.click("[data-view=add]")
        page.set_input_files("#add-files", [image_file(tmp_path, seed) for seed in (1, 20, 21)] + [broken])
        page.fill("#add-form [name=camera]", "street")
        page.click("#add-form button[type=submit]")
        expect(page.locator("#add-status")).to_have_text("Added 2, already there 1, refused 1.")
        expect(page.locator("#add-problems")).to_contain_text("broken.jpg")
        expect(page.locator("#contents")).to_contain_text("6 images")

        # They are removed again, after a question.
        page.click("[data-view=manage]")
        page.select_option("#remove-camera select", "street")
        page.click("#remove-camera button")
        page.click("#confirm button[value=no]")
        assert len(service.gallery) == 6
        page.click("#remove-camera button")
        page.click("#confirm button[value=yes]")
        expect(page.locator("#manage-status")).to_have_text("Removed 2 images; 4 are left.")
        assert len(service.gallery) == 4


def test_the_order_is_said_and_that_of_probabilities(browser: Browser, service: Service, tmp_path: Path) -> None:
    with serving(service) as address, opened(browser, address) as page:
        expect = playwright.expect
        page.set_input_files("#query-file", image_file(tmp_path, 1))
        page.click("#search-form button[type=submit]")
        expect(page.locator("#verdict")).to_contain_text("most similar first. Ordered by similarity, which cannot be")
        expect(page.locator("#hits .hit").first).to_contain_text("visible light")
        service.gallery.calibration = both_ways(service.gallery.encoder.model_id)
        page.click("#search-form button[type=submit]")
        expect(page.locator("#hits .hit").first).to_contain_text("same person")
        assert "infrared" in page.locator("#hits .hit").first.inner_text()
        shares = [
            int(text.split(". ")[1].split(" %")[0]) for text in page.locator("#hits .hit strong").all_inner_texts()
        ]
        assert shares == sorted(shares, reverse=True)
        expect(page.locator("#verdict")).to_contain_text("0.99 (infrared) or 0.90 (visible light)")
        expect(page.locator("#verdict")).not_to_contain_text("Ordered by")


def test_a_token_is_asked_for(browser: Browser, service: Service, tmp_path: Path) -> None:
    secret = create_token(tmp_path / "tokens.json", "desk", Role.SEARCH)
    service.tokens = Tokens(tmp_path / "tokens.json")
    with serving(service) as address, opened(browser, address) as page:
        expect = playwright.expect
        expect(page.locator("#token-dialog")).to_be_visible()
        page.fill("#token-form input", "wrong")
        page.click("#token-form button")
        expect(page.locator("#token-dialog")).to_be_visible()
        page.fill("#token-form input", secret)
        page.click("#token-form button")
        expect(page.locator("#contents")).to_contain_text("4 images")
        # This role may neither add nor remove.
        expect(page.locator("[data-view=add]")).to_be_hidden()
        expect(page.locator("[data-view=manage]")).to_be_hidden()


def test_names_are_shown_as_text(browser: Browser, service: Service, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    service.gallery.add([image_bytes(30)], modality="visible", camera=name, keep="thumbnail")
    with serving(service) as address, opened(browser, address) as page:
        page.set_input_files("#query-file", image_file(tmp_path, 30))
        page.click("#search-form button[type=submit]")
        playwright.expect(page.locator("#hits .hit").first).to_contain_text(name)


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_screen(browser: Browser, service: Service, tmp_path: Path, width: int) -> None:
    with serving(service) as address, opened(browser, address, viewport={"width": width, "height": 800}) as page:
        page.set_input_files("#query-file", image_file(tmp_path, 1))
        page.click("#search-form button[type=submit]")
        page.wait_for_selector(".hit")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # On a phone the filters are folded until they are wanted, and what is set is named.
        expect = playwright.expect
        if width == 390:
            expect(page.locator("#cameras")).to_be_hidden()
            expect(page.locator("#verdict")).to_be_in_viewport()
            page.click("#filters summary")
        expect(page.locator("#cameras")).to_be_visible()
        page.get_by_label("yard (1)").check()
        expect(page.locator("#filters-set")).to_have_text(": yard")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Everything that can be used has a name that a screen reader can say.
        unnamed = page.evaluate(
            """[...document.querySelectorAll("button, input, select, img")].filter((one) => {
                 const name = one.textContent.trim() || one.getAttribute("aria-label") || one.getAttribute("alt") ||
                   (one.labels && [...one.labels].map((label) => label.textContent.trim()).join(""));
                 return !name;
               }).map((one) => one.outerHTML)"""
        )
        assert unnamed == []
