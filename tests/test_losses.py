"""The objective: closed forms, float64 finite differences, and one value per image."""

import dataclasses
import functools
import math

import pytest
import torch

from texnet import config
from texnet.descriptors import gram, load
from texnet.errors import UsageError
from texnet.losses import (
    Objective,
    TextureLoss,
    content_loss,
    diversity,
    low_pass,
    nearest_neighbour,
    normalise_gradient,
    total_variation,
)
from texnet.memory import peak_memory

SETTINGS = config.Objective(
    style_layers=("relu1_1", "relu2_1"),
    content_layers=("relu2_1",),
    style_weight=3.0,
    content_weight=0.5,
    tv_weight=0.1,
)


@pytest.fixture
def objective():
    descriptor = load("random", ["relu1_1", "relu2_1"]).double()
    return Objective(SETTINGS, descriptor, images(1, seed=1)[0])


def images(count, seed=0, side=12):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand((count, 3, side, side), generator=rng, dtype=torch.float64)


def texture_objective(**changes):
    """A texture objective, in double, on images of 16 pixels."""
    settings = {"style_layers": ("relu1_1", "relu2_1"), "style_weight": 3.0, "content_weight": 0.0}
    settings = config.Objective(**(settings | changes))
    descriptor = load("random", {*settings.style_layers, *settings.content_layers} - {"relu4_2"})
    return Objective(settings, descriptor.double(), images(1, seed=1, side=16)[0])


def gradient_at(images, value):
    """Derivative of the mean of ``value``, (B,) or a scalar, at the images."""
    x = images.detach().requires_grad_(True)
    return torch.autograd.grad(value(x).mean(), x)[0]


def assert_is_derivative(gradient, value, x, rtol=1e-4):
    """Central differences of the mean of ``value`` in float64 along random directions."""
    for seed in range(3):
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double()
        step = 1e-6
        with torch.no_grad():
            ahead, behind = value(x + step * direction), value(x - step * direction)
        slope = (ahead.mean() - behind.mean()) / (2 * step)
        torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=rtol, atol=1e-6)


def test_texture_loss_closed_form():
    """Features a and 2a: Grams g and 4g, so the loss is the mean of (3g)²."""
    a = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    loss = TextureLoss({"relu1_1": gram(a)})
    torch.testing.assert_close(loss({"relu1_1": 2 * a}), (3 * gram(a)).square().mean((1, 2)))
    assert loss({"relu1_1": a}).item() == 0


def test_texture_loss_sums_layers_of_different_width():
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    loss = TextureLoss({"relu1_1": torch.zeros(3, 3), "relu2_1": torch.zeros(5, 5)})
    by_layer = loss.by_layer({"relu1_1": a, "relu2_1": b})
    torch.testing.assert_close(by_layer["relu1_1"], gram(a).square().mean((1, 2)))
    torch.testing.assert_close(
        loss({"relu1_1": a, "relu2_1": b}), by_layer["relu1_1"] + by_layer["relu2_1"]
    )


def test_content_loss_closed_form():
    target = torch.zeros(2, 3, 4, 4)
    found = torch.full_like(target, 2.0)
    found[1] = 3.0
    assert content_loss({"relu4_2": found}, {"relu4_2": target}).tolist() == [4.0, 9.0]


def test_total_variation_value_and_gradient():
    ramp = torch.arange(4.0).expand(1, 1, 3, 4)  # three rows, three unit steps each
    assert total_variation(ramp).item() == 0.5 * 6  # the last row does not count
    x = images(2).requires_grad_(True)
    assert torch.autograd.gradcheck(total_variation, x)


def test_the_exemplar_has_no_texture_loss_and_the_content_no_content_loss(objective):
    style = images(1, seed=1)
    terms = objective(style, objective.content_targets(style))
    assert terms.texture.item() == 0
    assert terms.content.item() == 0


def test_terms_are_weighted_and_add_up(objective):
    x, y = images(2), images(2, seed=5)
    terms = objective(x, objective.content_targets(y))
    features = objective.descriptor(x)
    torch.testing.assert_close(terms.texture, 3.0 * objective.texture(features))
    torch.testing.assert_close(
        terms.content, 0.5 * content_loss(features, objective.content_targets(y))
    )
    torch.testing.assert_close(terms.tv, 0.1 * total_variation(x))
    torch.testing.assert_close(terms.total, terms.texture + terms.content + terms.tv)
    varied = texture_objective(diversity_weight=0.7)(images(3, side=16), {})
    assert varied.diversity.abs().min() > 0.1
    torch.testing.assert_close(varied.total, varied.texture + varied.diversity)


