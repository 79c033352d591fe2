"""Layers that the generators share: the normalisations of the paper, and circular padding."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet import kernels
from texnet.fields import Norm

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


class InstanceNorm(nn.InstanceNorm2d):
    """Eq. 12 with a learnt scale and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        return kernels.InstanceNorm.apply(x, self.weight, self.bias, self.eps)


class ReplicationPad(nn.Module):
    """Padding by the pixels of the edge, ``side`` times."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        if self.side and x.device.type == "cpu":
            return kernels.ReplicationPad.apply(x, self.side)
        return F.pad(x, (self.side,) * 4, mode="replicate")

    def extra_repr(self) -> str:
        return str(self.side)


class DoublingConv(nn.Conv2d):
    """Bilinear doubling, replication padding and a 3x3 convolution, computed at the small size.

    Doubling is linear: with the convolution it makes one with four times the channels, whose
    padding is that of the doubled map. The doubled map, four times the size, is never made.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3)
        self.pad = ReplicationPad(1)

    def forward(self, x: Tensor) -> Tensor:
        kernel = kernels.doubled_kernel(self.weight)
        made = F.conv2d(self.pad(x), kernel, self.bias.repeat_interleave(4))
        return F.pixel_shuffle(made, 2)


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """The layer that follows a convolution: IN (eq. 12), BN (eq. 13) or nothing.

    IN and BN have a learnt scale and bias; IN acts alike in training and at test time, BN uses its
    running statistics once in evaluation mode.
    """
    if norm == "instance":
        return InstanceNorm(channels)
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels, eps=EPS, momentum=0.1)


class Wrap(torch.autograd.Function):
    """Circular padding by one pixel: ``F.pad(x, (1, 1, 1, 1), "circular")``, three times as fast.

    The authors' module (SpatialCircularPadding.lua) gives the corners no gradient; this one does.
    """

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:  # noqa: ANN401 (torch's own type)
        rows = torch.cat([x[:, :, -1:], x, x[:, :, :1]], dim=2)
        return torch.cat([rows[..., -1:], rows, rows[..., :1]], dim=3)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        rows = gradient[..., 1:-1].clone()
        rows[..., -1] += gradient[..., 0]
        rows[..., 0] += gradient[..., -1]
        whole = rows[:, :, 1:-1].clone()
        whole[:, :, -1] += rows[:, :, 0]
        whole[:, :, 0] += rows[:, :, -1]
        return whole


class WrappedConv(nn.Conv2d):
    """A 3x3 convolution of an image that goes on periodically."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(Wrap.apply(x))
