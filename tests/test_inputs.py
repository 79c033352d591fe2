"""What generators are given: functions of (seed, iteration), one content for a diversity batch."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
import yaml

from texnet import config
from texnet.data import load_image, write_image
from texnet.errors import DataError
from texnet.experiment import Experiment
from texnet.generators import StyleNet, TextureNetV1, TextureNetV2, build, initialise
from texnet.inputs import (
    Inputs,
    NoiseStream,
    exemplar_must_cover,
    heldout_images,
    noise_of_group,
    sample_group,
)

CPU = torch.device("cpu")
FULL = Path(__file__).resolve().parents[1] / "config" / "config.yaml"
NETS = {
    "stylenet": StyleNet(width=2, blocks=1, noise_channels=3),
    "texturenet_v1": TextureNetV1(width=2),
    "texturenet_v2": TextureNetV2(32, width=2, latent=256),
}
for each in NETS.values():
    initialise(each, 0)
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def stylization(diversity_weight=0.0, seed=0, noise_channels=3):
    return config.Training(
        name="style",
        seed=seed,
        descriptor=config.Descriptor("random"),
        generator=config.StyleNet(width=2, blocks=1, noise_channels=noise_channels),
        objective=config.Objective(diversity_weight=diversity_weight),
        optimiser=config.Optimiser(batch=4),
        images=config.Images(
            size=32, heldout_size=24, contents=("rocket", "coffee"), heldout=("chelsea", "flower")
        ),
    )


def texture(seed=0, exemplar="ihc", name="texturenet_v1", size=32):
    generators = {"texturenet_v1": config.TextureNetV1, "texturenet_v2": config.TextureNetV2}
    return config.Training(
        name="texture",
        seed=seed,
        descriptor=config.Descriptor("random"),
        generator=generators[name](name, width=2),
        objective=config.Objective(content_weight=0),
        optimiser=config.Optimiser(batch=4),
        images=config.Texture(exemplar, exemplar_size=64, size=size),
    )


def same(some, others):
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def none_alike(some, others):
    return not any(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@every_net
def test_noise_is_a_function_of_seed_and_iteration(net):
    a, b = NoiseStream(net, 0), NoiseStream(net, 0)
    state = torch.random.get_rng_state()
    b(2, 32, 32, 7)
    assert same(a(2, 32, 32, 5), b(2, 32, 32, 5))
    assert none_alike(a(2, 32, 32, 5), a(2, 32, 32, 6))
    assert none_alike(a(2, 32, 32, 5), NoiseStream(net, 1)(2, 32, 32, 5))
    assert torch.equal(state, torch.random.get_rng_state())


@every_net
def test_noise_has_the_shapes_that_the_network_takes(net):
    noise = NoiseStream(net, 0)(3, 32, 32, 1)
    assert [tuple(z.shape) for z in noise] == net.noise_shapes(3, 32, 32)
    assert all(z.dtype == torch.float32 for z in noise)
    content = torch.rand(3, 3, 32, 32) if isinstance(net, StyleNet) else None
    assert net(content, noise).shape == (3, 3, 32, 32)


def test_no_noise_where_there_are_no_channels():
    assert NoiseStream(StyleNet(width=2, blocks=1), 0)(2, 32, 32, 5) == []


@pytest.mark.parametrize("name", ["stylenet", "texturenet_v1"])
def test_noise_of_images_is_uniform(name):
    """U(0, 1): mean 1/2, variance 1/12, a tenth of it in each tenth."""
    z = NoiseStream(NETS[name], 0)(16, 64, 64, 1)[-1]
    assert z.min() >= 0 and z.max() < 1
    assert abs(z.mean() - 1 / 2) < 0.003 and abs(z.var() - 1 / 12) < 0.001
    shares = torch.histc(z, 10, 0, 1) / z.numel()
    assert (shares - 0.1).abs().max() < 0.004


def test_noise_of_vectors_is_normal():
    """N(0, I): 68.3 % within one standard deviation, 95.4 % within two."""
    (z,) = NoiseStream(NETS["texturenet_v2"], 0)(256, 32, 32, 1)
    assert abs(z.mean()) < 0.015 and abs(z.std() - 1) < 0.015
    assert abs((z.abs() < 1).float().mean() - 0.6827) < 0.01
    assert abs((z.abs() < 2).float().mean() - 0.9545) < 0.005


def test_noise_of_scales_samples_and_channels_is_independent():
    noise = NoiseStream(NETS["texturenet_v1"], 0)(2, 64, 64, 1)
    flat = noise[-1].flatten(2).flatten(0, 1)
    assert (torch.corrcoef(flat) - torch.eye(6)).abs().max() < 0.08
    coarse = noise[-2].flatten(2).flatten(0, 1)
    within = torch.nn.functional.avg_pool2d(noise[-1], 2).flatten(2).flatten(0, 1)
    assert torch.corrcoef(torch.cat([coarse, within]))[:6, 6:].abs().max() < 0.15


def test_heldout_noise_is_alike_for_all_seeds():
    runs = [texture(seed) for seed in (0, 1)]
    first, second = (Inputs(run, NETS["texturenet_v1"], CPU) for run in runs)
    assert first.heldout[0] is None and second.heldout[0] is None
    assert same(first.heldout[1], second.heldout[1])
    assert same(first.heldout[1], noise_of_group(NETS["texturenet_v1"], 32, 0))
    assert none_alike(first(1)[1], second(1)[1])


@every_net
def test_heldout_noise_is_in_no_runs_stream(net):
    """A run's seed is less than 2**31."""
    for seed in (0, 1, 2**31 - 1):
        for group in (0, 1):
            trained = NoiseStream(net, seed)(8, 32, 32, group)
            assert none_alike(noise_of_group(net, 32, group), trained)


