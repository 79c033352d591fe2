"""The paper's claims as measures with rules: a number, an interval, and the verdict they give.

Every measure is a factor (BN's value over IN's, say), averaged geometrically, that the paper
expects above a threshold. Its verdict is ``supported`` when the whole interval lies above the
threshold, ``contradicted`` when it lies below, ``inconclusive`` when the threshold is inside,
``not tested`` when a run it needs was not made. A claim is supported only if all of its measures
are, and contradicted if any of them is. Measures for information have a verdict but no vote.
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
        """A metric of the run that plays ``role``, by seed and image."""
        try:
            return self.scores[self.roles[role], metric]
        except KeyError:
            raise DataError(f"run '{self.roles[role]}' has no metric '{metric}'") from None

    def has(self, role: str) -> bool:
        """Whether the run that plays ``role`` was made and scored."""
        run = self.roles[role]
        trained = role not in ("instance", "batch") or run in self.histories
        return trained and any(name == run for name, _ in self.scores)


def by_run(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int, dict[str, float]]]:
    """Measurements as :class:`Evidence` holds them."""
    scores: dict = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        scores[row.run, row.metric][row.seed][row.content] = row.value
    return {key: dict(value) for key, value in scores.items()}


Table = list[list[float]]
"""Logarithms to base 10 of a factor: a row per seed, a column per image."""


@dataclass(frozen=True)
class Measure:
    """One checkable factor of a claim, with what the paper expects of it."""

    claim: str
    measure: str
    threshold: float
    """The factor above which the paper expects it."""
    roles: tuple[str, ...]
    """The parts in figure 3 whose runs it reads."""
    values: Callable[[Evidence], Table]
    votes: bool = True
    """Whether the claim's verdict depends on it."""

    @property
    def expected(self) -> str:
        return f"> {self.threshold:g}" if self.votes else "(for information)"

    def interval(self, evidence: Evidence) -> Interval | None:
        """The factor with its interval; None where a run is missing."""
        if not all(evidence.has(role) for role in self.roles):
            return None
        logs = bootstrap(self.values(evidence))
        return Interval(10**logs.value, 10**logs.low, 10**logs.high, logs.n)


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


Images = Mapping[int, Mapping[str, float]]
"""A number by seed and by content image."""


def log_ratio(above: Images, below: Images) -> Table:
    """Logarithm of ``above / below`` for each seed and image; both hold the same ones."""
    shape = [(seed, list(images)) for seed, images in sorted(above.items())]
    if shape != [(seed, list(images)) for seed, images in sorted(below.items())]:
        raise DataError("two runs were scored on other seeds or images; score them again")
    return [[math.log10(above[s][c] / below[s][c]) for c in images] for s, images in shape]


def ratio(above: tuple[str, str], below: tuple[str, str]) -> Callable[[Evidence], Table]:
    """A measure: one (role, metric) over another, image by image."""
    return lambda evidence: log_ratio(evidence.of(*above), evidence.of(*below))


def gap_to_best(evidence: Evidence, role: str) -> Images:
    """Objective at the start of a baseline above the lowest that any of them reached, by image."""
    optimised = [evidence.of(r, "objective") for r in ("noise", "from_batch", "from_instance")]
    return {
        seed: {
            content: value - min(t[content] for run in optimised for t in run.values())
            for content, value in images.items()
        }
        for seed, images in evidence.of(role, "objective_start").items()
    }


FLOOR = 0.01


def gap_to_gatys(evidence: Evidence, role: str) -> Images:
    """Objective above Gatys' result from noise, relative to it; at least 1 %, to have a ratio."""
    gatys = evidence.of("noise", "objective")
    return {
        seed: {c: max(value / gatys[seed][c] - 1, FLOOR) for c, value in images.items()}
        for seed, images in evidence.of(role, "objective").items()
    }


def _curves(evidence: Evidence) -> list[tuple[Sequence[float], Sequence[float]]]:
    batch = evidence.histories[evidence.roles["batch"]]
    instance = evidence.histories[evidence.roles["instance"]]
    if sorted(batch) != sorted(instance):
        raise DataError("the trainings with BN and IN were made for other seeds")
    return [(batch[seed], instance[seed]) for seed in sorted(batch)]


def mean_ratio(evidence: Evidence) -> Table:
    """BN over IN at each iteration, averaged; both see the same batches."""
    return [
        [sum(math.log10(b / i) for b, i in zip(bn, in_, strict=True)) / len(bn)]
        for bn, in_ in _curves(evidence)
    ]


