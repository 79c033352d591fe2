"""Claims on textures: figures 5 and 7 of the paper, the estimator and the normalised gradients.

A factor is measured for each seed and exemplar, its metric averaged over the groups of samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from texnet.errors import DataError
from texnet.evidence import Evidence, Measure, Table, by_exemplar, log10, texture_ratio

EQUAL = 1.25
"""Two losses within this factor of each other count as equal."""

CLAIMS: Mapping[str, tuple[str, str]] = {
    "C10": ("for textures BN and IN are equally good", "section 5.2"),
    "C11": ("V2 without the diversity term makes a single image", "Fig. 5"),
    "C12": ("with it V2 is diverse at little cost, and better than V1", "Fig. 5"),
    "C13": ("V1 without it is diverse, but poorer than V2", "Fig. 5"),
    "C14": ("V2's fidelity is much higher than V1's", "Fig. 5, section 5.1"),
    "C16": ("too high a T gives spots of brightness", "Fig. 7"),
    "C17": ("too low a T fails to diversify; T must be tuned per texture", "section 5.3"),
    "C18": ("textures by optimisation are diverse and good", "sections 1-2"),
    "C24": ("the estimator of eq. 9 is the entropy", "eq. 9"),
    "C25": ("T trades loss for entropy", "eq. 6, 10"),
    "C28": ("normalised gradients speed up convergence", "section 5.1"),
}


def of_sweep(evidence: Evidence, metric: str) -> list[Mapping[int, Mapping[str, float]]]:
    """A metric of each run of the sweep, T ascending, by seed and exemplar."""
    return [by_exemplar(evidence.of_run(run, metric)) for run in evidence.sweep]


def ends(metric: str) -> Callable[[Evidence], Table]:
    """A metric at the highest T over the same at the lowest."""

    def values(evidence: Evidence) -> Table:
        first, *_, last = of_sweep(evidence, metric)
        return [[log10(last[s][e]) - log10(first[s][e]) for e in last[s]] for s in sorted(last)]

    return values


def smallest_step(metric: str, exponential: bool = False) -> Callable[[Evidence], Table]:
    """The smallest factor by which a metric grows from one T to the next."""

    def values(evidence: Evidence) -> Table:
        found = of_sweep(evidence, metric)

        def grown(seed: int, exemplar: str) -> float:
            along = [values[seed][exemplar] for values in found]
            logs = [v / math.log(10) if exponential else log10(v) for v in along]
            return min(b - a for a, b in itertools.pairwise(logs))

        return [[grown(s, e) for e in found[0][s]] for s in sorted(found[0])]

    return values


def chosen_over_lowest(evidence: Evidence) -> Table:
    """Diversity with the chosen T over that with the lowest of the sweep, seeds averaged there."""
    lowest = of_sweep(evidence, "pairwise_features")[0]
    chosen = by_exemplar(evidence.of("diverse", "pairwise_features"))
    mean = {e: sum(v[e] for v in lowest.values()) / len(lowest) for e in evidence.exemplars}
    return [[log10(chosen[s][e]) - log10(mean[e]) for e in chosen[s]] for s in sorted(chosen)]


def crossing(temperatures: Sequence[float], values: Sequence[float], level: float) -> float:
    """Logarithm of the T at which values along the sweep first reach ``level``, interpolated.

    The first or last T stands for what lies outside of the sweep.
    """
    logs = [math.log10(t) for t in temperatures]
    if values[0] >= level:
        return logs[0]
    for i in range(1, len(values)):
        if values[i] >= level:
            share = (level - values[i - 1]) / (values[i] - values[i - 1])
            return logs[i - 1] + share * (logs[i] - logs[i - 1])
    return logs[-1]


def spread_of_temperatures(evidence: Evidence) -> Table | None:
    """Highest over lowest, among exemplars, of the T that gives half of the crops' diversity.

    A row a seed of the sweep, a column a group of samples; None with one exemplar.
    """
    if len(evidence.exemplars) < 2:
        return None
    metric = "pairwise_features"
    crops = by_exemplar(evidence.of("crops", metric))
    half = {e: 0.5 * sum(v[e] for v in crops.values()) / len(crops) for e in evidence.exemplars}
    along = [evidence.of_run(run, metric) for run in evidence.sweep]
    temperatures = list(evidence.sweep.values())
    table = []
    for seed in sorted(along[0]):
        names = list(along[0][seed])
        groups = sorted({name.partition("/")[2] for name in names})
        row = []
        for group in groups:
            needed = [
                crossing(temperatures, [v[seed][f"{e}/{group}"] for v in along], half[e])
                for e in evidence.exemplars
            ]
            row.append(max(needed) - min(needed))
        table.append(row)
    return table


def early_loss(evidence: Evidence) -> Table:
    """Texture loss without over with normalised gradients, mean over the first half of training."""
    plain, normalised = evidence.roles["plain"], evidence.roles["collapsed"]
    table: dict[int, list[float]] = {}
    for exemplar in evidence.exemplars:
        slow = evidence.histories[f"{plain}_{exemplar}"]
        fast = evidence.histories[f"{normalised}_{exemplar}"]
        if sorted(slow) != sorted(fast):
            raise DataError("the trainings with and without normalised gradients have other seeds")
        for seed in sorted(slow):
            half = len(slow[seed]) // 2
            logs = [
                log10(a) - log10(b)
                for a, b in zip(slow[seed][:half], fast[seed][:half], strict=True)
            ]
            table.setdefault(seed, []).append(sum(logs) / len(logs))
    return [table[seed] for seed in sorted(table)]


def estimator_error(evidence: Evidence) -> Table:
    """Errors of the estimator in nats, as logarithms of the volume they are worth."""
    found = evidence.of("estimator", "entropy_error")
    return [[v / math.log(10) for v in found[s].values()] for s in sorted(found)]


def printed_gradient(evidence: Evidence) -> Table:
    """Length of printed eq. 11's vector over that of the derivative of eq. 10."""
    found = evidence.of("estimator", "printed_eq11")
    return [[log10(v) for v in found[s].values()] for s in sorted(found)]


