"""Fetching what the registry lists: mirrors first, resumed, retried, verified, then renamed.

The only module that touches the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pooch
import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from texnet.archives import unpack
from texnet.artifacts import sha256, write_bytes, write_text
from texnet.assembly import assemble, recipe
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

BLOCK = 1 << 16
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
REDIRECTS = 5
AT_ONCE = 8
SHARD_FOLDER = "shards"


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


class Watched(HTTPAdapter):
    """Ends slow connections. Timeouts are of one wait, which a server that drips its head meets."""

    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self.patience, self.came, self.slow = patience, 0, ""
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        pool, sockets = super().get_connection_with_tls_context(*args, **kwargs), self._sockets

        class Connection(pool.ConnectionCls):
            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                sockets.append(made.dup())  # TLS takes over the socket itself
                return made

        pool.ConnectionCls = Connection
        return pool

    def _watch(self) -> None:
        wait, before = self.patience.connect + self.patience.silence + self.patience.window, 0
        while not self._over.wait(wait):
            rate, before, wait = (self.came - before) / wait, self.came, self.patience.window
            if rate < self.patience.slowest:
                self.slow = self.slow or f"gives {rate:.0f} bytes a second"
                for each in tuple(self._sockets):
                    with contextlib.suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._over.set()
        self._watcher.join()
        for each in self._sockets:
            each.close()
        super().close()


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
        part = unfinished(self.entry)
        for number in range(self.patience.tries):
            if number:
                time.sleep(self.patience.pause * 2 ** (number - 1))
            try:
                if self._stream(url, part) and self.entry.sha256 not in ("", sha256(part)):
                    part.unlink()  # it began with what another address, or another try, gave
                    raise Transient("does not go on with what was there")
            except (requests.TooManyRedirects, ValueError) as error:  # the latter: a bad address
                raise Refused(_told(error)) from error
            except (requests.RequestException, HTTPError, TimeoutError, Transient) as error:
                reason = error
                continue
            # What is whole and wrong must not be resumed.
            part.replace(output_file)
            return
        raise Refused(f"{_told(reason)}, {self.patience.tries} times") from reason

    def _stream(self, url: str, part: Path) -> bool:
        """Make ``part`` whole; whether what was there is the beginning of it."""
        have = part.stat().st_size if part.exists() else 0
        if have >= self.entry.bytes:
            part.unlink()
            have = 0
        if urlsplit(url).scheme in ("http", "https"):
            return self._request(url, part, have)
        path = Path(unquote(urlsplit(url).path))
        try:
            if (size := path.stat().st_size) != self.entry.bytes:
                raise Refused(f"has {size} bytes, wanted {self.entry.bytes}")
            source = path.open("rb")
        except OSError as error:  # not to be taken for one of the writing
            raise Refused(f"{error.strerror}".lower()) from error
        with source:
            source.seek(have)
            return self._store(lambda: source.read(BLOCK), part, resumed=True)

    def _request(self, url: str, part: Path, have: int) -> bool:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        waits = (self.patience.connect, self.patience.silence)
        with requests.Session() as session:
            watched = Watched(self.patience)
            session.max_redirects = REDIRECTS
            # Requests would read the body of a redirect, however long it is.
            session.hooks["response"] = [lambda r, **_: r.close() if r.is_redirect else None]
            session.adapters = dict.fromkeys(("https://", "http://"), watched)

            def read() -> bytes:
                block = response.raw.read1(BLOCK, decode_content=False)
                watched.came += len(block)
                return block

            try:
                with session.get(url, headers=headers, stream=True, timeout=waits) as response:
                    return self._store(read, part, self._check(response, have))
            except (requests.RequestException, HTTPError, Transient) as error:
                if watched.slow:
                    raise Transient(watched.slow) from error
                raise

    def _check(self, response: requests.Response, have: int) -> bool:
        """Whether the rest of the file follows, not the whole of it; raises for anything else."""
        code = response.status_code
        if code == requests.codes.requested_range_not_satisfiable:
            unfinished(self.entry).unlink(missing_ok=True)
            raise Transient("HTTP 416")
        if code in TRANSIENT:
            raise Transient(f"HTTP {code}")
        if code not in (requests.codes.ok, requests.codes.partial):
            raise Refused(f"HTTP {code}")
        if partial := code == requests.codes.partial:
            wanted = f"bytes {have}-{self.entry.bytes - 1}/{self.entry.bytes}"
            told = response.headers.get("Content-Range", "")
            if not have or told != wanted:
                unfinished(self.entry).unlink(missing_ok=True)
                raise Transient(f"answered with range {told[:60]!r}")
        left = self.entry.bytes - (have if partial else 0)
        declared = response.headers.get("Content-Length")
        if declared is not None and declared != str(left):
            raise Refused(f"declares {ascii(declared[:60])[1:-1]} bytes, wanted {left}")
        return partial

    def _store(self, read: Callable[[], bytes], part: Path, resumed: bool) -> bool:
        """Append what comes to ``part``, until it is whole; whether something was there."""
        with part.open("ab" if resumed else "wb") as out:
            size = before = out.tell()
            while block := read():
                size += len(block)
                if size > self.entry.bytes:
                    out.truncate(0)
                    raise Refused(f"sends more than the file's {self.entry.bytes} bytes")
                out.write(block)
                self.show(len(block))
        if size < self.entry.bytes:
            raise Transient(f"ended after {size} of {self.entry.bytes} bytes")
        return before > 0


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
            for left in target.parent.glob(f".{target.name}.*.part"):
                left.unlink()  # a killed process's
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


def fetch_file(
    entry: Entry, mirrors: Sequence[str], patience: Patience, show: Callable[[int], object]
) -> dict[str, str]:
    """Bring one file into the cache, unpacked if it is an archive; SHA-256 by path in the cache."""
    path = cache() / entry.file
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (path.is_file() and sha256(path) == entry.sha256):
        _download(entry, path, mirrors, Download(entry, patience, show))
    shutil.rmtree(unfinished(entry).parent, ignore_errors=True)
    if not entry.archive:
        return {entry.file: entry.sha256}
    folder = path.with_name(path.name.partition(".")[0])
    found = unpack(path, folder)
    path.unlink()
    below = folder.relative_to(cache()).as_posix()
    return {f"{below}/{file}": digest for file, digest in found.items()}


def _download(entry: Entry, path: Path, mirrors: Sequence[str], download: Download) -> None:
    free, part = shutil.disk_usage(path.parent).free, unfinished(entry)
    needs = entry.bytes - (part.stat().st_size if part.exists() else 0)
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
    new = work / path.name
    if _got(new, addresses(entry, mirrors), download, tried) or _made(new, download, tried):
        new.replace(path)
        return
    with contextlib.suppress(OSError):  # a part in it stays, for the next time
        work.rmdir()
    there = f" {path} is there with another SHA-256." if path.exists() else ""
    raise MissingError(
        f"{entry.file} ({entry.bytes} bytes) cannot be fetched: "
        f"{'; '.join(tried) or 'it has no public address'}.{there} Put the file with SHA-256 "
        f"{entry.sha256} at {path} by hand, or name a folder that holds {entry.file} as a mirror"
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
        job = Download(shard, download.patience, download.show)
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
