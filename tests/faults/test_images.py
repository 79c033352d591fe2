"""Hostile images: the documented pixels or one line, little memory, no helper program, no hang."""

import io
import json
import os
import socket
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hostile import MEGABYTE, process, refused, texnet
from PIL import Image, ImageOps
from test_data import PIXELS, animated, lossy, picture, png, read, smooth

from texnet import config, data, generators, training
from texnet.errors import DataError

IMAGES = {
    "style": "ihc",
    "style_size": 16,
    "size": 16,
    "heldout_size": 16,
    "contents": ["rocket"],
    "heldout": ["chelsea"],
}
RUN = {
    "name": "net",
    "seed": 0,
    "descriptor": {"name": "random"},
    "generator": {"width": 4, "blocks": 1},
    "objective": {"style_layers": ["relu1_1"], "content_layers": ["relu1_1"]},
    "optimiser": {"iterations": 2, "batch": 2},
    "images": IMAGES,
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model():
    """A generator, so that images are met as ``texnet stylize`` meets them."""
    run = config.parse(config.Training, RUN, "test")
    net = generators.build(run.generator, 0, run.images)
    training.save_generator(Path("net.safetensors"), net, run)
    return "net.safetensors"


def chunk(kind, content):
    return (
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )  # fmt: skip


def with_chunks(*chunks, before=b"IDAT", content=None):
    """A PNG with more chunks before another."""
    content = content or picture()
    at = content.index(before) - 4
    return content[:at] + b"".join(chunk(*each) for each in chunks) + content[at:]


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def with_segment(marker, content):
    """A JPEG with one segment more."""
    return lossy()[:2] + segment(marker, content) + lossy()[2:]


def same_or_refused(path, contents, wanted):
    """How many of some files are refused; the others show what is wanted."""
    number = 0
    for content in contents:
        path.write_bytes(content)
        try:
            image = data.read_image(path).numpy()
        except DataError:
            number += 1
        else:
            assert np.array_equal(image, wanted)
    return number


# Damage


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_cut_anywhere(tmp_path, kind):
    """Whole pictures alone are shown: what is cut off may be the mark of the end."""
    whole = picture() if kind == "PNG" else lossy()
    wanted = read(tmp_path, whole).transpose(2, 0, 1)
    ends = [*range(0, len(whole) - 30, 19), *range(len(whole) - 30, len(whole))]
    count = same_or_refused(tmp_path / "cut", (whole[:end] for end in ends), wanted)
    assert count > len(ends) - 25


def test_a_flipped_bit_of_a_png_is_never_shown(tmp_path):
    """Every chunk that pixels depend on has a checksum, and it is looked at."""
    whole = picture(PIXELS[:16, :16])
    wanted = read(tmp_path, whole).transpose(2, 0, 1)

    def flipped(bit):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        return content

    bits = range(0, 8 * len(whole), 13)
    count = same_or_refused(tmp_path / "flipped", map(flipped, bits), wanted)
    assert count > 0.95 * len(bits)


# Other kinds, under the name of a JPEG

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(pwned) (w) file\n%%EOF\n"
KINDS = {
    "EPS": EPS,
    "DOS EPS": b"\xc5\xd0\xd3\xc6" + struct.pack("<6I", 30, len(EPS), 0, 0, 0, 0) + b"\0\0" + EPS,
    "PDF": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
    "HTML": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
    "AVIF": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(200),
    "float TIFF": picture(Image.fromarray(np.full((32, 32), 0.5, np.float32)), format="TIFF"),
    "BMP": picture(format="BMP"),
    "animated WebP": animated("WEBP"),
    "X bitmap": b"#define im_width 16\n#define im_height 16\nstatic char im_bits[] = {\n0x00\n};\n",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(60),
    "BUFR": b"BUFR" + bytes(60),
    "ZIP": b"PK\3\4" + bytes(60),
    "NUL bytes": bytes(1000),
}
HELPERS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.startfile", "os.fork")
STARTED: list[str] | None = None
"""Other programs that were started, while it is a list."""


def test_other_kinds_are_refused_without_another_program(tmp_path):
    """EPS would go to Ghostscript, which runs what is in it."""
    global STARTED
    sys.addaudithook(lambda event, _: STARTED.append(event) if STARTED and event in HELPERS else 0)
    STARTED = ["listening"]
    try:
        for name, content in KINDS.items():
            (tmp_path / "image.jpg").write_bytes(content)
            with pytest.raises(DataError, match=r"not a PNG or JPEG image .* convert"):
                print(name, data.read_image(tmp_path / "image.jpg").shape)
        assert STARTED == ["listening"]
        os.system("true")
        assert STARTED == ["listening", "os.system"], "else this test would see nothing"
    finally:
        STARTED = None


def test_a_folder_with_one_of_another_kind(model):
    """All images are looked at before the first is computed."""
    Path("in").mkdir()
    Path("in/a.png").write_bytes(picture())
    Path("in/b.jpg").write_bytes(EPS)
    refused("stylize", model, "in", "-o", "out", code=65, says="in/b.jpg: not a PNG or JPEG image")


# Bombs


def test_bomb_through_the_command_line(model):
    """17 kB that are 144 million pixels: refused by the header, before anything is decoded."""
    Path("bomb.png").write_bytes(png(12000, 12000, 1, 0, bytes(1501 * 12000)))
    assert Path("bomb.png").stat().st_size < 20_000
    before = set(os.listdir())
    ended = process(sys.executable, "-m", "texnet", "stylize", model, "bomb.png", "-o", "out")
    assert (ended.code, ended.out, ended.err.count("\n")) == (65, "", 1)
    assert ended.err.startswith("texnet stylize: error: bomb.png: ")
    assert "144000000 pixels" in ended.err and ended.err.endswith("shrink it\n")
    assert ended.memory < 1000 * MEGABYTE and set(os.listdir()) == before


def jpeg_of(width, height):
    """A JPEG whose header says another size."""
    at = lossy().index(b"\xff\xc0")
    return lossy()[: at + 5] + struct.pack(">HH", height, width) + lossy()[at + 9 :]


HEADERS = {
    "JPEG of 4 billion": (jpeg_of(65500, 65500), "pixels"),
    "JPEG of 81 million": (jpeg_of(9000, 9000), "9000x9000 pixels, at most 64000000"),
    "wide PNG": (png(2**31 - 1, 16, 8, 6), "pixels"),
    "high PNG": (png(16, 2**31 - 1, 1, 0), "pixels"),
    "a row too many": (png(8000, 8001, 16, 6), "8000x8001 pixels"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_large_headers(tmp_path, name):
    """Refused before the pixels, of which these files have none."""
    content, says = HEADERS[name]
    (tmp_path / "bomb.jpg").write_bytes(content)
    with pytest.raises(DataError, match=f"{says}.*shrink it"):
        data.read_image(tmp_path / "bomb.jpg")


TEXT = zlib.compress(bytes(100 * MEGABYTE), 1)
PROFILE = b"profile\0\0" + TEXT


@pytest.mark.parametrize(
    "content",
    [
        with_chunks((b"zTXt", b"key\0\0" + TEXT)),
        with_chunks((b"iTXt", b"key\0\1\0\0\0" + TEXT)),
        with_chunks(*[(b"zTXt", b"key\0\0" + zlib.compress(bytes(MEGABYTE)))] * 100),
        with_chunks((b"iCCP", PROFILE)),
    ],
    ids=["text", "international text", "many texts", "profile"],
)
def test_chunks_that_grow_to_100_megabytes(model, content):
    """Ignored or refused, and never kept in memory."""
    Path("bomb.png").write_bytes(content)
    ended = texnet("stylize", model, "bomb.png", "-o", "out")
    assert ended.code in (0, 65) and "Traceback" not in ended.err
    assert ended.err.count("\n") <= 1 and ended.memory < 200 * MEGABYTE
    assert Path("out").exists() == (ended.code == 0)


# What lies beside the pixels

EXIF_OF_PNG = b"MM\0*\0\0\0\x08"


def exif(orientation, kind=3):
    """EXIF data with an orientation, which should be of kind 3."""
    packed = struct.pack(">HHI", 0x112, kind, 1) + struct.pack(">HH", orientation, 0)
    return EXIF_OF_PNG + b"\0\1" + packed + bytes(4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_all_orientations(tmp_path, orientation, kind):
    """Mirrored ones too, as Pillow turns pictures whose EXIF data is in order."""
    if kind == "PNG":
        content = with_chunks((b"eXIf", exif(orientation)))
    else:
        content = with_segment(0xE1, b"Exif\0\0" + exif(orientation))
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    image = read(tmp_path, content)
    np.testing.assert_array_equal(image, np.asarray(turned, np.float32) / 255)
    assert (image.shape[:2] == PIXELS.shape[:2]) == (orientation < 5)


def tagged(*tags):
    """EXIF data of (tag, kind, count, value) besides the orientation 6."""
    rows = [struct.pack(">HHI", 0x112, 3, 1) + struct.pack(">HH", 6, 0)]
    rows += [struct.pack(">HHII", *tag) for tag in tags]
    return EXIF_OF_PNG + struct.pack(">H", len(rows)) + b"".join(rows) + bytes(12)


ODD_EXIF = {
    "a float for a text": tagged((305, 11, 1, 0x3F800000)),
    "a rational for a text": tagged((0x10F, 5, 1, 8)),
    "a text for a number": tagged((0x100, 2, 4, 0x61626300)),
    "more than the file holds": tagged((0x111, 4, 2**31, 4)),
    "a folder of itself": tagged((0x8769, 4, 1, 8)),
}


@pytest.mark.parametrize("name", ODD_EXIF)
def test_odd_tags_are_no_obstacle_to_turning(tmp_path, name):
    """Cameras write such; Pillow's own turning fails on the first three."""
    image = read(tmp_path, with_segment(0xE1, b"Exif\0\0" + ODD_EXIF[name]))
    upright = read(tmp_path, lossy())
    np.testing.assert_array_equal(image, np.rot90(upright, -1))


BROKEN = {
    "no profile": with_segment(0xE2, b"ICC_PROFILE\0\1\1" + b"junk" * 50),
    "no Photoshop data": with_segment(0xED, b"Photoshop 3.0\0" + b"8BIM" + b"\xff" * 20),
    "no XMP": with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff<tiff:Orientation>x</"),
    "no EXIF": with_segment(0xE1, b"Exif\0\0" + b"\xff" * 30),
    "orientation 0": with_segment(0xE1, b"Exif\0\0" + exif(0)),
    "orientation 9": with_segment(0xE1, b"Exif\0\0" + exif(9)),
    "orientation in words": with_segment(0xE1, b"Exif\0\0" + exif(0x4142, kind=2)),
}
BROKEN_PNG = {
    "no profile": with_chunks((b"iCCP", b"p\0\0junk")),
    "no EXIF": with_chunks((b"eXIf", b"junk")),
    "no gamma": with_chunks((b"gAMA", bytes(4))),
    "unknown chunk": with_chunks((b"abCd", b"junk" * 50)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_segments_do_not_matter(tmp_path, name):
    np.testing.assert_array_equal(read(tmp_path, BROKEN[name]), read(tmp_path, lossy()))


@pytest.mark.parametrize("name", BROKEN_PNG)
def test_broken_chunks_do_not_matter(tmp_path, name):
    np.testing.assert_array_equal(read(tmp_path, BROKEN_PNG[name]), PIXELS / np.float32(255))


def test_a_profile_after_the_pixels_is_damage(model):
    """Pillow raises IndexError of it."""
    Path("late.png").write_bytes(with_chunks((b"iCCP", b"a\0"), before=b"IEND"))
    refused("stylize", model, "late.png", "-o", "out", code=65, says="late.png: damaged image")


# Pictures of nothing


@pytest.mark.parametrize("colour", ["black", "white", (90, 91, 92)])
@pytest.mark.parametrize("verb", ["train", "optimize"])
def test_a_flat_style_is_refused(verb, colour):
    """Its Gram matrices say nothing, and black has zeros for them."""
    Image.new("RGB", (40, 40), colour).save("flat.png")
    run = {**RUN, "images": {**IMAGES, "style": "flat.png"}}
    if verb == "optimize":
        run = {k: v for k, v in run.items() if k not in ("generator", "optimiser")}
        run |= {"start": "noise", "evaluations": 2}
    Path("run.json").write_text(json.dumps(run))
    refused(verb, "run.json", "m.safetensors", code=65, says="exemplar 'flat.png' is flat")


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_flat_contents_give_no_nan(norm):
    """A black photograph among the contents is none of the training's business."""
    Image.new("RGB", (40, 40)).save("black.png")
    images = {**IMAGES, "contents": ["black.png"]}
    run = {**RUN, "images": images, "generator": {**RUN["generator"], "norm": norm}}
    Path("run.json").write_text(json.dumps(run))
    ended = texnet("train", "run.json", "m.safetensors")
    assert ended.code == 0, ended.err
    assert "nan" not in Path("history.csv").read_text().lower()
    net, _ = training.load_generator(Path("m.safetensors"))
    assert all(value.isfinite().all() for value in net.state_dict().values())


# What is no file, or may not be read


def odd_files():
    """Names by what they are."""
    Path("folder.png").mkdir()
    Path("dangling.png").symlink_to("nowhere.png")
    Path("loop.png").symlink_to("loop.png")
    Path("device.png").symlink_to("/dev/zero")
    os.mkfifo("fifo.png")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind("socket.png")
    bound.close()
    return {
        "folder.png": "no .png, .jpg or .jpeg file in there",
        "dangling.png": "no such file",
        "loop.png": "no such file",
        "device.png": "is not a regular file",
        "fifo.png": "is not a regular file",
        "socket.png": "is not a regular file",
        f"{'n' * 300}.png": "File name too long",
        "a.png/b.png": "no such file",
    }


def test_what_is_no_file(model):
    Path("a.png").write_bytes(picture())
    for name, says in odd_files().items():
        refused("stylize", model, name, "-o", "out", code=66, says=f"{name}: {says}")
    Path("run.json").write_text(json.dumps(RUN | {"images": {**IMAGES, "heldout": ["loop.png"]}}))
    refused("train", "run.json", "m.safetensors", code=66, says="loop.png: no such file")
    # In a folder they are passed over.
    Path("in").mkdir()
    for name in ("fifo.png", "dangling.png", "device.png", "a.png"):
        Path(name).rename(Path("in") / name)
    ended = texnet("stylize", model, "in", "-o", "out")
    assert (ended.code, ended.out) == (0, "out/a.png\n")


def test_files_that_may_not_be_read(model):
    """The picture is not damaged, and the line does not say so."""
    Path("secret.png").write_bytes(picture())
    Path("run.json").write_text(json.dumps(RUN | {"images": {**IMAGES, "style": "secret.png"}}))
    Path("secret.png").chmod(0)
    says = "secret.png: cannot be read (Permission denied)"
    refused("stylize", model, "secret.png", "-o", "out", code=66, says=says, unprivileged=True)
    refused("train", "run.json", "m.safetensors", code=66, says=says, unprivileged=True)
    Path("run.json").chmod(0)
    says = "run.json: cannot be read (Permission denied)"
    refused("train", "run.json", "m.safetensors", code=66, says=says, unprivileged=True)
    assert sorted(os.listdir()) == ["net.safetensors", "run.json", "secret.png"]


def test_smallest_image_is_stylized_at_its_size(model):
    """The documented least side, and one pixel less."""
    Path("16.png").write_bytes(picture(smooth(16, 16)))
    Path("15.png").write_bytes(picture(smooth(15, 400)))
    ended = texnet("stylize", model, "16.png", "-o", "out")
    assert ended.code == 0 and data.read_image(Path("out/16.png")).shape == (3, 16, 16)
    says = "400x15 pixels, at least 16x16 needed"
    refused("stylize", model, "15.png", "-o", "out", code=65, says=says)
