"""The report's parts: captions, its start page, and pages whose tables sort in a browser."""

import html
import json
import re
import sys
from collections import Counter
from types import SimpleNamespace

import jinja2
import pytest
from browser import Document, browse
from conftest import ROOT
from docutils.core import publish_parts
from snakemake.utils import update_config

from figures import rendering, summary, table_claims, table_metrics
from texnet import captions, config
from texnet.artifacts import write_json
from texnet.claims import CLAIM_COLUMNS, CLAIMS
from texnet.documents import read_yaml
from texnet.experiment import Experiment
from texnet.tables import METRIC_COLUMNS, write_table

SCALES = ("embedded", "tiny", "paper")
JINJA = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)


def configuration(scale):
    """What Snakemake makes of the committed files."""
    merged = read_yaml(ROOT / "config" / "config.yaml")
    if scale != "embedded":
        update_config(merged, read_yaml(ROOT / "config" / f"{scale}.yaml"))
    return merged


def experiment(content):
    return config.parse(Experiment, content, "configuration")


def published(text):
    """HTML of reStructuredText; whatever docutils complains of is an error."""
    return publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["html_body"]


def words(page):
    """Text without markup, its words one space apart."""
    return " ".join(
        html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", "", page, flags=re.S)).split()
    )


# Captions

ROLES = {
    1: ("stylization", "batch diverse noise"),
    2: ("stylization", "batch lrn_first instance_first instance"),
    3: ("stylization", "instance batch noise from_instance from_batch"),
    4: ("stylization", "instance batch larger largest"),
    5: ("textures", "pyramid collapsed diverse"),
    6: ("stylization", "diverse noisy"),
    7: ("textures", ""),
}


def caption(number, content):
    """The caption of a figure in words, as a rule hands it its runs."""
    made = experiment(content)
    section, roles = ROLES[number]
    names = {getattr(getattr(made.figures, section), role) for role in roles.split()}
    names |= set(made.textures.swept) if number == 7 else set()
    runs = made.all_runs()
    files = [f"results/{d}/model.safetensors" for d, run in runs.items() if run.name in names]
    files += [f"results/{section}.json", "figures/style.py", "data/vgg19_lite.safetensors"]
    params = SimpleNamespace(made=captions.caption(runs)(None, files))
    text = (ROOT / "workflow" / "report" / f"fig{number}.rst").read_text()
    snakemake = SimpleNamespace(config=content, params=params)
    return words(published(JINJA.from_string(text).render(snakemake=snakemake)))


FACTS = {
    ("embedded", 1): [
        "seed 0.", "stylenet_bn: 500 iterations of batch 2 on crops of 96 pixels, seeds 0, 1, 2.",
        "stylenet_diverse: 260 iterations of batch 2", "gatys: at most 100 evaluations by L-BFGS",
    ],
    ("embedded", 2): [
        "stylenet_in, stylenet_bn, stylenet_lrn_first, stylenet_in_first: 500 iterations",
        "Style: swirls, 192 pixels. Held-out images: chelsea, flower, rocket, 128 pixels.",
    ],
    ("embedded", 3): [
        "finetune_in, finetune_bn: at most 100 evaluations by L-BFGS from a generator's output, "
        "for each of chelsea, flower, rocket at 128 pixels, seeds 0, 1, 2.",
    ],
    ("embedded", 4): [
        "for each of chelsea, flower, rocket at 192 pixels, seed 0.",
        "gatys_largest: at most 100 evaluations by L-BFGS from noise, for each of flower, rocket "
        "at 384 pixels, seed 0.",
    ],
    ("embedded", 5): [
        "v1, v2, v2_diverse: 160 iterations of batch 4 on samples of 64 pixels, seeds 0, 1, 2.",
        "Exemplars: berries, pebbles, stained_glass, 128 pixels.",
    ],
    ("embedded", 6): ["stylenet_noise, stylenet_diverse: 260 iterations of batch 2"],
    ("embedded", 7): [
        "v2_diverse_T4, v2_diverse_T16, v2_diverse_T50, v2_diverse_T200: 160 iterations of batch 4 "
        "on samples of 64 pixels, seed 100.",
    ],
    ("tiny", 1): ["stylenet_bn, stylenet_diverse: 6 iterations of batch 2", "32 pixels, seed 0."],
    ("tiny", 4): ["gatys_largest: at most 8 evaluations", "chelsea, rocket at 96 pixels, seed 0."],
    ("tiny", 5): ["4 iterations of batch 2", "Exemplars: berries, 96 pixels."],
    ("paper", 3): [
        "stylenet_in, stylenet_bn: 50000 iterations of batch 4 on crops of 256 pixels",
        "gatys: at most 500 evaluations", "Descriptor: vgg19.", "Style: starry_night, 300 pixels.",
    ],
    ("paper", 4): ["tubingen, golden_gate at 1024 pixels, seed 0."],
    ("paper", 6): ["stylenet_noise, stylenet_diverse: 20000 iterations of batch 4"],
    ("paper", 7): [
        "v2_diverse_T5, v2_diverse_T10, v2_diverse_T20, v2_diverse_T50: 3000 iterations of batch "
        "16 on samples of 256 pixels, seed 100.",
    ],
}  # fmt: skip


