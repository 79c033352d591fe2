"""Claims on the generators: figures 2 and 6, sizes, normalisation at test time, speed, memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Unpack

from texnet.evidence import (
    EQUAL,
    Evidence,
    Expected,
    Images,
    Measure,
    NotMade,
    Table,
    by_exemplar,
    log10,
    log_ratio,
    ratio,
)
from texnet.stylization_claims import BATCH, RUNNING, final_ratio, mean_ratio

CLAIMS: Mapping[str, tuple[str, str]] = {
    "C6": ("IN everywhere beats IN at the first layer, which beats LRN and BN", "Fig. 2"),
    "C7": ("IN discards the contrast of the content image", "section 4"),
    "C8": ("more content crops make the V1 stylizer with BN worse, most at borders", "section 4"),
    "C9": ("IN improves the V1 architecture in the same way", "section 5.1"),
    "C15": ("with the diversity term one content has different stylizations", "Fig. 6"),
    "C19": ("a pass is orders of magnitude faster than optimisation", "section 1"),
    "C20": ("it needs an order of magnitude less memory", "Texture Networks, abstract"),
    "C21": ("neither IN nor the diversity term costs time at generation", "section 6"),
    "C22": ("fully convolutional generators make images of any size", "section 5.2"),
    "C23": ("IN helps any fully convolutional architecture", "the authors' slides"),
    "C26": ("IN behaves alike in training and at test time", "section 4"),
    "C27": ("for classification IN is 2-3 % worse than BN (AlexNet)", "section 4"),
}

HELDOUT = "objective on held-out images"


def over(
    claim: str, text: str, low: float, above: str, below: str, metric: str, **more: Unpack[Expected]
) -> Measure:
    """A measure: a metric of one role over another's, image by image."""
    return Measure(
        claim, text, low, (above, below), ratio((above, metric), (below, metric)), **more
    )


def within(
    claim: str, text: str, low: float, role: str, above: str, below: str, **more: Unpack[Expected]
) -> Measure:
    """A measure: one metric of a role over another metric of the same role, image by image."""
    return Measure(claim, text, low, (role,), ratio((role, above), (role, below)), **more)


def alone(
    claim: str, text: str, low: float, role: str, metric: str, **more: Unpack[Expected]
) -> Measure:
    """A measure: a metric itself."""

    def values(evidence: Evidence) -> Table:
        found = evidence.of(role, metric)
        return [[log10(v) for v in found[seed].values()] for seed in sorted(found)]

    return Measure(claim, text, low, (role,), values, **more)


def worst_size(role: str, texture: bool = False) -> Callable[[Evidence], Table]:
    """Texture loss at the worst of the sizes over that at the usual one."""

    def metric(evidence: Evidence, name: str) -> Images:
        found = evidence.of(role, name)
        return by_exemplar(found) if texture else found

    def values(evidence: Evidence) -> Table:
        if not evidence.sizes:
            raise NotMade("sizes")
        usual = metric(evidence, "texture")
        others = [metric(evidence, f"texture_{size}px") for size in evidence.sizes]
        worst = {
            seed: {image: max(other[seed][image] for other in others) for image in images}
            for seed, images in usual.items()
        }
        return log_ratio(worst, usual)

    return values


def mean(above: str, below: str) -> Callable[[Evidence], Table]:
    """Training objective of one role over another's, averaged over iterations."""
    return lambda evidence: mean_ratio(evidence, above, below)


def final(above: str, below: str) -> Callable[[Evidence], Table]:
    """Training objective of one role over another's, in the last tenth of training."""
    return lambda evidence: final_ratio(evidence, above, below)


def borders(above: str, below: str) -> Callable[[Evidence], Table]:
    """Texture loss of the outer over that of the inner half, of one role over another's.

    The ratio itself depends on where a photograph's subject is, and the inner half is compact.
    """

    def values(evidence: Evidence) -> Table:
        parts = [
            log_ratio(evidence.of(role, "texture_outer"), evidence.of(role, "texture_inner"))
            for role in (above, below)
        ]
        return [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)]

    return values


def largest(role: str, metric: str) -> Callable[[Evidence], Table]:
    """The largest value of a metric over the images, for each seed."""

    def values(evidence: Evidence) -> Table:
        found = evidence.of(role, metric)
        return [[log10(max(found[seed].values()))] for seed in sorted(found)]

    return values


def timed(above: str, below: str) -> Callable[[Evidence], Table]:
    """One measurement of speed or memory over another, at the sizes that both have."""

    def values(evidence: Evidence) -> Table:
        # A device may count no memory, and an optimisation may never be as good as a pass.
        for metric in (above, below):
            if ("speed", metric) not in evidence.scores:
                raise NotMade(metric)
        found, other = evidence.of("speed", above), evidence.of("speed", below)
        both = [
            {s: {c: v for c, v in images.items() if c in b[s]} for s, images in a.items() if s in b}
            for a, b in ((found, other), (other, found))
        ]
        if not any(both[0].values()):
            raise NotMade(f"{above} at a size of {below}")
        return log_ratio(*both)

    return values


def not_made(evidence: Evidence) -> Table:
    """Of what this project does not make."""
    raise NotMade("classification")


