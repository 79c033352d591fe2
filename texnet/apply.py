"""Applying a trained generator to images of the user: what it is given is checked first."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from texnet import config, strips
from texnet.data import MIN_SIDE, fit, images_under, load_image, resize
from texnet.errors import UsageError
from texnet.generators import Network, SkipNet, TextureNetV1, TextureNetV2
from texnet.inputs import NoiseStream
from texnet.memory import GIB, available_memory, peak_memory

LARGE = 1_000_000
"""Pixels of an image from which on its memory is estimated first: small ones always fit. A larger
one goes through a StyleNet by strips, whatever memory there is, so that the same command writes the
same bytes; that takes half as long again (docs/speed.md)."""
PROBE = 256
"""Side of the image whose memory is measured for the estimate."""
SHARE = 0.9
"""Of the memory that there is, what an image may take."""
FRAGMENTED = 1.5
"""Memory of the process over that of its tensors, on the CPU: freed blocks are kept and do not fit
the next layer (runtime.prepare). Measured at 2.4 and 5.8 megapixels: 1.1 to 1.5."""
LONGEST = 8000
"""The largest --size."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


def inputs(image: Path, out: Path) -> list[Path]:
    """The images that a path stands for; of a folder without those that lie in the results'."""
    if not image.is_dir():
        return [image]
    results = os.path.realpath(out)
    within = results != os.path.realpath(image)
    return [
        file
        for file in images_under([image])
        if not (within and Path(os.path.realpath(file)).is_relative_to(results))
    ]


def outputs(
    files: Sequence[Path], folder: Path, count: int, kind: str = ".png"
) -> dict[Path, list[Path]]:
    """The files to write in ``folder`` for each image; each file is written once and is no input.

    Beside an image nothing is overwritten: it may be somebody's. A folder of results is written to
    again.

    Args:
        files: what is read.
        folder: where the results go.
        count: how many there are of each.
        kind: suffix of the results.

    Raises:
        UsageError: two images of one name; an input, or what lies beside one, would be overwritten.
    """
    # Path.resolve raises on a link to itself, which is told of where it is read.
    inputs = {Path(os.path.realpath(file)): file for file in files}
    made: dict[Path, Path] = {}
    by_file: dict[Path, list[Path]] = {}
    for file in files:
        names = [file.stem] if count == 1 else [f"{file.stem}_{i}" for i in range(count)]
        by_file[file] = [folder / f"{name}{kind}" for name in names]
        for out in by_file[file]:
            if out in made:
                raise UsageError(f"{made[out]} and {file} would both become {out}; rename one")
            if out.exists() and out.resolve() in inputs:
                whose = "its" if inputs[out.resolve()] == file else "another"
                raise UsageError(f"{out}: would overwrite {whose} input; choose another --out")
            if out.exists() and os.path.realpath(folder) == os.path.realpath(file.parent):
                raise UsageError(f"{out}: is there, beside its input; choose another --out")
            made[out] = file
    return by_file


def check_noise(net: Network, model: Path, seed: int | None, count: int) -> None:
    """UsageError where noise is asked for (a seed, several samples) of a network without any."""
    if net.noise_shapes(1, 64, 64) or (seed is None and count == 1):
        return
    option = f"--count {count}" if count > 1 else f"--seed {seed}"
    raise UsageError(
        f"{model}: was trained without noise channels, {option} would change nothing; leave it "
        "out or train with generator.noise_channels (texnet train style --diversity)"
    )


def content_image(source: Path, size: int | None) -> Tensor:
    """An image (3, H, W) by name or file, its longer side ``size`` pixels where that is given.

    Raises:
        UsageError: the shorter side would have less than 16 pixels.
    """
    image = load_image(str(source))
    if size is None:
        return image
    height, width = image.shape[-2:]
    scale = size / max(height, width)
    if round(min(height, width) * scale) < MIN_SIDE:
        shape = f"{max(1, round(width * scale))}x{max(1, round(height * scale))}"
        raise UsageError(
            f"{source}: --size {size} would make {shape} pixels of it, at least "
            f"{MIN_SIDE}x{MIN_SIDE} are needed; {_larger(height, width, MIN_SIDE)}"
        )
    return fit(image, size)


