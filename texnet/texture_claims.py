"""Claims on textures: figures 5 and 7 of the paper, the estimator and the normalised gradients.

A factor is measured for each seed and exemplar, its metric averaged over the groups of samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Unpack

from texnet.errors import DataError
from texnet.evidence import (
    EQUAL,
    Evidence,
    Expected,
    Measure,
    NotMade,
    Table,
    by_exemplar,
    log10,
    texture_ratio,
)

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
    if not evidence.sweep:
        raise NotMade("sweep")
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


def at_lowest(metric: str) -> Callable[[Evidence], Table]:
    """A metric at the lowest T of the sweep."""

    def values(evidence: Evidence) -> Table:
        found = of_sweep(evidence, metric)[0]
        return [[log10(found[s][e]) for e in found[s]] for s in sorted(found)]

    return values


def spread_of_choices(evidence: Evidence) -> Table | None:
    """Highest over lowest of the temperatures chosen for the exemplars; None with one exemplar."""
    if len(evidence.exemplars) < 2:
        return None
    if missing := set(evidence.exemplars) - set(evidence.chosen):
        raise NotMade(f"sweep of {min(missing)}")
    chosen = [math.log10(evidence.chosen[exemplar]) for exemplar in evidence.exemplars]
    return [[max(chosen) - min(chosen)]]


def early_loss(evidence: Evidence) -> Table:
    """Texture loss without over with normalised gradients, mean over the first half of training."""
    plain, normalised = evidence.roles.get("plain"), evidence.roles.get("collapsed")
    if plain is None or not evidence.exemplars:
        raise NotMade("plain")
    table: dict[int, list[float]] = {}
    for exemplar in evidence.exemplars:
        slow = evidence.curves(f"{plain}_{exemplar}")
        fast = evidence.curves(f"{normalised}_{exemplar}")
        if sorted(slow) != sorted(fast):
            raise DataError("the trainings with and without normalised gradients have other seeds")
        for seed in sorted(slow):
            half = len(slow[seed]) // 2
            pairs = zip(slow[seed][:half], fast[seed][:half], strict=True)
            logs = [log10(a) - log10(b) for a, b in pairs]
            table.setdefault(seed, []).append(sum(logs) / len(logs))
    return [table[seed] for seed in sorted(table)]


def estimator_error(evidence: Evidence) -> Table:
    """Largest error of the estimator, as logarithm of the factor in volume that it is worth."""
    found = evidence.of("estimator", "entropy_error")
    return [[max(map(abs, found[s].values())) / math.log(10)] for s in sorted(found)]


def printed_gradient(scale: str) -> Callable[[Evidence], Table]:
    """Length of printed eq. 11's vector over that of the derivative of eq. 10."""

    def values(evidence: Evidence) -> Table:
        found = evidence.of("estimator", f"printed_eq11_scale{scale}")
        return [[log10(v) for v in found[s].values()] for s in sorted(found)]

    return values


def alone(role: str, metric: str) -> Callable[[Evidence], Table]:
    """A positive metric itself."""

    def values(evidence: Evidence) -> Table:
        found = by_exemplar(evidence.of(role, metric))
        return [[log10(v) for v in found[s].values()] for s in sorted(found)]

    return values


DISTANCE = "pairwise_features"
V1, V2, DIVERSE, GATYS = "pyramid", "collapsed", "diverse", "gatys"


def over(
    claim: str, text: str, low: float, above: str, below: str, metric: str, **more: Unpack[Expected]
) -> Measure:
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
    over("C12", "texture loss, exemplar crops over V2 with diversity term", 1, "crops", DIVERSE,
         "texture", votes=False),
    over("C13", "distance of samples, V1 over V2, lambda = 0", 2, V1, V2, DISTANCE),
    over("C13", "texture loss, V1 over V2, lambda = 0", 1, V1, V2, "texture"),
    over("C14", "texture loss, V1 over V2 with diversity term", 2, V1, DIVERSE, "texture"),
    over("C14", "sliced Wasserstein distance, V1 over V2 with diversity term", 1, V1, DIVERSE,
         "sliced_wasserstein", votes=False),
    over("C14", "sliced Wasserstein distance, V1 over exemplar crops", 1, V1, "crops",
         "sliced_wasserstein", votes=False),
    Measure("C16", "low-pass luminance variance, highest over lowest T", 1, ("sweep",),
            ends("spotting")),
    Measure("C16", "its share of the luminance variance, highest over lowest T", 1, ("sweep",),
            ends("low_pass_share")),
    Measure("C17", "Vendi score of 8 samples at the lowest T", 0, ("sweep",), at_lowest("vendi"),
            high=2),
    Measure("C17", "T chosen, highest over lowest exemplar", EQUAL, ("sweep",), spread_of_choices),
    over("C18", "distance of samples, optimised over V1", 0.95, GATYS, V1, DISTANCE),
    over("C18", "texture loss, V1 over optimised", 1, V1, GATYS, "texture"),
    over("C18", "sliced Wasserstein distance, V1 over optimised", 1, V1, GATYS,
         "sliced_wasserstein", votes=False),
    Measure("C24", "largest error in volume: normals and cubes, 1, 2, 4 dimensions, 2000 points",
            0, ("estimator",), estimator_error, high=1.25),
    *(
        Measure("C24", f"printed eq. 11 over the derivative of eq. 10, normal of scale {scale}",
                1, ("estimator",), printed_gradient(scale), votes=False)
        for scale in ("0.1", "10")
    ),
    Measure("C25", "growth of the texture loss from one T to the next, smallest", 1, ("sweep",),
            smallest_step("texture")),
    Measure("C25", "growth of the distance to the nearest sample, smallest", 1, ("sweep",),
            smallest_step("neighbour_entropy", exponential=True)),
    Measure("C28", "texture loss without over with, first half of training", 1, ("plain", V2),
            early_loss),
    over("C28", "texture loss at the end, without over with", 1, "plain", V2, "texture",
         votes=False),
)  # fmt: skip
