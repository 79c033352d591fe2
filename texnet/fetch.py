"""Fetching what the registry lists: mirrors first, resumed, retried, verified, then renamed.

The only module that touches the network.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import pooch
import requests
from filelock import FileLock
from urllib3.exceptions import HTTPError

from texnet.archives import unpack
from texnet.artifacts import sha256, write_text
from texnet.errors import DataError, MissingError, WriteError
from texnet.registry import (
    Entry,
    cache,
    entries_of,
    manifest,
    read_manifest,
    registered,
    verified,
)

BLOCK = 1 << 16
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
REDIRECTS = 5
AT_ONCE = 8
LARGE = 2 * 10**9
"""Names with more bytes than this are fetched only when they are asked for by name."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for."""

    connect: float = 10
    """Seconds to a connection."""
    silence: float = 30
    """Seconds without a byte."""
    slowest: float = 2000
    """Bytes a second, over ``window`` seconds, below which another try or server is taken."""
    window: float = 30
    tries: int = 4
    """Tries at one address where another try may help."""
    pause: float = 1
    """Seconds before the second try, doubled for each later one."""


class Refused(Exception):
    """This address will not give the file; the next one may."""


class Transient(Exception):
    """Another try at this address may help."""


class Download:
    """Pooch's downloader of one entry: what came of a broken download is kept and resumed.

    Args:
        entry: what is downloaded; never more than its size is stored.
        patience: how long to wait.
        show: told the number of bytes of each block.
    """

    def __init__(
        self, entry: Entry, patience: Patience, show: Callable[[int], object] = lambda size: None
    ) -> None:
        self.entry, self.patience, self.show = entry, patience, show

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:  # noqa: ANN401 (pooch's)
        part = _part(self.entry)
        for number in range(self.patience.tries):
            if number:
                time.sleep(self.patience.pause * 2 ** (number - 1))
            try:
                self._stream(url, part)
            except (requests.RequestException, HTTPError, TimeoutError, Transient) as error:
                reason = error
                continue
            # What is whole and wrong must not be resumed.
            part.replace(output_file)
            return
        raise Refused(f"{_told(reason)}, {self.patience.tries} times") from reason

    def _stream(self, url: str, part: Path) -> None:
        have = part.stat().st_size if part.exists() else 0
        if have >= self.entry.bytes:
            part.unlink()
            have = 0
        if urlsplit(url).scheme in ("http", "https"):
            with requests.Session() as session:
                session.max_redirects = REDIRECTS
                with self._answer(session, url, have) as response:
                    resumed = response.status_code == requests.codes.partial
                    read = response.raw.read1
                    self._store(lambda: read(BLOCK, decode_content=False), part, resumed)
            return
        path = Path(unquote(urlsplit(url).path))
        try:
            with path.open("rb") as source:
                source.seek(have)
                self._store(lambda: source.read(BLOCK), part, resumed=True)
        except FileNotFoundError as error:
            raise Refused("no such file") from error

    def _answer(self, session: requests.Session, url: str, have: int) -> requests.Response:
        """The server's answer, if what follows can be the rest of the file or the whole of it."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        waits = (self.patience.connect, self.patience.silence)
        try:
            response = session.get(url, headers=headers, stream=True, timeout=waits)
        except (requests.TooManyRedirects, requests.exceptions.InvalidSchema) as error:
            raise Refused(_told(error)) from error
        code = response.status_code
        if code == requests.codes.requested_range_not_satisfiable:
            _part(self.entry).unlink(missing_ok=True)
            raise Transient("HTTP 416")
        if code in TRANSIENT:
            raise Transient(f"HTTP {code}")
        if code not in (requests.codes.ok, requests.codes.partial):
            raise Refused(f"HTTP {code}")
        if code == requests.codes.partial:
            wanted = f"bytes {have}-{self.entry.bytes - 1}/{self.entry.bytes}"
            if not have or response.headers.get("Content-Range") != wanted:
                _part(self.entry).unlink(missing_ok=True)
                raise Transient(f"answered with range '{response.headers.get('Content-Range')}'")
        left = self.entry.bytes - (have if code == requests.codes.partial else 0)
        declared = response.headers.get("Content-Length")
        if declared is not None and declared != str(left):
            raise Refused(f"declares {declared} bytes, wanted {left}")
        return response

    def _store(self, read: Callable[[], bytes], part: Path, resumed: bool) -> None:
        """Append what comes to ``part``, until it is whole."""
        with part.open("ab" if resumed else "wb") as out:
            size, started, before = out.tell(), time.monotonic(), out.tell()
            while block := read():
                size += len(block)
                if size > self.entry.bytes:
                    self._discard(out)
                    raise Refused(f"sends more than the file's {self.entry.bytes} bytes")
                out.write(block)
                self.show(len(block))
                waited = time.monotonic() - started
                if waited > self.patience.window:
                    if (size - before) / waited < self.patience.slowest:
                        raise Transient(f"gives {(size - before) / waited:.0f} bytes a second")
                    started, before = time.monotonic(), size
        if size < self.entry.bytes:
            raise Transient(f"ended after {size} of {self.entry.bytes} bytes")

    @staticmethod
    def _discard(out: BinaryIO) -> None:
        out.truncate(0)


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
    waits = patience or Patience()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Two processes on one cache: the second waits, and finds the files.
        with FileLock(target.parent / f".{name}.lock"):
            if name not in complete(name):
                found = _all(entries, mirrors, waits, show)
                lines = (f"{digest}  {file}\n" for file, digest in found.items())
                write_text(target, "".join(lines))
    except OSError as error:
        raise WriteError(
            f"{error.filename or target.parent}: cannot be written ({error.strerror}); free some "
            "space, or name a folder with room in TEXNET_CACHE, and fetch again"
        ) from error
    return target


def _all(
    entries: Sequence[Entry],
    mirrors: Sequence[str],
    patience: Patience,
    show: Callable[[int], object],
) -> dict[str, str]:
    """SHA-256 of all files of some entries, by path in the cache; nothing more after a failure."""
    found: dict[str, str] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [pool.submit(fetch_file, e, mirrors, patience, show) for e in entries]
        try:
            for job in jobs:
                found |= job.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def complete(*names: str) -> list[str]:
    """Those of some names whose files are all in the cache, as their manifests say."""
    found = []
    for name in names:
        try:
            files = read_manifest(manifest(name))
            for path, digest in files.items():
                # Of a large set only that it is there: whoever reads an image would notice.
                if sum(entry.bytes for entry in entries_of(name)) <= LARGE:
                    verified(path, digest)
                elif not path.is_file():
                    raise MissingError(str(path))
        except (MissingError, DataError):
            continue
        found.append(name)
    return found


def fetch_file(
    entry: Entry, mirrors: Sequence[str], patience: Patience, show: Callable[[int], object]
) -> dict[str, str]:
    """Bring one file into the cache, unpacked if it is an archive; SHA-256 by path in the cache."""
    path = cache() / entry.file
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (path.is_file() and sha256(path) == entry.sha256):
        _download(entry, path, mirrors, Download(entry, patience, show))
    if not entry.archive:
        return {entry.file: entry.sha256}
    folder = path.with_name(path.name.partition(".")[0])
    found = unpack(path, folder)
    path.unlink()
    below = folder.relative_to(cache()).as_posix()
    return {f"{below}/{file}": digest for file, digest in found.items()}


def _download(entry: Entry, path: Path, mirrors: Sequence[str], download: Download) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < entry.bytes:
        raise WriteError(
            f"{path}: needs {entry.bytes} bytes and {free} are free; free some space, or name a "
            "folder with room in TEXNET_CACHE"
        )
    pooch.get_logger().setLevel(logging.ERROR)
    # Unfinished work has a folder of its own: what a killed process left is resumed or swept.
    work = _part(entry).parent
    work.mkdir(exist_ok=True)
    for left in set(work.iterdir()) - {_part(entry)}:
        left.unlink()
    tried = []
    for url in addresses(entry, mirrors):
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{entry.sha256}",
                fname=path.name,
                path=work,
                downloader=download,
            )
            (work / path.name).replace(path)
            work.rmdir()
            return
        except Refused as error:
            tried.append(f"{url} ({error})")
        except ValueError:  # pooch: the checksum is another
            tried.append(f"{url} (another file: its SHA-256 is not the registry's)")
    with contextlib.suppress(OSError):  # a part in it stays, for the next time
        work.rmdir()
    there = f" {path} is there with another SHA-256." if path.exists() else ""
    raise MissingError(
        f"{entry.file} ({entry.bytes} bytes) cannot be fetched: "
        f"{'; '.join(tried) or 'it has no public address'}.{there} Put the file with SHA-256 "
        f"{entry.sha256} at {path} by hand, or name a folder that holds {entry.file} as a mirror"
    )


def addresses(entry: Entry, mirrors: Sequence[str]) -> Iterator[str]:
    """Where an entry may be, in the order of trying."""
    for mirror in mirrors:
        if urlsplit(mirror).scheme not in ("http", "https", "file"):
            mirror = Path(mirror).expanduser().absolute().as_uri()
        yield f"{mirror.rstrip('/')}/{entry.file}"
    yield from entry.urls


def all_names() -> list[str]:
    """Every name but those of the large sets."""
    return [n for n, entries in registered().items() if sum(e.bytes for e in entries) <= LARGE]


def _part(entry: Entry) -> Path:
    """Where an unfinished download lies; the folder's name says what it is a part of."""
    path = cache() / entry.file
    return path.with_name(f".{path.name}.{entry.sha256[:8]}") / "part"


def _told(error: Exception) -> str:
    """The reason of a failed request in a few words."""
    if isinstance(error, Transient):
        return str(error)
    if isinstance(error, requests.TooManyRedirects):
        return f"redirects more than {REDIRECTS} times"
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "redirects to no http address"
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout | TimeoutError):
        return "no answer in time"
    if "timed out" in str(error):
        return "stopped sending"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return f"broken answer, {type(error).__name__}"
