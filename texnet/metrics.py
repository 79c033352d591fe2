"""Measurements of images: quality against an exemplar or a content, and diversity of samples.

Every metric in ``results/metrics.csv`` is one function here. Images are (B, 3, H, W), RGB in
[0, 1], and are clamped to it first, as they would be when saved, but for the texture loss, which is
that of the training. Nothing is normalised unless the docstring says so.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from texnet.descriptors import Descriptor
from texnet.errors import UsageError
from texnet.losses import Objective, low_pass, nearest_neighbour

DIRECTIONS = 64
FLOOR = 1e-6  # of a squared distance, as in losses.PAPER: keeps the entropy of copies finite


def pixel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean squared difference of two batches: (B,)."""
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
    """Unweighted texture loss per style layer: {layer: (B,)}."""
    return objective.texture.by_layer(objective.descriptor(images))


def texture_loss_of_halves(objective: Objective, images: Tensor) -> tuple[Tensor, Tensor]:
    """Unweighted texture loss of the outer and of the inner half of the area, each (B,).

    The inner half is a centred rectangle of the image's proportions; Gram matrices are taken over
    the positions of one half. A layer's map with a side under 3 has no halves: it counts whole.
    """
    features = objective.descriptor(images)
    outer, inner = images.new_zeros(len(images)), images.new_zeros(len(images))
    for layer in objective.texture.layers:
        f = features[layer]
        height, width = f.shape[-2:]
        top, left = (max(1, round(side * (1 - 0.5**0.5) / 2)) for side in (height, width))
        centre = torch.zeros((height, width), dtype=torch.bool, device=f.device)
        centre[top : height - top, left : width - left] = True
        halves = (~centre, centre) if centre.any() else (centre.logical_not(),) * 2
        outer += objective.texture.of(layer, f[:, :, None, halves[0]])
        inner += objective.texture.of(layer, f[:, :, None, halves[1]])
    return outer, inner


def contrast_change(images: Tensor, changed: Tensor) -> Tensor:
    """How much a generator's output changes with its input's contrast: (B,).

    Root mean squared difference of the outputs for content images and for the same at half their
    contrast, over the standard deviation of the former; 0 where contrast is discarded.
    """
    return pixel_distance(images, changed) / (images.clamp(0, 1).std((1, 2, 3)) + 1e-6)


def deviation_over_noise(samples: Tensor) -> Tensor:
    """Standard deviation over samples (N, 3, H, W) of one content image, mean of RGB: (H, W)."""
    return samples.clamp(0, 1).std(0, correction=1).mean(0)


def uniform_region(content: Tensor) -> Tensor:
    """Where a content image (3, H, W) is most uniform, half of its area: booleans (H, W).

    Where the local standard deviation of luminance, over squares of an eighth of the shorter side,
    is at most its median.
    """
    y = _luminance(content[None])
    local = (low_pass(y.square()) - low_pass(y).square())[0, 0]
    return local <= local.median()


def sliced_wasserstein(features: Tensor, wanted: Tensor, seed: int = 0) -> Tensor:
    """Sliced Wasserstein-2 distance of feature distributions over positions: (B,).

    Heitz et al. 2021, without the square: activations at all positions are projected on 64 random
    directions; per direction, the root mean square of the difference between the quantiles of both
    distributions; the root mean square over directions.

    Args:
        features: (B, C, H, W).
        wanted: (1, C, h, w), of the exemplar; another number of positions is interpolated.
        seed: of the directions.
    """
    found, sought = quantiles(features, seed), quantiles(wanted, seed)
    return quantile_distance(found, sought)


def quantiles(features: Tensor, seed: int = 0) -> Tensor:
    """Activations (B, C, H, W) at all positions, projected on random directions, ascending.

    Returns (B, 64, H W); the directions depend on the seed and C alone.
    """
    rng = torch.Generator().manual_seed(seed)
    directions = torch.randn((features.shape[1], DIRECTIONS), generator=rng)
    directions = F.normalize(directions, dim=0).to(features)
    return (features.flatten(2).mT @ directions).mT.sort(dim=-1).values


