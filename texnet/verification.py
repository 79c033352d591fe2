"""Whether results agree with those kept in ``expected/``: claim by claim, and the metrics in sum.

A value agrees when it lies in the expected interval widened by the tolerance. That test is weak on
purpose: the intervals are of few seeds, another processor changes every training, and single rows
of ``metrics.csv`` leave theirs by chance. So only claims decide, by their verdicts and the measures
that vote on them; measures for information have no part, and the metrics are only counted.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from texnet.artifacts import check_file, read_json
from texnet.errors import DataError, UsageError
from texnet.tables import read_table

# A claim's verdict is the first of these that one of its votes has.
DECISIVE = ("contradicted", "not tested", "inconclusive", "supported")
INFORMATION = "(for information)"
KEYS = {"claims.csv": ("id", "measure"), "metrics.csv": ("run", "exemplar", "seed", "metric")}
NEAR_ZERO = 1e-3
"""By how much a bound of 0 is widened, which no factor moves: rounding, in any of the units."""


class Measured(NamedTuple):
    """A row of a table: numbers, NaN where it has none, and the verdict of a measure."""

    value: float
    low: float
    high: float
    verdict: str = ""

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{_short(self.low)}, {_short(self.high)}]"
        return _short(self.value) + interval


Table = dict[tuple[str, ...], Measured]
Compared = tuple[str, str, list[str]]
"""Of a claim: reproduced, differs or missing; its verdict; a line for each measure at fault."""


def _short(value: float) -> str:
    """A number with four digits, large ones without a fraction."""
    return "no value" if math.isnan(value) else f"{value:{'.0f' if abs(value) >= 1000 else '.4g'}}"


def read(path: Path) -> Table:
    """The votes of a ``claims.csv`` or the rows of a ``metrics.csv``, by their KEYS.

    Raises MissingError without the file, DataError where it is another table or has a row twice.
    """
    rows: Table = {}
    for line in read_table(path):
        try:
            name = tuple(line[column] or "-" for column in KEYS[path.name])
            value, low, high = (float(line[k] or "nan") for k in ("value", "ci_low", "ci_high"))
            verdict = line["verdict"] if "measure" in line else ""
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}: not such a table ({error}); make it again") from error
        if name in rows or ("measure" in line and verdict not in DECISIVE):
            raise DataError(f"{path}: '{' '.join(name)}' is there twice, or has no verdict")
        if line.get("expected") != INFORMATION:
            rows[name] = Measured(value, low, high, verdict)
    return rows


def excess(value: float, expected: Measured, tolerance: float) -> float:
    """How far a value lies outside the expected interval, widened on both sides; 0 inside.

    Bounds move apart by the factor 1 + tolerance: at 0.1 a low one of 2 to 2 / 1.1, of -2 to -2.2,
    a high one of 2 to 2.2, of -2 to -2 / 1.1; one of 0 by NEAR_ZERO. Twice a bound, or half of it,
    is 1 outside. No value agrees with none alone, and is infinitely far from a number.
    """
    if math.isnan(value) or math.isnan(expected.low):
        return 0.0 if math.isnan(value) and math.isnan(expected.low) else math.inf
    if expected.low <= value <= expected.high:
        return 0.0  # infinite ones too
    grown = 1 + tolerance
    low = expected.low / grown if expected.low > 0 else expected.low * grown or -NEAR_ZERO
    high = expected.high / grown if expected.high < 0 else expected.high * grown or NEAR_ZERO
    bound = min(max(value, low), high)
    return abs(value - bound) / (min(abs(value), abs(bound)) or NEAR_ZERO)


def compare(claim: str, found: Table, expected: Table, tolerance: float, timed: bool) -> Compared:
    """Compare one claim. A timed one, whose values are the machine's, by its verdict alone."""
    votes, wanted = ({k[1]: t[k] for k in t if k[0] == claim} for t in (found, expected))
    given = ({row.verdict for row in rows.values()} for rows in (votes, wanted))
    said, hoped = (next((v for v in DECISIVE if v in each), "") for each in given)
    if absent := [f"{measure}: no such measure" for measure in wanted if measure not in votes]:
        return "missing", f"expected {hoped}", absent if votes else ["no measure of this claim"]
    off = [
        f"{m}: {_short(votes[m].value)}, expected {row}, tolerance {tolerance * 100:g} %"
        for m, row in wanted.items()
        if not (timed or said == hoped == "not tested") and excess(votes[m].value, row, tolerance)
    ]
    if said != hoped:
        off += [
            f"{m}: {votes[m].verdict} {votes[m]}, expected {row.verdict} {row}"
            for m, row in wanted.items()
            if votes[m].verdict != row.verdict
        ]
    verdict = said if said == hoped else f"{said}, expected {hoped}"
    return "differs" if off or said != hoped else "reproduced", verdict, off


