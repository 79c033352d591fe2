"""Training: it learns, it repeats itself to the bit, it resumes, it stops at NaN."""

import csv
import dataclasses
import functools
import json
import re

import pytest
import torch

from texnet import checkpoints, config, generators, training
from texnet.artifacts import read_tensors, sha256
from texnet.data import load_image, read_image, write_image
from texnet.errors import DataError, DivergenceError, UnfinishedError, WriteError
from texnet.training import load_generator, train

CPU = torch.device("cpu")
read_once = functools.cache(training.digest)


@pytest.fixture(autouse=True)
def digest_of_the_sources_is_computed_once(monkeypatch):
    """It takes as long as a training of this size."""
    monkeypatch.setattr(training, "digest", read_once)


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


SKIP = {"name": "skip", "norm": "batch", "width": 2}
V1 = {"name": "texturenet_v1", "width": 2}
V2 = {"name": "texturenet_v2", "width": 4, "latent": 8}


def texture(generator=V2, optimiser=None, images=None, **objective):
    """A small run without content; the weight brings the large random features to a loss of 20."""
    described = config.to_json(run(optimiser=optimiser or {}))
    described["generator"] = generator
    weights = {"style_weight": 1e-4, "content_weight": 0, "diversity_weight": 0.1}
    described["objective"] |= weights | objective
    described["images"] = {"exemplar": "gravel", "exemplar_size": 32, "size": 32} | (images or {})
    return config.parse(config.Training, described, "test")


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


@pytest.mark.parametrize("name", ["skip", "texturenet_v1"])
def test_other_stylizers_train_resume_and_carry_their_run(tmp_path, name):
    """On a fixed number of crops: whole and interrupted, to the same bytes."""
    described = config.to_json(run(images={"size": 32, "heldout_size": 40, "crops": 3}))
    described["generator"] = {"skip": SKIP, "texturenet_v1": V1}[name]
    r = config.parse(config.Training, described, "test")
    whole, broken = tmp_path / "a" / "model.safetensors", tmp_path / "b" / "model.safetensors"
    train(r, whole, CPU)
    with pytest.raises(Stopped):
        train(r, broken, CPU, stop_at(4))
    train(r, broken, CPU)
    assert sha256(whole) == sha256(broken)
    assert [row["loss"] for row in history(whole)] == [row["loss"] for row in history(broken)]
    net, found = load_generator(whole)
    assert not net.training and not any(each.requires_grad for each in net.parameters())
    assert found == r and not net.training
    content = torch.rand(1, 3, 40, 50)
    noise = [torch.rand(shape) for shape in net.noise_shapes(1, 40, 50)]
    assert net(content, noise).shape == content.shape


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
    (kept,) = tmp_path.glob("checkpoint-*")
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"checkpoint-\w+: damaged checkpoint .* delete it"):
        train(r, out, CPU)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    r = run()
    whole, broken = tmp_path / "a" / "model.safetensors", tmp_path / "b" / "model.safetensors"
    train(r, whole, CPU)
    with pytest.raises(Stopped):
        train(r, broken, CPU, stop_at(5))
    newest, previous = sorted(broken.parent.glob("checkpoint-*"))
    assert previous.suffix == ".previous"
    content = bytearray(newest.read_bytes())
    content[-1000] ^= 1
    newest.write_bytes(content)
    seen = []
    train(r, broken, CPU, lambda step: seen.append(step.iteration))
    assert seen[0] == 3
    assert "content is not what was written); taking the one before" in caplog.text
    assert sha256(whole) == sha256(broken)


def test_a_checkpoint_that_was_taken_up_is_not_replaced_by_a_damaged_one(tmp_path):
    """Damaged, fallen back from, saved again: what is kept then is whole, and twice there."""
    checkpoint = checkpoints.Checkpoint(tmp_path, {"run": 1}, CPU)
    for iteration in (1, 2):
        checkpoint.save({"iteration": iteration})
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-9])
    assert checkpoint.restore() == {"iteration": 1}
    checkpoint.save({"iteration": 3})
    assert checkpoint.restore() == {"iteration": 3}
    checkpoint.path.unlink()
    assert checkpoint.restore() == {"iteration": 1}
    checkpoint.save({"iteration": 4})
    checkpoint.path.replace(checkpoint.new)  # killed before it was put in its place
    assert checkpoint.restore() == {"iteration": 4}


