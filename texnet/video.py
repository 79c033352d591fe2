"""Stylizing a video by its frames, with the noise held fixed so that it does not flicker."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from texnet.apply import Checks, Look
from texnet.artifacts import check_file
from texnet.data import fit
from texnet.errors import DataError, UsageError, WriteError
from texnet.generators import Network
from texnet.progress import Progress

KINDS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
"""Suffixes of files that are taken for videos."""
QUALITY = "18"
"""Of the H.264 encoder (crf): hardly to be told from the original."""


def library() -> ModuleType:
    """PyAV; UsageError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UsageError(
            "videos need the package av: pip install -e '.[video]'; or give a folder of frames"
        ) from error
    return av


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A video to read; DataError where it is none, or damaged."""
    av = library()
    check_file(path, "a video")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: has no pictures; name a video")
            yield container
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot be read as a video ({error.strerror}); restore it") from (
            error
        )


def frames(path: Path, size: int | None = None) -> Iterator[Tensor]:
    """The frames of a video, (3, H, W), RGB in [0, 1], turned as they are to be shown.

    Args:
        path: the video.
        size: longer side in pixels; None keeps it.
    """
    with opened(path) as container:
        for frame in container.decode(video=0):
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
            # A quarter turn counter-clockwise for each 90 degrees that the player should turn.
            turned = torch.rot90(pixels, round(frame.rotation / 90) % 4, (1, 2))
            image = turned.float() / 255
            yield image if size is None else fit(image, size)


class Writer:
    """Writes frames to an MP4 file, H.264 without sound, that is whole or absent."""

    def __init__(self, out: Path, source: Path, shape: tuple[int, int]) -> None:
        av = library()
        # The encoder halves the resolution of colours: sides are even.
        self.height, self.width = (side - side % 2 for side in shape)
        self.out = out
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part")
        os.close(handle)
        self.part = Path(name)
        with opened(source) as given:
            rate = given.streams.video[0].average_rate or 25
        self.container = av.open(str(self.part), "w", format="mp4")
        self.pictures = self.container.add_stream("libx264", rate=rate)
        self.pictures.width, self.pictures.height = self.width, self.height
        self.pictures.pix_fmt = "yuv420p"
        # One thread: the encoder's result depends on how many there are.
        self.pictures.options = {"crf": QUALITY, "threads": "1"}

    def write(self, image: Tensor) -> None:
        """Add a frame (3, H, W), values clamped to [0, 1]."""
        av = library()
        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        kept = pixels[: self.height, : self.width].contiguous().numpy()
        self.container.mux(self.pictures.encode(av.VideoFrame.from_ndarray(kept, format="rgb24")))

    def finish(self) -> None:
        """End the file and put it in its place."""
        self.container.mux(self.pictures.encode())
        self.container.close()
        umask = os.umask(0)
        os.umask(umask)
        self.part.chmod(0o666 & ~umask)
        self.part.replace(self.out)

    def drop(self) -> None:
        """Leave nothing behind, where it was not finished."""
        with suppress(Exception):
            self.container.close()
        self.part.unlink(missing_ok=True)


def stylize(
    net: Network,
    check: Checks,
    source: Path,
    out: Path,
    look: Look,
    size: int | None,
    seed: int,
    number: int,
) -> None:
    """Write the stylized video: every frame with the noise of sample ``number``.

    Args:
        net: the generator, on its device.
        check: says what it cannot do.
        source: the video.
        out: the MP4 file to write, without sound.
        look: of each frame.
        size: longer side of a frame in pixels; None keeps it.
        seed: of the noise.
        number: of the sample.

    Raises:
        DataError, MissingError, UsageError: the video cannot be read, or not be stylized.
        WriteError: ``out`` cannot be written.
    """
    with opened(source) as container:
        total = container.streams.video[0].frames
    writer: Writer | None = None
    try:
        with Progress(source.name, max(total, 1)) as show:
            for done, image in enumerate(frames(source, size), 1):
                if writer is None:
                    check(source, *look.worked_on(source, image.shape[-2:]))
                    writer = Writer(out, source, (image.shape[-2], image.shape[-1]))
                writer.write(look(net, image, seed, number))
                show(done)
        if writer is None:
            raise DataError(f"{source}: has no frame that can be read; restore it")
        writer.finish()
    except OSError as error:
        raise WriteError(f"{out}: cannot be written ({error.strerror}); free some space") from error
    finally:
        if writer is not None:
            writer.drop()
