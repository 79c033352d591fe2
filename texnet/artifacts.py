"""Files that are whole or absent: atomic writes, checksums, safetensors with a described origin."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from texnet.errors import DataError, MissingError, WriteError
from texnet.process import namespace

if TYPE_CHECKING:
    from torch import Tensor

GENERATOR = "texnet-generator-2"
"""The format of a trained generator's file, in its metadata."""
DIGEST = "sha256"
"""The key of a safetensors file's own digest, in its metadata."""


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_file(path: Path, wanted: str) -> Path:
    """``path`` itself if it is a regular file; MissingError, naming what was wanted, if not."""
    path = Path(path)
    try:
        if path.is_dir():
            raise MissingError(f"{path}: is a directory; name a file, {wanted}")
        if path.is_file():
            return path
        reason = "is not a regular file" if path.exists() else "no such file"
    except OSError as error:
        reason = error.strerror or str(error)
    raise MissingError(f"{path}: {reason}; expected {wanted}")


def check_writable(path: Path) -> None:
    """WriteError before a long computation, not after it, where ``path`` cannot be written."""
    path = Path(path)
    try:
        if path.is_dir():
            raise WriteError(f"{path}: is a directory; name a file to write")
        there = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror}); choose a directory you may write to"
        ) from error


@contextmanager
def placed(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, that takes the place of ``path`` once it is whole: old bytes or new ones.

    It is a temporary one in the same directory; at the end it is synced and renamed, or, after an
    error, removed. Raises :class:`WriteError` when the file system refuses (disk full, no
    permission).
    """
    path = Path(path)
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name[:64]}.{_writer()}.", suffix=".part", delete=False
        ) as stream:
            part = Path(stream.name)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # NamedTemporaryFile makes private files; the result gets the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror}); "
            "free some space or choose a directory you may write to"
        ) from error
    finally:
        # After an error, and after Ctrl-C; once renamed there is nothing to remove.
        if part is not None:
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` as :func:`placed` does: old bytes or new ones, never a part."""
    with placed(path) as stream:
        stream.write(content)


def _writer() -> str:
    """This process, in the names of its temporary files."""
    space = "".join(filter(str.isdecimal, namespace()))
    return f"{platform.node().replace('.', '-')[:32]}-{space}.{os.getpid()}"


def _sweep(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that were killed while writing."""
    for part in folder.glob(".*.part"):
        node, _, pid = part.name.rpartition(".")[0].rpartition(".")[0].rpartition(".")
        if node.endswith(f".{_writer().rpartition('.')[0]}") and pid.isdecimal():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                part.unlink(missing_ok=True)
            except OSError:  # somebody else's process
                continue


def write_text(path: Path, content: str) -> None:
    """Write text (UTF-8) as :func:`write_bytes` does."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, keys in their given order, as :func:`write_bytes` does."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; MissingError or DataError where there is none."""
    try:
        content = json.loads(check_file(path, "a JSON file").read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {type(content).__name__}, wanted an object with keys")
    return content


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and their description as a safetensors file, atomically.

    The bytes depend on the tensors and the metadata alone, not on the order of insertion. A digest
    of both is kept in the metadata.
    """
    from safetensors.torch import save

    contiguous = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    # Of no tensor with empty metadata the library makes no JSON (safetensors 0.8).
    content = save(contiguous, metadata=dict(metadata) or None)
    end = 8 + int.from_bytes(content[:8], "little")
    described = json.loads(content[8:end])
    total = _digest(described, content[end:])
    described.setdefault("__metadata__", {})[DIGEST] = total
    # The library writes metadata in the order of a hash map that differs from process to process.
    header = json.dumps(described, sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    write_bytes(Path(path), len(header).to_bytes(8, "little") + header + content[end:])


def _digest(header: Mapping[str, Any], *data: bytes) -> str:
    """SHA-256 of what a safetensors file holds: all of its header but this, and its data."""
    metadata = {k: v for k, v in header.get("__metadata__", {}).items() if k != DIGEST}
    total = hashlib.sha256(
        json.dumps({**header, "__metadata__": metadata}, sort_keys=True).encode()
    )
    for part in data:
        total.update(part)
    return total.hexdigest()


def check_digest(path: Path, metadata: Mapping[str, str]) -> None:
    """DataError if a safetensors file with a digest in its metadata holds something else.

    The format has no checksum, and a flipped bit loads as another weight.
    """
    if DIGEST not in metadata:  # written by others
        return
    with Path(path).open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        found = _digest(header, *iter(lambda: stream.read(1 << 20), b""))
    if found != metadata[DIGEST]:
        raise DataError(
            f"{path}: is damaged: sha256 of its content is {found}, {metadata[DIGEST]} when it was "
            "written; delete it to make it anew, or restore it"
        )


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    """Type and shape by name."""


def read_header(path: Path, wanted: str = "safetensors") -> Header:
    """The header of a safetensors file, read without PyTorch; its digest is checked.

    Args:
        path: the file.
        wanted: what it should be, for the message where it is not there.

    Raises:
        MissingError, DataError: no such file; not safetensors, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(check_file(path, wanted), framework="np") as stream:
            metadata = dict(stream.metadata() or {})
            slices = {name: stream.get_slice(name) for name in stream.keys()}
            tensors = {k: (s.get_dtype(), tuple(s.get_shape())) for k, s in slices.items()}
        check_digest(path, metadata)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({error}); restore it") from error
    return Header(metadata, tensors)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: the tensors and the metadata.

    Raises:
        MissingError: no such file.
        DataError: the file is truncated, damaged or not safetensors, or holds a value that is not
            finite.
    """
    from safetensors import SafetensorError, safe_open

    path = check_file(path, "safetensors weights")
    try:
        path.open("rb").close()
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
            check_digest(path, metadata)
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as safetensors ({error}; {path.stat().st_size} bytes); "
            "the file is truncated or of another kind: restore it or fetch it again"
        ) from error
    for name, tensor in tensors.items():
        # The 8-bit floats have no isfinite of their own.
        values = tensor.float() if tensor.itemsize == 1 else tensor
        if tensor.is_floating_point() and not values.isfinite().all():
            raise DataError(f"{path}: tensor '{name}' holds NaN or infinity; restore the file")
    metadata.pop(DIGEST, None)
    return tensors, metadata
