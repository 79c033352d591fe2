"""The objective's gradient at a batch of images, by parts of the batch where memory is short."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from texnet.losses import Objective, Terms, Whole


def image_gradient(
    objective: Objective, images: Tensor, content: Tensor | None, part: int | None = None
) -> tuple[Terms, Tensor]:
    """The terms of the objective, each (B,), and the gradient of their sum's mean at the images.

    The descriptor's maps are freed before it returns, and only those of ``part`` images exist at
    once. Where the objective normalises gradients, whose norms are over the whole batch, parts cost
    one more pass forward.

    Args:
        objective: what is minimised.
        images: (B, 3, H, W); of their own graph nothing is used.
        content: content images (B, 3, H, W), or None for textures.
        part: images that the descriptor takes at once; None for all.
    """
    settings, count = objective.settings, len(images)
    apart = bool(settings.diversity_weight) and settings.diversity_distance != "features"
    if settings.diversity_weight and not apart:  # distances of what the descriptor makes of all
        part = None
    parts = images.detach().split(part or count)
    contents: Sequence[Tensor | None] = [None] * len(parts)
    if content is not None:
        contents = content.split(part or count)
    whole = None
    if settings.normalise_gradients and len(parts) > 1:
        with torch.no_grad():
            norms = [objective.texture.norms(objective.features(each), count) for each in parts]
        none = images.new_zeros(())
        whole = Whole({k: sum((each[k] for each in norms), none) for k in norms[0]}, count)
    found, gradients = [], []
    for each, its_content in zip(parts, contents, strict=True):
        given = each.detach().requires_grad_(True)
        targets = objective.content_targets(its_content)
        terms = objective(given, targets, diversity=not apart, whole=whole)
        (terms.total.sum() / count).backward()
        assert given.grad is not None
        gradients.append(given.grad)
        found.append([getattr(terms, field.name).detach() for field in dataclasses.fields(Terms)])
    gradient = torch.cat(gradients)
    terms = Terms(*(torch.cat(each) for each in zip(*found, strict=True)))
    if apart:
        given = images.detach().requires_grad_(True)
        diversity = objective.entropy_term(given, {})
        diversity.mean().backward()
        assert given.grad is not None
        gradient = gradient + given.grad
        terms = dataclasses.replace(terms, diversity=diversity.detach())
    return terms, gradient
