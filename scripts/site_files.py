"""Files from outside `docs` on the site: the pages at the top of the repository, and source files that pages link to.

MkDocs calls these functions while it builds (`hooks` in mkdocs.yml).
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
#: Pages at the top of the repository.
TOP_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")

_UP = re.compile(r"\]\(\.\./([^)#\s]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages at the top, and the source files that pages in `docs` link to."""
    linked = {name for page in (ROOT / "docs").glob("*.md") for name in _UP.findall(page.read_text("utf-8"))}
    for name in sorted({*TOP_PAGES, *linked}):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between `docs` and the top of the repository into links within the site."""
    if page.file.src_uri in TOP_PAGES:
        return markdown.replace("](docs/", "](")
    return _UP.sub(r"](\1", markdown)
