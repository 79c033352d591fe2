"""The texture networks: TextureNetV1, which also stylizes, and TextureNetV2."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet import kernels
from texnet.errors import UsageError
from texnet.fields import Norm
from texnet.layers import Lean, Wrap, WrappedPad, laid_out, normalisation


def after_first(norm: Norm, channels: int) -> list[nn.Module]:
    """What follows the first of the three convolutions of a block."""
    return [
        normalisation(norm, channels),
        WrappedPad(),
        nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(channels, channels, 3),
        normalisation(norm, channels),
        nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(channels, channels, 1),
        normalisation(norm, channels),
        nn.LeakyReLU(0.01, inplace=True),
    ]


class Join(nn.Module):
    """The doubled coarse branch and the finer one, each normalised, joined; three convolutions.

    The doubled map is never made: its normalisation is that of the small one, whose pixels it
    repeats, and its part of the first convolution has four different taps instead of nine.
    """

    def __init__(self, norm: Norm, coarse: int, fine: int) -> None:
        super().__init__()
        self.coarse, both = coarse, coarse + fine
        self.coarse_norm, self.fine_norm = normalisation(norm, coarse), normalisation(norm, fine)
        self.first = nn.Conv2d(both, both, 3)
        self.rest = Lean(*after_first(norm, both))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Maps (B, coarse, H, W) and (B, fine, 2 H, 2 W) as (B, coarse + fine, 2 H, 2 W)."""
        coarse, fine = self.normalised(coarse), self.fine_norm(fine)
        kernel = self.first.weight
        of_coarse = kernels.repeated_kernel(kernel[:, : self.coarse])
        x = F.conv2d(Wrap.apply(fine), kernel[:, self.coarse :], self.first.bias)
        x = x + F.conv_transpose2d(Wrap.apply(coarse), of_coarse, stride=2, padding=3)
        return self.rest(x)

    def normalised(self, coarse: Tensor) -> Tensor:
        """The coarse branch, normalised as if it were doubled before."""
        norm, count = self.coarse_norm, coarse.numel() // coarse.shape[1]
        if not isinstance(norm, nn.BatchNorm2d) or not norm.training:
            return norm(coarse)
        mean, running, tracked = norm.running_mean, norm.running_var, norm.num_batches_tracked
        momentum = norm.momentum
        assert running is not None and tracked is not None and momentum is not None
        variance = running.clone()
        made = F.batch_norm(
            coarse, mean, variance, norm.weight, norm.bias, True, momentum, norm.eps
        )
        with torch.no_grad():  # the running variance is unbiased, by the number of pixels
            kept = (1 - momentum) * running
            unbiased = 4 * (count - 1) / (4 * count - 1)
            running.copy_((variance - kept) * unbiased + kept)
            tracked.add_(1)
        return made


