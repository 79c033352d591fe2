"""Fetching what the registry lists: mirrors first, verified, then renamed into the cache."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pooch
from filelock import FileLock

from texnet.archives import unpack
from texnet.artifacts import sha256, write_bytes, write_text
from texnet.assembly import assemble, recipe
from texnet.downloads import Download, Errand, Patience, Refused
from texnet.errors import DataError, MissingError, WriteError
from texnet.registry import (
    LARGE,
    Entry,
    addresses,
    cache,
    complete,
    entries_of,
    manifest,
    registered,
    unfinished,
)

AT_ONCE = 8
SHARD_FOLDER = "shards"


def fetch(
    name: str,
    mirrors: Sequence[str] = (),
    patience: Patience | None = None,
    show: Callable[[int], object] = lambda size: None,
) -> Path:
    """Bring all files of a name into the cache and return their manifest.

    Args:
        name: one of the registry's.
        mirrors: folders, or addresses (http, https, file) of folders, which hold the registry's
            files under their paths; tried before the public addresses, in order.
        patience: how long to wait for a server.
        show: told the number of bytes of each block that came.

    Raises:
        UsageError: no such name.
        MissingError: no address gave the file; says which, why, and where to put it by hand.
        WriteError: the disk is full, or the cache cannot be written.
    """
    entries, target = entries_of(name), manifest(name)
    errand = Errand(tuple(mirrors), patience or Patience(), show)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Two processes on one cache: the second waits, and finds the files.
        with FileLock(target.parent / f".{name}.lock"):
            for left in target.parent.glob(f".{target.name}.*.part"):
                left.unlink()  # a killed process's
            if name not in complete(name):
                found = _all(entries, errand)
                lines = (f"{digest}  {file}\n" for file, digest in found.items())
                write_text(target, "".join(lines))
            for entry in entries:
                if entry.archive:  # of no more use, but not before the manifest stands
                    (cache() / entry.file).unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(
            f"{error.filename or target.parent}: cannot be written ({error.strerror}); free some "
            "space, or name a folder with room in TEXNET_CACHE, and fetch again"
        ) from error
    return target


def _all(entries: Sequence[Entry], errand: Errand) -> dict[str, str]:
    """SHA-256 of all files of some entries, by path in the cache; nothing more after a failure."""
    found: dict[str, str] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [pool.submit(fetch_file, entry, errand) for entry in entries]
        try:
            for job in jobs:
                found |= job.result()
        finally:
            errand.stopped.set()
            pool.shutdown(cancel_futures=True)
    return found


def fetch_file(entry: Entry, errand: Errand) -> dict[str, str]:
    """Bring one file into the cache, unpacked if it is an archive; SHA-256 by path in the cache."""
    path = cache() / entry.file
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (path.is_file() and sha256(path) == entry.sha256):
        _download(entry, path, errand)
    shutil.rmtree(unfinished(entry).parent, ignore_errors=True)
    if not entry.archive:
        return {entry.file: entry.sha256}
    folder = path.with_name(path.name.partition(".")[0])
    found = unpack(path, folder)
    below = folder.relative_to(cache()).as_posix()
    return {f"{below}/{file}": digest for file, digest in found.items()}


def _download(entry: Entry, path: Path, errand: Errand) -> None:
    free, part = shutil.disk_usage(path.parent).free, unfinished(entry)
    # The images of an archive take as much again.
    needs = entry.bytes * (1 + entry.archive) - (part.stat().st_size if part.exists() else 0)
    if free < needs:
        raise WriteError(
            f"{path}: needs {needs} bytes and {free} are free; free some space, or name a "
            "folder with room in TEXNET_CACHE"
        )
    pooch.get_logger().setLevel(logging.ERROR)
    # Unfinished work has a folder of its own: what a killed process left is resumed or swept.
    work = part.parent
    work.mkdir(exist_ok=True)
    for left in set(work.iterdir()) - {part, work / SHARD_FOLDER}:
        left.unlink()
    tried: list[str] = []
    new, download = work / path.name, Download(entry, errand)
    if _got(new, addresses(entry, errand.mirrors), download, tried) or _made(new, download, tried):
        new.replace(path)
        return
    with contextlib.suppress(OSError):  # a part in it stays, for the next time
        work.rmdir()
    there = f" {path} is there with another SHA-256." if path.exists() else ""
    raise MissingError(
        f"{entry.name}: {entry.file} ({entry.bytes} bytes) cannot be fetched: "
        f"{'; '.join(tried) or 'it has no public address'}.{there} Put the file with SHA-256 "
        f"{entry.sha256} at {path} by hand, or name a folder that holds {entry.file}: --mirror, "
        "TEXNET_MIRRORS or mirrors in the configuration"
    )


def _got(path: Path, urls: Iterable[str], download: Download, tried: list[str]) -> bool:
    """Whether an address gave what is downloaded; ``tried`` tells why those before it did not."""
    digest = download.entry.sha256
    for url in urls:
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{digest}" if digest else None,
                fname=path.name,
                path=path.parent,
                downloader=download,
            )
            return True
        except Refused as error:
            tried.append(f"{url} ({error})")
        except ValueError:  # pooch: the checksum is another
            tried.append(f"{url} (another file: its SHA-256 is not the registry's)")
    return False


def _made(path: Path, download: Download, tried: list[str]) -> bool:
    """Whether public shards make the file; where one cannot be had, the others stay."""
    entry, folder, parts = download.entry, path.with_name(SHARD_FOLDER), []
    for shard in recipe(entry):
        target = folder / shard.file
        shard = replace(shard, file=target.relative_to(cache()).as_posix())
        unfinished(shard).parent.mkdir(parents=True, exist_ok=True)
        job = Download(shard, download.errand)
        if not _got(target, shard.urls, job, tried):
            return False
        parts.append(target.read_bytes())
    if not parts:
        return False
    # Which of them is wrong, if they are, nobody can tell.
    shutil.rmtree(folder)
    with contextlib.suppress(DataError):
        content = assemble(entry.file, parts)
        if hashlib.sha256(content).hexdigest() == entry.sha256:
            write_bytes(path, content)
            return True
    tried.append(f"its {len(parts)} shards (make another file: its SHA-256 is not the registry's)")
    return False


def all_names() -> list[str]:
    """Every name but those of the large sets."""
    return [n for n, entries in registered().items() if sum(e.bytes for e in entries) <= LARGE]
