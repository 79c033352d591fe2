"""What each verb of the command line does.

Each imports what it needs, so that ``--help`` and the table verbs start without PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from texnet.errors import DifferenceError, MissingError, UsageError

if TYPE_CHECKING:
    import torch


def configure(args: argparse.Namespace) -> None:
    from texnet import config, experiment
    from texnet.artifacts import write_json

    made = config.parse(experiment.Experiment, _mapping(args.config), "configuration")
    for name, run in made.all_runs().items():
        # The runs whose T the sweep chooses get their run.json from texnet temper.
        asked = run.name == made.textures.sweep.run
        write_json(args.out / name / ("asked.json" if asked else "run.json"), config.to_json(run))
    settings = {
        "stylization": made.stylization_parts(),
        "textures": made.texture_parts(),
        "sweep": made.sweep_settings(),
        "speed": made.speed_settings(),
    }
    for name, content in settings.items():
        write_json(args.out / f"{name}.json", content)


def _mapping(text: str) -> dict[str, Any]:
    """A configuration given as JSON text, or as one or more YAML files joined by commas."""
    from texnet.documents import read_json_text, read_yaml

    if text.lstrip().startswith("{"):
        return read_json_text(text)
    merged: dict[str, Any] = {}
    for name in filter(None, map(str.strip, text.split(","))):
        merged = _merge(merged, read_yaml(Path(name)))
    return merged


def device_of(name: str, threads: int, **how: Any) -> torch.device:  # noqa: ANN401
    """Set up the process and give its device; UsageError where that is not there."""
    import torch

    from texnet import runtime

    device = runtime.prepare(name, threads, **how)
    try:
        torch.empty(1, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise UsageError(f"device '{name}' is not usable here ({reason}); use cpu") from error
    return device


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merge(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v
            for k, v in change.items()}  # fmt: skip
    return {**base, **both}


def schema(args: argparse.Namespace) -> None:
    from texnet import experiment, validation
    from texnet.artifacts import write_json

    write_json(args.out, validation.schema(experiment.Experiment))


def fetch(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from texnet import registry
    from texnet.fetch import all_names
    from texnet.fetch import fetch as fetched

    if args.list:
        print(f"in {registry.cache().absolute()}:")
        there = registry.complete(*registry.registered())
        for name, entries in registry.registered().items():
            size = sum(entry.bytes for entry in entries) / 1e6
            large = ", only by name" if size > registry.LARGE / 1e6 else ""
            state = "there" if name in there else "not there"
            files = f"{len(entries)} files" if len(entries) > 1 else entries[0].file
            print(f"{name:<23}{state:<11}{size:>11.2f} MB  {files}{large}; {entries[0].licence}")
        return
    mirrors = [*args.mirror, *registry.mirrors()]
    names = all_names() if args.all else args.names
    if not names:
        raise UsageError("name what to fetch, or use --all; --list shows the names")
    size = sum(entry.bytes for name in names for entry in registry.entries_of(name))
    with tqdm(total=size, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        failed = []
        for name in names:
            try:
                print(fetched(name, mirrors, show=bar.update))
            except MissingError as error:  # the others may be had
                failed.append(error)
    for other in failed[:-1]:
        print(f"texnet fetch: error: {other}", file=sys.stderr)
    if failed:
        raise failed[-1]


def train(args: argparse.Namespace) -> None:
    from texnet import config, training
    from texnet.artifacts import check_writable
    from texnet.checkpoints import alone
    from texnet.process import stop_requests
    from texnet.progress import Progress

    run = config.read_run(args.run)
    if not isinstance(run, config.Training):
        raise UsageError(f"{args.run}: describes a baseline; use texnet optimize")
    if args.run.name == "asked.json":
        raise UsageError(
            f"{args.run}: its T is not chosen yet; texnet sweep chooses it, texnet temper makes "
            "run.json of it"
        )
    check_writable(args.out)
    how = {"precision": run.acceleration.precision, "lean": run.acceleration.part is not None}
    device = device_of(args.device or run.device, run.threads, **how)
    title, folder = f"{run.name} seed {run.seed}", args.out.parent
    with (
        alone(folder),
        stop_requests() as stopped,
        Progress(title, run.optimiser.iterations, args.tensorboard) as show,
    ):
        training.train(run, args.out, device, lambda step: show(step.iteration, step.loss), stopped)


def adopt(args: argparse.Namespace) -> None:
    from texnet import releases, training

    releases.adopt(args.run, args.model, args.out)
    print(f"{args.out}: {args.model}, trained before")
    training.show_samples(args.out, device_of("cpu", 1))


def optimize(args: argparse.Namespace) -> None:
    from texnet import baselines, config
    from texnet.artifacts import check_writable
    from texnet.checkpoints import alone
    from texnet.progress import Progress

    run = config.read_run(args.run)
    if not isinstance(run, config.Optimisation):
        raise UsageError(f"{args.run}: describes a training; use texnet train")
    check_writable(args.out)
    device = device_of(args.device or run.device, run.threads)
    images = run.images
    total = images.samples if isinstance(images, config.Texture) else len(images.heldout)
    with alone(args.out.parent), Progress(f"{run.name} seed {run.seed}", total) as show:

        def on_image(done: int, result: baselines.Optimised) -> None:
            show(done, result.trace[-1][0])

        baselines.run_baseline(run, args.out, device, args.start, on_image)


def score(args: argparse.Namespace) -> None:
    from texnet import config, scoring, tables
    from texnet.artifacts import check_writable

    check_writable(args.out)
    rows = []
    for directory in args.what:
        run = config.read_run(directory / "run.json")
        device = device_of(args.device or run.device, run.threads)
        rows += scoring.score(directory, device, args.sizes)
    tables.write_table(args.out, tables.SCORE_COLUMNS, rows)


def references(args: argparse.Namespace) -> None:
    from texnet import config, scoring, tables
    from texnet.artifacts import check_writable

    check_writable(args.out)
    rows = []
    for path in args.runs:
        run = config.read_run(path)
        device = device_of(args.device or run.device, run.threads)
        rows += scoring.score_references(path, args.seeds, device)
    tables.write_table(args.out, tables.SCORE_COLUMNS, rows)


def released(args: argparse.Namespace) -> None:
    from texnet import config, scoring, tables, torch7
    from texnet.artifacts import check_writable

    check_writable(args.out)
    run = config.read_run(args.run)
    device = device_of(args.device or run.device, run.threads)
    net, made = torch7.import_generator(torch7.located(args.source))
    if not isinstance(made.images, config.Texture):
        raise UsageError(f"{args.source}: stylizes images, wanted a texture network")
    tables.write_table(
        args.out, tables.SCORE_COLUMNS, scoring.score_released(net, args.run, device)
    )


def speed(args: argparse.Namespace) -> None:
    from texnet import speed, tables
    from texnet.artifacts import check_writable

    check_writable(args.out)
    settings = speed.read_settings(args.settings)
    device = device_of(settings.device, settings.threads, reproducible=False)
    tables.write_table(args.out, tables.SCORE_COLUMNS, speed.measure(settings, device))


def estimator(args: argparse.Namespace) -> None:
    from texnet import estimator, tables

    tables.write_table(args.out, tables.SCORE_COLUMNS, estimator.rows(args.seeds))


def sweep(args: argparse.Namespace) -> None:
    from texnet import sweep, tables
    from texnet.evidence import read_parts

    settings = read_parts(args.settings, {"sweep", "spotting_limit"})
    found = sweep.sweep_table(settings, args.exemplar, tables.read_scores(args.scores))
    tables.write_table(args.out, sweep.COLUMNS, found)
    temperature = sweep.chosen_temperature(args.out, args.exemplar)
    print(f"{args.exemplar}: T = {temperature:g}")
    limit = settings["spotting_limit"]
    if sweep.spotting_ratios(found)[temperature] > limit:
        print(
            f"warning: no T of the sweep stays under the spotting limit {limit:g}; the lowest is "
            "taken: add lower temperatures",
            file=sys.stderr,
        )


def temper(args: argparse.Namespace) -> None:
    from texnet import config, sweep
    from texnet.artifacts import write_json
    from texnet.textures import label_of

    run = config.read_run(args.run)
    if not isinstance(run, config.Training):
        raise UsageError(f"{args.run}: describes a baseline, which has no temperature")
    if not run.objective.diversity_weight:
        raise UsageError(f"{args.run}: its objective.diversity_weight is 0: T would do nothing")
    exemplar = label_of(run.images.reference[0])
    tempered = sweep.at_temperature(run, sweep.chosen_temperature(args.table, exemplar))
    write_json(args.out, config.to_json(tempered))


def metrics(args: argparse.Namespace) -> None:
    from texnet import tables

    rows = tables.summarise(tables.read_scores(args.scores))
    tables.write_table(args.out, tables.METRIC_COLUMNS, rows)


def claims(args: argparse.Namespace) -> None:
    from texnet import tables
    from texnet.claims import CLAIM_COLUMNS, gather, judge

    rows = judge(gather(args.stylization, args.textures, args.sweeps, args.scores, args.histories))
    tables.write_table(args.out, CLAIM_COLUMNS, rows)


def verify(args: argparse.Namespace) -> None:
    from texnet import verification

    lines, reproduced = verification.verify(args.scale, args.results, args.expected)
    # Before the error, also where both streams end up in one.
    print(*lines, sep="\n", flush=True)
    if not reproduced:
        raise DifferenceError(lines[-1])


def distill(args: argparse.Namespace) -> None:
    from texnet import distillation
    from texnet.artifacts import check_writable
    from texnet.progress import Progress

    check_writable(args.out)
    device_of("cpu", args.threads)
    settings = distillation.Settings(steps=args.steps, seed=args.seed)
    with Progress("distillation", args.steps) as show:

        def on_step(step: int, shares: dict[str, float]) -> None:
            show(step, sum(shares.values()) / len(shares))

        r2 = distillation.run(args.teacher, args.images, args.out, settings, on_step, args.note)
    for layer, value in r2.items():
        print(f"{layer}  R2 {value:.3f}")


def exemplar(args: argparse.Namespace) -> None:
    import torch

    from texnet import data, exemplars

    if args.name not in exemplars.EXEMPLARS:
        raise UsageError(f"unknown exemplar '{args.name}'; use {', '.join(exemplars.EXEMPLARS)}")
    drawing = exemplars.draw(args.name, args.size, args.seed)
    data.write_image(args.out, torch.from_numpy(drawing).permute(2, 0, 1))
