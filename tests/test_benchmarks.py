"""The benchmarks that no rule runs still run; the plain path computes what the library does."""

import dataclasses
import importlib.util
import json
import sys

import pytest
import torch
from conftest import ROOT, call
from torch import nn

from benchmarks import jobs, limits, measure, plain, plot, work
from expected import update
from texnet import baselines, config, generators, layers
from texnet.descriptors import load
from texnet.losses import Objective
from texnet.networks import StyleNet, TextureNetV1
from texnet.tables import read_table, write_table

RATES = {(f"{kind} convolution", threads): 100.0 for kind in ("fp32", "bf16") for threads in (1, 2)}
PHOTOGRAPHS, TEXTURE = config.Images(size=64), config.Texture("berries", 64, 64)


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """What a process of its own may change."""
    monkeypatch.setattr(baselines, "HISTORY", baselines.HISTORY)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def here(monkeypatch):
    """Children whose work, but for the figure, is done in this process."""
    really = measure.child

    def child(module, given, title):
        if module == "plot":
            return really(module, given, title)
        if "case" in given:
            given = given | {"case": measure.Case(**given["case"])}
        does = {"limits": limits.measure, "work": work.measure}[module]
        return json.loads(json.dumps(does(**given)))

    monkeypatch.setattr(measure, "child", child)


# What is measured


@pytest.mark.parametrize("name", [name for name in measure.WORKLOADS if name != "growth"])
def test_the_ways_of_a_workload_compute_the_same(name):
    found = {case.way: work.measure(case, 1, True) for case in measure.cases(name, tiny=True)}
    first, *others = found
    for way in others:
        near = 2e-2 if way.startswith("bf16") else 1e-4
        assert found[way]["loss"] == pytest.approx(found[first]["loss"], rel=near), way
    for answer in found.values():
        assert len(answer["seconds"]) == 1 and answer["seconds"][0] > 0
        assert answer["peak_rss_mib"] > 0 and answer["import_rss_mib"] > 0


def test_bf16_rounds():
    fp32, bf16 = (
        work.measure(case, 1, True)["loss"] for case in measure.cases("growth", tiny=True)[:2]
    )
    assert 0 < abs(bf16 / fp32 - 1) < 2e-2


def test_what_is_measured_at_full_size():
    rows = [case for name in measure.WORKLOADS for case in measure.cases(name, tiny=False)]
    assert len(rows) == 6 + 5 + 2 + 4 + 2 * 4 + (4 * 4 + 2) + 7 * 2
    strips = {case.size for case in rows if case.way == "strips"}
    assert strips == {1024, 2048}
    for name, workload in measure.WORKLOADS.items():
        found = {(case.size, case.batch) for case in rows if case.workload == name}
        assert found == set(workload.shapes)


def test_operations_are_counted_on_the_plain_way(here):
    """A convolution of 3x3 over 9 channels and 16x16 pixels: 2 operations for each product."""
    convolution, maps = nn.Conv2d(9, 4, 3, padding=1), torch.rand(1, 9, 16, 16)
    found = work.operations(lambda: (convolution(maps), 2))
    assert found == pytest.approx(2 * 9 * 9 * 4 * 256 / 2 / 1e9)
    counted = measure.operations("growth", tiny=True)
    assert counted[48, 2] / counted[32, 1] == pytest.approx(48**2 * 2 / 32**2, rel=0.05)


# Tables


def answers(*seconds):
    return [{"seconds": [each], "loss": 5.0, "peak_rss_mib": 300 + each, "import_rss_mib": 200.0}
            for each in seconds]  # fmt: skip


def test_a_row_is_held_against_the_plain_way_and_the_limit():
    cases = measure.cases("train-stylenet", tiny=False)[:3]
    found = dict(zip(cases, (answers(6, 4, 5), answers(2), answers(1, 3)), strict=True))
    rows = [
        dict(zip(measure.STEP, row, strict=True))
        for row in measure.step_rows(found, {(256, 4): 50.0}, RATES)
    ]
    assert [row["way"] for row in rows] == ["plain", "fp32", "bf16"]
    assert [rows[0][c] for c in ("n", "fastest", "median", "slowest")] == [3, 4, 5, 6]
    assert [row["ratio"] for row in rows] == [1, 2.5, 2.5]
    assert [row["gflops_per_second"] for row in rows] == [10, 25, 25]
    assert [row["share_of_limit"] for row in rows] == [0.1, 0.25, 0.25]
    assert [row["limit"] for row in rows] == ["fp32 convolution"] * 2 + ["bf16 convolution"]
    assert [row["peak_rss_mib"] for row in rows] == [306, 302, 303]


