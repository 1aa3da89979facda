from __future__ import annotations

import json
import re
from pathlib import Path

from pclhd.report.compare.comparison import compare_runs
from pclhd.report.compare.page import comparison_html
from tests.report.compare.fixtures import MakeRun
from tests.report.fixtures import make_metrics


def without_ari(run: Path) -> Path:
    """As a run on images without identities."""
    lines = make_metrics()
    for line in lines:
        line.pop("labels", None)
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return run


def section(page: str, name: str) -> str | None:
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', page, flags=re.DOTALL)
    return None if found is None else found[0]


def test_the_ari_of_the_methods_stands_in_one_figure(make_run: MakeRun) -> None:
    runs = [make_run(f"ours-{seed}", seed=seed) for seed in (0, 1)] + [make_run("theirs", config={"recipe": "b"})]
    page = comparison_html(compare_runs(runs))
    curves = section(page, "curves")
    assert curves is not None
    assert curves.count("<figure") == 1
    for words in ("ours, visible: 0.93", "ours, infrared: 0.50", "theirs, visible: 0.93"):
        assert words in curves
    # The legend has the names of the groups, as the figure above.
    assert set(re.findall(r">(ours|theirs)</text>", curves)) == {"ours", "theirs"}


def test_methods_have_the_same_colour_in_both_figures(make_run: MakeRun) -> None:
    runs = [without_ari(make_run("first")), make_run("second", config={"recipe": "b"})]
    page = comparison_html(compare_runs(runs))
    curves = section(page, "curves")
    assert curves is not None
    assert "first" not in "".join(re.findall(r">(\w+)</text>", curves))
    vermillion = {part: "var(--vermillion)" in (section(page, part) or "") for part in ("results", "curves")}
    assert vermillion == {"results": True, "curves": True}
    assert "var(--blue)" not in curves


def test_without_identities_there_are_no_curves(make_run: MakeRun) -> None:
    runs = [without_ari(make_run(name, config={"recipe": name})) for name in ("a", "b")]
    assert section(comparison_html(compare_runs(runs)), "curves") is None


def test_data_sets_have_figures_of_their_own(make_run: MakeRun) -> None:
    other = {"data": {"training_checksum": "6a" * 32}}
    page = comparison_html(compare_runs([make_run("one"), make_run("two", facts=other)]))
    curves = section(page, "curves")
    assert curves is not None
    assert curves.count("<figure") == 2
