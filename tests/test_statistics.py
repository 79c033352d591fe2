"""The bootstrap against distributions whose answer is known."""

import numpy as np
import pytest

from texnet.statistics import bootstrap


def test_value_is_the_mean_of_group_means():
    interval = bootstrap([[1.0, 3.0], [10.0]])
    assert interval.value == 6.0 and interval.n == 3
    assert interval.low <= interval.value <= interval.high


def test_no_spread_no_interval():
    interval = bootstrap([[2.0, 2.0], [2.0]])
    assert (interval.low, interval.value, interval.high) == (2.0, 2.0, 2.0)


def test_same_interval_every_time():
    assert bootstrap([[1.0, 2.0, 4.0]]) == bootstrap([[1.0, 2.0, 4.0]])


def test_width_of_one_group_is_the_standard_error():
    """Mean of n normals: the 95 % interval is 2 x 1.96 / sqrt(n) wide."""
    values = np.random.default_rng(0).standard_normal(400)
    interval = bootstrap([values])
    expected = 2 * 1.96 * values.std() / 20
    assert interval.high - interval.low == pytest.approx(expected, rel=0.06)


def test_coverage_with_many_groups():
    """A two-stage sample with known mean 0: about 95 of 100 intervals hold it."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(150):
        groups = rng.standard_normal((20, 1)) + 0.5 * rng.standard_normal((20, 5))
        interval = bootstrap(groups)
        held += interval.low <= 0 <= interval.high
    assert 0.88 <= held / 150 <= 0.99


def test_groups_count_not_measurements():
    """A thousand images of two seeds do not make a third seed."""
    few = bootstrap([[0.0], [1.0]])
    many = bootstrap([[0.0] * 1000, [1.0] * 1000])
    assert (many.low, many.high) == (few.low, few.high) == (0.0, 1.0)


@pytest.mark.parametrize("groups", [[], [[]], [[1.0], []]])
def test_nothing_to_resample(groups):
    with pytest.raises(ValueError, match="at least one group"):
        bootstrap(groups)
