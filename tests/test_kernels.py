"""The fast kernels are PyTorch's operations: values and derivatives, in every layout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from texnet import kernels, layers
from texnet.kernels import LAST, doubled_kernel, repeated_kernel, statistics, unfolded
from texnet.layers import DoublingConv, InstanceNorm, Lean, ReplicationPad

SHAPES = [(1, 3, 5, 7), (2, 4, 6, 6), (3, 2, 1, 9)]
LAYOUTS = [torch.contiguous_format, LAST]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def random(*shape, layout=torch.contiguous_format, kind=torch.float64):
    return torch.randn(shape, dtype=kind).contiguous(memory_format=layout)


def same(ours, theirs, *given, layout=torch.contiguous_format):
    """Both functions have the same value, and the same derivatives by everything given."""
    mine = [each.clone().requires_grad_(True) for each in given]
    others = [each.clone().requires_grad_(True) for each in given]
    found, wanted = ours(*mine), theirs(*others)
    torch.testing.assert_close(found, wanted)
    weights = random(*found.shape)
    if weights.ndim == 4:
        weights = weights.contiguous(memory_format=layout)
    pairs = (torch.autograd.grad(out, of, weights) for out, of in ((found, mine), (wanted, others)))
    for gradient, reference in zip(*pairs, strict=True):
        torch.testing.assert_close(gradient, reference)


def plain_norm(x, scale, bias):
    """Eq. 12, as it is written."""
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    return scale[:, None, None] * (x - mean) / (variance + 1e-5).sqrt() + bias[:, None, None]


@pytest.fixture(params=[2**14, 4], ids=["all at once", "image by image"])
def positions(request, monkeypatch):
    """Small maps are taken at once, large ones apart: both paths, on small maps."""
    monkeypatch.setattr(kernels, "POSITIONS", request.param)
    monkeypatch.setattr(kernels, "SMALL", request.param)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("coming", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_instance_norm_is_equation_12_in_any_layout(shape, layout, coming, positions):
    """PyTorch's own derivative is wrong with one image and a gradient in channels_last (2.13)."""
    x, scale, bias = random(*shape, layout=layout) + 3, random(shape[1]), random(shape[1])
    same(
        lambda *given: kernels.InstanceNorm.apply(*given, 1e-5),
        plain_norm,
        x,
        scale,
        bias,
        layout=coming,
    )


def test_instance_norm_rounds_bfloat16_once(positions):
    x = random(2, 3, 16, 16, kind=torch.float32).bfloat16()
    scale, bias = torch.rand(3), torch.rand(3)
    found = kernels.InstanceNorm.apply(x, scale, bias, 1e-5)
    wanted = plain_norm(x.double(), scale.double(), bias.double())
    assert found.dtype == torch.bfloat16
    assert ((found == wanted.bfloat16()).double().mean()) > 0.99  # ties of float32 fall either way


def test_statistics_of_large_maps_keep_their_digits():
    x = (random(1, 2, 700, 900, kind=torch.float32) + 30).contiguous(memory_format=LAST)
    mean, variance = statistics(x)
    exact = x.double()
    wanted = torch.var_mean(exact, (0, 2, 3), correction=0)[::-1]
    whole = torch.ops.aten.batch_norm_update_stats(x, None, None, 0.0)
    for ours, pytorchs, value in zip((mean, variance), whole, wanted, strict=True):
        off, its = ((each - value).abs().max() / wanted[1].max() for each in (ours, pytorchs))
        assert off < 2e-5 and its > 10 * off


def test_one_pixel_is_refused_as_pytorch_does():
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        InstanceNorm(3).train()(torch.rand(2, 3, 1, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 4, 6, 6), (2, 5, 4, 1)])
def test_gram_matrices_and_their_derivative(shape, layout, positions):
    def naive(x):
        rows = x.flatten(2)
        return torch.stack([f @ f.T for f in rows]) / x[0].numel()

    same(kernels.Gram.apply, naive, random(*shape, layout=layout))


