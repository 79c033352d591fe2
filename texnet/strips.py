"""A StyleNet applied to a large image by strips of rows: in little memory, with the same result.

What comes out is what ``net(content, noise)`` gives, but for rounding. Rows at the border of a
strip are made of their true neighbours, and instance normalisation has the mean and the variance of
the whole map: before each such layer one pass over all strips finds them. A map is kept whole where
it is small (``KEPT``); larger ones, at the full and at half the size, are made again in each pass.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet import kernels
from texnet.generators import Residual, StyleNet
from texnet.layers import DoublingConv, InstanceNorm, ReplicationPad
from texnet.winograd import WIDE, Conv3x3

STRIP = 2**25
"""Bytes of the largest map of a strip."""
HELD = 8
"""Such maps whose memory a process has at once: three are alive, freed ones are kept."""
LEAST = 4
"""Rows that a strip has at least; more than a residual block sees above or below a row."""
KEPT = 8
"""Numbers per pixel of the image that a map has at most if it is kept whole: a quarter-size map of
the paper's network has so many, 4 x 32 channels of 1/16 of the pixels."""

Rows = tuple[int, int]  # of a map: from, to
Shape = tuple[int, int, int]  # of a map: channels, height, width
Strip = tuple[int, int, Tensor]  # from row, to row, the map's rows (1, C, to - from, W)

_POINTWISE = nn.Identity | nn.ReLU | nn.BatchNorm2d
_DOUBLING = DoublingConv | nn.ConvTranspose2d
_KNOWN = ReplicationPad | nn.Conv2d | nn.ConvTranspose2d | InstanceNorm | _POINTWISE


def supports(net: nn.Module) -> TypeGuard[StyleNet]:
    """Whether :func:`stylize` can apply a network: a StyleNet of the layers that are known here."""
    if not isinstance(net, StyleNet):
        return False
    parts = [part.body if isinstance(part, Residual) else [part] for part in net.body]
    return all(isinstance(module, _KNOWN) and _usual(module) for part in parts for module in part)


def _usual(module: nn.Module) -> bool:
    """Whether a convolution sees the rows that this module thinks it sees."""
    match module:
        case nn.ConvTranspose2d():
            found = module.kernel_size, module.stride, module.padding, module.output_padding
            return (*found, module.dilation) == ((3, 3), (2, 2), (1, 1), (1, 1), (1, 1))
        case nn.Conv2d():
            square = len({*module.kernel_size}) == len({*module.stride}) == 1
            return square and (module.padding, module.dilation) == ((0, 0), (1, 1))
    return True


@torch.no_grad()
def stylize(net: StyleNet, content: Tensor, noise: Sequence[Tensor] = ()) -> Tensor:
    """The image (1, 3, H, W) that ``net(content, noise)`` gives for one content image.

    Raises:
        ValueError: a network that is not supported or in training mode, or other shapes.
    """
    if not supports(net) or net.training:
        raise ValueError("only a StyleNet in evaluation mode is applied by strips")
    height, width = content.shape[-2:]
    wanted = [(1, 3, height, width), *net.noise_shapes(1, height, width)]
    given = [tuple(tensor.shape) for tensor in (content, *noise)]
    if given != wanted:
        raise ValueError(f"content and noise must be of the shapes {wanted}, got {given}")
    x = torch.cat([net.first(content), *noise], dim=1) if noise else net.first(content)
    if height % 4 or width % 4:
        x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
    chain = Chain(x)
    del x  # the chain lets it go as soon as there is a smaller map
    for module in net.body:
        if isinstance(module, Residual):
            _add_residual(chain, module)
        else:
            chain.append(module)
    made = content.new_empty(1, 3, height, width)
    for top, bottom, strip in chain.strips():
        rows = made[:, :, top:bottom]
        torch.add(strip[:, :, : rows.shape[2], :width], 0.5, out=rows)
    return made


def memory(net: StyleNet) -> tuple[float, int]:
    """Bytes that :func:`stylize` and its inputs take: per pixel of the image, and besides.

    Per pixel these are the inputs and then, whichever is more, two copies of them (with the noise,
    and padded) or two maps that are kept and the output.
    """
    side, given = 2**12, 3 + net.noise_channels
    shape, kept = (given, side, side), 0.0
    for module in net.body:
        shape = _after(shape, module)
        share = math.prod(shape) / side**2
        if isinstance(module, Residual) or share <= max(KEPT, given):
            kept = max(kept, share)
    size = next(net.parameters()).element_size()
    wide = (m for m in net.modules() if isinstance(m, Conv3x3) and m.channels >= WIDE)
    transformed = sum(4 * module.weight.nbytes for module in wide)
    return size * (given + max(2 * given, 2 * kept + 3)), HELD * STRIP + transformed


