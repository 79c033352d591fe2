"""The objective: texture, content and total variation losses, in small modules.

Every loss is a vector (B,), one value per image, so that the paper's mean over a batch, a single
image's value and a table by image are the same numbers. Descriptors, generators and baselines meet
here: training, generation by optimisation and finetuning minimise the same :class:`Objective`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from texnet import config
from texnet.descriptors import Descriptor, gram


class TextureLoss(nn.Module):
    """Sum over layers of the mean squared difference of Gram matrices (paper eq. 1-2).

    The mean over the C x C entries is the authors' (``MSECriterion``, src/texture_loss.lua).

    Args:
        targets: the exemplar's Gram matrices by layer, each (1, C, C) or (C, C).
    """

    def __init__(self, targets: Mapping[str, Tensor]) -> None:
        super().__init__()
        for layer, target in targets.items():
            self.register_buffer(layer, target.detach().reshape(1, *target.shape[-2:]))
        self.layers = tuple(targets)

    def by_layer(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of each layer, (B,), from features {layer: (B, C, H, W)}."""
        return {
            layer: (gram(features[layer]) - self.get_buffer(layer)).square().mean((1, 2))
            for layer in self.layers
        }

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(self.by_layer(features).values())).sum(0)


def content_loss(features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Mean squared difference of activations, summed over the layers of ``targets``: (B,).

    Authors' src/content_loss.lua.
    """
    return torch.stack(
        [(features[layer] - target).square().mean((1, 2, 3)) for layer, target in targets.items()]
    ).sum(0)


def total_variation(images: Tensor) -> Tensor:
    """Half the sum of squared forward differences, (B,), of images in [0, 1].

    Its gradient is that of the authors' ``TVLoss`` module, which leaves out the last row and column
    altogether. Their images are in 0-255, so a weight of theirs is worth 255² of ours.
    """
    corner = images[..., :-1, :-1]
    rows, columns = images[..., 1:, :-1] - corner, images[..., :-1, 1:] - corner
    return 0.5 * (rows.square().sum((1, 2, 3)) + columns.square().sum((1, 2, 3)))


@dataclass(frozen=True)
class Terms:
    """The weighted terms of the objective, each (B,); ``total`` is their sum."""

    texture: Tensor
    content: Tensor
    tv: Tensor

    @property
    def total(self) -> Tensor:
        return self.texture + self.content + self.tv


class Objective(nn.Module):
    """E(x) = style_weight L_texture + content_weight L_content + tv_weight TV, per image.

    Args:
        settings: weights and layers.
        descriptor: must return the style and the content layers.
        style: the style exemplar, (3, H, W); its Gram matrices are computed once.
    """

    def __init__(self, settings: config.Objective, descriptor: Descriptor, style: Tensor) -> None:
        super().__init__()
        self.settings = settings
        self.descriptor = descriptor
        with torch.no_grad():
            features = descriptor(style[None])
        self.texture = TextureLoss({k: gram(features[k]) for k in settings.style_layers})

    @torch.no_grad()
    def content_targets(self, images: Tensor) -> dict[str, Tensor]:
        """What the content loss compares with: activations of content images (B, 3, H, W)."""
        features = self.descriptor(images)
        return {layer: features[layer] for layer in self.settings.content_layers}

    def forward(self, images: Tensor, content_targets: Mapping[str, Tensor]) -> Terms:
        """The terms for images (B, 3, H, W) against ``content_targets`` of as many contents."""
        s = self.settings
        features = self.descriptor(images)
        none = images.new_zeros(len(images))
        return Terms(
            texture=s.style_weight * self.texture(features) if s.style_weight else none,
            content=s.content_weight * content_loss(features, content_targets)
            if s.content_weight
            else none,
            tv=s.tv_weight * total_variation(images) if s.tv_weight else none,
        )
