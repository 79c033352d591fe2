"""Measuring any generator and any images, of whatever origin, against an exemplar.

The same functions as behind ``results/metrics.csv``, on models and pictures that no workflow made.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from texnet import apply, data, own
from texnet.artifacts import check_writable
from texnet.config import GROUP, Optimisation, Texture, Training
from texnet.errors import DataError, MissingError, UsageError
from texnet.generators import Network
from texnet.inputs import HELDOUT_SEED, NoiseStream
from texnet.metrics import texture_loss_by_layer
from texnet.scoring import TextureMeter, exemplar_crops
from texnet.tables import METRIC_COLUMNS, Row, summarise, write_table
from texnet.training import load_generator, objective_of

SHOWN = (
    "objective", "texture", "content", "sliced_wasserstein", "pairwise_pixels",
    "pairwise_features", "vendi", "neighbour_entropy", "spotting", "low_pass_share",
)  # fmt: skip
"""Metrics in the printed table, in this order; the rest are in the file."""
REFERENCES = ("crops", "repeated")
Trained = tuple[Network, Training]


def score(args: argparse.Namespace, choices: own.Choices, device: torch.device) -> None:
    """``texnet score``: print a table of what was measured, and write all of it where asked to."""
    if args.out is not None:
        check_writable(args.out)
    given = [(path, generator(path)) for path in args.what]
    nets = [net[1] for _, net in given if net]
    run = measured(args.exemplar, args.content, choices, nets, args.what)
    with torch.no_grad():
        if args.content is None:
            rows = textures(run, given, args.count, device)
        else:
            rows = stylizations(run, given, args.content, device)
    table = summarise(rows)
    print(*printed(rows), sep="\n")
    if args.out is not None:
        write_table(args.out, METRIC_COLUMNS, table)
        print(args.out)


def generator(path: Path) -> Trained | None:
    """A trained generator and its run, where the file is one by its name."""
    return load_generator(path) if path.suffix == ".safetensors" else None


def pictures(path: Path) -> list[Path]:
    """The images that a path stands for."""
    return data.images_under([path]) if path.is_dir() else [path]


def measured(
    exemplar: str | None,
    content: Path | None,
    choices: own.Choices,
    runs: Sequence[Training],
    what: Sequence[Path],
) -> Optimisation:
    """What is measured, and how: the layers and sizes of the first model, else of the preset.

    Raises:
        MissingError, UsageError: no exemplar is known.
    """
    if exemplar is None and not runs and what[0].is_dir():
        raise MissingError(
            f"{what[0]}/run.json: no such file; name the folder of a run, or an --exemplar to hold "
            "its images against"
        )
    if exemplar is None and not runs:
        raise UsageError(f"{what[0]}: measured against what? name an --exemplar")
    source = exemplar or runs[0].images.reference[0]
    if runs:
        run, images = runs[0], runs[0].images
        if isinstance(images, Texture):
            images = replace(images, exemplar=source)
            if choices.size:
                images = own.texture_images(source, choices, choices.size)
        else:
            images = replace(images, style=source, heldout_size=choices.size or images.heldout_size)
        return Optimisation(
            name=own.label(source),
            seed=choices.seed,
            descriptor=choices.of.descriptor if choices.descriptor else run.descriptor,
            objective=replace(
                run.objective, temperature=1.0, diversity_weight=0.0, normalise_gradients=False
            ),
            images=images,
            start="noise",
            evaluations=1,
        )
    sides = [min(apply.content_image(f, None).shape[-2:]) for p in what for f in pictures(p)]
    fitting = min([*sides, min(data.load_image(source).shape[-2:])])
    chosen = replace(choices, size=choices.size or fitting)
    return own.optimisation(source, chosen, content=None if content is None else str(content))


def textures(
    run: Optimisation,
    given: Iterable[tuple[Path, Trained | None]],
    count: int,
    device: torch.device,
) -> list[Row]:
    """Rows of samples and images as textures, and of crops of the exemplar beside them."""
    if not isinstance(run.images, Texture):
        raise UsageError(
            f"run '{run.name}' is a stylization: name the photograph, or the folder of them, that "
            "is stylized, with --content"
        )
    meter, size = TextureMeter(run, device), run.images.size
    rows: list[Row] = []
    for path, net in given:
        if net is None:
            shown = torch.stack([centre(file, size) for file in pictures(path)])
        else:
            if not isinstance(net[1].images, Texture):
                raise UsageError(f"{path}: stylizes: name a photograph for it with --content")
            shown = samples(net[0], size, count)
        for group, images in enumerate(groups(shown.to(device))):
            rows += meter(path.stem, run.seed, group, images)
    if max(meter.exemplar.shape[-2:]) == size:
        print(
            f"{run.images.exemplar}: has the size of a sample, so that all its crops are one "
            "image: they are not measured; a smaller --size has them",
            file=sys.stderr,
        )
        return rows
    crops = exemplar_crops(meter.exemplar, size, count, run.seed)
    for group, images in enumerate(groups(crops)):
        rows += meter("crops", run.seed, group, images)
        if len(images) > 1:
            rows += meter("repeated", run.seed, group, images[:1].expand_as(images))
    return rows


def groups(images: Tensor) -> list[Tensor]:
    """Images in groups of eight, in which diversity is measured; what is left over is left out."""
    whole = len(images) // GROUP * GROUP
    return list(images[:whole].split(GROUP)) if whole else [images]


def centre(file: Path, size: int) -> Tensor:
    """The central square of an image, (3, size, size), at its own scale.

    Raises:
        DataError: it is smaller.
    """
    image = data.read_image(file)
    height, width = image.shape[-2:]
    if min(height, width) < size:
        raise DataError(f"{file}: {width}x{height} pixels, {size} are compared; use --size")
    top, left = (height - size) // 2, (width - size) // 2
    return image[:, top : top + size, left : left + size]


def samples(net: Network, size: int, count: int) -> Tensor:
    """Held-out samples of a texture network, (count, 3, size, size)."""
    made = []
    for first in range(0, count, GROUP):
        noise = NoiseStream(net, HELDOUT_SEED)(min(GROUP, count - first), size, size, first)
        made.append(net(None, noise)[..., :size, :size])
    return torch.cat(made)


def stylizations(
    run: Optimisation,
    given: Iterable[tuple[Path, Trained | None]],
    content: Path,
    device: torch.device,
) -> list[Row]:
    """Rows of stylized images, or of what generators make, each held against its content image.

    A folder of contents is matched with a folder of images by the names of the files.
    """
    if isinstance(run.images, Texture):
        raise UsageError("--content: these are textures, which have none; leave it out")
    objective = objective_of(run, device)
    contents = {file.stem: file for file in pictures(content)}
    rows: list[Row] = []
    for path, net in given:
        for stem, shown, image in pairs(path, net, contents, run.images.heldout_size):
            wanted = objective.content_targets(shown[None].to(device))
            made = image[None].to(device)
            terms = objective(made, wanted)
            values = {"objective": terms.total, "texture": terms.texture, "content": terms.content}
            by_layer = texture_loss_by_layer(objective, made)
            values |= {f"texture_{layer}": value for layer, value in by_layer.items()}
            rows += [
                Row(path.stem, own.label(run.images.style), run.seed, stem, k, float(v), "loss")
                for k, v in values.items()
            ]
    return rows


def pairs(
    path: Path, net: Trained | None, contents: dict[str, Path], size: int
) -> Iterable[tuple[str, Tensor, Tensor]]:
    """Name, content image and stylized image, both (3, H, W)."""
    if net is not None:
        for stem, file in contents.items():
            shown = apply.content_image(file, size)
            yield stem, shown, apply.stylized(net[0], shown, HELDOUT_SEED, 0)
        return
    for file in pictures(path):
        known = [stem for stem in contents if file.stem == stem or file.stem.startswith(f"{stem}_")]
        if not known and len(contents) > 1:
            raise UsageError(f"{file}: no content of that name in --content")
        stem = max(known, key=len) if known else next(iter(contents))
        image = data.read_image(file)
        shape = (image.shape[-2], image.shape[-1])
        yield stem, data.resize(data.load_image(str(contents[stem])), shape), image


def printed(rows: Sequence[Row]) -> list[str]:
    """A Markdown table: a row for what was measured, a column for each metric, with intervals."""
    from tabulate import tabulate

    found: dict[str, dict[str, str]] = {}
    for row in summarise(rows):
        cell = dict(zip(METRIC_COLUMNS, row, strict=True))
        if cell["seed"] == "all":
            spread = f" [{cell['ci_low']:.3g}, {cell['ci_high']:.3g}]" if cell["n"] != 1 else ""
            found.setdefault(str(cell["run"]), {})[str(cell["metric"])] = (
                f"{cell['value']:.3g}{spread}"
            )
    metrics = [m for m in SHOWN if any(m in cells for cells in found.values())]
    order = sorted(found, key=lambda name: (name in REFERENCES, name))
    cells = [[name, *(found[name].get(m, "") for m in metrics)] for name in order]
    return tabulate(cells, ["", *metrics], "github", disable_numparse=True).splitlines()
