"""What the verbs do that work on somebody's own images; see :mod:`texnet.own` for their runs.

Each imports what it needs, so that ``--help`` starts without PyTorch.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from texnet.commands import device_of
from texnet.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from texnet import config, own

PICTURES = (".png", ".jpg", ".jpeg")


def choices(args: argparse.Namespace) -> own.Choices:
    """What the command line chose; the descriptor's weights are fetched where need be."""
    from texnet import own

    chosen = own.Choices(
        preset=args.preset,
        descriptor=args.descriptor,
        size=args.size,
        exemplar_size=getattr(args, "exemplar_size", None),
        iterations=getattr(args, "iterations", None),
        batch=getattr(args, "batch", None),
        seed=args.seed,
        threads=args.threads or own.cores(),
        device=args.device or "auto",
    )
    there([chosen.of.descriptor.name])
    return chosen


def there(names: list[str]) -> None:
    """Fetch what of some names is in the registry and not in the cache."""
    from texnet import registry
    from texnet.fetch import fetch

    for name in names:
        if name in registry.registered() and not registry.complete(name):
            size = sum(entry.bytes for entry in registry.entries_of(name)) / 1e6
            print(f"{name}: fetching {size:.0f} MB", file=sys.stderr)
            fetch(name, registry.mirrors())


def train_texture(args: argparse.Namespace) -> None:
    from texnet import own

    chosen = choices(args)
    there([args.exemplar])
    with own.one_line():
        run = own.texture_training(args.exemplar, chosen, args.network, args.diversity)
    _train(run, args)


def train_style(args: argparse.Namespace) -> None:
    from texnet import own

    chosen = choices(args)
    with own.one_line():
        run = own.style_training(
            args.style, chosen, args.content, args.preview, args.content_weight, args.diversity
        )
    there([args.style, *run.images.files])
    _train(run, args)


def _train(run: config.Training, args: argparse.Namespace) -> None:
    """Train in a folder beside the model, with a picture of how far it is, then deliver."""
    from texnet import delivery, training
    from texnet.artifacts import check_writable
    from texnet.checkpoints import alone
    from texnet.process import stop_requests
    from texnet.progress import Progress

    out = args.out or Path(f"{Path(run.images.reference[0]).stem}.safetensors")
    suffixed(out, ".safetensors")
    check_writable(out)
    folder = delivery.workplace(out)
    with alone(folder), delivery.emptied(out):
        if delivery.delivered(out, run):
            print(f"{out}: is trained already; delete it to train again")
            return
        run = delivery.begun(out, run)
        exemplar, picture = delivery.checksum(run), delivery.Picture(run, out)
        device = device_of(run.device, run.threads, precision=run.acceleration.precision)
        if not (folder / delivery.MODEL).exists():  # else it was stopped while it was delivered
            with (
                stop_requests() as stopped,
                Progress(run.name, run.optimiser.iterations) as show,
            ):
                print(f"preview, as it gets better: {picture.path}", file=sys.stderr)
                training.train(
                    run,
                    folder / delivery.MODEL,
                    device,
                    lambda step: show(step.iteration, step.loss),
                    stopped,
                    picture,
                )
        files = delivery.deliver(run, exemplar, out, device)
    print(*files, sep="\n")


def suffixed(out: Path, suffix: str) -> None:
    """UsageError for a file to write of another kind: it may be somebody's picture."""
    if out.suffix.lower() != suffix:
        raise UsageError(f"--out {out}: is no {suffix} file; name one")


def optimize_texture(args: argparse.Namespace) -> None:
    from texnet import own

    chosen = choices(args)
    there([args.exemplar])
    with own.one_line():
        run = own.optimisation(args.exemplar, chosen, args.evaluations)
    _optimise(run, args)


def optimize_style(args: argparse.Namespace) -> None:
    from texnet import own

    chosen = choices(args)
    there([args.style, args.content])
    with own.one_line():
        run = own.optimisation(
            args.style, chosen, args.evaluations, args.content, args.content_weight
        )
    _optimise(run, args)


def _optimise(run: config.Optimisation, args: argparse.Namespace) -> None:
    from texnet import apply, baselines, config, data
    from texnet.artifacts import check_writable
    from texnet.progress import Progress
    from texnet.training import objective_of

    out = args.out
    suffixed(out, ".png")
    if args.count > 1 and args.start != "noise":
        raise UsageError(f"--count {args.count}: from one start there is one image; use 1")
    given = {os.path.realpath(name) for name in (*run.images.files, args.start)}
    if os.path.realpath(out) in given:
        raise UsageError(f"--out {out}: is an input, and would be overwritten; name another")
    check_writable(out)
    device = device_of(run.device, run.threads)
    objective = objective_of(run, device)
    content, shape = None, (run.images.size, run.images.size)
    if isinstance(run.images, config.Images):
        source = Path(run.images.heldout[0])
        content = apply.content_image(source, run.images.heldout_size).to(device)
        shape = (content.shape[-2], content.shape[-1])
    targets = objective.content_targets(None if content is None else content[None])
    for number in range(args.count):
        start = _start(args.start, content, shape, run.seed * 1000 + number)
        with Progress(f"{run.name}, image {number + 1}", run.evaluations) as show:
            made = baselines.optimise(objective, start.to(device), targets, run.evaluations, show)
        path = out if args.count == 1 else out.with_stem(f"{out.stem}_{number}")
        data.write_image(path, made.image)
        print(path)


