"""Parts in figures and claims: each is what its name says, and compared like with like."""

import dataclasses

import pytest
from experiments import experiment

from texnet import config
from texnet.errors import UsageError
from texnet.parts import STYLIZATION_PAIRS, TEXTURE_PAIRS, compare, differences

PARTS = "figures__stylization__"


@pytest.mark.parametrize(
    ("part", "run", "says"),
    [
        ("instance", "gatys", "'gatys'; use one of stylenet_in, stylenet_bn, "),
        ("instance", "nosuch", "'nosuch'; use one of stylenet_in, "),
        ("noise", "stylenet_in", "'stylenet_in'; use one of gatys, finetune_in, "),
        ("instance", "stylenet_bn", "a run with generator.norm 'batch'"),
        ("batch", "stylenet_in", "a run with generator.norm 'instance'"),
        ("lrn_first", "stylenet_in_first", "a run with generator.norm 'instance_first'"),
        ("instance_first", "stylenet_in", "a run with generator.norm 'instance'"),
        ("instance", "pyramid_in", "a texturenet_v1"),
        ("diverse", "skip_in", "a skip"),
        ("pyramid_instance", "stylenet_in", "a stylenet"),
        ("pyramid_few", "skip_bn", "a skip"),
        ("skip_instance", "pyramid_in", "a texturenet_v1"),
        ("pyramid_instance", "pyramid_bn", "a run with generator.norm 'batch'"),
        ("pyramid_few", "pyramid_in", "a run with generator.norm 'instance'"),
        ("skip_batch", "skip_in", "a run with generator.norm 'instance'"),
        ("content", "coffee", "'coffee'; use one of chelsea, flower, rocket"),
        ("uniform", "swirls", "'swirls'; use one of chelsea, flower, rocket"),
    ],
)
def test_a_part_of_another_kind_is_refused(part, run, says):
    with pytest.raises(UsageError, match=rf"figures\.stylization\.{part} is {says}"):
        experiment(**{f"{PARTS}{part}": run})


@pytest.mark.parametrize(
    ("part", "run", "says"),
    [
        ("noise", "finetune_in", "starts from 'stylenet_in', wanted 'noise'"),
        ("larger", "finetune_bn", "starts from 'stylenet_bn', wanted 'noise'"),
        ("from_batch", "gatys", "starts from 'noise', wanted 'stylenet_bn'"),
        ("from_instance", "finetune_bn", "starts from 'stylenet_bn', wanted 'stylenet_in'"),
        ("noisy", "stylenet_in", "has generator.noise_channels 0"),
        ("diverse", "stylenet_in", "has generator.noise_channels 0"),
        ("noisy", "stylenet_diverse", "has diversity_weight 1"),
        ("diverse", "stylenet_noise", "has diversity_weight 0"),
        ("pyramid_few", "pyramid_bn", "has images.crops null"),
        ("pyramid_batch", "pyramid_bn_few", "has images.crops 16"),
    ],
)
def test_a_part_that_is_not_what_it_says_is_refused(part, run, says):
    with pytest.raises(UsageError, match=rf"figures\.stylization\.{part} {says}"):
        experiment(**{f"{PARTS}{part}": run})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"baselines__gatys_larger__start": "stylenet_in"}, "larger starts from 'stylenet_in'"),
        ({"baselines__gatys_largest__start": "stylenet_bn"}, "largest starts from 'stylenet_bn'"),
        ({"runs__stylenet_noise__generator__noise_channels": 0}, "noisy has .*noise_channels 0"),
        ({"runs__stylenet_noise__objective": {"diversity_weight": 0.5}}, "noisy .*weight 0.5"),
        ({"runs__stylenet_diverse__objective__diversity_weight": 0}, "diverse .*weight 0"),
        ({"runs__stylenet_in__objective__diversity_weight": 1}, "runs.stylenet_in: .*no noise"),
        ({"runs__pyramid_bn_few__images": {"size": 64}}, "pyramid_few has images.crops null"),
        ({"images__crops": 16}, "instance has images.crops 16"),
        ({"runs__skip_bn__generator__norm": "instance"}, "skip_batch is a run with .*'instance'"),
        ({"images__heldout": ["flower", "rocket"]}, "content is 'chelsea'; use one of flower, r"),
        ({"images__heldout": ["flower", "chelsea"]}, "uniform is 'rocket'; use one of flower, c"),
    ],
)
def test_a_change_of_a_run_that_its_part_does_not_allow(changes, says):
    with pytest.raises(UsageError, match=f"^configuration: (figures.stylization.)?{says}"):
        experiment(**changes)


