"""Distillation: balancing changes no function, R² has known values, the student learns."""

import json

import numpy as np
import pytest
import torch

from texnet.artifacts import read_tensors, sha256
from texnet.data import write_image
from texnet.descriptors import WIDTHS, Descriptor, initialise, load
from texnet.distillation import (
    DISTILLED_LAYERS,
    Readouts,
    Settings,
    augmented_crop,
    balance,
    distil,
    explained,
    publish,
)


@pytest.fixture(scope="module")
def teacher():
    net = Descriptor(WIDTHS["vgg19"], DISTILLED_LAYERS)
    initialise(net, torch.Generator().manual_seed(3))
    return net.eval()


def student_and_readouts(seed=0):
    rng = torch.Generator().manual_seed(seed)
    student = Descriptor(WIDTHS["vgg19_lite"], DISTILLED_LAYERS)
    initialise(student, rng)
    return student, Readouts(DISTILLED_LAYERS, rng)


@torch.no_grad()
def test_balancing_keeps_what_the_readouts_compute():
    student, readouts = student_and_readouts()
    image = torch.rand(1, 3, 32, 32)
    before = {k: readouts[k](f) for k, f in student(image).items()}
    balance(student, readouts)
    after = {k: readouts[k](f) for k, f in student(image).items()}
    for layer in DISTILLED_LAYERS:
        torch.testing.assert_close(after[layer], before[layer], rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(
            readouts[layer].weight.square().sum((0, 2, 3)),
            torch.full((readouts[layer].in_channels,), 16.0),
        )


@torch.no_grad()
def test_r2_of_a_perfect_and_of_a_constant_readout(teacher):
    """A teacher that the readouts reproduce exactly has R² 1; predicting nothing has at most 0."""
    student, readouts = student_and_readouts()
    images = [torch.rand(3, 32, 32) for _ in range(2)]

    class Reproduced:
        def __call__(self, image):
            return {k: readouts[k](f) for k, f in student(image).items()}

    r2 = explained(Reproduced(), student, readouts, images)
    assert all(v == pytest.approx(1) for v in r2.values())
    for readout in readouts.values():
        readout.weight.zero_()
        readout.bias.zero_()
    r2 = explained(teacher, student, readouts, images)
    assert all(v <= 0 for v in r2.values())


def test_a_few_steps_explain_more(teacher, tmp_path):
    rng = torch.Generator().manual_seed(0)
    images = [torch.rand((3, 40, 48), generator=rng) for _ in range(2)]
    settings = Settings(steps=30, batch=2, size=24, lr=1e-2)
    seen = []
    distil(teacher, images, settings, on_step=lambda step, shares: seen.append(shares["relu1_1"]))
    assert np.mean(seen[-5:]) < 0.8 * np.mean(seen[:5])


def test_what_is_published_says_where_it_comes_from_and_is_the_student(teacher, tmp_path):
    """Nine images, of which every eighth is held out; the weights at half precision."""
    photos, out = tmp_path / "photos", tmp_path / "lite.safetensors"
    rng = torch.Generator().manual_seed(0)
    for i in range(9):
        write_image(photos / f"{i}.png", torch.rand((3, 16, 160), generator=rng))
    source = tmp_path / "teacher.safetensors"
    source.write_bytes(b"whatever")
    student, readouts = student_and_readouts()
    settings = Settings(steps=3, seed=5)
    r2 = publish(source, teacher, student, readouts, [photos], out, settings, "a note")
    assert list(r2) == list(DISTILLED_LAYERS) and max(r2.values()) < 1
    _, told = read_tensors(out)
    assert told["images"] == "7 images of photos"
    assert told["heldout"] == "2 images, every 8th by path"
    assert json.loads(told["r2"]) == {layer: round(value, 4) for layer, value in r2.items()}
    assert json.loads(told["teacher_sha256"]) == {"teacher.safetensors": sha256(source)}
    assert json.loads(told["settings"])["steps"] == 3 and told["teacher"].endswith("a note")
    assert "--teacher teacher.safetensors --images photos --steps 3 --seed 5" in told["command"]
    loaded = load("vgg19_lite", DISTILLED_LAYERS, weights=out, checksum=sha256(out))
    image = torch.rand((1, 3, 16, 16), generator=rng)
    for layer, features in loaded(image).items():
        assert torch.equal(features, student(image)[layer])


def test_views_have_the_size_and_come_from_the_generator():
    image = torch.rand(3, 50, 70)
    a, b = (augmented_crop(image, 32, np.random.default_rng(4)) for _ in range(2))
    assert a.shape == (3, 32, 32) and torch.equal(a, b)
