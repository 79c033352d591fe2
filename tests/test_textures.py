"""The textures of the configuration, the sweep of T, and how mistakes in them are named."""

import dataclasses

import pytest
from experiments import experiment

from texnet import config, sweep
from texnet.errors import DataError, UsageError
from texnet.tables import Row, write_table


def test_a_texture_run_is_made_of_all_that_is_shared():
    runs = experiment().all_runs()
    run = runs["v2_diverse_T50_berries_seed100"]
    assert run.objective.temperature == 50 and run.objective.diversity_weight == 1
    assert run.objective.normalise_gradients and run.objective.content_weight == 0
    assert run.images == config.Texture("berries", 128, 64, 32)
    assert run.descriptor.pool == "avg" and run.generator.norm == "instance"
    plain = runs["v2_plain_pebbles_seed1"]
    assert not plain.objective.normalise_gradients
    gatys = runs["gatys_texture_pebbles_seed1"].objective
    assert not gatys.normalise_gradients and not gatys.diversity_weight
    assert gatys.style_layers == run.objective.style_layers


def test_what_is_not_set_is_the_authors_texture_command():
    made = experiment(textures__objective={}, textures__optimiser={})
    run = made.all_runs()["v1_bn_berries_seed0"]
    assert run.objective.style_layers == tuple(f"relu{i}_1" for i in range(1, 6))
    assert (run.optimiser.iterations, run.optimiser.batch) == (1500, 16)
    assert (run.optimiser.decay, run.optimiser.decay_every) == (0.8, 300)


def test_run_json_of_a_texture_survives_the_file(tmp_path):
    for run in experiment().all_runs().values():
        cls = config.Training if isinstance(run, config.Training) else config.Optimisation
        assert config.parse(cls, config.to_json(run), "run.json") == run


