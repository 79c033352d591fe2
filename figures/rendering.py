"""Tables to read: the same cells as an HTML page, as Markdown, as LaTeX and as CSV."""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Sequence
from html import escape
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from figures.pages import page
from texnet.artifacts import write_text
from texnet.evidence import VERDICTS

SORTABLE = Path(__file__).with_name("sortable.js")
MARKS = "\ue000\ue001"
"""Around what is bold: characters that no format escapes."""
BOLD = {"html": ("<strong>", "</strong>"), "github": ("**", "**"),
        "latex_booktabs": (r"\textbf{", "}"), "csv": ("", "")}  # fmt: skip


class Table(NamedTuple):
    """Cells of plain text: every format escapes them. The title is taken as it is."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    widths: Sequence[float]
    """Shares of the text width that LaTeX gives the columns."""
    title: str = ""
    grouped: bool = False
    """Whether rows without a first cell belong to the row before them and move with it."""
    filtered: bool = False
    """Whether the page offers to show the rows with some words alone."""


def bold(text: str) -> str:
    """A cell in bold, or a part of one."""
    return f"{MARKS[0]}{text}{MARKS[1]}"


def digits(value: float) -> str:
    """Three significant digits, large numbers written in full."""
    text = f"{value:#.3g}"
    return f"{float(text):.0f}" if "e+" in text else text.rstrip(".")


def with_interval(row: dict[str, str]) -> str:
    """The value of a row of a table of metrics, with its interval where that has a width."""
    value, low, high = (digits(float(row[name])) for name in ("value", "ci_low", "ci_high"))
    return f"{value} [{low}, {high}]" if low != high else value


def arguments(description: str, *more: str) -> argparse.Namespace:
    """The command line of a table: the CSV to read, the page to write, and files by option."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("table", type=Path, help="table to read (.csv)")
    parser.add_argument("out", type=Path, help="page to write (.html; others go beside it)")
    for name in more:
        parser.add_argument(f"--{name}", type=Path, required=True, help="JSON of the workflow")
    return parser.parse_args()


def save(title: str, tables: Sequence[Table], out: Path) -> None:
    """Write ``out`` (.html) and the .md, .tex and .csv beside it, atomically."""
    script = f"<script>\n{SORTABLE.read_text(encoding='utf-8')}</script>\n"
    write_text(out.with_suffix(".html"), page(title, "".join(map(html, tables)), script))
    write_text(out.with_suffix(".md"), "\n".join(map(markdown, tables)))
    write_text(out.with_suffix(".tex"), "\n".join(map(latex, tables)))
    write_text(out.with_suffix(".csv"), "\n".join(map(plain, tables)))


def marked(text: str, form: str) -> str:
    """Text whose marks of bold are written as a format does."""
    for mark, written in zip(MARKS, BOLD[form], strict=True):
        text = text.replace(mark, written)
    return text


def render(headers: Sequence[str], rows: Sequence[Sequence[str]], form: str) -> str:
    """A table as tabulate writes it, without the spaces that align its source."""
    text = tabulate(rows, headers, tablefmt=form, disable_numparse=True)
    return re.sub(" {2,}", " ", marked(text, form)) + "\n"


def inline(text: str) -> str:
    """Text in HTML; no line ends inside an interval."""
    text = marked(escape(text, quote=False), "html")
    return re.sub(r"\[\S+, \S+\]|\bn = \d+", lambda found: found[0].replace(" ", "\u00a0"), text)


def html_row(row: Sequence[str]) -> str:
    """Cells of a row; those that say a verdict have its colour."""
    cells = []
    for text in row:
        bare = text.strip(MARKS)
        given = f' class="{bare.replace(" ", "-")}"' if bare in VERDICTS else ""
        cells.append(f"<td{given}>{inline(text)}</td>")
    return "".join(cells)


def html_group(rows: Sequence[Sequence[str]]) -> str:
    """Rows that stay together; the first cell takes the room of the empty ones after it."""
    first, *others = rows
    wide = 1 + len([*takewhile(lambda text: not text, first[1:])])
    head = f'<th scope="rowgroup" colspan="{wide}">{inline(first[0])}</th>{html_row(first[wide:])}'
    return "".join(f"<tr>{row}</tr>\n" for row in (head, *map(html_row, others)))


def html(table: Table) -> str:
    """A table in a box that scrolls."""
    if table.grouped:
        starts = [i for i, row in enumerate(table.rows) if row[0]]
        ends = [*starts[1:], len(table.rows)]
        bodies = [html_group(table.rows[i:j]) for i, j in zip(starts, ends, strict=True)]
    else:
        bodies = ["".join(f"<tr>{html_row(row)}</tr>\n" for row in table.rows)]
    heads = "".join(f'<th scope="col">{inline(text)}</th>' for text in table.headers)
    kinds = " ".join(name for name in ("grouped", "filtered") if getattr(table, name))
    body = "".join(f"<tbody>\n{rows}</tbody>\n" for rows in bodies)
    title = f"<h2>{table.title}</h2>\n" if table.title else ""
    return (
        f'{title}<div class="scroll{" long" * table.filtered}" role="region" tabindex="0"'
        f' aria-label="{table.title or "Table"}">\n'
        f'<table class="{kinds}">\n<thead>\n<tr>{heads}</tr>\n</thead>\n'
        f"{body}</table>\n</div>\n"
    )


def markdown(table: Table) -> str:
    """A table with one row a line; what Markdown would take for markup is escaped."""
    rows = [[re.sub(r"[\\`*_|]|<(?=\S)|&(?=\S)", r"\\\g<0>", c) for c in r]
            for r in (table.headers, *table.rows)]  # fmt: skip
    text = re.sub("-{3,}", "---", render(rows[0], rows[1:], "github"), count=len(rows[0]))
    return f"**{table.title}**\n\n{text}" if table.title else text


def latex(table: Table) -> str:
    """A table that breaks over pages, for a document with booktabs and longtable."""
    text = render(table.headers, table.rows, "latex_booktabs")
    # Braces of cells are escaped: those of tabular are the environment's alone.
    text = text.replace("{tabular}", "{longtable}").replace(r"\midrule", "\\midrule\n\\endhead")
    columns = "".join(f"p{{{width:.3g}\\linewidth}}" for width in table.widths)
    text = text.replace(f"{{{'l' * len(table.headers)}}}", f"{{{columns}}}", 1)
    title = f"\\noindent\\textbf{{{table.title}}}\n\n" if table.title else ""
    return (
        "% needs \\usepackage{booktabs, longtable}\n"
        f"{title}{{\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\n{text}}}\n"
    )


def plain(table: Table) -> str:
    """A table as CSV, under a line with its title where it has one."""
    buffer = io.StringIO()
    rows = [[marked(cell, "csv") for cell in row] for row in (table.headers, *table.rows)]
    csv.writer(buffer, lineterminator="\n").writerows([[table.title]] * bool(table.title) + rows)
    return buffer.getvalue()
