"""Processes to be killed: forks of one that has loaded everything, so that a start costs nothing.

Run as a program it reads lines of JSON, [arguments of texnet, what to do at which call], forks a
process that does it, and prints the process's number and, once that has ended, how it ended.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class Nursery:
    """Starts victims, one at a time, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.folder, self.busy = folder, False

    def start(self, *arguments, log="log", **how) -> int:
        """Number of a process that runs ``texnet`` with its output in a file.

        ``die_at``: the number of the change to the file system before which it kills itself, or
        sends itself ``signal``; ``fill``: the file before whose writing it fills the disk;
        ``pause``: seconds that each iteration takes longer.
        """
        self.settle()
        if not how.pop("keep", False):
            (self.folder / log).unlink(missing_ok=True)
        order = json.dumps([[str(a) for a in arguments], log, how])
        print(order, file=self.process.stdin, flush=True)
        self.busy = True
        number = self._answer("started")
        self.victim = os.pidfd_open(number)
        print(file=self.process.stdin, flush=True)
        return number

    def settle(self) -> None:
        """Wait for a process that a test which failed did not wait for."""
        if self.busy:
            self.end()

    def end(self) -> int:
        """The exit code of the process last started, negative for a signal, once it has ended."""
        self.busy = False
        os.close(self.victim)
        return self._answer("ended")

    def _answer(self, wanted: str) -> int:
        said, _, number = self.process.stdout.readline().partition(" ")
        assert said == wanted, said
        return int(number)

    def run(self, *arguments, **how) -> int:
        self.start(*arguments, **how)
        return self.end()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the process last started a signal, where it has not ended; never another one."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.victim, number)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def dying(at: int, number: int) -> None:
    """Signal this process before its ``at``-th change to the file system; say how many it made."""
    import tempfile

    count = 0
    atexit.register(lambda: print(f"{count} changes"))

    def counted(function):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), number)
            return function(*arguments, **options)

        return call

    for name in ("fsync", "replace", "unlink", "mkdir", "chmod"):
        setattr(os, name, counted(getattr(os, name)))
    tempfile.NamedTemporaryFile = counted(tempfile.NamedTemporaryFile)


def slow(seconds: float) -> None:
    """Each progress that is shown takes some time."""
    from texnet import progress

    original = progress.Progress.__call__

    def shown(self, done, loss):
        original(self, done, loss)
        time.sleep(seconds)

    progress.Progress.__call__ = shown


def filling(name: str) -> None:
    """Fill the disk before a file of this name is written."""
    import tempfile

    original = tempfile.NamedTemporaryFile

    def made(*arguments, **options):
        if Path(options["prefix"][1:]).match(f"{name}.*"):
            with open(Path(options["dir"]) / "filler", "wb", buffering=0) as filler:
                for size in (1 << 16, 1 << 12, 1):
                    try:
                        while True:
                            filler.write(bytes(size))
                    except OSError:
                        continue
        return original(*arguments, **options)

    tempfile.NamedTemporaryFile = made


def main() -> None:
    # Loaded once for all, what Adam and the images import at their first use, too.
    import torch
    import torch._dynamo

    from texnet import __main__, baselines, scoring, training  # noqa: F401

    torch.set_num_threads(1)
    training.digest = baselines.digest = lambda module: "code"  # as long as a training of this size
    for line in sys.stdin:
        arguments, log, how = json.loads(line)
        child = os.fork()
        if not child:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            os.setsid()
            if "die_at" in how:
                dying(how["die_at"], how.get("signal", signal.SIGKILL))
            if "pause" in how:
                slow(how["pause"])
            if "fill" in how:
                filling(how["fill"])
            code = 1
            try:
                sys.argv = ["texnet", *arguments]
                code = __main__.main()
            finally:
                atexit._run_exitfuncs()
                sys.stdout.flush()
                os._exit(code)
        print("started", child, flush=True)
        sys.stdin.readline()  # until it has been seen, its number is not given to another
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
