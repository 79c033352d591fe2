"""Hostile weights of descriptors: the weights that were meant, or one line; no code is run."""

import io
import json
import os
import pickle
import random
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hostile import MEGABYTE, ROOT, process, refused, texnet
from safetensors.torch import save
from test_images import RUN

from texnet import config, descriptors
from texnet.descriptors import load, read_weights
from texnet.errors import DataError, MissingError
from texnet.registry import read_registry

KERNEL, BIAS = "conv1_1.weight", "conv1_1.bias"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEXNET_WEIGHTS", raising=False)


def weights(**changes):
    """The first convolution of vgg19_lite; ``kernel`` and ``bias`` may be other tensors."""
    drawn = torch.Generator().manual_seed(0)
    found = {
        KERNEL: torch.rand(16, 3, 3, 3, generator=drawn),
        BIAS: torch.rand(16, generator=drawn),
    }
    for name, value in changes.items():
        found[{"kernel": KERNEL, "bias": BIAS}.get(name, name)] = value
    return found


def pth(content, legacy=False):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def run_with(file, **more):
    """A run.json whose descriptor has these weights."""
    descriptor = {"name": "vgg19_lite", "weights": str(file), **more}
    Path("run.json").write_text(json.dumps(RUN | {"descriptor": descriptor}))
    return "run.json"


def outcome(path, wanted):
    """Whether a file is refused, shows what is wanted, or something else."""
    try:
        found = read_weights(path)
    except DataError as error:
        assert str(error).startswith(f"{path}: ")
        return "refused"
    same = found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)
    return "same" if same else "wrong"


def flipped(content, bits):
    for bit in bits:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield changed


# Pickles


class Payload:
    def __reduce__(self):
        return os.system, ("touch pwned",)


PICKLES = {
    "plain": pickle.dumps(Payload()),
    "legacy": pth({KERNEL: Payload()}, legacy=True),
    "zip": pth({KERNEL: Payload()}),
    "beside weights": pth(weights() | {"note": Payload()}),
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".bin"])
def test_a_pickle_is_not_run(name, suffix):
    path = Path(f"weights{suffix}")
    path.write_bytes(PICKLES[name])
    with pytest.raises(DataError, match="weights"):
        read_weights(path)
    assert not Path("pwned").exists()
    if suffix == ".pth" and name == "zip":
        torch.load(path, weights_only=False)
        assert Path("pwned").exists(), "else this payload would show nothing"


# Flipped bits


def test_every_flipped_bit_of_the_shipped_weights_is_noticed(tmp_path, monkeypatch):
    """They are held against the registry, without a checksum in the configuration."""
    whole = config.LITE_WEIGHTS.read_bytes()
    copy = tmp_path / "vgg19_lite.safetensors"
    monkeypatch.setattr(config, "LITE_WEIGHTS", copy)
    copy.write_bytes(whole)
    load("vgg19_lite", ["relu1_1"])
    for content in flipped(whole, random.Random(0).sample(range(8 * len(whole)), 20)):
        copy.write_bytes(content)
        with pytest.raises(DataError, match=r"vgg19_lite\.safetensors: sha256 is \w{64}, wanted"):
            load("vgg19_lite", ["relu1_1"])
    refused("train", run_lite(), "m.safetensors", code=65, says="vgg19_lite.safetensors: sha256")


def run_lite():
    Path("run.json").write_text(json.dumps(RUN | {"descriptor": {"name": "vgg19_lite"}}))
    return "run.json"


def test_a_flipped_bit_of_a_pth_file_is_never_loaded(tmp_path):
    """Zip files have checksums; PyTorch does not look at them."""
    whole, path = pth(weights()), tmp_path / "weights.pth"
    bits = random.Random(0).sample(range(8 * len(whole)), 600)
    outcomes = []
    for content in flipped(whole, bits):
        path.write_bytes(content)
        outcomes.append(outcome(path, weights()))
    assert "wrong" not in outcomes and outcomes.count("refused") > 300


