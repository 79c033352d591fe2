"""The textures of the configuration: exemplars x variants x seeds, and the sweep of T."""

import re
from collections import Counter
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from texnet.config import (
    GROUP,
    Descriptor,
    Objective,
    Optimisation,
    Optimiser,
    Texture,
    Training,
)
from texnet.fields import STRICT, Name, Pixels, Positive, Rate, Seed
from texnet.networks import TextureGenerator
from texnet.overrides import DescriptorChange, ObjectiveChange, OptimiserChange, merge

V1_OBJECTIVE = Objective(
    style_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    style_weight=1.0,
    content_weight=0.0,
    normalise_gradients=True,
)
"""The authors' texture command (v1 branch, README.md and texture_train.lua)."""
V1_OPTIMISER = Optimiser(iterations=1500, batch=16, lr=1e-1, decay=0.8, decay_every=300)
"""The authors' texture training (v1 branch, texture_train.lua)."""
Samples = Annotated[int, Field(multiple_of=GROUP, gt=0, strict=True)]


@dataclass(frozen=True, config=STRICT)
class TextureEntry:
    """One variant of a texture network, trained on every exemplar."""

    generator: TextureGenerator
    """texturenet_v1 or texturenet_v2."""
    objective: ObjectiveChange = Field(default_factory=ObjectiveChange)
    optimiser: OptimiserChange = Field(default_factory=OptimiserChange)


@dataclass(frozen=True, config=STRICT)
class TextureBaseline:
    """Textures by optimisation from noise (Gatys et al. 2015), of every exemplar."""

    evaluations: Positive = 2000
    """Evaluations of the objective a sample (2000 iterations in Gatys' public code)."""
    samples: Samples = GROUP
    """Samples of each exemplar and seed, a multiple of 8."""


@dataclass(frozen=True, config=STRICT)
class Sweep:
    """How T is chosen for each exemplar: trained at each T, on seeds of its own."""

    run: Name
    """The run whose objective.temperature is chosen."""
    temperatures: Annotated[dict[Name, Rate | None], Field(min_length=2)]
    """T by the name it has in run names; null leaves out what another file names."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Seeds of the sweep; none of the experiment's, so that the choice is not seen twice."""
    spotting_limit: Rate = 1.3
    """Variance of low-pass luminance, over the exemplar's, that the chosen T stays under."""


