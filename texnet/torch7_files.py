"""Torch 7's binary files (.t7), and the layers that they hold, checked one by one.

``torchfile`` reads the format (an optional package: ``pip install -e '.[torch7]'``). It executes
nothing: of a Lua function the bytes are kept as bytes, a class is a name with its fields. Its own
readers of tensors trust the file's sizes and strides; checked ones replace them here.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from texnet.artifacts import check_file
from texnet.errors import DataError, UsageError

LARGEST = 16 * 2**20
"""Bytes of the largest file that is read; the authors' generators have half a million."""
TYPES = {
    "Byte": "u1", "Char": "i1", "Short": "<i2", "Int": "<i4", "Long": "<i8", "Float": "<f4",
    "Double": "<f8", "Cuda": "<f4",
}  # fmt: skip


class Stored(NamedTuple):
    """A tensor as Torch 7 writes it: a part of a storage, which several may share."""

    storage: np.ndarray[Any, Any]
    offset: int
    shape: tuple[int, ...]

    def values(self, count: int | None = None) -> Tensor:
        """The tensor in float32; or ``count`` values from its first on, past its end too.

        Where the storage ends before ``count`` values, those that there are.
        """
        end = self.offset + (math.prod(self.shape) if count is None else count)
        flat = torch.from_numpy(self.storage[self.offset : end].astype(np.float32))
        return flat.reshape(self.shape) if count is None else flat


def _read_storage(kind: str) -> Callable[[Any, object], np.ndarray[Any, Any]]:
    dtype = np.dtype(kind)

    def reader_of_storage(reader: Any, version: object) -> np.ndarray[Any, Any]:  # noqa: ANN401
        (count,) = struct.unpack("<q", reader.f.read(8))
        wanted = count * dtype.itemsize
        content = reader.f.read(wanted)
        if len(content) != wanted:
            raise EOFError(f"a storage of {count} values, of which {len(content)} bytes are there")
        return np.frombuffer(content, dtype)

    return reader_of_storage


def _read_tensor(reader: Any, version: object) -> Stored:  # noqa: ANN401 (a T7Reader)
    (dimensions,) = struct.unpack("<i", reader.f.read(4))
    if not 0 <= dimensions <= 8:
        raise ValueError(f"a tensor of {dimensions} dimensions")
    layout = f"<{dimensions}q"
    size = struct.calcsize(layout)
    shape, strides = (struct.unpack(layout, reader.f.read(size)) for _ in range(2))
    (first,) = struct.unpack("<q", reader.f.read(8))
    storage = reader.read_obj()
    if storage is None or not dimensions:
        return Stored(np.empty(0, np.float32), 0, (0,))
    count = 1
    for side, stride in zip(reversed(shape), reversed(strides), strict=True):
        if side < 0 or (side > 1 and stride != count):
            raise ValueError(f"a tensor of shape {shape} with strides {strides}")
        count *= side
    if not isinstance(storage, np.ndarray) or first < 1 or first - 1 + count > len(storage):
        raise ValueError(f"a tensor of {count} values from number {first} on, out of its storage")
    return Stored(storage, first - 1, shape)


READERS: dict[bytes, Callable[[Any, object], Any]] = {
    **{f"torch.{name}Storage".encode(): _read_storage(kind) for name, kind in TYPES.items()},
    **{f"torch.{name}Tensor".encode(): _read_tensor for name in TYPES},
}


def _torchfile() -> ModuleType:
    try:
        import torchfile  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError(
            "Torch 7 files need the package torchfile, which is not installed; "
            "pip install -e '.[torch7]'"
        ) from error
    return torchfile


