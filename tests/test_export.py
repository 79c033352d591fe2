"""Generators for other programs make the same images there, and say what they are."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from conftest import ROOT
from PIL import Image

from texnet import config, data, export, generators, graphs, sharing, training
from texnet.artifacts import read_tensors, sha256, write_json, write_tensors
from texnet.errors import DataError, UsageError
from texnet.inputs import NoiseStream
from texnet.plain import plain

STYLIZATION = {"style": "swirls", "style_size": 64, "size": 64, "contents": ["rocket"]}
TEXTURE = {"exemplar": "berries", "exemplar_size": 64, "size": 64}
NETS = {
    **{
        f"{norm}_{upsampling}_{noise}": {
            "width": 4, "blocks": 1, "norm": norm, "upsampling": upsampling,
            "noise_channels": noise,
        }
        for norm in ("instance", "batch", "instance_first", "lrn_first", "none")
        for upsampling, noise in (("transposed", 0), ("bilinear", 2))
    },
    **{
        f"{name}_{norm}{kind}": {"name": name, "norm": norm, "width": 4, **more}
        for norm in ("instance", "batch", "none")
        for name, kind, more in (
            ("skip", "", {}),
            ("texturenet_v1", "_texture", {"noise_channels": 2}),
            ("texturenet_v1", "_stylization", {"noise_channels": 1}),
            ("texturenet_v2", "_texture", {"latent": 12}),
        )
    },
}  # fmt: skip
KINDS = ("instance_bilinear_2", "skip_batch", "texturenet_v1_instance_stylization",
         "texturenet_v1_batch_texture", "texturenet_v2_instance_texture")  # fmt: skip
DESCRIBED = {
    "seed": 3,
    "descriptor": {"name": "random"},
    "optimiser": {"batch": 2},
    "device": "cpu",
}


def generator(name):
    """A network none of whose weights and averages are as they began, and its run."""
    texture = name.endswith("texture")
    weights = {"content_weight": 0} if texture else {}
    described = DESCRIBED | {
        "name": name,
        "generator": NETS[name],
        "objective": {"style_layers": ["relu1_1"], "content_layers": ["relu1_1"], **weights},
        "images": TEXTURE if texture else STYLIZATION,
    }
    run = config.parse(config.Training, described, "test")
    net = generators.build(run.generator, 0, run.images)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=rng)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        net(*given(net, 2, 64, 96)[:2])
    return net.eval(), run


def structure(images):
    """The deviation of a channel within an image, which dead units would leave without any."""
    found = images.std((2, 3)).max()
    assert found > 0.004
    return found


def saved(name, path):
    net, run = generator(name)
    training.save_generator(path, net, run, final_objective=1.5)
    return path


def given(net, count, height, width):
    """Content, a sequence of noise, and both as ONNX Runtime is fed."""
    if isinstance(net, generators.TextureNetV2):
        height = width = net.size
    noise = NoiseStream(net, 5)(count, height, width, 7)
    content = None
    if graphs.takes_content(net):
        image = data.resize(data.photo("astronaut"), (height, width))
        content = torch.stack([image * (1 + i) / count for i in range(count)])
    fed = {"content": content} if content is not None else {}
    many = len(noise) > 1
    fed |= {f"noise_{i}" if many else "noise": z for i, z in enumerate(noise)}
    return content, noise, {key: value.numpy() for key, value in fed.items()}


def run_onnx(content, fed):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["image"], fed)[0])


# The plain form


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_the_plain_form_is_the_network(name):
    """In float64, so that a difference is no rounding; sides that are multiples and others."""
    net = generator(name)[0].double()
    standard = plain(net)
    for module in standard.modules():
        assert type(module).__module__.startswith(("torch.nn.", "texnet.plain"))
        assert not module.training
    for count, height, width in ((1, 64, 64), (2, 45, 70), (1, 5, 67)):
        content, noise, _ = given(net, count, height, width)
        content = content if content is None else content.double()
        noise = [z.double() for z in noise]
        wanted, found = net(content, noise), standard(content, noise)
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() <= 1e-9 * structure(wanted), (height, width)


def test_the_plain_form_has_weights_of_its_own():
    net, _ = generator("instance_bilinear_2")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    made = plain(net)
    with torch.no_grad():
        for weight in made.parameters():
            weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert sum(w.numel() for w in made.parameters()) == sum(w.numel() for w in net.parameters())


# ONNX


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_onnx_runtime_makes_the_same_images(name):
    net, run = generator(name)
    model = graphs.graph(net, run.name, {})
    content = model.SerializeToString()
    assert [(o.domain, o.version) for o in model.opset_import] == [("", graphs.OPSET)]
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    for count, height, width in ((1, 33, 47), (3, 64, 40)):
        images, noise, fed = given(net, count, height, width)
        assert [each.name for each in model.graph.input] == list(fed)
        wanted, found = net(images, noise), run_onnx(content, fed)
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() <= 1e-3 * structure(wanted)


def test_a_trained_generator_at_a_large_size(tmp_path):
    """By the instance normalisation that ONNX Runtime has it would be off by 2e-4 here."""
    model = ROOT / "expected/embedded/generators/stylenet_in_seed2/model.safetensors"
    export.onnx(model, tmp_path / "m.onnx")
    net, _ = training.load_generator(model)
    content, noise, fed = given(net, 1, 300, 517)
    with torch.no_grad():
        wanted = net(content, noise)
    found = run_onnx((tmp_path / "m.onnx").read_bytes(), fed)
    assert 0 < (found - wanted).abs().max() < 6e-5


@pytest.mark.parametrize("name", KINDS)
def test_the_file_says_what_it_is(tmp_path, capfd, name):
    file, out = saved(name, tmp_path / "m.safetensors"), tmp_path / "sub/m.onnx"
    checks = export.onnx(file, out)
    assert all(0 <= c.difference <= c.limit for c in checks)
    net, run = training.load_generator(file)
    sizes = [(c.count, c.height, c.width) for c in checks]
    if isinstance(net, generators.TextureNetV2):
        assert sizes == [(1, 64, 64), (2, 64, 64), (3, 64, 64)]
    elif name.endswith("texture"):
        assert sizes == [(1, 64, 64), (2, 96, 128), (1, 192, 256)]
    else:
        assert sizes == list(export.SIZES)
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    about = {each.key: each.value for each in model.metadata_props}
    assert config.parse(config.Training, json.loads(about["run"]), "") == run
    assert about["model_sha256"] == sha256(file)
    noise = {"uniform": "U(0, 1)", "normal": "N(0, 1)"}[net.distribution]
    assert about.get("noise") == (noise if net.noise_shapes(1, 64, 64) else None)
    assert "MIT" in about["licence"] and "is drawn by texnet" in about["licence"]
    assert not any(each.external_data for each in model.graph.initializer)
    first = out.read_bytes()
    assert str(tmp_path).encode() not in first
    known = {key: about[key] for key in ("run", "model_sha256", "licence")}
    assert graphs.graph(net, run.name, known).SerializeToString() == first
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("change", "says"), [(0.05, "differ by"), (np.nan, "differ by nan")])
def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch, change, says):
    file, out = saved("instance_bilinear_2", tmp_path / "m.safetensors"), tmp_path / "m.onnx"
    out.write_bytes(b"before")
    right = graphs.graph

    def wrong(*given):
        model = right(*given)
        (weight,) = [each for each in model.graph.initializer if each.name == "body.20.bias"]
        values = onnx.numpy_helper.to_array(weight) + np.float32([change, 0, 0])
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return model

    monkeypatch.setattr(graphs, "graph", wrong)
    net, run = training.load_generator(file)
    checks = export.compared(wrong(net, run.name, {}).SerializeToString(), net)
    assert [c.difference for c in checks] == pytest.approx([change] * 3, abs=1e-4, nan_ok=True)
    assert [c.limit for c in checks] == [1e-4] * 3
    with pytest.raises(DataError, match=f"64x64 pixels {says}.*m.onnx is not written"):
        export.onnx(file, out)
    assert out.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.safetensors"]


def test_rounding_of_the_network_itself_is_no_mistake(monkeypatch):
    """Where float64 gives other images than the network, as an ill-conditioned one's, by 1e-5."""
    net, run = generator("instance_bilinear_2")
    model = graphs.graph(net, run.name, {})
    monkeypatch.setattr(export, "LIMIT", 1e-7)
    checks = export.compared(model.SerializeToString(), net)
    assert all(1e-7 < c.difference <= c.limit < 1e-4 for c in checks)
    (weight,) = [each for each in model.graph.initializer if each.name == "body.20.bias"]
    values = onnx.numpy_helper.to_array(weight) + np.float32(1e-3)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    checks = export.compared(model.SerializeToString(), net)
    assert all(c.difference > 5e-4 > c.limit for c in checks)


