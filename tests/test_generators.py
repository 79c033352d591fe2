"""Generators: known parameter counts, eq. 12 and 13, what is wrapped, what norms are blind to."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from texnet import config
from texnet.errors import UsageError
from texnet.generators import SkipNet, StyleNet, TextureNetV1, TextureNetV2, build, initialise
from texnet.layers import CrossChannelNorm, InstanceNorm, Wrap, normalisation

NORMS = ("instance", "batch", "instance_first", "lrn_first", "none")
PLAIN_NORMS = ("instance", "batch", "none")
PHOTOGRAPHS = config.Images()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(norm, seed=0, **kwargs):
    net = StyleNet(norm, width=4, blocks=1, **kwargs)
    initialise(net, seed)
    return net


def lively(net):
    """Weights that keep variance from layer to layer: initial ones lose it without norms."""
    initialise(net, 0)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.mul_(6**0.5)
            elif isinstance(layer, nn.InstanceNorm2d | nn.BatchNorm2d):
                layer.weight.add_(0.5)
                layer.bias.uniform_(-0.5, 0.5)
    return net


def pyramid(norm="none", **kwargs):
    """A small TextureNetV1 in float64."""
    return lively(TextureNetV1(norm, width=2, **kwargs)).double()


def vectors(norm="instance", size=16, width=8, latent=8):
    """A small TextureNetV2."""
    return lively(TextureNetV2(size, norm, width, latent))


def skipping(norm="instance", width=3):
    """A small SkipNet in float64."""
    return lively(SkipNet(norm, width)).double()


def texture(size):
    return config.Texture("berries", exemplar_size=64, size=size)


def noise_for(net, count, height, width):
    dtype = next(net.parameters()).dtype
    return [torch.rand(shape, dtype=dtype) for shape in net.noise_shapes(count, height, width)]


def of_type(net, kind):
    return [module for module in net.modules() if isinstance(module, kind)]


def test_parameters_of_the_authors_johnson():
    """1,672,323, counted in the authors' models/johnson.lua."""
    for norm in ("instance", "batch"):
        assert sum(p.numel() for p in StyleNet(norm).parameters()) == 1_672_323


def test_instance_norm_is_equation_12():
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    layer = normalisation("instance", 3).double()
    found = layer(x)
    for b in range(2):
        for c in range(3):
            mean = x[b, c].sum() / 35
            variance = ((x[b, c] - mean) ** 2).sum() / 35
            expected = (x[b, c] - mean) / (variance + 1e-5).sqrt()
            torch.testing.assert_close(found[b, c], expected)


def test_batch_norm_is_equation_13():
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    found = normalisation("batch", 3).double().train()(x)
    for c in range(3):
        mean = x[:, c].sum() / 70
        variance = ((x[:, c] - mean) ** 2).sum() / 70
        torch.testing.assert_close(found[:, c], (x[:, c] - mean) / (variance + 1e-5).sqrt())


def test_batch_norm_of_one_image_is_instance_norm():
    """Why a batch of one is refused for batch norm: the comparison would be void."""
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(small("batch").train()(x), small("instance").train()(x))


@pytest.mark.parametrize("norm", ["instance", "none", "lrn_first"])
def test_only_batch_statistics_tie_images_together(norm):
    x = torch.rand(3, 3, 16, 16)
    net = small(norm).train()
    alone = torch.cat([net(image[None]) for image in x])
    tied = not torch.allclose(net(x), alone, atol=1e-4)
    assert tied == (norm == "lrn_first")


def test_instance_norm_acts_alike_in_training_and_at_test():
    x = torch.rand(2, 3, 16, 16)
    net = small("instance")
    assert torch.equal(net.train()(x), net.eval()(x))
    net = small("batch")
    assert not torch.allclose(net.train()(x), net.eval()(x), atol=1e-3)


@pytest.mark.parametrize(("norm", "blind"), [("instance", True), ("instance_first", True),
                                             ("batch", False), ("none", False)])  # fmt: skip
def test_contrast_of_the_content_is_discarded(norm, blind):
    """Section 4: instance normalisation removes the content's contrast and brightness."""
    x = torch.rand(2, 3, 24, 24)
    net = small(norm).train()
    for _ in range(40):  # lets the running statistics settle
        net(x)
    net.eval()
    before, after = net(x), net(0.4 * x + 0.2)
    change = ((after - before).std((2, 3)) / before.std((2, 3))).max()
    assert change < 0.01 if blind else change > 0.1


