"""The authors' Torch 7 generators: the format, the network layer by layer, what is refused."""

import io
import math
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from texnet import __main__ as cli
from texnet import config, registry, runtime, torch7, torch7_files, torch7_pyramid
from texnet.artifacts import read_tensors, sha256
from texnet.data import load_image, square
from texnet.errors import DataError, MissingError, TexnetError, UsageError
from texnet.fetch import fetch
from texnet.inputs import NoiseStream
from texnet.training import load_generator

torchfile = pytest.importorskip("torchfile")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
AUTHORS = SHARED / "authors"
WIDTH = 2


@pytest.fixture(autouse=True)
def process(monkeypatch):
    """Commands change how this process computes; others find it as it was."""
    monkeypatch.setattr(runtime, "_MALLOPT", {})
    yield
    torch.use_deterministic_algorithms(False)


# Writing Torch 7's format


class Object:
    """An object of a Torch class with its fields."""

    def __init__(self, kind, **fields):
        self.kind, self.fields = kind, fields


class Tensor:
    """A part of a storage, a list of one array."""

    def __init__(self, storage, offset, *shape):
        self.storage, self.offset, self.shape = storage, offset, shape

    @property
    def values(self):
        return torch.tensor(self.storage[0])[self.offset :][: math.prod(self.shape)]


class Writer:
    """Torch 7's binary serialisation, 64 bits, little-endian; an object is written once."""

    def __init__(self):
        self.out, self.seen = io.BytesIO(), {}

    def pack(self, layout, *values):
        self.out.write(struct.pack(f"<{layout}", *values))

    def text(self, value):
        self.pack(f"i{len(value)}s", len(value), value.encode())

    def named(self, kind):
        self.text("V 1")
        self.text(kind)

    def first(self, code, thing):
        """Type and number of an object; whether it has still to be written."""
        new = id(thing) not in self.seen
        number = self.seen.setdefault(id(thing), len(self.seen) + 1)
        self.pack("ii", code, number)
        return new

    def write(self, thing):
        if thing is None:
            self.pack("i", 0)
        elif isinstance(thing, bool):
            self.pack("ii", 5, thing)
        elif isinstance(thing, int | float):
            self.pack("id", 1, thing)
        elif isinstance(thing, str):
            self.pack("i", 2)
            self.text(thing)
        elif isinstance(thing, bytes):  # a Lua function without upvalues
            if self.first(8, thing):
                self.pack(f"i{len(thing)}s", len(thing), thing)
                self.write(None)
        elif isinstance(thing, dict):
            if self.first(3, thing):
                self.pack("i", len(thing))
                for pair in thing.items():
                    for each in pair:
                        self.write(each)
        elif isinstance(thing, Object):
            if self.first(4, thing):
                self.named(thing.kind)
                self.write(thing.fields)
        elif isinstance(thing, Tensor):
            if self.first(4, thing):
                self.named("torch.FloatTensor")
                strides = [math.prod(thing.shape[i + 1 :]) for i in range(len(thing.shape))]
                self.pack(f"i{2 * len(strides)}q", len(strides), *thing.shape, *strides)
                self.pack("q", thing.offset + 1)
                if self.first(4, thing.storage):
                    self.named("torch.FloatStorage")
                    self.pack("q", len(thing.storage[0]))
                    self.out.write(thing.storage[0].tobytes())
        return self.out.getvalue()


def written(path, thing):
    path.write_bytes(Writer().write(thing))
    return path


# A pyramid like the authors', of any size