@pytest.mark.parametrize("other", ["torch", "processor", "device"])
def test_another_machine_is_named(tmp_path, monkeypatch, caplog, other):
    checkpoint = checkpoints.Checkpoint(tmp_path, {"run": 1}, CPU)
    checkpoint.save({"iteration": 1})
    assert checkpoint.restore() and not caplog.text
    here = checkpoints.made_by(CPU)
    monkeypatch.setattr(checkpoints, "made_by", lambda device: here | {other: "another"})
    assert checkpoint.restore() == {"iteration": 1}
    assert (
        f"was made with another {other} ({here[other]!r}, here 'another'): goes on" in caplog.text
    )


def test_a_checkpoint_that_cannot_be_read_again_leaves_the_older_ones(tmp_path, monkeypatch):
    checkpoint = checkpoints.Checkpoint(tmp_path, {"run": 1}, CPU)
    checkpoint.save({"iteration": 1})
    whole = checkpoint.path.read_bytes()
    monkeypatch.setattr(checkpoints, "write_bytes", lambda path, content: path.write_bytes(b"{"))
    with pytest.raises(WriteError, match=r"\.new: cannot be read again .* the disk fails"):
        checkpoint.save({"iteration": 2})
    assert checkpoint.path.read_bytes() == whole


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(95, "not supported")])
def test_a_file_system_without_locks_is_told_and_worked_on(tmp_path, monkeypatch, caplog, error):
    def acquire(self, timeout=None, **more):
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    with checkpoints.alone(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()
    assert "cannot be locked" in caplog.text and "going on without" in caplog.text


def test_checkpoints_in_a_folder_of_their_own(tmp_path, monkeypatch):
    """As in a pod, whose results go with it."""
    monkeypatch.setenv("TEXNET_CHECKPOINTS", str(tmp_path / "volume"))
    for lr in (1e-3, 2e-3):
        with pytest.raises(Stopped):
            train(run(optimiser={"lr": lr}), tmp_path / "pod" / "m.safetensors", CPU, stop_at(5))
    assert not (tmp_path / "pod").exists() or not list((tmp_path / "pod").iterdir())
    seen = []
    out = tmp_path / "other pod" / "m.safetensors"
    train(run(optimiser={"lr": 1e-3}), out, CPU, lambda step: seen.append(step.iteration))
    assert seen[0] == 5
    assert len(list((tmp_path / "volume").iterdir())) == 2  # the other's two
    with checkpoints.alone(tmp_path / "pod"):
        assert (tmp_path / "volume" / ".pod.lock").exists()


def test_stops_when_asked_and_goes_on_to_the_same_weights(tmp_path, caplog):
    """After any iteration, not only where a checkpoint is due."""
    r = run()
    whole, broken = tmp_path / "a" / "model.safetensors", tmp_path / "b" / "model.safetensors"
    train(r, whole, CPU)
    for stop in (1, 3, 5):
        seen = []

        def step(step, seen=seen):
            seen.append(step.iteration)

        with pytest.raises(
            UnfinishedError, match=rf"by SIGX after iteration {stop} of 6, which .*"
        ):
            train(r, broken, CPU, step, lambda stop=stop, seen=seen: seen[-1] == stop and "SIGX")
        assert seen[0] == max(1, stop - 1)
        assert not broken.exists()
    train(r, broken, CPU, lambda step: None, lambda: "SIGX")
    assert sha256(whole) == sha256(broken)
    assert "going on after iteration 5" in caplog.text
    assert {p.name for p in broken.parent.iterdir()} == {p.name for p in whole.parent.iterdir()}


@pytest.mark.parametrize("other", ["lr", "style", "code"])
def test_checkpoint_of_something_else_is_not_taken(tmp_path, monkeypatch, caplog, other):
    """Another configuration, another picture under the same name, another version of the code."""
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
    named = {"lr": r"run\.optimiser\.lr \(0\.003, here 0\.001\)", "style": "images", "code": "code"}
    assert re.search(rf"is of another {named[other]}.*: not taken; delete it", caplog.text)


def test_a_checkpoint_under_the_name_of_another_is_refused(tmp_path):
    for r, folder in ((run(), "a"), (run(optimiser={"lr": 1e-3}), "b")):
        with pytest.raises(Stopped):
            train(r, tmp_path / folder / "model.safetensors", CPU, stop_at(3))
    (theirs,), (ours,) = (list((tmp_path / f).glob("checkpoint-*")) for f in "ab")
    theirs.replace(ours)
    with pytest.raises(
        DataError, match=r"it is of another run\.optimiser\.lr \(0\.003, here 0\.001"
    ):
        train(run(optimiser={"lr": 1e-3}), tmp_path / "b" / "model.safetensors", CPU)


def test_in_and_bn_see_the_same_batches(tmp_path, monkeypatch):
    seen = {"instance": [], "batch": []}
    original = training.Inputs.__call__

    for norm, batches in seen.items():

        def spy(self, iteration, batches=batches):
            content, noise = original(self, iteration)
            batches.append(content)
            return content, noise

        monkeypatch.setattr(training.Inputs, "__call__", spy)
        train(run(generator={"norm": norm}), tmp_path / norm / "model.safetensors", CPU)
    assert len(seen["batch"]) == 6
    for a, b in zip(seen["instance"], seen["batch"], strict=True):
        assert torch.equal(a, b)


def test_nan_stops_names_term_and_iteration_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    original = training.Objective.forward
    calls = 0

    def poisoned(self, images, targets, **options):
        nonlocal calls
        terms = original(self, images, targets, **options)
        calls += torch.is_grad_enabled()
        if calls == 5 and torch.is_grad_enabled():
            terms = dataclasses.replace(terms, content=terms.content * float("nan"))
        return terms

    monkeypatch.setattr(training.Objective, "forward", poisoned)
    r, out = run(), tmp_path / "model.safetensors"
    with pytest.raises(DivergenceError, match="iteration 5: the content term is nan"):
        train(r, out, CPU)
    assert not out.exists()
    (path,) = tmp_path.glob("checkpoint-????????????????")
    made_of = json.loads(path.read_bytes().split(b"\n")[1])["made_of"]
    kept = checkpoints.Checkpoint(tmp_path, made_of, CPU).restore()
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


@pytest.mark.parametrize("generator", [V1, V2], ids=["v1", "v2"])
def test_the_loss_of_a_texture_falls(tmp_path, generator):
    out = tmp_path / "model.safetensors"
    train(texture(generator, {"iterations": 20, "lr": 1e-2}), out, CPU)
    rows = history(out)
    for column in ("loss", "texture"):
        values = [float(row[column]) for row in rows]
        assert sum(values[-5:]) < 0.7 * sum(values[:5])
    assert float(rows[-1]["heldout"]) < 0.3 * float(rows[0]["loss"])


def test_history_of_a_texture_has_its_diversity(tmp_path):
    """-lambda ln rho, with rho of order 1 over 3072 pixel values."""
    out = tmp_path / "model.safetensors"
    train(texture(), out, CPU)
    for row in history(out):
        parts = float(row["texture"]) + float(row["diversity"])
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-5)
        assert float(row["content"]) == float(row["tv"]) == 0
        assert 0 < abs(float(row["diversity"])) < 0.1 * 6.9  # of copies: 0.1 * ln 1000
    assert read_image(tmp_path / "samples.png").shape == (3, 2 * 34 + 2, 4 * 34 + 2)
    train(texture(diversity_weight=0), out, CPU)
    assert {float(row["diversity"]) for row in history(out)} == {0.0}