def test_lrn_compresses_contrast_without_discarding_it():
    norm = CrossChannelNorm()
    x = torch.rand(1, 3, 8, 8)
    assert (norm(x) < x).all()
    assert not torch.allclose(norm(0.5 * x), norm(x), atol=0.05)
    reference = nn.LocalResponseNorm(3, alpha=1e-4, beta=0.75, k=1)  # channel 1 sees all three
    torch.testing.assert_close(norm(x)[:, 1], reference(x * 255)[:, 1] / 255)


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize("size", [(16, 16), (17, 30), (19, 21), (5, 64)])
def test_any_size_in_same_size_out(size, upsampling):
    out = small("instance", upsampling=upsampling)(torch.rand(1, 3, *size))
    assert out.shape == (1, 3, *size) and out.isfinite().all()


def test_padding_to_a_multiple_of_four_is_replication_and_crop():
    net, x = small("instance"), torch.rand(1, 3, 18, 20)
    padded = torch.cat([x, x[..., -1:, :], x[..., -1:, :]], dim=-2)
    assert torch.equal(net(x), net(padded)[..., :18, :])


def test_noise_channels_are_asked_for_and_used():
    net, x = small("instance", noise_channels=3), torch.rand(1, 3, 16, 16)
    assert net.noise_shapes(5, 16, 24) == [(5, 3, 16, 24)]
    one, two = net(x, [torch.rand(1, 3, 16, 16)]), net(x, [torch.rand(1, 3, 16, 16)])
    assert not torch.allclose(one, two, atol=1e-3)
    with pytest.raises(ValueError, match="takes 3 noise channels, got 0"):
        net(x)
    assert small("instance").noise_shapes(5, 16, 24) == []


def test_initial_weights_are_torch7s_and_come_from_the_seed():
    settings = config.StyleNet(width=8, blocks=2)
    a, b, c = (build(settings, seed, PHOTOGRAPHS) for seed in (1, 1, 2))
    state = torch.random.get_rng_state()
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(next(a.parameters()), next(c.parameters()))
    assert torch.equal(state, torch.random.get_rng_state())
    deconvolution = next(m for m in a.modules() if isinstance(m, nn.ConvTranspose2d))
    bound = 1 / (9 * deconvolution.in_channels) ** 0.5
    assert 0.95 * bound < deconvolution.weight.abs().max() <= bound
    scales = torch.cat([m.weight for m in a.modules() if isinstance(m, nn.InstanceNorm2d)])
    assert 0 <= scales.min() < 0.1 and 0.9 < scales.max() <= 1


def test_in_and_bn_start_from_the_same_weights():
    a, b = small("instance"), small("batch")
    for (name, p), (other, q) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        assert name == other and torch.equal(p, q)