def test_the_derivative_of_gram_matrices_by_finite_differences(positions):
    x = random(2, 3, 4, 5).requires_grad_(True)
    assert torch.autograd.gradcheck(kernels.Gram.apply, x)


def test_gram_matrices_are_not_rounded_by_autocast(positions):
    x = random(2, 3, 6, 6, kind=torch.float32).requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        inside = kernels.Gram.apply(x)
        (gradient,) = torch.autograd.grad(inside.sum(), x)
    outside = kernels.Gram.apply(x)
    assert torch.equal(inside, outside)
    assert torch.equal(gradient, torch.autograd.grad(outside.sum(), x)[0])


def test_second_derivatives_of_instance_norm_are_refused(positions):
    """They would be wrong: its statistics are constants to autograd."""
    x, scale, bias = random(2, 3, 4, 5).requires_grad_(True), random(3), random(3)
    out = kernels.InstanceNorm.apply(x, scale, bias, 1e-5)
    (gradient,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("side", [1, 2, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 2, 1, 1), (1, 2, 2, 1)])
def test_padding_is_pytorchs_and_so_is_its_derivative(shape, layout, side):
    same(
        ReplicationPad(side),
        lambda x: F.pad(x, (side,) * 4, mode="replicate"),
        random(*shape),
        layout=layout,
    )


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (1, 2, 1, 1), (1, 2, 2, 5)])
def test_doubling_and_convolving_at_the_small_size(shape):
    """Up to the border: bilinear doubling, padding by replication, a 3x3 convolution."""
    layer = DoublingConv(shape[1], 5).double()

    def plain(x, kernel, bias):
        large = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return F.conv2d(F.pad(large, (1, 1, 1, 1), mode="replicate"), kernel, bias)

    def ours(x, kernel, bias):
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return unfolded(F.conv2d(padded, doubled_kernel(kernel), bias.repeat(4)))

    same(ours, plain, random(*shape), layer.weight.detach(), layer.bias.detach())
    x = random(*shape)
    torch.testing.assert_close(layer(x), plain(x, layer.weight, layer.bias))


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (1, 2, 1, 1)])
def test_repeating_and_convolving_at_the_small_size(shape):
    """Nearest-neighbour doubling of an image that goes on periodically, a 3x3 convolution."""

    def plain(x, kernel):
        large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return F.conv2d(F.pad(large, (1, 1, 1, 1), mode="circular"), kernel)

    def ours(x, kernel):
        wrapped = F.pad(x, (1, 1, 1, 1), mode="circular")
        return F.conv_transpose2d(wrapped, repeated_kernel(kernel), stride=2, padding=3)

    same(ours, plain, random(*shape), random(4, shape[1], 3, 3))


def lean(norm, act):
    made = Lean(
        ReplicationPad(1),
        nn.Conv2d(3, 4, 3),
        norm,
        ReplicationPad(1),
        act,
        nn.Conv2d(4, 5, 3),
        type(norm)(5),
        nn.ReLU(inplace=True),
        nn.Conv2d(5, 2, 1),
    )
    return made.double().train()


@pytest.mark.parametrize("norm", [InstanceNorm, nn.BatchNorm2d])
@pytest.mark.parametrize("act", [nn.ReLU(inplace=True), nn.LeakyReLU(0.01, inplace=True)])
def test_what_is_made_again_is_what_was_made(norm, act, monkeypatch):
    """Lean layers give the values, derivatives and running averages of ordinary ones."""
    made = lean(norm(4), act)
    x, found = random(2, 3, 8, 9), []
    before = {name: value.clone() for name, value in made.state_dict().items()}
    for large in (10**9, 0):  # never, always
        monkeypatch.setattr(layers, "LARGE", large)
        made.load_state_dict(before)
        made.zero_grad()
        given = x.clone().requires_grad_(True)
        out = made(given)
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        gradients = [given.grad, *(p.grad for p in made.parameters())]
        found.append([out, *gradients, *made.state_dict().values()])
    for ordinary, again in zip(*found, strict=True):
        assert torch.equal(ordinary, again)


