"""Scores of stylizations: identities between networks, measured by hand, the same for all runs."""

import copy
import dataclasses
import functools
import math

import pytest
import torch

from texnet import config, generators
from texnet.artifacts import write_json, write_tensors
from texnet.errors import DataError
from texnet.inputs import HELDOUT_SEED, Inputs, NoiseStream, heldout_images
from texnet.metrics import uniform_region
from texnet.scoring import score
from texnet.stylization_scoring import score_baseline
from texnet.training import objective_of, save_generator

CPU = torch.device("cpu")
LAYERS = ("relu1_1", "relu2_1")
HELDOUT = ("chelsea", "flower", "rocket")
NOISE = {"noise_deviation", "noise_deviation_uniform", "noise_deviation_detailed",
         "pairwise_features", "vendi"}  # fmt: skip
ALWAYS = {"objective", "texture", "content", "texture_relu1_1", "texture_relu2_1", "texture_outer",
          "texture_inner", "contrast_change", "mode_difference", "batch_difference",
          "objective_own_statistics", "texture_own_statistics"}  # fmt: skip
STYLENET = config.StyleNet(width=4, blocks=1)


def run(generator=STYLENET, heldout_size=32, **objective):
    return config.Training(
        name="net",
        seed=5,
        descriptor=config.Descriptor("random"),
        generator=generator,
        objective=config.Objective(LAYERS, ("relu2_1",), style_weight=3.0, **objective),
        optimiser=config.Optimiser(iterations=1, batch=2),
        images=config.Images(
            style="ihc", style_size=48, size=64, heldout_size=heldout_size, heldout=HELDOUT,
            contents=("coffee",),
        ),
        device="cpu",
    )  # fmt: skip


def made(settings):
    """An untrained network with large scales that has seen some batches, as batch norm needs it."""
    return copy.deepcopy(_made(settings))


@functools.cache
def _made(settings):
    net = generators.build(settings.generator, settings.seed, settings.images).train()
    for name, weights in net.state_dict().items():
        if name.endswith("weight") and weights.ndim == 1:
            weights.fill_(1)
    inputs = Inputs(settings, net, CPU)
    with torch.no_grad():
        for iteration in range(1, 31):
            net(*inputs(iteration))
    return net.eval()


@pytest.fixture
def scored(tmp_path):
    """Saves a run's network and scores it: values by metric, one a held-out image."""

    def score_run(settings, sizes=(), net=None):
        save_generator(tmp_path / "model.safetensors", net or made(settings), settings)
        write_json(tmp_path / "run.json", config.to_json(settings))
        found = {}
        for row in score(tmp_path, CPU, sizes):
            assert (row.run, row.exemplar, row.seed) == ("net", "ihc", 5)
            assert math.isfinite(row.value) and row.unit
            found.setdefault(row.metric, {})[row.content] = row.value
        assert all(list(values) == list(HELDOUT) for values in found.values())
        return {metric: list(values.values()) for metric, values in found.items()}

    return score_run


def with_norm(norm, **changes):
    return run(dataclasses.replace(STYLENET, norm=norm, **changes))


@torch.no_grad()
def objective_by_hand(settings, images):
    """Weighted texture and content loss of each image by itself: one list a term."""
    objective = objective_of(settings, CPU)
    contents = heldout_images(settings.images)
    found = {"texture": [], "content": []}
    for image, content in zip(images, contents, strict=True):
        features, wanted = (objective.descriptor(x[None]) for x in (image, content))
        found["texture"].append(3.0 * float(objective.texture(features)))
        found["content"].append(float((features["relu2_1"] - wanted["relu2_1"]).square().mean()))
    return found


def test_instance_norm_behaves_alike_in_training_and_at_test_time(scored):
    found = scored(with_norm("instance"))
    assert found["mode_difference"] == [0.0, 0.0, 0.0]
    # Grey levels of 255: rounding alone, for one image and several take different kernels.
    assert max(found["batch_difference"]) < 255 * 1e-5
    for term in ("objective", "texture"):
        assert found[f"{term}_own_statistics"] == pytest.approx(found[term], rel=1e-5)