def test_a_tensor_marked_as_a_folder(tmp_path):
    """One bit of the directory, of which PyTorch makes whatever is in memory."""
    whole = bytearray(pth(weights()))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data/0"))
    whole[whole.rindex(name.encode()) - 46 + 38] ^= 0x10
    (tmp_path / "weights.pth").write_bytes(whole)
    assert torch.load(tmp_path / "weights.pth").keys() == weights().keys(), "else it is another bit"
    with pytest.raises(DataError, match="a tensor is marked as a folder"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_flipped_bit_where_the_configuration_has_the_checksum(suffix):
    """Of formats without any checksum of their own this alone helps."""
    whole = save(weights()) if suffix == "safetensors" else pth(weights(), legacy=True)
    path = Path(f"weights.{suffix}")
    path.write_bytes(whole)
    checksum = descriptors.sha256(path)
    load("vgg19_lite", ["relu1_1"], weights=path, checksum=checksum)
    for content in flipped(whole, random.Random(0).sample(range(8 * len(whole)), 100)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"wanted {checksum}"):
            load("vgg19_lite", ["relu1_1"], weights=path, checksum=checksum)


def test_a_flipped_bit_of_fetched_weights(tmp_path, monkeypatch):
    """Through the manifest of the cache, which a training reads; restored by fetching again."""
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    whole = save(weights())
    for content in (whole, *flipped(whole, [8 * len(whole) - 3])):
        (tmp_path / "cache/w.safetensors").write_bytes(content)
        if content == whole:
            digest = descriptors.sha256(tmp_path / "cache/w.safetensors")
            (tmp_path / "cache/vgg19.sha256").write_text(f"{digest}  w.safetensors\n")
    run = RUN | {"descriptor": {"name": "vgg19"}}
    Path("run.json").write_text(json.dumps(run))
    err = refused("train", "run.json", "m.safetensors", code=65, says="w.safetensors: sha256 is")
    assert "texnet fetch" in err and digest in err


# Damage, and what is something else


@pytest.mark.parametrize("kind", ["safetensors", "pth", "legacy"])
def test_cut_anywhere(tmp_path, kind):
    suffix = "safetensors" if kind == "safetensors" else "pth"
    content = save(weights()) if kind == "safetensors" else pth(weights(), kind == "legacy")
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    assert outcome(path, weights()) == "same"
    for end in [*range(0, 40), *range(40, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:end])
        assert outcome(path, weights()) == "refused", end


HTML = b"<!DOCTYPE html><html><body>Please log in.</body></html>\n" * 20
OTHER = {
    "empty": b"",
    "a byte": b"\0",
    "HTML": HTML,
    "zeros": bytes(5000),
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "header of 2^40 bytes": (2**40).to_bytes(8, "little") + b"{}",
    "header that is no JSON": (8).to_bytes(8, "little") + b"not JSON",
    "shape of 10^28": b"",
    "nested header": b"",
    "empty zip": b"PK\5\6" + bytes(18),
}
for key, text in {
    "shape of 10^28": '{"a":{"dtype":"F32","shape":[4000000000,4000000000,4000000000],'
    '"data_offsets":[0,4]}}',
    "nested header": '{"a":' * 20_000,
}.items():
    OTHER[key] = len(text).to_bytes(8, "little") + text.encode() + bytes(4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.filterwarnings("error")
def test_other_files(tmp_path, suffix):
    for name, content in OTHER.items():
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        assert outcome(path, {}) == "refused", name


def test_html_through_the_command_line():
    Path("weights.pth").write_bytes(HTML)
    done = process(
        sys.executable, "-m", "texnet", "train", run_with("weights.pth"), "m.safetensors"
    )
    assert (done.code, done.out, done.err.count("\n")) == (65, "", 1)
    assert done.err.startswith("texnet train: error: weights.pth: is not a plain dictionary")
    assert sorted(os.listdir()) == ["run.json", "weights.pth"]


# Tensors that are none of this network


def nested():
    with pytest.warns(UserWarning):
        return torch.nested.nested_tensor([torch.ones(16), torch.ones(3)])


ODD = {
    "missing": ({KERNEL: weights()[KERNEL]}, "has no tensor 'conv1_1.bias'"),
    "shape": (weights(bias=torch.ones(17)), r"'conv1_1.bias' has shape \(17,\), .* needs \(16,\)"),
    "rank": (weights(kernel=torch.ones(16, 27)), r"\(16, 27\), .* needs \(16, 3, 3, 3\)"),
    "NaN": (weights(bias=torch.full((16,), float("nan"))), "'conv1_1.bias' holds NaN or inf"),
    "inf": (weights(bias=torch.full((16,), float("-inf"))), "'conv1_1.bias' holds NaN or inf"),
    "1e300": (weights(bias=torch.full((16,), 1e300, dtype=torch.double)), "holds NaN or inf"),
    "int64": (weights(bias=torch.ones(16).long()), "'conv1_1.bias' is int64, wanted floating"),
    "uint8": (weights(bias=torch.ones(16).byte()), "'conv1_1.bias' is uint8, wanted floating"),
    "bool": (weights(bias=torch.ones(16) > 0), "'conv1_1.bias' is bool, wanted floating"),
    "complex": (weights(bias=torch.ones(16) * 1j), "'conv1_1.bias' is complex64, wanted floating"),
    "u8 of floats": (weights(**{f"{KERNEL}_u8": torch.ones(2)}), "float32, wanted uint8"),
}
ODD_PTH = {
    "number as a key": (weights(**{"x": torch.ones(1)}) | {0: torch.ones(1)}, "not a plain dict"),
    "None as a key": ({None: torch.ones(1)}, "not a plain dictionary"),
    "sparse": (weights(bias=torch.ones(16).to_sparse()), "'conv1_1.bias' is no plain tensor"),
    "meta": (weights(bias=torch.ones(16, device="meta")), "'conv1_1.bias' is no plain tensor"),
    "nested": (None, "'conv1_1.bias' is no plain tensor"),
}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [*((name, kind) for name in ODD for kind in ("pth", "safetensors")),
     *((name, "pth") for name in ODD_PTH)],
)  # fmt: skip
def test_odd_tensors(tmp_path, name, suffix):
    content, says = {**ODD, **ODD_PTH}[name]
    content = weights(bias=nested()) if name == "nested" else content
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(pth(content) if suffix == "pth" else save(content))
    with pytest.raises(DataError, match=rf"weights\.{suffix}: .*{says}"):
        load("vgg19_lite", ["relu1_1"], weights=path)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_other_floats_are_converted(tmp_path, kind):
    stored = weights(kernel=weights()[KERNEL].to(kind))
    (tmp_path / "weights.pth").write_bytes(pth(stored))
    net = load("vgg19_lite", ["relu1_1"], weights=tmp_path / "weights.pth")
    assert torch.equal(net.convolutions["1_1"].weight, stored[KERNEL].float())


def test_tensors_of_other_layers_do_not_matter(tmp_path):
    """Of a file that has more than is asked for: torchvision's has a classifier."""
    (tmp_path / "weights.pth").write_bytes(pth(weights(**{"conv9_9.weight": torch.ones(5)})))
    net = load("vgg19_lite", ["relu1_1"], weights=tmp_path / "weights.pth")
    assert torch.equal(net.convolutions["1_1"].weight, weights()[KERNEL])


@pytest.mark.parametrize("scale", [torch.ones(7), torch.ones(50, 1, 1, 1, 1), torch.ones(0)])
def test_eight_bits_with_a_scale_of_another_shape(tmp_path, scale):
    stored = {
        BIAS: weights()[BIAS],
        f"{KERNEL}_u8": torch.ones(16, 3, 3, 3, dtype=torch.uint8),
        f"{KERNEL}_scale": scale,
        f"{KERNEL}_min": torch.ones(1),
    }
    (tmp_path / "weights.safetensors").write_bytes(save(stored))
    with pytest.raises(DataError, match=r"_scale and .*_min, one number each"):
        read_weights(tmp_path / "weights.safetensors")


def bombs():
    """Kilobytes that stand for gigabytes, by what is wrong with them."""
    yield "300000000 values in 4 bytes", pth(weights(kernel=torch.zeros(1).expand(30_000, 10_000)))
    yield "300000000 values in 4 bytes", pth(weights(other=torch.zeros(1).expand(30_000, 10_000)))
    yield "one number each", pth({
        f"{KERNEL}_u8": torch.ones(1, 1, dtype=torch.uint8),
        f"{KERNEL}_scale": torch.ones(20_000, 1),
        f"{KERNEL}_min": torch.ones(1, 20_000),
    })  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(pth(weights()))) as whole:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
            for name in whole.namelist():
                large = name.endswith("data/0")
                out.writestr(name, bytes(200 * MEGABYTE) if large else whole.read(name))
    yield "BadZipFile: compressed", packed.getvalue()


