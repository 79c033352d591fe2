"""Content images by the hundred thousand: read when they are drawn, kept while there is room."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from texnet.data import fit, images_under, load_image, read_image
from texnet.errors import MissingError
from texnet.registry import DRAWN, PHOTOS, manifest, read_manifest, registered, verified

ROOM = 2**30
"""Bytes of decoded images that are kept; those beyond are read anew each time."""


class Contents(Sequence[Tensor]):
    """The content images that some names stand for, each (3, H, W), RGB in [0, 1].

    Args:
        names: photographs, exemplars, files, names of the registry (images, and sets such as
            ``bsds500_train``) and folders, whose images are taken in the order of their paths.
        side: shorter side to which larger images are shrunk, in pixels; None shrinks none.
        room: bytes of decoded images that are kept.

    Attributes:
        identity: SHA-256 of what the images are: of single ones the pixels; of sets the checksums
            of their files; of folders the paths, sizes and times of change.
        files: where the images of sets and folders lie.

    Raises:
        MissingError: a set is not fetched, a file or folder is not there.
        DataError: when an image is asked for that is damaged, or another than was fetched.
    """

    def __init__(self, names: Iterable[str], side: int | None = None, room: int = ROOM) -> None:
        self.side, self.room, self.lock = side, room, threading.Lock()
        self.kept: dict[int, Tensor] = {}
        self.readers: list[Callable[[], Tensor]] = []
        self.files: set[Path] = set()
        made_of = hashlib.sha256()
        for name in names:
            if name in registered():
                files = read_manifest(manifest(name))
                made_of.update("".join(files.values()).encode())
                self.readers += [
                    functools.partial(_read_verified, path, digest)
                    for path, digest in files.items()
                ]
                self.files |= {path.resolve() for path in files}
            elif name not in (*PHOTOS, *DRAWN) and Path(name).is_dir():
                paths = images_under([Path(name)])
                for path in paths:
                    known = path.stat()
                    told = f"{path.relative_to(name)} {known.st_size} {known.st_mtime_ns}\n"
                    made_of.update(told.encode())
                self.readers += [functools.partial(read_image, path) for path in paths]
                self.files |= {path.resolve() for path in paths}
            else:
                image = load_image(name)
                made_of.update(image.numpy().tobytes())
                self.kept[len(self.readers)] = self._shrunk(image)
                self.readers.append(functools.partial(load_image, name))
        self.identity = made_of.hexdigest()
        if not self.readers:
            raise MissingError("no content image is named")

    def __len__(self) -> int:
        return len(self.readers)

    def __getitem__(self, number: int) -> Tensor:  # type: ignore[override]  # no slices
        with self.lock:
            kept = self.kept.get(number)
        if kept is not None:
            return kept.float() / 255 if kept.dtype == torch.uint8 else kept
        image = self._shrunk(self.readers[number]())
        # Photographs have 8 bits: a quarter of the room, and the same values.
        small = (image * 255).round().byte()
        small = small if torch.equal(small.float() / 255, image) else image
        with self.lock:
            if small.nbytes <= self.room and number not in self.kept:
                self.kept[number] = small
                self.room -= small.nbytes
        return image

    def _shrunk(self, image: Tensor) -> Tensor:
        """The image, with a shorter side of at most ``side`` pixels; in 8 bits again."""
        height, width = image.shape[-2:]
        if self.side is None or min(height, width) <= self.side:
            return image
        smaller = fit(image, round(self.side * max(height, width) / min(height, width)))
        return (smaller * 255).round() / 255


def _read_verified(path: Path, digest: str) -> Tensor:
    return read_image(verified(path, digest))