def test_batch_norm_behaves_otherwise(scored):
    settings = with_norm("batch")
    net, found = made(settings), scored(settings)
    contents = heldout_images(settings.images)
    with torch.no_grad():
        tested = net(contents)
        together = net.train()(contents)
        alone = torch.cat([net(content[None]) for content in contents])
    for metric, images in (("mode_difference", tested), ("batch_difference", alone)):
        wanted = [255 * float((a - b).abs().max()) for a, b in zip(together, images, strict=True)]
        assert found[metric] == pytest.approx(wanted, rel=1e-4)
        assert min(wanted) > 1
    objective, own = (found[key] for key in ("objective", "objective_own_statistics"))
    assert min(abs(a / b - 1) for a, b in zip(objective, own, strict=True)) > 1e-3


def test_batch_norm_with_an_images_own_statistics_is_instance_norm(scored):
    settings = with_norm("batch")
    net = made(settings)
    twin = generators.build(dataclasses.replace(settings.generator, norm="instance"), 0, None)
    kept = {k: v for k, v in net.state_dict().items() if "running" not in k and "num_" not in k}
    twin.load_state_dict(kept)
    with torch.no_grad():
        by_hand = objective_by_hand(settings, twin(heldout_images(settings.images)))
    found = scored(settings, net=net)
    assert found["texture_own_statistics"] == pytest.approx(by_hand["texture"], rel=1e-4)
    total = [sum(terms) for terms in zip(*by_hand.values(), strict=True)]
    assert found["objective_own_statistics"] == pytest.approx(total, rel=1e-4)


def test_losses_by_hand(scored):
    settings = with_norm("batch")
    net, found = made(settings), scored(settings)
    with torch.no_grad():
        by_hand = objective_by_hand(settings, net(heldout_images(settings.images)))
    for term, wanted in by_hand.items():
        assert found[term] == pytest.approx(wanted, rel=1e-4)
    total = [sum(terms) for terms in zip(*by_hand.values(), strict=True)]
    assert found["objective"] == pytest.approx(total, rel=1e-4)
    layers = zip(*(found[f"texture_{layer}"] for layer in LAYERS), strict=True)
    assert [3.0 * sum(losses) for losses in layers] == pytest.approx(by_hand["texture"], rel=1e-4)


def test_instance_norm_discards_the_contrast_and_batch_norm_does_not(scored):
    assert max(scored(with_norm("instance"))["contrast_change"]) < 0.01
    assert min(scored(with_norm("batch"))["contrast_change"]) > 0.1


@torch.no_grad()
def test_contrast_change_halves_the_contrast_of_the_content(scored):
    settings = with_norm("batch")
    net, found = made(settings), scored(settings)["contrast_change"]
    for content, value in zip(heldout_images(settings.images), found, strict=True):
        faded = torch.stack(
            [channel.mean() + (channel - channel.mean()) / 2 for channel in content]
        )
        image, other = (net(x[None])[0].clamp(0, 1) for x in (content, faded))
        wanted = (image - other).square().mean().sqrt() / image.std()
        assert value == pytest.approx(wanted.item(), rel=1e-3)


@pytest.mark.parametrize(
    "generator",
    [
        dataclasses.replace(STYLENET, noise_channels=3),
        config.TextureNetV1("texturenet_v1", norm="instance", width=2),
        config.TextureNetV1("texturenet_v1", norm="batch", width=2),
        STYLENET,
        config.SkipNet("skip", norm="instance", width=2),
        config.SkipNet("skip", norm="batch", width=2),
    ],
    ids=["noisy", "pyramid_in", "pyramid_bn", "plain", "skip_in", "skip_bn"],
)
def test_every_network_is_measured_and_those_with_noise_by_its_effect(scored, generator):
    found = scored(run(generator, heldout_size=64), sizes=[48])
    sized = {"objective_48px", "texture_48px"}
    noisy = isinstance(generator, config.TextureNetV1) or bool(
        getattr(generator, "noise_channels", 0)
    )
    assert set(found) == ALWAYS | sized | (NOISE if noisy else set())
    if noisy:
        assert all(value > 1e-4 for metric in NOISE for value in found[metric])
        assert all(1 < value <= 8 for value in found["vendi"])
    alike = max(found["mode_difference"]) == 0
    assert alike == (generator.norm == "instance")
    together = max(found["batch_difference"]) < 0.5  # rounding, of 255
    assert together == (generator.norm == "instance")