def metrics_line(found: Table, expected: Table, tolerance: float) -> str:
    """How many of the expected rows agree, none of which is a time, and the three furthest off."""
    off = {k: excess(found[k].value, row, tolerance) for k, row in expected.items() if k in found}
    differ = sorted((k for k in off if off[k]), key=lambda k: (-off[k], k))
    most = [f"{' '.join(k)}: {_short(found[k].value)}, expected {expected[k]}" for k in differ[:3]]
    counts = (
        f"metrics: {len(off) - len(differ)} of {len(expected)} rows within {tolerance * 100:g} % of"
        f" the expected interval, {len(differ)} differ, {len(expected) - len(off)} missing"
    )
    return f"{counts}; largest differences: {'; '.join(most)}" if most else counts


def _entry(path: Path, key: str, kind: type) -> Any:  # noqa: ANN401 (JSON)
    """An entry of a JSON file; DataError where there is none of its kind."""
    if isinstance(entry := read_json(path).get(key), kind):
        return entry
    raise DataError(f"{path}: has no key '{key}' that holds a {kind.__name__}")


def folder_of(expected: Path, scale: str) -> Path:
    """The folder of a scale's expected results; UsageError, with those there are, without one."""
    scales = sorted(table.parent.name for table in expected.glob("*/claims.csv"))
    if scale not in scales:
        raise UsageError(f"no scale '{scale}' in {expected}; it has {', '.join(scales) or 'none'}")
    return expected / scale


def verify(scale: str, results: Path, expected: Path) -> tuple[list[str], bool]:
    """The lines to print about a folder of results, a summary last; whether all is reproduced.

    Raises UsageError for a scale of which nothing is expected and for results of another scale,
    MissingError and DataError for files that are not there or not what they should be.
    """
    folder, parts = folder_of(expected, scale), results / "stylization.json"
    tolerance = _entry(folder / "about.json", "tolerance", float)
    timed = _entry(folder / "about.json", "timed", list)
    if parts.exists() and (other := _entry(parts, "scale", str)) != scale:
        raise UsageError(f"{parts}: the results are of scale '{other}', not of '{scale}'")
    for name in KEYS:
        check_file(results / name, "results: run make, or snakemake --cores N all")
    (found, wanted), metrics = ([read(p / name) for p in (results, folder)] for name in KEYS)
    lines: list[str] = []
    statuses: list[str] = []
    for claim in dict.fromkeys(name for name, _ in wanted):
        status, verdict, details = compare(claim, found, wanted, tolerance, claim in timed)
        statuses.append(status)
        lines += [f"{claim:3}  {status:10}  {verdict}", *(f"{'':17}{said}" for said in details)]
    same, differ, missing = map(statuses.count, ("reproduced", "differs", "missing"))
    summary = f"{same} of {len(statuses)} claims reproduced, {differ} differ, {missing} missing"
    lines += [metrics_line(metrics[0], metrics[1], tolerance), summary]
    return lines, same == len(statuses) > 0
