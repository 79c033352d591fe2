"""Convolutions in fewer multiplications are convolutions: values, derivatives, and when."""

import copy
import itertools
import threading

import pytest
import torch
import torch.nn.functional as F

from texnet import config, winograd
from texnet.descriptors import Descriptor, initialise
from texnet.kernels import LAST
from texnet.losses import Objective
from texnet.winograd import Conv3x3, Convolution, chunks, filter_transform

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


@pytest.mark.parametrize("tiles", [winograd.TILES, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_derivative_are_a_convolutions(shape, padding, layout, tiles, monkeypatch):
    """In float64, in which nothing but a mistake is as large as 1e-11; rectified in place after."""
    maps, kernel, bias = case(*shape)
    monkeypatch.setattr(winograd, "TILES", tiles)
    maps = maps.contiguous(memory_format=layout).requires_grad_(True)
    found = F.relu_(Convolution.apply(maps, filter_transform(kernel), bias, padding))
    wanted = F.relu(F.conv2d(maps, kernel, bias, padding=padding))
    weights = torch.randn_like(wanted).contiguous(memory_format=layout)
    gradients = [torch.autograd.grad(each, maps, weights)[0] for each in (found, wanted)]
    for ours, theirs in ((found, wanted), gradients):
        assert ours.is_contiguous(memory_format=LAST)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_derivative_against_finite_differences():
    maps, kernel, bias = case(2, 2, 3, 5, 6)
    given = (maps.requires_grad_(True), filter_transform(kernel), bias, 1)
    assert torch.autograd.gradcheck(Convolution.apply, given)


def test_every_tile_is_in_one_chunk():
    for count, rows, columns in ((1, 1, 1), (3, 16, 16), (40, 3, 5), (2, 40, 100), (1, 7, 300)):
        seen = torch.zeros(count, rows)
        for images, lines in chunks(count, rows, columns):
            seen[images, lines] += 1
            assert seen[images, lines].numel() * columns <= max(winograd.TILES, columns)
        assert (seen == 1).all()


def test_rounding_is_as_the_module_says():
    """For the most terms of a sum that VGG-19 has."""
    maps, kernel, bias = case(1, 512, 64, 16, 16, torch.float32)
    maps, kernel = maps.relu(), kernel * (2 / (9 * 512)) ** 0.5
    exact = F.conv2d(*(each.double() for each in (maps, kernel, bias)), padding=1)
    found = Convolution.apply(maps, filter_transform(kernel), bias, 1)
    direct = F.conv2d(maps, kernel, bias, padding=1)
    rounding, least = (float((each - exact).std() / exact.std()) for each in (found, direct))
    assert least < rounding < 2.5e-6


def test_threads_do_not_share_what_they_write_on():
    maps, kernel, bias = case(2, 3, 4, 64, 64)
    transformed, wanted = filter_transform(kernel), F.conv2d(maps, kernel, bias, padding=1)
    found = []

    def work(factor):
        found.append([Convolution.apply(factor * maps, transformed, factor * bias, 1) / factor
                      for _ in range(20)])  # fmt: skip

    threads = [threading.Thread(target=work, args=(factor,)) for factor in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in itertools.chain(*found):
        torch.testing.assert_close(each, wanted, rtol=0, atol=1e-11)


@pytest.fixture
def wide(monkeypatch):
    """A frozen layer that is wide, as small as it may be."""
    monkeypatch.setattr(winograd, "WIDE", 12)
    monkeypatch.setattr(winograd, "WORK", 12 * 64)
    return Conv3x3(3, 4, padding=1).requires_grad_(False)


def counted(monkeypatch):
    """How often a kernel is transformed, and with it whether."""
    calls = []
    really = winograd.filter_transform
    monkeypatch.setattr(winograd, "filter_transform", lambda k: (calls.append(1), really(k))[1])
    return calls


def test_where_it_is_used(wide, monkeypatch):
    maps = torch.randn(1, 3, 8, 8)
    assert wide.worth(maps) and not wide.worth(maps[..., :7])
    assert not Conv3x3(3, 3).requires_grad_(False).worth(torch.randn(1, 3, 64, 64))  # narrow
    assert not wide.worth(maps.double()) and not wide.worth(maps.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not wide.worth(maps)
        assert wide(maps).dtype == torch.bfloat16
    calls = counted(monkeypatch)
    unused = Conv3x3(3, 4, padding=1, winograd=False).requires_grad_(False)
    unused.load_state_dict(wide.state_dict())
    assert torch.equal(unused(maps), F.conv2d(maps, wide.weight, wide.bias, padding=1))
    wide.requires_grad_(True)(maps).sum().backward()
    assert wide.weight.grad is not None and not calls


def test_the_kernel_is_transformed_once_and_again_when_it_has_changed(wide, monkeypatch):
    calls, maps = counted(monkeypatch), torch.randn(1, 3, 8, 8)

    def right(times):
        wanted = F.conv2d(maps, wide.weight, wide.bias, padding=1)
        near = 1e-5 * float(wanted.abs().max())
        torch.testing.assert_close(wide(maps), wanted, rtol=0, atol=near)
        assert len(calls) == times

    right(1)
    right(1)
    wide.load_state_dict(Conv3x3(3, 4, padding=1).state_dict())
    right(2)
    wide.weight = torch.nn.Parameter(torch.randn(4, 3, 3, 3), requires_grad=False)
    right(3)
    for _ in range(3):  # the copy counts its own changes from nothing
        wide.weight.mul_(1.5)
    right(4)
    other = copy.deepcopy(wide)
    for _ in range(3):
        other.weight.mul_(2)
    wanted = F.conv2d(maps, other.weight, other.bias, padding=1)
    torch.testing.assert_close(other(maps), wanted, rtol=0, atol=1e-3)
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


def test_inference_mode_leaves_nothing_behind(wide, monkeypatch):
    monkeypatch.setattr(winograd, "_kept", threading.local())
    maps = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        wide(maps)
        made = Conv3x3(3, 4, padding=1).requires_grad_(False)
        made(maps)
    given = maps.requires_grad_(True)
    (gradient,) = torch.autograd.grad(wide(given).sum(), given)
    (wanted,) = torch.autograd.grad(F.conv2d(given, wide.weight, padding=1).sum(), given)
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-4)
