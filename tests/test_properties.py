"""Laws that hold for whatever is given: sizes, normalisation, diversity, metrics, files.

Examples are drawn by hypothesis, always the same ones; few, because each runs a network or a file.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from texnet import data, losses, metrics
from texnet.artifacts import read_tensors, write_tensors
from texnet.descriptors import gram
from texnet.errors import TexnetError
from texnet.estimator import kozachenko_leonenko
from texnet.generators import SkipNet, StyleNet, TextureNetV1, initialise
from texnet.layers import EPS, InstanceNorm, normalisation
from texnet.statistics import bootstrap

settings.register_profile(
    "few",
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    # Each of a test's files is written anew for each example.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
few = settings(settings.get_profile("few"))

seeds = st.integers(0, 2**31 - 1)
factors = st.floats(0.05, 20)


def normal(seed, *shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def permuted(seed, points):
    return points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))]


def noise_for(net, seed, count, height, width):
    """What a network takes besides the content, U(0, 1)."""
    return [uniform(seed, *shape) for shape in net.noise_shapes(count, height, width)]


# Generators keep the size

NETWORKS = {
    **{
        f"StyleNet {norm} {upsampling} {noise}": (
            lambda norm=norm, upsampling=upsampling, noise=noise: StyleNet(
                norm, width=2, blocks=1, noise_channels=noise, upsampling=upsampling
            ),
            5,
        )
        for norm in ("instance", "batch", "instance_first", "lrn_first", "none")
        for upsampling in ("transposed", "bilinear")
        for noise in (0, 2)
    },
    **{
        f"SkipNet {norm}": (lambda norm=norm: SkipNet(norm, width=2), 17)
        for norm in ("instance", "batch", "none")
    },
    **{
        f"TextureNetV1 {norm} {content}": (
            lambda norm=norm, content=content: TextureNetV1(
                norm, width=2, noise_channels=1, content=content
            ),
            33,
        )
        for norm in ("instance", "batch", "none")
        for content in (False, True)
    },
}  # fmt: skip
"""How each is made, and the smallest side: instance norm needs two pixels at the coarsest scale."""


@pytest.mark.parametrize("name", NETWORKS)
@settings(few, max_examples=4)
@given(more=st.tuples(st.integers(0, 40), st.integers(0, 40)), training=st.booleans(), seed=seeds)
def test_generators_keep_any_size(name, more, training, seed):
    make, least = NETWORKS[name]
    net = make().train(training)
    initialise(net, seed)
    height, width = least + more[0], least + more[1]
    noise = noise_for(net, seed, 2, height, width)
    content = None if getattr(net, "content", True) is False else uniform(seed, 2, 3, height, width)
    with torch.no_grad():
        made = net(content, noise)
    if content is None:  # of textures the caller cuts what is over multiples of 32
        height, width = (-(-side // 32) * 32 for side in (height, width))
    assert made.shape == (2, 3, height, width)
    assert made.isfinite().all()


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@settings(few, max_examples=6)
@given(rows=st.integers(2, 3), columns=st.integers(2, 3), shift=st.tuples(seeds, seeds), seed=seeds)
def test_textures_of_v1_move_with_their_noise_and_so_tile(norm, rows, columns, shift, seed):
    net = TextureNetV1(norm, width=2, noise_channels=1).eval()
    initialise(net, seed)
    net.double()  # instance norm makes much of small deviations, and of their rounding
    height, width = 32 * rows, 32 * columns
    noise = [z.double() for z in noise_for(net, seed, 1, height, width)]
    down, right = shift[0] % rows, shift[1] % columns  # in pixels of the coarsest scale
    moved = [
        z.roll((down * 32 // ratio, right * 32 // ratio), (2, 3))
        for z, ratio in zip(noise, net.ratios, strict=True)
    ]
    with torch.no_grad():
        made, wanted = net(None, moved), net(None, noise).roll((32 * down, 32 * right), (2, 3))
    torch.testing.assert_close(made, wanted, atol=1e-9, rtol=1e-9)


# Normalisation

maps = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 12), st.integers(1, 12))


def instance_norm(seed, channels):
    """With random scales of either sign and random biases."""
    layer = InstanceNorm(channels)
    with torch.no_grad():
        layer.weight.copy_(normal(seed, channels))
        layer.bias.copy_(normal(seed + 1, channels))
    return layer


def equation_12(x, layer):
    """In float64."""
    x = x.double()
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    scale, bias = (p.detach().double().view(1, -1, 1, 1) for p in (layer.weight, layer.bias))
    return (x - mean) / (variance + EPS).sqrt() * scale + bias


@few
@given(shape=maps, seed=seeds, offset=st.floats(-10, 10), factor=factors)
def test_instance_norm_is_equation_12_and_pytorchs(shape, seed, offset, factor):
    layer = instance_norm(seed, shape[1])
    x = factor * normal(seed, *shape) + offset
    made = layer(x)
    theirs = F.instance_norm(x, weight=layer.weight, bias=layer.bias, eps=EPS)
    # Of float32's seven digits of an offset some are lost in what is left without it.
    close = {"atol": 2e-5 * (1 + abs(offset) / factor), "rtol": 1e-4}
    torch.testing.assert_close(made.double(), equation_12(x, layer), **close)
    torch.testing.assert_close(made, theirs, **close)


@few
@given(shape=maps, seed=seeds)
def test_instance_norm_gives_each_map_the_bias_as_mean_and_the_scale_as_deviation(shape, seed):
    layer = instance_norm(seed, shape[1])
    x = normal(seed, *shape)
    variance, mean = torch.var_mean(layer(x).double(), dim=(2, 3), correction=0)
    before = x.double().var((2, 3), correction=0)
    torch.testing.assert_close(mean, layer.bias.double().expand_as(mean), atol=1e-5, rtol=1e-4)
    wanted = layer.weight.double().square() * before / (before + EPS)
    torch.testing.assert_close(variance, wanted, atol=1e-5, rtol=1e-3)


@few
@given(shape=maps, seed=seeds, factor=factors, offset=st.floats(-3, 3))
def test_instance_norm_discards_contrast_and_brightness(shape, seed, factor, offset):
    layer, x = instance_norm(seed, shape[1]), normal(seed, *shape, dtype=torch.float64)
    variance = x.var((2, 3), keepdim=True, correction=0)
    assume(variance.min() > 1e-2)
    # eps counts more where there is less contrast: exactly this much.
    share = (factor**2 * (variance + EPS) / (factor**2 * variance + EPS)).sqrt()
    bias = layer.bias.double().view(1, -1, 1, 1)
    plain = layer(x.float()).double()
    changed = layer((factor * x + offset).float()).double()
    close = {"atol": 1e-4 * (1 + abs(offset) / factor), "rtol": 1e-4}
    torch.testing.assert_close(changed - bias, (plain - bias) * share, **close)


@few
@given(shape=maps, seed=seeds)
def test_instance_norm_of_a_batch_is_that_of_its_images(shape, seed):
    layer, x = instance_norm(seed, shape[1]), normal(seed, *shape)
    apart = torch.cat([layer(image[None]) for image in x])
    torch.testing.assert_close(layer(x), apart, atol=1e-5, rtol=1e-4)
    assert torch.equal(layer(x), layer.eval()(x))  # alike in training and at test time


@few
@given(shape=maps, seed=seeds, factor=factors)
def test_batch_norm_in_training_and_at_test_time(shape, seed, factor):
    """Normalised by the batch, which it then knows: with momentum 1 as it normalises at test."""
    layer = normalisation("batch", shape[1])
    x = factor * normal(seed, *shape)
    count = x[:, 0].numel()
    variance, mean = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    assume(variance.min() > 1e-3)
    view = (1, -1, 1, 1)
    wanted = (x - mean.view(view)) / (variance + EPS).sqrt().view(view)
    torch.testing.assert_close(layer(x).double(), wanted, atol=1e-4, rtol=1e-4)
    unbiased = variance * count / (count - 1)
    torch.testing.assert_close(layer.running_mean.double(), 0.1 * mean, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(
        layer.running_var.double(), 0.9 + 0.1 * unbiased, atol=1e-6, rtol=1e-4
    )
    layer.eval()
    known, spread = layer.running_mean.view(view), (layer.running_var + EPS).sqrt().view(view)
    torch.testing.assert_close(layer(x), (x - known) / spread, atol=1e-5, rtol=1e-4)


@few
@given(shape=maps, seed=seeds)
def test_batch_norm_of_one_image_in_training_is_instance_norm(shape, seed):
    x = normal(seed, 1, *shape[1:])
    layers = [normalisation(norm, shape[1]).train() for norm in ("batch", "instance")]
    torch.testing.assert_close(layers[0](x), layers[1](x), atol=1e-5, rtol=1e-4)


# Diversity, eq. 8-10

points = st.tuples(seeds, st.integers(2, 9), st.integers(1, 12)).map(
    lambda drawn: normal(*drawn, dtype=torch.float64)
)


@few
@given(x=points, seed=seeds, by=st.floats(-5, 5), factor=factors)
def test_the_diversity_of_samples(x, seed, by, factor):
    """Whatever their order and a common image; scaled by s it grows by ln s."""
    known = losses.diversity(x)
    same = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(losses.diversity(permuted(seed, x)), known, **same)
    moved = x + by * normal(seed, 1, x.shape[1], dtype=torch.float64)
    torch.testing.assert_close(losses.diversity(moved), known, **same)
    torch.testing.assert_close(losses.diversity(factor * x), known + math.log(factor), **same)


@few
@given(x=points, seed=seeds, factor=factors)
def test_the_entropy_of_samples(x, seed, factor):
    known, dimension = kozachenko_leonenko(x), x.shape[1]
    assert kozachenko_leonenko(permuted(seed, x)) == pytest.approx(known, abs=1e-9)
    scaled = kozachenko_leonenko(factor * x)
    assert scaled == pytest.approx(known + dimension * math.log(factor), abs=1e-8)


@few
@given(seed=seeds, count=st.integers(2, 5), copies=st.integers(1, 3))
def test_copies_have_the_least_diversity_and_the_floor_bounds_it(seed, count, copies):
    """Each of some images twice or oftener: none is further from its neighbour than the floor."""
    images = uniform(seed, count, 3, 4, 5)
    several = permuted(seed, images.repeat(1 + copies, 1, 1, 1))
    floor = 0.5 * math.log(metrics.FLOOR)
    assert metrics.neighbour_entropy(several) == pytest.approx(floor, abs=1e-6)
    assert metrics.neighbour_entropy(images) > floor
    assert losses.diversity(several) == -math.inf


@few
@given(x=points, seed=seeds)
def test_another_sample_brings_no_neighbour_further_away(x, seed):
    nearest = losses.nearest_neighbour(x)
    more = torch.cat([x, normal(seed, 1, x.shape[1], dtype=torch.float64)])
    assert (losses.nearest_neighbour(more)[: len(x)] <= nearest).all()


# Gram matrices


@few
@given(shape=maps, seed=seeds)
def test_gram_matrices(shape, seed):
    """Symmetric, without negative eigenvalues, blind to positions, quadratic in the features."""
    features = normal(seed, *shape)
    made = gram(features)
    flat = features.double().flatten(2)
    wanted = flat @ flat.mT / features[0].numel()
    torch.testing.assert_close(made.double(), wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(made, made.mT, atol=1e-7, rtol=1e-6)
    assert torch.linalg.eigvalsh(made.double()).min() > -1e-6
    places = torch.randperm(flat.shape[2], generator=torch.Generator().manual_seed(seed))
    elsewhere = features.flatten(2)[:, :, places].view_as(features)
    torch.testing.assert_close(gram(elsewhere), made, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gram(3 * features), 9 * made, atol=1e-5, rtol=1e-5)


# Metrics


@few
@given(seed=seeds, count=st.integers(2, 8), dimension=st.integers(2, 10), copies=st.integers(1, 3))
def test_vendi_is_a_number_of_samples(seed, count, dimension, copies):
    rows = F.normalize(normal(seed, count, dimension), dim=1)
    score = metrics.vendi(rows)
    assert 1 - 1e-9 <= score <= min(count, dimension) + 1e-9
    assert metrics.vendi(permuted(seed, rows)) == pytest.approx(score, rel=1e-9)
    assert metrics.vendi(rows.repeat(copies, 1)) == pytest.approx(score, rel=1e-6)
    assert metrics.vendi(rows[:1].repeat(count, 1)) == pytest.approx(1, abs=1e-9)


@few
@given(shape=maps, seed=seeds)
def test_sliced_wasserstein_is_a_distance(shape, seed):
    """Zero of the same values in any order, symmetric, under the triangle inequality."""
    a, b, c = (normal(seed + i, 1, *shape[1:]) for i in range(3))
    elsewhere = permuted(seed, a.flatten(2).movedim(2, 0)).movedim(0, 2).view_as(a)
    assert metrics.sliced_wasserstein(a, elsewhere).item() == pytest.approx(0, abs=1e-5)
    across = metrics.sliced_wasserstein(a, b)
    torch.testing.assert_close(metrics.sliced_wasserstein(b, a), across)
    by_way = metrics.sliced_wasserstein(a, c) + metrics.sliced_wasserstein(c, b)
    assert (across <= by_way + 1e-6).all()


@few
@given(seed=seeds, count=st.integers(2, 6), side=st.integers(1, 6))
def test_pairwise_distances(seed, count, side):
    images = uniform(seed, count, 3, side, side)
    found = metrics.pairwise_pixels(images)
    assert 0 < found <= 1
    assert metrics.pairwise_pixels(permuted(seed, images)) == pytest.approx(found, rel=1e-5)
    darker = metrics.pairwise_pixels(images / 2)
    assert darker == pytest.approx(found / 2, rel=1e-5)
    moved = metrics.pairwise_pixels(0.5 * images + 0.25)  # brighter, and still within [0, 1]
    assert moved == pytest.approx(found / 2, rel=1e-4)
    assert metrics.pairwise_pixels(images[:1].repeat(count, 1, 1, 1)) == 0
    a, b = images[:1], images[1:2]
    assert metrics.pixel_distance(a, b) == metrics.pixel_distance(b, a)
    two = metrics.pairwise_pixels(images[:2])
    assert two == pytest.approx(metrics.pixel_distance(a, b).item(), rel=1e-5)


# Intervals

tables = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.floats(-1e3, 1e3), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@settings(few, max_examples=30)
@given(table=tables, factor=factors, offset=st.floats(-100, 100))
def test_bootstrap_intervals(table, factor, offset):
    found = bootstrap(table)
    spread = np.ptp(table) + 1e-9
    assert found == bootstrap(table)
    assert found.n == np.size(table)
    assert found.low - 1e-9 * spread <= found.value <= found.high + 1e-9 * spread
    assert (
        np.min(table) - 1e-9 * spread <= found.low and found.high <= np.max(table) + 1e-9 * spread
    )
    changed = bootstrap([[factor * value + offset for value in row] for row in table])
    for name in ("value", "low", "high"):
        wanted = factor * getattr(found, name) + offset
        assert getattr(changed, name) == pytest.approx(wanted, rel=1e-9, abs=1e-7)
    turned = bootstrap([[-value for value in row] for row in table])
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-7)


# Images and files

sides = st.integers(data.MIN_SIDE, data.MIN_SIDE + 24)


@few
@given(height=sides, width=sides, seed=seeds)
def test_a_written_image_is_read_within_half_a_grey_level(height, width, seed, tmp_path):
    image = 1.2 * uniform(seed, 3, height, width) - 0.1
    path = tmp_path / "image.png"
    data.write_image(path, image)
    found = data.read_image(path)
    assert found.shape == image.shape and found.dtype == torch.float32
    assert (found - image.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    data.write_image(path, found)
    assert torch.equal(data.read_image(path), found)


@few
@given(
    height=st.integers(1, 60), width=st.integers(1, 60), side=st.integers(1, 60),
    grey=st.floats(0, 1),
)  # fmt: skip
def test_sizes_of_fitted_images_and_squares(height, width, side, grey):
    flat = torch.full((3, height, width), grey)
    fitted, squared = data.fit(flat, side), data.square(flat, side)
    assert squared.shape == (3, side, side)
    assert max(fitted.shape[1:]) == side
    wanted = max(1, round(side * min(height, width) / max(height, width)))
    assert min(fitted.shape[1:]) == wanted
    for made in (fitted, squared):
        torch.testing.assert_close(made, torch.full_like(made, grey), atol=1e-6, rtol=1e-5)


KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
         torch.int16, torch.int8, torch.uint8, torch.bool]  # fmt: skip
names = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__")
tensors = st.dictionaries(
    names,
    st.tuples(seeds, st.sampled_from(KINDS), st.lists(st.integers(0, 4), max_size=4)).map(
        lambda drawn: (100 * normal(drawn[0], *drawn[2])).to(drawn[1])
    ),
    max_size=4,
)


def bits(tensor):
    """Every bit of a tensor."""
    return tensor.contiguous().flatten().view(torch.uint8) if tensor.numel() else tensor


@settings(few, max_examples=40)
@given(
    given=tensors, metadata=st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3)
)
def test_tensors_and_metadata_come_back_as_they_were(given, metadata, tmp_path):
    path = tmp_path / "tensors.safetensors"
    write_tensors(path, given, metadata)
    found, described = read_tensors(path)
    assert described == metadata
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert torch.equal(bits(found[name]), bits(tensor))
    first = path.read_bytes()
    write_tensors(path, dict(reversed(given.items())), metadata)
    assert path.read_bytes() == first


@few
@given(seed=seeds, place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_loads_as_other_weights(seed, place, bit, tmp_path):
    path = tmp_path / "tensors.safetensors"
    wanted = {"a": normal(seed, 5), "b": normal(seed, 2, 3)}
    write_tensors(path, wanted, {"format": "test"})
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(TexnetError):
        read_tensors(path)
