"""Descriptor and Gram matrices against torchvision, naive loops and the real VGG-19."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from vision import torchvision

from texnet import descriptors
from texnet.artifacts import sha256
from texnet.config import LITE_WEIGHTS
from texnet.descriptors import CONVOLUTIONS, LAYERS, WIDTHS, Descriptor, gram, load
from texnet.errors import DataError, UsageError
from texnet.registry import Entry

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_vgg19 = pytest.mark.skipif(
    not (SHARED / "vgg19").is_dir(), reason="the real VGG-19 weights are not beside the project"
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_same_features_as_torchvisions_vgg19(generator):
    """An independent implementation with the same weights; ours wants RGB in [0, 1]."""
    theirs = torchvision().models.vgg19(weights=None).features.eval()
    layers = [m for m in theirs if isinstance(m, torch.nn.Conv2d)]
    ours = Descriptor(WIDTHS["vgg19"], LAYERS)
    with torch.no_grad():
        for layer in layers:
            torch.nn.init.kaiming_normal_(layer.weight, generator=generator)
        for mine, layer in zip(ours.convolutions.values(), layers, strict=True):
            mine.load_state_dict(layer.state_dict())
    images = torch.rand((1, 3, 32, 48), generator=generator)
    blue, green, red = 103.939, 116.779, 123.68
    x = torch.stack(
        [images[:, 2] * 255 - blue, images[:, 1] * 255 - green, images[:, 0] * 255 - red], 1
    )
    found = ours(images)
    activations = iter(LAYERS)
    for module in theirs:
        x = module(x)
        if isinstance(module, torch.nn.ReLU):
            name = next(activations)
            assert found[name].shape == x.shape
            torch.testing.assert_close(found[name], x, rtol=1e-4, atol=1e-3)
    assert next(activations, None) is None


def test_torchvisions_normalisation(generator):
    """The other VGG-19: RGB minus mean over deviation, as torchvision's own transform has it."""
    vision = torchvision()
    theirs = vision.models.vgg19(weights=None).features[:4].eval()
    ours = Descriptor(WIDTHS["vgg19_torchvision"], ["relu1_2"], torchvision=True)
    with torch.no_grad():
        for mine, index in zip(ours.convolutions.values(), (0, 2), strict=True):
            torch.nn.init.kaiming_normal_(theirs[index].weight, generator=generator)
            mine.load_state_dict(theirs[index].state_dict())
    images = torch.rand((2, 3, 24, 20), generator=generator)
    transform = vision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(ours(images)["relu1_2"], theirs(transform(images)))


