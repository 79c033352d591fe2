"""Somebody's own images: from one command to a model, a picture, a card and numbers."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pictures import picture
from test_cli import call, refused, workplace  # noqa: F401 (fixture)

from texnet import apply, config, data, own, scoring, training
from texnet.artifacts import read_tensors, sha256
from texnet.experiment import Experiment
from texnet.inputs import NoiseStream
from texnet.metrics import pixel_distance

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--descriptor", "random", "--threads", 1, "--device", "cpu", "--batch", 2)


def rows_of(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


# What is trained


def experiment(name):
    """What a configuration file asks for, defaults included."""
    content = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    base = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    from texnet.commands import _merge

    return config.parse(Experiment, _merge(base, content), name)


def test_the_paper_preset_is_the_paper_scale():
    runs = experiment("paper").all_runs()
    style = own.style_training("starry_night", own.Choices(preset="paper"))
    theirs = runs["stylenet_in_seed0"]
    for part in ("descriptor", "generator", "objective", "optimiser"):
        assert getattr(style, part) == getattr(theirs, part), part
    assert (style.images.size, style.images.style_size) == (256, 300)
    assert style.images.contents == theirs.images.contents
    texture = own.texture_training("astronaut", own.Choices(preset="paper"))
    theirs = next(r for n, r in runs.items() if n.startswith("v1_") and n.endswith("_seed0"))
    for part in ("descriptor", "generator", "objective", "optimiser"):
        assert getattr(texture, part) == getattr(theirs, part), part
    assert texture.images.size == theirs.images.size


def test_the_paper_preset_with_diversity_is_that_of_the_paper_scale():
    paper = experiment("paper")
    runs, chosen = paper.all_runs(), own.Choices(preset="paper")
    style = own.style_training("starry_night", chosen, temperature="usual")
    theirs = runs["stylenet_diverse_seed0"]
    for part in ("descriptor", "generator", "objective", "optimiser"):
        assert getattr(style, part) == getattr(theirs, part), part
    texture = own.texture_training("astronaut", chosen, "v2", "usual")
    theirs = runs["v2_diverse_T10_brick_wall_seed100"]
    for part in ("descriptor", "generator", "objective", "optimiser"):
        assert getattr(texture, part) == getattr(theirs, part), part
    made = own.optimisation("astronaut", chosen)
    theirs = runs["gatys_texture_brick_wall_seed0"]
    assert (made.objective, made.evaluations) == (theirs.objective, theirs.evaluations)
    made = own.optimisation("astronaut", chosen, content="chelsea")
    assert (made.objective, made.evaluations) == (
        runs["gatys_seed0"].objective, runs["gatys_seed0"].evaluations
    )  # fmt: skip


def test_the_presets_temperature_is_for_its_descriptor(capsys):
    picture("a.png", 200, 200)
    base = ("train", "texture", "a.png", *SMALL, "--size", 64)
    refused_two(capsys, *base, "--diversity", says="the preset's T, 50, is not for random; name")
    refused_two(capsys, *base, "--diversity", 0, says="'0' is not a number in 1e-06 to 1000000000")


def test_choices():
    chosen = own.Choices(size=64, iterations=50, batch=3, seed=7, threads=2, descriptor="vgg19")
    run = own.style_training("waves", chosen, content_weight=3.0)
    assert run.descriptor == config.Descriptor(name="vgg19", pool="max")
    assert (run.seed, run.threads, run.images.size, run.images.heldout_size) == (7, 2, 64, 128)
    assert (run.optimiser.iterations, run.optimiser.batch) == (50, 3)
    usual = own.QUICK.style_optimiser
    # The learning rate falls as often as in the preset's length.
    assert 50 // run.optimiser.decay_every == usual.iterations // usual.decay_every
    assert run.objective == replace(own.QUICK.style_objective, content_weight=3.0)
    assert run.generator.noise_channels == 0
    diverse = own.style_training("waves", replace(chosen, descriptor=None), temperature="usual")
    assert diverse.generator.noise_channels == 1
    assert diverse.objective.temperature == own.QUICK.diverse_temperature
    assert diverse.objective.diversity_weight == 1
    assert own.texture_training("waves", chosen, "v2", 9.0).objective.temperature == 9


def test_what_is_shown_is_not_trained_on():
    run = own.style_training("waves", own.Choices())
    assert set(run.images.heldout).isdisjoint(run.images.contents)
    assert set(run.images.contents) | set(run.images.heldout) == set(own.PHOTOGRAPHS)
    run = own.style_training("waves", own.Choices(), previews=["rocket", "flower"])
    assert run.images.heldout == ("rocket", "flower")
    assert set(run.images.contents) == set(own.PHOTOGRAPHS) - {"rocket", "flower"}
    run = own.style_training("waves", own.Choices(), contents=["chelsea"])
    assert run.images.contents == ("chelsea",) != run.images.heldout


@pytest.mark.parametrize(
    ("width", "height", "options", "wanted"),
    [
        (300, 200, {"size": 64}, 192),  # the shorter side is twice a sample's
        (300, 100, {"size": 64}, 300),  # never enlarged
        (80, 300, {"size": 32}, 240),
        (300, 200, {"size": 64, "exemplar_size": 100}, 100),
    ],
)
def test_scale_of_an_exemplar(width, height, options, wanted):
    picture("a.png", width, height)
    found = own.texture_images("a.png", own.Choices(**options))
    assert found.exemplar_size == wanted
    short = min(data.style_image(*found.reference).shape[-2:])
    assert short >= min(found.size, min(width, height))


def test_a_small_exemplar_is_refused(capsys):
    picture("a.png", 90, 50)
    refused_two(capsys, "train", "texture", "a.png", *SMALL, code=65, says="use a larger image")


def refused_two(capsys, first, second, *arguments, code=2, says):
    """As refused, of a verb with two words."""
    before = sorted(Path().rglob("*"))
    found, _, err = call(capsys, first, second, *arguments)
    last = err.splitlines()[-1]
    assert last.startswith(f"texnet {first} {second}: error: ") and says in last, err
    assert found == code and sorted(Path().rglob("*")) == before


def test_names_of_runs():
    assert own.label("a b/My photo (1).JPG") == "My_photo_1"
    assert own.label("???.png") == "image"
    config.parse(config.Training, config.to_json(own.style_training("x/ü.png", own.Choices())), "")


# Trainings


@pytest.fixture
def texture(capsys):
    picture("exemplars/wool.png", 100, 80)
    code, out, err = call(
        capsys, "train", "texture", "exemplars/wool.png", *SMALL, "--size", 64, "--iterations", 2
    )
    assert code == 0, err
    return out, err


def test_train_texture(capsys, texture):
    out, err = texture
    assert out.split() == ["wool.safetensors", "wool.png", "wool.md", "wool.csv"]
    assert "preview, as it gets better: wool.png" in err
    assert sorted(Path().glob("wool*")) == sorted(map(Path, out.split()))
    _, metadata = read_tensors(Path("wool.safetensors"))
    assert metadata["exemplar_sha256"] == sha256(Path("exemplars/wool.png"))
    net, run = training.load_generator(Path("wool.safetensors"))
    assert run.images == config.Texture(exemplar="exemplars/wool.png", exemplar_size=100, size=64)
    assert [row["iteration"] for row in rows_of("wool.csv")] == ["1", "2"]
    # What the card says was measured on the held-out samples.
    meter = scoring.TextureMeter(run, torch.device("cpu"))
    noise = NoiseStream(net, scoring.HELDOUT_SEED)(8, 64, 64, 0)
    with torch.no_grad():
        rows = meter("", 0, 0, net(None, noise)[..., :64, :64])
    for row in rows:
        if row.metric in ("texture", "vendi"):
            assert float(metadata[row.metric]) == pytest.approx(row.value, rel=1e-3)
    assert "wool.png, longer side 100 pixels" in Path("wool.md").read_text()
    # The picture has a piece of the exemplar first: rows 8 to 72 of 80, columns 18 to 82 of 100.
    shown, whole = data.read_image(Path("wool.png")), data.read_image(Path("exemplars/wool.png"))
    assert torch.equal(shown[:, 2:66, 2:66], whole[:, 8:72, 18:82])


def test_train_again(capsys, texture):
    command = ("train", "texture", "exemplars/wool.png", *SMALL, "--size", 64)
    before = Path("wool.safetensors").stat().st_mtime_ns
    code, out, _ = call(capsys, *command, "--iterations", 2)
    assert (code, out) == (
        0, "wool.safetensors: is trained already; delete it to train again\n"
    )  # fmt: skip
    assert Path("wool.safetensors").stat().st_mtime_ns == before
    says = "wool.safetensors: is there, from another optimiser.iterations (2, here 3); delete it"
    refused_two(capsys, *command, "--iterations", 3, says=says)
    Path("wool.safetensors").write_text("a letter")
    refused_two(capsys, *command, "--iterations", 2, says="is there, from another kind of file")


def test_the_same_command_gives_the_same_bytes(capsys, texture):
    first = {name: Path(f"wool.{name}").read_bytes() for name in ("png", "safetensors")}
    Path("wool.safetensors").unlink()
    arguments = ("exemplars/wool.png", *SMALL, "--size", 64, "--iterations", 2)
    assert call(capsys, "train", "texture", *arguments)[0] == 0
    assert Path("wool.png").read_bytes() == first["png"]
    assert Path("wool.safetensors").read_bytes() == first["safetensors"]


def files():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["png", "md", "csv"])
def test_nothing_beside_a_model_is_overwritten(capsys, kind):
    picture("paint.png", 100, 80)
    Path(f"model.{kind}").write_text("mine")
    before = files()
    base = ("train", "texture", "paint.png", *SMALL, "--size", 64, "--iterations", 1)
    says = f"model.{kind}: is there, and the training would write beside its model; move it or"
    refused_two(capsys, *base, "-o", "model.safetensors", says=says)
    says = "paint.png: is an input, and would be overwritten; choose another --out"
    refused_two(capsys, *base, says=says)
    refused_two(capsys, *base, "-o", "out.jpg", says="--out out.jpg: is no .safetensors file")
    assert files() == before


def test_a_folder_of_another_training_is_left_alone(capsys, texture, monkeypatch):
    Path("wool.safetensors").unlink()
    command = ("train", "texture", "exemplars/wool.png", *SMALL, "--size", 64, "--iterations")
    original = training.train

    def stopped(run, out, device, on_step, _, on_heldout):
        original(run, out, device, on_step, lambda: "SIGTERM", on_heldout)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", stopped)
        assert call(capsys, *command, 2)[0] == 75
    before = files()
    says = "wool.training: holds an unfinished training of another optimiser.iterations (2, here 3)"
    refused_two(capsys, *command, 3, says=says)
    for mine in (Path("wool.training/mine.txt"), Path("wool.training/.mine")):
        mine.write_text("mine")
        refused_two(capsys, *command, 2, says=f"{mine}: no training made that; choose")
        mine.unlink()
    assert files() == before
    # The number of cores may be another now: what was begun goes on.
    assert call(capsys, *command, 2, "--threads", 2)[0] == 0
    assert training.load_generator(Path("wool.safetensors"))[1].threads == 1


def test_a_mistake_leaves_no_folder(capsys):
    data.write_image(Path("flat.png"), torch.full((3, 100, 100), 0.5))
    base = (*SMALL, "--size", 64, "--iterations", 1, "-o", "m.safetensors")
    refused_two(capsys, "train", "texture", "flat.png", *base, code=65, says="is flat")
    refused_two(capsys, "train", "style", "none.png", *base, code=66, says="none.png: no such file")
    picture("a.png", 100, 100)
    if not torch.cuda.is_available():
        says = "device 'cuda' is not usable here"
        refused_two(capsys, "train", "texture", "a.png", *base, "--device", "cuda", says=says)


def test_another_picture_of_the_same_name_is_another_training(capsys, texture):
    picture("exemplars/wool.png", 100, 80, seed=9)
    command = ("train", "texture", "exemplars/wool.png", *SMALL, "--size", 64, "--iterations", 2)
    refused_two(capsys, *command, says="is there, from another picture of the name exemplars/wool")


@pytest.mark.parametrize("where", ["before the model", "after the card"])
def test_stopped_while_it_is_delivered(capsys, monkeypatch, where):
    picture("exemplars/wool.png", 100, 80)
    command = ("train", "texture", "exemplars/wool.png", *SMALL, "--size", 64, "--iterations", 1)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        name = "_facts" if where == "before the model" else "clear"
        patch.setattr(f"texnet.delivery.{name}", stop)
        assert call(capsys, *command)[0] == 130
    assert Path("wool.safetensors").exists() == (where == "after the card")
    with monkeypatch.context() as patch:  # it is not trained again
        patch.setattr(training, "train", stop)
        assert call(capsys, *command)[0] == 0
    assert Path("wool.safetensors").exists() and Path("wool.md").exists()


def test_an_interrupted_training_goes_on(capsys, texture, monkeypatch):
    wanted = read_tensors(Path("wool.safetensors"))[0]
    Path("wool.safetensors").unlink()
    arguments = ("exemplars/wool.png", *SMALL, "--size", 64, "--iterations", 2)
    original = training.train

    def stopped(run, out, device, on_step, _, on_heldout):
        original(run, out, device, on_step, lambda: "SIGTERM", on_heldout)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", stopped)
        code, _, err = call(capsys, "train", "texture", *arguments)
    assert code == 75 and "after iteration 1 of 2" in err
    assert Path("wool.training").is_dir() and not Path("wool.safetensors").exists()
    assert call(capsys, "train", "texture", *arguments)[0] == 0
    found = read_tensors(Path("wool.safetensors"))[0]
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not Path("wool.training").exists()


@pytest.fixture
def style(capsys):
    """A stylizer with noise, trained for a moment."""
    for number in range(2):
        picture(f"photos/{number}.png", 70, 50, seed=number)
    picture("paint.png", 60, 60, seed=5)
    picture("me.png", 64, 48, seed=6)
    arguments = ("--content", "photos", "--preview", "me.png", "--diversity", 2, "--iterations", 2)
    command = (
        "train",
        "style",
        "paint.png",
        *arguments,
        *SMALL,
        "--size",
        32,
        "-o",
        "p.safetensors",
    )
    code, _, err = call(capsys, *command)
    assert code == 0, err
    return "p.safetensors"


def test_train_style(capsys, style):
    net, run = training.load_generator(Path(style))
    assert (run.images.contents, run.images.heldout) == (("photos",), ("me.png",))
    assert (run.objective.temperature, run.generator.noise_channels) == (2, 1)
    # The picture: the photograph's square, the style, the result.
    shown = data.read_image(Path("p.png"))
    assert shown.shape[1:] == (68, 200)
    photograph = data.square(data.load_image("me.png"), 64)
    assert torch.allclose(shown[:, 2:66, 2:66], photograph, atol=0.51 / 255)
    noise = NoiseStream(net, run.seed)(1, 64, 64, 0)
    with torch.no_grad():
        made = net(photograph[None], noise)[0].clamp(0, 1)
    assert torch.allclose(shown[:, 2:66, -66:-2], made, atol=0.51 / 255)


def test_preview_among_the_contents(capsys, style):
    arguments = ("--content", "photos", "--preview", "photos/1.png", *SMALL, "--size", 32)
    code, _, err = call(capsys, "train", "style", "paint.png", *arguments, "-o", "q.safetensors")
    assert code == 2 and "images.heldout 'photos/1.png' is among images.contents" in err


# How a stylization looks


def test_keep_colour(capsys, style):
    plain = ("stylize", style, "me.png", "-o")
    assert call(capsys, *plain, "a")[0] == 0
    assert call(capsys, *plain, "b", "--keep-colour")[0] == 0
    content, stylized, kept = (
        data.read_image(Path(name)).double() for name in ("me.png", "a/me.png", "b/me.png")
    )
    skimage = pytest.importorskip("skimage.color")
    yiq = [skimage.rgb2yiq(image.permute(1, 2, 0).numpy()) for image in (content, stylized, kept)]
    # Where nothing had to be clipped: the stylized luminance, the photograph's two others.
    inside = ((kept > 0.01) & (kept < 0.99)).all(0).numpy()
    assert inside.mean() > 0.2
    assert np.abs(yiq[2][..., 0] - yiq[1][..., 0])[inside].max() < 0.01
    assert np.abs(yiq[2][..., 1:] - yiq[0][..., 1:])[inside].max() < 0.01
    assert np.abs(yiq[1][..., 1:] - yiq[0][..., 1:])[inside].max() > 0.05


def test_brush_size(capsys, style):
    net, _ = training.load_generator(Path(style))
    content = data.load_image("me.png")  # 64x48
    small = data.resize(content, (24, 32))
    wanted = apply.stylized(net, small, 0, 0)
    found = apply.Look(brush=2.0)(net, content, 0, 0)
    assert found.shape == content.shape
    # Enlarged: shrunk again it is what the network made of the small one.
    back = torch.nn.functional.avg_pool2d(found, 2)
    assert pixel_distance(back[None], wanted[None]) < 0.1 * pixel_distance(
        wanted[None], wanted[None].flip(-1)
    )
    assert apply.Look(brush=0.5)(net, content, 0, 0).shape == content.shape
    assert torch.equal(apply.Look()(net, content, 0, 0), apply.stylized(net, content, 0, 0))
    says = "--brush-size 4 leaves 16x12 pixels, at least 16x16 are needed; use --brush-size 3 or"
    refused(capsys, "stylize", style, "me.png", "-o", "o", "--brush-size", 4, says=says)
    refused(capsys, "stylize", style, "me.png", "-o", "o", "--brush-size", 0, says="in 0.1 to 16")


def test_samples_is_another_name_for_count(capsys, style):
    code, out, _ = call(capsys, "stylize", style, "me.png", "-o", "o", "--samples", 2)
    assert (code, out) == (0, "o/me_0.png\no/me_1.png\n")


# Optimisations


def test_optimize_texture(capsys):
    picture("wool.png", 64, 64)
    base = ("wool.png", "--descriptor", "random", "--threads", 1, "--size", 32)
    code, out, err = call(
        capsys, "optimize", "texture", *base, "--evaluations", 6, "-n", 2, "-o", "t.png"
    )
    assert (code, out) == (0, "t_0.png\nt_1.png\n"), err
    first, second = (data.read_image(Path(f"t_{i}.png")) for i in range(2))
    assert first.shape == (3, 32, 32) and not torch.equal(first, second)
    # From an image of ours, one evaluation leaves it as it is.
    start = ("--start", "t_0.png", "--evaluations", 1, "-o", "u.png")
    assert call(capsys, "optimize", "texture", *base, *start)[0] == 0
    assert torch.equal(data.read_image(Path("u.png")), first)
    refused_two(
        capsys, "optimize", "texture", *base, "-o", "a.jpg", says="--out a.jpg: is no .png file"
    )
    refused_two(capsys, "optimize", "texture", *base, "-o", "wool.png", says="is an input, and wo")
    options = ("--start", "u.png", "-n", 2, "-o", "v.png")
    refused_two(capsys, "optimize", "texture", *base, *options, says="from one start there is one")
    options = ("--exemplar-size", 20, "-o", "v.png")
    refused_two(capsys, "optimize", "texture", *base, *options, says="smaller than size 32")
    says = "--start content: a texture has none"
    refused_two(
        capsys, "optimize", "texture", *base, "--start", "content", "-o", "v.png", says=says
    )


def test_optimize_style_lowers_the_objective(capsys):
    picture("paint.png", 40, 40, seed=5)
    picture("me.png", 50, 40, seed=6)
    base = ("paint.png", "--content", "me.png", "--descriptor", "random", "--threads", 1)
    base += ("--size", 48, "--start", "content")
    values = {}
    for evaluations in (1, 12):
        out = f"{evaluations}.png"
        options = ("--evaluations", evaluations, "-o", out)
        assert call(capsys, "optimize", "style", *base, *options)[0] == 0
        assert data.read_image(Path(out)).shape == (3, 38, 48)
        chosen = own.Choices(size=48, descriptor="random")
        run = own.optimisation("paint.png", chosen, 1, "me.png")
        objective = training.objective_of(run, torch.device("cpu"))
        content = apply.content_image(Path("me.png"), 48)[None]
        terms = objective(data.read_image(Path(out))[None], objective.content_targets(content))
        values[evaluations] = float(terms.total)
    assert values[12] < 0.9 * values[1]
    assert torch.allclose(data.read_image(Path("1.png")), content[0], atol=0.51 / 255)


def test_info_and_export(capsys, texture):
    code, out, _ = call(capsys, "info", "wool.safetensors")
    assert (code, out) == (0, Path("wool.md").read_text())
    refused(capsys, "export", "wool.safetensors", says="--onnx FILE.onnx, --hub FOLDER, or both")


def test_choices_that_no_run_can_have(capsys):
    picture("a.png", 200, 200)
    base = ("train", "texture", "a.png", *SMALL)
    refused_two(capsys, *base, "--size", 32, says="needs 64 or more")
    refused_two(capsys, *base, "--size", 100, says="use 96 or 128")
    refused_two(capsys, *base, "--size", 96, "--network", "v2", says="use 64 or 128")
    picture("b.png", 50, 40)
    refused_two(capsys, "train", "texture", "b.png", *SMALL, code=65, says="many: use a larger im")
