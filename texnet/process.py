"""How a process ends: on an error, on a signal, and when the process it works for has ended."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from texnet.errors import DataError, MissingError, TexnetError, UnfinishedError, WriteError

PARENT = "TEXNET_PARENT"
"""Environment variable: the process with which this one ends (workflow/rules/common.smk)."""
STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""What asks a process to stop. Cluster managers send the first, or any that ``sbatch --signal``
names, some time before they kill; a terminal that closes sends the last."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
POLL = 0.2

GRACE = 30.0
"""Seconds for what a process may still do once it is asked to stop because its parent has ended."""

Handler = Callable[[int, FrameType | None], Any] | signal.Handlers


class Stop(BaseException):
    """A signal asks to stop. No mistake, and so nothing that handles mistakes may catch it."""


def guarded(title: str, work: Callable[[], object], debug: bool = False, last: bool = False) -> int:
    """Do ``work``; whatever ends it, say one line about it and return the exit code.

    Args:
        title: of the program, at the beginning of that line.
        work: what to do.
        debug: whether to show the traceback of a mistake of the user's, too.
        last: whether the process ends with it: a second signal changes nothing then.
    """
    end_with(os.environ.get(PARENT))
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that cannot be shown is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    seen: list[str] = []

    def stop(number: int, frame: FrameType | None) -> None:
        seen.append(signal.Signals(number).name)
        raise Stop

    stops = dict.fromkeys((*STOPS, signal.SIGINT), stop)
    try:
        with handled(stops, after=signal.SIG_IGN if last else None):
            work()
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (Stop, Exception) as error:
        if seen:  # in the midst of an import it comes out as anything
            stopped = UnfinishedError(f"stopped by {seen[0]}; give the same command again")
            return _told(title, stopped)
        told = explained(error)
        if debug or told is None:
            with suppress(OSError):
                traceback.print_exc()
        return _told(title, told or TexnetError(f"internal error: {error!r}; please report it"))
    return 0


def _told(title: str, error: TexnetError) -> int:
    """Say what is wrong, where that can be said, and return its code."""
    with suppress(OSError):  # a log on a full disk
        print(f"{title}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return error.code


def program(main: Callable[[], object]) -> NoReturn:
    """Run a script's ``main`` and exit as :func:`guarded` says."""
    raise SystemExit(guarded(Path(sys.argv[0]).stem, main, last=True))


def explained(error: BaseException) -> TexnetError | None:
    """What to tell the user about an error; None where the program is at fault."""
    if isinstance(error, TexnetError):
        return error
    if isinstance(error, OSError):
        where, why = error.filename or "input or output", error.strerror or error
        if error.errno in FULL:
            return WriteError(f"{where}: {why}; free some space, then give the same command again")
        return MissingError(f"{where}: {why}; check the path")
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"an input is not text ({error}); check the files on the command line")
    if isinstance(error, MemoryError) or (
        "memory" in str(error) and isinstance(error, RuntimeError)
    ):
        return TexnetError("out of memory; use a smaller size, width or batch")
    return None


@contextmanager
def handled(
    handlers: Mapping[signal.Signals, Handler], after: Handler | None = None
) -> Iterator[None]:
    """Within it, signals have these handlers, but for those that the process was told to ignore.

    Args:
        handlers: by signal.
        after: what they have after it; by default what they had before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and signals go to it
        return
    before = {s: signal.getsignal(s) for s in handlers if signal.getsignal(s) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if after is None else after)


@contextmanager
def stop_requests() -> Iterator[Callable[[], str | None]]:
    """Within it, a signal that asks to stop is noted, not obeyed.

    Gives a function that names the signal that came, None where none did. Whoever asks it stops
    where nothing is lost. A second Ctrl-C is obeyed at once.
    """
    seen: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.Signals(number).name in seen:
            raise KeyboardInterrupt
        seen.append(signal.Signals(number).name)

    with handled(dict.fromkeys((*STOPS, signal.SIGINT), note)):
        yield lambda: seen[0] if seen else None


def this_process() -> str:
    """The value of ``TEXNET_PARENT`` with which other processes end with this one."""
    return f"{os.getpid()}@{namespace()}"


def namespace() -> str:
    """In which numbers of processes mean the same; a container may have its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        return ""


def end_with(parent: str | None) -> None:
    """Stop this process as SIGTERM does, within a fraction of a second, once ``parent`` has ended.

    A job whose Snakemake was killed would go on, and overwrite what the next Snakemake's job makes.

    Args:
        parent: what :func:`this_process` gave there; None or empty where there is nobody to end
            with. Nothing is done in a container that does not see that process.
    """
    number, _, within = (parent or "").partition("@")
    if not number.isdecimal() or int(number) == os.getpid() or within != namespace():
        return
    import psutil

    try:
        watched = psutil.Process(int(number))
    except psutil.NoSuchProcess:
        os._exit(UnfinishedError.code)

    def alive() -> bool:
        # A number that another process has by now is not running; one that nobody has waited for is
        # a zombie.
        try:
            return watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def watch() -> None:
        while alive():
            time.sleep(POLL)
        # A training makes its checkpoint, and nothing else is begun. Who starts the same again
        # waits for it: see checkpoints.alone.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(UnfinishedError.code)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()
