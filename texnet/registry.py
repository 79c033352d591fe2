"""What is fetched from elsewhere: ``data/registry.csv``, the cache, manifests of what is there.

A *name*, such as ``vgg19``, ``starry_night`` or ``bsds500_train``, stands for one or more files.
When all of them are in the cache and verified, ``NAME.sha256`` lists them there, as ``sha256sum``
writes it; everything that reads fetched files reads them through that manifest.
"""

from __future__ import annotations

import csv
import difflib
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from texnet.artifacts import check_file, sha256
from texnet.errors import DataError, MissingError, UsageError

REGISTRY = Path(__file__).resolve().parents[1] / "data" / "registry.csv"
COLUMNS = ("file", "urls", "sha256", "bytes", "licence", "source", "for")
IMAGES = (".jpg", ".jpeg", ".png")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
MANIFEST = ".sha256"
LARGE = 2 * 10**9
"""Names with more bytes than this are fetched only when they are asked for by name."""

# Photographs installed with scikit-image and scikit-learn (licences: data/README.md).
_SKIMAGE, _SKLEARN = "skimage/data", "sklearn/datasets/images"
PHOTOS: Mapping[str, str] = {
    "astronaut": f"{_SKIMAGE}/astronaut.png",
    "brick": f"{_SKIMAGE}/brick.png",
    "chelsea": f"{_SKIMAGE}/chelsea.png",
    "china": f"{_SKLEARN}/china.jpg",
    "coffee": f"{_SKIMAGE}/coffee.png",
    "flower": f"{_SKLEARN}/flower.jpg",
    "grass": f"{_SKIMAGE}/grass.png",
    "gravel": f"{_SKIMAGE}/gravel.png",
    "hubble": f"{_SKIMAGE}/hubble_deep_field.jpg",
    "ihc": f"{_SKIMAGE}/ihc.png",
    "motorcycle": f"{_SKIMAGE}/motorcycle_left.png",
    "rocket": f"{_SKIMAGE}/rocket.jpg",
}
DRAWN = ("berries", "mosaic", "pebbles", "scales", "stained_glass", "swirls", "waves")
"""Exemplars that the project draws (:mod:`texnet.exemplars`)."""


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
        DataError: a column is missing, or a row holds an unsafe path, no checksum, size or name.
    """
    found: dict[str, list[Entry]] = {}
    with check_file(path, "the registry of data files").open(newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(f"{path}: its columns are not {', '.join(COLUMNS)}; restore it")
        for row in reader:
            where, file = f"{path} line {reader.line_num}", row["file"]
            if None in row or None in row.values():
                raise DataError(f"{where}: has not {len(COLUMNS)} columns; correct it")
            if not inside(file):
                raise DataError(f"{where}: file '{file}' is no path below the cache; correct it")
            if not re.fullmatch("[0-9a-f]{64}", row["sha256"]):
                raise DataError(f"{where}: sha256 '{row['sha256']}' is no SHA-256; correct it")
            if not re.fullmatch("[1-9][0-9]*", row["bytes"]):
                raise DataError(f"{where}: bytes '{row['bytes']}' is no size in bytes; correct it")
            if not re.fullmatch("[a-z][a-z0-9_]*", row["for"]):
                raise DataError(f"{where}: for '{row['for']}' is no lower-case name; correct it")
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
    """Whether a relative path stays below the folder that it is joined to, and fits in a line."""
    parts = PurePosixPath(file).parts
    if re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]", file):
        return False
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


def check_images(single: Iterable[str], contents: Iterable[str] = ()) -> None:
    """UsageError for a name that stands for no image, or for many where one is wanted.

    Files and folders are not looked for: paths have a suffix or a slash.
    """
    for name in [*single, *contents]:
        if name in (*PHOTOS, *DRAWN) or PurePosixPath(name).suffix or Path(name).exists():
            continue
        if name not in registered():
            known = (*PHOTOS, *DRAWN, *registered())
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "texnet fetch --list shows some"
            raise UsageError(f"images name '{name}', which is no image and no file; {hint}")
        if not registered()[name][0].file.endswith((*IMAGES, *ARCHIVES)):
            raise UsageError(f"images name '{name}', which is fetched, but is no image")
        several = len(registered()[name]) > 1 or registered()[name][0].archive
        if name in single and several:
            raise UsageError(f"images name '{name}', a set of images, where one is wanted")


def cache() -> Path:
    """Where fetched files lie: the environment variable ``TEXNET_CACHE``, or ``resources``."""
    return Path(os.environ.get("TEXNET_CACHE") or "resources")


def mirrors() -> list[str]:
    """Folders, or addresses of folders, in the environment variable ``TEXNET_MIRRORS``."""
    return os.environ.get("TEXNET_MIRRORS", "").split()


def share_mirrors(first: Sequence[str]) -> None:
    """Put mirrors first in the environment of the processes that this one starts."""
    named = [m if "://" in m else Path(m).expanduser().absolute().as_uri() for m in first]
    os.environ["TEXNET_MIRRORS"] = " ".join([*named, *mirrors()])


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
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise DataError(f"{path}: is not text; fetch it again") from error
    for number, line in enumerate(lines, start=1):
        digest, _, file = line.partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", digest) or not inside(file):
            raise DataError(f"{path} line {number}: is not 'SHA-256  path'; fetch it again")
        found[path.parent / file] = digest
    return found


def verified(path: Path, digest: str) -> Path:
    """``path`` itself; MissingError or DataError where it is not what was fetched."""
    found = sha256(check_file(path, f"a fetched file; {_restored(digest)}"))
    if found != digest:
        raise DataError(f"{path}: sha256 is {found}, wanted {digest}; {_restored(digest)}")
    return path


def _restored(digest: str) -> str:
    """What brings a fetched file back."""
    names = (n for n, entries in registered().items() if digest in [e.sha256 for e in entries])
    return f"texnet fetch {next(names, 'of its name')} restores it"


def image(name: str) -> Path:
    """The one file of a name, verified; UsageError where the name is a set of images."""
    files = read_manifest(manifest(name))
    if len(files) != 1:
        raise UsageError(f"'{name}' is a set of {len(files)} images; name it in images.contents")
    ((path, digest),) = files.items()
    return verified(path, digest)


def complete(*names: str) -> list[str]:
    """Those of some names whose files are all in the cache, as their manifests say."""
    found = []
    for name in names:
        try:
            files, entries = read_manifest(manifest(name)), entries_of(name)
            # It may be empty, or an older registry's.
            wanted = {cache() / e.file: e.sha256 for e in entries if not e.archive}
            if not files or not wanted.items() <= files.items():
                continue
            for path, digest in files.items():
                # Of a large set only that it is there: whoever reads an image would notice.
                if sum(entry.bytes for entry in entries) <= LARGE:
                    verified(path, digest)
                elif not path.is_file():
                    raise MissingError(str(path))
        except (MissingError, DataError):
            continue
        found.append(name)
    return found


def addresses(entry: Entry, mirrors: Sequence[str]) -> Iterator[str]:
    """Where an entry may be, in the order of trying."""
    for mirror in mirrors:
        if urlsplit(mirror).scheme not in ("http", "https", "file"):
            mirror = Path(mirror).expanduser().absolute().as_uri()
        yield f"{mirror.rstrip('/')}/{entry.file}"
    yield from entry.urls


def unfinished(entry: Entry) -> Path:
    """Where an unfinished download lies; the folder's name says what it is a part of."""
    path = cache() / entry.file
    return path.with_name(f".{path.name}.{entry.sha256[:8]}") / "part"
