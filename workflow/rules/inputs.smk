"""Where the rules find what they read.

Results may be kept in a storage (--default-storage-provider). A job then sees copies of the inputs
that its rule names and of no others. What comes with the code or lies on a volume is no input then,
since a job with an input marked local() would not be sent away.
"""

from texnet.artifacts import check_file, sha256


def seeds_of(name):
    """Directories of a run of the configuration: one per seed, for textures and exemplar."""
    return [f"results/{directory}" for directory, run in RUNS.items() if run.name == name]


def files_of(wildcards):
    """Weights and images of a run, where they are inputs."""
    return read_by(RUNS[wildcards.run])


def read_by(run):
    """Weights and images of one run, where they are inputs."""
    return [] if STORED else read(run)


def read(run):
    """Weights and images of a run that are files, in folders too, or manifests of what is fetched."""
    weights = schema.weights_file(run.descriptor)
    named = [located(name) for name in run.images.files]
    # Photographs and exemplars have no suffix.
    images = [name for name in named if PurePath(name).suffix]
    for folder in set(named) - set(images) - {*PHOTOS, *DRAWN}:
        images += sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
    found = [str(weights), *images] if weights else images
    for name in found:
        if "{" in name and "}" in name:
            raise WorkflowError(
                f"configuration: '{name}' is read, and Snakemake takes braces for a wildcard; rename it"
            )
    return found


def located(name):
    """The file, or the manifest of what is fetched, that a name stands for."""
    return str(manifest(name)) if name in registered() else name


def read_by_all(names):
    """Weights and images of some runs of the configuration, where they are inputs."""
    return sorted({file for run in named(names) for file in read_by(run)})


def named(names):
    """Runs of the configuration, of all seeds."""
    return [run for run in RUNS.values() if run.name in names]


def made_by(module, runs):
    """The digest of library code, and those of the files that runs read where they are no inputs."""
    if not STORED:
        return code(module)
    return [code(module), *map(checksum, sorted({file for run in runs for file in read(run)}))]


@functools.cache
def checksum(file):
    """SHA-256 of a file that must be there before anything runs."""
    return sha256(
        check_file(Path(file), "what a run reads (texnet fetch makes what ends in .sha256)")
    )


def folders(directories):
    """Where a job finds folders of results: here, or where it has its copies of the storage."""
    return [directory.replace("results", RESULTS, 1) for directory in directories]


def beside(directories):
    """What is read besides a rule's inputs, as it lies beside them; named where it would not."""
    return [f"{directory}/run.json" for directory in directories] if STORED else []


def results_of(wildcards):
    """What a run leaves behind, for all seeds."""
    made = [
        f"{d}/{'model' if d.removeprefix('results/') in TRAININGS else 'images'}.safetensors"
        for d in seeds_of(wildcards.name)
    ]
    return made + beside(seeds_of(wildcards.name))


def start_model(wildcards):
    """The generator whose output is finetuned; nothing where the start is noise."""
    run = RUNS[wildcards.run]
    if run.start == "noise":
        return []
    return f"results/{run.start}_seed{run.seed}/model.safetensors"


def files(name, parts, roles):
    """A file of all seeds of the runs that play some roles."""
    directories = [d for role in roles.split() for d in seeds_of(getattr(parts, role))]
    return [f"{d}/{name}" for d in directories] + beside(directories)


def scores(parts, roles):
    """Score tables of the runs that play some roles."""
    return [f"results/scores/{getattr(parts, role)}.csv" for role in roles.split()]