class Net:
    """The authors' tree of layers with random weights, all in one storage."""

    def __init__(self, scales=6, stages=3, content=False, seed=0, noise="nn.GenNoise"):
        self.content, self.stages, self.noise = content, stages, noise
        self.flat, self.used = [np.zeros(0, np.float32)], 0
        tree = self.scales(scales, 1)
        channels = scales * WIDTH
        last = [self.convolution(channels, 3, 1)] if stages == 3 else self.padded(channels, 3, 1)
        self.root = self.sequence(*tree, *last)
        rng = np.random.default_rng(seed)
        self.flat[0] = rng.normal(0, 1, self.used).astype(np.float32)

    def take(self, *shape):
        made = Tensor(self.flat, self.used, *shape)
        self.used += math.prod(shape)
        return made

    def sequence(self, *layers):
        return Object("nn.Sequential", modules=dict(enumerate(layers, 1)))

    def convolution(self, before, after, side):
        return Object(
            "nn.SpatialConvolution", weight=self.take(after, before, side, side),
            bias=self.take(after), nInputPlane=before, nOutputPlane=after, kW=side, kH=side, dW=1,
            dH=1, padW=0, padH=0,
        )  # fmt: skip

    def padded(self, before, after, side):
        pad = dict.fromkeys(("pad_l", "pad_r", "pad_t", "pad_b"), side // 2)
        layer = Object("nn.SpatialCircularPadding", **pad)
        return [self.sequence(layer, self.convolution(before, after, side))]

    def norm(self, channels=WIDTH):
        kept = [np.zeros(channels, np.float32)], [np.ones(channels, np.float32)]
        return Object(
            "nn.SpatialBatchNormalization", weight=self.take(channels), bias=self.take(channels),
            running_mean=Tensor(kept[0], 0, channels), running_var=Tensor(kept[1], 0, channels),
            eps=1e-5, affine=True, momentum=0.1, train=True,
        )  # fmt: skip

    def block(self, before, width):
        layers = []
        for side in (3, 3, 1)[: self.stages]:
            made = self.padded if side == 3 else lambda *sizes: [self.convolution(*sizes)]
            layers += made(before, width, side)
            layers += [self.norm(width), Object("nn.LeakyReLU", negval=0.01)]
            before = width
        return layers

    def branch(self, ratio):
        sides = dict.fromkeys(("kW", "kH", "dW", "dH"), ratio)
        pool = Object("nn.SpatialAveragePooling", padW=0, padH=0, ceil_mode=False, **sides)
        fields = {"num_noise_channels": 3} if self.noise == "nn.NoiseFill" else {}
        given = 6 if self.content else 3
        return [pool, Object(self.noise, **fields), *self.block(given, WIDTH)]

    def scales(self, count, ratio):
        if count == 1:
            return self.branch(ratio)
        up = Object("nn.SpatialUpSamplingNearest", scale_factor=2)
        deep = self.sequence(*self.scales(count - 1, 2 * ratio), up, self.norm())
        shallow = self.sequence(*self.branch(ratio), self.norm())
        both = Object("nn.Concat", dimension=2, modules={1: deep, 2: shallow})
        return [both, *self.block(count * WIDTH, count * WIDTH)]

    def layers(self, kind, tree=None):
        """All layers of a kind."""
        tree = tree or self.root
        inner = tree.fields.get("modules", {}).values()
        return [tree] * (tree.kind == kind) + [f for m in inner for f in self.layers(kind, m)]


def forward(layer, x, noise, rule="overrun", statistics=None):
    """What Torch 7 computes, layer by layer; ``noise`` from the coarsest scale on.

    ``statistics`` is a list that is filled, or an iterator over what another call filled it with:
    without it, and while it is filled, normalisations take those of ``x`` (training mode).
    """
    f, kind = layer.fields, layer.kind.removeprefix("nn.")
    inner = f.get("modules", {}).values()
    if kind == "Sequential":
        for each in inner:
            x = forward(each, x, noise, rule, statistics)
        return x
    if kind == "Concat":
        return torch.cat(
            [forward(each, x, noise, rule, statistics) for each in inner], f["dimension"] - 1
        )
    if kind == "SpatialAveragePooling":
        return F.avg_pool2d(x, f["kW"], f["dW"])
    if kind in ("GenNoise", "NoiseFill"):
        return torch.cat([x[:, :-3], next(noise)], 1)
    if kind == "SpatialCircularPadding":
        return F.pad(x, (f["pad_l"],) * 4, mode="circular")
    if kind == "SpatialConvolution":
        return F.conv2d(x, f["weight"].values.reshape(f["weight"].shape), f["bias"].values)
    if kind == "LeakyReLU":
        return torch.where(x < 0, f["negval"] * x, x)
    if kind == "SpatialUpSamplingNearest":
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert kind == "SpatialBatchNormalization"
    if isinstance(statistics, list | None):
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        if statistics is not None:
            statistics.append((mean, x.var((0, 2, 3))))
    else:
        mean, variance = next(statistics)
    scale, bias = [], []
    for c in range(x.shape[1]):
        for name, values in (("weight", scale), ("bias", bias)):
            t = f[name]
            beyond = {"overrun": c, "tiled": c % t.shape[0]}.get(rule)
            other = 1.0 if (rule, name) == ("unit", "weight") else 0.0
            known = c if c < t.shape[0] else beyond
            values.append(other if known is None else float(t.storage[0][t.offset + known]))
    shape = (1, -1, 1, 1)
    x = (x - mean.view(shape)) / (variance.view(shape) + f["eps"]).sqrt()
    return x * torch.tensor(scale).view(shape) + torch.tensor(bias).view(shape)


def rgb(made, levels=256):
    """Caffe's BGR minus the mean as RGB in [0, 1]."""
    blue, green, red = made.unbind(1)
    return torch.stack([red + 123.68, green + 116.779, blue + 103.939], 1) / levels


def noise_of(seed, count, height, width):
    """Noise of six scales, coarse to fine."""
    rng = torch.Generator().manual_seed(seed)
    sides = [(height >> i, width >> i) for i in range(5, -1, -1)]
    return [torch.rand((count, 3, *side), generator=rng) for side in sides]


# The format


def test_reads_what_torchfile_reads(tmp_path):
    path = written(tmp_path / "net.t7", net := Net().root)
    handlers = dict(torchfile.type_handlers)
    theirs, ours = torchfile.load(str(path), use_list_heuristic=False), torch7.read(path)
    assert torchfile.type_handlers == handlers

    compared = 0
    stack = [(theirs, ours, net)]
    while stack:
        a, b, made = stack.pop()
        assert a.torch_typename() == b.torch_typename() == made.kind.encode()
        for name, value in made.fields.items():
            if name == "modules":
                stack += [(a[name][k], b[name][k], value[k]) for k in value]
            elif isinstance(value, Tensor):
                np.testing.assert_array_equal(a[name], b[name].values().numpy())
                assert b[name].shape == value.shape
                compared += 1
            else:
                assert a[name] == b[name] == value
    # 6 branches of 3 stages, 5 joins of 3; 10 norms of joins; the last convolution.
    assert compared == (18 + 15) * (2 + 4) + 10 * 4 + 2


def test_nothing_is_executed(tmp_path):
    """A Lua function is bytes; a class of any name is a name."""
    dumped = b"\x1bLua os.execute('touch executed')"
    path = written(tmp_path / "a.t7", {"f": dumped, "o": Object("os.execute", run="touch x")})
    found = torch7.read(path)
    assert found["f"].dumped == dumped and found["o"].torch_typename() == b"os.execute"
    assert [file.name for file in tmp_path.iterdir()] == ["a.t7"]


def test_a_function_in_a_layer_changes_nothing(tmp_path):
    net = Net(scales=2)
    path = written(tmp_path / "a.t7", net.root)
    before = torch7.Pyramid(path)
    net.layers("nn.LeakyReLU")[0].fields["hook"] = b"\x1bLua"
    after = torch7.Pyramid(written(tmp_path / "b.t7", net.root))
    assert torch.equal(before.last[0], after.last[0])


def test_every_truncation_is_one_line(tmp_path):
    whole = Writer().write(Net(scales=2, stages=2).root)
    path = tmp_path / "cut.t7"
    for end in [*range(0, 100), *range(100, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=rf"cut\.t7: cannot be read .* {end} bytes") as caught:
            torch7.Pyramid(path)
        assert "\n" not in str(caught.value)


def hostile(layout, *values):
    return struct.pack(f"<{layout}", *values)


TYPED = hostile("iii3s", 4, 1, 3, b"V 1")
FLOATS = TYPED + hostile("i18s", 18, b"torch.FloatStorage")
TENSOR = TYPED + hostile("i17s", 17, b"torch.FloatTensor")
STORED = hostile("iii3si18sq4s", 4, 2, 3, b"V 1", 18, b"torch.FloatStorage", 1, b"1234")
DEEP = b"".join(hostile("iiiid", 3, n, 1, 1, 1) for n in range(1, 50_000))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"4\n1\n3\nV 1\n13\nnn.Sequential\n",
        hostile("i", 99),
        hostile("ii", 2, 2**31 - 1),
        hostile("iii", 3, 1, 2**31 - 1),
        hostile("iii", 6, 1, 2**31 - 1),
        FLOATS + hostile("q", 2**61),
        FLOATS + hostile("q", 2**40),
        FLOATS + hostile("q", -1),
        TENSOR + hostile("i", 2**31 - 1),
        TENSOR + hostile("i", -1),
        TENSOR + hostile("iqqq", 1, 2**40, 1, 1) + STORED,
        TENSOR + hostile("iqqq", 1, -1, 1, 1) + STORED,
        TENSOR + hostile("iqqq", 1, 1, 1, 2**40) + STORED,
        TENSOR + hostile("iqqq", 1, 1, 1, 0) + STORED,
        TENSOR + hostile("iqqqqq", 2, 2**20, 2**20, 0, 0, 1) + STORED,
        TENSOR + hostile("iqqq", 1, 1, 1, 1) + hostile("id", 1, 4),
        TENSOR + hostile("iqqq", 1, 1, 1, 1) + hostile("ii", 4, 1),
        hostile("iii", 3, 1, 1) + hostile("iii", 3, 2, 0) + hostile("i", 0),
        DEEP,
    ],
)
def test_hostile_sizes_are_one_line(tmp_path, content):
    path = tmp_path / "bad.t7"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.t7: ") as caught:
        torch7.Pyramid(path)
    assert "\n" not in str(caught.value)