def test_lean_layers_keep_one_map_for_each_convolution(monkeypatch):
    torch.manual_seed(0)
    made = Lean(
        *(
            layer
            for _ in range(4)
            for layer in (
                nn.Conv2d(4, 4, 3),
                InstanceNorm(4),
                ReplicationPad(1),
                nn.ReLU(inplace=True),
            )
        ),
        nn.Conv2d(4, 4, 1),
    )
    x, made_of = torch.rand(1, 4, 64, 64), {}
    for large in (10**9, 0):
        monkeypatch.setattr(layers, "LARGE", large)
        tensors = []
        original = layers.Recipe.pack

        def pack(self, tensor, original=original, tensors=tensors):
            kept = original(self, tensor)
            tensors.append(kept is self)
            return kept

        monkeypatch.setattr(layers.Recipe, "pack", pack)
        made(x).sum().backward()
        monkeypatch.setattr(layers.Recipe, "pack", original)
        made_of[large] = sum(tensors)
    assert made_of == {10**9: 0, 0: 2 * 4}, "the activation's and the convolution's, four times"


def test_what_is_made_again_is_of_the_mode_of_the_pass(monkeypatch):
    """Batch norm may be in another mode by the time of the backward pass."""
    x, found = random(2, 3, 8, 9), []
    made = lean(nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    for large in (10**9, 0):
        monkeypatch.setattr(layers, "LARGE", large)
        given = x.clone().requires_grad_(True)
        out = made.train()(given).square().sum()
        made.eval()
        found.append(torch.autograd.grad(out, given)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("norm", [InstanceNorm, nn.BatchNorm2d])
def test_what_is_made_again_in_bfloat16(norm, monkeypatch):
    """Padded maps stay in bfloat16, and each is kept as a recipe by both who need it."""
    made, x, found = lean(norm(4), nn.ReLU(inplace=True)).float(), random(2, 3, 8, 9).float(), []
    packed, original = [], layers.Recipe.pack

    def pack(self, tensor):
        kept = original(self, tensor)
        packed.append((kept is self, tensor.dtype))
        return kept

    monkeypatch.setattr(layers.Recipe, "pack", pack)
    for large in (10**9, 0):
        monkeypatch.setattr(layers, "LARGE", large)
        given = x.clone().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16):
            out = made(given)
        out.float().square().sum().backward()
        found.append(given.grad)
    assert torch.equal(*found)
    recipes = [kind for recipe, kind in packed if recipe]
    assert recipes == [torch.bfloat16] * 4


def test_a_backward_pass_may_be_repeated(monkeypatch):
    monkeypatch.setattr(layers, "LARGE", 0)
    made, x = lean(InstanceNorm(4), nn.ReLU(inplace=True)), random(1, 3, 8, 8).requires_grad_(True)
    out = made(x).sum()
    first = torch.autograd.grad(out, x, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(out, x)[0], first)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 4, 7, 9), (2, 3, 1, 1), (1, 2, 5, 3)])
def test_max_pooling(shape, kind, layout):
    """With maxima that are there twice, of which PyTorch takes the first."""
    x = random(*shape, layout=layout).mul(2).round().to(kind).requires_grad_(True)
    found, wanted = kernels.MaxPool.apply(x), F.max_pool2d(x, 2, ceil_mode=True)
    weights = torch.randn_like(wanted)
    assert torch.equal(found, wanted)
    assert torch.equal(*(torch.autograd.grad(each, x, weights)[0] for each in (found, wanted)))


def test_max_pooling_keeps_little():
    """The maps, which are kept anyway, and four bytes for each pixel of the result."""
    x, kept = random(1, 2, 8, 8, kind=torch.float32).requires_grad_(True), []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kernels.MaxPool.apply(x)
    assert sum(each.nbytes for each in kept if each is not x) == 4 * 2 * 4 * 4
