"""Which run plays which part in the figures and claims, and whether each is what its part needs."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic.dataclasses import dataclass

from texnet.config import Optimisation, Training, stylization
from texnet.fields import STRICT, Name
from texnet.networks import SkipNet, StyleNet, TextureNetV1, TextureNetV2


@dataclass(frozen=True, config=STRICT)
class StylizationParts:
    """Which stylization runs play which part in figures 1-4 and 6 and in their claims."""

    instance: Name
    """StyleNet with instance normalisation."""
    batch: Name
    """StyleNet with batch normalisation."""
    lrn_first: Name
    """StyleNet with batch normalisation and LRN of the input."""
    instance_first: Name
    """StyleNet with batch normalisation and IN of the input."""
    noise: Name
    """Baseline from noise: Gatys et al."""
    from_instance: Name
    """Baseline that starts from the instance-norm generator."""
    from_batch: Name
    """Baseline that starts from the batch-norm generator."""
    larger: Name
    """As noise, on larger images (the upper rows of figure 4)."""
    largest: Name
    """As noise, on the largest images (the lower rows of figure 4)."""
    noisy: Name
    """StyleNet with noise channels, lambda = 0."""
    diverse: Name
    """StyleNet with noise channels and diversity term."""
    pyramid_instance: Name
    """TextureNetV1 as a stylizer, with instance normalisation."""
    pyramid_batch: Name
    """TextureNetV1 as a stylizer, with batch normalisation."""
    pyramid_few: Name
    """As pyramid_batch, trained on a few crops (images.crops)."""
    skip_instance: Name
    """The skip architecture with instance normalisation."""
    skip_batch: Name
    """The skip architecture with batch normalisation."""
    content: str
    """The held-out image shown in figures 1-3."""
    uniform: str
    """The held-out image with a uniform region, shown in figure 6."""


@dataclass(frozen=True, config=STRICT)
class TextureParts:
    """Which texture runs play which part in figures 5 and 7 and in their claims."""

    pyramid: Name
    """TextureNetV1 without diversity term."""
    collapsed: Name
    """TextureNetV2 without diversity term."""
    diverse: Name
    """TextureNetV2 with diversity term: the run of the sweep."""
    gatys: Name
    """Textures by optimisation."""
    pyramid_batch: Name
    """TextureNetV1 with batch normalisation."""
    pyramid_instance: Name
    """TextureNetV1 with instance normalisation."""
    collapsed_batch: Name
    """TextureNetV2 without diversity term, with batch normalisation."""
    collapsed_instance: Name
    """TextureNetV2 without diversity term, with instance normalisation."""
    plain: Name
    """As collapsed, without normalised gradients."""


@dataclass(frozen=True, config=STRICT)
class Figures:
    """The runs behind the figures and claims."""

    stylization: StylizationParts
    textures: TextureParts


Run = Training | Optimisation
Pair = tuple[str, str, tuple[str, ...]]
DIVERSITY = tuple(
    f"objective.{key}"
    for key in ("diversity_weight", "temperature", "diversity_distance", "convention")
)
RATE = ("optimiser.lr", "optimiser.decay", "optimiser.decay_every")
ONLY_TRAININGS = ("acceleration", "heldout_every", "checkpoint_every")
# What is compared must differ in what the comparison is about, and in nothing else:
# part, the part it is compared with, and the keys that may differ.
STYLIZATION_PAIRS = (
    ("batch", "instance", ("generator.norm",)),
    ("lrn_first", "instance", ("generator.norm",)),
    ("instance_first", "instance", ("generator.norm",)),
    (
        "noise",
        "instance",
        ("generator", "optimiser", "images.size", "images.c", "start", "evaluations"),
    ),
    ("from_instance", "noise", ("start",)),
    ("from_batch", "noise", ("start",)),
    ("larger", "noise", ("images.heldout", "evaluations")),
    ("largest", "noise", ("images.heldout", "evaluations")),
    ("noisy", "instance", ("generator", "optimiser", "objective.content_weight")),
    ("diverse", "noisy", DIVERSITY),
    ("pyramid_instance", "instance", ("generator", "optimiser", "images.size")),
    ("pyramid_batch", "pyramid_instance", ("generator.norm",)),
    ("pyramid_few", "pyramid_batch", ("images.crops",)),
    ("skip_instance", "instance", ("generator", "optimiser", "images.size")),
    ("skip_batch", "skip_instance", ("generator.norm",)),
)
TEXTURE_PAIRS = (
    ("pyramid", "collapsed", ("generator", *RATE)),
    ("diverse", "collapsed", ("generator.norm", *RATE, *DIVERSITY)),
    ("pyramid_batch", "collapsed", ("generator", *RATE)),
    ("pyramid_instance", "collapsed", ("generator", *RATE)),
    ("collapsed_batch", "collapsed", ("generator.norm", *RATE)),
    ("collapsed_instance", "collapsed", ("generator.norm", *RATE)),
    ("plain", "collapsed", ("objective.normalise_gradients",)),
)


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested sections with its dotted key."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def differences(run: Run, other: Run) -> list[str]:
    """The dotted keys in which two runs differ, besides name and seed."""
    a, b = (dict(leaves(dataclasses.asdict(r))) for r in (run, other))
    absent = object()
    keys = [key for key in {**a, **b} if key not in ("name", "seed")]
    return sorted(key for key in keys if a.get(key, absent) != b.get(key, absent))


def compare(
    where: str, parts: Mapping[str, str], runs: Mapping[str, Run], pairs: Sequence[Pair]
) -> None:
    """Raise ValueError for the first pair that differs in more than it may."""
    for key, like, free in pairs:
        run, other = runs[parts[key]], runs[parts[like]]
        # A baseline has fewer sections than a training: only what both have is held together.
        mixed = type(run) is not type(other)
        for found in differences(run, other):
            training_alone = mixed and found.startswith(ONLY_TRAININGS)
            if not found.startswith(free) and not training_alone:
                raise ValueError(
                    f"{where}.{key} ('{parts[key]}') differs from {where}.{like} "
                    f"('{parts[like]}') in {found}: their numbers would not compare"
                )


def check_stylization(parts: StylizationParts, runs: Mapping[str, Run]) -> None:
    """The stylization parts are what their names say and differ only as their comparison needs.

    Args:
        runs: every stylization run by name, with one seed.

    Raises:
        ValueError: naming the key.
    """
    where, named = "figures.stylization", dataclasses.asdict(parts)
    shown = {key: named.pop(key) for key in ("content", "uniform")}
    networks = {"pyramid": TextureNetV1, "skip": SkipNet}
    starts = {
        "noise": "noise",
        "from_instance": parts.instance,
        "from_batch": parts.batch,
        "larger": "noise",
        "largest": "noise",
    }
    for key, name in named.items():
        kind = Optimisation if key in starts else Training
        known = [n for n, run in runs.items() if isinstance(run, kind)]
        if name not in known:
            raise ValueError(f"{where}.{key} is '{name}'; use one of {', '.join(known)}")
        run = runs[name]
        if isinstance(run, Optimisation):
            if run.start != starts[key]:
                raise ValueError(f"{where}.{key} starts from '{run.start}', wanted '{starts[key]}'")
            continue
        network = networks.get(key.partition("_")[0], StyleNet)
        if not isinstance(run.generator, network):
            raise ValueError(f"{where}.{key} is a {run.generator.name}")
        wanted = re.sub("^(pyramid|skip)_", "", key).replace("few", "batch")
        if key not in ("noisy", "diverse") and run.generator.norm != wanted:
            raise ValueError(f"{where}.{key} is a run with generator.norm '{run.generator.norm}'")
        if key in ("noisy", "diverse") and not getattr(run.generator, "noise_channels", 0):
            raise ValueError(f"{where}.{key} has generator.noise_channels 0")
        if key in ("noisy", "diverse") and run.generator.norm != "instance":
            raise ValueError(f"{where}.{key} is a run with generator.norm '{run.generator.norm}'")
        _check_diversity(f"{where}.{key}", run, key == "diverse")
        crops = stylization(run).crops
        if (key == "pyramid_few") != bool(crops):
            raise ValueError(f"{where}.{key} has images.crops {crops or 'null'}")
    if len({parts.noise, parts.larger, parts.largest}) < 3:
        raise ValueError(f"{where}: noise, larger and largest must be three baselines")
    for key, image in shown.items():
        heldout = stylization(runs[parts.instance]).heldout
        if image not in heldout:
            raise ValueError(f"{where}.{key} is '{image}'; use one of {', '.join(heldout)}")
    compare(where, named, runs, STYLIZATION_PAIRS)


def check_textures(parts: TextureParts, runs: Mapping[str, Run], swept: str) -> None:
    """The same for the texture parts.

    Args:
        runs: every texture run by name, on one exemplar with one seed.
        swept: the run whose temperature is chosen.
    """
    where, named = "figures.textures", dataclasses.asdict(parts)
    if parts.diverse != swept:
        raise ValueError(
            f"{where}.diverse is '{parts.diverse}'; textures.sweep chooses the temperature of "
            f"'{swept}'"
        )
    for key, name in named.items():
        kind = Optimisation if key == "gatys" else Training
        known = [n for n, run in runs.items() if isinstance(run, kind)]
        if name not in known:
            raise ValueError(f"{where}.{key} is '{name}'; use one of {', '.join(known)}")
        run = runs[name]
        if isinstance(run, Optimisation):
            continue
        network = TextureNetV1 if key.startswith("pyramid") else TextureNetV2
        if not isinstance(run.generator, network):
            raise ValueError(f"{where}.{key} is a {run.generator.name}")
        _check_diversity(f"{where}.{key}", run, key == "diverse")
        if run.objective.normalise_gradients == (key == "plain"):
            raise ValueError(
                f"{where}.{key} has normalise_gradients {run.objective.normalise_gradients}"
            )
        if key.endswith(("_batch", "_instance")) and run.generator.norm not in key:
            raise ValueError(f"{where}.{key} has norm '{run.generator.norm}'")
    compare(where, named, runs, TEXTURE_PAIRS)


def _check_diversity(key: str, run: Training, wanted: bool) -> None:
    weight = run.objective.diversity_weight
    if bool(weight) != wanted:
        raise ValueError(f"{key} has diversity_weight {weight:g}")
