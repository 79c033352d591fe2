"""What claims are judged by: measured evidence, measures over it, and the rule of the verdict."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TypedDict

from texnet.artifacts import read_json
from texnet.errors import DataError
from texnet.statistics import Interval, bootstrap
from texnet.tables import Row

VERDICTS = ("supported", "contradicted", "inconclusive", "not tested")
EQUAL = 1.25
"""Two losses, or two times, within this factor of each other count as equal."""

Images = Mapping[int, Mapping[str, float]]
"""A number by seed and by what it was measured on: a content image, or an exemplar."""
Table = list[list[float]]
"""Logarithms to base 10 of a factor: a row per seed, a column per content image or exemplar."""


@dataclass(frozen=True)
class Evidence:
    """What the measures read.

    Attributes:
        scores: measurements by (run, metric), then by seed, then by content image; for textures by
            ``EXEMPLAR/GROUP``.
        histories: training objective of every iteration by run, then by seed; runs of textures
            are named ``RUN_EXEMPLAR``.
        roles: run names by the part they play in the figures (``instance``, ``diverse``, ...).
        sweep: T of the runs of the sweep, by run, ascending.
        exemplars: names of the texture exemplars.
        chosen: the T that the sweep chose, by exemplar.
        optimised_at: side of the images of the stylization baselines, by role.
        sizes: sides at which trained generators were measured besides.
    """

    scores: Mapping[tuple[str, str], Images]
    histories: Mapping[str, Mapping[int, Sequence[float]]]
    roles: Mapping[str, str]
    sweep: Mapping[str, float] = field(default_factory=dict)
    exemplars: Sequence[str] = ()
    chosen: Mapping[str, float] = field(default_factory=dict)
    optimised_at: Mapping[str, int] = field(default_factory=dict)
    sizes: Sequence[int] = ()

    def of(self, role: str, metric: str) -> Images:
        """A metric of the run that plays ``role``, by seed and image."""
        if role not in self.roles:
            raise NotMade(role)
        return self.of_run(self.roles[role], metric)

    def of_run(self, run: str, metric: str) -> Images:
        """A metric of a run, by seed and image."""
        if not any(name == run for name, _ in self.scores):
            raise NotMade(run)
        try:
            return self.scores[run, metric]
        except KeyError:
            raise DataError(f"run '{run}' has no metric '{metric}'") from None

    def curves(self, run: str) -> Mapping[int, Sequence[float]]:
        """The training objective of a run, by seed."""
        if run not in self.histories:
            raise NotMade(run)
        return self.histories[run]


class NotMade(DataError):
    """A measure reads a run that was not made or not scored."""


def by_run(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int, dict[str, float]]]:
    """Measurements as :class:`Evidence` holds them."""
    scores: dict[tuple[str, str], dict[int, dict[str, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in rows:
        grouped = row.content.startswith("group")
        image = f"{row.exemplar}/{row.content}" if grouped else row.content
        found = scores[row.run, row.metric][row.seed]
        if image in found:
            raise DataError(
                f"run '{row.run}' seed {row.seed} has '{row.metric}' of '{image}' twice; "
                "score again"
            )
        found[image] = row.value
    return {key: dict(value) for key, value in scores.items()}


def by_exemplar(groups: Images) -> dict[int, dict[str, float]]:
    """A texture's metric averaged over the groups of samples: by seed and exemplar."""
    means = {}
    for seed, values in groups.items():
        gathered: dict[str, list[float]] = defaultdict(list)
        for name, value in values.items():
            gathered[name.partition("/")[0]].append(value)
        means[seed] = {exemplar: fmean(found) for exemplar, found in gathered.items()}
    return means


class Expected(TypedDict, total=False):
    """Keys of a :class:`Measure` that most leave as they are."""

    votes: bool
    high: float