def test_bombs():
    for says, content in bombs():
        assert len(content) < MEGABYTE
        Path("weights.pth").write_bytes(content)
        refused("train", run_with("weights.pth"), "m.safetensors", code=65, says=says)


# Places


def test_what_is_no_file_of_weights(tmp_path):
    os.mkfifo("fifo.pth")
    Path("fifo.safetensors").symlink_to("fifo.pth")
    Path("dangling.pth").symlink_to("nowhere")
    Path("folder.safetensors").mkdir()
    for name in ("fifo.pth", "fifo.safetensors", "dangling.pth", "folder.safetensors", "none.pth"):
        refused("train", run_with(name), "m.safetensors", code=66, says=f"{name}: ")
    Path("secret.pth").write_bytes(pth(weights()))
    Path("secret.pth").chmod(0)
    says = "secret.pth: cannot be read (Permission denied)"
    refused("train", run_with("secret.pth"), "m.safetensors", code=66, says=says, unprivileged=True)


def test_the_shipped_weights_are_the_registry_s():
    entry = read_registry()["vgg19_lite"][0]
    assert descriptors.sha256(ROOT / "data" / entry.file) == entry.sha256
    shutil.copy(ROOT / "data" / entry.file, "mine.safetensors")
    ended = texnet("train", run_with("mine.safetensors", sha256=entry.sha256), "m.safetensors")
    assert ended.code == 0, ended.err
    with pytest.raises(MissingError, match="no such weights file"):
        load("vgg19_lite", ["relu1_1"], weights=Path("other.safetensors"))
