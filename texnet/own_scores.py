"""Measuring any generator and any images, of whatever origin, against an exemplar.

The same functions as behind ``results/metrics.csv``, on models and pictures that no workflow made.
What a model makes is clamped to [0, 1] and rounded to 8 bits first, as in a saved picture: a model
and its own pictures have the same numbers. Texture and content losses are unweighted; ``objective``
is the weighted sum that a training minimises, at T = 1 and without diversity term.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from texnet import apply, config, data, own
from texnet.artifacts import check_writable
from texnet.config import GROUP, Optimisation
from texnet.errors import DataError, UsageError
from texnet.generators import Network
from texnet.inputs import HELDOUT_SEED, sample_group
from texnet.metrics import texture_loss_by_layer
from texnet.own_compared import (
    REFERENCES,
    Given,
    check_kinds,
    compared_size,
    comparison,
    contents_of,
    exemplar_of,
    named,
    style_run,
    texture_run,
)
from texnet.scoring import TextureMeter, exemplar_crops
from texnet.tables import METRIC_COLUMNS, Row, summarise, write_table
from texnet.texturenets import TextureNetV1
from texnet.training import objective_of

SHOWN = (
    "objective", "texture", "content", "sliced_wasserstein", "pairwise_pixels",
    "pairwise_features", "vendi", "neighbour_entropy", "spotting", "low_pass_share",
)  # fmt: skip
"""Metrics in the printed table, in this order; the rest are in the file."""
DIVERSITY = ("pairwise_pixels", "pairwise_features", "vendi", "neighbour_entropy")
"""Metrics of a group of images: among more, or fewer, they are other numbers."""
COARSEST = 32
"""Pixels of a sample per pixel of the coarsest scale of a TextureNetV1."""


def score(args: argparse.Namespace, choices: own.Choices, device: torch.device) -> None:
    """``texnet score``: print a table of what was measured, and write all of it where asked to."""
    if args.out is not None:
        check_writable(args.out)
    given = named(args.what)
    check_kinds(given, args.content, choices)
    exemplar = exemplar_of(given, args.exemplar)
    with torch.no_grad():
        if args.content is None:
            rows = textures(texture_run(given, exemplar, choices), given, args.count, device)
        else:
            contents = contents_of(args.content)
            size = compared_size(given, exemplar, choices)
            run = style_run(given, exemplar, contents, choices, size)
            rows = stylizations(run, given, contents, size, device)
            print(comparison(run, size, choices), file=sys.stderr)
    print(*printed(rows), sep="\n")
    if args.out is not None:
        write_table(args.out, METRIC_COLUMNS, summarise(rows))
        print(args.out)


def as_saved(images: Tensor) -> Tensor:
    """Images clamped to [0, 1] and rounded to 8 bits, as :func:`texnet.data.write_image` does."""
    return (images.clamp(0, 1) * 255).round() / 255


# Textures


def textures(
    run: Optimisation, given: Sequence[Given], count: int, device: torch.device
) -> list[Row]:
    """Rows of samples and images as textures, and of crops of the exemplar beside them.

    Args:
        run: how they are measured.
        given: texture networks and images.
        count: samples of each network, and crops.
        device: where to compute.
    """
    size = run.images.size
    for each in given:
        check_sample(each, size)
    meter = TextureMeter(run, device)
    counts = {each.name: count if each.run else len(each.files) for each in given}
    unit = group_size(counts.values())
    rows: list[Row] = []
    for each in given:
        if each.net is None:
            shown = torch.stack([centre(file, size) for file in each.files])
        else:
            shown = samples(each.net.to(device), size, count)
        rows += rows_of(meter, each.name, run.seed, shown.to(device), unit)
    for told in left_out(counts, unit):
        print(told, file=sys.stderr)
    if max(meter.exemplar.shape[-2:]) == size:
        print(
            f"{run.images.reference[0]}: has the size of a sample, so that all its crops are one "
            "image: they are not measured; a smaller --size has them",
            file=sys.stderr,
        )
        return rows
    crops = exemplar_crops(meter.exemplar, size, max(unit, count // unit * unit), run.seed)
    for group, images in enumerate(crops.split(unit)):
        rows += meter("crops", run.seed, group, images)
        rows += meter("repeated", run.seed, group, images[:1].expand_as(images))
    return rows


def check_sample(each: Given, size: int) -> None:
    """UsageError where a pyramid's coarsest scale would be one pixel, which has no statistics."""
    pyramid = isinstance(each.net, TextureNetV1)
    if pyramid and each.run and each.run.generator.norm == "instance" and size <= COARSEST:
        raise UsageError(
            f"--size {size}: with instance norm {each.path} needs a side of more than {COARSEST} "
            "pixels, or its coarsest scale is one pixel"
        )


