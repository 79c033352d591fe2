"""Training: it learns, it repeats itself to the bit, it resumes, it stops at NaN."""

import csv
import dataclasses

import pytest
import torch

from texnet import config, training
from texnet.artifacts import read_tensors, sha256
from texnet.errors import DataError, DivergenceError
from texnet.training import load_generator, train

CPU = torch.device("cpu")


def run(**changes):
    settings = {
        "name": "tiny",
        "seed": 0,
        "descriptor": {"name": "random"},
        "generator": {"norm": "instance", "width": 4, "blocks": 1},
        "objective": {"style_layers": ["relu1_1", "relu2_1"], "content_layers": ["relu2_1"]},
        "optimiser": {"iterations": 6, "batch": 2, "lr": 3e-3},
        "images": {
            "style": "ihc",
            "style_size": 32,
            "size": 16,
            "heldout_size": 16,
            "contents": ["rocket", "coffee"],
            "heldout": ["chelsea", "flower"],
        },
        "device": "cpu",
        "heldout_every": 2,
        "checkpoint_every": 2,
    }
    for key, value in changes.items():
        settings[key] = settings[key] | value if isinstance(value, dict) else value
    return config.parse(config.Training, settings, "test")


def history(out):
    with (out.parent / "history.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_loss_falls(tmp_path):
    out = tmp_path / "model.safetensors"
    train(run(optimiser={"iterations": 40}), out, CPU)
    losses = [float(row["loss"]) for row in history(out)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_history_has_a_row_an_iteration_and_heldout_values_when_due(tmp_path):
    out = tmp_path / "model.safetensors"
    train(run(), out, CPU)
    rows = history(out)
    assert [int(r["iteration"]) for r in rows] == [1, 2, 3, 4, 5, 6]
    assert [bool(r["heldout"]) for r in rows] == [False, True] * 3
    for r in rows:
        parts = float(r["texture"]) + float(r["content"]) + float(r["tv"])
        assert float(r["loss"]) == pytest.approx(parts, rel=1e-5)
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.safetensors",
        "history.csv",
        "samples.png",
    }


def test_same_run_same_bytes_and_no_use_of_global_randomness(tmp_path):
    outs = [tmp_path / name / "model.safetensors" for name in "ab"]
    for i, out in enumerate(outs):
        torch.manual_seed(i)
        train(run(), out, CPU)
    assert sha256(outs[0]) == sha256(outs[1])
    other = tmp_path / "c" / "model.safetensors"
    train(run(seed=1), other, CPU)
    assert sha256(other) != sha256(outs[0])


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("stop", [3, 4, 6])
def test_interrupted_and_resumed_is_never_interrupted(tmp_path, norm, stop):
    """Stopped after any iteration: the checkpoint's past is redone, the weights end equal."""
    r = run(generator={"norm": norm})
    whole, broken = tmp_path / "a" / "model.safetensors", tmp_path / "b" / "model.safetensors"
    train(r, whole, CPU)
    with pytest.raises(Stopped):
        train(r, broken, CPU, stop_at(stop))
    assert not broken.exists()
    seen = []
    train(r, broken, CPU, lambda step: seen.append(step.iteration))
    assert seen[0] == (stop - 1) // 2 * 2 + 1
    assert sha256(whole) == sha256(broken)
    losses = [[row["loss"] for row in history(out)] for out in (whole, broken)]
    assert losses[0] == losses[1]


class Stopped(Exception):
    pass


def stop_at(iteration):
    def interrupt(step):
        if step.iteration == iteration:
            raise Stopped

    return interrupt


def test_damaged_checkpoint_is_named(tmp_path):
    r, out = run(), tmp_path / "model.safetensors"
    with pytest.raises(Stopped):
        train(r, out, CPU, stop_at(3))
    (kept,) = tmp_path.glob("checkpoint-*.pt")
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"checkpoint-[\w-]+\.pt: damaged checkpoint .* delete it"):
        train(r, out, CPU)


@pytest.mark.parametrize("other", ["lr", "style", "code"])
def test_checkpoint_of_something_else_is_not_taken(tmp_path, monkeypatch, other):
    """Another configuration, another picture under the same name, another version of the code."""
    from texnet.data import load_image, write_image

    style = tmp_path / "style.png"
    write_image(style, load_image("ihc"))
    r, out = run(images={"style": str(style)}), tmp_path / "model.safetensors"
    with pytest.raises(Stopped):
        train(r, out, CPU, stop_at(3))
    if other == "lr":
        r = run(images={"style": str(style)}, optimiser={"lr": 1e-3})
    elif other == "style":
        write_image(style, load_image("hubble"))
    else:
        monkeypatch.setattr(training, "digest", lambda module: "other")
    seen = []
    train(r, out, CPU, lambda step: seen.append(step.iteration))
    assert seen[0] == 1


def test_in_and_bn_see_the_same_batches(tmp_path, monkeypatch):
    seen = {"instance": [], "batch": []}
    original = training.ContentCrops.__call__

    for norm, batches in seen.items():

        def spy(self, iteration, batches=batches):
            batches.append(original(self, iteration))
            return batches[-1]

        monkeypatch.setattr(training.ContentCrops, "__call__", spy)
        train(run(generator={"norm": norm}), tmp_path / norm / "model.safetensors", CPU)
    assert len(seen["batch"]) == 6
    for a, b in zip(seen["instance"], seen["batch"], strict=True):
        assert torch.equal(a, b)


def test_nan_stops_names_term_and_iteration_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    original = training.Objective.forward
    calls = 0

    def poisoned(self, images, targets):
        nonlocal calls
        terms = original(self, images, targets)
        calls += torch.is_grad_enabled()
        if calls == 5 and torch.is_grad_enabled():
            terms = dataclasses.replace(terms, content=terms.content * float("nan"))
        return terms

    monkeypatch.setattr(training.Objective, "forward", poisoned)
    r, out = run(), tmp_path / "model.safetensors"
    with pytest.raises(DivergenceError, match="iteration 5: the content term is nan"):
        train(r, out, CPU)
    assert not out.exists()
    (checkpoint,) = tmp_path.glob("checkpoint-*.pt")
    kept = torch.load(checkpoint, weights_only=True)
    assert kept["iteration"] == 4
    assert all(v.isfinite().all() for v in kept["net"].values())


def test_a_model_carries_its_run(tmp_path):
    out = tmp_path / "model.safetensors"
    r = run(generator={"norm": "batch"})
    train(r, out, CPU)
    net, found = load_generator(out)
    assert found == r and not net.training
    _, metadata = read_tensors(out)
    assert float(metadata["final_objective"]) == pytest.approx(float(history(out)[-1]["loss"]))


def test_noise_is_a_function_of_seed_and_iteration():
    content = torch.zeros(2, 3, 4, 4)
    a, b = training.NoiseStream(3, 0), training.NoiseStream(3, 0)
    b(content, 7)
    assert torch.equal(a(content, 5), b(content, 5))
    assert not torch.equal(a(content, 5), a(content, 6))
    assert not torch.equal(a(content, 5), training.NoiseStream(3, 1)(content, 5))
    assert training.NoiseStream(0, 0)(content, 5) is None
    sample = a(torch.zeros(64, 3, 32, 32), 1)
    assert 0 <= sample.min() and sample.max() < 1 and abs(sample.mean() - 0.5) < 0.01
