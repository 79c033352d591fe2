"""What was run, in words, for captions and the start page of the report.

The texts are reStructuredText with names in double backquotes. They say what the settings of the
runs hold, which a configuration does not where it leaves defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath

from texnet.config import Images, Optimisation, Texture, Training
from texnet.experiment import Experiment

Run = Training | Optimisation


def caption(runs: Mapping[str, Run]) -> Callable[[object, Iterable[str]], str]:
    """A parameter of Snakemake's rules: what the runs did of which a rule reads results.

    Args:
        runs: all runs by directory name.

    Returns:
        a function of wildcards and input files. A file ``{run}/NAME`` counts for that run,
        ``scores/{name}.csv`` for all seeds and exemplars of one name, any other for none.
    """

    def made(wildcards: object, input: Iterable[str]) -> str:
        files = [PurePath(file) for file in input]
        names = {file.stem for file in files if file.parent.name == "scores"}
        directories = {file.parent.name for file in files}
        read = [run for d, run in runs.items() if d in directories or run.name in names]
        return " ".join(described(read) + references(read))

    return made


def described(runs: Sequence[Run]) -> list[str]:
    """A sentence for each kind of run: how long, how large, which seeds."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        found = seeds.setdefault((run.name, _work(run)), [])
        found += [run.seed] * (run.seed not in found)
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (name, work), its in seeds.items():
        alike.setdefault((work, tuple(its)), []).append(name)
    return [f"{_quoted(names)}: {work}, {_seeds(its)}." for (work, its), names in alike.items()]


def references(runs: Sequence[Run]) -> list[str]:
    """Sentences on what runs have in common: images and descriptor."""
    said = []
    for kind, title in ((Images, "Style"), (Texture, "Exemplars")):
        found = dict.fromkeys(run.images.reference for run in runs if isinstance(run.images, kind))
        for size in dict.fromkeys(size for _, size in found):
            names = _quoted(name for name, its in found if its == size)
            said.append(f"{title}: {names}, {size} pixels.")
    # An optimisation's own sentence has its images, and trainings beside it are shown on those.
    if not any(isinstance(run, Optimisation) for run in runs):
        photographs = [run.images for run in runs if isinstance(run.images, Images)]
        shown = dict.fromkeys((images.heldout, images.heldout_size) for images in photographs)
        said += [f"Held-out images: {_quoted(names)}, {size} pixels." for names, size in shown]
    return [*said, f"Descriptor: {_quoted(dict.fromkeys(run.descriptor.name for run in runs))}."]


def setting(experiment: Experiment) -> dict[str, list[str]]:
    """The content of ``results/summary.json``: paragraphs, and sentences on the runs."""
    e, images, textures = experiment, experiment.images, experiment.textures
    pool = {"avg": "average", "max": "max"}[e.descriptor.pool]
    temperatures = _listed(f"{t:g}" for t in textures.swept.values())
    return {
        "paragraphs": [
            f"Scale ``{e.scale}``, {_seeds(e.seeds)}: every run once with each, but where others "
            f"are named. Descriptor ``{e.descriptor.name}`` with {pool} pooling. Device "
            f"{e.device}, {_count(e.threads, 'thread')} a run, {e.acceleration.precision}.",
            f"Stylization: style ``{images.style}``, {images.style_size} pixels; trained on crops "
            f"of {_quoted(images.contents)}; shown and measured on {_quoted(images.heldout)}, "
            f"never trained on, at {images.heldout_size} pixels, and for claims about size at "
            f"{_listed(e.sizes)} pixels.",
            f"Textures: {_quoted(textures.labels)}, {textures.exemplar_size} pixels; measured on "
            f"{textures.samples} samples of {textures.size} pixels of each network, exemplar and "
            f"seed. T of the diversity term is chosen for each exemplar among {temperatures}, "
            f"with {_seeds(textures.sweep.seeds)}: the largest at which the variance of low-pass "
            f"luminance stays under {textures.sweep.spotting_limit:g} times the exemplar's.",
        ],
        "runs": described(list(e.all_runs().values())),
    }


def _work(run: Run) -> str:
    """What one run does, but for its seed and its exemplar."""
    images = run.images
    if isinstance(run, Optimisation):
        start = "noise" if run.start == "noise" else "a generator's output"
        most = (
            f"at most {_count(run.evaluations, 'evaluation')} by L-BFGS from {start}, for each of"
        )
        if isinstance(images, Texture):
            return f"{most} {_count(images.samples, 'sample')} of {images.size} pixels"
        return f"{most} {_quoted(images.heldout)} at {images.heldout_size} pixels"
    steps = f"{_count(run.optimiser.iterations, 'iteration')} of batch {run.optimiser.batch} on"
    if isinstance(images, Texture):
        return f"{steps} samples of {images.size} pixels"
    crops = _count(images.crops, "crop") if images.crops else "crops"
    return f"{steps} {crops} of {images.size} pixels"


def _quoted(names: Iterable[str]) -> str:
    return _listed(f"``{name}``" for name in names)


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _seeds(values: Sequence[int]) -> str:
    return f"seed{'s' * (len(values) != 1)} {_listed(values)}"
