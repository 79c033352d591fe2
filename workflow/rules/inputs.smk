"""Where the rules find what they read."""


def seeds_of(name):
    """Directories of a run of the configuration: one per seed, for textures and exemplar."""
    return [f"results/{directory}" for directory, run in RUNS.items() if run.name == name]


def files_of(wildcards):
    """Weights and images of a run that are files (photographs and exemplars have no suffix)."""
    return read_by(RUNS[wildcards.run])


def read_by(run):
    """Weights and images of a run that are files, in folders too, or manifests of what is fetched."""
    weights = schema.weights_file(run.descriptor)
    named = [str(manifest(n)) if n in registered() else n for n in run.images.files]
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


def read_by_all(names):
    """Weights and images of some runs of the configuration that are files."""
    return sorted({file for run in RUNS.values() if run.name in names for file in read_by(run)})


def results_of(wildcards):
    """What a run leaves behind, for all seeds."""
    return [
        f"{d}/{'model' if d.removeprefix('results/') in TRAININGS else 'images'}.safetensors"
        for d in seeds_of(wildcards.name)
    ]


def start_model(wildcards):
    """The generator whose output is finetuned; nothing where the start is noise."""
    run = RUNS[wildcards.run]
    if run.start == "noise":
        return []
    return f"results/{run.start}_seed{run.seed}/model.safetensors"


def files(name, parts, roles):
    """A file of all seeds of the runs that play some roles."""
    return [f"{d}/{name}" for role in roles.split() for d in seeds_of(getattr(parts, role))]


def scores(parts, roles):
    """Score tables of the runs that play some roles."""
    return [f"results/scores/{getattr(parts, role)}.csv" for role in roles.split()]
