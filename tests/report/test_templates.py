from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import pclhd.report
from pclhd.report.page import templates
from pclhd.report.tables import Column, Table


def _rendered(part: str, **values: object) -> str:
    return templates().from_string(f'{{% import "parts.html.j2" as parts %}}{{{{ parts.{part} }}}}').render(values)


def test_a_table_has_scoped_headers_and_is_escaped() -> None:
    rows = (("g", "<i>", "1"), ("g", "b", "2"), ("h", "c", "3"))
    table = Table("cap & tion", (Column("G<"), Column("N"), Column("V", "right")), rows, headers=2)
    html = _rendered("table(table)", table=table)
    assert "<caption>cap &amp; tion</caption>" in html
    assert html.count('scope="col"') == 3
    assert '<th scope="col">G&lt;</th>' in html
    assert '<th scope="rowgroup" rowspan="2">g</th><th scope="row">&lt;i&gt;</th><td class="number">1</td>' in html
    assert '<tr><th scope="row">b</th><td class="number">2</td></tr>' in html
    assert '<th scope="rowgroup" rowspan="1">h</th>' in html
    assert html.count("<tbody>") == html.count("</tbody>") == 2


def test_a_table_without_groups_has_one_body() -> None:
    rows = (("a", "1"), ("a", "2"))
    html = _rendered("table(table)", table=Table("c", (Column("N"), Column("V", "right")), rows))
    assert html.count("<tbody>") == 1
    assert html.count('<th scope="row">a</th>') == 2


@pytest.mark.parametrize("name", ["gone.png", "nul\0byte", '"><script>x</script>'])
def test_a_missing_image_leaves_a_box_with_its_name(name: str) -> None:
    html = _rendered("picture(pictures, path, 'Rank 1 <wrong>')", pictures={name: None}, path=name)
    assert html.startswith('<span class="missing" role="img" aria-label="Rank 1 &lt;wrong&gt;; image not available: ')
    assert "<script>" not in html


def test_an_image_has_its_description() -> None:
    pictures = {"a.png": "data:image/jpeg;base64,/+A="}
    html = _rendered("picture(pictures, 'a.png', description)", pictures=pictures, description='a "quoted" one')
    assert html == '<img src="data:image/jpeg;base64,/+A=" alt="a &#34;quoted&#34; one" title="a.png">'


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="caption"):
        _rendered("table(shown)", shown={})


def test_only_the_figures_and_the_plotting_library_are_marked_safe() -> None:
    package = Path(pclhd.report.__file__).parent
    assert templates().autoescape is True
    sources = {path.name: path.read_text("utf-8") for path in package.rglob("*") if path.suffix in (".py", ".j2")}
    marked = [name for name, text in sources.items() if re.search(r"Markup\(|\|\s*safe\b|autoescape false", text)]
    assert sorted(marked) == ["embedding_map.py", "inline_svg.py"]
