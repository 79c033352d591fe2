"""Unpacking images from archives: by name, regular files alone, no more than was expected."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO

from texnet.errors import DataError, WriteError
from texnet.registry import inside

SUFFIXES = (".jpg", ".jpeg", ".png")
LARGEST_IMAGE = 64 * 2**20
EXPANSION = 4
"""Images hardly compress: an archive that grows by more than this is a bomb."""
BLOCK = 2**20

# RuntimeError: an encrypted member. OSError without a number: of gzip or bzip2.
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError,
           RuntimeError, ValueError)  # fmt: skip

Member = tuple[str, bool, IO[bytes] | None]


def unpack(archive: Path, folder: Path) -> dict[str, str]:
    """Unpack the images of an archive (zip or tar) below ``folder``, all of them or none.

    Returns:
        SHA-256 of each image by its path below ``folder``; the archive's folders are kept, without
        a first one that all share.

    Raises:
        DataError: the archive is damaged; a member is absolute, leaves the folder, is a link or a
            device, comes twice, or is larger than an image should be; or there is no image.
        WriteError: the disk is full.
    """
    part = folder.parent / f".{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)  # what a killed process left
    found: dict[str, str] = {}
    room = EXPANSION * archive.stat().st_size + LARGEST_IMAGE
    try:
        with ExitStack() as stack:
            for name, regular, stream in _members(archive, stack):
                if regular and name == ".":
                    continue
                if not regular or not inside(name):
                    raise DataError(
                        f"{archive}: member {name!r} is a link, a device or outside of its folder; "
                        "get the archive from its source"
                    )
                path = PurePosixPath(name)
                name = str(path)  # without a "./" before it
                if stream is None or path.suffix.lower() not in SUFFIXES:
                    continue
                if any(step.startswith((".", "__MACOSX")) for step in path.parts):
                    continue
                found[name], size = _copy(stream, part / name, min(room, LARGEST_IMAGE), archive)
                room -= size
        if not found:
            raise DataError(f"{archive}: holds no .jpg or .png image")
        shutil.rmtree(folder, ignore_errors=True)
        first = {PurePosixPath(name).parts[0] for name in found}
        shared = len(first) == 1 and all("/" in name for name in found)
        (part / first.pop() if shared else part).rename(folder)
    except (OSError, *DAMAGED) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise WriteError(
                f"{folder}: cannot be written ({error.strerror}); free some space and fetch again"
            ) from error
        reason = str(error).partition(":\n")[0]
        raise DataError(f"{archive}: damaged archive ({reason}); get it again") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {name.partition("/")[2] if shared else name: digest for name, digest in found.items()}


def _members(archive: Path, stack: ExitStack) -> Iterator[Member]:
    """(name, whether a regular file or folder, its content) of each member."""
    if archive.suffix == ".zip":
        opened = stack.enter_context(zipfile.ZipFile(archive))
        for info in opened.infolist():
            kind = (info.external_attr >> 28) & 0xF  # of the Unix mode: 8 file, 4 folder, 0 unknown
            regular = kind in (0, 4, 8)
            if info.is_dir() or not regular:
                yield info.filename.rstrip("/"), regular, None
                continue
            with opened.open(info) as stream:
                yield info.filename, True, stream
        return
    tar = stack.enter_context(tarfile.open(archive))
    for member in tar:
        regular = member.isreg() or member.isdir()
        yield member.name, regular, tar.extractfile(member) if member.isreg() else None
    # Where a header is damaged or missing, tarfile stops as it does at the end.
    rest = tar.fileobj
    assert rest is not None  # tarfile.open has made one
    rest.seek(tar.offset)
    if rest.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end of the archive")
    while rest.read(BLOCK):  # gzip's checksum comes last
        pass


def _copy(stream: IO[bytes], target: Path, most: int, archive: Path) -> tuple[str, int]:
    """SHA-256 and size of what was written, whatever the archive says of its size."""
    total, size = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        opened = target.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{archive}: member {target.name!r} comes twice; get it again") from error
    with opened as out:
        while block := stream.read(BLOCK):
            size += len(block)
            if size > most:
                raise DataError(
                    f"{archive}: its images are larger than {most} bytes in {target.name!r}; "
                    "this is no archive of photographs"
                )
            total.update(block)
            out.write(block)
    return total.hexdigest(), size
