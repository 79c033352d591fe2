"""Metrics: naive loops, closed forms, and what each must not see."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

from texnet import config
from texnet.descriptors import load
from texnet.errors import UsageError
from texnet.losses import Objective
from texnet.metrics import (
    contrast_change,
    contrast_removed,
    deviation_over_noise,
    low_pass_share,
    neighbour_entropy,
    pairwise_features,
    pairwise_pixels,
    sliced_wasserstein,
    spotting,
    texture_loss_by_layer,
    texture_loss_of_halves,
    uniform_region,
    vendi,
)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def flat(*values):
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 16, 16)


@pytest.fixture(scope="module")
def descriptor():
    return load("random", ["relu1_1", "relu2_1"])


def test_pairwise_pixels_against_a_double_loop():
    images = uniform(5, 3, 8, 9)
    pairs = itertools.combinations(images.double().numpy(), 2)
    wanted = np.mean([np.sqrt(np.mean((a - b) ** 2)) for a, b in pairs])
    assert pairwise_pixels(images) == pytest.approx(wanted, rel=1e-5)


def test_pairwise_pixels_of_flat_images_is_the_mean_gap_as_saved():
    assert pairwise_pixels(flat(0.1, 0.2, 0.5)) == pytest.approx((0.1 + 0.3 + 0.4) / 3)
    assert pairwise_pixels(flat(-2.0, 7.0)) == pytest.approx(1.0)  # clamped first
    assert pairwise_pixels(flat(0.3, 0.3, 0.3)) == 0


def test_one_image_makes_no_pair():
    for measure in (pairwise_pixels, neighbour_entropy):
        with pytest.raises(UsageError, match="2 samples or more, got 1"):
            measure(flat(0.5))


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.0), (0.4, 0.55), (0.9, 0.05)])
def test_brightness_and_contrast_are_removed(descriptor, a, b):
    images = uniform(4, 3, 24, 24)
    embedding = contrast_removed(descriptor, images)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))
    changed = contrast_removed(descriptor, a * images + b)
    torch.testing.assert_close(changed, embedding, atol=2e-6, rtol=1e-3)
    tinted = images * 0.5 + torch.tensor([0.1, 0.3, 0.5]).view(3, 1, 1)
    torch.testing.assert_close(
        contrast_removed(descriptor, tinted), embedding, atol=2e-6, rtol=1e-3
    )


def test_unrelated_images_are_apart_once_contrast_is_removed(descriptor):
    embedding = contrast_removed(descriptor, uniform(6, 3, 32, 32))
    correlations = embedding @ embedding.T - torch.eye(6)
    assert correlations.abs().max() < 0.2
    assert pairwise_features(embedding) == pytest.approx(2**0.5, abs=0.15)
    assert vendi(embedding) > 5.5


def test_each_layer_has_the_same_weight(descriptor):
    images = uniform(2, 3, 16, 16)
    both = contrast_removed(descriptor, images)
    alone = [contrast_removed(load("random", [k]), images) for k in ("relu1_1", "relu2_1")]
    wanted = sum(a[0] @ a[1] for a in alone) / 2
    torch.testing.assert_close(both[0] @ both[1], wanted)


def test_a_flat_image_has_no_contrast_to_remove(descriptor):
    assert contrast_removed(descriptor, flat(0.2, 1.0)).isfinite().all()


def test_vendi_is_the_number_of_different_samples():
    rows = torch.linalg.qr(uniform(20, 6)).Q.T
    assert vendi(rows[:1].expand(8, -1)) == pytest.approx(1)
    assert vendi(rows) == pytest.approx(6)
    assert vendi(rows[[0, 1, 2, 0, 1, 2, 0, 1, 2]]) == pytest.approx(3)
    mixed = rows[[0, 0, 0, 1]]  # eigenvalues 3/4 and 1/4
    assert vendi(mixed) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_vendi_of_two_samples_follows_their_correlation():
    for c in (0.0, 0.6, 0.99):
        rows = torch.tensor([[1.0, 0.0], [c, math.sqrt(1 - c * c)]], dtype=torch.float64)
        values = [(1 + c) / 2, (1 - c) / 2]
        assert vendi(rows) == pytest.approx(math.exp(-sum(v * math.log(v) for v in values)))


def test_pairwise_features_of_copies_and_of_unrelated_rows(descriptor):
    copies = contrast_removed(descriptor, uniform(1, 3, 16, 16).expand(4, -1, -1, -1))
    assert pairwise_features(copies) == 0
    assert vendi(copies) == pytest.approx(1, abs=1e-4)
    assert pairwise_features(torch.eye(5)) == pytest.approx(2**0.5)
    rows = uniform(4, 7)
    pairs = itertools.combinations(rows.tolist(), 2)
    wanted = np.mean([math.dist(a, b) for a, b in pairs])
    assert pairwise_features(rows) == pytest.approx(wanted, rel=1e-5)


def test_neighbour_entropy_against_a_double_loop():
    images = uniform(6, 3, 8, 8)
    vectors = images.flatten(1).tolist()
    nearest = [min(math.dist(a, b) for b in vectors if b is not a) for a in vectors]
    assert neighbour_entropy(images) == pytest.approx(np.mean(np.log(nearest)), abs=1e-5)
    assert neighbour_entropy(images[:1].expand(4, -1, -1, -1)) == pytest.approx(math.log(1e-3))
    assert neighbour_entropy(flat(0.0, 1.0, 5.0)) == pytest.approx(
        (math.log(768**0.5) + 2 * math.log(1e-3)) / 3, abs=1e-5
    )


def test_sliced_wasserstein_of_one_channel_is_the_cheapest_assignment():
    found, wanted = uniform(2, 1, 3, 4), uniform(1, 1, 3, 4, seed=1) ** 2
    result = sliced_wasserstein(found, wanted)
    for i in range(2):
        cost = (found[i].flatten()[:, None] - wanted.flatten()).square().double().numpy()
        assert result[i].item() == pytest.approx(
            math.sqrt(cost[linear_sum_assignment(cost)].mean())
        )


def test_sliced_wasserstein_sees_values_and_not_positions():
    features = uniform(2, 5, 6, 7)
    assert sliced_wasserstein(features[:1], features[:1]).item() == 0
    order = torch.randperm(42, generator=torch.Generator().manual_seed(0))
    moved = features.flatten(2)[:, :, order].view_as(features)
    assert sliced_wasserstein(moved[:1], features[:1]).item() < 1e-6
    mixed = features.clone()
    mixed[:, 0] = moved[:, 0]  # channels moved apart are another distribution
    assert sliced_wasserstein(mixed[:1], features[:1]).item() > 0.01
    torch.testing.assert_close(
        sliced_wasserstein(features[:1], features[1:]),
        sliced_wasserstein(features[1:], features[:1]),
    )


def test_a_shift_moves_the_sliced_wasserstein_distance_by_its_length_over_root_channels():
    channels = 8
    features, v = uniform(1, channels, 6, 6), uniform(channels, 1, 1, seed=2) - 0.4
    squares = [sliced_wasserstein(features + v, features, s).item() ** 2 for s in range(30)]
    again = [sliced_wasserstein(7 * features + v, 7 * features, s).item() ** 2 for s in range(30)]
    assert squares == pytest.approx(again, rel=1e-4)
    # 30 x 64 directions: the standard error of the mean square is at most sqrt(2 / 1920), 3 %.
    assert np.mean(squares) == pytest.approx(v.square().sum().item() / channels, rel=0.13)
    assert len(set(squares)) == 30
    doubled = sliced_wasserstein(features + 2 * v, features).item()
    assert doubled == pytest.approx(2 * sliced_wasserstein(features + v, features).item(), rel=1e-4)


def test_sliced_wasserstein_of_another_number_of_positions():
    many, few = uniform(1, 4, 60, 60), uniform(1, 4, 25, 30, seed=1)
    for found, wanted in ((many, few), (few, many)):
        assert sliced_wasserstein(found, wanted).item() < 0.03
        assert sliced_wasserstein(found + 1, wanted).item() > 0.3
    twice = few.repeat(1, 1, 1, 2)
    assert sliced_wasserstein(twice, few).item() < 0.003
    assert sliced_wasserstein(few, twice).item() < 0.003


def test_more_positions_are_interpolated_at_the_middle_of_each_share():
    """Eighths against quarters of a uniform: alike but at both ends, which have no more beyond."""
    eighths = ((torch.arange(8) + 0.5) / 8).view(1, 1, 2, 4)
    quarters = ((torch.arange(4) + 0.5) / 4).view(1, 1, 2, 2)
    assert sliced_wasserstein(eighths, quarters).item() == pytest.approx((2 / 16**2 / 8) ** 0.5)


def test_spotting_of_a_step_has_a_closed_form():
    """Averaging turns the step into a ramp of an eighth of the image: 1 / 4 - w / 6."""
    step = torch.zeros(1, 3, 128, 128)
    step[..., 64:] = 1
    assert spotting(step).item() == pytest.approx(0.25 - (17 / 128) / 6, rel=1e-3)
    small = step[..., :16, 56:72]  # 3 x 3: seven columns of 0, then 1/3, 2/3 and seven of 1
    assert spotting(small).item() == pytest.approx((14 / 4 + 2 / 36) / 16)
    assert spotting(step - 0.5).item() == pytest.approx(spotting(step / 2).item())  # clamped


def test_spotting_sees_blobs_and_neither_brightness_nor_fine_detail():
    x = torch.linspace(-1, 1, 64)
    blob = torch.exp(-(x[:, None] ** 2 + x**2) / 0.1)
    checks = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()
    images = torch.stack([blob, torch.full_like(blob, 0.9), checks])[:, None].expand(-1, 3, -1, -1)
    blob, plain, checks = spotting(images).tolist()
    assert blob > 0.02
    assert plain < 1e-9
    assert checks < 1e-3 * 0.25  # its own variance


def test_spotting_weights_the_channels_as_the_eye_does():
    step = torch.zeros(3, 3, 64, 64)
    for channel in range(3):
        step[channel, channel, :, 32:] = 1
    red, green, blue = spotting(step).sqrt().tolist()
    assert red / green == pytest.approx(0.299 / 0.587, rel=1e-4)
    assert blue / green == pytest.approx(0.114 / 0.587, rel=1e-4)


def test_the_low_pass_share_is_blind_to_contrast():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand((2, 3, 32, 32), generator=rng)
    ramp = torch.linspace(0, 0.4, 32).expand(2, 3, 32, 32)
    mixed = 0.3 + 0.2 * images + ramp / 4
    stronger = 0.5 + 2 * (mixed - 0.5)
    share = low_pass_share(mixed)
    assert ((share > 0.05) & (share < 1)).all()
    inside = stronger.clamp(0, 1) == stronger
    assert inside.all()
    torch.testing.assert_close(low_pass_share(stronger), share, rtol=1e-3, atol=0)
    torch.testing.assert_close(spotting(stronger), 4 * spotting(mixed))
    assert (low_pass_share(ramp) > 0.9).all()


def pointwise(images):
    """A descriptor of two layers, five features at full and two at half size, without borders."""
    mix = torch.tensor([[1, 2, 0], [0, -1, 1], [3, 0, 1], [1, 1, 1], [0, 0, 2]]).to(images)
    fine = torch.einsum("fc,bchw->bfhw", mix, images)
    return {"relu1_1": fine, "relu2_1": F.avg_pool2d(fine[:, :2], 2) ** 2}


def objective_of(descriptor, style, layers=("relu1_1", "relu2_1")):
    settings = config.Objective(style_layers=layers, style_weight=7.0, content_weight=0.0)
    return Objective(settings, descriptor, style)


def in_the_middle(row, column, height, width):
    """Whether a position lies in the rectangle with sides of 1 / sqrt 2, its edges rounded."""
    margins = (math.floor(side * (1 - math.sqrt(0.5)) / 2 + 0.5) for side in (height, width))
    top, left = margins
    return top <= row < height - top and left <= column < width - left


def test_texture_loss_of_halves_against_a_loop_over_positions():
    images, style = uniform(2, 3, 20, 28).double(), uniform(3, 24, 24, seed=1).double()
    outer, inner = texture_loss_of_halves(objective_of(pointwise, style), images)
    for half, found in ((True, inner), (False, outer)):
        for image in range(2):
            total = 0.0
            for layer in ("relu1_1", "relu2_1"):
                f = pointwise(images)[layer][image].numpy()
                wanted = pointwise(style[None])[layer][0].flatten(1).numpy()
                channels, height, width = f.shape
                sums, positions = np.zeros((channels, channels)), 0
                for y, x in itertools.product(range(height), range(width)):
                    if in_the_middle(y, x, height, width) == half:
                        sums += np.outer(f[:, y, x], f[:, y, x])
                        positions += 1
                target = wanted @ wanted.T / wanted.size
                total += np.mean((sums / (channels * positions) - target) ** 2)
            assert found[image].item() == pytest.approx(total, rel=1e-10)


def test_where_nothing_changes_both_halves_have_the_whole_images_loss():
    style = uniform(3, 16, 16, seed=1)
    objective = objective_of(pointwise, style)
    images = uniform(3, 3, 1, 1).expand(-1, -1, 32, 24)
    whole = sum(texture_loss_by_layer(objective, images).values())
    for half in texture_loss_of_halves(objective, images):
        torch.testing.assert_close(half, whole)
    # A border that is wrong shows in the outer half alone, a centre in the inner one.
    bordered = F.pad(images[..., 2:-2, 2:-2], (2, 2, 2, 2), value=2.0)
    outer, inner = texture_loss_of_halves(objective, bordered)
    torch.testing.assert_close(inner, whole)
    assert ((outer - whole).abs() > 0.01 * whole).all()


@pytest.mark.parametrize("shape", [(64, 64), (96, 96), (128, 128), (64, 96), (192, 128)])
def test_the_inner_half_is_half_of_the_area_in_the_middle(shape):
    """One lit pixel of one channel: its half has a loss of 1 / positions^2, the other of 0."""
    height, width = shape
    objective = objective_of(lambda x: {"relu1_1": x[:, :1]}, torch.zeros(3, 8, 8), ("relu1_1",))
    lit = torch.zeros(height + width, 3, height, width)
    for y in range(height):
        lit[y, 0, y, width // 2] = 1
    for x in range(width):
        lit[height + x, 0, height // 2, x] = 1
    outer, inner = texture_loss_of_halves(objective, lit)
    assert ((outer > 0) != (inner > 0)).all()
    area = inner.max().item() ** -0.5
    assert area / (height * width) == pytest.approx(0.5, abs=0.03)
    assert outer.max().item() ** -0.5 == pytest.approx(height * width - area)
    rows, columns = inner[:height] > 0, inner[height:] > 0
    assert rows.sum() * columns.sum() == round(area)
    for inside in (rows, columns):
        assert torch.equal(inside, inside.flip(0)) and not inside[0]
        assert inside.int().diff().abs().sum() == 2  # one interval


def test_contrast_change_has_a_closed_form():
    images = torch.full((3, 3, 8, 8), 0.25)
    images[..., 4:] = 0.75
    changed = images.clone()
    changed[1] += 0.1
    changed[2, 0] -= 0.2  # one channel of three
    numbers = 3 * 8 * 8
    deviation = 0.25 * math.sqrt(numbers / (numbers - 1))
    wanted = [0.0, 0.1 / deviation, 0.2 / math.sqrt(3) / deviation]
    assert contrast_change(images, changed).tolist() == pytest.approx(wanted, rel=1e-4)
    assert contrast_change(images, images).tolist() == [0, 0, 0]
    # Of outputs as they are saved, here black and white; beyond them there is nothing to see.
    beyond = 3 * images - 1
    brighter = torch.where(beyond < 0, 0.1, 7.0)
    wanted = 0.1 / math.sqrt(2) / (0.5 * math.sqrt(numbers / (numbers - 1)))
    assert contrast_change(beyond, brighter).tolist() == pytest.approx([wanted] * 3, rel=1e-4)
    # Outputs that follow the input: half the contrast moves a pixel by half its deviation.
    x = 0.3 + 0.4 * uniform(1, 3, 32, 32)
    faded = x.mean((2, 3), keepdim=True) + 0.5 * (x - x.mean((2, 3), keepdim=True))
    assert contrast_change(x, faded).item() == pytest.approx(0.5, rel=0.01)


def test_deviation_over_noise_has_a_closed_form():
    """Samples 0, d, ..., 7 d: their standard deviation is d sqrt(6) (7 degrees of freedom)."""
    steps = torch.tensor([0.02, 0.04, 0.0]).view(1, 3, 1, 1)
    samples = 0.3 + torch.arange(8).view(8, 1, 1, 1) * steps.expand(8, 3, 4, 5).clone()
    samples[..., 0, :] = 0.5
    samples[..., 1, :] = torch.linspace(2, 9, 8).view(8, 1, 1)  # all white once saved
    found = deviation_over_noise(samples)
    assert found.shape == (4, 5)
    torch.testing.assert_close(found[2:], torch.full((2, 5), math.sqrt(6) * 0.06 / 3))
    assert found[:2].abs().max() < 1e-6
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    torch.testing.assert_close(deviation_over_noise(samples[order]), found)


@pytest.mark.parametrize("turned", [False, True])
def test_the_uniform_region_is_the_flat_half(turned):
    """Squares have 9 pixels, so that only those within 4 of the border see both halves."""
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()
    board[:, :32] = 0.5
    image = (board.T if turned else board).expand(3, -1, -1)
    region = uniform_region(image)
    region = region.T if turned else region
    assert region.shape == (64, 64) and region.dtype == torch.bool
    assert region[:, :28].all() and not region[:, 36:].any()
    assert region.float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_the_uniform_region_is_blind_to_brightness_and_takes_smooth_shades():
    """A ramp changes less over 9 pixels than a faint checkerboard upon it does."""
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float() - 0.5
    image = torch.linspace(0.1, 0.9, 64).expand(3, 64, 64).clone()
    image[:, :32] += 0.2 * board[:32]
    region = uniform_region(image)
    assert region[36:].all() and not region[:28].any()