def test_flipped_bits_are_read_or_refused(tmp_path):
    """Whatever a byte becomes, the end is a network or one line."""
    whole = Writer().write(Net(scales=2, stages=2).root)
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "flipped.t7", 0
    for _ in range(200):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(changed)
        try:
            torch7.Pyramid(path)
        except TexnetError as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
            refused += 1
    assert 20 < refused < 200


def test_too_large(tmp_path, monkeypatch):
    path = written(tmp_path / "large.t7", Net(scales=2).root)
    monkeypatch.setattr(torch7_files, "LARGEST", path.stat().st_size - 1)
    with pytest.raises(DataError, match=r"large\.t7: has \d+ bytes, wanted \d+ at most"):
        torch7.read(path)


def test_without_torchfile(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchfile", None)
    with pytest.raises(UsageError, match=r"torchfile, which is not installed; pip install"):
        torch7.read(tmp_path / "any.t7")


def test_no_file(tmp_path):
    with pytest.raises(MissingError, match=r"none\.t7: no such file; expected a Torch 7 file"):
        torch7.import_generator(tmp_path / "none.t7")


# The network


@pytest.mark.parametrize("rule", ["overrun", "tiled", "unit", "zero"])
def test_a_texture_network_is_the_same_function(tmp_path, rule):
    made = Net()
    net, run = torch7.import_generator(written(tmp_path / "net.t7", made.root), None, rule)
    assert run.generator == config.TextureNetV1("texturenet_v1", "instance", WIDTH, 3)
    noise = noise_of(1, 2, 64, 96)
    with torch.no_grad():
        found = net(None, noise)
    for number, image in enumerate(found):
        alone = iter([z[number : number + 1] for z in noise])
        wanted = rgb(forward(made.root, torch.zeros(1, 3, 64, 96), alone, rule))
        torch.testing.assert_close(image, wanted[0], rtol=1e-4, atol=1e-5)
    assert found.std() > 1e-3


@pytest.mark.parametrize(("noise_layer", "levels"), [("nn.GenNoise", 256), ("nn.NoiseFill", 255)])
def test_a_stylization_network_is_the_same_function(tmp_path, noise_layer, levels):
    made = Net(content=True, noise=noise_layer)
    net, run = torch7.import_generator(written(tmp_path / "net.t7", made.root), "starry_night")
    assert run.images.style == "starry_night" and run.objective.content_weight
    noise = noise_of(2, 1, 64, 64)
    content = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(3))
    wanted = rgb(forward(made.root, torch.cat([content, content], 1), iter(noise)), levels)
    with torch.no_grad():
        torch.testing.assert_close(net(content, noise), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("scales", "stages", "content"), [(6, 3, False), (5, 2, True), (4, 3, False), (2, 2, True)]
)
def test_measured_statistics(tmp_path, monkeypatch, scales, stages, content):
    """A pyramid of any size within TextureNetV1, as in evaluation mode."""
    monkeypatch.setattr(torch7_pyramid, "SIDE", 64)
    monkeypatch.setattr(torch7_pyramid, "MEASURED", 2)
    photos = {"chelsea": "", "coffee": ""}
    monkeypatch.setattr(torch7_pyramid, "PHOTOS", photos)
    made = Net(scales, stages, content)
    path = written(tmp_path / "net.t7", made.root)
    net, run = torch7.import_generator(path, "x.png", statistics="measured")
    assert run.generator.norm == "batch" and sum(p.numel() for p in net.parameters()) > made.used

    statistics = []
    images = torch.stack([square(load_image(name), 64) for name in photos])
    given = torch.cat([images, images], 1) if content else torch.zeros(2, 3, 64, 64)
    measured = NoiseStream(net, 0)(2, 64, 64, 0)[-scales:]
    forward(made.root, given, iter(measured), statistics=statistics)
    noise = noise_of(4, 1, 96, 64)
    image = torch.rand((1, 3, 96, 64), generator=torch.Generator().manual_seed(5))
    given = torch.cat([image, image], 1) if content else torch.zeros(1, 3, 96, 64)
    wanted = rgb(forward(made.root, given, iter(noise[-scales:]), statistics=iter(statistics)))
    with torch.no_grad():
        found = net(image if content else None, noise)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_a_smaller_pyramid_has_no_image_statistics(tmp_path):
    path = written(tmp_path / "small.t7", Net(5, 2).root)
    with pytest.raises(
        UsageError, match=r"small\.t7: has 5 scales of 2 convolutions, .* six of three"
    ):
        torch7.import_generator(path, "x.png", statistics="image")


