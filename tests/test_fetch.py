"""Fetching against servers that fail in every way known: right bytes, or none and one line."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests
from servers import (
    CONTENT,
    GZIPPED,
    HALF,
    SIZE,
    Server,
    body,
    chunked,
    digest,
    dripping,
    endless,
    entry,
    partial,
    ranged,
    raw,
    redirect,
    register,
    small_disk,
    status,
    unsatisfiable,
    unused_address,
)

from texnet import __main__ as cli
from texnet import fetch as fetching
from texnet import registry
from texnet.errors import MissingError, UsageError, WriteError
from texnet.fetch import Patience, fetch

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
FILE = "styles/picture.jpg"
PATIENCE = Patience(connect=5, silence=5, slowest=2000, window=5, tries=3, pause=0.01)
HASTY = replace(PATIENCE, connect=0.2, silence=0.2, window=0.2, tries=2)
DEADLINE = 20
"""Seconds after which a fetch counts as hung: no measure of speed."""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty cache, in an empty folder, and nothing between this machine and itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def listed(monkeypatch):
    """Makes some entries the registry."""
    return lambda *entries: register(monkeypatch, *entries)


def fetched(name="picture", mirrors=(), patience=PATIENCE, show=lambda size: None):
    """The manifest, or the error; fails where the fetch does not end."""
    outcome = []

    def run():
        try:
            outcome.append(fetch(name, mirrors, patience, show))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert outcome, f"did not end within {DEADLINE} s"
    return outcome[0]


def landed(content=CONTENT, file=FILE, name="picture"):
    """The right bytes are at their place, the manifest lists them, and nothing is left over."""
    cache = registry.cache()
    assert (cache / file).read_bytes() == content
    assert (cache / f"{name}.sha256").read_text() == f"{digest(content)}  {file}\n"
    wanted = {cache / file, cache / f"{name}.sha256", cache / f".{name}.lock"}
    assert {p for p in cache.rglob("*") if p not in (cache / file).parents} == wanted
    return True


def refused(error, *says, kind=MissingError, file=FILE, before=None):
    """One line that says where to put the file, and none there but the one of before."""
    assert type(error) is kind, error
    path = registry.cache() / file
    for text in (*says, *([str(path)] if kind is MissingError else [])):
        assert text in str(error)
    assert str(error).isprintable() and len(str(error)) < 4000
    assert (path.read_bytes() if path.exists() else None) == before
    shown = {p for p in registry.cache().rglob("[!.]*") if p.is_file() and p.name != "part"}
    assert shown == ({path} if before is not None else set())
    return True


@dataclass(frozen=True)
class Mode:
    """What a server answers in turn, and what comes of it."""

    answers: tuple
    says: str | None = None
    """In the message of the refusal; None where the right file comes."""
    starts: tuple | None = None
    """The byte that each request asked to start at."""
    part: bytes | None = None
    """What a killed process left."""
    sent: int | None = None
    """How much of the file the last answer sent."""
    patience: Patience = PATIENCE
    scheme: str = "http"


def comes(*answers, **kwargs):
    return Mode(answers, **kwargs)


def fails(says, *answers, **kwargs):
    return Mode(answers, says, **kwargs)


def html(length="", **kwargs):
    page = b"<html>" + b"please log in " * 1000 + b"</html>"
    return body(page, "Content-Type: text/html", length=length, **kwargs)


CUT = ranged(most=HALF)
FLIPPED = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
OTHER = CONTENT[::-1]
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "")
BROKEN_CHUNK = chunked(CONTENT[:HALF], end=b"5\r\nab")
DRIPPING_HEAD = endless("HTTP/1.1 200 OK", block=b"X", pause=0.05)
MODES = {
    # What works, perhaps after another try.
    "whole": comes(body(), starts=(None,)),
    "chunked": comes(chunked(), starts=(None,)),
    "no length": comes(body(length="")),
    "truncated, resumed": comes(CUT, ranged(), starts=(None, HALF), sent=SIZE - HALF),
    "truncated twice, resumed": comes(
        ranged(most=1000), ranged(most=5000), ranged(), starts=(None, 1000, 6000), sent=SIZE - 6000
    ),
    "truncated without length, resumed": comes(
        body(CONTENT[:HALF], length=""), ranged(), starts=(None, HALF), sent=SIZE - HALF
    ),
    "Range ignored": comes(CUT, body(), starts=(None, HALF), sent=SIZE),
    "Range ignored, chunked": comes(CUT, chunked(), starts=(None, HALF)),
    "Content-Range of other bytes": comes(
        CUT, ranged(rest="bytes 5-99/100"), ranged(), starts=(None, HALF, None)
    ),
    "Content-Range of another whole": comes(
        CUT, ranged(rest=f"bytes {HALF}-{SIZE - 1}/{SIZE + 1}"), ranged(), starts=(None, HALF, None)
    ),
    "no Content-Range": comes(CUT, ranged(rest=""), ranged(), starts=(None, HALF, None)),
    "206 unasked": comes(body(status=206), body(), starts=(None, None)),
    "416": comes(CUT, unsatisfiable, ranged(), starts=(None, HALF, None)),
    **{f"{code}, then 200": comes(status(code), body(), starts=(None, None))
       for code in (408, 425, 429, 500, 502, 503, 504)},
    "429 with Retry-After": comes(status(429, "Retry-After: 1"), body(), starts=(None, None)),
    **{f"redirect {code}": comes(redirect("/elsewhere", code), body())
       for code in (301, 302, 303, 307, 308)},
    "redirect keeps the range": comes(
        CUT, redirect("/elsewhere"), ranged(), starts=(None, HALF, HALF)
    ),
    "redirect with an endless body": comes(
        endless("HTTP/1.1 302 Found", "Location: /elsewhere", ""), body()
    ),
    "100 Continue": comes(raw(b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"\r\n" + CONTENT)),
    "reset at once": comes(raw(then="reset"), body()),
    "reset in mid-body": comes(partial(CONTENT[:HALF], "reset"), ranged()),
    "closed at once": comes(raw(), body()),
    "stall before the head": comes(raw(then="silence"), ranged(), patience=HASTY),
    "stall in the head": comes(raw(HEAD, then="silence"), ranged(), patience=HASTY),
    "stall in mid-body": comes(
        partial(CONTENT[:HALF], "silence"), ranged(), patience=HASTY, starts=(None, HALF)
    ),
    "slow drip": comes(dripping(), ranged(), patience=HASTY),
    "slow drip of the head": comes(DRIPPING_HEAD, ranged(), patience=HASTY),
    "garbage": comes(raw(b"\0\xff garbage\r\n\r\n"), body()),
    "chunk broken in the middle": comes(BROKEN_CHUNK, ranged()),
    "HTML page, resumed": comes(html(), ranged(), ranged(), starts=(None, 14013, None)),
    # What a killed process left.
    "part": comes(ranged(), part=CONTENT[:HALF], starts=(HALF,), sent=SIZE - HALF),
    "part of one byte": comes(ranged(), part=CONTENT[:1], starts=(1,)),
    "part without the last byte": comes(
        ranged(), part=CONTENT[:-1], starts=(SIZE - 1,), sent=1
    ),
    "empty part": comes(ranged(), part=b"", starts=(None,)),
    "whole part": comes(ranged(), part=CONTENT, starts=(None,)),
    "part longer than the file": comes(ranged(), part=CONTENT + b"x", starts=(None,)),
    "part of another file": comes(ranged(), part=OTHER[:HALF], starts=(HALF, None), sent=SIZE),
    # What does not.
    "truncated always": fails("ended after", body(CONTENT[:HALF], length="")),
    "truncated always, with length": fails("broken answer", body(CONTENT[:HALF], length=SIZE)),
    "wrong bytes": fails("another file", body(OTHER), starts=(None,)),
    "one bit flipped": fails("another file", body(FLIPPED), starts=(None,)),
    "empty": fails("declares 0 bytes", body(b"")),
    "empty without length": fails("ended after 0", body(b"", length="")),
    "empty, chunked": fails("ended after 0", chunked(b"")),
    **{f"HTTP {code}": fails(f"HTTP {code}", status(code), starts=(None,))
       for code in (204, 304, 400, 401, 403, 404, 410, 451, 501)},
    **{f"HTTP {code} always": fails(f"HTTP {code}, 3 times", status(code), starts=(None,) * 3)
       for code in (429, 500, 503)},
    "206 always": fails("answered with range", body(status=206)),
    "416 always": fails("HTTP 416, 3 times", unsatisfiable),
    "redirect loop": fails("redirects more than 5 times", redirect("/again"), starts=(None,) * 6),
    "redirect to a file": fails("no http address", redirect("file:///etc/passwd")),
    "redirect to FTP": fails("no http address", redirect("ftp://127.0.0.1/picture.jpg")),
    "redirect to data": fails("no http address", redirect("data:,picture")),
    "redirect to no host": fails("redirects more", redirect("http://")),
    "redirect to nonsense": fails("broken answer", redirect("http://[")),
    "redirect to nowhere": fails("HTTP 302", status(302)),
    "endless": fails("sends more", endless("HTTP/1.1 200 OK", "")),
    "endless, chunked": fails("sends more", endless(*CHUNKED, block=b"7d0\r\n%2000d\r\n" % 0)),
    "endless head": fails(
        "no connection", endless("HTTP/1.1 200 OK", block=b"A: b\r\n", pause=0.001)
    ),
    "endless line": fails(
        "no connection", endless("HTTP/1.1 200 OK", block=b"A" * 5000, pause=0.001)
    ),
    "endless 100 Continue": fails(
        "gives 0 bytes a second", endless(block=b"HTTP/1.1 100 Continue\r\n\r\n"), patience=HASTY
    ),
    "one byte too many": fails("sends more", body(CONTENT + b"x", length="")),
    "one byte too many, chunked": fails("sends more", chunked(CONTENT + b"x")),
    "one byte too few": fails(f"ended after {SIZE - 1}", body(CONTENT[:-1], length="")),
    **{f"Content-Length {kind}": fails("declares", body(length=length)) for kind, length in {
        "too small": SIZE - 1, "too large": SIZE + 1, "negative": -SIZE, "nonsense": "many",
        "with a fraction": f"{SIZE}.0", "hexadecimal": f"0x{SIZE:x}", "huge": "9" * 5000,
        "on two lines": f"{SIZE}\r\n {SIZE}", "with an escape": f"\x1b[2J{SIZE}",
    }.items()},
    "two Content-Lengths": fails("broken answer", body(CONTENT, "Content-Length: 7")),
    "Content-Encoding": fails("declares", body(GZIPPED, "Content-Encoding: gzip")),
    "Content-Encoding, chunked": fails(
        "sends more", chunked(GZIPPED, headers=["Content-Encoding: gzip"])
    ),
    "HTML page": fails("declares", html(length=None)),
    "HTML page without length": fails("ended after", html()),
    "stall before the head always": fails(
        "no answer in time", raw(then="silence"), patience=HASTY, starts=(None,) * 2
    ),
    "stall in mid-body always": fails(
        "stopped sending", partial(CONTENT[:HALF], "silence"), patience=HASTY
    ),
    "slow drip always": fails("bytes a second", dripping(), patience=HASTY),
    "slow drip of the head always": fails("gives 0 bytes", DRIPPING_HEAD, patience=HASTY),
    "slow drip of a chunk's head": fails(
        "gives 0 bytes a second",
        endless(*CHUNKED, block=b" ", pause=0.05),
        patience=HASTY,
    ),
    "reset at once always": fails("no connection", raw(then="reset")),
    "reset in mid-body always": fails("3 times", partial(CONTENT[:HALF], "reset")),
    "garbage always": fails("no connection", raw(b"\0\xff garbage\r\n\r\n")),
    "garbage in the head": fails("ended after 0", raw(HEAD + b"\xff\xfe: \x80\r\n\0\0\r\n\r\n")),
    "bare bytes": fails("no connection", raw(CONTENT)),
    "chunk broken always": fails("3 times", BROKEN_CHUNK),
    "chunk of negative size": fails("broken", chunked(CONTENT[:HALF], end=b"-5\r\nabcde\r\n0\r\n")),
    "chunk of odd size": fails("broken", chunked(CONTENT[:HALF], end=b"wat\r\nabcde\r\n0\r\n")),
    "no TLS": fails("no secure connection", body(), scheme="https"),
}  # fmt: skip
TRIED: dict[str, bool] = {}
"""Of each mode tried whether a wrong file came of it."""


def work_folder(each):
    """Where an unfinished download lies."""
    path = registry.cache() / each.file
    return path.with_name(f".{path.name}.{each.sha256[:8]}")


@pytest.mark.parametrize("name", MODES)
def test_mode(listed, name):
    mode = MODES[name]
    TRIED[name] = True
    with Server(*mode.answers) as server:
        each = entry(f"{server.url.replace('http', mode.scheme)}/{FILE}")
        listed(each)
        if mode.part is not None:
            work_folder(each).mkdir(parents=True)
            (work_folder(each) / "part").write_bytes(mode.part)
        outcome = fetched(patience=mode.patience)
        path = registry.cache() / FILE
        TRIED[name] = path.exists() and path.read_bytes() != CONTENT
    if mode.says is None:
        assert outcome == registry.cache() / "picture.sha256", outcome
        assert landed()
    else:
        assert refused(outcome, each.urls[0], mode.says)
    if mode.starts is not None:
        assert tuple(call.start for call in server.calls) == mode.starts
    if mode.sent is not None:
        assert server.calls[-1].sent == mode.sent
    assert all(call.headers["accept-encoding"] == "identity" for call in server.calls)


def test_body_of_a_redirect_is_not_read(listed):
    """It may be endless, and requests keeps it in memory."""
    answer = endless("HTTP/1.1 302 Found", "Location: /elsewhere", "")
    with Server(answer, body()) as server:
        listed(entry(f"{server.url}/{FILE}"))
        fetched()
    assert landed() and server.calls[0].sent < 2_000_000


# Where a file may come from


def folder_with(path, content=CONTENT):
    path.mkdir(parents=True)
    (path / FILE).parent.mkdir()
    (path / FILE).write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["folder", "relative", "file", "http"])
@pytest.mark.parametrize("name", ["mirror", "a mirror, é #1 50%25 ?"])
def test_mirror(listed, tmp_path, kind, name):
    folder = folder_with(tmp_path / name)
    with Server(ranged()) as server:
        listed(entry())
        kinds = {"folder": str(folder), "relative": name, "file": folder.as_uri(),
                 "http": f"{server.url}/some/where/"}  # fmt: skip
        assert fetched(mirrors=[kinds[kind]]) == registry.cache() / "picture.sha256"
        assert [call.path for call in server.calls] == (
            [f"/some/where/{FILE}"] if kind == "http" else []
        )
    assert landed()
    assert (folder / FILE).read_bytes() == CONTENT


def broken_folders(path):
    """Mirrors that do not have the file, with the reason that is told."""
    (path / "file").write_text("no folder")
    (path / "is_folder" / FILE).mkdir(parents=True)
    (path / "fifo" / "styles").mkdir(parents=True)
    os.mkfifo(path / "fifo" / FILE)
    return {
        path / "none": "no such file",
        path / "file": "not a directory",
        path / "is_folder": "has ",
        path / "fifo": "has 0 bytes",
        folder_with(path / "empty", b""): "has 0 bytes",
        folder_with(path / "short", CONTENT[:HALF]): f"has {HALF} bytes",
        folder_with(path / "long", CONTENT + b"x"): f"has {SIZE + 1} bytes",
        folder_with(path / "other", OTHER): "another file",
        folder_with(path / "flipped", FLIPPED): "another file",
        path / ("long name" * 40): "file name too long",
    }


def test_wrong_mirrors_are_passed_over(listed, tmp_path):
    folders = broken_folders(tmp_path)
    listed(entry())
    error = fetched(mirrors=[str(path) for path in folders])
    assert refused(error, "cannot be fetched")
    for path, reason in folders.items():
        assert f"{path.as_uri()}/{FILE} ({reason}" in str(error)
    with Server(ranged()) as server:
        listed(entry(f"{server.url}/{FILE}"))
        fetched(mirrors=[str(path) for path in folders])
        assert [call.start for call in server.calls] == [None]
    assert landed()


@pytest.mark.parametrize(
    "answer",
    [html(), html(length=None), status(404), status(503), body(OTHER), body(FLIPPED),
     body(CONTENT[:HALF], length=""), body(OTHER[:HALF], length=""), chunked(OTHER[:HALF]),
     BROKEN_CHUNK, raw(then="reset"), redirect("file:///etc/passwd"), body(CONTENT + b"x")],
)  # fmt: skip
def test_second_mirror(listed, answer):
    """Also where the first leaves a beginning that is another file's."""
    with Server(answer) as bad, Server(ranged()) as good:
        listed(entry())
        fetched(mirrors=[bad.url, good.url])
    assert landed()


