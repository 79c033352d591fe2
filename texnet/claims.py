"""The paper's claims as measures with rules: a number, an interval, and the verdict they give.

A measure is written so that the paper expects it above a threshold. Its verdict is ``supported``
when the whole interval lies above, ``contradicted`` when the whole interval lies below,
``inconclusive`` when the threshold is inside, ``not tested`` when a run it needs was not made. A
claim with several measures is supported only if all of them are, contradicted if any of them is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from texnet.artifacts import read_json
from texnet.errors import DataError, UsageError
from texnet.statistics import Interval, bootstrap
from texnet.tables import Row, read_scores, read_table

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
VERDICTS = ("supported", "contradicted", "inconclusive", "not tested")


@dataclass(frozen=True)
class Evidence:
    """What the measures read.

    Attributes:
        scores: measurements by (run, metric), then by seed, then by content image.
        histories: training objective of every iteration by run, then by seed.
        roles: run names by the part they play in figure 3 (``instance``, ``batch``, ...).
    """

    scores: Mapping[tuple[str, str], Mapping[int, Mapping[str, float]]]
    histories: Mapping[str, Mapping[int, Sequence[float]]]
    roles: Mapping[str, str]

    def of(self, role: str, metric: str) -> Mapping[int, Mapping[str, float]]:
        """A metric of the run that plays ``role``; KeyError where it was not measured."""
        return self.scores[self.roles[role], metric]


def by_run(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int, dict[str, float]]]:
    """Measurements as :class:`Evidence` holds them."""
    scores: dict = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        scores[row.run, row.metric][row.seed][row.content] = row.value
    return {key: dict(value) for key, value in scores.items()}


Groups = list[list[float]]


@dataclass(frozen=True)
class Measure:
    """One checkable number of a claim, with what the paper expects of it."""

    claim: str
    measure: str
    threshold: float
    roles: tuple[str, ...]
    values: Callable[[Evidence], Groups]
    """Measurements by seed; KeyError means that something it needs was not run."""

    @property
    def expected(self) -> str:
        return f"> {self.threshold:g}"


def verdict(interval: Interval | None, threshold: float) -> str:
    """The rule that turns an interval into a verdict."""
    if interval is None:
        return "not tested"
    if interval.low > threshold:
        return "supported"
    if interval.high < threshold:
        return "contradicted"
    return "inconclusive"


def combine(verdicts: Sequence[str]) -> str:
    """The verdict of a claim from those of its measures."""
    for decisive in ("contradicted", "not tested", "inconclusive"):
        if decisive in verdicts:
            return decisive
    return "supported"


def decades(high: float, low: float) -> float:
    """How many factors of ten ``high`` is above ``low``."""
    return math.log10(high / low)


def _paired(
    evidence: Evidence,
    parts: Sequence[tuple[str, str]],
    value: Callable[..., float],
) -> Groups:
    """``value`` of some (role, metric) measurements, for each image within each seed."""
    tables = [evidence.of(role, metric) for role, metric in parts]
    return [
        [value(*(table[seed][content] for table in tables)) for content in tables[0][seed]]
        for seed in sorted(tables[0])
    ]


def _best(evidence: Evidence, content: str) -> float:
    """The lowest objective that any optimisation reached for an image: stands for the optimum."""
    return min(
        table[content]
        for role in ("noise", "from_instance", "from_batch")
        for table in evidence.of(role, "objective").values()
    )


def _gaps(evidence: Evidence, role: str, metric: str) -> dict[int, dict[str, float]]:
    """Objective above the best known one, relative to it, by seed and image."""
    return {
        seed: {c: max(value / _best(evidence, c) - 1, 1e-6) for c, value in images.items()}
        for seed, images in evidence.of(role, metric).items()
    }


def _gap_ratio(higher: tuple[str, str], lower: tuple[str, str]) -> Callable[[Evidence], Groups]:
    def values(evidence: Evidence) -> Groups:
        a, b = _gaps(evidence, *higher), _gaps(evidence, *lower)
        return [[decades(a[s][c], b[s][c]) for c in a[s]] for s in sorted(a)]

    return values


def _curves(evidence: Evidence) -> list[tuple[Sequence[float], Sequence[float]]]:
    batch = evidence.histories[evidence.roles["batch"]]
    instance = evidence.histories[evidence.roles["instance"]]
    return [(batch[seed], instance[seed]) for seed in sorted(batch)]


def area_between(evidence: Evidence) -> Groups:
    """Mean over iterations of log10 (BN / IN), per seed; both see the same batches."""
    return [
        [sum(decades(b, i) for b, i in zip(bn, in_, strict=True)) / len(bn)]
        for bn, in_ in _curves(evidence)
    ]


def tail(curve: Sequence[float]) -> float:
    """Mean of the last tenth of a curve."""
    last = curve[-max(1, len(curve) // 10) :]
    return sum(last) / len(last)


def final_ratio(evidence: Evidence) -> Groups:
    """log10 (BN / IN) of the objective over the last tenth of training, per seed."""
    return [[decades(tail(bn), tail(in_))] for bn, in_ in _curves(evidence)]


def speed_up(evidence: Evidence) -> Groups:
    """Iterations of the whole run over iterations after which IN stays at BN's final level.

    The level is BN's mean over the last tenth; IN reaches it when its mean over a window as long
    first does. Where it never does, the ratio is below 1: the level over IN's own final value.
    """
    ratios = []
    for bn, in_ in _curves(evidence):
        level, window = tail(bn), max(1, len(bn) // 10)
        reached = next(
            (i for i in range(window, len(in_) + 1) if sum(in_[i - window : i]) / window <= level),
            None,
        )
        ratios.append([len(bn) / reached if reached else level / tail(in_)])
    return ratios


CLAIMS: Mapping[str, tuple[str, str]] = {
    "C1": ("IN converges faster than BN on the same objective", "Fig. 3(a), section 5.2"),
    "C2": ("both StyleNets start much closer to the optimum than noise, IN closest", "Fig. 3(b)"),
    "C3": ("finetuning changes the IN result less than the BN result", "Fig. 3(d,e,g,h)"),
    "C4": ("IN comes closer than BN to generation by optimisation", "Fig. 4, section 1"),
}

MEASURES: tuple[Measure, ...] = (
    Measure("C1", "decades of BN over IN, training objective, mean over iterations", 0,
            ("batch", "instance"), area_between),
    Measure("C1", "decades of BN over IN, training objective, last tenth", 0,
            ("batch", "instance"), final_ratio),
    Measure("C1", "iterations of BN per iteration of IN to BN's final objective", 1,
            ("batch", "instance"), speed_up),
    Measure("C1", "decades of BN over IN, objective on held-out images", 0,
            ("batch", "instance"),
            lambda e: _paired(e, [("batch", "objective"), ("instance", "objective")], decades)),
    Measure("C2", "decades of gap to the best known optimum, noise start over BN start",
            math.log10(2), ("noise", "from_batch"),
            _gap_ratio(("noise", "objective_start"), ("from_batch", "objective_start"))),
    Measure("C2", "decades of gap to the best known optimum, BN start over IN start", 0,
            ("from_batch", "from_instance"),
            _gap_ratio(("from_batch", "objective_start"), ("from_instance", "objective_start"))),
    Measure("C3", "decades of pixel change by finetuning, BN over IN", 0,
            ("from_batch", "from_instance"),
            lambda e: _paired(e, [("from_batch", "moved_pixels"),
                                  ("from_instance", "moved_pixels")], decades)),
    Measure("C3", "decades of perceptual change by finetuning, BN over IN", 0,
            ("from_batch", "from_instance"),
            lambda e: _paired(e, [("from_batch", "moved_features"),
                                  ("from_instance", "moved_features")], decades)),
    Measure("C4", "decades of gap to converged optimisation on held-out images, BN over IN", 0,
            ("batch", "instance", "noise"),
            _gap_ratio(("batch", "objective"), ("instance", "objective"))),
    Measure("C4", "decades of texture loss on held-out images, BN over IN", 0,
            ("batch", "instance"),
            lambda e: _paired(e, [("batch", "texture"), ("instance", "texture")], decades)),
)  # fmt: skip


def gather(roles: Path, scores: Iterable[Path], histories: Iterable[Path]) -> Evidence:
    """Evidence from files: the roles of figure 3, score tables, directories of trainings.

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
    return Evidence(by_run(read_scores(scores)), curves, read_json(roles))


