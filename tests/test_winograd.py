"""Convolutions in fewer multiplications are convolutions: values, derivatives, and when."""

import copy

import pytest
import torch
import torch.nn.functional as F

from texnet import config, winograd
from texnet.descriptors import Descriptor, initialise
from texnet.kernels import LAST
from texnet.losses import Objective
from texnet.winograd import Conv2d, Convolution, chunks, transformed

# Tiles that fill the maps or not, one tile, less than one, several chunks of images and of rows.
SHAPES = [
    (2, 3, 5, 8, 12), (1, 4, 2, 7, 9), (3, 2, 3, 5, 21), (1, 1, 1, 3, 3), (1, 2, 3, 70, 66),
    (2, 2, 3, 130, 66), (300, 1, 2, 6, 4),
]  # fmt: skip


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def case(count, before, after, height, width, kind=torch.float64):
    maps = torch.randn(count, before, height, width, dtype=kind)
    return maps, torch.randn(after, before, 3, 3, dtype=kind), torch.randn(after, dtype=kind)


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_derivative_are_a_convolutions(shape, padding, layout):
    """In float64, in which nothing but a mistake is as large as 1e-11; rectified in place after."""
    maps, kernel, bias = case(*shape)
    maps = maps.contiguous(memory_format=layout).requires_grad_(True)
    found = F.relu_(Convolution.apply(maps, transformed(kernel), bias, padding))
    wanted = F.relu(F.conv2d(maps, kernel, bias, padding=padding))
    weights = torch.randn_like(wanted).contiguous(memory_format=layout)
    gradients = [torch.autograd.grad(each, maps, weights)[0] for each in (found, wanted)]
    for ours, theirs in ((found, wanted), gradients):
        assert ours.is_contiguous(memory_format=LAST)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_derivative_against_finite_differences():
    maps, kernel, bias = case(2, 2, 3, 5, 6)
    given = (maps.requires_grad_(True), transformed(kernel), bias, 1)
    assert torch.autograd.gradcheck(Convolution.apply, given)


def test_every_tile_is_in_one_chunk():
    for count, rows, columns in ((1, 1, 1), (3, 16, 16), (40, 3, 5), (2, 40, 100), (1, 7, 300)):
        seen = torch.zeros(count, rows)
        for images, lines in chunks(count, rows, columns):
            seen[images, lines] += 1
            assert seen[images, lines].numel() * columns <= max(winograd.TILES, columns)
        assert (seen == 1).all()


def test_rounding():
    """Is as the module says, for the most terms of a sum that VGG-19 has."""
    maps, kernel, bias = case(1, 512, 64, 16, 16, torch.float32)
    maps, kernel = maps.relu(), kernel * (2 / (9 * 512)) ** 0.5
    exact = F.conv2d(*(each.double() for each in (maps, kernel, bias)), padding=1)
    found = Convolution.apply(maps, transformed(kernel), bias, 1)
    assert 0 < float((found - exact).std() / exact.std()) < 3e-6


@pytest.fixture
def wide(monkeypatch):
    """A frozen layer that is wide, as small as it may be."""
    monkeypatch.setattr(winograd, "WIDE", 12)
    monkeypatch.setattr(winograd, "WORK", 12 * 64)
    return Conv2d(3, 4, 1).requires_grad_(False)


def counted(monkeypatch):
    """How often a kernel is transformed, and with it whether."""
    calls = []
    monkeypatch.setattr(winograd, "transformed", lambda k: (calls.append(1), transformed(k))[1])
    return calls


def test_where_it_is_used(wide, monkeypatch):
    maps = torch.randn(1, 3, 8, 8)
    assert wide.worth(maps) and not wide.worth(maps[..., :7])
    assert not Conv2d(3, 3, 1).requires_grad_(False).worth(maps)  # narrow
    assert not wide.worth(maps.double()) and not wide.worth(maps.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not wide.worth(maps)
        assert wide(maps).dtype == torch.bfloat16
    calls = counted(monkeypatch)
    unused = Conv2d(3, 4, 1, winograd=False).requires_grad_(False)
    unused.load_state_dict(wide.state_dict())
    assert torch.equal(unused(maps), F.conv2d(maps, wide.weight, wide.bias, padding=1))
    wide.requires_grad_(True)(maps).sum().backward()
    assert wide.weight.grad is not None and not calls


def test_the_kernel_is_transformed_once_and_again_when_it_has_changed(wide, monkeypatch):
    calls, maps = counted(monkeypatch), torch.randn(1, 3, 8, 8)

    def right(times):
        wanted = F.conv2d(maps, wide.weight, wide.bias, padding=1)
        torch.testing.assert_close(wide(maps), wanted, rtol=0, atol=1e-4)  # of several units
        assert len(calls) == times

    right(1)
    right(1)
    wide.load_state_dict(Conv2d(3, 4, 1).state_dict())
    right(2)
    wide.weight = torch.nn.Parameter(torch.randn(4, 3, 3, 3), requires_grad=False)
    right(3)
    assert torch.equal(copy.deepcopy(wide)(maps), wide(maps))
    wide.half().float()  # rounded
    right(len(calls) + 1)
    # Fused optimisers change weights behind PyTorch's own count of changes.
    adam = torch.optim.Adam(wide.requires_grad_(True).parameters(), lr=0.1, fused=True)
    wide(maps).square().sum().backward()
    adam.step()
    wide.requires_grad_(False)
    right(len(calls) + 1)


def test_the_objective_is_the_same_but_for_rounding(monkeypatch):
    """Of VGG-19's widths; with winograd: false it is the direct one."""
    monkeypatch.setattr(winograd, "WORK", 2**20)
    settings = config.Objective(style_layers=("relu2_1", "relu3_2"), content_layers=("relu3_2",))
    images, content, style = torch.rand(3, 1, 3, 64, 64)
    found = []
    for fast in (True, False):
        descriptor = Descriptor((64, 128, 256, 512, 512), {"relu2_1", "relu3_2"}, winograd=fast)
        initialise(descriptor, torch.Generator().manual_seed(0))
        objective = Objective(settings, descriptor, style[0])
        given = images.clone().requires_grad_(True)
        total = objective(given, objective.content_targets(content)).total.sum()
        found.append((total.detach(), *torch.autograd.grad(total, given)))
        assert any(each.kept for each in descriptor.convolutions.values()) == fast
    assert not torch.equal(found[0][1], found[1][1])
    for ours, direct in zip(*found, strict=True):
        torch.testing.assert_close(ours, direct, rtol=1e-5, atol=2e-5 * float(direct.abs().max()))
