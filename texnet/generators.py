"""Feed-forward generators, StyleNet and the two texture networks, and their normalisations.

All return images in RGB, [0, 1] (outputs are unclamped and may leave it a little), as
``net(content, noise)``: content images (B, 3, H, W), or None for textures, and a sequence of noise
tensors of the shapes that ``net.noise_shapes`` names, drawn from ``net.distribution``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

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

    ``net(content, noise)`` maps (B, 3, H, W), with one tensor of noise (B, noise_channels, H, W)
    where there are such channels, to (B, 3, H, W), for any H and W: sides that are no multiple of 4
    are padded by replication and cropped again.
    """

    distribution = "uniform"

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
        x = torch.cat([self.first(content), *noise], dim=1)
        height, width = x.shape[-2:]
        if height % 4 or width % 4:
            x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        return 0.5 + self.body(x)[..., :height, :width]


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

    def __init__(
        self,
        norm: config.Norm = "batch",
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
        norm: config.Norm = "instance",
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


Network = StyleNet | TextureNetV1 | TextureNetV2


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
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=rng)
            nn.init.uniform_(module.bias, -bound, bound, generator=rng)
        elif isinstance(module, nn.InstanceNorm2d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0, 1, generator=rng)
            nn.init.zeros_(module.bias)


def build(settings: config.Generator, seed: int, size: int) -> Network:
    """The generator of a run, with its initial weights; ``size`` is the side of its images."""
    if isinstance(settings, config.TextureNetV1):
        net: Network = TextureNetV1(settings.norm, settings.width, settings.noise_channels)
    elif isinstance(settings, config.TextureNetV2):
        net = TextureNetV2(size, settings.norm, settings.width, settings.latent)
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
