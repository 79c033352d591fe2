"""The entropy estimator on known entropies; which of eq. 11's two readings is the derivative."""

import math

import pytest
import torch

from texnet import estimator
from texnet.errors import UsageError
from texnet.estimator import (
    known_entropy,
    kozachenko_leonenko,
    printed_gradient,
    rows,
    true_gradient,
)

POINTS = 2500


def draw(distribution, dimension, seed=0, count=POINTS):
    rng = torch.Generator().manual_seed(seed)
    kind = torch.randn if distribution == "normal" else torch.rand
    return kind((count, dimension), generator=rng, dtype=torch.float64)


def test_known_entropies_against_torchs_distributions():
    for dimension, scale in ((1, 1.0), (3, 0.2), (2, 7.0)):
        normal = torch.distributions.Normal(0.0, scale).entropy().item()
        cube = torch.distributions.Uniform(0.0, scale).entropy().item()
        assert known_entropy("normal", dimension, scale) == pytest.approx(dimension * normal)
        assert known_entropy("uniform", dimension, scale) == pytest.approx(dimension * cube)
    assert known_entropy("uniform", 4, 1.0) == 0


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("dimension", [1, 2])
def test_the_estimate_is_the_entropy_within_four_standard_errors(distribution, dimension):
    """ln of the neighbour's ball has variance pi^2 / 6, ln of a normal's density D / 2.

    Their covariances between neighbours add less than that again; edges bias it by less still.
    """
    error = kozachenko_leonenko(draw(distribution, dimension))
    error -= known_entropy(distribution, dimension, 1.0)
    variance = math.pi**2 / 6 + (dimension / 2 if distribution == "normal" else 0)
    assert abs(error) < 4 * math.sqrt(2 * variance / POINTS)


def test_an_evenly_spaced_line_has_a_closed_form():
    """Every neighbour at 1 / N: ln (1 / N) + ln (N - 1) + ln 2 + Euler's constant."""
    line = torch.arange(100, dtype=torch.float64)[:, None] / 100
    wanted = math.log(99 / 100) + math.log(2) + 0.5772156649
    assert kozachenko_leonenko(line) == pytest.approx(wanted)


@pytest.mark.parametrize("dimension", [1, 2, 5])
@pytest.mark.parametrize("scale", [0.01, 30.0])
def test_scaling_adds_d_times_its_logarithm(dimension, scale):
    points = draw("normal", dimension, count=200)
    shift = kozachenko_leonenko(scale * points) - kozachenko_leonenko(points)
    assert shift == pytest.approx(dimension * math.log(scale), abs=1e-9)


def test_images_must_be_flattened_first():
    with pytest.raises(UsageError, match=r"points must be \(N, D\), got \(2, 3, 4, 4\)"):
        kozachenko_leonenko(torch.zeros(2, 3, 4, 4))


def differences(points):
    """Central differences of -sum_i ln rho_i, written out: (N, D)."""

    def value(rows):
        nearest = [min(math.dist(a, b) for j, b in enumerate(rows) if j != i)
                   for i, a in enumerate(rows)]  # fmt: skip
        return -sum(map(math.log, nearest))

    found, step = torch.zeros_like(points), 1e-6
    for i, j in torch.cartesian_prod(torch.arange(len(points)), torch.arange(points.shape[1])):
        ahead, behind = points.clone(), points.clone()
        ahead[i, j] += step
        behind[i, j] -= step
        found[i, j] = (value(ahead.tolist()) - value(behind.tolist())) / (2 * step)
    return found


def test_the_true_gradient_is_the_derivative_and_printed_eq_11_is_not():
    points = 0.3 * draw("normal", 5, count=6)
    numeric = differences(points)
    torch.testing.assert_close(true_gradient(points), numeric, rtol=1e-6, atol=1e-7)
    assert (printed_gradient(points) - numeric).norm() > 0.1 * numeric.norm()


@pytest.mark.parametrize("rho", [0.2, 1.0, 6.0])
def test_printed_eq_11_is_off_by_the_factor_rho(rho):
    """Three pairs of points at one distance, each point the other's nearest."""
    centres = torch.tensor([[0.0, 0.0], [50.0, 3.0], [-40.0, 70.0]], dtype=torch.float64)
    angles = torch.tensor([0.3, 1.9, 4.0], dtype=torch.float64)
    arms = rho * torch.stack([angles.cos(), angles.sin()], dim=1)
    points = torch.cat([centres, centres + arms])
    numeric = differences(points)
    torch.testing.assert_close(numeric[:3], 2 * arms / rho**2, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(printed_gradient(points), rho * numeric, rtol=1e-6, atol=1e-6)


def test_a_shared_neighbour_gathers_what_all_its_neighbours_pull():
    """Of 0, 1 and 2.5 on a line the middle one is the nearest of both others."""
    points = torch.tensor([[0.0], [1.0], [2.5]], dtype=torch.float64)
    torch.testing.assert_close(
        true_gradient(points).flatten().tolist(), [2.0, -2 + 1 / 1.5, -1 / 1.5]
    )
    torch.testing.assert_close(printed_gradient(points).flatten().tolist(), [2.0, -1.0, -1.0])


def test_rows_are_errors_in_nats_and_the_length_of_eq_11(monkeypatch):
    monkeypatch.setattr(estimator, "POINTS", 500)
    found = rows([0, 1])
    errors = [r for r in found if r.metric == "entropy_error"]
    assert len(errors) == 2 * 2 * 3 * 2 and {r.unit for r in errors} == {"nats"}
    assert max(abs(r.value) for r in errors) < 0.5
    assert len({(r.seed, r.content) for r in errors}) == len(errors)
    longer = {(r.seed, r.metric): r.value for r in found if r.unit == "ratio"}
    for seed in (0, 1):  # the distances in 12 dimensions are about 3 to 5 standard deviations
        assert 0.2 < longer[seed, "printed_eq11_scale0.1"] < 0.6
        assert 20 < longer[seed, "printed_eq11_scale10"] < 60
    assert rows([1]) == [r for r in found if r.seed == 1]
