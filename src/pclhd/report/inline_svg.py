"""Set a figure into an HTML page: no namespaces, no clashing ids, and colours that follow the page's light or dark."""

from __future__ import annotations

import re
from html import escape

from matplotlib.figure import Figure

from pclhd.report import figures

# The page's style defines each variable twice, for light and for dark.
_VARIABLES = {
    figures.INK: "currentColor",
    figures.GRID: "var(--grid)",
    figures.BLUE: "var(--blue)",
    figures.VERMILLION: "var(--vermillion)",
    figures.GREEN: "var(--green)",
    figures.PURPLE: "var(--purple)",
    figures.AMBER: "var(--amber)",
    figures.SKY: "var(--sky)",
    figures.GREY: "var(--grey)",
}


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element for the inside of an HTML page.

    Args:
        figure: What to draw.
        name: Letters and digits, unlike any other figure's on the page: it keeps the ids apart.
        description: The text for those who cannot see the picture.
    """
    svg = figures.to_svg(figure)
    svg = svg[svg.index("<svg") :]
    opening, body = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', opening)
    if box is None:
        raise ValueError(f"the drawing has no viewBox: {opening}")
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # Attributes only: the text between the tags may hold names given by users.
    body = re.sub(r"<[^<>]*>", lambda tag: _adapt_tag(tag.group(), name), body)
    body = re.sub(r"\n\s*\n+", "\n", body).strip()
    return f'<svg viewBox="{box.group(1)}" role="img" aria-label="{escape(description)}">\n{body}\n'


def _adapt_tag(tag: str, name: str) -> str:
    tag = re.sub(r' id="', f' id="{name}-', tag)
    tag = re.sub(r"url\(#", f"url(#{name}-", tag)
    tag = re.sub(r' xlink:href="#', f' href="#{name}-', tag)
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, variable)
    return tag
