"""The DAG: dry runs, one whole tiny run, what reruns when, figures byte for byte, the report."""

import base64
import contextlib
import csv
import html
import itertools
import json
import re
import shutil

import pytest
from browser import Document, browse, complaints
from conftest import ROOT, TINY, call, snakemake

from texnet.artifacts import sha256
from texnet.claims import CLAIMS
from texnet.config import read_run
from texnet.sweep import chosen_temperature
from texnet.tables import read_table
from texnet.training import load_generator


def rerun(project, *targets):
    """Rules that a further call would run."""
    done = snakemake("-n", *(targets or ["all"]), *TINY, cwd=project)
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    if "Nothing to be done" in text:
        return set()
    return set(job_counts(text)) - {"total", "all", "figures"}


def job_counts(text):
    """The jobs by rule of a dry run's last summary."""
    lines = text[text.rindex("Job stats:") :].splitlines()[3:]
    return dict(line.split() for line in itertools.takewhile(str.strip, lines))


def test_the_whole_tiny_dag(project):
    with (project / "results/claims.csv").open(newline="") as stream:
        claims = list(csv.DictReader(stream))
    assert {row["id"] for row in claims} == set(CLAIMS)
    untested = [row["id"] for row in claims if row["verdict"] == "not tested"]
    assert untested == ["C17", "C27"]  # there is one exemplar, and no ImageNet
    assert len({row["id"] for row in claims}) == 28
    with (project / "results/metrics.csv").open(newline="") as stream:
        metrics = list(csv.DictReader(stream))
    assert list(metrics[0]) == "run exemplar seed metric value ci_low ci_high n unit".split()
    stylization = {f"stylenet_{name}" for name in "in bn in_first lrn_first noise diverse".split()}
    stylization |= {"pyramid_in", "pyramid_bn", "pyramid_bn_few", "skip_in", "skip_bn"}
    stylization |= {"gatys", "gatys_larger", "gatys_largest", "finetune_in", "finetune_bn"}
    textures = {"v1", "v1_bn", "v2", "v2_bn", "v2_plain", "v2_diverse", "gatys_texture"}
    sweep = {f"v2_diverse_{t}" for t in ("T4", "T16", "T50", "T200")}
    others = {"crops", "repeated", "estimator"}
    assert {row["run"] for row in metrics} == stylization | textures | sweep | others
    for figure in (f"fig{number}" for number in range(1, 8)):
        assert (project / f"figures/{figure}.pdf").read_bytes().startswith(b"%PDF")
        assert (project / f"figures/{figure}.png").stat().st_size > 10_000


def test_the_sweep_gives_the_diverse_runs_their_temperature(project):
    chosen = chosen_temperature(project / "results/sweep/berries.csv", "berries")
    folder = project / "results/v2_diverse_berries_seed0"
    assert read_run(folder / "run.json").objective.temperature == chosen
    _, made = load_generator(folder / "model.safetensors")
    assert made.objective.temperature == chosen
    config = project / "config/config.yaml"
    with edited(config, "spotting_limit: 1.3", "spotting_limit: 9.5"):
        again = rerun(project)
    assert {"sweep_settings", "sweep", "temper", "train"} <= again and "ask" not in again


@contextlib.contextmanager
def edited(path, before, after):
    """A file with one thing replaced, for a while."""
    original = path.read_text()
    assert before in original
    path.write_text(original.replace(before, after))
    try:
        yield
    finally:
        path.write_text(original)


def test_nothing_left_to_do_and_what_reruns_when(project):
    assert "Nothing to be done" in snakemake("-n", *TINY, cwd=project).stdout
    losses, figure = project / "texnet/losses.py", project / "figures/fig3.py"
    with edited(losses, '"""The objective:', '# a comment\n"""Our objective:'):
        assert rerun(project) == set(), "a comment or a docstring reran something"
    with edited(losses, ".square().mean((1, 2))", ".abs().mean((1, 2))"):
        again = rerun(project)
        assert {"train", "optimize", "score", "references"} <= again, "a loss did not retrain"
    with edited(figure, "(c) content", "(c) photograph"):
        assert rerun(project) == {"fig3"}
    assert rerun(project) == set()