def test_where_there_is_no_plain_way_there_is_no_ratio():
    found = {case: answers(2) for case in measure.cases("train-v2", tiny=False)}
    rows = measure.step_rows(found, {(256, 16): 50.0}, RATES)
    assert [row[measure.STEP.index("ratio")] for row in rows] == [None, None]


def test_seconds_grow_with_pixels():
    cases = measure.cases("growth", tiny=False)
    found = {c: answers(0.25 + 3e-6 * c.size**2 * c.batch + (c.way == "bf16")) for c in cases}
    counted = {(c.size, c.batch): 10.0 for c in cases}
    rows = [
        dict(zip(measure.GROWTH, row, strict=True))
        for row in measure.growth_rows(found, counted, RATES)
    ]
    for row in rows:
        assert row["constant_ms"] == pytest.approx(1250 if row["way"] == "bf16" else 250)
        assert row["microseconds_per_pixel"] == pytest.approx(3)
        assert row["fit"] == pytest.approx(row["median"])
        assert row["floor"] == pytest.approx(0.1)


def test_rows_of_other_workloads_are_kept(here, tmp_path, capsys):
    kept = {c: "1" for c in measure.STEP} | {"workload": "stylize", "way": "plain"}
    stale = kept | {"workload": "train-embedded", "loss": "0"}
    write_table(tmp_path / "step.csv", measure.STEP, [list(r.values()) for r in (kept, stale)])
    measure.main(["--tiny", "--only", "train-embedded", "growth", "--out", str(tmp_path)])
    rows = read_table(tmp_path / "step.csv")
    assert rows[-1] == kept
    ways = ["plain", "fp32", "bf16", "fp32, contiguous"]
    assert [row["way"] for row in rows[:-1]] == ways
    assert {row["workload"] for row in rows[:-1]} == {"train-embedded"}
    assert all(row[c] for row in rows for c in measure.STEP)
    facts = json.loads((tmp_path / "machine.json").read_text())
    assert list(facts) == ["limits", "train-embedded", "growth"]
    assert facts["growth"]["torch"] == torch.__version__ and facts["growth"]["rounds"] == 1
    assert len(read_table(tmp_path / "limits.csv")) == 4 * 2
    assert {row["way"] for row in read_table(tmp_path / "growth.csv")} == {"fp32", "bf16"}
    assert (tmp_path / "step.pdf").stat().st_size and (tmp_path / "step.png").stat().st_size
    shown = capsys.readouterr().out
    assert "microseconds a pixel" in shown and "| train-embedded |" in shown


@pytest.mark.parametrize("tables", [[], ["step"], ["growth"]])
def test_a_figure_of_what_there_is(tmp_path, tables):
    cases = measure.cases("train-v2", tiny=False)
    found = {case: answers(2) for case in cases}
    if "step" in tables:  # without a ratio
        rows = measure.step_rows(found, {(256, 16): 50.0}, RATES)
        measure.merge(tmp_path / "step.csv", measure.STEP, "train-v2", rows)
    if "growth" in tables:
        found = {case: answers(case.size) for case in measure.cases("growth", tiny=False)}
        counted = {(case.size, case.batch): 10.0 for case in found}
        rows = measure.growth_rows(found, counted, RATES)
        measure.merge(tmp_path / "growth.csv", measure.GROWTH, "growth", rows)
    assert plot.draw(str(tmp_path)) == tables
    assert (tmp_path / "step.png").exists() == bool(tables)


# Processes


def test_a_process_of_its_own():
    case = measure.cases("stylize", tiny=True)[0]
    task = {"case": dataclasses.asdict(case), "repetitions": 2, "tiny": True}
    found = measure.child("work", task, "it")
    assert len(found["seconds"]) == 2
    assert found["loss"] == pytest.approx(work.measure(case, 1, True)["loss"], rel=1e-4)
    assert 50 < found["import_rss_mib"] <= found["peak_rss_mib"] < 2000


