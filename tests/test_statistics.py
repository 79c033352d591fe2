"""The bootstrap against distributions whose answer is known."""

import numpy as np
import pytest

from texnet.statistics import bootstrap


def coverage(draw, repeats=200):
    """How often the interval of a table drawn about 0 holds 0."""
    rng = np.random.default_rng(1)
    intervals = [bootstrap(draw(rng)) for _ in range(repeats)]
    return sum(i.low <= 0 <= i.high for i in intervals) / repeats


def test_value_is_the_mean():
    interval = bootstrap([[1.0, 3.0], [10.0, 2.0]])
    assert interval.value == 4.0 and interval.n == 4
    assert interval.low <= interval.value <= interval.high


def test_no_spread_no_interval():
    interval = bootstrap([[2.0, 2.0], [2.0, 2.0]])
    assert (interval.low, interval.value, interval.high) == (2.0, 2.0, 2.0)


def test_same_interval_every_time():
    assert bootstrap([[1.0, 2.0, 4.0]]) == bootstrap([[1.0, 2.0, 4.0]])


def test_width_of_one_row_is_the_standard_error():
    """Mean of n normals: the 95 % interval is 2 x 1.96 / sqrt(n) wide."""
    values = np.random.default_rng(0).standard_normal(400)
    interval = bootstrap([values])
    expected = 2 * 1.96 * values.std() / 20
    assert interval.high - interval.low == pytest.approx(expected, rel=0.06)


def test_coverage_with_many_seeds_and_images_that_are_easy_or_hard_for_all():
    def crossed(rng):
        seeds, images = rng.standard_normal((15, 1)), rng.standard_normal((1, 15))
        return seeds + images + 0.5 * rng.standard_normal((15, 15))

    assert 0.88 <= coverage(crossed) <= 0.99


def test_coverage_with_three_seeds_is_what_the_docstring_admits():
    assert 0.65 <= coverage(lambda rng: rng.standard_normal((3, 1))) <= 0.85
    low, high = -1.0, 5.0
    interval = bootstrap([[low], [1.0], [high]])
    assert (interval.low, interval.high) == (low, high)


def test_more_images_make_no_third_seed():
    few, many = bootstrap([[0.0], [1.0]]), bootstrap([[0.0] * 100, [1.0] * 100])
    assert (many.low, many.high) == (few.low, few.high) == (0.0, 1.0)


@pytest.mark.parametrize("values", [[], [[]], [[1.0], []], [[1.0, 2.0], [1.0]]])
def test_no_table(values):
    with pytest.raises(ValueError, match="rows of one length"):
        bootstrap(values)