def test_what_cannot_be_exported(tmp_path, monkeypatch):
    file = saved("skip_none", tmp_path / "m.safetensors")
    before = file.read_bytes()
    with pytest.raises(UsageError, match="is the model itself"):
        export.onnx(file, tmp_path / "." / "m.safetensors")
    assert file.read_bytes() == before
    for name in ("photo.jpg", "onnx", "m.onnx.png"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UsageError, match=f"{name}: is no name of an ONNX file; .* in .onnx"):
            export.onnx(file, tmp_path / name)
        assert (tmp_path / name).read_text() == "mine"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(UsageError, match=r"onnxruntime.*pip install -e '\.\[onnx\]'"):
            export.onnx(file, tmp_path / "m.onnx")
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(DataError, match="is damaged"):
        export.onnx(file, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (torch.nn.GroupNorm(2, 4), r"GroupNorm \(in the network: body\.1\)"),
        (torch.nn.Conv2d(4, 4, 1, bias=False), r"without body\.1\.bias"),
        (torch.nn.Sequential(torch.nn.Softsign()), r"Softsign \(in the network: body\.1\.0\)"),
    ],
)
def test_a_layer_without_an_onnx_form_is_named(new, says):
    net, run = generator("instance_transposed_0")
    net.body[1] = new
    with pytest.raises(UsageError, match=rf"{says}.*no ONNX form.*graphs\.py: Writer\.applied$"):
        graphs.graph(net, run.name, {})