@pytest.mark.parametrize(("key", "value"), [("normalisation", "mirrored"), ("statistics", "kept")])
def test_unknown_rules(tmp_path, key, value):
    path = written(tmp_path / "net.t7", Net(2).root)
    with pytest.raises(UsageError, match=f"unknown {key} '{value}'; use "):
        torch7.import_generator(path, "x.png", **{key: value})


def test_nothing_follows_in_memory(tmp_path):
    """The last parameters before the end of the storage have too few after them."""
    net = Net()
    odd = net.root.fields["modules"][1].fields["modules"][1].fields["modules"][12]
    alone = [np.ones(WIDTH, np.float32)]
    odd.fields["weight"] = Tensor(alone, 0, WIDTH)
    path = written(tmp_path / "net.t7", net.root)
    with pytest.raises(DataError, match=r"weight has 2 values, nothing follows .* 10 channels"):
        torch7.import_generator(path)
    torch7.import_generator(path, normalisation="tiled")


# What is refused


def field(kind, number=0, **fields):
    """Changes fields of a layer; None removes one."""

    def change(net):
        layer = net.layers(f"nn.{kind}")[number]
        layer.fields |= fields

    return change


def kind(found, wanted, number=0):
    """Gives a layer another class."""
    return lambda net: setattr(net.layers(f"nn.{found}")[number], "kind", f"nn.{wanted}")


