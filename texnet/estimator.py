"""Is the diversity term an entropy? The estimator of eq. 9 on distributions of known entropy.

And is printed eq. 11 the derivative of eq. 10? It has 1 / rho where the derivative has 1 / rho^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from texnet.errors import UsageError
from texnet.losses import diversity, nearest_neighbour
from texnet.tables import Row

POINTS = 2000
DIMENSIONS = (1, 2, 4)
SCALES = (0.1, 10.0)


def kozachenko_leonenko(points: Tensor) -> float:
    """Differential entropy in nats of the distribution of points (N, D), with all constants.

    D mean ln rho + ln(N - 1) + ln(volume of the unit ball) + Euler's constant (Kozachenko &
    Leonenko 1987); the paper's eq. 9 keeps the first term, which is all that has a gradient.
    """
    if points.ndim != 2:
        raise UsageError(f"points must be (N, D), got {tuple(points.shape)}")
    count, dimension = points.shape
    ball = 0.5 * dimension * math.log(math.pi) - math.lgamma(0.5 * dimension + 1)
    euler = 0.5772156649015329
    return dimension * float(diversity(points)) + math.log(count - 1) + ball + euler


def known_entropy(distribution: str, dimension: int, scale: float) -> float:
    """Entropy in nats of a normal of standard deviation ``scale``, or of a cube of that side."""
    each = 0.5 * math.log(2 * math.pi * math.e) if distribution == "normal" else 0.0
    return dimension * (each + math.log(scale))


def printed_gradient(points: Tensor) -> Tensor:
    """Derivative of -sum_i ln rho_i as eq. 11 prints it, (N, D): over rho, not over rho^2."""
    flat = points.flatten(1)
    pairs = (flat[:, None] - flat[None]).square().sum(-1)
    nearest = pairs.fill_diagonal_(float("inf")).argmin(1)
    away = (flat - flat[nearest]) / nearest_neighbour(points).sqrt()[:, None]
    return -away.index_add(0, nearest, -away)


def true_gradient(points: Tensor) -> Tensor:
    """The same derivative by automatic differentiation: (N, D)."""
    x = points.flatten(1).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(-len(x) * diversity(x), x)
    return gradient


def rows(seeds: Iterable[int]) -> list[Row]:
    """Errors of the estimate in nats; how much longer eq. 11's vector is than the derivative."""
    found = []
    for seed in seeds:
        rng = torch.Generator().manual_seed(seed)
        for distribution, draw in (("normal", torch.randn), ("uniform", torch.rand)):
            for dimension in DIMENSIONS:
                for scale in SCALES:
                    points = draw((POINTS, dimension), generator=rng, dtype=torch.float64) * scale
                    known = known_entropy(distribution, dimension, scale)
                    error = kozachenko_leonenko(points) - known
                    name = f"{distribution}_d{dimension}_scale{scale:g}"
                    found.append(Row("estimator", "", seed, name, "entropy_error", error, "nats"))
        points = torch.randn((8, 12), generator=rng, dtype=torch.float64)
        for scale in SCALES:
            at = scale * points
            longer = float(printed_gradient(at).norm() / true_gradient(at).norm())
            name = f"printed_eq11_scale{scale:g}"
            found.append(Row("estimator", "", seed, "normal_d12", name, longer, "ratio"))
    return found
