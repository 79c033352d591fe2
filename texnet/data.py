"""Images: reading, writing and cropping them; photographs that come with the dependencies.

An image is a float32 tensor (3, H, W), RGB in [0, 1]; a batch has a leading B.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from texnet.artifacts import check_file, read_tensors, write_bytes, write_tensors
from texnet.errors import DataError, MissingError, UsageError, WriteError
from texnet.registry import DRAWN, PHOTOS, cache, registered
from texnet.registry import image as registered_image
from texnet.sources import digest

FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 64_000_000
MIN_SIDE = 16
EXEMPLAR_SIZE = 512
MIN_EXEMPLAR = 32
# Of EXIF's orientations. Pillow's exif_transpose also writes the EXIF data anew, which fails where
# they hold an odd tag, though the picture is whole.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FIXED_CROPS = 2**61  # keeps the key of crops that are drawn once apart from those of iterations


def read_image(path: Path) -> Tensor:
    """A PNG or JPEG file as a tensor (3, H, W), float32 RGB in [0, 1].

    The EXIF rotation is applied. Grey, palette and CMYK pictures become RGB, 16-bit samples are
    scaled (not clipped), and transparency is composited on white. Of a JPEG with several pictures
    (MPO: depth maps and HDR gain maps of telephones) the first is taken.

    Raises:
        MissingError: no such file, or one that may not be read.
        DataError: not a PNG or JPEG, damaged, animated, over 64 megapixels, or a side under 16.
    """
    path = check_file(path, "an image (PNG or JPEG)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of damaged EXIF data: the picture is whole
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise DataError(
                        f"{path}: {width}x{height} pixels, at most {MAX_PIXELS} are read; shrink it"
                    )
                if min(width, height) < MIN_SIDE:
                    raise DataError(
                        f"{path}: {width}x{height} pixels, at least {MIN_SIDE}x{MIN_SIDE} needed"
                    )
                if picture.format != "MPO" and (frames := getattr(picture, "n_frames", 1)) > 1:
                    raise DataError(f"{path}: {frames} frames; extract one as PNG")
                picture.load()
                pixels = _rgb(_upright(picture))
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path}: not a PNG or JPEG image ({path.stat().st_size} bytes); convert or restore it"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: {error}; shrink it") from error
    except Exception as error:  # Pillow raises half a dozen types for a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            reason = f"cannot be read ({error.strerror})"
            raise MissingError(f"{path}: {reason}; make it readable or name another") from error
        raise DataError(f"{path}: damaged image ({error}); restore it") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _upright(picture: Image.Image) -> Image.Image:
    """The picture as its EXIF orientation wants it shown."""
    try:
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data, of as many types: the picture is whole
        return picture
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image) -> np.ndarray:
    """Pixels (H, W, 3) as float32 in [0, 1]."""
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip at 255
        grey = np.asarray(picture, dtype=np.float32) / 65535
        if "transparency" in picture.info:
            grey[np.asarray(picture) == picture.info["transparency"]] = 1
        return np.repeat(grey[..., None], 3, axis=2)
    if "transparency" in picture.info or picture.mode in ("LA", "PA", "RGBA"):
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255


def write_image(path: Path, image: Tensor) -> None:
    """Write a tensor (3, H, W) as an 8-bit PNG, values clamped to [0, 1], atomically."""
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().byte()
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, format="PNG")
    write_bytes(Path(path), buffer.getvalue())


def write_image_grid(path: Path, images: Tensor, columns: int = 4) -> None:
    """Write images (B, 3, H, W), clamped to [0, 1], side by side as one PNG."""
    from skimage.util import montage

    pixels = images.detach().cpu().clamp(0, 1).permute(0, 2, 3, 1).numpy()
    columns = min(columns, len(pixels))
    grid = montage(
        pixels,
        fill=(1, 1, 1),
        grid_shape=(-(-len(pixels) // columns), columns),
        padding_width=2,
        channel_axis=-1,
    )
    write_image(path, torch.from_numpy(grid).permute(2, 0, 1))


def photo(name: str) -> Tensor:
    """One of ``registry.PHOTOS``; they lie inside installed packages."""
    package, _, inside = PHOTOS[name].partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(f"photograph '{name}' comes with the package {package}: install it")
    return read_image(Path(spec.submodule_search_locations[0]) / inside)


@functools.lru_cache(maxsize=8)
def drawn(name: str, size: int) -> Tensor:
    """An exemplar of the project, (3, size, size); the smallest has 32 pixels.

    Drawing one takes up to a second, and nearly every process needs one: it is kept in the cache,
    with what drew it.
    """
    size = max(size, MIN_EXEMPLAR)
    kept = cache() / "drawn" / f"{name}_{size}.safetensors"
    by = {"exemplar": name, "code": digest("exemplars")}
    by |= {package: version(package) for package in ("numpy", "scipy", "scikit-image")}
    with suppress(DataError, KeyError, MissingError):  # not yet, or damaged
        tensors, metadata = read_tensors(kept)
        if metadata == by and tensors["image"].shape == (3, size, size):
            return tensors["image"]
    from texnet.exemplars import draw

    image = torch.from_numpy(draw(name, size=size)).permute(2, 0, 1).contiguous()
    with suppress(WriteError):  # a cache that cannot be written is none
        write_tensors(kept, {"image": image}, by)
    return image


def load_image(source: str, size: int = EXEMPLAR_SIZE) -> Tensor:
    """An image by the name of a photograph, of an exemplar (drawn at ``size`` pixels) or of the
    registry, or by path.
    """
    if source in PHOTOS:
        return photo(source)
    if source in DRAWN:
        return drawn(source, size).clone()
    if source in registered():
        return read_image(registered_image(source))
    if Path(source).suffix or "/" in source or Path(source).exists():
        return read_image(Path(source))
    raise UsageError(
        f"unknown image '{source}'; use a file, a photograph ({', '.join(PHOTOS)}), "
        f"an exemplar ({', '.join(DRAWN)}) or a name that texnet fetch --list shows"
    )


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample (..., 3, H, W) to (height, width), bilinear with antialiasing, values kept."""
    batch = image if image.ndim == 4 else image[None]
    scaled = F.interpolate(batch, size, mode="bilinear", antialias=True, align_corners=False)
    return scaled if image.ndim == 4 else scaled[0]