def _start(start: str, content: Tensor | None, shape: tuple[int, int], seed: int) -> Tensor:
    """The first image (3, H, W): noise, the content, or a file in the size of the result."""
    from texnet import baselines, data

    if start == "noise":
        return baselines.noise_image(shape, seed)
    if start == "content":
        if content is None:
            raise UsageError("--start content: a texture has none; use noise or a file")
        return content
    return data.resize(data.load_image(start), shape)


def stylize(args: argparse.Namespace) -> None:
    from texnet import apply, config, data, training, video
    from texnet.artifacts import check_writable

    _folder(args.out)
    clip = args.image.suffix.lower() in video.KINDS
    files = apply.inputs(args.image, args.out)
    made = apply.outputs(files, args.out, args.count, ".mp4" if clip else ".png")
    check_writable(made[files[0]][0])
    device = device_of(args.device or "auto", args.threads)
    net, run = training.load_generator(args.model)
    if isinstance(run.images, config.Texture):
        raise UsageError(f"{args.model}: makes textures, takes no image; use texnet sample")
    apply.check_noise(net, args.model, args.seed, args.count)
    look = apply.Look(args.brush_size, args.keep_colour)
    check = apply.Checks(net.to(device), run)
    if clip:
        for number, out in enumerate(made[args.image]):
            video.stylize(net, check, args.image, out, look, args.size, args.seed or 0, number)
            print(out)
        return
    # All images are looked at before the first is computed, and read again then: a folder may hold
    # more than fits into memory.
    warnings = []
    for file in files:
        shape = apply.content_image(file, args.size).shape[-2:]
        warnings += check(file, *look.worked_on(file, shape))
    for line in warnings:
        print(line, file=sys.stderr)
    for file, outs in made.items():
        content = apply.content_image(file, args.size)
        for number, out in enumerate(outs):
            data.write_image(out, look(net, content, args.seed or 0, number))
            print(out)


def _folder(out: Path) -> None:
    """UsageError for a folder of results that is named like a picture."""
    from texnet.video import KINDS

    if out.suffix.lower() in (*PICTURES, *KINDS):
        raise UsageError(f"--out {out}: looks like a file; name a folder for the results")


def sample(args: argparse.Namespace) -> None:
    import torch

    from texnet import apply, config, data, inputs, training
    from texnet.generators import TextureNetV2
    from texnet.textures import label_of

    _folder(args.out)
    device = device_of(args.device or "auto", args.threads)
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
    apply.Checks(net, run).memory(f"--size {width}x{height}", height, width)
    noise = inputs.NoiseStream(net, args.seed)
    for number in range(args.count):
        z = [part.to(device) for part in noise(1, height, width, number)]
        with torch.no_grad():
            image = net(None, z)[0, :, :height, :width]
        name = dict.fromkeys((run.name, label_of(run.images.exemplar)))
        out = args.out / f"{'_'.join(name)}_{number}.png"
        data.write_image(out, image)
        print(out)
    if pyramid and (width % 32 or height % 32):
        print("cropped from a multiple of 32: these do not tile", file=sys.stderr)


def score(args: argparse.Namespace) -> None:
    """Runs of the workflow, or any models and images against an exemplar."""
    from texnet import commands

    runs = [path for path in args.what if (path / "run.json").is_file()]
    if len(runs) == len(args.what):
        if args.out is None:
            raise UsageError(f"{runs[0]}: the scores of runs go to a table: name it with --out")
        commands.score(args)
        return
    if runs:
        raise UsageError(f"{runs[0]}: is the folder of a run; score runs apart from images")
    from texnet import own_scores

    chosen = choices(args)
    own_scores.score(args, chosen, device_of(chosen.device, chosen.threads))


def info(args: argparse.Namespace) -> None:
    from texnet import cards

    print(cards.describe(args.file), end="")


def export(args: argparse.Namespace) -> None:
    from texnet import export

    if args.onnx is None and args.hub is None:
        raise UsageError("name what to make: --onnx FILE.onnx, --hub FOLDER, or both")
    if args.onnx is not None:
        for check in export.onnx(args.model, args.onnx):
            print(check)
        print(args.onnx)
    if args.hub is not None:
        for path in export.hub(args.model, args.hub, args.picture):
            print(path)


def import_torch7(args: argparse.Namespace) -> None:
    from texnet import torch7

    suffixed(args.out, ".safetensors")
    for line in torch7.convert(args.source, args.out, args.exemplar, args.normalisation):
        print(line)