def test_mirrors_come_first_and_in_order(listed, tmp_path):
    with Server(status(404)) as first, Server(ranged()) as second, Server(ranged()) as public:
        listed(entry(f"{public.url}/{FILE}"))
        fetched(mirrors=[str(tmp_path / "none"), first.url, second.url])
        assert [len(server.calls) for server in (first, second, public)] == [1, 1, 0]
    assert landed()


def test_nobody_listens(listed):
    address = f"{unused_address()}/{FILE}"
    listed(entry(address))
    assert refused(fetched(), f"{address} (no connection, 3 times)")


def test_no_address(listed):
    listed(entry())
    assert refused(fetched(), "it has no public address")


# What is there already


def put(content, manifest=None):
    path = registry.cache() / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if manifest is not None:
        (registry.cache() / "picture.sha256").write_bytes(manifest)


def test_right_file_put_there_by_hand(listed):
    with Server(ranged()) as server:
        listed(entry(f"{server.url}/{FILE}"))
        put(CONTENT)
        for _ in range(2):
            assert fetched() == registry.cache() / "picture.sha256"
        assert server.calls == []
    assert landed()


@pytest.mark.parametrize("wrong", [OTHER, FLIPPED, CONTENT[:HALF], CONTENT + b"x", b""])
def test_wrong_file_is_replaced(listed, wrong):
    put(wrong)
    listed(entry(f"{unused_address()}/{FILE}"))
    # Without a connection it stays, and does not count as fetched.
    assert refused(fetched(), "is there with another SHA-256", before=wrong)
    assert registry.complete("picture") == []
    with Server(ranged()) as server:
        listed(entry(f"{server.url}/{FILE}"))
        fetched()
        assert [call.start for call in server.calls] == [None]
    assert landed()


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"nonsense\n", b"\xff\xfe\0", f"{'0' * 64}  {FILE}\n".encode(),
     f"{digest(CONTENT)}  ../{FILE}\n".encode(), f"{digest(CONTENT)}  {FILE}.old\n".encode(),
     f"{digest(CONTENT)} {FILE}\n".encode(), f"{digest(CONTENT)}  {FILE}".encode()[:-4]],
)  # fmt: skip
def test_bad_manifest_is_written_anew(listed, text):
    listed(entry())
    put(CONTENT, text)
    assert registry.complete("picture") == []
    fetched()
    assert landed()


