"""The gradient by parts of a batch is that of the whole batch."""

import pytest
import torch

from texnet import config
from texnet.descriptors import load
from texnet.gradients import image_gradient
from texnet.losses import Objective

LAYERS = ("relu1_1", "relu2_1")
VARIANTS = {
    "texture": {"content_weight": 0.0},
    "content and tv": {"content_layers": ("relu2_2",), "tv_weight": 0.3},
    "normalised": {"content_weight": 0.0, "normalise_gradients": True},
    "normalised, content": {"content_layers": ("relu2_2",), "normalise_gradients": True},
    "pixels": {"content_weight": 0.0, "diversity_weight": 1.0, "temperature": 3.0},
    "highpass": {
        "content_weight": 0.0, "diversity_weight": 1.0, "diversity_distance": "highpass",
        "convention": "authors_code",
    },
    "features": {
        "content_weight": 0.0, "diversity_weight": 1.0, "diversity_distance": "features",
    },
    "normalised, pixels": {
        "content_weight": 0.0, "diversity_weight": 1.0, "normalise_gradients": True,
    },
}  # fmt: skip


def setting(variant):
    rng = torch.Generator().manual_seed(0)
    settings = config.Objective(style_layers=LAYERS, **VARIANTS[variant])
    descriptor = load("vgg19_lite", {*LAYERS, "relu2_2"})
    objective = Objective(settings, descriptor, torch.rand(3, 40, 40, generator=rng))
    images, content = (torch.rand(5, 3, 24, 32, generator=rng) for _ in range(2))
    return objective, images, content if settings.content_weight else None


@pytest.mark.parametrize("part", [None, 1, 2, 4, 5, 7])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_make_the_whole(variant, part):
    objective, images, content = setting(variant)
    given = images.clone().requires_grad_(True)
    wanted = objective(given, objective.content_targets(content))
    wanted.total.mean().backward()
    terms, gradient = image_gradient(objective, images, content, part)
    torch.testing.assert_close(terms.total, wanted.total.detach(), rtol=1e-5, atol=0)
    scale = given.grad.abs().max()
    torch.testing.assert_close(gradient / scale, given.grad / scale, rtol=0, atol=1e-5)
    assert not gradient.requires_grad and not terms.total.requires_grad


def test_norms_are_over_the_whole_batch():
    """So one image's change is felt in the gradient at the images of another part."""
    objective, images, _ = setting("normalised")
    _, before = image_gradient(objective, images, None, 2)
    paler = images.clone()
    paler[4] *= 0.1
    _, after = image_gradient(objective, paler, None, 2)
    assert (after[:2] - before[:2]).abs().max() > 0.01 * before[:2].abs().max()


def test_images_keep_their_own_graph():
    objective, images, _ = setting("texture")
    scale = torch.ones(1, requires_grad=True)
    made = images * scale
    _, gradient = image_gradient(objective, made, None, 2)
    made.backward(gradient)
    torch.testing.assert_close(scale.grad, (gradient * images).sum().view(1))