def read(path: Path) -> Any:  # noqa: ANN401 (whatever the file holds)
    """What a binary Torch 7 file holds: numbers, strings, tables as dictionaries, ``TorchObject``.

    Tensors are :class:`Stored`. Nothing of the file is executed.

    Raises:
        UsageError: ``torchfile`` is not installed.
        MissingError: no such file.
        DataError: truncated, damaged, of another kind, or larger than 16 MiB.
    """
    torchfile = _torchfile()
    path = check_file(path, "a Torch 7 file (.t7)")
    size = path.stat().st_size
    if size > LARGEST:
        raise DataError(f"{path}: has {size} bytes, wanted {LARGEST} at most; name another file")
    # This table is how torchfile is extended; the rest of the process keeps its own.
    kept = dict(torchfile.type_handlers)
    torchfile.type_handlers.clear()
    torchfile.type_handlers.update(READERS)
    try:
        content = io.BytesIO(path.read_bytes())
        reader = torchfile.T7Reader(content, use_list_heuristic=False, utf8_decode_strings=True)
        return reader.read_obj()
    except Exception as error:  # it checks nothing, and so may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise DataError(
            f"{path}: cannot be read as a Torch 7 file ({reason}; {size} bytes); it is truncated, "
            "damaged or of another kind: restore it or fetch it again"
        ) from error
    finally:
        torchfile.type_handlers.clear()
        torchfile.type_handlers.update(kept)


@dataclass(frozen=True)
class Layer:
    """One layer of a file, with its place in the tree as Torch counts: (1, 2) is the second of 1.

    Args:
        file: for messages.
        place: of the layer; () for the outermost.
        content: what the file holds there.
        wanted: what the whole file should be, for messages.
    """

    file: Path
    place: tuple[int, ...]
    content: Any
    wanted: str

    @property
    def kind(self) -> str:
        """The name of its class."""
        if not isinstance(self.content, _torchfile().TorchObject):
            return "no layer"
        return ascii(self.content.torch_typename().decode(errors="replace"))[1:-1][:60]

    def get(self, name: str) -> Any:  # noqa: ANN401 (whatever the file holds)
        """A field; None where there is none."""
        try:
            return self.content[name]
        except (AttributeError, TypeError):  # its fields are no table
            return None

    def refusal(self, what: str) -> DataError:
        """The error that says what is wrong with the layer."""
        place = ".".join(map(str, self.place)) or "0"
        return DataError(f"{self.file}: layer {place}, {self.kind}: {what}; name {self.wanted}")

    def check(self, **wanted: object) -> Layer:
        """The layer itself; DataError where a field has another value."""
        for name, value in wanted.items():
            found = self.get(name)
            if found != value:
                simple = found is None or isinstance(found, int | float | str)
                shown = f"{found!r:.40}" if simple else "a table or an object"
                raise self.refusal(f"{name} is {shown}, wanted {value!r}")
        return self

    def stored(self, name: str, *shape: int) -> Stored:
        """A field that is a finite tensor, of that shape where one is given; else DataError."""
        found = self.get(name)
        if not isinstance(found, Stored) or (shape and found.shape != shape):
            shown = f"of shape {found.shape}" if isinstance(found, Stored) else "no tensor"
            raise self.refusal(f"{name} is {shown}, wanted {shape or 'a tensor'}")
        if not found.values().isfinite().all():
            raise self.refusal(f"{name} holds NaN or infinity")
        return found

    def layers(self) -> Layers:
        """What a container holds."""
        modules = self.get("modules")
        numbers = range(1, len(modules) + 1) if isinstance(modules, dict) else range(0)
        if not numbers or any(number not in modules for number in numbers):
            raise self.refusal("holds no list of layers")
        inner = [Layer(self.file, (*self.place, n), modules[n], self.wanted) for n in numbers]
        return Layers(self, inner)


class Layers:
    """The layers of a container, taken one after the other, each of a kind that is wanted."""

    def __init__(self, container: Layer, layers: Sequence[Layer]) -> None:
        self.container, self.left = container, list(layers)

    @property
    def upcoming(self) -> str:
        """The kind of the next layer; nothing at the end."""
        return self.left[0].kind if self.left else ""

    def take(self, *kinds: str, **wanted: object) -> Layer:
        """The next layer; DataError where it is of another kind or a field has another value."""
        if not self.left:
            raise self.container.refusal(f"ends where {' or '.join(kinds)} is wanted")
        layer = self.left.pop(0)
        if layer.kind not in kinds:
            raise layer.refusal(f"wanted {' or '.join(kinds)}")
        return layer.check(**wanted)

    def end(self) -> None:
        """DataError where a layer is left."""
        if self.left:
            raise self.left[0].refusal("wanted no further layer")
