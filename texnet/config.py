"""What a run is: frozen dataclasses, validated, the one source of every hyper-parameter.

A :class:`Training` or :class:`Optimisation`, written as ``run.json``, is all that ``texnet train``
or ``texnet optimize`` needs. They follow from an :class:`texnet.experiment.Experiment`.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag
from pydantic.dataclasses import dataclass

from texnet.artifacts import read_json
from texnet.errors import UsageError
from texnet.fields import (
    STRICT,
    Device,
    Layer,
    Name,
    Pixels,
    Positive,
    Rate,
    Seed,
    Share,
    Weight,
)
from texnet.networks import Generator, SkipNet, StyleNet, TextureNetV1, TextureNetV2
from texnet.registry import manifest, registered
from texnet.validation import parse

# Names of the registry that hold a descriptor's weights.
REGISTERED = {
    "vgg19": ("vgg19", "vgg19_exact"),
    "vgg19_torchvision": ("vgg19_torchvision",),
}
DescriptorName = Literal["vgg19", "vgg19_torchvision", "vgg19_lite", "random"]
LITE_WEIGHTS = Path(__file__).resolve().parents[1] / "data" / "vgg19_lite.safetensors"


@dataclass(frozen=True, config=STRICT)
class Descriptor:
    """The network whose activations define texture and content."""

    name: DescriptorName = "vgg19_lite"
    """vgg19_lite is in the repository; vgg19 (Caffe's, the paper's) and vgg19_torchvision (another
    network, with another normalisation) are fetched; random has untrained filters."""
    pool: Literal["max", "avg"] = "max"
    """Max pooling as the authors, or average pooling as Gatys et al."""
    weights: str | None = None
    """Weights: a name of data/registry.csv or a file; null for the registry's under the network's
    name (for vgg19 also TEXNET_WEIGHTS)."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = None
    """Checksum that the weights file must have."""
    winograd: bool = True
    """Whether its wide layers are convolved in a quarter of the multiplications, on the CPU in
    fp32; their rounding is three to twelve times as large (2e-6 of the standard deviation)."""

    def __post_init__(self) -> None:
        if self.weights in registered() and self.weights not in REGISTERED.get(self.name, ()):
            fit = ", ".join(REGISTERED.get(self.name, ())) or "none"
            raise ValueError(
                f"descriptor.weights '{self.weights}' is not for '{self.name}'; of the registry's "
                f"names these are: {fit}"
            )


@dataclass(frozen=True, config=STRICT)
class Objective:
    """Weights and layers of the objective; the defaults are the authors' recommended command."""

    style_layers: tuple[Layer, ...] = ("relu1_2", "relu2_2", "relu3_2", "relu4_2")
    """Layers of the texture loss (authors' README, master)."""
    content_layers: tuple[Layer, ...] = ("relu4_2",)
    """Layers of the content loss (authors' README, master)."""
    style_weight: Weight = 10.0
    """Factor of the texture loss (authors' README, master)."""
    content_weight: Weight = 1.0
    """Factor of the content loss, the paper's alpha (authors' README, master)."""
    tv_weight: Weight = 0.0
    """Factor of the total variation (authors' train.lua, default 0)."""
    temperature: Rate = 1.0
    """T of eq. 10: larger is more diverse."""
    diversity_weight: Weight = 0.0
    """lambda of eq. 10; 0 leaves the diversity term out, 1 is the paper's."""
    diversity_distance: Literal["pixels", "highpass", "features"] = "pixels"
    """Distance of the diversity term: of images, without their low frequencies, or of features."""
    convention: Literal["paper", "authors_code"] = "paper"
    """Eq. 10, or the formula of the authors' diversity branch."""
    normalise_gradients: bool = False
    """Scale each texture layer's gradient to L1 norm 1 (section 5.1; authors' v1 branch)."""

    def __post_init__(self) -> None:
        if not self.style_weight and not self.content_weight:
            raise ValueError("style_weight and content_weight are both 0: nothing to minimise")
        for term in ("style", "content"):
            if getattr(self, f"{term}_weight") and not getattr(self, f"{term}_layers"):
                raise ValueError(f"{term}_layers is empty; name a layer or set {term}_weight to 0")


@dataclass(frozen=True, config=STRICT)
class Optimiser:
    """Adam, the learning rate times ``decay`` every ``decay_every`` iterations."""

    iterations: Positive = 50_000
    """Training iterations (authors' README, master)."""
    batch: Positive = 4
    """Content images in a batch (authors' README, master)."""
    lr: Rate = 1e-2
    """Learning rate (authors' README, master)."""
    decay: Share = 0.8
    """Factor of the learning rate (authors' train.lua)."""
    decay_every: Positive = 2000
    """Iterations between decays (authors' train.lua)."""


