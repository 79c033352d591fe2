"""3x3 convolutions of fixed kernels with a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3), as Lavin and Gray have it ("Fast Algorithms for
Convolutional Neural Networks", CVPR 2016): a tile of 6x6 pixels becomes 6x6 numbers in which a
convolution is a product for each, and those become 4x4 pixels of the result. The 36 products of all
tiles are matrix products over the channels. Rounding is 2e-6 of a map's standard deviation, where
a direct convolution has 2e-7 to 8e-7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from texnet.kernels import LAST

WIDE = 2**14
"""Channels in, times channels out, from which on the products are worth the transforms."""
WORK = 2**26
"""Likewise that number times the pixels of all maps of a batch."""
TILES = 256
"""At once: products of full rate, in caches, and little memory."""

# At the points 0, 1, -1, 2, -2 and infinity: a kernel's three taps.
_TAPS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)

Context = Any  # torch's own type of an autograd function's context
Six = Sequence[Tensor]
Four = Sequence[Tensor]
Chunk = tuple[slice, slice]  # of the images, of the rows of tiles


def transformed(kernel: Tensor) -> Tensor:
    """A kernel (C', C, 3, 3) at the 36 pairs of points: (36, C, C'), computed in float64."""
    taps = torch.tensor(_TAPS, dtype=torch.float64)
    made = kernel.new_empty(6, 6, *kernel.shape[1::-1])
    for part, place in zip(kernel.split(16, 1), made.split(16, 2), strict=True):  # of little memory
        place.copy_(torch.einsum("ju,iv,ocvu->jico", taps, taps, part.double()))
    return made.flatten(0, 1)


class Convolution(torch.autograd.Function):
    """``F.conv2d(maps, kernel, bias, padding=padding)``, and its derivative by the maps.

    The derivative is the transposed algorithm, of the same transformed kernel. Kernel and bias are
    constants.

    Args:
        maps: (B, C, H, W), in any layout; what comes out is in channels_last.
        points: the kernel as :func:`transformed` makes it, (36, C, C').
        bias: (C',).
        padding: 0 or 1 pixels of zeros around the maps.
    """

    @staticmethod
    def forward(
        context: Context, maps: Tensor, points: Tensor, bias: Tensor, padding: int
    ) -> Tensor:
        context.save_for_backward(points)
        context.padding = padding
        count, width = len(maps), maps.shape[3]
        after, rows, columns = points.shape[2], *tiles_of(maps.shape, padding)
        given = maps.permute(0, 2, 3, 1)
        made = empty(maps, after, 2 * padding - 2)
        target = made.permute(0, 2, 3, 1)
        for images, lines in chunks(count, rows, columns):
            tall = lines.stop - lines.start
            start = 4 * lines.start - padding
            part = given[images, max(0, start) : start + 4 * tall + 2]
            above = max(0, -start)
            below = 4 * tall + 2 - above - part.shape[1]
            right = 4 * columns + 2 - padding - width
            part = F.pad(part, (0, 0, padding, right, above, below))
            lengths = part.new_empty(6, len(part), tall, *part.shape[2:])
            into(shifted(part, 1), lengths)
            tiles = part.new_empty(6, *lengths.shape[:3], columns, lengths.shape[4])
            into(shifted(lengths, 3), tiles)
            products = torch.bmm(tiles.flatten(0, 1).flatten(1, 3), points)
            products = products.view(*tiles.shape[:-1], after)
            products[1, 1] += bias  # which the point (1, 1) gives to all pixels of a tile
            lengths = part.new_empty(*products.shape[1:5], 4, after)
            out_of(products, lengths.unbind(-2))
            place = target[images, 4 * lines.start : 4 * lines.stop]
            whole = place.shape[1] == 4 * tall and place.shape[2] == 4 * columns
            found = place if whole else part.new_empty(len(part), 4 * tall, 4 * columns, after)
            out_of(lengths.flatten(3, 4), found.unflatten(1, (tall, 4)).unbind(2))
            if not whole:
                place.copy_(found[:, : place.shape[1], : place.shape[2]])
        return made

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (points,) = context.saved_tensors
        padding = context.padding
        before = points.shape[1]
        given = gradient.permute(0, 2, 3, 1)
        made = empty(gradient, before, 2 - 2 * padding)
        count, _, height, width = made.shape
        rows, columns = tiles_of(made.shape, padding)
        target = found = made.permute(0, 2, 3, 1)
        for images, lines in chunks(count, rows, columns):
            tall = lines.stop - lines.start
            part = given[images, 4 * lines.start : 4 * lines.stop]
            below, right = 4 * tall - part.shape[1], 4 * columns - part.shape[2]
            if below or right:
                part = F.pad(part, (0, 0, 0, right, 0, below))
            lengths = part.new_empty(6, len(part), tall, *part.shape[2:])
            out_of_transposed(part.unflatten(1, (tall, 4)).unbind(2), lengths)
            tiles = part.new_empty(6, *lengths.shape[:3], columns, lengths.shape[4])
            out_of_transposed(lengths.unflatten(3, (columns, 4)).unbind(4), tiles)
            products = torch.bmm(tiles.flatten(0, 1).flatten(1, 3), points.mT)
            products = products.view(*tiles.shape[:-1], before)
            lengths = part.new_empty(*products.shape[1:4], 4 * columns + 2, before)
            lengths[..., :2, :] = 0
            into_transposed(products, shifted(lengths, 3))
            shared = found[:, -2:]  # with the tiles above
            found = part.new_empty(len(part), 4 * tall + 2, 4 * columns + 2, before)
            found[:, :2] = shared if lines.start else 0
            into_transposed(lengths, shifted(found, 1))
            start = 4 * lines.start - padding
            top, bottom = max(0, start), min(height, start + 4 * tall + 2)
            kept = found[:, top - start : bottom - start, padding : padding + width]
            target[images, top:bottom] = kept
        return made, None, None, None


def tiles_of(shape: Sequence[int], padding: int) -> tuple[int, int]:
    """Rows and columns of tiles that the result of maps of a shape has."""
    height, width = (-(-(side + 2 * padding - 2) // 4) for side in shape[2:])
    return height, width


def empty(like: Tensor, channels: int, more: int) -> Tensor:
    """Memory for maps (B, channels, H + more, W + more) in channels_last."""
    shape = (len(like), channels, *(side + more for side in like.shape[2:]))
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=LAST)


def chunks(count: int, rows: int, columns: int) -> Iterator[Chunk]:
    """Parts of a batch, (rows x columns) tiles an image, of about ``TILES`` tiles."""
    images = max(1, TILES // (rows * columns))
    lines = min(rows, max(1, TILES // columns))
    for image in range(0, count, images):
        for line in range(0, rows, lines):
            yield slice(image, min(image + images, count)), slice(line, min(line + lines, rows))


def shifted(tensor: Tensor, dim: int) -> Six:
    """The six pixels of all tiles along a dimension, of which tiles that touch share two."""
    last = tensor.shape[dim] - 5
    return [tensor.narrow(dim, i, last).movedim(dim, 0)[::4].movedim(0, dim) for i in range(6)]


def into(pixels: Six, values: Six | Tensor) -> None:
    """Six pixels in a row to values at the six points: B^T of Lavin and Gray."""
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


def out_of(values: Six | Tensor, pixels: Four) -> None:
    """Values at the six points to four pixels of the result: A^T."""
    v, p = values, pixels
    even, odd, even2, odd2 = v[1] + v[2], v[1] - v[2], v[3] + v[4], v[3] - v[4]
    torch.add(v[0], even, out=p[0]).add_(even2)
    torch.add(odd, odd2, alpha=2, out=p[1])
    torch.add(even, even2, alpha=4, out=p[2])
    torch.add(odd, v[5], out=p[3]).add_(odd2, alpha=8)


def out_of_transposed(pixels: Four, values: Six | Tensor) -> None:
    """The derivative by the values from that by four pixels: A."""
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


def into_transposed(values: Six | Tensor, pixels: Six) -> None:
    """The derivative by six pixels from that by the values: B.

    The last two are the first two of the next tile, where this one's are to be added: the first
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


class Conv2d(nn.Conv2d):
    """A 3x3 convolution, computed as in :class:`Convolution` where that is faster.

    That is on the CPU in float32, of at least ``WIDE`` channels and ``WORK``, once the weights are
    frozen. The transformed kernel, four times its size, is made when it is first needed, and again
    when the weights have changed.

    Args:
        before: channels.
        after: channels of the result.
        padding: 0 or 1 pixels of zeros.
        winograd: whether to; else it is always PyTorch's own.
    """

    bias: Tensor

    def __init__(self, before: int, after: int, padding: int = 0, winograd: bool = True) -> None:
        super().__init__(before, after, 3, padding=padding)
        self.around, self.winograd = padding, winograd
        self.kept: tuple[Tensor, int, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.requires_grad:  # and may change: PyTorch does not count what optimisers do
            self.kept = None
        if not (self.winograd and self.worth(x)):
            return super().forward(x)
        return Convolution.apply(x, self.points(), self.bias.detach(), self.around)

    @torch.no_grad()
    def points(self) -> Tensor:
        """The transformed kernel of the weights as they are."""
        weight, version = self.weight, self.weight._version
        if self.kept is None or self.kept[0] is not weight or self.kept[1] != version:
            self.kept = weight, version, transformed(weight)
        return self.kept[2]

    def _apply(self, *given: Any, **how: Any) -> Self:  # noqa: ANN401 (torch's own types)
        self.kept = None  # other numbers under the same version
        return super()._apply(*given, **how)

    def worth(self, x: Tensor) -> bool:
        """Whether the transforms of maps (B, C, H, W) cost less than they save."""
        channels = self.in_channels * self.out_channels
        return (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not self.weight.requires_grad
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and channels >= WIDE
            and channels * len(x) * x.shape[2] * x.shape[3] >= WORK
        )