@torch.no_grad()
def test_deviation_over_noise_is_of_eight_samples_of_each_content(scored):
    settings = with_norm("instance", noise_channels=3)
    net, found = made(settings), scored(settings)
    assert net.noise_channels == 3
    for i, content in enumerate(heldout_images(settings.images)):
        (noise,) = NoiseStream(net, HELDOUT_SEED)(8, 32, 32, i + 1)
        samples = [net(content[None], [z[None]])[0].clamp(0, 1) for z in noise]
        mean = sum(samples) / 8
        variance = sum((sample - mean) ** 2 for sample in samples) / 7
        wanted = variance.sqrt().mean(0)
        assert found["noise_deviation"][i] == pytest.approx(wanted.mean().item(), rel=1e-3)
        region = uniform_region(content)
        for part, inside in (("uniform", region), ("detailed", ~region)):
            value = found[f"noise_deviation_{part}"][i]
            assert value == pytest.approx(wanted[inside].mean().item(), rel=1e-3)
    assert found["noise_deviation_uniform"] != found["noise_deviation_detailed"]


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_other_sizes_are_measured_on_the_same_images(scored, norm):
    """At the usual size the numbers are the usual ones; at another, those of larger squares."""
    settings = with_norm(norm)
    net = made(settings)
    plain, found = scored(settings), scored(settings, sizes=[32, 56])
    assert {k: v for k, v in found.items() if not k.endswith("px")} == plain
    assert set(found) - set(plain) == {
        f"{term}_{size}px" for term in ("objective", "texture") for size in (32, 56)
    }
    for term in ("objective", "texture"):
        assert found[f"{term}_32px"] == pytest.approx(plain[term], rel=1e-5)
        ratios = [a / b for a, b in zip(found[f"{term}_56px"], plain[term], strict=True)]
        assert min(abs(ratio - 1) for ratio in ratios) > 1e-3
    larger = dataclasses.replace(settings.images, heldout_size=56)
    with torch.no_grad():
        images = net(heldout_images(larger))
    by_hand = objective_by_hand(dataclasses.replace(settings, images=larger), images)
    assert found["texture_56px"] == pytest.approx(by_hand["texture"], rel=1e-4)
    total = [sum(terms) for terms in zip(*by_hand.values(), strict=True)]
    assert found["objective_56px"] == pytest.approx(total, rel=1e-4)


def test_every_run_is_measured_by_one_objective(scored):
    """A diversity term and its T are of the training; normalised gradients change no value."""
    noisy = dataclasses.replace(STYLENET, noise_channels=3)
    net = made(run(noisy))
    plain = scored(run(noisy), [40], net)
    assert min(plain["objective"]) > 0.1
    for change in (
        {"diversity_weight": 1, "temperature": 1e5},
        {"temperature": 1e5},
        {"diversity_weight": 2, "convention": "authors_code", "diversity_distance": "highpass"},
        {"normalise_gradients": True},
    ):
        assert scored(run(noisy, **change), [40], net) == plain


def test_a_baseline_that_is_none_and_one_without_its_images(tmp_path):
    settings = run()
    write_json(tmp_path / "run.json", config.to_json(settings))
    with pytest.raises(DataError, match=r"run\.json: is a training, wanted a baseline"):
        score_baseline(tmp_path, CPU)
    baseline = config.Optimisation(
        name="gatys", seed=0, descriptor=settings.descriptor, objective=settings.objective,
        images=settings.images, start="noise", evaluations=1, device="cpu",
    )  # fmt: skip
    write_json(tmp_path / "run.json", config.to_json(baseline))
    write_tensors(tmp_path / "images.safetensors", {"chelsea/start": torch.zeros(3, 32, 32)}, {})
    with pytest.raises(DataError, match=r"images\.safetensors: no image 'flower/start'; optimise"):
        score_baseline(tmp_path, CPU)
