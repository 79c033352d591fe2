"""3x3 convolutions of fixed kernels with a quarter of the multiplications, on the CPU.

Winograd's minimal filtering F(4x4, 3x3), as Lavin and Gray have it ("Fast Algorithms for
Convolutional Neural Networks", CVPR 2016): a tile of 6x6 pixels becomes 6x6 values in which a
convolution is a product for each, and those become 4x4 pixels of the result. The 36 products of all
tiles are matrix products over the channels. Rounding is three to twelve times that of a direct
convolution: 2e-6 of a map's standard deviation for the 512 channels of VGG-19.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from texnet.kernels import LAST, Context

WIDE = 2**14
"""Channels in, times channels out, from which on the products are worth the transforms."""
WORK = 2**26
"""Likewise that number times the pixels of all maps of a batch."""
TILES = 256
"""Tiles at once: enough for the matrix products, few for the caches and the memory."""

# G of Lavin and Gray: a kernel's three taps at the points 0, 1, -1, 2, -2 and infinity.
_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)

Tensors = Sequence[Tensor] | Tensor  # six or four of one shape, by index
Chunk = tuple[slice, slice]  # of the images, of the rows of tiles


def filter_transform(kernel: Tensor) -> Tensor:
    """G g G^T of a kernel (C', C, 3, 3), as (36, C, C'): by the column's point, then the row's.

    Computed in float64, in little memory.
    """
    taps = torch.tensor(_G, dtype=torch.float64)
    made = kernel.new_empty(6, 6, *kernel.shape[1::-1])
    for part, place in zip(kernel.split(16, 1), made.split(16, 2), strict=True):
        place.copy_(torch.einsum("ju,iv,ocvu->jico", taps, taps, part.double()))
    return made.flatten(0, 1)


class Convolution(torch.autograd.Function):
    """``F.conv2d(maps, kernel, bias, padding=padding)``, and its derivative by the maps.

    The derivative is the transposed algorithm, of the same transformed kernel. Kernel and bias are
    constants. Called as ``Convolution.apply(maps, transformed, bias, padding)``; returns
    (B, C', H + 2 padding - 2, W + 2 padding - 2) in channels_last.

    Args:
        maps: (B, C, H, W) on the CPU, in any layout, at least 3 - 2 padding pixels high and wide.
        transformed: the kernel as :func:`filter_transform` makes it, (36, C, C').
        bias: (C',).
        padding: 0 or 1 pixels of zeros around the maps.
    """

    @staticmethod
    def forward(
        context: Context, maps: Tensor, transformed: Tensor, bias: Tensor, padding: int
    ) -> Tensor:
        context.save_for_backward(transformed)
        context.padding = padding
        made = empty(maps, transformed.shape[2], 2 * padding - 2)
        given, target = maps.permute(0, 2, 3, 1), made.permute(0, 2, 3, 1)
        rows, columns = (-(-side // 4) for side in target.shape[1:3])
        for images, lines in chunks(len(maps), rows, columns):
            tall, start = lines.stop - lines.start, 4 * lines.start - padding
            part = given[images, max(0, start) : start + 4 * tall + 2]
            above = max(0, -start)
            below = 4 * tall + 2 - above - part.shape[1]
            right = 4 * columns + 2 - padding - maps.shape[3]
            part = F.pad(part, (0, 0, padding, right, above, below))
            half = scratch(0, part, 6, len(part), tall, *part.shape[2:])
            data_transform(six_pixels(part, 1), half)
            tiles = scratch(1, part, 6, *half.shape[:3], columns, part.shape[3])
            data_transform(six_pixels(half, 3), tiles)
            products = scratch(0, part, *tiles.shape[:5], len(bias))
            torch.bmm(as_matrices(tiles), transformed, out=as_matrices(products))
            products[1, 1] += bias  # which the point (1, 1) gives to all pixels of a tile
            half = scratch(1, part, *products.shape[1:5], 4, len(bias))
            inverse_transform(products, half.unbind(4))
            place = target[images, 4 * lines.start : 4 * lines.stop]
            shape = (len(part), 4 * tall, 4 * columns, len(bias))
            found = place if place.shape == shape else part.new_empty(shape)
            inverse_transform(half.flatten(3, 4), found.unflatten(1, (tall, 4)).unbind(2))
            if found is not place:
                place.copy_(found[:, : place.shape[1], : place.shape[2]])
        return made

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (transformed,), padding = context.saved_tensors, context.padding
        before = transformed.shape[1]
        made = empty(gradient, before, 2 - 2 * padding)
        given, target = gradient.permute(0, 2, 3, 1), made.permute(0, 2, 3, 1)
        height, width = target.shape[1:3]
        rows, columns = (-(-side // 4) for side in given.shape[1:3])
        shared: Tensor | int = 0  # the two rows with the tiles above
        for images, lines in chunks(len(gradient), rows, columns):
            tall, start = lines.stop - lines.start, 4 * lines.start - padding
            part = given[images, 4 * lines.start : 4 * lines.stop]
            below, right = 4 * tall - part.shape[1], 4 * columns - part.shape[2]
            if below or right:
                part = F.pad(part, (0, 0, 0, right, 0, below))
            half = scratch(0, part, 6, len(part), tall, *part.shape[2:])
            inverse_transposed(part.unflatten(1, (tall, 4)).unbind(2), half)
            tiles = scratch(1, part, 6, *half.shape[:3], columns, part.shape[3])
            inverse_transposed(half.unflatten(3, (columns, 4)).unbind(4), tiles)
            products = scratch(0, part, *tiles.shape[:5], before)
            torch.bmm(as_matrices(tiles), transformed.mT, out=as_matrices(products))
            half = scratch(1, part, *products.shape[1:4], 4 * columns + 2, before)
            half[..., :2, :] = 0
            data_transposed(products, six_pixels(half, 3))
            found = part.new_empty(len(part), 4 * tall + 2, 4 * columns + 2, before)
            found[:, :2] = shared if lines.start else 0
            data_transposed(half, six_pixels(found, 1))
            shared = found[:, -2:]
            top, bottom = max(0, start), min(height, start + 4 * tall + 2)
            kept = found[:, top - start : bottom - start, padding : padding + width]
            target[images, top:bottom] = kept
        return made, None, None, None


def empty(like: Tensor, channels: int, more: int) -> Tensor:
    """Memory for maps (B, channels, H + more, W + more) in channels_last."""
    shape = (len(like), channels, *(side + more for side in like.shape[2:]))
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=LAST)


_kept = threading.local()


def scratch(slot: int, like: Tensor, *shape: int) -> Tensor:
    """Memory for numbers that are soon done with, the same for each call with a ``slot``.

    Fresh memory would come out of that of maps, and leave pieces in which no map has room. It stays
    with the thread: for VGG-19 40 MB.
    """
    kept, key, size = vars(_kept), f"{slot}, {like.dtype}", math.prod(shape)
    if key not in kept or len(kept[key]) < size:
        with torch.inference_mode(False):  # others may want it later
            kept[key] = torch.empty(size, dtype=like.dtype)
    return kept[key][:size].view(shape)


def as_matrices(values: Tensor) -> Tensor:
    """Values (6, 6, B, rows, columns, C) of tiles, as (36, tiles, C)."""
    return values.flatten(0, 1).flatten(1, 3)


def chunks(count: int, rows: int, columns: int) -> Iterator[Chunk]:
    """Parts of a batch, (rows x columns) tiles an image, of about ``TILES`` tiles."""
    images = max(1, TILES // (rows * columns))
    lines = min(rows, max(1, TILES // columns))
    for image in range(0, count, images):
        for line in range(0, rows, lines):
            yield slice(image, min(image + images, count)), slice(line, min(line + lines, rows))


def six_pixels(tensor: Tensor, dim: int) -> list[Tensor]:
    """Views of the first to sixth pixel of all tiles along a dimension of 4 n + 2 pixels.

    Each has n there. The fifth and sixth are the first and second of the next tile.
    """
    last = tensor.shape[dim] - 5
    return [tensor.narrow(dim, i, last).movedim(dim, 0)[::4].movedim(0, dim) for i in range(6)]


def data_transform(pixels: Tensors, values: Tensors) -> None:
    """B^T of Lavin and Gray: writes the six values of six pixels in a row, all of one shape."""
    p, v = pixels, values
    even, odd = torch.add(p[4], p[2], alpha=-4), torch.add(p[3], p[1], alpha=-4)
    torch.add(even, odd, out=v[1])
    torch.sub(even, odd, out=v[2])
    torch.sub(p[4], p[2], out=even)
    torch.sub(p[3], p[1], out=odd)
    torch.add(even, odd, alpha=2, out=v[3])
    torch.add(even, odd, alpha=-2, out=v[4])
    torch.add(even, p[0] - p[2], alpha=4, out=v[0])
    torch.sub(p[5], p[3], out=even)
    torch.add(even, odd, alpha=-4, out=v[5])


def inverse_transform(values: Tensors, pixels: Tensors) -> None:
    """A^T: writes the four pixels of the result of six values, all of one shape."""
    v, p = values, pixels
    even, odd, even2, odd2 = v[1] + v[2], v[1] - v[2], v[3] + v[4], v[3] - v[4]
    torch.add(v[0], even, out=p[0]).add_(even2)
    torch.add(odd, odd2, alpha=2, out=p[1])
    torch.add(even, even2, alpha=4, out=p[2])
    torch.add(odd, v[5], out=p[3]).add_(odd2, alpha=8)


def inverse_transposed(pixels: Tensors, values: Tensors) -> None:
    """A: writes the derivative by six values, from that by four pixels of the result."""
    p, v = pixels, values
    v[0].copy_(p[0])
    v[5].copy_(p[3])
    even, odd = p[0] + p[2], p[1] + p[3]
    torch.add(even, odd, out=v[1])
    torch.sub(even, odd, out=v[2])
    torch.add(p[0], p[2], alpha=4, out=even)
    torch.add(p[1], p[3], alpha=4, out=odd)
    torch.add(even, odd, alpha=2, out=v[3])
    torch.add(even, odd, alpha=-2, out=v[4])


def data_transposed(values: Tensors, pixels: Tensors) -> None:
    """B: writes the derivative by six pixels, from that by the six values.

    The last two are the first two of the next tile, to which that tile's are added: the first
    tile's must hold what the tile before it gives, or zeros.
    """
    v, p = values, pixels
    even, odd, even2, odd2 = v[1] + v[2], v[1] - v[2], v[3] + v[4], v[3] - v[4]
    even += v[0]
    torch.add(even, even2, out=p[4])
    p[5].copy_(v[5])
    p[0].add_(v[0], alpha=4)
    torch.mul(even, -4, out=p[2]).sub_(v[0]).sub_(even2)
    torch.add(odd, odd2, alpha=2, out=p[3]).add_(v[5], alpha=-5)
    p[1].add_(v[5] - odd, alpha=4).add_(odd2, alpha=-2)


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution, computed as in :class:`Convolution` where that is faster.

    That is on the CPU in float32, of at least ``WIDE`` channels and ``WORK``, once the weights are
    frozen. The transformed kernel, four times its size, is made when it is first needed, and again
    when the weights have changed; what is written through ``weight.data`` goes unnoticed.

    Args:
        before: channels.
        after: channels of the result.
        padding: 0 or 1 pixels of zeros.
        winograd: whether to; else it is always PyTorch's own.
    """

    bias: Tensor

    def __init__(self, before: int, after: int, *, padding: int = 0, winograd: bool = True) -> None:
        super().__init__(before, after, 3, padding=padding)
        self.side, self.winograd = padding, winograd
        self.kept: tuple[Tensor, int, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.requires_grad:  # and may change: PyTorch does not count what optimisers do
            self.kept = None
        if not (self.winograd and self.worth(x)):
            return super().forward(x)
        return Convolution.apply(x, self.transformed(), self.bias.detach(), self.side)

    def worth(self, x: Tensor) -> bool:
        """Whether the transforms of maps (B, C, H, W) cost less than they save."""
        return (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not self.weight.requires_grad
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and self.channels >= WIDE
            and self.channels * len(x) * x.shape[2] * x.shape[3] >= WORK
        )

    @property
    def channels(self) -> int:
        """Channels in, times channels out."""
        return self.in_channels * self.out_channels

    def transformed(self) -> Tensor:
        """The transformed kernel, (36, C, C'), of the weights as they are."""
        weight, kept = self.weight, self.kept
        version = -1 if weight.is_inference() else weight._version  # those are not counted
        if kept is None or kept[0] is not weight or kept[1] != version:
            with torch.inference_mode(False), torch.no_grad():  # others may want it later
                kept = self.kept = weight, version, filter_transform(weight)
        return kept[2]

    def __getstate__(self) -> dict[str, Any]:
        """Without the transformed kernel: a copy's weights have a count of changes of their own."""
        return {**super().__getstate__(), "kept": None}

    def _apply(self, *given: Any, **how: Any) -> Self:  # noqa: ANN401 (torch's own types)
        self.kept = None  # other numbers under the same count
        return super()._apply(*given, **how)