NOT_FREE = {
    "batch": ("stylenet_bn", "instance", [{"optimiser": {"lr": 0.5}},
                                          {"images": {"heldout": ["chelsea", "rocket"]}}]),
    "lrn_first": ("stylenet_lrn_first", "instance", [{"optimiser": {"lr": 0.5}},
                                                     {"generator": {"blocks": 2}}]),
    "instance_first": ("stylenet_in_first", "instance", [{"generator": {"width": 8}}]),
    "noise": ("gatys", "instance", [{"objective": {"content_weight": 1}},
                                    {"images": {"heldout_size": 64}}]),
    "from_instance": ("finetune_in", "noise", [{"evaluations": 99}]),
    "from_batch": ("finetune_bn", "noise", [{"evaluations": 99}, {"images": {"style_size": 64}}]),
    "larger": ("gatys_larger", "noise", [{"images": {"style_size": 64}}]),
    "largest": ("gatys_largest", "noise", [{"objective": {"style_weight": 3}}]),
    "noisy": ("stylenet_noise", "instance", [{"images": {"contents": ["coffee"]}},
                                             {"objective": {"temperature": 9}}]),
    "diverse": ("stylenet_diverse", "noisy", [{"optimiser": {"iterations": 9}},
                                              {"generator": {"noise_channels": 4}}]),
    "pyramid_instance": ("pyramid_in", "instance", [{"images": {"crop_scale": 1}},
                                                    {"objective": {"tv_weight": 1}}]),
    "pyramid_batch": ("pyramid_bn", "pyramid_instance", [{"optimiser": {"lr": 0.5}},
                                                         {"generator": {"width": 2}}]),
    "pyramid_few": ("pyramid_bn_few", "pyramid_batch", [{"optimiser": {"iterations": 9}},
                                                        {"images": {"size": 96}}]),
    "skip_instance": ("skip_in", "instance", [{"objective": {"style_layers": ["relu1_1"]}}]),
    "skip_batch": ("skip_bn", "skip_instance", [{"images": {"size": 80}},
                                                {"generator": {"width": 2}}]),
}  # fmt: skip


def test_every_part_is_compared_with_another():
    parts = {f.name for f in dataclasses.fields(experiment().figures.stylization)}
    assert set(NOT_FREE) == {part for part, _, _ in STYLIZATION_PAIRS}
    assert {like for _, like, _ in STYLIZATION_PAIRS} <= parts
    assert parts - set(NOT_FREE) == {"instance", "content", "uniform"}
    textures = {f.name for f in dataclasses.fields(experiment().figures.textures)}
    assert textures - {part for part, _, _ in TEXTURE_PAIRS} == {"collapsed", "gatys"}


@pytest.mark.parametrize(
    ("part", "change"),
    [(part, change) for part, (_, _, changes) in NOT_FREE.items() for change in changes],
)
def test_what_is_compared_differs_in_nothing_else(part, change):
    run, like, _ = NOT_FREE[part]
    ((section, value),) = change.items()
    kind = "baselines" if run.startswith(("gatys", "finetune")) else "runs"
    keys = {section: value} if section == "evaluations" else {
        f"{section}__{key}": inner for key, inner in value.items()
    }  # fmt: skip
    name = next(iter(keys)).replace("__", ".")
    says = (
        rf"^configuration: figures\.stylization\.{part} \('{run}'\) differs from "
        rf"figures\.stylization\.{like} \('\w+'\) in {name}: their numbers would not compare$"
    )
    with pytest.raises(UsageError, match=says):
        experiment(**{f"{kind}__{run}__{key}": inner for key, inner in keys.items()})


