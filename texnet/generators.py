"""Feed-forward generators: StyleNet, and the normalisations that the paper compares.

All take and return images in RGB, [0, 1] (outputs are unclamped and may leave it a little).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet import config
from texnet.errors import UsageError

EPS = 1e-5  # authors' InstanceNormalization.lua and Torch7's SpatialBatchNormalization


class CrossChannelNorm(nn.Module):
    """Local response normalisation of an RGB image across its channels (figure 2, second column).

    Krizhevsky et al.'s constants as Torch7's ``SpatialCrossMapLRN`` has them (alpha 1e-4, beta 3/4,
    k 1), over all three channels. They are meant for 0-255 inputs, so the image is scaled there and
    back. The authors published no code for this variant.
    """

    def forward(self, images: Tensor) -> Tensor:
        energy = (images * 255).square().mean(1, keepdim=True)
        return images / (1 + 1e-4 * energy) ** 0.75


def normalisation(norm: config.Norm, channels: int) -> nn.Module:
    """The layer that follows a convolution: IN (eq. 12), BN (eq. 13) or nothing.

    IN and BN have a learnt scale and bias; IN acts alike in training and at test time, BN uses its
    running statistics once in evaluation mode.
    """
    if norm == "instance":
        return nn.InstanceNorm2d(channels, eps=EPS, affine=True)
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels, eps=EPS, momentum=0.1)


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip; no ReLU after the sum (authors' johnson.lua)."""

    def __init__(self, channels: int, norm: config.Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReplicationPad2d(1),
            nn.Conv2d(channels, channels, 3),
            normalisation(norm, channels),
            nn.ReLU(),
            nn.ReplicationPad2d(1),
            nn.Conv2d(channels, channels, 3),
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

    ``net(content, noise)`` maps (B, 3, H, W), with noise (B, noise_channels, H, W) where there are
    such channels, to (B, 3, H, W), for any H and W: sides that are no multiple of 4 are padded by
    replication and cropped again.
    """

    def __init__(
        self,
        norm: config.Norm = "instance",
        width: int = 32,
        blocks: int = 5,
        noise_channels: int = 0,
        upsampling: Literal["transposed", "bilinear"] = "transposed",
    ) -> None:
        super().__init__()
        first: dict[str, nn.Module] = {
            "instance_first": nn.InstanceNorm2d(3, eps=EPS, affine=True),
            "lrn_first": CrossChannelNorm(),
        }
        if norm not in ("instance", "batch", "none", *first):
            raise UsageError(
                f"unknown norm '{norm}'; use instance, batch, instance_first, lrn_first or none"
            )
        self.noise_channels = noise_channels
        self.first = first.get(norm, nn.Identity())

        def convolution(before: int, after: int, side: int, stride: int = 1) -> list[nn.Module]:
            return [
                nn.ReplicationPad2d(side // 2),
                nn.Conv2d(before, after, side, stride),
                normalisation(norm, after),
                nn.ReLU(),
            ]

        def doubling(before: int, after: int) -> list[nn.Module]:
            if upsampling == "bilinear":
                larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
                return [larger, *convolution(before, after, 3)]
            return [
                nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1),
                normalisation(norm, after),
                nn.ReLU(),
            ]

        self.body = nn.Sequential(
            *convolution(3 + noise_channels, width, 9),
            *convolution(width, 2 * width, 3, stride=2),
            *convolution(2 * width, 4 * width, 3, stride=2),
            *(Residual(4 * width, norm) for _ in range(blocks)),
            *doubling(4 * width, 2 * width),
            *doubling(2 * width, width),
            nn.ReplicationPad2d(1),
            nn.Conv2d(width, 3, 3),
        )

    def forward(self, content: Tensor, noise: Tensor | None = None) -> Tensor:
        if content.ndim != 4 or content.shape[1] != 3:
            raise ValueError(f"content must be (B, 3, H, W), got {tuple(content.shape)}")
        given = 0 if noise is None else noise.shape[1]
        if given != self.noise_channels:
            raise ValueError(
                f"this StyleNet takes {self.noise_channels} noise channels, got {given}"
            )
        x = self.first(content)
        if noise is not None:
            x = torch.cat([x, noise], dim=1)
        height, width = x.shape[-2:]
        if height % 4 or width % 4:
            x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        return 0.5 + self.body(x)[..., :height, :width]


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
            nn.init.uniform_(module.bias, -bound, bound, generator=rng)
        elif isinstance(module, nn.InstanceNorm2d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0, 1, generator=rng)
            nn.init.zeros_(module.bias)


def build(settings: config.Generator, seed: int) -> StyleNet:
    """The generator of a run, with its initial weights."""
    net = StyleNet(
        settings.norm,
        settings.width,
        settings.blocks,
        settings.noise_channels,
        settings.upsampling,
    )
    initialise(net, seed)
    return net
