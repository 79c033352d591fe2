"""Claims on stylization: figures 3 and 4 of the paper, C1 to C5."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from texnet.errors import DataError
from texnet.evidence import Evidence, Images, Measure, NotMade, Table, log_ratio, ratio


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


def gap_to_gatys(evidence: Evidence, role: str, metric: str = "objective") -> Images:
    """Objective above Gatys' result from noise, relative to it; at least 1 %, to have a ratio."""
    gatys = evidence.of("noise", "objective")
    return {
        seed: {c: max(value / gatys[seed][c] - 1, FLOOR) for c, value in images.items()}
        for seed, images in evidence.of(role, metric).items()
    }


def gap_at(evidence: Evidence, role: str, baseline: str) -> Images:
    """The same on the larger images of a baseline, which may have fewer seeds and images."""
    if baseline not in evidence.optimised_at:
        raise NotMade(baseline)
    size = evidence.optimised_at[baseline]
    gatys: dict[str, float] = {}
    for images in evidence.of(baseline, "objective").values():
        gatys |= {c: min(value, gatys.get(c, value)) for c, value in images.items()}
    return {
        seed: {c: max(images[c] / best - 1, FLOOR) for c, best in gatys.items()}
        for seed, images in evidence.of(role, f"objective_{size}px").items()
    }


def smallest_over_largest(evidence: Evidence) -> Table:
    """IN's gap at the usual size over its gap at the largest, on the images that both have."""
    large = gap_at(evidence, "instance", "largest")
    usual = gap_to_gatys(evidence, "instance")
    return log_ratio({s: {c: usual[s][c] for c in large[s]} for s in large}, large)


def texture_by_size(evidence: Evidence) -> Table:
    """IN's texture loss at the usual size over that at the largest of figure 4."""
    if "largest" not in evidence.optimised_at:
        raise NotMade("largest")
    size = evidence.optimised_at["largest"]
    return log_ratio(
        evidence.of("instance", "texture"), evidence.of("instance", f"texture_{size}px")
    )


def _curves(
    evidence: Evidence, above: str = "batch", below: str = "instance"
) -> list[tuple[Sequence[float], Sequence[float]]]:
    if missing := {above, below} - set(evidence.roles):
        raise NotMade(min(missing))
    batch, instance = (evidence.curves(evidence.roles[role]) for role in (above, below))
    if sorted(batch) != sorted(instance):
        raise DataError(f"the trainings {above} and {below} were made for other seeds")
    return [(batch[seed], instance[seed]) for seed in sorted(batch)]


def mean_ratio(evidence: Evidence, above: str = "batch", below: str = "instance") -> Table:
    """BN over IN at each iteration, averaged; both see the same batches."""
    return [
        [sum(math.log10(b / i) for b, i in zip(bn, in_, strict=True)) / len(bn)]
        for bn, in_ in _curves(evidence, above, below)
    ]


def tail(curve: Sequence[float]) -> float:
    """Mean of the last tenth of a curve."""
    last = curve[-max(1, len(curve) // 10) :]
    return sum(last) / len(last)


def final_ratio(evidence: Evidence, above: str = "batch", below: str = "instance") -> Table:
    """BN over IN, each averaged over the last tenth of training."""
    return [[math.log10(tail(bn) / tail(in_))] for bn, in_ in _curves(evidence, above, below)]


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
    "C5": ("stylizations look better at higher resolution", "Fig. 4"),
}
BATCH = "(batch statistics)"
RUNNING = "(running statistics)"
BN = f"BN {RUNNING}"
OWN = "BN (the image's own statistics)"

TRAINED = ("batch", "instance")
TUNED = ("from_batch", "from_instance")


def of_trained(metric: str) -> Callable[[Evidence], Table]:
    """A metric of StyleNet BN over that of IN, image by image."""
    return ratio(("batch", metric), ("instance", metric))


def of_tuned(metric: str) -> Callable[[Evidence], Table]:
    """The same of the images that were finetuned from their outputs."""
    return ratio(("from_batch", metric), ("from_instance", metric))


def of_gaps(
    gap: Callable[[Evidence, str], Images], above: str, below: str
) -> Callable[[Evidence], Table]:
    """A gap of one role over that of another, image by image."""
    return lambda evidence: log_ratio(gap(evidence, above), gap(evidence, below))


def at_size(baseline: str, above: str, below: str) -> Callable[[Evidence], Table]:
    """The gap to a baseline on larger images, of one role over that of another."""
    return lambda evidence: log_ratio(
        gap_at(evidence, above, baseline), gap_at(evidence, below, baseline)
    )


def own_statistics(evidence: Evidence) -> Table:
    """BN's gap with each image's own statistics over IN's."""
    batch = gap_to_gatys(evidence, "batch", "objective_own_statistics")
    return log_ratio(batch, gap_to_gatys(evidence, "instance"))


GAP = (*TRAINED, "noise")

MEASURES: tuple[Measure, ...] = (
    Measure("C1", f"training objective {BATCH}, BN over IN, mean over iterations", 1, TRAINED,
            mean_ratio),
    Measure("C1", f"training objective {BATCH}, BN over IN, last tenth", 1, TRAINED, final_ratio),
    Measure("C1", "iterations to an objective that both reach, BN over IN", 1, TRAINED, speed_up),
    Measure("C1", f"objective on held-out images, {BN} over IN", 1, TRAINED,
            of_trained("objective")),
    Measure("C1", f"objective on held-out images, {OWN} over IN", 1, TRAINED,
            ratio(("batch", "objective_own_statistics"), ("instance", "objective")), votes=False),
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
    Measure("C4", f"gap to Gatys' result on held-out images, {BN} over IN", 1, GAP,
            of_gaps(gap_to_gatys, "batch", "instance")),
    *(
        Measure("C4", f"the same on {which} images", 1, (*TRAINED, which),
                at_size(which, "batch", "instance"))
        for which in ("larger", "largest")
    ),
    Measure("C4", f"gap to Gatys' result on held-out images, {OWN} over IN", 1, GAP,
            own_statistics, votes=False),
    Measure("C4", f"texture loss on held-out images, {BN} over IN", 1, TRAINED,
            of_trained("texture")),
    Measure("C4", f"content loss on held-out images, {BN} over IN", 1, TRAINED,
            of_trained("content"), votes=False),
    Measure("C4", "objective on held-out images, IN over Gatys' result", 1, ("instance", "noise"),
            ratio(("instance", "objective"), ("noise", "objective")), votes=False),
    Measure("C5", "texture loss of IN, usual over largest images", 1, ("instance",),
            texture_by_size),
    Measure("C5", "gap to Gatys' result of IN, usual over largest images", 1,
            ("instance", "noise", "largest"), smallest_over_largest, votes=False),
)  # fmt: skip
