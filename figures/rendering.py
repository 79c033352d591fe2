"""Tables to read: the same cells as an HTML page, as Markdown and as LaTeX."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from texnet.artifacts import write_text
from texnet.evidence import VERDICTS

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 Georgia, "Times New Roman", serif; color: #222; background: #fff;
       max-width: 76em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; margin-bottom: 2em; }}
th, td {{ padding: 0.3em 0.8em; text-align: left; vertical-align: top;
         border-bottom: 1px solid #ddd; }}
thead th {{ border-bottom: 2px solid #222; }}
.supported {{ background: #d5ecd4; }}
.contradicted {{ background: #f6cfca; }}
.inconclusive {{ background: #fbedc4; }}
.not-tested {{ background: #e6e6e6; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}</body>
</html>
"""
BOLD = {"html": ("<strong>", "</strong>"), "github": ("**", "**"),
        "latex_booktabs": (r"\textbf{", "}")}  # fmt: skip


class Table(NamedTuple):
    """Cells of plain text: every format escapes them. The title is taken as it is."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    widths: Sequence[float]
    """Shares of the text width that LaTeX gives the columns."""
    title: str = ""


def bold(text: str) -> str:
    """A cell in bold, or a part of one: between characters that no format escapes."""
    return f"\ue000{text}\ue001"


def digits(value: float) -> str:
    """Three significant digits, large numbers written in full."""
    text = f"{value:#.3g}"
    return f"{float(text):.0f}" if "e+" in text else text.rstrip(".")


def arguments(description: str) -> tuple[Path, Path]:
    """The command line of a table: the CSV to read and the page to write."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("table", type=Path, help="table to read (.csv)")
    parser.add_argument("out", type=Path, help="page to write (.html; .md and .tex go beside it)")
    args = parser.parse_args()
    return args.table, args.out


def save(title: str, tables: Sequence[Table], out: Path) -> None:
    """Write ``out`` (.html) and the .md and .tex beside it, atomically."""
    body = "".join(map(html, tables))
    write_text(out.with_suffix(".html"), PAGE.format(title=title, body=body))
    write_text(out.with_suffix(".md"), "\n".join(map(markdown, tables)))
    write_text(out.with_suffix(".tex"), "\n".join(map(latex, tables)))


def render(headers: Sequence[str], rows: Sequence[Sequence[str]], form: str) -> str:
    """A table as tabulate writes it, without the spaces that align its source."""
    text = tabulate(rows, headers, tablefmt=form, disable_numparse=True)
    for mark, written in zip("\ue000\ue001", BOLD[form], strict=True):
        text = text.replace(mark, written)
    return re.sub(" {2,}", " ", text) + "\n"


def html(table: Table) -> str:
    """A table whose verdicts have their colours."""
    text = render(table.headers, table.rows, "html").replace(" </t", "</t")
    cell = rf"<td>((?:<strong>)?({'|'.join(VERDICTS)})(?:</strong>)?)</td>"
    text = re.sub(cell, lambda m: f'<td class="{m[2].replace(" ", "-")}">{m[1]}</td>', text)
    return f"<h2>{table.title}</h2>\n{text}" if table.title else text


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