def test_a_batch_is_its_images(objective):
    x, y = images(3), images(3, seed=5)
    whole = objective(x, objective.content_targets(y)).total
    alone = [
        objective(x[i : i + 1], objective.content_targets(y[i : i + 1])).total for i in range(3)
    ]
    torch.testing.assert_close(whole, torch.cat(alone))


def test_gradient_against_finite_differences(objective):
    targets = objective.content_targets(images(1, seed=5))

    def value(x):
        return objective(x, targets).total

    assert_is_derivative(gradient_at(images(1), value), value, images(1))


def test_a_term_with_weight_zero_is_zero_and_has_no_gradient(objective):
    objective.settings = dataclasses.replace(SETTINGS, content_weight=0.0, tv_weight=0.0)
    terms = objective(images(2), {})
    assert terms.content.tolist() == [0, 0] and terms.tv.tolist() == [0, 0]
    assert terms.diversity.tolist() == [0, 0] and objective.diversity_of_copies(2) is None


def test_content_targets_carry_no_graph(objective):
    x = images(1).requires_grad_(True)
    assert not any(t.requires_grad for t in objective.content_targets(x).values())


# The diversity term


@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (7, 3, 4, 5)])
def test_nearest_neighbours_against_a_double_loop(shape):
    points = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = points.flatten(1).tolist()
    found = [min(math.dist(a, b) for b in flat if b is not a) for a in flat]
    wanted = torch.tensor(found, dtype=torch.float64)
    torch.testing.assert_close(nearest_neighbour(points), wanted.square())
    torch.testing.assert_close(diversity(points).item(), sum(map(math.log, found)) / len(found))


def test_neighbours_on_a_line_are_the_gaps():
    line = torch.tensor([[7.0], [0.0], [1.0], [3.0]])  # gaps 1, 2, 4
    assert nearest_neighbour(line).tolist() == [16, 1, 1, 4]
    assert diversity(line).item() == pytest.approx(math.log(4 * 1 * 1 * 2) / 4)
    assert diversity(10 * line).item() == pytest.approx(diversity(line).item() + math.log(10))


def test_neighbours_far_from_the_origin_keep_their_distance():
    """Gram entries would cancel: (1e4)^2 has no room for 1e-2 in float32."""
    far = torch.full((2, 64), 1e4)
    far[1, 0] += 0.125
    assert nearest_neighbour(far).tolist() == [0.125**2] * 2


def test_one_sample_has_no_neighbour():
    for count in (0, 1):
        with pytest.raises(UsageError, match=f"2 samples or more, got {count}"):
            nearest_neighbour(torch.zeros(count, 3))
        with pytest.raises(UsageError, match="2 samples or more"):
            diversity(torch.zeros(count, 3))
    with pytest.raises(UsageError, match="2 samples or more"):
        texture_objective(diversity_weight=1.0)(images(1, side=16), {})


@pytest.mark.parametrize("convention", ["paper", "authors_code"])
@pytest.mark.parametrize("distance", ["pixels", "highpass", "features"])
def test_copies_have_a_finite_diversity_term_and_no_gradient(convention, distance):
    objective = texture_objective(
        diversity_weight=2.0, temperature=3.0, convention=convention, diversity_distance=distance
    )
    copies = images(1, side=16).expand(4, -1, -1, -1)
    wanted = {"paper": -2 * math.log(1e-3), "authors_code": -2 * 3 * 4 * math.log(0.1)}[convention]
    found = objective(copies, {}).diversity
    torch.testing.assert_close(found, torch.full_like(found, wanted))
    assert objective.diversity_of_copies(4) == pytest.approx(wanted)
    assert not gradient_at(copies, lambda x: objective(x, {}).diversity).any()
    assert gradient_at(copies, lambda x: objective(x, {}).total).isfinite().all()


@pytest.mark.parametrize("convention", ["paper", "authors_code"])
def test_apart_from_a_copy_the_others_have_their_gradient(convention):
    objective = texture_objective(diversity_weight=1.0, convention=convention)
    x = images(4, side=16)
    x[1] = x[0]
    gradient = gradient_at(x, lambda x: objective(x, {}).diversity)
    assert gradient.isfinite().all() and gradient[2:].abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("convention", ["paper", "authors_code"])
