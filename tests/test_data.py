"""Images: every kind of PNG and JPEG is read right or refused in one line; crops are pure."""

import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from texnet import data, exemplars
from texnet.data import ContentCrops
from texnet.errors import DataError, MissingError, TexnetError, UsageError, WriteError

HEIGHT, WIDTH = 24, 36
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def picture(pixels=PIXELS, **options):
    """Bytes of a picture in a format."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def smooth(height=HEIGHT, width=WIDTH):
    """Gradients that survive JPEG: red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 64)], axis=-1
    ).astype(np.uint8)


def png(width, height, depth, colour, rows=b"", extra=b""):
    """A PNG by hand, for headers that lie and for what Pillow cannot write."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header)]
    if extra:
        parts.append(chunk(b"tRNS", extra))
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def lossy(**options):
    return picture(smooth(), format="JPEG", quality=95, **options)


def animated(format):
    frame = Image.fromarray(smooth())
    return picture(smooth(), format=format, save_all=True, append_images=[frame.rotate(180)])


def read(folder, content, name="image.png"):
    path = folder / name
    path.write_bytes(content)
    image = data.read_image(path)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    return image.permute(1, 2, 0).numpy()


REFUSED = {
    "empty": ("image.png", b"", r"\(0 bytes\)"),
    "text": ("image.jpg", b"not an image", r"not a PNG or JPEG image \(12 bytes\)"),
    "truncated_png": ("image.png", picture()[:1500], "damaged"),
    "truncated_jpeg": ("image.jpg", lossy()[: len(lossy()) // 2], "damaged"),
    "header_only": ("image.png", picture()[:40], "PNG or JPEG"),
    "flipped_byte": ("image.png", picture()[:90] + b"\xa5" + picture()[91:], "damaged"),
    "1x1": ("image.png", picture(PIXELS[:1, :1]), "1x1 pixels, at least 16x16"),
    "1x5000": ("image.png", png(1, 5000, 8, 2, b"\0\1\2\3" * 5000), "1x5000 pixels, at least"),
    "bomb": ("image.png", png(60000, 60000, 8, 2), "3600000000 pixels.*shrink"),
    "large": ("image.png", png(9000, 9000, 8, 2), "9000x9000 pixels, at most 64000000.*shrink"),
    "zero": ("image.png", png(0, 0, 8, 2), "PNG or JPEG"),
    "animated_png": ("image.png", animated("PNG"), "2 frames; extract one"),
    "animated_gif": ("image.gif", animated("GIF"), "PNG or JPEG"),
    "gif_named_png": ("image.png", picture(format="GIF"), "PNG or JPEG"),
    "webp": ("image.jpg", picture(format="WEBP"), "PNG or JPEG"),
}


@pytest.mark.parametrize(("name", "content", "text"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_usable_image_is_refused(tmp_path, name, content, text):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=text) as caught:
        data.read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("none.png", "no such file"), ("folder", "is a directory"), ("n" * 300, "too long")],
)
def test_missing_image(tmp_path, name, text):
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingError, match=text) as caught:
        data.read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_pipe_is_no_image_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(MissingError, match="not a regular file"):
        data.read_image(tmp_path / "pipe.png")


def test_damaged_bytes_never_escape_as_another_error(tmp_path):
    rng = random.Random(0)
    exif = Image.Exif()
    exif[0x112] = 6
    originals = [picture(), picture(exif=exif), lossy(exif=exif), lossy()]
    refused = 0
    for trial in range(200):
        content = bytearray(originals[trial % 4])
        for _ in range(rng.choice((1, 4, 16))):
            content[rng.randrange(min(len(content), 200))] = rng.randrange(256)
        try:
            image = read(tmp_path, bytes(content))
        except TexnetError:
            refused += 1
        else:
            assert np.isfinite(image).all()
    assert refused > 50


def test_rgb_is_exact(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, picture()), PIXELS.astype(np.float32) / 255)


def test_the_content_counts_not_the_extension(tmp_path):
    image = read(tmp_path, picture(), name="image.jpg")
    np.testing.assert_array_equal(image, PIXELS.astype(np.float32) / 255)
    assert np.abs(read(tmp_path, lossy(), name="image.png") - smooth() / 255).mean() < 0.02


def test_grey_and_bilevel(tmp_path):
    grey = PIXELS[..., 0]
    expected = np.repeat(grey[..., None] / np.float32(255), 3, axis=2)
    np.testing.assert_array_equal(read(tmp_path, picture(grey)), expected)
    image = read(tmp_path, picture(grey > 99))
    np.testing.assert_array_equal(image, np.repeat((grey > 99)[..., None], 3, axis=2))


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    image = read(tmp_path, picture(ramp))
    assert abs(image.mean() - 0.5) < 1e-3
    np.testing.assert_allclose(image[..., 1], ramp / 65535, atol=1e-6)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in ramp)
    see_through = read(tmp_path, png(64, 64, 16, 0, rows, extra=struct.pack(">H", 0)))
    assert see_through[0, 0, 0] == 1
    np.testing.assert_array_equal(see_through[1:], image[1:])


def test_16_bit_colour(tmp_path):
    wide = np.random.default_rng(1).integers(0, 65536, (32, 32, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    image = read(tmp_path, png(32, 32, 16, 2, rows))
    np.testing.assert_allclose(image, wide / 65535, atol=1 / 255)


def test_palette(tmp_path):
    indices = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 3
    palette = np.array([[250, 10, 20], [0, 200, 40], [30, 60, 255]], dtype=np.uint8)
    image = Image.fromarray(indices, mode="L")
    image.putpalette(palette.tobytes())
    colours = palette.astype(np.float32) / 255
    np.testing.assert_array_equal(read(tmp_path, picture(image)), colours[indices])

    one_clear = read(tmp_path, picture(image, transparency=1))
    colours[1] = 1
    np.testing.assert_array_equal(one_clear, colours[indices])

    half_clear = read(tmp_path, picture(image, transparency=bytes([255, 0, 128])))
    colours[2] = (palette[2] / 255 * 128 + 127) / 255
    np.testing.assert_allclose(half_clear, colours[indices], atol=1 / 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(tmp_path, mode):
    channels = len(mode)
    pixels = np.random.default_rng(2).integers(0, 256, (32, 32, channels), dtype=np.uint8)
    image = read(tmp_path, picture(pixels))
    alpha = pixels[..., -1:] / 255
    expected = pixels[..., :-1] / 255 * alpha + 1 - alpha
    np.testing.assert_allclose(image, np.broadcast_to(expected, image.shape), atol=1.1 / 255)


def test_transparent_colour(tmp_path):
    pixels = smooth()
    image = read(tmp_path, picture(pixels, transparency=tuple(pixels[3, 5].tolist())))
    assert (image[3, 5] == 1).all()
    np.testing.assert_array_equal(image[0, 0], pixels[0, 0].astype(np.float32) / 255)


def test_cmyk_jpeg(tmp_path):
    content = picture(Image.fromarray(smooth()).convert("CMYK"), format="JPEG", quality=95)
    assert np.abs(read(tmp_path, content) - smooth() / 255).mean() < 0.03


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_rotation_is_applied(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x112] = orientation
    image = read(tmp_path, lossy(exif=exif))
    expected = turn(smooth()) / 255
    assert image.shape == expected.shape
    assert np.abs(image - expected).mean() < 0.02


def test_damaged_exif_is_no_obstacle(tmp_path):
    segment = b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff"
    content = lossy()[:2] + segment + lossy()[2:]
    np.testing.assert_array_equal(read(tmp_path, content), read(tmp_path, lossy()))


def test_first_picture_of_a_telephones_jpeg(tmp_path):
    image = read(tmp_path, animated("MPO"), name="IMG_1.jpg")
    assert np.abs(image - smooth() / 255).mean() < 0.05


@pytest.mark.parametrize("name", sorted(data.PHOTOS))
def test_photographs_load(name):
    package, _, inside = data.PHOTOS[name].partition("/")
    import importlib.util

    folder = importlib.util.find_spec(package).submodule_search_locations[0]
    with Image.open(Path(folder) / inside) as image:
        width, height = image.size
    photo = data.photo(name)
    assert photo.shape == (3, height, width)
    assert 0 <= photo.min() < photo.max() <= 1
    assert 0.02 < photo.mean() < 0.98


def test_unknown_image_lists_the_known_ones():
    with pytest.raises(UsageError, match="'chelsae'") as caught:
        data.load_image("chelsae")
    assert all(name in str(caught.value) for name in [*data.PHOTOS, *data.DRAWN])


def test_load_image_by_exemplar_and_by_file(tmp_path):
    assert data.load_image("scales", 40).shape == (3, 40, 40)
    assert data.style_image("scales", 16).shape == (3, 16, 16)
    (tmp_path / "mine.png").write_bytes(picture())
    assert data.load_image(str(tmp_path / "mine.png")).shape == (3, HEIGHT, WIDTH)
    with pytest.raises(MissingError, match="no such file"):
        data.load_image(str(tmp_path / "other.png"))
    with pytest.raises(MissingError, match="is a directory"):
        data.load_image(str(tmp_path))


def test_write_image_round_trip_is_exact(tmp_path):
    values = torch.arange(256).view(1, 16, 16) / 255
    image = torch.cat([values, values.flip(1), values.mT])
    data.write_image(tmp_path / "a" / "b.png", image)
    assert torch.equal(data.read_image(tmp_path / "a" / "b.png"), image)


def test_write_image_clamps_and_rounds(tmp_path):
    image = torch.full((3, 16, 16), 0.5)
    image[0], image[1] = -3, 7
    data.write_image(tmp_path / "a.png", image)
    assert data.read_image(tmp_path / "a.png")[:, 0, 0].mul(255).tolist() == [0, 255, 128]


def test_a_failed_write_keeps_the_old_picture(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.png"
    data.write_image(path, torch.zeros(3, 16, 16))
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        data.write_image(path, torch.ones(3, 16, 16))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def test_grid(tmp_path):
    data.write_image_grid(tmp_path / "grid.png", torch.rand(5, 3, 20, 20), columns=4)
    assert data.read_image(tmp_path / "grid.png").shape == (3, 2 * 22 + 2, 4 * 22 + 2)


def test_resize_fit_and_square():
    image = torch.rand(3, 40, 90)
    assert data.resize(image, (20, 30)).shape == (3, 20, 30)
    assert data.resize(image[None], (20, 30)).shape == (1, 3, 20, 30)
    assert data.fit(image, 45).shape == (3, 20, 45)
    assert data.fit(image.mT, 45).shape == (3, 45, 20)
    assert data.fit(torch.rand(3, 16, 5000), 64).shape == (3, 1, 64)
    assert torch.equal(data.square(image, 40), image[:, :, 25:65])
    assert torch.equal(data.square(image.mT, 40), image[:, :, 25:65].mT)
    assert data.square(image, 17).shape == (3, 17, 17)
    flat = torch.full((3, 40, 90), 0.25)
    assert data.resize(flat, (13, 200)).sub(0.25).abs().max() < 1e-6


@pytest.fixture(scope="module")
def contents():
    rng = torch.Generator().manual_seed(0)
    return [torch.rand(3, 40, 60, generator=rng) * 0.5 + 0.2, torch.rand(3, 70, 50, generator=rng)]


def crops(contents, seed=3, **options):
    return ContentCrops(contents, **{"size": 16, "batch": 4, "seed": seed, **options})


def test_crops_are_a_function_of_seed_and_iteration(contents):
    np.random.seed(1)
    torch.manual_seed(1)
    first = [crops(contents)(i) for i in range(4)]
    np.random.seed(2)
    torch.manual_seed(2)
    states = np.random.get_state()[1].tobytes(), torch.get_rng_state()
    same = crops(contents)
    for i in (2, 0, 3, 1):
        assert torch.equal(same(i), first[i])
    assert np.random.get_state()[1].tobytes() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    for i in range(3):
        assert not torch.equal(first[i], first[i + 1])
        assert not torch.equal(crops(contents, seed=4)(i), first[i])
    assert not torch.equal(first[0][0], first[0][1])


def distinct(draw, iterations):
    """The different crops among the batches of some iterations."""
    return {crop.numpy().tobytes() for i in iterations for crop in draw(i)}


def test_a_fixed_number_of_crops(contents):
    """Over many iterations each of them occurs, and no other."""
    assert len(distinct(crops(contents, crops=7), range(60))) == 7
    assert len(distinct(crops(contents, crops=1), range(5))) == 1
    assert len(distinct(crops(contents, crops=None), range(60))) > 0.95 * 60 * 4
    assert distinct(crops(contents, crops=7), range(60)) == distinct(
        crops(contents, crops=7), range(100, 200)
    )


def test_fixed_crops_come_from_the_seed_alone(contents):
    first = distinct(crops(contents, crops=7), range(60))
    assert distinct(crops(contents, crops=7, batch=1), range(200)) == first
    assert distinct(crops(contents, crops=5, batch=3), range(60)) < first  # the first five
    assert not distinct(crops(contents, crops=7, seed=4), range(60)) & first
    assert not distinct(crops(contents, crops=None), range(60)) & first


def test_fixed_crops_are_drawn_as_a_function_of_the_iteration(contents):
    whole = crops(contents, crops=7)
    batches = [whole(i) for i in range(6)]
    for i in (5, 0, 3):
        assert torch.equal(crops(contents, crops=7)(i), batches[i])
    assert any(not torch.equal(batch, batches[0]) for batch in batches[1:])
    assert batches[0].shape == (4, 3, 16, 16)


def test_crops_stay_in_the_range_of_their_images(contents):
    for i in range(8):
        batch = crops(contents[:1])(i)
        assert batch.shape == (4, 3, 16, 16)
        assert batch.min() >= contents[0].min() - 1e-6
        assert batch.max() <= contents[0].max() + 1e-6


def test_crops_of_a_constant_image_are_constant():
    flat = torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1).expand(3, 33, 47)
    batch = crops([flat], batch=32)(0)
    assert (batch - flat[:, :1, :1]).abs().max() < 1e-6


def test_half_of_the_crops_are_mirrored_and_every_image_is_used():
    ramp = torch.linspace(0, 0.4, 60).expand(3, 40, 60)
    batch = crops([ramp, ramp + 0.6], batch=400)(0)
    mirrored = (batch[:, 0, 0, 0] > batch[:, 0, 0, -1]).float().mean()
    second = (batch.mean((1, 2, 3)) > 0.5).float().mean()
    assert 0.4 < mirrored < 0.6
    assert 0.4 < second < 0.6


def test_crop_sizes_follow_scale():
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    spans = np.ptp(crops([ramp], batch=300, scale=0.5)(0).numpy()[:, 0, 0], axis=1)
    assert 0.45 < spans.min() < 0.55
    assert 0.9 < spans.max() <= 1
    whole = data.resize(ramp, (16, 16))
    for crop in crops([ramp], batch=8, scale=1.0)(0):
        assert torch.allclose(crop, whole) or torch.allclose(crop.flip(-1), whole)


def test_smallest_image_can_be_cropped():
    assert crops([torch.rand(3, 16, 16)])(0).shape == (4, 3, 16, 16)


def test_no_content_images_are_refused():
    with pytest.raises(UsageError, match=r"images\.contents"):
        ContentCrops([], 16, 4, 0)


def test_images_under_folders(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.jpeg", "._a.jpg", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in data.images_under([tmp_path])]
    assert found == ["a.jpg", "b.PNG", "sub/c.jpeg"]
    with pytest.raises(MissingError, match=r"folder.png: no \.png"):
        data.images_under([tmp_path / "folder.png"])
    with pytest.raises(MissingError, match="no such folder"):
        data.images_under([tmp_path / "a.jpg"])


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """An empty cache; counts how often an exemplar is drawn."""
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path / "cache"))
    data.drawn.cache_clear()
    times, original = [], exemplars.draw
    monkeypatch.setattr(exemplars, "draw", lambda *a, **k: times.append(a) or original(*a, **k))
    yield tmp_path / "cache", times
    data.drawn.cache_clear()


def test_an_exemplar_is_drawn_once_for_all_processes(cached):
    folder, times = cached
    first = data.load_image("scales", 48)
    data.drawn.cache_clear()  # as another process has it
    assert torch.equal(data.load_image("scales", 48), first)
    assert len(times) == 1 and first.shape == (3, 48, 48)
    data.load_image("scales", 40)
    data.load_image("waves", 48)
    assert len(times) == 3 and len(list(folder.rglob("*.safetensors"))) == 3


@pytest.mark.parametrize(
    "damage", [lambda b: b[:100], lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:]]
)
def test_a_damaged_drawing_is_drawn_again(cached, damage):
    folder, times = cached
    first = data.load_image("scales", 48)
    (kept,) = folder.rglob("*.safetensors")
    kept.write_bytes(damage(kept.read_bytes()))
    data.drawn.cache_clear()
    assert torch.equal(data.load_image("scales", 48), first)
    assert len(times) == 2
    data.drawn.cache_clear()
    data.load_image("scales", 48)
    assert len(times) == 2, "the damaged file was not replaced"


def test_a_cache_that_cannot_be_written_is_none(cached):
    folder, times = cached
    folder.write_text("a file")
    assert data.load_image("scales", 48).shape == (3, 48, 48)
    assert len(times) == 1


def test_drawings_of_other_code_are_not_taken(cached, monkeypatch):
    _, times = cached
    data.load_image("scales", 48)
    data.drawn.cache_clear()
    monkeypatch.setattr(data, "digest", lambda module: "0" * 12)
    data.load_image("scales", 48)
    assert len(times) == 2
