"""A step is the textbook's; in bf16 it is nearly the same, with Gram matrices in fp32."""

import copy
import dataclasses

import pytest
import torch

from texnet import config, generators, losses, runtime
from texnet.config import Acceleration
from texnet.descriptors import load
from texnet.generators import StyleNet
from texnet.losses import Objective
from texnet.tables import read_table
from texnet.training import objective_of, train
from texnet.updates import TERMS, WARM_UP, Update, optimiser

LAYERS = ("relu1_1", "relu2_1", "relu3_1")
SETTINGS = config.Objective(style_layers=LAYERS, content_layers=("relu2_2",), tv_weight=0.1)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def made(device="cpu", bf16=False, norm="instance", **acceleration):
    """(update, net, adam) of a small stylization, the same each time."""
    settings = Acceleration(precision="bf16" if bf16 else "fp32", **acceleration)
    net = StyleNet(norm=norm, width=8, blocks=1, noise_channels=1)
    generators.initialise(net, 0)
    net.to(device)
    descriptor = load("vgg19_lite", {*LAYERS, "relu2_2"}).to(device)
    style = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(1)).to(device)
    objective = Objective(SETTINGS, descriptor, style)
    objective = objective.rounded() if bf16 else objective
    adam = optimiser(net, 1e-3, settings)
    return Update(net, objective, adam, settings), net, adam


def batch(number, device="cpu"):
    rng = torch.Generator().manual_seed(100 + number)
    content = torch.rand(2, 3, 32, 32, generator=rng)
    return content.to(device), [torch.rand(2, 1, 32, 32, generator=rng).to(device)]


def steps(count, device="cpu", **how):
    update, net, _ = made(device, **how)
    values = torch.stack([update(*batch(number, device)) for number in range(count)])
    return values.cpu(), {name: value.cpu() for name, value in net.state_dict().items()}


def test_a_step_is_the_textbooks():
    # Without norms, before which a bias has no gradient, but for the rounding that Adam enlarges.
    update, net, _ = made(norm="none")
    other = copy.deepcopy(net)
    plain = torch.optim.Adam(other.parameters(), lr=1e-3, fused=True)
    objective = update.objective
    for number in range(3):
        content, noise = batch(number)
        found = update(content, noise)
        images = other(content, noise)
        terms = objective(images, objective.content_targets(content))
        plain.zero_grad()
        terms.total.mean().backward()
        plain.step()
        wanted = [terms.total.mean(), *(getattr(terms, name).mean() for name in TERMS)]
        torch.testing.assert_close(found, torch.stack(wanted).detach())
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_nothing_of_a_step_is_left_for_the_next():
    update, _, _ = made()
    values = update(*batch(0))
    assert not values.requires_grad
    assert values.shape == (1 + len(TERMS),)
    assert values[0].item() == pytest.approx(values[1:].sum().item(), rel=1e-6)


def test_bf16_is_near_fp32_and_keeps_weights_and_losses_in_fp32():
    exact, _ = steps(5)
    rounded, weights = steps(5, bf16=True)
    assert not torch.equal(exact, rounded), "bf16 did nothing"
    # Of the same weights; afterwards training itself makes more of every rounding.
    torch.testing.assert_close(rounded[0, :3], exact[0, :3], rtol=0.005, atol=0)
    assert {value.dtype for value in weights.values()} <= {torch.float32, torch.int64}
    assert rounded.dtype == torch.float32


def test_gram_matrices_are_computed_in_fp32(monkeypatch):
    update, _, _ = made(bf16=True)
    seen = []
    original = losses.gram
    monkeypatch.setattr(losses, "gram", lambda f: seen.append(f.dtype) or original(f))
    update(*batch(0))
    assert seen == [torch.float32] * len(LAYERS)


def test_the_descriptors_convolutions_do_round_in_bf16():
    update, _, _ = made(bf16=True)
    features = update.objective.features(batch(0)[0])["relu3_1"]
    assert features.dtype == torch.float32
    assert torch.equal(features, features.bfloat16().float())
    exact, _, _ = made()
    assert not torch.equal(features, exact.objective.features(batch(0)[0])["relu3_1"])


def test_channels_last_changes_rounding_alone():
    exact, _ = steps(3)
    other, _ = steps(3, channels_last=False)
    torch.testing.assert_close(other, exact, rtol=1e-3, atol=1e-6)
    _, net, _ = made()
    assert net.body[-1].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_graph_is_for_cuda_alone():
    update, _, adam = made(graph=True)
    assert not update.graphed
    assert isinstance(adam.param_groups[0]["lr"], float)
    exact, weights = steps(WARM_UP + 2)
    same, as_before = steps(WARM_UP + 2, graph=True)
    assert torch.equal(exact, same)
    assert all(torch.equal(weights[name], as_before[name]) for name in weights)


