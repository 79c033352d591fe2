"""Feed-forward generators: StyleNet, the skip architecture, and the two texture networks.

All return images in RGB, [0, 1] (outputs are unclamped and may leave it a little), as
``net(content, noise)``: content images (B, 3, H, W), or None for textures, and a sequence of noise
tensors of the shapes that ``net.noise_shapes`` names, drawn from ``net.distribution``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet import config
from texnet.errors import UsageError
from texnet.fields import Norm, PlainNorm
from texnet.layers import (
    CrossChannelNorm,
    DoublingConv,
    InstanceNorm,
    Lean,
    ReplicationPad,
    laid_out,
    normalisation,
)
from texnet.texturenets import TextureNetV1, TextureNetV2
from texnet.winograd import Conv3x3

__all__ = ["Network", "SkipNet", "StyleNet", "TextureNetV1", "TextureNetV2", "build", "initialise"]


def rectified_pad(side: int) -> list[nn.Module]:
    """ReLU and padding. They commute: rectified in place after padding, one map less is kept."""
    return [ReplicationPad(side), nn.ReLU(inplace=True)]


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip; no ReLU after the sum (authors' johnson.lua)."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.body = Lean(
            ReplicationPad(1),
            Conv3x3(channels, channels),
            normalisation(norm, channels),
            *rectified_pad(1),
            Conv3x3(channels, channels),
            normalisation(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class StyleNet(nn.Module):
    """The residual stylization network (paper section 5.2; authors' master, models/johnson.lua).

    A 9x9 convolution, two strided ones, residual blocks, two transposed convolutions and a last 3x3
    convolution; replication padding; normalisation and ReLU after all but the last; no tanh.
    1,672,323 parameters with the defaults. The authors' network emits Caffe units (0-255 minus the
    mean); ours emits [0, 1] around 1/2. From the same weights that is 255 times the contrast, so
    their learning rates do not carry over.

    Args:
        norm: ``instance`` or ``batch`` throughout; ``batch`` with IN (``instance_first``) or LRN
            (``lrn_first``) of the input image, as figure 2 compares; ``none``.
        width: channels after the first convolution (the blocks have 4 x width).
        blocks: number of residual blocks.
        noise_channels: channels of U(0, 1) noise that are appended to the content image
            (authors' diversity branch, datasets/style.lua: 3).
        upsampling: ``transposed`` convolutions (master, johnson.lua), whose uneven overlap leaves a
            checkerboard until long training removes it, or ``bilinear`` doubling before an ordinary
            convolution (diversity branch, johnson_bilinear.lua; ours keeps the normalisation).

    ``net(content, noise)`` maps (B, 3, H, W), with one tensor of noise (B, noise_channels, H, W)
    where there are such channels, to (B, 3, H, W), for any H and W: sides that are no multiple of 4
    are padded by replication and cropped again.
    """

    distribution = "uniform"

    def __init__(
        self,
        norm: Norm = "instance",
        width: int = 32,
        blocks: int = 5,
        noise_channels: int = 0,
        upsampling: Literal["transposed", "bilinear"] = "transposed",
    ) -> None:
        super().__init__()
        first: dict[str, nn.Module] = {
            "instance_first": InstanceNorm(3),
            "lrn_first": CrossChannelNorm(),
        }
        if norm not in get_args(Norm):
            raise UsageError(f"unknown norm '{norm}'; use {', '.join(get_args(Norm))}")
        self.noise_channels = noise_channels
        self.receptive_field = 15 + 16 * blocks  # up to the last residual block
        self.first = first.get(norm, nn.Identity())

        def strided(before: int, after: int) -> list[nn.Module]:
            convolution = nn.Conv2d(before, after, 3, stride=2)
            return [*rectified_pad(1), convolution, normalisation(norm, after)]

        def doubling(before: int, after: int) -> list[nn.Module]:
            larger: nn.Module = DoublingConv(before, after)
            if upsampling == "transposed":
                larger = nn.ConvTranspose2d(before, after, 3, 2, padding=1, output_padding=1)
            return [larger, normalisation(norm, after)]

        self.body = Lean(
            ReplicationPad(4),
            nn.Conv2d(3 + noise_channels, width, 9),
            normalisation(norm, width),
            *strided(width, 2 * width),
            *strided(2 * width, 4 * width),
            nn.ReLU(inplace=True),
            *(Residual(4 * width, norm) for _ in range(blocks)),
            *doubling(4 * width, 2 * width),
            nn.ReLU(inplace=True),
            *doubling(2 * width, width),
            *rectified_pad(1),
            nn.Conv2d(width, 3, 3),
        )

    def noise_shapes(self, count: int, height: int, width: int) -> list[tuple[int, ...]]:
        """Shapes of the noise for ``count`` images."""
        return [(count, self.noise_channels, height, width)] if self.noise_channels else []

    def forward(self, content: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
        if content.ndim != 4 or content.shape[1] != 3:
            raise ValueError(f"content must be (B, 3, H, W), got {tuple(content.shape)}")
        given = sum(tensor.shape[1] for tensor in noise)
        if given != self.noise_channels:
            raise ValueError(
                f"this StyleNet takes {self.noise_channels} noise channels, got {given}"
            )
        x = laid_out(torch.cat([self.first(content), *noise], dim=1))
        height, width = x.shape[-2:]
        if height % 4 or width % 4:
            x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        return 0.5 + self.body(x)[..., :height, :width]


class SkipNet(nn.Module):
    """Encoder and decoder with skips (after the authors' v1 branch, models/skip.lua; claim C23).

    At each of four scales a strided and an ordinary 3x3 convolution go down; a 1x1 convolution
    keeps four channels for the way up, where nearest-neighbour doubling, normalisation of the
    joined channels, a 3x3 and a 1x1 convolution follow. Replication padding; LeakyReLU of slope
    1/100; a last 1x1 convolution and no tanh. The widths are ours: ``width`` channels at full size,
    twice as many at each halving, 8 x width at most.

    Args:
        norm: ``instance``, ``batch`` or ``none``.
        width: channels at full size.

    ``net(content, noise)`` takes (B, 3, H, W) and no noise: sides that are no multiple of 16 are
    padded by replication and cropped again.
    """

    distribution = "uniform"
    noise_channels = 0
    receptive_field = 1 + 6 * (1 + 2 + 4 + 8)  # down to the coarsest scale

    def __init__(self, norm: PlainNorm = "instance", width: int = 16) -> None:
        super().__init__()
        widths = [min(8 * width, width * 2**i) for i in range(5)]

        def convolution(before: int, after: int, side: int, stride: int = 1) -> list[nn.Module]:
            return [
                ReplicationPad(side // 2),
                nn.Conv2d(before, after, side, stride),
                normalisation(norm, after),
                nn.LeakyReLU(0.01, inplace=True),
            ]

        self.down, self.skips, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = 3
        for fine, coarse in itertools.pairwise(widths):
            self.skips.append(nn.Sequential(*convolution(before, 4, 1)))
            layers = [*convolution(before, coarse, 3, stride=2), *convolution(coarse, coarse, 3)]
            self.down.append(nn.Sequential(*layers))
            self.up.append(
                nn.Sequential(
                    normalisation(norm, coarse + 4),
                    *convolution(coarse + 4, fine, 3),
                    *convolution(fine, fine, 1),
                )
            )
            before = coarse
        self.last = nn.Conv2d(width, 3, 1)

    def noise_shapes(self, count: int, height: int, width: int) -> list[tuple[int, ...]]:
        """Nothing: this network takes no noise."""
        return []

    def forward(self, content: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
        if noise:
            raise ValueError("SkipNet takes no noise")
        height, width = content.shape[-2:]
        x = laid_out(F.pad(content, (0, -width % 16, 0, -height % 16), mode="replicate"))
        kept = []
        for down, skip in zip(self.down, self.skips, strict=True):
            kept.append(skip(x))
            x = down(x)
        for up, skip in zip(reversed(self.up), reversed(kept), strict=True):
            doubled = F.interpolate(x, scale_factor=2, mode="nearest")
            x = up(torch.cat([doubled, skip], dim=1))
        return 0.5 + self.last(x)[..., :height, :width]


Network = StyleNet | SkipNet | TextureNetV1 | TextureNetV2


def initialise(generator: nn.Module, seed: int) -> None:
    """Torch7's initial weights, drawn from ``seed``.

    Convolutions, transposed ones too: U(-s, s) with s = 1 / sqrt(k k C_in), weights and biases
    (PyTorch's default takes C_out for transposed ones). IN and BN: scale U(0, 1), bias 0.
    """
    rng = torch.Generator().manual_seed(seed)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            bound = 1 / math.sqrt(module.in_channels * math.prod(module.kernel_size))
            nn.init.uniform_(module.weight, -bound, bound, generator=rng)
            assert module.bias is not None  # no layer of ours is without
            nn.init.uniform_(module.bias, -bound, bound, generator=rng)
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=rng)
            nn.init.uniform_(module.bias, -bound, bound, generator=rng)
        elif isinstance(module, nn.InstanceNorm2d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0, 1, generator=rng)
            nn.init.zeros_(module.bias)


def build(settings: config.Generator, seed: int, images: config.Images | config.Texture) -> Network:
    """The generator of a run, with its initial weights, for the images that it is to make."""
    net: Network
    if isinstance(settings, config.TextureNetV1):
        content = isinstance(images, config.Images)
        net = TextureNetV1(settings.norm, settings.width, settings.noise_channels, content)
    elif isinstance(settings, config.TextureNetV2):
        net = TextureNetV2(images.size, settings.norm, settings.width, settings.latent)
    elif isinstance(settings, config.SkipNet):
        net = SkipNet(settings.norm, settings.width)
    else:
        net = StyleNet(
            settings.norm,
            settings.width,
            settings.blocks,
            settings.noise_channels,
            settings.upsampling,
        )
    initialise(net, seed)
    return net