def more(net):
    modules = net.root.fields["modules"]
    modules[len(modules) + 1] = Object("nn.Tanh")


def less(net):
    net.root.fields["modules"].popitem()


def not_finite(net):
    net.flat[0][net.layers("nn.SpatialConvolution")[3].fields["bias"].offset] = np.nan


def within_itself(net):
    concat = net.layers("nn.Concat")[-1]
    concat.fields["modules"][1].fields["modules"][1] = concat


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (field("LeakyReLU", negval=0.2), r"nn\.LeakyReLU: negval is 0\.2, wanted 0\.01"),
        (kind("LeakyReLU", "ReLU"), r"nn\.ReLU: wanted nn\.LeakyReLU"),
        (kind("SpatialBatchNormalization", "InstanceNormalization"), "wanted nn.SpatialBatchNorm"),
        (field("SpatialBatchNormalization", eps=1e-3), "eps is 0.001, wanted 1e-05"),
        (field("SpatialBatchNormalization", affine=False), "affine is False, wanted True"),
        (field("SpatialBatchNormalization", running_var=None), "running_var is no tensor"),
        (kind("SpatialAveragePooling", "SpatialMaxPooling"), "nn.SpatialMaxPooling: wanted"),
        (field("SpatialAveragePooling", kW=3), "kW is 3, wanted 8"),
        (kind("GenNoise", "NoiseFill"), "fills None channels of 3, wanted all or all but RGB"),
        (kind("GenNoise", "NoiseFill", 1), "fills None channels, wanted 3"),
        (kind("GenNoise", "Dropout"), "nn.Dropout: wanted nn.GenNoise or nn.NoiseFill"),
        (kind("SpatialCircularPadding", "SpatialZeroPadding"), "nn.SpatialZeroPadding: wanted"),
        (field("SpatialCircularPadding", pad_b=2), "pad_b is 2, wanted 1"),
        (field("SpatialConvolution", kH=5), "kH is 5, wanted 3"),
        (field("SpatialConvolution", 1, dW=2), "dW is 2, wanted 1"),
        (field("SpatialConvolution", 1, padW=1), "padW is 1, wanted 0"),
        (field("SpatialConvolution", 1, groups=2), "groups is 2, wanted 1"),
        (field("SpatialConvolution", 4, nOutputPlane=5), "nOutputPlane is 5, wanted 2"),
        (
            field("SpatialConvolution", nInputPlane=4),
            r"weight is of shape .* wanted \(2, 4, 3, 3\)",
        ),
        (field("SpatialUpSamplingNearest", scale_factor=4), "scale_factor is 4, wanted 2"),
        (field("Concat", dimension=1), "dimension is 1, wanted 2"),
        (field("Concat", modules={}), "layer 1, nn.Concat: holds no list of layers"),
        (field("Concat", modules={1: 4, 2: 5}), "layer 1.1, no layer: wanted nn.Sequential"),
        (kind("Concat", "DepthConcat"), "layer 1, nn.DepthConcat: wanted nn.Concat"),
        (kind("Sequential", "ConcatTable"), "layer 0, nn.ConcatTable: wanted nn.Sequential"),
        (more, "nn.Tanh: wanted no further layer"),
        (less, "nn.Sequential: ends where nn.SpatialConvolution is wanted"),
        (not_finite, "bias holds NaN or infinity"),
        (within_itself, "nn.Concat: wanted nn.SpatialAveragePooling"),
    ],
)
def test_another_structure_is_refused_by_layer(tmp_path, change, says):
    net = Net(scales=4)
    change(net)
    with pytest.raises(DataError, match=says) as caught:
        torch7.import_generator(written(tmp_path / "other.t7", net.root))
    line = str(caught.value)
    assert re.search(r"other\.t7: layer [\d.]+, ", line) and "\n" not in line
    assert line.endswith("name a pyramid of the authors' v1 branch (models/pyramid.lua)")


