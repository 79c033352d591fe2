"""Stylizing the user's images: what cannot work is told in one line, before anything is written."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from texnet import __main__ as cli
from texnet import apply, config, data, generators, runtime, strips, training
from texnet.errors import UsageError
from texnet.inputs import NoiseStream
from texnet.memory import GIB

CPU = torch.device("cpu")
RUN = {
    "name": "net",
    "seed": 0,
    "descriptor": {"name": "random"},
    "objective": {"style_layers": ["relu1_1"], "content_layers": ["relu1_1"]},
    "optimiser": {"batch": 1},
    "images": {"style": "ihc", "style_size": 64, "size": 64, "contents": ["rocket"],
               "heldout": ["chelsea"]},
    "device": "cpu",
}  # fmt: skip
GENERATORS = {
    "plain": {"width": 4, "blocks": 1},
    "noisy": {"width": 4, "blocks": 1, "noise_channels": 2},
    "skip": {"name": "skip", "width": 2},
    "v1": {"name": "texturenet_v1", "width": 2, "norm": "instance"},
}


def generator(name):
    run = config.parse(config.Training, RUN | {"generator": GENERATORS[name]}, "test")
    return generators.build(run.generator, 0, run.images).eval(), run


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with an untrained model of each kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "_MALLOPT", {})
    for name in GENERATORS:
        training.save_generator(Path(f"{name}.safetensors"), *generator(name))
    yield
    torch.use_deterministic_algorithms(False)


def picture(path, width, height):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(path)
    return path


def stylize(capsys, model, image, *options):
    """Exit code, standard output and standard error."""
    arguments = ["stylize", f"{model}.safetensors", image, "-o", "out", *options]
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def refused(capsys, *arguments, says):
    code, out, err = stylize(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("texnet stylize: error: ") and err.count("\n") == 1
    assert says in err
    assert not Path("out").exists()


# Noise


def test_samples_differ_and_are_numbered(capsys):
    file = picture("a.png", 64, 68)
    code, out, err = stylize(capsys, "noisy", file, "-n", 2, "--seed", 5)
    assert (code, out, err) == (0, "out/a_0.png\nout/a_1.png\n", "")
    net, _ = generator("noisy")
    content = data.read_image(Path(file))[None]
    for number in range(2):
        with torch.no_grad():
            wanted = net(content, NoiseStream(net, 5)(1, 68, 64, number))[0].clamp(0, 1)
        found = data.read_image(Path(f"out/a_{number}.png"))
        assert (found - wanted).abs().max() <= 0.5 / 255 + 1e-6
    first, second = (data.read_image(Path(f"out/a_{i}.png")) for i in range(2))
    assert not torch.equal(first, second)
    # One sample has no number; it is the first, and the seed is 0.
    assert stylize(capsys, "noisy", file)[:2] == (0, "out/a.png\n")
    assert stylize(capsys, "noisy", file, "-n", 2, "--seed", 0)[0] == 0
    assert Path("out/a.png").read_bytes() == Path("out/a_0.png").read_bytes()


@pytest.mark.parametrize("model", ["plain", "skip"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-n", 2), "was trained without noise channels, --count 2 would change nothing"),
        (("--seed", 0), "was trained without noise channels, --seed 0 would change nothing"),
        (("-n", 3, "--seed", 1), "--count 3 would change nothing; leave it out or train with"),
    ],
)
def test_noise_of_a_network_without_any(capsys, model, options, says):
    refused(capsys, model, picture("a.png", 64, 64), *options, says=says)


def test_outputs_never_overwrite_an_input(capsys):
    files = [Path("in/a.png"), Path("in/a_0.png")]
    for file in files:
        picture(file, 64, 64)
    assert apply.outputs(files, Path("o"), 1) == {f: [Path("o") / f.name] for f in files}
    with pytest.raises(UsageError, match=r"in/a_0.png: is there, beside its input"):
        apply.outputs(files[:1], Path("in"), 2)
    assert apply.outputs(files[1:], Path("in"), 2)[files[1]][1] == Path("in/a_0_1.png")
    with pytest.raises(UsageError, match=r"in/a_0.png: would overwrite another input"):
        apply.outputs(files, Path("in"), 2)
    with pytest.raises(UsageError, match=r"in/a.png: would overwrite its input"):
        apply.outputs(files, Path("in"), 1)


# Sizes


def test_small_images_are_warned_of(capsys):
    # StyleNet with one block sees 31 pixels at once, less than the 64 of its training.
    picture("in/small.png", 60, 30)
    picture("in/fine.png", 31, 31)
    code, out, err = stylize(capsys, "plain", "in")
    assert (code, out) == (0, "out/fine.png\nout/small.png\n")
    assert err == (
        "warning: in/small.png: 60x30 pixels; the network sees 31 at once, so the style may be "
        "poor; use --size 62 or more, or a larger image\n"
    )
    assert stylize(capsys, "plain", "in/small.png", "--size", 62)[2] == ""
    # These two see more than the images of the training have.
    assert "60x30 pixels; the network sees 64" in stylize(capsys, "skip", "in/small.png")[2]
    assert "60x30 pixels; the network sees 64" in stylize(capsys, "v1", "in/small.png")[2]


@pytest.mark.parametrize("model", ["plain", "noisy", "skip", "v1"])
@pytest.mark.parametrize("shape", [(320, 16), (20, 400)])
def test_narrow_images_work(capsys, model, shape):
    code, _, err = stylize(capsys, model, picture("a.png", *shape))
    assert code == 0
    assert err.startswith("warning: a.png: ") and err.count("\n") == 1
    made = data.read_image(Path("out/a.png"))
    assert made.shape == (3, shape[1], shape[0]) and made.std() > 0


def test_narrow_images_made_too_small(capsys):
    file = picture("a.png", 400, 20)
    says = "a.png: --size 200 would make 200x10 pixels of it, at least 16x16 are needed; use --size"
    refused(capsys, "plain", file, "--size", 200, says=says + " 320 or more")
    assert stylize(capsys, "plain", file, "--size", 320)[0] == 0
    assert data.read_image(Path("out/a.png")).shape == (3, 16, 320)
    Path("out/a.png").unlink()
    Path("out").rmdir()
    refused(capsys, "plain", "rocket", "--size", 16, says="rocket: --size 16 would make 16x11")
    # Nothing is written of a folder where one image cannot be.
    picture("in/a.png", 64, 64)
    picture("in/b.png", 400, 20)
    refused(capsys, "plain", "in", "--size", 64, says="in/b.png: --size 64 would make 64x3 pixels")
    Path("in/b.png").write_text("text")
    assert stylize(capsys, "plain", "in")[0] == 65
    assert not Path("out").exists()


@pytest.mark.parametrize(("model", "side"), [("v1", 32), ("skip", 16)])
def test_a_coarsest_scale_of_one_pixel(capsys, model, side):
    file = picture("a.png", side, 16)
    net, _ = generator(model)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        apply.stylized(net, data.read_image(Path(file)), 0, 0)
    refused(capsys, model, file, says=f"a longer side of more than {side} pixels")
    refused(capsys, model, file, says=f"use --size {side + 1} or more")
    assert stylize(capsys, model, file, "--size", side + 1)[0] == 0


# Memory


@pytest.fixture
def megapixels(monkeypatch):
    """Large is what has more than 10,000 pixels; there is 1 GiB, and a pixel takes 64 KiB."""
    monkeypatch.setattr(apply, "LARGE", 10_000)
    monkeypatch.setattr(apply, "available_memory", lambda device: GIB)
    monkeypatch.setattr(apply, "bytes_per_pixel", lambda net, device: 65536.0)
    monkeypatch.setattr(strips, "memory", lambda net: (65536.0, 0))


@pytest.mark.parametrize("model", ["plain", "skip"])
def test_images_that_do_not_fit_into_memory(capsys, megapixels, model):
    # 2^30 / 2^16 = 16,384 pixels fill the memory, 14,745 are 9/10 of it: 171 x 85.
    file = picture("in/b.png", 256, 128)
    picture("in/a.png", 64, 64)
    says = "b.png: 256x128 pixels need 2.0 GiB of memory, 1.0 GiB are free; use --size 171"
    refused(capsys, model, file, says=says)
    refused(capsys, model, "in", says="in/b.png: 256x128 pixels need")
    refused(capsys, model, file, "--size", 172, says="use --size 171")
    assert stylize(capsys, model, file, "--size", 171)[0] == 0


def test_what_strips_need_besides(capsys, megapixels, monkeypatch):
    # A quarter of the memory leaves 9/10 - 1/4 of it to 10,649 pixels: 145 x 73.
    monkeypatch.setattr(strips, "memory", lambda net: (65536.0, GIB // 4))
    file = picture("b.png", 256, 128)
    refused(capsys, "plain", file, says="b.png: 256x128 pixels need 2.2 GiB of memory")
    refused(capsys, "plain", file, says="1.0 GiB are free; use --size 145")
    refused(capsys, "plain", file, "--size", 146, says="use --size 145")
    # However little is free, there is enough for images that are not large: 141 x 70.
    monkeypatch.setattr(strips, "memory", lambda net: (65536.0, GIB))
    refused(capsys, "plain", file, says="use --size 141")
    assert stylize(capsys, "plain", file, "--size", 141)[0] == 0


def test_large_images_in_four_gigabytes(monkeypatch):
    monkeypatch.setattr(apply, "available_memory", lambda device: 4 * GIB)
    check = apply.Checks(generators.StyleNet().eval(), generator("plain")[1])
    assert check(Path("a.png"), 4096, 4096) == []
    with pytest.raises(
        UsageError, match=r"8000x8000 pixels need \d\.\d GiB .* --size (\d+)"
    ) as told:
        check(Path("a.png"), 8000, 8000)
    size = int(str(told.value).split()[-1])
    assert size > 4096 and check(Path("a.png"), size, size) == []


@pytest.mark.parametrize("name", ["plain", "noisy"])
def test_large_images_by_strips(name, monkeypatch):
    net, _ = generator(name)
    content = data.photo("rocket")[:, :100, :101]
    wanted = apply.stylized(net, content, 3, 1)
    called = []
    monkeypatch.setattr(strips, "STRIP", 2**14)
    by_strips = strips.stylize
    monkeypatch.setattr(strips, "stylize", lambda *given: called.append(0) or by_strips(*given))
    monkeypatch.setattr(apply, "LARGE", 10_100)
    assert torch.equal(apply.stylized(net, content, 3, 1), wanted) and not called
    monkeypatch.setattr(apply, "LARGE", 10_099)
    found = apply.stylized(net, content, 3, 1)
    assert called and not torch.equal(found, wanted)
    assert (found - wanted).abs().max() < 1e-4


def test_small_images_cost_no_measurement(capsys, megapixels, monkeypatch):
    def fail(net, device):
        raise AssertionError

    monkeypatch.setattr(apply, "bytes_per_pixel", fail)
    assert stylize(capsys, "skip", picture("a.png", 100, 100))[0] == 0
    with pytest.raises(AssertionError):
        apply.Checks(*generator("skip"))(Path("a.png"), 100, 101)
    apply.Checks(*generator("plain"))(Path("a.png"), 100, 101)


@pytest.mark.parametrize("name", GENERATORS)
def test_memory_per_pixel(name):
    net, _ = generator(name)
    content = torch.zeros(3, 512, 512)
    # The noise is NumPy's memory, which neither counts.
    peak = apply.peak_memory(lambda: apply.stylized(net, content, 0, 0), CPU)
    found = apply.bytes_per_pixel(net, CPU) / apply.FRAGMENTED * 512**2
    assert found == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize(("name", "side"), [("v1", 32), ("skip", 16)])
def test_other_norms_take_one_pixel(name, side):
    content = RUN | {"generator": GENERATORS[name] | {"norm": "none"}}
    run = config.parse(config.Training, content, "test")
    net = generators.build(run.generator, 0, run.images).eval()
    apply.Checks(net, run)(Path("a.png"), 16, side)
    assert apply.stylized(net, torch.zeros(3, 16, side), 0, 0).shape == (3, 16, side)
