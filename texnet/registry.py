"""What is fetched from elsewhere: ``data/registry.csv``, the cache, manifests of what is there.

A *name*, such as ``vgg19``, ``starry_night`` or ``bsds500_train``, stands for one or more files.
When all of them are in the cache and verified, ``NAME.sha256`` lists them there, as ``sha256sum``
writes it; everything that reads fetched files reads them through that manifest.
"""

from __future__ import annotations

import csv
import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from texnet.artifacts import check_file, sha256
from texnet.errors import DataError, MissingError, UsageError

REGISTRY = Path(__file__).resolve().parents[1] / "data" / "registry.csv"
COLUMNS = ("file", "urls", "sha256", "bytes", "licence", "source", "for")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
MANIFEST = ".sha256"


@dataclass(frozen=True)
class Entry:
    """One row of the registry."""

    file: str
    """Path below the cache, and below every mirror."""
    urls: tuple[str, ...]
    """Public addresses, tried in order; none for files that only mirrors have."""
    sha256: str
    bytes: int
    licence: str
    source: str
    name: str
    """What it is asked for by."""

    @property
    def archive(self) -> bool:
        """Whether what counts is inside."""
        return self.file.endswith(ARCHIVES)


def read_registry(path: Path = REGISTRY) -> dict[str, list[Entry]]:
    """The registry's entries by name.

    Raises:
        DataError: a column is missing, or a row holds an unsafe path, no checksum or no size.
    """
    found: dict[str, list[Entry]] = {}
    with check_file(path, "the registry of data files").open(newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(f"{path}: its columns are not {', '.join(COLUMNS)}; restore it")
        for row in reader:
            where, file = f"{path} line {reader.line_num}", row["file"]
            if not inside(file):
                raise DataError(f"{where}: '{file}' is no path below the cache; correct it")
            if not re.fullmatch("[0-9a-f]{64}", row["sha256"] or ""):
                raise DataError(f"{where}: '{row['sha256']}' is no SHA-256; correct it")
            if not (row["bytes"] or "").isdigit():
                raise DataError(f"{where}: '{row['bytes']}' is no size in bytes; correct it")
            entry = Entry(
                file=file,
                urls=tuple(row["urls"].split()),
                sha256=row["sha256"],
                bytes=int(row["bytes"]),
                licence=row["licence"],
                source=row["source"],
                name=row["for"],
            )
            found.setdefault(entry.name, []).append(entry)
    return found


def inside(file: str) -> bool:
    """Whether a relative path stays below the folder that it is joined to."""
    parts = PurePosixPath(file).parts
    return bool(parts) and not file.startswith("/") and ".." not in parts and "\\" not in file


@functools.cache
def registered() -> Mapping[str, list[Entry]]:
    """The project's registry, without what is in the repository."""
    return {name: entries for name, entries in read_registry().items() if name != "vgg19_lite"}


def entries_of(name: str) -> list[Entry]:
    """The entries of a name; UsageError for a name that is not in the registry."""
    if name not in registered():
        known = ", ".join(registered())
        raise UsageError(f"'{name}' is not in data/registry.csv; use one of {known}")
    return registered()[name]


def cache() -> Path:
    """Where fetched files lie: the environment variable ``TEXNET_CACHE``, or ``resources``."""
    return Path(os.environ.get("TEXNET_CACHE") or "resources")


def manifest(name: str) -> Path:
    """The list of a name's files, which is there when they are."""
    return cache() / f"{name}{MANIFEST}"


def read_manifest(path: Path) -> dict[Path, str]:
    """Files of a manifest with their SHA-256.

    Raises:
        MissingError: there is no manifest.
        DataError: a line is not ``SHA-256  path``.
    """
    path = Path(path)
    if not path.is_file():
        name = path.name.removesuffix(MANIFEST)
        raise MissingError(f"{path}: no such file; texnet fetch {name} makes it")
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        digest, _, file = line.partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", digest) or not inside(file):
            raise DataError(f"{path} line {number}: is not 'SHA-256  path'; fetch it again")
        found[path.parent / file] = digest
    return found


def verified(path: Path, digest: str) -> Path:
    """``path`` itself; MissingError or DataError where it is not what was fetched."""
    found = sha256(check_file(path, "a fetched file (texnet fetch makes it)"))
    if found != digest:
        raise DataError(f"{path}: sha256 is {found}, wanted {digest}; delete it and fetch it again")
    return path


def image(name: str) -> Path:
    """The one file of a name, verified; UsageError where the name is a set of images."""
    files = read_manifest(manifest(name))
    if len(files) != 1:
        raise UsageError(f"'{name}' is a set of {len(files)} images; name it in images.contents")
    ((path, digest),) = files.items()
    return verified(path, digest)