def test_tf32_is_for_convolutions_alone_and_fp32_has_none():
    for precision, wanted in (("tf32", True), ("fp32", False), ("bf16", False)):
        runtime.prepare("cpu", 1, precision)
        assert torch.backends.cudnn.allow_tf32 == wanted
        assert not torch.backends.cuda.matmul.allow_tf32
    runtime.prepare("cpu", 1)


def test_what_was_prepared_for_one_run_does_not_stay_for_the_next():
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    runtime.prepare("cpu", 1)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark


def test_rounding_shares_everything_but_itself():
    update, _, _ = made()
    exact = update.objective
    rounded = exact.rounded()
    assert (exact.bf16, rounded.bf16) == (False, True)
    assert rounded.descriptor is exact.descriptor and rounded.texture is exact.texture


def test_measuring_is_in_fp32_whatever_the_training_was():
    """Held-out objective, scores and the table of speed all take their objective here."""
    run = training(precision="bf16")
    assert not objective_of(run, torch.device("cpu")).bf16


def training(**acceleration):
    return config.Training(
        name="net",
        seed=0,
        descriptor=config.Descriptor("random"),
        generator=config.StyleNet(width=4, blocks=1),
        objective=config.Objective(style_layers=("relu1_1",), content_layers=("relu1_1",)),
        optimiser=config.Optimiser(iterations=6, batch=2, decay_every=2),
        images=config.Images(style="ihc", style_size=32, size=16, heldout_size=16),
        heldout_every=3,
        checkpoint_every=3,
        acceleration=Acceleration(**acceleration),
    )


def test_loaders_change_no_byte(tmp_path):
    for name, loaders in (("none", 0), ("three", 3)):
        train(training(loaders=loaders), tmp_path / name / "model.safetensors", torch.device("cpu"))
    images = [(tmp_path / name / "samples.png").read_bytes() for name in ("none", "three")]
    assert images[0] == images[1]


# On a GPU: the same numbers as on the CPU, within tolerances.


@needs_cuda
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_cuda_agrees_with_the_cpu(norm):
    runtime.prepare("cuda", 1)
    exact, weights = steps(5, norm=norm)
    found, theirs = steps(5, "cuda", norm=norm)
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-2, atol=5e-3)


@needs_cuda
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_replayed_graph_agrees_with_single_kernels(norm, bf16, channels_last, compiled):
    runtime.prepare("cuda", 1, "bf16" if bf16 else "fp32")
    count, how = WARM_UP + 6, {"norm": norm, "bf16": bf16, "channels_last": channels_last}
    plain, weights = steps(count, "cuda", **how)
    graphed, theirs = steps(count, "cuda", **how, graph=True, compile=compiled)
    torch.testing.assert_close(graphed, plain, rtol=2e-2 if bf16 else 1e-3, atol=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(theirs[name], value, rtol=2e-2, atol=5e-3)


@needs_cuda
def test_tf32_is_near_fp32():
    runtime.prepare("cuda", 1, "fp32")
    exact, _ = steps(5, "cuda")
    runtime.prepare("cuda", 1, "tf32")
    rounded, _ = steps(5, "cuda")
    # Of the same weights; afterwards training itself makes more of every rounding.
    torch.testing.assert_close(rounded[0, :3], exact[0, :3], rtol=0.005, atol=0)


@needs_cuda
def test_a_graphed_training_follows_its_schedule_and_resumes(tmp_path, monkeypatch):
    """The rate lives on the device: a captured one would stay what it was."""
    device = runtime.prepare("cuda", 1)

    def losses_of(name):
        rows = read_table(tmp_path / name / "history.csv")
        return [float(row["loss"]) for row in rows]

    run = dataclasses.replace(
        training(graph=True),
        optimiser=config.Optimiser(iterations=12, batch=2, decay_every=4),
        checkpoint_every=3,
    )
    plain = dataclasses.replace(run, acceleration=Acceleration())
    train(plain, tmp_path / "plain" / "model.safetensors", device)
    train(run, tmp_path / "graph" / "model.safetensors", device)
    assert losses_of("graph") == pytest.approx(losses_of("plain"), rel=1e-3)

    def interrupt(step):
        if step.iteration == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "again" / "model.safetensors", device, interrupt)
    seen = []
    model = tmp_path / "again" / "model.safetensors"
    train(run, model, device, lambda step: seen.append(step.iteration))
    assert seen[0] == 7, "it began at its checkpoint"
    assert losses_of("again") == pytest.approx(losses_of("plain"), rel=1e-3)
