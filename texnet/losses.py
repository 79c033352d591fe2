"""The objective: texture, content, total variation and diversity terms, in small modules.

Every loss is a vector (B,), one value per image, so that the paper's mean over a batch, a single
image's value and a table by image are the same numbers. Descriptors, generators and baselines meet
here: training, generation by optimisation and finetuning minimise the same :class:`Objective`.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet import config
from texnet.descriptors import Descriptor, gram
from texnet.errors import UsageError


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
        return {layer: self.of(layer, features[layer]) for layer in self.layers}

    def of(self, layer: str, features: Tensor) -> Tensor:
        """The loss of one layer, (B,), from its features (B, C, H, W)."""
        return (gram(features) - self.get_buffer(layer)).square().mean((1, 2))

    def with_normalised_gradient(
        self, layer: str, features: Tensor, whole: Whole | None = None
    ) -> Tensor:
        """The same values, (B,), whose mean has a gradient of L1 norm 1 at the features.

        Args:
            layer: of the features.
            features: (B, C, H, W), of a batch or of a part of one.
            whole: the batch, where they are a part of it.
        """
        norm = (whole.norms[layer], whole.count) if whole else None
        return normalise_gradient(functools.partial(self.of, layer), features, norm)

    def norms(self, features: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        """L1 norm of each layer's gradient of the sum of the values over ``count``."""
        return {
            layer: local_gradient(functools.partial(self.of, layer), features[layer], count)[1]
            .abs()
            .sum()
            for layer in self.layers
        }

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(self.by_layer(features).values())).sum(0)


@dataclass(frozen=True)
class Whole:
    """What a part of a batch must know of the whole, where gradients are normalised."""

    norms: Mapping[str, Tensor]
    """L1 norm of each layer's gradient of the mean over the batch."""
    count: int
    """Images of the batch."""