@pytest.fixture
def torchvision_file(tmp_path, generator):
    """The first convolutions of a VGG-19 as torchvision saves it, with a part of its classifier."""
    state = {}
    for number, (before, after) in {0: (3, 64), 2: (64, 64), 5: (64, 128)}.items():
        state[f"features.{number}.weight"] = torch.rand(after, before, 3, 3, generator=generator)
        state[f"features.{number}.bias"] = torch.rand(after, generator=generator)
    state["classifier.0.weight"] = torch.rand(2, 2, generator=generator)
    torch.save(state, tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth", state


def test_torchvisions_names_are_read(torchvision_file):
    path, state = torchvision_file
    net = load("vgg19_torchvision", ["relu2_1"], weights=path)
    for name, number in (("1_1", 0), ("1_2", 2), ("2_1", 5)):
        assert torch.equal(net.convolutions[name].weight, state[f"features.{number}.weight"])
        assert torch.equal(net.convolutions[name].bias, state[f"features.{number}.bias"])
    with pytest.raises(DataError, match=r"has no tensor 'conv2_2\.weight'"):
        load("vgg19_torchvision", ["relu2_2"], weights=path)


def test_the_two_normalisations_are_never_mixed_up(torchvision_file, tmp_path, monkeypatch):
    path, state = torchvision_file
    with pytest.raises(DataError, match="as torchvision does and is not registered as Caffe's"):
        load("vgg19", ["relu1_1"], weights=path)
    ours = {f"conv1_1.{kind}": state[f"features.0.{kind}"] for kind in ("weight", "bias")}
    torch.save(ours, tmp_path / "ours.pth")
    assert load("vgg19", ["relu1_1"], weights=tmp_path / "ours.pth").torchvision is False
    with pytest.raises(DataError, match="wants torchvision's own file"):
        load("vgg19_torchvision", ["relu1_1"], weights=tmp_path / "ours.pth")
    # The one file that has Caffe's network under torchvision's names is known by its checksum.
    known = Entry("caffe.pth", (), sha256(path), path.stat().st_size, "", "", "vgg19_exact")
    monkeypatch.setattr(descriptors, "entries_of", lambda name: [known])
    caffe = load("vgg19", ["relu1_1"], weights=path)
    assert torch.equal(caffe.convolutions["1_1"].weight, state["features.0.weight"])
    assert caffe.torchvision is False
    with pytest.raises(DataError, match=r"is Caffe's network; use descriptor\.name vgg19"):
        load("vgg19_torchvision", ["relu1_1"], weights=path)


def test_a_manifest_stands_for_its_verified_files(torchvision_file, tmp_path):
    path, state = torchvision_file
    (tmp_path / "some.sha256").write_text(f"{sha256(path)}  theirs.pth\n")
    net = load("vgg19_torchvision", ["relu1_1"], weights=tmp_path / "some.sha256")
    assert torch.equal(net.convolutions["1_1"].weight, state["features.0.weight"])
    torch.save({**state, "features.0.bias": torch.zeros(64)}, path)
    with pytest.raises(DataError, match=r"theirs\.pth: sha256 is .*, wanted"):
        load("vgg19_torchvision", ["relu1_1"], weights=tmp_path / "some.sha256")


def test_odd_sizes_are_rounded_up_at_each_pooling():
    features = Descriptor((2, 2, 2, 2, 2), ["relu1_1", "relu3_1", "relu5_1"])(
        torch.rand(1, 3, 37, 50)
    )
    assert [tuple(f.shape[2:]) for f in features.values()] == [(37, 50), (10, 13), (3, 4)]


def test_average_pooling_of_a_constant_map():
    """With identity-like filters a constant image stays constant under either pooling."""
    for pool in ("max", "avg"):
        net = Descriptor((1, 1, 1, 1, 1), ["relu2_1"], pool)
        for convolution in net.convolutions.values():
            convolution.weight.zero_()
            convolution.weight[:, :, 1, 1] = 1
            convolution.bias.zero_()
        image = torch.full((1, 3, 9, 9), 0.75)
        value = sum(0.75 * 255 - m for m in descriptors.CAFFE_MEAN_BGR)
        torch.testing.assert_close(net(image)["relu2_1"], torch.full((1, 1, 5, 5), value))


def test_stops_at_the_last_layer_and_is_frozen():
    net = load("random", ["relu2_1", "relu1_1"])
    assert list(net.convolutions) == ["1_1", "1_2", "2_1"]
    assert list(net(torch.rand(2, 3, 16, 16))) == ["relu1_1", "relu2_1"]
    assert not any(p.requires_grad for p in net.parameters())
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    net(image)["relu2_1"].sum().backward()
    assert image.grad.abs().sum() > 0


def test_gram_against_a_naive_loop(generator):
    f = torch.randn((2, 3, 4, 5), generator=generator, dtype=torch.float64)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                naive = sum(f[b, i, y, x] * f[b, j, y, x] for y in range(4) for x in range(5)) / 60
                torch.testing.assert_close(gram(f)[b, i, j], naive)


def test_gram_ignores_where_things_are(generator):
    f = torch.randn((1, 4, 6, 6), generator=generator, dtype=torch.float64)
    shuffled = f.flatten(2)[..., torch.randperm(36, generator=generator)].view_as(f)
    torch.testing.assert_close(gram(shuffled), gram(f))
    channels_last = f.to(memory_format=torch.channels_last)
    torch.testing.assert_close(gram(channels_last), gram(f))
    assert torch.linalg.eigvalsh(gram(f)).min() > -1e-12


def test_gram_gradient_in_float64(generator):
    f = torch.randn((1, 2, 3, 3), generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gram, f)


@pytest.mark.parametrize(
    ("name", "layers", "text"),
    [
        ("vgg16", ["relu1_1"], "unknown descriptor 'vgg16'"),
        ("random", ["conv1_1"], "unknown layer 'conv1_1'"),
        ("random", [], "at least one layer"),
        ("vgg19_lite", ["relu5_2"], "ends at relu5_1"),
    ],
)
def test_wrong_names_are_refused_by_name(name, layers, text):
    with pytest.raises(UsageError, match=text):
        load(name, layers)


def test_wrong_image_shape():
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got \(1, 4, 8, 8\)"):
        load("random", ["relu1_1"])(torch.rand(1, 4, 8, 8))


def test_eight_bit_weights_are_expanded(tmp_path):
    stored = torch.arange(256, dtype=torch.uint8)
    tensors = {
        "conv4_1.weight_u8": stored,
        "conv4_1.weight_scale": torch.tensor([0.001], dtype=torch.float64),
        "conv4_1.weight_min": torch.tensor([-0.1], dtype=torch.float64),
        "conv4_1.bias": torch.ones(3),
    }
    save_file(tensors, tmp_path / "w.safetensors")
    found = descriptors.read_weights(tmp_path)
    assert sorted(found) == ["conv4_1.bias", "conv4_1.weight"]
    expected = (torch.arange(256, dtype=torch.float64) * 0.001 - 0.1).float()
    assert torch.equal(found["conv4_1.weight"], expected)


def test_lite_weights_as_shipped():
    """Half precision, at most 2 MB, with their origin in the metadata."""
    from safetensors import safe_open

    assert LITE_WEIGHTS.stat().st_size <= 2_000_000
    with safe_open(LITE_WEIGHTS, framework="pt") as stream:
        metadata = stream.metadata()
        assert {stream.get_tensor(k).dtype for k in stream.keys()} == {torch.float16}
    r2 = json.loads(metadata["r2"])
    assert list(r2) == list(LAYERS[: LAYERS.index("relu5_1") + 1])
    assert all(0 < value < 1 for value in r2.values())
    assert {"teacher", "teacher_sha256", "images", "heldout", "command", "settings"} <= set(
        metadata
    )
    assert "texnet distill" in metadata["command"]


def test_lite_features_are_those_of_its_checksum():
    import csv

    with (LITE_WEIGHTS.parent / "registry.csv").open(newline="") as stream:
        row = next(r for r in csv.DictReader(stream) if r["file"] == "vgg19_lite.safetensors")
    assert int(row["bytes"]) == LITE_WEIGHTS.stat().st_size
    load("vgg19_lite", ["relu5_1"], checksum=row["sha256"])
    with pytest.raises(DataError, match=r"sha256 is \w{64}, wanted 0000"):
        load("vgg19_lite", ["relu5_1"], checksum="0" * 64)


@needs_vgg19
def test_real_vgg19_through_the_environment(monkeypatch):
    """Mean activations known of Caffe's network on photographs, within a factor of 1.5."""
    from texnet.data import load_image, square

    monkeypatch.setenv("TEXNET_WEIGHTS", str(SHARED / "vgg19"))
    known = {"relu1_1": 25, "relu2_1": 131, "relu3_1": 139, "relu4_1": 514, "relu5_1": 46}
    net = load("vgg19", known)
    images = torch.stack([square(load_image(n), 256) for n in ("astronaut", "chelsea", "china")])
    for layer, features in net(images).items():
        assert known[layer] / 1.5 < float(features.mean()) < known[layer] * 1.5, layer


@needs_vgg19
def test_real_vgg19_has_every_layer(monkeypatch):
    net = load("vgg19", [LAYERS[-1]], weights=SHARED / "vgg19")
    assert list(net.convolutions) == list(CONVOLUTIONS)
    assert sum(p.numel() for p in net.parameters()) == 20_024_384  # VGG-19's convolutions


@needs_vgg19
def test_lite_spans_vgg19_as_its_metadata_says():
    """A fresh least-squares readout on photographs predicts relu3_1 about as well as recorded."""
    from safetensors import safe_open

    from texnet.data import load_image, square

    with safe_open(LITE_WEIGHTS, framework="pt") as stream:
        recorded = json.loads(stream.metadata()["r2"])["relu3_1"]
    images = torch.stack([square(load_image(n), 160) for n in ("astronaut", "coffee", "china")])
    wanted = load("vgg19", ["relu3_1"], weights=SHARED / "vgg19")(images)["relu3_1"]
    found = load("vgg19_lite", ["relu3_1"])(images)["relu3_1"]
    untrained = load("random", ["relu3_1"])(images)["relu3_1"]

    def r2(student):
        y, x = (f.permute(0, 2, 3, 1).flatten(0, 2).double() for f in (wanted, student))
        y, x = y - y.mean(0), x - x.mean(0)
        # Some channels never fire: the pseudo-inverse leaves them out.
        residual = y - x @ (torch.linalg.pinv(x, rtol=1e-9) @ y)
        return 1 - residual.square().sum() / y.square().sum()

    assert r2(found) > recorded - 0.05
    assert r2(found) > r2(untrained) + 0.1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([torch.ones(2)], "plain dictionary of tensors"),
        ({"state_dict": {"conv1_1.weight": torch.ones(2)}}, "plain dictionary of tensors"),
        ({"conv1_1.weight": torch.tensor([float("nan")])}, "'conv1_1.weight' holds NaN"),
        ({"conv1_1.weight_u8": torch.ones(2, dtype=torch.uint8)}, "has no conv1_1.weight_scale"),
    ],
)
def test_odd_state_dictionaries_are_refused(tmp_path, content, text):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(DataError, match=text):
        descriptors.read_weights(tmp_path / "w.pth")


def test_checksum_of_a_directory_is_refused(tmp_path):
    with pytest.raises(UsageError, match="can only be that of a file"):
        load("vgg19", ["relu1_1"], weights=tmp_path, checksum="0" * 64)


def test_what_the_registry_knows_needs_no_checksum(monkeypatch):
    monkeypatch.delenv("TEXNET_WEIGHTS", raising=False)
    with pytest.raises(UsageError, match=r"vgg19\.sha256: the registry has its checksums"):
        load("vgg19", ["relu1_1"], checksum="0" * 64)


def test_unknown_pooling():
    with pytest.raises(UsageError, match="unknown pooling 'median'; use max or avg"):
        Descriptor((1, 1, 1, 1, 1), ["relu1_1"], "median")
