"""Runs on somebody's own images: what the workflow's configuration says, from a preset instead.

``quick`` is for two cores and minutes, with the descriptor that is in the repository; ``paper`` has
the sizes and lengths of the paper's scale (``config/paper.yaml``), for a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from texnet import config
from texnet.config import (
    Acceleration,
    Descriptor,
    DescriptorName,
    Images,
    Objective,
    Optimiser,
    Texture,
    Training,
)
from texnet.data import load_image
from texnet.errors import DataError, UsageError
from texnet.fields import Device
from texnet.networks import StyleNet, TextureNetV1, TextureNetV2
from texnet.registry import PHOTOS
from texnet.textures import V1_OBJECTIVE
from texnet.validation import explain

PHOTOGRAPHS = ("astronaut", "china", "coffee", "flower", "motorcycle", "rocket", "chelsea")
"""Photographs that come with the dependencies and show what photographs show."""
SMALLEST = 64
"""Side of the smallest sample that every texture network can be trained on, in pixels."""
SHRUNK = 4
"""Shorter side of a content image over that of a crop, at most: crops have half of it or more."""
EVALUATIONS_SHOWN = 40
"""How often in a training the held-out images are looked at."""


@dataclass(frozen=True)
class Preset:
    """How large, how long and with which descriptor."""

    descriptor: Descriptor
    stylenet: StyleNet
    style_objective: Objective
    style_optimiser: Optimiser
    style_size: int
    """Longer side of the style exemplar, in pixels."""
    crop: int
    """Side of a training crop, in pixels."""
    contents: tuple[str, ...]
    noise_channels: int
    """Of a stylization with the diversity term."""
    convention: Literal["paper", "authors_code"]
    """Of the diversity term."""
    diverse_iterations: int
    """Of a stylization with the diversity term."""
    diverse_temperature: float
    """T of a stylization with the diversity term."""
    diverse_content: float
    """Content weight beside it: noise is a cheap source of strokes, which would drown content."""
    texture_objective: Objective
    texture_optimiser: Optimiser
    rates: tuple[float, float]
    """Learning rates of TextureNetV1 and TextureNetV2."""
    sample: int
    """Side of a texture sample in training, in pixels."""
    texture_temperature: float
    """T of a texture network with the diversity term."""
    evaluations: tuple[int, int]
    """Of the objective in the optimisation of a texture, and of a stylization."""
    side: int
    """Longer side of an optimised image, in pixels."""
    acceleration: Acceleration = field(default_factory=Acceleration)


QUICK = Preset(
    descriptor=Descriptor(name="vgg19_lite", pool="avg"),
    stylenet=StyleNet(width=16, blocks=3, upsampling="bilinear"),
    style_objective=Objective(style_weight=10.0, content_weight=8.0),
    style_optimiser=Optimiser(iterations=1000, batch=2, lr=0.003, decay_every=200),
    style_size=320,
    crop=128,
    contents=PHOTOGRAPHS,
    noise_channels=1,
    convention="paper",
    diverse_iterations=1000,
    diverse_temperature=5e5,
    diverse_content=20.0,
    texture_objective=replace(
        V1_OBJECTIVE, style_layers=("relu1_2", "relu2_2", "relu3_2", "relu4_2")
    ),
    texture_optimiser=Optimiser(iterations=500, batch=4, lr=0.005, decay_every=100),
    rates=(0.005, 0.002),
    sample=128,
    texture_temperature=50.0,
    evaluations=(200, 200),
    side=384,
)
"""After config/config.yaml, larger and longer."""
PAPER = Preset(
    descriptor=Descriptor(name="vgg19", pool="max"),
    stylenet=StyleNet(),
    style_objective=Objective(),
    style_optimiser=Optimiser(iterations=50_000, batch=4, lr=0.001),
    style_size=300,
    crop=256,
    contents=("bsds500_train", "bsds500_test"),
    noise_channels=3,
    convention="authors_code",
    diverse_iterations=20_000,
    diverse_temperature=1e4,
    diverse_content=1.0,
    texture_objective=V1_OBJECTIVE,
    texture_optimiser=Optimiser(iterations=3000, batch=16, lr=0.005, decay_every=600),
    rates=(0.005, 0.002),
    sample=256,
    texture_temperature=10.0,
    evaluations=(2000, 500),
    side=512,
    acceleration=Acceleration(precision="bf16", graph=True, loaders=4),
)
"""As config/paper.yaml, where the sources of the numbers are."""
PRESETS = {"quick": QUICK, "paper": PAPER}
Temperature = float | Literal["usual"] | None
"""T of the diversity term: a number, the preset's, or no such term."""


