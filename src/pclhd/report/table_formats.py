"""Tables as files: CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from pclhd.report.tables import Table
from pclhd.text_tables import printable

_LATEX = {
    "\\": r"\textbackslash{}",
    **{one: f"\\{one}" for one in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "→": r"$\rightarrow$",
    "–": "--",
    "≥": r"$\geq$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_CODE = re.compile(r"`([^`]*)`")


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Values under column names, a line per row; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def table_csv(table: Table) -> str:
    """The cells of a table as they are shown."""
    return csv_text([column.heading for column in table.columns], table.rows)


def table_markdown(table: Table) -> str:
    """A Markdown table, with the caption below; the name of a group is shown once."""
    rules = ["---:" if column.align == "right" else "---" for column in table.columns]
    headings = [column.heading for column in table.columns]
    lines = [headings, rules, *([_markdown(cell) for cell in row] for row in _grouped(table))]
    drawn = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return f"{drawn}\n\n{table.caption}\n"


def table_latex(table: Table, label: str) -> str:
    """A LaTeX table for the package `booktabs`, with a rule between groups.

    Args:
        table: The table.
        label: For references to it; becomes ``tab:LABEL``.
    """
    layout = "".join("r" if column.align == "right" else "l" for column in table.columns)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_latex(table.caption)}}}",
        rf"  \label{{tab:{label}}}",
        rf"  \begin{{tabular}}{{{layout}}}",
        r"    \toprule",
        "    " + " & ".join(_latex(column.heading) for column in table.columns) + r" \\",
        r"    \midrule",
    ]
    for number, row in enumerate(_grouped(table)):
        if table.headers > 1 and number and table.starts_group(number):
            lines.append(r"    \midrule")
        lines.append("    " + " & ".join(map(_latex, row)) + r" \\")
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]) + "\n"


def _grouped(table: Table) -> list[tuple[str, ...]]:
    return [row if table.starts_group(number) else ("", *row[1:]) for number, row in enumerate(table.rows)]


def _markdown(cell: str) -> str:
    escaped = printable(cell).replace("|", r"\|")
    return escaped.replace("*", r"\*") if "`" not in escaped else escaped


def _latex(cell: str) -> str:
    pieces = _CODE.split(printable(cell))
    escaped = ["".join(_LATEX.get(one, one) for one in piece) for piece in pieces]
    # Every second piece was between backticks.
    return "".join(rf"\texttt{{{piece}}}" if number % 2 else piece for number, piece in enumerate(escaped))
