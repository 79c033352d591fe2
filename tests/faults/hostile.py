"""Commands held against hostile input, each in a child of this process that may not hang."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Imported once, not in every child; the last by torch.use_deterministic_algorithms.
import torch._inductor  # noqa: F401

from texnet import __main__ as cli
from texnet import apply, baselines, experiment, runtime  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 20
"""Seconds after which a command counts as hung: no measure of speed."""
MEGABYTE = 2**20


@dataclass(frozen=True)
class Ended:
    """What came of a command."""

    code: int
    """Negative for a signal, as of subprocess: SIGALRM where it hung."""
    out: str
    err: str
    memory: int
    """Bytes: the largest resident size; of a child, what it took more than this process has."""


def texnet(*arguments, unprivileged=False):
    """``texnet ARGUMENTS`` in a child; ``unprivileged`` takes root's rights over all files away."""

    def run():
        if unprivileged and hasattr(libc := ctypes.CDLL(None), "capset"):
            # Version 3 of the header, this process; no capability is left.
            libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
        return cli.main([str(argument) for argument in arguments])

    ended = forked(run)
    idle = forked(lambda: 0)
    return Ended(ended.code, ended.out, ended.err, max(0, ended.memory - idle.memory))


def forked(function):
    """A child that ends with what a function returns."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            code = 99
            try:
                signal.alarm(DEADLINE)
                for number, stream in ((1, out), (2, err)):
                    os.dup2(stream.fileno(), number)
                sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
                code = function()
            except SystemExit as stop:
                code = stop.code
            except BaseException as error:
                print(f"Traceback: {error!r}", file=sys.stderr)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        return _ended(child, out, err)


def process(*command, **env):
    """A command in a process of its own, from nothing."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = subprocess.Popen(
            list(map(str, command)),
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (2 * DEADLINE,) * 2),
        )
        ended = _ended(started.pid, out, err)
        started.returncode = ended.code
        return ended


def _ended(pid, out, err):
    _, status, usage = os.wait4(pid, 0)
    for stream in (out, err):
        stream.seek(0)
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, out.read(), err.read(), usage.ru_maxrss * 1024)


def below(folder="."):
    """Content of all files below a folder, by path; links and what is no file by their kind."""
    return {
        path: path.read_bytes()
        if path.is_file() and not path.is_symlink()
        else path.lstat().st_mode
        for path in sorted(Path(folder).rglob("*"))
    }


def refused(*arguments, code, says, unprivileged=False):
    """The one line that a command prints; it leaves nothing behind, and takes little memory."""
    before = below()
    ended = texnet(*arguments, unprivileged=unprivileged)
    assert ended.code == code, ended
    assert ended.out == "" and "Traceback" not in ended.err
    assert ended.err.startswith(f"texnet {arguments[0]}: error: ") and ended.err.count("\n") == 1
    assert says in ended.err, ended.err
    assert ended.memory < 300 * MEGABYTE, ended.memory
    assert below() == before
    return ended.err
