"""From finished runs to measurements, one row a measurement.

``score`` gives the raw rows of one run; :func:`texnet.tables.summarise` gathers them into
``results/metrics.csv``, with intervals. Each row names its unit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from texnet import config, descriptors
from texnet.artifacts import read_tensors
from texnet.data import style_image
from texnet.descriptors import LAYERS
from texnet.errors import DataError, UsageError
from texnet.generators import Network
from texnet.inputs import HELDOUT_SEED, NoiseStream, exemplar_must_cover, sample_group
from texnet.metrics import (
    contrast_removed,
    low_pass_share,
    neighbour_entropy,
    pairwise_features,
    pairwise_pixels,
    quantile_distance,
    quantiles,
    spotting,
    texture_loss_by_layer,
    vendi,
)
from texnet.stylization_scoring import score_baseline, score_stylization
from texnet.tables import Row
from texnet.textures import label_of
from texnet.training import load_generator, objective_of

RELEASED = "authors_release"
"""The run that rows of a generator of the authors' name."""
CROPS = 2**31  # keeps the crops' draws apart from others of the same seed


@torch.no_grad()
def score_texture(directory: Path, device: torch.device, sizes: Iterable[int] = ()) -> list[Row]:
    """Rows of the samples of a texture: of a trained network, or optimised ones.

    Samples come in groups of 8, one row a group and metric: the groups are independent, so that
    intervals over them are honest for diversity too. All networks get the same held-out noise.
    At each of ``sizes`` the texture loss of as many samples as have a group's area, one at least,
    is added (networks of any size alone).
    """
    run = config.read_run(directory / "run.json")
    meter = TextureMeter(run, device)
    count = meter.images.samples // config.GROUP
    if isinstance(run, config.Training):
        net, run = load_generator(directory / "model.safetensors")
        net.to(device)
        groups = [sample_group(net, run.images.size, g) for g in range(count)]
    else:
        tensors, _ = read_tensors(directory / "images.safetensors")
        try:
            samples = torch.stack([tensors[f"{i}/end"] for i in range(meter.images.samples)])
        except KeyError as error:
            raise DataError(
                f"{directory}/images.safetensors: no sample {error}; optimise again"
            ) from error
        groups = list(samples.to(device).split(config.GROUP))
    rows = [row for g, images in enumerate(groups) for row in meter(run.name, run.seed, g, images)]
    for size in sizes if isinstance(run, config.Training) else ():
        number = max(1, config.GROUP * run.images.size**2 // size**2)
        noise = [z.to(device) for z in NoiseStream(net, HELDOUT_SEED)(number, size, size, 0)]
        losses = texture_loss_by_layer(meter.objective, net(None, noise)[..., :size, :size])
        value = float(sum(losses.values(), torch.zeros(())).mean())
        rows.append(
            Row(run.name, meter.label, run.seed, "group0", f"texture_{size}px", value, "loss")
        )
    return rows


@torch.no_grad()
def score_released(net: Network, path: Path, device: torch.device) -> list[Row]:
    """Rows of a texture network that nobody trained here, as of a run on the same exemplar.

    Args:
        net: the network, in evaluation mode.
        path: run.json of the run, which says sizes, layers and the number of samples.
        device: where to compute.
    """
    run = config.read_run(path)
    meter = TextureMeter(run, device)
    net = net.to(device)
    rows: list[Row] = []
    for group in range(meter.images.samples // config.GROUP):
        rows += meter(RELEASED, 0, group, sample_group(net, meter.images.size, group))
    return rows


@torch.no_grad()
def score_references(path: Path, seeds: Iterable[int], device: torch.device) -> list[Row]:
    """Rows of an exemplar's own crops, ``crops``, and of one crop repeated, ``repeated``.

    Args:
        path: run.json of any run on the exemplar, which says sizes and layers.
        seeds: of the crops.
    """
    run = config.read_run(path)
    meter = TextureMeter(run, device)
    rows = []
    for seed in seeds:
        crops = exemplar_crops(meter.exemplar, meter.images.size, meter.images.samples, seed)
        for g, images in enumerate(crops.split(config.GROUP)):
            rows += meter("crops", seed, g, images)
            rows += meter("repeated", seed, g, images[:1].expand_as(images))
    return rows


def exemplar_crops(exemplar: Tensor, size: int, count: int, seed: int) -> Tensor:
    """Square crops (count, 3, size, size) at random places of an exemplar (3, H, W)."""
    rng = np.random.default_rng([seed, CROPS])
    height, width = exemplar.shape[-2:]
    tops = rng.integers(height - size + 1, size=count)
    lefts = rng.integers(width - size + 1, size=count)
    return torch.stack(
        [exemplar[:, t : t + size, x : x + size] for t, x in zip(tops, lefts, strict=True)]
    )


class TextureMeter:
    """Measures groups of samples of one exemplar, (8, 3, size, size), by every texture metric."""

    def __init__(self, run: config.Training | config.Optimisation, device: torch.device) -> None:
        if not isinstance(run.images, config.Texture):
            raise UsageError(f"run '{run.name}' is a stylization, wanted a texture")
        exemplar_must_cover(run.images)
        self.images = run.images
        self.label = label_of(run.images.exemplar)
        self.objective = objective_of(run, device)
        self.exemplar = style_image(*run.images.reference).to(device)
        trained = run.objective.style_layers
        reached = LAYERS[: max(LAYERS.index(layer) for layer in trained)]
        untrained = [layer for layer in reached if layer not in trained]
        self.untrained: descriptors.Descriptor | None = None
        self.quantiles: dict[str, Tensor] = {}
        if untrained:
            self.untrained = descriptors.load(
                run.descriptor.name,
                untrained,
                pool=run.descriptor.pool,
                weights=config.weights_file(run.descriptor),
            ).to(device)
            wanted = self.untrained(self.exemplar[None])
            self.quantiles = {layer: quantiles(wanted[layer]) for layer in wanted}
        crops = exemplar_crops(self.exemplar, run.images.size, 64, seed=0)
        self.spots = spotting(crops).mean()

    def __call__(self, run: str, seed: int, group: int, images: Tensor) -> list[Row]:
        """Rows of one group; of a single image those alone that need no other."""
        texture = texture_loss_by_layer(self.objective, images)
        found = self.untrained(images.clamp(0, 1)) if self.untrained else {}
        wasserstein = {k: quantile_distance(quantiles(found[k]), self.quantiles[k]) for k in found}
        values: dict[tuple[str, str], Tensor | float] = {
            ("texture", "loss"): torch.stack(list(texture.values())).sum(0).mean(),
            **{(f"texture_{k}", "loss"): v.mean() for k, v in texture.items()},
            **{(f"sliced_wasserstein_{k}", "activation"): v.mean() for k, v in wasserstein.items()},
            ("spotting", "of exemplar"): (spotting(images) / self.spots).mean(),
            ("low_pass_share", "of variance"): low_pass_share(images).mean(),
        }
        if len(images) > 1:
            embedding = contrast_removed(self.objective.descriptor, images)
            values |= {
                ("pairwise_pixels", "RMS of [0,1]"): pairwise_pixels(images),
                ("pairwise_features", "distance"): pairwise_features(embedding),
                ("vendi", f"of {len(images)}"): vendi(embedding),
                ("neighbour_entropy", "nats"): neighbour_entropy(images),
            }
        if wasserstein:  # the geometric mean: deep layers' activations are ten times as large
            logs = torch.stack([distances.mean().log() for distances in wasserstein.values()])
            values["sliced_wasserstein", "activation"] = logs.mean().exp()
        return [
            Row(run, self.label, seed, f"group{group}", metric, float(value), unit)
            for (metric, unit), value in values.items()
        ]


def score(directory: Path, device: torch.device, sizes: Iterable[int] = ()) -> list[Row]:
    """Rows of the run in ``directory``: a stylization, its baseline, or a texture.

    Args:
        directory: of a finished run.
        device: where to compute.
        sizes: sides at which a trained generator is measured besides.
    """
    run = config.read_run(directory / "run.json")
    if isinstance(run.images, config.Texture):
        return score_texture(directory, device, sizes)
    if isinstance(run, config.Training):
        return score_stylization(directory, device, sizes)
    return score_baseline(directory, device)
