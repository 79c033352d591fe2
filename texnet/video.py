"""Stylizing a video by its frames.

The noise is held fixed: equal frames give equal pictures. Frames are not otherwise tied together.
Instance norm takes its statistics from the whole frame, so a change anywhere shifts all of the
picture a little.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from texnet.apply import Checks, Look
from texnet.artifacts import check_file, placed
from texnet.data import MIN_SIDE, fit
from texnet.errors import DataError, UsageError, WriteError
from texnet.generators import Network
from texnet.progress import Progress

KINDS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
"""Suffixes of files that are taken for videos."""
QUALITY = "18"
"""Of the H.264 encoder (crf): hardly to be told from the original."""
USUAL_RATE = Fraction(25)
"""Frames a second, where a file does not say."""
FINEST = Fraction(1, 90_000)
"""The smallest unit of time in a written film, in seconds (that of MPEG)."""
MISSING = Fraction(1, 20)
"""Of its length, what may lack at the end of a film: headers are rounded, sound is padded."""
MISSING_FRAMES = 3
"""What may lack of a short film, in frames."""


@dataclass(frozen=True)
class Film:
    """What is known of a video before its frames are decoded. Times in seconds."""

    frames: int
    """Pictures in the file; a few of them may not be shown."""
    rate: Fraction
    """Frames a second, on average."""
    tick: Fraction
    """Unit of the times to write: 1 / rate where the rate is constant."""
    end: Fraction
    """Time at which the last frame ends."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    image: Tensor
    """(3, H, W), RGB in [0, 1], turned as it is to be shown."""
    time: Fraction
    """When it is shown, in seconds on the clock of the file."""
    duration: Fraction
    """For how long, in seconds; zero where the file does not say."""


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


def survey(path: Path, size: int | None = None) -> Film:
    """What a video holds: it is read once as it lies, without decoding.

    Args:
        path: the video.
        size: longer side of a frame to be made of it, in pixels; None keeps it.

    Raises:
        MissingError: no such file.
        DataError: no video, a truncated one, or frames with a side under 16 pixels.
        UsageError: ``size`` would make a side of less than 16 pixels.
    """
    with opened(path) as container:
        stream = container.streams.best("video")
        _check_size(path, stream.codec_context.width, stream.codec_context.height, size)
        tick = stream.time_base
        rate = stream.average_rate or stream.guessed_rate or USUAL_RATE
        times: list[Fraction] = []
        whole, end, others = True, Fraction(0), Fraction(0)
        for packet in container.demux():
            time = packet.dts if packet.pts is None else packet.pts
            if time is None:  # the empty packet at the end of each stream
                continue
            ends = (time + (packet.duration or 0)) * packet.time_base
            others = max(others, ends)
            if packet.stream.index == stream.index and not packet.is_discard:
                whole = whole and not packet.is_corrupt
                times.append(time * tick)
                end = max(end, ends)
        if stream.duration is not None:
            wanted = ((stream.start_time or 0) + stream.duration) * tick
            reached = end
        else:  # the length is that of the longest stream, such as the sound
            wanted = Fraction(container.duration or 0, 1_000_000)
            reached = others
    if not times:
        raise DataError(f"{path}: has no frame that can be read; restore it")
    _check_end(path, reached, wanted, rate, whole)
    times.sort()
    # Containers round times, Matroska's to milliseconds.
    rounding = min(tick, 1 / rate / 4)
    constant = all(abs(t - times[0] - i / rate) <= rounding for i, t in enumerate(times))
    return Film(len(times), rate, 1 / rate if constant else max(tick, FINEST), end)


def _check_size(path: Path, width: int, height: int, size: int | None) -> None:
    if min(width, height) < MIN_SIDE:
        raise DataError(
            f"{path}: {width}x{height} pixels, at least {MIN_SIDE}x{MIN_SIDE} are needed; "
            "enlarge it first"
        )
    if size is None:
        return
    made = [max(1, round(side * size / max(width, height))) for side in (width, height)]
    if min(made) < MIN_SIDE:
        enough = math.ceil(MIN_SIDE * max(width, height) / min(width, height))
        raise UsageError(
            f"{path}: --size {size} would make {made[0]}x{made[1]} pixels of it, at least "
            f"{MIN_SIDE}x{MIN_SIDE} are needed; use --size {enough} or more"
        )