class Checks:
    """What a network cannot do with an image, told before anything is computed.

    Args:
        net: the network, on its device.
        run: its training.
    """

    def __init__(self, net: Network, run: config.Training) -> None:
        self.net, self.run = net, run
        self.device = next(net.parameters()).device
        # TextureNetV2 has no such thing: it sees its vector.
        seen = getattr(net, "receptive_field", run.images.size)
        self.seen = min(cast(int, seen), run.images.size)
        self.needs: tuple[float, int] | None = None  # bytes per pixel, and besides

    def __call__(self, source: Path, height: int, width: int) -> list[str]:
        """Warnings about an image of that size.

        Raises:
            UsageError: the network cannot be applied to it, or not in the memory that there is.
        """
        self._coarsest_scale(source, height, width)
        self.memory(str(source), height, width)
        if min(height, width) >= self.seen:
            return []
        return [
            f"warning: {source}: {width}x{height} pixels; the network sees {self.seen} at once, "
            f"so the style may be poor; {_larger(height, width, self.seen)}, or a larger image"
        ]

    def _coarsest_scale(self, source: Path, height: int, width: int) -> None:
        ratio = {TextureNetV1: 32, SkipNet: 16}.get(type(self.net), 1)
        if self.run.generator.norm == "instance" and 1 < ratio >= max(height, width):
            raise UsageError(
                f"{source}: {width}x{height} pixels: with instance norm a "
                f"{type(self.net).__name__} needs a longer side of more than {ratio} pixels, or "
                f"its coarsest scale is one pixel; use --size {ratio + 1} or more"
            )

    def memory(self, source: str, height: int, width: int) -> None:
        """UsageError where an image of that size does not fit into the memory that there is."""
        pixels = height * width
        fixed = isinstance(self.net, TextureNetV2)
        if fixed or pixels <= LARGE or self.device.type not in ("cpu", "cuda"):
            return
        if self.needs is None:
            if strips.supports(self.net):
                self.needs = strips.memory(self.net)
            else:
                self.needs = bytes_per_pixel(self.net, self.device), 0
        each, besides = self.needs
        needed, there = pixels * each + besides, available_memory(self.device)
        if needed > SHARE * there:
            fitting = max(LARGE, (SHARE * there - besides) / each)
            size = int(math.sqrt(fitting / pixels) * max(height, width))
            raise UsageError(
                f"{source}: {width}x{height} pixels need {needed / GIB:.1f} GiB of memory, "
                f"{there / GIB:.1f} GiB are free; use --size {min(LONGEST, size)}"
            )


@torch.no_grad()
def bytes_per_pixel(net: Network, device: torch.device) -> float:
    """Memory that one pass over the whole image takes per pixel of it, in bytes."""
    texture = isinstance(net, TextureNetV1) and not net.content
    content = None if texture else torch.zeros(1, 3, PROBE, PROBE, device=device)
    noise = [z.to(device) for z in NoiseStream(net, 0)(1, PROBE, PROBE, 0)]
    peak = peak_memory(lambda: net(content, noise), device) / PROBE**2
    return peak * FRAGMENTED if device.type == "cpu" else peak


@torch.no_grad()
def stylized(net: Network, content: Tensor, seed: int, number: int) -> Tensor:
    """Sample ``number`` of the stylized image, (3, H, W), of a content image (3, H, W)."""
    device = next(net.parameters()).device
    height, width = content.shape[-2:]
    noise = [z.to(device) for z in NoiseStream(net, seed)(1, height, width, number)]
    images = content[None].to(device)
    if height * width > LARGE and strips.supports(net):
        return strips.stylize(net, images, noise)[0]
    return net(images, noise)[0]


@dataclass(frozen=True)
class Look:
    """How a stylized image looks, besides what the network makes of it."""

    brush: float = 1.0
    """Strokes as wide as this many times the trained ones: the network, whose strokes have a fixed
    width in pixels, is shown a smaller image, and its result is enlarged again; below 1 a larger
    one."""
    keep_colour: bool = False
    """Only the luminance is stylized, the colours stay (Gatys et al. 2016, Preserving Color in
    Neural Artistic Style Transfer, section 4)."""

    def worked_on(self, source: Path, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width of the image that the network is shown for one of ``shape``.

        Raises:
            UsageError: a side would have less than 16 pixels.
        """
        height, width = (max(1, round(side / self.brush)) for side in shape)
        if min(height, width) < MIN_SIDE <= min(shape):
            raise UsageError(
                f"{source}: --brush-size {self.brush:g} leaves {width}x{height} pixels, at least "
                f"{MIN_SIDE}x{MIN_SIDE} are needed; use --brush-size "
                f"{math.floor(10 * min(shape) / MIN_SIDE) / 10:g} or less"
            )
        return height, width

    def __call__(self, net: Network, content: Tensor, seed: int, number: int) -> Tensor:
        """Sample ``number`` of the stylized image, (3, H, W), of a content image (3, H, W)."""
        shape = content.shape[-2:]
        shown = content
        if self.brush != 1:
            height, width = (max(1, round(side / self.brush)) for side in shape)
            shown = resize(content, (height, width))
        made = stylized(net, shown, seed, number).cpu()
        if self.brush != 1:
            enlarged = F.interpolate(made[None], tuple(shape), mode="bicubic", antialias=True)
            made = enlarged[0]
        return recoloured(made, content) if self.keep_colour else made


def recoloured(image: Tensor, content: Tensor) -> Tensor:
    """The luminance of one image with the colours of another, both (3, H, W), RGB in [0, 1].

    In YIQ, as in YCbCr, the other two channels do not change when the same amount is added to red,
    green and blue.
    """
    weights = torch.tensor(LUMINANCE).view(3, 1, 1)
    change = (weights * (image.clamp(0, 1) - content)).sum(0, keepdim=True)
    return content + change


def _larger(height: int, width: int, side: int) -> str:
    """The remedy for an image whose shorter side should have ``side`` pixels."""
    size = math.ceil(side * max(height, width) / min(height, width))
    return f"use --size {size} or more" if size <= LONGEST else "use a less narrow image"