def test_same_bytes_whatever_the_cores(project):
    """Made again from nothing on one core: models, scores and figures to the byte."""
    kept = ["figures/fig3.pdf", "results/scores/gatys.csv", "results/scores/references.csv",
            "results/stylenet_bn_seed0/model.safetensors",
            "results/v1_berries_seed0/model.safetensors",
            "results/v2_diverse_T4_berries_seed100/model.safetensors"]  # fmt: skip
    before = {name: sha256(project / name) for name in kept}
    shutil.move(project / "results", project / "kept")
    shutil.move(project / ".snakemake", project / "kept.snakemake")
    done = call(
        "snakemake", "--cores", 1, *kept, "--forceall", *TINY,
        cwd=project, OMP_NUM_THREADS="2", TZ="Asia/Tokyo", PYTHONHASHSEED="7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {name: sha256(project / name) for name in kept} == before
    for folder, whole in (("results", "kept"), (".snakemake", "kept.snakemake")):
        shutil.rmtree(project / folder)
        shutil.move(project / whole, project / folder)


def test_editing_one_run_retrains_that_run_alone(project):
    """One call, as a user makes it: the other generators' files are not touched."""
    models = {
        name: project / f"results/pyramid_{name}_seed0/model.safetensors"
        for name in ("bn", "bn_few")
    }
    before = {name: path.stat().st_mtime_ns for name, path in models.items()}
    tiny, few = project / "config/tiny.yaml", "  pyramid_bn_few: {"
    with edited(tiny, few, few + "images: {size: 64, crops: 8}, "):
        counts = job_counts(snakemake("-n", "all", *TINY, cwd=project).stdout)
        assert counts["train"] == "1" and counts["configure"] == "1"
        assert "optimize" not in counts and counts["score"] == "1"
        assert not set(counts) & {f"fig{number}" for number in range(1, 8)}  # none shows it
        done = snakemake("--cores", 2, "all", *TINY, cwd=project)
        assert done.returncode == 0, done.stderr
    after = {name: path.stat().st_mtime_ns for name, path in models.items()}
    assert after["bn"] == before["bn"] and after["bn_few"] != before["bn_few"]


def test_a_failed_rule_shows_the_end_of_its_log(project):
    target = "results/stylenet_in_seed0/model.safetensors"
    (project / "broken.png").write_text("no picture")
    done = snakemake("--cores", 1, target, *TINY, "--config", "images={style: broken.png}",
                     cwd=project)  # fmt: skip
    (project / "broken.png").unlink()
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "texnet train: error: broken.png: not a PNG or JPEG image" in text
    assert "Traceback" not in text


# Stylizations; textures, of three exemplars with three seeds; the sweep of four T.
@pytest.mark.parametrize(
    ("target", "scale", "trainings"),
    [("all", (), 11 * 3 + 6 * 3 * 3 + 4 * 3), (None, TINY, 11 + 6 + 4)],
)
def test_with_and_without_a_target_everything_is_made(target, scale, trainings):
    done = snakemake("-n", *filter(None, [target]), "--forceall", *scale)
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout)
    assert counts[target or "default"] == "1" and int(counts["train"]) == trainings


def test_unknown_key_is_refused_by_name():
    done = snakemake("-n", "all", "--config", "sedes=[1]")
    assert done.returncode != 0
    assert "unknown key 'sedes'; did you mean 'seeds'?" in done.stdout + done.stderr


def test_a_missing_image_file_is_named_though_results_stand():
    done = snakemake("-n", "all", "--config", "images={style: mine.jpg}")
    assert done.returncode != 0
    assert "images name 'mine.jpg', and there is no such file" in done.stdout + done.stderr


