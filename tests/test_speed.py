"""Speed: which rows there are, what their arithmetic is; never how fast this machine is."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from texnet import __main__ as cli
from texnet import config, generators, runtime, speed, tables, training
from texnet.artifacts import write_json
from texnet.data import load_image, square
from texnet.evidence import by_run

CPU = torch.device("cpu")
IMAGES = {"style": "ihc", "style_size": 16, "size": 16, "heldout_size": 16,
          "contents": ["rocket"], "heldout": ["chelsea", "flower"]}  # fmt: skip
SHARED = {
    "name": "net",
    "seed": 0,
    "descriptor": {"name": "random"},
    "objective": {"style_layers": ["relu1_1"], "content_layers": ["relu2_1"]},
    "images": IMAGES,
    "device": "cpu",
}
TRAINING = SHARED | {"generator": {"width": 4, "blocks": 1}, "optimiser": {"batch": 1}}
GATYS = SHARED | {"name": "gatys", "start": "noise", "evaluations": 3}
SETTINGS = {
    "device": "cpu",
    "threads": 1,
    "repetitions": 2,
    "sizes": [32, 16],
    "models": {"instance": "net.safetensors", "noisy": "noisy.safetensors"},
    "gatys": "gatys.json",
    "paper_sizes": [16],
}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder with two models, one of them with noise, and the run of an optimisation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "_MALLOPT", {})
    for name, noise in (("net", 0), ("noisy", 2)):
        content = TRAINING | {"generator": {"width": 4, "blocks": 1, "noise_channels": noise}}
        run = config.parse(config.Training, content, "test")
        net = generators.build(run.generator, 0, run.images)
        training.save_generator(Path(f"{name}.safetensors"), net, run)
    write_json(Path("gatys.json"), GATYS)
    write_json(Path("s.json"), SETTINGS)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless a test moves ``clock.now``."""
    fake = SimpleNamespace(now=100.0)
    fake.perf_counter = lambda: fake.now
    monkeypatch.setattr(speed, "time", fake)
    return fake


def test_every_row_is_there():
    assert cli.main(["speed", "s.json", "-o", "new/speed.csv"]) == 0
    rows = tables.read_scores([Path("new/speed.csv")])
    by_run(rows)  # refuses what was measured twice
    assert {(row.run, row.exemplar) for row in rows} == {("speed", "ihc")}
    assert all(row.value > 0 for row in rows)
    found = {(row.metric, row.content, row.seed, row.unit) for row in rows}
    wanted = set()
    for size in ("16px", "32px"):
        for metric in ("forward_instance", "forward_noisy", "evaluation"):
            wanted |= {(metric, size, seed, "s") for seed in (0, 1)}
            wanted.add((f"memory_{metric}", size, 0, "MiB"))
    for metric in ("forward_paper", "evaluation_paper"):
        wanted |= {(metric, "16px", seed, "s") for seed in (0, 1)}
        wanted.add((f"memory_{metric}", "16px", 0, "MiB"))
    for image in IMAGES["heldout"]:
        wanted |= {(m, image, 0, "s") for m in ("optimisation", "optimisation_to_equal", "sample")}
        wanted |= {(m, image, 0, "evaluations") for m in ("evaluations", "evaluations_to_equal")}
    never = {key for key in wanted - found if key[0].endswith("_to_equal")}
    assert found == wanted - never and found.isdisjoint(never)
    assert len(rows) == len(found)


def test_evaluation_stops_at_512(monkeypatch):
    monkeypatch.setattr(config, "LARGEST_EVALUATION", 16)
    rows = speed.measure(speed.read_settings(Path("s.json")), CPU)
    assert {row.content for row in rows if row.metric == "evaluation"} == {"16px"}
    assert {row.content for row in rows if row.metric == "forward_noisy"} == {"16px", "32px"}


def test_memory_grows_with_the_pixels():
    model = speed.Model(Path("noisy.safetensors"), CPU)
    objective = training.objective_of(config.read_run(Path("gatys.json")), CPU)
    works = {}
    for side in (256, 512):
        works["forward", "ihc", side] = model.work(side)
        image = square(load_image("chelsea"), side)
        works["evaluation", "ihc", side] = speed.evaluation(objective, image)
    memory = {(r.metric, r.content): r.value for r in speed.rows_of(works, 0, CPU)}
    for metric in ("memory_forward", "memory_evaluation"):
        small, large = memory[metric, "256px"], memory[metric, "512px"]
        assert large == pytest.approx(4 * small, rel=0.05)
    # The input of the first convolution, 5 channels padded by 4, and its 4 channels of output.
    least = 4 * (5 * 264**2 + 4 * 256**2) / 2**20
    assert memory["memory_forward", "256px"] >= least


def test_evaluation_is_that_of_the_optimisation():
    objective = training.objective_of(config.read_run(Path("gatys.json")), CPU)
    image = square(load_image("chelsea"), 16)
    pixels = image[None].clone().requires_grad_(True)
    objective(pixels, objective.content_targets(image[None])).total.sum().backward()
    assert torch.equal(speed.evaluation(objective, image)(), pixels.grad)