class Chain:
    """A map (1, C, H, W) that is kept whole, and the modules that were since applied to it."""

    def __init__(self, source: Tensor) -> None:
        self.source, self.owned = source, False  # what is owned was made here: to be overwritten
        self.limit = max(source.numel(), KEPT * math.prod(source.shape[2:]))  # of what is kept
        self.modules: list[nn.Module] = []

    def append(self, module: nn.Module) -> None:
        """Go on with a module. Before instance normalisation a pass is made over the map, which is
        kept from then on where it is small."""
        if isinstance(module, InstanceNorm):
            small = math.prod(self._shapes()[-1]) <= self.limit
            module = Affine(module, *_statistics(self._kept() if small else self.strips()))
        self.modules.append(module)

    def keep(self) -> Tensor:
        """The map as it is after all modules, kept from now on."""
        if self.modules or not self.owned:
            for _ in self._kept():
                pass
        return self.source

    def strips(self) -> Iterator[Strip]:
        """The map after all modules, from top to bottom."""
        shapes = self._shapes()
        height = shapes[-1][1]
        largest = max(map(math.prod, shapes)) * self.source.element_size()
        rows = max(LEAST, height * STRIP // largest)
        for top in range(0, height, rows):
            wanted = top, min(height, top + rows)
            yield *wanted, self._rows(shapes, wanted)

    def _kept(self) -> Iterator[Strip]:
        """The strips while they are kept as the new source; in place, where that can be."""
        shape, target = self._shapes()[-1], self.source
        if not self.owned or target.shape[1:] != shape:
            kind, device, layout = target.dtype, target.device, _layout(target)
            target = torch.empty((1, *shape), dtype=kind, device=device, memory_format=layout)
        yield from _written(target, self.strips())
        self.source, self.modules, self.owned = target, [], True

    def _shapes(self) -> list[Shape]:
        """The shape of the source, and of the map after each module."""
        _, channels, height, width = self.source.shape
        first = channels, height, width
        return list(itertools.accumulate(self.modules, _after, initial=first))

    def _rows(self, shapes: list[Shape], wanted: Rows) -> Tensor:
        """Some rows of the map after all modules."""
        ranges = [wanted]
        for module, (_, height, _) in zip(self.modules[::-1], shapes[-2::-1], strict=True):
            ranges.append(_before(module, ranges[-1], height))
        ranges.reverse()
        x = self.source[:, :, slice(*ranges[0])].contiguous(memory_format=_layout(self.source))
        for module, (given, made) in zip(self.modules, itertools.pairwise(ranges), strict=True):
            x = _apply(module, x, given, made)
        return x


class Affine(nn.Module):
    """Instance normalisation by a mean and a variance (C,) that are known."""

    def __init__(self, norm: InstanceNorm, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        scale = norm.weight
        factor = scale * (variance + norm.eps).rsqrt().to(scale)
        self.factor = factor.view(1, -1, 1, 1)
        self.shift = (norm.bias - mean.to(scale) * factor).view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.factor)


def _add_residual(chain: Chain, module: Residual) -> None:
    """Go on with a residual block; besides its input one more map is kept."""
    x = chain.keep()
    branch = Chain(x)
    for part in module.body:
        branch.append(part)
    sums = ((top, bottom, x[:, :, top:bottom] + strip) for top, bottom, strip in branch.strips())
    for _ in _written(x, sums):
        pass


def _written(target: Tensor, strips: Iterable[Strip]) -> Iterator[Strip]:
    """The strips, each written to a map when the next is made, which may be made of that map."""
    late, made = target[:, :, :0], target[:, :, :0]
    for top, bottom, rows in strips:
        late.copy_(made)
        late, made = target[:, :, top:bottom], rows
        yield top, bottom, rows
    late.copy_(made)


def _statistics(strips: Iterable[Strip]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of a map, in float64 on the CPU: (C,) each."""
    heights, means, variances = [], [], []
    for top, bottom, strip in strips:
        if strip.device.type == "cpu":
            mean, variance = kernels.statistics(strip)
        else:
            variance, mean = torch.var_mean(strip, dim=(0, 2, 3), correction=0)
        heights.append(bottom - top)
        means.append(mean.cpu().double())
        variances.append(variance.cpu().double())
    shares = torch.tensor(heights, dtype=torch.float64) / sum(heights)
    by_strip = torch.stack(means)
    mean = shares @ by_strip
    return mean, shares @ (torch.stack(variances) + (by_strip - mean).square())


def _layout(x: Tensor) -> torch.memory_format:
    """In which rows of one map lie together on the CPU, and convolutions need no copies."""
    return kernels.LAST if x.device.type == "cpu" else torch.contiguous_format


def _after(shape: Shape, module: nn.Module) -> Shape:
    """The shape of what a module makes of a map."""
    channels, height, width = shape
    if isinstance(module, ReplicationPad):
        return channels, height + 2 * module.side, width + 2 * module.side
    if isinstance(module, _DOUBLING):
        return module.out_channels, 2 * height, 2 * width
    if isinstance(module, nn.Conv2d):
        (side, _), (step, _) = module.kernel_size, module.stride
        return module.out_channels, (height - side) // step + 1, (width - side) // step + 1
    return shape


def _before(module: nn.Module, wanted: Rows, height: int) -> Rows:
    """The rows of a map of some height that a module makes rows of its output of."""
    top, bottom = wanted
    if isinstance(module, ReplicationPad):
        top, bottom = top - module.side, bottom - module.side
    elif isinstance(module, _DOUBLING):  # of a row and of those above and below
        top, bottom = top // 2 - 1, (bottom + 1) // 2 + 1
    elif isinstance(module, nn.Conv2d):
        (side, _), (step, _) = module.kernel_size, module.stride
        top, bottom = top * step, (bottom - 1) * step + side
    return max(0, top), min(height, bottom)


def _apply(module: nn.Module, x: Tensor, given: Rows, wanted: Rows) -> Tensor:
    """Rows of what a module makes of a map, of the rows of the map that :func:`_before` names."""
    top, bottom = wanted
    if isinstance(module, ReplicationPad):  # above and below only at the edges of the whole map
        side = module.side
        above, below = given[0] + side - top, bottom - side - given[1]
        return F.pad(x, (side, side, above, below), mode="replicate")
    if isinstance(module, _DOUBLING):
        return module(x)[:, :, top - 2 * given[0] : bottom - 2 * given[0]]
    if isinstance(module, nn.ReLU):  # not in place: what is kept may be given
        return F.relu(x)
    return module(x)
