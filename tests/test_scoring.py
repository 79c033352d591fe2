"""Scores of textures: crops of the exemplar as known answers, every metric of every group."""

import dataclasses

import numpy as np
import pytest
import torch

from texnet import config
from texnet.artifacts import read_tensors, write_json
from texnet.baselines import run_baseline
from texnet.errors import DataError, UsageError
from texnet.generators import build
from texnet.inputs import sample_group
from texnet.metrics import pairwise_pixels, spotting
from texnet.scoring import (
    TextureMeter,
    exemplar_crops,
    score,
    score_references,
    score_released,
)
from texnet.training import load_generator, objective_of, save_generator, train

CPU = torch.device("cpu")
METRICS = {
    "texture",
    "texture_relu1_1",
    "texture_relu2_1",
    "sliced_wasserstein",
    "sliced_wasserstein_relu1_2",
    "pairwise_pixels",
    "pairwise_features",
    "vendi",
    "neighbour_entropy",
    "spotting",
    "low_pass_share",
}
SHARED = {
    "seed": 0,
    "descriptor": config.Descriptor(name="random"),
    "objective": config.Objective(style_layers=("relu1_1", "relu2_1"), content_weight=0.0),
    "images": config.Texture("pebbles", exemplar_size=64, size=32, samples=16),
    "device": "cpu",
}
NETWORK = config.Training(
    name="net",
    generator=config.TextureNetV2("texturenet_v2", width=4, latent=8),
    optimiser=config.Optimiser(iterations=3, batch=2),
    **SHARED,
)
BASELINE = config.Optimisation(name="gatys", start="noise", evaluations=2, **SHARED)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Directories of a trained network and of a baseline."""
    network, baseline = (tmp_path_factory.mktemp(name) for name in ("net", "gatys"))
    train(NETWORK, network / "model.safetensors", CPU)
    run_baseline(BASELINE, baseline / "images.safetensors", CPU)
    write_json(network / "run.json", config.to_json(NETWORK))
    write_json(baseline / "run.json", config.to_json(BASELINE))
    return network, baseline


def test_crops_lie_inside_and_are_seeded():
    height, width = 20, 30
    exemplar = torch.arange(3 * height * width).reshape(3, height, width)
    crops = exemplar_crops(exemplar, 16, 200, seed=4)
    assert crops.shape == (200, 3, 16, 16)
    corners = {divmod(crop[0, 0, 0].item(), width) for crop in crops}
    for crop in crops:
        top, left = divmod(crop[0, 0, 0].item(), width)
        assert torch.equal(crop, exemplar[:, top : top + 16, left : left + 16])
    assert {top for top, _ in corners} == set(range(5))  # all places, the last ones too
    assert {left for _, left in corners} == set(range(15))
    assert torch.equal(crops, exemplar_crops(exemplar, 16, 200, seed=4))
    assert not torch.equal(crops, exemplar_crops(exemplar, 16, 200, seed=5))
    assert torch.equal(exemplar_crops(exemplar[:, :16, :16], 16, 1, 0)[0], exemplar[:, :16, :16])


def test_references_have_the_answers_that_are_known(tmp_path):
    path = tmp_path / "run.json"
    run = dataclasses.replace(
        BASELINE, images=dataclasses.replace(BASELINE.images, exemplar_size=96, samples=16)
    )
    write_json(path, config.to_json(run))
    rows = score_references(path, [1, 2], CPU)
    assert len(rows) == 2 * 2 * 2 * len(METRICS)
    assert {r.content for r in rows} == {f"group{g}" for g in range(2)}
    assert {(r.run, r.seed, r.exemplar) for r in rows} == {
        (run, seed, "pebbles") for run in ("crops", "repeated") for seed in (1, 2)
    }

    def values(kind, metric):
        return torch.tensor([r.value for r in rows if (r.run, r.metric) == (kind, metric)])

    assert values("repeated", "vendi").tolist() == pytest.approx([1.0] * 4, abs=1e-4)
    for metric in ("pairwise_pixels", "pairwise_features"):
        assert not values("repeated", metric).any()
        assert values("crops", metric).min() > 0.1
    assert values("crops", "vendi").min() > 6
    assert values("crops", "spotting").mean().item() == pytest.approx(1, abs=0.25)
    floor = values("repeated", "neighbour_entropy")
    assert floor.tolist() == pytest.approx([-6.907755] * 4)
    assert (values("crops", "neighbour_entropy") > floor + 3).all()
    assert rows[len(rows) // 2 :] == score_references(path, [2], CPU)


def test_every_group_of_samples_has_every_metric(finished):
    for directory, run in zip(finished, (NETWORK, BASELINE), strict=True):
        rows = score(directory, CPU)
        assert len(rows) == 2 * len(METRICS)
        for group in ("group0", "group1"):
            assert {r.metric for r in rows if r.content == group} == METRICS
        assert {(r.run, r.exemplar, r.seed) for r in rows} == {(run.name, "pebbles", 0)}
        assert all(abs(r.value) < float("inf") for r in rows)


def test_a_group_is_measured_on_its_own_samples(finished):
    directory, _ = finished
    found = {(r.content, r.metric): r.value for r in score(directory, CPU)}
    net, _ = load_generator(directory / "model.safetensors")
    objective = objective_of(NETWORK, CPU)
    for g in range(2):
        images = sample_group(net, 32, g)
        assert found[f"group{g}", "pairwise_pixels"] == pytest.approx(pairwise_pixels(images))
        texture = objective(images, {}).texture.mean().item() / 10
        assert found[f"group{g}", "texture"] == pytest.approx(texture, rel=1e-5)
        layers = sum(found[f"group{g}", f"texture_{k}"] for k in ("relu1_1", "relu2_1"))
        assert layers == pytest.approx(texture, rel=1e-5)
    assert found["group0", "pairwise_pixels"] != found["group1", "pairwise_pixels"]


def test_a_released_network_is_measured_as_a_run(finished):
    directory, _ = finished
    net, _ = load_generator(directory / "model.safetensors")
    rows = score_released(net, directory / "run.json", CPU)
    assert rows == [row._replace(run="authors_release") for row in score(directory, CPU)]


def test_a_baselines_groups_are_its_samples_in_order(finished):
    _, directory = finished
    tensors, _ = read_tensors(directory / "images.safetensors")
    found = {r.content: r.value for r in score(directory, CPU) if r.metric == "pairwise_pixels"}
    for g in range(2):
        images = torch.stack([tensors[f"{i}/end"] for i in range(8 * g, 8 * g + 8)])
        assert found[f"group{g}"] == pytest.approx(pairwise_pixels(images))


def test_a_missing_sample_is_named(finished, tmp_path):
    _, directory = finished
    more = dataclasses.replace(BASELINE, images=dataclasses.replace(BASELINE.images, samples=24))
    write_json(tmp_path / "run.json", config.to_json(more))
    samples = (directory / "images.safetensors").read_bytes()
    (tmp_path / "images.safetensors").write_bytes(samples)
    with pytest.raises(DataError, match="no sample '16/end'; optimise again"):
        score(tmp_path, CPU)


def test_a_pyramid_is_measured_at_other_sizes_too(tmp_path):
    """By samples of a group's area; a size that is no multiple of 32 is cropped."""
    pyramid = config.TextureNetV1("texturenet_v1", norm="none", width=2)
    run = dataclasses.replace(NETWORK, generator=pyramid)
    net = build(pyramid, 0, run.images)
    save_generator(tmp_path / "model.safetensors", net, run)
    write_json(tmp_path / "run.json", config.to_json(run))
    plain, rows = score(tmp_path, CPU), score(tmp_path, CPU, sizes=[32, 80])
    assert rows[: len(plain)] == plain and len(plain) == 2 * len(METRICS)
    texture = objective_of(run, CPU).texture
    descriptor = objective_of(run, CPU).descriptor
    for row, size, padded, n in zip(rows[len(plain) :], (32, 80), (32, 96), (8, 1), strict=True):
        assert row[:5] == ("net", "pebbles", 0, "group0", f"texture_{size}px")
        rng = np.random.Generator(np.random.Philox(key=[2**31, 2**62]))  # the first held-out one
        sides = [padded // ratio for ratio in (32, 16, 8, 4, 2, 1)]
        noise = [torch.from_numpy(rng.random((n, 3, s, s), dtype=np.float32)) for s in sides]
        with torch.no_grad():
            image = net(None, noise)[..., :size, :size]
            assert row.value == pytest.approx(texture(descriptor(image)).mean().item(), rel=1e-5)


def test_other_sizes_are_of_generators_that_make_them(finished):
    network, baseline = finished
    with pytest.raises(UsageError, match="this TextureNetV2 makes 32x32 images, not 48x48"):
        score(network, CPU, sizes=[48])
    assert score(baseline, CPU, sizes=[48]) == score(baseline, CPU)


def test_the_exemplar_itself_has_no_loss_and_spots_as_itself():
    run = dataclasses.replace(BASELINE, images=config.Texture("pebbles", 32, 32, 8))
    meter = TextureMeter(run, CPU)
    images = meter.exemplar.expand(8, -1, -1, -1)
    found = {r.metric: r.value for r in meter("itself", 0, 0, images)}
    brighter = {r.metric: r.value for r in meter("brighter", 0, 0, images + 0.01)}
    for metric in ("texture", "texture_relu1_1", "sliced_wasserstein"):
        assert 0 <= found[metric] < 1e-4 * brighter[metric]
    assert found["spotting"] == pytest.approx(1)


def test_spots_of_brightness_raise_spotting_above_1():
    meter = TextureMeter(BASELINE, CPU)
    images = exemplar_crops(meter.exemplar, 32, 8, seed=1)
    x = torch.linspace(-1, 1, 32)
    blob = 0.8 * torch.exp(-(x[:, None] ** 2 + x**2) / 0.2)
    rows = meter("spotted", 0, 0, images + blob)
    (ratio,) = (r.value for r in rows if r.metric == "spotting")
    assert ratio > 1.5
    crops = exemplar_crops(meter.exemplar, 32, 64, seed=0)
    wanted = spotting(images + blob).mean() / spotting(crops).mean()
    assert ratio == pytest.approx(wanted.item())


def test_a_stylization_is_no_texture():
    run = config.Optimisation(
        **SHARED | {"images": config.Images(), "objective": config.Objective()},
        name="styled",
        start="noise",
        evaluations=3,
    )
    with pytest.raises(UsageError, match="run 'styled' is a stylization"):
        TextureMeter(run, CPU)