@pytest.mark.parametrize("number", ROLES)
@pytest.mark.parametrize("scale", SCALES)
def test_captions_say_what_was_run(scale, number):
    said = caption(number, configuration(scale))
    assert said.startswith(f"Figure {number}, {scale} scale")
    assert "Runs: " in said and re.search(r"seeds? \d", said) and re.search(r"\d pixels", said)
    assert all(fact in said for fact in FACTS.get((scale, number), ()))


def test_what_no_file_sets_is_said_too():
    content = configuration("embedded")
    del content["baselines"]["gatys"]["evaluations"], content["optimiser"]["batch"]
    content["runs"]["stylenet_bn"]["optimiser"] = {"batch": 1 + 5}
    content["runs"]["stylenet_in"]["optimiser"] = {"batch": 1 + 5}
    for name in ("stylenet_lrn_first", "stylenet_in_first"):
        content["runs"][name]["optimiser"] = {"batch": 6}
    for name in ("finetune_in", "finetune_bn"):
        content["baselines"][name]["evaluations"] = 500
    said = caption(3, content)
    assert "gatys: at most 500 evaluations" in said and "500 iterations of batch 6" in said
    assert "260 iterations of batch 4" in caption(6, content)


def test_tables_have_captions_that_docutils_takes():
    found = sorted((ROOT / "workflow" / "report").glob("table_*.rst"))
    scripts = sorted(path.stem for path in (ROOT / "figures").glob("table_*.py"))
    assert [path.stem for path in found] == scripts
    for path in found:
        assert len(words(published(JINJA.from_string(path.read_text()).render())).split()) > 20


# The start page


def claim(name, measure, value, verdict, expected="> 1", where="Fig. 3(a), section 5.2"):
    text = CLAIMS.get(name, ("a claim <b>of</b> another & time", ""))[0]
    numbers = (value, value - 0.25, value + 0.25, 9) if value is not None else (None, None, None, 0)
    return (name, text, where, measure, expected, *numbers, verdict, "a b")


MADE_UP = [
    claim("C12", "half of it", 2.0, "supported"),
    claim("C12", "other half", 0.5, "contradicted"),
    claim("C1", "yes", 3.0, "supported", "> 2"),
    claim("C1", "only told", 0.5, "contradicted", "(for information)"),
    claim("C27", "out of reach", None, "not tested", where="section 4"),
    claim("C19", "a factor <of> time", 1.0, "inconclusive", "0.8 to 1.25", "Texture Networks"),
    claim("C19", "another", 1.0, "supported", "0.8 to 1.25", "Texture Networks"),
    claim("C99", "new", 1.0, "inconclusive", where="Fig. 7"),
]
SAID = {"C1": "supported", "C12": "contradicted", "C19": "inconclusive", "C27": "not tested",
        "C99": "inconclusive"}  # fmt: skip


@pytest.fixture
def start(tmp_path, monkeypatch):
    """The start page of made-up claims at the embedded scale."""
    write_table(tmp_path / "claims.csv", CLAIM_COLUMNS, MADE_UP)
    write_json(tmp_path / "s.json", captions.setting(experiment(configuration("embedded"))))
    argv = [
        "x",
        tmp_path / "claims.csv",
        tmp_path / "summary.html",
        "--settings",
        tmp_path / "s.json",
    ]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    summary.main()
    return tmp_path / "summary.html"


