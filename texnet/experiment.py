"""The workflow's configuration, ``config/*.yaml``: shared sections, and the runs that depart."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from texnet.config import (
    STRICT,
    Descriptor,
    Device,
    Images,
    Name,
    Objective,
    Optimisation,
    Optimiser,
    Positive,
    Seed,
    StyleNet,
    TextureNetV1,
    TextureNetV2,
    Training,
)
from texnet.overrides import (
    GeneratorChange,
    ImagesChange,
    ObjectiveChange,
    OptimiserChange,
    merge,
)
from texnet.textures import Textures
from texnet.validation import explain


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
    """The runs behind each figure and its claims."""

    fig3: Figure3
    textures: TextureParts


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
        self._check_textures()

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

    def _check_textures(self) -> None:
        """Names are unique, the sweep's seeds its own, and the parts are what they say."""
        textures, parts = self.textures, self.figures.textures
        names = [*self.runs, *self.baselines, *textures.names]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"textures: two runs are named '{twice[0]}'; rename one")
        if both := set(self.seeds) & set(textures.sweep.seeds):
            raise ValueError(f"textures.sweep.seeds: {min(both)} is one of seeds; use another")
        try:
            made = self._texture_runs()
        except ValidationError as error:
            raise ValueError(f"textures: {explain(error.errors()[0], Experiment)}") from error
        if both := set(made) & {f"{n}_seed{s}" for n in self._makers() for s in self.seeds}:
            raise ValueError(f"textures: a run of runs has the directory {min(both)}; rename it")
        first = f"{next(iter(textures.labels))}_seed{self.seeds[0]}"
        measured = made.get(f"{parts.collapsed}_{first}")
        if parts.diverse != textures.sweep.run:
            raise ValueError(
                f"figures.textures.diverse is '{parts.diverse}'; textures.sweep chooses the "
                f"temperature of '{textures.sweep.run}'"
            )
        for key, name in dataclasses.asdict(parts).items():
            known = textures.baselines if key == "gatys" else textures.runs
            if name not in known:
                raise ValueError(
                    f"figures.textures.{key} is '{name}'; use one of {', '.join(known)}"
                )
            if key == "gatys":
                continue
            if measured is None:
                raise ValueError(f"figures.textures.collapsed is '{parts.collapsed}', no run")
            run = made[f"{name}_{first}"]
            network = TextureNetV1 if key.startswith("pyramid") else TextureNetV2
            if not isinstance(run.generator, network):
                raise ValueError(f"figures.textures.{key} is a {run.generator.name}")
            if bool(run.objective.diversity_weight) != (key == "diverse"):
                weight = run.objective.diversity_weight
                raise ValueError(f"figures.textures.{key} has diversity_weight {weight:g}")
            if run.objective.normalise_gradients == (key == "plain"):
                raise ValueError(
                    f"figures.textures.{key} has normalise_gradients "
                    f"{run.objective.normalise_gradients}"
                )
            if key.endswith(("_batch", "_instance")) and run.generator.norm not in key:
                raise ValueError(f"figures.textures.{key} has norm '{run.generator.norm}'")
            # What is compared differs in network, norm, learning rate and the terms above alone.
            free = ("diversity_weight", "normalise_gradients")
            free += ("temperature", "diversity_distance", "convention") if key == "diverse" else ()
            fixed = dataclasses.replace(
                run.objective, **{f: getattr(measured.objective, f) for f in free}
            )
            same = (run.optimiser.iterations, run.optimiser.batch)
            wanted = (measured.optimiser.iterations, measured.optimiser.batch)
            if fixed != measured.objective or same != wanted:
                raise ValueError(
                    f"figures.textures.{key} has another objective, batch or number of iterations "
                    "than figures.textures.collapsed: their numbers would not compare"
                )

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

    def figure3(self) -> dict[str, Any]:
        """The content of ``results/fig3.json``: scale, seeds, and which run plays which part."""
        parts = dataclasses.asdict(self.figures.fig3)
        return {"scale": self.scale, "seeds": list(self.seeds), **parts}

    def training(self, name: str, seed: int) -> Training:
        """The complete training ``name`` with ``seed``."""
        entry = self.runs[name]
        return Training(
            **self._shared(name, seed, entry),
            generator=merge(self.generator, entry.generator),
            optimiser=merge(self.optimiser, entry.optimiser),
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
        made = {f"{n}_seed{s}": make(n, s) for n, make in makers for s in self.seeds}
        return made | self._texture_runs()

    def _texture_runs(self) -> dict[str, Training | Optimisation]:
        return self.textures.all_runs(
            self.descriptor,
            self.seeds,
            device=self.device,
            threads=self.threads,
            heldout_every=self.heldout_every,
            checkpoint_every=self.checkpoint_every,
        )

    def _makers(self) -> dict[str, Callable[[str, int], Training | Optimisation]]:
        trainings = dict.fromkeys(self.runs, self.training)
        return trainings | dict.fromkeys(self.baselines, self.optimisation)
