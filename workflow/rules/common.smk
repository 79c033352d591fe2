"""What the rules share. The validated experiment, its runs, and the digest of library code."""

import functools
import json
from pathlib import Path, PurePath

from snakemake.exceptions import WorkflowError

from texnet import config as schema
from texnet.documents import read_yaml
from texnet.errors import TexnetError
from texnet.experiment import Experiment
from texnet.registry import DRAWN, PHOTOS, cache, check_images, manifest, registered
from texnet.releases import released
from texnet.sources import digest
from texnet.textures import label_of

try:
    # Snakemake, which has read them, takes the last of a key that comes twice, and 010 for 8.
    for file in map(Path, workflow.configfiles):
        if file.suffix != ".json":
            read_yaml(file)
    EXPERIMENT = schema.parse(Experiment, config, "configuration")
    RUNS = EXPERIMENT.all_runs()
    for run in RUNS.values():  # before anything runs, not in a job hours later
        sets = getattr(run.images, "contents", ())
        check_images([name for name in run.images.files if name not in sets], sets)
except TexnetError as error:
    raise WorkflowError(f"configuration: {str(error).removeprefix('configuration: ')}") from None

# Asked for by every job, and it parses the library each time.
code = functools.cache(digest)

TRAININGS = [name for name, run in RUNS.items() if isinstance(run, schema.Training)]
BASELINES = [name for name in RUNS if name not in TRAININGS]
TEXTURES = EXPERIMENT.textures
NAMES = [*EXPERIMENT.runs, *EXPERIMENT.baselines, *TEXTURES.names]
# Their T is the one that the sweep chooses.
TEMPERED = [name for name, run in RUNS.items() if run.name == TEXTURES.sweep.run]
# With results in place Snakemake would pass over a missing file and call them up to date.
for run in RUNS.values():
    for name in run.images.files:
        if PurePath(name).suffix and not Path(name).exists():
            raise WorkflowError(f"configuration: images name '{name}', and there is no such file")

# Runs of which there are released generators; the T of a tempered run is not known yet.
GENERATORS = Path("expected") / EXPERIMENT.scale / "generators"
try:
    RELEASED = [
        name
        for name in TRAININGS
        if EXPERIMENT.weights == "published"
        and name not in TEMPERED
        and released(GENERATORS, name, RUNS[name])
    ]
except TexnetError as error:
    raise WorkflowError(str(error)) from None
