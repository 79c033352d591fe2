"""Configuration: what is accepted, and how what is not is named."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from experiments import COMMITTED, FULL, changed, experiment
from pydantic import ValidationError

from texnet import config
from texnet.commands import _mapping
from texnet.errors import DataError, UsageError
from texnet.experiment import Experiment
from texnet.validation import schema

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "config" / "tiny.yaml"
RUN = {
    "name": "net",
    "seed": 0,
    "descriptor": {},
    "generator": {},
    "objective": {},
    "optimiser": {},
    "images": {},
}


def training(**changes):
    return config.parse(config.Training, changed(RUN, **changes), "run.json")


def test_committed_schema_is_the_classes():
    committed = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert committed == schema(Experiment), "run `make schema` and commit the result"


@pytest.mark.parametrize("files", [[FULL], [FULL, TINY]], ids=["full", "tiny"])
def test_committed_configurations(files):
    content = _mapping(",".join(map(str, files)))
    made = config.parse(Experiment, content, "configuration")
    assert made.scale == ("tiny" if TINY in files else "embedded")
    runs = made.all_runs()
    textures = made.textures
    each = len(textures.labels) * (len(textures.runs) + len(textures.baselines))
    swept = len(textures.labels) * len(textures.swept) * len(textures.sweep.seeds)
    entries = [*content["runs"].values(), *content["baselines"].values()]
    stylizations = sum(len(entry.get("seeds", made.seeds)) for entry in entries)
    assert len(runs) == stylizations + len(made.seeds) * each + swept
    assert "gatys_larger_seed0" in runs and "gatys_larger_seed1" not in runs
    # The files may only change what they name.
    assert made.optimiser.lr == 0.003
    assert made.optimiser.iterations == (6 if TINY in files else 500)
    assert runs["stylenet_bn_seed0"].generator.norm == "batch"
    assert runs["finetune_bn_seed0"].start == "stylenet_bn"


def test_the_tiny_configuration_has_every_run_and_each_is_short():
    contents = [COMMITTED, _mapping(f"{FULL},{TINY}")]
    embedded, tiny = (config.parse(Experiment, c, "configuration") for c in contents)
    for names in ("runs", "baselines"):
        assert list(getattr(tiny, names)) == list(getattr(embedded, names))
        assert list(getattr(tiny.textures, names)) == list(getattr(embedded.textures, names))
    assert tiny.figures == embedded.figures and tiny.textures.swept == embedded.textures.swept
    for name, run in tiny.all_runs().items():
        trained = isinstance(run, config.Training)
        assert (run.optimiser.iterations if trained else run.evaluations) <= 8, name
        assert not trained or (run.optimiser.batch, run.generator.width <= 4) == (2, True), name


def test_later_files_win_key_by_key(tmp_path):
    (tmp_path / "a.yaml").write_text("x: {y: 1, z: 2}\nw: [1, 2]\n")
    (tmp_path / "b.yaml").write_text("x: {z: 3}\nw: [4]\n")
    files = f"{tmp_path / 'a.yaml'}, {tmp_path / 'b.yaml'},"
    assert _mapping(files) == {"x": {"y": 1, "z": 3}, "w": [4]}
    assert _mapping(' {"x": {"y": 1}}') == {"x": {"y": 1}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "holds no keys"),
        (b"- 1\n", "holds no keys"),
        (b"a: [1\n", "not valid YAML"),
        (b"a: {b: c: d}", "not valid YAML"),
        (b"{? {a: 1} : 2}", "not valid YAML"),
        (b"\x93\xff\xfe", "not valid YAML"),
        (b"a: !!python/object/apply:os.system ['touch pwned']", "not valid YAML"),
    ],
)
def test_bad_yaml(tmp_path, monkeypatch, content, text):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises((UsageError, DataError), match=rf"a\.yaml: .*{text}"):
        _mapping(str(path))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("sedes", "unknown key 'sedes'; did you mean 'seeds'"),
        ("optimiser__itertions", "'optimiser.itertions'; did you mean 'iterations'"),
        ("runs__stylenet_in__generator__wdith", "'runs.stylenet_in.generator.wdith'.*'width'"),
        ("runs__stylenet_in__genrator", "'runs.stylenet_in.genrator'; did you mean 'generator'"),
        ("baselines__gatys__strat", "'baselines.gatys.strat'; did you mean 'start'"),
        ("figures__stylization__instanec", "'figures.stylization.instanec'; did you .*'instance'"),
        ("zzzzzzz", "unknown key 'zzzzzzz'; config/README.md lists the keys"),
    ],
)
def test_unknown_keys_are_named_with_a_suggestion(key, text):
    with pytest.raises(UsageError, match=f"^configuration: .*{text}"):
        experiment(**{key: 1})


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("optimiser__iterations", 0, "'optimiser.iterations' is 0; it should be greater than 0"),
        ("optimiser__iterations", "many", "is 'many'; it should be a valid integer"),
        ("optimiser__iterations", 1.5, "is 1.5; it should be a valid integer"),
        ("optimiser__iterations", True, "is True; it should be a valid integer"),
        ("optimiser__iterations", None, "is None; it should be a valid integer"),
        ("optimiser__lr", -1e-3, "'optimiser.lr' is -0.001; it should be greater than 0"),
        ("optimiser__lr", float("nan"), "'optimiser.lr' is nan; it should be a finite number"),
        ("optimiser__lr", float("inf"), "'optimiser.lr' is inf; it should be a finite number"),
        ("optimiser__lr", "fast", "'optimiser.lr' is 'fast'; it should be a valid number"),
        ("optimiser__lr", True, "'optimiser.lr' is 'True'; it should be a valid number"),
        ("optimiser__decay", 1.5, "'optimiser.decay' is 1.5; it should be less than or equal to 1"),
        ("optimiser__decay", float("nan"), "'optimiser.decay' is nan"),
        ("objective__tv_weight", -1, "'objective.tv_weight' is -1"),
        (
            "objective__style_layers",
            ["relu9_9"],
            "'objective.style_layers.0' is 'relu9_9'; .*relu1",
        ),
        ("objective__style_layers", [], "style_layers is empty; .*style_weight"),
        ("objective__content_layers", [], "content_layers is empty; .*content_weight"),
        ("objective", None, "'objective' is None; it should be a section with keys"),
        ("objective", [1], r"'objective' is \[1\]; it should be a section with keys"),
        (
            "generator__norm",
            "layer",
            "'generator.norm' is 'layer'; it should be 'instance', 'batch'",
        ),
        ("generator__noise_channels", -3, "'generator.noise_channels' is -3"),
        ("generator__width", 0, "'generator.width' is 0"),
        ("images__size", 4, "'images.size' is 4; it should be greater than or equal to 16"),
        ("images__style_size", -256, "'images.style_size' is -256"),
        ("images__crop_scale", 0, "'images.crop_scale' is 0"),
        ("images__heldout", [], r"'images.heldout' is \[\]; it should have at least 1 item"),
        ("images__contents", "astronaut", "'images.contents' is 'astronaut'; it should be a list"),
        ("images__heldout", ["coffee", "chelsea"], "'coffee' is in both contents and heldout"),
        ("images__heldout", ["chelsea", "chelsea"], "heldout names an image twice"),
        ("descriptor__name", "vgg16", "'descriptor.name' is 'vgg16'; it should be 'vgg19'"),
        ("descriptor__sha256", "abc", "'descriptor.sha256' is 'abc'"),
        ("device", "gpu", "'device' is 'gpu'; it should be 'cpu', 'cuda'"),
        ("threads", "x" * 5000, "'threads' is 'xxx"),
        ("seeds", [], "'seeds' is"),
        ("seeds", 3, "'seeds' is 3; it should be a list"),
        ("seeds", [0, -1], "'seeds.1' is -1"),
        ("seeds", [2**70], "'seeds.0' is 11805.*less than 2147483648"),
        ("seeds", [1, 0, 1], "seeds names a seed twice: 1, 0, 1"),
        ("runs", {}, "'runs' is {}; it should have at least 1 item"),
        ("runs", None, "'runs' is None; it should be a section with keys"),
        ("runs__a/b", {}, "'runs.a/b'"),
        ("runs__..", {}, "'runs...'"),
        ("runs__noise", {}, "no run can be named 'noise'"),
        ("runs__gatys", {}, "runs.gatys: a baseline has this name"),
        ("runs__stylenet_in__generator__blocks", None, "runs.stylenet_in: 'blocks' is None"),
        ("runs__stylenet_in__images__heldout", ["coffee"], "runs.stylenet_in: 'coffee' is in both"),
        ("runs__stylenet_bn__optimiser__batch", 1, "runs.stylenet_bn: .*would equal instance norm"),
        (
            "baselines__gatys__start",
            "styel",
            "baselines.gatys.start is 'styel'; .*noise, stylenet_in",
        ),
        ("baselines__gatys__evaluations", 0, "'baselines.gatys.evaluations' is 0"),
        (
            "baselines__gatys__objective",
            {"style_weight": 0, "content_weight": 0},
            "baselines.gatys: .*nothing to minimise",
        ),
        ("figures__stylization__batch", "bn", "stylization.batch is 'bn'; use one of stylenet_in"),
        ("figures__stylization__noise", "stylenet_in", "noise is 'stylenet_in'; .* gatys"),
        ("figures__stylization__content", "coffee", "content is 'coffee'; .*chelsea"),
        ("figures", {}, "key 'figures.stylization' is missing"),
        ("sizes", [], r"'sizes' is \[\]; it should have at least 1 item"),
        ("sizes", [8], "'sizes.0' is 8; it should be greater than or equal to 16"),
        ("speed__sizes", 64, "'speed.sizes' is 64; it should be a list"),
        ("speed__repetitions", 0, "'speed.repetitions' is 0; it should be greater than 0"),
        ("speed__repetition", 1, "unknown key 'speed.repetition'; did you mean 'repetitions'"),
        (
            "runs__skip_in__generator",
            {"name": "unet"},
            "'runs.skip_in.generator' is .*texturenet_v1",
        ),
        ("runs__skip_in__generator", {"name": "texturenet_v2"}, "'runs.skip_in.generator' is "),
        ("runs__skip_in__generator__blocks", 3, "unknown key 'runs.skip_in.generator.blocks'"),
        (
            "runs__pyramid_in__generator__norm",
            "lrn_first",
            "'runs.pyramid_in.generator.norm' is 'l",
        ),
        ("runs__pyramid_in__images__heldout_size", 32, "runs.pyramid_in: .*is 32; .*64 or more"),
        ("runs__skip_in__seeds", [], r"'runs.skip_in.seeds' is \[\]; it should have at least 1"),
    ],
)
def test_bad_values_are_named(key, value, text):
    with pytest.raises(UsageError, match=f"^configuration: .*{text}") as caught:
        experiment(**{key: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350
    assert caught.value.code == 2


def test_nothing_to_minimise():
    with pytest.raises(UsageError, match="style_weight and content_weight are both 0"):
        experiment(objective__style_weight=0, objective__content_weight=0)
    only_style = training(objective__content_weight=0, objective__content_layers=[])
    assert only_style.objective.content_layers == ()


@pytest.mark.parametrize("norm", ["batch", "instance_first", "lrn_first"])
def test_batch_norm_with_batch_1(norm):
    changes = {"generator__norm": norm, "optimiser__batch": 1}
    with pytest.raises(UsageError, match=f"'{norm}'.*batch 1 would equal instance norm.* 2 or"):
        training(**changes)
    assert training(**changes | {"optimiser__batch": 2}).generator.norm == norm


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_instance_norm_with_batch_1(norm):
    assert training(generator__norm=norm, optimiser__batch=1).optimiser.batch == 1


TEXTURE = {"exemplar": "berries", "exemplar_size": 64, "size": 64}


@pytest.mark.parametrize(
    ("generator", "images", "says"),
    [
        ("texturenet_v2", {}, "'texturenet_v2'; these images need stylenet, skip or texturenet_v1"),
        ("stylenet", TEXTURE, "generator.name is 'stylenet'; these images need a texture network"),
        ("skip", TEXTURE, "generator.name is 'skip'; these images need a texture network"),
    ],
)
def test_generators_that_cannot_make_the_images_are_refused(generator, images, says):
    weight = 0 if images else 1
    changes = {"images": images, "objective__content_weight": weight}
    with pytest.raises(UsageError, match=says):
        training(generator={"name": generator}, **changes)
    allowed = ("texturenet_v1", "texturenet_v2") if images else ("stylenet", "skip")
    for name in (*allowed, "texturenet_v1"):
        assert training(generator={"name": name}, **changes).generator.name == name


@pytest.mark.parametrize("name", ["skip", "stylenet"])
def test_diversity_without_noise_is_refused(name):
    changes = {"generator": {"name": name}, "objective__diversity_weight": 1}
    with pytest.raises(UsageError, match=r"diversity_weight is 1 .* takes no noise: .* diversify"):
        training(**changes)
    assert training(**changes | {"objective__diversity_weight": 0}).generator.name == name
    with_noise = {"name": "stylenet", "noise_channels": 3}
    assert training(**changes | {"generator": with_noise}).objective.diversity_weight == 1
    assert training(**changes | {"generator": {"name": "texturenet_v1"}})


def test_the_number_of_crops():
    assert training().images.crops is None
    assert training(images__crops=64).images.crops == 64
    for value in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match=f"'images.crops' is {value}"):
            training(images__crops=value)


@pytest.mark.parametrize("content", [[], None, 3, "x"])
def test_no_mapping_at_all(content):
    with pytest.raises(UsageError, match=r"^run\.json: it should be a section with keys"):
        config.parse(config.Training, content, "run.json")


def test_numbers_that_yaml_reads_as_strings():
    content = yaml.safe_load("lr: 1e-3\ndecay: 5e-1\n")
    assert content["lr"] == "1e-3", "else this test shows nothing"
    assert training(optimiser=content).optimiser.lr == 0.001
    assert training(optimiser=content).optimiser.decay == 0.5
    assert training(objective__tv_weight="1e-6").objective.tv_weight == 1e-6


def test_overrides_change_their_run_alone():
    # Nothing is compared with a run that plays no part, so it may differ in anything.
    before, after = (
        experiment(runs__alone={"optimiser": optimiser}) for optimiser in ({}, {"lr": 0.5})
    )
    differ = {
        name
        for name, run in after.all_runs().items()
        if config.digest(run) != config.digest(before.all_runs()[name])
    }
    assert differ == {f"alone_seed{seed}" for seed in before.seeds}
    assert after.training("alone", 0).optimiser.lr == 0.5
    # What the override does not name stays that of the shared section.
    assert after.training("alone", 0).optimiser.iterations == 500
    tuned = experiment(baselines__other={"objective": {"style_weight": 3}})
    assert tuned.optimisation("other", 0).objective.style_weight == 3
    assert tuned.optimisation("finetune_in", 0).objective.style_weight == 10


def test_a_generator_of_another_network_takes_nothing_from_the_shared_section():
    """Shared are keys of StyleNet: a width of 16, three blocks, bilinear upsampling."""
    made = experiment(runs__alone={"generator": {"norm": "none"}})
    assert made.training("alone", 0).generator == config.StyleNet(
        norm="none", width=16, blocks=3, upsampling="bilinear"
    )
    for name, network in (("skip", config.SkipNet), ("texturenet_v1", config.TextureNetV1)):
        alone = experiment(runs__alone={"generator": {"name": name}}).training("alone", 0)
        assert alone.generator == network(name) and alone.optimiser == made.optimiser
    by_name = experiment(runs__alone={"generator": {"name": "stylenet", "norm": "none"}})
    assert by_name.training("alone", 0) == made.training("alone", 0)


def test_seeds_of_an_entry():
    made = experiment(
        runs__alone={"seeds": [2, 0]}, baselines__tuned={"start": "alone", "seeds": [0]}
    )
    names = set(made.all_runs())
    assert {n for n in names if n.startswith("alone")} == {"alone_seed0", "alone_seed2"}
    assert {n for n in names if n.startswith("tuned")} == {"tuned_seed0"}
    assert made.seeds_of("alone") == (2, 0) and made.seeds_of("stylenet_in") == (0, 1, 2)


def test_settings_for_figures_claims_and_speed_name_runs_and_sizes():
    made = experiment(speed__repetitions=7)
    parts, speed = made.stylization_parts(), made.speed_settings()
    assert parts["scale"] == "embedded" and parts["seeds"] == [0, 1, 2]
    assert parts["lrn_first"] == "stylenet_lrn_first" and parts["uniform"] == "rocket"
    assert parts["optimised_at"] == {"noise": 128, "larger": 192, "largest": 384}
    assert parts["sizes"] == [64, 192, 384, 768]
    assert speed["models"]["instance"] == "results/stylenet_in_seed0/model.safetensors"
    assert set(speed["models"]) == {"instance", "batch", "noisy", "diverse"}
    assert speed["gatys"] == "results/gatys_seed0/run.json"
    assert (speed["repetitions"], speed["threads"], speed["device"]) == (7, 1, "cpu")
    assert json.loads(json.dumps([parts, speed]))  # plain JSON types


@pytest.mark.parametrize("name", ["stylenet_bn_seed2", "finetune_in_seed0"])
def test_run_json_round_trip(tmp_path, name):
    run = experiment().all_runs()[name]
    (tmp_path / "run.json").write_text(json.dumps(config.to_json(run)))
    again = config.read_run(tmp_path / "run.json")
    assert again == run
    assert type(again) is type(run)
    assert config.digest(again) == config.digest(run)


OTHER = {
    "name": "random",
    "norm": "batch",
    "upsampling": "bilinear",
    "pool": "max",
    "device": "cuda",
    "start": "net",
    "sha256": "0" * 64,
    "weights": "w.safetensors",
    "style": "scales",
    "style_layers": ["relu1_1"],
    "content_layers": ["relu1_1"],
    "contents": ["coffee"],
    "heldout": ["rocket"],
    "decay": 0.7,
    "diversity_distance": "features",
    "convention": "authors_code",
    "crop_scale": 0.7,
    "crops": 64,
    "content_side": 64,
    "precision": "bf16",
    "channels_last": False,
    "winograd": False,
    "compile": True,
    "graph": True,
    "part": 2,
}


def leaves(content, prefix=()):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


TRAINED_ONLY = ("diversity_weight", "normalise_gradients")


@pytest.mark.parametrize("kind", ["training", "optimisation"])
def test_digest_changes_with_every_field(kind):
    made = experiment(generator__noise_channels=3)
    run = made.training("stylenet_in", 0) if kind == "training" else made.optimisation("gatys", 0)
    content = config.to_json(run)
    digests = [config.digest(run)]
    for path, value in leaves(content):
        if path == ("generator", "name") or (kind == "optimisation" and path[-1] in TRAINED_ONLY):
            continue  # one value is allowed here
        other = OTHER[path[-1]] if path[-1] in OTHER else value + 1
        if path[-1] == "upsampling":
            other = "transposed"
        assert other != value, path
        changes = {"__".join(path): other}
        digests.append(config.digest(config.parse(type(run), changed(content, **changes), "x")))
    assert len(set(digests)) == len(digests) > 20
    assert all(len(d) == 8 for d in digests)


def test_runs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        training().seed = 3


def test_weights_of_another_network_of_the_registry():
    with pytest.raises(ValidationError, match=r"'vgg19_torchvision' is not for 'vgg19'.* vgg19,"):
        config.Descriptor("vgg19", weights="vgg19_torchvision")
    with pytest.raises(ValidationError, match=r"is not for 'random'.* these are: none"):
        config.Descriptor("random", weights="vgg19")


def test_content_images_are_those_of_a_run_that_stylizes():
    run = training()
    assert config.stylization(run) is run.images
    runs = experiment().all_runs().items()
    texture = next(run for name, run in runs if name.startswith("v1_"))
    with pytest.raises(UsageError, match="run 'v1' makes textures and has no content images"):
        config.stylization(texture)
