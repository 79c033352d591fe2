"""Hostile configurations, paths and surroundings: a clear line, or the same results."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BIN
from hostile import MEGABYTE, ROOT, below, process, refused, texnet
from PIL import Image
from test_data import picture
from test_images import IMAGES, RUN

from texnet import documents
from texnet.artifacts import read_json, sha256
from texnet.commands import _mapping
from texnet.errors import DataError, UsageError

FULL = ROOT / "config" / "config.yaml"
TINY = ROOT / "config" / "tiny.yaml"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEXNET_WEIGHTS", raising=False)


def bomb(levels, use):
    """Aliases of aliases: nine times as many values a line."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"{use}: *a{levels - 1}\n"])


# Case 79

TRAPS = {
    "a key twice": ("threads: 1\nseeds: [0]\nthreads: 2\n", "line 3: key 'threads' is in line 1"),
    "a key twice in a section": (
        "optimiser:\n  lr: 0.1\n  batch: 2\n  lr: 0.5\n", "line 4: key 'lr' is in line 2"
    ),
    "a key twice in braces": ("optimiser: {lr: 1, lr: 2}\n", "line 1: key 'lr' is in line 1"),
    "a run twice": ("runs:\n  a: {}\n  b: {}\n  a: {}\n", "line 4: key 'a' is in line 2"),
    "octal": ("seeds: [0]\nthreads: 010\n", "line 2: 010 is 8 in YAML"),
    "sexagesimal": ("optimiser:\n  iterations: 12:30\n", "line 2: 12:30 is 750 in YAML"),
    "sexagesimal with a fraction": ("lr: 1:30.5\n", "line 1: 1:30.5 is 90.5 in YAML"),
    "no as a key": ("runs:\n  no: {}\n", "line 2: key no is no text; put it in quotes"),
    "a number as a key": ("runs:\n  1: {}\n", "line 2: key 1 is no text"),
    "nothing as a key": ("~: 1\n", "line 1: key ~ is no text"),
    "a bomb": (bomb(9, "threads"), "stands for more than 100000 values"),
    "a larger bomb": (bomb(40, "seeds"), "stands for more than 100000 values"),
    "a list in itself": ("threads: &a [*a]\n", "line 1: this holds itself"),
    "a section in itself": ("optimiser: &a\n  x: *a\n", "this holds itself"),
    "no keys": ("- 1\n", "holds no keys"),
}  # fmt: skip
NO_YAML = {
    "a tab": ("optimiser:\n\tlr: 1\n", "line 2, column 1"),
    "a tag of Python": ("a: !!python/object/apply:os.system ['touch pwned']\n", "line 1"),
    "two documents": ("threads: 1\n---\nthreads: 2\n", "line 2"),
    "a NUL": ("scale: a\0b\n", "#x0000"),
    "6000 digits": (f"threads: {'9' * 6000}\n", "4300 digits"),
    "1000 brackets": ("threads: " + "[" * 1000, "recursion"),
    "a list as a key": ("[1]: 2\n", "line 1"),
    "Latin-1": (b"scale: caf\xe9\n", "utf-8"),
    "UTF-16": ("scale: a\n".encode("utf-16"), "utf-8"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_what_yaml_misreads(name):
    text, says = TRAPS[name]
    Path("mine.yaml").write_text(text)
    err = refused("configure", "mine.yaml", "-o", "results", code=2, says=says)
    assert "error: mine.yaml" in err and len(err) < 200


@pytest.mark.parametrize("name", NO_YAML)
def test_what_is_no_yaml(name):
    text, says = NO_YAML[name]
    Path("mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    err = refused("configure", "mine.yaml", "-o", "results", code=65, says=says)
    assert "mine.yaml: is not valid YAML" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("optimiser: {lr: .nan}", "'optimiser.lr' is nan; it should be a finite number"),
        ("optimiser: {lr: -.inf}", "'optimiser.lr' is -inf"),
        ("optimiser: {iterations: -5}", "'optimiser.iterations' is -5; it should be greater"),
        ("optimiser: {iterations: 1e3}", "'optimiser.iterations' is '1e3'; it should be a valid i"),
        ("optimiser: {batch: 0}", "'optimiser.batch' is 0; it should be greater than 0"),
        ("device: no", "'device' is False; it should be 'cpu'"),
        ("optimiser: {lr:0.1}", "unknown key 'optimiser.lr:0.1'"),
        ("optimiser:", "'optimiser' is None; it should be a section"),
        ("stpes: 3", "unknown key 'stpes'"),
        ("images: {sytle: a.png}", "unknown key 'images.sytle'; did you mean 'style'?"),
    ],
)
def test_values_through_yaml(text, says):
    Path("mine.yaml").write_text(text)
    refused("configure", f"{FULL},mine.yaml", "-o", "results", code=2, says=says)


def test_values_that_yaml_reads_as_text_or_with_a_mark():
    Path("mine.yaml").write_bytes(b"\xef\xbb\xbfoptimiser: {lr: 1e-3}\r\nthreads: 2\r\n")
    ended = texnet("configure", f"{FULL},mine.yaml", "-o", "results")
    assert (ended.code, ended.err) == (0, "")
    run = read_json(Path("results/stylenet_in_seed0/run.json"))
    assert (run["optimiser"]["lr"], run["threads"]) == (0.001, 2)


def test_a_missing_file_and_json_with_a_key_twice():
    refused("configure", f"{FULL},none.yaml", "-o", "r", code=66, says="none.yaml: no such file")
    says = "configuration: is not valid JSON (key 'a' comes twice)"
    refused("configure", '{"a": 1, "b": {"a": 1}, "a": 2}', "-o", "r", code=2, says=says)


def test_committed_configurations_and_modest_aliases_are_read(tmp_path):
    """What the strict reader must not refuse, to the value what PyYAML reads."""
    import yaml

    for path in (ROOT / "config").glob("*.yaml"):
        assert documents.read_yaml(path) == yaml.safe_load(path.read_text())
    text = "a: &a {x: 1, y: 0.5}\nb: {<<: *a, x: 2}\nc: [*a, *a]\nd: {0x10: 1}\n"
    (tmp_path / "a.yaml").write_text(text.replace("0x10", "'0'"))
    assert documents.read_yaml(tmp_path / "a.yaml")["b"] == {"x": 2, "y": 0.5}
    assert _mapping("a.yaml")["c"] == [{"x": 1, "y": 0.5}] * 2
    with pytest.raises((UsageError, DataError), match="0x10"):
        (tmp_path / "a.yaml").write_text(text)
        documents.read_yaml(tmp_path / "a.yaml")


# What Snakemake reads itself

PARSER = """
import io, os, sys, time
import snakemake.api, snakemake.cli, texnet.experiment
for line in sys.stdin:
    arguments = eval(line)
    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writer, 1), os.dup2(writer, 2)
        code = 1
        try:
            snakemake.cli.main(arguments)
            code = 0
        except SystemExit as stop:
            code = stop.code
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code or 0)
    os.close(writer)
    told = os.fdopen(reader, errors="replace").read()
    _, status, usage = os.wait4(child, 0)
    print(repr((os.waitstatus_to_exitcode(status), told, usage.ru_maxrss * 1024)), flush=True)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The project's code and configuration, with results of its own."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("Snakefile", "workflow", "config", "texnet", "figures", "data", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def snakemake(clone):
    """Snakemake by its arguments: exit code, what it says, bytes of memory."""
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
           "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", PARSER], stdin=-1, stdout=-1, text=True, cwd=clone, env=env
    ) as parser:

        def call(*arguments):
            parser.stdin.write(f"{[str(argument) for argument in arguments]!r}\n")
            parser.stdin.flush()
            return eval(parser.stdout.readline())

        yield call
        parser.stdin.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TRAPS["a key twice"][0], "mine.yaml line 3: key 'threads' is in line 1 too"),
        (TRAPS["octal"][0], "mine.yaml line 2: 010 is 8 in YAML"),
        (bomb(9, "threads"), "stands for more than 100000 values"),
        ("optimiser:\n\tlr: 1\n", "make sure to not mix whitespace and tab indentation"),
        (NO_YAML["a tag of Python"][0], "not valid JSON or YAML"),
    ],
)
def test_traps_in_the_workflow(snakemake, clone, tmp_path, text, says):
    (tmp_path / "mine.yaml").write_text(text)
    before = set(clone.iterdir())
    code, told, memory = snakemake("-n", "all", "--nolock", "--configfile", tmp_path / "mine.yaml")
    assert code == 1 and says in told and "Traceback" not in told
    assert memory < 500 * MEGABYTE
    assert set(clone.iterdir()) - before <= {clone / ".snakemake"} and not Path("pwned").exists()


# Case 78

HOSTILE = 'it\'s "a" $(touch PWNED) `touch PWNED`; touch PWNED # %s é图\n&& touch PWNED'


def test_odd_paths_in_the_workflow(snakemake, clone, tmp_path):
    """Into run.json as they are, into no command of a shell."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    Image.linear_gradient("L").resize((400, 400)).save(folder / "mine.png")
    images = {"style": str(folder / "mine.png"), "contents": [str(folder)]}
    content = {"images": images, "textures": {"exemplars": [str(folder / "mine.png")]}}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    files = ("--configfile", TINY, tmp_path / "mine.json")
    made = [f"results/{run}_seed0/run.json" for run in ("stylenet_in", "v1_mine")]
    code, told, _ = snakemake("--cores", 1, *made, "--nolock", *files)
    assert code == 0, told
    assert read_json(clone / made[0])["images"]["style"] == images["style"]
    assert read_json(clone / made[1])["images"]["exemplar"] == images["style"]
    code, told, _ = snakemake("-n", "-p", "results/scores/v1.csv", "--nolock", *files)
    assert code == 0, told
    commands = [line for line in told.splitlines() if "python -m texnet" in line]
    assert len(commands) == 2 and not any("PWNED" in line or "it's" in line for line in commands)
    assert not list(clone.rglob("PWNED")) and not list(tmp_path.rglob("PWNED"))


def test_braces_in_a_path_are_named(snakemake, tmp_path):
    """Snakemake takes them for a wildcard."""
    (tmp_path / "{run}").mkdir()
    (tmp_path / "{run}/mine.png").write_bytes(picture())
    images = json.dumps({"images": {"style": str(tmp_path / "{run}/mine.png")}})
    (tmp_path / "mine.json").write_text(images)
    files = ("--configfile", TINY, tmp_path / "mine.json")
    code, told, _ = snakemake("-n", "results/stylenet_in_seed0/model.safetensors", *files)
    assert code == 1 and "{run}/mine.png'" in told and "rename it" in told


def test_shell_words_as_wildcards(snakemake, clone):
    """No rule takes them: every wildcard is one of the configuration's names."""
    targets = [  # it names one that it cannot make, whichever comes first
        f"{folder}/$(touch PWNED){rest}"
        for folder, rest in (("results", "/model.safetensors"), ("results", "/run.json"),
                             ("results/scores", ".csv"), ("results/sweep", ".csv"),
                             ("resources", ".sha256"), ("figures", ".pdf"))
    ] + ["results/stylenet_in_seed0; touch PWNED/run.json", "results/a\nb/run.json"]  # fmt: skip
    code, told, _ = snakemake("--cores", 1, *targets, "--nolock", "--configfile", TINY)
    assert code == 1 and "No rule to produce" in told
    assert any(f"No rule to produce {target} (" in told for target in targets)
    assert not list(clone.rglob("PWNED"))


def test_every_wildcard_of_a_rule_is_constrained():
    """To names of the configuration or the registry, which hold no word of a shell."""
    seen = set()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"\n(?=(?:use )?rule )", path.read_text()):
            outputs = re.search(r"\n    output:\n(.*?)\n    \w", rule, re.DOTALL)
            for name in re.findall(r"[/\"}]\{+(\w+)\}+[./]", outputs[1] if outputs else ""):
                seen.add(name)
                assert re.search(rf"wildcard_constraints:\n\s+{name}=", rule), (path.name, rule)
    assert seen == {"run", "name", "exemplar"}