@pytest.mark.parametrize("name", ["texturenet_v1", "texturenet_v2"])
def test_groups_are_eight_samples_each_their_own(name):
    net = NETS[name]
    zero, one = noise_of_group(net, 32, 0), noise_of_group(net, 32, 1)
    assert [len(z) for z in zero] == [8] * len(zero)
    assert none_alike(zero, one)
    images = torch.cat([sample_group(net.eval(), 32, group) for group in (0, 1)])
    assert images.shape == (16, 3, 32, 32) and not images.requires_grad
    distances = torch.cdist(images.flatten(1), images.flatten(1)) + torch.eye(16)
    assert distances.min() > 1e-4
    assert torch.equal(sample_group(net, 32, 1), images[8:])


def test_samples_of_a_size_that_is_no_multiple_of_32_are_cropped():
    net = TextureNetV1("none", width=2)
    initialise(net, 0)
    with torch.no_grad():
        whole = net(None, noise_of_group(net, 40, 2))
    assert whole.shape == (8, 3, 64, 64)
    assert torch.equal(sample_group(net, 40, 2), whole[..., :40, :40])


@pytest.mark.parametrize("name", ["texturenet_v1", "texturenet_v2"])
def test_a_texture_has_noise_and_no_content(name):
    content, noise = Inputs(texture(name=name), NETS[name], CPU)(3)
    assert content is None
    assert same(noise, NoiseStream(NETS[name], 0)(4, 32, 32, 3))


def test_a_training_on_a_fixed_number_of_crops_sees_no_others():
    run = stylization()
    few = dataclasses.replace(run, images=dataclasses.replace(run.images, crops=3))
    for limited, seen in ((few, 3), (run, 6 * 4)):
        inputs = Inputs(limited, NETS["stylenet"], CPU)
        batches = torch.cat([inputs(iteration)[0] for iteration in range(1, 7)])
        assert batches.shape == (24, 3, 32, 32)
        assert len(batches.unique(dim=0)) == seen


