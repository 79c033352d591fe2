"""The real VGG-19's files from shards: every byte in its place, and a wrong one refused."""

import csv
import hashlib
import json
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from safetensors.numpy import load, save

from texnet import assembly, registry
from texnet.assembly import AFFINE, EIGHT_BIT, EXACT, SHARDS, assemble, recipe
from texnet.errors import DataError, MissingError
from texnet.fetch import Patience, fetch
from texnet.registry import read_registry

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "vgg19"
MIB = 2**20
# Where blocks 4 and 5 begin in the 8-bit conversion, and the number of the network's values.
STARTS = (2325568, 3505728, 5865536, 8225344, 10585152, 12944960, 15304768, 17664576)
END = 20024384
BLOCKS = {1: (64, 2), 2: (128, 2), 3: (256, 4), 4: (512, 4), 5: (512, 4)}
QUICK = Patience(tries=2, pause=0.01)


def rows():
    with SHARDS.open(newline="") as stream:
        return list(csv.DictReader(stream))


def layers(*blocks):
    """Name, inputs and outputs of the convolutions of some blocks."""
    found, inputs = [], 3
    for block, (width, number) in BLOCKS.items():
        for i in range(number):
            if block in blocks:
                found.append((f"conv{block}_{i + 1}", inputs, width))
            inputs = width
    return found


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def floats(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


# The list.


def test_the_list_is_well_formed():
    assert SHARDS.read_text().startswith("file,urls,bytes,sha256\n")
    pinned = r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}/[\w./-]+"
    for row in rows():
        urls = row["urls"].split()
        assert urls
        assert all(re.fullmatch(pinned, url) for url in urls)
        assert len({url.rpartition("/")[2] for url in urls}) == 1
        assert int(row["bytes"]) > 0
        assert re.fullmatch("[0-9a-f]{64}" if row["file"] == EXACT else "", row["sha256"])
    assert list(dict.fromkeys(row["file"] for row in rows())) == [EXACT, EIGHT_BIT]
    assert len({row["urls"] for row in rows()}) == len(rows())


def test_the_list_has_vgg19s_parameters():
    """20,024,384 values in 16 convolutions, a fact of VGG-19; and no shard too many."""
    sizes = {EXACT: [], EIGHT_BIT: []}
    for row in rows():
        sizes[row["file"]].append(int(row["bytes"]))
    counts = [9 * i * o + o for _, i, o in layers(1, 2, 3, 4, 5)]
    assert sum(counts) == END
    assert sizes[EXACT] == [4 * count for count in counts[:8]]
    assert sizes[EIGHT_BIT][:18] == 18 * [MIB]
    assert sizes[EIGHT_BIT][18:] == [4 * (i * o + o) for _, i, o in layers(4, 5)]
    names = [row["urls"].rpartition("/")[2] for row in rows()]
    numbers = [n for n in range(1, 139) if n * MIB > STARTS[0] and (n - 1) * MIB < END]
    assert names[:8] == [f"group{n}-shard1of1" for n in range(1, 9)]
    assert names[8:26] == [f"group1-shard{n}of138.bin" for n in numbers]
    assert names[26:] == ["group9-shard2of2", *(f"group{n}-shard3of3" for n in range(10, 17))]


def test_recipes():
    exact, eight_bit = read_registry()["vgg19"]
    assert [len(recipe(exact)), len(recipe(eight_bit))] == [8, 26]
    first = recipe(exact)[0]
    assert (first.file, first.bytes, first.name) == ("group1-shard1of1", 7168, "vgg19")
    assert first.licence == exact.licence
    assert recipe(replace(exact, file="elsewhere/vgg19_conv1_1-conv3_4.safetensors")) == []


# The layout, at any size.


def naive(kernel):
    """A kernel in OIHW, value by value."""
    height, width, inputs, outputs = kernel.shape
    found = np.empty((outputs, inputs, height, width), kernel.dtype)
    for h, w, i, o in product(*map(range, kernel.shape)):
        found[o, i, h, w] = kernel[h, w, i, o]
    return found