def group_size(counts: Iterable[int]) -> int:
    """Images among which diversity is measured: 8, or as many as all sets have where that is less.

    1 has no diversity: it is 8 then, of the references alone.
    """
    found = set(counts)
    return min(found) if len(found) == 1 and 1 < min(found) < GROUP else GROUP


def left_out(counts: Mapping[str, int], unit: int) -> Iterator[str]:
    """What to say of images behind no diversity."""
    for name, count in counts.items():
        if count < unit:
            yield f"{name}: {count} images, diversity is measured among {unit}: left out of it"
        elif count % unit:
            yield (
                f"{name}: {count} images, diversity is measured among {unit}: the last "
                f"{count % unit} left out of it"
            )


def rows_of(meter: TextureMeter, name: str, seed: int, images: Tensor, unit: int) -> list[Row]:
    """Rows of a set of images: diversity of whole groups of ``unit``, the rest of all images.

    The latter in groups of one size, the largest that leaves none over: the mean over the groups is
    that over the images.
    """

    def measured(size: int) -> list[Row]:
        whole = images[: len(images) // size * size].split(size) if len(images) >= size else ()
        return [
            row for number, group in enumerate(whole) for row in meter(name, seed, number, group)
        ]

    if len(images) % unit == 0:
        return measured(unit)
    even = max(size for size in range(1, unit) if len(images) % size == 0)
    rows = [row for row in measured(even) if row.metric not in DIVERSITY]
    return rows + [row for row in measured(unit) if row.metric in DIVERSITY]


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
    """Held-out samples of a texture network, (count, 3, size, size), those of the workflow."""
    groups = [sample_group(net, size, group) for group in range(-(-count // GROUP))]
    return as_saved(torch.cat(groups)[:count])


# Stylizations


def stylizations(
    run: Optimisation,
    given: Iterable[Given],
    contents: Mapping[str, Path],
    size: int,
    device: torch.device,
) -> list[Row]:
    """Rows of stylized images, or of what generators make, each held against its content image.

    Args:
        run: how they are measured.
        given: stylizers and images, which are matched with contents by the names of the files.
        contents: content images by name.
        size: longer side at which all are compared, in pixels.
        device: where to compute.
    """
    objective, weight = objective_of(run, device), run.objective.content_weight
    rows: list[Row] = []
    for each in given:
        for stem, image in stylized(each, contents, size, device):
            made = image[None].to(device)
            shown = data.load_image(str(contents[stem]))
            shown = data.resize(shown, (image.shape[-2], image.shape[-1]))
            terms = objective(made, objective.content_targets(shown[None].to(device)))
            by_layer = texture_loss_by_layer(objective, made)
            values = {"objective": terms.total, "texture": torch.stack([*by_layer.values()]).sum(0)}
            if weight:
                values["content"] = terms.content / weight
            values |= {f"texture_{layer}": value for layer, value in by_layer.items()}
            label = own.label(run.images.reference[0])
            rows += [
                Row(each.name, label, run.seed, stem, metric, float(value), "loss")
                for metric, value in values.items()
            ]
    return rows


def stylized(
    each: Given, contents: Mapping[str, Path], size: int, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    """Name of the content and stylized image (3, H, W), its longer side ``size``, of each.

    A generator is applied at its ``heldout_size``, or at ``size`` where that is larger, and what it
    makes is brought to ``size`` as a picture of it would be.
    """
    if each.net is not None and each.run is not None:
        net = each.net.to(device)
        applied = max(config.stylization(each.run).heldout_size, size)
        for stem, file in contents.items():
            shown = apply.content_image(file, applied)
            made = as_saved(apply.stylized(net, shown, HELDOUT_SEED, 0).cpu())
            yield stem, brought(made, file, size)
        return
    for file in each.files:
        known = [stem for stem in contents if file.stem == stem or file.stem.startswith(f"{stem}_")]
        if not known and len(contents) > 1:
            raise UsageError(f"{file}: no content of that name in --content")
        stem = max(known, key=len) if known else next(iter(contents))
        yield stem, brought(data.read_image(file), file, size)


def brought(image: Tensor, file: Path, size: int) -> Tensor:
    """An image (3, H, W) with a longer side of ``size`` pixels, its proportions kept.

    Raises:
        UsageError: its shorter side would have less than 16 pixels.
    """
    if max(image.shape[-2:]) == size:
        return image
    fitted = data.fit(image, size)
    height, width = fitted.shape[-2:]
    if min(height, width) < data.MIN_SIDE:
        raise UsageError(
            f"{file}: compared with a longer side of {size} it has {width}x{height} pixels, at "
            f"least {data.MIN_SIDE}x{data.MIN_SIDE} are needed; use a larger --size"
        )
    return fitted


# The table


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
