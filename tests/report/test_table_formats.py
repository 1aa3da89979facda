from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest

from pclhd.report.published import comparison_table
from pclhd.report.table_formats import csv_text, table_csv, table_latex, table_markdown
from pclhd.report.tables import Column, Table

TABLE = Table(
    "What it is: 100 % of λ_1.",
    (Column("Group"), Column("Name"), Column("Δ rank-1", "right")),
    (("a", "x | y", "+1.0 (−0.5 to +2.5)*"), ("a", "`method.cross=1`", "–"), ("b", "50 % & <more>", "1.0 ± 0.5")),
    headers=2,
)


def test_csv_is_read_back() -> None:
    rows = list(csv.reader(io.StringIO(table_csv(TABLE))))
    assert rows == [["Group", "Name", "Δ rank-1"], *map(list, TABLE.rows)]
    assert csv_text(["a", "b"], [(1.5, None), ("x,y", 2)]) == 'a,b\n1.5,\n"x,y",2\n'


def test_markdown() -> None:
    lines = table_markdown(TABLE).splitlines()
    assert lines[:2] == ["| Group | Name | Δ rank-1 |", "| --- | --- | ---: |"]
    assert lines[2] == r"| a | x \| y | +1.0 (−0.5 to +2.5)\* |"
    assert lines[3] == "|  | `method.cross=1` | – |"  # the group is named once
    assert lines[-1] == TABLE.caption


def test_latex() -> None:
    text = table_latex(TABLE, "parts")
    assert r"\caption{What it is: 100 \% of $\lambda$\_1.}" in text
    assert r"\label{tab:parts}" in text
    assert r"\begin{tabular}{llr}" in text
    assert r"a & x | y & +1.0 ($-$0.5 to +2.5)* \\" in text
    assert r" & \texttt{method.cross=1} & -- \\" in text
    assert r"b & 50 \% \& \textless{}more\textgreater{} & 1.0 $\pm$ 0.5 \\" in text
    assert text.count(r"\midrule") == 2  # below the headings, and between the groups


def test_characters_that_command_a_terminal_are_escaped() -> None:
    table = Table("", (Column("a"),), (("\x1b[2J",),))
    assert "\x1b" not in table_markdown(table) + table_latex(table, "a")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    table, _ = comparison_table()
    page = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{table_latex(table, 'x')}\end{{document}}"
    )
    (tmp_path / "page.tex").write_text(page)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