SIZES = [
    (("conv4_1", 2, 3),),
    (("conv4_1", 3, 2), ("conv4_2", 2, 5)),
    (("conv4_4", 4, 4), ("conv5_1", 4, 1), ("conv5_2", 1, 7)),
]


@pytest.mark.parametrize("sizes", SIZES)
def test_float_shards_of_any_size(sizes, rng):
    shards, tensors = [], {}
    for name, inputs, outputs in sizes:
        kernel, bias = floats(rng, 3, 3, inputs, outputs), floats(rng, outputs)
        shards.append(kernel.tobytes() + bias.tobytes())
        tensors |= {f"{name}.weight": naive(kernel), f"{name}.bias": bias}
    content = assembly.packed(assembly.exact(sizes, shards), "some text")
    assert content == save(tensors, {"info": "some text"})


@pytest.mark.parametrize("size", [1, 40, 10_000])
@pytest.mark.parametrize("skipped", [0, 13])
@pytest.mark.parametrize("sizes", SIZES)
def test_eight_bit_shards_of_any_size(sizes, skipped, size, rng):
    stream, last, tensors = rng.bytes(skipped), [], {}
    for name, inputs, outputs in sizes:
        kernel = rng.integers(0, 256, (3, 3, inputs, outputs), dtype=np.uint8)
        bias, (scale, minimum) = floats(rng, outputs), AFFINE[name]
        stream += kernel.tobytes() + rng.bytes(outputs)
        last.append(floats(rng, inputs * outputs).tobytes() + bias.tobytes())
        tensors |= {
            f"{name}.weight_u8": naive(kernel),
            f"{name}.bias": bias,
            f"{name}.weight_scale": np.array([scale]),
            f"{name}.weight_min": np.array([minimum]),
        }
    stream += rng.bytes(99)
    shards = [stream[i : i + size] for i in range(0, len(stream), size)]
    content = assembly.packed(assembly.eight_bit(sizes, shards + last, skipped), "some text")
    assert content == save(tensors, {"info": "some text"})


# The files, at their size: with random values everywhere, with the real ones where they are.


def tensors_of(file, rng):
    """Random values for a file."""
    found = {}
    for name, i, o in layers(1, 2, 3) if file == EXACT else layers(4, 5):
        found[f"{name}.bias"] = floats(rng, o)
        if file == EXACT:
            found[f"{name}.weight"] = floats(rng, o, i, 3, 3)
            continue
        found[f"{name}.weight_u8"] = rng.integers(0, 256, (o, i, 3, 3), dtype=np.uint8)
        for kind, value in zip(("scale", "min"), AFFINE[name], strict=True):
            found[f"{name}.weight_{kind}"] = np.array([value])
    return found


def shards_of(file, tensors, rng):
    """The shards that hold a file's values; what the file does not hold is random."""
    if file == EXACT:
        return [
            np.einsum("oihw->hwio", tensors[f"{name}.weight"]).tobytes()
            + tensors[f"{name}.bias"].tobytes()
            for name, _, _ in layers(1, 2, 3)
        ]
    stream, last = bytearray(rng.bytes(20 * MIB)), []
    for start, (name, inputs, outputs) in zip(STARTS, layers(4, 5), strict=True):
        kernel = np.einsum("oihw->hwio", tensors[f"{name}.weight_u8"]).tobytes()
        stream[start : start + len(kernel)] = kernel
        bias = tensors[f"{name}.bias"]
        last.append(floats(rng, inputs * outputs).tobytes() + bias.tobytes())
    return [bytes(stream[i : i + MIB]) for i in range(2 * MIB, 20 * MIB, MIB)] + last


@pytest.fixture(scope="module", params=["random", "real"])
def files(request):
    """(bytes, shards) of both files."""
    rng, found = np.random.default_rng(1), {}
    for file in (EXACT, EIGHT_BIT):
        if request.param == "real":
            if not REAL.is_dir():
                pytest.skip("the real VGG-19 weights are not beside the project")
            content = (REAL / Path(file).name).read_bytes()
            tensors = load(content)
        else:
            tensors = tensors_of(file, rng)
            keys = ("layout", "precision", "preprocessing", "source")
            info = json.dumps(dict(zip(keys, assembly.INFO[file], strict=True)))
            content = save(tensors, {"info": info})
        found[file] = content, shards_of(file, tensors, rng)
    return found