def test_a_diversity_batch_is_one_content_with_different_noise():
    inputs = Inputs(stylization(diversity_weight=1.0), NETS["stylenet"], CPU)
    seen = []
    for iteration in range(1, 5):
        content, (noise,) = inputs(iteration)
        assert content.shape == (4, 3, 32, 32) and noise.shape == (4, 3, 32, 32)
        assert all(torch.equal(content[0], other) for other in content[1:])
        assert noise.unique(dim=0).shape[0] == 4
        seen.append(content[0])
    assert torch.stack(seen).unique(dim=0).shape[0] == 4


def test_the_committed_runs_of_figure_6():
    """The run with the diversity term sees one photograph a batch, the one without sees two."""
    made = config.parse(Experiment, yaml.safe_load(FULL.read_text()), "configuration")
    parts = made.figures.stylization
    for name, contents in ((parts.diverse, 1), (parts.noisy, 2)):
        run = made.training(name, 0)
        net = build(run.generator, run.seed, run.images)
        content, (noise,) = Inputs(run, net, CPU)(1)
        assert len(content) == len(noise) == 2
        assert content.unique(dim=0).shape[0] == contents
        assert noise.unique(dim=0).shape[0] == 2
        with torch.no_grad():  # so that the samples differ even before training
            assert net(content, noise=[noise]).unique(dim=0).shape[0] == 2


def test_other_batches_are_of_different_contents():
    inputs = Inputs(stylization(), NETS["stylenet"], CPU)
    content, (noise,) = inputs(1)
    assert content.unique(dim=0).shape[0] == 4 and noise.unique(dim=0).shape[0] == 4
    assert torch.equal(inputs(1)[0], content)
    assert not torch.equal(inputs(2)[0], content)


def test_contents_do_not_depend_on_the_generators_noise():
    with_noise = Inputs(stylization(), NETS["stylenet"], CPU)
    without = Inputs(stylization(noise_channels=0), StyleNet(width=2, blocks=1), CPU)
    assert torch.equal(with_noise(3)[0], without(3)[0])
    assert without(3)[1] == [] and without.heldout[1] == []


def test_heldout_contents_are_central_squares():
    run = stylization()
    shown, (noise,) = Inputs(run, NETS["stylenet"], CPU).heldout
    assert shown.shape == noise.shape == (2, 3, 24, 24)
    assert torch.equal(shown, heldout_images(run.images))
    photograph = load_image("chelsea")  # 300 x 451
    central = photograph[:, :, 75:375].mean((1, 2))
    torch.testing.assert_close(shown[0].mean((1, 2)), central, atol=0.01, rtol=0)
    assert (photograph.mean((1, 2)) - central).abs().max() > 0.01


def test_sources_are_the_contents_and_the_heldout_images():
    run = stylization()
    made_of, shown = Inputs(run, NETS["stylenet"], CPU).sources
    pixels = [load_image(name).numpy().tobytes() for name in ("rocket", "coffee")]
    assert bytes(made_of.tolist()) == hashlib.sha256(b"".join(pixels)).digest()
    assert torch.equal(shown, heldout_images(run.images))
    assert Inputs(texture(), NETS["texturenet_v1"], CPU).sources == []


@pytest.mark.parametrize(
    ("height", "width", "short"),
    [(40, 64, 40), (64, 40, 40), (40, 40, 40), (100, 200, 32), (48, 100, 31)],
)
def test_an_exemplar_smaller_than_a_sample_is_refused(tmp_path, height, width, short):
    """In its file or once resampled to a longer side of 64 pixels; samples have 48."""
    path = tmp_path / "small.png"
    write_image(path, torch.rand(3, height, width))
    wanted = rf"exemplar '.*small\.png': its shorter side has {short} pixels, samples have 48; use"
    with pytest.raises(DataError, match=wanted) as refused:
        exemplar_must_cover(config.Texture(str(path), exemplar_size=64, size=48))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (48, 48), (300, 400)])
def test_an_exemplar_as_large_as_a_sample_is_taken(tmp_path, height, width):
    path = tmp_path / "large.png"
    write_image(path, torch.rand(3, height, width))
    exemplar_must_cover(config.Texture(str(path), exemplar_size=64, size=48))