@dataclass(frozen=True)
class Measure:
    """One checkable factor of a claim, with what the paper expects of it."""

    claim: str
    measure: str
    low: float
    """The paper expects the factor above this ..."""
    roles: tuple[str, ...]
    """The parts in the figures whose runs it reads."""
    values: Callable[[Evidence], Table | None]
    votes: bool = True
    """Whether the claim's verdict depends on it."""
    high: float = math.inf
    """... and below this."""

    @property
    def expected(self) -> str:
        if not self.votes:
            return "(for information)"
        if self.high == math.inf:
            return f"> {self.low:.3g}"
        return f"{self.low:.3g} to {self.high:.3g}" if self.low else f"< {self.high:g}"

    def interval(self, evidence: Evidence) -> Interval | None:
        """The factor with its interval; None where a run is missing."""
        try:
            values = self.values(evidence)
        except NotMade:
            return None
        if values is None:
            return None
        logs = bootstrap(values)
        # What counts as the floor is nothing at all: 0.
        value, low, high = (
            10**log if log > math.log10(FLOOR) else 0.0 for log in (logs.value, logs.low, logs.high)
        )
        return Interval(value, low, high, logs.n)


def verdict(interval: Interval | None, low: float, high: float = math.inf) -> str:
    """The rule that turns an interval into a verdict: inside the range, outside, or neither.

    Factors are not negative: a range from 0 has no lower end.

    One measurement has no interval and decides nothing.
    """
    if interval is None:
        return "not tested"
    if interval.n < 2:
        return "inconclusive"
    if (interval.low > low or not low) and interval.high < high:
        return "supported"
    if interval.high < low or interval.low > high:
        return "contradicted"
    return "inconclusive"


def combine(verdicts: Sequence[str]) -> str:
    """The verdict of a claim from those of its measures; without any it is not tested."""
    if not verdicts:
        return "not tested"
    for decisive in ("contradicted", "not tested", "inconclusive"):
        if decisive in verdicts:
            return decisive
    return "supported"


FLOOR = 1e-9


def log10(value: float) -> float:
    """Decimal logarithm of a value that is not negative; 0 (copies are 0 apart) counts as 1e-9."""
    return math.log10(max(value, FLOOR))


def log_ratio(above: Images, below: Images) -> Table:
    """Logarithm of ``above / below`` for each seed and image; both hold the same ones."""
    shape = [(seed, list(images)) for seed, images in sorted(above.items())]
    if shape != [(seed, list(images)) for seed, images in sorted(below.items())]:
        raise DataError("two runs were scored on other seeds or images; score them again")
    return [[log10(above[s][c]) - log10(below[s][c]) for c in images] for s, images in shape]


def ratio(above: tuple[str, str], below: tuple[str, str]) -> Callable[[Evidence], Table]:
    """A measure: one (role, metric) over another, image by image."""
    return lambda evidence: log_ratio(evidence.of(*above), evidence.of(*below))


def texture_ratio(above: str, below: str, metric: str) -> Callable[[Evidence], Table]:
    """A measure: a metric of one texture role over that of another, exemplar by exemplar."""
    return lambda evidence: log_ratio(
        by_exemplar(evidence.of(above, metric)), by_exemplar(evidence.of(below, metric))
    )


def read_parts(path: Path, keys: set[str]) -> dict[str, Any]:
    """A JSON file of the workflow, such as ``results/textures.json``, that must hold ``keys``.

    Raises:
        MissingError, DataError: no such file; not that file.
    """
    parts = read_json(path)
    if missing := keys - set(parts):
        raise DataError(f"{path}: has no key '{min(missing)}'; texnet configure writes this file")
    return parts


def settings_of(textures: Mapping[str, Any], stylization: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of :class:`Evidence` from ``textures.json`` and ``stylization.json``."""
    both = [
        {key: value for key, value in parts.items() if isinstance(value, str)}
        for parts in (textures, stylization)
    ]
    # Both have a run with diversity term, and V1 with each norm.
    shared = set(both[0]) & set(both[1]) - {"scale"}
    stylizers = {f"stylized_{k}" if k in shared else k: v for k, v in both[1].items()}
    return {
        "roles": {
            **both[0],
            **stylizers,
            "crops": "crops",
            "estimator": "estimator",
            "speed": "speed",
            "sweep": " ".join(textures["sweep"]),
        },
        "sweep": textures["sweep"],
        "exemplars": textures["exemplars"],
        "optimised_at": stylization["optimised_at"],
        "sizes": stylization["sizes"],
    }