def quantile_distance(found: Tensor, sought: Tensor) -> Tensor:
    """Root mean square difference of :func:`quantiles`, (B,), interpolated to one length."""
    if sought.shape[-1] != found.shape[-1]:
        sought = F.interpolate(sought, found.shape[-1], mode="linear", align_corners=False)
    return (found - sought).square().mean((1, 2)).sqrt()


def pairwise_pixels(images: Tensor) -> float:
    """Mean over all pairs of the root mean squared difference, in [0, 1]; needs 2 images."""
    flat = images.clamp(0, 1).flatten(1)
    return float(_pairs(flat).mean()) / math.sqrt(flat.shape[1])


def contrast_removed(descriptor: Descriptor, images: Tensor) -> Tensor:
    """Where images differ once mean and contrast are gone: (B, D), rows of length 1.

    Each image's channels lose their mean, the image gets a standard deviation of 1/4 around 1/2;
    then each activation map loses its mean over positions, and each layer is scaled to the same
    length. The inner product of two rows is their correlation: 1 for copies, about 0 for unrelated
    textures, whatever their brightness.
    """
    x = images.clamp(0, 1)
    x = x - x.mean((2, 3), keepdim=True)
    x = 0.5 + x / (4 * x.std((1, 2, 3), keepdim=True) + 1e-6)
    features = descriptor(x)
    layers = [
        F.normalize((f - f.mean((2, 3), keepdim=True)).flatten(1), dim=1) for f in features.values()
    ]
    return torch.cat(layers, dim=1) / math.sqrt(len(layers))


def pairwise_features(embedding: Tensor) -> float:
    """Mean Euclidean distance over all pairs of rows of :func:`contrast_removed`.

    0 for copies, about 1.41 for unrelated textures.
    """
    return float(_pairs(embedding).mean())


def vendi(embedding: Tensor) -> float:
    """Vendi score, the effective number of different samples, in 1 ... B (Friedman & Dieng 2022).

    The exponential of the entropy of the eigenvalues of K / B, with K the correlations of the rows
    of :func:`contrast_removed`. It has no bandwidth to choose.
    """
    rows = embedding.double()
    values = torch.linalg.eigvalsh(rows @ rows.T / len(rows)).clamp(min=0)
    values = values / values.sum()
    return float(torch.special.entr(values).sum().exp())


def neighbour_entropy(images: Tensor) -> float:
    """Mean over samples of ln of the distance to the nearest other: eq. 9 up to its constants.

    Distances over the whole image in [0, 1] units; a squared distance counts as 1e-6 at least.
    Depends on the number of samples: compare groups of one size.
    """
    nearest = nearest_neighbour(images.clamp(0, 1))
    return float(0.5 * (nearest + FLOOR).log().mean())


def spotting(images: Tensor) -> Tensor:
    """Variance over positions of the low-pass luminance of each image: (B,).

    Divided by its mean over crops of the exemplar it is the spotting ratio: figure 7's spots of
    brightness make it larger than 1.
    """
    return low_pass(_luminance(images)).var((1, 2, 3), correction=0)


def low_pass_share(images: Tensor) -> Tensor:
    """Share of each image's luminance variance that is low-pass, in [0, 1]: (B,).

    Unlike :func:`spotting` it does not grow with contrast.
    """
    whole = _luminance(images).var((1, 2, 3), correction=0)
    return spotting(images) / (whole + 1e-9)


def _luminance(images: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114]).to(images).view(1, 3, 1, 1)
    return (images.clamp(0, 1) * weights).sum(1, keepdim=True)


def _pairs(rows: Tensor) -> Tensor:
    """Euclidean distances of all pairs of (B, D): (B (B - 1) / 2,)."""
    if len(rows) < 2:
        raise UsageError(f"distances of pairs need 2 samples or more, got {len(rows)}")
    first, second = torch.triu_indices(len(rows), len(rows), offset=1)
    # Differences: Gram entries of near copies would cancel to noise.
    return (rows[first] - rows[second]).square().sum(1).sqrt()