def test_the_parent_has_no_pytorch():
    """Its memory would count as its children's peak."""
    program = "import sys, runpy; sys.argv = ['measure', '--help']; "
    program += "runpy.run_path('benchmarks/measure.py', run_name='__main__')"
    done = call(sys.executable, "-X", "importtime", "-c", program)
    assert done.returncode == 0 and "--repetitions" in done.stdout
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "texnet.tables" in modules and "torch" not in modules


def test_a_broken_process_is_one_line():
    case = dataclasses.replace(measure.cases("growth", tiny=True)[0], way="fp12")
    with pytest.raises(SystemExit) as ended:
        measure.in_turns([case], 1, 1, tiny=True)
    said = ended.value.code  # Python prints a text and exits with 1
    assert said.startswith("growth (32 px, batch 1), fp12: ended with code 1: ")
    assert "it should be 'fp32', 'tf32' or 'bf16'" in said and "\n" not in said


def test_a_killed_process_is_one_line(monkeypatch):
    program = "import os; os.kill(os.getpid(), 9)"
    monkeypatch.setattr(measure, "PYTHON", (sys.executable, "-c", program))
    with pytest.raises(SystemExit, match=r"^limits: ended with code -9: it said nothing$"):
        measure.main(["--tiny"])


@pytest.mark.parametrize("option", ["--rounds", "--repetitions"])
def test_nothing_cannot_be_measured(option, capsys):
    with pytest.raises(SystemExit):
        measure.main([option, "0"])
    assert f"{option} must be 1 or more" in capsys.readouterr().err


# Jobs


def test_all_cores_are_shared_out():
    for cores, ways in ((1, {1}), (2, {1, 2}), (6, {1, 2, 3, 6}), (64, {2**n for n in range(7)})):
        found = list(jobs.sharings(cores))
        assert all(each.jobs * each.case.threads == cores for each in found)
        assert {each.case.threads for each in found} == ways
        more = [each.case.batch for each in found if each.case.workload == "train-embedded"][-1]
        assert more == jobs.SEEDS * found[0].case.batch


def test_images_a_second_are_of_all_together():
    sharing = jobs.Sharing(measure.Case("train-embedded", "StyleNet", 96, 2, 1, "fp32"), 4)
    cells = jobs.row(sharing, answers(0.5, 0.5, 0.25, 1), 4)
    found = dict(zip(jobs.COLUMNS, cells, strict=True))
    assert [found[name] for name in ("jobs", "n", "median")] == [4, 4, 0.5]
    assert found["images_per_second"] == 4 * 2 / 0.5 and found["peak_rss_mib"] == 301


def test_the_table_of_jobs(tmp_path, capsys):
    jobs.main(["--tiny", "--cores", "2", "--out", str(tmp_path)])
    rows = read_table(tmp_path / "jobs.csv")
    assert [(row["workload"], row["batch"], row["jobs"], row["n"]) for row in rows] == [
        ("train-embedded", "2", "2", "2"), ("train-embedded", "2", "1", "1"),
        ("train-embedded", "6", "2", "2"),
        ("train-stylenet", "2", "2", "2"), ("train-stylenet", "2", "1", "1"),
    ]  # fmt: skip
    assert json.loads((tmp_path / "machine.json").read_text())["jobs"]["torch"]
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert "images_per_second" in capsys.readouterr().out


def test_no_cores_cannot_be_shared_out(capsys):
    with pytest.raises(SystemExit):
        jobs.main(["--cores", "0"])
    assert "--cores must be 1 or more" in capsys.readouterr().err


def test_processes_wait_for_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "PATIENCE", 0.1)
    with pytest.raises(TimeoutError, match="fewer than 2 processes are ready"):
        work.meet(str(tmp_path), 2)
    (tmp_path / "another").touch()
    work.meet(str(tmp_path), 2)


def test_operations_are_never_counted_where_there_are_fewer():
    counted = {workload.counted for workload in measure.WORKLOADS.values()}
    assert counted <= {*measure.PLAIN, measure.DIRECT}


# On the pages


