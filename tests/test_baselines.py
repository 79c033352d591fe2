"""Generation by optimisation: known optima, the start it was given, the shared objective."""

import csv
import dataclasses

import pytest
import torch
from torch import nn

from texnet import config
from texnet.artifacts import read_tensors
from texnet.baselines import noise_image, optimise, run_baseline
from texnet.data import write_image
from texnet.errors import DataError, DivergenceError, UsageError
from texnet.inputs import heldout_images
from texnet.losses import Terms, nearest_neighbour
from texnet.metrics import feature_distance, pixel_distance
from texnet.scoring import score
from texnet.training import objective_of, train

CPU = torch.device("cpu")
SECTIONS = {
    "descriptor": {"name": "random"},
    "objective": {"style_layers": ["relu1_1", "relu2_1"], "content_layers": ["relu2_1"]},
    "images": {
        "style": "ihc",
        "style_size": 32,
        "size": 16,
        "heldout_size": 16,
        "contents": ["rocket"],
        "heldout": ["chelsea", "flower"],
    },
}


def baseline(start="noise", evaluations=12):
    content = SECTIONS | {
        "name": "gatys",
        "seed": 0,
        "start": start,
        "evaluations": evaluations,
        "device": "cpu",
    }
    return config.parse(config.Optimisation, content, "test")


