"""What generators are given: noise, content images, and those that are held out for measuring."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from texnet import config
from texnet.contents import Contents
from texnet.data import ContentCrops, load_image, square, style_image
from texnet.errors import DataError, UsageError
from texnet.generators import Network

NOISE_STREAM = 2**62  # keeps the noise's keys apart from those of the content crops
AHEAD = 4  # batches that each loader has ready
Batch = tuple[Tensor | None, list[Tensor]]
HELDOUT_SEED = 2**31  # of the noise behind every number of a texture, whatever the run's seed


class NoiseStream:
    """A generator's noise for a batch as a function of (seed, iteration).

    U(0, 1), as all of the authors' code draws it, or N(0, I) for TextureNetV2, as the paper writes.
    """

    def __init__(self, net: Network, seed: int) -> None:
        self.net, self.seed = net, seed

    def __call__(self, count: int, height: int, width: int, iteration: int) -> list[Tensor]:
        """What ``net(content, noise)`` takes for ``count`` images; nothing where it takes none."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, NOISE_STREAM + iteration]))
        draw = rng.standard_normal if self.net.distribution == "normal" else rng.random
        shapes = self.net.noise_shapes(count, height, width)
        return [torch.from_numpy(draw(shape, dtype=np.float32)) for shape in shapes]


def noise_of_group(net: Network, size: int, group: int) -> list[Tensor]:
    """Noise of the held-out samples number 8 ``group`` to 8 ``group`` + 7, alike for all seeds."""
    return NoiseStream(net, HELDOUT_SEED)(config.GROUP, size, size, group)


@torch.no_grad()
def sample_group(net: Network, size: int, group: int) -> Tensor:
    """Held-out samples of a texture network: (8, 3, size, size)."""
    device = next(net.parameters()).device
    noise = [z.to(device) for z in noise_of_group(net, size, group)]
    return net(None, noise)[..., :size, :size]


def exemplar_must_cover(images: config.Texture) -> None:
    """Refuse an exemplar that is smaller than the samples that should look like it."""
    short = min(load_image(images.exemplar, images.exemplar_size).shape[-2:])
    shown = min(style_image(*images.reference).shape[-2:])
    if short < images.size or shown < images.size:
        raise DataError(
            f"exemplar '{images.exemplar}': its shorter side has {min(short, shown)} pixels, "
            f"samples have {images.size}; use a larger image, exemplar_size or a smaller size"
        )


def heldout_images(images: config.Images) -> Tensor:
    """The central squares of the held-out content images: (B, 3, heldout_size, heldout_size)."""
    return torch.stack([square(load_image(name), images.heldout_size) for name in images.heldout])


class Inputs:
    """What one training shows its generator, as a function of the iteration.

    Args:
        run: the training.
        net: its generator, for the shapes of the noise.
        device: where the tensors go.

    Attributes:
        heldout: (content images or None, noise) that are never trained on.
        sources: what the images that the training depends on are made of.
    """

    def __init__(self, run: config.Training, net: Network, device: torch.device) -> None:
        self.run, self.device = run, device
        self.noise = NoiseStream(net, run.seed)
        self.crops: ContentCrops | None = None
        self.sources: list[Tensor] = []
        if isinstance(run.images, config.Texture):
            exemplar_must_cover(run.images)
            self.heldout: Batch = None, self._moved(noise_of_group(net, run.images.size, 0))
            return
        contents = Contents(run.images.contents, run.images.content_side)
        for name in run.images.heldout:
            if Path(os.path.realpath(name)) in contents.files:
                raise UsageError(
                    f"images.heldout '{name}' is among images.contents: it would be trained on"
                )
        # Among other contents a neighbour is far away whatever the noise: a diversity batch is one
        # content image (authors' diversity branch, dataloader.lua; the paper does not say so).
        count = 1 if run.objective.diversity_weight else run.optimiser.batch
        i = run.images
        self.crops = ContentCrops(contents, i.size, count, run.seed, i.crop_scale, i.crops)
        shown = heldout_images(run.images).to(device)
        self.heldout = shown, self._moved(self.noise(len(shown), i.heldout_size, i.heldout_size, 0))
        made_of = bytearray.fromhex(contents.identity)
        self.sources = [torch.frombuffer(made_of, dtype=torch.uint8), shown]

    def __call__(self, iteration: int) -> Batch:
        """Content images (B, 3, size, size), or None for a texture, and noise."""
        count, size = self.run.optimiser.batch, self.run.images.size
        noise = self._moved(self.noise(count, size, size, iteration))
        if self.crops is None:
            return None, noise
        return self._to(self.crops(iteration)).expand(count, -1, -1, -1), noise

    def batches(self, iterations: Iterable[int], loaders: int = 0) -> Iterator[Batch]:
        """What :meth:`__call__` returns for each of some iterations, in their order.

        With ``loaders`` threads, batches are made while the one before is computed with. What they
        hold depends on the iteration alone, and so not on the threads.
        """
        if not loaders:
            yield from map(self, iterations)
            return
        upcoming = iter(iterations)
        pool = ThreadPoolExecutor(loaders)
        try:
            waiting: deque[Future[Batch]] = deque()
            for iteration in upcoming:
                waiting.append(pool.submit(self, iteration))
                if len(waiting) > AHEAD * loaders:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _moved(self, noise: list[Tensor]) -> list[Tensor]:
        return [self._to(part) for part in noise]

    def _to(self, values: Tensor) -> Tensor:
        # From pinned memory this thread does not wait for the copy.
        if self.device.type == "cuda":
            values = values.pin_memory()
        return values.to(self.device, non_blocking=True)
