"""The report of a tiny run: complete, one file that loads nothing, and it runs in a browser."""

import base64
import html
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from conftest import ROOT, TINY, call, snakemake

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ADDRESS = r"(?:url\(|@import)\s*[\"']?([^\"')]+)"
"""Of what a style sheet loads."""
CAPTIONS = ROOT / "workflow" / "report"


@pytest.fixture(scope="module")
def report(project):
    """The report of the tiny DAG."""
    path = project / "report.html"
    done = snakemake("--report", path.name, *TINY, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    yield path
    path.unlink()


@pytest.fixture
def browse(tmp_path):
    """Opens a page without a network: its document once scripts have run, what it complains of."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: the report was not run")

    def opened(path):
        done = call(
            found, "--headless", "--disable-gpu", "--no-sandbox", "--enable-logging=stderr",
            "--v=0", "--virtual-time-budget=10000", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return Document(done.stdout), complaints(done.stderr)

    return opened


def complaints(log):
    """Errors of a page in the log of Chromium, which calls them INFO where the page is a file."""
    lines = [line for line in log.splitlines() if ":CONSOLE" in line]
    return [line for line in lines if re.search(r":ERROR:CONSOLE|Uncaught|\w*Error\b", line)]


class Document(HTMLParser):
    """What a page shows as text, and the addresses that it loads something from."""

    def __init__(self, text):
        super().__init__()
        self.hidden, self.shown, self.loaded = False, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.hidden = tag in ("script", "style", "title")
        given = dict(attributes)
        address = given.get("href") if tag == "link" else given.get("src") or given.get("srcset")
        self.loaded += [address] if address else []
        self.loaded += re.findall(ADDRESS, given.get("style") or "")

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        if not self.hidden:
            self.shown += [data.strip()] if data.strip() else []
        elif self.lasttag == "style":
            self.loaded += re.findall(ADDRESS, data)

    def from_elsewhere(self):
        return [address for address in self.loaded if not address.startswith(("data:", "#"))]


def variable(page, name):
    """A value that Snakemake hands to the scripts of its report."""
    pattern = rf"<script[^>]*>\s*var {name} = (.*?);\s*</script>"
    return json.loads(re.search(pattern, page, re.DOTALL)[1])


def words(text):
    """Text without markup, its words one space apart."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


def sentences(path):
    """The fixed parts of a caption, without reStructuredText's markup."""
    parts = re.split(r"\{\{.*?\}\}|\{%.*?%\}", path.read_text(), flags=re.DOTALL)
    return [words(re.sub(r"[*`]", "", part)) for part in parts if words(part)]


def test_it_holds_every_result_with_its_caption(project, report):
    page = report.read_text()
    categories, results = variable(page, "categories"), variable(page, "results")
    assert {"Figures", "Tables"} <= set(categories)
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
    description = words(variable(page, "workflow_desc"))
    assert all(part in description for part in sentences(CAPTIONS / "workflow.rst"))


def test_it_loads_nothing_from_elsewhere(report):
    assert Document(report.read_text()).from_elsewhere() == []


def test_it_runs_in_a_browser(report, browse):
    document, wrong = browse(report)
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


def test_a_broken_page_is_found_in_a_browser(tmp_path, browse):
    path = tmp_path / "broken page.html"
    path.write_text(BROKEN)
    document, wrong = browse(path)
    assert len(wrong) == 1 and "nothing_of_this_name is not defined" in wrong[0]
    assert document.loaded == ["a.png", "https://example.org/b.png", "http://example.org/c.png"]
    assert document.shown == ["shown", "linked"]


def test_complaints_in_a_log():
    log = """[1:1:1121/1.4:ERROR:dbus/bus.cc:405] Failed to connect to the bus: Error
[1:1:1121/1.5:INFO:CONSOLE:75] "not for production", source: file:///r.html (75)
[1:1:1121/1.6:INFO:CONSOLE(7)] "Uncaught ReferenceError: x is not defined", source: (1)
[1:1:1121/1.7:ERROR:CONSOLE(8)] "no", source: (1)"""
    assert complaints(log) == log.splitlines()[2:]