def test_manifest_of_an_older_registry(listed):
    """Its file is whole, but no longer the one that is wanted."""
    put(OTHER, f"{digest(OTHER)}  {FILE}\n".encode())
    with Server(ranged()) as server:
        listed(entry(f"{server.url}/{FILE}"))
        fetched()
    assert landed()


def test_file_changed_or_gone_after_it_was_fetched(listed):
    with Server(ranged()) as server:
        listed(entry(f"{server.url}/{FILE}"))
        fetched()
        path = registry.cache() / FILE
        for spoil in (lambda: path.write_bytes(FLIPPED), path.unlink):
            spoil()
            assert registry.complete("picture") == []
            fetched()
            assert landed()
        assert len(server.calls) == 3


def test_stale_files_in_the_work_folder_are_swept(listed):
    with Server(ranged()) as server:
        each = entry(f"{server.url}/{FILE}")
        listed(each)
        work_folder(each).mkdir(parents=True)
        for name in ("tmpa1b2c3", "picture.jpg"):
            (work_folder(each) / name).write_bytes(OTHER)
        (work_folder(each) / "part").write_bytes(CONTENT[:HALF])
        fetched()
        assert [call.start for call in server.calls] == [HALF]
    assert landed()


# More than one file

MANY = {f"set/{i}.jpg": random.Random(i).randbytes(20_000) for i in range(12)}