class Public:
    """The public addresses, on this machine: ``content`` by path, ``asked`` for in this order."""

    def __init__(self):
        content, asked = self.content, self.asked = {}, []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                body = content.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def public(files, tmp_path, monkeypatch):
    """An empty cache and a server with every shard at the first of its addresses."""
    served = Public()
    thread = threading.Thread(target=served.server.serve_forever, args=(0.01,))
    thread.start()
    lines, wanted = [], {file: iter(shards) for file, (_, shards) in files.items()}
    for row in rows():
        shard = next(wanted[row["file"]])
        paths = [urlsplit(url).path for url in row["urls"].split()]
        served.content[paths[0]] = shard
        digest = hashlib.sha256(shard).hexdigest() if row["sha256"] else ""
        urls = " ".join(served.url + path for path in paths)
        lines.append(f"{row['file']},{urls},{row['bytes']},{digest}\n")
    assert all(next(left, None) is None for left in wanted.values())
    listed = tmp_path / "shards.csv"
    listed.write_text("file,urls,bytes,sha256\n" + "".join(lines))
    entries = [
        replace(e, sha256=hashlib.sha256(files[e.file][0]).hexdigest(), bytes=len(files[e.file][0]))
        for e in read_registry()["vgg19"]
    ]
    monkeypatch.setattr(assembly, "SHARDS", listed)
    monkeypatch.setattr(registry, "registered", lambda: {"vgg19": entries})
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path / "cache"))
    yield served
    served.server.shutdown()
    served.server.server_close()
    thread.join()