class TextureNetV1(nn.Module):
    """The multi-scale pyramid of *Texture Networks* (authors' v1 branch, models/pyramid.lua).

    At each of six scales (the image's size over 32, 16, 8, 4, 2, 1) three convolutions turn noise
    into ``width`` channels. From coarse to fine, what the coarser scales made is doubled by nearest
    neighbour, normalised, and joined with the normalised finer branch, then convolved at the sum of
    both widths. Circular padding, so that outputs tile; LeakyReLU of slope 1/100; a last 1x1
    convolution and no tanh. 116,915 parameters with the defaults, 118,211 with content.

    Args:
        norm: ``batch`` (the authors'), ``instance`` or ``none``.
        width: channels of a scale.
        noise_channels: channels of U(0, 1) noise at each scale.
        content: whether a content image, average-pooled to each scale, precedes the noise.

    ``net(content, noise)`` takes the six noise tensors, coarse to fine, of a size that is a
    multiple of 32. A content image of another size is padded by replication and cropped again.
    """

    distribution = "uniform"
    ratios = (32, 16, 8, 4, 2, 1)
    receptive_field = 5 * 32  # of the coarsest scale

    def __init__(
        self,
        norm: Norm = "batch",
        width: int = 8,
        noise_channels: int = 3,
        content: bool = False,
    ) -> None:
        super().__init__()
        self.noise_channels, self.content = noise_channels, content

        given = noise_channels + 3 * content
        scales = range(1, len(self.ratios) + 1)
        self.branches = nn.ModuleList(
            Lean(WrappedPad(), nn.Conv2d(given, width, 3), *after_first(norm, width))
            for _ in scales
        )
        joins = [Join(norm, width * i, width) for i in scales[:-1]]
        # To the image; there, because Lean layers need what follows their last normalisation.
        joins[-1].rest.append(nn.Conv2d(width * len(scales), 3, 1))
        self.joins = nn.ModuleList(joins)

    def noise_shapes(self, count: int, height: int, width: int) -> list[tuple[int, ...]]:
        """Shapes of the noise, coarse to fine; the sides are rounded up to multiples of 32."""
        rows, columns = -(-height // 32), -(-width // 32)
        return [
            (count, self.noise_channels, 32 // ratio * rows, 32 // ratio * columns)
            for ratio in self.ratios
        ]

    def forward(self, content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        if (content is not None) != self.content:
            wanted = "a content image" if self.content else "no content image"
            raise ValueError(f"this TextureNetV1 takes {wanted}")
        inputs = list(noise)
        height, width = inputs[-1].shape[-2:]
        if content is not None:
            height, width = content.shape[-2:]
            padded = F.pad(content, (0, -width % 32, 0, -height % 32), mode="replicate")
            pooled = (F.avg_pool2d(padded, ratio) for ratio in self.ratios)
            inputs = [torch.cat(pair, dim=1) for pair in zip(pooled, noise, strict=True)]
        inputs = [laid_out(each) for each in inputs]
        x = self.branches[0](inputs[0])
        for branch, join, finer in zip(self.branches[1:], self.joins, inputs[1:], strict=True):
            x = join(x, branch(finer))
        return 0.5 + x[..., :height, :width]


class TextureNetV2(nn.Module):
    """A vector z ~ N(0, I), two fully connected layers, a 4x4 image, doubled to the image's size.

    Paper section 5.1, which leaves the widths open. Ours: a hidden layer as wide as z; ``width``
    channels at full size, twice as many at each halving, 512 at most. A fractionally strided
    convolution is bilinear doubling (one with a fixed kernel) and two ordinary 3x3 convolutions: a
    learnt 4x4 kernel of stride 2 leaves a checkerboard, nearest-neighbour doubling a plaid.
    Normalisation begins at the 4x4 image: of a vector, instance norm would leave nothing.

    Args:
        size: side of the image, 4 times a power of two.
        norm: ``instance``, ``batch`` or ``none``.
        width: channels of the last hidden layer.
        latent: length of z (the paper's 256).

    ``net(None, [z])`` maps z (B, latent) to (B, 3, size, size).
    """

    distribution = "normal"

    def __init__(
        self,
        size: int = 256,
        norm: Norm = "instance",
        width: int = 16,
        latent: int = 256,
    ) -> None:
        super().__init__()
        doublings = (size // 4).bit_length() - 1
        if size < 8 or 4 * 2**doublings != size:
            near = 4 * 2 ** max(1, doublings)
            raise UsageError(
                f"TextureNetV2 makes images of 4 times a power of two, got size {size}; "
                f"use {near} or {2 * near}"
            )
        self.size, self.latent = size, latent
        widths = [min(512, width * 2**i) for i in range(doublings, -1, -1)]
        self.full = nn.Sequential(
            nn.Linear(latent, latent), nn.ReLU(), nn.Linear(latent, widths[0] * 16)
        )

        def convolution(before: int, after: int) -> list[nn.Module]:
            return [
                nn.Conv2d(before, after, 3, padding=1),
                normalisation(norm, after),
                nn.ReLU(inplace=True),
            ]

        layers: list[nn.Module] = [normalisation(norm, widths[0]), nn.ReLU()]
        for before, after in itertools.pairwise(widths):
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            layers += [*convolution(before, after), *convolution(after, after)]
        self.body = Lean(*layers, nn.Conv2d(widths[-1], 3, 3, padding=1))

    def noise_shapes(self, count: int, height: int, width: int) -> list[tuple[int, ...]]:
        """Shape of z; UsageError for another size than the trained one."""
        if (height, width) != (self.size, self.size):
            raise UsageError(
                f"this TextureNetV2 makes {self.size}x{self.size} images, not {width}x{height}; "
                "TextureNetV1 makes any size"
            )
        return [(count, self.latent)]

    def forward(self, content: Tensor | None, noise: Sequence[Tensor]) -> Tensor:
        if content is not None:
            raise ValueError("TextureNetV2 takes no content image")
        (z,) = noise
        return 0.5 + self.body(self.full(z).unflatten(1, (-1, 4, 4)))
