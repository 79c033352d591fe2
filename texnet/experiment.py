"""The workflow's configuration, ``config/*.yaml``: shared sections, and the runs that depart."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError
from pydantic.dataclasses import dataclass

from texnet.config import (
    LARGEST_EVALUATION,
    Acceleration,
    Descriptor,
    Images,
    Objective,
    Optimisation,
    Optimiser,
    Training,
    stylization,
)
from texnet.fields import STRICT, Device, Name, Pixels, Positive, Seed
from texnet.networks import SkipNet, StyleNet, TextureNetV1, named
from texnet.overrides import (
    GeneratorChange,
    ImagesChange,
    ObjectiveChange,
    OptimiserChange,
    merge,
)
from texnet.parts import Figures, check_stylization, check_textures
from texnet.textures import Textures
from texnet.validation import explain

Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]
StylizationGenerator = Annotated[
    Annotated[GeneratorChange, Tag("stylenet")]
    | Annotated[SkipNet, Tag("skip")]
    | Annotated[TextureNetV1, Tag("texturenet_v1")],
    Discriminator(named),
]


@dataclass(frozen=True, config=STRICT)
class TrainingEntry:
    """How one training departs from the shared sections."""

    generator: StylizationGenerator = Field(default_factory=GeneratorChange)
    """Keys of StyleNet to change; or another network, by its name."""
    objective: ObjectiveChange = Field(default_factory=ObjectiveChange)
    optimiser: OptimiserChange = Field(default_factory=OptimiserChange)
    images: ImagesChange = Field(default_factory=ImagesChange)
    seeds: Seeds | None = None
    """Some of the experiment's seeds; null for all of them."""


@dataclass(frozen=True, config=STRICT)
class BaselineEntry:
    """How one baseline starts and departs from the shared sections."""

    start: str = "noise"
    """noise, or the name of a training."""
    evaluations: Positive = 500
    """Evaluations of the objective (500 in Gatys' public code)."""
    objective: ObjectiveChange = Field(default_factory=ObjectiveChange)
    images: ImagesChange = Field(default_factory=ImagesChange)
    seeds: Seeds | None = None
    """Some of the experiment's seeds; null for all of them."""


@dataclass(frozen=True, config=STRICT)
class Speed:
    """What the table of speed and memory measures."""

    sizes: Annotated[tuple[Pixels, ...], Field(min_length=1)] = (64, 128, 256, 512, 1024)
    """Sides of the images that trained generators make."""
    paper_sizes: Annotated[tuple[Pixels, ...], Field(min_length=1)] = (64, 128, 256)
    """Sides for networks as large as the paper's."""
    repetitions: Positive = 3
    """How often each time is measured."""

    def __post_init__(self) -> None:
        if min(self.sizes) > LARGEST_EVALUATION:
            raise ValueError(
                f"sizes are all over {LARGEST_EVALUATION}, up to which the objective is measured; "
                "add a smaller one"
            )


