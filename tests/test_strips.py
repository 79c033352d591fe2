"""A StyleNet by strips: against the whole image at once in float64, whatever the strips."""

import itertools

import pytest
import torch
from torch import nn

from texnet import generators, memory, strips, winograd
from texnet.generators import Residual, StyleNet

CPU = torch.device("cpu")
# The height of strips: the least there is, some rows, the whole image.
HEIGHTS = {"least": 1, "some": 2**15, "whole": 2**25}
# What is kept: no more than must be, small maps, all maps.
KEPT = (0, 2, 100)


def network(dtype=torch.float64, **settings):
    """A StyleNet with weights, averages and variances drawn from seed 0."""
    net = StyleNet(**{"width": 4, "blocks": 1} | settings)
    generators.initialise(net, 0)
    rng = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=rng)
            module.running_var.uniform_(0.5, 2, generator=rng)
    return net.to(dtype).eval().requires_grad_(False)


def inputs(net, height, width):
    """An image whose upper third differs strongly from the rest, and noise."""
    rng = torch.Generator().manual_seed(2)
    dtype = next(net.parameters()).dtype
    shapes = [(1, 3, height, width), *net.noise_shapes(1, height, width)]
    content, *noise = (torch.rand(shape, generator=rng, dtype=dtype) for shape in shapes)
    content[:, :, : height // 3] = 1 + content[:, :, : height // 3].roll(1, dims=1) / 50
    return content, noise


@torch.no_grad()
def difference(net, height, width):
    """Of the image by strips and at once, (3, H, W)."""
    content, noise = inputs(net, height, width)
    copies = [tensor.clone() for tensor in (content, *noise)]
    found, wanted = strips.stylize(net, content, noise), net(content, noise)
    assert found.shape == wanted.shape == content.shape and wanted.std() > 0.01
    assert all(map(torch.equal, copies, (content, *noise)))
    return (found - wanted)[0].abs()


@pytest.fixture(params=HEIGHTS)
def height(request, monkeypatch):
    monkeypatch.setattr(strips, "STRIP", HEIGHTS[request.param])


# The same image


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize("norm", ["instance", "batch", "instance_first", "lrn_first", "none"])
def test_every_network(norm, upsampling, height, monkeypatch):
    for noise_channels, blocks, kept in itertools.product((0, 2), (0, 2), KEPT):
        monkeypatch.setattr(strips, "KEPT", kept)
        net = network(
            norm=norm, upsampling=upsampling, noise_channels=noise_channels, blocks=blocks
        )
        assert strips.supports(net)
        assert difference(net, 61, 38).max() < 1e-9


@pytest.mark.parametrize("shape", [(8, 5), (5, 90), (90, 7), (16, 67), (63, 64), (66, 33)])
@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
def test_sides(shape, upsampling, height):
    assert difference(network(upsampling=upsampling, noise_channels=1), *shape).max() < 1e-9


def test_wide_networks(height):
    # A quarter-size map of 160 channels has more than KEPT numbers per pixel of the image.
    assert difference(network(width=40), 24, 24).max() < 1e-9


def test_other_orders(height):
    """Of the same layers; and what is rectified in place may be what is kept."""
    net = network(norm="none")
    content = (inputs(net, 32, 40)[0] - 0.5).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = net(content.relu())
    layers = list(net.body)
    for i in range(len(layers) - 1):
        if isinstance(layers[i + 1], nn.ReLU):
            layers[i : i + 2] = reversed(layers[i : i + 2])
    net.body = nn.Sequential(nn.ReLU(inplace=True), *layers)
    copy = content.clone()
    assert (strips.stylize(net, content) - wanted).abs().max() < 1e-9
    assert torch.equal(content, copy)


def test_in_single_precision(monkeypatch):
    monkeypatch.setattr(strips, "STRIP", 2**18)
    assert difference(network(torch.float32, width=16, blocks=2), 193, 160).max() < 1e-4


def test_no_seams(monkeypatch):
    """Nothing but rounding is left at the borders of strips, where anything else would be seen."""
    net = network(torch.float32, width=8, blocks=2)
    monkeypatch.setattr(strips, "STRIP", 2**17)
    borders = []
    written = strips.Chain.strips

    def spied(chain):
        borders[:] = []
        for strip in written(chain):
            borders.append(strip[0])
            yield strip

    monkeypatch.setattr(strips.Chain, "strips", spied)
    by_row = difference(net, 160, 160).amax(dim=(0, 2))
    assert len(borders) > 5  # of the last pass, whose strips are the image
    near = torch.zeros(160, dtype=torch.bool)
    for border in borders[1:]:
        near[border - 1 : border + 1] = True
    assert by_row[near].max() <= 2 * by_row[~near].max()
    assert by_row[near].mean() <= 1.5 * by_row[~near].mean()


# The statistics


def test_statistics_are_those_of_the_whole_image(height):
    """With its own statistics a strip of even grey would come out as any other."""
    net = network(width=4)
    content = torch.cat([torch.zeros(1, 3, 48, 32), torch.ones(1, 3, 16, 32)], dim=2).double()
    with torch.no_grad():
        wanted, found = net(content), strips.stylize(net, content)
        upper, lower = strips.stylize(net, content[:, :, :48]), found[:, :, 16:32]
    assert (found - wanted).abs().max() < 1e-9
    assert (upper[:, :, 16:32] - lower).abs().mean() > 0.01


def test_merged_statistics():
    maps = inputs(network(), 50, 20)[0]
    maps[:, 1] += 1e4  # a mean that dwarfs the deviations
    parts = [(a, b, maps[:, :, a:b]) for a, b in ((0, 4), (4, 40), (40, 50))]
    mean, variance = strips._statistics(parts)
    wanted_variance, wanted = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(variance, wanted_variance, rtol=1e-9, atol=0)


# Memory


def peak(work):
    with torch.no_grad():
        return memory.peak_memory(work, CPU)


@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
def test_memory(norm, upsampling, monkeypatch):
    monkeypatch.setattr(strips, "STRIP", 2**20)
    net = network(torch.float32, norm=norm, upsampling=upsampling, width=32)
    content = torch.rand(1, 3, 512, 512)
    found = peak(lambda: strips.stylize(net, content))
    assert found < 0.35 * peak(lambda: net(content))
    # 16 numbers per pixel are two quarter-size maps, 3 the image.
    assert found < 4 * 512**2 * (16 + 3) + 4 * strips.STRIP


@pytest.mark.parametrize("width", [4, 16, 32])
@pytest.mark.parametrize("noise_channels", [0, 3])
def test_memory_is_foretold(width, noise_channels, monkeypatch):
    monkeypatch.setattr(strips, "STRIP", 2**19)
    net = network(torch.float32, width=width, noise_channels=noise_channels)
    content, noise = inputs(net, 402, 398)
    found = peak(lambda: strips.stylize(net, content, noise))
    found += sum(tensor.nbytes for tensor in (content, *noise))
    each, besides = strips.memory(net)
    assert 0.6 * each * 402 * 398 < found < each * 402 * 398 + besides


def test_memory_of_the_papers_network():
    each, besides = strips.memory(StyleNet())
    assert each * 4096**2 + besides < 2 * memory.GIB


def test_strips_with_fewer_multiplications(monkeypatch):
    """The same image, and no more memory than is foretold, which the transformed kernels are in."""
    monkeypatch.setattr(strips, "STRIP", 2**19)
    for name in ("WIDE", "WORK"):
        monkeypatch.setattr(winograd, name, 2**8)
    monkeypatch.setattr(strips, "WIDE", 2**8)
    net = network(torch.float32, width=32)
    assert difference(net, 201, 150).max() < 1e-4
    blocks = [module for module in net.modules() if isinstance(module, winograd.Conv3x3)]
    assert blocks and all(module.kept for module in blocks)
    for module in blocks:
        module.kept = None
    content, noise = inputs(net, 402, 398)
    found = peak(lambda: strips.stylize(net, content, noise)) + content.nbytes
    each, besides = strips.memory(net)
    assert found < each * 402 * 398 + besides


# Work


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
def test_quarter_size_maps_are_made_once(upsampling):
    """In the paper's network: the others once for each normalisation before the next kept map."""
    net = network(torch.float32, width=32, upsampling=upsampling)
    passes = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda module, *_: passes.append(module))
    strips.stylize(net, *inputs(net, 40, 32))
    convolutions = dict.fromkeys(passes)
    assert [passes.count(module) for module in convolutions] == [3, 2, 1, 1, 1, 3, 2, 1]