def test_a_larger_diversity_weight_spreads_the_samples(tmp_path):
    spread = []
    for weight in (0.0, 1.0):
        out = tmp_path / f"{weight}.safetensors"
        train(texture(optimiser={"iterations": 12, "lr": 1e-2}, diversity_weight=weight), out, CPU)
        net, r = load_generator(out)
        assert r.objective.diversity_weight == weight
        with torch.no_grad():
            a, b = net(None, [torch.tensor([[1.0] * 8, [-1.0] * 8])])
        spread.append((a - b).norm())
    assert spread[1] > 1.1 * spread[0]


@pytest.mark.parametrize("generator", [V1, V2], ids=["v1", "v2"])
def test_a_texture_interrupted_and_resumed_is_never_interrupted(tmp_path, generator):
    r = texture(generator, {"iterations": 4})
    whole, broken = tmp_path / "a" / "model.safetensors", tmp_path / "b" / "model.safetensors"
    train(r, whole, CPU)
    with pytest.raises(Stopped):
        train(r, broken, CPU, stop_at(4))
    seen = []
    train(r, broken, CPU, lambda step: seen.append(step.iteration))
    assert seen == [3, 4]
    assert sha256(whole) == sha256(broken)
    columns = [[(row["loss"], row["diversity"]) for row in history(out)] for out in (whole, broken)]
    assert columns[0] == columns[1]


