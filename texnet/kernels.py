"""What a training step on the CPU spends its time on, computed in fewer passes over memory.

Each is an ordinary function of tensors with a derivative of its own; what they compute is what
PyTorch's operations compute (tests hold them against those in float64), but for rounding. Maps are
(B, C, H, W) in PyTorch's ``channels_last`` layout, in which oneDNN's convolutions need no copies.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LAST = torch.channels_last
POSITIONS = 2**14
"""Of a map, whose sums PyTorch takes one after the other in float32; more are taken in parts."""
SMALL = 2**12
"""Positions of maps for whose images one call after the other would cost more than the work."""

Context = Any  # torch's own type of an autograd function's context
Net = TypeVar("Net", bound=nn.Module)


def channels_last(net: Net) -> Net:
    """A network, itself, whose weights are laid out as its maps are to be."""
    return net.to(memory_format=LAST)  # type: ignore[call-overload]  # not in PyTorch's types


class Gram(torch.autograd.Function):
    """F F^T / (C H W) of maps: (B, C, C). Its derivative is symmetric: one product, not two.

    A Gram matrix is also the derivative of a 1x1 convolution by its kernel, and its own derivative
    such a convolution. oneDNN does both at its full rate; MKL's products of long, narrow matrices
    reach three quarters of it here, half on other processors.
    """

    @staticmethod
    def forward(context: Context, maps: Tensor) -> Tensor:
        context.save_for_backward(maps)
        with torch.autocast(maps.device.type, enabled=False):  # whoever asks
            if not _long(maps):
                rows = _rows(maps)
                return rows.mT @ rows / maps[0].numel()
            kernel = maps.new_empty((maps.shape[1], maps.shape[1], 1, 1))  # for its shape alone
            how = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False])
            found = [
                torch.ops.aten.convolution_backward(image, image, kernel, *how)[1]
                for image in maps.split(1)
            ]
            return torch.stack(found)[..., 0, 0] / maps[0].numel()

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> Tensor:
        (maps,) = context.saved_tensors
        with torch.autocast(maps.device.type, enabled=False):
            both = (gradient + gradient.mT) / maps[0].numel()
            if not _long(maps):
                return _maps(_rows(maps) @ both, maps)
            made = torch.empty_like(maps)
            for image, kernel, place in zip(maps.split(1), both, made.split(1), strict=True):
                place.copy_(F.conv2d(image, kernel[..., None, None]))
            return made


def _long(maps: Tensor) -> bool:
    """Whether Gram matrices are worth the calls of a convolution for each image."""
    return maps.device.type == "cpu" and maps[0, 0].numel() >= POSITIONS


def _rows(maps: Tensor) -> Tensor:
    """Maps as matrices (B, H W, C), without a copy where the layout is channels_last."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """Matrices (B, H W, C) as maps of the shape of ``like``, in channels_last."""
    count, channels, height, width = like.shape
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


def _mean(rows: Tensor) -> Tensor:
    """Mean over positions, (B, 1, C), of matrices (B, H W, C)."""
    return rows.mean(1, keepdim=True)


class InstanceNorm(torch.autograd.Function):
    """Instance normalisation (eq. 12) with scale and bias (C,), image by image.

    PyTorch's own first copies to another layout and back, and with a batch of one image its
    derivative is wrong where the gradient comes in channels_last (2.13).
    """

    @staticmethod
    def forward(context: Context, maps: Tensor, scale: Tensor, bias: Tensor, eps: float) -> Tensor:
        maps = maps.contiguous(memory_format=LAST)
        several = len(maps) > 1 and maps[0, 0].numel() <= SMALL
        context.small = several and maps.dtype == scale.dtype
        if context.small:  # all images at once
            rows = _rows(maps)
            mean = _mean(rows)
            centred = rows - mean
            inverse = (_mean(centred.square()) + eps).rsqrt()
            context.save_for_backward(maps, scale, mean, inverse)
            made = torch.empty_like(maps)
            torch.addcmul(bias, centred, scale * inverse, out=_rows(made))
            return made
        means, deviations = [], []
        made = torch.empty_like(maps)
        for image, out in zip(maps.split(1), made.split(1), strict=True):
            if maps.dtype == scale.dtype:
                mean, variance = (each.to(scale.dtype) for each in statistics(image))
                inverse = (variance + eps).rsqrt()
                factor = scale * inverse
                shift = bias - mean * factor
                torch.addcmul(shift[:, None, None], image, factor[:, None, None], out=out)
            else:  # bfloat16, with statistics in float32
                given = (scale, bias, None, None, True, 0.0, eps)
                found, mean, inverse = torch.native_batch_norm(image, *given)
                out.copy_(found)
            means.append(mean)
            deviations.append(inverse)
        context.save_for_backward(maps, scale, torch.stack(means), torch.stack(deviations))
        context.eps = eps
        return made

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, scale, means, deviations = context.saved_tensors
        gradient = gradient.contiguous(memory_format=LAST)
        if context.small:
            rows, back = _rows(maps), _rows(gradient)
            mean = _mean(back)
            along = (_mean(back * rows) - means * mean) * deviations  # with normalised maps
            factor = scale * deviations
            of_rows = -factor * deviations * along
            made = torch.addcmul(-factor * mean - of_rows * means, rows, of_rows)
            made.addcmul_(back, factor)
            count = back.shape[1]
            of_scale, of_bias = (count * each.sum((0, 1)) for each in (along, mean))
            return _maps(made, maps), of_scale, of_bias, None
        made = torch.empty_like(maps)
        of_scale, of_bias = scale.new_zeros(()), scale.new_zeros(())
        for image, back, mean, deviation, out in zip(
            maps.split(1), gradient.split(1), means, deviations, made.split(1), strict=True
        ):
            found, for_scale, for_bias = torch.ops.aten.native_batch_norm_backward(
                back, image, scale, None, None, mean, deviation, True, context.eps, [True] * 3
            )
            out.copy_(found)
            of_scale, of_bias = of_scale + for_scale, of_bias + for_bias
        return made, of_scale, of_bias, None


def statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of each channel of one image's maps (1, C, H, W): (C,) each.

    Of large maps those of parts are merged in float64: the sums of PyTorch's kernel lose four
    digits over a million positions.
    """
    rows = max(1, POSITIONS // image.shape[3])
    parts = image.split(rows, dim=2)
    found = [torch.ops.aten.batch_norm_update_stats(part, None, None, 0.0) for part in parts]
    if len(parts) == 1:
        return found[0]
    shares = torch.tensor([part.shape[2] / image.shape[2] for part in parts], dtype=torch.float64)
    means, variances = (torch.stack(each).double() for each in zip(*found, strict=True))
    mean = shares @ means
    return mean, shares @ (variances + (means - mean).square())


class MaxPool(torch.autograd.Function):
    """``F.max_pool2d(maps, 2, ceil_mode=True)``, which keeps where the maxima were in four bytes.

    PyTorch keeps eight for each: twice the bytes of what is pooled in float32.
    """

    @staticmethod
    def forward(context: Context, maps: Tensor) -> Tensor:
        made, found = torch.ops.aten.max_pool2d_with_indices(maps, *_POOLING)
        context.save_for_backward(maps, found.int())  # of a map with less than 2^31 pixels
        return made

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> Tensor:
        maps, found = context.saved_tensors
        return torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, maps, *_POOLING, found.long()
        )