@pytest.mark.parametrize("distance", ["pixels", "highpass", "features"])
def test_gradient_of_the_diversity_term_against_finite_differences(convention, distance):
    objective = texture_objective(
        diversity_weight=0.7, temperature=2.5, convention=convention, diversity_distance=distance
    )

    def value(x):
        return objective(x, {}).diversity

    x = images(4, side=16)
    gradient = gradient_at(x, value)
    assert gradient.norm() > 0.01
    assert_is_derivative(gradient, value, x)


def greys(*values):
    """Flat images, a batch of 16 pixels: the distance of two is the gap times sqrt(768)."""
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 3, 16, 16)


def test_eq_10_is_texture_over_t_less_lambda_ln_rho():
    x, rho = greys(0.1, 0.2, 0.5), [g * 768**0.5 for g in (0.1, 0.1, 0.3)]
    terms = texture_objective(temperature=4.0, diversity_weight=0.7)(x, {})
    plain = texture_objective()(x, {})
    wanted = torch.tensor([-0.7 * math.log(r) for r in rho], dtype=torch.float64)
    torch.testing.assert_close(terms.diversity, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(terms.texture, plain.texture / 4)
    torch.testing.assert_close(terms.total, plain.total / 4 + wanted, rtol=1e-6, atol=1e-6)


def test_the_authors_code_is_the_loss_less_w_times_a_sum_over_the_batch():
    x, gaps = greys(0.1, 0.2, 0.5), (0.1, 0.1, 0.3)
    settings = {"temperature": 4.0, "diversity_weight": 0.7, "convention": "authors_code"}
    terms, plain = texture_objective(**settings)(x, {}), texture_objective()(x, {})
    summed = sum(math.log(255**2 * 768 * g**2 + 0.1) for g in gaps)
    torch.testing.assert_close(terms.texture, plain.texture)
    torch.testing.assert_close(terms.total.mean(), plain.total.mean() - 4 * 0.7 * summed)


@pytest.mark.parametrize(("convention", "factor"), [("paper", 1 / 5), ("authors_code", 1.0)])
def test_temperature_divides_content_and_total_variation_in_eq_10_alone(convention, factor):
    weights = {"content_layers": ("relu2_1",), "content_weight": 0.5, "tv_weight": 0.1}
    plain = texture_objective(**weights)
    warm = texture_objective(**weights, temperature=5.0, convention=convention)
    x, targets = images(2, side=16), plain.content_targets(images(2, seed=5, side=16))
    found, wanted = warm(x, targets), plain(x, targets)
    for name in ("texture", "content", "tv"):
        torch.testing.assert_close(getattr(found, name), factor * getattr(wanted, name))


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("temperature", [1.0, 3.7])
def test_the_authors_entropy_has_2_n_t_times_the_gradient_of_eq_10(count, temperature):
    x, found = images(count, side=16), {}
    for convention in ("paper", "authors_code"):
        settings = {"diversity_weight": 0.7, "convention": convention, "temperature": temperature}
        objective = texture_objective(**settings)
        found[convention] = gradient_at(x, lambda x, f=objective: f(x, {}).diversity)
    torch.testing.assert_close(
        found["authors_code"], 2 * count * temperature * found["paper"], rtol=1e-6, atol=1e-12
    )


def rho(distance, x):
    """Distances that the diversity term saw, by solving it for them."""
    objective = texture_objective(diversity_weight=1.0, diversity_distance=distance)
    return ((-2 * objective(x, {}).diversity).exp() - 1e-6).sqrt()


@pytest.mark.parametrize("slow", ["constant", "ramp"])
def test_highpass_distance_ignores_low_frequencies_and_pixels_do_not(slow):
    x = images(1, side=64).expand(2, -1, -1, -1) + 0.1 * images(2, seed=3, side=64)
    change = torch.zeros_like(x)
    change[1] = torch.linspace(0, 1, 64).double() if slow == "ramp" else 1.0
    before, after = rho("highpass", x), rho("highpass", x + change)
    assert (after / before - 1).abs().max() < (0.05 if slow == "ramp" else 1e-6)
    assert before.min() > 1
    before, after = rho("pixels", x), rho("pixels", x + change)
    assert (after / before).min() > 5


def test_highpass_distance_sees_fine_detail_as_pixels_do():
    x = images(1, side=64).expand(2, -1, -1, -1)
    rows, columns = torch.arange(64)[:, None], torch.arange(64)
    checks = x + 0.1 * torch.stack([torch.zeros(64, 64), (rows + columns) % 2 - 0.5])[:, None]
    torch.testing.assert_close(rho("highpass", checks), rho("pixels", checks), rtol=0.02, atol=0)


def test_feature_distance_is_the_mean_over_layers_of_relative_squared_differences():
    """As many pixels as an image has, whatever a layer's size, in units of the exemplar."""
    x = images(2, side=16)
    objective = texture_objective()
    found, style = objective.descriptor(x), objective.descriptor(images(1, seed=1, side=16))
    relative = [
        ((found[k][0] - found[k][1]) ** 2).mean() / (style[k] ** 2).mean()
        for k in ("relu1_1", "relu2_1")
    ]
    wanted = (768 * sum(relative) / 2) ** 0.5
    torch.testing.assert_close(rho("features", x), wanted.expand(2))


def test_low_pass_keeps_constants_and_averages_detail_away():
    flat = torch.full((2, 3, 40, 64), 0.3)
    torch.testing.assert_close(low_pass(flat), flat)
    dot = torch.zeros(1, 1, 64, 64)
    dot[..., 30, 20] = 81.0  # an eighth of 64, made odd: a square of 9 x 9
    found = low_pass(dot)
    assert found.shape == dot.shape and (found[0, 0, 26:35, 16:25] - 1).abs().max() < 1e-5
    assert found.sum().item() == pytest.approx(81.0)


# Normalised gradients


def test_a_normalised_gradient_has_l1_norm_1_and_the_direction_of_the_plain_one():
    loss = TextureLoss({"relu1_1": gram(torch.rand(1, 5, 6, 6, dtype=torch.float64))})
    features = torch.rand(3, 5, 6, 6, dtype=torch.float64)
    of = functools.partial(loss.of, "relu1_1")
    torch.testing.assert_close(normalise_gradient(of, features), of(features))
    plain = gradient_at(features, of)
    found = gradient_at(features, lambda f: normalise_gradient(of, f))
    assert found.abs().sum().item() == pytest.approx(1, abs=1e-4)
    cosine = (found * plain).sum() / (found.norm() * plain.norm())
    assert cosine.item() == pytest.approx(1)


def test_a_normalised_gradient_is_that_of_the_whole_batch_not_of_an_image():
    shares = torch.tensor([1.0, 0.0, 3.0])
    found = gradient_at(
        torch.rand(3, 2, 4, 4),
        lambda f: normalise_gradient(lambda g: shares * g.mean((1, 2, 3)), f),
    )
    torch.testing.assert_close(found.sum((1, 2, 3)), torch.tensor([0.25, 0.0, 0.75]))


@pytest.mark.parametrize(("norm", "wanted"), [(0.0, 0.0), (1e-8, 0.5), (3e-8, 0.75), (1.0, 1.0)])
def test_a_vanishing_gradient_is_not_blown_up(norm, wanted):
    features = torch.rand(2, 2, 4, 4, dtype=torch.float64)
    found = gradient_at(
        features, lambda f: normalise_gradient(lambda g: norm * g.mean((1, 2, 3)), f)
    )
    assert found.abs().sum().item() == pytest.approx(wanted, abs=1e-7)


def test_normalised_gradients_leave_the_value_alone_where_features_are_large():
    features = 1e3 * torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    small = functools.partial(torch.Tensor.mul, torch.tensor([1e-3, 2e-3]))
    found = normalise_gradient(lambda f: small((f / 1e3).mean((1, 2, 3))), features)
    torch.testing.assert_close(found, small((features / 1e3).mean((1, 2, 3))), rtol=1e-6, atol=0)


def naive_gradient(objective, x):
    """At the images: each layer's local gradient over its L1 norm, carried back, added."""
    x = x.detach().requires_grad_(True)
    features, total = objective.descriptor(x), torch.zeros_like(x)
    for layer in objective.settings.style_layers:
        local = features[layer].detach().requires_grad_(True)
        b, c, h, w = local.shape
        grams = torch.einsum("bchw,bdhw->bcd", local, local) / (c * h * w)
        wanted = gram(objective.descriptor(images(1, seed=1, side=16))[layer])
        loss = ((grams - wanted) ** 2).sum() / (b * c * c)
        (g,) = torch.autograd.grad(loss, local)
        g = g / (g.abs().sum() + 1e-8)
        total += torch.autograd.grad(features[layer], x, g, retain_graph=True)[0]
    return total


def test_layers_are_normalised_apart_before_they_are_added_at_the_image():
    objective, x = texture_objective(normalise_gradients=True, style_weight=1.0), images(3, side=16)
    found = gradient_at(x, lambda x: objective(x, {}).total)
    torch.testing.assert_close(found, naive_gradient(objective, x))
    plain = texture_objective(style_weight=1.0)
    torch.testing.assert_close(objective(x, {}).total, plain(x, {}).total)


def test_style_weight_and_temperature_scale_the_normalised_gradient():
    x = images(3, side=16)
    objective = texture_objective(normalise_gradients=True, style_weight=6.0, temperature=4.0)
    found = gradient_at(x, lambda x: objective(x, {}).total)
    torch.testing.assert_close(found, 6 / 4 * naive_gradient(objective, x))


@pytest.mark.parametrize(("convention", "factor"), [("paper", 1 / 4), ("authors_code", 1)])
def test_the_entropys_gradient_is_added_to_the_normalised_ones_as_it_is(convention, factor):
    x = images(3, side=16)
    settings = {"style_weight": 1.0, "temperature": 4.0, "convention": convention}
    settings |= {"diversity_weight": 0.7}
    entropy = gradient_at(x, lambda x: texture_objective(**settings)(x, {}).diversity)
    objective = texture_objective(**settings, normalise_gradients=True)
    found = gradient_at(x, lambda x: objective(x, {}).total)
    torch.testing.assert_close(found, factor * naive_gradient(objective, x) + entropy)
    assert entropy.norm() > 1e-3


def test_at_the_exemplar_normalised_gradients_are_zero():
    objective = texture_objective(normalise_gradients=True)
    style = images(1, seed=1, side=16)
    assert not gradient_at(style, lambda x: objective(x, {}).total).any()


def test_without_a_graph_normalised_gradients_are_the_plain_loss():
    objective, x = texture_objective(normalise_gradients=True), images(2, side=16)
    with torch.no_grad():
        terms = objective(x, {})
        of = objective.texture.with_normalised_gradient
        value = sum(of(layer, maps) for layer, maps in objective.descriptor(x).items())
    assert not terms.total.requires_grad
    assert torch.equal(terms.total, texture_objective()(x, {}).total)
    torch.testing.assert_close(3 * value, terms.texture)


@pytest.mark.parametrize("normalised", [False, True])
def test_no_gradient_of_a_large_map_waits_for_the_deeper_layers(normalised):
    """Less memory than where all Gram matrices come after all layers; the very same gradient."""
    layers = ("relu1_1", "relu1_2", "relu2_2", "relu3_2")
    settings = config.Objective(
        style_layers=layers, content_weight=0.0, normalise_gradients=normalised
    )
    style, x = (torch.rand(1, 3, 128, 128) for _ in range(2))
    objective = Objective(settings, load("random", layers), style[0])
    found = []

    def work(value):
        given = x.clone().requires_grad_(True)
        value(given).sum().backward()
        found.append(given.grad)

    of = objective.texture.with_normalised_gradient if normalised else objective.texture.of

    def afterwards(given):
        features = objective.features(given)
        by_layer = torch.stack([of(layer, features[layer]) for layer in layers])
        return settings.style_weight * by_layer.sum(0)

    peaks = [
        peak_memory(functools.partial(work, value), torch.device("cpu"))
        for value in (lambda given: objective(given, {}).texture, afterwards)
    ]
    assert torch.equal(*found)
    assert peaks[0] < peaks[1] - 32 * 64 * 64 * 4  # a gradient of relu2_2 at the least


@pytest.mark.parametrize("compiled", [False, True])
def test_a_rounded_objective_rounds_the_descriptor(compiled):
    """All that comes out of it is bfloat16, in float32; compiled or not."""
    descriptor = load("random", ["relu1_1", "relu2_1"])
    objective = Objective(SETTINGS, descriptor, images(1, seed=1)[0].float()).rounded()
    exact = descriptor(images(2).float())
    if compiled:
        descriptor.compile(backend="eager")
    assert descriptor.compiled == compiled
    for layer, found in objective.features(images(2).float()).items():
        assert found.dtype == torch.float32
        assert torch.equal(found, found.bfloat16().float())
        assert not torch.equal(found, exact[layer])