@dataclass(frozen=True, config=STRICT)
class Textures:
    """Exemplars, what is shared by all texture runs, and the runs."""

    exemplars: Annotated[tuple[str, ...], Field(min_length=1)]
    """Texture exemplars: photograph names, exemplar names or files."""
    runs: Annotated[dict[Name, TextureEntry], Field(min_length=1)]
    """Texture networks to train."""
    baselines: Annotated[dict[Name, TextureBaseline], Field(min_length=1)]
    """Textures to optimise."""
    sweep: Sweep
    """The choice of T."""
    exemplar_size: Pixels = 512
    """Longer side of the exemplar, in pixels; more than the side of a sample."""
    size: Pixels = 256
    """Side of a sample, in pixels."""
    samples: Samples = 32
    """Samples behind every measured number, a multiple of 8."""
    descriptor: DescriptorChange = Field(default_factory=DescriptorChange)
    """Departures from the experiment's descriptor."""
    objective: ObjectiveChange = Field(default_factory=ObjectiveChange)
    """Departures from the authors' texture objective (v1 branch)."""
    optimiser: OptimiserChange = Field(default_factory=OptimiserChange)
    """Departures from the authors' texture training (v1 branch)."""
    released: dict[str, str] = Field(default_factory=dict)
    """Generators that the authors released, measured beside the runs: by the name that their
    exemplar has in run names, a name of the registry or a file (.t7)."""

    def __post_init__(self) -> None:
        if self.exemplar_size <= self.size:
            raise ValueError(
                f"exemplar_size {self.exemplar_size} is not larger than size {self.size}: crops of "
                "the exemplar, against which diversity is held, would all be the same"
            )
        for label, count in Counter(map(label_of, self.exemplars)).items():
            if count > 1:
                raise ValueError(f"exemplars has two named '{label}': rename or leave out one")
            if not re.fullmatch("[A-Za-z0-9]+(_[A-Za-z0-9]+)*", label):
                raise ValueError(
                    f"exemplars has '{label}', which names runs: use letters, digits and single "
                    "underscores as the file's name"
                )
        for label in self.released:
            if label not in self.labels:
                raise ValueError(
                    f"released names '{label}', which is no exemplar; use one of "
                    f"{', '.join(self.labels)}"
                )
        sweep = self.sweep
        if sweep.run not in self.runs:
            raise ValueError(f"sweep.run is '{sweep.run}'; use one of {', '.join(self.runs)}")
        values = [t for t in sweep.temperatures.values() if t is not None]
        if len(set(values)) < len(values):
            raise ValueError(f"sweep.temperatures has one T twice: {', '.join(map(str, values))}")
        if len(values) < 2:
            raise ValueError("sweep.temperatures has less than two T: nothing to choose from")
        objective = merge(V1_OBJECTIVE, self.objective, self.runs[sweep.run].objective)
        if not objective.diversity_weight:
            raise ValueError(
                f"sweep.run '{sweep.run}' has objective.diversity_weight 0: T would do nothing; "
                "set it to 1"
            )

    @property
    def labels(self) -> dict[str, str]:
        """Exemplars by the name they have in run names."""
        return {label_of(exemplar): exemplar for exemplar in self.exemplars}

    @property
    def swept(self) -> dict[str, float]:
        """T of each run of the sweep, ascending, by the run's name."""
        given = [(t, key) for key, t in self.sweep.temperatures.items() if t is not None]
        return {f"{self.sweep.run}_{key}": t for t, key in sorted(given)}

    @property
    def names(self) -> list[str]:
        """Names of all texture runs."""
        return [*self.runs, *self.swept, *self.baselines]

    def all_runs(
        self,
        descriptor: Descriptor,
        seeds: tuple[int, ...],
        **shared: Any,  # noqa: ANN401 (of several types)
    ) -> dict[str, Training | Optimisation]:
        """Every texture run by its directory name, ``{name}_{exemplar}_seed{seed}``.

        The runs of ``sweep.run`` hold the temperature of the configuration, not the chosen one.
        """
        for_training = {
            key: shared[key] for key in ("acceleration", "heldout_every", "checkpoint_every")
        }
        shared = {k: v for k, v in shared.items() if k not in for_training}
        shared["descriptor"] = merge(descriptor, self.descriptor)
        objective = merge(V1_OBJECTIVE, self.objective)
        made: dict[str, Training | Optimisation] = {}

        def texture(exemplar: str, samples: int) -> Texture:
            return Texture(exemplar, self.exemplar_size, self.size, samples)

        trained: list[tuple[str, str, dict[str, float], tuple[int, ...]]] = [
            (name, name, {}, seeds) for name in self.runs
        ]
        trained += [
            (name, self.sweep.run, {"temperature": t}, self.sweep.seeds)
            for name, t in self.swept.items()
        ]

        def add(directory: str, run: Training | Optimisation) -> None:
            if directory in made:
                raise ValueError(f"two runs have the directory {directory}; rename an exemplar")
            made[directory] = run

        for name, kind, change, its_seeds in trained:
            entry = self.runs[kind]
            for label, exemplar in self.labels.items():
                for seed in its_seeds:
                    run = Training(
                        name=name,
                        seed=seed,
                        generator=entry.generator,
                        objective=merge(objective, entry.objective, ObjectiveChange(**change)),
                        optimiser=merge(V1_OPTIMISER, self.optimiser, entry.optimiser),
                        images=texture(exemplar, self.samples),
                        **shared,
                        **for_training,
                    )
                    add(f"{name}_{label}_seed{seed}", run)
        # L-BFGS needs the true gradient of the loss, and images apart from each other.
        plain = ObjectiveChange(normalise_gradients=False, diversity_weight=0.0, temperature=1.0)
        for name, baseline in self.baselines.items():
            for label, exemplar in self.labels.items():
                for seed in seeds:
                    optimised = Optimisation(
                        name=name,
                        seed=seed,
                        objective=merge(objective, plain),
                        images=texture(exemplar, baseline.samples),
                        start="noise",
                        evaluations=baseline.evaluations,
                        **shared,
                    )
                    add(f"{name}_{label}_seed{seed}", optimised)
        return made


def label_of(exemplar: str) -> str:
    """The name that an exemplar has in run names: its own, or its file's without the suffix."""
    return PurePath(exemplar).stem