@dataclass(frozen=True, config=STRICT)
class Experiment:
    """The workflow's configuration: shared sections, and the runs that depart from them."""

    scale: Name
    """Name of the scale, shown in tables and captions."""
    seeds: Seeds
    """Every run is made once per seed."""
    runs: Annotated[dict[Name, TrainingEntry], Field(min_length=1)]
    """Generators to train."""
    baselines: Annotated[dict[Name, BaselineEntry], Field(min_length=1)]
    """Images to optimise."""
    textures: Textures
    """Texture networks on exemplars."""
    figures: Figures
    descriptor: Descriptor = Field(default_factory=Descriptor)
    generator: StyleNet = Field(default_factory=StyleNet)
    objective: Objective = Field(default_factory=Objective)
    optimiser: Optimiser = Field(default_factory=Optimiser)
    images: Images = Field(default_factory=Images)
    device: Device = "auto"
    """auto takes an accelerator where there is one; cpu keeps results bit-identical."""
    threads: Positive = 1
    """CPU threads of each training; another number gives other bits."""
    acceleration: Acceleration = Field(default_factory=Acceleration)
    """How trainings are computed."""
    weights: Literal["train", "published"] = "train"
    """published takes released generators (expected/SCALE/generators) where there are any."""
    container: str | None = None
    """Image in which jobs run, where Snakemake is told to use containers (--sdm apptainer)."""
    mirrors: tuple[str, ...] = ()
    """Folders, or addresses of folders, that have the registry's files; tried first."""
    heldout_every: Positive = 500
    """Iterations between evaluations on the held-out images."""
    checkpoint_every: Positive = 500
    """Iterations between checkpoints."""
    sizes: Annotated[tuple[Pixels, ...], Field(min_length=1)] = (256, 512, 1024)
    """Sides of the images on which fully convolutional generators are measured besides (C22)."""
    speed: Speed = Field(default_factory=Speed)
    """The table of speed and memory."""

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds names a seed twice: {', '.join(map(str, self.seeds))}")
        names = {*self.runs, *self.baselines, *self.textures.names}
        if taken := names & {"references", "estimator", "speed", "crops", "repeated", "noise"}:
            raise ValueError(f"no run can be named '{min(taken)}', which stands for something else")
        if both := set(self.runs) & set(self.baselines):
            raise ValueError(f"runs.{min(both)}: a baseline has this name, or start; rename it")
        for name, entry in self.baselines.items():
            if entry.start != "noise" and entry.start not in self.runs:
                known = ", ".join(["noise", *self.runs])
                raise ValueError(f"baselines.{name}.start is '{entry.start}'; use one of {known}")
        for name, make in self._makers().items():
            try:
                make(name, self.seeds[0])
            except ValidationError as error:
                kind = "runs" if name in self.runs else "baselines"
                problem = explain(error.errors()[0], Experiment)
                raise ValueError(f"{kind}.{name}: {problem}") from error
        self._check_seeds()
        self._check_textures()
        runs = {name: make(name, self.seeds[0]) for name, make in self._makers().items()}
        parts = self.figures.stylization
        check_stylization(parts, runs)
        self._check_sizes()
        for key, name in dataclasses.asdict(parts).items():
            if key in ("larger", "largest", "content", "uniform"):
                continue
            if set(self.seeds_of(name)) != set(self.seeds):
                raise ValueError(f"figures.stylization.{key}: run '{name}' must have all seeds")
        for key in ("larger", "largest"):
            images = stylization(runs[getattr(parts, key)])
            size = images.heldout_size
            if other := set(images.heldout) - set(stylization(runs[parts.noise]).heldout):
                raise ValueError(
                    f"figures.stylization.{key} has images.heldout '{min(other)}', on which "
                    "nothing else is measured"
                )
            if size not in self.sizes:
                raise ValueError(
                    f"figures.stylization.{key} has images.heldout_size {size}, which is not one "
                    f"of sizes ({', '.join(map(str, self.sizes))}): nothing to compare with"
                )
        first = f"_{next(iter(self.textures.labels))}_seed{self.seeds[0]}"
        textures = {
            name.removesuffix(first): run
            for name, run in self._texture_runs().items()
            if name.endswith(first)
        }
        check_textures(self.figures.textures, textures, self.textures.sweep.run)

    def _check_seeds(self) -> None:
        """Seeds of an entry are some of the experiment's, those of its start, and the first."""
        for name, entry in {**self.runs, **self.baselines}.items():
            kind = "runs" if name in self.runs else "baselines"
            if len(set(self.seeds_of(name))) < len(self.seeds_of(name)):
                raise ValueError(f"{kind}.{name}.seeds names a seed twice")
            start = getattr(entry, "start", "noise")
            known = self.seeds if start == "noise" else self.seeds_of(start)
            if other := set(self.seeds_of(name)) - set(known):
                raise ValueError(
                    f"{kind}.{name}.seeds: {min(other)} is not one of {', '.join(map(str, known))}"
                )
            if self.seeds[0] not in self.seeds_of(name):
                raise ValueError(
                    f"{kind}.{name}.seeds lacks {self.seeds[0]}, the first of seeds, of which "
                    "figures show pictures"
                )

    def _check_sizes(self) -> None:
        """Sizes are told once, and large enough for the networks that are measured at them."""
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"sizes names a size twice: {', '.join(map(str, self.sizes))}")
        pyramid = self.textures.runs.get(self.figures.textures.pyramid)
        if pyramid and pyramid.generator.norm == "instance" and min(self.sizes) <= 32:
            raise ValueError(
                f"sizes has {min(self.sizes)}; a texturenet_v1 with norm 'instance' needs more "
                "than 32: its coarsest scale has one pixel"
            )

    def _check_textures(self) -> None:
        """Names are unique, and the sweep's seeds its own."""
        textures = self.textures
        names = [*self.runs, *self.baselines, *textures.names]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"textures: two runs are named '{twice[0]}'; rename one")
        if both := set(self.seeds) & set(textures.sweep.seeds):
            raise ValueError(f"textures.sweep.seeds: {min(both)} is one of seeds; use another")
        try:
            made = self._texture_runs()
        except ValidationError as error:
            raise ValueError(f"textures: {explain(error.errors()[0], Experiment)}") from error
        if taken := set(made) & {f"{n}_seed{s}" for n in self._makers() for s in self.seeds}:
            raise ValueError(f"textures: a run of runs has the directory {min(taken)}; rename it")

    def seeds_of(self, name: str) -> tuple[int, ...]:
        """The seeds of a stylization run."""
        entry = self.runs[name] if name in self.runs else self.baselines[name]
        return entry.seeds or self.seeds

    def texture_parts(self) -> dict[str, Any]:
        """The content of ``results/textures.json``: which texture run plays which part."""
        return {
            "scale": self.scale,
            "seeds": list(self.seeds),
            "exemplars": list(self.textures.labels),
            **dataclasses.asdict(self.figures.textures),
            "sweep": self.textures.swept,
            "sweep_seeds": list(self.textures.sweep.seeds),
        }

    def sweep_settings(self) -> dict[str, Any]:
        """The content of ``results/sweep.json``: all that the choice of T depends on."""
        limit = self.textures.sweep.spotting_limit
        return {"sweep": self.textures.swept, "spotting_limit": limit}

    def stylization_parts(self) -> dict[str, Any]:
        """The content of ``results/stylization.json``: which stylization run plays which part."""
        parts = self.figures.stylization
        sizes = {
            key: stylization(self.optimisation(getattr(parts, key), self.seeds[0])).heldout_size
            for key in ("noise", "larger", "largest")
        }
        return {
            "scale": self.scale,
            "seeds": list(self.seeds),
            **dataclasses.asdict(parts),
            "optimised_at": sizes,
            "sizes": list(self.sizes),
        }

    def speed_settings(self) -> dict[str, Any]:
        """The content of ``results/speed.json``: all that the measurement of speed depends on."""
        parts, seed = self.figures.stylization, self.seeds[0]
        return {
            "device": self.device,
            "threads": self.threads,
            **dataclasses.asdict(self.speed),
            "models": {
                key: f"results/{getattr(parts, key)}_seed{seed}/model.safetensors"
                for key in ("instance", "batch", "noisy", "diverse")
            },
            "gatys": f"results/{parts.noise}_seed{seed}/run.json",
        }

    def training(self, name: str, seed: int) -> Training:
        """The complete training ``name`` with ``seed``."""
        entry = self.runs[name]
        return Training(
            **self._shared(name, seed, entry),
            generator=merge(self.generator, entry.generator)
            if isinstance(entry.generator, GeneratorChange)
            else entry.generator,
            optimiser=merge(self.optimiser, entry.optimiser),
            acceleration=self.acceleration,
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
            "objective": merge(self.objective, entry.objective),
            "images": merge(self.images, entry.images),
            "device": self.device,
            "threads": self.threads,
        }

    def all_runs(self) -> dict[str, Training | Optimisation]:
        """Every run by its directory name, ``{name}_seed{seed}`` for stylization."""
        makers = self._makers().items()
        made = {f"{n}_seed{s}": make(n, s) for n, make in makers for s in self.seeds_of(n)}
        return made | self._texture_runs()

    def _texture_runs(self) -> dict[str, Training | Optimisation]:
        return self.textures.all_runs(
            self.descriptor,
            self.seeds,
            device=self.device,
            threads=self.threads,
            acceleration=self.acceleration,
            heldout_every=self.heldout_every,
            checkpoint_every=self.checkpoint_every,
        )

    def _makers(self) -> dict[str, Callable[[str, int], Training | Optimisation]]:
        trainings = dict.fromkeys(self.runs, self.training)
        return trainings | dict.fromkeys(self.baselines, self.optimisation)
