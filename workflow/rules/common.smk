"""What the rules share. The validated experiment, its runs, and the digest of library code."""

import json
from pathlib import Path, PurePath

from snakemake.exceptions import WorkflowError

from texnet import config as schema
from texnet.errors import UsageError
from texnet.experiment import Experiment
from texnet.sources import digest as code
from texnet.textures import label_of

try:
    EXPERIMENT = schema.parse(Experiment, config, "configuration")
except UsageError as error:
    raise WorkflowError(str(error)) from None

RUNS = EXPERIMENT.all_runs()
TRAININGS = [name for name, run in RUNS.items() if isinstance(run, schema.Training)]
BASELINES = [name for name in RUNS if name not in TRAININGS]
TEXTURES = EXPERIMENT.textures
NAMES = [*EXPERIMENT.runs, *EXPERIMENT.baselines, *TEXTURES.names]
# Their T is the one that the sweep chooses.
TEMPERED = [name for name, run in RUNS.items() if run.name == TEXTURES.sweep.run]
# With results in place Snakemake would pass over a missing file and call them up to date.
for run in RUNS.values():
    for name in run.images.files:
        if PurePath(name).suffix and not Path(name).is_file():
            raise WorkflowError(f"configuration: images name '{name}', and there is no such file")

# Any run on an exemplar says at which size and on which layers its crops are measured.
ONE_PER_EXEMPLAR = [
    f"{EXPERIMENT.figures.textures.collapsed}_{label}_seed{EXPERIMENT.seeds[0]}"
    for label in TEXTURES.labels
]

# A training on the CPU takes no GPU; elsewhere each takes one of those that the profile allows.
GPUS = 0 if EXPERIMENT.device == "cpu" else 1


def seeds_of(name):
    """Directories of a run of the configuration: one per seed, for textures and exemplar."""
    return [f"results/{directory}" for directory, run in RUNS.items() if run.name == name]


def files_of(wildcards):
    """Weights and images of a run that are files (photographs and exemplars have no suffix)."""
    return read_by(RUNS[wildcards.run])


def read_by(run):
    """Weights and images of a run that are files."""
    weights = schema.weights_file(run.descriptor)
    images = [name for name in run.images.files if PurePath(name).suffix]
    return [str(weights), *images] if weights else images


def files_of_exemplars(wildcards):
    """Weights and images of one run on each exemplar."""
    return sorted({file for name in ONE_PER_EXEMPLAR for file in read_by(RUNS[name])})


def start_model(wildcards):
    """The generator whose output is finetuned; nothing where the start is noise."""
    run = RUNS[wildcards.run]
    if run.start == "noise":
        return []
    return f"results/{run.start}_seed{run.seed}/model.safetensors"


def results_of(wildcards):
    """What a run leaves behind, for all seeds."""
    return [
        f"{d}/{'model' if d.removeprefix('results/') in TRAININGS else 'images'}.safetensors"
        for d in seeds_of(wildcards.name)
    ]
