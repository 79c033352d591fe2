"""StyleNet: known parameter counts, eq. 12 and 13, what each normalisation is blind to."""

import pytest
import torch
from torch import nn

from texnet import config
from texnet.errors import UsageError
from texnet.generators import CrossChannelNorm, StyleNet, build, initialise, normalisation

NORMS = ("instance", "batch", "instance_first", "lrn_first", "none")


def small(norm, seed=0, **kwargs):
    net = StyleNet(norm, width=4, blocks=1, **kwargs)
    initialise(net, seed)
    return net


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
    one, two = net(x, torch.rand(1, 3, 16, 16)), net(x, torch.rand(1, 3, 16, 16))
    assert not torch.allclose(one, two, atol=1e-3)
    with pytest.raises(ValueError, match="takes 3 noise channels, got 0"):
        net(x)


def test_initial_weights_are_torch7s_and_come_from_the_seed():
    settings = config.Generator(width=8, blocks=2)
    a, b, c = build(settings, 1), build(settings, 1), build(settings, 2)
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