def _check_end(
    path: Path, end: Fraction, wanted: Fraction, rate: Fraction, whole: bool = True
) -> None:
    """DataError where a film does not go on until its end."""
    if whole and wanted - end <= max(MISSING * wanted, MISSING_FRAMES / rate):
        return
    raise DataError(
        f"{path}: is truncated: the first {float(end):.2f} s of {float(wanted):.2f} s can be read; "
        "restore it"
    )


def frames(path: Path, size: int | None = None) -> Iterator[Frame]:
    """The frames of a video.

    Args:
        path: the video.
        size: longer side in pixels; None keeps it.
    """
    with opened(path) as container:
        stream = container.streams.best("video")
        # AVI has no times of showing: where frames lie in another order, theirs are made up.
        counted = container.format.name == "avi" and stream.codec_context.has_b_frames
        end = Fraction(0)
        for frame in container.decode(stream):
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
            # A quarter turn counter-clockwise for each 90 degrees that the player should turn.
            turned = torch.rot90(pixels, round(frame.rotation / 90) % 4, (1, 2))
            image = turned.float() / 255
            unit = frame.time_base or stream.time_base
            stamp = frame.dts if frame.pts is None else frame.pts
            time = end if stamp is None or counted else stamp * unit
            duration = (frame.duration or 0) * unit
            end = time + duration
            yield Frame(image if size is None else fit(image, size), time, duration)


class Writer:
    """Writes frames as MP4, H.264 without sound.

    Args:
        path: the file.
        film: whose frames they are; the first one is shown at once.
        shape: height and width of a frame; of an odd side the last pixel is cut off.

    Raises:
        OSError, av.FFmpegError: it cannot be written; so do the methods.
    """

    def __init__(self, path: Path, film: Film, shape: tuple[int, int]) -> None:
        # The encoder halves the resolution of colours: sides are even.
        self.height, self.width = (side - side % 2 for side in shape)
        self.film, self.last = film, -1
        self.first: Fraction | None = None
        self.container = library().open(str(path), "w", format="mp4")
        self.pictures = self.container.add_stream("libx264", rate=film.rate)
        self.pictures.width, self.pictures.height = self.width, self.height
        self.pictures.pix_fmt = "yuv420p"
        self.pictures.time_base = self.pictures.codec_context.time_base = film.tick
        # One thread: the encoder's result depends on how many there are.
        self.pictures.options = {"crf": QUALITY, "threads": "1"}

    def write(self, frame: Frame, image: Tensor) -> None:
        """Add an image (3, H, W), values clamped to [0, 1], with the times of a frame."""
        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        kept = pixels[: self.height, : self.width].contiguous().numpy()
        made = library().VideoFrame.from_ndarray(kept, format="rgb24")
        self.first = frame.time if self.first is None else self.first
        # Times must rise, which those of a damaged file may not.
        self.last = max(round((frame.time - self.first) / self.film.tick), self.last + 1)
        made.pts, made.time_base = self.last, self.film.tick
        shown = frame.duration or 1 / self.film.rate
        made.duration = max(1, round(shown / self.film.tick))
        self.container.mux(self.pictures.encode(made))

    def finish(self) -> None:
        """Encode what is left, and end the file."""
        self.container.mux(self.pictures.encode())
        self.container.close()

    def drop(self) -> None:
        """Let go of a file that nobody wants any more."""
        with suppress(Exception):
            self.container.close()


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
        out: the MP4 file to write, without sound; its frames have the times of the video's.
        look: of each frame.
        size: longer side of a frame in pixels; None keeps it.
        seed: of the noise.
        number: of the sample.

    Raises:
        DataError: the video cannot be read, or not to its end.
        MissingError, UsageError: there is none, or it cannot be stylized.
        WriteError: ``out`` cannot be written.
    """
    film = survey(source, size)
    given = frames(source, size)
    first = next(given, None)
    if first is None:
        raise DataError(f"{source}: has no frame that can be read; restore it")
    height, width = first.image.shape[-2:]
    check(source, *look.worked_on(source, (height, width)))
    end = Fraction(0)
    with placed(out) as stream:
        writer: Writer | None = None
        try:
            writer = Writer(Path(stream.name), film, (height, width))
            with Progress(source.name, film.frames) as show:
                for done, frame in enumerate(itertools.chain([first], given), 1):
                    writer.write(frame, look(net, frame.image, seed, number))
                    end = max(end, frame.time + frame.duration)
                    show(done)
            _check_end(source, end, film.end, film.rate)
            writer.finish()
        except library().FFmpegError as error:
            raise WriteError(f"{out}: cannot be written ({error.strerror})") from error
        finally:
            if writer is not None:
                writer.drop()