def alone(role: str, metric: str) -> Callable[[Evidence], Table]:
    """A positive metric itself."""

    def values(evidence: Evidence) -> Table:
        found = by_exemplar(evidence.of(role, metric))
        return [[log10(v) for v in found[s].values()] for s in sorted(found)]

    return values


DISTANCE = "pairwise_features"
V1, V2, DIVERSE, GATYS = "pyramid", "collapsed", "diverse", "gatys"


def over(claim: str, text: str, low: float, above: str, below: str, metric: str, **more) -> Measure:  # noqa: ANN003
    """A measure: a metric of one role over another's."""
    roles = (above, below)
    return Measure(claim, text, low, roles, texture_ratio(above, below, metric), **more)


MEASURES: tuple[Measure, ...] = (
    *(
        over("C10", f"texture loss of {name}, BN over IN", 1 / EQUAL, f"{role}_batch",
             f"{role}_instance", "texture", high=EQUAL)
        for name, role in (("V1", V1), ("V2", V2))
    ),
    Measure("C11", "Vendi score of 8 samples of V2, lambda = 0", 0, (V2,), alone(V2, "vendi"),
            high=1.5),
    over("C11", "distance of exemplar crops over V2's, lambda = 0", 5, "crops", V2, DISTANCE),
    over("C12", "distance of samples, V2 with over without diversity term", 2, DIVERSE, V2,
         DISTANCE),
    over("C12", "texture loss, V2 with over without diversity term", 0, DIVERSE, V2, "texture",
         high=2),
    over("C12", "texture loss, V1 over V2 with diversity term", 1, V1, DIVERSE, "texture"),
    over("C12", "distance of samples, V2 with diversity term over V1", 1, DIVERSE, V1, DISTANCE,
         votes=False),
    over("C13", "distance of samples, V1 over V2, lambda = 0", 2, V1, V2, DISTANCE),
    over("C13", "texture loss, V1 over V2, lambda = 0", 1, V1, V2, "texture"),
    over("C14", "texture loss, V1 over V2 with diversity term", 1, V1, DIVERSE, "texture"),
    over("C14", "sliced Wasserstein distance on untrained layers, V1 over V2 with diversity term",
         1, V1, DIVERSE, "sliced_wasserstein"),
    Measure("C16", "low-pass luminance variance, highest over lowest T", 1, (DIVERSE,),
            ends("spotting")),
    Measure("C17", "distance of samples, chosen over lowest T", 1.5, (DIVERSE,),
            chosen_over_lowest),
    Measure("C17", "T for half of the crops' diversity, highest over lowest exemplar", 1.25,
            (DIVERSE, "crops"), spread_of_temperatures),
    over("C18", "distance of samples, optimised over V1", 0.95, GATYS, V1, DISTANCE),
    over("C18", "texture loss, V1 over optimised", 1, V1, GATYS, "texture"),
    Measure("C24", "volume by the estimate over the true one", 1 / 1.1, ("estimator",),
            estimator_error, high=1.1),
    Measure("C24", "length of printed eq. 11 over the derivative of eq. 10", 1 / 1.1,
            ("estimator",), printed_gradient, votes=False, high=1.1),
    Measure("C25", "growth of the texture loss from T to the next, smallest", 1, (DIVERSE,),
            smallest_step("texture")),
    Measure("C25", "growth of the distance to the nearest sample, smallest", 1, (DIVERSE,),
            smallest_step("neighbour_entropy", exponential=True)),
    Measure("C28", "texture loss without over with, first half of training", 1, (V2, "plain"),
            early_loss),
    over("C28", "texture loss at the end, without over with", 1, "plain", V2, "texture",
         votes=False),
)  # fmt: skip
