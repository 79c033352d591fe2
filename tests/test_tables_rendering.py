"""Tables to read: layout, order, numbers and escaping against small tables made by hand."""

import csv
import io
import re
import sys
from html.parser import HTMLParser

import pytest

from figures import table_claims, table_metrics, table_speed, table_textures
from figures.rendering import Table, bold, digits, save
from texnet.artifacts import write_json
from texnet.claims import CLAIM_COLUMNS, CLAIMS, MEASURES
from texnet.evidence import VERDICTS
from texnet.tables import METRIC_COLUMNS, SCORE_COLUMNS, write_table


class Page(HTMLParser):
    """Rows of cells with their classes; refuses what is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.open, self.tags = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "meta":
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(["", dict(attrs).get("class", "")])
            self.wide = int(dict(attrs).get("colspan", 1))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.tables[-1][-1] += [["", ""]] * (self.wide - 1)

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1][0] += data.replace("\xa0", " ")


def made(script, rows, columns, folder, monkeypatch, *options):
    """What a script writes from a table: (html, md, tex); the CSV has the cells of the page."""
    write_table(folder / "in.csv", columns, rows)
    files = [str(folder / "in.csv"), str(folder / "deep/out.html")]
    monkeypatch.setattr(sys, "argv", ["x", *files, *options])
    script.main()
    written = sorted(path.name for path in (folder / "deep").iterdir())
    assert written == ["out.csv", "out.html", "out.md", "out.tex"]
    page, text, tex, cells = (
        (folder / "deep" / f"out.{s}").read_text("utf-8") for s in ("html", "md", "tex", "csv")
    )
    tables = [[[cell for cell, _ in row] for row in table] for table in Page(page).tables]
    assert tables == tables_of(cells)
    return page, text, tex


def tables_of(text):
    """The tables of a CSV file, without their titles; an empty line ends each."""
    tables = [list(csv.reader(io.StringIO(part))) for part in re.split(r"\n\n", text)]
    return [table[1:] if len(table[0]) == 1 else table for table in tables]


def rows_of_tex(text):
    """Cells between the rules of the last longtable."""
    inside = text.split(r"\endhead")[-1].split(r"\bottomrule")[0]
    lines = [line.removesuffix(r"\\").strip(" ") for line in inside.strip().splitlines()]
    return [[c.strip() for c in re.split(r"(?<!\\)&", f" {line} ")] for line in lines]


def claim(name, measure, value, verdict, expected="> 1", text="some claim"):
    numbers = (value, value * 0.9, value * 1.1, 9) if value is not None else (None, None, None, 0)
    return (name, text, "Fig. 3", measure, expected, *numbers, verdict, "a b")


CLAIM_ROWS = [
    claim("C10", "tenth", 2.0, "contradicted"),
    claim("C10", "not voting", 1234.5, "contradicted", "(for information)"),
    claim("C2", "small", 0.00123456, "supported"),
    claim("C2", "other", 0.0, "inconclusive", "< 2"),
    claim("C1", "absent", None, "not tested"),
    claim("C1", "present", 18.69052, "supported"),
    claim("C3", "a", 999.0, "supported"),
    claim("C3", "b", -0.5, "contradicted", "(for information)"),
]


def test_claims_in_order_with_combined_verdicts(tmp_path, monkeypatch):
    page, text, tex = made(table_claims, CLAIM_ROWS, CLAIM_COLUMNS, tmp_path, monkeypatch)
    assert text.splitlines() == [
        "| claim | factor | expected | value [interval] | verdict |",
        "|---|---|---|---|---|",
        "| **C1** some claim (Fig. 3) | | | | **not tested** |",
        "| | absent | > 1 | | not tested |",
        "| | present | > 1 | 18.69 [16.82, 20.56], n = 9 | supported |",
        "| **C2** some claim (Fig. 3) | | | | **inconclusive** |",
        "| | small | > 1 | 0.00123 [0.00111, 0.00136], n = 9 | supported |",
        "| | other | < 2 | 0 [0, 0], n = 9 | inconclusive |",
        "| **C3** some claim (Fig. 3) | | | | **supported** |",
        "| | a | > 1 | 999.00 [899.10, 1.1e+03], n = 9 | supported |",
        "| | b | (for information) | -0.50 [-0.45, -0.55], n = 9 | |",
        "| **C10** some claim (Fig. 3) | | | | **contradicted** |",
        "| | tenth | > 1 | 2.00 [1.80, 2.20], n = 9 | contradicted |",
        "| | not voting | (for information) | 1.23e+03 [1.11e+03, 1.36e+03], n = 9 | |",
    ]
    (rows,) = Page(page).tables
    lines = [[cell.replace("**", "").strip() for cell in line.split("|")[1:-1]]
             for line in text.splitlines()]  # fmt: skip
    del lines[1]
    assert [[cell for cell, _ in row] for row in rows] == lines
    for row in rows[1:]:
        for cell, given in row:
            assert given == (cell.replace(" ", "-") if cell in VERDICTS else "")
    assert "<strong>C10</strong>" in page and "<strong>not tested</strong>" in page
    plain = [[re.sub(r"\\textbf\{(.*?)\}|\\ensuremath\{(.)\}", r"\1\2", c) for c in row]
             for row in rows_of_tex(tex)]  # fmt: skip
    assert plain == lines[1:]
    assert r"\textbf{C1} some claim" in tex and r"& \textbf{not tested} \\" in tex


def test_every_claim_of_the_paper_has_its_row(tmp_path, monkeypatch):
    """Nothing was made: every claim is not tested, every measure has its line."""
    rows = [
        (m.claim, *CLAIMS[m.claim], m.measure, m.expected, None, None, None, 0, "not tested", "")
        for m in MEASURES
    ]
    _, text, tex = made(table_claims, rows, CLAIM_COLUMNS, tmp_path, monkeypatch)
    found = re.findall(r"^\| \*\*(C\d+)\*\* .* \*\*(.*)\*\* \|$", text, re.MULTILINE)
    assert found == [(f"C{i}", "not tested") for i in range(1, 29) if f"C{i}" in CLAIMS]
    assert len(found) == len(CLAIMS)
    assert len(rows_of_tex(tex)) == len(text.splitlines()) - 2 == len(rows) + len(CLAIMS)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("0.01", "0.01"), ("0.009999", "0.01"), ("0.0099", "0.0099"), ("999.994", "999.99"),
     ("1000", "1e+03"), ("123456", "1.23e+05"), ("-1.234e-4", "-0.000123"), ("0", "0"),
     ("-2.345678", "-2.35"), ("0.5", "0.50")],
)  # fmt: skip
def test_numbers_of_claims(cell, expected):
    assert table_claims.number(cell) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, "0.500"), (1.005, "1.00"), (12.345, "12.3"), (99.96, "100"), (123.4, "123"),
     (999.7, "1000"), (9876, "9880"), (1234567, "1230000"), (0.012345, "0.0123"), (0, "0.00")],
)  # fmt: skip
def test_three_digits(value, expected):
    assert digits(value) == expected


HARD = "R&D 5% x_y *z* <b>&lt; a|b #1 $2 {c} ~d ^e \\f `g`"


def test_what_is_markup_is_escaped(tmp_path, monkeypatch):
    rows = [claim("C1", HARD, 2.0, "supported", text=HARD)]
    page, text, tex = made(table_claims, rows, CLAIM_COLUMNS, tmp_path, monkeypatch)
    ((_, about, measure),) = Page(page).tables
    assert about[0][0] == f"C1 {HARD} (Fig. 3)" and measure[1][0] == HARD
    assert {tag for tag, _ in Page(page).tags} == {
        "html", "head", "meta", "title", "style", "body", "h1", "div", "table", "thead", "tbody",
        "tr", "th", "td", "strong", "script",
    }  # fmt: skip
    # Markdown: a backslash takes the meaning of a character away.
    line = text.splitlines()[-1]
    assert re.sub(r"\\(.)", r"\1", line) == f"| | {HARD} | > 1 | 2.00 [1.80, 2.20], n = 9 | " + (
        "supported |"
    )
    unescaped = re.sub(r"\\.", "", line)
    assert unescaped.count("|") == 6 and not re.search(r"[*_`]|<\S|&\S", unescaped)
    first = rows_of_tex(tex)[-1][1]
    assert first == (
        r"R\&D 5\% x\_y *z* \ensuremath{<}b\ensuremath{>}\&lt; a|b \#1 \$2 \{c\} "
        r"\textasciitilde{}d \^{}e \textbackslash{}f `g`"
    )
    bare = re.sub(r"\\.", "", tex)
    assert bare.count("{") == bare.count("}")


def test_a_page_stands_alone(tmp_path):
    save("Title", [Table(("a",), [[bold("b")]], (0.5,), "First")], tmp_path / "t.html")
    page = (tmp_path / "t.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>") and '<meta charset="utf-8">' in page
    assert not re.search(r"<script\s|<link|src=|href=|url\(|@import|import\s|fetch|https?:", page)
    assert "<title>Title</title>" in page and "<h2>First</h2>" in page
    assert Page(page).tables == [[[["a", ""]], [["b", ""]]]]
    assert (tmp_path / "t.md").read_text() == "**First**\n\n| a |\n|---|\n| **b** |\n"
    assert (tmp_path / "t.csv").read_text() == "First\na\nb\n"


def timed(metric, content, *values, unit="s"):
    return [("speed", "swirls", i, content, metric, v, unit) for i, v in enumerate(values)]


SPEED_ROWS = [
    *timed("evaluation", "128px", 2.0, 3.0, 2.5),
    *timed("evaluation", "64px", 0.25),
    *timed("forward_instance", "1024px", 0.7654, 0.7, 0.9),
    *timed("forward_instance", "64px", 0.001234, 0.1, 0.001),
    *timed("forward_diverse", "64px", 0.02, 0.03),
    *timed("forward_paper", "128px", 0.0456),
    *timed("memory_forward_instance", "1024px", 1234.4, unit="MiB"),
    *timed("memory_evaluation", "64px", 0.75, unit="MiB"),
    *timed("optimisation", "chelsea", 40.0),
    *timed("sample", "chelsea", 0.02),
    *timed("optimisation_to_equal", "chelsea", 5.0),
    *timed("evaluations_to_equal", "chelsea", 25, unit="evaluations"),
    *timed("evaluations", "chelsea", 200, unit="evaluations"),
    *timed("evaluations", "my_cat", 1203, unit="evaluations"),
    *timed("optimisation", "my_cat", 30.0),
    *timed("sample", "my_cat", 0.025),
]


def test_speed_by_size_and_of_the_optimisation(tmp_path, monkeypatch):
    page, text, tex = made(table_speed, SPEED_ROWS, SCORE_COLUMNS, tmp_path, monkeypatch)
    sizes, optimisation = ([[cell for cell, _ in row] for row in t] for t in Page(page).tables)
    assert sizes == [
        ["", "64 px", "128 px", "1024 px"],
        ["StyleNet IN, one pass (ms)", "1.23", "", "765"],
        ["with noise, lambda > 0, one pass (ms)", "25.0", "", ""],
        ["objective and gradient, one evaluation (ms)", "250", "2500", ""],
        ["the paper's StyleNet, one pass (ms)", "", "45.6", ""],
        ["StyleNet IN, one pass, peak memory (MiB)", "", "", "1230"],
        ["objective and gradient, one evaluation, peak memory (MiB)", "0.750", "", ""],
    ]
    assert optimisation[0][1:3] == ["one pass (ms)", "evaluations"]
    assert optimisation[1:] == [
        ["chelsea", "20.0", "200", "40.0", "2000", "25", "5.00", "250"],
        ["my_cat", "25.0", "1203", "30.0", "1200", "never", "", ""],
    ]
    assert "| StyleNet IN, one pass (ms) | 1.23 | | 765 |" in text.splitlines()
    assert r"| my\_cat | 25.0 | 1203 | 30.0 | 1200 | never | | |" in text.splitlines()
    assert tex.count(r"\begin{longtable}") == tex.count(r"\end{longtable}") == 2
    assert rows_of_tex(tex)[1] == [r"my\_cat", *optimisation[2][1:]]
    for columns, count in zip(re.findall(r"longtable\}\{(p.*)\}", tex), (4, 8), strict=True):
        widths = [float(w) for w in re.findall(r"p\{([\d.]+)\\linewidth\}", columns)]
        assert len(widths) == count and sum(widths) <= 0.92


def metric(run, exemplar, seed, name, value, low, high, n=4, unit="loss"):
    return (run, exemplar, seed, name, value, low, high, n, unit)


METRIC_ROWS = [
    metric("v1", "my_moss", 0, "texture", 12345.6, 1.0, 2.0),
    metric("v1", "my_moss", 3, "texture", 0.5, 1.0, 2.0),
    metric("v1", "my_moss", "all", "texture", 6173.05, 999.6, 20000.0, 8),
    metric("v1", "my_moss", "all", "vendi", 7.1234, 7.1234, 7.1249, 8, "of 8"),
    metric("v2", "my_moss", "all", "texture", 30.0, 20.0, 40.0),
    metric("v2", "my_moss", "all", "neighbour_entropy", -6.9077, -7.0, -6.5),
    metric("crops", "my_moss", "all", "spotting", 1.0, 0.75, 1.25),
    metric("v2", "other", "all", "texture", 99.0, 98.0, 100.0),
]


def test_textures_by_exemplar_and_variant(tmp_path, monkeypatch):
    parts = {"exemplars": ["my_moss"], "pyramid": "v1", "collapsed": "v2", "diverse": "d"}
    write_json(tmp_path / "parts.json", parts | {"gatys": "g"})
    options = ("--roles", str(tmp_path / "parts.json"))
    page, text, _ = made(
        table_textures, METRIC_ROWS, METRIC_COLUMNS, tmp_path, monkeypatch, *options
    )
    (rows,) = ([[cell for cell, _ in row] for row in t] for t in Page(page).tables)
    assert rows[0][:3] == ["exemplar", "samples", "texture loss"] and len(rows[0]) == 9
    assert rows[1:] == [
        ["my_moss", "TextureNetV2, lambda = 0", "30.0 [20.0, 40.0]", "", "", "", "",
         "-6.91 [-7.00, -6.50]", ""],
        ["my_moss", "TextureNetV2, lambda > 0", *[""] * 7],
        ["my_moss", "TextureNetV1", "6170 [1000, 20000]", "", "", "", "7.12", "", ""],
        ["my_moss", "optimisation (Gatys)", *[""] * 7],
        ["my_moss", "crops of the exemplar", *[""] * 6, "1.00 [0.750, 1.25]"],
        ["my_moss", "one sample repeated", *[""] * 7],
    ]  # fmt: skip
    assert r"| my\_moss | TextureNetV1 | 6170 [1000, 20000] | | | | 7.12 | | |" in text.splitlines()


def test_metrics_over_all_seeds_and_of_each(tmp_path, monkeypatch):
    page, _, _ = made(table_metrics, METRIC_ROWS, METRIC_COLUMNS, tmp_path, monkeypatch)
    (rows,) = ([[cell for cell, _ in row] for row in t] for t in Page(page).tables)
    assert rows[1:3] == [
        ["v1", "my_moss", "texture", "6170 [1000, 20000]", "8", "loss", "0: 12300, 3: 0.500"],
        ["v1", "my_moss", "vendi", "7.12", "8", "of 8", ""],
    ]
    assert len(rows) == 1 + sum(row[2] == "all" for row in METRIC_ROWS)
