"""The texture networks: TextureNetV1, which also stylizes, and TextureNetV2."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet.errors import UsageError
from texnet.fields import Norm
from texnet.layers import WrappedConv, normalisation


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

        def block(before: int, after: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels, side in ((before, 3), (after, 3), (after, 1)):
                convolution = WrappedConv if side == 3 else nn.Conv2d
                layers += [
                    convolution(channels, after, side),
                    normalisation(norm, after),
                    nn.LeakyReLU(0.01),
                ]
            return nn.Sequential(*layers)

        given = noise_channels + 3 * content
        scales = range(1, len(self.ratios) + 1)
        self.branches = nn.ModuleList(block(given, width) for _ in scales)
        self.coarse_norms = nn.ModuleList(normalisation(norm, width * i) for i in scales[:-1])
        self.fine_norms = nn.ModuleList(normalisation(norm, width) for _ in scales[1:])
        self.joined = nn.ModuleList(block(width * i, width * i) for i in scales[1:])
        self.last = nn.Conv2d(width * len(scales), 3, 1)

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
        x = self.branches[0](inputs[0])
        finer = zip(
            self.branches[1:], self.coarse_norms, self.fine_norms, self.joined, inputs[1:],
            strict=True,
        )  # fmt: skip
        for branch, coarse_norm, fine_norm, join, given in finer:
            coarse = coarse_norm(F.interpolate(x, scale_factor=2, mode="nearest"))
            x = join(torch.cat([coarse, fine_norm(branch(given))], dim=1))
        return 0.5 + self.last(x)[..., :height, :width]


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
                nn.ReLU(),
            ]

        layers: list[nn.Module] = [normalisation(norm, widths[0]), nn.ReLU()]
        for before, after in itertools.pairwise(widths):
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            layers += [*convolution(before, after), *convolution(after, after)]
        self.body = nn.Sequential(*layers, nn.Conv2d(widths[-1], 3, 3, padding=1))

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
