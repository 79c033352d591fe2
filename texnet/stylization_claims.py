"""Claims on stylization: figures 3 and 4 of the paper, C1 to C4."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from texnet.errors import DataError
from texnet.evidence import Evidence, Images, Measure, Table, log_ratio, ratio


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
    batch = evidence.curves(evidence.roles["batch"])
    instance = evidence.curves(evidence.roles["instance"])
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
