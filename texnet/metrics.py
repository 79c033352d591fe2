"""Measurements of trained generators and optimised images, one row a measurement.

``score`` gives the raw rows of one run; :func:`texnet.tables.summarise` gathers them into
``results/metrics.csv``, with intervals. No metric is normalised; each row names its unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from texnet import config
from texnet.artifacts import read_tensors
from texnet.descriptors import Descriptor
from texnet.errors import DataError
from texnet.losses import Objective
from texnet.tables import Row
from texnet.training import NoiseStream, heldout_images, load_generator, objective_of


def pixel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean squared difference of two batches (B, 3, H, W), clamped to [0, 1]: (B,)."""
    return (a.clamp(0, 1) - b.clamp(0, 1)).square().mean((1, 2, 3)).sqrt()


def feature_distance(descriptor: Descriptor, a: Tensor, b: Tensor) -> Tensor:
    """Perceptual distance of two batches, (B,): mean over the descriptor's layers.

    Per layer: activations are scaled to unit length across channels at every position, and the
    squared distance is averaged over positions. This is LPIPS (Zhang et al. 2018) without its
    learnt channel weights.
    """
    found, wanted = descriptor(a.clamp(0, 1)), descriptor(b.clamp(0, 1))
    by_layer = [
        (F.normalize(found[k], dim=1) - F.normalize(wanted[k], dim=1)).square().sum(1).mean((1, 2))
        for k in descriptor.layers
    ]
    return torch.stack(by_layer).mean(0)


def texture_loss_by_layer(objective: Objective, images: Tensor) -> dict[str, Tensor]:
    """Unweighted texture loss of images (B, 3, H, W) per style layer: {layer: (B,)}."""
    return objective.texture.by_layer(objective.descriptor(images))


@torch.no_grad()
def score_training(directory: Path, device: torch.device) -> list[Row]:
    """Rows of one trained generator on its held-out images.

    The generator is in evaluation mode: batch norm uses its running statistics (paper section 4).
    """
    net, run = load_generator(directory / "model.safetensors")
    objective = objective_of(run, device)
    contents = heldout_images(run.images).to(device)
    noise = NoiseStream(net.noise_channels, run.seed)
    images = net.to(device)(contents, noise(contents, 0))
    terms = objective(images, objective.content_targets(contents))
    values = {
        "objective": terms.total,
        "texture": terms.texture,
        "content": terms.content,
        **{f"texture_{k}": v for k, v in texture_loss_by_layer(objective, images).items()},
    }
    return _rows(run, run.images.heldout, values, "objective")


@torch.no_grad()
def score_baseline(directory: Path, device: torch.device) -> list[Row]:
    """Rows of one baseline: objective at the start and at the end, and how far the image moved."""
    run = config.read_run(directory / "run.json")
    if not isinstance(run, config.Optimisation):
        raise DataError(f"{directory}/run.json: is a training, wanted a baseline")
    tensors, _ = read_tensors(directory / "images.safetensors")
    names = run.images.heldout
    try:
        start = torch.stack([tensors[f"{n}/start"] for n in names]).to(device)
        end = torch.stack([tensors[f"{n}/end"] for n in names]).to(device)
    except KeyError as error:
        raise DataError(
            f"{directory}/images.safetensors: no image {error}; optimise again"
        ) from error
    objective = objective_of(run, device)
    targets = objective.content_targets(heldout_images(run.images).to(device))
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


def score(directory: Path, device: torch.device) -> list[Row]:
    """Rows of the run in ``directory``, a training or a baseline."""
    run = config.read_run(directory / "run.json")
    kind = score_training if isinstance(run, config.Training) else score_baseline
    return kind(directory, device)


def _rows(
    run: config.Training | config.Optimisation,
    contents: Iterable[str],
    values: Mapping[str, Tensor],
    unit: str,
) -> list[Row]:
    return [
        Row(run.name, run.images.style, run.seed, content, metric, float(value), unit)
        for metric, vector in values.items()
        for content, value in zip(contents, vector, strict=True)
    ]
