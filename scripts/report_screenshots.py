"""Take pictures of a report in a headless Chromium, light and dark, at the widths of a desk and of a phone.

Usage: python scripts/report_screenshots.py REPORT [--out docs/pictures] [--only NAME] [--whole]

REPORT is the index.html of a run with drawn people only: the pictures are published. With --whole, the whole page is
taken in all widths and colours, in pieces of one screen, to look at it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.page_screenshots import write

WIDTHS = {"desktop": (1280, 1000), "phone": (390, 1000)}
#: Pictures for the documentation: width, colours, and a section; None for the beginning of the page.
SHOTS = {
    "report-desktop": ("desktop", "light", None),
    "report-phone": ("phone", "dark", None),
    "report-maps": ("desktop", "light", "stages"),
}


def main() -> None:
    """Take one picture after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--only", choices=SHOTS, help="one of the pictures")
    parser.add_argument("--whole", action="store_true", help="the whole page, to look at it")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no Chromium (Debian: apt install chromium)")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        if arguments.whole:
            for width in WIDTHS:
                for colours in ("light", "dark"):
                    take_pieces(opened(browser, arguments.report, width, colours), arguments.out, f"{width}-{colours}")
        else:
            for name, (width, colours, section) in SHOTS.items():
                if arguments.only is not None and name != arguments.only:
                    continue
                page = opened(browser, arguments.report, width, colours)
                picture = page.screenshot() if section is None else page.locator(f"#{section}").screenshot()
                write(arguments.out / f"{name}.png", picture)
        browser.close()


def opened(browser: Browser, report: Path, width: str, colours: str) -> Page:
    """The page in a window of that width."""
    across, down = WIDTHS[width]
    context = browser.new_context(
        viewport={"width": across, "height": down}, color_scheme="dark" if colours == "dark" else "light"
    )
    page: Page = context.new_page()
    page.goto(report.resolve().as_uri())
    page.wait_for_timeout(500)
    return page


def take_pieces(page: Page, out: Path, name: str) -> None:
    """The whole page, a screen at a time."""
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = false")
    height = int(page.evaluate("document.documentElement.scrollHeight"))
    step = page.viewport_size["height"] if page.viewport_size else 1000
    print(f"{name}: {height:,} pixels high")
    for place in range(-(-height // step)):
        page.evaluate(f"window.scrollTo(0, {place * step})")
        page.screenshot(path=out / f"{name}-{place:02d}.png")


if __name__ == "__main__":
    main()
