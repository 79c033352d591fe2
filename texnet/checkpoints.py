"""What a long computation leaves beside its result so that the same command goes on with it."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from texnet.artifacts import check_writable, write_bytes
from texnet.errors import DataError, UnfinishedError, WriteError
from texnet.validation import difference

FORMAT = "texnet-checkpoint-1"
log = logging.getLogger(__name__)


class Checkpoint:
    """The state of one computation in a side file, and the state before that in another.

    A checkpoint is a SHA-256 of the rest, in hexadecimal, a line of JSON that says what the
    computation depends on, and what ``torch.save`` makes of the state.

    It lies beside the result, not among the outputs that a workflow declares: those are removed
    when a job fails. Where the folder of the result goes with the job, as in a pod, the environment
    variable ``TEXNET_CHECKPOINTS`` names another; the names of files tell computations apart.

    Args:
        folder: of the result.
        made_of: all that the computation depends on, as JSON. A checkpoint that was made of
            something else is not gone on with.
        device: where it is computed.
    """

    def __init__(self, folder: Path, made_of: Mapping[str, Any], device: torch.device) -> None:
        self.made_of, self.device = json.loads(json.dumps(made_of)), device
        text = json.dumps(self.made_of, sort_keys=True)
        name = f"checkpoint-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        folder = elsewhere() or folder
        self.path = folder / name
        self.new, self.previous = folder / f"{name}.new", folder / f"{name}.previous"

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep ``state``; the one before is kept too, and the one before that forgotten.

        Killed at any instant, there is the old one or the new one, whole.

        Raises:
            WriteError: the file system refuses (disk full); what was kept before still is.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        header = {"format": FORMAT, "made_of": self.made_of, "made_by": made_by(self.device)}
        content = json.dumps(header).encode() + b"\n" + buffer.getvalue()
        write_bytes(self.new, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        try:
            self._read(self.new)  # readable, before the older ones give way
        except (OSError, ValueError) as error:
            raise WriteError(
                f"{self.new}: cannot be read again ({error}); the disk fails"
            ) from error
        if self.path.exists():
            self.path.replace(self.previous)
        self.new.replace(self.path)

    def restore(self) -> dict[str, Any] | None:
        """The state last kept, its tensors on the device; None where there is none.

        Says so where it is damaged and the one before is taken, and where it was made by another
        kind of machine.

        Raises:
            DataError: there are checkpoints, and none can be read.
        """
        self._name_others()
        damaged = []
        # A new one that was not yet put in its place is the last.
        for path in (self.new, self.path, self.previous):
            if not path.exists():
                continue
            try:
                header, payload = self._read(path)
                where = self.device
                state = torch.load(io.BytesIO(payload), map_location=where, weights_only=True)
            except Exception as error:  # torch raises half a dozen types for a damaged file
                damaged.append((path, error))
                continue
            for other, reason in damaged:
                log.warning("%s: damaged checkpoint (%s); taking the one before", other, reason)
                other.unlink()  # lest it take the place of a good one
            if found := difference(header["made_by"], made_by(self.device)):
                log.warning(
                    "%s: was made with another %s: goes on, to weights that differ in their bits",
                    path,
                    found,
                )
            return state
        for path, reason in damaged[:1]:
            others = ", ".join(str(other) for other, _ in damaged[1:])
            also = f" (so is {others})" if others else ""
            raise DataError(
                f"{path}: damaged checkpoint ({reason or type(reason).__name__}){also}; "
                f"delete {'them' if others else 'it'} to start afresh"
            ) from reason
        return None

    def remove(self) -> None:
        """Forget the checkpoints of this computation: it is done."""
        for path in (self.new, self.path, self.previous):
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> tuple[dict[str, Any], bytes]:
        """Header and payload of a checkpoint; ValueError where it is not usable."""
        digest, _, content = path.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise ValueError("its content is not what was written")
        first, _, payload = content.partition(b"\n")
        header = json.loads(first)
        if header["format"] != FORMAT:
            raise ValueError(f"its format is '{header['format']}', wanted '{FORMAT}'")
        if found := difference(header["made_of"], self.made_of):
            raise ValueError(f"it is of another {found}")
        return header, payload

    def _name_others(self) -> None:
        """Say which checkpoints beside the result are of something else, and in what."""
        if elsewhere():  # those of every run are there
            return
        ours = {self.new, self.path, self.previous}
        for path in sorted(set(self.path.parent.glob("checkpoint-*")) - ours):
            try:
                with path.open("rb") as stream:
                    stream.readline()
                    theirs = json.loads(stream.readline())["made_of"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            found = difference(theirs, self.made_of)
            log.warning("%s: is of another %s: not taken; delete it, or restore that", path, found)


def elsewhere() -> Path | None:
    """The folder of all checkpoints, where they do not lie beside their results."""
    folder = os.environ.get("TEXNET_CHECKPOINTS")
    return Path(folder) if folder else None


def made_by(device: torch.device) -> dict[str, str]:
    """What bits depend on besides the run: the version of PyTorch and what computes."""
    processor = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    return {"torch": torch.__version__, "device": device.type, "processor": processor}


@contextmanager
def alone(folder: Path, wait: float = 60) -> Iterator[None]:
    """Within it, no other process that asks the same works on ``folder``.

    The lock is the system's, and goes with the process, however that ends. Two jobs on one result
    happen: Snakemake removes the locks of others when it ends, and a node that was given up may
    still be computing.

    Args:
        folder: of the results, made where there is none.
        wait: seconds to wait for the other.

    Raises:
        UnfinishedError: the other still works.
        WriteError: the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    path = Path(folder) / ".texnet.lock"
    if apart := elsewhere():
        path = apart / f".{Path(folder).absolute().name}.lock"
    check_writable(path)
    ours = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Where the file system has no locks this raises: a file that outlives its process is no lock.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("%s: another process works here; waiting %g s for it", folder, wait)
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            raise UnfinishedError(
                f"{folder}: another process works here, on this machine or on another one "
                "that shares the folder; wait for it, or end it, then give the same command again"
            ) from None
    except (NotImplementedError, OSError) as error:
        log.warning("%s: cannot be locked (%s); going on without", path, error)
        yield
        return
    try:
        yield
    finally:
        # While it is held: who waits for it sees that, and makes another.
        path.unlink(missing_ok=True)
        lock.release()
        if ours:
            with suppress(OSError):  # it holds the results now
                path.parent.rmdir()