def test_unknown_norm():
    with pytest.raises(UsageError, match="unknown norm 'layer'; use instance"):
        StyleNet("layer")


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_trains(norm):
    net, x = small(norm).train(), torch.rand(2, 3, 16, 16)
    net(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_parameters_of_the_authors_pyramid():
    """Counted in models/pyramid.lua of their v1 branch; content adds 3 inputs of 6 branches."""
    assert sum(p.numel() for p in TextureNetV1().parameters()) == 116_915
    assert sum(p.numel() for p in TextureNetV1(content=True).parameters()) == 118_211


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2), (3, 5)])
def test_wrap_is_circular_padding_and_so_is_its_gradient(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    wrapped, padded = Wrap.apply(ours), F.pad(theirs, (1, 1, 1, 1), mode="circular")
    assert torch.equal(wrapped, padded)
    weights = torch.randn_like(padded)
    (wrapped * weights).sum().backward()
    (padded * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.autograd.gradcheck(Wrap.apply, x.requires_grad_(True))


def test_pyramid_is_the_authors_recursion():
    """Their models/pyramid.lua, from the image backwards, in plain functions."""
    net = pyramid("instance")
    noise = noise_for(net, 2, 64, 96)

    def normalise(layer, x):
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
        scale, bias = layer.weight[:, None, None], layer.bias[:, None, None]
        return scale * (x - mean) / (variance + 1e-5).sqrt() + bias

    def thrice(layers, x):
        convolutions, norms = of_type(layers, nn.Conv2d), of_type(layers, nn.InstanceNorm2d)
        for convolution, norm in zip(convolutions[:3], norms, strict=True):
            if convolution.kernel_size == (3, 3):
                x = F.pad(x, (1, 1, 1, 1), mode="circular")
            x = normalise(norm, F.conv2d(x, convolution.weight, convolution.bias))
            x = torch.where(x > 0, x, x / 100)
        return x

    def scale(i):
        finer = thrice(net.branches[i], noise[i])
        if i == 0:
            return finer
        join = net.joins[i - 1]
        coarser = scale(i - 1).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        coarser, finer = normalise(join.coarse_norm, coarser), normalise(join.fine_norm, finer)
        layers = nn.ModuleList([join.first, join.rest])
        return thrice(layers, torch.cat([coarser, finer], dim=1))

    last = net.joins[-1].rest[-1]
    expected = 0.5 + F.conv2d(scale(5), last.weight, last.bias)
    assert expected.std() > 0.1
    torch.testing.assert_close(net(None, noise), expected)


def test_pyramid_has_the_authors_layers():
    """Per scale 3 convolutions, and 3 more and two norms where scales join; slope 1/100."""
    net = TextureNetV1()
    assert len(of_type(net, nn.Conv2d)) == 6 * 3 + 5 * 3 + 1
    assert len(of_type(net, nn.BatchNorm2d)) == 6 * 3 + 5 * (3 + 2)
    assert {layer.negative_slope for layer in of_type(net, nn.LeakyReLU)} == {0.01}
    assert len(of_type(net, nn.LeakyReLU)) == 6 * 3 + 5 * 3
    assert len(of_type(TextureNetV1("instance"), nn.InstanceNorm2d)) == 43
    assert not of_type(TextureNetV1("none"), nn.InstanceNorm2d | nn.BatchNorm2d)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_pyramid_normalises_both_branches_before_it_joins_them(norm):
    net = pyramid(norm).train()
    for layer in of_type(net, nn.InstanceNorm2d | nn.BatchNorm2d):
        layer.reset_parameters()  # scale 1, bias 0
    seen = []
    for join in net.joins:
        coarse, fine = join.normalised, join.fine_norm
        join.normalised = lambda x, coarse=coarse: seen.append(coarse(x)) or seen[-1]
        fine.register_forward_hook(lambda module, given, out: seen.append(out))
    net(None, noise_for(net, 3, 64, 64))
    assert [x.shape[1] for x in seen] == [2, 2, 4, 2, 6, 2, 8, 2, 10, 2]
    over = (0, 2, 3) if norm == "batch" else (2, 3)
    for x in seen:
        mean, variance = x.mean(over), x.var(over, correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean))
        torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-3, rtol=0)


