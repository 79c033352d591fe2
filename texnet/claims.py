"""The paper's claims as measures with rules: a number, an interval, and the verdict they give.

Every measure is a factor (BN's value over IN's, say), averaged geometrically, that the paper
expects in a range, mostly above a threshold. Its verdict is ``supported`` when the whole interval
lies in that range, ``contradicted`` when all of it lies outside, ``inconclusive`` when it does not
say, ``not tested`` when a run it needs was not made. A claim is supported only if all of its
measures are, and contradicted if any of them is. Measures for information have no vote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from texnet import stylization_claims, texture_claims
from texnet.artifacts import read_json
from texnet.errors import DataError, UsageError
from texnet.evidence import Evidence, by_run, combine, read_parts, settings_of, verdict
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
CLAIMS = {**stylization_claims.CLAIMS, **texture_claims.CLAIMS}
MEASURES = (*stylization_claims.MEASURES, *texture_claims.MEASURES)


def gather(
    roles: Path,
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
    settings = settings_of(read_parts(textures, {"sweep", "exemplars"}), read_json(roles))
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


def markdown(rows: Sequence[Sequence[object]]) -> str:
    """The claims as a Markdown table: each with its verdict, each measure with its numbers."""
    lines = ["| claim | factor | expected | value [interval] | verdict |", "|---|---|---|---|---|"]
    for claim, (text, where) in CLAIMS.items():
        mine = [dict(zip(CLAIM_COLUMNS, row, strict=True)) for row in rows if row[0] == claim]
        voting = {m.measure for m in MEASURES if m.votes and m.claim == claim}
        whole = combine([m["verdict"] for m in mine if m["measure"] in voting])
        lines.append(f"| **{claim}** {text} ({where}) | | | | **{whole}** |")
        for m in mine:
            value = ""
            if m["value"] is not None:
                value = f"{m['value']:.2f} [{m['ci_low']:.2f}, {m['ci_high']:.2f}], n = {m['n']}"
            said = m["verdict"] if m["measure"] in voting else ""
            lines.append(f"| | {m['measure']} | {m['expected']} | {value} | {said} |")
    return "\n".join(lines) + "\n"
