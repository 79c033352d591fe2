"""The generators made of PyTorch's own layers, for programs that know no others.

Our layers (:mod:`texnet.layers`, :mod:`texnet.kernels`) compute in fewer passes over memory what
these compute one after the other. Both have the same weights and, but for rounding, the same
outputs: this is the definition that the fast ones are held against, and what is exported.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet.errors import UsageError
from texnet.generators import Network, Residual, SkipNet, StyleNet
from texnet.layers import (
    CrossChannelNorm,
    DoublingConv,
    InstanceNorm,
    Lean,
    ReplicationPad,
    WrappedPad,
)
from texnet.texturenets import Join, TextureNetV1, TextureNetV2
from texnet.winograd import Conv3x3

Plain = nn.Module
"""A network of PyTorch's own layers: ``plain(content, noise)`` as a generator's."""


def plain(net: Network) -> Plain:
    """The same network, in evaluation mode, of PyTorch's own layers, with copies of its weights.

    Besides those there are :class:`Extended`, :class:`Cropped`, sums and concatenations. Control
    flow does not depend on what is computed, so that ``torch.fx`` can trace it.

    Returns:
        A module that is called like ``net``: content images (B, 3, H, W) or None, and a sequence
        of noise tensors; it returns (B, 3, H, W).

    Raises:
        UsageError: there is none for a network of this kind.
    """
    kinds: dict[type[nn.Module], type[nn.Module]] = {
        StyleNet: PlainStyleNet,
        SkipNet: PlainSkipNet,
        TextureNetV1: PlainTextureNetV1,
        TextureNetV2: PlainTextureNetV2,
    }
    if type(net) not in kinds:
        raise UsageError(
            f"{type(net).__name__} has no form of PyTorch's own layers; give it one in "
            "texnet/plain.py: plain"
        )
    return kinds[type(net)](net).to(next(net.parameters())).eval()


class Extended(nn.Module):
    """Replication to the right and below, until both sides are multiples of a number."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        missing = (0, -width % self.multiple, 0, -height % self.multiple)
        return F.pad(x, missing, mode="replicate")


class Cropped(nn.Module):
    """Maps cut on the right and below to the size of others."""

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        return x[..., :height, :width]


class Sum(nn.Module):
    """A skip around some layers."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def layer(module: nn.Module) -> nn.Module:
    """One of our layers, or a sequence of them, as PyTorch's own, with copies of its weights."""
    match module:
        case InstanceNorm():
            return _with_weights(
                nn.InstanceNorm2d(module.num_features, eps=module.eps, affine=True), module
            )
        case CrossChannelNorm():
            # A window of five covers all three channels, and PyTorch divides their sum by five.
            return nn.LocalResponseNorm(5, alpha=1e-4 * 5 / 3 * 255**2, beta=0.75, k=1)
        case ReplicationPad():
            return nn.ReplicationPad2d(module.side) if module.side else nn.Identity()
        case WrappedPad():
            return nn.CircularPad2d(1)
        case DoublingConv():
            convolution = nn.Conv2d(module.in_channels, module.out_channels, 3)
            return nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.ReplicationPad2d(1),
                _with_weights(convolution, module),
            )
        case Conv3x3():
            convolution = nn.Conv2d(module.in_channels, module.out_channels, 3, padding=module.side)
            return _with_weights(convolution, module)
        case Residual():
            return Sum(layer(module.body))
        case Join():
            return PlainJoin(module)
        case Lean() | nn.Sequential():
            return nn.Sequential(*map(layer, module))
    return copy.deepcopy(module)


def layers(modules: Iterable[nn.Module]) -> nn.ModuleList:
    """:func:`layer` of each."""
    return nn.ModuleList(map(layer, modules))


def _with_weights(made: nn.Module, module: nn.Module) -> nn.Module:
    made.load_state_dict(module.state_dict())
    return made


class PlainStyleNet(nn.Module):
    """:class:`texnet.generators.StyleNet`."""

    def __init__(self, net: StyleNet) -> None:
        super().__init__()
        self.noisy = net.noise_channels > 0
        self.first, self.body = layer(net.first), layer(net.body)
        self.extended, self.cropped = Extended(4), Cropped()

    def forward(self, content: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
        x = self.first(content)
        if self.noisy:
            x = torch.cat([x, noise[0]], dim=1)
        return self.cropped(0.5 + self.body(self.extended(x)), content)


class PlainSkipNet(nn.Module):
    """:class:`texnet.generators.SkipNet`."""

    def __init__(self, net: SkipNet) -> None:
        super().__init__()
        self.down, self.skips, self.up = layers(net.down), layers(net.skips), layers(net.up)
        self.last = layer(net.last)
        self.doubled = nn.Upsample(scale_factor=2, mode="nearest")
        self.extended, self.cropped = Extended(16), Cropped()

    def forward(self, content: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
        x, kept = self.extended(content), []
        for down, skip in zip(self.down, self.skips, strict=True):
            kept.append(skip(x))
            x = down(x)
        for up, skipped in zip(reversed(self.up), reversed(kept), strict=True):
            x = up(torch.cat([self.doubled(x), skipped], dim=1))
        return self.cropped(0.5 + self.last(x), content)


class PlainJoin(nn.Module):
    """:class:`texnet.texturenets.Join`, with the doubled map."""

    def __init__(self, join: Join) -> None:
        super().__init__()
        doubled = nn.Upsample(scale_factor=2, mode="nearest")
        self.coarse = nn.Sequential(doubled, layer(join.coarse_norm))
        self.fine = layer(join.fine_norm)
        self.rest = nn.Sequential(nn.CircularPad2d(1), layer(join.first), layer(join.rest))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return self.rest(torch.cat([self.coarse(coarse), self.fine(fine)], dim=1))


class PlainTextureNetV1(nn.Module):
    """:class:`texnet.texturenets.TextureNetV1`."""

    def __init__(self, net: TextureNetV1) -> None:
        super().__init__()
        self.content = net.content
        self.branches = layers(net.branches)
        self.joins = layers(net.joins)
        self.pooled = nn.ModuleList(map(nn.AvgPool2d, net.ratios))
        self.extended, self.cropped = Extended(net.ratios[0]), Cropped()

    def forward(self, content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        made = []
        extended = self.extended(content) if self.content else None
        for number, (branch, pooled) in enumerate(zip(self.branches, self.pooled, strict=True)):
            given = noise[number]
            if self.content:
                given = torch.cat([pooled(extended), given], dim=1)
            made.append(branch(given))
        x, *finer = made
        for join, fine in zip(self.joins, finer, strict=True):
            x = join(x, fine)
        return self.cropped(0.5 + x, content) if self.content else 0.5 + x


class PlainTextureNetV2(nn.Module):
    """:class:`texnet.texturenets.TextureNetV2`."""

    def __init__(self, net: TextureNetV2) -> None:
        super().__init__()
        self.full, self.body = layer(net.full), layer(net.body)
        self.maps = nn.Unflatten(1, (-1, 4, 4))

    def forward(self, content: None, noise: Sequence[Tensor]) -> Tensor:
        return 0.5 + self.body(self.maps(self.full(noise[0])))
