"""Embed a figure in an HTML page: without namespaces, with unique ids, and with colours for light and dark mode."""

from __future__ import annotations

import re

from markupsafe import Markup
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


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an `<svg>` element for the inside of an HTML page.

    Args:
        figure: The figure.
        name: Letters and digits; must be unique on the page, as it makes the ids unique.
        description: Alternative text.
    """
    svg = figures.to_svg(figure)
    svg = svg[svg.index("<svg") :]
    opening, body = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', opening)
    if box is None:
        raise ValueError(f"the drawing has no viewBox: {opening}")
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # Attributes only: the text between the tags may contain names given by users.
    body = re.sub(r"<[^<>]*>", lambda tag: _adapt_tag(tag.group(), name), body)
    body = re.sub(r"\n\s*\n+", "\n", body).strip()
    # The only text of a run in the page that templates do not escape. It is safe because matplotlib wrote it: its XML
    # writer escapes all text and attributes in a figure. `format` escapes the description.
    drawn = Markup(body)
    return Markup('<svg viewBox="{}" role="img" aria-label="{}">\n{}\n').format(box.group(1), description, drawn)


def _adapt_tag(tag: str, name: str) -> str:
    tag = re.sub(r' id="', f' id="{name}-', tag)
    tag = re.sub(r"url\(#", f"url(#{name}-", tag)
    tag = re.sub(r' xlink:href="#', f' href="#{name}-', tag)
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, variable)
    return tag