def local_gradient(
    loss: Callable[[Tensor], Tensor], features: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """``loss(features)``, (B,), and the gradient of its sum over ``count`` at ``features``."""
    with torch.enable_grad():
        local = features.detach().requires_grad_(True)
        value = loss(local)
        (gradient,) = torch.autograd.grad(value.sum() / count, local)
    return value, gradient


def normalise_gradient(
    loss: Callable[[Tensor], Tensor],
    features: Tensor,
    whole: tuple[Tensor, int] | None = None,
) -> Tensor:
    """``loss(features)``, (B,), with the gradient of its mean at ``features`` scaled to L1 norm 1.

    Section 5.1 and the authors' v1 branch, src/texture_loss.lua: the local gradient g of a layer,
    of the whole batch, becomes g / (||g||_1 + 1e-8) before what comes from deeper layers is added.
    This alters the objective that is minimised; the value stays that of the loss.

    Args:
        loss: of a layer.
        features: of a batch, or of a part of one.
        whole: norm of the gradient and size of the batch, where they are a part of it.
    """
    count = whole[1] if whole else len(features)
    value, gradient = local_gradient(loss, features, count)
    norm = whole[0] if whole else gradient.abs().sum()
    pull = (gradient * (count / (norm + 1e-8)) * features).sum((1, 2, 3))
    return value.detach() + (pull - pull.detach())  # the brackets keep the value exact


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


def nearest_neighbour(points: Tensor) -> Tensor:
    """Squared Euclidean distance of each of (N, ...) points to its nearest other: (N,)."""
    if len(points) < 2:
        raise UsageError(f"nearest neighbours need 2 samples or more, got {len(points)}")
    flat = points.flatten(1)
    # Differences, not Gram entries: those of near neighbours would cancel to noise.
    pairs = (flat[:, None] - flat[None]).square().sum(-1)
    return pairs.fill_diagonal_(float("inf")).min(1).values


def diversity(points: Tensor) -> Tensor:
    """Mean over i of ln min_{j != i} ||x_i - x_j||, a scalar, of (N, ...) points, N >= 2.

    The Kozachenko-Leonenko estimate of their entropy, eq. 9, without its constants and the
    dimension D; minus infinity where two points coincide.
    """
    return 0.5 * nearest_neighbour(points).log().mean()


@dataclass(frozen=True)
class Convention:
    """How the diversity term joins the texture loss: the paper's formula or the authors' code.

    Its value for image i of N is ``-weight factor ln(rho_i^2 + floor)``, to be averaged over i,
    with rho_i the distance to the nearest neighbour in units in which white is ``white``.
    """

    white: float
    floor: float
    divide_by_temperature: bool
    """Whether the loss is divided by T (eq. 10), or the entropy multiplied by it."""
    per_image: bool
    """Whether the entropy is a mean over the batch (eq. 10), or a sum."""

    def quality(self, temperature: float) -> float:
        """Factor of texture, content and total variation."""
        return 1 / temperature if self.divide_by_temperature else 1.0

    def entropy(self, temperature: float, count: int) -> float:
        """Factor of ln(rho^2), for lambda 1 and a batch of ``count``."""
        factor = 0.5 if self.divide_by_temperature else temperature
        return factor if self.per_image else factor * count


PAPER = Convention(white=1.0, floor=1e-6, divide_by_temperature=True, per_image=True)
"""Eq. 10: mean of L / T - lambda ln rho. Of copies ln rho is infinite, so it has a floor at a
distance of 1/1000 over the whole image, far below a grey level of one pixel."""
AUTHORS_CODE = Convention(white=255.0, floor=0.1, divide_by_temperature=False, per_image=False)
"""Diversity branch, EstimatedEntropyMaximizer.lua: L - w sum of ln(rho^2 + 0.1), in 0-255 units.
Their w is our T lambda. The entropy's gradient is 2 N times that of eq. 10 times T."""
CONVENTIONS: Mapping[str, Convention] = {"paper": PAPER, "authors_code": AUTHORS_CODE}


@dataclass(frozen=True)
class Terms:
    """The weighted terms of the objective, each (B,); ``total`` is their sum."""

    texture: Tensor
    content: Tensor
    tv: Tensor
    diversity: Tensor

    @property
    def total(self) -> Tensor:
        return self.texture + self.content + self.tv + self.diversity


class Objective(nn.Module):
    """Eq. 10, per image: (L_texture + alpha L_content + TV) / T - lambda ln rho, each weighted.

    Args:
        settings: weights, layers and convention.
        descriptor: must return the style and the content layers.
        style: the style or texture exemplar, (3, H, W); its Gram matrices are computed once.

    Attributes:
        bf16: whether the descriptor's convolutions round to bfloat16; Gram matrices and all sums
            stay in float32.
    """

    bf16 = False

    def __init__(self, settings: config.Objective, descriptor: Descriptor, style: Tensor) -> None:
        super().__init__()
        self.settings = settings
        self.descriptor = descriptor
        with torch.no_grad():
            features = descriptor(style[None])
        self.texture = TextureLoss({k: gram(features[k]) for k in settings.style_layers})
        self.scales = {k: features[k].square().mean().sqrt().item() for k in settings.style_layers}

    def rounded(self) -> Objective:
        """The same objective with bf16; they share descriptor and targets."""
        made = copy.copy(self)
        made.bf16 = True
        return made

    @torch.no_grad()
    def content_targets(self, images: Tensor | None) -> dict[str, Tensor]:
        """What the content loss compares with: activations of content images (B, 3, H, W)."""
        if images is None or not self.settings.content_weight:
            return {}
        features = self.features(images)
        return {layer: features[layer] for layer in self.settings.content_layers}

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The descriptor's activations of images (B, 3, H, W); in float32 after bfloat16."""
        return dict(self.activations(images))

    def activations(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The same as (layer, (B, C, h, w)), one by one: each is computed when it is asked for."""

        def rounding() -> AbstractContextManager[object]:
            kind = images.device.type
            return torch.autocast(kind, torch.bfloat16) if self.bf16 else nullcontext()

        if self.descriptor.compiled:
            with rounding():
                found = iter(self.descriptor(images).items())
        else:
            found = self.descriptor.activations(images)
        for _ in self.descriptor.layers:
            with rounding():  # never while another's code runs
                layer, values = next(found)
            yield layer, values.float() if self.bf16 else values

    def forward(
        self,
        images: Tensor,
        content_targets: Mapping[str, Tensor],
        diversity: bool = True,
        whole: Whole | None = None,
    ) -> Terms:
        """The terms for images (B, 3, H, W) against ``content_targets`` of as many contents.

        Without ``diversity`` that term is 0: images of different contents are no samples of one
        distribution. ``whole`` tells of the batch, where the images are a part of one.
        """
        s = self.settings
        of: Callable[[str, Tensor], Tensor] = self.texture.of
        if s.normalise_gradients and torch.is_grad_enabled():
            of = functools.partial(self.texture.with_normalised_gradient, whole=whole)
        # Each as soon as its layer is there: autograd then comes to it after the deeper layers, and
        # no gradient of a large map waits for them.
        features: dict[str, Tensor] = {}
        textures: dict[str, Tensor] = {}
        for layer, values in self.activations(images):
            features[layer] = values
            if s.style_weight and layer in s.style_layers:
                textures[layer] = of(layer, values)
        quality = CONVENTIONS[s.convention].quality(s.temperature)
        texture = none = images.new_zeros(len(images))
        if textures:
            by_layer = torch.stack([textures[layer] for layer in self.texture.layers])
            texture = quality * s.style_weight * by_layer.sum(0)
        return Terms(
            texture=texture,
            content=quality * s.content_weight * content_loss(features, content_targets)
            if s.content_weight
            else none,
            tv=quality * s.tv_weight * total_variation(images) if s.tv_weight else none,
            diversity=self.entropy_term(images, features)
            if s.diversity_weight and diversity
            else none,
        )

    def entropy_term(self, images: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """-lambda ln rho of each image, (B,), as the convention writes it."""
        s = self.settings
        convention = CONVENTIONS[s.convention]
        squared = nearest_neighbour(self.compared(images, features, convention))
        factor = convention.entropy(s.temperature, len(images))
        return -s.diversity_weight * factor * (squared + convention.floor).log()

    def diversity_of_copies(self, count: int) -> float | None:
        """The diversity term of ``count`` copies of an image; None where its weight is 0."""
        s = self.settings
        if not s.diversity_weight:
            return None
        convention = CONVENTIONS[s.convention]
        factor = convention.entropy(s.temperature, count)
        return -s.diversity_weight * factor * math.log(convention.floor)

    def compared(
        self, images: Tensor, features: Mapping[str, Tensor], convention: Convention
    ) -> Tensor:
        """What the diversity term measures distances between: (B, D).

        Pixels as in eq. 8-10; or, the paper's two proposals against figure 7's spots, the image
        without its low frequencies, or the texture layers' activations, each layer in units of the
        exemplar's root mean square and each with the weight of an image's worth of pixels (no
        convention's unit applies to them).
        """
        if self.settings.diversity_distance == "features":
            share = images[0].numel() / len(self.scales)
            layers = [
                features[k].flatten(1) * (share / features[k][0].numel()) ** 0.5 / (scale + 1e-12)
                for k, scale in self.scales.items()
            ]
            return torch.cat(layers, dim=1)
        if self.settings.diversity_distance == "highpass":
            images = images - low_pass(images)
        return convention.white * images


def low_pass(images: Tensor) -> Tensor:
    """Images (B, C, H, W) averaged over squares of an eighth of their shorter side, edges repeated.

    What is left of local brightness: figure 7's spots are larger than that, texture is smaller.
    """
    side = max(1, min(images.shape[-2:]) // 8) | 1
    padded = F.pad(images, (side // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, side, stride=1)