def test_an_operation_without_an_onnx_form_is_named():
    class Scaled(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    net, run = generator("instance_transposed_0")
    net.body[1] = Scaled()
    with pytest.raises(UsageError, match=r"^mul .*no ONNX form.*graphs\.py: Writer\.computed$"):
        graphs.graph(net, run.name, {})
    with pytest.raises(UsageError, match=r"^Scaled has no form.*plain\.py: plain$"):
        plain(Scaled())


# What is said of a run


def renamed(file, weights, **images):
    """The same generator, said to be trained on other images."""
    tensors, metadata = read_tensors(file)
    run = json.loads(metadata["run"])
    run["images"] |= images
    run["descriptor"]["weights"] = weights
    write_tensors(file, tensors, metadata | {"run": json.dumps(run)})
    return tensors


FOLDER = "/home/x/secret_client"
SECRET = {
    "style": f"{FOLDER}/painting.jpg",
    "contents": [f"{FOLDER}/faces", "rocket", f"{FOLDER}/more/faces/"],
    "heldout": [f"{FOLDER}/rocket", "C:\\secret_client\\a.png", f"{FOLDER}/a.png"],
}


@pytest.mark.parametrize("name", ["skip_batch", "texturenet_v1_batch_texture"])
def test_exports_name_no_folders(tmp_path, name):
    file, folder = saved(name, tmp_path / "m.safetensors"), tmp_path / "hub"
    texture = name.endswith("texture")
    images = {"exemplar": f"{FOLDER}/wool.png"} if texture else SECRET
    tensors = renamed(file, f"{FOLDER}/vgg.pth", **images)
    assert b"secret_client" in file.read_bytes()
    export.hub(file, folder)
    export.onnx(file, tmp_path / "m.onnx")
    made = contents(folder) | {"m.onnx": (tmp_path / "m.onnx").read_bytes()}
    assert len(made) == 7 and not [each for each in made if b"secret_client" in made[each]]
    _, run = training.load_generator(folder / "model.safetensors")
    assert run.descriptor.weights == "vgg.pth"
    if texture:
        assert run.images.files == ("wool.png",)
    else:
        assert run.images.style == "painting.jpg"
        assert run.images.contents == ("faces", "rocket", "faces (2)")
        assert run.images.heldout == ("./rocket", "a.png", "a (2).png")
    found, metadata = read_tensors(folder / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert metadata["final_objective"] == "1.5"
    assert json.loads(made["config.json"])["run"] == config.to_json(run)
    for each in ("model.onnx", "m.onnx"):
        props = {p.key: p.value for p in onnx.load_from_string(made[each]).metadata_props}
        assert json.loads(props["run"]) == config.to_json(run)
        assert "belong to whoever trained them" in props["licence"]
    front, card = made["README.md"].decode().split("---\n")[1:]
    assert yaml.safe_load(front)["license"] == "other" and "belong to whoever" in card
    assert sharing.shareable(run) == run
    export.hub(folder / "model.safetensors", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


# A folder for the Hub


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["instance_bilinear_2", "texturenet_v1_batch_texture"])
def test_a_folder_for_the_hub(tmp_path, name):
    file, folder = saved(name, tmp_path / "net.safetensors"), tmp_path / "hub"
    written = export.hub(file, folder)
    made = contents(folder)
    assert {path.name for path in written} == set(made)
    assert set(made) == {"README.md", "config.json", "model.safetensors", "model.onnx",
                         "samples.png", ".gitattributes"}  # fmt: skip
    assert made["model.safetensors"] == file.read_bytes()
    _, run = generator(name)
    described = json.loads(made["config.json"])
    assert config.parse(config.Training, described["run"], "") == run
    _, front, card = made["README.md"].decode().split("---\n", 2)
    front = yaml.safe_load(front)
    texture = isinstance(run.images, config.Texture)
    task = "unconditional-image-generation" if texture else "image-to-image"
    assert (front["license"], front["library_name"]) == ("mit", "texnet")
    assert front["pipeline_tag"] == task
    assert {"texture-synthesis" if texture else "style-transfer", "onnx"} <= set(front["tags"])
    assert "](samples.png)" in card and "net.safetensors" not in card
    for given in onnx.load_from_string(made["model.onnx"]).graph.input:
        assert f"`{given.name}` [batch, " in card
    for line in made[".gitattributes"].decode().splitlines():
        assert line.split()[1:] == ["filter=lfs", "diff=lfs", "merge=lfs", "-text"]
    assert b"*.safetensors " in made[".gitattributes"] and b"*.onnx " in made[".gitattributes"]
    # Again, and from the copy that is in it.
    assert export.hub(file, folder) == written and contents(folder) == made
    assert export.hub(folder / "model.safetensors", folder) == written and contents(folder) == made


@torch.no_grad()
def test_what_the_card_shows(tmp_path, monkeypatch):
    """Samples, or a photograph and stylizations; what the workflow drew; what is given."""
    monkeypatch.setitem(sys.modules, "onnx", None)  # it shows the same without

    def picture(name):
        export.hub(saved(name, tmp_path / f"{name}.safetensors"), tmp_path / name)
        return data.read_image(tmp_path / name / "samples.png")

    net, _ = generator("texturenet_v2_instance_texture")
    found = picture("texturenet_v2_instance_texture")
    assert found.shape == (3, 2 * 2 + 64, 4 * 64 + 5 * 2)
    for i in range(4):
        tile = found[:, 2:66, 2 + 66 * i : 66 + 66 * i]
        wanted = net(None, NoiseStream(net, 0)(1, 64, 64, i))[0].clamp(0, 1)
        assert (tile - wanted).abs().max() <= 0.5 / 255 + 1e-6
    height = data.fit(data.photo("chelsea"), 256).shape[1]
    for name, count in (("skip_batch", 2), ("instance_bilinear_2", 4)):
        assert picture(name).shape == (3, height + 4, count * 258 + 2)
    file = tmp_path / "skip_batch.safetensors"
    # skip_batch.png, as of a training of one's own, shows the exemplar; samples.png may be anything
    # but in the folder of the run. Neither is published.
    for stem in ("skip_batch", "samples", "given"):
        Image.new("RGB", (20, 16), (255, 0, 0)).save(tmp_path / f"{stem}.png")

    def published(given=None):
        export.hub(file, tmp_path / "skip_batch", given)
        shown = Image.open(tmp_path / "skip_batch/samples.png")
        return shown.getcolors() == [(320, (255, 0, 0))]

    assert not published() and published(tmp_path / "given.png")
    run = config.to_json(generator("skip_batch")[1])
    for described, workflow in ((run, True), (run | {"device": "cuda"}, True),
                                (run | {"seed": 4}, False), ({"name": 3}, False)):  # fmt: skip
        write_json(tmp_path / "run.json", described)
        assert published() == workflow
    (tmp_path / "run.json").write_text("no JSON")
    assert not published()
    write_json(tmp_path / "run.json", run)
    (tmp_path / "samples.png").unlink()
    assert not published()


def test_without_the_packages_the_folder_says_so(tmp_path, monkeypatch, caplog):
    file, folder = saved("skip_batch", tmp_path / "m.safetensors"), tmp_path / "hub"
    export.hub(file, folder)
    assert not caplog.records and "not here" not in (folder / "README.md").read_text()
    monkeypatch.setitem(sys.modules, "onnx", None)
    written = export.hub(file, folder)
    assert "model.onnx is left out: it needs onnx; pip install -e '.[onnx]'" in caplog.text
    assert set(contents(folder)) == {path.name for path in written}
    assert "model.onnx" not in contents(folder)
    text = (folder / "README.md").read_text()
    assert "onnx" not in yaml.safe_load(text.split("---\n")[1])["tags"]
    assert "| `model.onnx` | not here" in text


def test_weights_of_others_are_not_ours_to_license(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    file = saved("skip_batch", tmp_path / "m.safetensors")
    tensors, metadata = read_tensors(file)
    write_tensors(file, tensors, metadata | {"imported_from": "authors.t7"})
    export.hub(file, tmp_path / "hub")
    front, card = (tmp_path / "hub/README.md").read_text().split("---\n")[1:]
    assert yaml.safe_load(front)["license"] == "other"
    assert "all that the training" not in card and "what the training was given" not in card


def test_of_an_imported_generator_no_training_is_told(tmp_path):
    file = saved("texturenet_v1_batch_texture", tmp_path / "m.safetensors")
    tensors, metadata = read_tensors(file)
    write_tensors(file, tensors, metadata | {"imported_from": "authors.t7"})
    run = json.loads(metadata["run"])
    wanted = {"name": run["name"], "generator": run["generator"], "images": {"exemplar": "berries"}}
    export.hub(file, tmp_path / "hub")
    export.onnx(file, tmp_path / "m.onnx")
    described = json.loads((tmp_path / "hub/config.json").read_text())
    said = "imported; how it was trained is not known"
    assert (described["run"], described["training"]) == (wanted, said)
    for path in ("hub/model.onnx", "m.onnx"):
        props = {p.key: p.value for p in onnx.load(tmp_path / path).metadata_props}
        assert (json.loads(props["run"]), props["training"]) == (wanted, said)
    card = (tmp_path / "hub/README.md").read_text()
    assert f"| `config.json` | the network; {said} |" in card
    _, loaded = training.load_generator(tmp_path / "hub/model.safetensors")
    assert config.to_json(loaded) == run
    assert read_tensors(tmp_path / "hub/model.safetensors")[1]["training"] == said


def test_what_the_owner_changed_is_kept(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "onnx", None)
    file, other = (saved(kind, tmp_path / f"{kind}.safetensors") for kind in
                   ("skip_batch", "skip_none"))  # fmt: skip
    folder = tmp_path / "hub"
    (folder / ".git").mkdir(parents=True)
    (folder / ".gitattributes").write_text("*.bin filter=lfs\n")

    def exported(model):
        """Names of what was written, and of what a warning says is kept."""
        caplog.clear()
        written = {path.name for path in export.hub(model, folder)}
        said = [r.getMessage() for r in caplog.records if "is kept" in r.getMessage()]
        return written, {line.partition(": ")[0].rpartition("/")[2] for line in said}

    weights = {"config.json", "model.safetensors", "samples.png"}
    assert exported(file) == (weights | {"README.md"}, {".gitattributes"})
    assert (folder / ".gitattributes").read_text() == "*.bin filter=lfs\n"
    first = (folder / "README.md").read_text()
    # As it was written it is written anew, for another model too.
    assert exported(other) == (weights | {"README.md"}, {".gitattributes"})
    assert (folder / "README.md").read_text() != first
    (folder / "README.md").write_text("completed")
    for model in (file, other):
        assert exported(model) == (weights, {"README.md", ".gitattributes"})
        assert (folder / "README.md").read_text() == "completed"
        _, run = training.load_generator(folder / "model.safetensors")
        assert run == training.load_generator(model)[1]
    (folder / "README.md").unlink()
    (folder / ".gitattributes").unlink()
    assert exported(file) == (weights | {"README.md", ".gitattributes"}, set())
    assert (folder / "README.md").read_text() == first
    # A configuration that says nothing of what was written: of an older texnet, or spoiled.
    for spoiled in ({}, {"written": 3}):
        (folder / "config.json").write_text(json.dumps(export.MARK | spoiled))
        (folder / "README.md").write_text("mine")
        assert exported(file) == (weights | {".gitattributes"}, {"README.md"})


def test_the_folder_of_somebody_else_stays(tmp_path):
    file = saved("skip_batch", tmp_path / "m.safetensors")
    for name, text in (("notes.txt", "mine"), ("config.json", '{"library_name": "other"}'),
                       ("config.json", "[]"), ("README.md", "# mine")):  # fmt: skip
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        with pytest.raises(UsageError, match=f"holds {name} and no config.json of texnet"):
            export.hub(file, folder)
        assert contents(folder) == {name: text.encode()}
    cloned = tmp_path / "cloned"
    (cloned / ".git").mkdir(parents=True)
    (cloned / ".gitattributes").write_text("*.bin filter=lfs\n")
    assert export.hub(file, cloned)


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    file, folder = saved("skip_batch", tmp_path / "m.safetensors"), tmp_path / "hub"
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        export.hub(file, folder, tmp_path / "bad.png")
    assert not folder.exists()
    export.hub(file, folder)
    before = contents(folder)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(DataError):
        export.hub(file, folder)
    assert contents(folder) == before