def tail(curve: Sequence[float]) -> float:
    """Mean of the last tenth of a curve."""
    last = curve[-max(1, len(curve) // 10) :]
    return sum(last) / len(last)


def final_ratio(evidence: Evidence) -> Table:
    """BN over IN, each averaged over the last tenth of training."""
    return [[math.log10(tail(bn) / tail(in_))] for bn, in_ in _curves(evidence)]


def first_below(curve: Sequence[float], level: float) -> int:
    """Iterations until a running mean, over a tenth of the curve, is first at most ``level``."""
    window = max(1, len(curve) // 10)
    means = (sum(curve[i - window : i]) / window for i in range(window, len(curve) + 1))
    return next(i for i, mean in enumerate(means, start=window) if mean <= level)


def speed_up(evidence: Evidence) -> Table:
    """Iterations of BN over iterations of IN to the worse of their two final objectives."""
    ratios = []
    for bn, in_ in _curves(evidence):
        level = max(tail(bn), tail(in_))
        ratios.append([math.log10(first_below(bn, level) / first_below(in_, level))])
    return ratios


CLAIMS: Mapping[str, tuple[str, str]] = {
    "C1": ("IN converges faster than BN on the same objective", "Fig. 3(a), section 5.2"),
    "C2": ("both StyleNets start much closer to the optimum than noise, IN closest", "Fig. 3(b)"),
    "C3": ("finetuning changes the IN result less than the BN result", "Fig. 3(d,e,g,h)"),
    "C4": ("IN comes closer than BN to generation by optimisation", "Fig. 4, section 1"),
}

TRAINED = ("batch", "instance")
TUNED = ("from_batch", "from_instance")


def of_trained(metric: str) -> Callable[[Evidence], Table]:
    return ratio(("batch", metric), ("instance", metric))


def of_tuned(metric: str) -> Callable[[Evidence], Table]:
    return ratio(("from_batch", metric), ("from_instance", metric))


def of_gaps(gap: Callable[[Evidence, str], Images], above: str, below: str) -> Callable:
    return lambda evidence: log_ratio(gap(evidence, above), gap(evidence, below))


MEASURES: tuple[Measure, ...] = (
    Measure("C1", "training objective, BN over IN, mean over iterations", 1, TRAINED, mean_ratio),
    Measure("C1", "training objective, BN over IN, last tenth", 1, TRAINED, final_ratio),
    Measure("C1", "iterations to an objective that both reach, BN over IN", 1, TRAINED, speed_up),
    Measure("C1", "objective on held-out images, BN over IN", 1, TRAINED, of_trained("objective")),
    Measure(
        "C2",
        "gap of the start to the best known objective, noise over BN",
        2,
        ("noise", *TUNED),
        of_gaps(gap_to_best, "noise", "from_batch"),
    ),
    Measure(
        "C2",
        "gap of the start to the best known objective, BN over IN",
        1,
        ("noise", *TUNED),
        of_gaps(gap_to_best, "from_batch", "from_instance"),
    ),
    Measure("C3", "change of pixels by finetuning, BN over IN", 1, TUNED, of_tuned("moved_pixels")),
    Measure("C3", "perceptual change, BN over IN", 1, TUNED, of_tuned("moved_features")),
    Measure(
        "C4",
        "gap to Gatys' result on held-out images, BN over IN",
        1,
        (*TRAINED, "noise"),
        of_gaps(gap_to_gatys, "batch", "instance"),
    ),
    Measure("C4", "texture loss on held-out images, BN over IN", 1, TRAINED, of_trained("texture")),
    Measure(
        "C4",
        "content loss on held-out images, BN over IN",
        1,
        TRAINED,
        of_trained("content"),
        votes=False,
    ),
)


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
        i = m.interval(evidence)
        numbers = (i.value, i.low, i.high, i.n) if i else (None, None, None, 0)
        runs = " ".join(evidence.roles[role] for role in m.roles)
        found = verdict(i, m.threshold)
        rows.append((m.claim, *CLAIMS[m.claim], m.measure, m.expected, *numbers, found, runs))
    return rows


def markdown(rows: Sequence[Sequence[object]]) -> str:
    """The claims as a Markdown table: each with its verdict, each measure with its numbers."""
    lines = ["| claim | factor | expected | value [interval] | verdict |", "|---|---|---|---|---|"]
    for claim, (text, where) in CLAIMS.items():
        mine = [dict(zip(CLAIM_COLUMNS, row, strict=True)) for row in rows if row[0] == claim]
        voting = {m.measure for m in MEASURES if m.votes}
        whole = combine([m["verdict"] for m in mine if m["measure"] in voting])
        lines.append(f"| **{claim}** {text} ({where}) | | | | **{whole}** |")
        for m in mine:
            value = ""
            if m["value"] is not None:
                value = f"{m['value']:.2f} [{m['ci_low']:.2f}, {m['ci_high']:.2f}], n = {m['n']}"
            said = m["verdict"] if m["measure"] in voting else ""
            lines.append(f"| | {m['measure']} | {m['expected']} | {value} | {said} |")
    return "\n".join(lines) + "\n"
