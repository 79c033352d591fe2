"""The objective: closed forms, float64 finite differences, and one value per image."""

import dataclasses

import pytest
import torch

from texnet import config
from texnet.descriptors import gram, load
from texnet.losses import Objective, TextureLoss, content_loss, total_variation

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


def images(count, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand((count, 3, 12, 12), generator=rng, dtype=torch.float64)


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


def test_a_batch_is_its_images(objective):
    x, y = images(3), images(3, seed=5)
    whole = objective(x, objective.content_targets(y)).total
    alone = [
        objective(x[i : i + 1], objective.content_targets(y[i : i + 1])).total for i in range(3)
    ]
    torch.testing.assert_close(whole, torch.cat(alone))


def test_gradient_against_finite_differences(objective):
    """Central differences in float64 along random directions."""
    x, targets = images(1).requires_grad_(True), objective.content_targets(images(1, seed=5))
    (gradient,) = torch.autograd.grad(objective(x, targets).total.sum(), x)
    for seed in range(3):
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double()
        step = 1e-6
        with torch.no_grad():
            ahead = objective(x + step * direction, targets).total.sum()
            behind = objective(x - step * direction, targets).total.sum()
        slope = (ahead - behind) / (2 * step)
        torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-4, atol=1e-6)


def test_a_term_with_weight_zero_is_zero_and_has_no_gradient(objective):
    objective.settings = dataclasses.replace(SETTINGS, content_weight=0.0, tv_weight=0.0)
    terms = objective(images(2), {})
    assert terms.content.tolist() == [0, 0] and terms.tv.tolist() == [0, 0]


def test_content_targets_carry_no_graph(objective):
    x = images(1).requires_grad_(True)
    assert not any(t.requires_grad for t in objective.content_targets(x).values())