def test_the_start_page_has_the_claims_verdicts(start):
    page = start.read_text()
    said = words(page)
    found = dict(
        re.findall(r"\b(C\d+) [^:]*?: (supported|contradicted|inconclusive|not tested)", said)
    )
    assert found == SAID
    counts = Counter(SAID.values())
    total = ", ".join(f"{counts[v]} {v}" for v in
                      ("supported", "contradicted", "inconclusive", "not tested"))  # fmt: skip
    assert f"Of 5 claims: {total}." in said
    assert "yes: 3.00 [2.75, 3.25], n = 9, expected > 2: supported" in said
    assert "other half: 0.50 [0.25, 0.75], n = 9, expected > 1: contradicted" in said
    assert "out of reach: not tested" in said
    assert "only told" not in said, "a measure without a vote"
    sections = re.split(r"<h3>", page)[1:]
    topics = {
        words(part.partition("</h3>")[0]): set(re.findall(r"C\d+", part)) for part in sections
    }
    assert topics == {
        "Instance normalisation (figures 2, 3, 4)": {"C1", "C27"},
        "Textures and diversity (figures 5, 6, 7)": {"C12"},
        "Speed and memory": {"C19"},
        "Other claims": {"C99"},
    }
    facts = ("Scale embedded, seeds 0, 1, 2", "vgg19_lite with average pooling",
             "stylenet_noise, stylenet_diverse: 260 iterations", "under 1.3 times")  # fmt: skip
    assert all(fact in said for fact in facts)


def test_the_start_page_escapes_and_stands_alone(start):
    page = start.read_text()
    assert (
        "a factor &lt;of&gt; time" in page
        and "a claim &lt;b&gt;of&lt;/b&gt; another &amp; time" in page
    )
    assert Document(page).loaded == [] and "http" not in page
    linked = set(re.findall(r'href="(.*?)"', page))
    assert linked == {f"fig{n}.png" for n in range(1, 8)} | {"table_claims.html"}
    assert '(<a href="fig3.png">Fig. 3</a>(a), section 5.2)' in page


def test_every_claim_of_the_paper_has_one_topic():
    listed = [name for names in summary.TOPICS.values() for name in names.split()]
    assert sorted(listed) == sorted(CLAIMS)


def welcomed(files, content):
    text = (ROOT / "workflow" / "report" / "workflow.rst").read_text()
    snakemake = SimpleNamespace(config=content)
    return published(JINJA.from_string(text).render(snakemake=snakemake, files=files))


def test_the_report_starts_with_that_page(start, tmp_path):
    files = [
        SimpleNamespace(target="fig3.png", path=tmp_path / "fig3.png", mime="image/png"),
        SimpleNamespace(target="table_claims.html", path="t/table_claims.html", mime="text/html"),
        SimpleNamespace(target="summary.html", path=start, mime="text/html"),
    ]
    page = welcomed(files, configuration("embedded"))
    own = words(start.read_text().partition("</h1>")[2].partition("<script>")[0])
    assert words(page).startswith("Improved Texture Networks, reproduced texnet makes anew")
    assert words(page).endswith(own) and "C12 with it V2 is diverse" in own
    links = r'href="javascript:app\.setView\(({.*?})\)">(.*?)</a>'
    shown = {words(text): link for link, text in re.findall(links, page, re.S)}
    assert set(shown) == {"3", "Fig. 3", "the table of claims"}
    for text, link in shown.items():
        kind, path = (
            ("img", tmp_path / "fig3.png") if "3" in text else ("html", "t/table_claims.html")
        )
        assert f"content: '{kind}'" in link and f"contentPath: results['{path}'].data_uri" in link


@pytest.mark.parametrize("scale", SCALES)
def test_a_report_without_claims_says_so(scale):
    said = words(welcomed([], configuration(scale)))
    assert f"Scale {scale}, seeds 0" in said and "not judged in this run" in said


# Sorting, in a browser

CLICKS = """
const shown = [];
const rows = () => [...document.querySelectorAll("tbody tr")].filter((row) => !row.hidden)
  .map((row) => [...row.cells].map((cell) => cell.textContent));
const sorts = () => [...document.querySelectorAll("th")].map((th) => th.getAttribute("aria-sort"));
const button = (name) => [...document.querySelectorAll("thead th button")]
  .find((found) => found.textContent === name);
for (const step of STEPS) {
  if (step.click) button(step.click).click();
  if (step.type !== undefined) {
    const field = document.querySelector("input");
    field.value = step.type;
    field.dispatchEvent(new Event("input"));
  }
  shown.push({rows: rows(), sorts: sorts()});
}
const buttons = [...document.querySelectorAll("button")]
  .map((found) => [found.textContent, found.type]);
const count = document.querySelector("output")?.textContent;
document.body.innerHTML = "<pre></pre>";
document.querySelector("pre").textContent = JSON.stringify({shown, buttons, count});
"""


def played(page, *steps):
    """What a page shows after each of some steps, clicks on headers and words in its field."""
    copy = page.with_name("copy.html")
    script = CLICKS.replace("STEPS", json.dumps(steps))
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    document, wrong = browse(copy, page.with_name("profile"))
    assert wrong == []
    return json.loads("".join(document.shown))


