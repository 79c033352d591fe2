"""Layers that the generators share: the normalisations of the paper, and circular padding."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
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


def laid_out(maps: Tensor) -> Tensor:
    """Maps in the layout in which the CPU convolves them without copies; elsewhere as they are."""
    return maps.contiguous(memory_format=kernels.LAST) if maps.device.type == "cpu" else maps


class InstanceNorm(nn.InstanceNorm2d):
    """Eq. 12 with a learnt scale and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        # Of one pixel nothing would be left: PyTorch's raises.
        if x.device.type != "cpu" or x.shape[2:].numel() == 1:
            return super().forward(x)
        return kernels.InstanceNorm.apply(x, self.weight, self.bias, self.eps)


class ReplicationPad(nn.Module):
    """Padding by the pixels of the edge, ``side`` times."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        # Padding rounds nothing; autocast would make float32 of bfloat16 and back.
        with torch.autocast(x.device.type, enabled=False):
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

    bias: Tensor

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3)
        self.pad = ReplicationPad(1)

    def forward(self, x: Tensor) -> Tensor:
        kernel = kernels.doubled_kernel(self.weight)
        return kernels.unfolded(F.conv2d(self.pad(x), kernel, self.bias.repeat(4)))


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


class WrappedPad(nn.Module):
    """Circular padding by one pixel: the image goes on periodically."""

    def forward(self, x: Tensor) -> Tensor:
        return Wrap.apply(x)


class Lean(nn.Sequential):
    """Layers one after the other, that keep for the backward pass what precedes a normalisation.

    What a normalisation, a padding and a rectification make of it is made again when it is needed,
    in a few passes over memory: one map is kept for each convolution instead of two or three. Only
    on the CPU and of maps of ``LARGE`` values or more: of others the memory is not worth the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            layer, *layers = layers
            if not isinstance(layer, nn.InstanceNorm2d | nn.BatchNorm2d):
                x = layer(x)
                continue
            between: list[nn.Module] = []
            while layers and isinstance(layers[0], BETWEEN):
                between.append(layers.pop(0))
            following = layers.pop(0) if layers else nn.Identity()
            x = remade(layer, between, following, x)
        return x


LARGE = 2**20
"""Values of a map from which on its memory is worth the time."""
BETWEEN = (ReplicationPad, WrappedPad, nn.ReLU, nn.LeakyReLU)


def remade(
    norm: nn.Module,
    between: Sequence[nn.Module],
    following: Callable[[Tensor], Tensor],
    x: Tensor,
) -> Tensor:
    """``following`` of ``between`` of ``norm`` of ``x``; see :class:`Lean`.

    Args:
        norm: the normalisation.
        between: paddings, then an activation in place; nothing is gained without one.
        following: what takes the activation, a convolution.
        x: maps (B, C, H, W).
    """
    *pads, act = between or [nn.Identity()]
    made = run(pads, norm(x))
    worth = torch.is_grad_enabled() and x.device.type == "cpu" and x.numel() >= LARGE
    if not worth or not isinstance(act, BETWEEN):
        return following(act(made))

    training = norm.training

    def again() -> Tensor:
        with torch.no_grad():
            if isinstance(norm, nn.BatchNorm2d) and training:  # not into its averages twice
                normalised = F.batch_norm(x, None, None, norm.weight, norm.bias, True, eps=norm.eps)
            else:
                normalised = norm(x)
            return act(run(pads, normalised))

    recipe = Recipe(made, again)
    with torch.autograd.graph.saved_tensors_hooks(recipe.pack, recipe.unpack):
        return following(act(made))


def run(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Layers one after the other."""
    return functools.reduce(lambda made, layer: layer(made), layers, x)


class Recipe:
    """Stands for a tensor among those that autograd keeps.

    Both the activation and the convolution after it keep the tensor: what is made again for the one
    is kept until the other asks for it, or until the graph is freed.
    """

    def __init__(self, made: Tensor, again: Callable[[], Tensor]) -> None:
        self.address, self.shape, self.again = made.data_ptr(), made.shape, again
        self.made: Tensor | None = None

    def pack(self, tensor: Tensor) -> Any:  # noqa: ANN401
        mine = tensor.data_ptr() == self.address and tensor.shape == self.shape
        return self if mine else tensor

    def unpack(self, kept: Any) -> Tensor:  # noqa: ANN401
        if kept is not self:
            return kept
        made, self.made = self.made, None
        if made is None:
            made = self.made = self.again()
        return made
