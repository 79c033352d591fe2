"""The authors' pyramid as their Torch 7 files hold it, computed as Torch 7 did in training mode.

The authors' code of that time made the normalisation of each doubled branch as wide as one scale, 8
channels, where its input has up to 40. On a GPU, which checks no bounds, scale and bias were then
read, and trained, past their ends: in the one array of all parameters that the optimiser works on,
and that the files hold whole. That is the rule ``overrun``; docs/authors.md has the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from texnet.data import load_image, square
from texnet.errors import UsageError
from texnet.inputs import NoiseStream
from texnet.layers import EPS
from texnet.registry import PHOTOS
from texnet.texturenets import TextureNetV1
from texnet.torch7_files import Layer, Layers, read

Rule = Literal["overrun", "tiled", "unit", "zero"]
"""Scale and bias of the channels that a normalisation has none for: what follows in memory; its own
again from the first on; 1 and 0; 0 and 0."""
MEASURED = 8
"""Samples of a texture whose statistics are measured. For a stylization it is what is made of the
photographs of the installed packages."""
SIDE = 256
"""Of the images that the authors trained with, in pixels."""
WANTED = "a pyramid of the authors' v1 branch (models/pyramid.lua)"


@dataclass
class Norm:
    """Normalisation by the statistics of the images that it is given, which it remembers.

    ``kept`` has mean and variance that the file holds, of the channels that it has them for.
    """

    scale: Tensor
    bias: Tensor
    kept: tuple[Tensor, Tensor]
    mean: Tensor = field(default_factory=lambda: torch.empty(0))
    variance: Tensor = field(default_factory=lambda: torch.empty(0))

    def __call__(self, x: Tensor) -> Tensor:
        self.variance, self.mean = torch.var_mean(x, (0, 2, 3))
        return F.batch_norm(x, None, None, self.scale, self.bias, True, eps=EPS)


@dataclass
class Stage:
    """A convolution with circular padding, its normalisation, LeakyReLU."""

    weight: Tensor
    bias: Tensor
    norm: Norm

    def __call__(self, x: Tensor) -> Tensor:
        x = F.pad(x, (self.weight.shape[-1] // 2,) * 4, mode="circular")
        return F.leaky_relu(self.norm(F.conv2d(x, self.weight, self.bias)), 0.01)


class Scale(NamedTuple):
    """One scale: its branch and, but for the coarsest, what joins it to the coarser ones."""

    branch: list[Stage]
    coarse: Norm | None = None
    fine: Norm | None = None
    joined: Sequence[Stage] = ()


class Pyramid:
    """The authors' pyramid as a file holds it: up to six scales, blocks of two or three stages.

    Args:
        file: the Torch 7 file.
        rule: how scale and bias go on where a normalisation has too few.

    Attributes:
        scales: coarse to fine.
        stages: convolutions of a block, 3x3, 3x3 and maybe 1x1.
        last: weight (3, C, 1, 1) and bias (3,) of the convolution to BGR minus the mean.
        levels: what is 1 in RGB is this many in BGR: 256 where GenNoise fills the channels, as the
            authors' notebooks for these files divide; 255 where the later NoiseFill does.
        width: channels of a scale.
        noise: channels of noise, the last of the input.
        content: whether an RGB image precedes the noise.
        parameters: how many the file holds.
        missing: channels that a normalisation has no scale and bias for.

    Raises:
        UsageError, MissingError, DataError: as :func:`read`; another network; an unknown rule.
    """

    def __init__(self, file: Path, rule: Rule = "overrun") -> None:
        if rule not in get_args(Rule):
            raise UsageError(f"unknown normalisation '{rule}'; use {', '.join(get_args(Rule))}")
        self.file, self.rule = file, rule
        self.scales: list[Scale] = []
        self.stages = self.width = self.noise = self.parameters = self.missing = 0
        self.content, self.levels = False, 256.0
        root = Layer(file, (), read(file), WANTED)
        layers = Layers(root, [root]).take("nn.Sequential").layers()
        if layers.upcoming != "nn.Concat":  # one scale alone is no pyramid
            layers.take("nn.Concat")
        self._take_scales(layers, 1)
        self.last = self._convolution(layers, 1, self.width * len(self.scales), 3)
        layers.end()

    def _take_scales(self, layers: Layers, ratio: int) -> None:
        """Take the scales from the coarsest to that of the image's size over ``ratio``."""
        if layers.upcoming != "nn.Concat" or ratio == max(TextureNetV1.ratios):
            self.scales.append(Scale(self._branch(layers, ratio)))
            return
        both = layers.take("nn.Concat", dimension=2).layers()
        deep, shallow = (both.take("nn.Sequential").layers() for _ in range(2))
        both.end()
        self._take_scales(deep, 2 * ratio)
        deep.take("nn.SpatialUpSamplingNearest", scale_factor=2)
        channels = self.width * len(self.scales)
        coarse = self._norm(deep, channels)
        deep.end()
        branch = self._branch(shallow, ratio)
        fine = self._norm(shallow, self.width)
        shallow.end()
        channels += self.width
        self.scales.append(Scale(branch, coarse, fine, self._block(layers, channels, channels)))

    def _branch(self, layers: Layers, ratio: int) -> list[Stage]:
        sides = dict.fromkeys(("kW", "kH", "dW", "dH"), ratio)
        layers.take("nn.SpatialAveragePooling", padW=0, padH=0, ceil_mode=False, **sides)
        filled = layers.take("nn.GenNoise", "nn.NoiseFill")
        # GenNoise fills three channels, as the authors' notebooks define it.
        noise = 3 if filled.kind == "nn.GenNoise" else filled.get("num_noise_channels")
        if self.scales:
            if noise != self.noise:
                raise filled.refusal(f"fills {noise} channels, wanted {self.noise}")
            return self._block(layers, noise + 3 * self.content, self.width)
        block = self._block(layers)
        self.width, given = block[0].weight.shape[:2]
        if not isinstance(noise, int) or given not in (noise, noise + 3):
            raise filled.refusal(f"fills {noise} channels of {given}, wanted all or all but RGB")
        self.noise, self.content = noise, given > noise
        self.levels = 256.0 if filled.kind == "nn.GenNoise" else 255.0
        return block

    def _block(self, layers: Layers, before: int = 0, width: int = 0) -> list[Stage]:
        """Its stages; without ``before`` and ``width``, channels are those that are found."""
        block: list[Stage] = []
        for side in (3, 3, 1)[: self.stages or 3]:
            if len(block) == 2 and layers.upcoming == "nn.SpatialUpSamplingNearest":
                break
            weight, bias = self._convolution(layers, side, before, width)
            before = width = len(bias)
            block.append(Stage(weight, bias, self._norm(layers, width)))
            layers.take("nn.LeakyReLU", negval=0.01)
        self.stages = len(block)
        return block

    def _convolution(
        self, layers: Layers, side: int, before: int, after: int
    ) -> tuple[Tensor, Tensor]:
        """Weight and bias; without ``before`` and ``after``, channels are those that are found."""
        inner = layers
        if side > 1 or layers.upcoming == "nn.Sequential":
            inner = layers.take("nn.Sequential").layers()
            pads = dict.fromkeys(("pad_l", "pad_r", "pad_t", "pad_b"), side // 2)
            inner.take("nn.SpatialCircularPadding", **pads)
        layer = inner.take("nn.SpatialConvolution", kW=side, kH=side, dW=1, dH=1, padW=0, padH=0)
        if inner is not layers:
            inner.end()
        if layer.get("groups") is not None:
            layer.check(groups=1)
        if before:
            layer.check(nInputPlane=before, nOutputPlane=after)
        before, after = layer.get("nInputPlane"), layer.get("nOutputPlane")
        weight = layer.stored("weight", after, before, side, side).values()
        bias = layer.stored("bias", after).values()
        self.parameters += weight.numel() + bias.numel()
        return weight, bias

    def _norm(self, layers: Layers, channels: int) -> Norm:
        layer = layers.take("nn.SpatialBatchNormalization", eps=EPS, affine=True)
        found = layer.stored("weight").shape
        if found not in ((channels,), (self.width or channels,)):
            raise layer.refusal(f"has {found} channels, wanted {channels}")
        scale, bias = (self._extended(layer, name, *found, channels) for name in ("weight", "bias"))
        kept = [layer.stored(f"running_{name}", *found).values() for name in ("mean", "var")]
        self.parameters += 2 * found[0]
        self.missing += channels - found[0]
        return Norm(scale, bias, (kept[0], kept[1]))

    def _extended(self, layer: Layer, name: str, found: int, channels: int) -> Tensor:
        """Scale (weight) or bias of a normalisation, for all channels of its input."""
        stored = layer.stored(name, found)
        own = stored.values()
        if self.rule == "overrun":
            values = stored.values(channels)
            if len(values) < channels or not values.isfinite().all():
                raise layer.refusal(
                    f"{name} has {found} values, nothing follows in memory, and its input has "
                    f"{channels} channels; use another normalisation: tiled, unit or zero"
                )
            return values
        if self.rule == "tiled":
            return own.repeat(-(-channels // found))[:channels]
        more = 1.0 if (self.rule, name) == ("unit", "weight") else 0.0
        return F.pad(own, (0, channels - found), value=more)

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """Images (B, 3, H, W) in BGR minus the mean, as Torch 7 makes them in training mode.

        Args:
            inputs: of each scale, coarse to fine: RGB in [0, 1] where there is content, noise.
        """
        x = inputs[0]
        for scale, finer in zip(self.scales, inputs, strict=True):
            branch = run(scale.branch, finer)
            if scale.coarse is None or scale.fine is None:
                x = branch
                continue
            doubled = F.interpolate(x, scale_factor=2, mode="nearest")
            x = run(scale.joined, torch.cat([scale.coarse(doubled), scale.fine(branch)], dim=1))
        return F.conv2d(x, *self.last)

    @property
    def norms(self) -> list[Norm]:
        """Every normalisation, scale by scale, coarse to fine."""
        found = []
        for branch, coarse, fine, joined in self.scales:
            found += [stage.norm for stage in branch]
            found += [norm for norm in (coarse, fine) if norm]
            found += [stage.norm for stage in joined]
        return found

    def measure(self) -> None:
        """Have every normalisation remember statistics of a few images, always the same."""
        shapes = TextureNetV1(width=self.width, noise_channels=self.noise)
        images = [square(load_image(name), SIDE) for name in PHOTOS if self.content]
        noise = NoiseStream(shapes, 0)(len(images) or MEASURED, SIDE, SIDE, 0)
        inputs = noise[-len(self.scales) :]
        if images:
            ratios = TextureNetV1.ratios[-len(self.scales) :]
            pooled = [F.avg_pool2d(torch.stack(images), ratio) for ratio in ratios]
            inputs = [torch.cat(pair, dim=1) for pair in zip(pooled, inputs, strict=True)]
        self(inputs)


def run(stages: Sequence[Stage], x: Tensor) -> Tensor:
    """Stages one after the other."""
    for stage in stages:
        x = stage(x)
    return x