def judge(evidence: Evidence) -> list[tuple[object, ...]]:
    """Rows of ``claims.csv``."""
    rows: list[tuple[object, ...]] = []
    for m in MEASURES:
        claim, where = CLAIMS[m.claim]
        try:
            i: Interval | None = bootstrap(m.values(evidence))
        except KeyError:
            i = None
        numbers = (i.value, i.low, i.high, i.n) if i else (None, None, None, 0)
        runs = " ".join(evidence.roles.get(role, role) for role in m.roles)
        found = verdict(i, m.threshold)
        rows.append((m.claim, claim, where, m.measure, m.expected, *numbers, found, runs))
    return rows


def markdown(rows: Sequence[Sequence[object]]) -> str:
    """The claims as a Markdown table: each with its verdict, each measure with its numbers."""
    lines = [
        "| claim | measure | expected | value [95 % interval] | verdict |",
        "|---|---|---|---|---|",
    ]
    for claim, (text, where) in CLAIMS.items():
        mine = [dict(zip(CLAIM_COLUMNS, row, strict=True)) for row in rows if row[0] == claim]
        whole = combine([m["verdict"] for m in mine])
        lines.append(f"| **{claim}** {text} ({where}) | | | | **{whole}** |")
        for m in mine:
            value = ""
            if m["value"] is not None:
                value = f"{m['value']:.3g} [{m['ci_low']:.3g}, {m['ci_high']:.3g}], n = {m['n']}"
            lines.append(f"| | {m['measure']} | {m['expected']} | {value} | {m['verdict']} |")
    return "\n".join(lines) + "\n"