_POOLING = ([2, 2], [2, 2], [0, 0], [1, 1], True)  # size, stride, padding, dilation, ceil mode


class ReplicationPad(torch.autograd.Function):
    """``F.pad(maps, (side,) * 4, "replicate")``; the derivative's own kernel is slow."""

    @staticmethod
    def forward(context: Context, maps: Tensor, side: int) -> Tensor:
        context.side = side
        return F.pad(maps, (side,) * 4, mode="replicate")

    @staticmethod
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor, None]:
        if context.side != 1:
            shape = [size - 2 * context.side for size in gradient.shape[2:]]
            like = gradient.new_empty((*gradient.shape[:2], *shape))
            sides = [context.side] * 4
            return torch.ops.aten.replication_pad2d_backward(gradient, like, sides), None
        made = gradient[:, :, 1:-1, 1:-1].clone(memory_format=LAST)
        for at in (0, -1):
            line = gradient[:, :, at]
            made[:, :, at].add_(line[..., 1:-1])
            made[..., at].add_(gradient[:, :, 1:-1, at])
            made[:, :, at, 0].add_(line[..., 0])
            made[:, :, at, -1].add_(line[..., -1])
        return made, None


_TAPS = {
    # Of bilinear doubling (weights 1/4 and 3/4) and three taps at the doubled size: [phase, tap of
    # the small map, tap of the doubled map]. Pixels 2i, 2i + 1 see the small one's i - 1 to i + 1.
    "doubled": [
        [[0.75, 0.25, 0], [0.25, 0.75, 0.75], [0, 0, 0.25]],
        [[0.25, 0, 0], [0.75, 0.75, 0.25], [0, 0.25, 0.75]],
    ],
    # Of nearest-neighbour doubling, as the four taps of a transposed convolution of stride 2: [its
    # tap, tap of the doubled map].
    "repeated": [[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]],
}


@functools.cache
def _taps(name: str, kind: torch.dtype, device: torch.device) -> Tensor:
    """A table of taps; made once, for a copy to the device waits for it and stops a CUDA graph."""
    return torch.tensor(_TAPS[name], dtype=kind, device=device)


def doubled_kernel(kernel: Tensor) -> Tensor:
    """The 3x3 kernel (4 C', C, 3, 3) of a small map that bilinear doubling and ``kernel`` make.

    Its output has the four pixels that each becomes as groups of channels: see :func:`unfolded`.

    Args:
        kernel: (C', C, 3, 3), of a convolution at the doubled size.
    """
    taps = _taps("doubled", kernel.dtype, kernel.device)
    with torch.autocast(kernel.device.type, enabled=False):  # made of weights, exact as those
        made = torch.einsum("psk,qtl,ockl->pqocst", taps, taps, kernel)
    return made.flatten(0, 2)


def unfolded(maps: Tensor) -> Tensor:
    """Maps (B, 4 C, H, W) whose groups of C channels are pixels, as (B, C, 2 H, 2 W).

    ``F.pixel_shuffle`` with another order of channels, in which pixels move whole: its derivative
    takes a seventh of the time.
    """
    count, channels, height, width = maps.shape
    split = maps.permute(0, 2, 3, 1).reshape(count, height, width, 2, 2, channels // 4)
    pixels = split.transpose(2, 3).reshape(count, 2 * height, 2 * width, channels // 4)
    return pixels.permute(0, 3, 1, 2)


def repeated_kernel(kernel: Tensor) -> Tensor:
    """The kernel (C, C', 4, 4) of ``F.conv_transpose2d`` with stride 2 that nearest-neighbour
    doubling and ``kernel`` make; with padding 3 of a map that is padded by one.

    Args:
        kernel: (C', C, 3, 3), of a convolution at the doubled size.
    """
    taps = _taps("repeated", kernel.dtype, kernel.device)
    with torch.autocast(kernel.device.type, enabled=False):
        return torch.einsum("uk,vl,ockl->couv", taps, taps, kernel)
