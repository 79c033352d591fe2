"""The choice of T as the paper describes it, by machine: the largest that leaves no artefacts.

Section 5.1: "the higher value among those not leading to artifacts". The artefacts are figure 7's
spots of brightness: T is the largest of the sweep up to which the spotting ratio stays under a
limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from texnet import config
from texnet.errors import DataError
from texnet.statistics import Interval, bootstrap
from texnet.tables import Row, read_table

METRICS = ("texture", "pairwise_pixels", "pairwise_features", "vendi", "neighbour_entropy",
           "spotting", "low_pass_share")  # fmt: skip
Line = tuple[str, str, float, str, float, float, float, int, float, int]
COLUMNS = (
    "exemplar",
    "run",
    "temperature",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "spotting_limit",
    "chosen",
)


def largest_without_spots(spots: Mapping[float, float], limit: float) -> float:
    """The largest T, of ``{T: spotting ratio}``, up to which no ratio exceeds ``limit``.

    The smallest T where all exceed it: then the diversity term cannot be had without spots.
    """
    if not spots:
        raise DataError("the sweep holds no temperature")
    temperatures = sorted(spots)
    chosen = temperatures[0]
    for temperature in temperatures:
        if not spots[temperature] <= limit:
            break
        chosen = temperature
    return chosen


def sweep_table(settings: Mapping[str, Any], exemplar: str, rows: Sequence[Row]) -> list[Line]:
    """Rows of ``results/sweep/{exemplar}.csv``: each metric at each T, and which T is chosen.

    Args:
        settings: the content of ``results/sweep.json``.
        exemplar: name of the exemplar.
        rows: scores of the sweep's runs.
    """
    found: dict[tuple[str, str], Interval] = {}
    for run in settings["sweep"]:
        for metric in METRICS:
            seeds: dict[int, list[float]] = {}
            seen: set[tuple[int, str]] = set()
            for row in rows:
                if (row.run, row.exemplar, row.metric) == (run, exemplar, metric):
                    if (row.seed, row.content) in seen:
                        raise DataError(f"run '{run}' is scored twice; give each table once")
                    seen.add((row.seed, row.content))
                    seeds.setdefault(row.seed, []).append(row.value)
            if not seeds:
                raise DataError(f"sweep of '{exemplar}': run '{run}' has no '{metric}'; score it")
            found[run, metric] = bootstrap([seeds[seed] for seed in sorted(seeds)])
    limit = settings["spotting_limit"]
    spots = {t: found[run, "spotting"].value for run, t in settings["sweep"].items()}
    chosen = largest_without_spots(spots, limit)
    return [
        (exemplar, run, t, metric, i.value, i.low, i.high, i.n, limit, int(t == chosen))
        for run, t in settings["sweep"].items()
        for metric in METRICS
        for i in [found[run, metric]]
    ]


def spotting_ratios(rows: Sequence[Line]) -> dict[float, float]:
    """Spotting ratio by T, of rows of :func:`sweep_table`."""
    return {t: value for _, _, t, metric, value, *_ in rows if metric == "spotting"}


def chosen_temperature(path: Path, exemplar: str) -> float:
    """The T that a table of :func:`sweep_table` marks as chosen for ``exemplar``.

    Raises:
        MissingError, DataError: no such table; not one of a sweep; of another exemplar.
    """
    rows = read_table(path)
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise DataError(f"{path}: is not a table of texnet sweep")
    if others := {row["exemplar"] for row in rows} - {exemplar}:
        raise DataError(f"{path}: is the sweep of '{min(others)}', wanted that of '{exemplar}'")
    chosen = {row["temperature"] for row in rows if row["chosen"] == "1"}
    if len(chosen) != 1:
        raise DataError(f"{path}: marks {len(chosen)} temperatures as chosen, wanted one")
    return float(chosen.pop())


def at_temperature(run: config.Training, temperature: float) -> config.Training:
    """The same training at another T."""
    objective = dataclasses.replace(run.objective, temperature=temperature)
    return dataclasses.replace(run, objective=objective)