def test_parts_name_runs_and_sweep():
    shuffled = {"b": 200, "T4": 4, "c": 50}
    settings = experiment(textures__sweep__temperatures=shuffled).sweep_settings()
    assert list(settings["sweep"].values()) == [4, 50, 200]
    parts = experiment().texture_parts()
    assert parts["diverse"] == "v2_diverse" and parts["exemplars"][0] == "berries"
    assert parts["sweep"]["v2_diverse_T200"] == 200 and parts["sweep_seeds"] == [100]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("textures__exemplars", [], "'textures.exemplars' is "),
        ("textures__exemplars", ["berries", "a/berries.png"], "exemplars has two named 'berries'"),
        ("textures__released", {"berry": "a.t7"}, "released names 'berry', which is no exemplar"),
        ("textures__exemplars", ["my photo.png"], "exemplars has 'my photo', which names runs"),
        ("textures__size", 48, "images.size is 48; texturenet_v1 .*use 64"),
        ("textures__size", 96, "images.size is 96; texturenet_v2 .*use 64 or 128"),
        ("textures__size", 256, "exemplar_size 128 is not larger than size 256"),
        ("textures__samples", 12, "'textures.samples' is 12; it should be a multiple of 8"),
        ("textures__objective__temperature", 0, "'textures.objective.temperature' is 0; .*than 0"),
        ("textures__objective__temperature", -5, "temperature' is -5; it should be greater than 0"),
        ("textures__objective__diversity_weight", -1, "diversity_weight' is -1; it should be grea"),
        ("textures__objective__content_weight", 1, "content_weight is 1 and images.exemplar a tex"),
        ("textures__optimiser__batch", 1, "generator.norm 'batch' with optimiser.batch 1"),
        ("textures__runs__v2_diverse__optimiser", {"batch": 1}, "batch 1: a sample has no neighb"),
        ("textures__runs__v1__generator__name", "stylenet", "textures.runs.v1.generator' is .*v1"),
        ("textures__runs__v1__generator__blocks", 3, "unknown key 'textures.runs.v1.generator.blo"),
        ("textures__runs__v2_diverse__objective__diversity_weight", 0, "run 'v2_diverse' has obj"),
        ("textures__sweep__run", "v3", "sweep.run is 'v3'; use one of v1, "),
        ("textures__sweep__temperatures", {"a": 5, "b": 5}, "temperatures has one T twice: 5.0"),
        ("textures__sweep__temperatures", {"a": 5}, "textures.sweep.temperatures' is "),
        ("textures__sweep__temperatures", {"a": 0, "b": 2}, "temperatures.a' is 0; it should be g"),
        ("textures__sweep__seeds", [2, 7], "textures.sweep.seeds: 2 is one of seeds"),
        ("figures__textures__diverse", "v2", "diverse is 'v2'; textures.sweep chooses"),
        ("figures__textures__collapsed", "v1", "figures.textures.collapsed is a texturenet_v1"),
        ("figures__textures__collapsed", "v2_diverse", "collapsed has diversity_weight 1"),
        ("figures__textures__collapsed", "v2_plain", "collapsed has normalise_gradients False"),
        ("figures__textures__plain", "v2", "plain has normalise_gradients True"),
        ("figures__textures__collapsed_batch", "v2", "collapsed_batch has norm 'instance'"),
        ("figures__textures__gatys", "gatys", "figures.textures.gatys is 'gatys'; use one of gaty"),
        ("runs__v2", {}, "textures: two runs are named 'v2'"),
        ("textures__runs__texture", {"optimiser": {}}, "'textures.runs.texture.generator' is m"),
        ("textures__exemplars", ["berries", "bn_berries.png"], "directory v1_bn_berries_seed0"),
        ("textures__runs__v2_plain__optimiser", {"iterations": 9},
         r"plain \('v2_plain'\) differs from .*collapsed \('v2'\) in optimiser.iterations: "),
        ("textures__runs__v2_bn__objective", {"style_weight": 7},
         r"collapsed_batch \('v2_bn'\) differs from .* in objective.style_weight: "),
        ("textures__runs__v2_bn__objective", {"temperature": 7},
         r"collapsed_batch \('v2_bn'\) differs from .* in objective.temperature: "),
        ("textures__runs__v2_plain__optimiser", {"lr": 0.5}, "plain .* in optimiser.lr: "),
        ("textures__runs__v2_bn__generator__width", 5, "collapsed_batch .* in generator.width: "),
        ("textures__runs__v1__optimiser", {"batch": 9}, "pyramid .* in optimiser.batch: "),
        ("textures__runs__v2_diverse__objective",
         {"diversity_weight": 1, "style_layers": ["relu1_1"]}, "diverse .* objective.style_lay"),
    ],
)  # fmt: skip
def test_mistakes_are_named(key, value, text):
    with pytest.raises(UsageError, match=text):
        experiment(**{key: value})


RUN = {
    "name": "net", "seed": 0, "descriptor": {}, "optimiser": {"batch": 2},
    "generator": {"name": "texturenet_v2"}, "objective": {"content_weight": 0},
    "images": {"exemplar": "berries"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"generator": {}}, "generator.name is 'stylenet'; these images need a texture network"),
        ({"images": {}}, "generator.name is 'texturenet_v2'; these images need stylenet"),
        ({"images": {"exemplar": "berries", "contents": ["rocket"]}}, "key 'images.contents'"),
        ({"generator": {"name": "texturenet_v1", "norm": "instance"},
          "images": {"exemplar": "berries", "size": 32}}, "size is 32; texturenet_v1 .*64 or more"),
        ({"generator": {"name": "texturenet_v3"}}, "'generator' is .*texturenet_v2"),
        ({"generator": {"name": 3}}, "'generator"),
        ({"generator": {}, "images": {}, "objective": {"diversity_weight": 1}}, "set noise_chan"),
        ({"objective": {"content_weight": 0, "temperature": 0}}, "'objective.temperature' is 0"),
    ],
)  # fmt: skip
def test_mistakes_in_a_run_are_named(changes, text):
    with pytest.raises(UsageError, match=text):
        config.parse(config.Training, RUN | changes, "run.json")


def test_an_optimisation_takes_the_true_gradient():
    run = {k: RUN[k] for k in ("name", "seed", "descriptor", "images")}
    run |= {"start": "noise", "evaluations": 3}
    for key, value in (("normalise_gradients", True), ("diversity_weight", 1)):
        with pytest.raises(UsageError, match=rf"objective.{key} is .*true gradient"):
            objective = {"content_weight": 0, key: value}
            config.parse(config.Optimisation, run | {"objective": objective}, "run.json")


