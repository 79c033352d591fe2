"""What each verb of the command line does.

Each imports what it needs, so that ``--help`` and the table verbs start without PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from texnet.errors import DifferenceError, MissingError, UsageError


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


def _mapping(text: str) -> dict:
    """A configuration given as JSON text, or as one or more YAML files joined by commas."""
    from texnet.documents import read_json_text, read_yaml

    if text.lstrip().startswith("{"):
        return read_json_text(text)
    merged: dict = {}
    for name in filter(None, map(str.strip, text.split(","))):
        merged = _merge(merged, read_yaml(Path(name)))
    return merged


def _device(name: str, threads: int, **how: str | bool):  # noqa: ANN202 (a torch.device)
    """Set up the process; UsageError where the device is not there."""
    import torch

    from texnet import runtime

    device = runtime.prepare(name, threads, **how)
    try:
        torch.empty(1, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"device '{name}' is not usable here ({reason}); use cpu") from error
    return device


def _merge(base: dict, change: dict) -> dict:
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
            print(f"{name:<20}{state:<11}{size:>11.2f} MB  {files}{large}; {entries[0].licence}")
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
    for error in failed[:-1]:
        print(f"texnet fetch: error: {error}", file=sys.stderr)
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
    device = _device(args.device or run.device, run.threads, **how)
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
    training.show_samples(args.out, _device("cpu", 1))


def optimize(args: argparse.Namespace) -> None:
    from texnet import baselines, config
    from texnet.artifacts import check_writable
    from texnet.checkpoints import alone
    from texnet.progress import Progress

    run = config.read_run(args.run)
    if not isinstance(run, config.Optimisation):
        raise UsageError(f"{args.run}: describes a training; use texnet train")
    check_writable(args.out)
    device = _device(args.device or run.device, run.threads)
    images = run.images
    total = images.samples if isinstance(images, config.Texture) else len(images.heldout)
    with alone(args.out.parent), Progress(f"{run.name} seed {run.seed}", total) as show:

        def on_image(done: int, result: baselines.Optimised) -> None:
            show(done, result.trace[-1][0])

        baselines.run_baseline(run, args.out, device, args.start, on_image)


def stylize(args: argparse.Namespace) -> None:
    from texnet import apply, config, data, training
    from texnet.artifacts import check_writable

    if args.out.suffix.lower() in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"--out {args.out}: looks like a file; name a folder for the results")
    files = data.images_under([args.image]) if args.image.is_dir() else [args.image]
    made = apply.outputs(files, args.out, args.count)
    check_writable(made[files[0]][0])
    device = _device(args.device or "auto", args.threads)
    net, run = training.load_generator(args.model)
    if isinstance(run.images, config.Texture):
        raise UsageError(f"{args.model}: makes textures, takes no image; use texnet sample")
    apply.check_noise(net, args.model, args.seed, args.count)
    check = apply.Checks(net.to(device), run)
    # All images are looked at before the first is computed, and read again then: a folder may hold
    # more than fits into memory.
    warnings = []
    for file in files:
        warnings += check(file, *apply.content_image(file, args.size).shape[-2:])
    for line in warnings:
        print(line, file=sys.stderr)
    for file, outs in made.items():
        content = apply.content_image(file, args.size)
        for number, out in enumerate(outs):
            data.write_image(out, apply.stylized(net, content, args.seed or 0, number))
            print(out)


def score(args: argparse.Namespace) -> None:
    from texnet import config, scoring, tables
    from texnet.artifacts import check_writable

    check_writable(args.out)
    rows = []
    for directory in args.runs:
        run = config.read_run(directory / "run.json")
        device = _device(args.device or run.device, run.threads)
        rows += scoring.score(directory, device, args.sizes)
    tables.write_table(args.out, tables.SCORE_COLUMNS, rows)


def sample(args: argparse.Namespace) -> None:
    import torch

    from texnet import config, data, inputs, training
    from texnet.generators import TextureNetV2
    from texnet.textures import label_of

    if args.out.suffix.lower() in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"--out {args.out}: looks like a file; name a folder for the results")
    device = _device(args.device or "auto", args.threads)
    net, run = training.load_generator(args.model)
    if not isinstance(run.images, config.Texture):
        raise UsageError(f"{args.model}: stylizes images; use texnet stylize")
    net.to(device)
    width, height = args.size or (run.images.size, run.images.size)
    pyramid = not isinstance(net, TextureNetV2)
    if pyramid and run.generator.norm == "instance" and max(width, height) <= 32:
        raise UsageError(
            f"--size {width}x{height}: with instance norm a TextureNetV1 needs a side of more than "
            "32 pixels, or its coarsest scale is one pixel"
        )
    noise = inputs.NoiseStream(net, args.seed)
    for number in range(args.count):
        z = [part.to(device) for part in noise(1, height, width, number)]
        with torch.no_grad():
            image = net(None, z)[0, :, :height, :width]
        out = args.out / f"{run.name}_{label_of(run.images.exemplar)}_{number}.png"
        data.write_image(out, image)
        print(out)
    if pyramid and (width % 32 or height % 32):
        print("cropped from a multiple of 32: these do not tile", file=sys.stderr)


def references(args: argparse.Namespace) -> None:
    from texnet import config, scoring, tables
    from texnet.artifacts import check_writable

    check_writable(args.out)
    rows = []
    for path in args.runs:
        run = config.read_run(path)
        device = _device(args.device or run.device, run.threads)
        rows += scoring.score_references(path, args.seeds, device)
    tables.write_table(args.out, tables.SCORE_COLUMNS, rows)


def speed(args: argparse.Namespace) -> None:
    from texnet import speed, tables
    from texnet.artifacts import check_writable

    check_writable(args.out)
    settings = speed.read_settings(args.settings)
    device = _device(settings.device, settings.threads, reproducible=False)
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
    _device("cpu", args.threads)
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