def test_repetitions_are_outermost(clock):
    done = []

    def work(name, takes):
        def run():
            done.append(name)
            clock.now += takes

        return run

    works = {(name, "s", 16): work(name, takes) for name, takes in (("a", 1.5), ("b", 4.0))}
    rows = list(speed.rows_of(works, 2, CPU))
    assert done == ["a", "a", "b", "b"] + ["a", "b"] * 2  # warm-up and memory, then twice
    times = [(r.metric, r.seed, r.value) for r in rows if r.unit == "s"]
    assert times == [("a", 0, 1.5), ("b", 0, 4.0), ("a", 1, 1.5), ("b", 1, 4.0)]
    assert [(r.metric, r.seed) for r in rows if r.unit == "MiB"] == [
        ("memory_a", 0), ("memory_b", 0)
    ]  # fmt: skip


def test_a_time_waits_for_the_device(monkeypatch):
    order = []
    monkeypatch.setattr(speed, "synchronise", lambda device: order.append("wait"))
    speed.seconds(lambda: order.append("work"), CPU)
    assert order == ["wait", "work", "wait"]


@pytest.mark.parametrize("equal", [1, 4, None])
def test_optimisation_to_equal(clock, monkeypatch, equal):
    run = config.read_run(Path("gatys.json"))
    objective = training.objective_of(run, CPU)
    model = speed.Model(Path("net.safetensors"), CPU)
    passes = [9.0, 1.0, 5.0, 3.0] * 2  # the first warms up
    contents = speed.heldout_images(run.images)
    outputs = objective(model(contents, []), objective.content_targets(contents)).total.tolist()

    def slower(*_):
        clock.now += passes.pop(0)

    model.net.register_forward_hook(slower)
    starts = []

    def optimise(given, start, targets, evaluations):
        wanted = outputs[len(starts)]
        starts.append(start)
        for _ in range(12):  # two more than are in the trace
            given(start[None], targets)
        clock.now += 60
        values = [wanted * 1.01] * 10
        for later in range((equal or 11) - 1, 10):
            values[later] = wanted * 0.999
        return SimpleNamespace(trace=[(value, 0.0, 0.0, 0.0) for value in values])

    monkeypatch.setattr(speed, "optimise", optimise)
    rows = list(speed.optimisation_rows(run, objective, model, repetitions=3))
    number = 5 if equal else 3
    assert [r.content for r in rows] == ["chelsea"] * number + ["flower"] * number
    for image in ("chelsea", "flower"):
        found = {r.metric: r.value for r in rows if r.content == image}
        wanted = {"optimisation": 60, "evaluations": 12, "sample": 3}
        if equal:
            wanted |= {"optimisation_to_equal": equal * 60 / 12, "evaluations_to_equal": equal}
        assert found == wanted
    assert not torch.equal(*starts)


def test_the_papers_own_networks(monkeypatch):
    made = []
    initialise = generators.initialise
    monkeypatch.setattr(
        speed.generators, "initialise", lambda net, seed: (made.append(net), initialise(net, seed))
    )
    images = {16: square(load_image("chelsea"), 16)}
    works = speed.paper_works(config.read_run(Path("gatys.json")), images)
    assert sum(p.numel() for p in made[0].parameters()) == 1_672_323
    assert works["forward_paper", "ihc", 16]().shape == (1, 3, 16, 16)
    assert works["evaluation_paper", "ihc", 16]().isfinite().all()


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"threads": None}, 65, "s.json: has no key 'threads'"),
        ({"models": {"noisy": "noisy.safetensors"}}, 65, "s.json: has no key 'models.instance'"),
        ({"sizes": []}, 2, "s.json: 'sizes'"),
        ({"sizes": [8]}, 2, "s.json: 'sizes.0' is 8; it should be greater than or equal to 16"),
        ({"repetitions": 0}, 2, "s.json: 'repetitions' is 0"),
        ({"size": 16}, 2, "s.json: unknown key 'size'; did you mean 'sizes'?"),
        ({"device": "gpu"}, 2, "s.json: 'device' is 'gpu'"),
        ({"gatys": "none.json"}, 66, "none.json: no such file"),
        ({"gatys": "train.json"}, 65, "train.json: is no optimisation of stylized images"),
        ({"models": {"instance": "none"}}, 66, "none: no such file"),
        ({"models": {"instance": "v1.safetensors"}}, 2, "v1.safetensors: makes textures"),
    ],
)
def test_refused(capsys, changes, code, says):
    write_json(Path("train.json"), TRAINING)
    texture = TRAINING | {
        "generator": {"name": "texturenet_v1", "width": 2, "norm": "none"},
        "objective": {"style_layers": ["relu1_1"], "content_weight": 0},
        "images": {"exemplar": "ihc", "exemplar_size": 64, "size": 64},
    }
    run = config.parse(config.Training, texture, "test")
    net = generators.build(run.generator, 0, run.images)
    training.save_generator(Path("v1.safetensors"), net, run)
    settings = {k: v for k, v in (SETTINGS | changes).items() if v is not None}
    Path("s.json").write_text(json.dumps(settings))
    assert cli.main(["speed", "s.json", "-o", "speed.csv"]) == code
    error = capsys.readouterr().err
    assert error.startswith("texnet speed: error: ") and error.count("\n") == 1
    assert says in error
    assert not Path("speed.csv").exists()