@dataclass(frozen=True, config=STRICT)
class Acceleration:
    """How trainings are computed: what changes rounding and speed, not what is minimised.

    Optimisations and all that is measured are in fp32.
    """

    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Of convolutions: tf32 on cuda alone; bf16 by autocast. Gram matrices, losses and weights stay
    in fp32."""
    channels_last: bool = True
    """Memory layout of the generator's weights, and with them of its maps (the descriptor's are
    always channels last)."""
    compile: bool = False
    """torch.compile of the descriptor, on cuda of the generator too."""
    graph: bool = False
    """On cuda, replay the whole training step as one CUDA graph."""
    part: Positive | None = None
    """Images of a batch that the descriptor takes at once, to save memory; null for all."""
    loaders: Annotated[int, Field(ge=0, strict=True)] = 0
    """Threads that make batches ahead of the training; 0 makes each when it is needed."""


@dataclass(frozen=True, config=STRICT)
class Images:
    """Exemplar and content images: names of photographs, of exemplars, of the registry; files."""

    style: str = "swirls"
    """The style exemplar."""
    style_size: Pixels = 256
    """Longer side of the style exemplar, in pixels."""
    size: Pixels = 256
    """Side of a training crop, in pixels."""
    heldout_size: Pixels = 256
    """Side of a held-out image, in pixels."""
    crop_scale: Share = 0.5
    """Smallest training crop, as a share of the image's shorter side."""
    crops: Positive | None = None
    """How many different training crops there are; null draws a new one each time."""
    content_side: Pixels | None = None
    """Shorter side to which larger content images are shrunk when they are read; null shrinks
    none. A crop of a photograph of 12 megapixels takes as long as a step."""
    contents: Annotated[tuple[str, ...], Field(min_length=1)] = ("astronaut",)
    """Content images to train on; also sets of the registry (bsds500_train) and folders."""
    heldout: Annotated[tuple[str, ...], Field(min_length=1)] = ("chelsea",)
    """Content images never trained on, for every measured number."""

    def __post_init__(self) -> None:
        if both := set(self.contents) & set(self.heldout):
            raise ValueError(f"'{min(both)}' is in both contents and heldout")
        if len(set(self.heldout)) < len(self.heldout):
            raise ValueError("heldout names an image twice")

    @property
    def reference(self) -> tuple[str, int]:
        """The image whose texture is wanted, and its longer side."""
        return self.style, self.style_size

    @property
    def files(self) -> tuple[str, ...]:
        """Every image that is read."""
        return (self.style, *self.contents, *self.heldout)


LARGEST_EVALUATION = 512
"""Longest side at which the table of speed has the objective: its gradient keeps every map."""
GROUP = 8
"""Samples among which diversity is measured; the measured samples come in groups of as many."""


@dataclass(frozen=True, config=STRICT)
class Texture:
    """A texture exemplar and samples of it: a photograph name, an exemplar name or a file."""

    exemplar: str
    """The texture exemplar."""
    exemplar_size: Pixels = 256
    """Longer side of the exemplar, in pixels."""
    size: Pixels = 256
    """Side of a sample, in pixels."""
    samples: Annotated[int, Field(multiple_of=GROUP, gt=0, strict=True)] = 32
    """Samples behind every measured number, a multiple of 8."""

    def __post_init__(self) -> None:
        if self.exemplar_size < self.size:
            raise ValueError(
                f"exemplar_size {self.exemplar_size} is smaller than size {self.size}: a sample "
                "would be larger than what it should look like"
            )

    @property
    def reference(self) -> tuple[str, int]:
        """The image whose texture is wanted, and its longer side."""
        return self.exemplar, self.exemplar_size

    @property
    def files(self) -> tuple[str, ...]:
        """Every image that is read."""
        return (self.exemplar,)


def _pictured(value: Any) -> str:  # noqa: ANN401 (whatever the file holds)
    known = "exemplar" in value if isinstance(value, dict) else isinstance(value, Texture)
    return "texture" if known else "stylization"


Pictures = Annotated[
    Annotated[Images, Tag("stylization")] | Annotated[Texture, Tag("texture")],
    Discriminator(_pictured),
]


