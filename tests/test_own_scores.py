"""``texnet score``: models and pictures of whatever origin, measured side by side."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import picture
from test_cli import call, refused, workplace  # noqa: F401 (fixture)

from texnet import config, data, generators, own, own_compared, own_scores, scoring, training
from texnet.artifacts import read_tensors, sha256, write_tensors
from texnet.inputs import HELDOUT_SEED, NoiseStream, sample_group
from texnet.losses import content_loss
from texnet.networks import StyleNet, TextureNetV1, TextureNetV2

CPU = torch.device("cpu")
DIVERSITY = ("pairwise_pixels", "pairwise_features", "vendi", "neighbour_entropy")
OPTIONS = ("--threads", 1, "--device", "cpu")
PLAIN = (*OPTIONS, "--descriptor", "random", "-n", 8)
LAYERS = ("relu1_1", "relu2_1")


def folder(name, count, side=40):
    for number in range(count):
        picture(f"{name}/{number:02d}.png", side, side, seed=number)
    return Path(name)


def saved(path, run, seed=0, scale=1.0):
    """A generator that was not trained; scaled so that it leaves [0, 1] where that is above 1."""
    net = generators.build(run.generator, seed, run.images)
    if scale != 1:
        with torch.no_grad():
            list(net.parameters())[-2].mul_(scale)
    training.save_generator(Path(path), net, run)
    return training.load_generator(Path(path))[0]


def texture_run(exemplar="wool.png", size=64, generator=None, exemplar_size=100):
    return config.Training(
        name="wool",
        seed=0,
        descriptor=config.Descriptor(name="random"),
        generator=generator or TextureNetV1(name="texturenet_v1", norm="instance"),
        objective=config.Objective(style_layers=LAYERS, style_weight=3.0, content_weight=0.0),
        optimiser=config.Optimiser(iterations=1, batch=1),
        images=config.Texture(exemplar=exemplar, exemplar_size=exemplar_size, size=size),
    )


def measurement(images):
    """As those of the texture network, of any size."""
    return own_compared.measurement(texture_run(), images, own.Choices())


def style_run(heldout_size=64, **objective):
    weights = {"style_weight": 4.0, "content_weight": 5.0} | objective
    return config.Training(
        name="paint",
        seed=0,
        descriptor=config.Descriptor(name="random"),
        generator=StyleNet(width=4, blocks=1),
        objective=config.Objective(style_layers=LAYERS, content_layers=("relu2_1",), **weights),
        optimiser=config.Optimiser(iterations=1, batch=1),
        images=config.Images(
            style="paint.png", style_size=48, size=32, heldout_size=heldout_size,
            contents=("chelsea",), heldout=("rocket",),
        ),
    )  # fmt: skip


@pytest.fixture
def texture():
    """A texture network whose samples leave [0, 1], in ``wool.safetensors``."""
    picture("wool.png", 100, 80)
    net = saved("wool.safetensors", texture_run(), scale=8)
    made = sample_group(net, 64, 0)
    assert made.min() < -0.05 and made.max() > 1.05
    return net


@pytest.fixture
def style():
    """A stylizer in ``paint.safetensors``, and what it is to be applied to."""
    picture("paint.png", 60, 60, seed=5)
    for number in range(2):
        picture(f"photos/{number}.png", 96, 72, seed=number)
    return saved("paint.safetensors", style_run(), scale=8)


def table(path="s.csv"):
    lines = csv.DictReader(Path(path).read_text().splitlines())
    return {(r["run"], r["metric"]): r for r in lines if r["seed"] == "all"}


def measured(capsys, *arguments):
    """The table of a command, its output and what it says."""
    code, out, err = call(capsys, "score", *arguments, "-o", "s.csv")
    assert code == 0, err
    return table(), out, err


def values(found, name):
    return {metric: (r["value"], r["n"], r["unit"]) for (run, metric), r in found.items()
            if run == name}  # fmt: skip


def of_meter(run, *groups):
    """Metrics of groups of images, each measured alone."""
    meter = scoring.TextureMeter(run, CPU)
    with torch.no_grad():
        return [{row.metric: row.value for row in meter("", 0, 0, images)} for images in groups]


def value(found, *key):
    return float(found[key]["value"])


# Textures


def test_a_model_has_the_numbers_of_its_own_pictures(capsys, texture):
    for group in range(2):
        for number, image in enumerate(sample_group(texture, 64, group)):
            data.write_image(Path(f"mine/{8 * group + number:02d}.png"), image)
    found, out, err = measured(capsys, "wool.safetensors", "mine", "-n", 16, *OPTIONS)
    assert values(found, "wool") == values(found, "mine")
    assert found["wool", "vendi"]["n"] == "2" and found["wool", "vendi"]["unit"] == "of 8"
    lines = out.splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:6]]
    assert names == ["mine", "wool", "crops", "repeated"] and lines[-1] == "s.csv"
    assert value(found, "repeated", "vendi") == pytest.approx(1)
    assert "left out" not in err


def test_samples_are_those_of_the_workflow(capsys, texture):
    inside = sample_group(texture, 64, 1).clamp(0, 1)
    found = own_scores.samples(texture, 64, 16)
    assert (found[8:] - inside).abs().max() <= 0.501 / 255
    # Those of one call for as many images with the held-out seed, group by group.
    noise = NoiseStream(texture, HELDOUT_SEED)(8, 64, 64, 1)
    with torch.no_grad():
        assert torch.equal(texture(None, noise), sample_group(texture, 64, 1))
    assert own_scores.samples(texture, 64, 3).equal(found[:3])


def test_names_are_apart(capsys):
    picture("e.png", 64, 64, seed=2)
    for name in ("a/model", "b/model", "c/x", "crops", "d/repeated", "lone"):
        folder(name, 1)
    picture("p/i.png", 40, 40, seed=3)
    shutil.copy("p/i.png", "p/i.jpg")
    given = ["a/model", "b/model", "c/x", "crops", "d/repeated", "lone", "p/i.png", "p/i.jpg"]
    found, _, _ = measured(capsys, *given, "--exemplar", "e.png", *PLAIN)
    here = Path.cwd().name
    wanted = {"a/model", "b/model", "x", f"{here}/crops", "d/repeated", "lone", "i.png", "i.jpg",
              "crops", "repeated"}  # fmt: skip
    assert {run for run, _ in found} == wanted
    assert found["a/model", "texture"]["n"] == "1"
    says = "lone: is named 2 times; name it once"
    refused(capsys, "score", "lone", "./lone", "--exemplar", "e.png", *PLAIN, says=says)
    assert own_compared.names([Path("u/v/m.png"), Path("w/v/m.png")]) == ["u/v/m", "w/v/m"]
    assert own_compared.names([Path("a/v1.2.png"), Path("a/v1.3.png")]) == ["v1.2", "v1.3"]


def test_twelve_pictures(capsys):
    picture("e.png", 64, 64, seed=2)
    folder("twelve", 12)
    found, _, err = measured(capsys, "twelve", "--exemplar", "e.png", *PLAIN)
    images = torch.stack([data.read_image(file) for file in sorted(Path("twelve").iterdir())])
    run = own_compared.texture_run(
        [own_compared.Given("twelve", Path("twelve"))],
        "e.png",
        own.Choices(descriptor="random"),
    )
    assert run.images.size == 40
    first, *single = of_meter(run, images[:8], *images.split(1))
    for metric in DIVERSITY:  # of the first eight, and of nothing else
        assert value(found, "twelve", metric) == pytest.approx(first[metric], rel=1e-5), metric
        assert found["twelve", metric]["n"] == "1"
    for metric in ("texture", "spotting", "low_pass_share", "texture_relu1_2"):
        mean = np.mean([values[metric] for values in single])
        assert value(found, "twelve", metric) == pytest.approx(mean, rel=1e-4), metric
    assert "twelve: 12 images, diversity is measured among 8: the last 4 left out of it\n" in err


def test_diversity_compares_groups_of_one_size(capsys, texture):
    folder("four", 4, 64), folder("other", 4, 64), folder("eight", 8, 64)
    found, _, err = measured(capsys, "wool.safetensors", "four", "eight", "-n", 12, *OPTIONS)
    assert "four: 4 images, diversity is measured among 8: left out of it\n" in err
    assert "wool: 12 images, diversity is measured among 8: the last 4 left out of it\n" in err
    assert "eight:" not in err
    for metric in DIVERSITY:
        assert ("four", metric) not in found
        assert all(found[name, metric]["n"] == "1" for name in ("wool", "eight", "crops"))
    assert ("four", "texture") in found
    assert {r["unit"] for (_, metric), r in found.items() if metric == "vendi"} == {"of 8"}
    # All of four: among four, the references too.
    found, _, err = measured(capsys, "four", "other", "--exemplar", "wool.png", *PLAIN)
    assert {r["unit"] for (_, metric), r in found.items() if metric == "vendi"} == {"of 4"}
    assert "left out" not in err and ("four", "vendi") in found and ("crops", "vendi") in found
    assert len({r["unit"] for (_, m), r in found.items() if m in DIVERSITY}) == len(DIVERSITY)


def test_single_images_have_no_diversity(capsys):
    picture("a.png", 40, 48, seed=1)
    picture("e.png", 64, 64, seed=2)
    _, out, _ = measured(capsys, "a.png", "--exemplar", "e.png", *PLAIN)
    row = next(line for line in out.splitlines() if line.startswith("| a "))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    names = [cell.strip() for cell in out.splitlines()[0].split("|")[2:-1]]
    assert [bool(c) for c in cells] == [n not in DIVERSITY for n in names]


def test_pictures_are_compared_by_their_centres(capsys):
    image = data.read_image(picture("e.png", 80, 64, seed=2))
    data.write_image(Path("large.png"), image[:, 4:60, 6:66])
    data.write_image(Path("small.png"), image[:, 12:52, 16:56])
    found, _, _ = measured(capsys, "large.png", "small.png", "--exemplar", "e.png", *PLAIN)
    assert values(found, "large") == values(found, "small")
    assert torch.equal(own_scores.centre(Path("large.png"), 40), image[:, 12:52, 16:56])


def test_an_exemplar_of_the_size_of_a_sample_has_no_crops(capsys):
    picture("a.png", 48, 48, seed=1)
    picture("e.png", 48, 48, seed=2)
    command = ("score", "a.png", "--exemplar", "e.png", *PLAIN)
    code, out, err = call(capsys, *command)
    assert code == 0 and "e.png: has the size of a sample, so that all its crops are one" in err
    assert "crops" not in out
    assert "| crops " in call(capsys, *command, "--size", 40)[1]


def test_sizes_of_a_model_can_be_chosen(capsys, texture):
    found, _, _ = measured(
        capsys, "wool.safetensors", "-n", 8, "--size", 48, "--exemplar-size", 90, *OPTIONS
    )
    run = measurement(config.Texture("wool.png", 90, 48))
    made = own_scores.as_saved(sample_group(texture, 48, 0))
    (wanted,) = of_meter(run, made)
    assert value(found, "wool", "texture") == pytest.approx(wanted["texture"], rel=1e-5)
    (other,) = of_meter(measurement(config.Texture("wool.png", 100, 48)), made)
    assert wanted["texture"] != pytest.approx(other["texture"], rel=1e-3)


def test_the_exemplar_is_the_one_that_was_trained_on(capsys, texture):
    tensors, metadata = read_tensors(Path("wool.safetensors"))
    metadata["exemplar_sha256"] = sha256(Path("wool.png"))
    write_tensors(Path("wool.safetensors"), tensors, metadata)
    base = ("score", "wool.safetensors", "-n", 1, *OPTIONS)
    assert call(capsys, *base)[0] == 0
    picture("wool.png", 100, 80, seed=9)
    refused(capsys, *base, code=65, says="wool.png: is not the picture that wool.safetensors was")
    assert call(capsys, *base, "--exemplar", "wool.png")[0] == 0
    Path("wool.png").rename("moved.png")
    says = "wool.png: no such file, which is the exemplar of wool.safetensors; name it with --exem"
    refused(capsys, *base, code=66, says=says)
    assert call(capsys, *base, "--exemplar", "moved.png")[0] == 0


# Stylizations


def wanted_losses(objective, image, content):
    """Unweighted texture and content losses of one image."""
    features = objective.descriptor(image[None])
    texture = sum(objective.texture.by_layer(features).values())
    content = data.resize(content, tuple(image.shape[-2:]))
    return float(texture), float(content_loss(features, objective.content_targets(content[None])))


def test_score_stylizations(capsys, style):
    # Pictures of the model at its held-out size, so that they are what it is measured by.
    command = ("stylize", "paint.safetensors", "photos", "-o", "mine", "--size", 64)
    assert call(capsys, *command)[0] == 0
    found, _, err = measured(capsys, "paint.safetensors", "mine", "--content", "photos", *OPTIONS)
    assert values(found, "paint") == values(found, "mine")
    assert "compared with a longer side of 64 pixels (the smallest" in err
    assert (
        "pixels (the smallest; see --size), the style with 48; objective = 4 texture + 5 c" in err
    )
    objective = training.objective_of(style_run(), CPU)
    losses = [
        wanted_losses(objective, data.read_image(Path(f"mine/{n}.png")),
                      data.read_image(Path(f"photos/{n}.png")))
        for n in range(2)
    ]  # fmt: skip
    texture, content = np.mean(losses, axis=0)
    assert value(found, "mine", "texture") == pytest.approx(texture, rel=1e-4)
    assert value(found, "mine", "content") == pytest.approx(content, rel=1e-4)
    assert value(found, "mine", "objective") == pytest.approx(4 * texture + 5 * content, rel=1e-4)
    by_layer = sum(value(found, "mine", f"texture_{layer}") for layer in LAYERS)
    assert value(found, "mine", "texture") == pytest.approx(by_layer, rel=1e-5)


def test_content_is_of_the_content(capsys, style):
    # A photograph as its own stylization has no content loss; half of its contrast has some.
    image = data.read_image(Path("photos/0.png"))
    data.write_image(Path("same/0.png"), image)
    data.write_image(Path("half/0.png"), 0.5 * image)
    found, _, _ = measured(
        capsys, "paint.safetensors", "same", "half", "--content", "photos/0.png", "--size", 96,
        *OPTIONS,
    )  # fmt: skip
    assert value(found, "same", "content") == 0
    assert value(found, "half", "content") > 0
    assert value(found, "paint", "content") != pytest.approx(value(found, "half", "content"))


def test_stylizations_are_brought_to_one_size(capsys, style):
    picture("small/0.png", 32, 24, seed=7)
    picture("large/0.png", 96, 72, seed=8)
    given = ("paint.safetensors", "small", "large", "--content", "photos/0.png", *OPTIONS)
    found, _, err = measured(capsys, *given)
    assert "side of 32 pixels (the smallest; see --size), the style with 24;" in err
    run = replace(style_run(), images=replace(style_run().images, style_size=24))
    objective = training.objective_of(run, CPU)
    content = data.read_image(Path("photos/0.png"))
    large = data.resize(data.read_image(Path("large/0.png")), (24, 32))
    for name, image in (("small", data.read_image(Path("small/0.png"))), ("large", large)):
        wanted = wanted_losses(objective, image, content)
        assert value(found, name, "texture") == pytest.approx(wanted[0], rel=1e-4)
        assert value(found, name, "content") == pytest.approx(wanted[1], rel=1e-4)
    # The model at its own size, 64, then shrunk as a picture of it.
    with torch.no_grad():
        made = style(data.resize(content, (48, 64))[None], [])[0].clamp(0, 1)
    wanted = wanted_losses(objective, data.resize((made * 255).round() / 255, (24, 32)), content)
    assert value(found, "paint", "texture") == pytest.approx(wanted[0], rel=1e-4)
    _, _, err = measured(capsys, *given, "--size", 96)
    assert "side of 96 pixels, the style with 48; objective" in err
    _, _, err = measured(capsys, *given, "--size", 96, "--exemplar-size", 40)
    assert "side of 96 pixels, the style with 40; objective" in err
    says = "compared with a longer side of 16 it has 16x12 pixels, at least 16x16 are needed; use a"
    refused(capsys, "score", *given, "--size", 16, says=says)


def test_contents_of_one_name(capsys, style):
    shutil.copy("photos/0.png", "photos/0.jpg")
    base = ("score", "paint.safetensors", "--content", "photos", *OPTIONS)
    says = "photos/0.jpg and photos/0.png: two contents of one name; rename or remove one"
    refused(capsys, *base, says=says)


def test_without_content_weight_there_is_no_content(capsys, style):
    saved("plain.safetensors", style_run(content_weight=0.0))
    found, _, _ = measured(capsys, "plain.safetensors", "--content", "photos", *OPTIONS)
    assert ("plain", "content") not in found
    assert value(found, "plain", "objective") == pytest.approx(
        4 * value(found, "plain", "texture"), rel=1e-5
    )


# What cannot be


def test_scores_that_cannot_be(capsys, style, texture):
    picture("me.png", 64, 48, seed=6)
    refused(capsys, "score", "me.png", says="me.png: measured against what? name an --exemplar")
    says = "paint.safetensors: stylizes: name the photograph, or the folder of them, that is"
    refused(capsys, "score", "paint.safetensors", says=says)
    refused(capsys, "score", "wool.safetensors", "paint.safetensors", says=says)
    refused(capsys, "score", "no.png", "--exemplar", "me.png", code=66, says="no.png: no such file")
    says = "64x48 pixels, 60 are compared; use --size"
    refused(capsys, "score", "me.png", "--exemplar", "paint.png", "--size", 60, *PLAIN,
            code=65, says=says)  # fmt: skip
    says = "wool.safetensors: makes textures, which have no --content; leave that out, or score"
    for order in (["paint.safetensors", "wool.safetensors"], ["wool.safetensors"]):
        refused(capsys, "score", *order, "--content", "photos", *OPTIONS, says=says)
    says = "--size 16: with instance norm wool.safetensors needs a side of more than 32 pixels"
    refused(capsys, "score", "wool.safetensors", "--size", 16, *OPTIONS, says=says)
    says = "exemplar_size 32 is smaller than size 64"
    sizes = ("--size", 64, "--exemplar-size", 32)
    refused(capsys, "score", "wool.safetensors", *sizes, *OPTIONS, says=says)
    refused(capsys, "score", "me.png", "--exemplar", "wool.png", *sizes, *PLAIN, says=says)
    says = "'me.png' is no .csv file; a table is written"
    before = Path("me.png").read_bytes()
    refused(capsys, "score", "wool.safetensors", "-o", "me.png", *OPTIONS, says=says)
    assert Path("me.png").read_bytes() == before
    says = "--preset paper: wool.safetensors says how it is measured; leave it out, or use"
    given = ("wool.safetensors", "--preset", "paper", *PLAIN)
    refused(capsys, "score", *given, says=says)


def test_a_network_of_one_size(capsys, texture):
    v2 = TextureNetV2(name="texturenet_v2")
    saved("v2.safetensors", texture_run(size=64, generator=v2))
    says = "this TextureNetV2 makes 64x64 images, not 72x72"
    refused(capsys, "score", "v2.safetensors", "--size", 72, *OPTIONS, code=2, says=says)
