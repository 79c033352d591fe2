"""The command line: a mistake gives one clear line and an exit code, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from texnet import __main__ as cli
from texnet import commands, config, data, descriptors, generators, runtime, tables, training
from texnet.artifacts import read_json, sha256, write_json, write_tensors, write_text
from texnet.experiment import Experiment
from texnet.validation import schema

ROOT = Path(__file__).resolve().parents[1]
VERBS = ("train texture", "train style", "stylize", "sample", "optimize texture",
         "optimize style", "info", "export", "import-torch7",
         "configure", "schema", "fetch", "train", "adopt", "optimize",
         "score", "references", "released", "speed", "estimator", "sweep", "temper", "metrics",
         "claims", "verify", "distill", "exemplar")  # fmt: skip
RUN = {
    "name": "net",
    "seed": 0,
    "descriptor": {"name": "random"},
    "generator": {"width": 4, "blocks": 1},
    "objective": {"style_layers": ["relu1_1"], "content_layers": ["relu1_1"]},
    "optimiser": {"iterations": 1, "batch": 1},
    "images": {
        "style": "ihc",
        "style_size": 16,
        "size": 16,
        "heldout_size": 16,
        "contents": ["rocket"],
        "heldout": ["chelsea"],
    },
    "device": "cpu",
}
BASELINE = {k: RUN[k] for k in ("name", "seed", "descriptor", "objective", "images", "device")} | {
    "start": "noise",
    "evaluations": 2,
}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Run in an empty folder, without weights in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEXNET_WEIGHTS", raising=False)
    # The allocator's setting is for a process of its own.
    monkeypatch.setattr(runtime, "_MALLOPT", {})
    yield
    torch.use_deterministic_algorithms(False)


def changed(content, **sections):
    return {**content, **{k: {**content.get(k, {}), **v} for k, v in sections.items()}}


@pytest.fixture
def model():
    run = config.parse(config.Training, RUN, "test")
    training.save_generator(
        Path("net.safetensors"), generators.build(run.generator, 0, run.images), run
    )
    return "net.safetensors"


def call(capsys, *arguments):
    """Exit code, standard output and standard error of a command."""
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *arguments, code=2, says=""):
    """The one line that a wrong command prints; the folder is as it was before."""
    before = sorted(Path().rglob("*"))
    found, _, err = call(capsys, *arguments)
    assert "Traceback" not in err
    assert err.startswith(f"texnet {arguments[0]}: error: "), err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    assert says in err
    assert found == code
    assert [p for p in sorted(Path().rglob("*")) if p not in before] == []
    return err


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "texnet", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help(capsys, verb):
    code, out, err = call(capsys, *(verb or "").split(), "--help")
    assert code == 0
    assert out.startswith("usage: texnet")
    assert err == ""
    if verb:
        assert f"example: texnet {verb} " in " ".join(out.split())
    else:
        assert all(name in out for name in VERBS)


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom texnet.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "VERB"),
        (["trian"], "'trian'"),
        (["--wat", "train", "a", "b"], "--wat"),
        (["train", "a", "b", "--wat"], "--wat"),
        (["train"], "run, out"),
        (["train", "texture"], "exemplar"),
        (["--debug", "train", "style"], "style"),
        (["train", "textures", "a", "--wat"], "--wat"),
        (["train", "a", "b", "--device", "gpu"], "'gpu'"),
        (["exemplar", "swirls"], "-o/--out"),
        (["exemplar", "swirls", "-o", "a.png", "--size", "0"], "'0' is not a whole number in 32"),
        (["exemplar", "swirls", "-o", "a.png", "--size", "-5"], "'-5' is not a whole number"),
        (["exemplar", "swirls", "-o", "a.png", "--size", "1e9"], "'1e9' is not a whole number"),
        (["exemplar", "swirls", "-o", "a.png", "--size", "9999999"], "in 32 to 4096"),
        (["exemplar", "swirls", "-o", "a.png", "--seed", "-1"], "'-1' is not a whole number"),
        (["stylize", "m", "i", "-o", "o", "--size", "8"], "'8' is not a whole number in 16"),
        (["stylize", "m", "i", "-o", "o", "--size", "big"], "'big' is not a whole number"),
        (["stylize", "m", "i", "-o", "o", "--seed", str(2**80)], "is not a whole number"),
        (["stylize", "m", "i", "-o", "o", "--threads", "0"], "'0' is not a whole number in 1"),
    ],
)
def test_wrong_arguments_give_one_line(capsys, arguments, says):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("texnet")
    assert "error: " in err
    assert says in err
    assert "--help" in err


def test_a_real_process_prints_one_line():
    done = process("train", "missing.json", "out.safetensors")
    assert done.returncode == 66
    assert done.stdout == ""
    assert done.stderr == (
        "texnet train: error: missing.json: no such file; expected a JSON file\n"
    )
    Path("run.json").write_text(json.dumps(changed(RUN, images={"style": "chelsae"})))
    done = process("train", "run.json", "out/model.safetensors")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "unknown image 'chelsae'" in done.stderr
    assert os.listdir() == ["run.json"]


@pytest.mark.parametrize("order", [("--debug", "exemplar"), ("exemplar", "--debug")])
def test_debug_shows_the_traceback(capsys, order):
    code, _, err = call(capsys, *order, "squirls", "-o", "a.png")
    assert code == 2
    assert err.startswith("Traceback")
    assert err.endswith("berries\n")
    assert "\ntexnet exemplar: error: unknown exemplar 'squirls'; use swirls" in err


def test_a_bug_shows_itself(capsys, monkeypatch):
    monkeypatch.setattr(data, "write_image", lambda *a: 1 / 0)
    code, _, err = call(capsys, "exemplar", "swirls", "--size", "32", "-o", "a.png")
    assert code == 1
    assert "ZeroDivisionError" in err
    assert err.endswith("please report it\n")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (PermissionError(13, "Permission denied", "a.png"), 66, "a.png: Permission denied"),
        (OSError(5, "Input/output error"), 66, "Input/output error"),
        (MemoryError(), 1, "out of memory; use a smaller size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), 65, "not text"),
        (KeyboardInterrupt(), 130, None),
    ],
)
def test_errors_of_the_machine(capsys, monkeypatch, error, code, says):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(data, "write_image", fail)
    found, _, err = call(capsys, "exemplar", "swirls", "--size", "32", "-o", "a.png")
    assert found == code
    assert "Traceback" not in err
    assert err.count("\n") == (says is not None)
    assert (says or "") in err


def test_reader_that_stops_early(model):
    Path("in").mkdir()
    for i in range(2):
        Image.new("RGB", (16, 16)).save(f"in/{i}.png")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "texnet", "stylize", model, "in", "-o", "out"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


# Configuration


def test_configure_writes_every_run(capsys):
    files = f"{ROOT}/config/config.yaml,{ROOT}/config/tiny.yaml"
    assert call(capsys, "configure", files, "-o", "results")[0] == 0
    written = sorted(str(p) for p in Path("results").rglob("*") if p.is_file())
    nets = ("in", "bn", "lrn_first", "in_first", "noise", "diverse")
    names = [f"stylenet_{net}" for net in nets] + ["pyramid_in", "pyramid_bn", "pyramid_bn_few"]
    names += ["skip_in", "skip_bn", "finetune_bn", "finetune_in", "gatys"]
    made = [f"{name}_seed0" for name in names]
    made += ["gatys_larger_seed0", "gatys_largest_seed0"]
    made += [f"v2_diverse_{t}_berries_seed100" for t in ("T4", "T16", "T50", "T200")]
    textures = ("v1", "v1_bn", "v2", "v2_bn", "v2_plain", "v2_diverse", "gatys_texture")
    made += [f"{name}_berries_seed0" for name in textures]
    roles = {f"results/{name}.json" for name in ("stylization", "textures", "sweep", "speed")}
    complete = {f"results/{name}/run.json" for name in made if "v2_diverse_b" not in name}
    asked = {f"results/{name}/asked.json" for name in made if "v2_diverse_b" in name}
    assert set(written) == roles | complete | asked and len(asked) == 1
    assert config.read_run(Path("results/gatys_seed0/run.json")).evaluations == 8
    parts = read_json(Path("results/stylization.json"))
    assert parts["batch"] == "stylenet_bn" and parts["optimised_at"]["largest"] == 96
    models = read_json(Path("results/speed.json"))["models"].values()
    assert set(models) <= {f"results/{name}/model.safetensors" for name in made}
    # The same from JSON text, as Snakemake gives it.
    text = json.dumps(commands._mapping(files))
    assert call(capsys, "configure", text, "-o", "again")[0] == 0
    for path in written:
        assert sha256(Path(path)) == sha256(Path("again") / Path(path).relative_to("results"))


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ('{"a": ', 2, "configuration: is not valid JSON"),
        ("{seeds: 1}", 2, "configuration: is not valid JSON"),
        ("{}", 2, "configuration: key 'scale' is missing"),
        ('{"wat": 1}', 2, "configuration: "),
        ("none.yaml", 66, "none.yaml: no such file; expected YAML"),
        (".", 66, ".: is a directory"),
        ("", 2, "configuration: "),
        ("bad.yaml", 65, "bad.yaml: is not valid YAML"),
    ],
)
def test_configure_refuses(capsys, text, code, says):
    Path("bad.yaml").write_text("a: [1\nb: 2\n")
    refused(capsys, "configure", text, "-o", "results", code=code, says=says)


def test_outputs_that_cannot_be_written(capsys, model):
    Path("file").touch()
    config_text = json.dumps(commands._mapping(f"{ROOT}/config/config.yaml"))
    refused(capsys, "configure", config_text, "-o", "file", code=74, says="cannot be written")
    refused(capsys, "schema", "-o", ".", code=74, says="cannot be written")
    refused(capsys, "exemplar", "scales", "--size", "32", "-o", "file/a.png", code=74)
    refused(capsys, "stylize", model, "rocket", "--size", "16", "-o", "file", code=74)
    write_json(Path("run.json"), RUN)
    refused(capsys, "train", "run.json", ".", code=74, says=".: is a directory; name a file")
    refused(capsys, "train", "run.json", "file/model.safetensors", code=74, says="cannot be")


def test_schema(capsys):
    assert call(capsys, "schema", "-o", "s.json")[0] == 0
    assert json.loads(Path("s.json").read_text()) == schema(Experiment)


# Runs


@pytest.mark.parametrize("verb", ["train", "optimize"])
@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        ("{'name': 1}", 65, "run.json: is not valid JSON"),
        ("", 65, "run.json: is not valid JSON"),
        ("[1, 2]", 65, "run.json: holds list, wanted an object"),
        ("{}", 2, "run.json: key 'name' is missing"),
        ('{"scale": "tiny"}', 2, "run.json: "),
        (None, 66, "run.json: is a directory"),
    ],
)
def test_bad_run_json(capsys, verb, content, code, says):
    if content is None:
        Path("run.json").mkdir()
    else:
        Path("run.json").write_text(content)
    refused(capsys, verb, "run.json", "new/out.safetensors", code=code, says=says)


def test_the_wrong_kind_of_run(capsys):
    write_json(Path("train.json"), RUN)
    write_json(Path("optimize.json"), BASELINE)
    refused(capsys, "train", "optimize.json", "a", says="describes a baseline; use texnet optimize")
    refused(capsys, "optimize", "train.json", "a", says="describes a training; use texnet train")


@pytest.mark.parametrize(
    ("sections", "code", "says"),
    [
        ({"images": {"style": "chelsae"}}, 2, "unknown image 'chelsae'; use a file, a photograph"),
        ({"images": {"contents": ["a.jpg"]}}, 66, "a.jpg: no such file"),
        ({"images": {"heldout": ["text.png"]}}, 65, "text.png: not a PNG or JPEG"),
        ({"objective": {"style_layers": ["relu5_4"]}}, 2, "has no layer 'relu5_4'"),
        ({"optimiser": {"lr": "fast"}}, 2, "run.json: 'optimiser.lr' is 'fast'"),
        ({"descriptor": {"name": "vgg19"}}, 66, "texnet fetch vgg19 makes it"),
        ({"descriptor": {"name": "vgg19", "weights": "w"}}, 66, "w: no such weights file"),
    ],
)
def test_runs_with_bad_content(capsys, sections, code, says):
    Path("text.png").write_text("text")
    write_json(Path("run.json"), changed(RUN, **sections))
    refused(capsys, "train", "run.json", "new/out.safetensors", code=code, says=says)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_device_that_is_not_there(capsys, device):
    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator")
    write_json(Path("run.json"), RUN)
    says = f"device '{device}' is not usable here"
    refused(capsys, "train", "run.json", "a", "--device", device, says=says)


def test_train_then_optimize_then_score(capsys):
    write_json(Path("net_seed0/run.json"), RUN)
    write_json(Path("tuned_seed0/run.json"), BASELINE | {"name": "tuned", "start": "net"})
    model, images = "net_seed0/model.safetensors", "tuned_seed0/images.safetensors"
    code, _, err = call(capsys, "train", "net_seed0/run.json", model)
    assert code == 0, err
    needs = ("optimize", "tuned_seed0/run.json", images)
    refused(capsys, *needs, says="takes the model of run 'net' (--start)")
    refused(capsys, *needs, "--start", "none", code=66, says="none: no such file")
    refused(capsys, *needs, "--start", "net_seed0/run.json", code=65, says="safetensors")
    code, _, err = call(capsys, *needs, "--start", model)
    assert code == 0, err
    refused(capsys, *needs, "--start", images, code=65, says="not a generator")
    write_json(Path("run.json"), BASELINE)
    refused(capsys, "optimize", "run.json", "a", "--start", model, says="takes no model")
    code, _, err = call(capsys, "score", "net_seed0", "tuned_seed0/", "-o", "scores.csv")
    assert code == 0, err
    assert call(capsys, "metrics", "scores.csv", "-o", "metrics.csv")[0] == 0
    assert call(capsys, "score", "net_seed0", "--sizes", 20, 24, "-o", "sized.csv")[0] == 0
    more = {row.metric for row in tables.read_scores([Path("sized.csv")])}
    more -= {row.metric for row in tables.read_scores([Path("scores.csv")])}
    assert more == {f"{term}_{size}px" for term in ("objective", "texture") for size in (20, 24)}
    refused(capsys, "score", "net_seed0", "--sizes", 8, "-o", "x.csv", says="'8' is not a whole")
    assert sorted(p.name for p in Path("net_seed0").iterdir()) == [
        "history.csv", "model.safetensors", "run.json", "samples.png"
    ]  # fmt: skip
    assert not list(Path().rglob("*.part"))


# Textures


TEXTURE = RUN | {
    "name": "tex",
    "generator": {"name": "texturenet_v2", "width": 2, "latent": 4},
    "objective": {"style_layers": ["relu1_1", "relu2_1"], "content_weight": 0},
    "optimiser": {"iterations": 2, "batch": 2},
    "images": {"exemplar": "ihc", "exemplar_size": 48, "size": 32, "samples": 8},
}
PYRAMID = TEXTURE | {
    "generator": {"name": "texturenet_v1", "norm": "instance", "width": 2},
    "images": {"exemplar": "ihc", "exemplar_size": 64, "size": 64},
}


def test_texture_from_training_to_the_choice_of_temperature(capsys):
    write_json(Path("tex_ihc_seed0/run.json"), TEXTURE)
    assert (
        call(capsys, "train", "tex_ihc_seed0/run.json", "tex_ihc_seed0/model.safetensors")[0] == 0
    )
    assert call(capsys, "score", "tex_ihc_seed0", "-o", "tex.csv")[0] == 0
    seeds = ("--seeds", 0, 1)
    assert call(capsys, "references", "tex_ihc_seed0/run.json", *seeds, "-o", "r.csv")[0] == 0
    assert call(capsys, "estimator", *seeds, "-o", "e.csv")[0] == 0
    assert call(capsys, "metrics", "tex.csv", "r.csv", "e.csv", "-o", "m.csv")[0] == 0
    runs = {row["run"] for row in tables.read_table(Path("m.csv"))}
    assert runs == {"tex", "crops", "repeated", "estimator"}
    write_json(Path("sweep.json"), {"sweep": {"tex": 7.0}, "spotting_limit": 1e9})
    sweep = ("sweep", "ihc", "--settings", "sweep.json", "--scores", "tex.csv")
    assert call(capsys, *sweep, "-o", "ihc.csv") == (0, "ihc: T = 7\n", "")
    temper = ("temper", "tex_ihc_seed0/run.json", "ihc.csv", "-o", "t.json")
    refused(capsys, *temper, says="diversity_weight is 0: T would do nothing")
    diverse = changed(TEXTURE, objective={"diversity_weight": 1})
    write_json(Path("d/asked.json"), diverse)
    refused(capsys, "train", "d/asked.json", "d/m.safetensors", says="its T is not chosen yet")
    assert call(capsys, "temper", "d/asked.json", "ihc.csv", "-o", "t.json")[0] == 0
    write_json(Path("d/other.json"), changed(diverse, images={"exemplar": "gravel"}))
    other = ("temper", "d/other.json", "ihc.csv", "-o", "x.json")
    refused(capsys, *other, code=65, says="is the sweep of 'ihc', wanted that of 'gravel'")
    assert config.read_run(Path("t.json")).objective.temperature == 7
    refused(capsys, *sweep[:-1], "e.csv", "-o", "x.csv", code=65, says="run 'tex' has no 'texture'")
    write_json(Path("sweep.json"), {"sweep": {"tex": 7.0}, "spotting_limit": 1e-9})
    assert "warning: no T of the sweep stays under" in call(capsys, *sweep, "-o", "ihc.csv")[2]
    write_json(Path("sweep.json"), {"sweep": {}})
    refused(capsys, *sweep, "-o", "x.csv", code=65, says="has no key 'spotting_limit'")
    write_json(Path("b.json"), BASELINE)
    refused(capsys, "temper", "b.json", "ihc.csv", "-o", "x.json", says="has no temperature")
    refused(capsys, "references", "b.json", "-o", "x.csv", says="is a stylization")


@pytest.fixture
def texture():
    """An untrained model of each texture network."""
    for name, content in (("v2", TEXTURE), ("v1", PYRAMID)):
        run = config.parse(config.Training, content, "test")
        net = generators.build(run.generator, 0, run.images)
        training.save_generator(Path(f"{name}.safetensors"), net, run)


def test_sample_any_size(capsys, texture, model):
    code, out, err = call(capsys, "sample", "v1.safetensors", "-n", 2, "--size", "64x96", "-o", "o")
    assert (code, err) == (0, "") and len(out.splitlines()) == 2
    first, second = (data.read_image(Path(line)) for line in out.splitlines())
    assert first.shape == (3, 96, 64) and not torch.equal(first, second)
    code, out, err = call(capsys, "sample", "v1.safetensors", "--size", "50x40", "-o", "p")
    assert code == 0 and "do not tile" in err
    assert data.read_image(Path(out.strip())).shape == (3, 40, 50)
    assert call(capsys, "sample", "v2.safetensors", "-o", "q")[0] == 0
    refused(capsys, "sample", "v2.safetensors", "--size", 64, "-o", "r", says="makes 32x32 images")
    refused(capsys, "sample", "v1.safetensors", "--size", "2x2", "-o", "r", says="'2' is not a wh")
    refused(capsys, "sample", "v1.safetensors", "--size", 32, "-o", "r", says="more than 32 pixels")
    refused(capsys, "sample", model, "-o", "r", says="use texnet stylize")
    refused(capsys, "stylize", "v1.safetensors", "rocket", "-o", "r", says="use texnet sample")
    refused(capsys, "sample", "v1.safetensors", "-o", "r.png", says="looks like a file")


@pytest.mark.parametrize(
    ("images", "code", "says"),
    [
        ({"exemplar": "flat.png"}, 65, "exemplar 'flat.png' is flat"),
        ({"exemplar": "thin.png"}, 65, "its shorter side has 15 pixels, samples have 32"),
        ({"exemplar": "none.png"}, 66, "none.png"),
        ({"exemplar": "nosuch"}, 2, "unknown image 'nosuch'"),
    ],
)
def test_exemplars_that_are_none(capsys, images, code, says):
    Image.new("RGB", (64, 64), (90, 90, 90)).save("flat.png")
    Image.linear_gradient("L").resize((64, 20)).save("thin.png")
    run = changed(TEXTURE, images=images)
    write_json(Path("run.json"), run)
    refused(capsys, "train", "run.json", "out.safetensors", code=code, says=says)
    keys = ("name", "seed", "descriptor", "objective", "images", "device")
    write_json(Path("run.json"), {k: run[k] for k in keys} | {"start": "noise", "evaluations": 2})
    refused(capsys, "optimize", "run.json", "out.safetensors", code=code, says=says)


# Weights


@pytest.fixture
def weights():
    """Files that are no VGG-19 weights, by name."""
    lite = {
        f"conv{name}.{kind}": torch.zeros(3) if kind == "bias" else torch.zeros(3, 3, 3, 3)
        for name in descriptors.CONVOLUTIONS
        for kind in ("weight", "bias")
    }
    write_tensors(Path("other.safetensors"), lite, {})
    write_tensors(Path("names.safetensors"), {"layer": torch.zeros(3)}, {})
    Path("cut.safetensors").write_bytes(Path("other.safetensors").read_bytes()[:-5])

    class Payload:
        def __reduce__(self):
            return os.system, ("touch pwned",)

    torch.save({"conv1_1.weight": Payload()}, "pickle.pth")
    Path("text.pth").write_text("text")
    Path("empty").mkdir()


@pytest.mark.parametrize(
    ("file", "code", "says"),
    [
        ("other.safetensors", 65, "another network's weights"),
        ("names.safetensors", 65, "has no tensor 'conv1_1.weight'"),
        ("cut.safetensors", 65, "truncated"),
        ("pickle.pth", 65, "not a plain dictionary of tensors"),
        ("text.pth", 65, "not a plain dictionary of tensors"),
        ("empty", 66, "holds no .safetensors file"),
        ("none.safetensors", 66, "TEXNET_WEIGHTS"),
    ],
)
@pytest.mark.parametrize("through", ["configuration", "environment"])
def test_bad_weights(capsys, monkeypatch, weights, file, code, says, through):
    if through == "environment":
        monkeypatch.setenv("TEXNET_WEIGHTS", file)
    named = {"weights": file} if through == "configuration" else {}
    write_json(Path("run.json"), changed(RUN, descriptor={"name": "vgg19", **named}))
    err = refused(capsys, "train", "run.json", "a", code=code, says=says)
    assert f"{file}: " in err
    assert not Path("pwned").exists(), "the pickle was run"


def test_wrong_checksum(capsys, weights):
    descriptor = {"name": "vgg19", "weights": "other.safetensors", "sha256": "0" * 64}
    write_json(Path("run.json"), changed(RUN, descriptor=descriptor))
    err = refused(capsys, "train", "run.json", "a", code=65, says=f"wanted {'0' * 64}")
    assert sha256(Path("other.safetensors")) in err


# Stylization


@pytest.mark.parametrize("size", [(37, 50), (16, 16), (50, 21)])
def test_stylize_keeps_the_size(capsys, model, size):
    Image.new("RGB", size, "teal").save("in.jpg")
    code, out, err = call(capsys, "stylize", model, "in.jpg", "-o", "new/out")
    assert (code, out, err) == (0, "new/out/in.png\n", "")
    with Image.open("new/out/in.png") as made:
        assert made.size == size
        assert made.mode == "RGB"


def test_stylize_photograph_and_folder(capsys, model):
    assert call(capsys, "stylize", model, "rocket", "--size", "40", "-o", "out")[0] == 0
    with Image.open("out/rocket.png") as made:
        assert max(made.size) == 40
    for name in ("b.png", "sub/a.jpg"):
        Path("in", name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (18, 22)).save(Path("in", name))
    code, out, _ = call(capsys, "stylize", model, "in", "-o", "many")
    assert (code, out) == (0, "many/b.png\nmany/a.png\n")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["none.safetensors", "rocket", "-o", "out"], 66, "none.safetensors: no such file"),
        (["in", "rocket", "-o", "out"], 66, "in: is a directory"),
        (["in/a.png", "rocket", "-o", "out"], 65, "in/a.png: cannot be read as safetensors"),
        (["weights.safetensors", "rocket", "-o", "out"], 65, "not a generator made by texnet"),
        (["net.safetensors", "rokcet", "-o", "out"], 2, "unknown image 'rokcet'"),
        (["net.safetensors", "none.jpg", "-o", "out"], 66, "none.jpg: no such file"),
        (["net.safetensors", "text.png", "-o", "out"], 65, "text.png: not a PNG or JPEG"),
        (["net.safetensors", "empty", "-o", "out"], 66, "empty: no .png, .jpg or .jpeg"),
        (["net.safetensors", "rocket", "-o", "out.PNG"], 2, "name a folder"),
        (["net.safetensors", "in", "-o", "in"], 2, "in/a.png: would overwrite its input"),
        (["net.safetensors", "twins", "-o", "out"], 2, "would both become out/a.png"),
    ],
)
def test_stylize_refuses(capsys, model, arguments, code, says):
    for folder in ("in", "empty", "twins"):
        Path(folder).mkdir()
    for name in ("in/a.png", "twins/a.png", "twins/a.jpg"):
        Image.new("RGB", (16, 16)).save(name)
    Path("text.png").write_text("text")
    write_tensors(Path("weights.safetensors"), {"a": torch.zeros(2)}, {})
    refused(capsys, "stylize", *arguments, code=code, says=says)


# Exemplars and tables

CLAIMS = ("--stylization", "parts.json", "--textures", "textures.json", "--scores", "s.csv",
          "--histories", "net_seed0", "-o", "c.csv")  # fmt: skip


def test_exemplar(capsys):
    assert call(capsys, "exemplar", "scales", "--size", "40", "-o", "new/a.png") == (0, "", "")
    assert data.read_image(Path("new/a.png")).shape == (3, 40, 40)
    err = refused(capsys, "exemplar", "squirls", "-o", "a.png", says="unknown exemplar 'squirls'")
    assert "swirls" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["score", ".", "-o", "s.csv"], 66, "run.json: no such file"),
        (["metrics", "none.csv", "-o", "m.csv"], 66, "none.csv"),
        (["metrics", "text.csv", "-o", "m.csv"], 65, "text.csv: not a score table"),
        (["metrics", "binary.csv", "-o", "m.csv"], 65, "binary.csv: is not a CSV table"),
        (["metrics", ".", "-o", "m.csv"], 66, "directory"),
        (["claims", *CLAIMS, "--stylization", "none.json"], 66, "none.json: no such file"),
        (["claims", *CLAIMS, "--stylization", "textures.json"], 65, "has no key 'optimised_at'"),
        (["claims", *CLAIMS, "--textures", "parts.json"], 65, "parts.json: has no key 'exemplars'"),
        (["claims", *CLAIMS, "--scores", "text.csv"], 65, "text.csv: not a score table"),
        (["claims", *CLAIMS, "--histories", "b_seed0"], 66, "b_seed0/history.csv"),
        (["claims", *CLAIMS, "--histories", "b"], 2, "b: is not named like a run"),
        (["claims", *CLAIMS, "--histories", "x_seed0"], 65, "x_seed0/history.csv: not the history"),
        (["distill", "--teacher", "t", "--images", "none", "--out", "d"], 66, "none: no such fold"),
        (["distill", "--teacher", "t", "--images", ".", "--out", "d"], 66, "no .png, .jpg or"),
    ],
)
def test_tables_and_distillation_refuse(capsys, arguments, code, says):
    Path("text.csv").write_text("a,b\n1,2\n")
    Path("binary.csv").write_bytes(b"\x93\xff\xfe")
    write_json(Path("parts.json"), {"optimised_at": {}, "sizes": []})
    write_json(Path("textures.json"), {"sweep": {}, "exemplars": []})
    Path("s.csv").write_text(",".join(tables.SCORE_COLUMNS) + "\n")
    write_text(Path("net_seed0/history.csv"), "iteration,loss\n1,2.5\n")
    write_text(Path("x_seed0/history.csv"), "iteration,loss\n1,\n")
    refused(capsys, *arguments, code=code, says=says)


def test_claims_from_files(capsys):
    """Two runs of two seeds: what they say is judged, the rest was not tested."""
    write_json(Path("parts.json"), {
        "scale": "tiny", "batch": "bn", "instance": "in", "optimised_at": {}, "sizes": [],
    })  # fmt: skip
    write_json(Path("textures.json"), {"sweep": {}, "exemplars": []})
    for seed in (0, 1):
        write_text(Path(f"bn_seed{seed}/history.csv"), "iteration,loss\n1,6\n2,3\n")
        write_text(Path(f"in_seed{seed}/history.csv"), "iteration,loss\n1,2\n2,1\n")
    names = ("objective", "objective_own_statistics", "texture", "content", "contrast_change",
             "mode_difference", "batch_difference")  # fmt: skip
    rows = [
        tables.Row(run, "swirls", seed, "chelsea", name, value, "")
        for run, value in (("bn", 6.0), ("in", 3.0)) for seed in (0, 1) for name in names
    ]  # fmt: skip
    tables.write_table(Path("s.csv"), tables.SCORE_COLUMNS, rows)
    code, out, err = call(capsys, *("claims", *CLAIMS, "--histories", *Path().glob("*_seed?")))
    assert (code, out, err) == (0, "", "")
    found = tables.read_table(Path("c.csv"))
    assert list(dict.fromkeys(row["id"] for row in found)) == [f"C{i}" for i in range(1, 29)]
    trained, last, reached, heldout = [row for row in found if row["id"] == "C1"][:4]
    assert [float(row["value"]) for row in (trained, last, heldout)] == pytest.approx([3, 3, 2])
    assert float(reached["value"]) == 2  # iterations to an objective of 3
    assert {row["verdict"] for row in (trained, last, reached, heldout)} == {"supported"}
    assert trained["runs"] == "bn in" and heldout["n"] == "2"
    gaps = [row for row in found if row["id"] in ("C2", "C3", "C5", "C15", "C20", "C25")]
    assert {row["verdict"] for row in gaps} == {"not tested"} and gaps[0]["value"] == ""