def test_seven_scales_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nn\.Concat: wanted nn\.SpatialAveragePooling"):
        torch7.import_generator(written(tmp_path / "deep.t7", Net(scales=7).root))


def test_what_is_no_network_is_refused(tmp_path):
    for thing in (1, "text", {"a": 1}, None):
        with pytest.raises(DataError, match=r"layer 0, no layer: wanted nn\.Sequential"):
            torch7.import_generator(written(tmp_path / "other.t7", thing))


# Conversion


def test_what_is_written_is_a_generator(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source, out = written(tmp_path / "grass.o.jpg_model.t7", Net().root), Path("grass.safetensors")
    lines = torch7.convert(str(source), out, "grass")
    assert "6 scales of 3 convolutions" in lines[0] and "of each image" in lines[1]
    net, run = load_generator(out)
    assert run.name == "grass_o_jpg_model" and run.images == config.Texture("grass")
    _, metadata = read_tensors(out)
    told = {"imported_from", "imported_sha256", "normalisation", "statistics"}
    assert told <= set(metadata) and metadata["imported_sha256"] == sha256(source)
    assert (metadata["normalisation"], metadata["statistics"]) == ("overrun", "image")
    noise = noise_of(6, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(None, noise), torch7.import_generator(source)[0](None, noise))
    first = out.read_bytes()
    torch7.convert(str(source), out, "grass")
    assert out.read_bytes() == first
    code = cli.main(["sample", str(out), "-n", "1", "--size", "64x64", "-o", "samples"])
    assert code == 0 and len(list(Path("samples").glob("*.png"))) == 1
    capsys.readouterr()


def test_the_exemplar_of_an_unknown_file_is_its_name(tmp_path):
    _, run = torch7.import_generator(written(tmp_path / "grass.jpg_model.t7", Net().root))
    assert run.images.exemplar == "grass.jpg"


def test_wrong_names(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path))
    out = tmp_path / "out.safetensors"
    path = str(written(tmp_path / "net.t7", Net(2).root))
    with pytest.raises(UsageError, match="'red_peppers' is fetched, but is no Torch 7 file"):
        torch7.convert("red_peppers", out)
    with pytest.raises(MissingError, match="texnet fetch authors_red_peppers makes it"):
        torch7.convert("authors_red_peppers", out)
    with pytest.raises(UsageError, match=r"images name 'grss', .* did you mean 'grass'"):
        torch7.convert(path, out, "grss")
    assert not out.exists()


