"""Servers on this machine alone that answer wrong, late or not at all, as a test tells them to.

And what else the tests of fetching need: entries of a registry, a small disk.
"""

import contextlib
import gzip
import hashlib
import random
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from http.client import responses

from texnet import fetch, registry

CONTENT = random.Random(0).randbytes(150_000)
SIZE = len(CONTENT)
HALF = SIZE // 2


class Stopped(Exception):
    """The server is closing."""


class Call:
    """One request, and the connection to answer it on."""

    def __init__(self, connection, stop, head):
        first, *lines = head.split("\r\n")
        self.path = first.split()[1]
        self.headers = dict(line.lower().split(": ", 1) for line in lines if line)
        self.connection, self.stop, self.sent = connection, stop, 0

    @property
    def start(self):
        """The byte that the request asks to start at; None where it asks for the whole."""
        asked = self.headers.get("range")
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked else None

    def send(self, body):
        self.connection.sendall(body)
        self.sent += len(body)

    def head(self, status=200, *headers):
        lines = (f"HTTP/1.1 {status} {responses.get(status, 'Odd')}", *headers, "Connection: close")
        self.connection.sendall("\r\n".join((*lines, "", "")).encode("latin-1"))

    def wait(self, seconds):
        if self.stop.wait(seconds):
            raise Stopped

    def reset(self):
        """End the connection by RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


Answer = Callable[[Call], None]


class Server:
    """Gives the answers in turn, one a request, and the last one to all that follow.

    ``calls`` are the requests that came.
    """

    def __init__(self, *answers: Answer):
        self.answers, self.calls = answers, []
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.threads, self.connections = [], []

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        # Wakes the thread that waits for a connection.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()

    def _listen(self):
        while not self.stop.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self.connections.append(connection)
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection):
        # Whatever the client does to its end is no failure of the server.
        with connection, contextlib.suppress(OSError, Stopped):
            head = b""
            while b"\r\n\r\n" not in head:
                block = connection.recv(4096)
                if not block:
                    return
                if block[0] == 0x16:  # the hello of TLS
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    return
                head += block
            with self.lock:
                call = Call(connection, self.stop, head.decode())
                answer = self.answers[min(len(self.calls), len(self.answers) - 1)]
                self.calls.append(call)
            answer(call)


# Answers, and what makes them.


def body(content=CONTENT, *headers, status=200, length=None):
    """The whole of ``content``, whatever was asked; ``length`` is declared instead of its own."""

    def answer(call):
        declared = len(content) if length is None else length
        call.head(status, *([f"Content-Length: {declared}"] if declared != "" else []), *headers)
        call.send(content)

    return answer


def status(code, *headers):
    return body(b"<html>sorry</html>", "Content-Type: text/html", *headers, status=code)


def ranged(content=CONTENT, most=None, rest=None, block=1 << 16, pause=0.0):
    """A server that resumes; it ends early after ``most`` bytes.

    ``rest`` says another Content-Range, or none if it is empty.
    """

    def answer(call):
        start = call.start
        if start is None:
            call.head(200, f"Content-Length: {len(content)}")
        else:
            told = f"bytes {start}-{len(content) - 1}/{len(content)}" if rest is None else rest
            headers = [f"Content-Length: {len(content) - start}"]
            call.head(206, *headers, *([f"Content-Range: {told}"] if told else []))
        part = content[start or 0 :][:most]
        for i in range(0, len(part), block):
            call.send(part[i : i + block])
            if pause:
                call.wait(pause)

    return answer


def chunked(content=CONTENT, end=b"0\r\n\r\n", size=10_000, headers=()):
    def answer(call):
        call.head(200, "Transfer-Encoding: chunked", *headers)
        for i in range(0, len(content), size):
            block = content[i : i + size]
            call.send(b"%x\r\n%s\r\n" % (len(block), block))
        call.send(end)

    return answer


def redirect(target, code=302):
    return lambda call: call.head(code, f"Location: {target}", "Content-Length: 0")


def raw(*blocks, then=None, pause=0.0):
    """Bytes as they are, in place of HTTP; then silence, a reset or the end."""

    def answer(call):
        for block in blocks:
            call.connection.sendall(block)
            call.wait(pause)
        if then == "reset":
            call.reset()
        elif then == "silence":
            call.wait(60)

    return answer


def partial(content, then=None):
    """A good start of an answer; then silence or a reset."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode()
    return raw(head, content, then=then)


def endless(*lines, block=b"x" * 2000, pause=0.005, first=b""):
    """The lines of a head, then a block again and again, at a rate that fills no memory."""

    def answer(call):
        call.connection.sendall("".join(f"{line}\r\n" for line in lines).encode() + first)
        while True:
            call.send(block)
            call.wait(pause)

    return answer


def dripping(content=CONTENT, pause=0.02):
    """Byte by byte after a good head."""

    def answer(call):
        start = call.start or 0
        headers = [f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}"]
        call.head(206 if start else 200, f"Content-Length: {len(content) - start}", *headers)
        for i in range(start, len(content)):
            call.send(content[i : i + 1])
            call.wait(pause)

    return answer


def unsatisfiable(call):
    call.head(416, f"Content-Range: bytes */{SIZE}", "Content-Length: 0")


GZIPPED = gzip.compress(CONTENT, 1)


def unused_address():
    """An address on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


# The registry and the disk


def digest(content):
    return hashlib.sha256(content).hexdigest()


def entry(*urls, file="styles/picture.jpg", content=CONTENT, name="picture"):
    return registry.Entry(file, urls, digest(content), len(content), "CC0", "a test", name)


def register(monkeypatch, *entries):
    """Make some entries the registry."""
    found = {}
    for each in entries:
        found.setdefault(each.name, []).append(each)
    for module in (registry, fetch):
        monkeypatch.setattr(module, "registered", lambda: found)


@contextlib.contextmanager
def small_disk(path):
    """A file system of 1 MiB at ``path``; None where none can be mounted."""
    path.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path)
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield path
    finally:
        subprocess.run(("umount", path), check=True)