@pytest.mark.parametrize("generator", [V1, V2], ids=["v1", "v2"])
def test_same_texture_same_bytes(tmp_path, generator):
    outs = [tmp_path / name / "model.safetensors" for name in "abc"]
    for i, out in enumerate(outs):
        torch.manual_seed(i)
        r = texture(generator, {"iterations": 2})
        train(r if i < 2 else dataclasses.replace(r, seed=1), out, CPU)
    assert sha256(outs[0]) == sha256(outs[1]) != sha256(outs[2])


@pytest.mark.parametrize("generator", [V1, V2], ids=["v1", "v2"])
def test_a_texture_network_carries_its_run(tmp_path, generator):
    out, r = tmp_path / "model.safetensors", texture(generator, {"iterations": 2})
    train(r, out, CPU)
    net, found = load_generator(out)
    assert found == r and not net.training
    noise = [torch.rand(shape) for shape in net.noise_shapes(2, 32, 32)]
    assert net(None, noise).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("convention", ["paper", "authors_code"])
def test_a_generator_that_ignores_its_noise_is_stopped(tmp_path, monkeypatch, convention):
    original = generators.initialise

    def deaf(net, seed):
        original(net, seed)
        torch.nn.init.zeros_(net.full[0].weight)

    monkeypatch.setattr(generators, "initialise", deaf)
    out = tmp_path / "model.safetensors"
    with pytest.raises(DivergenceError, match="iteration 1: the diversity term does not act"):
        train(texture(convention=convention), out, CPU)
    assert not out.exists()
    train(texture(diversity_weight=0), out, CPU)
    assert out.exists()


def test_only_copies_are_stopped_by_the_diversity_term(tmp_path):
    """Eq. 10 with lambda 1 and its floor at 1/1000: of copies the term is ln 1000."""
    copies = 6.907755

    def logged(diversity):
        values = torch.tensor([0.5, 0.5, 0.0, 0.0, diversity])
        return training.logged([(9, 0.1, values)], tmp_path / "none.pt", copies)

    assert logged(copies - 0.1)[0][:3] == [9, 0.1, 0.5]
    assert logged(-3.0)[0][-1] is None
    with pytest.raises(DivergenceError, match=r"iteration 9: .* does not act: all samples"):
        logged(copies)
    with pytest.raises(DivergenceError, match="the diversity term is nan; checkpoint: none;"):
        logged(float("nan"))


def test_a_flat_exemplar_is_refused(tmp_path):
    path, out = tmp_path / "flat.png", tmp_path / "model.safetensors"
    write_image(path, torch.tensor([0.2, 0.5, 0.7])[:, None, None].expand(3, 40, 40))
    with pytest.raises(
        DataError, match=r"exemplar '.*flat\.png' is flat .* use another"
    ) as refused:
        train(texture(images={"exemplar": str(path)}), out, CPU)
    assert "\n" not in str(refused.value) and not out.exists()


def test_an_exemplar_smaller_than_its_samples_is_refused(tmp_path):
    path, out = tmp_path / "small.png", tmp_path / "model.safetensors"
    write_image(path, torch.rand(3, 31, 64))
    with pytest.raises(DataError, match="shorter side has 31 pixels, samples have 32") as refused:
        train(texture(images={"exemplar": str(path), "exemplar_size": 80}), out, CPU)
    assert "\n" not in str(refused.value) and not out.exists()