def test_rules_made_from_local_ones_are_local():
    """Snakemake does not hand the mark on: they would be sent to a cluster."""
    text = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    bodies = dict(re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", text, re.M))
    local = {name for name, body in bodies.items() if "localrule: True" in body}
    copies = {new for base, new in re.findall(r"^use rule (\w+) as (\w+)", text, re.M)
              if base in local}  # fmt: skip
    assert len(copies) > 5
    listed = (ROOT / "workflow/Snakefile").read_text().partition("localrules:")[2]
    assert copies == set(re.findall(r"^    (\w+),$", listed, re.M))


# The report: complete, one file that loads nothing, and it runs in a browser

CAPTIONS = ROOT / "workflow" / "report"


@pytest.fixture(scope="module")
def report(project):
    """The report of the tiny DAG."""
    path = project / "report.html"
    done = snakemake("--report", path.name, *TINY, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    yield path
    path.unlink()


def variable(page, name):
    """A value that Snakemake hands to the scripts of its report."""
    pattern = rf"<script[^>]*>\s*var {name} = (.*?);\s*</script>"
    return json.loads(re.search(pattern, page, re.DOTALL)[1])


def words(text):
    """Text without markup, its words one space apart."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


def sentences(path):
    """The fixed parts of a caption, without reStructuredText's markup, up to its first branch."""
    parts = re.split(r"\{\{.*?\}\}", path.read_text().partition("{%")[0], flags=re.DOTALL)
    return [words(re.sub(r"[*`]", "", part)) for part in parts if words(part)]


def test_it_holds_every_result_with_its_caption(project, report):
    page = report.read_text()
    categories, results = variable(page, "categories"), variable(page, "results")
    assert {"Figures", "Start here", "Tables"} == set(categories)
    listed = {name for groups in categories.values() for names in groups.values() for name in names}
    assert listed == set(results)
    for name, result in results.items():
        content = base64.b64decode(result["data_uri"].partition(";base64,")[2])
        assert content == (project / name).read_bytes(), name
    figures = {f"figures/{path.stem}.png" for path in CAPTIONS.glob("fig*.rst")}
    assert figures == {name for names in categories["Figures"].values() for name in names}
    for name in figures:
        caption = words(results[name]["caption"])
        parts = sentences(CAPTIONS / name.replace("figures/", "").replace(".png", ".rst"))
        assert parts and all(part in caption for part in parts), name
    tables = categories["Tables"]["Pages"]
    assert len(tables) == 4 and all(results[name]["caption"] for name in tables)


# What each figure shows a result of.
SHOWN = {
    1: "stylenet_bn stylenet_diverse gatys",
    2: "stylenet_in stylenet_bn stylenet_lrn_first stylenet_in_first",
    3: "stylenet_in stylenet_bn gatys finetune_in finetune_bn",
    4: "stylenet_in stylenet_bn gatys_larger gatys_largest",
    5: "v1 v2 v2_diverse",
    6: "stylenet_noise stylenet_diverse",
    7: "v2_diverse_T4 v2_diverse_T16 v2_diverse_T50 v2_diverse_T200",
}


@pytest.mark.parametrize("number", SHOWN)
def test_a_figures_caption_names_its_runs(project, report, number):
    caption = variable(report.read_text(), "results")[f"figures/fig{number}.png"]["caption"]
    named = set(re.findall(r'<tt class="docutils literal">(\w+)</tt>', caption))
    every = {run["run"] for run in read_table(project / "results/metrics.csv")}
    assert named & every == set(SHOWN[number].split())


def test_its_start_page_has_the_verdicts_of_this_run(project, report):
    page = variable(report.read_text(), "workflow_desc")
    description = words(page)
    parts = sentences(CAPTIONS / "workflow.rst")
    assert parts and all(re.sub(r"^=+|=+ ", "", part) in description for part in parts)
    for row in read_table(project / "results/claims.csv"):
        assert f"{row['id']} {row['claim']} ({row['where']}): " in description
        if row["expected"] != "(for information)":
            assert row["measure"] in description
    results = variable(report.read_text(), "results")
    linked = re.findall(r"contentPath: results\['(.*?)'\]\.data_uri", page)
    assert {f"figures/fig{n}.png" for n in range(1, 8)} <= set(linked) <= set(results)


def test_it_loads_nothing_from_elsewhere(report):
    assert Document(report.read_text()).from_elsewhere() == []


def test_it_runs_in_a_browser(report, tmp_path):
    document, wrong = browse(report, tmp_path)
    assert wrong == []
    assert {"Figures", "Tables"} <= set(document.shown)
    assert document.from_elsewhere() == []  # nor what its scripts have added


BROKEN = """<!DOCTYPE html><title>Figures</title><style>p { background: url("a.png") }</style>
<p>shown</p><img src="https://example.org/b.png"><a href="https://example.org">linked</a>
<script>console.log("said")</script><script>nothing_of_this_name()</script>
<script>document.body.append(Object.assign(new Image(), {src: "http://example.org/c.png"}))</script>
"""


def test_what_a_page_loads_is_found():
    document = Document(BROKEN)
    assert document.loaded == ["a.png", "https://example.org/b.png"] == document.from_elsewhere()
    assert document.shown == ["shown", "linked"]


def test_a_broken_page_is_found_in_a_browser(tmp_path):
    path = tmp_path / "broken page.html"
    path.write_text(BROKEN)
    document, wrong = browse(path, tmp_path / "profile")
    assert len(wrong) == 1 and "nothing_of_this_name is not defined" in wrong[0]
    assert document.loaded == ["a.png", "https://example.org/b.png", "http://example.org/c.png"]
    assert document.shown == ["shown", "linked"]


def test_complaints_in_a_log():
    log = """[1:1:1121/1.4:ERROR:dbus/bus.cc:405] Failed to connect to the bus: Error
[1:1:1121/1.5:INFO:CONSOLE:75] "not for production", source: file:///r.html (75)
[1:1:1121/1.6:INFO:CONSOLE(7)] "Uncaught ReferenceError: x is not defined", source: (1)
[1:1:1121/1.7:ERROR:CONSOLE(8)] "no", source: (1)"""
    assert complaints(log) == log.splitlines()[2:]
