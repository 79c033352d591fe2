"""Videos: their frames, their times, and files that are whole or absent."""

import signal
import subprocess
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest
import torch
from pictures import picture
from test_cli import call, refused, workplace  # noqa: F401 (fixture)
from test_own import style  # noqa: F401 (fixture)

from texnet import apply, data, training, video
from texnet.errors import DataError, UsageError, WriteError
from texnet.metrics import pixel_distance

av = pytest.importorskip("av")

HELD = (0, 0.04, 0.08, 2, 2.04, 4)
"""Times of a film of variable rate, in seconds."""


def clip(path, images, rate=12, times=None, turn=0, **options):
    """A film of images (3, H, W); ``times`` in seconds, or a constant rate."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = images[0].shape[1:]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "1", "threads": "1"}
        unit = Fraction(1, 1000)
        if times is not None:
            stream.time_base = stream.codec_context.time_base = unit
        if turn:
            stream.set_display_rotation(turn)
        for number, image in enumerate(images):
            pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] / unit), unit
                frame.duration = 40
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def still(width=64, height=48, seed=6):
    return data.load_image(str(picture(f"{seed}.png", width, height, seed)))


def noise(number, width=64, height=48):
    """Pictures that take many bytes, none like the one before."""
    rng = torch.Generator().manual_seed(0)
    return list(torch.rand(number, 3, height, width, generator=rng))


class Plain(apply.Look):
    """Leaves frames as they are."""

    def __call__(self, net, content, seed, number):
        return content


def through(source, out="out.mp4", look=None, size=None):
    video.stylize(None, lambda *_: [], Path(source), Path(out), look or Plain(), size, 0, 0)
    return Path(out)


def shown(path):
    """The times of a film's frames in seconds, by PyAV's own clock, and its rate."""
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
        return times, container.streams.video[0].average_rate


def leftovers():
    return [path.name for path in Path().iterdir() if path.name.endswith(".part")]


def test_a_video_by_its_frames_with_fixed_noise(capsys, style):  # noqa: F811
    image = data.load_image("me.png")
    clip("film.mp4", [image] * 4 + [image.flip(-1)] * 3)
    code, out, err = call(capsys, "stylize", style, "film.mp4", "-o", "o", "--seed", 3)
    assert (code, out) == (0, "o/film.mp4\n"), err
    assert [path.name for path in Path("o").iterdir()] == ["film.mp4"]
    made, given = (
        [frame.image for frame in video.frames(Path(name))] for name in ("o/film.mp4", "film.mp4")
    )
    assert len(made) == 7 and made[0].shape == image.shape
    net, _ = training.load_generator(Path(style))
    for found, content in zip(made, given, strict=True):
        wanted = apply.stylized(net, content, 3, 0).clamp(0, 1)
        # But for the encoding, whose colours have half the resolution.
        assert pixel_distance(found[None], wanted[None]) < 0.05
    # Of equal frames the pictures stay the same.
    assert pixel_distance(made[1][None], made[2][None]) < 0.01
    first = Path("o/film.mp4").read_bytes()
    Path("o/film.mp4").unlink()
    assert call(capsys, "stylize", style, "film.mp4", "-o", "o", "--seed", 3)[0] == 0
    assert Path("o/film.mp4").read_bytes() == first


def test_videos_that_are_none(capsys, style, monkeypatch):  # noqa: F811
    Path("text.mp4").write_text("no video at all")
    refused(capsys, "stylize", style, "text.mp4", "-o", "o", code=65, says="cannot be read as a vi")
    refused(capsys, "stylize", style, "not.mp4", "-o", "o", code=66, says="not.mp4: no such file")
    whole = clip("whole.mp4", noise(24), movflags="+faststart").read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    refused(capsys, "stylize", style, "cut.mp4", "-o", "o", code=65, says="cut.mp4: is truncated")
    monkeypatch.setitem(sys.modules, "av", None)
    says = "videos need the package av: pip install -e '.[video]'; or give a folder of frames"
    refused(capsys, "stylize", style, "text.mp4", "-o", "o", says=says)


# Times


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_film_of_variable_rate_keeps_its_times(kind):
    made = through(clip(f"film.{kind}", noise(6), times=HELD))
    assert shown(made)[0] == pytest.approx(HELD, abs=1e-6)


def test_a_film_that_begins_later_begins_at_once():
    made = through(clip("film.mkv", noise(6), times=[3 + time for time in HELD]))
    assert shown(made)[0] == pytest.approx(HELD, abs=1e-6)


@pytest.mark.parametrize("rate", [12, Fraction(30_000, 1001)])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
def test_a_constant_rate_stays(kind, rate):
    made = through(clip(f"film.{kind}", noise(10), rate))
    times, found = shown(made)
    # Matroska has rounded the times to milliseconds.
    assert found == rate
    assert times == pytest.approx([float(i / rate) for i in range(10)], abs=1e-6)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_progress_counts_to_the_number_of_frames(kind, capsys):
    through(clip(f"film.{kind}", noise(7)))
    lines = capsys.readouterr().err.splitlines()
    counts = [line.removeprefix(f"film.{kind}: ").split()[0] for line in lines]
    assert counts == [f"{i}/7" for i in range(1, 8)]


# Frames


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_film_is_written_upright(turn):
    image = still()
    clip("film.mp4", [image] * 2, turn=turn)
    made = next(video.frames(through("film.mp4"))).image
    wanted = image.rot90(turn // 90, (1, 2))  # counter-clockwise, as PyAV's turn
    assert made.shape == wanted.shape
    upside_down = pixel_distance(made[None], wanted[None].rot90(2, (2, 3)))
    assert pixel_distance(made[None], wanted[None]) < 0.5 * upside_down


def test_size_of_the_frames():
    clip("film.mp4", [still()] * 2)
    assert next(video.frames(through("film.mp4", size=32))).image.shape == (3, 24, 32)
    # An odd side loses its last pixel.
    assert next(video.frames(through("film.mp4", size=35))).image.shape == (3, 26, 34)


def test_small_frames_are_refused():
    clip("film.mp4", noise(2, 64, 14))
    with pytest.raises(DataError, match=r"film\.mp4: 64x14 pixels, at least 16x16 are needed"):
        through("film.mp4")
    clip("film.mp4", [still()] * 2)
    says = r"--size 20 would make 20x15 pixels of it, .* use --size 22 or more"
    with pytest.raises(UsageError, match=says):
        through("film.mp4", size=20)
    assert through("film.mp4", size=22).exists()


# Whole or absent


@pytest.mark.parametrize(
    ("kind", "options"), [("mp4", {"movflags": "+faststart"}), ("mkv", {}), ("avi", {})]
)
def test_a_truncated_film_is_refused(kind, options):
    content = clip(f"film.{kind}", noise(24), **options).read_bytes()
    through(f"film.{kind}")
    Path("out.mp4").unlink()
    Path(f"film.{kind}").write_bytes(content[: len(content) * 6 // 10])
    says = rf"film\.{kind}: is truncated: the first [01]\.\d\d s of [12]\.\d\d s can be read; rest"
    with pytest.raises(DataError, match=says):
        through(f"film.{kind}")
    assert not Path("out.mp4").exists() and not leftovers()


def test_frames_that_the_decoder_leaves_out(monkeypatch):
    clip("film.mp4", noise(24))
    every = video.frames
    monkeypatch.setattr(video, "frames", lambda *a: islice(every(*a), 12))
    with pytest.raises(DataError, match=r"the first 1\.00 s of 2\.00 s can be read"):
        through("film.mp4")
    assert not Path("out.mp4").exists() and not leftovers()


def test_sound_that_goes_on_longer_is_no_truncation():
    with av.open("film.mkv", "w") as container:
        pictures = container.add_stream("libx264", rate=12)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000)
        for image in noise(12):
            pixels = (image * 255).byte().permute(1, 2, 0).contiguous().numpy()
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(pictures.encode())
        frame = av.AudioFrame(format="s16", layout="mono", samples=16_000)  # 2 s
        frame.planes[0].update(bytes(32_000))
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    assert len(shown(through("film.mkv"))[0]) == 12


class Failing(Plain):
    """Fails at the fourth frame, when it has looked at what stands at the place of the film."""

    seen: list = []  # noqa: RUF012

    def __call__(self, net, content, seed, number):
        self.seen.append(Path("out.mp4").read_bytes() if Path("out.mp4").exists() else None)
        if len(self.seen) == 4:
            raise OSError(28, "No space left on device")
        return content


@pytest.mark.parametrize("before", [None, b"an older film"])
def test_a_failure_midway_leaves_what_was_there(before, monkeypatch):
    monkeypatch.setattr(Failing, "seen", [])
    if before is not None:
        Path("out.mp4").write_bytes(before)
    clip("film.mp4", noise(80))
    with pytest.raises(WriteError, match=r"out\.mp4: cannot be written \(No space left"):
        through("film.mp4", look=Failing())
    assert Failing.seen == [before] * 4
    assert Path("out.mp4").exists() is (before is not None) and not leftovers()


def test_an_encoder_that_fails_is_a_file_that_cannot_be_written(monkeypatch):
    clip("film.mp4", noise(3))

    def fail(self, *_):
        raise av.error.ExternalError(1, "Generic error in an external library")

    with monkeypatch.context() as patch:
        patch.setattr(video.Writer, "write", fail)
        with pytest.raises(WriteError, match="Generic error in an external library"):
            through("film.mp4")
    assert not Path("out.mp4").exists() and not leftovers()


def test_the_film_is_renamed_into_its_place(monkeypatch):
    clip("film.mp4", [still()] * 2)
    files, finish = [], video.Writer.finish

    def seen(self):
        finish(self)
        assert not Path("out.mp4").exists()
        files.extend(Path(name).stat().st_ino for name in leftovers())

    monkeypatch.setattr(video.Writer, "finish", seen)
    through("film.mp4")
    # The very file that was written: a copy would be another, for a while a part of one.
    assert files == [Path("out.mp4").stat().st_ino] and not leftovers()
    Path("plain").touch()
    assert Path("out.mp4").stat().st_mode == Path("plain").stat().st_mode


KILLED = """
import sys, time
from pathlib import Path
from texnet.artifacts import placed
with placed(Path("out.mp4")):
    print(flush=True)
    time.sleep(60)
"""


def test_the_next_writer_sweeps_up_after_one_that_was_killed():
    clip("film.mp4", [still()] * 2)
    root = Path(video.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, env={"PYTHONPATH": str(root)}
    ) as writer:
        writer.stdout.readline()
        alive = leftovers()
        through("film.mp4", "other.mp4")
        assert len(alive) == 1 and leftovers() == alive  # of a writer that is alive
        writer.send_signal(signal.SIGKILL)
    assert leftovers() == alive
    through("film.mp4", "other.mp4")
    assert leftovers() == []
