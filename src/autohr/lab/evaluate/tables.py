"""Tables of text cells as plain text, Markdown, LaTeX or HTML, whatever the cells mean."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autohr.errors import UnknownName

TEXT_WIDTH = 120
"""Width at which notes are folded in plain text."""

NOTHING = "-"
"""Content of a cell without a number, as in the paper's tables."""


@dataclass(frozen=True)
class Sheet:
    """Table of text cells. Every row has as many cells as there are columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: frozenset[int]
    """Numbers of the columns that hold words, aligned to the left."""
    notes: tuple[str, ...] = ()
    """Notes below the table, one sentence or more each."""
    foot: tuple[tuple[str, ...], ...] = ()
    """Rows below a line of their own, such as the oracle's, which is no method."""

    def __post_init__(self) -> None:
        for row in (*self.rows, *self.foot):
            if len(row) != len(self.columns):
                raise ValueError(f"A row of {len(row)} cells, {row}, in a table of {len(self.columns)} columns.")


def figure(value: float | None, digits: int = 2) -> str:
    """Return a number as a cell; ``NOTHING`` for None and for NaN.

    Examples
    --------
    >>> figure(3.14159), figure(None)
    ('3.14', '-')
    """
    return NOTHING if value is None or value != value else f"{value:.{digits}f}"


def interval(low_high: tuple[float | None, float | None] | None, nothing: str = "") -> str:
    """Return an interval as a cell; ``nothing`` where it is not known."""
    if low_high is None or low_high[0] is None or low_high[1] is None:
        return nothing
    return f"{low_high[0]:.2f} to {low_high[1]:.2f}"


def render_sheet(sheet: Sheet, form: str) -> str:
    """Return the table in one of ``FORMATS``; UnknownName where there is no such format."""
    if form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    return FORMATS[form](sheet)


def _as_text(sheet: Sheet) -> str:
    widths = [max(len(row[k]) for row in (sheet.columns, *sheet.rows, *sheet.foot)) for k in range(len(sheet.columns))]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if k in sheet.text_columns else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(aligned).rstrip()

    rule = "-" * len(line([" " * (width - 1) + "x" for width in widths]))
    notes = [textwrap.fill(note, TEXT_WIDTH, subsequent_indent="  ", break_on_hyphens=False) for note in sheet.notes]
    foot = [*map(line, sheet.foot), rule] if sheet.foot else []
    return "\n".join([sheet.title, rule, line(sheet.columns), rule, *map(line, sheet.rows), rule, *foot, *notes])


def _as_markdown(sheet: Sheet) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    marks = ["---" if k in sheet.text_columns else "---:" for k in range(len(sheet.columns))]
    notes = [f"- {note}" for note in sheet.notes]
    rows = [line(row) for row in (*sheet.rows, *sheet.foot)]
    return "\n".join([f"**{sheet.title}**", "", line(sheet.columns), line(marks), *rows, "", *notes])


def _as_latex(sheet: Sheet) -> str:
    """Return LaTeX for the package booktabs."""

    def line(cells: Sequence[str]) -> str:
        return "  " + " & ".join(map(_escape_latex, cells)) + r" \\"

    kinds = "".join("l" if k in sheet.text_columns else "r" for k in range(len(sheet.columns)))
    foot = [r"  \midrule", *map(line, sheet.foot)] if sheet.foot else []
    notes = [rf"  \par\footnotesize {_escape_latex(note)}" for note in sheet.notes]
    top = [r"\begin{table}", rf"  \caption{{{_escape_latex(sheet.title)}}}", rf"  \begin{{tabular}}{{{kinds}}}"]
    body = [r"  \toprule", line(sheet.columns), r"  \midrule", *map(line, sheet.rows), *foot, r"  \bottomrule"]
    return "\n".join([*top, *body, r"  \end{tabular}", *notes, r"\end{table}"])


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda hit: special.get(hit[0], "\\" + hit[0]), text)


def _as_html(sheet: Sheet) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        inside = "".join(
            (f"<{tag}>" if k in sheet.text_columns else f'<{tag} class="n">') + f"{html.escape(cell)}</{tag}>"
            for k, cell in enumerate(cells)
        )
        return f"<tr>{inside}</tr>"

    rows = "\n".join(line(row, "td") for row in sheet.rows)
    foot = "\n".join(line(row, "td") for row in sheet.foot)
    foot = f"<tfoot>\n{foot}\n</tfoot>\n" if foot else ""
    notes = "\n".join(f"<p>{html.escape(note)}</p>" for note in sheet.notes)
    return (
        f"<table>\n<caption>{html.escape(sheet.title)}</caption>\n<thead>\n{line(sheet.columns, 'th')}\n</thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n{foot}</table>\n{notes}"
    )


FORMATS: dict[str, Callable[[Sheet], str]] = {
    "text": _as_text,
    "markdown": _as_markdown,
    "latex": _as_latex,
    "html": _as_html,
}
"""Name of a format -> function that renders a table in it."""