def test_set_of_files_one_of_which_fails(listed):
    def answer(call):
        if call.path == "/set/7.jpg" and len(server.calls) < 30:
            return status(404)(call)
        return ranged(MANY[call.path.removeprefix("/")])(call)

    with Server(answer) as server:
        listed(*(entry(f"{server.url}/{f}", file=f, content=c, name="set")
                 for f, c in MANY.items()))  # fmt: skip
        error = fetched("set")
        assert type(error) is MissingError
        assert f"{server.url}/set/7.jpg (HTTP 404)" in str(error)
        assert not registry.manifest("set").exists()
        there = {p.name for p in (registry.cache() / "set").glob("[!.]*")}
        assert "7.jpg" not in there
        server.calls += server.calls[:1] * 30
        before = len(server.calls)
        path = fetched("set")
        # What came before is not asked for again.
        again = {call.path for call in server.calls[before:]}
        assert again == {f"/{file}" for file in MANY if Path(file).name not in there}
    lines = [f"{digest(content)}  {file}\n" for file, content in MANY.items()]
    assert path.read_text() == "".join(lines)
    assert registry.read_manifest(path) == {
        registry.cache() / file: digest(content) for file, content in MANY.items()
    }


# The disk


def test_too_little_space_is_said_before_any_request(listed, monkeypatch):
    with Server(ranged()) as server:
        each = entry(f"{server.url}/{FILE}")
        listed(each)
        usage = shutil.disk_usage("/")._replace(free=SIZE - 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        error = fetched()
        assert refused(error, f"needs {SIZE} bytes and {SIZE - 1} are free", kind=WriteError)
        assert str(registry.cache() / FILE) in str(error) and server.calls == []
        # What is there of it needs no more space.
        work_folder(each).mkdir(parents=True)
        (work_folder(each) / "part").write_bytes(CONTENT[:1])
        fetched()
    assert landed()


def test_disk_full_in_mid_download(listed, monkeypatch, tmp_path):
    with small_disk(tmp_path / "small") as disk, Server(ranged(block=8192, pause=0.005)) as server:
        if disk is None:
            pytest.skip("no small file system can be mounted here")
        monkeypatch.setenv("TEXNET_CACHE", str(disk))
        filler = disk / "filler"

        def fill(size):
            if not filler.exists():
                filler.touch()
                filler.write_bytes(bytes(shutil.disk_usage(disk).free - 8192))

        listed(entry(f"{server.url}/{FILE}"))
        error = fetched(show=fill)
        assert type(error) is WriteError and "\n" not in str(error)
        assert "No space left" in str(error) and str(disk) in str(error)
        assert not (disk / FILE).exists() and not registry.manifest("picture").exists()
        filler.unlink()
        fetched()
        assert server.calls[1].start > 0
        assert landed()


@pytest.mark.parametrize("wrong", ["is a file", "cannot be made"])
def test_cache_that_cannot_be_written(listed, monkeypatch, tmp_path, wrong):
    (tmp_path / "cache").write_text("no folder")
    if wrong == "cannot be made":
        monkeypatch.setenv("TEXNET_CACHE", "/proc/texnet")
    listed(entry())
    error = fetched(mirrors=[str(folder_with(tmp_path / "mirror"))])
    assert type(error) is WriteError and "cannot be written" in str(error)
    assert str(registry.cache()) in str(error) and "\n" not in str(error)


# Processes of their own: killed, limited, two at once

SCRIPT = """
import resource, sys
from pathlib import Path
from texnet import registry
found = registry.read_registry(Path(sys.argv[1]))
registry.registered = lambda: found
from texnet.errors import TexnetError
from texnet.fetch import Patience, fetch
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    fetch("picture", patience=Patience(pause=0.01))
except TexnetError as error:
    print(error, file=sys.stderr)
    sys.exit(error.code)
"""


def process(*arguments, script=SCRIPT):
    """A process that fetches the picture of the registry in the current folder."""
    return subprocess.Popen(
        [sys.executable, "-c", script, "registry.csv", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(started):
    out, err = started.communicate(timeout=60)
    return started.returncode, out, err


def write_registry(*entries):
    rows = [",".join(registry.COLUMNS)] + [
        f"{e.file},{' '.join(e.urls)},{e.sha256},{e.bytes},{e.licence},{e.source},{e.name}"
        for e in entries
    ]
    Path("registry.csv").write_text("\n".join(rows) + "\n")


def test_file_size_limit_in_mid_download(listed):
    """A disk that takes no more, as far as the writer can tell."""
    with Server(ranged()) as server:
        each = entry(f"{server.url}/{FILE}")
        write_registry(each)
        code, out, err = ended(process(100_000))
        assert (code, out, err.count("\n")) == (WriteError.code, "", 1)
        assert "cannot be written (File too large); free some space" in err
        listed(each)
        assert not (registry.cache() / FILE).exists()
        assert not registry.manifest("picture").exists()
        assert ended(process()) == (0, "", "")
        assert 0 < server.calls[1].start <= 100_000
    assert landed()


def test_ctrl_c_ends_it_long_before_the_file_is_there(listed):
    """At this pace the file takes minutes; what came is kept and resumed."""
    with Server(ranged(block=1000, pause=0.5)) as server:
        each = entry(f"{server.url}/{FILE}")
        write_registry(each)
        started, patience = process(), time.monotonic() + 30
        while not server.calls and time.monotonic() < patience:
            time.sleep(0.005)
        time.sleep(1)
        before = time.monotonic()
        started.send_signal(signal.SIGINT)
        assert ended(started)[0] != 0
        assert time.monotonic() - before < DEADLINE
        assert not (registry.cache() / FILE).exists()
    with Server(ranged()) as server:
        listed(entry(f"{server.url}/{FILE}"))
        fetched()
        assert server.calls[0].start > 0
    assert landed()


def test_a_dead_mirror_is_waited_for_once(listed, tmp_path, monkeypatch):
    """Not once for each of hundreds of files."""
    files = [f"set/{number}.jpg" for number in range(40)]
    listed(*(entry(file=file) for file in files))
    for file in files:
        target = tmp_path / "good" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(CONTENT)
    asked = []
    get = requests.Session.get
    monkeypatch.setattr(
        requests.Session, "get", lambda self, url, **how: asked.append(url) or get(self, url, **how)
    )
    dead = unused_address()
    assert isinstance(fetched(mirrors=[dead, str(tmp_path / "good")]), Path)
    assert PATIENCE.tries <= len(asked) <= PATIENCE.tries * fetching.AT_ONCE
    assert all((registry.cache() / file).read_bytes() == CONTENT for file in files)


def test_killed_at_any_time(listed):
    """Each goes on where the one before it was killed."""
    instant = random.Random(0)
    with Server(ranged(block=1000, pause=0.02)) as server:
        each = entry(f"{server.url}/{FILE}")
        write_registry(each)
        for number in range(10):
            started, patience = process(), time.monotonic() + 30
            while len(server.calls) == number and time.monotonic() < patience:
                time.sleep(0.005)
            time.sleep(instant.uniform(0, 0.25))
            started.kill()
            assert ended(started)[0] == -signal.SIGKILL
            assert not (registry.cache() / FILE).exists()
            assert not registry.manifest("picture").exists()
        starts = [call.start or 0 for call in server.calls]
        assert starts == sorted(starts) and starts[-1] > 0
    with Server(ranged()) as server:
        each = entry(f"{server.url}/{FILE}")
        listed(each)
        fetched()
        assert server.calls[0].start > 0
    assert landed()


STEPS = """
import os, shutil, sys
import pooch
from pathlib import Path
from texnet import registry
found = registry.read_registry(Path(sys.argv[1]))
registry.registered = lambda: found
from texnet.fetch import fetch
fetching = registry.cache()

def fetched(last):
    "Die just before a change of the file system."
    done = 0
    def hook(event, arguments):
        nonlocal done
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            done += 1
            if done > last:
                os._exit(9)
    sys.addaudithook(hook)
    fetch("picture", mirrors=["mirror"])

for last in range(1000):
    child = os.fork()
    if not child:
        try:
            fetched(last)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        break
    assert code == 9, code
    child = os.fork()
    if not child:
        fetch("picture", mirrors=["mirror"])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, last
    print(last, *sorted(p.relative_to(fetching) for p in fetching.rglob("*")))
    shutil.rmtree(fetching)
"""


def test_killed_at_every_step(tmp_path):
    """Killed before each change of the file system, and fetched again: nothing is left over."""
    folder_with(tmp_path / "mirror")
    write_registry(entry())
    code, out, err = ended(process(script=STEPS))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) > 10
    for number, line in enumerate(lines):
        assert line == f"{number} .picture.lock picture.sha256 styles {FILE}"


def test_two_processes_at_once(listed):
    with Server(ranged(block=15_000, pause=0.1)) as server:
        each = entry(f"{server.url}/{FILE}")
        write_registry(each)
        both = [process() for _ in range(2)]
        assert [ended(one) for one in both] == [(0, "", "")] * 2
        assert [call.start for call in server.calls] == [None]
    listed(each)
    assert landed()


# The command line


def call(capsys, *arguments):
    try:
        code = cli.main(["fetch", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.fixture
def offline(monkeypatch):
    """Every address is behind a proxy that is not there."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, unused_address())
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(fetching, "Patience", lambda: PATIENCE)


@pytest.mark.parametrize("name", ["chicago", "bsds500_test", "starry_night", "coco2014_val"])
def test_offline(capsys, offline, monkeypatch, name):
    usage = shutil.disk_usage("/")._replace(free=10**12)  # enough for COCO
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    code, out, err = call(capsys, name)
    assert (code, out, err.count("\n")) == (66, "", 1)
    first = registry.entries_of(name)[0]
    assert err.startswith(f"texnet fetch: error: {name}: {first.file} (")
    assert "Traceback" not in err and f"{first.urls[0]} (no connection" in err
    assert str(registry.cache() / first.file) in err
    assert [p for p in registry.cache().rglob("*") if p.is_file()] in (
        [], [registry.cache() / f".{name}.lock"])  # fmt: skip


def test_offline_in_a_real_process(offline):
    done = subprocess.run(
        [sys.executable, "-m", "texnet", "fetch", "picture", "chicago"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "'picture' is not in data/registry.csv; use one of" in done.stderr


def test_list_and_all(capsys, listed, tmp_path):
    folder = folder_with(tmp_path / "mirror")
    (folder / "b.jpg").write_bytes(OTHER)
    large = replace(entry(name="huge", file="huge.zip"), bytes=fetching.LARGE + 1)
    listed(entry(), entry(name="other", file="b.jpg", content=OTHER), large)
    code, out, err = call(capsys, "--list")
    assert (code, err) == (0, "")
    where, *lines = out.splitlines()
    assert where == f"in {registry.cache()}:"
    assert [line.split()[0] for line in lines] == ["picture", "other", "huge"]
    assert all("not there" in line and line.endswith("; CC0") for line in lines)
    assert [line for line in lines if "only by name" in line] == lines[2:]
    code, out, err = call(capsys, "--all", "--mirror", folder)
    manifests = [registry.manifest(name) for name in ("picture", "other")]
    assert (code, out.split(), err) == (0, [str(path) for path in manifests], "")
    assert not registry.manifest("huge").exists()
    code, out, err = call(capsys, "--list")
    assert ["not there" in line for line in out.splitlines()[1:]] == [False, False, True]


def test_what_can_be_had_is_had(capsys, listed, tmp_path):
    """One line for each name that nobody has; the others are fetched."""
    gone = [entry(name=name, file=f"{name}.jpg", content=OTHER) for name in ("one", "two")]
    listed(gone[0], entry(), gone[1])
    code, out, err = call(
        capsys, "one", "picture", "two", "--mirror", folder_with(tmp_path / "mirror")
    )
    assert (code, out) == (66, f"{registry.manifest('picture')}\n")
    assert [line.split()[3] for line in err.splitlines()] == ["one:", "two:"]
    assert (registry.cache() / FILE).read_bytes() == CONTENT


def test_mirrors_of_the_environment(capsys, listed, tmp_path, monkeypatch):
    listed(entry())
    monkeypatch.setenv("TEXNET_MIRRORS", f"{tmp_path}/none {folder_with(tmp_path / 'mirror')}")
    assert call(capsys, "picture")[0] == 0
    assert landed()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name what to fetch, or use --all; --list shows the names"),
        (["pictures"], "'pictures' is not in data/registry.csv; use one of picture"),
        (["picture", "../picture"], "'../picture' is not in data/registry.csv"),
        (["picture", ""], "'' is not in data/registry.csv"),
    ],
)
def test_wrong_names(capsys, listed, arguments, says):
    listed(entry())
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (UsageError.code, "")
    assert err.startswith("texnet fetch: error: ") and err.count("\n") == 1 and says in err
    assert not registry.cache().exists()


# The real files


@pytest.mark.parametrize(
    ("name", "files"), [("vgg19", 2), ("bsds500_train", 200), ("bsds500_test", 200)]
)
def test_real_files(name, files):
    entries = registry.entries_of(name)
    if not all((SHARED / each.file).is_file() for each in entries):
        pytest.skip(f"the files of {name} are not beside the project")
    path = fetched(name, [str(SHARED)])
    found = {}
    for line in path.read_text().splitlines():
        wanted, file = line.split("  ")
        content = (registry.cache() / file).read_bytes()
        assert digest(content) == wanted and content == (SHARED / file).read_bytes()
        found[file] = wanted
    assert found == {each.file: each.sha256 for each in entries} and len(found) == files
    assert registry.complete(name) == [name]


def test_no_wrong_file_landed():
    """The sum over all modes that were tried above."""
    if set(TRIED) != set(MODES):
        pytest.skip("not all modes were tried in this run")
    assert len(TRIED) >= 28
    assert sum(TRIED.values()) == 0, [name for name, wrong in TRIED.items() if wrong]
