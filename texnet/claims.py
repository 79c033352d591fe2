"""The paper's claims as measures with rules: a number, an interval, and the verdict they give.

Every measure is a factor (BN's value over IN's, say), averaged geometrically, that the paper
expects in a range, mostly above a threshold. Its verdict is ``supported`` when the whole interval
lies in that range, ``contradicted`` when all of it lies outside, ``inconclusive`` when it does not
say, ``not tested`` when a run it needs was not made. A claim is supported only if all of its
measures are, and contradicted if any of them is. Measures for information have no vote.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from texnet import generator_claims, stylization_claims, texture_claims
from texnet.errors import DataError, UsageError
from texnet.evidence import Evidence, by_run, read_parts, settings_of, verdict
from texnet.sweep import chosen_temperature
from texnet.tables import read_scores, read_table

CLAIM_COLUMNS = (
    "id",
    "claim",
    "where",
    "measure",
    "expected",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "verdict",
    "runs",
)
_TABLES = (stylization_claims, generator_claims, texture_claims)
_claims = {claim: said for table in _TABLES for claim, said in table.CLAIMS.items()}
CLAIMS = dict(sorted(_claims.items(), key=lambda item: int(item[0][1:])))
_measures = [measure for table in _TABLES for measure in table.MEASURES]
MEASURES = tuple(sorted(_measures, key=lambda measure: int(measure.claim[1:])))


def gather(
    stylization: Path,
    textures: Path,
    sweeps: Iterable[Path],
    scores: Iterable[Path],
    histories: Iterable[Path],
) -> Evidence:
    """Evidence from files: which run plays which part, the tables of the sweeps (named after their
    exemplars), score tables, directories of trainings.

    Raises:
        UsageError, DataError, MissingError: a directory or table is not what it should be.
    """
    curves: dict[str, dict[int, list[float]]] = {}
    for directory in histories:
        name, _, seed = directory.name.rpartition("_seed")
        if not (name and seed.isdecimal()):
            raise UsageError(f"{directory}: is not named like a run, NAME_seedN")
        table = directory / "history.csv"
        try:
            losses = [float(row["loss"]) for row in read_table(table)]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{table}: not the history of a training ({error})") from error
        curves.setdefault(name, {})[int(seed)] = losses
    settings = settings_of(
        read_parts(textures, {"sweep", "exemplars"}),
        read_parts(stylization, {"optimised_at", "sizes"}),
    )
    settings["chosen"] = {path.stem: chosen_temperature(path, path.stem) for path in sweeps}
    return Evidence(by_run(read_scores(scores)), curves, **settings)


def judge(evidence: Evidence) -> list[tuple[object, ...]]:
    """Rows of ``claims.csv``."""
    rows: list[tuple[object, ...]] = []
    for m in MEASURES:
        i = m.interval(evidence)
        numbers = (i.value, i.low, i.high, i.n) if i else (None, None, None, 0)
        runs = " ".join(evidence.roles.get(role, role) for role in m.roles)
        found = verdict(i, m.low, m.high)
        rows.append((m.claim, *CLAIMS[m.claim], m.measure, m.expected, *numbers, found, runs))
    return rows