@dataclass(frozen=True)
class Choices:
    """What a user may choose besides the preset; None leaves it to the preset."""

    preset: str = "quick"
    descriptor: DescriptorName | None = None
    size: int | None = None
    exemplar_size: int | None = None
    iterations: int | None = None
    batch: int | None = None
    seed: int = 0
    threads: int = 1
    device: Device = "auto"

    @property
    def acceleration(self) -> Acceleration:
        """The preset's where there is a GPU; bfloat16 is slow on most processors."""
        import torch

        there = torch.cuda.is_available() and self.device in ("auto", "cuda")
        return self.of.acceleration if there else Acceleration()

    @property
    def of(self) -> Preset:
        """The preset, with the descriptor that was chosen."""
        preset = PRESETS[self.preset]
        if self.descriptor in (None, preset.descriptor.name):
            return preset
        pool: Literal["max", "avg"] = (
            "avg" if self.descriptor in ("vgg19_lite", "random") else "max"
        )
        return replace(preset, descriptor=Descriptor(name=self.descriptor, pool=pool))

    def optimiser(self, usual: Optimiser, lr: float | None = None) -> Optimiser:
        """As usual, but for what was chosen; the learning rate falls as often in any length."""
        iterations = self.iterations or usual.iterations
        every = max(1, round(usual.decay_every * iterations / usual.iterations))
        batch = self.batch or usual.batch
        return replace(
            usual, iterations=iterations, decay_every=every, batch=batch, lr=lr or usual.lr
        )

    def rhythm(self, iterations: int) -> dict[str, int]:
        """How often a training looks at the held-out images, and keeps a checkpoint."""
        every = max(1, iterations // EVALUATIONS_SHOWN)
        return {"heldout_every": every, "checkpoint_every": every}


def cores() -> int:
    """CPU threads that a computation of one user takes: half of the cores, 4 at most.

    Small networks gain little from a second thread, and another program on its core makes both wait
    for each other at every layer: a training then takes many times as long as with one.
    """
    import psutil

    there = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else None
    logical = len(there) if there else psutil.cpu_count() or 1
    return max(1, min(4, min(logical, psutil.cpu_count(logical=False) or logical) // 2))


def label(path: str) -> str:
    """The name of a run on an image: letters, digits and single underscores."""
    return re.sub("[^A-Za-z0-9]+", "_", Path(path).stem).strip("_") or "image"


def texture_images(exemplar: str, choices: Choices, size: int | None = None) -> Texture:
    """The exemplar, at the scale at which its shorter side is twice a sample's, and never enlarged.

    Raises:
        DataError: the exemplar is smaller than a sample.
    """
    size = size or choices.size or choices.of.sample
    height, width = load_image(exemplar, 2 * size).shape[-2:]
    short, long = sorted((height, width))
    if short < size and not choices.exemplar_size:
        smaller = short // 32 * 32
        remedy = f"--size {smaller} or " if smaller >= SMALLEST else ""
        raise DataError(
            f"{exemplar}: {width}x{height} pixels; samples of {size} need a shorter side of as "
            f"many: use {remedy}a larger image"
        )
    long_side = choices.exemplar_size or -(-min(short, 2 * size) * long // short)
    return Texture(exemplar=exemplar, exemplar_size=long_side, size=size)


@contextmanager
def one_line() -> Iterator[None]:
    """UsageError for choices that no run can have."""
    try:
        yield
    except ValidationError as error:
        raise UsageError(explain(error.errors()[0], Training)) from error


def texture_training(
    exemplar: str, choices: Choices, network: str = "v1", temperature: Temperature = None
) -> Training:
    """A texture network to train on one image.

    Args:
        exemplar: a name or a file.
        choices: what else was chosen.
        network: ``v1``, the pyramid, of any size and tileable; ``v2``, of one size.
        temperature: T of the diversity term; None leaves the term out.
    """
    preset = choices.of
    v1, v2 = preset.rates
    optimiser = choices.optimiser(preset.texture_optimiser, v1 if network == "v1" else v2)
    pyramid = TextureNetV1(name="texturenet_v1", norm="instance")
    return Training(
        name=label(exemplar),
        seed=choices.seed,
        descriptor=preset.descriptor,
        generator=pyramid if network == "v1" else TextureNetV2(name="texturenet_v2"),
        objective=_diverse(
            preset.texture_objective, temperature, preset.texture_temperature, choices
        ),
        optimiser=optimiser,
        images=texture_images(exemplar, choices),
        device=choices.device,
        threads=choices.threads,
        acceleration=choices.acceleration,
        **choices.rhythm(optimiser.iterations),
    )


def style_training(
    style: str,
    choices: Choices,
    contents: Sequence[str] = (),
    previews: Sequence[str] = (),
    content_weight: float | None = None,
    temperature: Temperature = None,
) -> Training:
    """A StyleNet to train after one image.

    Args:
        style: a name or a file.
        choices: what else was chosen.
        contents: images, folders or sets to train on; the preset's where none are named.
        previews: images that are never trained on, to look at.
        content_weight: alpha; the preset's where None.
        temperature: T of the diversity term, with noise; None for neither.
    """
    preset = choices.of
    usual = preset.style_optimiser
    if temperature is not None:
        usual = replace(usual, iterations=preset.diverse_iterations)
    optimiser = choices.optimiser(usual)
    shown = (
        tuple(previews)
        or tuple(name for name in (*reversed(PHOTOGRAPHS), *PHOTOS) if name not in contents)[:1]
    )
    known = tuple(contents) or tuple(name for name in preset.contents if name not in shown)
    objective = preset.style_objective
    if temperature is not None:
        objective = replace(objective, content_weight=preset.diverse_content)
    if content_weight is not None:
        objective = replace(objective, content_weight=content_weight)
    size = choices.size or preset.crop
    noise = 0 if temperature is None else preset.noise_channels
    return Training(
        name=label(style),
        seed=choices.seed,
        descriptor=preset.descriptor,
        generator=replace(preset.stylenet, noise_channels=noise),
        objective=_diverse(objective, temperature, preset.diverse_temperature, choices),
        optimiser=optimiser,
        images=Images(
            style=style,
            style_size=choices.exemplar_size or round(preset.style_size * size / preset.crop),
            size=size,
            heldout_size=2 * size,
            content_side=SHRUNK * size,
            contents=known,
            heldout=shown,
        ),
        device=choices.device,
        threads=choices.threads,
        acceleration=choices.acceleration,
        **choices.rhythm(optimiser.iterations),
    )


def _diverse(
    objective: Objective, temperature: Temperature, usual: float, choices: Choices
) -> Objective:
    """The objective with the diversity term.

    Raises:
        UsageError: the preset's T is wanted with another descriptor, whose gradients have another
            length.
    """
    if temperature is None:
        return objective
    if temperature == "usual":
        other = choices.descriptor
        if other not in (None, PRESETS[choices.preset].descriptor.name):
            raise UsageError(
                f"--diversity: the preset's T, {usual:g}, is not for {other}; name one, from low "
                "to high until samples differ, below that at which spots of brightness appear"
            )
        temperature = usual
    return replace(
        objective,
        diversity_weight=1.0,
        temperature=temperature,
        convention=PRESETS[choices.preset].convention,
    )


def optimisation(
    exemplar: str,
    choices: Choices,
    evaluations: int | None = None,
    content: str | None = None,
    content_weight: float | None = None,
) -> config.Optimisation:
    """Generation by optimisation of a texture, or after a style where there is a content image.

    Raises:
        UsageError: a weight of a content that is not there.
    """
    preset = choices.of
    images: Images | Texture
    if content is None:
        if content_weight is not None:
            raise UsageError("--content-weight has no effect on a texture: leave it out")
        objective = replace(preset.texture_objective, normalise_gradients=False)
        side = choices.size or 2 * preset.sample
        images = texture_images(exemplar, choices, side)
        images = replace(images, samples=config.GROUP)
    else:
        objective = preset.style_objective
        if content_weight is not None:
            objective = replace(objective, content_weight=content_weight)
        side = choices.size or preset.side
        style_side = choices.exemplar_size or side
        images = Images(
            style=exemplar,
            style_size=style_side,
            size=side,
            heldout_size=side,
            contents=tuple(name for name in PHOTOGRAPHS if name != content)[:1],
            heldout=(content,),
        )
    return config.Optimisation(
        name=label(exemplar),
        seed=choices.seed,
        descriptor=preset.descriptor,
        objective=objective,
        images=images,
        start="noise",
        evaluations=evaluations or preset.evaluations[content is not None],
        device=choices.device,
        threads=choices.threads,
    )
