"""The tables between scoring and claims: plain CSV, sorted, with a fixed number of digits."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from texnet.artifacts import write_text
from texnet.errors import DataError, MissingError
from texnet.statistics import Interval, bootstrap

DIGITS = 7


class Row(NamedTuple):
    """One measurement on one image."""

    run: str
    exemplar: str
    seed: int
    content: str
    metric: str
    value: float
    unit: str


SCORE_COLUMNS = Row._fields
METRIC_COLUMNS = (
    "run",
    "exemplar",
    "seed",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "unit",
)


def number(value: float | int | None) -> str:
    """A cell: nothing for None or NaN, integers as they are, floats with seven digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.{DIGITS}g}"


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV, atomically; the bytes depend on the rows alone."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([number(c) if isinstance(c, float | int) or c is None else c for c in row])
    write_text(path, buffer.getvalue())


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as dictionaries."""
    try:
        with Path(path).open(newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV table ({error})") from error


def read_scores(paths: Iterable[Path]) -> list[Row]:
    """Measurements from score tables."""
    rows = []
    for path in paths:
        for line in read_table(path):
            try:
                seed, value = int(line.pop("seed")), float(line.pop("value"))
                rows.append(Row(seed=seed, value=value, **line))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}: not a score table ({error}); score again") from error
    return rows


def summarise(rows: Iterable[Row]) -> list[tuple[object, ...]]:
    """Rows of ``metrics.csv``: each metric by seed, and over all seeds, with intervals."""
    groups: dict[tuple[str, str, str, str], dict[int, list[float]]] = {}
    for row in rows:
        key = (row.run, row.exemplar, row.metric, row.unit)
        groups.setdefault(key, {}).setdefault(row.seed, []).append(row.value)
    table: list[tuple[object, ...]] = []
    for (run, exemplar, metric, unit), seeds in sorted(groups.items()):
        parts: list[tuple[object, Interval]] = [
            (seed, bootstrap([values])) for seed, values in sorted(seeds.items())
        ]
        parts.append(("all", bootstrap([seeds[s] for s in sorted(seeds)])))
        for seed, i in parts:
            table.append((run, exemplar, seed, metric, i.value, i.low, i.high, i.n, unit))
    return table
