"""The documentation: its commands run, its links lead somewhere, and what it names is there.

A command is a line of a fence without a language (or with one of a shell). Those of texnet, of
snakemake (as dry runs) and of make (whose targets must exist), and snippets of Python, run here, in
the order of the page, in a folder with small pictures. tests/commands.csv has all others: how a
command is run instead (as), or the test that runs it, or why none does.
"""

import csv
import dataclasses
import glob
import json
import re
import shlex
import shutil
import subprocess
import tomllib

import numpy as np
import pytest
import yaml
from conftest import ROOT
from PIL import Image
from shell import Shell

from texnet import __main__ as cli
from texnet import config, data, experiment, networks, own, parts, textures
from texnet.evidence import combine
from texnet.tables import read_table
from texnet.verification import INFORMATION

PAGES = ("README.md", "config/README.md", "data/README.md",
         *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")))  # fmt: skip
TABLE = ROOT / "tests" / "commands.csv"
SHELLS = ("", "sh", "bash", "shell", "console")
SMALL = "--descriptor random --device cpu --threads 1"
SHORTER = {
    "train texture": f"{SMALL} --iterations 2 --batch 2 --size 64",
    "train style": f"{SMALL} --iterations 2 --batch 2 --size 32",
    "optimize texture": f"{SMALL} --evaluations 3 --size 64",
    "optimize style": f"{SMALL} --evaluations 3 --size 64",
    "stylize": "--size 96",
    "score": "--threads 1 --count 8",
    "exemplar": "--size 64",
}
"""What is appended to a verb's arguments."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A fence: where it begins, its language, the file that it is, what is in it."""

    page: str
    line: int
    language: str
    file: str
    text: str

    @property
    def shell(self):
        """Whether its lines are commands; a bare fence of YAML begins with a key."""
        return self.language in SHELLS and not re.match(r"[\w.]+:\s", self.text)


def blocks(page):
    """The fences of a page."""
    found, opened = [], None
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        if not line.startswith("```"):
            if opened:
                opened[2].append(line)
        elif opened:
            start, info, lines = opened
            language, _, file = info.partition(" ")
            found.append(Block(page, start, language, file, "\n".join(lines) + "\n"))
            opened = None
        else:
            opened = (number + 1, line[3:].strip(), [])
    assert opened is None, f"{page}: a fence does not end"
    return found


def commands(text):
    """The commands of a fence, each on one line; a loop is one."""
    whole, open_ = [], ""
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#\s.*$", "", line).strip()
        if not line:
            continue
        open_ += line
        if line.endswith("\\"):
            open_ = open_[:-1]
        elif open_.startswith("for ") and line != "done":
            open_ += " " if line == "do" or line.endswith("do") else "; "
        else:
            whole.append(" ".join(open_.split()))
            open_ = ""
    assert not open_, f"'{open_}' does not end"
    return whole


def pages_commands(page):
    return [c for block in blocks(page) if block.shell for c in commands(block.text)]


def listed():
    """Rows of the table by their commands."""
    with TABLE.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = {row["command"]: row for row in rows}
    assert len(found) == len(rows), "a command is listed twice"
    return found


def test_what_is_a_command():
    text = (
        "make   # set up\n\n# why\ntexnet a 'b c' \\\n  --d\nfor x in 1 2; do\n  a $x\n  b\ndone\n"
    )
    assert commands(text) == ["make", "texnet a 'b c' --d", "for x in 1 2; do a $x; b; done"]
    with pytest.raises(AssertionError, match="does not end"):
        commands("for x in 1; do\n")
    assert not Block("", 1, "", "", "images:\n  style: a\n").shell
    assert Block("", 1, "", "", "make images\n").shell and not Block("", 1, "yaml", "", "a").shell


# Where they run


def drawn(path, name, width, height):
    path.parent.mkdir(exist_ok=True)
    image = data.resize(data.load_image(name, 256), (height, width)).clamp(0, 1)
    Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


KINDS = ("html", "md", "tex", "csv")
"""Of the tables that a run makes."""


def workplace(folder):
    """A clone in which nothing is made yet, with pictures as the pages name them."""
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns(
        "__pycache__", "*.pdf", "*.png", "summary.html", *(f"table_*.{kind}" for kind in KINDS)
    )
    for name in ("texnet", "workflow", "config", "profiles", "figures"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("data", "expected"):
        (folder / name).symlink_to(ROOT / name)
    drawn(folder / "photo.jpg", "chelsea", 96, 64)
    drawn(folder / "painting.jpg", "stained_glass", 80, 80)
    drawn(folder / "texture.jpg", "gravel", 150, 140)
    for number, name in enumerate(("coffee", "rocket")):
        drawn(folder / "photos" / f"{number}.jpg", name, 90, 70)
        drawn(folder / "frames" / f"{number}.png", name, 64, 48)


def grey_levels(path):
    """The pixels of a picture, (H, W, 3), 0 to 255."""
    return (data.read_image(path).permute(1, 2, 0).numpy() * 255).round().astype(int)


def film(folder):
    """The pictures in ``frames`` as ``film.mp4``."""
    av = pytest.importorskip("av")
    with av.open(str(folder / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in sorted((folder / "frames").iterdir()):
            pixels = grey_levels(picture).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def shell():
    started = Shell(ROOT)
    yield started
    started.close()


@pytest.fixture(scope="module")
def dry_runs():
    """Results of dry runs, which several pages have."""
    return {}


class Reader:
    """Somebody who does what a page says, in a folder.

    Args:
        folder: a clone, with pictures.
        shell: runs what is run.
        dry_runs: results that are known; others are added.
    """

    def __init__(self, folder, shell, dry_runs):
        self.folder, self.shell, self.dry_runs, self.table = folder, shell, dry_runs, listed()

    def do(self, command):
        """Exit code and output of a command, or of what the table says instead; 0 where it says
        who runs it, or why nobody does."""
        row = self.table.get(command)
        if row and not row["as"]:
            return 0, ""
        words = shlex.split(row["as"] if row else command)
        if words[:3] == ["python", "-m", "texnet"]:
            words = words[2:]
        match words:
            case ["texnet", *arguments]:
                return self.shell(self.folder, "texnet", *self.shorter(arguments))
            case ["snakemake", *arguments]:
                return self.dry_run(*arguments, "-n")
            case ["make", *targets]:
                rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
                return int(not set(targets) <= set(rules)), f"rules of make are {rules}"
            case ["python", "-c", text]:
                return self.shell(self.folder, "python", text)
            case ["git", "apply", _]:
                done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True)
                self.shell, self.dry_runs = Shell(self.folder), {}
                return done.returncode, done.stderr
        raise AssertionError(
            f"nothing runs '{command}': add it to tests/commands.csv, with what is run instead "
            "(as), the test that runs it, or why none does"
        )

    def shorter(self, arguments):
        """The arguments of a verb, patterns expanded, and what makes it short."""
        for argument in arguments:
            found = sorted(glob.glob(argument, root_dir=self.folder)) if "*" in argument else []
            yield from found or [argument]
        shorter = SHORTER.get(cli.joined(arguments)[0], "")
        if "--diversity" in arguments:  # the preset's T is for the preset's descriptor
            shorter = shorter.replace("--descriptor random ", "")
        yield from shorter.split()

    def dry_run(self, *arguments):
        if not all((ROOT / name).exists() for name in arguments if name.endswith(".yaml")):
            return self.shell(self.folder, "snakemake", *arguments)
        if arguments not in self.dry_runs:
            self.dry_runs[arguments] = self.shell(self.folder, "snakemake", *arguments)
        return self.dry_runs[arguments]


@pytest.mark.parametrize("page", PAGES)
def test_commands(page, shell, dry_runs, tmp_path):
    workplace(tmp_path)
    if "film.mp4" in (ROOT / page).read_text():
        film(tmp_path)
    reader = Reader(tmp_path, shell, dry_runs)
    for block in blocks(page):
        where = f"{page}:{block.line}"
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        for command in commands(block.text) if block.shell else ():
            code, output = reader.do(command)
            assert code == 0, f"{where}: {command}\n{output}"
        if block.language == "python":
            code, output = reader.shell(tmp_path, "python", block.text)
            assert code == 0, f"{where}\n{output}"
    AFTER.get(page, lambda reader: None)(reader)
    if reader.shell is not shell:
        reader.shell.close()


MISTAKES = {
    "samples of 128 need a shorter side of as many": "train texture photos/0.jpg",
    "is there, from another": "train style painting.jpg -o painting.safetensors",
    "is among images.contents: it would be trained on": "train style painting.jpg"
    " --content photos --preview photos/0.jpg -o other.safetensors",
    "was trained without noise channels": "stylize painting.safetensors photo.jpg -n 2 -o out",
    "looks like a file; name a folder": "sample texture.safetensors -o out.png",
    "the network sees ... at once, so the style may be poor": "stylize painting.safetensors"
    " photo.jpg --size 40 -o out",
}
"""What the page says that a mistake is told as, and a command that makes it."""


def own_images(reader):
    """The snippets of Python make what texnet makes; mistakes are told as the page says."""
    folder = reader.folder
    found, wanted = (grey_levels(folder / name) for name in ("stylized.png", "out/photo.png"))
    assert found.shape == wanted.shape and np.abs(found - wanted).max() <= 1
    assert grey_levels(folder / "tile.png").shape == (128, 256, 3)
    page = (ROOT / "docs/own-images.md").read_text()
    for said, command in MISTAKES.items():
        assert f"| `{said}" in page
        _, output = reader.shell(folder, "texnet", *command.split())
        assert all(part in output for part in said.split(" ... ")), output


def patched(reader):
    """The run of the worked example has the new layer."""
    run = json.loads((reader.folder / "results/stylenet_ln_seed0/run.json").read_text())
    assert run["generator"]["norm"] == "layer"
    code = "from texnet.layers import normalisation; print(normalisation('layer', 4))"
    assert "GroupNorm(1, 4" in reader.shell(reader.folder, "python", code)[1]


AFTER = {"docs/own-images.md": own_images, "docs/extend.md": patched}
"""What must be true of the folder then."""


def test_a_command_that_nobody_knows(tmp_path):
    with pytest.raises(AssertionError, match=r"nothing runs 'ls -l': add it to tests/comm"):
        Reader(tmp_path, None, {}).do("ls -l")
    assert Reader(tmp_path, None, {}).do("make figures-of-eight")[0] == 1


def test_the_table_of_commands():
    known = {command for page in PAGES for command in pages_commands(page)}
    rows = listed()
    rows = listed()
    gone = set(rows) - known
    assert not gone, "no page has these commands any more"
    for command, row in rows.items():
        assert sum(bool(row[column]) for column in ("as", "test", "why")) == 1, command
        if row["test"]:
            path, _, function = row["test"].partition("::")
            assert f"\ndef {function}(" in (ROOT / path).read_text(), command


# What they name


def anchors(path):
    """The headings of a page as GitHub links to them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(found), f"{page}: {target}"


KEPT = "texnet tests config workflow profiles data docs expected benchmarks figures".split()
MADE = r"figures/(fig.*\.(pdf|png)|table_.*|summary\.html)|benchmarks/speed\.csv|.*(figN|SCALE).*"
"""Files that a run makes, and names that stand for others."""


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named(page):
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)
    for name in re.findall(r"`([\w.-]+(?:/[\w.{}*-]+)+/?)`", text):
        if name.partition("/")[0] in KEPT and not re.fullmatch(MADE, name):
            assert list(ROOT.glob(name)), f"{page}: {name}"


@pytest.mark.parametrize("page", PAGES)
def test_names_in_files(page):
    """Where a table says what to change: `FILE`: `NAME`, `NAME`."""
    rows = re.findall(r"^\| (.*?`texnet/[^|]*?`): (`[^|]*`) \|", (ROOT / page).read_text(), re.M)
    assert rows or page != "docs/extend.md"
    for files, names in rows:
        for file in re.findall(r"`(.*?)`", files):
            for name in re.findall(r"`(.*?)`", names):
                assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), f"{file}: {name}"


def test_every_verb_is_explained():
    text = "".join((ROOT / page).read_text() for page in PAGES)
    verbs = cli.parser()._subparsers._group_actions[0].choices
    assert not {verb for verb in verbs if f"texnet {verb}" not in text}
    spoken = re.findall(r"`(?:python -m )?texnet ([a-z][\w-]*)((?: [\w-]+)?)", text)
    assert len(spoken) > 10
    assert not {verb for verb, second in spoken if verb not in verbs and verb + second not in verbs}


SECTIONS = {
    "": [experiment.Experiment],
    "acceleration": [config.Acceleration],
    "descriptor": [config.Descriptor],
    "generator": [networks.StyleNet],
    "objective": [config.Objective],
    "optimiser": [config.Optimiser],
    "images": [config.Images],
    "baselines": [experiment.BaselineEntry],
    "textures": [textures.Textures, textures.TextureEntry],
    "figures": [parts.Figures],
}
"""The class of each section of the table, and others whose keys may stand there."""
SHARED = {"runs", "baselines", "seeds", "descriptor", "objective", "optimiser", "images"}
"""Keys that entries share with the experiment."""


def test_keys_of_the_configuration():
    """The table of config/README.md has every key, and no other."""
    found, section = {name: {name} for name in SECTIONS}, ""
    for cell in re.findall(r"^\| ([*`].*?) \|", (ROOT / "config/README.md").read_text(), re.M):
        section = cell.strip("*`") if cell.startswith("**") else section
        keys = re.findall(r"`(\w+)`", cell.partition("(")[0].partition(" of ")[0])
        found.setdefault(section, {section}).update(keys)
    assert {f.name for f in dataclasses.fields(experiment.Experiment)} <= {*found, *found[""]}
    for name, classes in SECTIONS.items():
        known = [{f.name for f in dataclasses.fields(each)} for each in classes]
        assert not found[name] - {name}.union(*known), name
        assert not name or not known[0] - SHARED - found[name], name


PRESETS = {
    "descriptor": lambda p: p.descriptor.name,
    "style: iterations": lambda p: p.style_optimiser.iterations,
    "style: batch": lambda p: p.style_optimiser.batch,
    "style: side of a crop": lambda p: p.crop,
    "style: longer side of the painting": lambda p: p.style_size,
    "style: content weight": lambda p: p.style_objective.content_weight,
    "texture: iterations": lambda p: p.texture_optimiser.iterations,
    "texture: batch": lambda p: p.texture_optimiser.batch,
    "texture: side of a sample": lambda p: p.sample,
    "optimisation of a texture: evaluations": lambda p: p.evaluations[0],
    "optimisation after a style: evaluations": lambda p: p.evaluations[1],
    "optimisation: longer side": lambda p: p.side,
}


def test_presets_are_as_the_page_says():
    text = (ROOT / "docs/own-images.md").read_text()
    for name, value in PRESETS.items():
        wanted = [f"{value(p):g}" if not isinstance(value(p), str) else value(p)
                  for p in (own.QUICK, own.PAPER)]  # fmt: skip
        assert f"| {name} | {wanted[0]} | {wanted[1]} |\n" in text, name


# What a run writes on them

TABLES = ("claims", "speed", "textures", "r2", "precision", "bits", "bench")


def test_every_table_has_one_place():
    text = "".join((ROOT / page).read_text() for page in PAGES)
    for name in TABLES:
        found = re.findall(rf"^<!-- {name} -->\n(.*?)^<!-- /{name} -->$", text, re.M | re.S)
        assert len(found) == 1 and found[0].startswith(("|", "**")), name
        kept = ROOT / f"expected/embedded/table_{name}.md"
        assert not kept.exists() or found[0] == kept.read_text(), name


def test_what_does_not_reproduce():
    """The README's list is that of the claims that are not supported, with their verdicts."""
    section = (ROOT / "README.md").read_text().partition("## What does not reproduce")[2]
    told = {}
    for line in re.findall(r"^- \*\*(.*?\):)", section, re.M):
        told |= dict.fromkeys(re.findall(r"C\d+", line), re.search(r"\((.*)\)", line)[1])
    found = {}
    for row in read_table(ROOT / "expected/embedded/claims.csv"):
        if row["expected"] != INFORMATION:
            found.setdefault(row["id"], []).append(row["verdict"])
    verdicts = {claim: combine(votes) for claim, votes in found.items()}
    assert told == {claim: v for claim, v in verdicts.items() if v != "supported"}


# What others read


def test_catalogue_of_workflows():
    """Standardised usage, as the Snakemake workflow catalogue asks for it."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    ways = usage["software-stack-deployment"]
    assert set(ways) == {"conda", "apptainer", "apptainer+conda", "report"} and ways["conda"]
    assert (ROOT / "workflow/Snakefile").is_file() and (ROOT / "config/README.md").is_file()
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme and "workflow" in readme
    for path in (ROOT / "workflow/rules").glob("*.smk"):  # conda: every job names its environment
        rules = re.split(r"^rule ", path.read_text(), flags=re.M)[1:]
        assert all("conda:" in rule for rule in rules if "shell:" in rule), path


def test_citation():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license", "version"} <= set(found)
    paper = found["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Ulyanov", "Vedaldi", "Lempitsky"
    ]  # fmt: skip
    assert found["license"] in (ROOT / "LICENSE").read_text()


def test_why_each_dependency():
    text = (ROOT / "README.md").read_text().partition("## What it stands on")[2].lower()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {requirement.partition("==")[0] for requirement in project["dependencies"]}
    named = text.replace("pytorch", "torch")
    assert not {name for name in needed if not re.search(rf"\b{name}\b", named)}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 350