# What is not supported


def test_other_networks():
    other = generators.SkipNet(width=2).eval()
    assert not strips.supports(other)
    with pytest.raises(ValueError, match="only a StyleNet in evaluation mode"):
        strips.stylize(other, torch.zeros(1, 3, 32, 32))
    net = network()
    net.body.append(nn.Sigmoid())
    assert not strips.supports(net)
    net = network()
    next(part for part in net.body if isinstance(part, Residual)).body.append(nn.Sigmoid())
    assert not strips.supports(net)
    with pytest.raises(ValueError, match="only a StyleNet in evaluation mode"):
        strips.stylize(network().train(), torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, dilation=2), nn.Conv2d(4, 4, (3, 1)),
        nn.Conv2d(4, 4, 3, stride=(1, 2)), nn.ConvTranspose2d(4, 4, 3, 2, 1),
        nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, dilation=2),
    ],
)  # fmt: skip
def test_other_convolutions(other):
    """Which see other rows, and were applied as if they did not."""
    net = network()
    assert strips.supports(net)
    net.body.append(other)
    assert not strips.supports(net)


@pytest.mark.parametrize(
    ("content", "noise"),
    [
        ((2, 3, 32, 32), [(2, 1, 32, 32)]),
        ((1, 1, 32, 32), [(1, 1, 32, 32)]),
        ((1, 3, 32, 32), []),
        ((1, 3, 32, 32), [(1, 2, 32, 32)]),
        ((1, 3, 32, 32), [(1, 1, 32, 31)]),
    ],
)
def test_other_shapes(content, noise):
    net = network(torch.float32, noise_channels=1)
    with pytest.raises(ValueError, match="must be of the shapes"):
        strips.stylize(net, torch.zeros(content), [torch.zeros(shape) for shape in noise])
