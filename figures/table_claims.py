"""The paper's claims with their verdicts: results/claims.csv as a page, Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence

from figures.rendering import Table, arguments, bold, save
from texnet.evidence import combine
from texnet.process import program
from texnet.tables import read_table

HEADERS = ("claim", "factor", "expected", "value [interval]", "verdict")
WIDTHS = (0.25, 0.24, 0.08, 0.2, 0.14)
INFORMATION = "(for information)"
"""What measures without a vote have for an expectation."""
Measure = dict[str, str]
"""A row of results/claims.csv."""


def number(cell: str) -> str:
    """Two decimals, or three digits where the value is small or large."""
    value = float(cell)
    plain = value == 0 or 0.01 <= abs(value) < 1000
    return f"{value:.2f}" if plain and value else f"{value:.3g}"


def votes(measure: Measure) -> bool:
    """Whether the claim's verdict depends on it."""
    return measure["expected"] != INFORMATION


def shown(measure: Measure) -> str:
    """A measure's value with its interval and number of measurements; nothing without a value."""
    if not measure["value"]:
        return ""
    value, low, high = (number(measure[c]) for c in ("value", "ci_low", "ci_high"))
    return f"{value} [{low}, {high}], n = {measure['n']}"


def by_claim(measures: Sequence[Measure]) -> dict[str, tuple[str, list[Measure]]]:
    """Each claim's verdict, of all its votes, and its measures; by the claim's name, in order."""
    found = {}
    for claim in sorted({m["id"] for m in measures}, key=lambda name: int(name[1:])):
        mine = [m for m in measures if m["id"] == claim]
        found[claim] = combine([m["verdict"] for m in mine if votes(m)]), mine
    return found


def cells(measures: Sequence[Measure]) -> list[list[str]]:
    """A row for each claim, with its verdict, and a row for each measure."""
    rows = []
    for claim, (whole, mine) in by_claim(measures).items():
        about = f"{bold(claim)} {mine[0]['claim']} ({mine[0]['where']})"
        rows.append([about, "", "", "", bold(whole)])
        for m in mine:
            said = m["verdict"] if votes(m) else ""
            rows.append(["", m["measure"], m["expected"], shown(m), said])
    return rows


def main() -> None:
    args = arguments(__doc__)
    rows = cells(read_table(args.table))
    save("Claims", [Table(HEADERS, rows, WIDTHS, grouped=True)], args.out)


if __name__ == "__main__":
    program(main)