def test_odd_paths_on_the_command_line(tmp_path):
    folder = tmp_path / HOSTILE
    folder.mkdir()
    os.chdir(folder)
    for name in ("a b.png", "-x.png"):
        Path(name).write_bytes(picture())
    images = {**IMAGES, "style": str(folder / "a b.png"), "contents": [str(folder)]}
    (folder / "run.json").write_text(json.dumps(RUN | {"images": images}))
    ended = texnet("train", folder / "run.json", folder / "out" / "model.safetensors")
    assert ended.code == 0, ended.err
    ended = texnet("stylize", folder / "out/model.safetensors", folder, "-o", folder / "made")
    assert ended.code == 0 and ended.out == "".join(
        f"{folder}/made/{name}.png\n" for name in ("-x", "a b", "samples")
    )
    assert sorted(os.listdir("out")) == ["history.csv", "model.safetensors", "samples.png"]
    assert sorted(os.listdir(folder)) == ["-x.png", "a b.png", "made", "out", "run.json"]
    # The newline of the path stays out of a message.
    refused("train", folder / "none.json", "m", code=66, says="&& touch PWNED/none.json: no such")
    assert not list(tmp_path.rglob("PWNED"))


# Case 80

BARE = {
    "TMPDIR": "/nonexistent",
    "XDG_CACHE_HOME": "/nonexistent",
    "MPLCONFIGDIR": "/nonexistent",
    "TEXNET_CACHE": "/nonexistent",
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "tr_TR.UTF-8",
    "LANGUAGE": "tr",
    "PYTHONHASHSEED": "7",
}
# Nothing but the current folder would be left to tempfile.
HOMELESS = """
import os, sys, tempfile
os.environ.pop("HOME", None)
tempfile._candidate_tempdir_list = lambda: ["/nonexistent"]
from texnet.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_same_bytes_in_bare_surroundings():
    """Without a home, a folder for temporary files or caches, in another time and language."""
    Path("run.json").write_text(json.dumps(RUN))
    ended = texnet("train", "run.json", "here/m.safetensors")
    assert ended.code == 0, ended.err
    ended = process(
        sys.executable, "-c", HOMELESS, "train", "run.json", "bare/m.safetensors",
        HOME="/nonexistent", **BARE,
    )  # fmt: skip
    assert ended.code == 0 and ended.out == "" and "rror" not in ended.err, ended.err
    for name in ("m.safetensors", "samples.png"):
        assert sha256(Path("here") / name) == sha256(Path("bare") / name)
    assert {str(path) for path in below() if path.is_file()} == {
        "run.json", *(f"{f}/{n}" for f in ("here", "bare")
                      for n in ("m.safetensors", "samples.png", "history.csv"))
    }  # fmt: skip


def test_a_cache_that_may_not_be_written(tmp_path, monkeypatch):
    """What is in it is read; what is not is one line with the remedy."""
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/wave.png").write_bytes(picture())
    digest = sha256(tmp_path / "cache/wave.png")
    (tmp_path / "cache/wave.sha256").write_text(f"{digest}  wave.png\n")
    (tmp_path / "cache").chmod(0o555)
    images = {**IMAGES, "style": "wave"}
    Path("run.json").write_text(json.dumps(RUN | {"images": images}))
    ended = texnet("train", "run.json", "m.safetensors", unprivileged=True)
    assert ended.code == 0, ended.err
    says = "cannot be written (Permission denied); free some space, or name a folder"
    refused("fetch", "chicago", code=74, says=says, unprivileged=True)
    (tmp_path / "cache").chmod(0o755)