@pytest.mark.parametrize("norm", PLAIN_NORMS)
def test_pyramid_of_shifted_noise_is_the_shifted_image(norm):
    net = pyramid(norm).eval()
    noise = noise_for(net, 2, 64, 96)
    shifted = [z.roll((32 // r, 64 // r), (2, 3)) for z, r in zip(noise, net.ratios, strict=True)]
    image = net(None, noise)
    torch.testing.assert_close(net(None, shifted), image.roll((32, 64), (2, 3)))
    assert (image.roll((32, 64), (2, 3)) - image).abs().max() > 0.1


@pytest.mark.parametrize("norm", PLAIN_NORMS)
def test_pyramid_of_repeated_noise_is_the_repeated_image(norm):
    """So the image goes on over its own border without a seam."""
    net = pyramid(norm).eval()
    noise = noise_for(net, 1, 64, 64)
    twice = [z.tile(1, 1, 2, 3) for z in noise]
    torch.testing.assert_close(net(None, twice), net(None, noise).tile(1, 1, 2, 3))


def test_pyramid_rounds_up_to_multiples_of_32():
    net = pyramid()
    expected = [(5, 3, 64 // r, 96 // r) for r in (32, 16, 8, 4, 2, 1)]
    assert net.noise_shapes(5, 64, 96) == net.noise_shapes(5, 33, 65) == expected
    assert net.noise_shapes(5, 65, 96) != expected
    assert pyramid(noise_channels=1).noise_shapes(2, 1, 32)[-1] == (2, 1, 32, 32)
    assert net(None, noise_for(net, 2, 40, 70)).shape == (2, 3, 64, 96)


def test_pyramid_pads_content_by_replication_and_crops():
    net, content = pyramid(content=True), torch.rand(2, 3, 40, 70, dtype=torch.float64)
    noise = noise_for(net, 2, 40, 70)
    rows, columns = torch.arange(64).clamp(max=39), torch.arange(96).clamp(max=69)
    padded = content[:, :, rows][..., columns]
    image = net(content, noise)
    assert image.shape == content.shape
    torch.testing.assert_close(image, net(padded, noise)[..., :40, :70])


@pytest.mark.parametrize("scale", range(6))
def test_pyramid_sees_content_and_noise_at_each_scale(scale):
    net, size, seen = pyramid(content=True), 64, []
    for branch in net.branches:
        branch.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    content = torch.rand(1, 3, size, size, dtype=torch.float64)
    noise = noise_for(net, 1, size, size)
    image = net(content, noise)
    ratio = (32, 16, 8, 4, 2, 1)[scale]
    side = size // ratio
    averages = content.reshape(1, 3, side, ratio, side, ratio).mean((3, 5))
    torch.testing.assert_close(seen[scale][:, :3], averages)
    assert torch.equal(seen[scale][:, 3:], noise[scale])
    noise[scale] = torch.rand_like(noise[scale])
    assert (net(content, noise) - image).abs().max() > 1e-3


def test_texture_networks_refuse_content_they_do_not_take():
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    for with_content in (False, True):
        net = pyramid(content=with_content)
        wanted = "takes a content image" if with_content else "takes no content image"
        with pytest.raises(ValueError, match=wanted):
            net(None if with_content else x, noise_for(net, 1, 32, 32))
    with pytest.raises(ValueError, match="takes no content image"):
        vectors()(x.float(), [torch.randn(1, 8)])


@pytest.mark.parametrize("size", [8, 64, 256])
def test_vectors_become_images_of_the_size(size):
    net = vectors(size=size)
    assert net.noise_shapes(3, size, size) == [(3, 8)]
    image = net(None, [torch.randn(3, 8)])
    assert image.shape == (3, 3, size, size) and image.isfinite().all()


def test_widths_of_the_network_of_vectors():
    """Section 5.1: 256 numbers and two fully connected layers; then ours, 512 channels at most."""
    net = TextureNetV2()
    linear = [(layer.in_features, layer.out_features) for layer in of_type(net, nn.Linear)]
    assert linear == [(256, 256), (256, 512 * 4 * 4)]
    after = [layer.out_channels for layer in of_type(net, nn.Conv2d)]
    assert after == [512, 512, 256, 256, 128, 128, 64, 64, 32, 32, 16, 16, 3]


@pytest.mark.parametrize(("size", "near"), [(48, "32 or 64"), (4, "8 or 16"), (100, "64 or 128"),
                                            (0, "8 or 16"), (255, "128 or 256")])  # fmt: skip
def test_vectors_refuse_sizes_that_are_not_4_times_a_power_of_two(size, near):
    with pytest.raises(UsageError, match=f"got size {size}; use {near}$") as refused:
        TextureNetV2(size)
    assert "\n" not in str(refused.value)
    for side in map(int, near.split(" or ")):
        assert TextureNetV2(side, width=1, latent=1).size == side


@pytest.mark.parametrize("shape", [(32, 32), (16, 32), (8, 8)])
def test_vectors_make_no_other_size(shape):
    with pytest.raises(UsageError, match=f"makes 16x16 images, not {shape[1]}x{shape[0]}; Texture"):
        vectors(size=16).noise_shapes(1, *shape)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_no_vector_is_normalised(norm):
    """Instance norm of one number is 0: nothing of z would be left."""
    net, seen = vectors(norm, size=32), []
    for layer in of_type(net, nn.InstanceNorm2d | nn.BatchNorm2d):
        layer.register_forward_hook(lambda module, given, out: seen.append(given[0].shape[2:]))
    net(None, [torch.randn(2, 8)])
    assert seen == [(4, 4), (8, 8), (8, 8), (16, 16), (16, 16), (32, 32), (32, 32)]
    assert len(of_type(net.full, nn.Module)) == 4  # the sequence, two Linear and a ReLU


@pytest.mark.parametrize("norm", PLAIN_NORMS)
def test_samples_differ_with_their_vector_and_repeat(norm):
    net, z = vectors(norm, size=32).eval(), torch.randn(3, 8)
    images = net(None, [z])
    assert torch.equal(images, net(None, [z]))
    torch.testing.assert_close(net(None, [z[1:2]]), images[1:2], atol=1e-4, rtol=0)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (images[i] - images[j]).abs().max() > 0.02


def test_doubling_leaves_no_checkerboard():
    """A constant stays one whatever the weights: each pixel is made as its neighbours are."""
    net = vectors("none", size=32)
    for layer in of_type(net, nn.Conv2d):  # zero padding is felt at the borders
        layer.padding_mode = "replicate"
    image = net.body(torch.randn(1, 64, 1, 1).repeat(1, 1, 4, 4))
    torch.testing.assert_close(image, image[..., :1, :1].expand_as(image))
    assert {layer.mode for layer in of_type(net, nn.Upsample)} == {"bilinear"}


@pytest.mark.parametrize("norm", PLAIN_NORMS)
@pytest.mark.parametrize("settings", [config.TextureNetV1("texturenet_v1", width=2),
                                      config.TextureNetV2("texturenet_v2", width=4, latent=8)],
                         ids=["v1", "v2"])  # fmt: skip
def test_texture_networks_train_with_every_norm(settings, norm):
    net = build(dataclasses.replace(settings, norm=norm), 0, texture(64)).train()
    image = net(None, noise_for(net, 2, 64, 64))
    assert image.shape == (2, 3, 64, 64)
    found = {type(layer) for layer in of_type(net, nn.InstanceNorm2d | nn.BatchNorm2d)}
    assert found == {"instance": {InstanceNorm}, "batch": {nn.BatchNorm2d}}.get(norm, set())
    image.square().mean().backward()
    for name, p in net.named_parameters():
        assert p.grad.isfinite().all()
        assert p.grad.abs().max() > 0 or name.endswith("bias")


def test_texture_networks_follow_their_settings_and_seed():
    settings = config.TextureNetV2("texturenet_v2", norm="batch", width=4, latent=8)
    a, b, c = (build(settings, seed, texture(16)) for seed in (1, 1, 2))
    assert (a.size, a.latent) == (16, 8)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)
    weights = a.full[0].weight
    assert not torch.equal(weights, c.full[0].weight)
    assert 0.9 / 8**0.5 < weights.abs().max() <= 1 / 8**0.5  # Torch7's nn.Linear
    net = build(config.TextureNetV1("texturenet_v1", width=3, noise_channels=1), 0, texture(64))
    assert net.noise_channels == 1 and not net.content
    assert net.joins[-1].rest[-1].in_channels == 6 * 3


def test_pyramid_of_photographs_is_the_one_that_takes_content():
    net = build(config.TextureNetV1("texturenet_v1"), 0, PHOTOGRAPHS)
    assert sum(p.numel() for p in net.parameters()) == 118_211
    net = build(config.TextureNetV1("texturenet_v1"), 0, texture(64))
    assert sum(p.numel() for p in net.parameters()) == 116_915


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (40, 129), (1, 50)])
def test_pyramid_stylizes_any_size(size):
    settings = config.TextureNetV1("texturenet_v1", width=2)
    net = lively(build(settings, 0, PHOTOGRAPHS)).double().eval()
    content = torch.rand(2, 3, *size, dtype=torch.float64)
    noise = noise_for(net, 2, *size)
    image = net(content, noise)
    assert image.shape == content.shape and image.dtype == torch.float64
    assert (net(1 - content, noise) - image).abs().max() > 1e-3
    assert (net(content, noise_for(net, 2, *size)) - image).abs().max() > 1e-3


def test_parameters_of_the_skip_network():
    """Every convolution as (side, before, after), from the docstring; norms have two numbers."""
    skips = [(1, 3, 4), (1, 32, 4), (1, 64, 4), (1, 128, 4)]
    down = [(3, 3, 32), (3, 32, 32), (3, 32, 64), (3, 64, 64)]
    down += [(3, 64, 128), (3, 128, 128), (3, 128, 128), (3, 128, 128)]
    up = [(3, 132, 128), (1, 128, 128), (3, 132, 64), (1, 64, 64)]
    up += [(3, 68, 32), (1, 32, 32), (3, 36, 16), (1, 16, 16)]
    plain = sum(side**2 * a * b + b for side, a, b in [*skips, *down, *up, (1, 16, 3)])
    norms = 2 * (sum(b for _, _, b in [*skips, *down, *up]) + 132 + 132 + 68 + 36)
    for norm, expected in (("none", plain), ("instance", plain + norms), ("batch", plain + norms)):
        assert sum(p.numel() for p in SkipNet(norm).parameters()) == expected
    net = build(config.SkipNet("skip", norm="batch", width=2), 0, PHOTOGRAPHS)
    assert isinstance(net, SkipNet) and net.last.in_channels == 2
    assert of_type(net, nn.BatchNorm2d) and not of_type(net, nn.InstanceNorm2d)


@pytest.mark.parametrize("size", [(32, 32), (17, 16), (33, 50), (5, 64)])
def test_skip_network_keeps_any_size(size):
    net, x = skipping(), torch.rand(2, 3, *size, dtype=torch.float64)
    image = net(x)
    assert image.shape == x.shape and image.dtype == torch.float64 and image.isfinite().all()
    rows = torch.arange(-(-size[0] // 16) * 16).clamp(max=size[0] - 1)
    columns = torch.arange(-(-size[1] // 16) * 16).clamp(max=size[1] - 1)
    padded = x[:, :, rows][..., columns]
    torch.testing.assert_close(image, net(padded)[..., : size[0], : size[1]])


@pytest.mark.parametrize("norm", PLAIN_NORMS)
def test_skip_network_ties_images_together_by_batch_statistics_alone(norm):
    net, x = skipping(norm).train(), torch.rand(3, 3, 32, 48, dtype=torch.float64)
    changed = torch.cat([x[:1], torch.rand_like(x[1:])])
    before, after = net(x), net(changed)
    if norm == "batch":
        assert (after[0] - before[0]).abs().max() > 1e-3
        net.eval()
        before, after = net(x), net(changed)
    torch.testing.assert_close(after[0], before[0])
    assert (after[1] - before[1]).abs().max() > 1e-2


def test_skip_network_normalises_the_joined_channels():
    """Skips come last of the channels and count as the doubled ones do."""
    net, seen = skipping("batch").train(), []
    for layer in of_type(net, nn.BatchNorm2d):
        layer.reset_parameters()  # scale 1, bias 0
    for up in net.up:
        up[0].register_forward_hook(lambda module, given, out: seen.append((given[0], out)))
    net(torch.rand(2, 3, 32, 32, dtype=torch.float64))
    assert [given.shape[1:] for given, _ in seen] == [
        (28, 4, 4), (28, 8, 8), (16, 16, 16), (10, 32, 32),
    ]  # fmt: skip
    for given, out in seen:
        coarse = given[:, :-4]
        doubled = coarse[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert torch.equal(coarse, doubled) and not torch.equal(
            given[:, -4:, ::2], given[:, -4:, 1::2]
        )
        torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(out.shape[1]).double())


@pytest.mark.parametrize("norm", PLAIN_NORMS)
def test_skip_network_trains_with_every_norm(norm):
    net = skipping(norm).train()
    net(torch.rand(2, 3, 32, 32, dtype=torch.float64)).square().mean().backward()
    taken = []  # a norm takes away what the bias before it added
    if norm != "none":
        taken += [up[0].bias for up in net.up]
        for layers in (*net.skips, *net.down, *net.up):
            taken += [layer.bias for layer in of_type(layers, nn.Conv2d)]
    for name, p in net.named_parameters():
        assert p.grad.isfinite().all(), name
        moved = bool(p.grad.abs().max() > 1e-9)
        assert moved != any(p is bias for bias in taken), name


def test_skip_network_takes_no_noise():
    net = skipping()
    assert net.noise_shapes(2, 32, 32) == [] and net.noise_channels == 0
    with pytest.raises(ValueError, match="takes no noise"):
        net(torch.rand(1, 3, 32, 32).double(), [torch.rand(1, 3, 32, 32)])


@pytest.mark.parametrize("net", [StyleNet(width=8, blocks=2, norm="none"), SkipNet("none", 8)])
def test_the_receptive_field_is_that_of_the_encoder(net):
    """The pixels on which one activation of the coarsest scale depends, along one axis."""
    side = 256
    content = torch.rand(1, 3, side, side, requires_grad=True)
    seen = []
    coarsest = net.down[-1] if isinstance(net, SkipNet) else net.body[11 + 2]
    coarsest.register_forward_hook(lambda module, given, made: seen.append(made))
    net(content, [])
    (found,) = seen
    middle = found.shape[-1] // 2
    found[..., middle, middle].sum().backward()
    columns = content.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    # ReLUs may hide a pixel at the rim.
    assert net.receptive_field - 2 <= columns.max() - columns.min() + 1 <= net.receptive_field