PAGE = "docs/speed.md"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A page with the markers, and tables."""
    monkeypatch.setattr(update, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("<!-- others -->\n")
    (tmp_path / PAGE).write_text("a\n<!-- bench -->\nold\n<!-- /bench -->\nz\n")
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    cases = measure.cases("train-stylenet", tiny=False)[:3]
    found = dict(zip(cases, (answers(5, 7), answers(2), answers(0.1)), strict=True))
    rows = measure.step_rows(found, {(256, 4): 5.0}, RATES)
    measure.merge(folder / "step.csv", measure.STEP, "train-stylenet", rows)
    limits = [(name, threads, value, "GFLOP/s") for (name, threads), value in RATES.items()]
    write_table(folder / "limits.csv", measure.LIMITS, limits)
    return tmp_path


def refresh(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["update.py", "--bench"])
    update.main()


def test_the_table_on_its_page(project, monkeypatch):
    refresh(monkeypatch)
    text = (project / PAGE).read_text()
    name = "step of StyleNet, 256 px, batch 4, 2 threads"
    assert f"| {name} | plain | 2 | 5 / 6 / 7 s | 1 | 1 % | 307 |" in text
    assert f"| {name} | bf16 | 1 | 100 ms | 60 | 50 % | 300 |" in text
    assert "| fp32 convolution (GFLOP/s) | 100 | 100 |" in text
    assert text.startswith("a\n<!-- bench -->\n|") and text.endswith("\n<!-- /bench -->\nz\n")
    assert "old" not in text and "µs" not in text
    found = {case: answers(case.size) for case in measure.cases("growth", tiny=False)}
    counted = {(case.size, case.batch): 10.0 for case in found}
    rows = measure.growth_rows(found, counted, RATES)
    measure.merge(project / "benchmarks" / "growth.csv", measure.GROWTH, "growth", rows)
    refresh(monkeypatch)
    assert "µs per pixel of the batch |" in (project / PAGE).read_text()


def test_what_users_get_on_the_readme(project, monkeypatch):
    """Trainings in both precisions; a large image by strips and in fp32 alone."""
    (project / "README.md").write_text("<!-- fast -->\n<!-- /fast -->\n")
    found = {
        case: answers({"plain": 8, "fp32": 2, "bf16": 1, "strips": 4}.get(case.way, 3))
        for case in measure.cases("stylize", tiny=False)
    }
    shapes = {(case.size, case.batch): 5.0 for case in found}
    rows = measure.step_rows(found, shapes, RATES)
    measure.merge(project / "benchmarks" / "step.csv", measure.STEP, "stylize", rows)
    refresh(monkeypatch)
    lines = (project / "README.md").read_text().splitlines()
    name = "step of StyleNet, 256 px, batch 4, 2 threads"
    assert f"| {name} | 6 s | 2 s | 0.1 s | 3, 60 |" in lines
    assert "| pass of StyleNet, 512 px, batch 1, 1 thread | 8 s | 2 s | | 4 |" in lines
    assert "| pass of StyleNet, 1024 px, batch 1, 1 thread | 8 s | 4 s | | 2 |" in lines


def test_the_table_of_jobs_on_its_page(project, monkeypatch):
    (project / PAGE).write_text("a\n<!-- jobs -->\n<!-- /jobs -->\n")
    sharing = jobs.Sharing(measure.Case("train-embedded", "StyleNet", 96, 2, 1, "fp32"), 8)
    rows = [jobs.row(sharing, answers(*[0.08] * 8), 8)]
    write_table(project / "benchmarks" / "jobs.csv", jobs.COLUMNS, rows)
    refresh(monkeypatch)
    name = "step of the embedded scale, 96 px, batch 2"
    assert f"| {name} | 8 | 8 | 1 | 0.08 s | 200 | 300 |" in (project / PAGE).read_text()


@pytest.mark.parametrize("missing", ["markers", "step.csv", "limits.csv"])
def test_a_page_without_what_the_table_needs_stays(project, monkeypatch, missing):
    if missing == "markers":
        (project / PAGE).write_text("a\n")
    else:
        (project / "benchmarks" / missing).unlink()
    before = (project / PAGE).read_bytes()
    refresh(monkeypatch)
    assert (project / PAGE).read_bytes() == before


# The plain path


def twins(settings, pictures):
    """A network in training mode and the plain one with the same weights, in float64."""
    net = generators.build(settings, 0, pictures)
    rng = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.InstanceNorm2d | nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=rng)
    other = work.counterpart(net, settings)
    return net.double().train(), other.double().train()


def same(found, wanted, unit=None):
    scale = (wanted if unit is None else unit).detach().abs().max().item()
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9 * scale)


def assert_same(net, other, content, noise):
    """Outputs, gradients and running averages of two steps."""
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in other.parameters())
    rng = torch.Generator().manual_seed(3)
    for _ in range(2):
        found, wanted = net(content, noise), other(content, noise)
        same(found, wanted)
        weights = torch.randn(found.shape, generator=rng, dtype=found.dtype)
        for made in (found, wanted):
            (made * weights).sum().backward()
    units = torch.cat([p.grad.flatten() for p in other.parameters()])
    for mine, theirs in work.pairs(net, other):
        for (name, found), wanted in zip(mine.named_parameters(), theirs.parameters(), strict=True):
            same(found.grad, wanted.grad, units)
            assert found.grad.abs().max() > 0, name
        for found, wanted in zip(mine.buffers(), theirs.buffers(), strict=True):
            same(found, wanted)
    with torch.no_grad():
        same(net.eval()(content, noise), other.eval()(content, noise))


@pytest.mark.parametrize("remade", [False, True])
@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_stylenet_is_the_plain_one(norm, upsampling, remade, monkeypatch):
    monkeypatch.setattr(layers, "LARGE", 1 if remade else layers.LARGE)
    settings = StyleNet(norm=norm, width=4, blocks=2, upsampling=upsampling)
    rng = torch.Generator().manual_seed(2)
    content = torch.rand(2, 3, 16, 24, generator=rng, dtype=torch.float64)
    assert_same(*twins(settings, PHOTOGRAPHS), content, [])


@pytest.mark.parametrize("remade", [False, True])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_texturenet_v1_is_the_plain_one(norm, remade, monkeypatch):
    monkeypatch.setattr(layers, "LARGE", 1 if remade else layers.LARGE)
    net, other = twins(TextureNetV1("texturenet_v1", norm=norm, width=3), TEXTURE)
    rng = torch.Generator().manual_seed(2)
    shapes = net.noise_shapes(2, 64, 96)
    noise = [torch.rand(shape, generator=rng, dtype=torch.float64) for shape in shapes]
    assert_same(net, other, None, noise)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_the_objective_is_the_plain_one(pool, normalise):
    settings = config.Objective(
        style_layers=("relu1_1", "relu2_1", "relu3_2"),
        content_layers=("relu3_1",),
        style_weight=1.0 if normalise else 3.0,  # the plain one scales it away
        content_weight=0.5,
        normalise_gradients=normalise,
    )
    wanted = {*settings.style_layers, *settings.content_layers}
    descriptor = load("vgg19_lite", wanted, pool=pool)
    rng = torch.Generator().manual_seed(0)
    style, *contents = torch.rand(4, 3, 32, 48, generator=rng)
    content, start = torch.stack(contents), torch.rand(3, 3, 32, 48, generator=rng)
    ours = Objective(settings, descriptor, style)
    plainly = work.plain_objective(settings, descriptor, style)
    assert isinstance(plainly, plain.Objective)
    values, gradients = [], []
    for objective in (ours, plainly):
        images = start.clone().requires_grad_(True)
        made = objective(images, objective.content_targets(content))
        loss = made.total.mean() if objective is ours else made
        loss.backward()
        values.append(loss.item())
        gradients.append(images.grad)
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    apart = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert apart < 1e-4


def test_there_is_no_plain_v2():
    settings = work.NETWORKS["TextureNetV2"]
    net = generators.build(settings, 0, config.Texture("ihc", 16, 16))
    with pytest.raises(ValueError, match="no plain texturenet_v2"):
        work.counterpart(net, settings)


# Whole trainings


def test_rounding_over_a_training(tmp_path):
    """Of one thread and fp32 every ratio is 1 by definition; bf16 does change the same images."""
    from test_updates import training

    precision = script("precision")
    fp32, threads, bf16 = precision.rows_of(training(), tmp_path)
    assert [fp32[i] for i in (1, 3, 5, 6)] == ["fp32", 1, 1, 1]
    assert threads[6] == 1
    assert 0 < abs(bf16[6] - 1) < 0.05