@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser__lr": 0.5, "objective__style_weight": 3, "generator__width": 8},
        {"baselines__gatys_larger__evaluations": 7, "baselines__gatys_largest__evaluations": 9},
        {"baselines__gatys_largest__images__heldout": ["rocket"]},
        {"baselines__gatys_largest__images__heldout_size": 768},
        {f"baselines__{name}__evaluations": 8 for name in ("gatys", "finetune_in", "finetune_bn")},
        {"runs__stylenet_diverse__objective__temperature": 3},
        {"runs__stylenet_diverse__objective__diversity_distance": "highpass"},
        {f"runs__stylenet_{name}__optimiser__lr": 0.5 for name in ("noise", "diverse")},
        {"runs__pyramid_bn_few__images__crops": 4},
        {f"runs__pyramid_{name}__images__size": 96 for name in ("in", "bn", "bn_few")},
        {f"runs__skip_{name}__optimiser__iterations": 9 for name in ("in", "bn")},
    ],
)
def test_what_a_comparison_is_about_may_differ(changes):
    assert experiment(**changes) != experiment()


@pytest.mark.parametrize(
    ("part", "sizes", "size"), [("larger", [64, 384], 192), ("largest", [64, 192], 384)]
)
def test_generators_are_measured_at_the_sizes_of_figure_4(part, sizes, size):
    listed = ", ".join(map(str, sizes))
    says = rf"stylization\.{part} has images\.heldout_size {size}, which .* sizes \({listed}\)"
    with pytest.raises(UsageError, match=says):
        experiment(sizes=sizes)
    assert experiment(sizes=[*sizes, size]).sizes == (*sizes, size)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"runs__skip_in__seeds": [0, 7]}, "runs.skip_in.seeds: 7 is not one of 0, 1, 2"),
        ({"baselines__gatys__seeds": [0, 9, 8]}, "baselines.gatys.seeds: 8 is not one of 0, 1, 2"),
        ({"runs__skip_in__seeds": [1, 2]}, "runs.skip_in.seeds lacks 0, the first of seeds"),
        ({"seeds": [2, 0, 1], "baselines__gatys__seeds": [0, 1]}, "gatys.seeds lacks 2, the first"),
        ({"seeds": [1, 2]}, "baselines.gatys_larger.seeds: 0 is not one of 1, 2"),
        # What starts from a training needs it for each of its own seeds.
        ({"runs__stylenet_bn__seeds": [0, 2]}, "baselines.finetune_bn.seeds: 1 is not one of 0, 2"),
        ({"runs__stylenet_bn__seeds": [0], "baselines__finetune_bn__seeds": [0, 2]},
         "baselines.finetune_bn.seeds: 2 is not one of 0"),
    ],
)  # fmt: skip
def test_seeds_of_an_entry_that_cannot_be_are_refused(changes, says):
    with pytest.raises(UsageError, match=f"^configuration: .*{says}"):
        experiment(**changes)


def training(**changes):
    run = config.Training(
        name="net",
        seed=0,
        descriptor=config.Descriptor(),
        generator=config.StyleNet(),
        objective=config.Objective(),
        optimiser=config.Optimiser(),
        images=config.Images(),
    )
    return dataclasses.replace(run, **changes)


def baseline(**changes):
    run = config.Optimisation(
        name="gatys",
        seed=0,
        descriptor=config.Descriptor(),
        objective=config.Objective(),
        images=config.Images(),
        start="noise",
        evaluations=3,
    )
    return dataclasses.replace(run, **changes)


