"""One download: resumed, retried, given up on; the only module that touches the network."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from texnet.artifacts import sha256
from texnet.registry import Entry, unfinished

BLOCK = 1 << 16
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
REDIRECTS = 5


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


@dataclass(frozen=True)
class Errand:
    """What the downloads of one fetch share."""

    mirrors: Sequence[str] = ()
    """Folders, or addresses of folders, that are tried first."""
    patience: Patience = field(default_factory=Patience)
    show: Callable[[int], object] = lambda size: None
    """Told the number of bytes of each block that came."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when one of them failed, or the user has enough."""
    dead: set[str] = field(default_factory=set)
    """Hosts that gave no connection: the other files need not wait for them again."""


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

        class Connection(pool.ConnectionCls):  # type: ignore[name-defined,misc]  # HTTP's or TLS's
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
        errand: what it shares with others.
    """

    def __init__(self, entry: Entry, errand: Errand) -> None:
        self.entry, self.errand, self.patience = entry, errand, errand.patience

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:  # noqa: ANN401 (pooch's)
        part, host = unfinished(self.entry), urlsplit(url).netloc
        for number in range(self.patience.tries):
            pause = self.patience.pause * 2 ** (number - 1) if number else 0
            if self.errand.stopped.wait(pause):
                raise Refused("stopped")
            if host in self.errand.dead:
                raise Refused("no connection")
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
        if (told := _told(reason)).startswith("no connection") and host:
            self.errand.dead.add(host)
        raise Refused(f"{told}, {self.patience.tries} times") from reason

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
            except OSError as error:
                if error.errno is not None:  # of the writing
                    raise
                raise Refused(f"{error}: correct REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE") from error

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
                self.errand.show(len(block))
                if self.errand.stopped.is_set():
                    raise Refused("stopped")
        if size < self.entry.bytes:
            raise Transient(f"ended after {size} of {self.entry.bytes} bytes")
        return before > 0


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
    if isinstance(error, requests.exceptions.ProxyError):
        return "no connection to the proxy that http_proxy, https_proxy or all_proxy names"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return f"broken answer, {type(error).__name__}"
