"""What a run is: frozen dataclasses, validated, the one source of every hyper-parameter.

A :class:`Training` or :class:`Optimisation`, written as ``run.json``, is all that ``texnet train``
or ``texnet optimize`` needs. They follow from an :class:`Experiment`, ``config/*.yaml``.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
)
from pydantic.dataclasses import dataclass

from texnet.artifacts import read_json
from texnet.validation import Section, explain, parse

LITE_WEIGHTS = Path(__file__).resolve().parents[1] / "data" / "vgg19_lite.safetensors"
STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+(_[A-Za-z0-9]+)*$")]
Layer = Literal[
    "relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu3_4",
    "relu4_1", "relu4_2", "relu4_3", "relu4_4", "relu5_1", "relu5_2", "relu5_3", "relu5_4",
]  # fmt: skip
Positive = Annotated[int, Field(gt=0, strict=True)]
Pixels = Annotated[int, Field(ge=16, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
# YAML reads 1e-3 as a string, so strings of numbers are numbers; yes and true are not.
NotBool = BeforeValidator(lambda value: str(value) if isinstance(value, bool) else value)
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False), NotBool]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False), NotBool]
Share = Annotated[float, Field(gt=0, le=1), NotBool]
Device = Literal["cpu", "cuda", "mps", "auto"]
Norm = Literal["instance", "batch", "instance_first", "lrn_first", "none"]


@dataclass(frozen=True, config=STRICT)
class Descriptor:
    """The network whose activations define texture and content."""

    name: Literal["vgg19", "vgg19_lite", "random"] = "vgg19_lite"
    """vgg19_lite is in the repository; vgg19 needs its weights; random has untrained filters."""
    pool: Literal["max", "avg"] = "max"
    """Max pooling as the authors, or average pooling as Gatys et al."""
    weights: str | None = None
    """Weights file; for vgg19 also TEXNET_WEIGHTS or resources/vgg19.safetensors."""
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = None
    """Checksum that the weights file must have."""


@dataclass(frozen=True, config=STRICT)
class Generator:
    """StyleNet, the residual generator (paper section 5.2; authors' models/johnson.lua)."""

    norm: Norm = "instance"
    """Normalisation: IN or BN throughout, or BN with IN or LRN of the input (figure 2), or none."""
    width: Positive = 32
    """Channels after the first convolution; the residual blocks have four times as many."""
    blocks: Positive = 5
    """Residual blocks."""
    noise_channels: Annotated[int, Field(ge=0, strict=True)] = 0
    """Channels of U(0, 1) noise appended to the content image."""
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    """Transposed convolutions, or bilinear doubling and a convolution (no checkerboard)."""


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
class Images:
    """Exemplar and content images: photograph names, exemplar names or files."""

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
    contents: Annotated[tuple[str, ...], Field(min_length=1)] = ("astronaut",)
    """Content images to train on."""
    heldout: Annotated[tuple[str, ...], Field(min_length=1)] = ("chelsea",)
    """Content images never trained on, for every measured number."""

    def __post_init__(self) -> None:
        if both := set(self.contents) & set(self.heldout):
            raise ValueError(f"'{min(both)}' is in both contents and heldout")
        if len(set(self.heldout)) < len(self.heldout):
            raise ValueError("heldout names an image twice")


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
    images: Images
    device: Device = "auto"
    """auto takes an accelerator where there is one."""
    threads: Positive = 1
    """CPU threads; another number gives other bits."""
    heldout_every: Positive = 500
    """Iterations between evaluations on the held-out images."""
    checkpoint_every: Positive = 500
    """Iterations between checkpoints."""

    def __post_init__(self) -> None:
        if self.generator.norm not in ("instance", "none") and self.optimiser.batch == 1:
            raise ValueError(
                f"generator.norm '{self.generator.norm}' with optimiser.batch 1 would equal "
                "instance norm in training; use a batch of 2 or more, or norm 'instance'"
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
    images: Images
    start: str
    """noise, or the name of the training whose outputs are finetuned."""
    evaluations: Positive
    """Evaluations of the objective and its gradient that L-BFGS may use."""
    device: Device = "auto"
    threads: Positive = 1


def _change(cls: type) -> type[BaseModel]:
    """The model of a partial override of ``cls``: every key optional."""
    fields = {f.name: (f.type | None, None) for f in dataclasses.fields(cls)}
    return create_model(f"{cls.__name__}Change", __config__=ConfigDict(extra="forbid"), **fields)


GeneratorChange = _change(Generator)
ObjectiveChange = _change(Objective)
OptimiserChange = _change(Optimiser)
ImagesChange = _change(Images)


@dataclass(frozen=True, config=STRICT)
class TrainingEntry:
    """How one training departs from the shared sections."""

    generator: GeneratorChange = Field(default_factory=GeneratorChange)
    objective: ObjectiveChange = Field(default_factory=ObjectiveChange)
    optimiser: OptimiserChange = Field(default_factory=OptimiserChange)
    images: ImagesChange = Field(default_factory=ImagesChange)


@dataclass(frozen=True, config=STRICT)
class BaselineEntry:
    """How one baseline starts and departs from the shared sections."""

    start: str = "noise"
    """noise, or the name of a training."""
    evaluations: Positive = 500
    """Evaluations of the objective (500 in Gatys' public code)."""
    objective: ObjectiveChange = Field(default_factory=ObjectiveChange)
    images: ImagesChange = Field(default_factory=ImagesChange)


@dataclass(frozen=True, config=STRICT)
class Figure3:
    """Which runs play which part in figure 3."""

    instance: Name
    """Training with instance normalisation."""
    batch: Name
    """Training with batch normalisation."""
    noise: Name
    """Baseline that starts from noise."""
    from_instance: Name
    """Baseline that starts from the instance-norm generator."""
    from_batch: Name
    """Baseline that starts from the batch-norm generator."""
    content: str
    """The held-out image that is shown."""


@dataclass(frozen=True, config=STRICT)
class Figures:
    """The runs behind each figure and its claims."""

    fig3: Figure3


@dataclass(frozen=True, config=STRICT)
class Experiment:
    """The workflow's configuration: shared sections, and the runs that depart from them."""

    scale: Name
    """Name of the scale, shown in tables and captions."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Every run is made once per seed."""
    runs: Annotated[dict[Name, TrainingEntry], Field(min_length=1)]
    """Generators to train."""
    baselines: Annotated[dict[Name, BaselineEntry], Field(min_length=1)]
    """Images to optimise."""
    figures: Figures
    descriptor: Descriptor = Field(default_factory=Descriptor)
    generator: Generator = Field(default_factory=Generator)
    objective: Objective = Field(default_factory=Objective)
    optimiser: Optimiser = Field(default_factory=Optimiser)
    images: Images = Field(default_factory=Images)
    device: Device = "auto"
    """auto takes an accelerator where there is one; cpu keeps results bit-identical."""
    threads: Positive = 1
    """CPU threads of each training; another number gives other bits."""
    heldout_every: Positive = 500
    """Iterations between evaluations on the held-out images."""
    checkpoint_every: Positive = 500
    """Iterations between checkpoints."""

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds names a seed twice: {', '.join(map(str, self.seeds))}")
        if both := set(self.runs) & {*self.baselines, "noise"}:
            raise ValueError(f"runs.{min(both)}: a baseline has this name, or start; rename it")
        for name, entry in self.baselines.items():
            if entry.start != "noise" and entry.start not in self.runs:
                names = ", ".join(["noise", *self.runs])
                raise ValueError(f"baselines.{name}.start is '{entry.start}'; use one of {names}")
        for name, make in self._makers().items():
            try:
                make(name, self.seeds[0])
            except ValidationError as error:
                kind = "runs" if name in self.runs else "baselines"
                problem = explain(error.errors()[0], Experiment)
                raise ValueError(f"{kind}.{name}: {problem}") from error
        known = {"instance": self.runs, "batch": self.runs, "content": self.images.heldout}
        for key, name in dataclasses.asdict(self.figures.fig3).items():
            names = known.get(key, self.baselines)
            if name not in names:
                raise ValueError(f"figures.fig3.{key} is '{name}'; use one of {', '.join(names)}")
        self._check_figure3()

    def _check_figure3(self) -> None:
        """The parts are what their names say, and they are measured by one objective."""
        part, seed = self.figures.fig3, self.seeds[0]
        for key in ("instance", "batch"):
            norm = self.training(getattr(part, key), seed).generator.norm
            if norm != key:
                raise ValueError(f"figures.fig3.{key} is a run with generator.norm '{norm}'")
        starts = {"noise": "noise", "from_instance": part.instance, "from_batch": part.batch}
        for key, start in starts.items():
            found = self.baselines[getattr(part, key)].start
            if found != start:
                raise ValueError(f"figures.fig3.{key} starts from '{found}', wanted '{start}'")
        measured = {}
        for key in ("instance", "batch", *starts):
            name = getattr(part, key)
            run = self._makers()[name](name, seed)
            i = run.images
            measured[key] = (run.objective, i.style, i.style_size, i.heldout, i.heldout_size)
        if other := [key for key in measured if measured[key] != measured["instance"]]:
            raise ValueError(
                f"figures.fig3.{other[0]} has another objective, style or held-out images than "
                "figures.fig3.instance: their numbers would not compare"
            )

    def figure3(self) -> dict[str, Any]:
        """The content of ``results/fig3.json``: scale, seeds, and which run plays which part."""
        parts = dataclasses.asdict(self.figures.fig3)
        return {"scale": self.scale, "seeds": list(self.seeds), **parts}

    def training(self, name: str, seed: int) -> Training:
        """The complete training ``name`` with ``seed``."""
        entry = self.runs[name]
        return Training(
            **self._shared(name, seed, entry),
            generator=_merge(self.generator, entry.generator),
            optimiser=_merge(self.optimiser, entry.optimiser),
            heldout_every=self.heldout_every,
            checkpoint_every=self.checkpoint_every,
        )

    def optimisation(self, name: str, seed: int) -> Optimisation:
        """The complete baseline ``name`` with ``seed``."""
        entry = self.baselines[name]
        return Optimisation(
            **self._shared(name, seed, entry), start=entry.start, evaluations=entry.evaluations
        )

    def _shared(self, name: str, seed: int, entry: TrainingEntry | BaselineEntry) -> dict[str, Any]:
        return {
            "name": name,
            "seed": seed,
            "descriptor": self.descriptor,
            "objective": _merge(self.objective, entry.objective),
            "images": _merge(self.images, entry.images),
            "device": self.device,
            "threads": self.threads,
        }

    def all_runs(self) -> dict[str, Training | Optimisation]:
        """Every run by its directory name, ``{name}_seed{seed}``."""
        makers = self._makers().items()
        return {f"{n}_seed{s}": make(n, s) for n, make in makers for s in self.seeds}

    def _makers(self) -> dict[str, Callable[[str, int], Training | Optimisation]]:
        trainings = dict.fromkeys(self.runs, self.training)
        return trainings | dict.fromkeys(self.baselines, self.optimisation)


def _merge(base: Section, change: BaseModel) -> Section:
    return dataclasses.replace(base, **change.model_dump(exclude_unset=True))


def read_run(path: Path) -> Training | Optimisation:
    """The run in a ``run.json``."""
    content = read_json(Path(path))
    return parse(Optimisation if "start" in content else Training, content, str(path))


def weights_file(descriptor: Descriptor) -> Path | None:
    """Where a descriptor's weights are looked for; None for untrained filters.

    The key ``descriptor.weights``; else, for vgg19, the environment variable ``TEXNET_WEIGHTS`` or
    ``resources/vgg19.safetensors``; for vgg19_lite the file in the repository.
    """
    if descriptor.weights or descriptor.name == "random":
        return Path(descriptor.weights) if descriptor.weights else None
    if descriptor.name == "vgg19_lite":
        return LITE_WEIGHTS
    return Path(os.environ.get("TEXNET_WEIGHTS") or "resources/vgg19.safetensors")


def to_json(run: Training | Optimisation) -> dict[str, Any]:
    """A run as plain JSON types, keys in the order of the classes."""
    return json.loads(json.dumps(dataclasses.asdict(run)))


def digest(run: Training | Optimisation) -> str:
    """Eight hexadecimal digits that identify a run."""
    return hashlib.sha256(json.dumps(to_json(run), sort_keys=True).encode()).hexdigest()[:8]
