"""The report in a real browser: nothing from elsewhere, nothing broken, and no serious fault of accessibility."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pclhd.report.page import write_report
from tests.report.fixtures import make_album, make_results, write_data, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt install chromium)"),
]

WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An evaluated run, and one on images without labels."""
    folder = tmp_path_factory.mktemp("browser")
    results = make_results()
    shown = results["ranked_examples"]["weights"]["final"]
    results["ranked_examples"]["chosen"] = {"best": shown[:1], "worst": shown[1:2], "random": shown[2:]}
    bins = [0] * 40 + list(range(40))
    results["similarities"] = {
        "start": {"same": bins[::-1], "different": bins},
        "final": {"same": bins, "different": bins},
    }
    results["confused"] = [{"queries": 2, "query": shown[0]["query"], "found": shown[0]["gallery"][0]}]
    data = write_data(folder / "data")
    return {
        "labelled": write_report(
            write_run(folder / "labelled", results=results),
            data_root=data,
            album=make_album(folder / "album", has_test=True),
        ),
        "unlabelled": write_report(
            _without_results(write_run(folder / "unlabelled")), album=make_album(folder / "own", labelled=False)
        ),
    }


def _without_results(run: Path) -> Path:
    (run / "results.json").unlink()
    return run


@contextmanager
def opened(browser: Browser, report: Path, **kind: object) -> Iterator[Page]:
    """The page, on which any error in the console or request to elsewhere fails the test."""
    context = browser.new_context(**kind)  # type: ignore[arg-type]
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((report.as_uri(), "data:")) else faults.append(request.url),
    )
    page.goto(report.as_uri())
    yield page
    context.close()
    assert faults == []


@pytest.mark.parametrize("kind", ["labelled", "unlabelled"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_page_is_sound_and_accessible(
    browser: Browser, reports: dict[str, Path], kind: str, width: str, colours: str
) -> None:
    size = {"width": WIDTHS[width], "height": 900}
    with opened(browser, reports[kind], viewport=size, color_scheme=colours) as page:
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        broken = page.evaluate(
            "[...document.images].filter((one) => !one.complete || one.naturalWidth === 0).map((one) => one.alt)"
        )
        assert broken == []
        assert page.evaluate("document.images.length") > 60
        # Wide tables and lists scroll in their own boxes; the page itself does not.
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
        # The interactive map is made when it comes near.
        page.locator("#map").scroll_into_view_if_needed()
        page.wait_for_selector("#map-plot svg", state="attached")
        found = axe.Axe().run(page).response["violations"]
        serious = [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
        assert serious == []


def test_the_map_shows_images_zooms_and_marks_a_cluster(browser: Browser, reports: dict[str, Path]) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed")
    with opened(browser, reports["labelled"], viewport={"width": 1280, "height": 900}) as page:
        plot = page.locator("#map-plot")
        page.locator("#map").scroll_into_view_if_needed()
        playwright.expect(plot.locator(".point")).to_have_count(36)
        playwright.expect(page.locator("#map .still")).to_be_hidden()
        place = plot.locator(".point").first.bounding_box()
        assert place is not None
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        playwright.expect(page.locator("#map-words")).to_contain_text("identity")
        assert page.evaluate("getComputedStyle(document.querySelector('#map-picture')).backgroundImage").startswith(
            "url("
        )
        page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        faded = "[...document.querySelectorAll('#map-plot .point')].filter((one) => one.style.opacity < 0.5).length"
        page.wait_for_function(f"{faded} > 20")
        before = page.evaluate("document.querySelector('#map-plot')._fullLayout.xaxis.range")
        page.click("#map-in")
        after = page.evaluate("document.querySelector('#map-plot')._fullLayout.xaxis.range")
        assert after[1] - after[0] == pytest.approx((before[1] - before[0]) / 2, rel=0.01)
        page.select_option("#map-colours", "cluster")
        page.click("#map-reset")
        page.wait_for_function(f"{faded} === 0")


def test_without_scripts_and_on_paper_the_map_is_a_picture(browser: Browser, reports: dict[str, Path]) -> None:
    with opened(browser, reports["labelled"], java_script_enabled=False) as page:
        playwright.expect(page.locator("#map .still svg")).to_be_visible()
    with opened(browser, reports["labelled"]) as page:
        page.locator("#map").scroll_into_view_if_needed()
        page.wait_for_selector("#map-plot svg", state="attached")
        page.emulate_media(media="print")
        playwright.expect(page.locator("#map .still svg")).to_be_visible()
        playwright.expect(page.locator("#map-plot")).to_be_hidden()
