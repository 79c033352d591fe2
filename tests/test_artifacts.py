"""Files are whole or absent, whatever happens to the writer; damaged ones are named."""

import errno
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save

from texnet import artifacts
from texnet.artifacts import read_json, read_tensors, write_bytes, write_json, write_tensors
from texnet.errors import DataError, MissingError, WriteError


def test_round_trip_and_new_folders(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    write_bytes(path, b"first")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["a.bin"]
    assert artifacts.sha256(path).startswith("16367aacb67a4a01")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_mode_respects_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "a.bin", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o666 & ~umask


def raising(error):
    def call(*arguments, **options):
        raise error

    return call


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch, function):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    owner = os if function == "fsync" else type(path)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(owner, function, raising(full))
    with pytest.raises(WriteError, match=r"a\.bin: .*No space left on device") as caught:
        write_bytes(path, b"new")
    assert caught.value.code == 74
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_interrupt_leaves_no_part(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("name", ["folder", "file/inside", "n" * 300])
def test_unwritable_paths(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(WriteError, match="cannot be written"):
        write_bytes(tmp_path / name, b"new")
    assert sorted(os.listdir(tmp_path)) == before
    if name != "n" * 300:
        with pytest.raises(WriteError):
            artifacts.check_writable(tmp_path / name)


def test_check_writable_makes_nothing(tmp_path):
    artifacts.check_writable(tmp_path / "a" / "b" / "c.bin")
    assert os.listdir(tmp_path) == []


WRITER = """
import sys
from pathlib import Path
from texnet.artifacts import write_bytes
contents = [bytes([65 + i]) * (1 << 20) for i in range(2)]
path, turn = Path(sys.argv[1]), 0
while True:
    write_bytes(path, contents[turn % 2])
    turn += 1
    if turn == 2:
        print(flush=True)
"""


def test_killed_at_any_moment_the_file_is_whole(tmp_path):
    path, rng, seen = tmp_path / "a.bin", random.Random(0), set()
    for _ in range(15):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
        with writer:
            writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
        content = path.read_bytes()
        assert len(content) == 1 << 20
        assert len(set(content)) == 1
        seen.add(content[:1])
    assert seen <= {b"A", b"B"}


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (None, MissingError, "no such file"),
        (b"", DataError, "not valid JSON"),
        (b'{"a": 1', DataError, "not valid JSON"),
        (b"\x93\xff\x00", DataError, "not valid JSON"),
        (b"[" * 100_000, DataError, "not valid JSON"),
        (b"[1]", DataError, "holds list, wanted an object"),
    ],
)
def test_bad_json(tmp_path, content, error, text):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=rf"run\.json: .*{text}"):
        read_json(path)


def test_json_round_trip_and_directory(tmp_path):
    content = {"b": [1, 2.5, None], "a": "ä"}
    write_json(tmp_path / "a.json", content)
    assert list(read_json(tmp_path / "a.json").items()) == list(content.items())
    with pytest.raises(MissingError, match="is a directory"):
        read_json(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2]), "é": torch.zeros(0)}


def test_tensors_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {**TENSORS, "t": TENSORS["b"].T}, {"format": "x", "note": "ü"})
    tensors, metadata = read_tensors(path)
    assert metadata == {"format": "x", "note": "ü"}
    assert set(tensors) == {*TENSORS, "t"}
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert torch.equal(tensors["t"], TENSORS["b"].T)


SAVER = """
import sys, torch
from pathlib import Path
from texnet.artifacts import write_tensors
tensors = {n: torch.full((3,), ord(n)) for n in sys.argv[2:]}
write_tensors(Path(sys.argv[1]), tensors, {n: n for n in tensors})
"""


def test_bytes_do_not_depend_on_the_order_or_the_process(tmp_path):
    names = list("abcdefgh")
    for i, order in enumerate((names, names[::-1])):
        path = tmp_path / f"{i}.safetensors"
        subprocess.run([sys.executable, "-c", SAVER, path, *order], check=True)
        tensors = {n: torch.full((3,), ord(n)) for n in order[3:] + order[:3]}
        write_tensors(tmp_path / f"here{i}.safetensors", tensors, {n: n for n in order})
    assert len({artifacts.sha256(path) for path in tmp_path.iterdir()}) == 1


def spoilt(value):
    values = torch.zeros(5)
    values[3] = value
    return save({"good": torch.ones(2), "bad": values})


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (None, MissingError, "no such file"),
        (b"", DataError, "safetensors .*0 bytes"),
        (save(TENSORS)[:-3], DataError, "truncated"),
        (save(TENSORS)[:30], DataError, "truncated"),
        (b"\x89PNG" * 100, DataError, "safetensors"),
        (b"\xff" * 100, DataError, "safetensors"),
        (spoilt(float("nan")), DataError, "'bad' holds NaN or infinity"),
        (spoilt(float("inf")), DataError, "'bad' holds NaN or infinity"),
    ],
)
def test_bad_tensors(tmp_path, content, error, text):
    path = tmp_path / "a.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=rf"a\.safetensors: .*{text}"):
        read_tensors(path)


def test_directory_instead_of_tensors_and_rare_types(tmp_path):
    with pytest.raises(MissingError, match="is a directory"):
        read_tensors(tmp_path)
    small = {name: torch.ones(4).to(getattr(torch, name)) for name in ("bfloat16", "float8_e4m3fn")}
    write_tensors(tmp_path / "a.safetensors", small, {})
    tensors, metadata = read_tensors(tmp_path / "a.safetensors")
    assert metadata == {}
    assert {name: str(t.dtype) for name, t in tensors.items()} == {n: f"torch.{n}" for n in small}
