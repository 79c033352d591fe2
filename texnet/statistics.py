"""Bootstrap intervals for few seeds with a few images each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval."""

    value: float
    low: float
    high: float
    n: int
    """Measurements behind the mean."""


def bootstrap(
    groups: Sequence[Sequence[float]], *, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Mean of group means, with a two-stage percentile bootstrap interval.

    Groups (seeds) are resampled with replacement, then the measurements within each: measurements
    of one seed share a trained network and are not independent. With a single group only the
    measurements are resampled; with three seeds the interval hardly reaches beyond their range,
    which is a limit of any bootstrap over three.

    Args:
        groups: one non-empty sequence of finite measurements per seed.
        level: coverage aimed at.
        seed: of the resampling.

    Raises:
        ValueError: no group, or an empty one.
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    if not arrays or any(a.size == 0 for a in arrays):
        raise ValueError("bootstrap needs at least one group and no empty group")
    rng = np.random.default_rng(seed)
    means = np.stack(
        [a[rng.integers(a.size, size=(DRAWS, a.size))].mean(1) for a in arrays], axis=1
    )
    # Each draw of the outer stage takes its own inner resample of every group it picks.
    picks = rng.integers(len(arrays), size=(DRAWS, len(arrays)))
    rows = rng.integers(DRAWS, size=picks.shape)
    draws = means[rows, picks].mean(1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    value = float(np.mean([a.mean() for a in arrays]))
    return Interval(value, float(low), float(high), sum(a.size for a in arrays))