CELLS = [
    ["v10", "123 [1, 2]", "b"], ["v2", "9.50 [1, 99]", "a"], ["v1", "never", ""],
    ["", "1.2e+03 [1, 2]", "c"], ["V3", "-0.5", "B"], ["w", "", "1"], ["v2", "12x", "d"],
]  # fmt: skip


def test_columns_sort_by_number_and_by_name(tmp_path):
    table = rendering.Table(("name", "value", "other"), CELLS, (0.3, 0.3, 0.3))
    rendering.save("T", [table], tmp_path / "t.html")
    steps = [{"click": name} for name in ("value", "value", "value", "name", "other", "value")]
    found = played(tmp_path / "t.html", *steps)
    values = [[row[1] for row in step["rows"]] for step in found["shown"]]
    ascending = ["-0.5", "9.50 [1,\u00a099]", "123 [1,\u00a02]", "1.2e+03 [1,\u00a02]", "12x",
                 "never", ""]  # fmt: skip
    assert values[0] == ascending
    assert values[1] == [*ascending[-2::-1], ""], "empty cells stay last"
    assert values[2] == [row[1].replace(", ", ",\u00a0") for row in CELLS], "as it was"
    assert [row[0] for row in found["shown"][3]["rows"]] == ["v1", "v2", "v2", "V3", "v10", "w", ""]
    assert found["shown"][3]["rows"][1][1] == "9.50 [1,\u00a099]", "equal ones keep their order"
    assert [row[2] for row in found["shown"][4]["rows"]] == ["1", "a", "b", "B", "c", "d", ""]
    assert [step["sorts"] for step in found["shown"]] == [
        [None, "ascending", None], [None, "descending", None], [None] * 3,
        ["ascending", None, None], [None, None, "ascending"], [None, "ascending", None],
    ]  # fmt: skip
    assert found["buttons"] == [["name", "button"], ["value", "button"], ["other", "button"]]


def table_of(script, rows, columns, folder, monkeypatch):
    write_table(folder / "in.csv", columns, rows)
    monkeypatch.setattr(sys, "argv", ["x", str(folder / "in.csv"), str(folder / "out.html")])
    script.main()
    return folder / "out.html"


def test_claims_keep_their_measures(tmp_path, monkeypatch):
    page = table_of(table_claims, MADE_UP, CLAIM_COLUMNS, tmp_path, monkeypatch)
    found = played(page, {"click": "claim"}, {"click": "claim"}, {"click": "verdict"})
    claims = {}
    for row in MADE_UP:
        claims.setdefault(row[0], []).append(row[3])
    for step, order in zip(found["shown"], ("C1 C12 C19 C27 C99", "C99 C27 C19 C12 C1",
                                            "C12 C19 C99 C27 C1"), strict=True):  # fmt: skip
        expected = [text for name in order.split() for text in (name, *claims[name])]
        said = [row[1] if len(row) == 5 else row[0].split()[0] for row in step["rows"]]
        assert said == expected
    assert [name for name, _ in found["buttons"]] == ["claim", "verdict"]


def test_rows_with_some_words(tmp_path, monkeypatch):
    rows = [
        (run, exemplar, "all", metric, 1.5, 1, 2, 3, "loss")
        for run in ("v1", "v2") for exemplar in ("moss", "mossy") for metric in ("vendi", "texture")
    ]  # fmt: skip
    page = table_of(table_metrics, rows, METRIC_COLUMNS, tmp_path, monkeypatch)
    steps = [{"type": ""}, {"type": "V2 mossy"}, {"click": "metric"}, {"type": "nothing"}]
    found = played(page, *steps, {"type": "vendi v2"})
    named = [
        ["_".join((row[0], row[1], row[2])) for row in step["rows"]] for step in found["shown"]
    ]
    assert [len(names) for names in named] == [8, 2, 2, 0, 2]
    assert named[1] == ["v2_mossy_vendi", "v2_mossy_texture"]
    assert named[2] == ["v2_mossy_texture", "v2_mossy_vendi"], "sorted as filtered"
    assert named[4] == ["v2_moss_vendi", "v2_mossy_vendi"]
    assert found["count"] == "2 of 8 rows"


def test_without_the_script_a_page_has_all_its_rows(tmp_path):
    rendering.save(
        "T", [rendering.Table(("a",), [["1"], ["2"]], (1,), filtered=True)], tmp_path / "t.html"
    )
    page = re.sub(r"<script>.*</script>", "", (tmp_path / "t.html").read_text(), flags=re.S)
    assert "button" not in page.partition("<body>")[2] and page.count("<td>") == 2
    assert "</script" not in rendering.SORTABLE.read_text(), "which would end it in a page"
