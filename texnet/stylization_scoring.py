"""Measurements of stylizations: of trained generators and of optimised images."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from texnet import config
from texnet.artifacts import read_tensors
from texnet.data import load_image, square
from texnet.errors import DataError
from texnet.generators import Network
from texnet.inputs import HELDOUT_SEED, NoiseStream, heldout_images
from texnet.losses import Objective
from texnet.metrics import (
    contrast_change,
    contrast_removed,
    deviation_over_noise,
    feature_distance,
    pairwise_features,
    pixel_distance,
    texture_loss_by_layer,
    texture_loss_of_halves,
    uniform_region,
    vendi,
)
from texnet.tables import Row
from texnet.training import load_generator, objective_of

LOSS, RMS, GREY = "loss", "RMS of [0,1]", "of 255"


class Stylizer:
    """A trained generator with its held-out images and the objective they are measured by.

    The objective is that of the training at T = 1 and without diversity term, so that the numbers
    of all runs are in one unit.
    """

    def __init__(self, directory: Path, device: torch.device) -> None:
        self.net, self.run = load_generator(directory / "model.safetensors")
        self.net.to(device)
        plain = dataclasses.replace(self.run.objective, temperature=1.0, diversity_weight=0.0)
        measured = dataclasses.replace(self.run, objective=plain)
        self.objective: Objective = objective_of(measured, device)
        self.images = config.stylization(self.run)
        self.contents = heldout_images(self.images).to(device)
        self.targets = self.objective.content_targets(self.contents)

    def __call__(self, contents: Tensor, net: Network | None = None, draw: int = 0) -> Tensor:
        """Stylized images (B, 3, H, W), in evaluation mode unless another network is given."""
        count, _, height, width = contents.shape
        noise = NoiseStream(self.net, HELDOUT_SEED)(count, height, width, draw)
        return (net or self.net)(contents, [z.to(contents.device) for z in noise])

    def rows(self, values: Mapping[str, Tensor], unit: str) -> list[Row]:
        """One row a metric and held-out image."""
        return _rows(self.run, self.images.heldout, values, unit)


@torch.no_grad()
def score_stylization(
    directory: Path, device: torch.device, sizes: Iterable[int] = ()
) -> list[Row]:
    """Rows of one trained generator on its held-out images.

    The generator is in evaluation mode, where batch norm uses its running statistics (paper section
    4); metrics that end in ``_own_statistics`` are of the training mode, one image at a time, as
    the authors' first code stylized: batch norm then uses the statistics of that image.

    Args:
        directory: of a finished training.
        device: where to compute.
        sizes: sides of the content images at which the losses are measured besides.
    """
    stylizer = Stylizer(directory, device)
    contents, objective = stylizer.contents, stylizer.objective
    images = stylizer(contents)
    terms = objective(images, stylizer.targets)
    outer, inner = texture_loss_of_halves(objective, images)
    values = {
        "objective": terms.total,
        "texture": terms.texture,
        "content": terms.content,
        **{f"texture_{k}": v for k, v in texture_loss_by_layer(objective, images).items()},
        "texture_outer": outer,
        "texture_inner": inner,
    }
    rows = stylizer.rows(values, LOSS)
    mean = contents.mean((2, 3), keepdim=True)
    faded = stylizer(mean + 0.5 * (contents - mean))
    rows += stylizer.rows({"contrast_change": contrast_change(images, faded)}, "of deviation")
    rows += score_modes(stylizer, images)
    if stylizer.net.noise_shapes(1, *contents.shape[-2:]):
        rows += score_noise(stylizer)
    for size in sizes:
        rows += score_at(stylizer, size, device)
    return rows


def score_modes(stylizer: Stylizer, images: Tensor) -> list[Row]:
    """Rows of how a generator differs between training and test mode (claim C26).

    Args:
        stylizer: the generator.
        images: its outputs in evaluation mode, (B, 3, H, W).
    """
    training = copy.deepcopy(stylizer.net).train()
    together = stylizer(stylizer.contents, training)
    alone = _one_by_one(stylizer, training)
    rows = stylizer.rows(
        {
            "mode_difference": 255 * (together - images).abs().amax((1, 2, 3)),
            "batch_difference": 255 * (together - alone).abs().amax((1, 2, 3)),
        },
        GREY,
    )
    terms = stylizer.objective(alone, stylizer.targets)
    values = {"objective_own_statistics": terms.total, "texture_own_statistics": terms.texture}
    return rows + stylizer.rows(values, LOSS)


def _one_by_one(stylizer: Stylizer, net: Network) -> Tensor:
    """Stylized images (B, 3, H, W), each made alone, with the noise that it has in the batch."""
    contents = stylizer.contents
    count, _, height, width = contents.shape
    noise = NoiseStream(stylizer.net, HELDOUT_SEED)(count, height, width, 0)
    made = [
        net(contents[i : i + 1], [z[i : i + 1].to(contents.device) for z in noise])
        for i in range(count)
    ]
    return torch.cat(made)


def score_noise(stylizer: Stylizer) -> list[Row]:
    """Rows of how eight samples of one content image differ (claim C15)."""
    found: dict[str, list[float]] = {}
    for i, content in enumerate(stylizer.contents):
        samples = stylizer(content.expand(config.GROUP, -1, -1, -1), draw=1 + i)
        deviation, uniform = deviation_over_noise(samples), uniform_region(content)
        embedding = contrast_removed(stylizer.objective.descriptor, samples)
        values = {
            "noise_deviation": float(deviation.mean()),
            "noise_deviation_uniform": float(deviation[uniform].mean()),
            "noise_deviation_detailed": float(deviation[~uniform].mean()),
            "pairwise_features": pairwise_features(embedding),
            "vendi": vendi(embedding),
        }
        for metric, value in values.items():
            found.setdefault(metric, []).append(value)
    units = {"pairwise_features": "distance", "vendi": f"of {config.GROUP}"}
    return [
        row
        for metric, values in found.items()
        for row in stylizer.rows({metric: torch.tensor(values)}, units.get(metric, RMS))
    ]


def score_at(stylizer: Stylizer, size: int, device: torch.device) -> list[Row]:
    """Rows of the losses on the held-out images at another size, one image at a time."""
    totals, textures = [], []
    for name in stylizer.images.heldout:
        content = square(load_image(name), size)[None].to(device)
        terms = stylizer.objective(stylizer(content), stylizer.objective.content_targets(content))
        totals.append(terms.total)
        textures.append(terms.texture)
    values = {f"objective_{size}px": torch.cat(totals), f"texture_{size}px": torch.cat(textures)}
    return stylizer.rows(values, LOSS)


@torch.no_grad()
def score_baseline(directory: Path, device: torch.device) -> list[Row]:
    """Rows of one baseline: objective at the start and at the end, and how far the image moved."""
    run = config.read_run(directory / "run.json")
    if not isinstance(run, config.Optimisation):
        raise DataError(f"{directory}/run.json: is a training, wanted a baseline")
    tensors, _ = read_tensors(directory / "images.safetensors")
    images = config.stylization(run)
    names = images.heldout
    try:
        start = torch.stack([tensors[f"{n}/start"] for n in names]).to(device)
        end = torch.stack([tensors[f"{n}/end"] for n in names]).to(device)
    except KeyError as error:
        raise DataError(
            f"{directory}/images.safetensors: no image {error}; optimise again"
        ) from error
    objective = objective_of(run, device)
    targets = objective.content_targets(heldout_images(images).to(device))
    first, last = objective(start, targets), objective(end, targets)
    rows = _rows(
        run,
        names,
        {
            "objective_start": first.total,
            "objective": last.total,
            "texture": last.texture,
            "content": last.content,
            **{f"texture_{k}": v for k, v in texture_loss_by_layer(objective, end).items()},
        },
        "objective",
    )
    rows += _rows(run, names, {"moved_pixels": pixel_distance(start, end)}, "RMS of [0,1]")
    moved = feature_distance(objective.descriptor, start, end)
    return rows + _rows(run, names, {"moved_features": moved}, "squared distance")


def _rows(
    run: config.Training | config.Optimisation,
    contents: Iterable[str],
    values: Mapping[str, Tensor],
    unit: str,
) -> list[Row]:
    return [
        Row(run.name, run.images.reference[0], run.seed, content, metric, float(value), unit)
        for metric, vector in values.items()
        for content, value in zip(contents, vector, strict=True)
    ]
