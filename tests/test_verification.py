"""Results beside the expected ones: what agrees, what differs and by how much, what is missing."""

import csv
import importlib.util
import itertools
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, call, snakemake

from texnet import __main__ as cli
from texnet.artifacts import read_json, write_json
from texnet.claims import CLAIM_COLUMNS
from texnet.evidence import VERDICTS, combine
from texnet.tables import METRIC_COLUMNS, read_table, write_table
from texnet.verification import Measured, compare, excess

KEPT = ROOT / "expected" / "embedded"
INFORMATION = "(for information)"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder with a copy of what is expected, and results that are the same."""
    monkeypatch.chdir(tmp_path)
    for folder in (Path("expected/embedded"), Path("results")):
        folder.mkdir(parents=True)
        for name in ("claims.csv", "metrics.csv"):
            shutil.copyfile(KEPT / name, folder / name)
    shutil.copyfile(KEPT / "about.json", "expected/embedded/about.json")


@pytest.fixture
def verify(capsys):
    """Exit code, lines and the line of errors of a verification."""

    def called(*arguments):
        code = cli.main(["verify", *(arguments or ["embedded"])])
        out, err = capsys.readouterr()
        assert "Traceback" not in err and err.count("\n") == (code != 0)
        return code, out.splitlines(), err

    return called


def rewrite(change, path="results/claims.csv"):
    """Change the rows of a table, at least one; None leaves a row out."""
    before = read_table(path)
    after = [row for row in map(change, [dict(row) for row in before]) if row]
    assert after != before, "nothing changed"
    with Path(path).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, before[0])
        writer.writeheader()
        writer.writerows(after)


def drop(**where):
    return lambda row: None if where.items() <= row.items() else row


def put(cells, **where):
    return lambda row: {**row, **cells} if where.items() <= row.items() else row


def votes(claim):
    """The measures kept of a claim that have a vote."""
    rows = read_table(KEPT / "claims.csv")
    return [row for row in rows if row["id"] == claim and row["expected"] != INFORMATION]


def said_of(claim, lines):
    """Status, verdict and the lines below them of one claim."""
    at = next(i for i, line in enumerate(lines) if line.split()[0] == claim)
    below = itertools.takewhile(lambda line: line.startswith(" "), lines[at + 1 :])
    _, status, verdict = lines[at].split(maxsplit=2)
    return status, verdict, [line.strip() for line in below]


# Claims


def test_the_same_results_are_reproduced_and_say_so_again(verify):
    code, lines, err = verify()
    assert (code, err) == (0, "")
    claims = list(dict.fromkeys(row["id"] for row in read_table(KEPT / "claims.csv")))
    assert [line.split()[:2] for line in lines[:-2]] == [[c, "reproduced"] for c in claims]
    rows = len(read_table(KEPT / "metrics.csv"))
    assert lines[-2] == (
        f"metrics: {rows} of {rows} rows within 10 % of the expected interval, 0 differ, 0 missing"
    )
    assert lines[-1] == f"{len(claims)} of {len(claims)} claims reproduced, 0 differ, 0 missing"
    assert len({line.index(line.split()[2]) for line in lines[:-2]}) == 1, "not aligned"
    assert verify() == (code, lines, err)


@pytest.mark.parametrize("verdict", ["contradicted", "inconclusive", "not tested"])
def test_another_verdict_differs(verify, verdict):
    rewrite(put({"verdict": verdict}, id="C1", measure=votes("C1")[0]["measure"]))
    code, lines, err = verify()
    status, said, (detail,) = said_of("C1", lines)
    assert (status, said) == ("differs", f"{verdict}, expected supported")
    measure = votes("C1")[0]["measure"]
    assert detail.strip().startswith(f"{measure}: {verdict} ") and "expected supported " in detail
    total = len(lines) - 3
    assert lines[-1] == f"{total - 1} of {total} claims reproduced, 1 differ, 0 missing"
    assert (code, err) == (1, f"texnet verify: error: {lines[-1]}\n")


@pytest.mark.parametrize(("low", "high"), [(0.92, None), (None, 1.09)])
def test_a_value_just_inside_the_widened_interval(verify, low, high):
    for row in votes("C4"):
        value = float(row["ci_low"]) * low if low else float(row["ci_high"]) * high
        rewrite(put({"value": value}, id="C4", measure=row["measure"]))
    assert verify()[0] == 0


@pytest.mark.parametrize(("low", "high"), [(0.90, None), (None, 1.11)])
def test_a_value_just_outside_the_widened_interval(verify, low, high):
    row = votes("C4")[-1]
    value = float(row["ci_low"]) * low if low else float(row["ci_high"]) * high
    rewrite(put({"value": value}, id="C4", measure=row["measure"]))
    code, lines, _ = verify()
    status, verdict, (detail,) = said_of("C4", lines)
    assert (code, status, verdict) == (1, "differs", "supported")
    measure, numbers = detail.rsplit(": ", 1)
    assert measure == row["measure"]
    found, expected, tolerance = numbers.split(", ", 1)[0], *numbers.rsplit(", tolerance ", 1)
    assert float(found) == pytest.approx(value, rel=1e-3)
    value, low, high = expected.split("expected ")[1].replace(",", "").split()
    said = [float(number.strip("[]")) for number in (value, low, high)]
    assert said == pytest.approx([float(row[c]) for c in ("value", "ci_low", "ci_high")], rel=1e-3)
    assert tolerance == "10 %"


def test_the_tolerance_is_the_one_that_is_kept(verify):
    row = votes("C4")[-1]
    rewrite(put({"value": float(row["ci_high"]) * 1.4}, id="C4", measure=row["measure"]))
    assert verify()[0] == 1
    about = read_json(Path("expected/embedded/about.json"))
    write_json(Path("expected/embedded/about.json"), about | {"tolerance": 0.5})
    assert verify()[0] == 0


def test_a_dropped_claim_is_missing(verify):
    rewrite(drop(id="C9"))
    code, lines, err = verify()
    assert code == 1 and said_of("C9", lines)[:2] == ("missing", "expected supported")
    assert err.endswith("claims reproduced, 0 differ, 1 missing\n")


def test_a_dropped_measure_is_missing(verify):
    gone = votes("C6")[1]["measure"]
    rewrite(drop(id="C6", measure=gone))
    code, lines, _ = verify()
    assert code == 1 and said_of("C6", lines)[0] == "missing"
    assert said_of("C6", lines)[2] == [f"{gone}: no such measure"]


def test_a_measure_that_lost_its_vote_is_missing(verify):
    rewrite(put({"expected": INFORMATION}, id="C6", measure=votes("C6")[1]["measure"]))
    assert said_of("C6", verify()[1])[0] == "missing"


def test_measures_for_information_have_no_part(verify):
    rewrite(put({"value": "1e9", "verdict": "not tested"}, expected=INFORMATION))
    assert verify()[0] == 0
    rewrite(drop(expected=INFORMATION))
    assert verify()[0] == 0


@pytest.mark.parametrize("claim", ["C19", "C21"])
def test_of_a_timed_claim_the_verdict_is_compared_alone(verify, claim):
    rewrite(put({"value": "12345", "ci_low": "12000", "ci_high": "13000"}, id=claim))
    assert verify()[0] == 0
    rewrite(put({"verdict": "not tested"}, id=claim))
    status, verdict, details = said_of(claim, verify()[1])
    assert status == "differs" and verdict.startswith("not tested, expected ")
    assert all(": not tested " in detail for detail in details)


def test_a_claim_that_nobody_tests(verify):
    rewrite(put({"value": "3"}, id="C27"))
    assert verify()[0] == 0
    rewrite(put({"verdict": "supported"}, id="C27"))
    status, verdict, details = said_of("C27", verify()[1])
    assert (status, verdict) == ("differs", "supported, expected not tested")
    assert details[0].endswith("3, expected no value, tolerance 10 %")


def test_a_measure_without_a_value_differs(verify):
    empty = {"value": "", "ci_low": "", "ci_high": "", "n": "0"}
    rewrite(put(empty, id="C3", measure=votes("C3")[0]["measure"]))
    status, _, (detail,) = said_of("C3", verify()[1])
    assert status == "differs" and ": no value, expected " in detail


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_verdict_of_a_claim_is_the_one_of_the_tables(number):
    for given in itertools.product(VERDICTS, repeat=number):
        table = {("C1", str(i)): Measured(1, 1, 1, verdict) for i, verdict in enumerate(given)}
        assert compare("C1", table, table, 0.1, False) == ("reproduced", combine(given), [])


@pytest.mark.parametrize(
    ("low", "high", "inside", "outside"),
    [
        (2, 4, (1.819, 3, 4.399), (1.817, 4.401, -3, 0, math.inf, math.nan)),
        (-4, -2, (-4.399, -3, -1.819), (-4.401, -1.817, 3, 0)),
        (-1, 1, (-1.099, 0, 1.099), (-1.101, 1.101)),
        (0, 0, (0, 0.0009, -0.0009), (0.0011, -0.0011, math.nan)),
        (0, 5, (-0.0009, 0, 5.499), (-0.0011, 5.501)),
        (-5, 0, (-5.499, 0, 0.0009), (-5.501, 0.0011)),
        (3, 3, (2.73, 3.29), (2.72, 3.31)),
        (math.nan, math.nan, (math.nan,), (0, 1)),
    ],
)
def test_bounds_of_every_sign(low, high, inside, outside):
    expected = Measured((low + high) / 2, low, high)
    assert [excess(value, expected, 0.1) for value in inside] == [0] * len(inside)
    assert all(excess(value, expected, 0.1) > 0 for value in outside)


def test_twice_and_half_are_equally_far():
    expected = Measured(2, 2, 2)
    assert excess(4, expected, 0) == excess(1, expected, 0) == 1
    assert excess(20, expected, 0) > excess(10, expected, 0) > excess(0.5, expected, 0)
    assert excess(math.nan, expected, 0) == math.inf


# Metrics


def test_metrics_are_counted_and_do_not_decide(verify):
    rows = [
        ("net", "berries", "0", "texture", 4.0, 3.5, 4.5, 8, "loss"),
        ("net", "berries", "1", "texture", 4.0, 3.5, 4.5, 8, "loss"),
        ("net", "berries", "all", "texture", 4.0, 4.0, 4.0, 8, "loss"),
        ("net", "berries", "0", "vendi", 2.0, 2.0, 2.0, 8, "of 8"),
        ("net", "berries", "1", "vendi", 2.0, 2.0, 2.0, 8, "of 8"),
        ("other", "", "0", "vendi", 5.0, 5.0, 5.0, 8, "of 8"),
    ]
    write_table(Path("expected/embedded/metrics.csv"), METRIC_COLUMNS, rows)
    values = (4.9, 6.0, 60.0, 0.2, 1.0, None)
    found = [(*row[:4], value, *row[5:]) for row, value in zip(rows, values, strict=True) if value]
    extra = ("net", "pebbles", "0", "texture", 1.0, 1.0, 1.0, 8, "loss")
    write_table(Path("results/metrics.csv"), METRIC_COLUMNS, [extra, *found])
    code, lines, _ = verify()
    assert code == 0
    assert lines[-2] == (
        "metrics: 1 of 6 rows within 10 % of the expected interval, 4 differ, 1 missing; largest"
        " differences: net berries all texture: 60, expected 4 [4, 4]; net berries 0 vendi: 0.2,"
        " expected 2 [2, 2]; net berries 1 vendi: 1, expected 2 [2, 2]"
    )


# What is refused


def refused(verify, code, says, *arguments):
    found, lines, err = verify(*arguments)
    assert (found, lines) == (code, [])
    assert err.startswith("texnet verify: error: ") and says in err


def test_an_unknown_scale(verify):
    shutil.copytree("expected/embedded", "expected/full")
    refused(verify, 2, "no scale 'huge' in expected; it has embedded, full", "huge")
    refused(verify, 2, "no scale 'x' in none; it has none", "x", "--expected", "none")


def test_results_of_another_scale(verify):
    write_json(Path("results/stylization.json"), {"scale": "embedded"})
    assert verify()[0] == 0
    write_json(Path("results/stylization.json"), {"scale": "tiny"})
    says = "results/stylization.json: the results are of scale 'tiny', not of 'embedded'"
    refused(verify, 2, says)
    write_json(Path("results/stylization.json"), {})
    refused(verify, 65, "results/stylization.json: has no key 'scale'")


@pytest.mark.parametrize("name", ["claims.csv", "metrics.csv"])
def test_missing_results(verify, name):
    Path("results", name).unlink()
    refused(verify, 66, f"results/{name}: no such file; expected results: run make, or snakemake")
    assert verify("embedded", "--results", str(KEPT))[0] == 0


@pytest.mark.parametrize("key", ["tolerance", "timed"])
def test_a_key_that_is_missing(verify, key):
    path = Path("expected/embedded/about.json")
    write_json(path, {k: v for k, v in read_json(path).items() if k != key})
    refused(verify, 65, f"{path}: has no key '{key}'")
    path.unlink()
    refused(verify, 66, f"{path}: no such file")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put({"value": "many"}, id="C1"), "results/claims.csv: not such a table"),
        (put({"verdict": "maybe"}, id="C1"), "is there twice, or has no verdict"),
        (put({"measure": votes("C1")[0]["measure"]}, id="C1"), "is there twice, or has no verdict"),
    ],
)
def test_tables_that_are_none(verify, change, says):
    rewrite(change)
    refused(verify, 65, says)
    Path("results/claims.csv").write_text("a,b\n1,2\n")
    refused(verify, 65, "results/claims.csv: not such a table ('id'); make it again")


def test_nothing_expected_is_not_reproduced(verify):
    write_table(Path("expected/embedded/claims.csv"), CLAIM_COLUMNS, [])
    code, lines, _ = verify()
    assert (code, lines[-1]) == (1, "0 of 0 claims reproduced, 0 differ, 0 missing")


def test_without_torch():
    program = (
        "import sys; from texnet.__main__ import main; assert main(['verify', 'embedded']) == 0;"
        "sys.exit('torch' in sys.modules)"
    )
    done = call(sys.executable, "-c", program, cwd=Path.cwd(), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


# The rule, and what is kept


@pytest.fixture
def workflow(workplace):
    """The workflow around the results of this folder, which no rule may make anew."""
    for name in ("Snakefile", "workflow", "config", "data", "figures"):
        Path(name).symlink_to(ROOT / name)
    write_json(Path("results/stylization.json"), {"scale": "embedded"})

    def run(*arguments):
        only = ("--cores", 1, "verify", *arguments, "--allowed-rules", "verify")
        done = snakemake(*only, cwd=Path.cwd())
        return done.returncode, done.stdout, done.stderr

    return run


def test_the_rule_shows_its_lines_each_time(workflow):
    for _ in range(2):
        code, out, err = workflow()
        assert code == 0, err
        assert "claims reproduced, 0 differ, 0 missing\n" in out
    rewrite(drop(id="C9"))
    code, out, _ = workflow()
    assert code == 1
    assert "texnet verify: error: " in out and "C9   missing" in Path("logs/verify.log").read_text()


def test_the_rule_without_expected_results(workflow):
    code, _, err = workflow(*TINY)
    assert code == 1 and "no scale 'tiny' in expected; it has embedded\n" in err


def test_what_is_kept_says_how_it_was_made():
    about = read_json(KEPT / "about.json")
    assert list(about) == [
        "scale", "seeds", "commit", "torch", "python", "processor", "gpu", "job_seconds",
        "tolerance", "timed",
    ]  # fmt: skip
    rows = read_table(KEPT / "claims.csv")
    by_speed = {r["id"] for r in rows if r["runs"] == "speed" and "time" in r["measure"]}
    assert about["scale"] == KEPT.name and set(about["timed"]) == by_speed
    assert {r["seed"] for r in read_table(KEPT / "metrics.csv")} >= set(map(str, about["seeds"]))


def test_the_commit_that_is_kept(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("update", ROOT / "expected" / "update.py")
    update = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(update)
    monkeypatch.setattr(update, "ROOT", tmp_path)
    Path("README.md").write_text("one")
    Path("code.py").write_text("one")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert update.commit() == head
    Path("README.md").write_text("two")
    Path("expected/embedded/about.json").write_text("two")
    Path("docs").mkdir()
    Path("docs/results.md").write_text("two")
    assert update.commit() == head
    Path("code.py").write_text("two")
    assert update.commit() == f"{head}+changes"