class Quadratic(nn.Module):
    """An objective with a known minimum, 3, at a known image."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, images, content_targets):
        weights = torch.linspace(1, 50, images[0].numel()).view_as(images[0])
        texture = (weights * (images - self.target).square()).sum((1, 2, 3))
        return Terms(texture, images.new_full((1,), 3.0), images.new_zeros(1), images.new_zeros(1))


def test_finds_the_minimum_of_a_quadratic():
    target = torch.rand(3, 8, 8)
    result = optimise(Quadratic(target), torch.zeros(3, 8, 8), {}, 80)
    torch.testing.assert_close(result.image, target, atol=2e-3, rtol=0)
    assert min(t[0] for t in result.trace) == pytest.approx(3, abs=1e-3)


def test_trace_starts_at_the_start_and_keeps_to_the_budget():
    target, start = torch.rand(3, 8, 8), torch.rand(3, 8, 8)
    result = optimise(Quadratic(target), start, {}, 7)
    first = Quadratic(target)(start[None], {}).total.item()
    assert result.trace[0][0] == pytest.approx(first, rel=1e-4)
    assert len(result.trace) == 7


def test_returns_the_best_image_met():
    target, start = torch.rand(3, 8, 8), torch.rand(3, 8, 8)
    result = optimise(Quadratic(target), start, {}, 5)
    value = Quadratic(target)(result.image[None], {}).total.item()
    assert value == pytest.approx(min(t[0] for t in result.trace), rel=1e-4)


def test_not_a_number_is_named():
    with pytest.raises(DivergenceError, match="evaluation 1: the objective is nan"):
        optimise(Quadratic(torch.full((3, 8, 8), float("nan"))), torch.zeros(3, 8, 8), {}, 5)


def test_noise_start_is_seeded_and_near_the_mean_colour():
    a, b, c = noise_image((64, 64), 0), noise_image((64, 64), 0), noise_image((64, 64), 1)
    assert torch.equal(a, b) and not torch.equal(a, c)
    mean = torch.tensor([123.68, 116.779, 103.939]) / 255  # RGB
    torch.testing.assert_close(a.mean((1, 2)), mean, atol=1e-3, rtol=0)
    assert a.std((1, 2)).mul(255).sub(1).abs().max() < 0.1


def test_from_noise_the_objective_falls_on_every_image(tmp_path):
    run_baseline(baseline(evaluations=40), tmp_path / "images.safetensors", CPU)
    with (tmp_path / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 80
    for content in ("chelsea", "flower"):
        values = [float(r["objective"]) for r in rows if r["content"] == content]
        assert min(values) < 0.2 * values[0]


def texture_baseline(evaluations=12):
    return config.Optimisation(
        name="texture_gatys",
        seed=3,
        descriptor=config.Descriptor(name="random"),
        objective=config.Objective(style_layers=("relu1_1", "relu2_1"), content_weight=0.0),
        images=config.Texture("pebbles", exemplar_size=48, size=32, samples=8),
        start="noise",
        evaluations=evaluations,
        device="cpu",
    )


class Stopped(Exception):
    pass


@pytest.mark.parametrize("done", [1, 2])
def test_interrupted_it_goes_on_with_the_image_that_was_not_finished(tmp_path, done):
    run = baseline(evaluations=3)
    whole, broken = tmp_path / "a" / "images.safetensors", tmp_path / "b" / "images.safetensors"
    run_baseline(run, whole, CPU)

    def stop(number, result):
        if number == done:
            raise Stopped

    with pytest.raises(Stopped):
        run_baseline(run, broken, CPU, on_image=stop)
    assert not broken.exists()
    seen = []
    run_baseline(run, broken, CPU, on_image=lambda number, result: seen.append(number))
    finished = done if done < len(run.images.heldout) else 1  # the last one is not kept
    assert seen == list(range(finished + 1, len(run.images.heldout) + 1))
    for name in ("images.safetensors", "history.csv"):
        assert (whole.parent / name).read_bytes() == (broken.parent / name).read_bytes()
    assert {p.name for p in broken.parent.iterdir()} == {p.name for p in whole.parent.iterdir()}


def test_a_texture_is_optimised_once_a_sample_each_from_noise_of_its_own(tmp_path):
    run, seen = texture_baseline(), []
    path = tmp_path / "images.safetensors"
    run_baseline(run, path, CPU, on_image=lambda done, result: seen.append(done))
    images, facts = read_tensors(path)
    assert seen == list(range(1, 9)) and facts["start"] == "noise"
    assert set(images) == {f"{i}/{part}" for i in range(8) for part in ("start", "end")}
    assert {tuple(image.shape) for image in images.values()} == {(3, 32, 32)}
    start = torch.stack([images[f"{i}/start"] for i in range(8)])
    end = torch.stack([images[f"{i}/end"] for i in range(8)])
    assert nearest_neighbour(start).min() > 0
    objective = objective_of(run, CPU)
    before, after = objective(start, {}).total, objective(end, {}).total
    assert (after < 0.5 * before).all()
    with (tmp_path / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8 * 12
    firsts = [float(r["objective"]) for r in rows if r["evaluation"] == "0"]
    assert firsts == pytest.approx(before.tolist(), rel=1e-4)
    again = tmp_path / "again" / "images.safetensors"
    run_baseline(texture_baseline(evaluations=1), again, CPU)
    repeated, _ = read_tensors(again)
    assert all(torch.equal(repeated[f"{i}/start"], start[i]) for i in range(8))


def test_a_texture_larger_than_its_exemplar_is_refused(tmp_path):
    run = texture_baseline()
    wide = tmp_path / "wide.png"
    write_image(wide, torch.rand(3, 24, 48))
    run = dataclasses.replace(run, images=config.Texture(str(wide), 48, 32, 8))
    with pytest.raises(DataError, match="shorter side has 24 pixels, samples have 32"):
        run_baseline(run, tmp_path / "images.safetensors", CPU)


def test_finetuning_starts_at_the_generators_output_on_the_same_objective(tmp_path):
    """The chain of figure 3: train, finetune, and score both with one objective."""
    training_run = config.parse(
        config.Training,
        SECTIONS
        | {
            "name": "net",
            "seed": 0,
            "device": "cpu",
            "generator": {"width": 4, "blocks": 1},
            "optimiser": {"iterations": 4, "batch": 2},
        },
        "test",
    )
    from texnet.artifacts import write_json

    net_dir, tuned_dir = tmp_path / "net_seed0", tmp_path / "tuned_seed0"
    model = net_dir / "model.safetensors"
    train(training_run, model, CPU)
    run = baseline(start="net")
    run_baseline(run, tuned_dir / "images.safetensors", CPU, model=model)
    write_json(net_dir / "run.json", config.to_json(training_run))
    write_json(tuned_dir / "run.json", config.to_json(run))

    net = {(r.metric, r.content): r.value for r in score(net_dir, CPU)}
    tuned = {(r.metric, r.content): r.value for r in score(tuned_dir, CPU)}
    images, _ = read_tensors(tuned_dir / "images.safetensors")
    objective = objective_of(run, CPU)
    contents = heldout_images(run.images)
    for i, content in enumerate(run.images.heldout):
        start, end = images[f"{content}/start"][None], images[f"{content}/end"][None]
        by_hand = objective(start, objective.content_targets(contents[i : i + 1])).total.item()
        assert net["objective", content] == pytest.approx(by_hand, rel=1e-4)
        assert tuned["objective_start", content] == pytest.approx(by_hand, rel=1e-4)
        assert tuned["objective", content] < tuned["objective_start", content]
        assert tuned["moved_pixels", content] == pytest.approx(
            pixel_distance(start, end).item(), rel=1e-4
        )
        layers = sum(net[f"texture_{k}", content] for k in run.objective.style_layers)
        assert 10 * layers == pytest.approx(net["texture", content], rel=1e-4)


@pytest.mark.parametrize(("start", "model"), [("net", None), ("noise", "model.safetensors")])
def test_start_and_model_must_agree(tmp_path, start, model):
    with pytest.raises(UsageError, match=f"starts from '{start}'"):
        run_baseline(baseline(start), tmp_path / "i.safetensors", CPU, model=model)


def test_distances_have_their_known_values():
    from texnet.descriptors import load

    a = torch.zeros(2, 3, 8, 8)
    b = a.clone()
    b[1] = 0.5
    torch.testing.assert_close(pixel_distance(a, b), torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(pixel_distance(a - 3, a), torch.zeros(2))  # clamped first
    descriptor = load("random", ["relu1_1", "relu2_1"])
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    near = (x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert feature_distance(descriptor, x, x).tolist() == [0, 0]
    assert (feature_distance(descriptor, x, near) < feature_distance(descriptor, x, 1 - x)).all()