FIRST_LAYER = {
    "IN at the first layer over IN": ("instance_first", "instance"),
    "BN over IN at the first layer": ("batch", "instance_first"),
    "LRN over IN at the first layer": ("lrn_first", "instance_first"),
}
PAIRS = {
    "StyleNet": ("batch", "instance"),
    "V1": ("stylized_pyramid_batch", "stylized_pyramid_instance"),
    "the skip architecture": ("skip_batch", "skip_instance"),
}
V1_BATCH, V1_INSTANCE = PAIRS["V1"]
NOISY, DIVERSE = "noisy", "stylized_diverse"
UNIFORM, DETAILED = "noise_deviation_uniform", "noise_deviation_detailed"

MEASURES: tuple[Measure, ...] = (
    *(
        Measure("C6", f"training objective {BATCH}, last tenth, {said}", 1, pair, final(*pair))
        for said, pair in FIRST_LAYER.items()
    ),
    *(
        over("C6", f"{HELDOUT} {RUNNING}, {said}", 1, *pair, "objective", votes=False)
        for said, pair in FIRST_LAYER.items()
    ),
    alone("C7", "change of the output at half the contrast over its deviation, IN", 0, "instance",
          "contrast_change", high=0.1),
    alone("C7", f"the same, BN {RUNNING}", 0.1, "batch", "contrast_change"),
    over("C8", f"{HELDOUT}, V1 with BN {RUNNING}, new crops over few", 1, V1_BATCH, "pyramid_few",
         "objective"),
    over("C8", f"{HELDOUT}, the same with the image's own statistics", 1, V1_BATCH, "pyramid_few",
         "objective_own_statistics", votes=False),
    Measure("C8", f"texture loss of outer over inner half, the same {RUNNING}", 1,
            (V1_BATCH, "pyramid_few"), borders(V1_BATCH, "pyramid_few")),
    Measure("C8", f"texture loss of outer over inner half, BN {RUNNING} over IN", 1,
            (V1_BATCH, V1_INSTANCE), borders(V1_BATCH, V1_INSTANCE), votes=False),
    Measure("C9", f"training objective of V1 {BATCH}, BN over IN, mean over iterations", 1,
            (V1_BATCH, V1_INSTANCE), mean(V1_BATCH, V1_INSTANCE)),
    over("C9", f"{HELDOUT}, V1, BN {RUNNING} over IN", 1, V1_BATCH, V1_INSTANCE, "objective"),
    over("C15", "deviation over noise, lambda > 0 over lambda = 0", 1.5, DIVERSE, NOISY,
         "noise_deviation"),
    over("C15", "the same in the uniform half of the content", 1.5, DIVERSE, NOISY, UNIFORM),
    within("C15", "uniform over detailed half, lambda > 0", 1, DIVERSE, UNIFORM, DETAILED,
           votes=False),
    over("C15", "texture loss, lambda > 0 over lambda = 0", 1, DIVERSE, NOISY, "texture",
         votes=False),
    Measure("C19", "time of the whole optimisation over that of one pass", 100, ("speed",),
            timed("optimisation", "sample")),
    Measure("C19", "time of optimisation to an equal objective over that of one pass", 100,
            ("speed",), timed("optimisation_to_equal", "sample")),
    Measure("C19", "one evaluation over one pass, networks as large as the paper's", 1, ("speed",),
            timed("evaluation_paper", "forward_paper"), votes=False),
    Measure("C20", "peak memory of one evaluation over one pass, networks as large as the paper's",
            10**0.5, ("speed",),
            timed("memory_evaluation_paper", "memory_forward_paper")),
    Measure("C20", "peak memory of one evaluation over one pass, networks of this scale", 1,
            ("speed",), timed("memory_evaluation", "memory_forward_instance"),
            votes=False),
    Measure("C21", f"time of one pass, BN {RUNNING} over IN", 1 / EQUAL, ("speed",),
            timed("forward_batch", "forward_instance"), high=EQUAL),
    Measure("C21", "time of one pass, lambda > 0 over lambda = 0", 1 / EQUAL, ("speed",),
            timed("forward_diverse", "forward_noisy"), high=EQUAL),
    Measure("C22", "texture loss at the worst size over the usual one, StyleNet IN", 0,
            ("instance",), worst_size("instance"), high=2),
    Measure("C22", "texture loss at the worst size over the usual one, textures of V1", 0,
            ("pyramid",), worst_size("pyramid", texture=True), high=2),
    *(
        Measure("C23", f"training objective {BATCH}, last tenth, {name}, BN over IN", 1, pair,
                final(*pair))
        for name, pair in PAIRS.items()
    ),
    *(
        over("C23", f"{HELDOUT}, {name}, BN {RUNNING} over IN", 1, *pair, "objective")
        for name, pair in PAIRS.items()
    ),
    Measure("C26", "largest difference between training and test mode, IN, grey levels", 0,
            ("instance",), largest("instance", "mode_difference"), high=0.5),
    Measure("C26", "largest difference between alone and in a batch, IN, grey levels", 0,
            ("instance",), largest("instance", "batch_difference"), high=0.5),
    Measure("C26", "largest difference between training and test mode, BN, grey levels", 0.5,
            ("batch",), largest("batch", "mode_difference")),
    Measure("C26", "largest difference between alone and in a batch, BN, grey levels", 0.5,
            ("batch",), largest("batch", "batch_difference")),
    Measure("C27", "top-1 error of AlexNet: needs training on ImageNet, which is not in reach", 1,
            (), not_made, high=math.inf),
)  # fmt: skip