def left(folder):
    """Files below a folder, without the lock."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {".vgg19.lock"}


@pytest.mark.parametrize("files", ["real"], indirect=True)
def test_the_registry_and_the_list_are_of_the_real_files(files):
    for entry in read_registry()["vgg19"]:
        content, shards = files[entry.file]
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry.sha256, entry.bytes)
        for shard, known in zip(shards, recipe(entry), strict=True):
            assert known.bytes == len(shard)
            assert known.sha256 in ("", hashlib.sha256(shard).hexdigest())


@pytest.mark.parametrize("file", [EXACT, EIGHT_BIT])
def test_assembled_byte_for_byte(files, file):
    content, shards = files[file]
    assert assemble(file, shards) == content


# Up to where the first bias begins.
HEADS = {
    EXACT: (1824, "a3d6f3f83f56487d7fed9f0f51b189bf4536630abc972d05805dce6fc3e3b504"),
    EIGHT_BIT: (3232, "0447314b1dde9a10d7ba769f73f1615bb59ea6a8965d03b39fd8f479e25aadb3"),
}


@pytest.mark.parametrize("file", [EXACT, EIGHT_BIT])
def test_header_scales_and_minima_are_the_real_files(files, file):
    size, digest = HEADS[file]
    assert hashlib.sha256(assemble(file, files[file][1])[:size]).hexdigest() == digest


@pytest.mark.parametrize("file", [EXACT, EIGHT_BIT])
def test_shards_of_another_size_are_refused(files, file):
    shards = files[file][1]
    for wrong in (shards[1:], shards[:-1], [*shards[:-1], b""], [*shards[:-1], shards[-1][:-1]]):
        with pytest.raises(DataError, match=rf"{file}: its shards have other sizes \("):
            assemble(file, wrong)


def test_fetched_from_the_shards(files, public):
    shown = []
    path = fetch("vgg19", patience=QUICK, show=shown.append)
    for file, (content, _) in files.items():
        assert (path.parent / file).read_bytes() == content
    assert left(path.parent) == {*files, "vgg19.sha256"}
    assert sum(shown) == sum(len(shard) for _, shards in files.values() for shard in shards)
    assert sorted(public.asked) == sorted(public.content)
    fetch("vgg19", patience=QUICK)
    assert len(public.asked) == len(public.content)


def test_a_mirror_comes_first(files, public, tmp_path):
    for file, (content, _) in files.items():
        (tmp_path / "mirror" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / file).write_bytes(content)
    fetch("vgg19", [str(tmp_path / "mirror")], patience=QUICK)
    assert not public.asked


def test_a_second_address_is_tried(files, public):
    first = next(path for path in public.content if path.endswith("group2-shard1of1"))
    second = first.replace("DavidCai1993", "DavidCai1111")
    public.content[second] = public.content.pop(first)
    path = fetch("vgg19", patience=QUICK)
    assert (path.parent / EXACT).read_bytes() == files[EXACT][0]
    assert public.asked.index(first) < public.asked.index(second)


# The shard, the byte that is wrong, and what is told.
WRONG = {
    "float32 kernel": ("group3-shard1of1", 5000, r"group3-shard1of1 \(another file"),
    "float32 bias": ("group3-shard1of1", -9, r"group3-shard1of1 \(another file"),
    "8-bit kernel": ("group1-shard11of138.bin", 500_000, r"its 26 shards \(make another file"),
    "bias of an 8-bit kernel": ("group12-shard3of3", -9, r"its 26 shards \(make another file"),
}


@pytest.mark.parametrize(("shard", "byte", "reason"), WRONG.values(), ids=WRONG)
def test_a_flipped_bit_is_refused(files, public, tmp_path, shard, byte, reason):
    path = next(path for path in public.content if path.endswith(shard))
    right = public.content[path]
    wrong = bytearray(right)
    wrong[byte] ^= 1
    public.content[path] = bytes(wrong)
    with pytest.raises(MissingError, match=reason) as caught:
        fetch("vgg19", patience=QUICK)
    assert "\n" not in str(caught.value)
    file = EXACT if shard.endswith("1of1") else EIGHT_BIT
    assert str(caught.value).startswith(f"vgg19: {file} (")
    assert not (tmp_path / "cache" / file).exists()
    assert not (tmp_path / "cache" / "vgg19.sha256").exists()
    public.content[path] = right
    fetched = fetch("vgg19", patience=QUICK)
    assert (fetched.parent / file).read_bytes() == files[file][0]
    assert left(fetched.parent) == {*files, "vgg19.sha256"}


def test_a_bit_that_the_file_does_not_hold_may_differ(files, public):
    """The quantised biases and the tap of the last shards."""
    path = next(path for path in public.content if path.endswith("group12-shard3of3"))
    public.content[path] = bytes([public.content[path][0] ^ 1]) + public.content[path][1:]
    assert fetch("vgg19", patience=QUICK)


def test_a_shard_of_another_size_is_refused(public, tmp_path):
    path = next(path for path in public.content if path.endswith("group1-shard11of138.bin"))
    public.content[path] += b"!"
    told = rf"{path} \(declares 1048577 bytes, wanted 1048576\)\. Put the file"
    with pytest.raises(MissingError, match=told):
        fetch("vgg19", patience=QUICK)
    assert not (tmp_path / "cache" / EIGHT_BIT).exists()


def test_shards_that_came_are_kept_for_the_next_time(files, public):
    path = next(path for path in public.content if path.endswith("group16-shard3of3"))
    last = public.content.pop(path)
    with pytest.raises(MissingError, match=r"group16-shard3of3 \(HTTP 404\)"):
        fetch("vgg19", patience=QUICK)
    public.asked.clear()
    public.content[path] = last
    fetched = fetch("vgg19", patience=QUICK)
    assert public.asked == [path]
    assert left(fetched.parent) == {*files, "vgg19.sha256"}


def test_a_mirror_sweeps_the_shards_that_came(files, public, tmp_path):
    del public.content[next(path for path in public.content if path.endswith("group16-shard3of3"))]
    with pytest.raises(MissingError):
        fetch("vgg19", patience=QUICK)
    mirror = tmp_path / "mirror" / EIGHT_BIT
    mirror.parent.mkdir(parents=True)
    mirror.write_bytes(files[EIGHT_BIT][0])
    fetched = fetch("vgg19", [str(tmp_path / "mirror")], patience=QUICK)
    assert left(fetched.parent) == {*files, "vgg19.sha256"}