# The authors' files


@pytest.fixture
def released(tmp_path, monkeypatch):
    """Fetches a released file from the folder beside the project."""
    if not AUTHORS.is_dir():
        pytest.skip("the authors' files are not beside the project")
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch7_pyramid, "SIDE", 128)

    def fetched(name):
        fetch(name, [str(SHARED)])
        return registry.image(name)

    return fetched


def kept_statistics_are_off(pyramid):
    """The largest difference of a measured mean from the one in the file, in deviations."""
    pyramid.measure()
    pairs = [(norm.mean[: len(norm.kept[0])], *norm.kept) for norm in pyramid.norms]
    return max(float(((a - b).abs() / (v + 1e-5).sqrt()).max()) for a, b, v in pairs)


def test_the_released_texture_network(released, tmp_path):
    pyramid = torch7.Pyramid(released("authors_red_peppers"))
    # TextureNetV1 has 116,915; here are two values less for each of 8 + 16 + 24 + 32 channels.
    assert (pyramid.parameters, pyramid.missing, pyramid.width) == (116_755, 80, 8)
    assert not pyramid.content and len(pyramid.scales) == 6

    # Of its samples the network has the very statistics that it kept of its training, and would not
    # have them by another rule.
    assert kept_statistics_are_off(pyramid) < 0.2
    other = torch7.Pyramid(pyramid.file, "tiled")
    assert kept_statistics_are_off(other) > 1

    out = tmp_path / "peppers.safetensors"
    assert cli.main(["import-torch7", "authors_red_peppers", "-o", str(out)]) == 0
    options = ["-n", "1", "--size", "64x64", "-o", str(tmp_path / "made")]
    assert cli.main(["sample", str(out), *options]) == 0
    net, run = load_generator(out)
    assert run.images == config.Texture("red_peppers") and run.name == "authors_red_peppers"
    assert sum(p.numel() for p in net.parameters()) == 116_915
    published = load_image(str(AUTHORS / "peppers_sample.png"))
    with torch.no_grad():
        sample = net(None, NoiseStream(net, 0)(1, 256, 256, 0))[0].clamp(0, 1)
    torch.testing.assert_close(sample.mean((1, 2)), published.mean((1, 2)), rtol=0, atol=0.02)
    torch.testing.assert_close(sample.std((1, 2)), published.std((1, 2)), rtol=0, atol=0.02)


def test_the_released_stylization_network(released, tmp_path, capsys):
    pyramid = torch7.Pyramid(released("authors_starry"))
    assert (pyramid.parameters, pyramid.missing, pyramid.stages) == (68_411, 48, 2)
    assert pyramid.content and len(pyramid.scales) == 5
    out = tmp_path / "starry.safetensors"
    assert cli.main(["import-torch7", "authors_starry", "-o", str(out)]) == 0
    assert "statistics of 12 photographs" in capsys.readouterr().out
    arguments = ["stylize", str(out), "chelsea", "--size", "96", "-o", str(tmp_path / "made")]
    assert cli.main(arguments) == 0 and len(list((tmp_path / "made").glob("*.png"))) == 1
    net, run = load_generator(out)
    assert run.images.style == "authors_starry_style" and run.generator.norm == "batch"
    content = square(load_image("chelsea"), 128)[None]
    with torch.no_grad():
        image = net(content, NoiseStream(net, 0)(1, 128, 128, 0))[0]
    style = load_image(str(AUTHORS / "starry.jpg"))
    torch.testing.assert_close(image.mean((1, 2)), style.mean((1, 2)), rtol=0, atol=0.15)
    assert 0.15 < image.std() < 0.35