def style_image(source: str, size: int) -> Tensor:
    """A style exemplar whose longer side is ``size`` pixels."""
    return fit(load_image(source, size), size)


def square(image: Tensor, side: int) -> Tensor:
    """The central square of an image (3, H, W), resampled to (3, side, side)."""
    height, width = image.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return resize(image[:, top : top + short, left : left + short], (side, side))


def fit(image: Tensor, long_side: int) -> Tensor:
    """The whole image (3, H, W) resampled so that its longer side is ``long_side``."""
    height, width = image.shape[-2:]
    scale = long_side / max(height, width)
    return resize(image, (max(1, round(height * scale)), max(1, round(width * scale))))


class ContentCrops:
    """Random square crops of content images, as a function of (seed, iteration).

    Batch ``i`` is drawn from a counter-based generator keyed by ``(seed, i)``: it depends on
    nothing that happened before, so a resumed run, and a run with another generator, see the same
    data in the same order. A crop takes a random ``scale`` of an image's shorter side (uniform in
    [scale, 1]), at a random place, mirrored with probability 1/2, and is resampled to ``size``.
    The authors crop at a fixed size from resized images (master, ``datasets/style.lua``); with few
    images the random scale stands in for a large content set.

    Args:
        images: tensors (3, H, W), which may be made when they are asked for.
        size: side of a crop, in pixels.
        batch: crops in a batch.
        seed: key of the generator.
        scale: smallest crop, as a fraction of the image's shorter side.
        crops: how many different crops there are, drawn with replacement; None for no limit.
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        size: int,
        batch: int,
        seed: int,
        scale: float = 0.5,
        crops: int | None = None,
    ) -> None:
        if not images:
            raise UsageError("no content images were given; name at least one in images.contents")
        self.images, self.size, self.batch = images, size, batch
        self.seed, self.scale = seed, scale
        rng = np.random.Generator(np.random.Philox(key=[seed, FIXED_CROPS]))
        self.fixed = [self._crop(rng) for _ in range(crops or 0)]

    def __call__(self, iteration: int) -> Tensor:
        """Batch number ``iteration``: (batch, 3, size, size)."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, iteration]))
        if self.fixed:
            return torch.stack(
                [self.fixed[i] for i in rng.integers(len(self.fixed), size=self.batch)]
            )
        return torch.stack([self._crop(rng) for _ in range(self.batch)])

    def _crop(self, rng: np.random.Generator) -> Tensor:
        image = self.images[int(rng.integers(len(self.images)))]
        height, width = image.shape[-2:]
        side = max(MIN_SIDE, round(min(height, width) * rng.uniform(self.scale, 1)))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop = image[:, top : top + side, left : left + side]
        if rng.random() < 0.5:
            crop = crop.flip(-1)
        return resize(crop, (self.size, self.size))


def images_under(folders: Iterable[Path]) -> list[Path]:
    """All PNG and JPEG files below some folders, sorted by path; hidden ones are passed over."""
    files, folders = [], [Path(folder) for folder in folders]
    for folder in folders:
        if not folder.is_dir():
            raise MissingError(f"{folder}: no such folder of images")
        files += [
            path
            for path in folder.rglob("[!.]*")
            if path.suffix.lower() in (".png", ".jpg", ".jpeg") and path.is_file()
        ]
    if not files:
        raise MissingError(f"{', '.join(map(str, folders))}: no .png, .jpg or .jpeg file in there")
    return sorted(files)
