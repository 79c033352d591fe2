"""Every metric of every variant, over all seeds and of each: results/metrics.csv to read."""

from __future__ import annotations

from collections.abc import Sequence

from figures.rendering import Table, arguments, digits, save, with_interval
from texnet.process import program
from texnet.tables import read_table

HEADERS = ("run", "exemplar", "metric", "value [interval]", "n", "unit", "each seed")
WIDTHS = (0.16, 0.1, 0.25, 0.14, 0.03, 0.08, 0.13)


def cells(metrics: Sequence[dict[str, str]]) -> list[list[str]]:
    """A row for each variant, exemplar and metric, with the values of its seeds at the end."""
    groups: dict[tuple[str, str, str], dict[str, dict[str, str]]] = {}
    for row in metrics:
        key = (row["run"], row["exemplar"], row["metric"])
        groups.setdefault(key, {})[row["seed"]] = row
    rows = []
    for key, seeds in groups.items():
        whole = seeds.pop("all")
        each = ", ".join(f"{seed}: {digits(float(row['value']))}" for seed, row in seeds.items())
        rows.append([*key, with_interval(whole), whole["n"], whole["unit"], each])
    return rows


def main() -> None:
    args = arguments(__doc__)
    rows = cells(read_table(args.table))
    save("Metrics", [Table(HEADERS, rows, WIDTHS, filtered=True)], args.out)


if __name__ == "__main__":
    program(main)