OBJECTIVE = config.Objective(style_weight=3, style_layers=("relu1_1",))
ACCELERATION = [field.name for field in dataclasses.fields(config.Acceleration)]
OPTIMISER_KEYS = ("iterations", "batch", "lr", "decay", "decay_every")


@pytest.mark.parametrize(
    ("run", "other", "expected"),
    [
        (training(), training(), []),
        (training(), training(name="other", seed=7), []),
        (training(), training(generator=config.StyleNet(norm="none")), ["generator.norm"]),
        (
            training(objective=OBJECTIVE, threads=2),
            training(optimiser=config.Optimiser(lr=0.5, decay=0.5)),
            ["objective.style_layers", "objective.style_weight", "optimiser.decay",
             "optimiser.lr", "threads"],
        ),
        # What only one of them has differs, too.
        (
            training(),
            training(generator=config.SkipNet("skip", width=32)),
            [f"generator.{key}" for key in ("blocks", "name", "noise_channels", "upsampling")],
        ),
        (
            training(device="cpu"),
            baseline(images=config.Images(crops=3)),
            [*sorted(f"acceleration.{key}" for key in ACCELERATION),
             "checkpoint_every", "device", "evaluations", *(
                f"generator.{key}"
                for key in ("blocks", "name", "noise_channels", "norm", "upsampling", "width")
            ), "heldout_every", "images.crops",
             *sorted(f"optimiser.{key}" for key in OPTIMISER_KEYS), "start"],
        ),
    ],
    ids=["same", "name and seed", "norm", "sections", "networks", "kinds"],
)  # fmt: skip
def test_differences_are_dotted_keys(run, other, expected):
    assert differences(run, other) == differences(other, run) == expected


def test_only_a_baseline_may_lack_a_section():
    """A training is evaluated as often as another; a baseline has no such key at all."""
    runs = {"a": training(), "b": training(heldout_every=7), "c": baseline()}
    with pytest.raises(ValueError, match=r"^x\.p \('a'\) differs from x\.q \('b'\) in heldout_ev"):
        compare("x", {"p": "a", "q": "b"}, runs, (("p", "q", ("generator", "optimiser")),))
    free = ("generator", "optimiser", "start", "evaluations")
    compare("x", {"p": "a", "q": "c"}, runs, (("p", "q", free),))
    with pytest.raises(ValueError, match=r"^x\.q \('c'\) differs from x\.p \('a'\) in start: "):
        compare("x", {"p": "a", "q": "c"}, runs, (("q", "p", free[:2] + free[3:]),))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"runs__stylenet_lrn_first__seeds": [0]}, "lrn_first: run 'stylenet_lrn_first' must have"),
        ({"baselines__gatys__seeds": [0]}, "noise: run 'gatys' must have all seeds"),
        ({"runs__skip_in__seeds": [0, 0]}, "runs.skip_in.seeds names a seed twice"),
        ({f"{PARTS}larger": "gatys"}, "noise, larger and largest must be three baselines"),
        (
            {"baselines__gatys_larger__images__heldout": ["flower", "ihc"]},
            "larger has images.heldout 'ihc', on which nothing else is measured",
        ),
        ({"sizes": [64, 64, 192, 384]}, "sizes names a size twice: 64, 64, 192, 384"),
        ({"sizes": [32, 192, 384]}, "sizes has 32; a texturenet_v1 with norm 'instance'"),
        ({"speed__sizes": [1024]}, "sizes are all over 512"),
        (
            {f"runs__stylenet_{n}__generator__norm": "batch" for n in ("noise", "diverse")},
            "noisy is a run with generator.norm 'batch'",
        ),
        (
            {"runs__pyramid_bn__images__heldout_size": 32},
            "images.heldout_size is 32; texturenet_v1 with norm 'batch' needs 64 or more",
        ),
    ],
)
def test_what_could_not_be_measured_is_refused_before_it_is_trained(changes, says):
    with pytest.raises(UsageError, match=says):
        experiment(**changes)