@dataclass(frozen=True, config=STRICT)
class Training:
    """One generator to train: the content of a training's ``run.json``."""

    name: Name
    """The run's name in the configuration, without the seed."""
    seed: Seed
    """Seed of the initial weights and of the data order."""
    descriptor: Descriptor
    generator: Generator
    objective: Objective
    optimiser: Optimiser
    images: Pictures
    device: Device = "auto"
    """auto takes an accelerator where there is one."""
    threads: Positive = 1
    """CPU threads; another number gives other bits."""
    acceleration: Acceleration = Field(default_factory=Acceleration)
    heldout_every: Positive = 500
    """Iterations between evaluations on the held-out images."""
    checkpoint_every: Positive = 500
    """Iterations between checkpoints."""

    def __post_init__(self) -> None:
        g, batch = self.generator, self.optimiser.batch
        if g.norm not in ("instance", "none") and batch == 1:
            raise ValueError(
                f"generator.norm '{g.norm}' with optimiser.batch 1 would equal "
                "instance norm in training; use a batch of 2 or more, or norm 'instance'"
            )
        if self.objective.diversity_weight and batch == 1:
            raise ValueError(
                f"objective.diversity_weight is {self.objective.diversity_weight:g} and "
                "optimiser.batch 1: a sample has no neighbour; use a batch of 2 or more"
            )
        if self.objective.diversity_weight and (
            isinstance(g, SkipNet) or (isinstance(g, StyleNet) and not g.noise_channels)
        ):
            raise ValueError(
                f"objective.diversity_weight is {self.objective.diversity_weight:g} and the "
                "generator takes no noise: there is nothing to diversify; set noise_channels to 3"
            )
        _check_task(self.images, self.objective)
        texture = isinstance(self.images, Texture)
        if isinstance(g, StyleNet | SkipNet if texture else TextureNetV2):
            wanted = "a texture network" if texture else "stylenet, skip or texturenet_v1"
            raise ValueError(f"generator.name is '{g.name}'; these images need {wanted}")
        size = self.images.size
        if isinstance(g, TextureNetV2) and (size < 8 or size & (size - 1)):
            near = 1 << (size.bit_length() - 1)
            raise ValueError(
                f"images.size is {size}; texturenet_v2 makes 4 times a power of two: "
                f"use {near} or {2 * near}"
            )
        if isinstance(g, TextureNetV1) and size % 32:
            fitting = sorted({max(64, size - size % 32), max(64, size + -size % 32)})
            raise ValueError(
                f"images.size is {size}; texturenet_v1 trains at multiples of 32 (samples may "
                f"have any size): use {' or '.join(map(str, fitting))}"
            )
        coarsest = {TextureNetV1: 32, SkipNet: 16}.get(type(g), 1)
        for key in ("size", "heldout_size"):
            side = getattr(self.images, key, 2 * coarsest)
            # Batch norm meets single images, and then its own statistics, in measuring alone.
            if g.norm in ("instance", "batch")[: 1 + (key != "size")] and side <= coarsest > 1:
                raise ValueError(
                    f"images.{key} is {side}; {g.name} with norm '{g.norm}' needs {2 * coarsest} "
                    "or more: its coarsest scale has one pixel, of which nothing would be left"
                )


@dataclass(frozen=True, config=STRICT)
class Optimisation:
    """Generation by optimisation (Gatys et al.): the content of a baseline's ``run.json``."""

    name: Name
    """The run's name in the configuration, without the seed."""
    seed: Seed
    """Seed of the noise, or of the trained generator that gives the start."""
    descriptor: Descriptor
    objective: Objective
    images: Pictures
    start: str
    """noise, or the name of the training whose outputs are finetuned."""
    evaluations: Positive
    """Evaluations of the objective and its gradient that L-BFGS may use."""
    device: Device = "auto"
    threads: Positive = 1

    def __post_init__(self) -> None:
        _check_task(self.images, self.objective)
        for key in ("diversity_weight", "normalise_gradients"):
            if getattr(self.objective, key):
                raise ValueError(
                    f"objective.{key} is {getattr(self.objective, key)}; L-BFGS optimises one "
                    "image with its true gradient: leave it out"
                )


def _check_task(images: Images | Texture, objective: Objective) -> None:
    if isinstance(images, Texture) and objective.content_weight:
        raise ValueError(
            f"objective.content_weight is {objective.content_weight:g} and images.exemplar a "
            "texture, which has no content image; use 0"
        )


def read_run(path: Path) -> Training | Optimisation:
    """The run in a ``run.json``."""
    content = read_json(Path(path))
    if "start" in content:
        return parse(Optimisation, content, str(path))
    return parse(Training, content, str(path))


def stylization(run: Training | Optimisation) -> Images:
    """The images of a run that stylizes; UsageError for one that makes textures."""
    if isinstance(run.images, Images):
        return run.images
    raise UsageError(
        f"run '{run.name}' makes textures and has no content images; name one that stylizes"
    )


def weights_file(descriptor: Descriptor) -> Path | None:
    """What a descriptor's weights are read from; None for untrained filters.

    A file, or the manifest of a name of the registry: the key ``descriptor.weights``; else, for
    vgg19, the environment variable ``TEXNET_WEIGHTS``; else the network's own name. That of
    vgg19_lite is in the repository.
    """
    if descriptor.weights and descriptor.weights in registered():
        return manifest(descriptor.weights)
    if descriptor.weights or descriptor.name == "random":
        return Path(descriptor.weights) if descriptor.weights else None
    if descriptor.name == "vgg19_lite":
        return LITE_WEIGHTS
    named = os.environ.get("TEXNET_WEIGHTS") if descriptor.name == "vgg19" else None
    return Path(named) if named else manifest(descriptor.name)


def to_json(run: Training | Optimisation) -> dict[str, Any]:
    """A run as plain JSON types, keys in the order of the classes."""
    return json.loads(json.dumps(dataclasses.asdict(run)))


def digest(run: Training | Optimisation) -> str:
    """Eight hexadecimal digits that identify a run."""
    return hashlib.sha256(json.dumps(to_json(run), sort_keys=True).encode()).hexdigest()[:8]
