"""Bootstrap intervals for a few seeds, each measured on the same few images."""

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
    values: Sequence[Sequence[float]], *, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Mean of a table (seeds, images), with a percentile bootstrap interval.

    Seeds and images are crossed: every seed is measured on the same images. Each draw resamples
    rows and columns, so an easy image is easy for all seeds of the draw. A factor with one level is
    not resampled. With three seeds and one column the interval is the range of the three: it leaves
    out a threshold when all three lie on one side, which happens by chance once in four (once in
    eight on a given side), and its nominal 95 % cover about 75 %.

    Args:
        values: finite measurements, one row per seed and one column per image.
        level: coverage aimed at.
        seed: of the resampling.

    Raises:
        ValueError: no measurement, or rows of unequal length.
    """
    lengths = {len(row) for row in values}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"bootstrap needs rows of one length, got lengths {sorted(lengths)}")
    table = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    rows = rng.integers(table.shape[0], size=(DRAWS, table.shape[0], 1))
    columns = rng.integers(table.shape[1], size=(DRAWS, 1, table.shape[1]))
    draws = table[rows, columns].mean((1, 2))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(table.mean()), float(low), float(high), table.size)