def test_a_stylization_with_noise_may_have_a_diversity_term():
    run = RUN | {
        "generator": {"noise_channels": 3}, "images": {}, "objective": {"diversity_weight": 1}
    }  # fmt: skip
    assert config.parse(config.Training, run, "run.json").objective.diversity_weight == 1


def test_the_largest_temperature_without_spots():
    choose = sweep.largest_without_spots
    assert choose({1: 0.9, 10: 1.0, 100: 1.4, 1000: 3.0}, 1.5) == 100
    assert choose({1: 0.9, 10: 1.0}, 1.5) == 10
    assert choose({10: 2.0, 1: 0.9, 100: 0.8}, 1.5) == 1  # it must stay under up to there
    assert choose({1: 1.5}, 1.5) == 1
    assert choose({5: 2.0, 50: 3.0}, 1.5) == 5  # none is good: the least diverse
    assert choose({5: float("nan"), 50: 1.0}, 1.5) == 5
    with pytest.raises(DataError, match="no temperature"):
        choose({}, 1.5)


SETTINGS = {"sweep": {"d_T1": 1.0, "d_T9": 9.0}, "spotting_limit": 1.5}


def scores(spots):
    return [
        Row(run, "berries", seed, f"group{g}", metric, value + 0.01 * seed + 0.1 * g, "")
        for run, value in spots.items()
        for seed in (7, 8)
        for g in (0, 1)
        for metric in sweep.METRICS
    ]


def test_the_table_of_a_sweep(tmp_path):
    rows = sweep.sweep_table(SETTINGS, "berries", scores({"d_T1": 1.0, "d_T9": 1.2}))
    lines = [dict(zip(sweep.COLUMNS, row, strict=True)) for row in rows]
    spots = {line["run"]: line for line in lines if line["metric"] == "spotting"}
    assert spots["d_T1"]["value"] == pytest.approx(1 + 0.075 + 0.05) and spots["d_T1"]["n"] == 4
    assert spots["d_T1"]["ci_low"] < spots["d_T1"]["value"] < spots["d_T1"]["ci_high"]
    assert {line["run"] for line in lines if line["chosen"]} == {"d_T9"}
    assert sweep.spotting_ratios(rows) == pytest.approx({1.0: 1.125, 9.0: 1.325})
    write_table(tmp_path / "berries.csv", sweep.COLUMNS, rows)
    assert sweep.chosen_temperature(tmp_path / "berries.csv", "berries") == 9
    with pytest.raises(DataError, match=r"is the sweep of 'berries', wanted that of 'pebbles'"):
        sweep.chosen_temperature(tmp_path / "berries.csv", "pebbles")
    with pytest.raises(DataError, match="run 'd_T1' is scored twice"):
        sweep.sweep_table(SETTINGS, "berries", 2 * scores({"d_T1": 1.0, "d_T9": 1.2}))
    with pytest.raises(DataError, match=r"sweep of 'pebbles': run 'd_T1' has no 'texture'"):
        sweep.sweep_table(SETTINGS, "pebbles", scores({"d_T1": 1.0}))
    write_table(tmp_path / "none.csv", sweep.COLUMNS, rows[:0])
    with pytest.raises(DataError, match=r"none\.csv: is not a table of texnet sweep"):
        sweep.chosen_temperature(tmp_path / "none.csv", "berries")
    unchosen = [(*row[:-1], 0) for row in rows]
    write_table(tmp_path / "none.csv", sweep.COLUMNS, unchosen)
    with pytest.raises(DataError, match=r"none\.csv: marks 0 temperatures"):
        sweep.chosen_temperature(tmp_path / "none.csv", "berries")


def test_only_the_temperature_changes():
    run = experiment().all_runs()["v2_diverse_berries_seed0"]
    tempered = sweep.at_temperature(run, 33.0)
    assert tempered.objective.temperature == 33
    assert dataclasses.replace(tempered, objective=run.objective) == run
